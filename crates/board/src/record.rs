//! Small states in flash: two copies with a counter and a checksum, of which one is always whole.
//!
//! Layout of a copy, little-endian: u32 counter, u16 length, the bytes, u32 CRC-32 (IEEE) over all before. A write goes to the copy
//! that is not the newest; a cut while it is written leaves the newest as it was. Not for what changes every minute: flash wears.

use alloc::{vec, vec::Vec};
use core::fmt;

use embedded_storage::nor_flash::NorFlash;

/// Bytes of a copy that are looked at.
const COPY_BYTES: usize = 2_048;

/// Bytes around the content of a copy.
pub const OVERHEAD: usize = 10;

fn crc32(bytes: &[u8]) -> u32 {
    crc32_from(u32::MAX, bytes)
}

/// CRC-32 (IEEE) from another beginning.
pub(crate) fn crc32_from(beginning: u32, bytes: &[u8]) -> u32 {
    let mut crc = beginning;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// The bytes of a copy; nothing when the content is longer than 65,535 bytes.
pub fn write(counter: u32, content: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(content.len()).ok()?;
    let mut out = Vec::with_capacity(content.len() + OVERHEAD);
    out.extend_from_slice(&counter.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(content);
    out.extend_from_slice(&crc32(&out).to_le_bytes());
    Some(out)
}

/// Counter and content of a copy; nothing when it was never written or its writing was cut.
pub fn read(copy: &[u8]) -> Option<(u32, &[u8])> {
    let counter = u32::from_le_bytes(copy.get(..4)?.try_into().ok()?);
    let length = usize::from(u16::from_le_bytes(copy.get(4..6)?.try_into().ok()?));
    let content = copy.get(6..6 + length)?;
    let sum = u32::from_le_bytes(copy.get(6 + length..10 + length)?.try_into().ok()?);
    (crc32(copy.get(..6 + length)?) == sum).then_some((counter, content))
}

/// Which of two copies is the newest whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest<'a> {
    /// 0 or 1.
    pub copy: usize,
    /// Its counter.
    pub counter: u32,
    /// Its content.
    pub content: &'a [u8],
}

/// The newest whole copy; nothing on a new board.
pub fn newest<'a>(copies: [&'a [u8]; 2]) -> Option<Newest<'a>> {
    let mut found: Option<Newest<'a>> = None;
    for (copy, bytes) in copies.into_iter().enumerate() {
        if let Some((counter, content)) = read(bytes)
            && found.is_none_or(|f| counter.wrapping_sub(f.counter) < u32::MAX / 2)
        {
            found = Some(Newest { copy, counter, content });
        }
    }
    found
}

/// Where and with which counter the next content is written.
pub fn next(copies: [&[u8]; 2]) -> (usize, u32) {
    newest(copies).map_or((0, 1), |n| (1 - n.copy, n.counter.wrapping_add(1)))
}

/// Why a content was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveError<E> {
    /// The flash failed.
    Flash(E),
    /// The content is longer than a copy.
    TooLong,
}

impl<E: fmt::Debug> fmt::Display for SaveError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash(why) => write!(f, "the flash failed: {why:?}"),
            Self::TooLong => write!(f, "more than {} bytes", COPY_BYTES - OVERHEAD),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for SaveError<E> {}

fn copies<F: NorFlash>(flash: &mut F, at: u32) -> Result<[Vec<u8>; 2], F::Error> {
    let mut copies = [vec![0; COPY_BYTES], vec![0; COPY_BYTES]];
    flash.read(at, &mut copies[0])?;
    flash.read(at + block::<F>(), &mut copies[1])?;
    Ok(copies)
}

fn block<F: NorFlash>() -> u32 {
    u32::try_from(F::ERASE_SIZE).unwrap_or(u32::MAX)
}

/// The newest content of the two erase blocks at `at`; nothing on a new board.
///
/// # Errors
/// When the flash fails.
pub fn load<F: NorFlash>(flash: &mut F, at: u32) -> Result<Option<Vec<u8>>, F::Error> {
    let [a, b] = copies(flash, at)?;
    Ok(newest([&a, &b]).map(|newest| newest.content.into()))
}

/// Writes a content beside the newest one in the two erase blocks at `at`.
///
/// # Errors
/// When the flash fails, or the content is too long.
pub fn save<F: NorFlash>(flash: &mut F, at: u32, content: &[u8]) -> Result<(), SaveError<F::Error>> {
    let [a, b] = copies(flash, at).map_err(SaveError::Flash)?;
    let (copy, counter) = next([&a, &b]);
    let mut bytes = write(counter, content).filter(|bytes| bytes.len() <= COPY_BYTES).ok_or(SaveError::TooLong)?;
    bytes.resize(bytes.len().next_multiple_of(F::WRITE_SIZE), 0xff);
    let at = if copy == 0 { at } else { at + block::<F>() };
    flash.erase(at, at + block::<F>()).map_err(SaveError::Flash)?;
    flash.write(at, &bytes).map_err(SaveError::Flash)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_cut_at_every_byte_leaves_the_old_or_the_new() {
        let mut copies = [vec![0xff_u8; 64], vec![0xff; 64]];
        for round in 0..20_u8 {
            let content = [round; 9];
            let (copy, counter) = next([&copies[0], &copies[1]]);
            let bytes = write(counter, &content).expect("short");
            let before = newest([&copies[0], &copies[1]]).map(|n| n.content[0]);
            for cut in 0..bytes.len() {
                let mut torn = copies.clone();
                torn[copy].fill(0xff);
                torn[copy][..cut].copy_from_slice(&bytes[..cut]);
                assert_eq!(newest([&torn[0], &torn[1]]).map(|n| n.content[0]), before, "cut at {cut}");
            }
            copies[copy].fill(0xff);
            copies[copy][..bytes.len()].copy_from_slice(&bytes);
            assert_eq!(newest([&copies[0], &copies[1]]).map(|n| n.content[0]), Some(round));
        }
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(next([&[0xff; 20], &[0xff; 20]]), (0, 1));
    }

    #[test]
    fn a_content_in_flash_is_replaced_beside_the_old_one() {
        let mut flash = crate::ram::RamFlash::new(4);
        assert_eq!(load(&mut flash, 4_096), Ok(None));
        for round in 0..5_u8 {
            assert_eq!(save(&mut flash, 4_096, &[round; 7]), Ok(()));
            assert_eq!(load(&mut flash, 4_096), Ok(Some(vec![round; 7])));
        }
        assert_eq!(save(&mut flash, 4_096, &[1; COPY_BYTES]), Err(SaveError::TooLong));
        assert_eq!(load(&mut flash, 4_096), Ok(Some(vec![4; 7])));
    }
}
