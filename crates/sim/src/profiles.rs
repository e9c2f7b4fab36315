//! Measured load profiles from a file, in place of the generator: Parquet or CSV, one row per quarter-hour.
//!
//! Columns: `time` as text, `DD.MM.YYYY HH:MM`, `YYYY-MM-DD HH:MM[:SS]` or RFC 3339 (with `Z` or an offset), every row a
//! quarter-hour after the one before, and one numeric column per profile, in any
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
/// Fewest whole weeks: homes are shifted by weeks against each other.
const WEEKS_MIN: i64 = 4;
/// What a clock change moves local times by.
const CLOCK_CHANGE_SECONDS: i64 = 3_600;
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

/// Line (or row), text and time.
type TimeOfRow<'a> = (usize, &'a str, Timestamp);

struct Table {
    names: Vec<String>,
    times: Vec<String>,
    columns: Vec<Vec<f64>>,
    /// Lines before the first row: the header of a CSV file; none where rows are counted, as in Parquet.
    lines_before: usize,
}

impl Table {
    /// The first time, when every row follows the one before by a quarter of an hour. Local times that skip an hour and later
    /// repeat one (or the other way round) do so too; a skipped hour alone is one that is missing.
    fn check_times(&self) -> Result<Timestamp, String> {
        let word = if self.lines_before == 0 { "row" } else { "line" };
        let times = self.times.iter().enumerate().map(|(row, text)| {
            let line = row + 1 + self.lines_before;
            parse_time(text).map(|time| (line, text.as_str(), time)).ok_or_else(|| {
                format!("{word} {line}: {text:?} in column `time` is not a time; write it as 2016-01-31 00:15")
            })
        });
        let times = times.collect::<Result<Vec<_>, _>>()?;
        let first = times.first().ok_or("it has no rows")?;
        let refused = |pair: &[TimeOfRow], hint: &str| {
            let [(_, before, _), (line, after, _)] = pair else { return String::new() };
            format!("{word} {line}: rows must be 15 minutes apart, but {after:?} follows {before:?}{hint}")
        };
        // A change of the local clock that waits for the one that takes it back.
        let mut open: Option<(i64, &[TimeOfRow])> = None;
        for pair in times.windows(2) {
            let off = pair[1].2.seconds_since(pair[0].2) - SLOT_SECONDS;
            match open {
                _ if off == 0 => {}
                _ if off.abs() != CLOCK_CHANGE_SECONDS => return Err(refused(pair, "")),
                None => open = Some((off, pair)),
                Some((change, _)) if change == -off => open = None,
                Some(_) => return Err(refused(pair, "")),
            }
        }
        match open {
            Some((_, pair)) => {
                let hint = ", and no later change of the clock takes that back: is an hour missing? Local times are read when \
                            they hold both changes, others need UTC or their offset";
                Err(refused(pair, hint))
            }
            None => Ok(first.2),
        }
    }

