//! DSMR P1 (2.2 to 5 and national variants) and the data blocks of IEC 62056-21 mode C and D: text lines to readings.
//!
//! Each sub-meter's value carries the time of its own capture. A time that cannot be (all zeros, the year 2000, a 13th month)
//! leaves that value without a time and touches no other. Formats: NTA 8130, DSMR P1 companion standard 5.0.2, e-MUCS-P1.

use alloc::{format, string::String, sync::Arc, vec::Vec};
use metering::Timestamp;

use crate::{
    Decimal, Fault, Reading,
    bytes::{from_hex, printable},
    checksum,
    cipher::Keys,
    dlms::security::open_general_glo,
    framing::p1::CIPHERED,
    zone::{Season, Zone},
};

/// One object of a telegram: `id(group)(group)…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<'a> {
    /// OBIS code as sent: `1-0:1.8.0`, `1-0:1.8.0*255` or `1.8.0`.
    pub id: &'a str,
    groups: &'a str,
}

impl<'a> Object<'a> {
    /// The texts in parentheses, in order.
    pub fn groups(&self) -> impl Iterator<Item = &'a str> {
        self.groups.split('(').skip(1).map(|group| group.split(')').next().unwrap_or_default())
    }
}

/// Decodes one frame, whatever its version. `zone` is that of the meter's clock; without it local times are left out.
pub fn decode(frame: &[u8], zone: Option<Zone>, keys: Option<&Keys>) -> Result<Vec<Reading>, Fault> {
    if frame.first() == Some(&CIPHERED) {
        let keys = keys.ok_or(Fault::KeyMissing)?;
        let plain = open_general_glo(frame, keys)?.plain;
        let end = plain.iter().rposition(|byte| *byte == b'!').ok_or(Fault::WrongKey)?;
        let digits = plain[end + 1..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        return readings(text(&plain[..end + 1 + digits])?, zone);
    }
    readings(text(frame)?, zone)
}

/// The text between `/` and `!` of a frame whose checksum is right.
pub fn text(frame: &[u8]) -> Result<&str, Fault> {
    let whole = core::str::from_utf8(frame).map_err(|_| Fault::structure("a byte that is no text"))?;
    let end = whole.rfind('!').ok_or(Fault::TooLong("the telegram"))?;
    let (body, tail) = (&whole[..=end], &whole[end + 1..]);
    if let Some(start) = body.find('\u{2}') {
        let covered = &frame[start + 1..frame.len() - 1];
        if frame.last() != Some(&checksum::xor8(covered)) {
            return Err(Fault::Checksum("the BCC of the data block"));
        }
        return Ok(&body[..end]);
    }
    let digits = tail.trim_ascii();
    if digits.is_empty() {
        // Versions from 4 on end with a CRC: without it, it was cut away.
        let versioned = objects(body).flatten().any(|object| matches!(object.id, "1-3:0.2.8" | "0-0:96.1.4"));
        return if versioned { Err(Fault::Checksum("the CRC, which is missing,")) } else { Ok(&body[..end]) };
    }
    let given = u16::from_str_radix(digits, 16).map_err(|_| Fault::Checksum("the CRC of the telegram"))?;
    let fits =
        given == checksum::arc(body.as_bytes()) || given == checksum::arc(with_carriage_returns(body).as_bytes());
    if fits { Ok(&body[..end]) } else { Err(Fault::Checksum("the CRC of the telegram")) }
}

/// A capture whose CR LF became LF, as it was sent.
fn with_carriage_returns(body: &str) -> String {
    if body.contains('\r') { String::new() } else { body.replace('\n', "\r\n") }
}

/// The objects of a telegram; a line that is none is an error.
pub fn objects(text: &str) -> impl Iterator<Item = Result<Object<'_>, Fault>> {
    let first = text.find(['\n', '\r']).unwrap_or(text.len());
    let mut rest = &text[first..];
    core::iter::from_fn(move || {
        rest = rest.trim_start_matches(['\r', '\n', '\u{2}', ' ']);
        if rest.is_empty() || rest.starts_with('!') {
            return None;
        }
        let end = object_end(rest);
        let (object, tail) = rest.split_at(end.unwrap_or_else(|| rest.find('\n').map_or(rest.len(), |at| at + 1)));
        rest = tail;
        let bad = || Fault::structure("a line without a value in parentheses");
        Some(match (end, object.find('(')) {
            (Some(_), Some(at)) if at > 0 => Ok(Object { id: object[..at].trim(), groups: &object[at..] }),
            _ => Err(bad()),
        })
    })
}

/// Where an object ends: behind its last `)`, a group on the next line included (gas of DSMR 2.2 and 3).
fn object_end(text: &str) -> Option<usize> {
    let (mut at, mut end) = (text.find('(')?, None);
    if text[..at].contains(['\r', '\n']) {
        return None;
    }
    loop {
        let close = at + text[at..].find(')')?;
        if text[at + 1..close].contains('(') {
            return None;
        }
        end = Some(close + 1).or(end);
        let next = text[close + 1..].trim_start_matches(['\r', '\n']);
        if !next.starts_with('(') {
            return end.filter(|_| next.len() < text[close + 1..].len() || next.is_empty() || next.starts_with('!'));
        }
        at = text.len() - next.len();
    }
}

