//! Green Button (NAESB ESPI 1.1 and 3.x): an Atom feed of usage points, reading types and interval blocks, tied by links.
//!
//! Value × 10^powerOfTenMultiplier; end = start + duration in UTC seconds; flow 1 forward, 19 reverse. A day of a clock change has 92 or 100
//! quarter-hours: nothing is filled in.

use std::{collections::BTreeMap, sync::Arc};

use metering::Timestamp;

use super::xml::{self, Element};
use crate::{Decimal, Fault, Quality, Reading};

/// What a reading type says.
#[derive(Clone, Debug)]
struct ReadingType {
    quantity: String,
    unit: &'static str,
    exponent: i8,
    is_interval: bool,
    /// Length of an interval that does not say its own.
    length_s: Option<i64>,
}

/// Decodes a feed.
pub fn decode(text: &str) -> Result<Vec<Reading>, Fault> {
    let root = xml::parse(text)?;
    let mut entries = Vec::new();
    root.walk(&mut |element| {
        if element.name == "entry" {
            entries.push(element);
        }
    });
    if entries.is_empty() {
        return Err(Fault::structure("a feed without entries"));
    }
    let types = by_self(&entries, "ReadingType", reading_type);
    // MeterReading ▸ the reading type that it is related to.
    let meter_readings = by_self(&entries, "MeterReading", |_, entry| {
        links(entry, "related").find(|href| href.contains("ReadingType")).map(normal)
    });
    let mut out = Vec::new();
    for (entry, block) in blocks(&entries) {
        let place = links(entry, "up").chain(links(entry, "self")).next().unwrap_or_default();
        let parent = normal(place.split("/IntervalBlock").next().unwrap_or_default());
        let kind = meter_readings.get(&parent).and_then(|href| types.get(href));
        // A feed with one type ties nothing.
        let kind = kind.or_else(|| types.values().next().filter(|_| types.len() == 1));
        let kind = kind.ok_or(Fault::structure("an interval block whose ReadingType is not in the feed"))?;
        let meter = usage_point(&parent);
        readings(block, kind, meter.as_ref(), &mut out)?;
    }
    Ok(out)
}

fn blocks<'a>(entries: &[&'a Element]) -> Vec<(&'a Element, &'a Element)> {
    let contents = entries.iter().flat_map(|entry| entry.all("content").map(move |content| (*entry, content)));
    contents.flat_map(|(entry, content)| content.all("IntervalBlock").map(move |block| (entry, block))).collect()
}

/// Entries that hold an element of a name, by their own address.
fn by_self<T>(entries: &[&Element], name: &str, read: impl Fn(&Element, &Element) -> Option<T>) -> BTreeMap<String, T> {
    let of = |entry: &&Element| {
        let content = entry.child("content")?.child(name)?;
        let own = links(entry, "self").next()?;
        Some((normal(own), read(content, entry)?))
    };
    entries.iter().filter_map(of).collect()
}

fn links<'a>(entry: &'a Element, relation: &'a str) -> impl Iterator<Item = &'a str> {
    entry
        .all("link")
        .filter(move |link| link.attribute("rel") == Some(relation))
        .filter_map(|link| link.attribute("href"))
}

/// Addresses differ in scheme, host and a slash at the end.
fn normal(href: &str) -> String {
    let path = href.split("/resource/").nth(1).unwrap_or(href);
    path.trim_end_matches('/').into()
}

fn usage_point(path: &str) -> Option<Arc<str>> {
    path.split("UsagePoint/").nth(1).and_then(|rest| rest.split('/').next()).map(Into::into)
}

fn reading_type(kind: &Element, _entry: &Element) -> Option<ReadingType> {
    let number = |name: &str| kind.text_of(name).and_then(|text| text.parse::<i16>().ok());
    let (accumulation, flow) = (number("accumulationBehaviour").unwrap_or(4), number("flowDirection").unwrap_or(1));
    let (unit, energy) = match number("uom")? {
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
        128 => ("gal", true),
        132 => ("Btu", true),
        134 => ("l", true),
        169 => ("therm", true),
        _ => return None,
    };
    // Commodities: 0, 1, 2 electricity, 7 gas, 9 water, others as they are.
    let commodity = match number("commodity") {
        Some(7) => "gas ",
        Some(4 | 9) => "water ",
        _ => "",
    };
    let phase = match number("phase") {
        Some(128 | 129) => " L1",
        Some(64 | 65) => " L2",
        Some(32 | 33) => " L3",
        _ => "",
    };
    let direction = match flow {
        19 => "export",
        4 => "net",
        _ => "import",
    };
    let reactive = match unit {
        "varh" | "var" => "reactive ",
        "VAh" | "VA" => "apparent ",
        _ => commodity,
    };
    // 3 cumulative, 1 bulk quantity, 4 delta, 12 instantaneous.
    let is_interval = energy && !matches!(accumulation, 1 | 3);
    let what = match (energy, is_interval) {
        (true, true) => "interval energy",
        (true, false) => "register",
        _ => "power",
    };
    let quantity = match unit {
        "V" => format!("voltage{phase}"),
        "A" => format!("current{phase}"),
        "Hz" => "frequency".into(),
        _ => format!("{reactive}{direction} {what}{phase}"),
    };
    let exponent = number("powerOfTenMultiplier").and_then(|m| i8::try_from(m).ok()).unwrap_or(0);
    let length_s = kind.text_of("intervalLength").and_then(|text| text.parse().ok());
    Some(ReadingType { quantity, unit, exponent, is_interval, length_s })
}

