//! Files with columns that utilities let their customers download: one description file a portal.
//!
//! A description says which columns there are, what a time means (begin or end), in which order its digits come, and what the
//! number is: energy of the interval, mean power over it, or a register.

use std::sync::Arc;

use metering::Timestamp;
use serde::Deserialize;

use super::clock::{civil, iso};
use crate::{
    Decimal, Fault, Quality, Reading, Zone,
    models::{Kind, Model, Models},
    zone::Season,
};

/// What the columns of a file are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Between fields.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Column with date and time, or the date alone.
    pub time: String,
    /// Column with the time of day.
    #[serde(default)]
    pub clock: Option<String>,
    /// Order of a date's parts: YMD, DMY, MDY, or `iso`.
    #[serde(default = "iso_order")]
    pub order: String,
    /// The time is the begin of the interval.
    #[serde(default)]
    pub is_begin: bool,
    /// The time column counts intervals of the day from 1.
    #[serde(default)]
    pub counts_hours: bool,
    /// Length of the interval in minutes; 0 for registers.
    #[serde(default)]
    pub minutes: u32,
    /// Columns with values.
    pub value: Vec<Column>,
    /// Column with the meter.
    #[serde(default)]
    pub meter: Option<String>,
    /// Line before the header that begins with this and then names the meter.
    #[serde(default)]
    pub meter_line: Option<String>,
    /// Column of a table of one row that stands before this one and names the meter.
    #[serde(default)]
    pub meter_above: Option<String>,
    /// Column of that table with the length of the interval in minutes.
    #[serde(default)]
    pub minutes_above: Option<String>,
    /// Column that says how a value came about.
    #[serde(default)]
    pub quality: Option<String>,
    /// Words of that column that mean an estimate.
    #[serde(default)]
    pub estimated: Vec<String>,
}

/// A column with values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its head.
    pub column: String,
    /// The quantity.
    pub quantity: String,
    /// The unit.
    pub unit: String,
    /// The number is the mean power in that unit × 1/h over the interval: the energy is its share of an hour.
    #[serde(default)]
    pub is_mean_power: bool,
    /// Only rows where another column says so: [column, text].
    #[serde(default)]
    pub only: Option<[String; 2]>,
}

fn comma() -> char {
    ','
}

fn iso_order() -> String {
    "iso".into()
}

/// Decodes a file by the description whose columns it has.
pub fn decode(text: &str, models: &Models, zone: Option<Zone>) -> Result<Vec<Reading>, Fault> {
    let text = text.trim_start_matches('\u{FEFF}');
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate().take(40) {
        let fits = models.of(Kind::Csv).find_map(|model| {
            let columns = model.columns.as_ref()?;
            let head = split(line, columns.delimiter);
            let has = |name: &str| head.iter().any(|head| head == name);
            let all = has(&columns.time) && columns.value.iter().any(|value| has(&value.column));
            (all && model.matches.keys.iter().all(|key| has(key))).then_some((model, columns, head))
        });
        if let Some((model, columns, head)) = fits {
            return rows(&lines[..at], &lines[at + 1..], &Table { model, columns, head, zone });
        }
    }
    let seen = lines.iter().find(|line| !line.trim().is_empty()).copied().unwrap_or_default();
    Err(Fault::ModelUnknown(format!("columns {:?}", seen.chars().take(200).collect::<String>())))
}

struct Table<'a> {
    model: &'a Model,
    columns: &'a Columns,
    head: Vec<String>,
    zone: Option<Zone>,
}

fn split(line: &str, delimiter: char) -> Vec<String> {
    let byte = u8::try_from(delimiter).unwrap_or(b',');
    let mut reader =
        csv::ReaderBuilder::new().delimiter(byte).has_headers(false).flexible(true).from_reader(line.as_bytes());
    let row = reader.records().next().and_then(Result::ok).unwrap_or_default();
    // `="5414…"` keeps a spreadsheet from reading a number.
    let plain = |field: &str| {
        field.trim().trim_start_matches("=\"").trim_matches('"').trim_start_matches('\'').trim().to_string()
    };
    row.iter().map(plain).collect()
}

