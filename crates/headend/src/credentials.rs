//! The secrets of meters, hashed. A secret is 256 random bits, so one SHA-256 is enough: there is nothing to guess and nothing
//! to stretch (that is for people's passwords).

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{PoisonError, RwLock},
};

use metering::MeterId;
use sha2::{Digest, Sha256};

/// Which meters may connect: meter to SHA-256 of its secret. Shared between the listener and whoever enrols meters.
#[derive(Debug, Default)]
pub struct Credentials {
    hashes: RwLock<HashMap<MeterId, [u8; 32]>>,
}

impl Credentials {
    /// No meter at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// SHA-256 of a secret's 32 bytes: what is stored and compared.
    pub fn hash(secret: &[u8; 32]) -> [u8; 32] {
        Sha256::digest(secret).into()
    }

    /// Permits a meter, or replaces its secret. Open connections stay until they end.
    pub fn insert(&self, meter: MeterId, hash: [u8; 32]) {
        self.write().insert(meter, hash);
    }

    /// Forbids a meter; `false` when it was not known. Open connections stay until they end: see
    /// [`Headend::disconnect`](crate::Headend::disconnect).
    pub fn remove(&self, meter: MeterId) -> bool {
        self.write().remove(&meter).is_some()
    }

    /// Replaces all, for instance with what the store holds at the start.
    pub fn replace_all(&self, all: impl IntoIterator<Item = (MeterId, [u8; 32])>) {
        *self.write() = all.into_iter().collect();
    }

    /// SHA-256 of a meter's secret, from which the key of its texts is made.
    pub(crate) fn hash_of(&self, meter: MeterId) -> Option<[u8; 32]> {
        self.hashes.read().unwrap_or_else(PoisonError::into_inner).get(&meter).copied()
    }

    /// How many meters may connect.
    pub fn len(&self) -> usize {
        self.hashes.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no meter may connect.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks a user name (the meter's identifier) and a password (the secret, 64 hexadecimal digits). The time it takes does not
    /// tell whether the meter is known or how far the secret is right.
    pub fn verify(&self, user: &str, password: &[u8]) -> Option<MeterId> {
        let meter = MeterId::new(user).ok();
        let secret = secret_from_hex(password);
        let offered = Self::hash(&secret.unwrap_or_default());
        let stored = {
            let hashes = self.hashes.read().unwrap_or_else(PoisonError::into_inner);
            meter.and_then(|meter| hashes.get(&meter).copied())
        };
        let same = equal_in_constant_time(&offered, &stored.unwrap_or_default());
        (same && stored.is_some() && secret.is_some()).then_some(meter).flatten()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<MeterId, [u8; 32]>> {
        self.hashes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn equal_in_constant_time(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0u8, |acc, (x, y)| black_box(acc | (x ^ y)));
    black_box(difference) == 0
}

fn secret_from_hex(digits: &[u8]) -> Option<[u8; 32]> {
    if digits.len() != 64 {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|v| u8::try_from(v).ok());
    let mut secret = [0; 32];
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_secret_of_a_known_meter_opens() {
        let credentials = Credentials::new();
        let meter = MeterId::new("M-1").expect("valid");
        let secret = [7; 32];
        credentials.insert(meter, Credentials::hash(&secret));
        let right = "07".repeat(32);
        assert_eq!(credentials.verify("M-1", right.as_bytes()), Some(meter));
        for (user, password) in [
            ("M-1", "08".repeat(32)),
            ("M-1", "07".repeat(31)),
            ("M-1", String::new()),
            ("M-1", "zz".repeat(32)),
            ("M-2", right.clone()),
            ("", right.clone()),
            ("M/1", right.clone()),
        ] {
            assert_eq!(credentials.verify(user, password.as_bytes()), None, "{user} {password}");
        }
        // the hash of the all-zero secret, which stands in for a malformed one, opens nothing by accident
        credentials.insert(meter, Credentials::hash(&[0; 32]));
        assert_eq!(credentials.verify("M-1", b"not hexadecimal"), None);
        assert!(credentials.remove(meter));
        assert_eq!(credentials.verify("M-1", right.as_bytes()), None);
    }
}
