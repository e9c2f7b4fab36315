//! Opening and closing an association: AARQ, AARE, RLRQ, RLRE, and the initiate services inside (Green Book 9.4, 9.5).

use alloc::vec::Vec;

use super::{
    axdr::{length, put_length},
    security::SystemTitle,
};
use crate::bytes::Cursor;

/// Object identifier of application contexts up to the last number.
const CONTEXT: [u8; 6] = [0x60, 0x85, 0x74, 0x05, 0x08, 0x01];
/// Object identifier of authentication mechanisms up to the last number.
const MECHANISM: [u8; 6] = [0x60, 0x85, 0x74, 0x05, 0x08, 0x02];

/// Release request without parameters: reason "normal".
pub const RELEASE_REQUEST: [u8; 5] = [0x62, 0x03, 0x80, 0x01, 0x00];
/// Release response without parameters.
pub const RELEASE_RESPONSE: [u8; 5] = [0x63, 0x03, 0x80, 0x01, 0x00];

/// Services by the bit in the conformance block (24 bits, first bit highest).
pub mod conformance {
    /// General protection.
    pub const GENERAL_PROTECTION: u32 = 1 << 22;
    /// General block transfer.
    pub const GENERAL_BLOCK_TRANSFER: u32 = 1 << 21;
    /// Short names: read.
    pub const READ: u32 = 1 << 20;
    /// Short names: write.
    pub const WRITE: u32 = 1 << 19;
    /// Attribute 0 in SET.
    pub const BLOCK_TRANSFER_WITH_GET: u32 = 1 << 12;
    /// Block transfer with SET.
    pub const BLOCK_TRANSFER_WITH_SET: u32 = 1 << 11;
    /// Several attributes at once.
    pub const MULTIPLE_REFERENCES: u32 = 1 << 9;
    /// Short names: a part of an attribute.
    pub const PARAMETERIZED_ACCESS: u32 = 1 << 5;
    /// GET.
    pub const GET: u32 = 1 << 4;
    /// SET.
    pub const SET: u32 = 1 << 3;
    /// Selective access.
    pub const SELECTIVE_ACCESS: u32 = 1 << 2;
    /// ACTION.
    pub const ACTION: u32 = 1;
    /// What our client asks for and our server offers.
    pub const OURS: u32 = GENERAL_PROTECTION
        | GENERAL_BLOCK_TRANSFER
        | BLOCK_TRANSFER_WITH_GET
        | BLOCK_TRANSFER_WITH_SET
        | MULTIPLE_REFERENCES
        | GET
        | SET
        | SELECTIVE_ACCESS
        | ACTION;
    /// The same with short names.
    pub const OURS_SHORT: u32 = READ | PARAMETERIZED_ACCESS | BLOCK_TRANSFER_WITH_GET;
}

/// AARQ and AARE share their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Association {
    /// Context 1 LN, 2 SN, 3 LN ciphered, 4 SN ciphered.
    pub context: u8,
    /// AARE: 0 accepted, 1 rejected for good, 2 rejected for now.
    pub result: u8,
    /// AARE: 0 none, 1 no reason, 2 context, 11 mechanism not known, 12 mechanism required, 13 failure, 14 authentication required.
    pub diagnostic: u8,
    /// System title of the sender.
    pub title: Option<SystemTitle>,
    /// 0 none, 1 LLS, 2 to 7 HLS.
    pub mechanism: u8,
    /// Password, or challenge.
    pub authentication: Vec<u8>,
    /// Initiate request or response, perhaps ciphered.
    pub user_information: Vec<u8>,
}

fn tlv(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn nested(out: &mut Vec<u8>, outer: u8, inner: u8, bytes: &[u8]) {
    let mut content = Vec::with_capacity(bytes.len() + 4);
    tlv(&mut content, inner, bytes);
    tlv(out, outer, &content);
}

fn object(prefix: [u8; 6], last: u8) -> [u8; 7] {
    let mut out = [last; 7];
    out[..6].copy_from_slice(&prefix);
    out
}

impl Association {
    /// The request.
    pub fn encode_request(&self) -> Vec<u8> {
        let mut body = Vec::new();
        nested(&mut body, 0xA1, 0x06, &object(CONTEXT, self.context));
        if let Some(title) = self.title {
            nested(&mut body, 0xA6, 0x04, &title);
        }
        if self.mechanism > 0 {
            tlv(&mut body, 0x8A, &[0x07, 0x80]);
            tlv(&mut body, 0x8B, &object(MECHANISM, self.mechanism));
            nested(&mut body, 0xAC, 0x80, &self.authentication);
        }
        nested(&mut body, 0xBE, 0x04, &self.user_information);
        let mut out = Vec::with_capacity(body.len() + 3);
        tlv(&mut out, 0x60, &body);
        out
    }

    /// The answer.
    pub fn encode_response(&self) -> Vec<u8> {
        let mut body = Vec::new();
        nested(&mut body, 0xA1, 0x06, &object(CONTEXT, self.context));
        nested(&mut body, 0xA2, 0x02, &[self.result]);
        let mut diagnostic = Vec::new();
        nested(&mut diagnostic, 0xA1, 0x02, &[self.diagnostic]);
        tlv(&mut body, 0xA3, &diagnostic);
        if let Some(title) = self.title {
            nested(&mut body, 0xA4, 0x04, &title);
        }
        if self.mechanism > 1 {
            tlv(&mut body, 0x88, &[0x07, 0x80]);
            tlv(&mut body, 0x89, &object(MECHANISM, self.mechanism));
            nested(&mut body, 0xAA, 0x80, &self.authentication);
        }
        if !self.user_information.is_empty() {
            nested(&mut body, 0xBE, 0x04, &self.user_information);
        }
        let mut out = Vec::with_capacity(body.len() + 3);
        tlv(&mut out, 0x61, &body);
        out
    }

    /// Reads either.
    pub fn parse(apdu: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(apdu);
        let request = match cursor.u8()? {
            0x60 => true,
            0x61 => false,
            _ => return None,
        };
        let count = length(&mut cursor)?;
        let mut fields = Cursor::new(cursor.take(count)?);
        let mut out = Self::default();
        while !fields.is_empty() {
            let tag = fields.u8()?;
            let count = length(&mut fields)?;
            let content = fields.take(count)?;
            out.field(request, tag, content)?;
        }
        (out.context != 0).then_some(out)
    }

    fn field(&mut self, request: bool, tag: u8, content: &[u8]) -> Option<()> {
        let inner = |content: &[u8]| {
            let mut cursor = Cursor::new(content);
            cursor.u8()?;
            let count = length(&mut cursor)?;
            Some(cursor.take(count)?.to_vec())
        };
        match (request, tag) {
            (_, 0xA1) => self.context = *inner(content)?.last()?,
            (false, 0xA2) => self.result = *content.last()?,
            (false, 0xA3) => self.diagnostic = *content.last()?,
            (true, 0xA6) | (false, 0xA4) => self.title = inner(content)?.try_into().ok(),
            (true, 0x8B) | (false, 0x89) => self.mechanism = *content.last()?,
            (true, 0xAC) | (false, 0xAA) => self.authentication = inner(content)?,
            (_, 0xBE) => self.user_information = inner(content)?,
            _ => {}
        }
        Some(())
    }
}

/// Initiate request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitiateRequest {
    /// A key for this association alone.
    pub dedicated_key: Option<Vec<u8>>,
    /// Services asked for.
    pub conformance: u32,
    /// Longest APDU that the client receives.
    pub max_pdu: u16,
}

