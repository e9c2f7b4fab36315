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
            119 => ("ft3", true),
            134 => ("l", true),
            _ => return None,
        };
        let direction = match numbers[4] {
            19 => "export ",
            4 => "net ",
            0 if !energy => "",
            _ => "import ",
        };
        let reactive = match base {
            "varh" | "var" => "reactive ",
            "VAh" | "VA" => "apparent ",
            _ => "",
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str) -> String {
        format!(
            r#"<m:MeterReadings xmlns:m="http://iec.ch/TC57/2011/MeterReadings#"><m:MeterReading><m:IntervalBlocks>
            <m:IntervalReadings><m:timeStamp>2026-01-01T01:15:00+01:00</m:timeStamp><m:value>12.5</m:value>
            <m:ReadingQualities><m:ReadingQualityType ref="1.8.0"/></m:ReadingQualities></m:IntervalReadings>
            <m:ReadingType ref="{kind}"/></m:IntervalBlocks><m:Meter><m:Names><m:name>A-1</m:name></m:Names></m:Meter>
            </m:MeterReading></m:MeterReadings>"#
        )
    }

    /// IEC 61968-9:2013, annex C: the eighteen numbers.
    #[test]
    fn codes_of_a_reading_type() {
        for (kind, expected) in [
            ("0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0", "import interval energy 12.5 kWh Some(900)"),
            ("0.0.2.4.19.1.12.0.0.0.0.0.0.0.128.0.72.0", "export interval energy L1 12.5 Wh Some(900)"),
            ("0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.73.0", "reactive import register 12.5 kvarh None"),
            ("0.0.7.6.1.1.37.0.0.0.0.0.0.0.224.3.38.0", "import power 12.5 kW None"),
            ("0.0.0.6.0.1.54.0.0.0.0.0.0.0.64.0.29.0", "voltage L2 12.5 V None"),
        ] {
            let readings = decode(&message(kind), None).expect("a message");
            let r = &readings[0];
            assert_eq!(format!("{} {} {} {:?}", r.quantity, r.value, r.unit, r.interval_s), expected, "{kind}");
            assert_eq!(r.time.map(|t| t.to_string()).as_deref(), Some("2026-01-01T00:15:00Z"));
            assert_eq!((r.meter.as_deref(), r.quality), (Some("A-1"), Quality::Estimated));
        }
        assert!(decode(&message("0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72"), None).is_err(), "seventeen numbers");
        assert!(decode(&message("0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.9999.0"), None).is_err(), "an unknown unit");
    }
}
