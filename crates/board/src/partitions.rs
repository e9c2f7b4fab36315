//! Where things lie in the board's flash, as in `firmware/esp32/partitions.csv`.

use core::ops::Range;

use crate::rollback::Slot;

/// Bytes of an erase block.
pub const BLOCK_BYTES: u32 = 4_096;
/// The bootloader's choice of slot.
pub const OTADATA: Range<u32> = 0xd000..0xf000;
/// Small records, two blocks each: [`crate::record`].
pub const STATE: Range<u32> = 0x31_0000..0x32_0000;
/// The meter's memory and its frames.
pub const LOG: Range<u32> = 0x32_0000..0x40_0000;
/// The provision, in [`STATE`].
pub const PROVISION: u32 = STATE.start;
/// What starts, in [`STATE`].
pub const BOOT: u32 = STATE.start + 2 * BLOCK_BYTES;
/// The calibration record, in [`STATE`].
pub const CALIBRATION: u32 = STATE.start + 4 * BLOCK_BYTES;

/// Where a program lies.
pub const fn slot(slot: Slot) -> Range<u32> {
    match slot {
        Slot::A => 0x1_0000..0x19_0000,
        Slot::B => 0x19_0000..0x31_0000,
    }
}

/// Bytes of a slot.
pub const SLOT_BYTES: u32 = 0x18_0000;

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn they_are_those_of_the_table_that_is_flashed() {
        let table = include_str!("../../../firmware/esp32/partitions.csv");
        let number = |text: &str| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).expect("hexadecimal");
        for (name, range) in
            [("otadata", OTADATA), ("app_a", slot(Slot::A)), ("app_b", slot(Slot::B)), ("state", STATE), ("log", LOG)]
        {
            let row = table.lines().find(|line| line.starts_with(name)).expect("a row");
            let columns: Vec<&str> = row.split(',').collect();
            let start = number(columns[3]);
            assert_eq!(start..start + number(columns[4]), range, "{name}");
        }
        assert_eq!(slot(Slot::B).end - slot(Slot::B).start, SLOT_BYTES);
        assert_eq!(slot(Slot::A).end - slot(Slot::A).start, SLOT_BYTES);
    }
}
