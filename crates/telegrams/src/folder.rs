//! A folder of telegrams and files with an `index.json`: one file, its kind and its keys, to readings.

use serde::Deserialize;

use crate::{
    Fault, Reading, Zone,
    bytes::from_hex,
    cipher::{Key, Keys},
    dlms::{push_link::Assembler, security::CounterGuard},
    files,
    makers::{Devices, Message, Request},
    mbus::{Formats, quantity, telegram},
    modbus::{Image, map, sunspec},
    models::{Kind, Models},
    stream::{Context, Line, Stream, notification},
};

/// One line of an index. Keys that are not needed to read the file are passed over.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Entry {
    /// `KIND/NAME`.
    pub file: String,
    /// Zone of local times.
    #[serde(default)]
    pub zone: Option<String>,
    /// `hdlc`, `mbus` or `raw`, for DLMS push.
    #[serde(default)]
    pub framing: Option<String>,
    /// Encryption key, hexadecimal.
    #[serde(default)]
    pub encryption_key: Option<String>,
    /// Authentication key, hexadecimal.
    #[serde(default)]
    pub authentication_key: Option<String>,
}

impl Entry {
    /// The zone; one that is not known is an error, an empty one is none.
    pub fn zone(&self) -> Result<Option<Zone>, Fault> {
        match self.zone.as_deref().filter(|name| !name.is_empty()) {
            None => Ok(None),
            Some(name) => Zone::named(name)
                .map(Some)
                .ok_or_else(|| Fault::structure(format!("zone {name:?} is not known; write it as UTC+hh:mm"))),
        }
    }

    /// The keys.
    pub fn keys(&self) -> Result<Option<Keys>, Fault> {
        let key = |text: &Option<String>| -> Result<Option<Key>, Fault> {
            let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
            let bytes = from_hex(text).and_then(|bytes| bytes.try_into().ok());
            bytes.map(Some).ok_or(Fault::structure("a key that is not 32 hexadecimal digits"))
        };
        let authentication = key(&self.authentication_key)?;
        Ok(key(&self.encryption_key)?.map(|encryption| Keys { encryption, authentication }))
    }

    /// The folder that the file stands in.
    pub fn kind(&self) -> &str {
        self.file.split('/').next().unwrap_or_default()
    }
}

/// Decodes one file. `beside` gives the contents of another file of the folder (a register map).
pub fn decode(
    entry: &Entry,
    bytes: &[u8],
    beside: &dyn Fn(&str) -> Option<String>,
    models: &Models,
) -> Result<Vec<Reading>, Fault> {
    let context = Context { models, zone: entry.zone()?, keys: entry.keys()? };
    let text = || core::str::from_utf8(bytes).map_err(|_| Fault::structure("a text file that is not UTF-8"));
    match entry.kind() {
        "p1" | "iec62056" | "d0" => stream(Line::P1, bytes, context),
        "sml" => stream(Line::Sml, bytes, context),
        "dlms-push" => push(entry, bytes, context),
        "dlms-talk" => crate::dlms::listen::conversation(text()?, context.keys.as_ref()),
        "mbus" => stream(Line::MBus, bytes, context),
        "wmbus" => wireless(text()?, context),
        "modbus" => registers(entry, text()?, beside, models),
        "mqtt" | "sparkplug" => messages(text()?, context),
        "http" => requests(text()?, context),
        "espi" => files::espi::decode(text()?),
        "iec61968" => files::iec61968::decode(text()?, context.zone),
        "nem12" => files::nem12::decode(text()?),
        "mscons" => files::mscons::decode(&String::from_utf8_lossy(bytes)),
        "csv" => csv(&String::from_utf8_lossy(bytes), context),
        other => Err(Fault::Unsupported(format!("files of the kind {other:?}").into())),
    }
}

/// All telegrams of a capture. Faults between them are passed over when any telegram is good.
fn stream(line: Line, bytes: &[u8], context: Context<'_>) -> Result<Vec<Reading>, Fault> {
    let (mut out, mut fault, mut good) = (Vec::new(), None, false);
    let mut sink = |outcome: Result<Vec<Reading>, Fault>| match outcome {
        Ok(readings) => {
            good |= !readings.is_empty();
            out.extend(readings);
        }
        Err(why) => {
            // A checksum says more than a shape that did not fit while looking for the beginning.
            let better =
                matches!(why, Fault::Checksum(_) | Fault::WrongKey | Fault::KeyMissing | Fault::ModelUnknown(_));
            if fault.is_none() || better {
                fault = Some(why);
            }
        }
    };
    let mut stream = Stream::new(line, context);
    stream.push(bytes, &mut sink);
    stream.end(&mut sink);
    if good { Ok(out) } else { Err(fault.unwrap_or(Fault::structure("no telegram in it"))) }
}

fn push(entry: &Entry, bytes: &[u8], context: Context<'_>) -> Result<Vec<Reading>, Fault> {
    let framing = match entry.framing.as_deref() {
        Some(framing) => framing,
        None => match bytes {
            [0x7E, ..] => "hdlc",
            [0x68, _, _, 0x68, ..] => "mbus",
            _ => "raw",
        },
    };
    match framing {
        "hdlc" => stream(Line::PushHdlc, bytes, context),
        "mbus" => stream(Line::PushMBus, bytes, context),
        _ => {
            let apdu = Assembler::new().apdu(bytes.to_vec())?.ok_or(Fault::TooLong("the APDU"))?;
            notification(&apdu, context, &mut CounterGuard::default())
        }
    }
}

