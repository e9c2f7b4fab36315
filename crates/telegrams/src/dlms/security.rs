//! Protection of APDUs: AES-GCM of security suites 0 and 1 (both AES-128), the challenge answers of HLS mechanism 5.
//!
//! IV = system title ‖ invocation counter, associated data = security control ‖ authentication key (‖ text, when only
//! authenticated), tag of 12 bytes. Source: Green Book 9.2.7.

use alloc::vec::Vec;

use super::axdr::{length, put_length};
use crate::{
    Fault,
    bytes::Cursor,
    cipher::{Keys, TAG, gcm_open, gcm_seal, gcm_stream},
};

/// A system title: three letters of the maker's FLAG id, five bytes of its own.
pub type SystemTitle = [u8; 8];

/// Bit of the security control: a tag is appended.
pub const AUTHENTICATED: u8 = 0x10;
/// Bit of the security control: the text is encrypted.
pub const ENCRYPTED: u8 = 0x20;
const BROADCAST_KEY: u8 = 0x40;
const COMPRESSED: u8 = 0x80;

/// What a protected APDU was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The APDU inside.
    pub plain: Vec<u8>,
    /// Its sender, when the APDU names it.
    pub title: Option<SystemTitle>,
    /// Invocation counter.
    pub counter: u32,
    /// Security control byte.
    pub control: u8,
}

/// Opens `DB 08 title length SC counter …`. Nothing may stand behind it.
pub fn open_general_glo(apdu: &[u8], keys: &Keys) -> Result<Opened, Fault> {
    let bad = || Fault::structure("not general-glo-ciphering");
    let mut cursor = Cursor::new(apdu);
    (matches!(cursor.u8(), Some(0xDB | 0xDC))).then_some(()).ok_or_else(bad)?;
    (cursor.u8() == Some(8)).then_some(()).ok_or_else(bad)?;
    let title: SystemTitle = cursor.array().ok_or_else(bad)?;
    let count = length(&mut cursor).ok_or_else(bad)?;
    let body = cursor.take(count).ok_or_else(bad)?;
    cursor.is_empty().then_some(()).ok_or_else(bad)?;
    let mut opened = open(body, title, keys)?;
    opened.title = Some(title);
    Ok(opened)
}

/// Opens `DB 08 title …` that carries a tag for whose check the authentication key is not known. Nothing proves the key: what is inside
/// must carry a proof of its own.
pub fn open_general_glo_unproved(apdu: &[u8], keys: &Keys) -> Result<Opened, Fault> {
    let bad = || Fault::structure("not general-glo-ciphering");
    let mut cursor = Cursor::new(apdu);
    cursor.take(2).filter(|head| *head == [0xDB, 8]).ok_or_else(bad)?;
    let title: SystemTitle = cursor.array().ok_or_else(bad)?;
    let count = length(&mut cursor).filter(|count| *count == cursor.left()).ok_or_else(bad)?;
    let mut body = Cursor::new(cursor.take(count).ok_or_else(bad)?);
    let (control, counter) = body.u8().zip(body.u32()).ok_or_else(bad)?;
    let text = body.rest().len().checked_sub(TAG).and_then(|end| body.rest().get(..end)).ok_or_else(bad)?;
    if control & !0x01 != AUTHENTICATED | ENCRYPTED {
        return Err(Fault::WrongKey);
    }
    let plain = gcm_stream(&keys.encryption, &nonce(title, counter), text);
    Ok(Opened { plain, title: Some(title), counter, control })
}

/// Opens `SC counter ciphertext tag` of a sender whose title is known. What the sender leaves out of the protection is not his to choose:
/// with an authentication key there must be a tag, without one at least encryption.
pub fn open(body: &[u8], title: SystemTitle, keys: &Keys) -> Result<Opened, Fault> {
    let mut cursor = Cursor::new(body);
    let short = || Fault::structure("a protected APDU that is too short");
    let control = cursor.u8().ok_or_else(short)?;
    let counter = cursor.u32().ok_or_else(short)?;
    if control & COMPRESSED != 0 {
        return Err(Fault::Unsupported("compression of APDUs (V.44)".into()));
    }
    if control & BROADCAST_KEY != 0 {
        return Err(Fault::Unsupported("an APDU under the broadcast key".into()));
    }
    if control & 0x0F > 1 {
        return Err(Fault::Unsupported("security suite 2 (AES-256)".into()));
    }
    if keys.authentication.is_some() && control & AUTHENTICATED == 0 {
        return Err(Fault::Unprotected("an APDU without an authentication tag"));
    }
    if control & (AUTHENTICATED | ENCRYPTED) == 0 {
        return Err(Fault::Unprotected("an APDU that is neither encrypted nor authenticated"));
    }
    let nonce = nonce(title, counter);
    let text = cursor.rest();
    let plain = match control & (AUTHENTICATED | ENCRYPTED) {
        ENCRYPTED => gcm_stream(&keys.encryption, &nonce, text),
        AUTHENTICATED => {
            let split = text.len().checked_sub(TAG).ok_or_else(short)?;
            let (plain, tag) = text.split_at(split);
            let expected = gcm_seal(&keys.encryption, &nonce, &associated(control, keys, plain), &[]);
            if expected != tag {
                return Err(Fault::WrongKey);
            }
            plain.to_vec()
        }
        _ => gcm_open(&keys.encryption, &nonce, &associated(control, keys, &[]), text).ok_or(Fault::WrongKey)?,
    };
    Ok(Opened { plain, title: None, counter, control })
}

