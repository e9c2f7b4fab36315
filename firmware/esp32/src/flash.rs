//! Three small records in flash, two copies each: provision, boot state, registers.
//!
//! Sectors of the partition `state` (partitions.csv). A write erases one sector, which stops everything for some 40 ms: the
//! window in which it happens is short of samples. The frames' store-and-forward log has its own partition.

use alloc::{vec, vec::Vec};

use board::record;
use embassy_sync::{blocking_mutex::raw::NoopRawMutex, mutex::Mutex};
use esp_storage::FlashStorage;
use minicbor::{Decode, Encode};

/// Begin of the partition `state`.
const STATE: u32 = 0x31_0000;
/// Largest record.
const RECORD_BYTES_MAX: usize = 2_048;

/// The flash, shared by the tasks.
pub type Shared = Mutex<NoopRawMutex, FlashStorage<'static>>;

/// Which record.
#[derive(Clone, Copy)]
pub enum Place {
    Provision = 0,
    Boot = 2,
    Registers = 4,
}

/// The registers that must survive, in watt-hours, and the number of this start.
#[derive(Clone, Copy, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Kept {
    #[n(0)]
    pub import_wh: u64,
    #[n(1)]
    pub export_wh: u64,
    #[n(2)]
    pub starts: u64,
}

fn copies(flash: &mut FlashStorage<'static>, place: Place) -> [Vec<u8>; 2] {
    [0, 1].map(|copy| {
        let mut bytes = vec![0xff; RECORD_BYTES_MAX];
        let at = STATE + (place as u32 + copy) * FlashStorage::SECTOR_SIZE;
        if flash.read(at, &mut bytes).is_err() {
            bytes.clear();
        }
        bytes
    })
}

/// The newest whole record.
pub fn load<T: for<'b> Decode<'b, ()>>(flash: &mut FlashStorage<'static>, place: Place) -> Option<T> {
    let [a, b] = copies(flash, place);
    record::newest([&a, &b]).and_then(|n| minicbor::decode(n.content).ok())
}

/// Writes a record beside the newest one. Tells whether it lies there.
pub fn save<T: Encode<()>>(flash: &mut FlashStorage<'static>, place: Place, value: &T) -> bool {
    let [a, b] = copies(flash, place);
    let (copy, counter) = record::next([&a, &b]);
    let Some(mut bytes) = minicbor::to_vec(value).ok().and_then(|content| record::write(counter, &content)) else {
        return false;
    };
    if bytes.len() > RECORD_BYTES_MAX {
        return false;
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0xff);
    let at = STATE + (place as u32 + copy as u32) * FlashStorage::SECTOR_SIZE;
    flash.erase(at, at + FlashStorage::SECTOR_SIZE).is_ok() && flash.write_nor(at, &bytes).is_ok()
}
