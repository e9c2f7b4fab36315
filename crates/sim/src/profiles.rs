//! Measured load profiles from a file, in place of the generator: Parquet or CSV, one row per quarter-hour.
//!
//! Columns: `time` as text, `DD.MM.YYYY HH:MM`, `YYYY-MM-DD HH:MM[:SS]` or RFC 3339, and one numeric column per profile, in any
//! unit, since only the shape is used (SimBench: per unit of the peak). Where columns named `H0-…_pload` exist (the household
//! profiles of SimBench), only those are used; otherwise every numeric column is. Missing values are taken from the slot before.
//!
//! Each home draws a profile, a shift by whole weeks and by at most two slots, and an annual use; the profile is scaled so that
//! a year of it is that use.

use std::{fs::File, path::Path, sync::Arc};

use metering::Timestamp;
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};

use crate::{error::SimError, random::Random};

const SLOT_SECONDS: i64 = 900;
const SLOTS_PER_WEEK: i64 = 672;
/// Most rows read: ten years of quarter-hours.
const ROWS_MAX: usize = 400_000;
/// Most profiles kept.
const PROFILES_MAX: usize = 2_000;

/// Profiles of equal length, shared by the homes.
#[derive(Clone, Debug)]
pub struct Profiles {
    /// Time of the first value (the begin of its slot), civil time taken as UTC.
    first: Timestamp,
    /// Whole weeks in the profiles.
    weeks: i64,
    shapes: Arc<Vec<Vec<f32>>>,
}

/// How one home reads its profile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProfileView {
    shape: usize,
    shift_slots: i64,
    watts_per_unit: f64,
}

impl Profiles {
    /// Reads a Parquet (`.parquet`) or CSV file.
    pub fn read(path: &Path) -> Result<Self, SimError> {
        let parquet = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet"));
        let table = if parquet { read_parquet(path) } else { read_csv(path) };
        table.and_then(Table::into_profiles).map_err(|reason| SimError::Profiles { path: path.into(), reason })
    }

    /// Number of profiles.
    pub fn count(&self) -> usize {
        self.shapes.len()
    }

    /// Draws a home's profile, scaled to an annual use in watt-hours.
    pub(crate) fn draw(&self, random: &mut Random, annual_wh: f64) -> ProfileView {
        let count = u64::try_from(self.shapes.len()).unwrap_or(1);
        let shape = usize::try_from(random.below(count)).unwrap_or(0);
        let weeks = i64::try_from(random.below(13)).unwrap_or(0) - 6;
        let slots = i64::try_from(random.below(5)).unwrap_or(0) - 2;
        let values = &self.shapes[shape];
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        ProfileView {
            shape,
            shift_slots: weeks * SLOTS_PER_WEEK + slots,
            watts_per_unit: annual_wh / (365.0 * 24.0) / mean.max(f64::MIN_POSITIVE),
        }
    }

    /// Mean power of the slot that holds `at`, watts. Weekdays and, as far as whole weeks allow, the season are kept.
    pub(crate) fn watts(&self, view: &ProfileView, at: Timestamp) -> f64 {
        let slot = at.seconds_since(self.first).div_euclid(SLOT_SECONDS) + view.shift_slots;
        let index = slot.rem_euclid(self.weeks * SLOTS_PER_WEEK);
        let values = &self.shapes[view.shape];
        let value = usize::try_from(index).ok().and_then(|i| values.get(i)).copied().unwrap_or(0.0);
        f64::from(value) * view.watts_per_unit
    }
}

struct Table {
    names: Vec<String>,
    times: Vec<String>,
    columns: Vec<Vec<f64>>,
}

impl Table {
    fn into_profiles(self) -> Result<Profiles, String> {
        let first = self.times.first().ok_or("it has no rows")?;
        let first = parse_time(first).ok_or_else(|| format!("{first:?} in column `time` is not a time"))?;
        if let Some(second) = self.times.get(1) {
            let step = parse_time(second).map(|t| t.seconds_since(first));
            if step != Some(SLOT_SECONDS) {
                return Err(format!("rows must be 15 minutes apart; {second:?} follows {:?}", self.times[0]));
            }
        }
        let households = |name: &str| name.starts_with("H0-") && name.ends_with("_pload");
        let only_households = self.names.iter().any(|n| households(n));
        let weeks = i64::try_from(self.times.len()).unwrap_or(0) / SLOTS_PER_WEEK;
        if weeks == 0 {
            return Err("it holds less than a week".into());
        }
        let keep = usize::try_from(weeks * SLOTS_PER_WEEK).unwrap_or(0);
        let mut shapes = Vec::new();
        for (name, column) in self.names.iter().zip(self.columns) {
            let usable = column.len() >= keep && column.iter().any(|v| v.is_finite());
            if shapes.len() < PROFILES_MAX && usable && (!only_households || households(name)) {
                shapes.push(without_gaps(&column[..keep]));
            }
        }
        shapes.retain(|s: &Vec<f32>| s.iter().any(|&v| v > 0.0));
        if shapes.is_empty() {
            return Err("no column holds a load: expected numbers in H0-*_pload or other columns".into());
        }
        Ok(Profiles { first, weeks, shapes: Arc::new(shapes) })
    }
}

