//! What VIF and VIFE mean (EN 13757-3, tables 10 to 16).

/// A quantity, its unit, its power of ten and what the extensions add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Its name.
    pub quantity: &'static str,
    /// Its unit, a base unit.
    pub unit: &'static str,
    /// Power of ten.
    pub exponent: i8,
    /// Only what flowed backwards is counted.
    pub backward: bool,
    /// Phase 1 to 3; 4 the neutral; 12, 23, 31 between two.
    pub phase: u8,
    /// The maker's own extension, 0 without one.
    pub own: u8,
}

const fn plain(quantity: &'static str, unit: &'static str, exponent: i8) -> Meaning {
    Meaning { quantity, unit, exponent, backward: false, phase: 0, own: 0 }
}

const UNKNOWN: Meaning = plain("unknown", "", 0);

/// `low - below` as a power of ten.
fn power(low: u8, below: i8) -> i8 {
    i8::try_from(low).unwrap_or(0).saturating_sub(below)
}

/// The meaning of VIF and VIFE as sent.
pub fn meaning(vif: &[u8]) -> Meaning {
    let Some((&first, rest)) = vif.split_first() else { return UNKNOWN };
    let (mut meaning, extensions) = match (first, rest.split_first()) {
        (0xFD, Some((&second, rest))) => (table_fd(second & 0x7F), rest),
        (0xFB, Some((&second, rest))) => (table_fb(second & 0x7F), rest),
        (first, _) => (primary(first & 0x7F), rest),
    };
    extend(&mut meaning, extensions);
    meaning
}

/// Units of the fixed structure (EN 1434-3, six bits).
pub fn fixed_unit(code: u8) -> Meaning {
    match code {
        0x02..=0x0A => plain("energy", "Wh", power(code, 2)),
        0x0B..=0x13 => plain("energy", "J", power(code, 8)),
        0x14..=0x1C => plain("power", "W", power(code, 0x14)),
        0x1D..=0x25 => plain("power", "J/h", power(code, 0x1A)),
        0x26..=0x2E => plain("volume", "m3", power(code, 0x2C)),
        0x2F..=0x37 => plain("volume flow", "m3/h", power(code, 0x35)),
        0x38 => plain("temperature", "°C", -3),
        0x39 => plain("heat cost allocation", "HCA", 0),
        _ => UNKNOWN,
    }
}

/// A unit that the meter sends as text (in reverse order).
pub fn plain_text(text: &[u8]) -> Meaning {
    match text {
        b"hWk" => plain("energy", "Wh", 3),
        b"hW" => plain("energy", "Wh", 0),
        b"hravk" | b"hrAVk" => plain("reactive energy", "varh", 3),
        b"Wk" => plain("power", "W", 3),
        b"W" => plain("power", "W", 0),
        b"rav" | b"rAV" => plain("reactive power", "var", 0),
        b"AV" => plain("apparent power", "VA", 0),
        b"V" => plain("voltage", "V", 0),
        b"A" => plain("current", "A", 0),
        b"zH" => plain("frequency", "Hz", 0),
        b"HR%" => plain("relative humidity", "%", 0),
        _ => UNKNOWN,
    }
}

fn primary(vif: u8) -> Meaning {
    let (n, duration) = (vif & 7, ["s", "min", "h", "d"][usize::from(vif & 3)]);
    match vif {
        0x00..=0x07 => plain("energy", "Wh", power(n, 3)),
        0x08..=0x0F => plain("energy", "J", power(n, 0)),
        0x10..=0x17 => plain("volume", "m3", power(n, 6)),
        0x18..=0x1F => plain("mass", "kg", power(n, 3)),
        0x20..=0x23 => plain("on time", duration, 0),
        0x24..=0x27 => plain("operating time", duration, 0),
        0x28..=0x2F => plain("power", "W", power(n, 3)),
        0x30..=0x37 => plain("power", "J/h", power(n, 0)),
        0x38..=0x3F => plain("volume flow", "m3/h", power(n, 6)),
        0x40..=0x47 => plain("volume flow", "m3/min", power(n, 7)),
        0x48..=0x4F => plain("volume flow", "m3/s", power(n, 9)),
        0x50..=0x57 => plain("mass flow", "kg/h", power(n, 3)),
        0x58..=0x5B => plain("flow temperature", "°C", power(vif & 3, 3)),
        0x5C..=0x5F => plain("return temperature", "°C", power(vif & 3, 3)),
        0x60..=0x63 => plain("temperature difference", "K", power(vif & 3, 3)),
        0x64..=0x67 => plain("external temperature", "°C", power(vif & 3, 3)),
        0x68..=0x6B => plain("pressure", "bar", power(vif & 3, 3)),
        0x6C => plain("date", "", 0),
        0x6D => plain("date and time", "", 0),
        0x6E => plain("heat cost allocation", "HCA", 0),
        0x70..=0x73 => plain("averaging duration", duration, 0),
        0x74..=0x77 => plain("actuality duration", duration, 0),
        0x78 => plain("fabrication number", "", 0),
        0x79 => plain("identification", "", 0),
        0x7A => plain("address", "", 0),
        0x7F => plain("maker's own", "", 0),
        _ => UNKNOWN,
    }
}

