//! An image that is being written to the slot that does not run.
//!
//! Parts come in order and each says where it belongs; every block is erased as it is reached; nothing counts before the whole
//! program has been read back from flash and has the signed hash. It does not decide what starts: see [`crate::start`].

use core::{fmt, ops::Range};

use ed25519_dalek::VerifyingKey;
use embedded_storage::nor_flash::NorFlash;
use sha2::{Digest, Sha256};

use crate::image::{Arriving, Board, HEADER_BYTES, Header, ImageError};

/// Why a part or the whole was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateError<E> {
    /// The image is refused.
    Image(ImageError),
    /// Another part comes next: the one at this byte.
    Order(u32),
    /// A part that is not the last has no whole words.
    Words,
    /// The flash failed.
    Flash(E),
}

impl<E: fmt::Debug> fmt::Display for UpdateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(why) => write!(f, "{why}"),
            Self::Order(next) => write!(f, "the part at byte {next} comes next"),
            Self::Words => f.write_str("only the last part may be other than whole words of four bytes"),
            Self::Flash(why) => write!(f, "the flash failed: {why:?}; begin again"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for UpdateError<E> {}

/// An image on its way into a slot.
#[derive(Clone, Debug)]
pub struct Update {
    arriving: Arriving,
    slot: Range<u32>,
}

impl Update {
    /// Judges a header; the slot is not touched yet.
    ///
    /// # Errors
    /// When the image is refused.
    pub fn begin(
        header: &[u8; HEADER_BYTES],
        key: &VerifyingKey,
        board: &Board,
        slot: Range<u32>,
    ) -> Result<Self, ImageError> {
        Ok(Self { arriving: Arriving::begin(header, key, board)?, slot })
    }

    /// Bytes taken so far.
    pub fn taken(&self) -> u32 {
        self.arriving.taken()
    }

    /// Bytes that will come.
    pub fn length(&self) -> u32 {
        self.arriving.header().length
    }

    /// Writes the part at byte `at`.
    ///
    /// # Errors
    /// When it is not the next one, too long, or the flash fails.
    pub fn part<F: NorFlash>(&mut self, flash: &mut F, at: u32, part: &[u8]) -> Result<(), UpdateError<F::Error>> {
        let taken = self.taken();
        if at != taken {
            return Err(UpdateError::Order(taken));
        }
        let mut next = self.arriving.clone();
        next.take(part).map_err(UpdateError::Image)?;
        if !part.len().is_multiple_of(F::WRITE_SIZE) && next.taken() != self.length() {
            return Err(UpdateError::Words);
        }
        let block = u32::try_from(F::ERASE_SIZE).unwrap_or(u32::MAX);
        let erased = self.slot.start + taken.next_multiple_of(block);
        let needed = self.slot.start + next.taken().next_multiple_of(block);
        if needed > erased {
            flash.erase(erased, needed).map_err(UpdateError::Flash)?;
        }
        let (words, rest) = part.split_at(part.len() - part.len() % F::WRITE_SIZE);
        flash.write(self.slot.start + taken, words).map_err(UpdateError::Flash)?;
        if !rest.is_empty() {
            let mut last = [0xff; 32];
            last[..rest.len()].copy_from_slice(rest);
            let end = self.slot.start + taken + u32::try_from(words.len()).unwrap_or(u32::MAX);
            flash.write(end, &last[..F::WRITE_SIZE]).map_err(UpdateError::Flash)?;
        }
        self.arriving = next;
        Ok(())
    }

    /// Reads the program back: whole, and the signed one.
    ///
    /// # Errors
    /// When bytes are missing, what lies in flash is another program, or the flash fails.
    pub fn finish<F: NorFlash>(self, flash: &mut F) -> Result<Header, UpdateError<F::Error>> {
        let slot = self.slot.start;
        let header = self.arriving.finish().map_err(UpdateError::Image)?;
        let mut hash = Sha256::new();
        let mut buffer = [0; 256];
        let mut at = 0;
        while at < header.length {
            flash.read(slot + at, &mut buffer).map_err(UpdateError::Flash)?;
            let left = usize::try_from(header.length - at).unwrap_or(usize::MAX).min(buffer.len());
            hash.update(&buffer[..left]);
            at += 256;
        }
        let hash: [u8; 32] = hash.finalize().into();
        if hash == header.hash { Ok(header) } else { Err(UpdateError::Image(ImageError::Hash)) }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use ed25519_dalek::{Signer, SigningKey};

    use super::*;
    use crate::ram::RamFlash;

    const BOARD: Board = Board { hardware: 6, version: 1, security_floor: 1, slot_bytes: 4 * 4_096 };
    const SLOT: Range<u32> = 2 * 4_096..6 * 4_096;

    fn begin(program: &[u8]) -> Update {
        let key = SigningKey::from_bytes(&[1; 32]);
        let signed = Header::of(program, 6, 2, 1).expect("short").signed_bytes();
        let header = [&signed[..], &key.sign(&signed).to_bytes()].concat();
        Update::begin(&header.try_into().expect("a header"), &key.verifying_key(), &BOARD, SLOT).expect("good")
    }

    #[test]
    fn a_program_is_written_part_by_part_and_read_back() {
        for length in [1_u32, 4, 120, 4_095, 4_096, 4_097, 9_999, 4 * 4_096] {
            let program: Vec<u8> = (0..length).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
            let mut flash = RamFlash::new(8);
            flash.bytes[4_096..].fill(0x5a);
            let mut update = begin(&program);
            for part in program.chunks(120) {
                update.part(&mut flash, update.taken(), part).expect("in order");
            }
            assert_eq!(update.clone().finish(&mut flash).map(|header| header.length), Ok(length));
            assert_eq!(flash.bytes[SLOT.start as usize..][..program.len()], program);
            assert!(flash.bytes[4_096..2 * 4_096].iter().all(|byte| *byte == 0x5a), "before the slot");
            assert!(flash.bytes[6 * 4_096..].iter().all(|byte| *byte == 0x5a), "behind the slot");
            flash.bytes[SLOT.start as usize] ^= 1;
            assert_eq!(update.finish(&mut flash), Err(UpdateError::Image(ImageError::Hash)), "what flash holds counts");
        }
    }

    #[test]
    fn parts_out_of_order_too_long_or_missing_are_refused() {
        let program = [9; 1_000];
        let mut flash = RamFlash::new(8);
        let mut update = begin(&program);
        assert_eq!(update.part(&mut flash, 120, &program[..120]), Err(UpdateError::Order(0)));
        assert_eq!(update.part(&mut flash, 0, &program[..119]), Err(UpdateError::Words));
        assert_eq!(update.part(&mut flash, 0, &program[..120]), Ok(()));
        assert_eq!(update.part(&mut flash, 0, &program[..120]), Err(UpdateError::Order(120)));
        assert_eq!(update.part(&mut flash, 120, &[9; 884]), Err(UpdateError::Image(ImageError::TooLong)));
        assert_eq!(update.clone().finish(&mut flash), Err(UpdateError::Image(ImageError::Incomplete(880))));
        assert_eq!(update.part(&mut flash, 120, &program[120..]), Ok(()), "refused parts leave it as it was");
        assert!(update.finish(&mut flash).is_ok());
    }
}