fn rows(before: &[&str], lines: &[&str], table: &Table<'_>) -> Result<Vec<Reading>, Fault> {
    let columns = table.columns;
    let of_line = columns.meter_line.as_ref().and_then(|begin| {
        let found = before.iter().map(|line| split(line, columns.delimiter)).find(|row| row.first() == Some(begin))?;
        found.get(1).cloned()
    });
    let above = |name: &String| {
        let mut tables = before.iter().map(|line| split(line, columns.delimiter));
        let at = tables.by_ref().find_map(|head| head.iter().position(|head| head == name))?;
        tables.next()?.get(at).cloned()
    };
    let of_line = of_line.or_else(|| columns.meter_above.as_ref().and_then(above));
    let minutes = columns.minutes_above.as_ref().and_then(above).and_then(|text| minutes_of(&text));
    let minutes = minutes.unwrap_or(columns.minutes);
    let mut out = Vec::new();
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        let row = split(line, columns.delimiter);
        let get =
            |name: &str| table.head.iter().position(|head| head == name).and_then(|at| row.get(at)).map(String::as_str);
        let bad = |why: &str| Fault::structure(format!("{why} in {:?}", line.chars().take(120).collect::<String>()));
        let meter: Option<Arc<str>> = columns.meter.as_deref().and_then(get).or(of_line.as_deref()).map(Into::into);
        let time = table.time(&get).ok_or_else(|| bad("no time that can be"))?;
        for column in &columns.value {
            let wanted = column.only.as_ref().is_none_or(|[name, text]| get(name) == Some(text));
            let Some(text) = get(&column.column).filter(|text| wanted && !text.is_empty()) else { continue };
            let value = Decimal::parse(text).ok_or_else(|| bad("no number"))?;
            let value = if column.is_mean_power { share_of_hour(value, minutes) } else { Some(value) };
            let value = value.ok_or_else(|| bad("a number that is too long"))?;
            let mut reading = Reading::new(column.quantity.clone(), value, column.unit.clone()).of(meter.clone());
            reading.time = Some(time);
            reading.interval_s = Some(minutes * 60).filter(|seconds| *seconds > 0);
            let said = columns.quality.as_deref().and_then(get).unwrap_or_default();
            let estimated = columns.estimated.iter().any(|word| said.eq_ignore_ascii_case(word));
            reading.quality = if estimated { Quality::Estimated } else { Quality::Measured };
            out.push(reading);
        }
        if out.len() > super::READINGS_MAX {
            return Err(Fault::TooLong("the file"));
        }
    }
    if out.is_empty() {
        Err(Fault::structure(format!("no value below the columns of {}", table.model.name)))
    } else {
        Ok(out)
    }
}

/// `30`, or `PT30M`.
fn minutes_of(text: &str) -> Option<u32> {
    text.trim_start_matches("PT").trim_end_matches('M').parse().ok().filter(|minutes| (1..=1_440).contains(minutes))
}

/// The energy of a mean power over so many minutes, exact where it can be, else to six places.
fn share_of_hour(mean: Decimal, minutes: u32) -> Option<Decimal> {
    let whole = mean.times(Decimal::new(i64::from(minutes), 0))?;
    // An hour is 6 × 10 minutes; eight digits more leave nine places of a whole number.
    let digits = i128::from(whole.digits) * 100_000_000;
    let rounded = (digits + 3 * digits.signum()) / 6;
    Some(Decimal::new(i64::try_from(rounded).ok()?, whole.exponent.checked_sub(9)?).reduced())
}

