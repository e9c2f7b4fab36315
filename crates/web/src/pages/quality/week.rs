//! From stored ten-minute values to the week's report; the statistics are those of `metrology::host::weekly`.

use metering::Timestamp;
use metrology::host::{
    flicker::plt,
    limits::en50160,
    weekly::{Evaluator, Week},
};
use store::StoredQuality;

/// Ten-minute flicker severities in a long-term one.
const PLT_VALUES: usize = 12;
/// Ten-minute values of a week.
pub const WEEK_VALUES: usize = 1_008;
/// A week is judged by nine tenths of its values at least; EN 50160 speaks of shares of a whole week.
pub const JUDGED_VALUES_MIN: usize = WEEK_VALUES * 9 / 10;
/// Orders in the report.
const ORDERS: usize = 25;

/// Verdict over one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    Passes,
    Fails,
    NoLimit,
    NotMeasured,
    /// Fewer than [`JUDGED_VALUES_MIN`] values count: a week cannot be judged by them.
    TooFew,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: String,
    pub value: Option<f64>,
    pub limit: Option<f64>,
    pub judged: Judged,
}

/// The week of a meter.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub items: Vec<Item>,
    /// Values that count, and values touched by a disturbance.
    pub used: usize,
    pub flagged: usize,
    pub voltages_v: Vec<f64>,
    pub voltage_mean_v: Option<f64>,
    pub thd_95_pct: Option<f64>,
    pub plt_95: Option<f64>,
    /// Orders from 2 on, percent of the fundamental.
    pub harmonics_95_pct: Vec<f64>,
    /// Orders from 1 on.
    pub current_95_ma: Vec<f64>,
    /// Largest fundamental current.
    pub load_a: Option<f64>,
    /// Declared voltage, against which voltages were judged.
    pub declared_v: f64,
    pub nominal_hz: f64,
    /// Length of a cycle.
    pub cycle_ms: f64,
}

/// A dip, swell or interruption.
#[derive(Clone, Copy, Debug)]
pub struct Disturbance {
    pub at: Timestamp,
    pub level_pct: f64,
    pub seconds: f64,
}

/// Every disturbance of the week, oldest first.
pub fn dips(values: &[StoredQuality]) -> Vec<Disturbance> {
    let mut found: Vec<Disturbance> = values
        .iter()
        .flat_map(|v| &v.values.dips)
        .map(|d| Disturbance {
            at: d.at,
            level_pct: f64::from(d.extreme.0) / 10.0,
            seconds: f64::from(d.duration_ms) / 1_000.0,
        })
        .collect();
    found.sort_by_key(|d| d.at);
    found
}

/// Value that 95 % do not exceed (nearest rank).
fn share_95(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * 95).div_ceil(100).max(1) - 1;
    values.get(rank).copied()
}

/// The report of a week's values, ascending in time, against a declared voltage.
pub fn evaluate(values: &[StoredQuality], declared_v: f64) -> Report {
    let sound: Vec<&StoredQuality> = values.iter().filter(|v| !v.values.flagged).collect();
    let hertz: Vec<f64> = sound.iter().filter_map(|v| v.values.frequency_mhz).map(|f| f64::from(f.0) / 1e3).collect();
    let mean = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let mean_hz = mean(&hertz).unwrap_or(50.0);
    let nominal_hz = if mean_hz > 55.0 { 60.0 } else { 50.0 };
    let voltages_v: Vec<f64> = sound.iter().map(|v| f64::from(v.values.voltage_mv.0) / 1e3).collect();
    let thd: Vec<f64> = sound.iter().filter_map(|v| v.values.thd).map(|t| f64::from(t.0) / 10.0).collect();
    let harmonic = |order: usize| -> Vec<f64> {
        sound.iter().filter_map(|v| v.values.harmonics.get(order - 2)).map(|&h| f64::from(h) / 100.0).collect()
    };
    let current = |k: usize| -> Vec<f64> {
        sound.iter().filter_map(|v| v.values.current_harmonics_ma.get(k)).map(|&i| f64::from(i.0)).collect()
    };
    let harmonics: Vec<Vec<f64>> = (2..=ORDERS).map(harmonic).take_while(|column| !column.is_empty()).collect();
    let plts = long_term_flicker(values);
    let single = |column: &[f64]| column.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let week = Week {
        voltage_pct: voltages_v.iter().map(|v| (v / declared_v * 100.0) as f32).collect(),
        frequency_pct: hertz.iter().map(|f| ((f / nominal_hz - 1.0) * 100.0) as f32).collect(),
        thd_pct: single(&thd),
        // index 0 is the fundamental, of which there is no statistic
        harmonics_pct: core::iter::once(Vec::new()).chain(harmonics.iter().map(|h| single(h))).collect(),
        plt: single(&plts),
        flagged: Vec::new(),
    };
    let mut report = Report {
        used: sound.len(),
        flagged: values.len() - sound.len(),
        voltage_mean_v: mean(&voltages_v),
        voltages_v,
        thd_95_pct: share_95(thd),
        plt_95: share_95(plts),
        harmonics_95_pct: harmonics.into_iter().filter_map(share_95).collect(),
        current_95_ma: (0..ORDERS).map_while(|k| share_95(current(k))).collect(),
        load_a: current(0).into_iter().reduce(f64::max).map(|ma| ma / 1e3),
        declared_v,
        nominal_hz,
        cycle_ms: 1_000.0 / mean_hz,
        items: Vec::new(),
    };
    report.items = items(&week, &report);
    report
}

