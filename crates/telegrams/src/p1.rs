//! DSMR P1 (2.2 to 5 and national variants) and the data blocks of IEC 62056-21 mode C and D: text lines to readings.
//!
//! Each sub-meter's value carries the time of its own capture. A time that cannot be (all zeros, the year 2000, a 13th month)
//! leaves that value without a time and touches no other. Formats: NTA 8130, DSMR P1 companion standard 5.0.2, e-MUCS-P1.

use alloc::{borrow::Cow, format, string::String, sync::Arc, vec::Vec};
use metering::Timestamp;

use crate::{
    Decimal, Fault, Reading,
    bytes::{from_hex, printable},
    checksum,
    cipher::{Key, Keys},
    dlms::security::{CounterGuard, Opened, open_general_glo, open_general_glo_unproved},
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
        let mut rest = self.groups;
        core::iter::from_fn(move || {
            let open = find(rest, |byte| byte == b'(')?;
            let inside = &rest[open + 1..];
            let end = find(inside, |byte| byte == b')').unwrap_or(inside.len());
            rest = &inside[end..];
            Some(&inside[..end])
        })
    }
}

/// Decodes one frame, whatever its version. `zone` is that of the meter's clock; without it local times are left out.
pub fn decode(frame: &[u8], zone: Option<Zone>, keys: Option<&Keys>) -> Result<Vec<Reading>, Fault> {
    decode_next(frame, zone, keys, &mut CounterGuard::default())
}

/// As [`decode`], of a line on which telegrams follow each other: an encrypted one is taken once.
pub fn decode_next(
    frame: &[u8],
    zone: Option<Zone>,
    keys: Option<&Keys>,
    guard: &mut CounterGuard,
) -> Result<Vec<Reading>, Fault> {
    if frame.first() == Some(&CIPHERED) {
        let opened = open(frame, keys.ok_or(Fault::KeyMissing)?)?;
        let readings = readings(text(inner(&opened.plain)?)?, zone)?;
        guard.accept(opened.counter)?;
        return Ok(readings);
    }
    if keys.is_some() {
        return Err(Fault::Unprotected("a telegram in the clear"));
    }
    readings(text(frame)?, zone)
}

