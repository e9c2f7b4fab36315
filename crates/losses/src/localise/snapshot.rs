//! Where does unmetered power hang, from a few instants at which every meter of a zone was read in the same second?
//!
//! At an instant nothing is averaged and no clock is wrong, and the missing power s = delivered − Σ metered − losses stands against the
//! voltages of that very second: E_i(t) = o_i − a s(t) R_ik + c(t) + errors of the modelled falls. Meters' offsets o_i (class ± 0.5 %)
//! are larger than most falls, so either they are known from earlier readings ([`SnapshotReading::offset_pu`]) or the missing power
//! must change between the instants: choose them minutes to hours apart, at high and at low load. The answer is a probability per
//! connection; where it is spread the verdict says "not localised".
//! A second sign needs neither network nor change: a meter whose current times voltage is much more than its power counts wrongly. Where
//! the meter measures reactive power it counts as power there, so that a motor or an inverter is not taken for a theft.

use grid::network::Network;
use serde::{Deserialize, Serialize};

use crate::localise::LocaliseError;
use crate::localise::feeder::Feeder;
use crate::localise::regression::{cholesky, dot, forward};
use crate::localise::trial::{Connection, MeterClass, Trial};

/// Most instants and meters taken (bounds time: the covariance has their product as its side).
const INSTANTS_MAX: usize = 6;
const METERS_MAX: usize = 300;
/// Standard deviation of an offset that nobody calibrated: uniform ± 0.5 %.
const OFFSET_SD: f64 = 0.0029;
/// … and of a calibrated one.
const CALIBRATED_SD: f64 = 0.0003;
/// Relative error of a cable's impedance, and of the tap's power.
const IMPEDANCE_SD: f64 = 0.1;
const AMPLITUDE_SD: f64 = 0.25;
/// Missing power in standard deviations above which it is there.
const ALARM_Z: f64 = 3.0;
/// Probability that the first three must share for "localised".
const LOCALISED: f64 = 0.5;
/// Least apparent power at which current and power are compared, VA, and the least power factor believed.
const LEAST_VA: f64 = 300.0;
const LEAST_FACTOR: f64 = 0.6;
/// Most suspects named.
const SUSPECTS_MAX: usize = 10;

/// One meter at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SnapshotReading {
    /// Number of the usage point (`load` in the network's loads).
    pub usage_point: u32,
    /// Active power, drawn less fed in, W.
    pub watts: f64,
    /// Voltage, pu of the nominal.
    pub voltage_pu: f64,
    /// Current, A; of a three-phase meter the sum of its phases.
    pub amperes: Option<f64>,
    /// Reactive power, var; zero when the meter measures none.
    #[serde(default)]
    pub vars: f64,
    /// Known offset of its voltage against the network model, pu: the mean of measured − modelled over quiet weeks.
    pub offset_pu: Option<f64>,
}

/// All meters of a zone at one instant; those that did not answer are absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Power delivered into the zone by the observer meter, W; less what meters that did not answer are expected to draw.
    pub delivered_w: f64,
    /// Standard deviation of that expectation, W; zero when all answered.
    #[serde(default)]
    pub unheard_sd_w: f64,
    /// Its voltage, pu.
    pub observer_pu: f64,
    /// The meters.
    pub readings: Vec<SnapshotReading>,
}

/// What is known of the zone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SnapshotSetting {
    /// Number of the bus at which the observer measures.
    pub observer_bus: u32,
    /// Nominal phase voltage, V.
    pub nominal_volts: f64,
    /// Class of the meters; `quantum_wh` is read as the step of the power, W.
    pub class: MeterClass,
    /// Class of the observer.
    pub observer_class: MeterClass,
}

