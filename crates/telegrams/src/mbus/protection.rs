//! Encryption of M-Bus: security modes 5 (AES-CBC with the address as vector) and 7 (AES-CBC with a derived key), and AES-CTR of
//! the extended link layer.

use alloc::vec::Vec;

use super::header::Address;
use crate::{Fault, bytes::Cursor, checksum, cipher};

/// The configuration field of a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration(pub u16);

impl Configuration {
    /// Security mode.
    pub fn mode(self) -> u8 {
        u8::try_from(self.0 >> 8 & 0x1F).unwrap_or(0)
    }

    /// How many bytes are encrypted.
    pub fn encrypted_bytes(self) -> usize {
        usize::from(self.0 >> 4 & 0x0F) * 16
    }
}

/// What the layers before the transport header said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The meter.
    pub address: Address,
    /// Access number of the transport header.
    pub access: u8,
    /// Message counter of the authentication layer.
    pub message_counter: Option<u32>,
}

/// Decrypts what stands behind the transport header.
pub fn open(
    configuration: Configuration,
    body: &[u8],
    context: Context,
    key: Option<&cipher::Key>,
) -> Result<Vec<u8>, Fault> {
    let short = || Fault::structure("fewer bytes than the header says are encrypted");
    match configuration.mode() {
        0 => Ok(body.to_vec()),
        // Decrypted by the receiver, which left the header as it was.
        7 if key.is_none() && body.get(1..3) == Some(&[0x2F, 0x2F]) => Ok(body[1..].to_vec()),
        _ if key.is_none() && body.starts_with(&[0x2F, 0x2F]) => Ok(body.to_vec()),
        _ if configuration.encrypted_bytes() == 0 && configuration.mode() == 5 => Ok(body.to_vec()),
        5 => {
            let key = key.ok_or(Fault::KeyMissing)?;
            let (sealed, plain) = body.split_at_checked(configuration.encrypted_bytes()).ok_or_else(short)?;
            decrypt(key, mode_5_vector(&context.address, context.access), sealed, plain)
        }
        7 => {
            let key = key.ok_or(Fault::KeyMissing)?;
            let mut cursor = Cursor::new(body);
            let extension = cursor.u8().ok_or_else(short)?;
            let derived = match extension >> 4 & 3 {
                0 => *key,
                1 => encryption_key(key, &context).ok_or(Fault::structure("no message counter"))?,
                _ => return Err(Fault::Unsupported("a key derivation other than CMAC".into())),
            };
            let (sealed, plain) = cursor.rest().split_at_checked(configuration.encrypted_bytes()).ok_or_else(short)?;
            decrypt(&derived, [0; 16], sealed, plain)
        }
        mode => Err(Fault::Unsupported(alloc::format!("security mode {mode} of M-Bus").into())),
    }
}

/// The address, then the access number eight times.
pub fn mode_5_vector(address: &Address, access: u8) -> [u8; 16] {
    let mut vector = [access; 16];
    vector[..8].copy_from_slice(&address.bytes());
    vector
}

/// CBC, then the proof of the key: two fillers at the beginning.
fn decrypt(key: &cipher::Key, vector: [u8; 16], sealed: &[u8], plain: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut out = cipher::cbc_decrypt(key, vector, sealed).ok_or(Fault::structure("no whole blocks"))?;
    if !sealed.is_empty() && !out.starts_with(&[0x2F, 0x2F]) {
        return Err(Fault::WrongKey);
    }
    out.extend_from_slice(plain);
    Ok(out)
}

/// `CMAC(key, 00 ‖ counter ‖ number ‖ 07…)` (EN 13757-7, 9.5.2): 00 for encryption, 01 for authentication by the meter.
fn derive(key: &cipher::Key, purpose: u8, context: &Context) -> Option<cipher::Key> {
    let mut message = [7; 16];
    message[0] = purpose;
    message[1..5].copy_from_slice(&context.message_counter?.to_le_bytes());
    message[5..9].copy_from_slice(&context.address.number);
    Some(cipher::cmac(key, &message))
}

/// The key of security mode 7.
pub fn encryption_key(key: &cipher::Key, context: &Context) -> Option<cipher::Key> {
    derive(key, 0, context)
}

