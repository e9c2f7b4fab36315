//! CMEP `MEPMD01`: California's format for meter data. From field 15 on triplets of time, quality and value; times are GMT.
//!
//! Units that end in `REG` are registers, others the energy of the interval that ends then.

use super::clock::compact;
use crate::{Decimal, Fault, Quality, Reading};

/// Decodes a file.
pub fn decode(text: &str) -> Result<Vec<Reading>, Fault> {
    let mut out = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if line.is_empty() {
            continue;
        }
        let why = record(line, &mut out).err();
        if let Some(why) = why {
            return Err(Fault::structure(format!("line {number}: {why}")));
        }
        if out.len() > super::READINGS_MAX {
            return Err(Fault::TooLong("the file"));
        }
    }
    if out.is_empty() { Err(Fault::structure("no MEPMD01 record")) } else { Ok(out) }
}

fn record(line: &str, out: &mut Vec<Reading>) -> Result<(), &'static str> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    if fields.first() != Some(&"MEPMD01") {
        return if fields.first().is_some_and(|kind| kind.starts_with("MEP")) {
            Ok(())
        } else {
            Err("no record of CMEP")
        };
    }
    let get = |at: usize| fields.get(at).copied().unwrap_or_default();
    let meter = [get(7), get(5), get(4)].into_iter().find(|name| !name.is_empty()).ok_or("no meter")?;
    let direction = match get(9) {
        "G" => "export",
        _ => "import",
    };
    let units = get(10).to_ascii_uppercase();
    let is_register = units.ends_with("REG");
    let unit = match units.trim_end_matches("REG") {
        "KWH" => "kWh",
        "WH" => "Wh",
        "MWH" => "MWh",
        "KVARH" => "kvarh",
        "KW" => "kW",
        "CCF" => "ccf",
        "GAL" => "gal",
        _ => return Err("a unit that is not read here"),
    };
    let reactive = if unit == "kvarh" { "reactive " } else { "" };
    let what = match (is_register, unit) {
        (true, _) => "register",
        (_, "kW") => "power",
        _ => "interval energy",
    };
    let factor = if get(11).is_empty() { Decimal::new(1, 0) } else { Decimal::parse(get(11)).ok_or("no factor")? };
    let count: usize = get(13).parse().map_err(|_| "no count of values")?;
    let values = fields.get(14..).unwrap_or_default();
    if values.len() != count * 3 {
        return Err("the count of values differs");
    }
    let interval = interval_s(get(12)).filter(|_| !is_register);
    for triplet in values.as_chunks::<3>().0 {
        let [time, quality, value] = *triplet;
        // A value that is missing or not available has none.
        if value.is_empty() || quality.starts_with('N') {
            continue;
        }
        let value = Decimal::parse(value).and_then(|value| value.times(factor)).ok_or("a value that is no number")?;
        let mut reading = Reading::new(format!("{reactive}{direction} {what}"), value, unit).of(Some(meter.into()));
        reading.time = Some(compact(time).ok_or("a time that is none")?);
        reading.interval_s = interval;
        reading.quality = match quality.as_bytes().first() {
            Some(b'E' | b'A') => Quality::Estimated,
            _ => Quality::Measured,
        };
        out.push(reading);
    }
    Ok(())
}

/// `MMDDhhmm`.
fn interval_s(text: &str) -> Option<u32> {
    let number = |from: usize| text.get(from..from + 2).and_then(|two| two.parse::<u32>().ok());
    Some(number(2)? * 86_400 + number(4)? * 3_600 + number(6)? * 60).filter(|seconds| *seconds > 0)
}
