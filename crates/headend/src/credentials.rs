//! The secrets of meters, hashed. A secret is 256 random bits, so one SHA-256 is enough: there is nothing to guess and nothing
//! to stretch (that is for people's passwords).

use std::{
    collections::{HashMap, HashSet},
    hint::black_box,
    sync::{Arc, PoisonError, RwLock},
};

use metering::{MeterId, sms::TextKey};
use sha2::{Digest, Sha256};

/// Which meters may connect: meter to SHA-256 of its secret, and to the key of its texts. Shared between the listener and whoever enrols meters.
#[derive(Debug, Default)]
pub struct Credentials {
    hashes: RwLock<HashMap<MeterId, [u8; 32]>>,
    text_keys: RwLock<HashMap<MeterId, TextKey>>,
    gateways: RwLock<HashMap<MeterId, Gateway>>,
}

/// A device that hands on what many meters send, with a secret of its own. It speaks for these meters and no others, and hears nothing
/// for them: a control goes to a meter's own connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// The meters that it speaks for.
    pub meters: Arc<HashSet<MeterId>>,
}

/// Who has logged on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The meter, or the gateway's own name.
    pub(crate) name: MeterId,
    /// A gateway's meters.
    pub(crate) meters: Option<Arc<HashSet<MeterId>>>,
}

impl Peer {
    /// Whether it may publish what a meter sends.
    pub(crate) fn speaks_for(&self, meter: MeterId) -> bool {
        self.meters.as_ref().map_or(self.name == meter, |meters| meters.contains(&meter))
    }
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

    /// Permits a meter, or replaces its secret. `true` when it had another one: then whoever logged on with that must be
    /// disconnected ([`Headend::disconnect`](crate::Headend::disconnect)).
    #[must_use = "connections made with the former secret must be ended"]
    pub fn insert(&self, meter: MeterId, hash: [u8; 32]) -> bool {
        self.write().insert(meter, hash).is_some_and(|former| former != hash)
    }

    /// Replaces all, for instance with what the store holds; names the meters that lost a secret or got another one, whose
    /// connections must be ended.
    #[must_use = "connections made with former secrets must be ended"]
    pub fn replace_all(&self, all: impl IntoIterator<Item = (MeterId, [u8; 32])>) -> Vec<MeterId> {
        let all: HashMap<MeterId, [u8; 32]> = all.into_iter().collect();
        let mut hashes = self.write();
        let lost =
            hashes.iter().filter(|(meter, hash)| all.get(*meter) != Some(*hash)).map(|(meter, _)| *meter).collect();
        *hashes = all;
        lost
    }

    /// Replaces all gateways. One that has the name of a meter is never reached: the meter comes first.
    pub fn replace_gateways(&self, all: impl IntoIterator<Item = (MeterId, Gateway)>) {
        *self.gateways.write().unwrap_or_else(PoisonError::into_inner) = all.into_iter().collect();
    }

    /// Checks the credentials of a meter or of a gateway, in the same time whoever it is.
    pub(crate) fn verify_peer(&self, user: &str, password: &[u8]) -> Option<Peer> {
        let meter = self.verify(user, password).map(|name| Peer { name, meters: None });
        let name = MeterId::new(user).ok();
        let secret = secret_from_hex(password);
        let offered = Self::hash(&secret.unwrap_or_default());
        let known = {
            let gateways = self.gateways.read().unwrap_or_else(PoisonError::into_inner);
            name.and_then(|name| gateways.get(&name).cloned())
        };
        let same = equal_in_constant_time(&offered, &known.as_ref().map_or([0; 32], |gateway| gateway.hash));
        let gateway = (same && secret.is_some()).then_some(known).flatten();
        meter.or_else(|| Some(Peer { name: name?, meters: Some(gateway?.meters) }))
    }

    /// Replaces the keys of all meters' texts.
    pub fn replace_text_keys(&self, all: impl IntoIterator<Item = (MeterId, TextKey)>) {
        *self.text_keys.write().unwrap_or_else(PoisonError::into_inner) = all.into_iter().collect();
    }

    /// Permits a meter with a new secret, and the texts that it signs with a key made from it. `true` when it had another secret:
    /// see [`Credentials::insert`].
    #[must_use = "connections made with the former secret must be ended"]
    pub fn let_in(&self, meter: MeterId, secret: &[u8; 32]) -> bool {
        let key = TextKey::from_secret(secret);
        self.text_keys.write().unwrap_or_else(PoisonError::into_inner).insert(meter, key);
        self.insert(meter, Self::hash(secret))
    }

    /// The key of a meter's texts.
    pub(crate) fn text_key_of(&self, meter: MeterId) -> Option<TextKey> {
        self.text_keys.read().unwrap_or_else(PoisonError::into_inner).get(&meter).cloned()
    }

    /// Whether a meter may connect.
    pub(crate) fn knows(&self, meter: MeterId) -> bool {
        self.hashes.read().unwrap_or_else(PoisonError::into_inner).contains_key(&meter)
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
        assert!(!credentials.insert(meter, Credentials::hash(&secret)), "it had none before");
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
        assert!(credentials.insert(meter, Credentials::hash(&[0; 32])), "another one is replaced");
        assert_eq!(credentials.verify("M-1", b"not hexadecimal"), None);
        assert_eq!(credentials.replace_all([]), [meter], "it lost its secret");
        assert_eq!(credentials.verify("M-1", right.as_bytes()), None);
    }
}
