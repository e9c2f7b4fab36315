//! IEC 61968-9 `MeterReadings`: readings and interval blocks whose ReadingType is a code of 18 numbers.
//!
//! 3 measuring period, 4 accumulation (1 bulk, 3 cumulative, 4 delta), 5 flow (1 forward, 19 reverse), 7 commodity quantity, 15 phases,
//! 16 multiplier, 17 unit. The time stamp of a delta is the end of its interval.

use std::sync::Arc;

use super::{clock::iso, xml};
use crate::{Decimal, Fault, Quality, Reading, Zone};

/// Decodes a message.
pub fn decode(text: &str, zone: Option<Zone>) -> Result<Vec<Reading>, Fault> {
    let root = xml::parse(text)?;
    let mut groups = Vec::new();
    root.walk(&mut |element| {
        if element.name == "MeterReading" {
            groups.push(element);
        }
    });
    if groups.is_empty() {
        return Err(Fault::structure("no MeterReading"));
    }
    let mut out = Vec::new();
    for group in groups {
        let meter = meter(group);
        for reading in group.all("Readings") {
            let code = type_code(reading).ok_or(Fault::structure("a reading without a ReadingType"))?;
            out.extend(one(reading, code, meter.as_ref(), zone)?);
        }
        for block in group.all("IntervalBlocks") {
            let code = type_code(block).ok_or(Fault::structure("an interval block without a ReadingType"))?;
            for reading in block.all("IntervalReadings") {
                out.extend(one(reading, code, meter.as_ref(), zone)?);
            }
        }
        if out.len() > super::READINGS_MAX {
            return Err(Fault::TooLong("the file"));
        }
    }
    Ok(out)
}

fn meter(group: &xml::Element) -> Option<Arc<str>> {
    let of = |name| {
        let element = group.child(name)?;
        let named = element.child("Names").and_then(|names| names.text_of("name"));
        named.or_else(|| element.text_of("mRID"))
    };
    of("Meter").or_else(|| of("UsagePoint")).map(Into::into)
}

fn type_code(element: &xml::Element) -> Option<&str> {
    let kind = element.child("ReadingType")?;
    kind.attribute("ref").or_else(|| Some(kind.text.as_str()).filter(|text| !text.is_empty()))
}

fn one(
    element: &xml::Element,
    code: &str,
    meter: Option<&Arc<str>>,
    zone: Option<Zone>,
) -> Result<Option<Reading>, Fault> {
    let (Some(value), Some(time)) = (element.text_of("value"), element.text_of("timeStamp")) else { return Ok(None) };
    let value = Decimal::parse(value).ok_or(Fault::structure("a value that is no number"))?;
    let time = iso(time, zone).ok_or(Fault::structure("a time stamp without an offset, and no zone given"))?;
    let kind = Kind::of(code).ok_or_else(|| Fault::structure(format!("ReadingType {code:?} is not read here")))?;
    let mut reading = Reading::new(kind.quantity, value, kind.unit).of(meter.cloned()).at(Some(time));
    reading.interval_s = kind.interval_s;
    let qualities = element.all("ReadingQualities").filter_map(|quality| quality.child("ReadingQualityType"));
    let codes = qualities.filter_map(|kind| kind.attribute("ref").or(Some(kind.text.as_str())));
    // x.8.* estimated, x.7.* edited, x.10.* questionable
    reading.quality = codes.fold(Quality::Measured, |quality, code| match code.split('.').nth(1) {
        Some("7" | "8" | "11") => Quality::Estimated,
        Some("5" | "10") => Quality::Doubtful,
        _ => quality,
    });
    Ok(Some(reading))
}

struct Kind {
    quantity: String,
    unit: String,
    interval_s: Option<u32>,
}

impl Kind {
    fn of(code: &str) -> Option<Self> {
        let numbers: Vec<i32> = code.split('.').map(|part| part.trim().parse().ok()).collect::<Option<_>>()?;
        (numbers.len() == 18).then_some(())?;
        let prefix = match numbers[15] {
            0 => "",
            3 => "k",
            6 => "M",
            9 => "G",
            -3 => "m",
            _ => return None,
        };
        let (base, energy) = match numbers[16] {
            72 => ("Wh", true),
            73 => ("varh", true),
            71 => ("VAh", true),
            38 => ("W", false),
            63 => ("var", false),
            61 => ("VA", false),
            29 => ("V", false),
            5 => ("A", false),
            33 => ("Hz", false),
            42 => ("m3", true),
            _ => return None,
        };
        let direction = match numbers[4] {
            19 => "export ",
            4 => "net ",
            0 if !energy => "",
            _ => "import ",
        };
        let reactive = if matches!(base, "varh" | "var") { "reactive " } else { "" };
        let delta = energy && numbers[3] == 4;
        let what = match (base, energy, delta) {
            ("V", ..) => "voltage",
            ("A", ..) => "current",
            ("Hz", ..) => "frequency",
            (_, true, true) => "interval energy",
            (_, true, false) => "register",
            _ => "power",
        };
        let directed = !matches!(base, "V" | "A" | "Hz");
        let phase = match numbers[14] {
            128 | 129 => " L1",
            64 | 65 => " L2",
            32 | 33 => " L3",
            _ => "",
        };
        let quantity = format!("{reactive}{}{what}{phase}", if directed { direction } else { "" });
        Some(Self { quantity, unit: format!("{prefix}{base}"), interval_s: period(numbers[2]).filter(|_| delta) })
    }
}

/// The measuring period in seconds.
fn period(code: i32) -> Option<u32> {
    Some(match code {
        1 => 600,
        2 => 900,
        3 => 60,
        4 => 86_400,
        5 => 1_800,
        6 => 300,
        7 => 3_600,
        10 => 120,
        11 => 86_400,
        14 => 180,
        31 => 1_200,
        _ => return None,
    })
}
