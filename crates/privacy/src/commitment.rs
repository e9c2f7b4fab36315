//! Lazy commitments: a meter's day is one 32-byte root, opened only where someone looks.
//!
//! Pedersen in the Ristretto group: `C = x·G + r·H`, `r` from the meter's key (it can be derived again, nothing is stored).
//! The leaves of a day are a Merkle tree (RFC 6962 hashing). A check of one slot: the operator draws it after the root is in, the
//! present meters open `C_i` with its path, the custodian gives `R = Σ r_i`, and `Σ C_i = X·G + R·H` must hold for the sum `X` that
//! the operator had decoded. A custodian that gave a wrong sum is caught in that slot, whoever was missing. `R` is never given
//! for an answer with noise: it would let guesses of the exact sum be tested.

use curve25519_dalek::{
    RistrettoPoint, Scalar, constants::RISTRETTO_BASEPOINT_POINT, ristretto::CompressedRistretto, traits::Identity,
};
use sha2::{Digest, Sha512};

use crate::{
    hex::Hex,
    mask::{Field, MaskKey},
    merkle::{self, Hash},
};

/// Generators of the commitments.
#[derive(Clone, Debug)]
pub struct Generators {
    h: RistrettoPoint,
}

impl Default for Generators {
    /// `G` is the group's base point, `H` the hash of a text to the group: nobody knows its logarithm.
    fn default() -> Self {
        let hash = Sha512::digest(b"gridtally commitment generator H 1");
        Self { h: RistrettoPoint::from_uniform_bytes(&hash.into()) }
    }
}

/// A commitment as it is sent.
pub type Commitment = [u8; 32];

/// The blinding scalar of one reading; `None` past the end of the counter.
pub fn blinding(key: &MaskKey, field: Field, rev: u16, counter: u64) -> Option<Scalar> {
    key.blinding(field, rev, counter).map(|bytes| Scalar::from_bytes_mod_order_wide(&bytes))
}

/// A signed number in the scalar field.
fn scalar(x: i64) -> Scalar {
    let magnitude = Scalar::from(x.unsigned_abs());
    if x < 0 { -magnitude } else { magnitude }
}

impl Generators {
    /// Commits to a reading.
    pub fn commit(&self, x: i64, blinding: &Scalar) -> Commitment {
        (scalar(x) * RISTRETTO_BASEPOINT_POINT + blinding * self.h).compress().to_bytes()
    }

    /// Whether the commitments together are one to `sum` under the sum of their blindings; false when one is no group element.
    pub fn check_sum(&self, commitments: &[Commitment], sum: i64, blindings: &Scalar) -> bool {
        let mut total = RistrettoPoint::identity();
        for c in commitments {
            let Some(point) = CompressedRistretto(*c).decompress() else { return false };
            total += point;
        }
        total == scalar(sum) * RISTRETTO_BASEPOINT_POINT + blindings * self.h
    }

    /// The same with the sum of blindings as a custodian gives it; false when that is no scalar.
    pub fn check_given(&self, commitments: &[Commitment], sum: i64, blindings: &Hex<32>) -> bool {
        let blindings: Option<Scalar> = Scalar::from_canonical_bytes(blindings.0).into();
        blindings.is_some_and(|blindings| self.check_sum(commitments, sum, &blindings))
    }
}

/// The commitments of consecutive readings, and their root.
#[derive(Clone, Debug)]
pub struct CommittedDay {
    /// One per reading.
    pub leaves: Vec<Commitment>,
    /// Root of the tree over them.
    pub root: Hash,
}

impl CommittedDay {
    /// Commits to consecutive readings from `first` on; `None` past the end of the counter.
    pub fn new(generators: &Generators, key: &MaskKey, field: Field, first: u64, readings: &[i64]) -> Option<Self> {
        let leaves: Option<Vec<Commitment>> = readings
            .iter()
            .zip(first..)
            .map(|(x, counter)| Some(generators.commit(*x, &blinding(key, field, 0, counter)?)))
            .collect();
        let leaves = leaves?;
        let root = merkle::root(&hashes(&leaves));
        Some(Self { leaves, root })
    }

    /// The commitment to the sum of the readings: the commitments added up. `None` when there is none.
    pub fn total(&self) -> Option<Commitment> {
        let points: Option<Vec<RistrettoPoint>> =
            self.leaves.iter().map(|leaf| CompressedRistretto(*leaf).decompress()).collect();
        Some(points?.iter().sum::<RistrettoPoint>().compress().to_bytes())
    }

    /// Opens one: the commitment and its path to the root.
    pub fn open(&self, index: usize) -> Option<(Commitment, Vec<Hash>)> {
        let leaf = *self.leaves.get(index)?;
        Some((leaf, merkle::inclusion(&hashes(&self.leaves), index)))
    }
}

fn hashes(leaves: &[Commitment]) -> Vec<Hash> {
    leaves.iter().map(|leaf| merkle::leaf(leaf)).collect()
}