/// A connection where the missing power may hang.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotSuspect {
    /// Number of the usage point.
    pub usage_point: u32,
    /// Probability that it hangs at this connection, given that it hangs at one.
    pub probability: f64,
    /// Power that may be its doing, mean of the instants it shows at, W.
    pub watts: f64,
    /// Instants it shows at.
    pub instants: usize,
    /// Why, in words.
    pub reason: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotVerdict {
    /// Missing power at each instant, W.
    pub missing_w: Vec<f64>,
    /// Its standard deviation, W.
    pub missing_sd_w: Vec<f64>,
    /// Power is missing beyond what the meters may be wrong by, at one instant at least.
    pub alarm: bool,
    /// The first three suspects hold most of the probability.
    pub localised: bool,
    /// Best first, at most ten.
    pub suspects: Vec<SnapshotSuspect>,
    /// Meters that count much less than their own current and voltage.
    pub count_wrongly: Vec<SnapshotSuspect>,
}

/// Localises missing power from a few instants. Without a network only the amount and wrongly counting meters are told.
pub fn localise_snapshots(
    network: Option<&Network>,
    setting: &SnapshotSetting,
    snapshots: &[Snapshot],
) -> Result<SnapshotVerdict, LocaliseError> {
    if snapshots.is_empty() || snapshots.len() > INSTANTS_MAX {
        return Err(LocaliseError::Mismatch(format!(
            "{} snapshots; between one and {INSTANTS_MAX} can be used, three are usual",
            snapshots.len()
        )));
    }
    let trial = as_trial(setting, snapshots)?;
    let count_wrongly = wrong_counters(setting, snapshots);
    let Some(network) = network else {
        let (missing_w, missing_sd_w) = plain_balance(setting, snapshots);
        let alarm = alarmed(&missing_w, &missing_sd_w);
        return Ok(SnapshotVerdict {
            missing_w,
            missing_sd_w,
            alarm,
            localised: false,
            suspects: Vec::new(),
            count_wrongly,
        });
    };
    let feeder = Feeder::new(network, &trial)?;
    let missing_w = feeder.residual_wh.clone();
    let missing_sd_w: Vec<f64> = (0..feeder.slots())
        .map(|t| {
            // An instant has no time for gains to average out: they are part of its error.
            let gains: f64 = feeder.net_wh.iter().map(|p| (feeder.class.gain_sd * p[t]).powi(2)).sum();
            let observer = feeder.observer_class.gain_sd * feeder.delivered_wh[t];
            let unheard = snapshots[t].unheard_sd_w;
            let own = feeder.variance[t] + gains + observer * observer + (0.1 * feeder.losses_wh[t]).powi(2);
            (own + unheard * unheard).sqrt()
        })
        .collect();
    let alarm = alarmed(&missing_w, &missing_sd_w);
    let suspects = if alarm { place(&feeder, snapshots, &missing_w, &missing_sd_w) } else { Vec::new() };
    let localised = suspects.iter().take(3).map(|s| s.probability).sum::<f64>() >= LOCALISED;
    Ok(SnapshotVerdict { missing_w, missing_sd_w, alarm, localised, suspects, count_wrongly })
}

fn alarmed(missing: &[f64], sd: &[f64]) -> bool {
    missing.iter().zip(sd).any(|(m, sd)| *m > ALARM_Z * sd)
}

/// The snapshots as a trial whose slots are hours, so that Wh are W.
fn as_trial(setting: &SnapshotSetting, snapshots: &[Snapshot]) -> Result<Trial, LocaliseError> {
    let mut points: Vec<u32> = snapshots.iter().flat_map(|s| s.readings.iter().map(|r| r.usage_point)).collect();
    points.sort_unstable();
    points.dedup();
    if points.is_empty() || points.len() > METERS_MAX {
        return Err(LocaliseError::Mismatch(format!(
            "{} meters answered; between one and {METERS_MAX} can be used",
            points.len()
        )));
    }
    let of = |snapshot: &Snapshot, point: u32| snapshot.readings.iter().find(|r| r.usage_point == point).copied();
    let connections = points
        .iter()
        .map(|&usage_point| {
            let values = |value: fn(SnapshotReading) -> f64| -> Vec<f64> {
                snapshots.iter().map(|s| of(s, usage_point).map_or(f64::NAN, value)).collect()
            };
            Connection {
                usage_point,
                import_wh: values(|r| r.watts.max(0.0)),
                export_wh: values(|r| (-r.watts).max(0.0)),
                voltage_pu: values(|r| r.voltage_pu),
            }
        })
        .collect();
    Ok(Trial {
        observer_bus: setting.observer_bus,
        slot_minutes: 60,
        first_hour: 0.0,
        delivered_wh: snapshots.iter().map(|s| s.delivered_w).collect(),
        observer_pu: snapshots.iter().map(|s| s.observer_pu).collect(),
        connections,
        class: setting.class,
        observer_class: setting.observer_class,
    })
}

