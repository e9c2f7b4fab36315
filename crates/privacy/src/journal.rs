//! The custodian's journal on disk, and what of it goes into the public log.
//!
//! A line per event: the first 16 hexadecimal digits of the SHA-256 of the JSON, a space, the JSON, a line feed. A line is written and
//! synchronised before anything is done about it. A torn last line was never acted upon and is cut off; a damaged line before
//! others is damage of the disk, and the journal is refused. Keys are never in it, readings neither.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{custodian::Event, hex::Hex, json as text, query::Query};

/// Why a journal cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// A line before the last does not match its checksum or is no event.
    #[error(
        "line {0} of the journal is damaged; restore the journal from a backup, the log tells how far it must reach"
    )]
    Damaged(usize),
}

fn checksum(json: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(json).into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    Hex(first).to_string()
}

/// The line of an event.
pub fn line(event: &Event) -> Vec<u8> {
    let json = text::json(event);
    [checksum(&json).as_bytes(), b" ", &json, b"\n"].concat()
}

/// The events of a journal, and how many bytes of it are whole.
///
/// # Errors
/// [`JournalError::Damaged`], counted from 1.
pub fn read(bytes: &[u8]) -> Result<(Vec<Event>, usize), JournalError> {
    let mut events = Vec::new();
    let mut whole = 0;
    for part in bytes.split_inclusive(|byte| *byte == b'\n') {
        let event = part.strip_suffix(b"\n").and_then(|line| {
            let (sum, json) = line.split_at_checked(17)?;
            let is_right = sum == format!("{} ", checksum(json)).as_bytes();
            is_right.then(|| serde_json::from_slice(json).ok()).flatten()
        });
        let is_last = whole + part.len() == bytes.len();
        match event {
            Some(event) => events.push(event),
            None if is_last => break,
            None => return Err(JournalError::Damaged(events.len() + 1)),
        }
        whole += part.len();
    }
    Ok((events, whole))
}

/// What the public log says of an event: who, when, which class and hash; never a reading, a mask or a weight.
pub fn public(event: &Event) -> Vec<u8> {
    let value = match event {
        Event::Enrolled { at, enrolment } => {
            json!({"at": at, "event": "enrolled", "meter": enrolment.meter, "role": enrolment.role})
        }
        Event::Grouped { at, group, from_day, members, .. } => {
            json!({"at": at, "event": "grouped", "group": group, "from_day": from_day, "members": members})
        }
        Event::Released { at, query, approvers, costs } => {
            let spent = costs.first().map_or(0, |(_, micro)| *micro);
            let mut value = json!({
                "at": at, "event": "released", "class": query.class(), "hash": query.hash(),
                "approvers": approvers, "epsilon_micro": spent,
            });
            if let Query::Unmask(q) = query {
                value["notice_at"] = json!(q.notice_at);
                value["basis"] = json!(q.basis);
            }
            value
        }
        Event::Refused { at, hash, class, reason } => {
            json!({"at": at, "event": "refused", "class": class, "hash": hash, "reason": reason})
        }
        Event::Erased { at, meter, approvers } => {
            json!({"at": at, "event": "erased", "meter": meter, "approvers": approvers})
        }
    };
    text::json(&value)
}
