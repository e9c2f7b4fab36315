//! Description files: what one meter model sends at one operator, as one TOML file of `models/` each.
//!
//! What a telegram does not say itself (scale of a bare number, meaning of a position, zone of a clock, names of a user's script)
//! stands here and nowhere else. Recipe: `docs/howto/add-a-meter-model.md`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    Decimal, Quality, Reading, Zone,
    dlms::push::{Form, Layout, Notification, Position, Scale},
    modbus::map::Register,
    sml::Quirk,
};

/// The files of `models/`, by name.
const BUILTIN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/models.rs"));

/// Format of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Push of DLMS.
    DlmsPush,
    /// SML.
    Sml,
    /// Modbus registers.
    Modbus,
    /// Records of M-Bus.
    Mbus,
    /// JSON with names of the user's choice.
    Json,
    /// Files of intervals with columns.
    Csv,
}

/// One description file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Model and operator, for people.
    pub name: String,
    /// Format.
    pub kind: Kind,
    /// When it applies.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// What is special, for people.
    #[serde(default)]
    pub note: String,
    /// Zone of the clock, where the operator gives none.
    #[serde(default)]
    pub zone: Option<String>,
    /// Powers of ten of numbers without a scaler.
    #[serde(default)]
    pub scale: ScaleFile,
    /// The clock may be used; `false` where its deviation contradicts its time.
    #[serde(default = "yes")]
    pub trust_clock: bool,
    /// Where the meter's number stands: an OBIS code, a position (`#3`, `#last`) or a JSON key.
    #[serde(default)]
    pub meter: Option<String>,
    /// OBIS codes in order of position, "" for what is no value; `1-0:32.7.0 -1` moves the point.
    #[serde(default)]
    pub positions: Vec<String>,
    /// Integers that are sent signed and meant unsigned.
    #[serde(default)]
    pub unsigned: Option<UnsignedFile>,
    /// Registers of Modbus.
    #[serde(default)]
    pub register: Vec<Register>,
    /// Records of M-Bus.
    #[serde(default)]
    pub record: Vec<RecordFile>,
    /// Totals that the meter does not send: sums of its phases.
    #[serde(default)]
    pub sum: Vec<SumFile>,
    /// Names of JSON values.
    #[serde(default)]
    pub value: BTreeMap<String, ValueFile>,
    /// Columns of a file of intervals.
    #[serde(default)]
    pub columns: Option<crate::files::columns::Columns>,
    /// The layout of a notification, made once.
    #[serde(skip)]
    layout: Layout,
}

fn yes() -> bool {
    true
}

/// All that are given must fit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// A text that the telegram carries.
    #[serde(default)]
    pub text: Option<String>,
    /// Three letters of the maker (FLAG id), in the system title or the number.
    #[serde(default)]
    pub flag: Option<String>,
    /// How codes and values stand: `object-list`, `untagged` or `push-setup`.
    #[serde(default)]
    pub form: Option<FormFile>,
    /// Number of elements, for telegrams without codes.
    #[serde(default)]
    pub elements: Option<usize>,
    /// Beginning of the server id or the number, hexadecimal or digits.
    #[serde(default)]
    pub number: Option<String>,
    /// Range of serial numbers, both ends included.
    #[serde(default)]
    pub serial: Vec<[u64; 2]>,
    /// Version of the model (M-Bus).
    #[serde(default)]
    pub version: Option<u8>,
    /// Versions of the model (M-Bus).
    #[serde(default)]
    pub versions: Vec<u8>,
    /// Keys that must be there (JSON), or columns (CSV).
    #[serde(default)]
    pub keys: Vec<String>,
    /// Beginning of the topic.
    #[serde(default)]
    pub topic: Option<String>,
}

/// A form by its name in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FormFile {
    /// A list of objects first, then their values.
    ObjectList,
    /// Descriptors of attributes without tags.
    Untagged,
    /// The code of the push setup, then values by position.
    PushSetup,
}

/// Powers of ten by kind of unit.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScaleFile {
    energy: i8,
    power: i8,
    current: i8,
    voltage: i8,
    factor: i8,
    frequency: i8,
}

/// A value that is meant unsigned.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnsignedFile {
    obis: String,
    #[serde(default)]
    bytes: usize,
}

