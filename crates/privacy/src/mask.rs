//! Masks: what a meter adds to a reading so that only a sum over many readings can be read.
//!
//! A meter sends `c = x + F(k, field, rev, counter) mod 2^64`. `F` is the ChaCha20 keystream under the meter's key of the epoch,
//! nonce `field ‖ rev`, eight masks a block: block `counter / 8`, word `counter mod 8`, little endian. A custodian who holds `k`
//! and never sees `c` gives `Σ w·F`; the operator, who holds `c` and never `k`, learns `Σ w·x` and nothing else.
//!
//! A mask used twice would give `x − x'` away. Therefore the counter never goes back ([`MaskCounter`]), whatever the clock does,
//! and a corrected reading is sent under the next revision. It is not: the transport, or the policy of what may be released.

use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher, StreamCipherSeek},
};
use hmac::{Hmac, KeyInit, Mac};
use metering::MeterId;
use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

/// Masks in one ChaCha20 block.
const PER_BLOCK: u64 = 8;
/// Counters end here: the block number has 32 bits. Quarter-hours reach it after 979,000 years.
pub const COUNTER_END: u64 = PER_BLOCK << 32;
/// The epoch of a meter's first key.
pub const FIRST_EPOCH: u32 = 1;
/// A clock may carry the counter forward by this many intervals at once (ten years of quarter-hours); a longer step is a fault of
/// the clock, and the counter goes on by one.
const FORWARD_MAX: u64 = 350_640;

/// What is masked; each field has masks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Field {
    /// Imported energy of the interval, Wh.
    Import,
    /// Exported energy of the interval, Wh.
    Export,
    /// Voltage of the interval, mV.
    Voltage,
    /// Imported energy, cut off once a day's allowance is used up, Wh; the sensitivity of private releases rests on it.
    Clipped,
}

impl Field {
    /// Its number: the first byte of the nonce.
    pub const fn code(self) -> u8 {
        match self {
            Self::Import => 1,
            Self::Export => 2,
            Self::Voltage => 3,
            Self::Clipped => 4,
        }
    }

    /// The field with this number.
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Import),
            2 => Some(Self::Export),
            3 => Some(Self::Voltage),
            4 => Some(Self::Clipped),
            _ => None,
        }
    }

    /// Fields whose readings are nearly the same numbers: what is released of one counts for the other.
    #[must_use]
    pub const fn audited_as(self) -> Self {
        match self {
            Self::Clipped => Self::Import,
            other => other,
        }
    }
}

/// A meter's key of one epoch. Printed as dots only.
#[derive(Clone, PartialEq, Eq)]
pub struct MaskKey([u8; 32]);

impl core::fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MaskKey(…)")
    }
}

impl<C> Encode<C> for MaskKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for MaskKey {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message("a mask key has 32 bytes"))?;
        Ok(Self(bytes))
    }
}

impl MaskKey {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be kept under lock.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// HKDF-SHA-256 (RFC 5869) of a secret that meter and custodian share: salt `gridtally mask 1`, info `meter ‖ 0 ‖ epoch`.
    pub fn derive(shared: &[u8; 32], meter: MeterId, epoch: u32) -> Self {
        let extracted = authenticate(b"gridtally mask 1", &[shared]);
        Self(authenticate(&extracted, &[meter.as_str().as_bytes(), &[0], &epoch.to_be_bytes(), &[1]]))
    }

