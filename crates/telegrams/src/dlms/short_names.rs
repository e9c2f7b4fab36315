//! Short names: attributes by a 16-bit number, as older meters know them (Green Book, services Read and Write).
//!
//! The association itself is at FA00; its attribute 2 lists the base name of every object. Attribute `n` has the name base + 8 (n − 1).

use alloc::{collections::BTreeMap, vec::Vec};

use super::{
    apdu::{Block, Selection, Target},
    axdr::{Value, length, put_length},
};
use crate::bytes::Cursor;

/// Base name of the current association.
pub const ASSOCIATION_NAME: u16 = 0xFA00;
/// Name of its attribute 2, the list of objects.
pub const LIST_NAME: u16 = ASSOCIATION_NAME + 8;

const READ_REQUEST: u8 = 0x05;
const READ_RESPONSE: u8 = 0x0C;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// An attribute.
    Name(u16),
    /// A part of an attribute.
    Part(u16, Selection<'a>),
    /// The block after this number.
    Next(u16),
}

impl<'a> Read<'a> {
    /// Reads a request of one item; requests of several are not served.
    pub fn parse(apdu: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(apdu);
        (cursor.u8()? == READ_REQUEST && length(&mut cursor)? == 1).then_some(())?;
        let read = match cursor.u8()? {
            2 => Self::Name(cursor.u16()?),
            4 => {
                let (name, selector, parameters) = (cursor.u16()?, cursor.u8()?, cursor.rest());
                Value::read(&mut cursor)?;
                let parameters = &parameters[..parameters.len() - cursor.left()];
                Self::Part(name, Selection { selector, parameters })
            }
            5 => Self::Next(cursor.u16()?),
            _ => return None,
        };
        cursor.is_empty().then_some(read)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = alloc::vec![READ_REQUEST, 1];
        match self {
            Self::Name(name) => {
                out.push(2);
                out.extend_from_slice(&name.to_be_bytes());
            }
            Self::Part(name, selection) => {
                out.push(4);
                out.extend_from_slice(&name.to_be_bytes());
                out.push(selection.selector);
                out.extend_from_slice(selection.parameters);
            }
            Self::Next(number) => {
                out.push(5);
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        out
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// An encoded value.
    Value(&'a [u8]),
    /// Data access result.
    Refused(u8),
    /// A part of a long value.
    Block(Block<'a>),
}

impl<'a> Answer<'a> {
    /// Whether an APDU is an answer to a read.
    pub fn is_one(apdu: &[u8]) -> bool {
        apdu.first() == Some(&READ_RESPONSE)
    }

    /// Reads an answer of one item; nothing may stand behind it.
    pub fn parse(apdu: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(apdu);
        (cursor.u8()? == READ_RESPONSE && length(&mut cursor)? == 1).then_some(())?;
        let answer = match cursor.u8()? {
            0 => {
                let rest = cursor.rest();
                Value::read(&mut cursor)?;
                Self::Value(&rest[..rest.len() - cursor.left()])
            }
            1 => Self::Refused(cursor.u8()?),
            2 => {
                let (last, number) = (cursor.u8()? != 0, u32::from(cursor.u16()?));
                let count = length(&mut cursor)?;
                Self::Block(Block { last, number, bytes: cursor.take(count)? })
            }
            _ => return None,
        };
        cursor.is_empty().then_some(answer)
    }

    /// Its bytes; a block number beyond 16 bits is refused as unavailable.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = alloc::vec![READ_RESPONSE, 1];
        match self {
            Self::Value(value) => {
                out.push(0);
                out.extend_from_slice(value);
            }
            Self::Refused(code) => out.extend_from_slice(&[1, *code]),
            Self::Block(block) => match u16::try_from(block.number) {
                Ok(number) => {
                    out.extend_from_slice(&[2, u8::from(block.last)]);
                    out.extend_from_slice(&number.to_be_bytes());
                    put_length(&mut out, block.bytes.len());
                    out.extend_from_slice(block.bytes);
                }
                Err(_) => out.extend_from_slice(&[1, 14]),
            },
        }
        out
    }
}

/// Base names of a meter's objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    bases: BTreeMap<(u16, [u8; 6]), u16>,
}

impl Names {
    /// Most objects of a list that is taken.
    pub const MAX: usize = 4_096;

    /// From attribute 2 of the association: `{base name, class, version, code}` each.
    pub fn of_list(list: &Value<'_>) -> Option<Self> {
        let items = list.items().filter(|items| items.len() <= Self::MAX)?;
        let entry = |item: &Value<'_>| match item.items()? {
            [Value::Signed(base, 2), Value::Unsigned(class, 2), _, code, ..] => {
                Some(((u16::try_from(*class).ok()?, code.obis()?), i16::try_from(*base).ok()?.cast_unsigned()))
            }
            _ => None,
        };
        Some(Self { bases: items.iter().map(entry).collect::<Option<_>>()? })
    }

    /// Gives names to objects in their order, as a meter does.
    pub fn given(objects: impl Iterator<Item = (u16, [u8; 6])>) -> Self {
        // Eleven attributes are the most of any class here.
        let names = (0x0100_u16..ASSOCIATION_NAME).step_by(0x60);
        Self { bases: objects.zip(names).collect() }
    }

    /// The name of an attribute; `None` when the meter has no such object.
    pub fn of(&self, target: &Target) -> Option<u16> {
        let base = self.bases.get(&(target.class, target.obis))?;
        base.checked_add(u16::from(target.index.checked_sub(1)?) * 8)
    }

    /// The attribute of a name.
    pub fn target(&self, name: u16) -> Option<Target> {
        let mut within = self.bases.iter().filter(|(_, base)| (**base..base.saturating_add(0x60)).contains(&name));
        let (&(class, obis), base) = within.next()?;
        let offset = name - base;
        let index = u8::try_from(offset / 8 + 1).ok().filter(|_| offset.is_multiple_of(8))?;
        Some(Target { class, obis, index })
    }

    /// The list as attribute 2 of the association shows it.
    pub fn list(&self, version: impl Fn(u16, [u8; 6]) -> u8) -> Vec<u8> {
        let items = self.bases.iter().map(|((class, obis), base)| {
            let fields = alloc::vec![
                Value::Signed(i64::from(base.cast_signed()), 2),
                Value::Unsigned(u64::from(*class), 2),
                Value::Unsigned(u64::from(version(*class, *obis)), 1),
                Value::Octets(obis),
            ];
            Value::Structure(fields)
        });
        Value::Array(items.collect()).encoded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::hex;

    #[test]
    fn requests_and_answers_survive() {
        let parameters = Value::Structure(alloc::vec![Value::Unsigned(1, 4)]).encoded();
        assert_eq!(hex(&Read::Name(0x0118).encode()), "0501020118");
        for read in [Read::Name(8), Read::Part(8, Selection { selector: 2, parameters: &parameters }), Read::Next(7)] {
            let bytes = read.encode();
            assert_eq!(Read::parse(&bytes), Some(read));
            assert_eq!(Read::parse(&bytes[..bytes.len() - 1]), None);
        }
        let block = Block { last: true, number: 3, bytes: b"abc" };
        for answer in [Answer::Value(&[17, 5]), Answer::Refused(4), Answer::Block(block)] {
            assert_eq!(Answer::parse(&answer.encode()), Some(answer.clone()));
        }
    }

    #[test]
    fn names_go_both_ways() {
        let energy = (3, [1, 0, 1, 8, 0, 255]);
        let names = Names::given([energy, (8, [0, 0, 1, 0, 0, 255])].into_iter());
        let target = Target { class: 3, obis: energy.1, index: 3 };
        assert_eq!(names.of(&target), Some(0x0110));
        assert_eq!(names.target(0x0110), Some(target));
        assert_eq!((names.target(0x0111), names.target(0x0200)), (None, None));
        let list = names.list(|_, _| 0);
        assert_eq!(Value::whole(&list).as_ref().and_then(Names::of_list), Some(names));
    }
}
