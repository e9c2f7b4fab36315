//! The day's frame: its bytes, what it refuses, and that late and corrected readings are frames of the same kind.

use ed25519_dalek::Signer;
use privacy::{
    Field,
    commitment::Generators,
    frame::{BYTES_MAX, Day, FrameError},
    operator::{Conflict, MaskedStore},
};

use crate::{
    memory::day_frame,
    world::{FIRST, World, id, key},
};

/// Bytes that a TLS 1.3 record adds: header, content type, tag.
const RECORD: usize = 5 + 1 + 16;

fn day<'b>(values: &'b [u8], present: &'b [u8]) -> Day<'b> {
    Day {
        meter: id(0),
        epoch: 1,
        field_and_rev: Day::said(Field::Import, 0),
        first: FIRST,
        present,
        values,
        root: [1; 32],
        total: [2; 32],
    }
}

fn written(day: &Day<'_>) -> Result<Vec<u8>, FrameError> {
    let mut out = [0; BYTES_MAX];
    day.write(&mut out, |parts| key(30).sign(&parts.concat()).to_bytes()).map(<[u8]>::to_vec)
}

#[test]
fn a_day_is_below_a_kilobyte_with_everything() {
    let mut world = World::new(15, 1);
    world.fill(1, 96, Field::Import);
    let frame = day_frame(&world, 0, &Generators::default());
    let bytes = frame.len() + RECORD;
    assert!(bytes <= 1_000, "{bytes}");
    let mut store = MaskedStore::default();
    let read = Day::read(&frame, |_, _| true).expect("reads");
    assert_eq!(store.take_day(&read), (96, Vec::new()));
    assert_eq!(store.take_day(&read), (0, Vec::new()), "the same frame again changes nothing");
    let rows = store.rows(id(0), Field::Import, FIRST, 96);
    assert_eq!(rows.iter().map(privacy::query::Row::count).sum::<usize>(), 96);
    // the name is the longest part that is not fixed
    let name = metering::MeterId::new(&"M".repeat(32)).expect("the longest name in use");
    let longest =
        written(&Day { meter: name, epoch: u32::MAX, first: 1 << 34, ..day(&[0; 768], &[]) }).expect("writes");
    assert!(longest.len() + RECORD <= 1_024, "{}", longest.len() + RECORD);
}

#[test]
fn part_of_a_day_and_its_correction() {
    let (values, present) = ([7; 24], [0b0000_0100, 0b0000_0011]);
    let bytes = written(&day(&values, &present)).expect("writes");
    let read = Day::read(&bytes, |_, _| true).expect("reads");
    let counters: Vec<u64> = read.readings().map(|(counter, _)| counter).collect();
    assert_eq!(counters, [FIRST + 2, FIRST + 8, FIRST + 9]);
    let mut store = MaskedStore::default();
    assert_eq!(store.take_day(&read), (3, Vec::new()));
    let other = [9; 24];
    let (changed, conflicts) = store.take_day(&day(&other, &present));
    assert_eq!((changed, conflicts.len()), (0, 3));
    assert!(matches!(conflicts[0], Conflict::Differs { rev: 0, .. }));
    let corrected = Day { field_and_rev: Day::said(Field::Import, 1), ..day(&other, &present) };
    assert_eq!(store.take_day(&corrected), (3, Vec::new()));
}

#[test]
fn frames_that_state_another_number_of_readings_are_refused() {
    assert_eq!(written(&day(&[0; 16], &[0b1])), Err(FrameError::Readings));
    assert_eq!(written(&day(&[0; 12], &[])), Err(FrameError::Readings));
    assert_eq!(written(&day(&[], &[])), Err(FrameError::Readings));
    assert_eq!(written(&day(&[0; 193 * 8], &[])), Err(FrameError::Readings));
    assert_eq!(written(&Day { field_and_rev: 9 << 16, ..day(&[0; 8], &[]) }), Err(FrameError::Readings));
    let bytes = written(&day(&[0; 8], &[])).expect("writes");
    assert!(Day::read(&bytes[..bytes.len() - 1], |_, _| true).is_err(), "cut off");
    assert!(Day::read(&bytes, |_, _| false).is_err(), "signed by somebody else");
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 0x41;
        // whatever comes of it, nothing breaks
        let _ = Day::read(&altered, |_, _| true).map(|day| day.readings().count());
    }
}