fn table_fd(vif: u8) -> Meaning {
    match vif {
        0x00..=0x03 => plain("credit", "currency", power(vif & 3, 3)),
        0x04..=0x07 => plain("debit", "currency", power(vif & 3, 3)),
        0x08 => plain("access number", "", 0),
        0x09 => plain("medium", "", 0),
        0x0A => plain("manufacturer", "", 0),
        0x0B => plain("parameter set", "", 0),
        0x0C => plain("model", "", 0),
        0x0D => plain("hardware version", "", 0),
        0x0E => plain("firmware version", "", 0),
        0x0F => plain("software version", "", 0),
        0x10 => plain("customer location", "", 0),
        0x11 => plain("customer", "", 0),
        0x17 => plain("error flags", "", 0),
        0x1A => plain("digital output", "", 0),
        0x1B => plain("digital input", "", 0),
        0x3A => plain("number", "", 0),
        0x40..=0x4F => plain("voltage", "V", power(vif & 15, 9)),
        0x50..=0x5F => plain("current", "A", power(vif & 15, 12)),
        0x60 => plain("reset counter", "", 0),
        0x61 => plain("cumulation counter", "", 0),
        0x74 => plain("battery time", "d", 0),
        _ => UNKNOWN,
    }
}

fn table_fb(vif: u8) -> Meaning {
    let bit = vif & 1;
    match vif {
        0x00..=0x01 => plain("energy", "Wh", power(bit, -5)),
        0x02..=0x03 => plain("reactive energy", "varh", power(bit, -3)),
        0x04..=0x05 => plain("apparent energy", "VAh", power(bit, -3)),
        0x08..=0x09 => plain("energy", "J", power(bit, -8)),
        0x0C..=0x0F => plain("energy", "cal", power(vif & 3, -5)),
        0x10..=0x11 => plain("volume", "m3", power(bit, -2)),
        0x14..=0x17 => plain("reactive power", "var", power(vif & 3, 0)),
        0x18..=0x19 => plain("mass", "kg", power(bit, -5)),
        0x1A..=0x1B => plain("relative humidity", "%", power(bit, 1)),
        0x20 => plain("volume", "ft3", 0),
        0x21 => plain("volume", "ft3", -1),
        0x22..=0x23 => plain("volume", "gal", power(bit, 1)),
        0x24 => plain("volume flow", "gal/min", -3),
        0x25 => plain("volume flow", "gal/min", 0),
        0x26 => plain("volume flow", "gal/h", 0),
        0x28..=0x29 => plain("power", "W", power(bit, -5)),
        0x2A => plain("phase between voltages", "deg", -1),
        0x2B => plain("phase of the current", "deg", -1),
        0x2C..=0x2F => plain("frequency", "Hz", power(vif & 3, 3)),
        0x30..=0x31 => plain("power", "J/h", power(bit, -8)),
        0x34..=0x37 => plain("apparent power", "VA", power(vif & 3, 0)),
        0x74..=0x77 => plain("cold and warm limit", "°C", power(vif & 3, 3)),
        0x78..=0x7F => plain("power maximum counter", "W", power(vif & 7, 3)),
        _ => UNKNOWN,
    }
}

/// Direction, phase and factors of the extensions, up to the maker's own ones.
fn extend(meaning: &mut Meaning, extensions: &[u8]) {
    let mut rest = extensions.iter().copied();
    while let Some(extension) = rest.next() {
        match extension & 0x7F {
            // An error of the record (15 no data, 16 overflow, 17 underflow, 18 data error …): there is no value.
            0x01..=0x1F => *meaning = Meaning { own: meaning.own, ..UNKNOWN },
            // A rate, a product or another unit (per second, per pulse, times volts …); limits and how long they were passed.
            0x20..=0x38 | 0x40..=0x6F => *meaning = Meaning { own: meaning.own, ..UNKNOWN },
            0x3C => meaning.backward = true,
            0x70..=0x77 => meaning.exponent = meaning.exponent.saturating_add(power(extension & 7, 6)),
            0x7D => meaning.exponent = meaning.exponent.saturating_add(3),
            // Second table: phases.
            0x7C => match rest.next().map(|next| next & 0x7F) {
                Some(phase @ 1..=4) => meaning.phase = phase,
                Some(5) => meaning.phase = 12,
                Some(6) => meaning.phase = 23,
                Some(7) => meaning.phase = 31,
                Some(0x10) => meaning.backward = true,
                _ => {}
            },
            0x7F => {
                meaning.own = rest.next().unwrap_or(0);
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        assert_eq!(meaning(&[0x04]), plain("energy", "Wh", 1));
        assert_eq!(meaning(&[0xFB, 0x82, 0x3C]), Meaning { backward: true, ..plain("reactive energy", "varh", 3) });
        assert_eq!(meaning(&[0xFD, 0xC9, 0xFC, 0x02]), Meaning { phase: 2, ..plain("voltage", "V", 0) });
        assert_eq!(meaning(&[0xAC, 0xFF, 0x01]), Meaning { own: 1, ..plain("power", "W", 1) });
        assert_eq!(meaning(&[0x83, 0x7D]), plain("energy", "Wh", 3));
    }

    #[test]
    fn errors_rates_and_limits_are_no_values() {
        for extension in [0x15, 0x18, 0x20, 0x2C, 0x40, 0x48, 0x50, 0x60] {
            assert_eq!(meaning(&[0x83, extension]).unit, "", "{extension:02x}");
        }
        assert_eq!(meaning(&[0x83, 0x3B]), plain("energy", "Wh", 0), "only what is positive is counted");
        assert_eq!(meaning(&[0xFB, 0x22]), plain("volume", "gal", -1));
    }
}