fn without_gaps(column: &[f64]) -> Vec<f32> {
    let mut last = column.iter().copied().find(|v| v.is_finite()).unwrap_or(0.0);
    column
        .iter()
        .map(|&v| {
            if v.is_finite() {
                last = v.max(0.0);
            }
            // shapes need no more than single precision
            last as f32
        })
        .collect()
}

fn read_parquet(path: &Path) -> Result<Table, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let reader = SerializedFileReader::new(file).map_err(|e| e.to_string())?;
    let schema = reader.metadata().file_metadata().schema();
    let all: Vec<String> = schema.get_fields().iter().map(|f| f.name().to_owned()).collect();
    let time_at = all.iter().position(|n| n == "time").ok_or("it has no column `time`")?;
    let names: Vec<String> = all.iter().filter(|n| *n != "time").cloned().collect();
    let mut table = Table { columns: vec![Vec::new(); names.len()], names, times: Vec::new() };
    for row in reader.get_row_iter(None).map_err(|e| e.to_string())?.take(ROWS_MAX) {
        let row = row.map_err(|e| e.to_string())?;
        let mut column = 0;
        for (i, (_, field)) in row.get_column_iter().enumerate() {
            if i == time_at {
                table.times.push(match field {
                    Field::Str(text) => text.clone(),
                    other => other.to_string(),
                });
            } else {
                table.columns[column].push(number(field));
                column += 1;
            }
        }
    }
    Ok(table)
}

fn number(field: &Field) -> f64 {
    match *field {
        Field::Double(v) => v,
        Field::Float(v) => f64::from(v),
        Field::Int(v) => f64::from(v),
        Field::Short(v) => f64::from(v),
        Field::UInt(v) => f64::from(v),
        Field::Long(v) => v as f64,
        _ => f64::NAN,
    }
}

fn read_csv(path: &Path) -> Result<Table, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(|e| e.to_string())?;
    let all: Vec<String> = reader.headers().map_err(|e| e.to_string())?.iter().map(str::to_owned).collect();
    let time_at = all.iter().position(|n| n == "time").ok_or("it has no column `time`")?;
    let names: Vec<String> = all.iter().filter(|n| *n != "time").cloned().collect();
    let mut table = Table { columns: vec![Vec::new(); names.len()], names, times: Vec::new() };
    for row in reader.records().take(ROWS_MAX) {
        let row = row.map_err(|e| e.to_string())?;
        let mut column = 0;
        for (i, field) in row.iter().enumerate() {
            if i == time_at {
                table.times.push(field.to_owned());
            } else {
                table.columns[column].push(field.parse().unwrap_or(f64::NAN));
                column += 1;
            }
        }
    }
    Ok(table)
}

fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let (date, clock) = text.split_once([' ', 'T'])?;
    let numbers = |part: &str, mark: char| part.split(mark).map(|n| n.parse::<i64>().ok()).collect::<Option<Vec<_>>>();
    let clock = numbers(clock.trim_end_matches('Z'), ':')?;
    let time = (*clock.first()?, *clock.get(1)?, clock.get(2).copied().unwrap_or(0));
    match (numbers(date, '.').as_deref(), numbers(date, '-').as_deref()) {
        (Some(&[day, month, year]), _) => Timestamp::from_civil((year, month, day), time),
        (_, Some(&[year, month, day])) => Timestamp::from_civil((year, month, day), time),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_three_forms_are_read() {
        let expected = Timestamp::from_civil((2016, 1, 31), (0, 15, 0));
        assert_eq!(parse_time("31.01.2016 00:15"), expected);
        assert_eq!(parse_time("2016-01-31 00:15"), expected);
        assert_eq!(parse_time("2016-01-31T00:15:00Z"), expected);
        assert_eq!(parse_time("yesterday"), None);
    }

    #[test]
    fn a_csv_of_a_week_serves_homes_scaled_to_their_annual_use() {
        let start = Timestamp::from_civil((2016, 1, 4), (0, 0, 0)).expect("valid");
        let mut text = String::from("time,H0-A_pload,G1-A_pload\n");
        for slot in 0..SLOTS_PER_WEEK {
            let load = if slot % 96 < 48 { 0.1 } else { 0.3 };
            text.push_str(&format!("{},{load},9\n", start.plus(slot * SLOT_SECONDS)));
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("week.csv");
        std::fs::write(&path, text).expect("written");
        let profiles = Profiles::read(&path).expect("readable");
        assert_eq!(profiles.count(), 1, "only the household column counts");
        let view = profiles.draw(&mut Random::of(1, crate::random::Stream::Homes, 0, 0), 8_760_000.0);
        let mean = (0..SLOTS_PER_WEEK).map(|s| profiles.watts(&view, start.plus(s * SLOT_SECONDS))).sum::<f64>();
        assert!((mean / SLOTS_PER_WEEK as f64 - 1_000.0).abs() < 1e-3);
    }

    #[test]
    fn a_file_without_time_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("bad.csv");
        std::fs::write(&path, "a,b\n1,2\n").expect("written");
        let text = Profiles::read(&path).expect_err("refused").to_string();
        assert!(text.contains("no column `time`"), "{text}");
    }
}
