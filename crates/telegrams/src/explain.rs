//! A telegram field by field, as a person wants it beside the meter: what it is, what it says, what it means.

use std::fmt::Write;

use crate::{
    Fault, Reading,
    bytes::{from_hex, hex, printable},
    cipher::Keys,
    dlms::{axdr::obis_text, push::Notification, push_link::Assembler},
    folder::{self, Entry},
    framing::{Splitter, hdlc::HdlcFraming, mbus::MBusFraming, p1::P1, sml, sml::SmlTransport},
    mbus::{Formats, Telegram, telegram},
    models::Models,
    p1, sml as sml_telegram,
};

/// Names of quantities by the C and D of an OBIS code.
fn quantity(obis: &str) -> &'static str {
    let code = obis.split(':').nth(1).unwrap_or(obis);
    let mut parts = code.split(['.', '*']);
    let (c, d) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match (c, d) {
        ("1", "8") => "import register",
        ("2", "8") => "export register",
        ("3", "8") => "reactive import register",
        ("4", "8") => "reactive export register",
        ("1", "7") => "power import",
        ("2", "7") => "power export",
        ("15", "7") => "absolute power (no sign)",
        ("16", "7") => "net power (import − export)",
        ("3", "7") => "reactive power import",
        ("4", "7") => "reactive power export",
        ("21" | "41" | "61", "7") => "power import of a phase",
        ("22" | "42" | "62", "7") => "power export of a phase",
        ("36" | "56" | "76", "7") => "net power of a phase",
        ("32" | "52" | "72" | "12", "7") => "voltage",
        ("31" | "51" | "71" | "11", "7") => "current",
        ("13" | "33" | "53" | "73", "7") => "power factor",
        ("14", "7") => "frequency",
        ("1", "4") => "running quarter-hour demand",
        ("1", "6") => "maximum demand",
        ("24", "1") => "kind of the sub-meter (3 gas, 4 heat, 7 water)",
        ("24", "2" | "3") => "sub-meter register, with the time of its own capture",
        ("96", "1") => "meter number",
        ("96", "14") => "tariff in force",
        ("96", "13") => "message to the consumer",
        ("96", "7") => "power failures",
        ("99", "97") => "log of long power failures",
        ("1", "0") => "clock",
        ("0", "2") => "version of the format",
        ("17", "0") => "limiter threshold",
        ("96", "3") => "breaker state",
        _ => "",
    }
}

/// Which kind a lone file is: by its beginning.
pub fn sniff(name: &str, bytes: &[u8]) -> &'static str {
    let text = core::str::from_utf8(bytes).unwrap_or_default().trim_start_matches('\u{FEFF}').trim_start();
    let starts = |begin: &str| text.starts_with(begin);
    match bytes {
        [0x1B, 0x1B, 0x1B, 0x1B, ..] => "sml",
        [0x7E, 0xA0..=0xAF, ..] | [0x0F | 0xE6 | 0xE0, ..] => "dlms-push",
        [0x68, _, _, 0x68, _, _, 0x00..=0x1F, ..] => "dlms-push",
        [0x68, _, _, 0x68, ..] => "mbus",
        [0xDB, 8, ..] => "p1",
        _ if starts("/") => "p1",
        _ if starts("100,NEM1") => "nem12",
        _ if starts("UNA") || starts("UNB") => "mscons",
        _ if starts("<") && text.contains("espi") => "espi",
        _ if starts("<") => "iec61968",
        _ if starts("{") && text.contains("\"registers\"") => "modbus",
        _ if starts("{") && text.contains("\"to\"") && text.contains("\"hex\"") => "dlms-talk",
        _ if starts("{") && text.contains("\"path\"") => "http",
        _ if starts("{") => "mqtt",
        _ if name.ends_with(".hex") || from_hex(text).is_some_and(|bytes| bytes.len() > 10) => "wmbus",
        _ if bytes.windows(4).any(|four| four == [0x1B; 4]) => "sml",
        _ if text.contains('/') && text.contains("1-0:") => "p1",
        _ => "csv",
    }
}

