//! The flash, in the hands of whoever needs it: one handle for the meter's memory, another for the serial port.
//!
//! Every access is finished when it returns, and all tasks run on one executor, so two never overlap. An erase stops everything,
//! sampling too, for some 40 ms: the samples that are missing then are counted (`board::gaps`).

use core::cell::RefCell;

use board::{partitions, rollback::Slot};
use embedded_storage::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};
use esp_bootloader_esp_idf::partitions::{PARTITION_TABLE_MAX_LEN, read_partition_table};
use esp_storage::{FlashStorage, FlashStorageError};

/// A handle to the flash.
#[derive(Clone, Copy)]
pub struct Chip(pub &'static RefCell<FlashStorage<'static>>);

impl ErrorType for Chip {
    type Error = FlashStorageError;
}

impl ReadNorFlash for Chip {
    const READ_SIZE: usize = FlashStorage::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashStorageError> {
        self.0.borrow_mut().read_nor(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.borrow().capacity()
    }
}

impl NorFlash for Chip {
    const WRITE_SIZE: usize = FlashStorage::WRITE_SIZE;
    const ERASE_SIZE: usize = FlashStorage::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashStorageError> {
        self.0.borrow_mut().erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashStorageError> {
        self.0.borrow_mut().write_nor(offset, bytes)
    }
}

impl MultiwriteNorFlash for Chip {}

/// The slot that runs, from what is mapped; the bootloader's choice, when the table does not tell.
pub fn running(mut chip: Chip) -> Slot {
    let mut table = alloc::vec![0; PARTITION_TABLE_MAX_LEN];
    let mapped = read_partition_table(&mut chip.0.borrow_mut(), &mut table)
        .and_then(|table| table.booted_partition())
        .ok()
        .flatten()
        .map(|partition| partition.offset());
    match mapped {
        Some(at) if at == partitions::slot(Slot::B).start => Slot::B,
        Some(at) if at == partitions::slot(Slot::A).start => Slot::A,
        _ => {
            esp_println::println!("the partition table is not partitions.csv: flash it");
            board::otadata::selected(&mut chip).unwrap_or(Slot::A)
        }
    }
}
