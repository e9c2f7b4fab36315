//! A conversation heard from outside, between any client and any meter: what was read, and what an action changed.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::{
    acse::Association,
    apdu::{Request, Response, Target, is_protected},
    axdr::{Value, obis_text},
    push::scaler_unit,
    security::{self, SystemTitle},
    time::DateTime,
    units,
};
use crate::{
    Fault, Reading,
    bytes::from_hex,
    cipher::Keys,
    framing::{hdlc, wrapper::Wrapped},
};

#[derive(Deserialize)]
struct Line {
    to: String,
    hex: String,
}

/// Longest value that is put together from blocks.
const VALUE_MAX: usize = 4 * 1024 * 1024;

/// Lines of JSON `{to: meter|client, hex}`, each a frame of the wrapper or of HDLC.
pub fn conversation(text: &str, keys: Option<&Keys>) -> Result<Vec<Reading>, Fault> {
    let mut listener = Listener { keys: keys.copied(), ..Listener::default() };
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let line: Line =
            serde_json::from_str(line).map_err(|why| Fault::structure(format!("not a line of JSON: {why}")))?;
        let bytes = from_hex(&line.hex).ok_or(Fault::structure("a frame that is not hexadecimal"))?;
        let to_meter = line.to == "meter";
        if let Some(apdu) = listener.unframed(&bytes, to_meter)? {
            listener.apdu(&apdu, to_meter)?;
        }
    }
    Ok(listener.readings())
}

#[derive(Default)]
struct Listener {
    keys: Option<Keys>,
    client: Option<SystemTitle>,
    meter: Option<SystemTitle>,
    asked: Option<(Target, bool)>,
    asked_list: Vec<Target>,
    switched: Option<&'static str>,
    blocks: Vec<u8>,
    segments: Vec<u8>,
    scales: BTreeMap<[u8; 6], (i8, u8)>,
    values: Vec<([u8; 6], crate::Decimal)>,
    out: Vec<Reading>,
}

impl Listener {
    fn unframed(&mut self, bytes: &[u8], _to_meter: bool) -> Result<Option<Vec<u8>>, Fault> {
        if bytes.first() != Some(&0x7E) {
            let wrapped = Wrapped::parse(bytes).ok_or(Fault::structure("neither the wrapper of DLMS nor HDLC"))?;
            return Ok(Some(wrapped.apdu.to_vec()));
        }
        let inner = bytes.get(1..bytes.len().saturating_sub(1)).unwrap_or_default();
        let frame = hdlc::Frame::parse(inner)?;
        // Only information frames carry APDUs.
        if frame.control & 1 == 1 || frame.information.is_empty() {
            return Ok(None);
        }
        self.segments.extend_from_slice(frame.information);
        if frame.segmented {
            return Ok(None);
        }
        let apdu = std::mem::take(&mut self.segments);
        Ok(Some(apdu.get(3..).unwrap_or_default().to_vec()))
    }

    fn apdu(&mut self, apdu: &[u8], to_meter: bool) -> Result<(), Fault> {
        match apdu.first() {
            Some(0x60 | 0x61) => {
                let association =
                    Association::parse(apdu).ok_or(Fault::structure("an association that makes no sense"))?;
                let title = if to_meter { &mut self.client } else { &mut self.meter };
                *title = association.title.or(*title);
                Ok(())
            }
            Some(0xDB) => {
                let opened = security::open_general_glo(apdu, &self.keys()?)?;
                self.plain(&opened.plain, to_meter)
            }
            Some(tag) if is_protected(*tag) == Some(false) => {
                let mut cursor = crate::bytes::Cursor::new(&apdu[1..]);
                let count = super::axdr::length(&mut cursor).filter(|count| *count == cursor.left());
                count.ok_or(Fault::structure("a protected APDU whose length is wrong"))?;
                let title = if to_meter { self.client } else { self.meter };
                let title = title.ok_or(Fault::structure("a protected APDU of a sender without a title"))?;
                let opened = security::open(cursor.rest(), title, &self.keys()?)?;
                self.plain(&opened.plain, to_meter)
            }
            Some(tag) if is_protected(*tag) == Some(true) => {
                Err(Fault::Unsupported("a dedicated key, which only the two know".into()))
            }
            _ => self.plain(apdu, to_meter),
        }
    }

