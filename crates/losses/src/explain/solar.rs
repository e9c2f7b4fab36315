//! Solar that began behind a meter: an honest reason why its import fell, and only by day.
//!
//! It excuses nobody whose use at night fell as well. Without an export register nothing is excused either: there a home whose load
//! vanishes under the sun and a meter that is passed by by day look alike, and solar that is not counted shows as surplus, not as loss.

use forecast::solar::{Finding, Register, find, likely_place};
use forecast::sun::direction;
use forecast::{Origin, Series};
use metering::Timestamp;

use super::ZoneHistory;
use super::prepared::{Member, Prepared, mean};

/// Sine of the sun's elevation below which it is night: some six degrees under the horizon.
const NIGHT: f64 = -0.1;
/// Probability from which solar counts as found.
const FOUND: f64 = 0.5;

/// Solar that was not there before the onset.
pub(super) struct NewSolar {
    pub(super) finding: Finding,
    /// Mean power at night before (scaled by the neighbours' change) and after the onset, W.
    pub(super) night_before_w: f64,
    pub(super) night_after_w: f64,
}

impl NewSolar {
    /// Whether the use at night is what it was: what fell, fell under the sun.
    pub(super) fn leaves_nights_alone(&self) -> bool {
        self.night_after_w >= 0.8 * self.night_before_w
    }
}

/// Looks at one member that exports; `common` = how much the neighbours' use changed.
pub(super) fn new_solar(history: &ZoneHistory, data: &Prepared, member: &Member, common: f64) -> Option<NewSolar> {
    let (before, after) = (net_series(history, member, false)?, net_series(history, member, true)?);
    let known = |series: &Series| -> Vec<Finding> {
        let known = series.known_at(Origin::at(i64::MAX / 4));
        find(&[known], Register::Net, likely_place(&[known]))
    };
    let finding = known(&after).into_iter().next().filter(|f| f.is_judged() && f.probability >= FOUND)?;
    // without a time before, nothing began
    let earlier = known(&before).into_iter().next().filter(Finding::is_judged)?;
    if earlier.probability >= FOUND {
        return None;
    }
    let place = likely_place(&[after.known_at(Origin::at(i64::MAX / 4))])?;
    let half = (data.hours * 1_800.0) as i64;
    let at_night = |end: Timestamp| direction(end.0 - half, place)[2] < NIGHT;
    let night_w = |wanted: bool| {
        let rows = data.rows.iter().zip(&member.power_w).filter(|(row, _)| row.after == wanted && at_night(row.end));
        mean(rows.map(|(_, power)| *power))
    };
    Some(NewSolar { finding, night_before_w: common.min(1.0) * night_w(false), night_after_w: night_w(true) })
}

/// What it took less what it gave, kWh, on one side of the onset; `None` for intervals that forecasts do not use.
fn net_series(history: &ZoneHistory, member: &Member, after: bool) -> Option<Series> {
    let rows: Vec<(i64, f32)> = history
        .balances
        .iter()
        .zip(&member.history.slots)
        .filter(|(balance, _)| (balance.end > history.onset) == after)
        .filter_map(|(balance, flow)| {
            let flow = flow.as_ref()?;
            Some((balance.end.0, ((flow.import_wh.0 as f64 - flow.export_wh.0 as f64) / 1_000.0) as f32))
        })
        .collect();
    Series::new("", i64::from(history.minutes) * 60, &rows).ok()
}
