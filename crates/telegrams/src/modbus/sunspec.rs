//! SunSpec: `SunS` at 0, 40000 or 50000, then models one after another, each with its id and length.
//!
//! Value and scale factor must be read in one request; an image here is one such read. Meters 201–204 (integers) and 211–214
//! (floats), inverters 101–103 and 111–113. Source: the SunSpec information model reference.

use super::Image;
use crate::{Decimal, Fault, Reading};

/// Where the list of models may begin.
const BASES: [u16; 3] = [40_000, 0, 50_000];
/// Most models that are followed.
const MODELS_MAX: usize = 64;
const END: u16 = 0xFFFF;

/// A point of a model: offset behind the header, how it is stored, offset of its scale factor.
struct Point(&'static str, &'static str, u16, Form);

enum Form {
    /// Signed, with the scale factor at this offset; FFFF for none.
    Signed(u16),
    /// Unsigned, with scale factor.
    Unsigned(u16),
    /// A 32-bit counter that wraps, with scale factor; zero is "not there".
    Counter(u16),
    /// A 32-bit float.
    Float,
}

use Form::{Counter, Float, Signed, Unsigned};

const METER: &[Point] = &[
    Point("current", "A", 0, Signed(4)),
    Point("current L1", "A", 1, Signed(4)),
    Point("current L2", "A", 2, Signed(4)),
    Point("current L3", "A", 3, Signed(4)),
    Point("voltage", "V", 5, Signed(13)),
    Point("voltage L1", "V", 6, Signed(13)),
    Point("voltage L2", "V", 7, Signed(13)),
    Point("voltage L3", "V", 8, Signed(13)),
    Point("voltage L1-L2", "V", 10, Signed(13)),
    Point("voltage L2-L3", "V", 11, Signed(13)),
    Point("voltage L3-L1", "V", 12, Signed(13)),
    Point("frequency", "Hz", 14, Signed(15)),
    Point("power", "W", 16, Signed(20)),
    Point("power L1", "W", 17, Signed(20)),
    Point("power L2", "W", 18, Signed(20)),
    Point("power L3", "W", 19, Signed(20)),
    Point("apparent power", "VA", 21, Signed(25)),
    Point("apparent power L1", "VA", 22, Signed(25)),
    Point("apparent power L2", "VA", 23, Signed(25)),
    Point("apparent power L3", "VA", 24, Signed(25)),
    Point("reactive power", "var", 26, Signed(30)),
    Point("reactive power L1", "var", 27, Signed(30)),
    Point("reactive power L2", "var", 28, Signed(30)),
    Point("reactive power L3", "var", 29, Signed(30)),
    Point("power factor", "", 31, Signed(35)),
    Point("power factor L1", "", 32, Signed(35)),
    Point("power factor L2", "", 33, Signed(35)),
    Point("power factor L3", "", 34, Signed(35)),
    Point("export register", "Wh", 36, Counter(52)),
    Point("export register L1", "Wh", 38, Counter(52)),
    Point("export register L2", "Wh", 40, Counter(52)),
    Point("export register L3", "Wh", 42, Counter(52)),
    Point("import register", "Wh", 44, Counter(52)),
    Point("import register L1", "Wh", 46, Counter(52)),
    Point("import register L2", "Wh", 48, Counter(52)),
    Point("import register L3", "Wh", 50, Counter(52)),
    Point("apparent export register", "VAh", 53, Counter(69)),
    Point("apparent import register", "VAh", 61, Counter(69)),
    Point("reactive QI register", "varh", 70, Counter(102)),
    Point("reactive QII register", "varh", 78, Counter(102)),
    Point("reactive QIII register", "varh", 86, Counter(102)),
    Point("reactive QIV register", "varh", 94, Counter(102)),
];