/// `SC counter ciphertext tag` of an APDU. `control` holds the bits and the suite.
pub fn seal(control: u8, title: SystemTitle, counter: u32, keys: &Keys, plain: &[u8]) -> Vec<u8> {
    let nonce = nonce(title, counter);
    let mut out = Vec::with_capacity(plain.len() + 5 + TAG);
    out.push(control);
    out.extend_from_slice(&counter.to_be_bytes());
    match control & (AUTHENTICATED | ENCRYPTED) {
        0 => out.extend_from_slice(plain),
        ENCRYPTED => out.extend(gcm_stream(&keys.encryption, &nonce, plain)),
        AUTHENTICATED => {
            out.extend_from_slice(plain);
            out.extend(gcm_seal(&keys.encryption, &nonce, &associated(control, keys, plain), &[]));
        }
        _ => out.extend(gcm_seal(&keys.encryption, &nonce, &associated(control, keys, &[]), plain)),
    }
    out
}

/// `DB 08 title length` before a sealed body.
pub fn general_glo(title: SystemTitle, sealed: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(sealed.len() + 14);
    out.extend_from_slice(&[0xDB, 8]);
    out.extend_from_slice(&title);
    put_length(&mut out, sealed.len());
    out.extend_from_slice(sealed);
    out
}

/// Answer to a challenge by HLS mechanism 5: `SC counter GMAC(SC ‖ AK ‖ challenge)`.
pub fn gmac_answer(suite: u8, title: SystemTitle, counter: u32, keys: &Keys, challenge: &[u8]) -> [u8; 17] {
    let control = AUTHENTICATED | suite;
    let tag = gcm_seal(&keys.encryption, &nonce(title, counter), &associated(control, keys, challenge), &[]);
    let mut out = [0; 17];
    out[0] = control;
    out[1..5].copy_from_slice(&counter.to_be_bytes());
    out[5..].copy_from_slice(&tag[..TAG.min(tag.len())]);
    out
}

/// Whether an answer to our challenge is that of the meter, and the counter that it used.
pub fn check_gmac_answer(answer: &[u8], title: SystemTitle, keys: &Keys, challenge: &[u8]) -> Option<u32> {
    let mut cursor = Cursor::new(answer);
    let control = cursor.u8()?;
    let counter = cursor.u32()?;
    (control & 0xF0 == AUTHENTICATED).then_some(())?;
    let expected = gmac_answer(control & 0x0F, title, counter, keys, challenge);
    (expected == answer).then_some(counter)
}

fn nonce(title: SystemTitle, counter: u32) -> [u8; 12] {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&title);
    out[8..].copy_from_slice(&counter.to_be_bytes());
    out
}

fn associated(control: u8, keys: &Keys, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(17 + text.len());
    out.push(control);
    out.extend_from_slice(&keys.authentication.unwrap_or_default());
    out.extend_from_slice(text);
    out
}

/// What the meter's counter was last: an equal or lower one is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterGuard {
    last: Option<u32>,
}

impl CounterGuard {
    /// After a restart, from what was kept.
    pub fn after(last: Option<u32>) -> Self {
        Self { last }
    }

    /// Accepts a counter that grew, for good.
    pub fn accept(&mut self, counter: u32) -> Result<(), Fault> {
        if self.last.is_some_and(|last| counter <= last) {
            return Err(Fault::Replayed);
        }
        self.last = Some(counter);
        Ok(())
    }

    /// The highest counter accepted, to be kept across restarts.
    pub fn last(&self) -> Option<u32> {
        self.last
    }
}

/// Our own invocation counter: never goes back, never repeats, also across a restart without warning.
///
/// Counters are handed out below a limit that was kept durably before: after a restart counting goes on at that limit, so
/// counters are lost, never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnCounter {
    next: u32,
    reserved: u32,
}

/// How many counters are reserved at a time.
const RESERVE: u32 = 256;

impl OwnCounter {
    /// From the limit that was kept (0 at the very first start). No counter can be had until [`OwnCounter::reserve`].
    pub fn restarted(kept_limit: u32) -> Self {
        Self { next: kept_limit, reserved: kept_limit }
    }

