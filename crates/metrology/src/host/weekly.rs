//! The week's report of a metering point: EN 50160 compliance of ten-minute values, and IEEE 519 statistics.
//!
//! Values lie in columns (one per quantity), because every statistic is over one quantity. Flagged values (touched by a
//! dip, swell or interruption) and incomplete ones are left out, as IEC 61000-4-30 asks. Percentiles are the value that
//! the given share of the kept values does not exceed (nearest rank).

use crate::host::limits::{En50160, Ieee519};
use crate::window::ORDERS;

/// Ten-minute values of a week in columns of equal length (1,008 for a whole week).
#[derive(Clone, Debug, Default)]
pub struct Week {
    /// Voltage, percent of the declared voltage.
    pub voltage_pct: Vec<f32>,
    /// Frequency, percent deviation from nominal.
    pub frequency_pct: Vec<f32>,
    /// Distortion to order 40, percent of the fundamental.
    pub thd_pct: Vec<f32>,
    /// Harmonics 1 to 50 in percent of the fundamental, one column each.
    pub harmonics_pct: Vec<Vec<f32>>,
    /// Long-term flicker severity, one value per two hours.
    pub plt: Vec<f32>,
    /// Touched by a disturbance or incomplete.
    pub flagged: Vec<bool>,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Quantity, for harmonics with its order.
    pub quantity: String,
    /// The statistic.
    pub value: f64,
    /// The limit it is held against.
    pub limit: f64,
    /// Verdict.
    pub pass: bool,
}

/// The report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeekReport {
    /// All findings.
    pub findings: Vec<Finding>,
    /// Values used of those offered.
    pub used: usize,
    /// Values offered.
    pub offered: usize,
}

impl WeekReport {
    /// Whether everything passes.
    pub fn complies(&self) -> bool {
        self.findings.iter().all(|f| f.pass)
    }

    fn at_most(&mut self, quantity: impl Into<String>, value: f64, limit: f64) {
        self.findings.push(Finding { quantity: quantity.into(), value, limit, pass: value <= limit });
    }
}

/// Value that the share of the values does not exceed (nearest rank); reorders. Nothing for no values.
fn percentile(values: &mut [f32], share: f64) -> Option<f64> {
    let rank = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    if values.is_empty() {
        return None;
    }
    Some(f64::from(*values.select_nth_unstable_by(rank, f32::total_cmp).1))
}

/// Evaluates weeks; keeps its working memory between meters.
#[derive(Debug)]
pub struct Evaluator {
    limits: En50160,
    kept: Vec<u32>,
    column: Vec<f32>,
}

impl Evaluator {
    /// An evaluator against `limits`.
    pub fn new(limits: En50160) -> Self {
        Self { limits, kept: Vec::new(), column: Vec::new() }
    }

    fn gather(&mut self, values: &[f32]) {
        self.column.clear();
        if self.kept.len() == values.len() {
            self.column.extend_from_slice(values);
        } else {
            self.column.extend(self.kept.iter().filter_map(|&k| values.get(k as usize)));
        }
    }

    fn share_within(&mut self, values: &[f32], low: f64, high: f64) -> f64 {
        self.gather(values);
        let inside = self.column.iter().filter(|&&v| (low..=high).contains(&f64::from(v))).count();
        inside as f64 / self.column.len().max(1) as f64
    }

    fn percentile_of(&mut self, values: &[f32], share: f64) -> Option<f64> {
        self.gather(values);
        percentile(&mut self.column, share)
    }

