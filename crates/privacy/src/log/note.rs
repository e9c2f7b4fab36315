//! Signed heads as C2SP signed notes: the text of a checkpoint, an empty line, one line per signature.
//!
//! The log signs the text (type 1, Ed25519). A witness cosigns `cosignature/v1`, the time and the text (type 4): it has seen no
//! other history. The first four bytes of a signature name its key: SHA-256 of `name ‖ LF ‖ type ‖ public key`.

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

use crate::{hex::Hex, merkle::Hash, query::is_signed};

const LOG: u8 = 1;
const WITNESS: u8 = 4;

/// A head of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

/// Why a text is not a signed head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not the lines of a signed note.
    #[error(
        "not a signed head: the name of the log, the size, the root in base64, an empty line and signatures are expected"
    )]
    Form,
}

/// A head with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// Name of the signer, key name and signature bytes.
    lines: Vec<(String, Vec<u8>)>,
}

fn key_name(name: &str, kind: u8, public: &[u8; 32]) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update([b'\n', kind]);
    hash.update(public);
    let digest: [u8; 32] = hash.finalize().into();
    [digest[0], digest[1], digest[2], digest[3]]
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, Base64::encode_string(&self.root))
    }

    /// Signs it as the log.
    pub fn sign(self, key: &SigningKey) -> Signed {
        let name = key_name(&self.origin, LOG, key.verifying_key().as_bytes());
        let line = [name.as_slice(), &key.sign(self.text().as_bytes()).to_bytes()].concat();
        Signed { lines: vec![(self.origin.clone(), line)], checkpoint: self }
    }

    fn cosigned_bytes(&self, time: u64) -> Vec<u8> {
        format!("cosignature/v1\ntime {time}\n{}", self.text()).into_bytes()
    }
}

impl Signed {
    /// With a witness's cosignature.
    #[must_use]
    pub fn cosign(mut self, witness: &str, key: &SigningKey, time: u64) -> Self {
        let name = key_name(witness, WITNESS, key.verifying_key().as_bytes());
        let signature = key.sign(&self.checkpoint.cosigned_bytes(time)).to_bytes();
        let line = [name.as_slice(), &time.to_be_bytes(), &signature].concat();
        self.lines.retain(|(n, bytes)| n != witness || !bytes.starts_with(&name));
        self.lines.push((witness.to_owned(), line));
        self
    }

    /// Whether the log's key signed it.
    pub fn is_signed_by(&self, public: &Hex<32>) -> bool {
        let text = self.checkpoint.text();
        let name = key_name(&self.checkpoint.origin, LOG, &public.0);
        let mut signatures = self.lines.iter().filter_map(|(_, bytes)| bytes.strip_prefix(&name)?.try_into().ok());
        signatures.any(|signature| is_signed(public, text.as_bytes(), &Hex(signature)))
    }

    /// When a witness with this key cosigned it.
    pub fn is_witnessed_by(&self, public: &Hex<32>) -> Option<u64> {
        self.lines.iter().find_map(|(witness, bytes)| {
            let (time, signature) = bytes.strip_prefix(&key_name(witness, WITNESS, &public.0))?.split_at_checked(8)?;
            let time = u64::from_be_bytes(time.try_into().ok()?);
            let signature = Hex(signature.try_into().ok()?);
            is_signed(public, &self.checkpoint.cosigned_bytes(time), &signature).then_some(time)
        })
    }

    /// The note.
    pub fn to_text(&self) -> String {
        let mut text = self.checkpoint.text();
        text.push('\n');
        for (name, bytes) in &self.lines {
            text.push_str(&format!("\u{2014} {name} {}\n", Base64::encode_string(bytes)));
        }
        text
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError::Form`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (body, signatures) = text.split_once("\n\n").ok_or(NoteError::Form)?;
        let mut lines = body.split('\n');
        let mut next = || lines.next().ok_or(NoteError::Form);
        let (origin, size, root) = (next()?.to_owned(), next()?, next()?);
        let size = size.parse().map_err(|_| NoteError::Form)?;
        let root = Base64::decode_vec(root).ok().and_then(|root| root.try_into().ok()).ok_or(NoteError::Form)?;
        let signature = |line: &str| {
            let (name, bytes) = line.strip_prefix("\u{2014} ")?.rsplit_once(' ')?;
            Some((name.to_owned(), Base64::decode_vec(bytes).ok()?))
        };
        let lines: Option<Vec<_>> = signatures.lines().map(signature).collect();
        Ok(Self { checkpoint: Checkpoint { origin, size, root }, lines: lines.ok_or(NoteError::Form)? })
    }
}
