//! Firmware images: a signed header and the program, checked while it arrives.
//!
//! Layout, little-endian: `GTFW`, u16 format (1; 2 for an image that may replace a newer version), u16 hardware, u32 version, u32 security floor, u32 length of the program,
//! SHA-256 of the program; then the Ed25519 signature over those 52 bytes; then the program. The header is judged before the
//! first byte of the program is written; the program counts only when its length and hash are right. It does not write
//! anywhere: the caller writes to the slot that is not running, and [`crate::rollback`] decides what starts.

use core::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

/// Bytes of the signed part.
pub const SIGNED_BYTES: usize = 52;
/// Bytes before the program.
pub const HEADER_BYTES: usize = SIGNED_BYTES + 64;
const MAGIC: [u8; 4] = *b"GTFW";
const FORMAT: u16 = 1;
/// The same layout, signed as a step back to an older version.
const FORMAT_DOWNGRADE: u16 = 2;

/// The signed statements about a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The board it is for.
    pub hardware: u16,
    /// Version, larger is newer.
    pub version: u32,
    /// A board that has confirmed this image takes no image with a smaller version ever again.
    pub security_floor: u32,
    /// Bytes of the program.
    pub length: u32,
    /// SHA-256 of the program.
    pub hash: [u8; 32],
    /// Whether it may replace a newer version; signed with the rest.
    pub is_downgrade: bool,
}

/// What the board knows about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// Its hardware number.
    pub hardware: u16,
    /// The version that runs.
    pub version: u32,
    /// The highest floor it has confirmed.
    pub security_floor: u32,
    /// Bytes of a slot.
    pub slot_bytes: u32,
}

/// Why an image is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Not a firmware image, or of another format.
    Format,
    /// The signature is not the maker's.
    Signature,
    /// For another board.
    Hardware(u16),
    /// Older than the security floor.
    Floor(u32),
    /// The same version runs already.
    Running,
    /// Older than the version that runs, and not signed as a step back.
    Older(u32),
    /// Empty, or larger than a slot.
    Length(u32),
    /// More bytes came than the header says.
    TooLong,
    /// The program ended early.
    Incomplete(u32),
    /// The program is not the signed one.
    Hash,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("not a firmware image of format 1"),
            Self::Signature => f.write_str("the image is not signed with the key this board trusts"),
            Self::Hardware(other) => write!(f, "the image is for hardware {other}"),
            Self::Floor(floor) => write!(f, "versions below {floor} are barred on this board"),
            Self::Running => f.write_str("this version is running"),
            Self::Older(running) => {
                write!(f, "version {running} is running and this one is older: sign it as a downgrade to go back")
            }
            Self::Length(bytes) => write!(f, "a program of {bytes} bytes does not fit a slot"),
            Self::TooLong => f.write_str("more bytes came than the header says"),
            Self::Incomplete(missing) => write!(f, "{missing} bytes of the program are missing"),
            Self::Hash => f.write_str("the program is damaged: its hash is not the signed one"),
        }
    }
}

impl core::error::Error for ImageError {}

