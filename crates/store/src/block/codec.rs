//! A day in bytes. Version 1, all numbers by [`super::bits`]:
//!
//! ```text
//! byte 1 | intervals (valid version of each end) | count of other versions, for each its rank | intervals (others) | CRC-32C
//! intervals: count | ends | column count | columns
//! ends:      0 step first            every slot from `first`, seconds in the day
//!            1 step first span bits  a bit for each of `span` slots
//!            2 column                anything else
//! column:    number | tag | bit 0: a bit for each interval that has it | bit 2: first, step | values
//! ```
//! Tag bit 1: all values are the same and only one is there. Tag bit 2: the values are `first + step × value`, because the
//! meter measures in steps (0.1 V, 10 mA) and not in the unit of the channel.
//! A column that is zero everywhere (flags, quality, lateness) is left out. Columns with unknown numbers are kept as they are.

use metering::Quality;

use super::{
    bits::{BitReader, BitWriter, BitsError, get_column, put_column, unzigzag, zigzag},
    crc::crc32c,
    day::{Day, Interval, column, winner},
};

const VERSION: u8 = 1;
const DAY_S: i64 = 86_400;
/// Most intervals in a block: one a second, twice over.
const INTERVALS_MAX: usize = 2 * 86_400;
/// Most columns in a block.
const COLUMNS_MAX: usize = 600;
/// Most values in a block: bounds the memory that a few damaged bytes can ask for.
const CELLS_MAX: usize = 4_000_000;

/// Why bytes are not a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlockError {
    #[error("a block is shorter than its frame")]
    Short,
    #[error("a block's checksum does not fit")]
    Checksum,
    #[error("a block has version {0}, this program knows 1")]
    Version(u8),
    #[error("a block's contents make no sense")]
    Contents,
}

impl From<BitsError> for BlockError {
    fn from(_: BitsError) -> Self {
        Self::Contents
    }
}