/// Explains one file; `entry` holds its kind, zone and keys.
pub fn explain(
    entry: &Entry,
    bytes: &[u8],
    beside: &dyn Fn(&str) -> Option<String>,
    models: &Models,
) -> Result<String, Fault> {
    let keys = entry.keys()?;
    let mut out = format!("{}: {} bytes, read as {}\n\n", entry.file, bytes.len(), entry.kind());
    match entry.kind() {
        "p1" => each(P1, bytes, &mut out, |frame, out| p1_lines(frame, keys.as_ref(), out)),
        "sml" => each(SmlTransport, bytes, &mut out, |frame, out| {
            out.push_str(&sml_telegram::tree(&sml::contents(frame)?));
            Ok(())
        }),
        "dlms-push" => push(entry, bytes, keys.as_ref(), models, &mut out),
        "mbus" => {
            let mut formats = Formats::default();
            each(MBusFraming, bytes, &mut out, |frame, out| {
                records(&telegram::wired(frame, keys.map(|keys| keys.encryption).as_ref(), &mut formats)?, out)
            });
        }
        "wmbus" => {
            let mut formats = Formats::default();
            let key = keys.map(|keys| keys.encryption);
            for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.trim().is_empty()) {
                let frame = from_hex(line).ok_or(Fault::structure("a line that is not hexadecimal"));
                let shown =
                    frame.and_then(|frame| records(&telegram::wireless(&frame, key.as_ref(), &mut formats)?, &mut out));
                shown.unwrap_or_else(|why| line_of(&mut out, format_args!("  ✗ {why}")));
            }
        }
        _ => {}
    }
    out.push_str("\nReadings\n");
    match folder::decode(entry, bytes, beside, models) {
        Ok(readings) if readings.is_empty() => out.push_str("  none\n"),
        Ok(readings) => readings.iter().for_each(|reading| reading_line(reading, &mut out)),
        Err(why) => line_of(&mut out, format_args!("  none: {why}")),
    }
    Ok(out)
}

