//! Which slot the chip's bootloader starts: the two entries of the partition `otadata`.
//!
//! ESP-IDF, `components/bootloader_support`: an entry (`esp_ota_select_entry_t` in `esp_flash_partitions.h`) is u32 sequence,
//! 20 bytes label, u32 state, u32 CRC-32 of the sequence (`bootloader_common_ota_select_crc`: `esp_rom_crc32_le` beginning with
//! `UINT32_MAX`), little-endian, one at the begin of each of two flash sectors. An entry counts (`bootloader_common.c`) unless
//! its sequence is `UINT32_MAX`, its state is invalid or aborted, or its CRC is wrong; the larger sequence wins and starts slot
//! (sequence − 1) mod 2 (`bootloader_utility.c`). A bootloader built with rollback gives a `New` image one start to become
//! `Valid`; one built without starts both alike.
//!
//! Written here and not taken from `esp-bootloader-esp-idf`, because that refuses to go on when one entry is torn, which a power
//! cut leaves; here a write goes to the entry that does not win, so that the one that wins is whole at any moment.

use embedded_storage::nor_flash::NorFlash;

use crate::{partitions::OTADATA, record::crc32_from, rollback::Slot};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 32;

/// What the bootloader may think of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// It has not proved itself.
    New,
    /// It has.
    Valid,
}

const INVALID: u32 = 3;
const ABORTED: u32 = 4;

fn crc(sequence: u32) -> u32 {
    crc32_from(0, &sequence.to_le_bytes())
}

fn entry(sequence: u32, state: ImageState) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0xff; ENTRY_BYTES];
    let state: u32 = match state {
        ImageState::New => 0,
        ImageState::Valid => 2,
    };
    bytes[..4].copy_from_slice(&sequence.to_le_bytes());
    bytes[24..28].copy_from_slice(&state.to_le_bytes());
    bytes[28..].copy_from_slice(&crc(sequence).to_le_bytes());
    bytes
}

fn word(bytes: &[u8; ENTRY_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The sequence of an entry that counts.
fn sequence(bytes: &[u8; ENTRY_BYTES]) -> Option<u32> {
    let (sequence, state) = (word(bytes, 0), word(bytes, 24));
    let counts = sequence != u32::MAX && state != INVALID && state != ABORTED && word(bytes, 28) == crc(sequence);
    counts.then_some(sequence)
}

/// The entry that wins and its sequence; none on a board as it is flashed.
fn winner(entries: &[[u8; ENTRY_BYTES]; 2]) -> Option<(usize, u32)> {
    match entries.each_ref().map(sequence) {
        [Some(a), Some(b)] if b > a => Some((1, b)),
        [Some(a), _] => Some((0, a)),
        [None, Some(b)] => Some((1, b)),
        [None, None] => None,
    }
}

/// The entry to write, and its bytes, so that `slot` starts next.
fn selecting(entries: &[[u8; ENTRY_BYTES]; 2], slot: Slot, state: ImageState) -> (usize, [u8; ENTRY_BYTES]) {
    let (place, last) = winner(entries).map_or((0, 0), |(won, last)| (1 - won, last));
    // odd sequences start A, even ones B; a torn or refused entry may hold a larger sequence, but does not count
    let is_odd = slot == Slot::A;
    let step = if (last % 2 == 1) == is_odd { 2 } else { 1 };
    (place, entry(last.saturating_add(step), state))
}

fn read<F: NorFlash>(flash: &mut F) -> Result<[[u8; ENTRY_BYTES]; 2], F::Error> {
    let mut entries = [[0; ENTRY_BYTES]; 2];
    let block = (OTADATA.end - OTADATA.start) / 2;
    flash.read(OTADATA.start, &mut entries[0])?;
    flash.read(OTADATA.start + block, &mut entries[1])?;
    Ok(entries)
}

/// Makes the bootloader start `slot` next.
///
/// # Errors
/// When the flash fails; what started before starts then.
pub fn select<F: NorFlash>(flash: &mut F, slot: Slot, state: ImageState) -> Result<(), F::Error> {
    let entries = read(flash)?;
    let (place, bytes) = selecting(&entries, slot, state);
    let block = (OTADATA.end - OTADATA.start) / 2;
    let at = if place == 0 { OTADATA.start } else { OTADATA.start + block };
    flash.erase(at, at + block)?;
    flash.write(at, &bytes)
}

/// The slot that the bootloader starts next, slot A on a board as it is flashed.
///
/// # Errors
/// When the flash fails.
pub fn selected<F: NorFlash>(flash: &mut F) -> Result<Slot, F::Error> {
    let entries = read(flash)?;
    let is_b = winner(&entries).is_some_and(|(_, sequence)| sequence % 2 == 0);
    Ok(if is_b { Slot::B } else { Slot::A })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram::RamFlash;

    #[test]
    fn entries_are_those_of_the_bootloader() {
        // bytes in the tests of esp-bootloader-esp-idf 0.6 (`SLOT_COUNT_1_VALID`, `SLOT_COUNT_2_NEW`)
        let mut first = [0xff; ENTRY_BYTES];
        first[..4].copy_from_slice(&[1, 0, 0, 0]);
        first[24..].copy_from_slice(&[2, 0, 0, 0, 154, 152, 67, 71]);
        assert_eq!(entry(1, ImageState::Valid), first);
        let mut second = [0xff; ENTRY_BYTES];
        second[..4].copy_from_slice(&[2, 0, 0, 0]);
        second[24..].copy_from_slice(&[0, 0, 0, 0, 116, 55, 246, 85]);
        assert_eq!(entry(2, ImageState::New), second);
        assert_eq!(winner(&[first, second]), Some((1, 2)));
        second[24] = 4;
        assert_eq!(winner(&[first, second]), Some((0, 1)), "an aborted image does not start");
    }

    #[test]
    fn a_cut_at_any_word_starts_the_old_slot_or_the_new() {
        let mut flash = RamFlash::new(16);
        assert_eq!(selected(&mut flash), Ok(Slot::A));
        let mut before = Slot::A;
        for slot in [Slot::B, Slot::B, Slot::A, Slot::A, Slot::B, Slot::A, Slot::B] {
            for words in 0..9 {
                let mut torn = flash.clone();
                torn.left = Some(words);
                assert!(select(&mut torn, slot, ImageState::New).is_err());
                assert_eq!(selected(&mut torn), Ok(before), "{words} words");
                // and the next try succeeds
                torn.left = None;
                assert_eq!(select(&mut torn, slot, ImageState::New), Ok(()));
                assert_eq!(selected(&mut torn), Ok(slot));
            }
            assert_eq!(select(&mut flash, slot, ImageState::Valid), Ok(()));
            assert_eq!(selected(&mut flash), Ok(slot));
            before = slot;
        }
    }
}
