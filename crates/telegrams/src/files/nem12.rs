//! NEM12 and NEM13 (AEMO Meter Data File Format 2.x): interval and accumulated data of Australia.
//!
//! Times are market time, UTC+10 all year; a value belongs to the end of its interval. 400-records say the quality of ranges of a day
//! with quality V. A file without its 100-record, or a 300-record whose number of values does not fit the interval length, is refused whole.

use std::sync::Arc;

use metering::Timestamp;

use super::clock::compact;
use crate::{Decimal, Fault, Quality, Reading, Zone};

/// What a 200-record opens.
struct Stream {
    meter: Arc<str>,
    quantity: String,
    unit: String,
    interval_s: i64,
}

/// Decodes a file.
pub fn decode(text: &str) -> Result<Vec<Reading>, Fault> {
    let mut lines =
        text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())).filter(|(_, line)| !line.is_empty());
    let head: Vec<&str> = lines.next().map(|(_, line)| line.split(',').collect()).unwrap_or_default();
    let is_nem13 = match head.as_slice() {
        ["100", "NEM12", ..] => false,
        ["100", "NEM13", ..] => true,
        _ => return Err(Fault::structure("no 100 record at the beginning")),
    };
    let (mut stream, mut day_start) = (None::<Stream>, 0);
    let mut out: Vec<Reading> = Vec::new();
    for (number, line) in lines {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let at_line = |why: &str| Fault::structure(format!("line {number}: {why}"));
        match fields[0] {
            "200" => {
                stream = Some(stream_of(&fields).ok_or_else(|| at_line("a 200 record without NMI, unit or interval"))?)
            }
            "300" => {
                let stream = stream.as_ref().ok_or_else(|| at_line("a 300 record before any 200 record"))?;
                day_start = out.len();
                day(stream, &fields, &mut out).map_err(|why| at_line(&why))?;
            }
            "400" => qualify(&fields, out.get_mut(day_start..).unwrap_or_default())
                .ok_or_else(|| at_line("a 400 record that names no range of the day"))?,
            "250" if is_nem13 => accumulated(&fields, &mut out).ok_or_else(|| at_line("not a 250 record"))?,
            "500" | "550" | "900" => {}
            other => return Err(at_line(&format!("no record {other:?}"))),
        }
    }
    Ok(out)
}

fn stream_of(fields: &[&str]) -> Option<Stream> {
    let minutes: i64 = fields.get(8)?.parse().ok().filter(|minutes| matches!(minutes, 1 | 5 | 10 | 15 | 30 | 60))?;
    // The register id where there is one, else the suffix.
    let name = [fields.get(3)?, fields.get(4)?].into_iter().find(|name| !name.is_empty())?;
    Some(Stream {
        meter: (*fields.get(1).filter(|nmi| !nmi.is_empty())?).into(),
        quantity: format!("{name} interval energy"),
        unit: unit(fields.get(7)?),
        interval_s: minutes * 60,
    })
}

/// `kVArh`, `KWH`, … as units are written.
fn unit(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let (prefix, base) = match lower.as_bytes().first() {
        Some(b'k') => ("k", &lower[1..]),
        Some(b'm') => ("M", &lower[1..]),
        Some(b'g') => ("G", &lower[1..]),
        _ => ("", lower.as_str()),
    };
    let base = match base {
        "wh" => "Wh",
        "varh" => "varh",
        "vah" => "VAh",
        "w" => "W",
        "var" => "var",
        "va" => "VA",
        "v" => "V",
        "a" => "A",
        "pf" => "",
        _ => return text.into(),
    };
    format!("{prefix}{base}")
}

fn day(stream: &Stream, fields: &[&str], out: &mut Vec<Reading>) -> Result<(), String> {
    let count = usize::try_from(86_400 / stream.interval_s).unwrap_or(usize::MAX);
    let date = fields.get(1).and_then(|date| compact(date)).ok_or("a 300 record without a date")?;
    let start = Zone { standard_minutes: 600, ..Zone::UTC }.to_utc(date, crate::zone::Season::Unsaid);
    let is_quality = |text: &str| text.starts_with(['A', 'E', 'F', 'N', 'S', 'V']);
    let values = fields.get(2..2 + count).filter(|values| values.iter().all(|value| Decimal::parse(value).is_some()));
    let quality = fields.get(2 + count).copied().unwrap_or_default();
    let values = values.filter(|_| is_quality(quality)).ok_or_else(|| {
        format!(
            "the number of values does not fit intervals of {} minutes ({count} values, then the quality)",
            stream.interval_s / 60
        )
    })?;
    if out.len() + count > super::READINGS_MAX {
        return Err("more values than are taken from one file: divide it".into());
    }
    for (at, value) in (1..).zip(values) {
        let time = start.plus(at * stream.interval_s);
        let value = Decimal::parse(value).ok_or("a value that is no number")?;
        let mut reading = Reading::new(stream.quantity.clone(), value, stream.unit.clone());
        reading.meter = Some(stream.meter.clone());
        reading.time = Some(time);
        reading.interval_s = u32::try_from(stream.interval_s).ok();
        reading.quality = quality_of(quality);
        out.push(reading);
    }
    Ok(())
}

