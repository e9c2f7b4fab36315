//! The picture of a case: what its meter counted, over what its zone misses, at the same times, with the onset, the alarm and the
//! commands marked. Drawn by the server, so that it is in print, works without scripts, and is tested by its text. Both axes
//! begin at zero; a hole is a missing reading.

use std::collections::BTreeMap;

use losses::{balance::EnergyBalance, case::Case};
use maud::{Markup, html};
use metering::{Timestamp, ZoneId};
use store::{Store, StoreError, StoredRecord};

use crate::{
    account::{Account, DAYS_AFTER, DAYS_BEFORE},
    format,
    totals::Totals,
};

const DAY_SECONDS: i64 = 86_400;
/// Most steps of the curve.
const STEPS_MAX: i64 = 180;
const WIDTH: f64 = 900.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
/// Above the first panel: the words of the marks, in two rows.
const TOP: f64 = 40.0;
const PANEL: f64 = 112.0;
const GAP: f64 = 34.0;
const BELOW: f64 = 26.0;
/// Words of marks that are nearer than this share a column and go into different rows.
const WORD_WIDTH: f64 = 110.0;

/// What is drawn.
#[derive(Debug)]
pub struct CaseCurve {
    from: Timestamp,
    step_seconds: i64,
    zone: ZoneId,
    meter: Option<String>,
    /// Mean kW of the meter by step.
    counted: Vec<Option<f64>>,
    /// Mean kW missing in the zone by step.
    missing: Vec<Option<f64>>,
    marks: Vec<(Timestamp, &'static str)>,
}

impl CaseCurve {
    /// Reads the curve: two weeks before the onset, and what followed, 30 days at most.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read(store: &Store, case: &Case, account: &Account, now: Timestamp) -> Result<Self, StoreError> {
        let to = now.min(account.since.plus(DAYS_AFTER * DAY_SECONDS));
        let from = account.since.plus(-DAYS_BEFORE * DAY_SECONDS);
        let step_seconds = [900, 1_800, 3_600, 10_800, 21_600, 43_200, DAY_SECONDS]
            .into_iter()
            .find(|step| to.seconds_since(from) / step <= STEPS_MAX)
            .unwrap_or(DAY_SECONDS);
        let from = from.floor_to(step_seconds);
        let steps = usize::try_from(to.seconds_since(from) / step_seconds).unwrap_or(0);
        let installation = account.point.as_ref().and_then(|point| point.installation.as_ref());
        let counted = match installation {
            Some(installed) => {
                let records = store.profile(installed.meter, from.plus(-1), to).await?;
                means(&records, from, step_seconds, steps, installed.ct_ratio)
            }
            None => Vec::new(),
        };
        let balances = store.balances(case.zone, from, to).await?;
        Ok(Self {
            from,
            step_seconds,
            zone: case.zone,
            meter: installation.map(|installed| installed.meter.to_string()),
            counted,
            missing: missing(&balances, from, step_seconds, steps),
            marks: marks(case, account),
        })
    }

    /// The picture; words instead when there is not enough to draw.
    pub fn draw(&self) -> Markup {
        if self.missing.iter().flatten().count() < 2 {
            return html! { p.dim { "No balance of " (self.zone) " in this time yet." } };
        }
        let steps = self.missing.len();
        let panels = if self.meter.is_some() { 2.0 } else { 1.0 };
        let height = TOP + panels * PANEL + (panels - 1.0) * GAP + BELOW;
        let missing_top = TOP + (panels - 1.0) * (PANEL + GAP);
        let label = format!(
            "Mean power by {}: {}energy missing in {}",
            format::duration(self.step_seconds),
            self.meter.as_ref().map(|meter| format!("what {meter} counted, over ")).unwrap_or_default(),
            self.zone
        );
        html! {
            div.scroll tabindex="0" role="group" aria-label="Curve of the case" {
                svg.still.wide viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(label) {
                    @if let Some(meter) = &self.meter {
                        (panel(&self.counted, TOP, &format!("{meter} counts, kW"), "f-metered"))
                    }
                    (panel(&self.missing, missing_top, &format!("{} misses, kW", self.zone), "f-gap"))
                    (self.days(steps, height - BELOW))
                    (self.draw_marks(steps, height - BELOW))
                }
            }
        }
    }