impl Day {
    /// The packed form. `day` is the day that all ends belong to.
    pub(crate) fn encode(&self, day: i64) -> Vec<u8> {
        let mut winners = Vec::with_capacity(self.all().len());
        let mut others = Vec::new();
        for versions in self.by_end() {
            let valid = winner(versions);
            winners.push(&versions[valid]);
            others.extend(versions.iter().enumerate().filter(|(rank, _)| *rank != valid));
        }
        let mut out = BitWriter::default();
        out.put(u64::from(VERSION), 8);
        put_intervals(&mut out, &winners, day);
        out.put_varint(others.len() as u64);
        if !others.is_empty() {
            others.iter().for_each(|(rank, _)| out.put_varint(*rank as u64));
            let intervals: Vec<&Interval> = others.iter().map(|(_, interval)| *interval).collect();
            put_intervals(&mut out, &intervals, day);
        }
        let mut bytes = out.finish();
        bytes.extend(crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Reads the packed form of a day.
    ///
    /// # Errors
    /// When the bytes are damaged or of a newer version. Never panics.
    pub(crate) fn decode(bytes: &[u8], day: i64) -> Result<Self, BlockError> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(BlockError::Short)?;
        if u32::from_le_bytes(*crc) != crc32c(body) {
            return Err(BlockError::Checksum);
        }
        Self::decode_body(body, day)
    }

    fn decode_body(body: &[u8], day: i64) -> Result<Self, BlockError> {
        let (&version, body) = body.split_first().ok_or(BlockError::Short)?;
        if version != VERSION {
            return Err(BlockError::Version(version));
        }
        let mut from = BitReader::new(body);
        let winners = get_intervals(&mut from, day)?;
        if winners.windows(2).any(|pair| pair[0].end >= pair[1].end) {
            return Err(BlockError::Contents);
        }
        let count = from.get_count(INTERVALS_MAX)?;
        let mut ranks = Vec::new();
        for _ in 0..count {
            ranks.push(from.get_count(INTERVALS_MAX)?);
        }
        let others = if count == 0 { Vec::new() } else { get_intervals(&mut from, day)? };
        if others.len() != count || !from.is_spent() {
            return Err(BlockError::Contents);
        }
        if others.is_empty() {
            return Ok(Self::from_ordered(winners));
        }
        with_others(winners, ranks.into_iter().zip(others))
    }
}

/// Puts the other versions back where they were.
fn with_others(winners: Vec<Interval>, others: impl Iterator<Item = (usize, Interval)>) -> Result<Day, BlockError> {
    let mut others = others.peekable();
    let mut intervals = Vec::new();
    for valid in winners {
        let start = intervals.len();
        let end = valid.end;
        let mut valid = Some(valid);
        while let Some((rank, other)) = others.next_if(|(_, other)| other.end == end) {
            if intervals.len() - start < rank
                && let Some(valid) = valid.take()
            {
                intervals.push(valid);
            }
            intervals.push(other);
        }
        intervals.extend(valid);
    }
    if others.next().is_some() {
        return Err(BlockError::Contents);
    }
    Ok(Day::from_ordered(intervals))
}

fn put_intervals(out: &mut BitWriter, intervals: &[&Interval], day: i64) {
    out.put_varint(intervals.len() as u64);
    if intervals.is_empty() {
        return;
    }
    put_ends(out, intervals, day);
    let columns = columns_of(intervals);
    out.put_varint(columns.len() as u64);
    for (number, cells) in columns {
        out.put_varint(u64::from(number));
        let values: Vec<i64> = cells.iter().copied().flatten().collect();
        let partial = values.len() < cells.len();
        let constant = values.windows(2).all(|pair| pair[0] == pair[1]);
        let step = if constant { 1 } else { common_step(&values) };
        out.put(u64::from(partial) | u64::from(constant) << 1 | u64::from(step > 1) << 2, 8);
        if partial {
            cells.iter().for_each(|cell| out.put(u64::from(cell.is_some()), 1));
        }
        if constant {
            out.put_varint(zigzag(values.first().copied().unwrap_or(0)));
        } else if step > 1 {
            out.put_varint(zigzag(values[0]));
            out.put_varint(step.cast_unsigned());
            let steps: Vec<i64> = values.iter().map(|v| steps_between(values[0], *v, step)).collect();
            put_column(out, &steps);
        } else {
            put_column(out, &values);
        }
    }
}

/// The greatest number that divides every difference to the first value; 1 when the values do not allow for it.
fn common_step(values: &[i64]) -> i64 {
    let first = values.first().copied().unwrap_or(0);
    let mut step = 0_i64;
    for value in values {
        let Some(mut rest) = value.checked_sub(first).and_then(i64::checked_abs) else { return 1 };
        while rest != 0 {
            (step, rest) = (rest, step % rest);
        }
        if step == 1 {
            break;
        }
    }
    step.max(1)
}

fn steps_between(first: i64, value: i64, step: i64) -> i64 {
    value.wrapping_sub(first) / step
}

/// Every column that is not zero throughout, ascending by number.
fn columns_of(intervals: &[&Interval]) -> Vec<(u16, Vec<Option<i64>>)> {
    let mut columns = Vec::new();
    let mut add = |number: u16, is_default_zero: bool, cell: &dyn Fn(&Interval) -> Option<i64>| {
        let cells: Vec<Option<i64>> = intervals.iter().map(|i| cell(i)).collect();
        let nothing = if is_default_zero { Some(0) } else { None };
        if cells.iter().any(|cell| *cell != nothing) {
            columns.push((number, cells));
        }
    };
    add(column::IMPORT, true, &|i| Some(i.import.cast_signed()));
    add(column::EXPORT, true, &|i| Some(i.export.cast_signed()));
    add(column::VOLTAGE, false, &|i| i.voltage.map(i64::from));
    add(column::CURRENT, false, &|i| i.current.map(i64::from));
    add(column::FLAGS, true, &|i| Some(i64::from(i.flags)));
    add(column::QUALITY, true, &|i| Some(i64::from(i.quality.code())));
    add(column::LATE, true, &|i| Some(i64::from(i.late_s)));
    add(column::MINUTES, true, &|i| Some(i64::from(i.minutes)));
    let mut further: Vec<u16> =
        intervals.iter().filter_map(|i| i.more.as_deref()).flatten().map(|(number, _)| *number).collect();
    further.sort_unstable();
    further.dedup();
    for number in further {
        add(number, false, &|i| {
            let more = i.more.as_deref().unwrap_or_default();
            more.binary_search_by_key(&number, |(n, _)| *n).ok().map(|at| more[at].1)
        });
    }
    columns
}

fn put_ends(out: &mut BitWriter, intervals: &[&Interval], day: i64) {
    let offsets: Vec<i64> = intervals.iter().map(|i| i.end - day * DAY_S).collect();
    let step = i64::from(intervals[0].minutes) * 60;
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let ascending = offsets.windows(2).all(|pair| pair[0] < pair[1]);
    let on_grid = step > 0 && ascending && offsets.iter().all(|o| (o - first) % step == 0);
    if !on_grid {
        out.put(2, 8);
        return put_column(out, &offsets);
    }
    let span = (last - first) / step + 1;
    let full = usize::try_from(span) == Ok(offsets.len());
    out.put(u64::from(!full), 8);
    out.put_varint(step.cast_unsigned());
    out.put_varint(first.cast_unsigned());
    if !full {
        out.put_varint(span.cast_unsigned());
        let mut next = offsets.iter().peekable();
        for slot in 0..span {
            let present = next.next_if(|o| **o == first + slot * step).is_some();
            out.put(u64::from(present), 1);
        }
    }
}

fn get_ends(from: &mut BitReader<'_>, count: usize) -> Result<Vec<i64>, BlockError> {
    let mode = from.get(8)?;
    let offsets = match mode {
        0 | 1 => {
            let step = i64::try_from(from.get_count(86_400)?).map_err(|_| BlockError::Contents)?;
            let first = i64::try_from(from.get_count(86_400)?).map_err(|_| BlockError::Contents)?;
            let slots = if mode == 0 { count } else { from.get_count(INTERVALS_MAX)? };
            let mut offsets = Vec::with_capacity(count);
            let mut offset = first;
            for _ in 0..slots {
                if mode == 0 || from.get(1)? == 1 {
                    offsets.push(offset);
                }
                offset += step;
            }
            offsets
        }
        2 => get_column(from, count)?,
        _ => return Err(BlockError::Contents),
    };
    let in_day = offsets.iter().all(|o| (1..=DAY_S).contains(o));
    if offsets.len() == count && in_day { Ok(offsets) } else { Err(BlockError::Contents) }
}

fn get_intervals(from: &mut BitReader<'_>, day: i64) -> Result<Vec<Interval>, BlockError> {
    let count = from.get_count(INTERVALS_MAX)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let start = day.checked_mul(DAY_S).ok_or(BlockError::Contents)?;
    let mut intervals: Vec<Interval> = get_ends(from, count)?
        .into_iter()
        .map(|offset| Interval { end: start.saturating_add(offset), ..Interval::default() })
        .collect();
    let columns = from.get_count(COLUMNS_MAX)?;
    if columns.saturating_mul(count) > CELLS_MAX {
        return Err(BlockError::Contents);
    }
    let mut further: Vec<Vec<(u16, i64)>> = Vec::new();
    for _ in 0..columns {
        let number = u16::try_from(from.get_varint()?).map_err(|_| BlockError::Contents)?;
        let tag = from.get(8)?;
        let mut present = vec![true; count];
        if tag & 1 == 1 {
            for cell in &mut present {
                *cell = from.get(1)? == 1;
            }
        }
        let held = present.iter().filter(|p| **p).count();
        let values = get_values(from, tag, held)?;
        let rows = present.iter().enumerate().filter(|(_, p)| **p).map(|(row, _)| row);
        for (row, value) in rows.zip(values) {
            if !set(&mut intervals[row], number, value)? {
                further.resize(count, Vec::new());
                further[row].push((number, value));
            }
        }
    }
    for (interval, mut more) in intervals.iter_mut().zip(further) {
        more.sort_by_key(|(number, _)| *number);
        interval.more = (!more.is_empty()).then(|| more.into_boxed_slice());
    }
    Ok(intervals)
}

fn get_values(from: &mut BitReader<'_>, tag: u64, held: usize) -> Result<Vec<i64>, BlockError> {
    if tag & 2 == 2 {
        return Ok(vec![unzigzag(from.get_varint()?); held]);
    }
    if tag & 4 == 0 {
        return Ok(get_column(from, held)?);
    }
    let (first, step) = (unzigzag(from.get_varint()?), from.get_varint()?.cast_signed());
    Ok(get_column(from, held)?.into_iter().map(|steps| first.wrapping_add(steps.wrapping_mul(step))).collect())
}

/// Sets a known column; `false` when its number is not one of them.
fn set(interval: &mut Interval, number: u16, value: i64) -> Result<bool, BlockError> {
    fn fit<T: TryFrom<i64>>(value: i64) -> Result<T, BlockError> {
        T::try_from(value).map_err(|_| BlockError::Contents)
    }
    match number {
        column::IMPORT => interval.import = value.cast_unsigned(),
        column::EXPORT => interval.export = value.cast_unsigned(),
        column::VOLTAGE => interval.voltage = Some(fit(value)?),
        column::CURRENT => interval.current = Some(fit(value)?),
        column::FLAGS => interval.flags = fit(value)?,
        column::QUALITY => interval.quality = Quality::from_code(fit(value)?).ok_or(BlockError::Contents)?,
        column::LATE => interval.late_s = fit(value)?,
        column::MINUTES => interval.minutes = fit(value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 20_400;

    fn interval() -> impl Strategy<Value = Interval> {
        let more = prop::collection::btree_map(prop_oneof![8_u16..11, 11_u16..300], any::<i64>(), 0..3);
        let small = (0_u32..3, 0_u16..3, 0_u8..5, prop_oneof![Just(0_u32), 3_601..100_000_u32]);
        let values = (any::<u64>(), 0_u64..10_000, any::<Option<u32>>(), any::<Option<u32>>());
        (prop_oneof![(1_i64..97).prop_map(|slot| slot * 900), 1_i64..=86_400], values, small, more).prop_map(
            |(offset, (import, export, voltage, current), (flags, minutes, quality, late_s), more)| Interval {
                end: DAY * DAY_S + offset,
                import,
                export,
                voltage,
                current,
                late_s,
                flags: u16::try_from(flags).unwrap_or(0),
                minutes: minutes * 15,
                quality: Quality::from_code(quality).unwrap_or_default(),
                more: (!more.is_empty()).then(|| more.into_iter().collect::<Vec<_>>().into_boxed_slice()),
            },
        )
    }

    fn day(intervals: Vec<Interval>) -> Day {
        let mut day = Day::default();
        intervals.into_iter().for_each(|interval| {
            day.merge(interval);
        });
        day
    }

    /// A home's day: registers in Wh, voltage in steps of 0.1 V and current in steps of 10 mA with noise.
    fn home() -> Day {
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut import = 5_123_456;
        day((1..=96)
            .map(|slot| {
                let watts = 120 + random(200) + if (72..88).contains(&slot) { random(1_500) } else { 0 };
                import += watts / 4;
                Interval {
                    end: DAY * DAY_S + slot * 900,
                    import,
                    voltage: Some(230_000 + 100 * u32::try_from(random(40)).unwrap_or(0)),
                    current: Some(u32::try_from(watts * 100 / 230 * 10).unwrap_or(0)),
                    minutes: 15,
                    ..Interval::default()
                }
            })
            .collect())
    }

    #[test]
    fn a_homes_day_takes_less_than_a_byte_a_value() {
        let bytes = home().encode(DAY);
        assert_eq!(Day::decode(&bytes, DAY), Ok(home()));
        assert!(bytes.len() < 96 * 4, "{} bytes for 384 values", bytes.len());
    }

    #[test]
    fn the_format_stays_readable() {
        let bytes: String = {
            let three = home().all().iter().take(3).cloned().collect();
            day(three).encode(DAY).iter().map(|b| format!("{b:02x}")).collect()
        };
        expect_test::expect![
            "01030084078407040004e2b6f10402004242091060ea7220070010480f10e036280010eacc81800700a6c207d7"
        ]
        .assert_eq(&bytes);
    }

    proptest! {
        #[test]
        fn every_day_survives_with_all_its_versions(intervals in prop::collection::vec(interval(), 0..150)) {
            let day = day(intervals);
            prop_assert_eq!(Day::decode(&day.encode(DAY), DAY), Ok(day));
        }

        #[test]
        fn merging_again_changes_nothing(
            first in prop::collection::vec(interval(), 0..60),
            second in prop::collection::vec(interval(), 0..60),
        ) {
            let (mut merged, newer) = (day(first), day(second));
            merged.merge_all(&newer);
            let once = merged.clone();
            merged.merge_all(&newer);
            merged.merge_all(&once);
            prop_assert_eq!(merged, once);
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Day::decode(&bytes, DAY);
            bytes.insert(0, VERSION);
            let _ = Day::decode_body(&bytes, DAY);
        }

        #[test]
        fn damage_is_found_or_decodes_without_panic(at in 0_usize..300, bit in 0_u8..8) {
            let mut bytes = home().encode(DAY);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Day::decode(&bytes, DAY), Err(BlockError::Checksum));
            let body = &bytes[..bytes.len() - 4];
            let _ = Day::decode_body(body, DAY);
        }
    }
}