fn quality_of(flag: &str) -> Quality {
    match flag.as_bytes().first() {
        Some(b'E' | b'S' | b'F') => Quality::Estimated,
        Some(b'N') => Quality::Doubtful,
        _ => Quality::Measured,
    }
}

/// `400,first,last,quality,…`
fn qualify(fields: &[&str], day: &mut [Reading]) -> Option<()> {
    let first: usize = fields.get(1)?.parse().ok()?;
    let last: usize = fields.get(2)?.parse().ok()?;
    let quality = quality_of(fields.get(3)?);
    day.get_mut(first.checked_sub(1)?..last)?.iter_mut().for_each(|reading| reading.quality = quality);
    Some(())
}

/// A 250-record of NEM13: two registers with their times, and what was used between them.
fn accumulated(fields: &[&str], out: &mut Vec<Reading>) -> Option<()> {
    // As in a 200-record: the register id where there is one, else the suffix.
    let name = [fields.get(3)?, fields.get(4)?].into_iter().find(|name| !name.is_empty())?;
    let quantity = format!("{name} register");
    // previous: value 8, time 9, quality 10; current: value 13, time 14, quality 15; unit 19.
    let unit = unit(fields.get(19)?);
    let mut times = Vec::new();
    for (value, time, quality) in [(8, 9, 10), (13, 14, 15)] {
        let Some(value) = fields.get(value).and_then(|text| Decimal::parse(text)) else { continue };
        let time: Option<Timestamp> = fields.get(time).and_then(|text| compact(text));
        let mut reading = Reading::new(quantity.clone(), value, unit.clone());
        reading.meter = fields.get(1).map(|nmi| (*nmi).into());
        reading.time = time.map(|local| local.plus(-36_000));
        reading.quality = quality_of(fields.get(quality).copied().unwrap_or_default());
        times.push(reading.time);
        out.push(reading);
    }
    if let (Some(used), [Some(from), Some(to)]) =
        (fields.get(18).and_then(|text| Decimal::parse(text)), times.as_slice())
    {
        let mut reading = Reading::new(format!("{name} interval energy"), used, unit).at(Some(*to));
        reading.meter = fields.get(1).map(|nmi| (*nmi).into());
        reading.interval_s = u32::try_from(to.seconds_since(*from)).ok();
        reading.quality = quality_of(fields.get(15).copied().unwrap_or_default());
        out.push(reading);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(values: usize) -> String {
        let day = ["1.5"; 48][..values].join(",");
        format!(
            "100,NEM12,202601010000,A,B\n200,NMI1,E1,E1,E1,N1,S1,kVArh,30,\n300,20260101,{day},V,,,,\n400,1,1,A,,\n400,2,48,S14,,\n900\n"
        )
    }

    #[test]
    fn ends_of_intervals_in_market_time_and_their_quality() {
        let readings = decode(&file(48)).expect("a whole file");
        assert_eq!(readings.len(), 48);
        assert_eq!(readings[0].time.map(|t| t.to_string()).as_deref(), Some("2025-12-31T14:30:00Z"));
        assert_eq!((readings[0].quality, readings[47].quality), (Quality::Measured, Quality::Estimated));
        assert_eq!((readings[0].unit.as_ref(), readings[0].interval_s), ("kvarh", Some(1_800)));
    }

    /// AEMO Meter Data File Format NEM12 & NEM13: the fields of a 250 record.
    #[test]
    fn accumulated_data_are_two_registers_and_what_lies_between() {
        let file = "100,NEM13,202601010000,A,B\n250,NMI1,11,1,11,11,M1,E,000021.2,20260101000000,A,,,000534.5,20260201000000,E64,77,,513.3,kWh,20260301,20260202000000,\n900\n";
        let readings = decode(file).expect("a whole file");
        let shown: Vec<_> = readings
            .iter()
            .map(|r| {
                format!("{:?} {} {} {} {:?}", r.time.map(|t| t.to_string()), r.quantity, r.value, r.unit, r.quality)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "Some(\"2025-12-31T14:00:00Z\") 1 register 21.2 kWh Measured",
                "Some(\"2026-01-31T14:00:00Z\") 1 register 534.5 kWh Estimated",
                "Some(\"2026-01-31T14:00:00Z\") 1 interval energy 513.3 kWh Estimated",
            ]
        );
        assert_eq!(readings[2].interval_s, Some(31 * 86_400));
    }

    #[test]
    fn a_day_that_does_not_fit_refuses_the_file() {
        for values in [47, 46] {
            assert!(decode(&file(values)).is_err());
        }
        assert!(decode(&file(48).replace("100,NEM12", "101,NEM12")).is_err());
        assert!(decode(&file(48).replace("400,2,48", "400,2,49")).is_err());
    }
}