const METER_FLOAT: &[Point] = &[
    Point("current", "A", 0, Float),
    Point("current L1", "A", 2, Float),
    Point("current L2", "A", 4, Float),
    Point("current L3", "A", 6, Float),
    Point("voltage", "V", 8, Float),
    Point("voltage L1", "V", 10, Float),
    Point("voltage L2", "V", 12, Float),
    Point("voltage L3", "V", 14, Float),
    Point("voltage L1-L2", "V", 18, Float),
    Point("voltage L2-L3", "V", 20, Float),
    Point("voltage L3-L1", "V", 22, Float),
    Point("frequency", "Hz", 24, Float),
    Point("power", "W", 26, Float),
    Point("power L1", "W", 28, Float),
    Point("power L2", "W", 30, Float),
    Point("power L3", "W", 32, Float),
    Point("apparent power", "VA", 34, Float),
    Point("apparent power L1", "VA", 36, Float),
    Point("apparent power L2", "VA", 38, Float),
    Point("apparent power L3", "VA", 40, Float),
    Point("reactive power", "var", 42, Float),
    Point("reactive power L1", "var", 44, Float),
    Point("reactive power L2", "var", 46, Float),
    Point("reactive power L3", "var", 48, Float),
    Point("power factor", "", 50, Float),
    Point("power factor L1", "", 52, Float),
    Point("power factor L2", "", 54, Float),
    Point("power factor L3", "", 56, Float),
    Point("export register", "Wh", 58, Float),
    Point("export register L1", "Wh", 60, Float),
    Point("export register L2", "Wh", 62, Float),
    Point("export register L3", "Wh", 64, Float),
    Point("import register", "Wh", 66, Float),
    Point("import register L1", "Wh", 68, Float),
    Point("import register L2", "Wh", 70, Float),
    Point("import register L3", "Wh", 72, Float),
    Point("apparent export register", "VAh", 74, Float),
    Point("apparent import register", "VAh", 82, Float),
    Point("reactive QI register", "varh", 90, Float),
    Point("reactive QII register", "varh", 98, Float),
    Point("reactive QIII register", "varh", 106, Float),
    Point("reactive QIV register", "varh", 114, Float),
];

const INVERTER: &[Point] = &[
    Point("current", "A", 0, Unsigned(4)),
    Point("current L1", "A", 1, Unsigned(4)),
    Point("current L2", "A", 2, Unsigned(4)),
    Point("current L3", "A", 3, Unsigned(4)),
    Point("voltage L1-L2", "V", 5, Unsigned(11)),
    Point("voltage L2-L3", "V", 6, Unsigned(11)),
    Point("voltage L3-L1", "V", 7, Unsigned(11)),
    Point("voltage L1", "V", 8, Unsigned(11)),
    Point("voltage L2", "V", 9, Unsigned(11)),
    Point("voltage L3", "V", 10, Unsigned(11)),
    Point("power", "W", 12, Signed(13)),
    Point("frequency", "Hz", 14, Unsigned(15)),
    Point("apparent power", "VA", 16, Signed(17)),
    Point("reactive power", "var", 18, Signed(19)),
    Point("power factor", "", 20, Signed(21)),
    Point("export register", "Wh", 22, Counter(24)),
];

const INVERTER_FLOAT: &[Point] = &[
    Point("current", "A", 0, Float),
    Point("current L1", "A", 2, Float),
    Point("current L2", "A", 4, Float),
    Point("current L3", "A", 6, Float),
    Point("voltage L1-L2", "V", 8, Float),
    Point("voltage L2-L3", "V", 10, Float),
    Point("voltage L3-L1", "V", 12, Float),
    Point("voltage L1", "V", 14, Float),
    Point("voltage L2", "V", 16, Float),
    Point("voltage L3", "V", 18, Float),
    Point("power", "W", 20, Float),
    Point("frequency", "Hz", 22, Float),
    Point("apparent power", "VA", 24, Float),
    Point("reactive power", "var", 26, Float),
    Point("power factor", "", 28, Float),
    Point("export register", "Wh", 30, Float),
];

