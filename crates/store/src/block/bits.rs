//! Columns of whole numbers as bits: groups of deltas, each group in the cheapest of five ways. Lossless for every `i64`
//! (arithmetic wraps).
//!
//! A group begins with one byte that names its way and width:
//!
//! | byte | way |
//! |---|---|
//! | 0 to 64 | zigzag of the deltas, that many bits each |
//! | 65 to 129 | deltas less their least one (which stands first), byte − 65 bits each |
//! | 130 to 194 | values less their least one (which stands first), byte − 130 bits each |
//! | 195 to 235 | zigzag of the deltas in Rice code with parameter byte − 195 |
//! | 236 to 255 | deltas less their least one (which stands first) in Rice code with parameter byte − 236 |
//!
//! Rice code (R. F. Rice, 1979): quotient in unary, remainder in `k` bits. A quotient of [`ESCAPE`] is an escape: the plain
//! 64 bits follow, so that one wild value cannot blow up a group.

/// Deltas in a group.
const GROUP: usize = 32;
/// Unary quotient that announces a plain value.
const ESCAPE: u64 = 20;

/// Bits do not suffice or do not make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BitsError;

/// Writes bits, least significant first.
#[derive(Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    held: u128,
    count: u32,
}

impl BitWriter {
    /// Appends the low `width` bits of `value`; 0 to 64 of them.
    pub(crate) fn put(&mut self, value: u64, width: u32) {
        if width == 0 {
            return;
        }
        let kept = value & (u64::MAX >> (64 - width));
        self.held |= u128::from(kept) << self.count;
        self.count += width;
        while self.count >= 8 {
            self.bytes.push(self.held.to_le_bytes()[0]);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// Appends a variable-length number: 7 bits and a flag that more follow.
    pub(crate) fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value & 0x7F | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    /// The bytes, the last one filled with zeros.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.held.to_le_bytes()[0]);
        }
        self.bytes
    }
}

/// Reads what [`BitWriter`] wrote.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    next: usize,
    held: u128,
    count: u32,
}

impl<'a> BitReader<'a> {
    /// Reads from the first bit of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0, held: 0, count: 0 }
    }

    /// The next `width` bits; 0 to 64 of them.
    pub(crate) fn get(&mut self, width: u32) -> Result<u64, BitsError> {
        if width == 0 {
            return Ok(0);
        }
        while self.count < width {
            let byte = *self.bytes.get(self.next).ok_or(BitsError)?;
            self.held |= u128::from(byte) << self.count;
            self.count += 8;
            self.next += 1;
        }
        let low = u64::try_from(self.held & u128::from(u64::MAX)).map_err(|_| BitsError)?;
        self.held >>= width;
        self.count -= width;
        Ok(low & (u64::MAX >> (64 - width)))
    }

    /// The next variable-length number.
    pub(crate) fn get_varint(&mut self) -> Result<u64, BitsError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.get(8)?;
            let part = byte & 0x7F;
            if shift == 63 && part > 1 {
                return Err(BitsError);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BitsError)
    }

    /// The next variable-length number, as a count of at most `most`.
    pub(crate) fn get_count(&mut self, most: usize) -> Result<usize, BitsError> {
        usize::try_from(self.get_varint()?).ok().filter(|count| *count <= most).ok_or(BitsError)
    }

    /// The next whole bytes. Only where everything read before filled whole bytes.
    pub(crate) fn get_bytes(&mut self, length: usize) -> Result<&'a [u8], BitsError> {
        let start = self.next.checked_sub(usize::try_from(self.count / 8).map_err(|_| BitsError)?).ok_or(BitsError)?;
        let bytes = self.bytes.get(start..start.checked_add(length).ok_or(BitsError)?).ok_or(BitsError)?;
        (self.next, self.held, self.count) = (start + length, 0, 0);
        Ok(bytes)
    }

    /// Whether only filling bits remain.
    pub(crate) fn is_spent(&self) -> bool {
        self.next == self.bytes.len() && self.count < 8 && self.held == 0
    }
}

/// Small numbers of either sign as small numbers without one.
pub(crate) fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn width_of(value: u64) -> u32 {
    64 - value.leading_zeros()
}

fn varint_bits(value: u64) -> u64 {
    u64::from(width_of(value).max(1).div_ceil(7)) * 8
}