    fn into_profiles(self) -> Result<Profiles, String> {
        let first = self.check_times()?;
        let households = |name: &str| name.starts_with("H0-") && name.ends_with("_pload");
        let only_households = self.names.iter().any(|n| households(n));
        let weeks = i64::try_from(self.times.len()).unwrap_or(0) / SLOTS_PER_WEEK;
        if weeks < WEEKS_MIN {
            return Err(format!(
                "it holds {} rows, that is {} days; at least {} days of quarter-hours are needed",
                self.times.len(),
                self.times.len() / 96,
                WEEKS_MIN * 7
            ));
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
    let mut table = Table { columns: vec![Vec::new(); names.len()], names, times: Vec::new(), lines_before: 0 };
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
    let mut table = Table { columns: vec![Vec::new(); names.len()], names, times: Vec::new(), lines_before: 1 };
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
    let text = text.trim();
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let (date, clock) = text.split_once([' ', 'T', 't'])?;
    let (clock, offset_s) = split_offset(clock)?;
    let numbers = |part: &str, mark: char| part.split(mark).map(whole).collect::<Option<Vec<_>>>();
    // Fractions of a second must be zero: the values are of quarter-hours.
    let clock = match clock.split_once('.') {
        Some((clock, fraction)) if !fraction.is_empty() && fraction.bytes().all(|b| b == b'0') => clock,
        Some(_) => return None,
        None => clock,
    };
    let time = match numbers(clock, ':')?[..] {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let civil = match (numbers(date, '.').as_deref(), numbers(date, '-').as_deref()) {
        (Some(&[day, month, year]), _) => (year, month, day),
        (_, Some(&[year, month, day])) => (year, month, day),
        _ => return None,
    };
    Some(Timestamp::from_civil(civil, time)?.plus(-offset_s))
}

/// A whole number without a sign.
fn whole(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Takes `Z` or an offset as `+02:00` or `-0530` from the end of a time of day; without one the time is taken as it stands.
fn split_offset(clock: &str) -> Option<(&str, i64)> {
    if let Some(clock) = clock.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = clock.find(['+', '-']) else { return Some((clock, 0)) };
    let (clock, offset) = clock.split_at(at);
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let digits: String = offset[1..].chars().filter(|c| *c != ':').collect();
    if digits.len() != 4 {
        return None;
    }
    let (hours, minutes) = (whole(&digits[..2])?, whole(&digits[2..])?);
    (hours <= 14 && minutes < 60).then_some((clock.trim_end(), sign * (hours * 3_600 + minutes * 60)))
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
        for text in ["2016-01-31T02:15:00+02:00", "2016-01-30T18:45:00-05:30", "2016-01-31 05:45+0530"] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
        for text in
            ["yesterday", "2016-01-31T00:15:00+2", "2016-01-31T00:15:00.5Z", "2016-01-31 00", "2016-01-31 +1:15"]
        {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn every_step_is_looked_at_and_the_line_named() {
        let start = Timestamp::from_civil((2016, 3, 7), (0, 0, 0)).expect("valid");
        let dir = tempfile::tempdir().expect("temporary directory");
        let read = |steps: &dyn Fn(i64) -> i64| {
            let rows: String = (0..WEEKS_MIN * SLOTS_PER_WEEK + 8)
                .map(|slot| format!("{},0.2\n", start.plus(steps(slot) * SLOT_SECONDS)))
                .collect();
            let path = dir.path().join("profiles.csv");
            std::fs::write(&path, format!("time,H0-A_pload\n{rows}")).expect("written");
            Profiles::read(&path).map(|profiles| profiles.count()).map_err(|e| e.to_string())
        };
        assert_eq!(read(&|slot| slot), Ok(1));
        let missing = read(&|slot| if slot < 1_000 { slot } else { slot + 4 }).expect_err("an hour is missing");
        assert!(missing.contains("line 1002") && missing.contains("is an hour missing?"), "{missing}");
        assert!(missing.contains("2016-03-17T11:00:00Z") && missing.contains("2016-03-17T09:45:00Z"), "{missing}");
        let hourly = read(&|slot| if slot < 2 { slot } else { 4 * slot }).expect_err("hourly from the third row on");
        assert!(hourly.contains("line 4"), "{hourly}");
        assert!(read(&|slot| -slot).expect_err("descending").contains("line 3"));
        // Local time of a year whose clock was set forward and back again, as SimBench has it.
        let local = |slot: i64| if (500..1_500).contains(&slot) { slot + 4 } else { slot };
        assert_eq!(read(&local), Ok(1));
        let twice = read(&|slot| {
            if slot < 500 {
                slot
            } else if slot < 900 {
                slot + 4
            } else {
                slot + 8
            }
        });
        assert!(twice.expect_err("two hours are missing").contains("line 902"));
        assert!(read(&|slot| slot.max(1) - 1).expect_err("the same time twice").contains("line 3"));
    }

    #[test]
    fn a_csv_of_some_weeks_serves_homes_scaled_to_their_annual_use() {
        let start = Timestamp::from_civil((2016, 1, 4), (0, 0, 0)).expect("valid");
        let mut text = String::from("time,H0-A_pload,G1-A_pload\n");
        for slot in 0..WEEKS_MIN * SLOTS_PER_WEEK {
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