impl Table<'_> {
    /// The end of the interval of a row.
    fn time<'r>(&self, get: &impl Fn(&str) -> Option<&'r str>) -> Option<Timestamp> {
        let columns = self.columns;
        let zone = self.zone.or_else(|| self.model.zone.as_deref().and_then(Zone::named));
        let text = get(&columns.time)?;
        let clock = columns.clock.as_deref().and_then(get).unwrap_or_default();
        let step = i64::from(columns.minutes) * 60;
        let begin_or_end = if columns.order == "iso" && clock.is_empty() {
            iso(text, zone)?
        } else if columns.counts_hours {
            // 1 to 24; 25 on the long day counts on.
            let count: i64 = clock.parse().ok()?;
            zone?.to_utc(civil(text, "", &columns.order)?, Season::Unsaid).plus((count - 1) * step)
        } else {
            let order = if columns.order == "iso" { "YMD" } else { columns.order.as_str() };
            let (date, time) =
                if clock.is_empty() { text.split_once([' ', 'T']).unwrap_or((text, "")) } else { (text, clock) };
            // The season is that of the interval's begin: an end of 24:00 or 03:00 belongs to the hour before.
            let local = civil(date, time, order)?;
            let back = if columns.is_begin { 0 } else { step };
            zone?.to_utc(local.plus(-back), Season::Unsaid).plus(back)
        };
        Some(if columns.is_begin || columns.counts_hours { begin_or_end.plus(step) } else { begin_or_end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_power_becomes_the_energy_of_its_interval() {
        for (mean, minutes, energy) in
            [("520", 30, "260"), ("1.2", 15, "0.3"), ("-7", 60, "-7"), ("1", 5, "0.083333333")]
        {
            let value = share_of_hour(Decimal::parse(mean).expect("a number"), minutes).expect("it fits");
            assert_eq!(value.to_string(), energy, "{mean} over {minutes}");
        }
    }

    fn shown(text: &str) -> Vec<String> {
        let models = Models::builtin().expect("descriptions");
        let readings = decode(text, &models, None).expect("a portal that is known");
        let line = |r: &Reading| {
            let time = r.time.map_or("-".into(), |time| time.to_string());
            format!(
                "{} {time} {} {} {} {:?}",
                r.meter.as_deref().unwrap_or("-"),
                r.quantity,
                r.value,
                r.unit,
                r.quality
            )
        };
        readings.iter().map(line).collect()
    }

    #[test]
    fn a_table_above_names_the_meter_and_the_step() {
        let file = "Identifiant PRM;Type de donnees;Date de debut;Date de fin;Grandeur physique;Grandeur metier;Etape metier;Unite;Pas en minutes\n\
                    12345678901234;Courbe de charge;01/01/2026;02/01/2026;Energie active;Consommation;Comptage Brut;W;30\n\
                    Horodate;Valeur\n2026-01-01T00:30:00+01:00;520\n2026-01-01T01:00:00+01:00;1001\n";
        assert_eq!(
            shown(file),
            [
                "12345678901234 2025-12-31T23:30:00Z import interval energy 260 Wh Measured",
                "12345678901234 2026-01-01T00:00:00Z import interval energy 500.5 Wh Measured",
            ]
        );
    }

    #[test]
    fn registers_in_rows_and_numbers_kept_as_text() {
        let file = "Van (datum);Van (tijdstip);Tot (datum);Tot (tijdstip);EAN-code;Meter;Metertype;Register;Volume;Eenheid;Validatiestatus\n\
                    01-07-2026;00:00:00;01-07-2026;00:15:00;=\"541448800000000001\";1SAG;Digitale meter;Afname Nacht;0,25;kWh;Gevalideerd\n\
                    01-07-2026;00:00:00;01-07-2026;00:15:00;=\"541448800000000001\";1SAG;Digitale meter;Injectie Nacht;0,5;kWh;Geschat\n";
        assert_eq!(
            shown(file),
            [
                "541448800000000001 2026-06-30T22:15:00Z import interval energy 0.25 kWh Measured",
                "541448800000000001 2026-06-30T22:15:00Z export interval energy 0.5 kWh Estimated",
            ]
        );
        let texas = "ESIID,USAGE_DATE,REVISION_DATE,USAGE_START_TIME,USAGE_END_TIME,USAGE_KWH,ESTIMATED_ACTUAL,CONSUMPTION_SURPLUSGENERATION\n\
                     '10443720000000001,07/01/2026,07/02/2026, 00:15, 00:30,0.125,A,Consumption\n\
                     '10443720000000001,07/01/2026,07/02/2026, 23:45, 00:00,0.5,E,Surplus Generation\n";
        assert_eq!(
            shown(texas),
            [
                "10443720000000001 2026-07-01T05:30:00Z import interval energy 0.125 kWh Measured",
                "10443720000000001 2026-07-02T05:00:00Z export interval energy 0.5 kWh Estimated",
            ]
        );
    }
}