    fn x(&self, at: Timestamp, steps: usize) -> f64 {
        let whole = count(steps) * seconds(self.step_seconds);
        LEFT + (seconds(at.seconds_since(self.from)) / whole.max(1.0)).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn end(&self, steps: usize) -> Timestamp {
        self.from.plus(self.step_seconds * i64::try_from(steps).unwrap_or(0))
    }

    fn days(&self, steps: usize, bottom: f64) -> Markup {
        let (first, last) = (self.from.floor_to(DAY_SECONDS), self.end(steps));
        let days = last.seconds_since(first) / DAY_SECONDS + 1;
        let every = (days / 10).max(1);
        let ticks = (0..=days).step_by(usize::try_from(every).unwrap_or(1)).map(|day| first.plus(day * DAY_SECONDS));
        html! { @for at in ticks.filter(|at| *at >= self.from && *at <= last) {
            @let x = self.x(at, steps);
            line.rule x1=(px(x)) x2=(px(x)) y1=(px(TOP)) y2=(px(bottom)) {}
            text.t-dim x=(px(x)) y=(px(bottom + 17.0)) text-anchor="middle" { (format::date(at).get(5..).unwrap_or_default()) }
        } }
    }

    fn draw_marks(&self, steps: usize, bottom: f64) -> Markup {
        let mut row = 0_u8;
        let mut before = f64::NEG_INFINITY;
        let mut placed = Vec::with_capacity(self.marks.len());
        for (at, word) in &self.marks {
            let x = self.x(*at, steps);
            row = if x - before < WORD_WIDTH { (row + 1) % 3 } else { 0 };
            before = x;
            placed.push((x, 12.0 + 12.0 * f64::from(row), *word));
        }
        html! { @for (x, y, word) in placed {
            line.mark x1=(px(x)) x2=(px(x)) y1=(px(y + 3.0)) y2=(px(bottom)) {}
            // Near the right edge the word stands on the other side of its line.
            @if x > WIDTH - WORD_WIDTH { text.t-mark x=(px(x - 4.0)) y=(px(y)) text-anchor="end" { (word) } }
            @else { text.t-mark x=(px(x + 4.0)) y=(px(y)) { (word) } }
        } }
    }
}

/// A panel with its name, its axis from zero, and steps filled down to zero.
fn panel(values: &[Option<f64>], top: f64, name: &str, class: &str) -> Markup {
    let known = || values.iter().flatten().copied();
    let high = nice(known().fold(0.0, f64::max).max(0.1));
    let low = match known().fold(0.0, f64::min) {
        low if low < -0.05 * high => -nice(-low),
        _ => 0.0,
    };
    let y = |value: f64| top + PANEL * (high - value.clamp(low, high)) / (high - low);
    let width = (WIDTH - LEFT - RIGHT) / count(values.len().max(1));
    let mut path = String::new();
    let mut begun: Option<f64> = None;
    for (index, value) in values.iter().enumerate() {
        let x = LEFT + width * count(index);
        match (value, begun) {
            (Some(value), None) => {
                path.push_str(&format!("M{} {}V{}H{}", px(x), px(y(0.0)), px(y(*value)), px(x + width)));
                begun = Some(x);
            }
            (Some(value), Some(_)) => path.push_str(&format!("V{}H{}", px(y(*value)), px(x + width))),
            (None, Some(_)) => {
                path.push_str(&format!("V{}Z", px(y(0.0))));
                begun = None;
            }
            (None, None) => {}
        }
    }
    if begun.is_some() {
        path.push_str(&format!("V{}Z", px(y(0.0))));
    }
    html! {
        text.t-strong x=(px(LEFT)) y=(px(top - 6.0)) { (name) }
        @for tick in [high, high / 2.0, 0.0, low] {
            @if tick != 0.0 || low <= 0.0 {
                line.rule x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(y(tick))) y2=(px(y(tick))) {}
                text.t-dim x=(px(LEFT - 6.0)) y=(px(y(tick) + 4.0)) text-anchor="end" { (format::number(tick, usize::from(high < 4.0))) }
            }
        }
        path class=(class) d=(path) {}
        line.zero x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(y(0.0))) y2=(px(y(0.0))) {}
    }
}