/// A record of M-Bus and its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordFile {
    /// VIF and VIFE, hexadecimal.
    pub vif: String,
    /// Storage number.
    #[serde(default)]
    pub storage: u64,
    /// Tariff.
    #[serde(default)]
    pub tariff: u32,
    /// Sub-unit.
    #[serde(default)]
    pub unit: u16,
    /// The quantity.
    pub name: String,
    /// Its unit when the VIF says another.
    #[serde(default)]
    pub as_unit: Option<String>,
    /// Further power of ten.
    #[serde(default)]
    pub exponent: i8,
}

/// A total that is the sum of other values of the same telegram, all of which must be there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SumFile {
    /// The quantity.
    pub name: String,
    /// Quantities that it is made of.
    pub of: Vec<String>,
    /// Root of the sum of squares: apparent from active and reactive. Such a value is an estimate.
    #[serde(default)]
    pub is_vector: bool,
    /// Its unit, when that of the parts is another.
    #[serde(default)]
    pub as_unit: Option<String>,
}

impl SumFile {
    /// The total; `None` when a part is missing.
    pub fn of(&self, readings: &[Reading]) -> Option<Reading> {
        let parts = self.of.iter().map(|name| readings.iter().find(|reading| reading.quantity == *name));
        let parts: Vec<&Reading> = parts.collect::<Option<_>>()?;
        let first = *parts.first()?;
        let mut out = Reading { quantity: self.name.clone(), ..first.clone() };
        out.unit = self.as_unit.clone().map_or(out.unit, Into::into);
        if self.is_vector {
            out.value = parts.iter().try_fold(Decimal::new(0, 0), |length, part| length.vector_sum(part.value))?;
            out.quality = Quality::Estimated;
        } else {
            out.value = parts.iter().skip(1).try_fold(first.value, |sum, part| sum.plus(part.value))?;
        }
        Some(out)
    }
}

/// A JSON value: what it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueFile {
    /// The quantity.
    pub quantity: String,
    /// Its unit.
    #[serde(default)]
    pub unit: String,
}

/// All descriptions that are known.
#[derive(Clone, Debug)]
pub struct Models {
    all: Vec<Model>,
}

impl Models {
    /// The descriptions that come with the program.
    pub fn builtin() -> Result<Self, String> {
        let mut models = Self { all: Vec::new() };
        BUILTIN.iter().try_for_each(|(name, text)| models.add(name, text))?;
        Ok(models)
    }

    /// One more description; it comes before all others. An unknown key is an error that names it.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        let mut model: Model = toml::from_str(text).map_err(|why| format!("{name}: {why}"))?;
        let zone = model.zone.as_deref();
        if let Some(zone) = zone.filter(|zone| Zone::named(zone).is_none()) {
            return Err(format!("{name}: zone {zone} is not known; write it as UTC+hh:mm"));
        }
        model.layout = model.read_layout().map_err(|why| format!("{name}: {why}"))?;
        self.all.insert(0, model);
        Ok(())
    }

    /// All of a format.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Model> {
        self.all.iter().filter(move |model| model.kind == kind)
    }

    /// What fits a notification of DLMS; `title` is the sender's system title.
    pub fn push(&self, notification: &Notification<'_>, title: Option<[u8; 8]>) -> Option<&Model> {
        let flag = title.as_ref().and_then(|title| core::str::from_utf8(&title[..3]).ok());
        let (texts, has_codes) = (notification.texts(), notification.has_codes());
        self.of(Kind::DlmsPush).find(|model| {
            let m = &model.matches;
            // What costs least comes first: this runs for every telegram.
            model.positions.is_empty() == has_codes
                && m.elements.is_none_or(|count| count == notification.items.len())
                && m.form.is_none_or(|form| match form {
                    FormFile::ObjectList => notification.form == Form::ObjectList,
                    FormFile::Untagged => notification.form == Form::Untagged,
                    FormFile::PushSetup => notification.form == Form::PushSetup,
                })
                && m.flag.as_deref().is_none_or(|wanted| flag == Some(wanted))
                && m.text.as_deref().is_none_or(|wanted| texts.iter().any(|text| text.contains(wanted)))
        })
    }

    /// What fits an SML server id.
    pub fn sml(&self, server: &[u8]) -> Option<&Model> {
        let id = crate::bytes::hex(server);
        let serial = server.get(server.len().saturating_sub(4)..).and_then(crate::bytes::unsigned_be);
        self.of(Kind::Sml).find(|model| {
            let m = &model.matches;
            let flag = m.flag.as_deref().is_none_or(|flag| server.windows(3).any(|three| three == flag.as_bytes()));
            let in_range = |serial| m.serial.iter().any(|[from, to]| (*from..=*to).contains(&serial));
            flag && m.number.as_deref().is_none_or(|number| id.starts_with(number))
                && (m.serial.is_empty() || serial.is_some_and(in_range))
        })
    }

    /// The description of a Modbus meter by the name of its file.
    pub fn modbus(&self, name: &str) -> Option<&Model> {
        self.of(Kind::Modbus).find(|model| model.matches.text.as_deref() == Some(name))
    }

    /// What fits a meter on M-Bus.
    pub fn mbus(&self, maker: &str, version: u8) -> Option<&Model> {
        self.of(Kind::Mbus).find(|model| {
            let m = &model.matches;
            m.flag.as_deref() == Some(maker)
                && m.version.is_none_or(|wanted| wanted == version)
                && (m.versions.is_empty() || m.versions.contains(&version))
        })
    }

    /// What fits JSON keys under a topic.
    pub fn json<'a>(&self, topic: &str, has_key: impl Fn(&str) -> bool + 'a) -> Option<&Model> {
        self.of(Kind::Json).find(|model| {
            let m = &model.matches;
            m.topic.as_deref().is_none_or(|begin| topic.starts_with(begin)) && m.keys.iter().all(|key| has_key(key))
        })
    }
}

