//! The readings of one feeder over some weeks: all connections and the observer meter at the transformer.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::localise::LocaliseError;
use crate::tables::Table;

/// Most slots a trial may have (a year of quarter-hours); bounds memory.
const MOST_SLOTS: usize = 40_000;

/// What meters of a class may be wrong by, as standard deviations relative to the reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeterClass {
    /// Fixed gain error.
    pub gain_sd: f64,
    /// Random error of a slot.
    pub random_sd: f64,
    /// Step of the counter in Wh.
    pub quantum_wh: f64,
    /// Random error of a slot's voltage.
    pub voltage_random_sd: f64,
}

/// One connection's readings; NaN = missing. Net energies: drawn − fed in.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// Number of the usage point (`load` in the network's loads).
    pub usage_point: u32,
    /// Energy drawn from the grid in Wh, by slot.
    pub import_wh: Vec<f64>,
    /// Energy fed in, in Wh, by slot.
    pub export_wh: Vec<f64>,
    /// Voltage in pu of the nominal, by slot.
    pub voltage_pu: Vec<f64>,
}

/// A feeder's readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Number of the bus at which the observer meter measures.
    pub observer_bus: u32,
    /// Minutes of a slot.
    pub slot_minutes: u32,
    /// Local hour of the day at which slot 0 starts.
    pub first_hour: f64,
    /// Energy delivered by the transformer (net) in Wh, by slot.
    pub delivered_wh: Vec<f64>,
    /// Voltage at the observer in pu, by slot.
    pub observer_pu: Vec<f64>,
    /// All connections, by usage point.
    pub connections: Vec<Connection>,
    /// Class of the connections' meters.
    pub class: MeterClass,
    /// Class of the observer meter.
    pub observer_class: MeterClass,
}

#[derive(Deserialize)]
struct Description {
    start: String,
    slot_minutes: u32,
    nominal_dv: f64,
    observer_bus: u32,
    meter_class: ClassDescription,
    observer_class: ClassDescription,
}

#[derive(Deserialize)]
struct ClassDescription {
    gain_sd: f64,
    random_sd: f64,
    #[serde(default = "one_wh")]
    quantum_wh: f64,
    #[serde(default = "usual_voltage_noise")]
    voltage_random_sd: f64,
}

fn one_wh() -> f64 {
    1.0
}

fn usual_voltage_noise() -> f64 {
    0.001
}

impl ClassDescription {
    fn class(&self) -> MeterClass {
        MeterClass {
            gain_sd: self.gain_sd,
            random_sd: self.random_sd,
            quantum_wh: self.quantum_wh,
            voltage_random_sd: self.voltage_random_sd,
        }
    }
}

