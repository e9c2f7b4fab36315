//! What canaries of the last nights say of the live detection: shown beside the ranking, so that nobody trusts a list whose detector has
//! gone blind. Kept as a document of the pipeline.

use serde::{Deserialize, Serialize};

use crate::pattern::canary_watch::Report;

/// Key among the pipeline's documents.
pub const KEY: &str = "canaries";
/// Nights kept.
const NIGHTS_MAX: usize = 30;

/// One night.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryNight {
    /// Days since 1970.
    pub day: i64,
    /// What was found.
    pub report: Report,
}

/// The last nights, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CanaryLog {
    /// The nights.
    pub nights: Vec<CanaryNight>,
}

/// All nights together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryTotals {
    /// Nights.
    pub nights: usize,
    /// Thefts written into copies.
    pub canaries: usize,
    /// Of them seen.
    pub detected: usize,
    /// Of them named.
    pub named: usize,
    /// Share seen.
    pub rate: f64,
    /// 90 % interval of that share (Wilson).
    pub interval: [f64; 2],
    /// Days from onset to alarm, mean of the nights' medians; `None` when none was seen.
    pub delay_days: Option<f64>,
    /// Visits to others that the canaries caused.
    pub false_visits: usize,
}

impl CanaryLog {
    /// Adds a night; the oldest go.
    pub fn add(&mut self, day: i64, report: Report) {
        self.nights.retain(|night| night.day != day);
        self.nights.push(CanaryNight { day, report });
        let surplus = self.nights.len().saturating_sub(NIGHTS_MAX);
        self.nights.drain(..surplus);
    }

    /// The nights together; `None` before the first canary.
    pub fn totals(&self) -> Option<CanaryTotals> {
        let sum = |of: fn(&Report) -> usize| self.nights.iter().map(|night| of(&night.report)).sum::<usize>();
        let (canaries, detected) = (sum(|r| r.total.canaries), sum(|r| r.total.detected));
        let (mut delays, mut weight) = (0.0, 0.0);
        for total in self.nights.iter().map(|night| &night.report.total) {
            if let Some(delay) = total.delay_days {
                delays += delay * total.detected as f64;
                weight += total.detected as f64;
            }
        }
        (canaries > 0).then(|| CanaryTotals {
            nights: self.nights.len(),
            canaries,
            detected,
            named: sum(|r| r.total.named),
            rate: detected as f64 / canaries as f64,
            interval: wilson(detected, canaries),
            delay_days: (weight > 0.0).then(|| delays / weight),
            false_visits: sum(|r| r.total.false_visits),
        })
    }
}

/// 90 % interval of a share (Wilson 1927).
fn wilson(hits: usize, of: usize) -> [f64; 2] {
    const Z: f64 = 1.6449;
    let (n, p) = (of.max(1) as f64, hits as f64 / of.max(1) as f64);
    let middle = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::canary_watch::Outcome;

    #[test]
    fn nights_add_up_and_the_oldest_go() {
        let mut log = CanaryLog::default();
        assert_eq!(log.totals(), None);
        for day in 0..40 {
            let total = Outcome { canaries: 4, detected: 3, named: 2, delay_days: Some(1.0), ..Outcome::default() };
            log.add(day, Report { total, ..Report::default() });
        }
        let totals = log.totals().expect("nights");
        assert_eq!((totals.nights, totals.canaries, totals.detected, totals.named), (30, 120, 90, 60));
        assert!(totals.interval[0] < 0.75 && totals.interval[1] > 0.75 && totals.delay_days == Some(1.0));
        log.add(39, Report::default());
        assert_eq!(log.nights.len(), 30, "a night that is repeated counts once");
    }
}
