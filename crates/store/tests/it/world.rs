//! Frames and directories for the tests.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;

use metering::{
    Body, Frame, MeterId, Milliamps, Millivolts, ProfileRecord, RecordFlags, Timestamp, WattHours, frame::Profile,
};
use store::{Incoming, OpenOptions, Store};

/// 2026-01-01T00:00:00Z.
pub const T0: Timestamp = Timestamp(1_767_225_600);
pub const DAY: i64 = 86_400;

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime")
}

/// Opens a directory. A store dropped a moment ago may still hold its lock: its last task lets go of it soon.
pub async fn open(dir: &Path) -> Store {
    let options = OpenOptions { create: true, simulation: false };
    for _ in 0..500 {
        match Store::open(dir, options).await {
            Err(store::StoreError::Directory { why, .. }) if why.contains("another program") => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            other => return other.expect("opens"),
        }
    }
    panic!("the store was not let go of");
}

pub fn meter(number: usize) -> MeterId {
    MeterId::new(&format!("M-{number}")).expect("valid")
}

/// A quarter-hour record that ends `slot` quarters after T0.
pub fn record(slot: i64, import: u64) -> ProfileRecord {
    ProfileRecord {
        end: T0.plus(slot * 900),
        flags: RecordFlags::default(),
        import_wh: WattHours(import),
        export_wh: WattHours(0),
        voltage_mv: Some(Millivolts(230_000)),
        current_ma: Some(Milliamps(1_000)),
        extra: vec![],
        masked: None,
    }
}

pub fn profile(meter: MeterId, boot: u64, seq: u64, records: Vec<ProfileRecord>) -> Frame {
    Frame::new(meter, boot, seq, Body::Profile(Profile { minutes: 15, records }))
}

/// A frame as it arrives `after` seconds after T0.
pub fn incoming(frame: &Frame, after: i64) -> Incoming {
    Incoming { frame: frame.clone(), payload: frame.to_cbor().into(), received: T0.plus(after) }
}
