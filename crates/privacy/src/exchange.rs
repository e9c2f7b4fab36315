//! The secret that meter and custodian share: X25519 (RFC 7748).

use curve25519_dalek::montgomery::MontgomeryPoint;
use metering::MeterId;

use crate::{
    hex::Hex,
    mask::{FIRST_EPOCH, MaskKey},
};

/// The public key of 32 secret bytes.
pub fn public_key(secret: &[u8; 32]) -> Hex<32> {
    Hex(MontgomeryPoint::mul_base_clamped(*secret).to_bytes())
}

/// The mask key of an epoch from one's own secret and the other's public key; both sides get the same. `None` when the public key is
/// one of the few that would make every secret the same. Epochs follow from each other by [`MaskKey::next`]; there is none before
/// the first.
pub fn mask_key(secret: &[u8; 32], other: &Hex<32>, meter: MeterId, epoch: u32) -> Option<MaskKey> {
    let shared = MontgomeryPoint(other.0).mul_clamped(*secret).to_bytes();
    let first = (shared != [0; 32]).then(|| MaskKey::derive(&shared, meter, FIRST_EPOCH))?;
    epochs(first).map(|(_, key)| key).nth(epoch.saturating_sub(FIRST_EPOCH) as usize)
}

/// The mask keys from the first epoch on, with their numbers.
pub fn epochs(first: MaskKey) -> impl Iterator<Item = (u32, MaskKey)> {
    (FIRST_EPOCH..).zip(core::iter::successors(Some(first), |key| Some(key.next())))
}