    /// Evaluates one week.
    pub fn evaluate(&mut self, week: &Week) -> WeekReport {
        let offered = week.voltage_pct.len();
        self.kept.clear();
        let sound = |k: &usize| !week.flagged.get(*k).copied().unwrap_or(false);
        self.kept.extend((0..offered).filter(sound).map(|k| k as u32));
        let mut report = WeekReport { used: self.kept.len(), offered, ..WeekReport::default() };
        if self.kept.is_empty() {
            return report;
        }
        let l = self.limits.clone();
        let outside =
            (1.0 - self.share_within(&week.voltage_pct, 100.0 - l.voltage_pct, 100.0 + l.voltage_pct)) * 100.0;
        report.at_most("voltage, % of the week outside ±10 %", outside, (1.0 - l.voltage_share) * 100.0);
        let (low, high) = (100.0 + l.voltage_always_low_pct, 100.0 + l.voltage_always_high_pct);
        let ever = (1.0 - self.share_within(&week.voltage_pct, low, high)) * 100.0;
        report.at_most("voltage, % of the week outside +10/-15 %", ever, 0.0);
        let off = (1.0 - self.share_within(&week.frequency_pct, -l.frequency_pct, l.frequency_pct)) * 100.0;
        report.at_most("frequency, % of the week outside ±1 %", off, (1.0 - l.frequency_share) * 100.0);
        if let Some(value) = self.percentile_of(&week.thd_pct, l.harmonic_share) {
            report.at_most("distortion, 95 % value", value, l.thd_pct);
        }
        for order in 2..=week.harmonics_pct.len().min(ORDERS) {
            let Some(value) = self.percentile_of(&week.harmonics_pct[order - 1], l.harmonic_share) else { continue };
            let limit = l.harmonic_pct(order).unwrap_or(f64::INFINITY);
            report.at_most(format!("harmonic {order}, 95 % value"), value, limit);
        }
        self.column.clear();
        self.column.extend_from_slice(&week.plt);
        if let Some(value) = percentile(&mut self.column, l.plt_share) {
            report.at_most("long-term flicker, 95 % value", value, l.plt);
        }
        report
    }
}

/// Total demand distortion: harmonic currents over the maximum demand load current `load_a`, percent. Dividing by the
/// momentary fundamental instead would be the common mistake.
pub fn tdd_pct(harmonics_a: &[f64], load_a: f64) -> Option<f64> {
    (load_a > 0.0).then(|| harmonics_a.iter().skip(1).map(|i| i * i).sum::<f64>().sqrt() / load_a * 100.0)
}

/// Currents of a statistic (rms by order, index 0 the fundamental) against IEEE 519, scaled by `factor` (1 weekly 95th,
/// 1.5 weekly 99th, 2 daily 99th percentile).
pub fn ieee519_current(
    limits: &Ieee519,
    harmonics_a: &[f64],
    load_a: f64,
    short_circuit_a: f64,
    factor: f64,
) -> WeekReport {
    let mut report = WeekReport { used: 1, offered: 1, ..WeekReport::default() };
    let (Some(row), Some(tdd)) = (limits.current_row(short_circuit_a / load_a), tdd_pct(harmonics_a, load_a)) else {
        return report;
    };
    report.at_most("total demand distortion", tdd, row.tdd_pct * factor);
    for (k, amperes) in harmonics_a.iter().enumerate().skip(1) {
        if let Some(limit) = limits.current_pct(row, k + 1) {
            report.at_most(format!("current harmonic {}", k + 1), amperes / load_a * 100.0, limit * factor);
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::limits::{en50160, ieee519};

    fn week() -> Week {
        Week {
            voltage_pct: vec![101.0; 1008],
            frequency_pct: vec![0.1; 1008],
            thd_pct: vec![3.0; 1008],
            harmonics_pct: vec![vec![0.3; 1008]; 50],
            plt: vec![0.5; 84],
            flagged: vec![false; 1008],
        }
    }

    #[test]
    fn a_sound_week_complies_and_six_percent_of_bad_values_do_not() {
        let mut evaluator = Evaluator::new(en50160());
        assert!(evaluator.evaluate(&week()).complies());
        let mut bad = week();
        bad.harmonics_pct[4][..61].fill(7.0);
        let report = evaluator.evaluate(&bad);
        let failing: Vec<_> = report.findings.iter().filter(|f| !f.pass).map(|f| f.quantity.as_str()).collect();
        assert_eq!(failing, ["harmonic 5, 95 % value"]);
        bad.harmonics_pct[4][40..61].fill(0.3);
        assert!(evaluator.evaluate(&bad).complies());
    }

    #[test]
    fn flagged_values_do_not_count() {
        let mut flagged = week();
        flagged.voltage_pct[..200].fill(50.0);
        flagged.flagged[..200].fill(true);
        let report = Evaluator::new(en50160()).evaluate(&flagged);
        assert!(report.complies());
        assert_eq!((report.used, report.offered), (808, 1008));
    }

    #[test]
    fn demand_distortion_divides_by_the_load_current() {
        assert_eq!(tdd_pct(&[10.0, 3.0, 4.0], 50.0), Some(10.0));
        let report = ieee519_current(&ieee519(), &[10.0, 0.0, 4.0], 50.0, 1500.0, 1.0);
        assert!(!report.complies());
    }
}
