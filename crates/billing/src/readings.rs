//! Registers as they were read: rows of cumulative registers and of maximum-demand registers, with what was known when.
//!
//! A row is the state of the registers at its instant. Nothing is summed here; `usage` makes intervals of it.

use crate::{calendar::parse_instant, error::Fault, exact::Exact};

/// Most rows of one file: thirty years of quarter-hours.
pub const ROWS_MAX: usize = 1_100_000;

/// What a register counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Active energy from the grid, Wh.
    Import,
    /// Active energy to the grid, Wh.
    Export,
    /// Apparent energy from the grid, VAh.
    Apparent,
    /// Reactive energy from the grid, varh.
    Reactive,
    /// Largest active demand since the last reading, W.
    DemandActive,
    /// Largest apparent demand since the last reading, VA.
    DemandApparent,
}

impl Quantity {
    /// Whether it is a maximum, which is reset at each reading, instead of a sum.
    pub const fn is_maximum(self) -> bool {
        matches!(self, Quantity::DemandActive | Quantity::DemandApparent)
    }

    fn of_column(name: &str) -> Option<Quantity> {
        Some(match name {
            "import_wh" => Quantity::Import,
            "export_wh" => Quantity::Export,
            "import_vah" => Quantity::Apparent,
            "import_varh" => Quantity::Reactive,
            "demand_w" => Quantity::DemandActive,
            "demand_va" => Quantity::DemandApparent,
            _ => return None,
        })
    }
}

/// A column of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// What it counts.
    pub quantity: Quantity,
    /// The only period it counts in, if the meter switches.
    pub period: Option<String>,
}

/// How a value came about. Information; `E` marks the bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Read, or nothing said.
    Actual,
    /// Estimated.
    Estimated,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Instant, Unix seconds.
    pub at_s: i64,
    /// Index into [`Readings::meters`].
    pub meter: usize,
    /// By register; `None`: not read.
    pub values: Vec<Option<i64>>,
    /// How they came about.
    pub flag: Flag,
    /// When the row became known; without it, always known.
    pub received_s: Option<i64>,
}

/// What is fixed about a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// As readings name it.
    pub name: String,
    /// Current and voltage transformer ratio.
    pub multiplier: Exact,
    /// Modulus of its registers, Wh; without it a register never falls.
    pub rollover_wh: Option<i64>,
}

/// A file of readings.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// Its meters, as the case lists them.
    pub meters: Vec<Meter>,
    /// Its registers.
    pub registers: Vec<Register>,
    /// Its rows, in the order of the file.
    pub rows: Vec<Row>,
}

/// Positions of the columns in a file.
struct Columns {
    time: usize,
    meter: usize,
    flag: Option<usize>,
    received: Option<usize>,
    registers: Vec<usize>,
}

fn columns(file: &str, header: &csv::StringRecord) -> Result<(Columns, Vec<Register>), Fault> {
    let at = |name: &str| header.iter().position(|column| column == name);
    let needed = |name: &str| {
        at(name).ok_or_else(|| Fault::new(file, "row 1", format!("there is no column `{name}`; add it to the header")))
    };
    let mut found = Columns {
        time: needed("time")?,
        meter: needed("meter")?,
        flag: at("flag"),
        received: at("received"),
        registers: Vec::new(),
    };
    let mut registers = Vec::new();
    for (index, column) in header.iter().enumerate() {
        if ["time", "meter", "flag", "received"].contains(&column) {
            continue;
        }
        let (name, period) = column.split_once('@').map_or((column, None), |(name, period)| (name, Some(period)));
        let quantity = Quantity::of_column(name).filter(|_| period != Some("")).ok_or_else(|| {
            let known = "import_wh, export_wh, import_vah, import_varh, demand_w and demand_va, each also with @period";
            Fault::new(file, "row 1", format!("the column `{column}` is not known; registers are {known}"))
        })?;
        let register = Register { quantity, period: period.map(str::to_owned) };
        if registers.contains(&register) {
            return Err(Fault::new(file, "row 1", format!("the column `{column}` stands twice; remove one")));
        }
        found.registers.push(index);
        registers.push(register);
    }
    if registers.is_empty() {
        return Err(Fault::new(file, "row 1", "there is no register; add a column as import_wh"));
    }
    Ok((found, registers))
}

impl Readings {
    /// Parses a file of readings.
    pub fn read(file: &str, bytes: &[u8], meters: Vec<Meter>) -> Result<Readings, Fault> {
        let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
        let broken = |why: csv::Error| {
            let row = why.position().map_or(1, csv::Position::line);
            Fault::new(file, format!("row {row}"), format!("cannot be read as comma-separated values: {why}"))
        };
        let header = reader.headers().map_err(broken)?.clone();
        let (columns, registers) = columns(file, &header)?;
        let mut rows = Vec::new();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(broken)? {
            if rows.len() == ROWS_MAX {
                return Err(Fault::new(file, "", format!("more than {ROWS_MAX} rows; divide the file by time")));
            }
            let row = parse_row(&columns, &record, &meters).map_err(|message| {
                let line = record.position().map_or(0, csv::Position::line);
                Fault::new(file, format!("row {line}"), message)
            })?;
            rows.push(row);
        }
        Ok(Readings { meters, registers, rows })
    }
}