fn rice_bits(value: u64, k: u32) -> u64 {
    let quotient = value >> k;
    if quotient >= ESCAPE { ESCAPE + 64 } else { quotient + 1 + u64::from(k) }
}

fn put_rice(out: &mut BitWriter, value: u64, k: u32) {
    let quotient = value >> k;
    if quotient >= ESCAPE {
        out.put(u64::MAX, 20);
        out.put(value, 64);
    } else {
        // `quotient` ones and a zero; quotient is below 20.
        let ones = (1_u64 << quotient) - 1;
        out.put(ones, u32::try_from(quotient + 1).unwrap_or(1));
        out.put(value, k);
    }
}

fn get_rice(from: &mut BitReader<'_>, k: u32) -> Result<u64, BitsError> {
    let mut quotient = 0;
    while quotient < ESCAPE && from.get(1)? == 1 {
        quotient += 1;
    }
    if quotient == ESCAPE {
        return from.get(64);
    }
    Ok(quotient << k | from.get(k)?)
}

/// How a group is written.
#[derive(Clone, Copy)]
enum Way {
    Zigzag(u32),
    Delta(u32),
    Value(u32),
    RiceZigzag(u32),
    RiceDelta(u32),
}

/// Largest Rice parameters that have a byte.
const RICE_ZIGZAG_MAX: u32 = 40;
const RICE_DELTA_MAX: u32 = 19;

impl Way {
    fn byte(self) -> u64 {
        u64::from(match self {
            Self::Zigzag(width) => width,
            Self::Delta(width) => 65 + width,
            Self::Value(width) => 130 + width,
            Self::RiceZigzag(k) => 195 + k,
            Self::RiceDelta(k) => 236 + k,
        })
    }

    fn of_byte(byte: u64) -> Result<Self, BitsError> {
        let byte = u32::try_from(byte).map_err(|_| BitsError)?;
        Ok(match byte {
            0..=64 => Self::Zigzag(byte),
            65..=129 => Self::Delta(byte - 65),
            130..=194 => Self::Value(byte - 130),
            195..=235 => Self::RiceZigzag(byte - 195),
            _ => Self::RiceDelta(byte - 236),
        })
    }
}

fn best_rice(values: &[u64], k_max: u32) -> (u32, u64) {
    let mean = values.iter().fold(0_u128, |sum, v| sum + u128::from(*v)) / (values.len().max(1) as u128);
    let near = width_of(u64::try_from(mean).unwrap_or(u64::MAX));
    let cost = |k: u32| values.iter().map(|v| rice_bits(*v, k)).sum::<u64>();
    (near.saturating_sub(2)..=near)
        .filter(|k| *k <= k_max)
        .map(|k| (k, cost(k)))
        .min_by_key(|(_, bits)| *bits)
        .unwrap_or((k_max, cost(k_max)))
}

/// A group's numbers in the forms that the ways need.
struct Forms {
    zigzags: Vec<u64>,
    least_delta: i64,
    above_delta: Vec<u64>,
    least_value: i64,
    above_value: Vec<u64>,
}

impl Forms {
    fn new(before: i64, group: &[i64]) -> Self {
        let previous = std::iter::once(&before).chain(group);
        let deltas: Vec<i64> = group.iter().zip(previous).map(|(v, p)| v.wrapping_sub(*p)).collect();
        let above = |values: &[i64], least: i64| {
            values.iter().map(|v| v.wrapping_sub(least).cast_unsigned()).collect::<Vec<u64>>()
        };
        let least_delta = deltas.iter().copied().min().unwrap_or(0);
        let least_value = group.iter().copied().min().unwrap_or(0);
        Self {
            zigzags: deltas.iter().map(|d| zigzag(*d)).collect(),
            least_delta,
            above_delta: above(&deltas, least_delta),
            least_value,
            above_value: above(group, least_value),
        }
    }

