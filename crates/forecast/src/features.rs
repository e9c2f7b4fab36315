//! What a model knows about one interval of the horizon: calendar, lags, levels, spread, weather. Energies are in units of the frame's scale.
//!
//! NaN = unknown; trees send it where it fits, the ridge replaces it.

use crate::calendar::{Clock, DAY_S, Holidays, date, day_of, weekday};
use crate::frame::Frame;
use crate::weather::Weather;

/// Features without weather.
pub const PLAIN: usize = 43;
/// Features of weather.
pub const WEATHER: usize = 20;
/// Position of the mean of the last 7 days of the slot: the level a model may start from.
pub const MEAN_7: usize = 19;
/// Position of the slot's mean of 28 days.
pub const MEAN_28: usize = 20;

/// Everything but the series.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Public holidays.
    pub holidays: &'a Holidays,
    /// Weather, when there is any.
    pub weather: Option<&'a Weather>,
    /// The local clock.
    pub clock: Clock,
}

impl Surroundings<'_> {
    /// Number of features.
    pub fn width(&self) -> usize {
        PLAIN + if self.weather.is_some() { WEATHER } else { 0 }
    }
}

/// Mean of the finite values; NaN when there is none.
pub fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, n) = values.filter(|v| v.is_finite()).fold((0.0f32, 0u32), |(s, n), v| (s + v, n + 1));
    if n > 0 { sum / n as f32 } else { f32::NAN }
}

/// What is the same for all intervals of one target day.
pub struct DayView<'a> {
    frame: &'a Frame,
    around: Surroundings<'a>,
    day: i64,
    day_type: f32,
    type_before: f32,
    day_means: Vec<f32>,
    day_max: f32,
    evening: f32,
    base: f32,
}

impl<'a> DayView<'a> {
    /// The view of `day`, which is the frame's today or the day after it.
    pub fn new(frame: &'a Frame, around: Surroundings<'a>, day: i64) -> Self {
        let last = frame.today - 1;
        let whole = |back: i64| frame.day(last + 1 - back).unwrap_or_default();
        let day_means = (1..=28).map(|back| mean(whole(back).iter().copied()) / frame.scale).collect();
        let yesterday = whole(1);
        let quarter = frame.slots / 8;
        // the last three hours that are known: those just before the origin
        let known: Vec<f32> = (-(frame.slots as i64)..frame.slots as i64)
            .map(|slot| frame.value(frame.today, slot))
            .filter(|v| v.is_finite())
            .collect();
        let evening = mean(known.iter().rev().take(quarter).copied()) / frame.scale;
        let mut week: Vec<f32> = (1..=7).flat_map(|b| whole(b).iter().copied()).filter(|v| v.is_finite()).collect();
        week.sort_unstable_by(f32::total_cmp);
        let base = week.get(week.len() / 20).copied().unwrap_or(f32::NAN) / frame.scale;
        let day_max = yesterday.iter().copied().filter(|v| v.is_finite()).fold(f32::NAN, f32::max) / frame.scale;
        let kind = |d: i64| around.holidays.day_type(d).number();
        Self { frame, around, day, day_type: kind(day), type_before: kind(day - 1), day_means, day_max, evening, base }
    }

    /// Adds the features of one slot to `out`.
    pub fn push(&self, slot: usize, out: &mut Vec<f32>) {
        let (frame, s) = (self.frame, slot as i64);
        let lag = |back: i64, by: i64| frame.value(self.day - back, s + by) / frame.scale;
        let hour = (slot as f32 + 0.5) * 24.0 / frame.slots as f32;
        let (weekday_number, of_year) = (weekday(self.day) as f32, day_of_year(self.day));
        out.extend([hour, weekday_number, self.day_type, self.type_before]);
        // the same as yes and no, for the linear model
        let is = |yes: bool| if yes { 1.0 } else { 0.0 };
        out.extend([is(self.day_type == 1.0), is(self.day_type == 2.0), is(self.type_before == 2.0)]);
        out.extend([is(weekday_number == 0.0), is(weekday_number == 4.0)]);
        out.extend([lag(1, 0), lag(2, 0), lag(3, 0), lag(7, 0), lag(14, 0), lag(21, 0)]);
        out.extend([lag(1, -1), lag(1, 1), lag(7, -1), lag(7, 1)]);
        self.push_levels(s, out);
        let days = &self.day_means;
        let mean_days = |n: usize| mean(days[..n].iter().copied());
        let (week, month) = (mean_days(7), mean_days(28));
        out.extend([days[0], days[6], week, month, self.day_max, self.evening, self.base]);
        out.extend([frame.scale.ln(), week / month.abs().max(0.05)]);
        let angle = of_year * core::f32::consts::TAU / 365.25;
        out.extend([angle.sin(), angle.cos()]);
        if let Some(weather) = self.around.weather {
            self.push_weather(weather, s, out);
        }
    }

