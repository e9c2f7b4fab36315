//! The one-minute sum that meters of a neighbourhood broadcast to each other (UDP, or a serial line), so that a theft shows while
//! no server is to be reached.
//!
//! The observer tells what flowed into the neighbourhood. Every home tells its own energy, hidden by masks that cancel out in the
//! sum of all: a neighbour who adds everything up learns the total and nothing about a single home. Each datagram is signed.

use alloc::vec::Vec;

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use minicbor::{Decode, Encode};

use crate::{id::MeterId, sms::authenticate, time::Timestamp};

/// Largest datagram, bytes.
pub const DATAGRAM_MAX: usize = 160;
/// The version this crate speaks.
pub const VERSION: u8 = 1;

/// What one meter says about one minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinuteSum {
    /// Who.
    pub from: MeterId,
    /// End of the minute; a multiple of 60 s.
    pub minute: Timestamp,
    /// Net energy of the minute, mWh, import less export: the observer's as it is, a home's plus its masks; modulo 2^64.
    pub value: u64,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Datagram {
    #[n(0)]
    v: u8,
    #[n(1)]
    from: MeterId,
    #[n(2)]
    minute: Timestamp,
    #[n(3)]
    value: u64,
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    signature: [u8; 64],
}

impl MinuteSum {
    /// What is signed: the CBOR of `["gridtally minute 1", from, minute, value]`.
    fn signed_bytes(&self) -> Vec<u8> {
        crate::cbor(("gridtally minute 1", self.from, self.minute, self.value))
    }

    /// The signed datagram.
    pub fn write(&self, key: &SigningKey) -> Vec<u8> {
        let signature = key.sign(&self.signed_bytes()).to_bytes();
        let Self { from, minute, value } = *self;
        crate::cbor(Datagram { v: VERSION, from, minute, value, signature })
    }

    /// Reads a datagram of someone whose key `key_of` knows; `None` for everything else.
    pub fn read<'k>(bytes: &[u8], key_of: impl FnOnce(MeterId) -> Option<&'k VerifyingKey>) -> Option<Self> {
        if bytes.len() > DATAGRAM_MAX {
            return None;
        }
        let Datagram { v, from, minute, value, signature } = minicbor::decode(bytes).ok()?;
        let sum = Self { from, minute, value };
        let is_right = v == VERSION && minute.0.rem_euclid(60) == 0;
        let key = key_of(from).filter(|_| is_right)?;
        key.verify(&sum.signed_bytes(), &Signature::from_bytes(&signature)).ok()?;
        Some(sum)
    }
}

/// The mask of a pair of homes for a minute: the one with the smaller name adds it, the other subtracts it.
pub fn pair_mask(pair_key: &[u8; 32], minute: Timestamp) -> u64 {
    let whole = authenticate(pair_key, &[b"gridtally minute mask 1", &minute.0.to_be_bytes()]);
    let mut first = [0; 8];
    first.copy_from_slice(&whole[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_returns_and_a_changed_one_does_not() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let public = key.verifying_key();
        let from = MeterId::new(&"M".repeat(32)).expect("valid");
        let sum = MinuteSum { from, minute: Timestamp(1_772_496_060), value: u64::MAX };
        let bytes = sum.write(&key);
        assert!(bytes.len() <= DATAGRAM_MAX, "{}", bytes.len());
        assert_eq!(MinuteSum::read(&bytes, |_| Some(&public)), Some(sum));
        assert_eq!(MinuteSum::read(&bytes, |_| None), None);
        let other = SigningKey::from_bytes(&[4; 32]).verifying_key();
        assert_eq!(MinuteSum::read(&bytes, |_| Some(&other)), None);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(MinuteSum::read(&changed, |_| Some(&public)), Some(sum), "byte {at}");
        }
    }
}