    fn keys(&self) -> Result<Keys, Fault> {
        self.keys.ok_or(Fault::KeyMissing)
    }

    fn plain(&mut self, apdu: &[u8], to_meter: bool) -> Result<(), Fault> {
        if to_meter {
            match Request::parse(apdu) {
                Some(Request::Get(_, target, selection)) => {
                    self.asked = Some((target, selection.is_some()));
                    self.blocks.clear();
                }
                Some(Request::GetList(_, list)) => {
                    self.asked_list = list.into_iter().map(|(target, _)| target).collect()
                }
                Some(Request::Action(_, target, _)) if target.class == 70 => {
                    self.switched = Some(if target.index == 1 { "disconnect" } else { "reconnect" });
                }
                _ => {}
            }
            return Ok(());
        }
        match Response::parse(apdu) {
            Some(Response::Get(_, Ok(value))) => self.answered(value),
            Some(Response::GetBlock(_, block)) => {
                if self.blocks.len() + block.bytes.len() > VALUE_MAX {
                    return Err(Fault::TooLong("the value"));
                }
                self.blocks.extend_from_slice(block.bytes);
                if block.last {
                    let value = std::mem::take(&mut self.blocks);
                    self.answered(&value);
                }
            }
            Some(Response::GetList(_, results)) => {
                for (target, result) in std::mem::take(&mut self.asked_list).into_iter().zip(results) {
                    self.asked = Some((target, false));
                    result.into_iter().for_each(|value| self.answered(value));
                }
            }
            // Refusals, actions, exceptions: a client survives them, there is nothing to take.
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, encoded: &[u8]) {
        let (Some((target, selective)), Some(value)) = (self.asked.take(), Value::whole(encoded)) else { return };
        match (target.class, target.index) {
            (3 | 4, 3) => self.scales.extend(scaler_unit(&value).map(|scale| (target.obis, scale))),
            (3 | 4, 2) => self.values.extend(value.decimal().map(|value| (target.obis, value))),
            (7, 2) if !selective => self.profile(target.obis, &value),
            (70, 2) => {
                let after = self.switched.map_or(String::new(), |what| format!(" after {what}"));
                let name = format!("{} attribute 2{after}", obis_text(&target.obis));
                self.out.extend(value.decimal().map(|value| Reading::new(name, value, "")));
            }
            _ => {}
        }
    }

    fn profile(&mut self, obis: [u8; 6], value: &Value<'_>) {
        let rows = value.items().unwrap_or_default();
        for (row, columns) in rows.iter().enumerate().filter_map(|(at, row)| Some((at + 1, row.items()?))) {
            let time = columns.iter().find_map(|value| DateTime::parse(value.octets()?)?.to_utc(None));
            let values = columns.iter().enumerate().filter_map(|(at, value)| Some((at + 1, value.decimal()?)));
            let name = obis_text(&obis);
            self.out.extend(
                values.map(|(column, value)| {
                    Reading::new(format!("{name} row {row} column {column}"), value, "").at(time)
                }),
            );
        }
    }

    fn readings(self) -> Vec<Reading> {
        // The first three letters of a title are the maker's.
        let meter: Option<Arc<str>> =
            self.meter.as_ref().and_then(|title| crate::bytes::printable(&title[..3])).map(Into::into);
        let registers = self.values.iter().filter_map(|(obis, value)| {
            let (exponent, unit) = self.scales.get(obis)?;
            Some(Reading::new(obis_text(obis), value.scaled(*exponent)?, units::name(*unit)?))
        });
        registers.chain(self.out.iter().cloned()).map(|reading| reading.of(meter.clone())).collect()
    }
}