/// The fields that a model's form may read must lie inside the length that the device gives it.
fn reaches(offset: u16, form: &Form) -> u16 {
    match form {
        Signed(factor) | Unsigned(factor) => offset.max(*factor).saturating_add(1),
        Counter(factor) => offset.saturating_add(2).max(factor.saturating_add(1)),
        Float => offset.saturating_add(2),
    }
}

/// What a device says of itself and measures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Serial number of the common model.
    pub serial: Option<String>,
    /// Ids of its models, in order.
    pub models: Vec<u16>,
    /// Its values.
    pub readings: Vec<Reading>,
}

/// Whether an image holds the mark of SunSpec.
pub fn base(image: &Image) -> Option<u16> {
    BASES.into_iter().find(|base| image.words(*base, 2).as_deref() == Some(&[0x5375, 0x6E53]))
}

/// Follows the list of models.
pub fn read(image: &Image) -> Result<Device, Fault> {
    let mut at = base(image).ok_or(Fault::structure("no SunS at 0, 40000 or 50000"))?.saturating_add(2);
    let mut device = Device::default();
    for _ in 0..MODELS_MAX {
        let Some(id) = image.word(at).filter(|id| *id != END) else { break };
        let length = image.word(at.saturating_add(1)).ok_or(Fault::structure("a model without a length"))?;
        let start = at.saturating_add(2);
        device.models.push(id);
        match id {
            1 => device.serial = image.words(start.saturating_add(48), 16).and_then(|words| text(&words)),
            201..=204 => device.readings.extend(values(image, (start, length), METER)),
            211..=214 => device.readings.extend(values(image, (start, length), METER_FLOAT)),
            101..=103 => device.readings.extend(values(image, (start, length), INVERTER)),
            111..=113 => device.readings.extend(values(image, (start, length), INVERTER_FLOAT)),
            _ => {}
        }
        at = start.saturating_add(length);
    }
    let serial: Option<std::sync::Arc<str>> = device.serial.as_deref().map(Into::into);
    device.readings.iter_mut().for_each(|reading| reading.meter = serial.clone());
    Ok(device)
}

fn text(words: &[u16]) -> Option<String> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).take_while(|byte| *byte != 0).collect();
    crate::bytes::printable(&bytes).map(|text| text.trim().to_string())
}

fn values(image: &Image, (start, length): (u16, u16), points: &[Point]) -> Vec<Reading> {
    let value = |Point(name, unit, offset, form): &Point| {
        (reaches(*offset, form) <= length).then_some(())?;
        let at = start.checked_add(*offset)?;
        let scale = |offset: u16| {
            let factor = image.word(start.checked_add(offset)?).filter(|word| *word != 0x8000)?.cast_signed();
            i8::try_from(factor).ok().filter(|factor| (-10..=10).contains(factor))
        };
        let value = match form {
            Float => {
                let words = image.words(at, 2)?;
                Decimal::from_f32_bits(u32::from(words[0]) << 16 | u32::from(words[1]))?
            }
            Signed(factor) => {
                let word = image.word(at).filter(|word| *word != 0x8000)?;
                Decimal::new(i64::from(word.cast_signed()), 0).scaled(scale(*factor)?)?
            }
            Unsigned(factor) => {
                let word = image.word(at).filter(|word| *word != 0xFFFF)?;
                Decimal::new(i64::from(word), 0).scaled(scale(*factor)?)?
            }
            Counter(factor) => {
                let words = image.words(at, 2)?;
                let count = i64::from(words[0]) << 16 | i64::from(words[1]);
                Some(count).filter(|count| *count != 0).and_then(|c| Decimal::new(c, 0).scaled(scale(*factor)?))?
            }
        };
        // A power factor is sent in percent by most, as a fraction by some.
        let percent = *name == "power factor" || name.starts_with("power factor L");
        let above_one = value.rounded().is_some_and(|whole| whole.abs() > 1);
        let value = if percent && above_one { value.scaled(-2)? } else { value };
        Some(Reading::new(*name, value, *unit))
    };
    points.iter().filter_map(value).collect()
}