impl Model {
    /// The layout of a notification.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn read_layout(&self) -> Result<Layout, String> {
        let (scale, meter) = (self.scale, self.meter.as_deref());
        let position = |text: &String| match text.split_once(' ') {
            _ if text.is_empty() => Ok(None),
            Some((code, exponent)) => {
                let exponent = exponent.trim().parse().map_err(|_| format!("{text:?}: no power of ten"))?;
                obis(code).map(|obis| Some(Position { obis, exponent }))
            }
            None => obis(text).map(|obis| Some(Position { obis, exponent: 0 })),
        };
        let meter_position = match meter.and_then(|meter| meter.strip_prefix('#')) {
            Some("last") => Some(usize::MAX),
            Some(number) => Some(number.parse().map_err(|_| format!("meter {number:?}: no position"))?),
            None => None,
        };
        let code = meter.filter(|meter| self.kind == Kind::DlmsPush && !meter.starts_with('#'));
        Ok(Layout {
            scale: Scale {
                energy: scale.energy,
                power: scale.power,
                current: scale.current,
                voltage: scale.voltage,
                factor: scale.factor,
                frequency: scale.frequency,
            },
            positions: self.positions.iter().map(position).collect::<Result<_, _>>()?,
            meter_position,
            meter_obis: code.map(obis).transpose()?.into_iter().collect(),
            trust_clock: self.trust_clock,
            zone: self.zone.as_deref().and_then(Zone::named),
        })
    }

    /// What an SML meter sends otherwise than it means.
    pub fn quirk(&self) -> Quirk {
        let unsigned = self.unsigned.as_ref();
        Quirk {
            unsigned: unsigned.and_then(|u| obis(&u.obis).ok()).map(|[_, _, c, d, e, _]| [c, d, e]),
            unsigned_bytes: unsigned.map_or(0, |u| u.bytes),
        }
    }
}

/// `A-B:C.D.E` or `A-B:C.D.E*F`; F is 255 when left out.
pub fn obis(text: &str) -> Result<[u8; 6], String> {
    let parts: Vec<&str> = text.split(['-', ':', '.', '*']).collect();
    let mut code = [255; 6];
    let fits = matches!(parts.len(), 5 | 6);
    let whole = fits && parts.iter().zip(&mut code).all(|(part, byte)| part.parse().map(|value| *byte = value).is_ok());
    if whole { Ok(code) } else { Err(format!("{text:?} is no OBIS code (A-B:C.D.E)")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_description_reads() {
        let models = Models::builtin().expect("the files of models/ are right");
        assert!(models.all.len() >= 20, "{}", models.all.len());
    }

    #[test]
    fn a_mistake_is_named() {
        let mut models = Models { all: Vec::new() };
        let why = models.add("x", "name = 'x'\nkind = 'sml'\nscales = 3\n").expect_err("an unknown key");
        assert!(why.contains("scales"), "{why}");
        let why = models.add("x", "name = 'x'\nkind = 'dlms-push'\npositions = ['1.8']\n").expect_err("no code");
        assert!(why.contains("1.8"), "{why}");
        let why = models.add("x", "name = 'x'\nkind = 'sml'\nzone = 'Moon'\n").expect_err("no zone");
        assert!(why.contains("Moon"), "{why}");
    }
}