/// Frames of wM-Bus as hexadecimal text, one a line.
fn wireless(text: &str, context: Context<'_>) -> Result<Vec<Reading>, Fault> {
    let key = context.keys.map(|keys| keys.encryption);
    let mut formats = Formats::default();
    let (mut out, mut fault) = (Vec::new(), None);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let outcome = wireless_line(line, key.as_ref(), &mut formats, context.models);
        match outcome {
            Ok(readings) => out.extend(readings),
            Err(why) => fault = fault.or(Some(why)),
        }
    }
    if out.is_empty() { Err(fault.unwrap_or(Fault::structure("no telegram in it"))) } else { Ok(out) }
}

fn wireless_line(line: &str, key: Option<&Key>, formats: &mut Formats, models: &Models) -> Result<Vec<Reading>, Fault> {
    let hex: String = line.chars().filter(|c| !matches!(c, '_' | '|' | '#')).collect();
    let frame = from_hex(&hex).ok_or(Fault::structure("a line that is not hexadecimal"))?;
    let telegram = telegram::wireless(&frame, key, formats)?;
    let model = models.mbus(&telegram.address.maker_text(), telegram.address.version);
    let mut readings = quantity::wireless(&telegram, |record| {
        let vif = crate::bytes::hex(record.vif);
        let found = model?.record.iter().find(|known| {
            known.vif.eq_ignore_ascii_case(&vif)
                && (known.storage, known.tariff, known.unit) == (record.storage, record.tariff, record.subunit)
        })?;
        Some(quantity::Named { name: found.name.clone(), unit: found.as_unit.clone(), exponent: found.exponent })
    })?;
    let sums: Vec<Reading> = model.iter().flat_map(|model| &model.sum).filter_map(|sum| sum.of(&readings)).collect();
    readings.extend(sums);
    Ok(readings)
}

#[derive(Deserialize)]
struct RegisterFile {
    registers: std::collections::BTreeMap<String, String>,
}

fn registers(
    entry: &Entry,
    text: &str,
    beside: &dyn Fn(&str) -> Option<String>,
    models: &Models,
) -> Result<Vec<Reading>, Fault> {
    if entry.file.ends_with(".map.csv") {
        return map::from_csv(text).map(|_| Vec::new());
    }
    let file: RegisterFile =
        serde_json::from_str(text).map_err(|why| Fault::structure(format!("not a register image: {why}")))?;
    let words =
        file.registers.iter().map(|(address, word)| Some((address.parse().ok()?, u16::from_str_radix(word, 16).ok()?)));
    let words: Vec<(u16, u16)> =
        words.collect::<Option<_>>().ok_or(Fault::structure("a register that is no number"))?;
    let image = Image::new(words);
    if sunspec::base(&image).is_some() {
        return sunspec::read(&image).map(|device| device.readings);
    }
    let stem = entry.file.rsplit('/').next().and_then(|name| name.strip_suffix(".json")).unwrap_or_default();
    // A map in the folder is the description of that very meter.
    let map = match beside(&format!("modbus/{stem}.map.csv")) {
        Some(csv) => map::from_csv(&csv)?,
        None => {
            let model = models.modbus(stem).ok_or_else(|| {
                Fault::ModelUnknown(format!("registers {:?}", file.registers.keys().take(8).collect::<Vec<_>>()))
            })?;
            model.register.clone()
        }
    };
    let readings = map::readings(&map, &image).into_iter().map(|reading| reading.of(Some(stem.into())));
    Ok(readings.collect())
}

#[derive(Deserialize)]
struct JsonLine {
    #[serde(default)]
    topic: String,
    #[serde(default)]
    payload: Option<String>,
    #[serde(default)]
    payload_hex: Option<String>,
    #[serde(default)]
    path: String,
    #[serde(default)]
    body: String,
}

fn json_lines(text: &str) -> Result<Vec<JsonLine>, Fault> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).map_err(|why| Fault::structure(format!("not a line of JSON: {why}"))))
        .collect()
}

fn messages(text: &str, context: Context<'_>) -> Result<Vec<Reading>, Fault> {
    let mut devices = Devices::new(context.models, context.zone);
    let (mut out, mut fault) = (Vec::new(), None);
    for line in json_lines(text)? {
        let payload = match (line.payload, line.payload_hex) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(hex)) => from_hex(&hex).ok_or(Fault::structure("payload_hex that is not hexadecimal"))?,
            (None, None) => Vec::new(),
        };
        match devices.message(&Message { topic: line.topic, payload }) {
            Ok(readings) => out.extend(readings),
            Err(why) => fault = fault.or(Some(why)),
        }
    }
    devices.with_clocks(&mut out);
    if out.is_empty() { Err(fault.unwrap_or(Fault::structure("no value in it"))) } else { Ok(out) }
}

fn requests(text: &str, context: Context<'_>) -> Result<Vec<Reading>, Fault> {
    let mut devices = Devices::new(context.models, context.zone);
    let (mut out, mut fault) = (Vec::new(), None);
    for line in json_lines(text)? {
        match devices.request(&Request { path: line.path, body: line.body.into_bytes() }) {
            Ok(readings) => out.extend(readings),
            Err(why) => fault = fault.or(Some(why)),
        }
    }
    if out.is_empty() { Err(fault.unwrap_or(Fault::structure("no value in it"))) } else { Ok(out) }
}

fn csv(text: &str, context: Context<'_>) -> Result<Vec<Reading>, Fault> {
    if text.trim_start_matches('\u{FEFF}').starts_with("MEPM") {
        return files::cmep::decode(text);
    }
    debug_assert!(context.models.of(Kind::Csv).next().is_some(), "descriptions are built in");
    files::columns::decode(text, context.models, context.zone)
}