/// The key of the authentication layer's MAC.
pub fn authentication_key(key: &cipher::Key, context: &Context) -> Option<cipher::Key> {
    derive(key, 1, context)
}

/// What the authentication and fragmentation layer says (OMS volume 2, 6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authentication {
    /// A part of a longer message.
    pub is_fragment: bool,
    /// Message counter.
    pub counter: Option<u32>,
    /// Message control: the low four bits say how the MAC is made.
    control: u8,
    mac: Vec<u8>,
    length: Option<[u8; 2]>,
}

/// The layer behind CI 90, and what follows it.
pub fn authentication<'a>(cursor: &mut Cursor<'a>) -> Option<(Authentication, &'a [u8])> {
    let length = usize::from(cursor.u8()?);
    let mut layer = Cursor::new(cursor.take(length)?);
    let fields = layer.u16_le()?;
    let has = |bit: u16| fields >> bit & 1 == 1;
    let mut out = Authentication { is_fragment: has(14) || fields & 0xFF > 1, ..Authentication::default() };
    if has(13) {
        out.control = layer.u8()?;
    }
    if has(9) {
        layer.u16()?;
    }
    if has(11) {
        out.counter = Some(u32::from_le_bytes(layer.array()?));
    }
    if has(10) {
        let count = mac_length(out.control & 0x0F)?;
        out.mac = layer.take(count)?.to_vec();
    }
    if has(12) {
        out.length = Some(layer.array()?);
    }
    Some((out, cursor.rest()))
}

/// Bytes of the MAC by its kind; 8 is GMAC.
fn mac_length(kind: u8) -> Option<usize> {
    Some(match kind {
        3 => 2,
        4 => 4,
        5 => 8,
        6 | 8 => 12,
        7 => 16,
        _ => return None,
    })
}

impl Authentication {
    /// The MAC over control, counter, length and the message from its CI field on, as sent. A message without one passes.
    pub fn check(&self, message: &[u8], key: &cipher::Key, context: &Context) -> Result<(), Fault> {
        if self.mac.is_empty() {
            return Ok(());
        }
        if self.control & 0x0F == 8 {
            return Err(Fault::Unsupported("GMAC in the authentication layer".into()));
        }
        let derived = authentication_key(key, context).ok_or(Fault::structure("a MAC without a message counter"))?;
        let mut covered = alloc::vec![self.control];
        covered.extend_from_slice(&self.counter.unwrap_or(0).to_le_bytes());
        covered.extend_from_slice(self.length.as_ref().map_or(&[][..], |length| length));
        covered.extend_from_slice(message);
        if cipher::cmac(&derived, &covered).starts_with(&self.mac) { Ok(()) } else { Err(Fault::WrongKey) }
    }
}

/// Whether a session number of the extended link layer says that what follows is encrypted.
pub fn is_extended_sealed(session: [u8; 4]) -> bool {
    session[3] >> 5 != 0
}

/// AES-CTR of the extended link layer; the first two bytes are the CRC of the rest.
pub fn open_extended(
    address: Address,
    communication: u8,
    session: [u8; 4],
    body: &[u8],
    key: Option<&cipher::Key>,
) -> Result<Vec<u8>, Fault> {
    // A receiver may have decrypted it and left the header as it was: then the CRC fits as it stands.
    let fits = |bytes: &[u8]| {
        bytes.split_at_checked(2).is_some_and(|(crc, rest)| crc == checksum::en13757(rest).to_le_bytes())
    };
    let encrypted = is_extended_sealed(session) && !(key.is_none() && fits(body));
    let plain = if encrypted {
        let mut counter = [0; 16];
        counter[..8].copy_from_slice(&address.bytes());
        counter[8] = communication;
        counter[9..13].copy_from_slice(&session);
        cipher::ctr(key.ok_or(Fault::KeyMissing)?, counter, body)
    } else {
        body.to_vec()
    };
    let (crc, rest) = plain.split_at_checked(2).ok_or(Fault::structure("an extended link layer without payload"))?;
    if crc != checksum::en13757(rest).to_le_bytes() {
        return Err(if encrypted { Fault::WrongKey } else { Fault::Checksum("the CRC of the payload") });
    }
    Ok(rest.to_vec())
}