fn readings(
    block: &Element,
    kind: &ReadingType,
    meter: Option<&Arc<str>>,
    out: &mut Vec<Reading>,
) -> Result<(), Fault> {
    for interval in block.all("IntervalReading") {
        let period = interval.child("timePeriod").or_else(|| block.child("interval"));
        let number = |name| period.and_then(|p| p.text_of(name)).and_then(|text| text.parse::<i64>().ok());
        let start = number("start").ok_or(Fault::structure("an IntervalReading without a start"))?;
        let duration = number("duration").or(kind.length_s).unwrap_or(0);
        let Some(value) = interval.text_of("value") else { continue };
        let value = Decimal::parse(value).and_then(|value| value.scaled(kind.exponent));
        let value = value.ok_or(Fault::structure("an IntervalReading whose value is no number"))?;
        let mut reading = Reading::new(kind.quantity.clone(), value, kind.unit).of(meter.cloned());
        reading.time = start.checked_add(duration).map(Timestamp);
        reading.interval_s = u32::try_from(duration).ok().filter(|_| kind.is_interval);
        let codes = interval.all("ReadingQuality").filter_map(|quality| quality.text_of("quality"));
        reading.quality = codes.fold(Quality::Measured, |quality, code| match code {
            // 7 manually edited, 8 estimated with reference day, 9 by interpolation, 10 questionable, 11 derived, 12 projected.
            "7" | "8" | "9" | "11" | "12" | "16" => Quality::Estimated,
            "10" => Quality::Doubtful,
            _ => quality,
        });
        out.push(reading);
        if out.len() > super::READINGS_MAX {
            return Err(Fault::TooLong("the file"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(kind: &str, readings: &str) -> String {
        format!(
            r#"<feed xmlns="http://www.w3.org/2005/Atom" xmlns:espi="http://naesb.org/espi"><entry>
            <link rel="self" href="https://x/espi/1_1/resource/ReadingType/1"/><content><espi:ReadingType>{kind}</espi:ReadingType></content></entry>
            <entry><link rel="self" href="https://x/espi/1_1/resource/UsagePoint/U1/MeterReading/1"/>
            <link rel="related" href="https://x/espi/1_1/resource/ReadingType/1"/><content><espi:MeterReading/></content></entry>
            <entry><link rel="up" href="https://x/espi/1_1/resource/UsagePoint/U1/MeterReading/1/IntervalBlock"/>
            <content><espi:IntervalBlock>{readings}</espi:IntervalBlock></content></entry></feed>"#
        )
    }

    fn shown(kind: &str) -> String {
        let readings = "<espi:IntervalReading><espi:timePeriod><espi:start>1767225600</espi:start></espi:timePeriod>\
             <espi:value>5</espi:value></espi:IntervalReading>";
        let readings = decode(&feed(kind, readings)).expect("a feed");
        let r = &readings[0];
        let time = r.time.expect("a time").0 - 1_767_225_600;
        format!("{:?} {time} {} {} {}", r.meter, r.quantity, r.value, r.unit)
    }

    /// NAESB REQ.21: unit, multiplier, direction, commodity and phase are codes.
    #[test]
    fn codes_of_a_reading_type() {
        let base =
            "<espi:intervalLength>900</espi:intervalLength><espi:accumulationBehaviour>4</espi:accumulationBehaviour>";
        for (codes, expected) in [
            (
                "<espi:flowDirection>19</espi:flowDirection><espi:powerOfTenMultiplier>3</espi:powerOfTenMultiplier><espi:uom>72</espi:uom>",
                "export interval energy 5000 Wh",
            ),
            (
                "<espi:commodity>7</espi:commodity><espi:powerOfTenMultiplier>-2</espi:powerOfTenMultiplier><espi:uom>169</espi:uom>",
                "gas import interval energy 0.05 therm",
            ),
            ("<espi:phase>64</espi:phase><espi:uom>29</espi:uom>", "voltage L2 5 V"),
            ("<espi:uom>71</espi:uom>", "apparent import interval energy 5 VAh"),
        ] {
            assert_eq!(shown(&format!("{base}{codes}")), format!("Some(\"U1\") 900 {expected}"));
        }
    }

    #[test]
    fn a_block_whose_type_is_not_there_is_refused() {
        let unknown = feed("<espi:uom>999</espi:uom>", "<espi:IntervalReading/>");
        assert!(decode(&unknown).is_err());
        assert!(decode("<feed/>").is_err());
    }
}
