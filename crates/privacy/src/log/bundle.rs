//! An evidence bundle: one entry of the log with everything someone needs to check it without us and without a network.

use serde::{Deserialize, Serialize};

use crate::{
    hex::Hex,
    log::note::Signed,
    merkle::{self, Hash},
};

/// The file. `docs/privacy/check_evidence.py` checks one with nothing of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// 1.
    pub version: u32,
    /// The entry, as text.
    pub entry: String,
    /// Its place.
    pub index: u64,
    /// From the leaf to the root, lowest first.
    pub path: Vec<Hex<32>>,
    /// The signed head.
    pub checkpoint: String,
    /// The log's public key.
    pub key: Hex<32>,
    /// The witness's public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<Hex<32>>,
}

impl Bundle {
    /// The bundle of one entry; `None` when there is no such entry or it is not text.
    pub fn new(
        entries: &[Vec<u8>],
        index: usize,
        head: &Signed,
        key: Hex<32>,
        witness: Option<Hex<32>>,
    ) -> Option<Self> {
        let hashes: Vec<Hash> = entries.iter().map(|entry| merkle::leaf(entry)).collect();
        Some(Self {
            version: 1,
            entry: String::from_utf8(entries.get(index)?.clone()).ok()?,
            index: index as u64,
            path: merkle::inclusion(&hashes, index).into_iter().map(Hex).collect(),
            checkpoint: head.to_text(),
            key,
            witness,
        })
    }

    /// What is wrong with it, if anything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        let head = Signed::parse(&self.checkpoint).map_err(|_| "the head is no signed note")?;
        if !head.is_signed_by(&self.key) {
            return Err("the head is not signed by the log's key");
        }
        if self.witness.is_some_and(|witness| head.is_witnessed_by(&witness).is_none()) {
            return Err("the head is not cosigned by the witness");
        }
        let path: Vec<Hash> = self.path.iter().map(|hash| hash.0).collect();
        let leaf = merkle::leaf(self.entry.as_bytes());
        let is_in = merkle::check_inclusion(&leaf, self.index, head.checkpoint.size, &path, &head.checkpoint.root);
        is_in.then_some(()).ok_or("the entry is not in the tree of the head")
    }
}
