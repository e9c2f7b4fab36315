//! Escrow of a custodian's secrets: any two of three holders give them back, one alone knows nothing of them.
//!
//! What is shared is a text of secrets ([`Secrets`]) with its SHA-256 before it, cut into parts of seven bytes, each part by a sharing of
//! its own (`ramp`, ℓ = 1, t = 1, n = 3). One altered share among three is found and mended only when two others agree; with two
//! shares the SHA-256 says whether what came out is what went in. Shares say which sharing they are of, so those of different days
//! are not mixed. It is not: the journal, which is no secret, and which must come back from its own backup.

use std::collections::BTreeMap;

use metering::MeterId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    draws::Draws,
    hex::Hex,
    json::json,
    ramp::{Ramp, Share, ShareError},
};

/// Holders, and how many of them give the secrets back.
pub const HOLDERS: usize = 3;
/// See [`HOLDERS`].
pub const NEEDED: usize = 2;
/// Bytes of one part: less than the field's 61 bits.
const PART: usize = 7;
/// Longest text of secrets: a million meters.
const BYTES_MAX: usize = 256 << 20;

/// Everything secret of a custodian, and how far its log had come.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// What its noise is drawn from.
    pub noise_key: Hex<32>,
    /// Signs its log.
    pub log_key: Hex<32>,
    /// Its half of each meter's key.
    pub meters: BTreeMap<MeterId, Hex<32>>,
    /// The signed head of its log: the journal that is restored must reach at least as far.
    pub head: Option<String>,
}

impl core::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Secrets({} meters)", self.meters.len())
    }
}

/// What one holder keeps.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Names the sharing; the same for all holders of it.
    pub sharing: Hex<16>,
    /// The holder, 1 to 3.
    pub holder: u8,
    /// Length of the shared bytes.
    pub length: usize,
    /// Shares of its parts, in order.
    pub shares: Vec<u64>,
}

impl core::fmt::Debug for Part {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Part({} of sharing {})", self.holder, self.sharing)
    }
}

/// Why parts do not give the secrets back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EscrowError {
    /// More than can be shared at once.
    #[error("the secrets are longer than can be shared at once")]
    TooLong,
    /// Of different days, or of another length.
    #[error("the parts are of different sharings: bring those that were made together")]
    Mixed,
    /// See [`ShareError`].
    #[error(transparent)]
    Share(#[from] ShareError),
    /// A part was altered, and two do not tell which.
    #[error("what comes out is not what was shared: one of the parts was altered; bring the third")]
    Altered,
}

fn ramp() -> Result<Ramp, ShareError> {
    Ramp::new(1, NEEDED - 1, HOLDERS)
}

/// Shares secrets among three holders. `draws` must be fresh randomness.
///
/// # Errors
/// [`EscrowError::TooLong`].
pub fn split(secrets: &Secrets, draws: &mut Draws) -> Result<[Part; HOLDERS], EscrowError> {
    let text = json(secrets);
    let bytes = [Sha256::digest(&text).as_slice(), &text].concat();
    if bytes.len() > BYTES_MAX {
        return Err(EscrowError::TooLong);
    }
    let mut name = [0; 16];
    name.copy_from_slice(&draws.bytes()[..16]);
    let holders = [1, 2, 3];
    let mut parts = holders.map(|holder| Part { sharing: Hex(name), holder, length: bytes.len(), shares: Vec::new() });
    for part in bytes.chunks(PART) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        for share in ramp()?.share(&[u64::from_le_bytes(word)], draws)? {
            parts[usize::from(share.party) - 1].shares.push(share.value);
        }
    }
    Ok(parts)
}

/// Gives the secrets back from two or three parts, and the holders whose part was altered.
///
/// # Errors
/// See [`EscrowError`].
pub fn join(parts: &[Part]) -> Result<(Secrets, Vec<u8>), EscrowError> {
    let first = parts.first().ok_or(ShareError::TooFew { given: 0, needed: NEEDED })?;
    let words = first.length.div_ceil(PART);
    let fits = |p: &Part| p.sharing == first.sharing && p.length == first.length && p.shares.len() == words;
    if first.length > BYTES_MAX || !parts.iter().all(fits) {
        return Err(EscrowError::Mixed);
    }
    if let Ok(secrets) = joined(parts) {
        return Ok((secrets, Vec::new()));
    }
    // one of three was altered: the pair without it agrees with the SHA-256
    for left_out in parts.iter().filter(|_| parts.len() > NEEDED) {
        let others: Vec<Part> = parts.iter().filter(|p| p.holder != left_out.holder).cloned().collect();
        if let Ok(secrets) = joined(&others) {
            return Ok((secrets, vec![left_out.holder]));
        }
    }
    joined(parts).map(|secrets| (secrets, Vec::new()))
}

fn joined(parts: &[Part]) -> Result<Secrets, EscrowError> {
    let (ramp, length) = (ramp()?, parts.first().map_or(0, |part| part.length));
    let mut bytes = Vec::with_capacity(length);
    for at in 0..length.div_ceil(PART) {
        let shares: Vec<Share> =
            parts.iter().map(|part| Share { party: part.holder, value: part.shares[at] }).collect();
        let joined = ramp.join(&shares)?;
        bytes.extend_from_slice(&joined.secrets[0].to_le_bytes()[..PART.min(length - at * PART)]);
    }
    let (sum, text) = bytes.split_at_checked(32).ok_or(EscrowError::Altered)?;
    if Sha256::digest(text).as_slice() != sum {
        return Err(EscrowError::Altered);
    }
    serde_json::from_slice(text).map_err(|_| EscrowError::Altered)
}
