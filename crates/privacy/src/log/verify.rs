//! Checks a log's files against its signed head, the heads before it, and a witness.

use serde::Serialize;

use crate::{
    hex::Hex,
    log::{
        note::Signed,
        tiles::{entries, leaves},
    },
    merkle,
};

/// Most entries of a log that is checked at once.
pub const ENTRIES_MAX: u64 = 10_000_000;

/// What the check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Entries of the signed head.
    pub size: u64,
    /// Its root, hexadecimal.
    pub root: Hex<32>,
    /// Every head that was ever signed is signed by the key and a beginning of this tree.
    pub consistent: bool,
    /// Every entry is in the tree of the signed head.
    pub included: bool,
    /// The witness cosigned this head; absent when none was asked for.
    pub witnessed: Option<bool>,
    /// The first entry that is wrong, missing, or after the last good head.
    pub first_bad: Option<u64>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.consistent && self.included && self.witnessed != Some(false)
    }
}

/// Checks a log. `read` gives a file by its path; `heads` are the contents of `heads/*`.
///
/// # Errors
/// What is missing, so that nothing can be said.
pub fn verify(
    read: &dyn Fn(&str) -> Option<Vec<u8>>,
    heads: &[String],
    key: &Hex<32>,
    witness: Option<&Hex<32>>,
) -> Result<Report, String> {
    let text = read("checkpoint").ok_or("there is no file `checkpoint`: this is not the folder of a log")?;
    let text = String::from_utf8(text).map_err(|_| "the file `checkpoint` is not text")?;
    let head = Signed::parse(&text).map_err(|e| format!("checkpoint: {e}"))?;
    if !head.is_signed_by(key) {
        return Err(
            "the checkpoint is not signed by the key given with --key: another log, another key, or a forgery".into()
        );
    }
    let size = head.checkpoint.size;
    if size > ENTRIES_MAX {
        return Err(format!("{size} entries are more than the {ENTRIES_MAX} that are checked at once"));
    }
    let count = usize::try_from(size).map_err(|e| e.to_string())?;
    let entries = entries(count, read);
    let hashes: Vec<merkle::Hash> = entries.iter().map(|entry| merkle::leaf(entry)).collect();
    let stated = leaves(count, read);
    let included = hashes.len() == count && merkle::root(&hashes) == head.checkpoint.root;
    let mut last_good = 0;
    let mut consistent = true;
    for text in heads {
        let old = Signed::parse(text)
            .ok()
            .filter(|old| old.is_signed_by(key) && old.checkpoint.origin == head.checkpoint.origin);
        let beginning = old.as_ref().and_then(|old| {
            let old_size = usize::try_from(old.checkpoint.size).ok()?;
            Some((merkle::root(hashes.get(..old_size)?), old.checkpoint.root, old.checkpoint.size))
        });
        match beginning {
            Some((ours, theirs, old_size)) if ours == theirs => last_good = last_good.max(old_size),
            _ => consistent = false,
        }
    }
    let differs = (0..count).find(|k| hashes.get(*k).is_none() || hashes.get(*k) != stated.get(*k));
    let first_bad = match differs {
        Some(at) => Some(at as u64),
        None if included && consistent => None,
        None => Some(last_good),
    };
    let witnessed = witness.map(|public| head.is_witnessed_by(public).is_some());
    let included = included && differs.is_none();
    Ok(Report { size, root: Hex(head.checkpoint.root), consistent, included, witnessed, first_bad })
}