/// (missing power, its standard deviation) without a network: 3 % ± 2 % of the delivered power is loss.
fn plain_balance(setting: &SnapshotSetting, snapshots: &[Snapshot]) -> (Vec<f64>, Vec<f64>) {
    snapshots
        .iter()
        .map(|s| {
            let metered: f64 = s.readings.iter().map(|r| r.watts).sum();
            let class = setting.class.gain_sd.hypot(setting.class.random_sd);
            let own: f64 = s.readings.iter().map(|r| (class * r.watts).powi(2)).sum();
            let observer = setting.observer_class.gain_sd.hypot(setting.observer_class.random_sd) * s.delivered_w;
            let sd = (own + observer * observer + (0.02 * s.delivered_w).powi(2) + s.unheard_sd_w.powi(2)).sqrt();
            (0.97 * s.delivered_w - metered, sd)
        })
        .unzip()
}

/// A meter over the instants at which it drew enough for current and power to be compared.
#[derive(Clone, Copy)]
struct Compared {
    usage_point: u32,
    /// Apparent power that its power counter saw: active and reactive, VA.
    counted_va: f64,
    /// Current times voltage, VA.
    apparent_va: f64,
    watts: f64,
    instants: usize,
}

fn compared(setting: &SnapshotSetting, snapshots: &[Snapshot]) -> Vec<Compared> {
    let mut sums: Vec<Compared> = Vec::new();
    for reading in snapshots.iter().flat_map(|s| &s.readings) {
        let Some(amperes) = reading.amperes else { continue };
        let apparent_va = amperes.abs() * reading.voltage_pu * setting.nominal_volts;
        if apparent_va.is_nan() || apparent_va < LEAST_VA {
            continue;
        }
        let (watts, counted_va) = (reading.watts.abs(), reading.watts.hypot(reading.vars));
        match sums.iter_mut().find(|s| s.usage_point == reading.usage_point) {
            Some(sum) => {
                sum.counted_va += counted_va;
                sum.apparent_va += apparent_va;
                sum.watts += watts;
                sum.instants += 1;
            }
            None => {
                let usage_point = reading.usage_point;
                sums.push(Compared { usage_point, counted_va, apparent_va, watts, instants: 1 });
            }
        }
    }
    sums
}

/// Meters that could be compared and count what their current says.
pub fn right_counters(setting: &SnapshotSetting, snapshots: &[Snapshot]) -> Vec<u32> {
    let all = compared(setting, snapshots).into_iter();
    all.filter(|c| c.counted_va >= LEAST_FACTOR * c.apparent_va).map(|c| c.usage_point).collect()
}

fn wrong_counters(setting: &SnapshotSetting, snapshots: &[Snapshot]) -> Vec<SnapshotSuspect> {
    let mut found: Vec<SnapshotSuspect> = compared(setting, snapshots)
        .into_iter()
        .filter(|c| c.counted_va < LEAST_FACTOR * c.apparent_va)
        .map(|c| {
            let instants = c.instants as f64;
            SnapshotSuspect {
                usage_point: c.usage_point,
                probability: 1.0 - c.counted_va / c.apparent_va / LEAST_FACTOR,
                watts: (c.apparent_va - c.counted_va) / instants,
                instants: c.instants,
                reason: format!(
                    "its current times voltage is {:.0} VA and it counts {:.0} W (mean of {} instants): a phase or the sign of a \
                     current may be missing in its count",
                    c.apparent_va / instants,
                    c.watts / instants,
                    c.instants
                ),
            }
        })
        .collect();
    found.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    found.truncate(SUSPECTS_MAX);
    found
}