impl Trial {
    /// Reads `readings.parquet`, `observer.parquet` and `meta.json` of a folder.
    pub fn read(folder: &Path) -> Result<Self, LocaliseError> {
        let path = folder.join("meta.json");
        let wrong = |problem: String| LocaliseError::Description { path: path.display().to_string(), problem };
        let text = std::fs::read_to_string(&path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
        let meta: Description = serde_json::from_str(&text).map_err(|e| wrong(format!("is not understood: {e}")))?;
        let first_hour = hour_of(&meta.start)
            .ok_or_else(|| wrong(format!("start \"{}\" should look like 2026-01-31T00:00:00+01:00", meta.start)))?;
        if meta.slot_minutes == 0 || meta.nominal_dv <= 0.0 {
            return Err(wrong("slot_minutes and nominal_dv must be positive".to_owned()));
        }
        let observer = Table::read(&folder.join("observer.parquet"))?;
        let net: Vec<f64> =
            observer.reals("import_wh")?.iter().zip(observer.reals("export_wh")?).map(|(i, e)| i - e).collect();
        let slots = net.len();
        if slots == 0 || slots > MOST_SLOTS {
            return Err(wrong(format!("{slots} slots; between 1 and {MOST_SLOTS} can be used")));
        }
        let observer_pu = observer.reals("voltage_dv")?.iter().map(|v| v / meta.nominal_dv).collect();
        let connections = read_connections(&Table::read(&folder.join("readings.parquet"))?, slots, meta.nominal_dv)?;
        Ok(Self {
            observer_bus: meta.observer_bus,
            slot_minutes: meta.slot_minutes,
            first_hour,
            delivered_wh: net,
            observer_pu,
            connections,
            class: meta.meter_class.class(),
            observer_class: meta.observer_class.class(),
        })
    }

    /// Only the first `days` days.
    pub fn first_days(&self, days: usize) -> Self {
        let slots = (days * self.slots_per_day()).min(self.delivered_wh.len());
        let mut cut = self.clone();
        cut.delivered_wh.truncate(slots);
        cut.observer_pu.truncate(slots);
        for connection in &mut cut.connections {
            connection.import_wh.truncate(slots);
            connection.export_wh.truncate(slots);
            connection.voltage_pu.truncate(slots);
        }
        cut
    }

    /// Slots of a day.
    pub fn slots_per_day(&self) -> usize {
        (24 * 60 / self.slot_minutes.max(1)) as usize
    }

    /// Local hour of the day at which a slot starts.
    pub fn hour(&self, slot: usize) -> f64 {
        (self.first_hour + slot as f64 * f64::from(self.slot_minutes) / 60.0) % 24.0
    }
}

/// Hours and minutes of an ISO 8601 time, as written (local).
fn hour_of(start: &str) -> Option<f64> {
    let time = start.split('T').nth(1)?;
    let mut parts = time.split(':');
    let hour: f64 = parts.next()?.parse().ok()?;
    let minute: f64 = parts.next()?.parse().ok()?;
    Some(hour + minute / 60.0)
}

fn read_connections(table: &Table, slots: usize, nominal_dv: f64) -> Result<Vec<Connection>, LocaliseError> {
    let points = table.integers("usage_point")?;
    let slot = table.integers("slot")?;
    let (import, export) = (table.reals("import_wh")?, table.reals("export_wh")?);
    let voltage = table.reals("voltage_dv")?;
    let mut by_point: BTreeMap<u32, Connection> = BTreeMap::new();
    for row in 0..table.rows() {
        let (Some(point), Some(slot)) = (points[row], slot[row]) else { continue };
        let (Ok(point), Ok(slot)) = (u32::try_from(point), usize::try_from(slot)) else { continue };
        if slot >= slots {
            continue;
        }
        let connection = by_point.entry(point).or_insert_with(|| Connection {
            usage_point: point,
            import_wh: vec![f64::NAN; slots],
            export_wh: vec![f64::NAN; slots],
            voltage_pu: vec![f64::NAN; slots],
        });
        connection.import_wh[slot] = import[row];
        connection.export_wh[slot] = export[row];
        connection.voltage_pu[slot] = voltage[row] / nominal_dv;
    }
    if by_point.is_empty() {
        return Err(table.content_error("holds no readings").into());
    }
    Ok(by_point.into_values().collect())
}

/// A series with its gaps filled, and the variance of what was filled in (0 where measured).
pub struct Filled {
    /// Values without gaps.
    pub values: Vec<f64>,
    /// Variance of each value from the filling alone.
    pub variance: Vec<f64>,
}

/// Most missing slots that are bridged by a straight line.
const SHORT_GAP: usize = 2;

/// Fills gaps: up to two slots by a straight line, longer ones by the mean of the same time of other days.
pub fn fill(values: &[f64], slots_per_day: usize) -> Filled {
    let n = values.len();
    let mut filled = Filled { values: values.to_vec(), variance: vec![0.0; n] };
    let known_steps: Vec<f64> = values.windows(2).map(|w| (w[1] - w[0]).powi(2)).filter(|v| !v.is_nan()).collect();
    let step_variance = known_steps.iter().sum::<f64>() / known_steps.len().max(1) as f64;
    let mut slot = 0;
    while slot < n {
        if !values[slot].is_nan() {
            slot += 1;
            continue;
        }
        let end = (slot..n).find(|t| !values[*t].is_nan()).unwrap_or(n);
        let before = slot.checked_sub(1).map(|b| values[b]);
        let after = values.get(end).copied();
        for t in slot..end {
            let (value, variance) = match (before, after) {
                (Some(b), Some(a)) if end - slot <= SHORT_GAP => {
                    let share = (t + 1 - slot) as f64 / (end - slot + 1) as f64;
                    (b + share * (a - b), 0.5 * step_variance)
                }
                _ => {
                    // The error of a long gap (a weekend filled from weekdays) lasts through it, so all its slots
                    // together tell no more than one would.
                    let (mean, variance) = same_time(values, t, slots_per_day);
                    (mean, variance * (end - slot) as f64)
                }
            };
            filled.values[t] = value;
            filled.variance[t] = variance;
        }
        slot = end;
    }
    filled
}

/// (mean, variance) of the known values at the same time of other days, widened by a slot on either side.
fn same_time(values: &[f64], slot: usize, slots_per_day: usize) -> (f64, f64) {
    let time = slot % slots_per_day;
    let (mut n, mut sum, mut sq) = (0.0, 0.0, 0.0);
    for day in (0..values.len()).step_by(slots_per_day) {
        for near in [time.checked_sub(1), Some(time), Some(time + 1)].into_iter().flatten() {
            if let Some(v) = values.get(day + near).filter(|v| !v.is_nan()) {
                n += 1.0;
                sum += v;
                sq += v * v;
            }
        }
    }
    if n < 1.0 {
        return (0.0, 1e6);
    }
    let mean = sum / n;
    (mean, (sq / n - mean * mean).max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_gaps_by_a_line_long_ones_by_the_time_of_day() {
        let mut values: Vec<f64> = (0..96 * 4).map(|t| (t % 96) as f64).collect();
        values[10] = f64::NAN;
        values[200..220].fill(f64::NAN);
        let filled = fill(&values, 96);
        assert_eq!(filled.values[10], 10.0);
        assert!((filled.values[205] - (205 % 96) as f64).abs() < 0.5);
        assert_eq!(filled.variance[9], 0.0);
        assert!(filled.variance[205] > 0.0);
    }

    #[test]
    fn hours_are_read_as_written() {
        assert_eq!(hour_of("2016-09-03T22:30:00+01:00"), Some(22.5));
        assert_eq!(hour_of("yesterday"), None);
    }
}
