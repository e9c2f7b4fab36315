//! Limit tables of the standards, read from dated data files: EN 50160, IEEE 519, IEEE 1159 and the ITIC curve.
//!
//! Each file says its edition, its date and whether it has been checked against the standard's text. A new edition is
//! a new file, not new code.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What must be said of a table that was not compared with its standard; empty when it was.
pub fn caveat(checked_against_standard: bool) -> &'static str {
    if checked_against_standard { "" } else { ", not compared with the standard's text" }
}

/// Voltage characteristics of public low-voltage networks.
#[derive(Clone, Debug, Deserialize)]
pub struct En50160 {
    /// Name of the standard.
    pub name: String,
    /// Edition of the standard.
    pub edition: String,
    /// Date of the table.
    pub dated: String,
    /// Whether the table was compared with the standard's text.
    pub checked_against_standard: bool,
    /// Admissible deviation of the voltage for most of the week, percent.
    pub voltage_pct: f64,
    /// Share of the week for which that holds.
    pub voltage_share: f64,
    /// Lower bound that always holds, percent.
    pub voltage_always_low_pct: f64,
    /// Upper bound that always holds, percent.
    pub voltage_always_high_pct: f64,
    /// Admissible deviation of the frequency, percent.
    pub frequency_pct: f64,
    /// Share of the time for which that holds.
    pub frequency_share: f64,
    /// Long-term flicker severity.
    pub plt: f64,
    /// Share of the week for which it holds.
    pub plt_share: f64,
    /// Unbalance, percent.
    pub unbalance_pct: f64,
    /// Total harmonic distortion to order 40, percent.
    pub thd_pct: f64,
    /// Share of the week for harmonics and distortion.
    pub harmonic_share: f64,
    harmonics_pct: BTreeMap<usize, f64>,
}

impl En50160 {
    /// Name, edition and date of the table, for reports, and that nobody has compared it with the standard, where that is so.
    pub fn provenance(&self) -> String {
        let caveat = caveat(self.checked_against_standard);
        format!("{}, {} (table of {}){caveat}", self.name, self.edition, self.dated)
    }

    /// Limit of a harmonic order in percent of the fundamental; nothing where the standard has none.
    pub fn harmonic_pct(&self, order: usize) -> Option<f64> {
        self.harmonics_pct.get(&order).copied()
    }
}

/// Voltage row of IEEE 519.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct VoltageRow {
    /// Highest bus voltage of the row, kilovolts.
    pub to_kv: f64,
    /// Each harmonic, percent.
    pub each_pct: f64,
    /// Total distortion, percent.
    pub thd_pct: f64,
}

/// Current row of IEEE 519.
#[derive(Clone, Debug, Deserialize)]
pub struct CurrentRow {
    /// The row holds below this ratio of short-circuit to load current.
    pub below_ratio: f64,
    bands_pct: Vec<f64>,
    /// Total demand distortion, percent.
    pub tdd_pct: f64,
}

/// Harmonic limits of IEEE 519.
#[derive(Clone, Debug, Deserialize)]
pub struct Ieee519 {
    /// Whether the tables were compared with the standard's text.
    pub checked_against_standard: bool,
    voltage: Vec<VoltageRow>,
    current: Vec<CurrentRow>,
    band_starts: Vec<usize>,
}

impl Ieee519 {
    /// Voltage limits at a bus of `kv` kilovolts.
    pub fn voltage_row(&self, kv: f64) -> Option<VoltageRow> {
        self.voltage.iter().copied().find(|row| kv <= row.to_kv)
    }

    /// Current limits for a ratio of short-circuit current to load current.
    pub fn current_row(&self, ratio: f64) -> Option<&CurrentRow> {
        self.current.iter().find(|row| ratio < row.below_ratio)
    }

    /// Limit of one current harmonic in percent of the load current I_L (never of the fundamental). Even orders have
    /// the limit of their band.
    pub fn current_pct(&self, row: &CurrentRow, order: usize) -> Option<f64> {
        let band = self.band_starts.iter().rposition(|&start| order >= start)?;
        row.bands_pct.get(band).copied()
    }
}

/// A step of the ITIC curve.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct IticStep {
    /// Holds up to this duration, seconds.
    pub to_s: f64,
    /// Voltage, percent.
    pub pct: f64,
}

/// ITIC curve.
#[derive(Clone, Debug, Deserialize)]
pub struct Itic {
    /// Upper envelope.
    pub upper: Vec<IticStep>,
    /// Lower envelope.
    pub lower: Vec<IticStep>,
}

/// Categories of IEEE 1159.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Ieee1159 {
    /// Below this the event is an interruption, percent.
    pub interruption_below_pct: f64,
    /// Below this it is a sag, percent.
    pub sag_below_pct: f64,
    /// Above this it is a swell, percent.
    pub swell_above_pct: f64,
    /// Instantaneous up to this many cycles.
    pub instantaneous_to_cycles: f64,
    /// Momentary up to this, seconds.
    pub momentary_to_s: f64,
    /// Temporary up to this, seconds.
    pub temporary_to_s: f64,
}

/// Cells of the EN 50160 dip table.
#[derive(Clone, Debug, Deserialize)]
pub struct DipTable {
    /// Lower bound of the residual voltage of each row, percent.
    pub residual_from_pct: Vec<f64>,
    /// Upper bound of the duration of each column, seconds.
    pub duration_to_s: Vec<f64>,
    /// An interruption up to this is short, seconds.
    pub short_interruption_to_s: f64,
}

/// Limits and categories of events.
#[derive(Clone, Debug, Deserialize)]
pub struct EventLimits {
    /// Whether the tables were compared with the standards' texts.
    pub checked_against_standard: bool,
    /// ITIC curve.
    pub itic: Itic,
    /// IEEE 1159 categories.
    pub ieee1159: Ieee1159,
    /// EN 50160 dip table.
    pub en50160_dips: DipTable,
}

/// The file is part of the program; a test parses each one.
fn parse<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("built-in limit table: {e}"))
}

/// The EN 50160 table.
pub fn en50160() -> En50160 {
    parse(include_str!("../../data/en50160.json"))
}

/// The IEEE 519 tables.
pub fn ieee519() -> Ieee519 {
    parse(include_str!("../../data/ieee519.json"))
}

/// ITIC, IEEE 1159 and the EN 50160 dip table.
pub fn events() -> EventLimits {
    parse(include_str!("../../data/events.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_tables_parse_and_answer() {
        assert_eq!(en50160().harmonic_pct(5), Some(6.0));
        assert_eq!(en50160().harmonic_pct(49), None);
        let table = ieee519();
        let row = table.current_row(30.0).unwrap_or_else(|| panic!("row"));
        assert_eq!((table.current_pct(row, 5), table.current_pct(row, 49)), (Some(7.0), Some(0.5)));
        assert_eq!(table.voltage_row(0.4).map(|r| r.thd_pct), Some(8.0));
        assert_eq!(events().itic.lower.len(), 4);
    }
}