/// The telegram inside an opened envelope, up to its checksum.
pub fn inner(plain: &[u8]) -> Result<&[u8], Fault> {
    let end = plain.iter().rposition(|byte| *byte == b'!').ok_or(Fault::WrongKey)?;
    let digits = plain[end + 1..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    Ok(&plain[..end + 1 + digits])
}

/// Opens the encrypted envelope. Without an authentication key the public one of Luxembourg is tried; where that is not the one (most
/// Austrian operators give none), the telegram's own CRC must prove the key.
pub fn open(frame: &[u8], keys: &Keys) -> Result<Opened, Fault> {
    match open_general_glo(frame, keys) {
        Err(Fault::WrongKey) if keys.authentication.is_none() => {}
        outcome => return outcome,
    }
    let public = Keys { authentication: Some(PUBLIC_AUTHENTICATION_KEY), ..*keys };
    if let Ok(opened) = open_general_glo(frame, &public) {
        return Ok(opened);
    }
    let opened = open_general_glo_unproved(frame, keys)?;
    let telegram = inner(&opened.plain)?;
    let has_crc = telegram.last().is_some_and(u8::is_ascii_hexdigit);
    if has_crc && telegram.first() == Some(&b'/') && text(telegram).is_ok() { Ok(opened) } else { Err(Fault::WrongKey) }
}

/// The same for every meter of Luxembourg (Smarty P1 specification 1.1.3, 3.2.5).
const PUBLIC_AUTHENTICATION_KEY: Key =
    [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF];

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

/// Where the first such byte stands. By bytes: a search for a character costs more than what it finds is long.
fn find(text: &str, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    text.bytes().position(wanted)
}

/// The objects of a telegram; a line that is none is an error.
pub fn objects(text: &str) -> impl Iterator<Item = Result<Object<'_>, Fault>> {
    let is_blank = |byte| matches!(byte, b'\r' | b'\n' | 2 | b' ');
    let mut rest = &text[find(text, |byte| matches!(byte, b'\r' | b'\n')).unwrap_or(text.len())..];
    core::iter::from_fn(move || {
        rest = &rest[find(rest, |byte| !is_blank(byte))?..];
        if rest.starts_with('!') {
            return None;
        }
        match extent(rest.as_bytes()) {
            Some((open, end)) if open > 0 => {
                let object = Object { id: rest[..open].trim_ascii(), groups: &rest[open..end] };
                rest = &rest[end..];
                Some(Ok(object))
            }
            other => {
                let line = find(rest, |byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
                rest = &rest[other.map_or(line, |(_, end)| end)..];
                Some(Err(Fault::structure("a line without a value in parentheses")))
            }
        }
    })
}

/// Where an object has its first `(`, and where it ends: behind its last `)`, a group on the next line included (gas of DSMR 2.2 and 3).
fn extent(bytes: &[u8]) -> Option<(usize, usize)> {
    let open = bytes.iter().position(|byte| matches!(byte, b'(' | b'\r' | b'\n'))?;
    (bytes[open] == b'(').then_some(())?;
    let mut at = open;
    loop {
        let close = at + 1 + bytes[at + 1..].iter().position(|byte| matches!(byte, b'(' | b')'))?;
        (bytes[close] == b')').then_some(())?;
        let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let next = close + 1 + bytes[close + 1..].iter().take_while(|byte| is_break(byte)).count();
        match bytes.get(next) {
            Some(b'(') => at = next,
            None | Some(b'!') => return Some((open, close + 1)),
            // IEC 62056-21 lets several data sets share a line.
            Some(byte) if next > close + 1 || byte.is_ascii_alphanumeric() => return Some((open, close + 1)),
            Some(_) => return None,
        }
    }
}

/// What an object takes in a telegram at least, most often.
const OBJECT_BYTES: usize = 20;

/// All readings of a telegram without its checksum.
pub fn readings(text: &str, zone: Option<Zone>) -> Result<Vec<Reading>, Fault> {
    let mut found = Vec::with_capacity(text.len() / OBJECT_BYTES);
    for object in objects(text) {
        found.push(object?);
    }
    let objects = found;
    let identity = Identity::of(text, &objects);
    let clock = objects
        .iter()
        .find(|object| matches!(object.id, "0-0:1.0.0" | "0-0:1.0.0*255"))
        .and_then(|object| time(object.groups().next()?, zone));
    let mut out = Vec::with_capacity(objects.len());
    for object in &objects {
        match monthly_peaks(object, &identity, zone) {
            Some(peaks) => out.extend(peaks),
            None => out.extend(reading(object, &identity, clock, zone)),
        }
    }
    Ok(out)
}

/// The highest quarter-hours of the last months (Belgium): `0-0:98.1.0(count)(code)(code)(read at)(peak at)(value*unit)…`, each with
/// the time of its peak. `None`: another object, or another layout of it.
fn monthly_peaks(object: &Object<'_>, identity: &Identity, zone: Option<Zone>) -> Option<Vec<Reading>> {
    (object.id.strip_suffix("*255").unwrap_or(object.id) == "0-0:98.1.0").then_some(())?;
    let mut groups = object.groups();
    let count: usize = groups.next()?.parse().ok()?;
    (groups.next()?.contains(':') && groups.next()?.contains(':')).then_some(())?;
    let mut out = Vec::new();
    for _ in 0..count.min(PEAKS_MAX) {
        let (_read_at, at, value) = (groups.next()?, groups.next()?, groups.next()?);
        let (value, unit) = value.split_once('*')?;
        let reading = Reading::new("0-0:98.1.0", Decimal::parse(value)?, unit_text(unit));
        out.push(reading.of(identity.main.clone()).at(time(at, zone)));
    }
    Some(out)
}

/// Months that are read of a log of peaks.
const PEAKS_MAX: usize = 36;

/// The numbers of the meter and of those behind it.
struct Identity {
    main: Option<Arc<str>>,
    channels: [Option<Arc<str>>; 8],
}

impl Identity {
    fn of(text: &str, objects: &[Object<'_>]) -> Self {
        let mut main = None;
        for object in objects {
            let rank = number_rank(object.id).filter(|rank| main.is_none_or(|(best, _)| *rank < best));
            let sent = rank.and_then(|_| object.groups().next()).filter(|text| !text.is_empty());
            main = rank.zip(sent).or(main);
        }
        let main = main.map(|(_, sent)| number_text(sent));
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

/// How well a code names the meter itself: the least counts. `None`: it names something else.
fn number_rank(id: &str) -> Option<usize> {
    Some(match id {
        "0-0:96.1.1" => 0,
        "0-0:96.1.0" => 1,
        "0-0:96.1.255*255" => 2,
        "0-0:96.1.0*255" => 3,
        "0-0:42.0.0" => 4,
        "1-0:96.1.0*255" => 5,
        "1-0:0.0.0*255" => 6,
        "1-0:0.0.0" => 7,
        "0-0:C.1.0" => 8,
        "C.1.0" => 9,
        "0.0.0" => 10,
        "0.0.9" => 11,
        _ => return None,
    })
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
    let (value, unit, at) = match (count, with_unit(groups[0])) {
        (1, Some((value, unit))) => (value, unit, clock),
        (1, None) if is_factor(object.id) => (groups[0], "", clock),
        (2, Some((value, unit))) => (value, unit, time(groups[1], zone)),
        (2, None) => with_unit(groups[1]).map(|(value, unit)| (value, unit, time(groups[0], zone)))?,
        // time, status, interval, count, OBIS code, unit, value
        (7, _) => (groups[6], groups[5], time(groups[0], zone)),
        _ => return None,
    };
    let value = Decimal::parse(value)?;
    if !is_measured(unit) || unit.is_empty() && !is_factor(object.id) {
        return None;
    }
    let id = object.id.strip_suffix("*255").unwrap_or(object.id);
    let id = if find(id, |byte| byte == b':').is_some() { id.into() } else { format!("1-0:{id}") };
    Some(Reading::new(id, value, unit_text(unit)).of(identity.of_object(object.id)).at(at))
}

/// Power factors come without a unit, in all and by phase.
fn is_factor(id: &str) -> bool {
    let code = id.split(':').nth(1).unwrap_or(id);
    let of_phase = ["13.7", "33.7", "53.7", "73.7"].iter().find_map(|factor| code.strip_prefix(factor));
    of_phase.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A unit as sent; the usual ones cost no memory.
fn unit_text(unit: &str) -> Cow<'static, str> {
    Cow::Borrowed(match unit {
        "kWh" => "kWh",
        "kW" => "kW",
        "V" => "V",
        "A" => "A",
        "m3" => "m3",
        "kvar" => "kvar",
        "kvarh" => "kvarh",
        "Wh" => "Wh",
        "W" => "W",
        "kVAr" => "kVAr",
        "kVArh" => "kVArh",
        "Hz" => "Hz",
        "" => "",
        other => return Cow::Owned(other.into()),
    })
}

/// `value*unit`.
fn with_unit(group: &str) -> Option<(&str, &str)> {
    let star = find(group, |byte| byte == b'*')?;
    Some((&group[..star], &group[star + 1..]))
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
    let (mut fields, mut count) = ([0_i64; 6], 0);
    for byte in digits.bytes().filter(|byte| !b"-: .,/".contains(byte)) {
        let place = fields.get_mut(count / 2).filter(|_| byte.is_ascii_digit())?;
        *place = *place * 10 + i64::from(byte - b'0');
        count += 1;
    }
    matches!(count, 10 | 12).then_some(())?;
    let field = |at: usize| fields.get(at / 2).copied().unwrap_or(0);
    let local = Timestamp::from_civil((2000 + field(0), field(2), field(4)), (field(6), field(8), field(10)))?;
    (field(0) > 0).then_some(())?;
    Some(zone?.to_utc(local, season))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn shown(text: &str) -> Vec<String> {
        let readings = readings(text, Zone::named("Europe/Brussels")).expect("a telegram");
        let line = |r: &Reading| {
            let time = r.time.map_or_else(|| "-".into(), |time| time.to_string());
            format!("{} {time} {} {} {}", r.meter.as_deref().unwrap_or("-"), r.quantity, r.value, r.unit)
        };
        readings.iter().map(line).collect()
    }

    /// e-MUCS P1 1.7.1: the peaks of past months, with the time of each.
    #[test]
    fn peaks_of_past_months_carry_their_own_time() {
        let text = "/FLU5\\X\r\n\r\n0-0:96.1.1(4142)\r\n0-0:98.1.0(2)(1-0:1.6.0)(1-0:1.6.0)(200501000000S)\
                    (200423192538S)(03.695*kW)(200401000000S)(200305122139W)(05.980*kW)\r\n1-0:1.4.0(02.351*kW)\r\n!";
        assert_eq!(
            shown(text),
            [
                "AB 2020-04-23T17:25:38Z 0-0:98.1.0 3.695 kW",
                "AB 2020-03-05T11:21:39Z 0-0:98.1.0 5.980 kW",
                "AB - 1-0:1.4.0 2.351 kW"
            ]
        );
    }

    /// IEC 62056-21, data lines: data sets may share a line, codes may be short, a maximum has its time behind it.
    #[test]
    fn data_sets_share_a_line() {
        let text = "/ABC5X\r\n0.0.0(0815)1.8.1(000012.5*kWh)1.8.2(3*kWh)\r\n1.6.1(0.55*kW)(26-07-01,12:15)\r\n\
                    13.7(0.98)\r\nF.F(00)\r\n!";
        assert_eq!(
            shown(text),
            [
                "0815 - 1-0:1.8.1 12.5 kWh",
                "0815 - 1-0:1.8.2 3 kWh",
                "0815 2026-07-01T10:15:00Z 1-0:1.6.1 0.55 kW",
                "0815 - 1-0:13.7 0.98 ",
            ]
        );
    }

    #[test]
    fn factors_have_no_unit_and_other_bare_numbers_are_no_measurement() {
        let text =
            "/EON5\\X\r\n\r\n1-0:13.7.0(0.987)\r\n1-0:33.7.0(1.000)\r\n0-0:96.14.0(0001)\r\n1-0:14.7.0(50.00*Hz)\r\n!";
        assert_eq!(
            shown(text),
            ["EON5\\X - 1-0:13.7.0 0.987 ", "EON5\\X - 1-0:33.7.0 1.000 ", "EON5\\X - 1-0:14.7.0 50.00 Hz"]
        );
    }

    #[test]
    fn the_public_authentication_key_is_tried_where_none_is_given() {
        let keys = Keys { encryption: [9; 16], authentication: Some(PUBLIC_AUTHENTICATION_KEY) };
        let title = *b"SAG\0\0\0\0\x01";
        let sealed = crate::dlms::security::seal(0x30, title, 7, &keys, b"/LUX5X\r\n\r\n1-0:1.7.0(00.351*kW)\r\n!\r\n");
        let frame = crate::dlms::security::general_glo(title, &sealed);
        let readings = decode(&frame, None, Some(&Keys { authentication: None, ..keys })).expect("it opens");
        assert_eq!(readings[0].value.to_string(), "0.351");
        let other = Keys { encryption: [8; 16], authentication: None };
        assert_eq!(decode(&frame, None, Some(&other)), Err(Fault::WrongKey));
    }

    #[test]
    fn with_a_key_what_is_not_sealed_is_not_believed_and_a_telegram_is_taken_once() {
        let keys = Keys { encryption: [9; 16], authentication: Some([5; 16]) };
        let title = *b"SAG\0\0\0\0\x01";
        let body = b"/EST5X\r\n\r\n1-0:1.8.0(014159934*Wh)\r\n!\r\n";
        let sealed = |control, counter| {
            let sealed = crate::dlms::security::seal(control, title, counter, &keys, body);
            crate::dlms::security::general_glo(title, &sealed)
        };
        let mut guard = CounterGuard::default();
        let mut next = |frame: &[u8]| decode_next(frame, None, Some(&keys), &mut guard).map(|readings| readings.len());
        assert!(matches!(next(body), Err(Fault::Unprotected(_))));
        for control in [0x00, 0x20] {
            assert!(matches!(next(&sealed(control, u32::MAX)), Err(Fault::Unprotected(_))), "{control:02x}");
        }
        assert_eq!(next(&sealed(0x30, 7)), Ok(1), "and the counter of a forged one did not count");
        assert_eq!(next(&sealed(0x30, 7)), Err(Fault::Replayed));
        assert_eq!(next(&sealed(0x30, 6)), Err(Fault::Replayed));
        assert_eq!(next(&sealed(0x30, 8)), Ok(1));
    }

    /// Energienetze Steiermark and others give their customers the encryption key alone.
    #[test]
    fn a_crc_inside_proves_the_key_where_the_tag_cannot() {
        let keys = Keys { encryption: [9; 16], authentication: Some([5; 16]) };
        let title = *b"SAG\0\0\0\0\x01";
        let body = "/EST5X\r\n\r\n1-0:1.8.0(014159934*Wh)\r\n!";
        let whole = format!("{body}{:04X}\r\n", checksum::arc(body.as_bytes()));
        let sealed = |text: &str| {
            crate::dlms::security::general_glo(
                title,
                &crate::dlms::security::seal(0x30, title, 7, &keys, text.as_bytes()),
            )
        };
        let alone = Keys { authentication: None, ..keys };
        assert_eq!(decode(&sealed(&whole), None, Some(&alone)).map(|readings| readings.len()), Ok(1));
        assert_eq!(decode(&sealed(body), None, Some(&alone)), Err(Fault::WrongKey), "no CRC, no proof");
        let mut damaged = sealed(&whole);
        damaged[40] ^= 1;
        assert_eq!(decode(&damaged, None, Some(&alone)), Err(Fault::WrongKey));
        let other = Keys { encryption: [8; 16], authentication: None };
        assert_eq!(decode(&sealed(&whole), None, Some(&other)), Err(Fault::WrongKey));
    }
}
