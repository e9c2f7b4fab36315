//! MSCONS (EDIFACT, BDEW 2.3 and 2.4): metered values of the German market.
//!
//! `?` releases the next character; UNA may set other separators. A value with two times (DTM 163, 164) is the energy of that interval,
//! one with a single time (DTM 7) a register. QTY 220 is measured, 67 substituted, 201 and others said so.

use std::sync::Arc;

use metering::Timestamp;

use super::clock::compact;
use crate::{Decimal, Fault, Quality, Reading, Zone, zone::Season};

/// Separators of an interchange.
#[derive(Clone, Copy)]
struct Marks {
    component: u8,
    element: u8,
    decimal: u8,
    release: u8,
    end: u8,
}

const USUAL: Marks = Marks { component: b':', element: b'+', decimal: b'.', release: b'?', end: b'\'' };

/// A segment: its elements, each with its components.
type Segment = Vec<Vec<String>>;

/// Decodes an interchange.
pub fn decode(text: &str) -> Result<Vec<Reading>, Fault> {
    let (marks, body) = match text.trim_start().strip_prefix("UNA") {
        Some(rest) => match rest.as_bytes() {
            [component, element, decimal, release, _, end, ..] => (
                Marks { component: *component, element: *element, decimal: *decimal, release: *release, end: *end },
                rest.get(6..).unwrap_or_default(),
            ),
            _ => return Err(Fault::structure("an UNA segment that is too short")),
        },
        None => (USUAL, text),
    };
    let segments = segments(body, marks)?;
    if component(&segments, "UNH", 2, 0) != Some("MSCONS") {
        return Err(Fault::structure("no message of type MSCONS"));
    }
    let mut reader = Reader::default();
    segments.iter().try_for_each(|segment| reader.segment(segment, marks))?;
    reader.flush()?;
    // The count in UNT proves that no segment was lost.
    check_counts(&segments)?;
    Ok(reader.out)
}

fn component<'a>(segments: &'a [Segment], tag: &str, element: usize, at: usize) -> Option<&'a str> {
    let segment = segments.iter().find(|segment| field(segment, 0, 0) == Some(tag))?;
    field(segment, element, at)
}

fn field(segment: &Segment, element: usize, at: usize) -> Option<&str> {
    segment.get(element)?.get(at).map(String::as_str)
}

fn segments(text: &str, marks: Marks) -> Result<Vec<Segment>, Fault> {
    let mut out = Vec::new();
    let mut segment: Segment = vec![vec![String::new()]];
    let mut released = false;
    for character in text.chars() {
        let byte = u8::try_from(character).unwrap_or(0);
        let element = segment.last_mut().ok_or(Fault::structure("no element"))?;
        if released {
            released = false;
        } else if byte == marks.release {
            released = true;
            continue;
        } else if byte == marks.component {
            element.push(String::new());
            continue;
        } else if byte == marks.element {
            segment.push(vec![String::new()]);
            continue;
        } else if byte == marks.end {
            out.push(std::mem::replace(&mut segment, vec![vec![String::new()]]));
            continue;
        } else if matches!(character, '\r' | '\n') {
            continue;
        }
        if let Some(part) = element.last_mut() {
            part.push(character);
        }
    }
    let left = segment.concat().concat();
    if left.trim().is_empty() { Ok(out) } else { Err(Fault::TooLong("the last segment")) }
}

fn check_counts(segments: &[Segment]) -> Result<(), Fault> {
    let mut start = None;
    for (at, segment) in segments.iter().enumerate() {
        match field(segment, 0, 0) {
            Some("UNH") => start = Some(at),
            Some("UNT") => {
                let count = field(segment, 1, 0).and_then(|text| text.parse::<usize>().ok());
                let real = start.take().map(|start| at - start + 1);
                if count.is_none() || real.is_none() || count != real {
                    return Err(Fault::Checksum("the number of segments in UNT"));
                }
            }
            _ => {}
        }
    }
    if start.is_some() { Err(Fault::TooLong("the message")) } else { Ok(()) }
}

#[derive(Default)]
struct Reader {
    place: Option<Arc<str>>,
    code: Option<String>,
    value: Option<(Decimal, Quality)>,
    times: [Option<Timestamp>; 3],
    out: Vec<Reading>,
}