/// Connections by falling probability.
fn place(feeder: &Feeder, snapshots: &[Snapshot], missing_w: &[f64], missing_sd: &[f64]) -> Vec<SnapshotSuspect> {
    let mut rows: Vec<(usize, usize, f64, f64)> = Vec::new();
    for point in 0..feeder.points() {
        let offset = snapshots
            .iter()
            .find_map(|s| s.readings.iter().find(|r| r.usage_point == feeder.usage_points[point])?.offset_pu);
        let sd = if offset.is_some() { CALIBRATED_SD } else { OFFSET_SD };
        for t in 0..feeder.slots() {
            let error = feeder.voltage_pu[point][t] - feeder.modelled_pu[point][t] - offset.unwrap_or(0.0);
            if !error.is_nan() {
                rows.push((point, t, error, sd));
            }
        }
    }
    let n = rows.len();
    if n == 0 {
        return Vec::new();
    }
    let factor = covariance(feeder, &rows);
    let mut measured: Vec<f64> = rows.iter().map(|r| r.2).collect();
    forward(&factor, &mut measured);
    let prior = AMPLITUDE_SD.powi(-2);
    let mut fits: Vec<(usize, f64, f64)> = (0..feeder.points())
        .filter(|&k| !feeder.generator[k])
        .map(|k| {
            let mut expected: Vec<f64> = rows.iter().map(|r| -missing_w[r.1] * feeder.fall_per_watt[r.0][k]).collect();
            forward(&factor, &mut expected);
            // Marginal over the amplitude a ~ N(1, 0.25²).
            let precision = dot(&expected, &expected) + prior;
            let amplitude = (dot(&measured, &expected) + prior) / precision;
            let log = 0.5 * (precision * amplitude * amplitude - precision.ln());
            (k, log, amplitude)
        })
        .collect();
    fits.sort_by(|a, b| b.1.total_cmp(&a.1));
    let best = fits.first().map_or(0.0, |f| f.1);
    let total: f64 = fits.iter().map(|f| (f.1 - best).exp()).sum();
    let strongest = (0..missing_w.len()).max_by(|a, b| missing_w[*a].total_cmp(&missing_w[*b])).unwrap_or(0);
    fits.iter()
        .take(SUSPECTS_MAX)
        .map(|(k, log, amplitude)| SnapshotSuspect {
            usage_point: feeder.usage_points[*k],
            probability: (log - best).exp() / total,
            watts: missing_w.iter().sum::<f64>() / missing_w.len().max(1) as f64,
            instants: missing_w.len(),
            reason: format!(
                "up to {:.0} ± {:.0} W are missing and the voltages of those seconds lie as if it were drawn here (fitted share \
                 {amplitude:.2}); neighbours on the same cable look alike",
                missing_w[strongest], missing_sd[strongest]
            ),
        })
        .collect()
}

/// Cholesky factor of the covariance of the voltage errors (point, instant): noise, offsets, the observer's noise, cables.
fn covariance(feeder: &Feeder, rows: &[(usize, usize, f64, f64)]) -> Vec<f64> {
    let n = rows.len();
    let own = feeder.class.voltage_random_sd.powi(2);
    let (common, observer_offset) = (feeder.observer_class.voltage_random_sd.powi(2), 0.0012f64.powi(2));
    let mut matrix = vec![0.0; n * n];
    for (i, &(p, t, _, sd)) in rows.iter().enumerate() {
        for (j, &(q, u, _, _)) in rows.iter().enumerate().take(i + 1) {
            let cables: f64 = feeder.paths[p]
                .iter()
                .filter(|b| feeder.paths[q].contains(b))
                .map(|&b| feeder.sections[b].fall_pu[t] * feeder.sections[b].fall_pu[u])
                .sum();
            let mut value = observer_offset + IMPEDANCE_SD * IMPEDANCE_SD * cables;
            if t == u {
                value += common;
            }
            if p == q {
                value += sd * sd;
            }
            if i == j {
                value += own;
            }
            matrix[i * n + j] = value;
        }
    }
    cholesky(&mut matrix, n);
    matrix
}
