//! Looks for readings in clear where none may be: in the bytes of a file or of a process's memory.
//!
//! A run of eight consecutive slots of a home is looked for in the forms in which software keeps numbers: little-endian integers
//! of two, four and eight bytes, little-endian floating point, zigzag differences (one byte each while they fit, else LEB128),
//! and decimal text with any separator of up to three characters that are no digits.

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

/// Finds the first runs of a home's readings; at most `most`.
pub fn find(bytes: &[u8], readings: &[i64], most: usize) -> Vec<Found> {
    let mut found = Vec::new();
    let numbers = decimal_numbers(bytes);
    for (slot, run) in readings.windows(RUN).enumerate().filter(|(_, run)| is_telling(run)) {
        for (form, pattern) in patterns(run) {
            found.extend(position(bytes, &pattern).map(|at| Found { at, slot, form }));
        }
        let text = numbers.windows(RUN).find(|w| {
            w.iter().zip(run).all(|(n, v)| n.value == v.unsigned_abs())
                && w.windows(2).all(|p| p[1].from - p[0].to <= 3)
        });
        found.extend(text.map(|w| Found { at: w[0].from, slot, form: "decimal text" }));
        if found.len() >= most {
            found.truncate(most);
            return found;
        }
    }
    found
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

/// First place of a pattern: the rarest byte decides where to look closely.
fn position(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    let anchor = pattern.iter().position(|b| !matches!(b, 0 | 0xFF))?;
    let (wanted, last) = (pattern[anchor], bytes.len().checked_sub(pattern.len())?);
    let region = &bytes[anchor..=anchor + last];
    let mut from = 0;
    while let Some(step) = region[from..].iter().position(|b| *b == wanted) {
        let at = from + step;
        if &bytes[at..at + pattern.len()] == pattern {
            return Some(at);
        }
        from = at + 1;
    }
    None
}
