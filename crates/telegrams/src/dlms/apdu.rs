//! GET, SET and ACTION: requests and responses, with logical names (Green Book 9.3, 9.5).

use alloc::vec::Vec;

use super::axdr::{Value, length, put_length};
use crate::bytes::Cursor;

/// An attribute or a method of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Class: 1 data, 3 register, 7 profile, 8 clock, 15 association, 40 push setup, 70 disconnect control.
    pub class: u16,
    /// OBIS code.
    pub obis: [u8; 6],
    /// Attribute or method, from 1.
    pub index: u8,
}

/// Which part of an attribute: selector and its parameters, encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    /// 1 range, 2 entry.
    pub selector: u8,
    /// The parameters.
    pub parameters: &'a [u8],
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// One attribute.
    Get(u8, Target, Option<Selection<'a>>),
    /// The block after this number.
    GetNext(u8, u32),
    /// Several attributes.
    GetList(u8, Vec<(Target, Option<Selection<'a>>)>),
    /// Sets an attribute to an encoded value.
    Set(u8, Target, &'a [u8]),
    /// First part of a long value.
    SetFirst(u8, Target, Block<'a>),
    /// A further part.
    SetBlock(u8, Block<'a>),
    /// Calls a method.
    Action(u8, Target, Option<&'a [u8]>),
}

/// A part of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// No part follows.
    pub last: bool,
    /// From 1.
    pub number: u32,
    /// Bytes.
    pub bytes: &'a [u8],
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// An encoded value, or why not (data access result).
    Get(u8, Result<&'a [u8], u8>),
    /// A part of a long value.
    GetBlock(u8, Block<'a>),
    /// A long value broke off.
    GetBlockRefused(u8, u8),
    /// Values in the order of the request.
    GetList(u8, Vec<Result<&'a [u8], u8>>),
    /// 0 success, else data access result.
    Set(u8, u8),
    /// This part was taken.
    SetBlock(u8, u32),
    /// The last part was taken, with the result.
    SetLast(u8, u8, u32),
    /// 0 success, else action result; a returned value.
    Action(u8, u8, Option<&'a [u8]>),
    /// State error and service error.
    Exception(u8, u8),
}

/// Invoke id and priority: confirmed, high.
pub const INVOKE: u8 = 0xC0;

/// What a data access result means.
pub fn access_result(code: u8) -> &'static str {
    match code {
        0 => "success",
        1 => "hardware fault",
        2 => "temporary failure",
        3 => "read or write denied",
        4 => "object undefined",
        9 => "object class inconsistent",
        11 => "object unavailable",
        12 => "type unmatched",
        13 => "scope of access violated",
        14 => "data block unavailable",
        15 => "long get aborted",
        16 => "no long get in progress",
        17 => "long set aborted",
        18 => "no long set in progress",
        19 => "data block number invalid",
        _ => "other reason",
    }
}

fn target(cursor: &mut Cursor<'_>) -> Option<Target> {
    Some(Target { class: cursor.u16()?, obis: cursor.array()?, index: cursor.u8()? })
}

fn put_target(out: &mut Vec<u8>, target: &Target) {
    out.extend_from_slice(&target.class.to_be_bytes());
    out.extend_from_slice(&target.obis);
    out.push(target.index);
}

/// An encoded value at the front.
fn value<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let before = cursor.rest();
    Value::read(cursor)?;
    before.get(..before.len() - cursor.left())
}

fn selection<'a>(cursor: &mut Cursor<'a>) -> Option<Option<Selection<'a>>> {
    match cursor.u8()? {
        0 => Some(None),
        _ => Some(Some(Selection { selector: cursor.u8()?, parameters: value(cursor)? })),
    }
}

fn put_selection(out: &mut Vec<u8>, selection: Option<&Selection<'_>>) {
    match selection {
        None => out.push(0),
        Some(selection) => {
            out.extend_from_slice(&[1, selection.selector]);
            out.extend_from_slice(selection.parameters);
        }
    }
}

fn block<'a>(cursor: &mut Cursor<'a>) -> Option<Block<'a>> {
    let (last, number) = (cursor.u8()? != 0, cursor.u32()?);
    let count = length(cursor)?;
    Some(Block { last, number, bytes: cursor.take(count)? })
}

fn put_block(out: &mut Vec<u8>, block: &Block<'_>) {
    out.push(u8::from(block.last));
    out.extend_from_slice(&block.number.to_be_bytes());
    put_length(out, block.bytes.len());
    out.extend_from_slice(block.bytes);
}

fn result<'a>(cursor: &mut Cursor<'a>) -> Option<Result<&'a [u8], u8>> {
    Some(match cursor.u8()? {
        0 => Ok(value(cursor)?),
        _ => Err(cursor.u8()?),
    })
}

fn put_result(out: &mut Vec<u8>, result: &Result<&[u8], u8>) {
    match result {
        Ok(value) => {
            out.push(0);
            out.extend_from_slice(value);
        }
        Err(code) => out.extend_from_slice(&[1, *code]),
    }
}

impl<'a> Request<'a> {
    /// Reads a request; nothing may stand behind it.
    pub fn parse(apdu: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(apdu);
        let (tag, kind, invoke) = (cursor.u8()?, cursor.u8()?, cursor.u8()?);
        let request = match (tag, kind) {
            (0xC0, 1) => Self::Get(invoke, target(&mut cursor)?, selection(&mut cursor)?),
            (0xC0, 2) => Self::GetNext(invoke, cursor.u32()?),
            (0xC0, 3) => {
                let count = length(&mut cursor)?;
                (count <= cursor.left()).then_some(())?;
                let list = (0..count).map(|_| Some((target(&mut cursor)?, selection(&mut cursor)?)));
                Self::GetList(invoke, list.collect::<Option<_>>()?)
            }
            (0xC1, 1) => {
                let target = target(&mut cursor)?;
                selection(&mut cursor)?;
                Self::Set(invoke, target, value(&mut cursor)?)
            }
            (0xC1, 2) => {
                let target = target(&mut cursor)?;
                selection(&mut cursor)?;
                Self::SetFirst(invoke, target, block(&mut cursor)?)
            }
            (0xC1, 3) => Self::SetBlock(invoke, block(&mut cursor)?),
            (0xC3, 1) => {
                let target = target(&mut cursor)?;
                let parameter = match cursor.u8()? {
                    0 => None,
                    _ => Some(value(&mut cursor)?),
                };
                Self::Action(invoke, target, parameter)
            }
            _ => return None,
        };
        cursor.is_empty().then_some(request)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Get(invoke, target, selection) => {
                out.extend_from_slice(&[0xC0, 1, *invoke]);
                put_target(&mut out, target);
                put_selection(&mut out, selection.as_ref());
            }
            Self::GetNext(invoke, number) => {
                out.extend_from_slice(&[0xC0, 2, *invoke]);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::GetList(invoke, list) => {
                out.extend_from_slice(&[0xC0, 3, *invoke]);
                put_length(&mut out, list.len());
                for (target, selection) in list {
                    put_target(&mut out, target);
                    put_selection(&mut out, selection.as_ref());
                }
            }
            Self::Set(invoke, target, value) => {
                out.extend_from_slice(&[0xC1, 1, *invoke]);
                put_target(&mut out, target);
                out.push(0);
                out.extend_from_slice(value);
            }
            Self::SetFirst(invoke, target, block) => {
                out.extend_from_slice(&[0xC1, 2, *invoke]);
                put_target(&mut out, target);
                out.push(0);
                put_block(&mut out, block);
            }
            Self::SetBlock(invoke, block) => {
                out.extend_from_slice(&[0xC1, 3, *invoke]);
                put_block(&mut out, block);
            }
            Self::Action(invoke, target, parameter) => {
                out.extend_from_slice(&[0xC3, 1, *invoke]);
                put_target(&mut out, target);
                match parameter {
                    None => out.push(0),
                    Some(value) => {
                        out.push(1);
                        out.extend_from_slice(value);
                    }
                }
            }
        }
        out
    }
}

impl<'a> Response<'a> {
    /// Reads a response; nothing may stand behind it.
    pub fn parse(apdu: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(apdu);
        let tag = cursor.u8()?;
        if tag == 0xD8 {
            return Some(Self::Exception(cursor.u8()?, cursor.u8()?));
        }
        let (kind, invoke) = (cursor.u8()?, cursor.u8()?);
        let response = match (tag, kind) {
            (0xC4, 1) => Self::Get(invoke, result(&mut cursor)?),
            (0xC4, 2) => {
                let (last, number) = (cursor.u8()? != 0, cursor.u32()?);
                match cursor.u8()? {
                    0 => {
                        let count = length(&mut cursor)?;
                        Self::GetBlock(invoke, Block { last, number, bytes: cursor.take(count)? })
                    }
                    _ => Self::GetBlockRefused(invoke, cursor.u8()?),
                }
            }
            (0xC4, 3) => {
                let count = length(&mut cursor)?;
                (count <= cursor.left()).then_some(())?;
                Self::GetList(invoke, (0..count).map(|_| result(&mut cursor)).collect::<Option<_>>()?)
            }
            (0xC5, 1) => Self::Set(invoke, cursor.u8()?),
            (0xC5, 2) => Self::SetBlock(invoke, cursor.u32()?),
            (0xC5, 3) => Self::SetLast(invoke, cursor.u8()?, cursor.u32()?),
            (0xC7, 1) => {
                let code = cursor.u8()?;
                let returned = match cursor.u8().unwrap_or(0) {
                    0 => None,
                    _ => result(&mut cursor)?.ok(),
                };
                Self::Action(invoke, code, returned)
            }
            _ => return None,
        };
        cursor.is_empty().then_some(response)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Get(invoke, result) => {
                out.extend_from_slice(&[0xC4, 1, *invoke]);
                put_result(&mut out, result);
            }
            Self::GetBlock(invoke, block) => {
                out.extend_from_slice(&[0xC4, 2, *invoke, u8::from(block.last)]);
                out.extend_from_slice(&block.number.to_be_bytes());
                out.push(0);
                put_length(&mut out, block.bytes.len());
                out.extend_from_slice(block.bytes);
            }
            Self::GetBlockRefused(invoke, code) => {
                out.extend_from_slice(&[0xC4, 2, *invoke, 1, 0, 0, 0, 0, 1, *code]);
            }
            Self::GetList(invoke, results) => {
                out.extend_from_slice(&[0xC4, 3, *invoke]);
                put_length(&mut out, results.len());
                results.iter().for_each(|result| put_result(&mut out, result));
            }
            Self::Set(invoke, code) => out.extend_from_slice(&[0xC5, 1, *invoke, *code]),
            Self::SetBlock(invoke, number) => {
                out.extend_from_slice(&[0xC5, 2, *invoke]);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::SetLast(invoke, code, number) => {
                out.extend_from_slice(&[0xC5, 3, *invoke, *code]);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Action(invoke, code, returned) => {
                out.extend_from_slice(&[0xC7, 1, *invoke, *code]);
                match returned {
                    None => out.push(0),
                    Some(value) => {
                        out.extend_from_slice(&[1, 0]);
                        out.extend_from_slice(value);
                    }
                }
            }
            Self::Exception(state, service) => out.extend_from_slice(&[0xD8, *state, *service]),
        }
        out
    }
}

/// Tag of the protected form of a service, with the global or the dedicated key; `None` for a tag without one.
pub fn protected_tag(tag: u8, dedicated: bool) -> Option<u8> {
    let global = match tag {
        0x01 => 0x21,
        0x08 => 0x28,
        0xC0 => 0xC8,
        0xC1 => 0xC9,
        0xC3 => 0xCB,
        0xC4 => 0xCC,
        0xC5 => 0xCD,
        0xC7 => 0xCF,
        _ => return None,
    };
    if !dedicated {
        return Some(global);
    }
    (global >= 0xC8).then_some(global + 8)
}

/// Whether a tag is that of a protected service, and whether with the dedicated key.
pub fn is_protected(tag: u8) -> Option<bool> {
    match tag {
        0x21 | 0x28 | 0xC8..=0xCF => Some(false),
        0xD0..=0xD7 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_survive() {
        let target = Target { class: 7, obis: [1, 0, 99, 1, 0, 255], index: 2 };
        let parameters = Value::Structure(alloc::vec![Value::Unsigned(1, 4)]).encoded();
        let selection = Some(Selection { selector: 2, parameters: &parameters });
        let part = Block { last: false, number: 3, bytes: b"abc" };
        for request in [
            Request::Get(INVOKE, target, selection),
            Request::GetNext(INVOKE, 7),
            Request::GetList(INVOKE, alloc::vec![(target, None), (target, selection)]),
            Request::Set(INVOKE, target, &[0]),
            Request::SetFirst(INVOKE, target, part),
            Request::SetBlock(INVOKE, part),
            Request::Action(INVOKE, target, Some(&[15, 0])),
            Request::Action(INVOKE, target, None),
        ] {
            let bytes = request.encode();
            assert_eq!(Request::parse(&bytes), Some(request.clone()));
            assert_eq!(Request::parse(&bytes[..bytes.len() - 1]), None);
        }
        for response in [
            Response::Get(INVOKE, Ok(&[17, 5])),
            Response::Get(INVOKE, Err(4)),
            Response::GetBlock(INVOKE, part),
            Response::GetBlockRefused(INVOKE, 19),
            Response::GetList(INVOKE, alloc::vec![Ok(&[0]), Err(3)]),
            Response::Set(INVOKE, 0),
            Response::SetBlock(INVOKE, 2),
            Response::SetLast(INVOKE, 0, 3),
            Response::Action(INVOKE, 0, Some(&[17, 5])),
            Response::Action(INVOKE, 3, None),
            Response::Exception(1, 2),
        ] {
            assert_eq!(Response::parse(&response.encode()), Some(response.clone()));
        }
    }
}