/// All readings of a telegram without its checksum.
pub fn readings(text: &str, zone: Option<Zone>) -> Result<Vec<Reading>, Fault> {
    let objects = objects(text).collect::<Result<Vec<_>, _>>()?;
    let identity = Identity::of(text, &objects);
    let clock = objects
        .iter()
        .find(|object| matches!(object.id, "0-0:1.0.0" | "0-0:1.0.0*255"))
        .and_then(|object| time(object.groups().next()?, zone));
    Ok(objects.iter().filter_map(|object| reading(object, &identity, clock, zone)).collect())
}

/// The numbers of the meter and of those behind it.
struct Identity {
    main: Option<Arc<str>>,
    channels: [Option<Arc<str>>; 8],
}

impl Identity {
    fn of(text: &str, objects: &[Object<'_>]) -> Self {
        let number = |wanted: &[&str]| {
            wanted.iter().find_map(|id| {
                let object = objects.iter().find(|object| object.id == *id)?;
                object.groups().next().filter(|text| !text.is_empty()).map(number_text)
            })
        };
        let main = number(&[
            "0-0:96.1.1",
            "0-0:96.1.0",
            "0-0:96.1.255*255",
            "0-0:96.1.0*255",
            "0-0:42.0.0",
            "1-0:96.1.0*255",
            "1-0:0.0.0*255",
            "1-0:0.0.0",
            "0-0:C.1.0",
            "C.1.0",
            "0.0.0",
            "0.0.9",
        ]);
        let ident = text.lines().next().and_then(|line| line.strip_prefix('/')).map(str::trim);
        let main = main.or_else(|| ident.filter(|ident| !ident.is_empty()).map(Arc::from));
        let mut channels: [Option<Arc<str>>; 8] = Default::default();
        let mut ranks = [usize::MAX; 8];
        for object in objects {
            let Some((channel, name)) = object.id.strip_prefix("0-").and_then(|rest| rest.split_once(':')) else {
                continue;
            };
            let channel = channel.parse::<usize>().ok().filter(|channel| (1..8).contains(channel));
            let rank = ["96.1.0", "96.1.1", "96.1.2"].iter().position(|known| *known == name);
            let sent = object.groups().next().filter(|text| !text.is_empty());
            if let (Some(channel), Some(rank), Some(sent)) = (channel, rank, sent)
                && rank < ranks[channel]
            {
                (ranks[channel], channels[channel]) = (rank, Some(number_text(sent)));
            }
        }
        Self { main, channels }
    }

    /// The meter that an object is of: `0-N:` with N > 0 is the sub-meter of channel N.
    fn of_object(&self, id: &str) -> Option<Arc<str>> {
        let channel = id.strip_prefix("0-").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
        match channel {
            None | Some(0) => self.main.clone(),
            Some(channel) => self.channels.get(channel).cloned().flatten(),
        }
    }
}

/// A number as sent: hexadecimal digits of ASCII, or the text itself.
fn number_text(sent: &str) -> Arc<str> {
    let decoded = from_hex(sent).filter(|bytes| bytes.len() > 1);
    decoded.as_deref().and_then(printable).unwrap_or(sent).into()
}

fn reading(object: &Object<'_>, identity: &Identity, clock: Option<Timestamp>, zone: Option<Zone>) -> Option<Reading> {
    let mut groups: [&str; 7] = [""; 7];
    let count = object.groups().enumerate().map(|(at, group)| {
        if let Some(place) = groups.get_mut(at) {
            *place = group;
        }
    });
    let count = count.count();
    let (value, unit, at) = match count {
        1 => with_unit(groups[0], clock)?,
        2 if groups[0].contains('*') => (with_unit(groups[0], time(groups[1], zone)))?,
        2 => with_unit(groups[1], time(groups[0], zone))?,
        // time, status, interval, count, OBIS code, unit, value
        7 => (groups[6], groups[5], time(groups[0], zone)),
        _ => return None,
    };
    let value = Decimal::parse(value)?;
    if !is_measured(unit) || unit.is_empty() {
        return None;
    }
    let id = object.id.strip_suffix("*255").unwrap_or(object.id);
    let id = if id.contains(':') { id.into() } else { format!("1-0:{id}") };
    let mut reading = Reading::new(id, value, String::from(unit)).of(identity.of_object(object.id)).at(at);
    reading.quality = crate::Quality::Measured;
    Some(reading)
}

fn with_unit(group: &str, at: Option<Timestamp>) -> Option<(&str, &str, Option<Timestamp>)> {
    let (value, unit) = group.split_once('*')?;
    Some((value, unit, at))
}

/// Units of counters and durations are no measurement.
fn is_measured(unit: &str) -> bool {
    !matches!(unit, "s" | "min" | "h" | "d")
}

/// `YYMMDDhhmm[ss][S|W]`, or `YY-MM-DD hh:mm` of IEC 62056-21. `None` when no such time can be meant.
pub fn time(text: &str, zone: Option<Zone>) -> Option<Timestamp> {
    let (digits, season) = match text.as_bytes().last()? {
        b'S' => (&text[..text.len() - 1], Season::Summer),
        b'W' => (&text[..text.len() - 1], Season::Winter),
        _ => (text, Season::Unsaid),
    };
    let digits: Vec<u8> = digits.bytes().filter(|byte| !b"-: .".contains(byte)).collect();
    if !matches!(digits.len(), 10 | 12) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let field =
        |at: usize| digits.get(at..at + 2).map_or(0, |two| i64::from(two[0] - b'0') * 10 + i64::from(two[1] - b'0'));
    let local = Timestamp::from_civil((2000 + field(0), field(2), field(4)), (field(6), field(8), field(10)))?;
    (field(0) > 0).then_some(())?;
    Some(zone?.to_utc(local, season))
}
