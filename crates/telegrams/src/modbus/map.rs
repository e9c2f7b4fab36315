//! A map of registers: address, type, order of words, scale, unit. Addresses are those on the wire (number in the manual − 1).

use serde::Deserialize;

use super::Image;
use crate::{Decimal, Fault, Reading};

/// How registers hold a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// Unsigned, 1 register.
    U16,
    /// Signed, 1 register.
    I16,
    /// Unsigned, 2 registers.
    U32,
    /// Signed, 2 registers.
    I32,
    /// Unsigned, 4 registers.
    U64,
    /// Signed, 4 registers.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
}

impl Type {
    /// Registers that it takes.
    pub fn words(self) -> u16 {
        match self {
            Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
        }
    }
}

/// Which word comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The high one.
    #[default]
    Big,
    /// The low one.
    Little,
}

/// Which table of the meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Function 3.
    #[default]
    Holding,
    /// Function 4.
    Input,
}

/// One value of a map.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The quantity.
    pub quantity: String,
    /// First address on the wire.
    pub address: u16,
    /// Table.
    #[serde(default)]
    pub table: Table,
    /// Type.
    #[serde(rename = "type")]
    pub kind: Type,
    /// Order of words.
    #[serde(default)]
    pub order: Order,
    /// Factor, a decimal.
    #[serde(default = "one")]
    pub scale: String,
    /// Unit.
    #[serde(default)]
    pub unit: String,
}

fn one() -> String {
    "1".into()
}

/// A map as CSV: quantity, address, table, type, word order, scale, unit.
pub fn from_csv(text: &str) -> Result<Vec<Register>, Fault> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let bad = |why: String| Fault::structure(format!("a register map: {why}"));
    let rows = reader.records().map(|row| {
        let row = row.map_err(|why| bad(why.to_string()))?;
        let field = |at| row.get(at).unwrap_or_default().trim();
        let table = if field(2) == "input" { Table::Input } else { Table::Holding };
        let kind = match field(3) {
            "u16" => Type::U16,
            "i16" => Type::I16,
            "u32" => Type::U32,
            "i32" => Type::I32,
            "u64" => Type::U64,
            "i64" => Type::I64,
            "f32" => Type::F32,
            "f64" => Type::F64,
            other => return Err(bad(format!("type {other:?}"))),
        };
        let order = if field(4).starts_with("little") { Order::Little } else { Order::Big };
        let address = field(1).parse().map_err(|_| bad(format!("address {:?}", field(1))))?;
        let (quantity, scale, unit) = (field(0).into(), field(5).into(), field(6).into());
        Ok(Register { quantity, address, table, kind, order, scale, unit })
    });
    rows.collect()
}

impl Register {
    /// The value in an image; `None` when it was not read or the meter marks it as absent.
    pub fn read(&self, image: &Image) -> Option<Decimal> {
        let mut words = image.words(self.address, self.kind.words())?;
        if self.order == Order::Little {
            words.reverse();
        }
        let raw = words.iter().fold(0_u64, |sum, word| sum << 16 | u64::from(*word));
        let bits = u32::from(self.kind.words()) * 16;
        let all = u64::MAX >> (64 - bits);
        let lowest = 1_u64 << (bits - 1);
        let signed = |raw: u64| ((raw << (64 - bits)).cast_signed()) >> (64 - bits);
        let value = match self.kind {
            Type::F32 => Decimal::from_f32_bits(u32::try_from(raw).ok()?)?,
            Type::F64 => Decimal::from_f64_bits(raw)?,
            Type::U16 | Type::U32 | Type::U64 if raw == all => return None,
            Type::U16 | Type::U32 | Type::U64 => Decimal::from_u64(raw)?,
            // 8000 and, for 32 and 64 bits, also 7FFF: not available.
            _ if raw == lowest || (bits > 16 && raw == lowest - 1) => return None,
            _ => Decimal::new(signed(raw), 0),
        };
        value.times(Decimal::parse(&self.scale)?)
    }
}

/// All values of a map that an image holds.
pub fn readings(map: &[Register], image: &Image) -> Vec<Reading> {
    map.iter().filter_map(|r| Some(Reading::new(r.quantity.clone(), r.read(image)?, r.unit.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(kind: Type, order: Order, scale: &str) -> Register {
        let (quantity, unit) = ("power".into(), "W".into());
        Register { quantity, address: 10, table: Table::Input, kind, order, scale: scale.into(), unit }
    }

    #[test]
    fn words_signs_and_absence() {
        let image = |words: &[u16]| Image::new((10..).zip(words.iter().copied()));
        let little = register(Type::I32, Order::Little, "0.1");
        assert_eq!(little.read(&image(&[0xFCE0, 0xFFFF])), Some(Decimal::new(-800, -1)));
        assert_eq!(register(Type::U16, Order::Big, "1").read(&image(&[0xFFFF])), None);
        assert_eq!(register(Type::I16, Order::Big, "1").read(&image(&[0x8000])), None);
        assert_eq!(register(Type::F32, Order::Big, "1").read(&image(&[0x7FC0, 0])), None);
        assert_eq!(
            register(Type::U64, Order::Big, "0.01").read(&image(&[0, 0, 0x12, 0xD676])),
            Some(Decimal::new(1_234_550, -2))
        );
        assert_eq!(register(Type::U32, Order::Big, "1").read(&image(&[1])), None, "half a value is none");
    }
}
