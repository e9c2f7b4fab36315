//! The keys of meters' texts (SMS). A code is checked with the key itself, so a hash does not do; the database holds the keys only
//! sealed, under a key that lies elsewhere: who reads the database, or a backup of it, cannot write texts in a meter's name.
//!
//! Sealed: 16 random bytes, the key under HMAC-SHA-256 of those bytes and the meter, and 16 bytes of HMAC-SHA-256 over both.

use std::sync::PoisonError;

use hmac::{Hmac, KeyInit, Mac};
use metering::{MeterId, sms::TextKey};
use sha2::Sha256;
use sqlx::Row;

use crate::{directory::Store, error::StoreError, master::meter_id, sessions::random_bytes};

const NONCE_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// What the keys of texts are sealed with.
#[derive(Clone)]
pub(crate) struct Seal([u8; 32]);

impl Seal {
    fn code(&self, purpose: &str, meter: MeterId, bytes: &[u8]) -> [u8; 32] {
        // A key shorter than the block is padded with zeros (RFC 2104).
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        for part in [purpose.as_bytes(), &[0], meter.as_str().as_bytes(), &[0], bytes] {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn close(&self, meter: MeterId, key: &TextKey) -> Result<Vec<u8>, StoreError> {
        let mut sealed = random_bytes()?[..NONCE_BYTES].to_vec();
        let stream = self.code("key", meter, &sealed);
        sealed.extend(key.to_bytes().iter().zip(stream).map(|(byte, mask)| byte ^ mask));
        let tag = self.code("tag", meter, &sealed);
        sealed.extend(&tag[..TAG_BYTES]);
        Ok(sealed)
    }

    fn open(&self, meter: MeterId, sealed: &[u8]) -> Option<TextKey> {
        let (body, tag) = sealed.split_at_checked(NONCE_BYTES + KEY_BYTES)?;
        if self.code("tag", meter, body)[..TAG_BYTES] != *tag {
            return None;
        }
        let (nonce, hidden) = body.split_at(NONCE_BYTES);
        let mut key = self.code("key", meter, nonce);
        key.iter_mut().zip(hidden).for_each(|(mask, byte)| *mask ^= byte);
        Some(TextKey::from_bytes(key))
    }
}

impl Store {
    /// Sets what the keys of texts are sealed with; until then meters are enrolled without one, and their texts are refused.
    pub fn set_text_seal(&self, key: [u8; 32]) {
        *self.inner.text_seal.write().unwrap_or_else(PoisonError::into_inner) = Some(Seal(key));
    }

    fn text_seal(&self) -> Option<Seal> {
        self.inner.text_seal.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sealed key of the texts of a meter with this secret, as it is kept.
    pub(crate) fn sealed_text_key(&self, meter: MeterId, secret: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        self.text_seal().map(|seal| seal.close(meter, &TextKey::from_secret(secret))).transpose()
    }

    /// The keys of the texts of all enrolled meters. A meter that was enrolled when keys were made from the hash of its secret has
    /// none: it must be enrolled again before its texts are taken.
    ///
    /// # Errors
    /// When the database fails, or a key was sealed by another server's key.
    pub async fn text_keys(&self) -> Result<Vec<(MeterId, TextKey)>, StoreError> {
        let Some(seal) = self.text_seal() else { return Ok(Vec::new()) };
        let rows =
            sqlx::query("SELECT id, text_key FROM meter WHERE text_key IS NOT NULL AND secret_sha256 IS NOT NULL")
                .fetch_all(&self.inner.main_read)
                .await?;
        rows.iter()
            .map(|row| {
                let meter = meter_id(row.get(0))?;
                let key = seal.open(meter, row.get(1));
                Ok((meter, key.ok_or_else(|| StoreError::damaged(format!("the sealed key of the texts of {meter}")))?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_seal_opens_and_only_for_the_same_meter() {
        let (meter, other) = (MeterId::new("M-1").expect("id"), MeterId::new("M-2").expect("id"));
        let (seal, key) = (Seal([3; 32]), TextKey::from_secret(&[7; 32]));
        let sealed = seal.close(meter, &key).expect("sealed");
        assert!(seal.open(meter, &sealed).is_some_and(|opened| opened == key));
        assert!(seal.open(other, &sealed).is_none());
        assert!(Seal([4; 32]).open(meter, &sealed).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(seal.open(meter, &changed).is_none(), "byte {at}");
        }
        assert!(seal.open(meter, &sealed[..20]).is_none());
        assert_ne!(sealed, seal.close(meter, &key).expect("sealed"), "another nonce each time");
    }
}