/// The next of 1, 2, 5 × 10ⁿ.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

/// Mean kW between the registers at the ends of each step.
fn means(records: &[StoredRecord], from: Timestamp, step: i64, steps: usize, ct_ratio: f64) -> Vec<Option<f64>> {
    let registers: BTreeMap<Timestamp, u64> = records.iter().map(|r| (r.record.end, r.record.import_wh.0)).collect();
    let at = |index: usize| registers.get(&from.plus(step * i64::try_from(index).unwrap_or(0)));
    (0..steps)
        .map(|index| {
            let used = at(index + 1)?.checked_sub(*at(index)?)?;
            // What a home uses in a day fits a float exactly.
            #[allow(clippy::cast_precision_loss)]
            let wh = used as f64 * ct_ratio;
            Some(format::mean_kw(wh, seconds(step) / 60.0))
        })
        .collect()
}

/// Mean kW missing in each step of which anything is known.
fn missing(balances: &[EnergyBalance], from: Timestamp, step: i64, steps: usize) -> Vec<Option<f64>> {
    let mut by_step: BTreeMap<i64, Vec<EnergyBalance>> = BTreeMap::new();
    for balance in balances {
        // An interval belongs to the step in which it ends; one that ends at its begin belongs to the step before.
        by_step.entry((balance.end.seconds_since(from) - 1).div_euclid(step)).or_default().push(*balance);
    }
    (0..steps)
        .map(|index| {
            let total = Totals::of(by_step.get(&i64::try_from(index).ok()?)?)?;
            Some(total.kw(total.unaccounted_wh))
        })
        .collect()
}

fn marks(case: &Case, account: &Account) -> Vec<(Timestamp, &'static str)> {
    let mut marks = vec![(account.since, "began, about"), (case.opened_at, "case opened")];
    if let Some(done) = &account.done {
        let control = &done.control;
        let ended = control.history.last().map(|step| (step.at, control.state.word()));
        let off = control.kind == metering::ControlKind::Disconnect;
        marks.extend(ended.map(|(at, state)| {
            let word = match (state, off) {
                ("Verified", true) => "switched off",
                ("Verified", false) => "switched on",
                ("Failed", true) => "cut failed",
                _ => "ordered",
            };
            (at, word)
        }));
    }
    marks.extend(case.imbalance_ended.map(|at| (at, "ended")));
    marks.sort_by_key(|(at, _)| *at);
    marks
}

fn seconds(value: i64) -> f64 {
    i32::try_from(value).map_or(f64::INFINITY, f64::from)
}

fn count(value: usize) -> f64 {
    u32::try_from(value).map_or(f64::INFINITY, f64::from)
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_begin_at_zero_and_end_at_a_round_number() {
        assert_eq!([0.13, 1.0, 1.1, 2.4, 7.0, 60.0].map(nice), [0.2, 1.0, 2.0, 5.0, 10.0, 100.0]);
        let drawn = panel(&[Some(6.2), Some(6.9), None, Some(6.4)], 0.0, "kW", "f-metered").into_string();
        assert!(drawn.contains(">0<") && drawn.contains(">10<"), "{drawn}");
        // The hole is not bridged: two areas, each closed on the zero line.
        assert_eq!(drawn.matches('Z').count(), 2, "{drawn}");
    }

    #[test]
    fn a_curve_of_nothing_says_so() {
        let curve = CaseCurve {
            from: Timestamp(0),
            step_seconds: 900,
            zone: ZoneId::new("T1").expect("id"),
            meter: None,
            counted: vec![],
            missing: vec![None, Some(1.0)],
            marks: vec![],
        };
        assert!(curve.draw().into_string().contains("No balance of T1"));
    }
}