    fn cheapest(&self) -> Way {
        let width = |values: &[u64]| width_of(values.iter().copied().max().unwrap_or(0));
        let plain = |width: u32| u64::from(width) * self.zigzags.len() as u64;
        let (zigzag_width, delta_width, value_width) =
            (width(&self.zigzags), width(&self.above_delta), width(&self.above_value));
        let delta_base = varint_bits(zigzag(self.least_delta));
        let (zigzag_k, zigzag_rice) = best_rice(&self.zigzags, RICE_ZIGZAG_MAX);
        let (delta_k, delta_rice) = best_rice(&self.above_delta, RICE_DELTA_MAX);
        let ways = [
            (plain(zigzag_width), Way::Zigzag(zigzag_width)),
            (delta_base + plain(delta_width), Way::Delta(delta_width)),
            (varint_bits(zigzag(self.least_value)) + plain(value_width), Way::Value(value_width)),
            (zigzag_rice, Way::RiceZigzag(zigzag_k)),
            (delta_base + delta_rice, Way::RiceDelta(delta_k)),
        ];
        ways.into_iter().min_by_key(|(bits, _)| *bits).map_or(Way::Zigzag(64), |(_, way)| way)
    }
}

/// Appends a column.
pub(crate) fn put_column(out: &mut BitWriter, values: &[i64]) {
    let Some((&first, rest)) = values.split_first() else { return };
    out.put_varint(zigzag(first));
    let mut before = first;
    for group in rest.chunks(GROUP) {
        let forms = Forms::new(before, group);
        let way = forms.cheapest();
        out.put(way.byte(), 8);
        match way {
            Way::Zigzag(width) => forms.zigzags.iter().for_each(|v| out.put(*v, width)),
            Way::Delta(width) => {
                out.put_varint(zigzag(forms.least_delta));
                forms.above_delta.iter().for_each(|v| out.put(*v, width));
            }
            Way::Value(width) => {
                out.put_varint(zigzag(forms.least_value));
                forms.above_value.iter().for_each(|v| out.put(*v, width));
            }
            Way::RiceZigzag(k) => forms.zigzags.iter().for_each(|v| put_rice(out, *v, k)),
            Way::RiceDelta(k) => {
                out.put_varint(zigzag(forms.least_delta));
                forms.above_delta.iter().for_each(|v| put_rice(out, *v, k));
            }
        }
        before = group[group.len() - 1];
    }
}

/// Reads a column of `count` values.
pub(crate) fn get_column(from: &mut BitReader<'_>, count: usize) -> Result<Vec<i64>, BitsError> {
    let mut values = Vec::with_capacity(count);
    if count == 0 {
        return Ok(values);
    }
    let mut before = unzigzag(from.get_varint()?);
    values.push(before);
    while values.len() < count {
        let way = Way::of_byte(from.get(8)?)?;
        let base = match way {
            Way::Delta(_) | Way::Value(_) | Way::RiceDelta(_) => unzigzag(from.get_varint()?),
            Way::Zigzag(_) | Way::RiceZigzag(_) => 0,
        };
        for _ in 0..GROUP.min(count - values.len()) {
            before = match way {
                Way::Zigzag(width) => before.wrapping_add(unzigzag(from.get(width)?)),
                Way::Delta(width) => before.wrapping_add(base.wrapping_add(from.get(width)?.cast_signed())),
                Way::Value(width) => base.wrapping_add(from.get(width)?.cast_signed()),
                Way::RiceZigzag(k) => before.wrapping_add(unzigzag(get_rice(from, k)?)),
                Way::RiceDelta(k) => before.wrapping_add(base.wrapping_add(get_rice(from, k)?.cast_signed())),
            };
            values.push(before);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[i64]) -> (Vec<i64>, usize) {
        let mut writer = BitWriter::default();
        put_column(&mut writer, values);
        let bytes = writer.finish();
        let back = get_column(&mut BitReader::new(&bytes), values.len()).expect("what was written reads");
        (back, bytes.len())
    }

    #[test]
    fn extremes_survive_and_smooth_columns_are_small() {
        let extremes = [0, i64::MAX, i64::MIN, -1, 1, i64::MIN, i64::MAX, 0];
        assert_eq!(round_trip(&extremes).0, extremes);
        let register: Vec<i64> = (0..96).map(|i| 1_000_000 + 125 * i + i % 7).collect();
        let (back, bytes) = round_trip(&register);
        assert_eq!(back, register);
        assert!(bytes < 60, "{bytes} bytes");
    }

    proptest! {
        #[test]
        fn every_column_survives(
            scale in 0_u32..63,
            seeds in prop::collection::vec(any::<i64>(), 0..200),
        ) {
            let values: Vec<i64> = seeds.iter().map(|s| s >> scale).collect();
            prop_assert_eq!(round_trip(&values).0, values);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), count in 0_usize..300) {
            let _ = get_column(&mut BitReader::new(&bytes), count);
        }
    }
}
