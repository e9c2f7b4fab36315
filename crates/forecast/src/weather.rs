//! Weather at the place, by time: measured for the past, forecast (or, in a benchmark, the truth) for the horizon.

use std::collections::BTreeMap;

use crate::calendar::Clock;

/// One row of weather; NaN where a quantity is not known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeatherRow {
    /// Unix seconds.
    pub time: i64,
    /// °C.
    pub temperature_c: f32,
    /// 0 … 1.
    pub humidity: f32,
    /// m/s.
    pub wind_ms: f32,
    /// Share of the sky covered, 0 … 1.
    pub cloud: f32,
}

/// Quantities of one moment or means of a day: temperature °C, humidity, wind m/s, cloud.
pub type Quantities = [f32; 4];

/// Weather rows in order, and the means of local days.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weather {
    rows: Vec<WeatherRow>,
    days: BTreeMap<i64, Quantities>,
}

/// A gap longer than this between two rows is not bridged, seconds.
const GAP_MAX_S: i64 = 3 * 3_600;

fn quantities(row: &WeatherRow) -> Quantities {
    [row.temperature_c, row.humidity, row.wind_ms, row.cloud]
}

impl Weather {
    /// Rows in any order; of two with the same time the later one counts.
    pub fn new(mut rows: Vec<WeatherRow>, clock: Clock) -> Self {
        rows.sort_by_key(|r| r.time);
        let mut sums: BTreeMap<i64, ([f64; 4], [u32; 4])> = BTreeMap::new();
        for row in &rows {
            let entry = sums.entry(clock.local(row.time).0).or_default();
            for (at, value) in quantities(row).into_iter().enumerate().filter(|(_, v)| v.is_finite()) {
                entry.0[at] += f64::from(value);
                entry.1[at] += 1;
            }
        }
        let mean = |(sum, n): ([f64; 4], [u32; 4])| {
            std::array::from_fn(|i| if n[i] > 0 { (sum[i] / f64::from(n[i])) as f32 } else { f32::NAN })
        };
        let days = sums.into_iter().map(|(day, entry)| (day, mean(entry))).collect();
        Self { rows, days }
    }

    /// At a time, linear between the rows around it; NaN outside them or in a long gap.
    pub fn at(&self, time: i64) -> Quantities {
        let after = self.rows.partition_point(|r| r.time < time);
        let Some(next) = self.rows.get(after) else { return [f32::NAN; 4] };
        if next.time == time {
            return quantities(next);
        }
        let Some(last) = after.checked_sub(1).map(|i| &self.rows[i]) else { return [f32::NAN; 4] };
        if next.time - last.time > GAP_MAX_S {
            return [f32::NAN; 4];
        }
        let share = (time - last.time) as f32 / (next.time - last.time) as f32;
        let (a, b) = (quantities(last), quantities(next));
        std::array::from_fn(|i| a[i] + share * (b[i] - a[i]))
    }

    /// Mean of a local day.
    pub fn day(&self, day: i64) -> Quantities {
        self.days.get(&day).copied().unwrap_or([f32::NAN; 4])
    }
}