    /// Means, spread and quantiles of the slot over the last four weeks.
    fn push_levels(&self, s: i64, out: &mut Vec<f32>) {
        let (frame, scale) = (self.frame, self.frame.scale);
        let at = |back: i64, by: i64| frame.value(self.day - back, s + by) / scale;
        let mean_7 = mean((1..=7).map(|b| at(b, 0)));
        let mean_28 = mean((1..=28).map(|b| at(b, 0)));
        let same_type = mean(
            (1..=28)
                .filter(|b| self.around.holidays.day_type(self.day - b).number() == self.day_type)
                .map(|b| at(b, 0)),
        );
        let same_weekday = mean([7, 14, 21, 28].map(|b| at(b, 0)).into_iter());
        let spread = mean((1..=28).map(|b| (at(b, 0) - mean_28).powi(2))).sqrt();
        let smooth_7 = mean((1..=7).flat_map(|b| [at(b, -1), at(b, 0), at(b, 1)]));
        let mut near: Vec<f32> =
            (1..=28).flat_map(|b| [at(b, -1), at(b, 0), at(b, 1)]).filter(|v| v.is_finite()).collect();
        near.sort_unstable_by(f32::total_cmp);
        let quantile = |share: f32| near.get((share * near.len() as f32) as usize).copied().unwrap_or(f32::NAN);
        out.extend([mean_7, mean_28, same_type, same_weekday, spread, smooth_7]);
        out.extend([quantile(0.1), quantile(0.25), quantile(0.5), quantile(0.75), quantile(0.9)]);
        let wide = mean((1..=3).flat_map(|b| (-3..=3).map(move |by| at(b, by))));
        let before = mean((1..=7).map(|b| at(b, -2)));
        out.extend([wide, before]);
    }

    fn push_weather(&self, weather: &Weather, s: i64, out: &mut Vec<f32>) {
        let step = DAY_S / self.frame.slots as i64;
        let at = |back: i64| weather.at(self.around.clock.unix_s(self.day - back, s * step) + step / 2);
        let (now, before) = (at(0), at(1));
        let (today, yesterday) = (weather.day(self.day), weather.day(self.day - 1));
        let week = mean((1..=7).map(|b| weather.day(self.day - b)[0]));
        let cloud_week = mean((1..=7).map(|b| at(b)[3]));
        out.extend([now[0], now[1], now[2], now[3], today[0], today[3], yesterday[0], week]);
        out.extend([now[0] - before[0], now[3] - before[3], now[3] - cloud_week]);
        // unknown stays unknown: `max` would make it 0
        let above = |degrees: f32| if degrees.is_nan() { degrees } else { degrees.max(0.0) };
        let (heat, cool) = (|t: f32| above(15.5 - t), |t: f32| above(t - 22.0));
        out.extend([heat(now[0]), cool(now[0])]);
        // the levels of the load are those of the weather of their days: what is new about today's
        let usual = |of: &dyn Fn(f32) -> f32| mean((1..=7).map(|b| of(at(b)[0])));
        out.extend([now[0] - usual(&|t| t), heat(now[0]) - usual(&heat), cool(now[0]) - usual(&cool)]);
        out.extend([heat(now[0]) - heat(before[0]), cool(now[0]) - cool(before[0])]);
        out.extend([cool(today[0]) - cool(week), today[0] - yesterday[0]]);
    }
}

fn day_of_year(day: i64) -> f32 {
    let (year, _, _) = date(day);
    (day - day_of(year, 1, 1)) as f32
}