    /// A new limit that must be kept durably before [`OwnCounter::kept`] is told. `None`: all counters are used up, the key must
    /// be changed.
    pub fn reserve(&self) -> Option<u32> {
        (self.next < u32::MAX).then(|| self.next.saturating_add(RESERVE))
    }

    /// The limit has been kept durably.
    pub fn kept(&mut self, limit: u32) {
        self.reserved = self.reserved.max(limit);
    }

    /// Goes at least to `counter`, which the meter says it expects.
    pub fn at_least(&mut self, counter: u32) {
        self.next = self.next.max(counter);
    }

    /// The later of both in each respect.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        Self { next: self.next.max(other.next), reserved: self.reserved.max(other.reserved) }
    }

    /// The next counter; `None` until more are reserved.
    pub fn take(&mut self) -> Option<u32> {
        let counter = self.next;
        (counter < self.reserved).then(|| {
            self.next += 1;
            counter
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::{from_hex, hex};

    fn keys() -> Keys {
        let key = |text| from_hex(text).and_then(|bytes| bytes.try_into().ok()).expect("a key");
        Keys {
            encryption: key("000102030405060708090a0b0c0d0e0f"),
            authentication: Some(key("d0d1d2d3d4d5d6d7d8d9dadbdcdddedf")),
        }
    }

    const METER: SystemTitle = *b"MMM\0\0\xBC\x61\x4E";

    #[test]
    fn the_examples_of_the_green_book() {
        let plain = from_hex("C0010000080000010000FF0200").expect("hex");
        let sealed = seal(0x30, METER, 0x0123_4567, &keys(), &plain);
        assert_eq!(hex(&sealed), "3001234567411312ff935a47566827c467bc7d825c3be4a77c3fcc056b6b");
        assert_eq!(open(&sealed, METER, &keys()).map(|o| o.plain), Ok(plain));
        let answer = gmac_answer(0, *b"MMM\0\0\0\0\x01", 1, &keys(), &from_hex("503677524A323146").expect("hex"));
        assert_eq!(hex(&answer), "10000000011a52fe7dd3e72748973c1e28");
        let challenge = from_hex("4B35366956616759").expect("hex");
        let answer = gmac_answer(0, METER, 0x0123_4567, &keys(), &challenge);
        assert_eq!(hex(&answer[5..]), "fe1466afb3dbcd4f9389e2b7");
        assert_eq!(check_gmac_answer(&answer, METER, &keys(), &challenge), Some(0x0123_4567));
        assert_eq!(check_gmac_answer(&answer, METER, &keys(), b"another"), None);
    }

    #[test]
    fn every_protection_opens_again_and_a_flip_is_seen() {
        for control in [0x10, 0x30, 0x31, 0x11] {
            let mut sealed = seal(control, METER, 9, &keys(), b"text");
            assert_eq!(open(&sealed, METER, &keys()).map(|o| o.plain).as_deref(), Ok(&b"text"[..]));
            *sealed.last_mut().expect("not empty") ^= 1;
            assert_eq!(open(&sealed, METER, &keys()), Err(Fault::WrongKey));
        }
        let alone = Keys { authentication: None, ..keys() };
        let sealed = seal(0x20, METER, 9, &alone, b"text");
        assert_eq!(open(&sealed, METER, &alone).map(|o| o.plain).as_deref(), Ok(&b"text"[..]));
    }

    /// Who has no key chooses the weakest protection: it must not be taken.
    #[test]
    fn less_protection_than_the_keys_ask_for_is_refused() {
        let alone = Keys { authentication: None, ..keys() };
        for (control, keys) in [(0x00, keys()), (0x20, keys()), (0x21, keys()), (0x00, alone), (0x01, alone)] {
            let sealed = seal(control, METER, 9, &keys, b"text");
            assert!(matches!(open(&sealed, METER, &keys), Err(Fault::Unprotected(_))), "{control:02x}");
        }
    }

    #[test]
    fn counters_never_repeat_across_a_restart() {
        let mut used = alloc::collections::BTreeSet::new();
        let mut kept = 0;
        for life in 0..20_u32 {
            let mut counter = OwnCounter::restarted(kept);
            assert_eq!(counter.take(), None, "nothing before the limit is kept");
            for _ in 0..life * 40 {
                let value = counter.take().or_else(|| {
                    kept = counter.reserve()?;
                    counter.kept(kept);
                    counter.take()
                });
                assert!(used.insert(value.expect("far from the end")));
            }
        }
        let mut guard = CounterGuard::after(Some(5));
        assert_eq!(
            (guard.accept(5), guard.accept(6), guard.accept(6)),
            (Err(Fault::Replayed), Ok(()), Err(Fault::Replayed))
        );
    }
}
