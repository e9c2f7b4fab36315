//! Records of M-Bus as readings: names by storage, tariff, sub-unit, direction and phase.

use alloc::{borrow::Cow, format, string::String, sync::Arc, vec::Vec};

use super::{
    record::{Function, Record},
    telegram::Telegram,
};
use crate::{Fault, Reading};

/// Units of counters, dates and texts, which are no measurement.
fn is_measured(unit: &str) -> bool {
    !matches!(unit, "" | "s" | "min" | "h" | "d" | "HCA" | "currency")
}

fn function_word(function: Function) -> Option<&'static str> {
    match function {
        Function::Instantaneous => Some(""),
        Function::Maximum => Some(" maximum"),
        Function::Minimum => Some(" minimum"),
        Function::Error => None,
    }
}

/// Readings of a wired meter: quantity with storage, tariff and unit, in the base unit.
pub fn wired(telegram: &Telegram) -> Result<Vec<Reading>, Fault> {
    let address = &telegram.address;
    // The fixed structure names no maker.
    let meter: Arc<str> = match address.maker {
        0 => address.number_text().into(),
        _ => format!("{}-{}", address.maker_text(), address.number_text()).into(),
    };
    let readings = telegram.records()?;
    let readings = readings.iter().filter_map(|record| {
        let value = record.value().filter(|_| is_measured(record.meaning.unit))?;
        let phase = match record.meaning.phase {
            0 => String::new(),
            4 => " neutral".into(),
            phase @ 1..=3 => format!(" L{phase}"),
            pair => format!(" L{}-L{}", pair / 10, pair % 10),
        };
        let quantity = format!(
            "{} storage {} tariff {} unit {}{phase}{}{}",
            record.meaning.quantity,
            record.storage,
            record.tariff,
            record.subunit,
            if record.meaning.backward { " backward" } else { "" },
            function_word(record.function)?
        );
        Some(Reading::new(quantity, value, record.meaning.unit).of(Some(meter.clone())))
    });
    Ok(readings.collect())
}

/// What a description calls a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The quantity.
    pub name: String,
    /// Its unit when the VIF says another.
    pub unit: Option<String>,
    /// Further power of ten.
    pub exponent: i8,
}

/// Readings of a wireless meter: names as people use them; energies in kWh, powers in kW. `name` asks the description.
pub fn wireless(telegram: &Telegram, name: impl Fn(&Record<'_>) -> Option<Named>) -> Result<Vec<Reading>, Fault> {
    let meter: Arc<str> = telegram.address.number_text().into();
    let records = telegram.records()?;
    let readings = records.iter().filter_map(|record| {
        let (unit, exponent) = kilo(record.meaning.unit);
        if let Some(named) = name(record) {
            let value = record.value()?.scaled(exponent)?.scaled(named.exponent)?.at_places(6);
            let unit = named.unit.map_or(Cow::Borrowed(unit), Cow::Owned);
            return Some(Reading::new(named.name, value, unit).of(Some(meter.clone())));
        }
        let value = record.value().filter(|_| is_measured(record.meaning.unit))?.scaled(exponent)?.at_places(6);
        let marked = if usual(record, telegram.address.medium).starts_with("max ") {
            ""
        } else {
            function_word(record.function)?
        };
        let quantity = format!("{}{marked}", usual(record, telegram.address.medium));
        Some(Reading::new(quantity, value, unit).of(Some(meter.clone())))
    });
    Ok(readings.collect())
}

fn kilo(unit: &'static str) -> (&'static str, i8) {
    match unit {
        "Wh" => ("kWh", -3),
        "varh" => ("kvarh", -3),
        "VAh" => ("kVAh", -3),
        "W" => ("kW", -3),
        "var" => ("kvar", -3),
        "VA" => ("kVA", -3),
        "J" => ("MJ", -6),
        other => (other, 0),
    }
}

/// `total energy consumption tariff 2`, `current power production`, `voltage at phase 1`.
fn usual(record: &Record<'_>, medium: u8) -> String {
    let meaning = &record.meaning;
    let direction = if meaning.backward { "production" } else { "consumption" };
    let phase = match meaning.phase {
        0 => String::new(),
        4 => " neutral".into(),
        phase @ 1..=3 => format!(" at phase {phase}"),
        pair => format!(" l{} l{}", pair / 10, pair % 10),
    };
    let tariff = if record.tariff > 0 { format!(" tariff {}", record.tariff) } else { String::new() };
    let past = if record.storage > 0 { format!(" storage {}", record.storage) } else { String::new() };
    let part = if record.subunit > 0 { format!(" unit {}", record.subunit) } else { String::new() };
    let own = if meaning.own > 0 { format!(" own {:02x}", meaning.own) } else { String::new() };
    let base = match meaning.quantity {
        "energy" if matches!(medium, 0x04 | 0x0C | 0x0D) && !meaning.backward => "total energy".into(),
        "energy" => format!("total energy {direction}"),
        "reactive energy" => format!("total reactive energy {direction}"),
        "apparent energy" => format!("total apparent energy {direction}"),
        "power" if matches!(medium, 0x04 | 0x0C | 0x0D) => "current power".into(),
        "power" if record.function == Function::Maximum => format!("max power {direction}"),
        "power" => format!("current power {direction}"),
        "volume" if meaning.backward => "total backward".into(),
        "volume" if matches!(medium, 0x04 | 0x0C | 0x0D) => "total volume".into(),
        "volume" => "total".into(),
        other => other.into(),
    };
    format!("{base}{phase}{tariff}{past}{part}{own}")
}
