//! Looks for readings in clear where none may be: in the bytes of a file or of a process's memory.
//!
//! A run of eight consecutive slots of a home is looked for in the forms in which software keeps numbers: little-endian integers
//! of two, four and eight bytes, little-endian floating point, zigzag differences (one byte each while they fit, else LEB128),
//! and decimal text with any separator of up to three characters that are no digits.

use std::collections::HashMap;

/// Slots of a run.
pub const RUN: usize = 8;

/// A run that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Offset in the bytes.
    pub at: usize,
    /// First slot of the run.
    pub slot: usize,
    /// In which form.
    pub form: &'static str,
}

/// Whether a run tells something: one of equal or tiny numbers occurs anywhere by chance.
fn is_telling(run: &[i64]) -> bool {
    let mut values = run.to_vec();
    values.sort_unstable();
    values.dedup();
    values.len() >= 5 && run.iter().filter(|v| v.abs() >= 16).count() >= 6
}

fn leb(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

/// Byte patterns of a run.
fn patterns(run: &[i64]) -> Vec<(&'static str, Vec<u8>)> {
    let mut all: Vec<(&'static str, Vec<u8>)> = vec![
        ("64-bit integers", run.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("64-bit floating point", run.iter().flat_map(|v| (*v as f64).to_le_bytes()).collect()),
        ("32-bit floating point", run.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()),
    ];
    if let Ok(narrow) = run.iter().map(|v| i32::try_from(*v)).collect::<Result<Vec<i32>, _>>() {
        all.push(("32-bit integers", narrow.iter().flat_map(|v| v.to_le_bytes()).collect()));
    }
    if let Ok(narrow) = run.iter().map(|v| u16::try_from(*v)).collect::<Result<Vec<u16>, _>>() {
        all.push(("16-bit integers", narrow.iter().flat_map(|v| v.to_le_bytes()).collect()));
    }
    let mut zigzag = Vec::new();
    for pair in run.windows(2) {
        let d = pair[1] - pair[0];
        leb(((d << 1) ^ (d >> 63)).cast_unsigned(), &mut zigzag);
    }
    all.push(("zigzag differences", zigzag));
    all
}

/// Finds runs of one home's readings; at most `most`.
pub fn find(bytes: &[u8], readings: &[i64], most: usize) -> Vec<Found> {
    find_any(bytes, &[readings], most).into_iter().map(|(_, found)| found).collect()
}

/// Finds runs of any of these homes' readings with the home's place, in the order of the bytes, text last; at most `most`. One pass over
/// the bytes, however many homes.
pub fn find_any(bytes: &[u8], homes: &[&[i64]], most: usize) -> Vec<(usize, Found)> {
    let mut patterns_by_start: HashMap<[u8; START], Vec<Wanted>> = HashMap::new();
    let mut texts: HashMap<(u64, u64), Vec<(usize, usize)>> = HashMap::new();
    // most places are told by their first two bytes
    let mut may_start = vec![false; 1 << 16];
    for (home, readings) in homes.iter().enumerate() {
        for (slot, run) in readings.windows(RUN).enumerate().filter(|(_, run)| is_telling(run)) {
            for (form, pattern) in patterns(run) {
                let Some(start) = pattern.first_chunk::<START>() else { continue };
                may_start[usize::from(u16::from_le_bytes([start[0], start[1]]))] = true;
                patterns_by_start.entry(*start).or_default().push(Wanted { home, slot, form, pattern });
            }
            texts.entry((run[0].unsigned_abs(), run[1].unsigned_abs())).or_default().push((home, slot));
        }
    }
    let mut found = Vec::new();
    for (at, start) in bytes.windows(START).enumerate() {
        if !may_start[usize::from(u16::from_le_bytes([start[0], start[1]]))] {
            continue;
        }
        let wanted = start.first_chunk::<START>().and_then(|start| patterns_by_start.get(start));
        for w in wanted.into_iter().flatten().filter(|w| bytes[at..].starts_with(&w.pattern)) {
            found.push((w.home, Found { at, slot: w.slot, form: w.form }));
            if found.len() == most {
                return found;
            }
        }
    }
    for w in decimal_numbers(bytes).windows(RUN).filter(|w| w.windows(2).all(|p| p[1].from - p[0].to <= 3)) {
        for (home, slot) in texts.get(&(w[0].value, w[1].value)).into_iter().flatten() {
            let run = &homes[*home][*slot..*slot + RUN];
            if w.iter().zip(run).all(|(n, v)| n.value == v.unsigned_abs()) {
                found.push((*home, Found { at: w[0].from, slot: *slot, form: "decimal text" }));
            }
            if found.len() == most {
                return found;
            }
        }
    }
    found
}

/// Bytes by which patterns are looked up; none is shorter.
const START: usize = 6;

struct Wanted {
    home: usize,
    slot: usize,
    form: &'static str,
    pattern: Vec<u8>,
}

struct Number {
    from: usize,
    to: usize,
    value: u64,
}

fn decimal_numbers(bytes: &[u8]) -> Vec<Number> {
    let mut numbers = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let from = at;
        let mut value = 0_u64;
        while at < bytes.len() && bytes[at].is_ascii_digit() {
            value = value.saturating_mul(10).saturating_add(u64::from(bytes[at] - b'0'));
            at += 1;
        }
        numbers.push(Number { from, to: at, value });
    }
    numbers
}