    /// The key of the next epoch. The meter deletes this one afterwards: it cannot be computed back.
    #[must_use]
    pub fn next(&self) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"gridtally mask ratchet 1");
        hash.update(self.0);
        Self(hash.finalize().into())
    }

    /// The mask of one reading; `None` past [`COUNTER_END`].
    pub fn mask(&self, field: Field, rev: u16, counter: u64) -> Option<u64> {
        let mut one = [0];
        self.fill(field, rev, counter, &mut one).map(|()| one[0])
    }

    /// The masks of consecutive readings from `first` on; `None` when they pass [`COUNTER_END`].
    pub fn fill(&self, field: Field, rev: u16, first: u64, masks: &mut [u64]) -> Option<()> {
        let mut bytes = [0_u8; 1024];
        let mut at = first;
        for part in masks.chunks_mut(bytes.len() / 8) {
            let words = self.fill_bytes(field, rev, at, &mut bytes[..part.len() * 8])?;
            for (mask, word) in part.iter_mut().zip(words) {
                *mask = u64::from_le_bytes(*word);
            }
            at += part.len() as u64;
        }
        Some(())
    }

    /// The same as bytes, little endian, eight of `bytes` a mask.
    pub(crate) fn fill_bytes<'b>(
        &self,
        field: Field,
        rev: u16,
        first: u64,
        bytes: &'b mut [u8],
    ) -> Option<&'b mut [[u8; 8]]> {
        self.stream(0, field, rev, first.checked_mul(8)?, bytes)?;
        Some(bytes.as_chunks_mut::<8>().0)
    }

    /// 64 bytes that blind the commitment to one reading: a stream of their own, apart from every mask.
    pub fn blinding(&self, field: Field, rev: u16, counter: u64) -> Option<[u8; 64]> {
        let mut bytes = [0; 64];
        self.stream(0x80, field, rev, counter.checked_mul(64)?, &mut bytes)?;
        Some(bytes)
    }

    fn stream(&self, domain: u8, field: Field, rev: u16, from: u64, bytes: &mut [u8]) -> Option<()> {
        let mut nonce = [0; 12];
        nonce[0] = domain | field.code();
        nonce[1..3].copy_from_slice(&rev.to_be_bytes());
        let mut cipher = ChaCha20::new(&self.0.into(), &nonce.into());
        cipher.try_seek(from).ok()?;
        cipher.try_write_keystream(bytes).ok()
    }
}

/// The number of the next mask. It lies in the meter's non-volatile memory and is saved before a masked reading may be sent, so a
/// power failure loses the number only together with the reading that would have used it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MaskCounter {
    #[n(0)]
    next: u64,
}

impl MaskCounter {
    /// The counter for the interval with this number (end of the interval divided by its length); never one given before. A clock
    /// that was set back does not take it back; one that runs far ahead does not use it up.
    pub fn take(&mut self, interval: u64) -> u64 {
        let is_start = self.next == 0;
        let follows = interval >= self.next && (is_start || interval - self.next <= FORWARD_MAX);
        let counter = if follows { interval } else { self.next };
        self.next = counter.saturating_add(1);
        counter
    }

    /// The next number that may be given.
    pub const fn next(&self) -> u64 {
        self.next
    }
}

/// HMAC-SHA-256 over the parts, one after the other.
pub(crate) fn authenticate(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // a key of any length is taken
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_one_call_and_of_many_are_the_same() {
        let key = MaskKey::from_bytes([9; 32]);
        let mut together = [0; 300];
        key.fill(Field::Import, 0, 13, &mut together).expect("in range");
        for (k, mask) in together.iter().enumerate() {
            assert_eq!(key.mask(Field::Import, 0, 13 + k as u64), Some(*mask), "{k}");
        }
        assert_ne!(key.mask(Field::Import, 1, 13), Some(together[0]), "a revision has masks of its own");
        assert_ne!(key.mask(Field::Export, 0, 13), Some(together[0]), "a field has masks of its own");
        assert_eq!(key.mask(Field::Import, 0, COUNTER_END), None);
    }

    /// Abuse case 8: the clock is set back by a day.
    #[test]
    fn case_08_a_clock_set_back_reuses_no_mask() {
        let mut counter = MaskCounter::default();
        let mut given = std::collections::BTreeSet::new();
        let day = 2_000_000..2_000_096_u64;
        let twice = day.clone().chain(day.clone()).chain(1_990_000..1_990_010).chain([u64::MAX, 3]).chain(day);
        for interval in twice {
            assert!(given.insert(counter.take(interval)), "interval {interval} used a mask again");
        }
        assert!(counter.next() < 2_001_000, "a clock at the end of time used the counter up: {}", counter.next());
    }
}