fn items(week: &Week, report: &Report) -> Vec<Item> {
    let findings = Evaluator::new(en50160()).evaluate(week).findings;
    let mut items: Vec<Item> = findings
        .into_iter()
        .map(|f| Item {
            name: f.quantity,
            value: Some(f.value),
            limit: f.limit.is_finite().then_some(f.limit),
            judged: match (f.limit.is_finite(), f.pass) {
                (false, _) => Judged::NoLimit,
                (true, _) if report.used < JUDGED_VALUES_MIN => Judged::TooFew,
                (true, true) => Judged::Passes,
                (true, false) => Judged::Fails,
            },
        })
        .collect();
    let limit = en50160();
    for (missing, name, limit) in [
        (report.thd_95_pct.is_none(), "distortion, 95 % value", limit.thd_pct),
        (report.plt_95.is_none(), "long-term flicker, 95 % value", limit.plt),
    ] {
        if missing {
            let (value, limit) = (None, Some(limit));
            items.push(Item { name: name.to_owned(), value, limit, judged: Judged::NotMeasured });
        }
    }
    items
}

/// Long-term severities of each twelve adjoining ten-minute values that all have one.
fn long_term_flicker(values: &[StoredQuality]) -> Vec<f64> {
    let mut found = Vec::new();
    let mut gathered = [0.0; PLT_VALUES];
    let (mut count, mut last) = (0, None);
    for v in values {
        let adjoins = last.is_none_or(|end: Timestamp| v.values.end.seconds_since(end) == 600);
        last = Some(v.values.end);
        let Some(pst) = v.values.pst else {
            count = 0;
            continue;
        };
        count = if adjoins { count } else { 0 };
        gathered[count] = f64::from(pst.0) / 1e3;
        count += 1;
        if count == PLT_VALUES {
            found.push(plt(&gathered));
            count = 0;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use metering::{
        Millihertz, Millivolts,
        frame::{Dip, PowerQuality},
        unit::PerMille,
    };

    use super::*;

    fn value(k: i64) -> StoredQuality {
        let end = Timestamp(1_772_409_600 + 600 * k);
        let values = PowerQuality {
            end,
            voltage_mv: Millivolts(231_000),
            frequency_mhz: Some(Millihertz(49_990)),
            thd: Some(PerMille(31)),
            harmonics: vec![10, 120, 5, 210],
            pst: Some(PerMille(400)),
            dips: Vec::new(),
            flagged: false,
            current_harmonics_ma: Vec::new(),
            cycle: None,
        };
        StoredQuality { received: end, values }
    }

    #[test]
    fn a_sound_week_complies_and_what_is_not_measured_never_passes() {
        let mut values: Vec<_> = (0..1_008).map(value).collect();
        let report = evaluate(&values, 230.0);
        assert!(report.items.iter().all(|i| i.judged == Judged::Passes), "{:?}", report.items);
        assert_eq!((report.used, report.flagged), (1_008, 0));
        assert!(report.plt_95.is_some_and(|p| (p - 0.4).abs() < 1e-6));
        assert_eq!(report.harmonics_95_pct, [0.1, 1.2, 0.05, 2.1]);
        for v in &mut values {
            v.values.pst = None;
        }
        let silent = evaluate(&values, 230.0);
        let flicker = silent.items.iter().find(|i| i.name.contains("flicker"));
        assert_eq!(flicker.map(|i| i.judged), Some(Judged::NotMeasured));
    }

    #[test]
    fn a_few_hours_are_not_judged_as_a_week() {
        let mut values: Vec<_> = (0..JUDGED_VALUES_MIN as i64 - 1).map(value).collect();
        values[0].values.harmonics[3] = 9_000;
        let judged = |values: &[StoredQuality]| evaluate(values, 230.0).items;
        assert!(judged(&values).iter().all(|item| item.judged == Judged::TooFew && item.value.is_some()));
        values.push(value(JUDGED_VALUES_MIN as i64));
        assert!(judged(&values).iter().all(|item| item.judged == Judged::Passes));
    }

    #[test]
    fn voltages_are_judged_against_the_declared_one() {
        let values: Vec<_> = (0..1_008).map(value).collect();
        let failing = |declared_v: f64| {
            evaluate(&values, declared_v).items.iter().filter(|item| item.judged == Judged::Fails).count()
        };
        assert_eq!((failing(230.0), failing(240.0)), (0, 0));
        assert!(failing(120.0) > 0 && failing(277.0) > 0);
    }

    #[test]
    fn bad_values_fail_and_flagged_ones_do_not_count() {
        let mut values: Vec<_> = (0..1_008).map(value).collect();
        for v in &mut values[..60] {
            v.values.harmonics[3] = 700;
        }
        let failing = |values: &[StoredQuality]| -> Vec<String> {
            evaluate(values, 230.0).items.into_iter().filter(|i| i.judged == Judged::Fails).map(|i| i.name).collect()
        };
        assert_eq!(failing(&values), ["harmonic 5, 95 % value"]);
        for v in &mut values[..60] {
            v.values.flagged = true;
            v.values.dips.push(Dip { at: v.values.end.plus(-30), duration_ms: 120, extreme: PerMille(640) });
        }
        assert!(failing(&values).is_empty());
        assert_eq!(dips(&values).len(), 60);
    }

    #[test]
    fn a_gap_breaks_a_long_term_flicker_value() {
        let mut values: Vec<_> = (0..24).map(value).collect();
        assert_eq!(long_term_flicker(&values).len(), 2);
        values.remove(5);
        assert_eq!(long_term_flicker(&values).len(), 1);
    }
}