impl InitiateRequest {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = alloc::vec![1];
        match &self.dedicated_key {
            None => out.push(0),
            Some(key) => {
                out.push(1);
                put_length(&mut out, key.len());
                out.extend_from_slice(key);
            }
        }
        out.extend_from_slice(&[0, 0, 6]);
        put_conformance(&mut out, self.conformance);
        out.extend_from_slice(&self.max_pdu.to_be_bytes());
        out
    }

    /// Reads it.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        (cursor.u8()? == 1).then_some(())?;
        let dedicated_key = match cursor.u8()? {
            0 => None,
            _ => {
                let count = length(&mut cursor)?;
                Some(cursor.take(count)?.to_vec())
            }
        };
        // response-allowed and quality of service, each with a flag of presence
        for _ in 0..2 {
            if cursor.u8()? != 0 {
                cursor.u8()?;
            }
        }
        cursor.u8()?;
        let conformance = conformance_block(&mut cursor)?;
        Some(Self { dedicated_key, conformance, max_pdu: cursor.u16()? })
    }
}

/// Initiate response: what the meter agrees to binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitiateResponse {
    /// Services agreed.
    pub conformance: u32,
    /// Longest APDU that the meter receives.
    pub max_pdu: u16,
    /// 0007 with logical names, FA00 with short names.
    pub base_name: u16,
}

impl InitiateResponse {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = alloc::vec![8, 0, 6];
        put_conformance(&mut out, self.conformance);
        out.extend_from_slice(&self.max_pdu.to_be_bytes());
        out.extend_from_slice(&self.base_name.to_be_bytes());
        out
    }

    /// Reads it.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        (cursor.u8()? == 8).then_some(())?;
        if cursor.u8()? != 0 {
            cursor.u8()?;
        }
        cursor.u8()?;
        Some(Self { conformance: conformance_block(&mut cursor)?, max_pdu: cursor.u16()?, base_name: cursor.u16()? })
    }
}

fn put_conformance(out: &mut Vec<u8>, conformance: u32) {
    let [_, a, b, c] = conformance.to_be_bytes();
    out.extend_from_slice(&[0x5F, 0x1F, 0x04, 0x00, a, b, c]);
}

fn conformance_block(cursor: &mut Cursor<'_>) -> Option<u32> {
    (cursor.u8()? == 0x5F).then_some(())?;
    // The second tag byte is left out by some.
    if cursor.peek()? == 0x1F {
        cursor.u8()?;
    }
    (cursor.u8()? == 4).then_some(())?;
    cursor.u8()?;
    let [a, b, c] = cursor.array()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::{from_hex, hex};

    #[test]
    fn requests_of_the_green_book() {
        let initiate = InitiateRequest { dedicated_key: None, conformance: 0x001E1D, max_pdu: 0xFFFF };
        let request = Association { context: 1, user_information: initiate.encode(), ..Association::default() };
        let bytes = request.encode_request();
        assert_eq!(hex(&bytes), "601da109060760857405080101be10040e01000000065f1f0400001e1dffff");
        assert_eq!(Association::parse(&bytes), Some(request));
        let lls = "6036A1090607608574050801018A0207808B0760857405080202AC0A80083132333435363738BE10040E01000000065F1F0400007E1FFFFF";
        let parsed = Association::parse(&from_hex(lls).expect("hex")).expect("an AARQ");
        assert_eq!((parsed.mechanism, parsed.authentication.as_slice()), (2, &b"12345678"[..]));
        assert_eq!(hex(&parsed.encode_request()), lls.to_ascii_lowercase());
        let dedicated = from_hex("01011000112233445566778899AABBCCDDEEFF0000065F1F0400007E1F04B0").expect("hex");
        let initiate = InitiateRequest::parse(&dedicated).expect("an initiate");
        assert_eq!((initiate.dedicated_key.as_ref().map(Vec::len), initiate.max_pdu), (Some(16), 0x04B0));
        assert_eq!(initiate.encode(), dedicated);
    }
}