fn parse_row(columns: &Columns, record: &csv::StringRecord, meters: &[Meter]) -> Result<Row, String> {
    let text = |index: usize| record.get(index).unwrap_or_default();
    let instant = |what: &str, text: &str| {
        parse_instant(text).ok_or_else(|| format!("{what} \"{text}\" is no instant; write it as 2024-01-31T18:30Z"))
    };
    let name = text(columns.meter);
    let meter = meters
        .iter()
        .position(|meter| meter.name == name)
        .ok_or_else(|| format!("the meter \"{name}\" is not listed; add it to `meters` of the case"))?;
    let mut values = Vec::with_capacity(columns.registers.len());
    for index in &columns.registers {
        let text = text(*index);
        values.push(match text {
            "" => None,
            text => {
                let value = text.parse::<i64>().ok().filter(|value| *value >= 0);
                let problem = || format!("\"{text}\" is no register; registers are whole numbers of zero or more");
                Some(value.ok_or_else(problem)?)
            }
        });
    }
    let flag = match columns.flag.map(text).unwrap_or_default() {
        "" | "A" | "C" | "R" | "I" => Flag::Actual,
        "E" => Flag::Estimated,
        other => return Err(format!("the flag \"{other}\" is not known; write A, E, C, R, I or nothing")),
    };
    let received = columns.received.map(text).filter(|text| !text.is_empty());
    Ok(Row {
        at_s: instant("time", text(columns.time))?,
        meter,
        values,
        flag,
        received_s: received.map(|text| instant("received", text)).transpose()?,
    })
}

/// A register of one meter through time.
#[derive(Clone, Debug)]
pub struct Track {
    /// Index of the meter.
    pub meter: usize,
    /// Index of the register.
    pub register: usize,
    /// Its values, by time, one for each instant.
    pub points: Vec<Point>,
}

/// A value of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Instant, Unix seconds.
    pub at_s: i64,
    /// Value.
    pub value: i64,
    /// How it came about.
    pub flag: Flag,
    /// Row of the file, from 0 below the header.
    pub row: usize,
}

impl Readings {
    /// The registers as they were known at a moment (`None`: as known now). Of several rows for one meter and instant the one
    /// received last counts, of those the later in the file.
    pub fn known_at(&self, moment_s: Option<i64>) -> Vec<Track> {
        let known = |row: &Row| match (row.received_s, moment_s) {
            (Some(received), Some(moment)) => received <= moment,
            _ => true,
        };
        let mut order: Vec<usize> = (0..self.rows.len()).filter(|index| known(&self.rows[*index])).collect();
        order.sort_by_key(|index| {
            let row = &self.rows[*index];
            (row.meter, row.at_s, row.received_s.unwrap_or(i64::MIN), *index)
        });
        let mut tracks = Vec::new();
        for register in 0..self.registers.len() {
            let mut track: Option<Track> = None;
            for index in &order {
                let row = &self.rows[*index];
                let Some(value) = row.values[register] else { continue };
                let point = Point { at_s: row.at_s, value, flag: row.flag, row: *index };
                match &mut track {
                    Some(track) if track.meter == row.meter => match track.points.last_mut() {
                        Some(last) if last.at_s == point.at_s => *last = point,
                        _ => track.points.push(point),
                    },
                    _ => {
                        tracks.extend(track.take());
                        track = Some(Track { meter: row.meter, register, points: vec![point] });
                    }
                }
            }
            tracks.extend(track);
        }
        tracks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(name: &str) -> Meter {
        Meter { name: name.into(), multiplier: Exact::ONE, rollover_wh: None }
    }

    #[test]
    fn what_was_known_when() {
        let text = "time,meter,import_wh,flag,received\n\
                    2024-01-31T18:30Z,E1,1260000,E,2024-02-01T04:00Z\n\
                    2024-01-31T18:30Z,E1,1240000,C,2024-02-20T09:00Z\n\
                    2023-12-31T18:30Z,E1,1000000,A,\n";
        let readings = Readings::read("r.csv", text.as_bytes(), vec![meter("E1")]).unwrap();
        let values = |moment: Option<&str>| -> Vec<i64> {
            let tracks = readings.known_at(moment.and_then(parse_instant));
            tracks[0].points.iter().map(|point| point.value).collect()
        };
        assert_eq!(values(Some("2024-02-02T06:00Z")), [1_000_000, 1_260_000]);
        assert_eq!(values(Some("2024-03-02T06:00Z")), [1_000_000, 1_240_000]);
        assert_eq!(values(None), [1_000_000, 1_240_000]);
        assert_eq!(values(Some("2023-01-01T00:00Z")), [1_000_000]);
    }

    #[test]
    fn bad_rows_are_told_with_their_line_and_a_remedy() {
        let head = "time,meter,import_wh\n2024-01-01T00:00Z,A,1\n";
        let cases = [
            ("time,meter\n", "row 1", "import_wh"),
            ("time,meter,import_kwh\n", "row 1", "import_kwh"),
            ("meter,import_wh\n", "row 1", "`time`"),
            ("time,meter,import_wh,import_wh\n", "row 1", "twice"),
            (&format!("{head}2024-01-01T00:00Z,B,1\n"), "row 3", "not listed"),
            (&format!("{head}2024-01-01T00:00Z,A,1.5\n"), "row 3", "whole numbers"),
            (&format!("{head}2024-01-01T00:00Z,A,-1\n"), "row 3", "whole numbers"),
            (&format!("{head}yesterday,A,1\n"), "row 3", "no instant"),
            (&format!("{head}2024-01-01T00:00Z,A\n"), "row 3", "comma-separated"),
        ];
        for (text, place, words) in cases {
            let fault = Readings::read("r.csv", text.as_bytes(), vec![meter("A")]).unwrap_err();
            assert_eq!(fault.place, place, "{fault}");
            assert!(fault.message.contains(words), "{fault}");
        }
    }
}