fn line_of(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

fn reading_line(reading: &Reading, out: &mut String) {
    let time = reading.time.map_or_else(|| "no time".into(), |time| time.to_string());
    let meter = reading.meter.as_deref().unwrap_or("(the connection says which meter)");
    let quality = if reading.quality == crate::Quality::Measured { "" } else { reading.quality.word() };
    let name = quantity(&reading.quantity);
    line_of(
        out,
        format_args!("  {meter}  {time}  {} = {} {}  {name} {quality}", reading.quantity, reading.value, reading.unit),
    );
}

fn each<F: crate::framing::Framing>(
    framing: F,
    bytes: &[u8],
    out: &mut String,
    mut show: impl FnMut(&[u8], &mut String) -> Result<(), Fault>,
) {
    let mut number = 0;
    let mut sink = |frame: Result<&[u8], Fault>| {
        number += 1;
        match frame {
            Ok(frame) => {
                line_of(out, format_args!("Telegram {number}, {} bytes", frame.len()));
                show(frame, out).unwrap_or_else(|why| line_of(out, format_args!("  ✗ {why}")));
            }
            Err(why) => line_of(out, format_args!("Telegram {number} ✗ {why}")),
        }
    };
    let mut splitter = Splitter::new(framing);
    splitter.push(bytes, &mut sink);
    splitter.end(&mut sink);
}

fn p1_lines(frame: &[u8], keys: Option<&Keys>, out: &mut String) -> Result<(), Fault> {
    let plain;
    let frame = if frame.first() == Some(&crate::framing::p1::CIPHERED) {
        let opened = p1::open(frame, keys.ok_or(Fault::KeyMissing)?)?;
        line_of(out, format_args!("  encrypted, counter {}, security control {:02x}", opened.counter, opened.control));
        plain = opened.plain;
        p1::inner(&plain)?
    } else {
        frame
    };
    let text = p1::text(frame)?;
    line_of(out, format_args!("  {}", text.lines().next().unwrap_or_default()));
    for object in p1::objects(text) {
        let object = object?;
        let groups: Vec<String> = object.groups().map(shown_group).collect();
        line_of(out, format_args!("  {:<16} {:<40} {}", object.id, groups.join("  "), quantity(object.id)));
    }
    let digits = frame.iter().rev().take_while(|byte| **byte != b'!').any(u8::is_ascii_hexdigit);
    let proof = if digits { "checksum right" } else { "no checksum in this version: a damaged byte is not seen" };
    line_of(out, format_args!("  {proof}"));
    Ok(())
}

/// A group, with the text that it is hexadecimal of.
fn shown_group(group: &str) -> String {
    let decoded = from_hex(group).filter(|bytes| bytes.len() > 3);
    match decoded.as_deref().and_then(printable) {
        Some(text) => format!("{group} = {text:?}"),
        None => group.into(),
    }
}

fn push(entry: &Entry, bytes: &[u8], keys: Option<&Keys>, models: &Models, out: &mut String) {
    let mut assembler = Assembler::new();
    let mut apdus = Vec::new();
    let framing = entry.framing.as_deref().unwrap_or(match bytes {
        [0x7E, ..] => "hdlc",
        [0x68, ..] => "mbus",
        _ => "raw",
    });
    match framing {
        "hdlc" => each(HdlcFraming, bytes, out, |frame, _| {
            apdus.extend(assembler.hdlc(frame)?);
            Ok(())
        }),
        "mbus" => each(MBusFraming, bytes, out, |frame, _| {
            let data = crate::framing::mbus::user_data(frame).ok_or(Fault::structure("no data"))?.2;
            apdus.extend(assembler.mbus(data)?);
            Ok(())
        }),
        _ => apdus.extend(assembler.apdu(bytes.to_vec()).ok().flatten()),
    }
    for apdu in apdus {
        notification(&apdu, keys, models, out).unwrap_or_else(|why| line_of(out, format_args!("  ✗ {why}")));
    }
}

fn notification(apdu: &[u8], keys: Option<&Keys>, models: &Models, out: &mut String) -> Result<(), Fault> {
    line_of(out, format_args!("APDU of {} bytes", apdu.len()));
    let (plain, opened) = crate::dlms::push::plain(apdu, keys)?;
    if let Some(opened) = &opened {
        let title = opened.title.map_or_else(String::new, |title| hex(&title));
        line_of(
            out,
            format_args!("  encrypted by {title}, counter {}, security control {:02x}", opened.counter, opened.control),
        );
    }
    let notification = Notification::parse(&plain).ok_or(if opened.is_some() {
        Fault::WrongKey
    } else {
        Fault::structure("no notification")
    })?;
    if let Some(time) = notification.time {
        line_of(
            out,
            format_args!("  clock {} (local), deviation {:?}, status {:02x}", time.local, time.deviation, time.status),
        );
    }
    match models.push(&notification, opened.and_then(|opened| opened.title)) {
        Some(model) => line_of(out, format_args!("  description: {}. {}", model.name, model.note)),
        None if notification.is_self_contained() => {
            line_of(out, format_args!("  no description needed: every value has its scaler and unit"))
        }
        None => line_of(out, format_args!("  model unknown: no description fits")),
    }
    line_of(out, format_args!("{}", notification.shown()));
    for item in &notification.items {
        if let Some(obis) = item.obis {
            let code = obis_text(&obis);
            line_of(out, format_args!("  {code:<18} {:<24} {}", item.value.shown(0), quantity(&code)));
        }
    }
    Ok(())
}

fn records(telegram: &Telegram, out: &mut String) -> Result<(), Fault> {
    let address = &telegram.address;
    line_of(
        out,
        format_args!(
            "  {} {} version {} {}, status {}",
            address.maker_text(),
            address.number_text(),
            address.version,
            address.medium_text(),
            telegram.status.map_or_else(|| "not sent".into(), |status| format!("{status:02x}")),
        ),
    );
    for record in telegram.records()? {
        let value = match (record.value(), record.time(), &record.data) {
            (_, Some(time), _) => format!("{time} (local)"),
            (Some(value), ..) => format!("{value} {}", record.meaning.unit),
            (.., crate::mbus::record::Data::Text(text)) => format!("{text:?}"),
            _ => "no value".into(),
        };
        line_of(
            out,
            format_args!(
                "  vif {:<12} storage {} tariff {} unit {} {:?}: {} {value}{}",
                hex(record.vif),
                record.storage,
                record.tariff,
                record.subunit,
                record.function,
                record.meaning.quantity,
                if record.meaning.backward { " (backward)" } else { "" },
            ),
        );
    }
    Ok(())
}
