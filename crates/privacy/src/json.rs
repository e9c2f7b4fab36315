//! JSON of what is signed, hashed, kept and shared.

use serde::Serialize;

/// A value's JSON.
///
/// # Panics
/// Never: writing to memory does not fail, and every type of this crate has a form in JSON. An empty text instead would be signed, or stand
/// in a journal.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, value);
    bytes
}

/// The same, appended.
///
/// # Panics
/// As [`json`].
pub(crate) fn append(bytes: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(bytes, value).expect("memory takes every value of this crate");
}