fn word(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Header {
    /// The 52 bytes to be signed.
    pub fn signed_bytes(&self) -> [u8; SIGNED_BYTES] {
        let mut out = [0; SIGNED_BYTES];
        let format = if self.is_downgrade { FORMAT_DOWNGRADE } else { FORMAT };
        let parts: [&[u8]; 7] = [
            &MAGIC,
            &format.to_le_bytes(),
            &self.hardware.to_le_bytes(),
            &self.version.to_le_bytes(),
            &self.security_floor.to_le_bytes(),
            &self.length.to_le_bytes(),
            &self.hash,
        ];
        let mut at = 0;
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        out
    }

    /// The header of a program.
    pub fn of(program: &[u8], hardware: u16, version: u32, security_floor: u32) -> Option<Self> {
        let length = u32::try_from(program.len()).ok()?;
        Some(Self {
            hardware,
            version,
            security_floor,
            length,
            hash: Sha256::digest(program).into(),
            is_downgrade: false,
        })
    }

    /// The same, as an image that may replace a newer version (never one below the security floor).
    #[must_use]
    pub fn as_downgrade(self) -> Self {
        Self { is_downgrade: true, ..self }
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut hash = [0; 32];
        hash.copy_from_slice(&bytes[20..SIGNED_BYTES]);
        let format = u16::from_le_bytes([bytes[4], bytes[5]]);
        (bytes[..4] == MAGIC && [FORMAT, FORMAT_DOWNGRADE].contains(&format)).then(|| Self {
            hardware: u16::from_le_bytes([bytes[6], bytes[7]]),
            version: word(bytes, 8),
            security_floor: word(bytes, 12),
            length: word(bytes, 16),
            hash,
            is_downgrade: format == FORMAT_DOWNGRADE,
        })
    }
}

/// An image that is arriving.
#[derive(Clone, Debug)]
pub struct Arriving {
    header: Header,
    hash: Sha256,
    taken: u32,
}

impl Arriving {
    /// Judges a header; nothing of the program may be written before this has said yes.
    ///
    /// # Errors
    /// When the image is not signed by `key`, not for this board, barred, running already, or too large.
    pub fn begin(bytes: &[u8; HEADER_BYTES], key: &VerifyingKey, board: &Board) -> Result<Self, ImageError> {
        let header = Header::parse(bytes).ok_or(ImageError::Format)?;
        let (signed, signature) = bytes.split_at(SIGNED_BYTES);
        let signature = Signature::from_slice(signature).map_err(|_| ImageError::Signature)?;
        key.verify_strict(signed, &signature).map_err(|_| ImageError::Signature)?;
        if header.hardware != board.hardware {
            return Err(ImageError::Hardware(header.hardware));
        }
        if header.version < board.security_floor {
            return Err(ImageError::Floor(board.security_floor));
        }
        if header.version == board.version {
            return Err(ImageError::Running);
        }
        if header.version < board.version && !header.is_downgrade {
            return Err(ImageError::Older(board.version));
        }
        if header.length == 0 || header.length > board.slot_bytes {
            return Err(ImageError::Length(header.length));
        }
        Ok(Self { header, hash: Sha256::new(), taken: 0 })
    }

    /// What was signed.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the program taken so far: where the next part is to be written.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Takes the next part of the program, in order.
    ///
    /// # Errors
    /// When more bytes come than the header says.
    pub fn take(&mut self, part: &[u8]) -> Result<(), ImageError> {
        let taken = u32::try_from(part.len()).ok().and_then(|n| self.taken.checked_add(n));
        let taken = taken.filter(|&t| t <= self.header.length).ok_or(ImageError::TooLong)?;
        self.hash.update(part);
        self.taken = taken;
        Ok(())
    }

    /// The program is whole and the signed one: only now may its slot be started.
    ///
    /// # Errors
    /// When bytes are missing or the hash is another.
    pub fn finish(self) -> Result<Header, ImageError> {
        if self.taken < self.header.length {
            return Err(ImageError::Incomplete(self.header.length - self.taken));
        }
        let hash: [u8; 32] = self.hash.finalize().into();
        if hash == self.header.hash { Ok(self.header) } else { Err(ImageError::Hash) }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    const BOARD: Board = Board { hardware: 6, version: 3, security_floor: 2, slot_bytes: 4_096 };

    fn image(program: &[u8], header: Header, key: &SigningKey) -> Vec<u8> {
        let signed = header.signed_bytes();
        [&signed[..], &key.sign(&signed).to_bytes(), program].concat()
    }

    fn judge(image: &[u8], key: &SigningKey, board: &Board, part: usize) -> Result<Header, ImageError> {
        let (head, program) = image.split_at(HEADER_BYTES);
        let head: [u8; HEADER_BYTES] = head.try_into().expect("long enough");
        let mut arriving = Arriving::begin(&head, &key.verifying_key(), board)?;
        program.chunks(part).try_for_each(|part| arriving.take(part))?;
        arriving.finish()
    }

    #[test]
    fn only_a_signed_whole_program_for_this_board_is_taken() {
        let (maker, thief) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let program: Vec<u8> = (0..3_000_u32).map(|k| k.to_le_bytes()[0]).collect();
        let header = Header::of(&program, 6, 4, 3).expect("short");
        let good = image(&program, header, &maker);
        assert_eq!(judge(&good, &maker, &BOARD, 100), Ok(header));
        assert_eq!(judge(&image(&program, header, &thief), &maker, &BOARD, 100), Err(ImageError::Signature));
        let refused = |change: fn(&mut Header)| {
            let mut header = header;
            change(&mut header);
            judge(&image(&program, header, &maker), &maker, &BOARD, 64)
        };
        assert_eq!(refused(|h| h.hardware = 7), Err(ImageError::Hardware(7)));
        assert_eq!(refused(|h| h.version = 1), Err(ImageError::Floor(2)));
        assert_eq!(refused(|h| h.version = 3), Err(ImageError::Running));
        assert_eq!(refused(|h| h.version = 2), Err(ImageError::Older(3)));
        assert_eq!(refused(|h| (h.version, h.is_downgrade) = (1, true)), Err(ImageError::Floor(2)));
        let back = Header { version: 2, ..header }.as_downgrade();
        assert_eq!(judge(&image(&program, back, &maker), &maker, &BOARD, 100), Ok(back));
        assert_eq!(refused(|h| h.length = 5_000), Err(ImageError::Length(5_000)));
        assert_eq!(refused(|h| h.length = 2_999), Err(ImageError::TooLong));
        assert_eq!(refused(|h| h.length = 3_001), Err(ImageError::Incomplete(1)));
        assert_eq!(judge(&[0; 200], &maker, &BOARD, 9), Err(ImageError::Format));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let maker = SigningKey::from_bytes(&[1; 32]);
        let program = [7_u8; 64];
        let good = image(&program, Header::of(&program, 6, 4, 3).expect("short"), &maker);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(judge(&bad, &maker, &BOARD, 13).is_err(), "bit {bit}");
        }
    }
}