impl Reader {
    fn segment(&mut self, segment: &Segment, marks: Marks) -> Result<(), Fault> {
        match field(segment, 0, 0).unwrap_or_default() {
            "LOC" if matches!(field(segment, 1, 0), Some("172" | "107")) => {
                self.flush()?;
                self.place = field(segment, 2, 0).map(Into::into);
            }
            "LIN" => {
                self.flush()?;
                self.code = None;
            }
            "PIA" => self.code = field(segment, 2, 0).map(Into::into),
            "QTY" => {
                self.flush()?;
                let number = field(segment, 1, 1).unwrap_or_default().replace(char::from(marks.decimal), ".");
                let value = Decimal::parse(&number).ok_or(Fault::structure("a QTY that is no number"))?;
                let quality = match field(segment, 1, 0) {
                    Some("220") => Quality::Measured,
                    Some("67" | "187" | "Z18" | "Z31" | "79" | "Z35") => Quality::Estimated,
                    _ => Quality::Doubtful,
                };
                self.value = Some((value, quality));
                self.times = [None; 3];
            }
            "DTM" if self.value.is_some() => {
                let time = time(segment);
                match field(segment, 1, 0) {
                    Some("163") => self.times[0] = time,
                    Some("164") => self.times[1] = time,
                    Some("7" | "9" | "Z06") => self.times[2] = time,
                    _ => {}
                }
            }
            "UNT" => self.flush()?,
            _ => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let Some((value, quality)) = self.value.take() else { return Ok(()) };
        let [start, end, at] = self.times;
        let time = end.or(at).ok_or(Fault::structure("a QTY without its time"))?;
        let code = self.code.clone().ok_or(Fault::structure("a QTY before any PIA"))?;
        let unit = unit(&code);
        let mut reading = Reading::new(code, value, unit).of(self.place.clone()).at(Some(time));
        reading.quality = quality;
        reading.interval_s = start.zip(end).and_then(|(s, e)| u32::try_from(e.seconds_since(s)).ok());
        self.out.push(reading);
        if self.out.len() > super::READINGS_MAX { Err(Fault::TooLong("the file")) } else { Ok(()) }
    }
}

/// `203:` YYYYMMDDhhmm, `303:` with an offset in hours, `102:` a date.
fn time(segment: &Segment) -> Option<Timestamp> {
    let (text, format) = (field(segment, 1, 1)?, field(segment, 1, 2)?);
    match format {
        "303" => {
            let (local, offset) = text.split_at_checked(12)?;
            let offset = if offset.is_empty() { "+00" } else { offset };
            Some(Zone::named(offset)?.to_utc(compact(local)?, Season::Unsaid))
        }
        "203" | "102" => Some(compact(text)?),
        _ => None,
    }
}

/// The market's units by the OBIS code.
fn unit(code: &str) -> &'static str {
    let parts: Vec<u8> = code.split(['-', ':', '.']).filter_map(|part| part.parse().ok()).collect();
    match parts.as_slice() {
        // Gas: 99.33 is energy, 3 the volume.
        [7, _, 99, ..] => "kWh",
        [7, ..] => "m3",
        [1, _, 3..=8, ..] => "kvarh",
        [1, _, _, 6 | 7, ..] => "kW",
        _ => "kWh",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> String {
        let count = body.matches('\'').count() + 2;
        format!("UNB+UNOC:3+A:500+B:500+260101:0000+R'UNH+1+MSCONS:D:04B:UN:2.4c'{body}UNT+{count}+1'UNZ+1+R'")
    }

    /// BDEW MSCONS 2.4c: a register reading has one time, the energy of an interval two; `?` releases a separator.
    #[test]
    fn registers_and_intervals() {
        let text = message(
            "BGM+7+X+9'NAD+DP'LOC+172+DE0001?+2'LIN+1'PIA+5+1-1?:1.8.0:SRW'QTY+220:1234.5'DTM+9:202601010000?+00:303'\
             LIN+2'PIA+5+7-20?:99.33.17:SRW'QTY+67:10'DTM+163:202512310500?+00:303'DTM+164:202601010500?+00:303'",
        );
        let readings = decode(&text).expect("a message");
        let shown: Vec<_> = readings
            .iter()
            .map(|r| {
                format!(
                    "{} {} {} {} {:?} {:?}",
                    r.meter.as_deref().unwrap_or("-"),
                    r.quantity,
                    r.value,
                    r.unit,
                    r.interval_s,
                    r.quality
                )
            })
            .collect();
        assert_eq!(
            shown,
            ["DE0001+2 1-1:1.8.0 1234.5 kWh None Measured", "DE0001+2 7-20:99.33.17 10 kWh Some(86400) Estimated"]
        );
    }

    #[test]
    fn a_lost_segment_refuses_the_message() {
        let text = message("BGM+7+X+9'LOC+172+DE1'LIN+1'PIA+5+1-1?:1.8.0:SRW'QTY+220:1'DTM+9:202601010000?+00:303'");
        assert!(decode(&text).is_ok());
        assert!(decode(&text.replace("BGM+7+X+9'", "")).is_err());
        assert!(decode(&text.replace("QTY+220:1'", "QTY+220:x'")).is_err());
        assert!(decode(&text[..text.len() - 20]).is_err());
    }
}
