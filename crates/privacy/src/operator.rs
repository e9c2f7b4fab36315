//! The operator's side: masked readings in, requests out, sums decoded. It never holds a mask key.

use std::collections::BTreeMap;

use metering::MeterId;

use crate::{
    frame::Day,
    hex::Hex,
    mask::Field,
    query::{Answer, Query, Row},
    theft,
};

/// A masked reading as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskedReading {
    /// From whom.
    pub meter: MeterId,
    /// Of what.
    pub field: Field,
    /// Key epoch.
    pub epoch: u32,
    /// Counter.
    pub counter: u64,
    /// Revision: 0, and one more for each correction.
    pub rev: u16,
    /// Reading plus mask, modulo 2^64.
    pub value: u64,
}

/// What became of a masked reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// New.
    New,
    /// The same bytes again: nothing changed.
    Again,
    /// A correction.
    Corrected,
}

/// Why a masked reading is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The same name with other bytes: a fault or a second meter with the same key.
    #[error(
        "meter {meter} sent two different readings for counter {counter}, revision {rev}; both are kept apart, ask for the meter's log"
    )]
    Differs {
        /// The meter.
        meter: MeterId,
        /// The counter.
        counter: u64,
        /// The revision.
        rev: u16,
    },
    /// A revision that does not follow.
    #[error("meter {meter} sent revision {rev} for counter {counter}; revision {expected} would follow")]
    Revision {
        /// The meter.
        meter: MeterId,
        /// The counter.
        counter: u64,
        /// What came.
        rev: u16,
        /// What would follow.
        expected: u16,
    },
}

/// A sum that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sum of slot {slot} is {sum}, beyond ±{limit}: a meter spoiled it; ask for the totals of its homes")]
pub struct OutOfRange {
    /// Which number.
    pub slot: usize,
    /// What it came to.
    pub sum: i64,
    /// The window.
    pub limit: i64,
}

/// Why an answer cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// An answer of another shape than the query.
    #[error("a custodian's answer does not fit the query")]
    Shape,
    /// The query names a reading that is not here.
    #[error("the query names a reading that has not arrived (counter {0})")]
    Missing(u64),
}

/// 64 neighbouring counters of one meter and field.
#[derive(Clone, Debug)]
struct Block {
    present: u64,
    epochs: [u32; 64],
    /// As first sent.
    values: [u64; 64],
    /// Corrections by place, revision 1 first.
    corrected: BTreeMap<u32, Vec<u64>>,
}

impl Block {
    const EMPTY: Self = Self { present: 0, epochs: [0; 64], values: [0; 64], corrected: BTreeMap::new() };

    /// The value of a revision, if it is there.
    fn value(&self, place: usize, rev: u16) -> Option<u64> {
        if self.present >> place & 1 == 0 {
            return None;
        }
        match usize::from(rev).checked_sub(1) {
            None => Some(self.values[place]),
            Some(later) => self.corrected.get(&(place as u32))?.get(later).copied(),
        }
    }

    /// The revision that would follow.
    fn next_rev(&self, place: usize) -> u16 {
        if self.present >> place & 1 == 0 {
            return 0;
        }
        let corrections = self.corrected.get(&(place as u32)).map_or(0, Vec::len);
        u16::try_from(corrections + 1).unwrap_or(u16::MAX)
    }
}

/// The masked readings of an operator.
#[derive(Clone, Debug, Default)]
pub struct MaskedStore {
    cells: BTreeMap<(MeterId, Field), BTreeMap<u64, Box<Block>>>,
}

impl MaskedStore {
    /// Takes a reading in, once.
    ///
    /// # Errors
    /// See [`Conflict`]; nothing has changed then.
    pub fn take(&mut self, reading: &MaskedReading) -> Result<Taken, Conflict> {
        let MaskedReading { meter, field, epoch, counter, rev, value } = *reading;
        let place = (counter % 64) as usize;
        let blocks = self.cells.entry((meter, field)).or_default();
        let block = blocks.entry(counter / 64).or_insert_with(|| Box::new(Block::EMPTY));
        let expected = block.next_rev(place);
        match block.value(place, rev) {
            Some(before) if before == value && block.epochs[place] == epoch => Ok(Taken::Again),
            Some(_) => Err(Conflict::Differs { meter, counter, rev }),
            None if rev != expected => Err(Conflict::Revision { meter, counter, rev, expected }),
            None if rev == 0 => {
                block.present |= 1 << place;
                (block.epochs[place], block.values[place]) = (epoch, value);
                Ok(Taken::New)
            }
            // a correction is masked under the key of its reading
            None if block.epochs[place] != epoch => Err(Conflict::Differs { meter, counter, rev }),
            None => {
                block.corrected.entry(place as u32).or_default().push(value);
                Ok(Taken::Corrected)
            }
        }
    }

    /// Takes a day's frame in; how many of its readings were new or corrections. The conflicts of others are told apart and stop none.
    pub fn take_day(&mut self, day: &Day<'_>) -> (usize, Vec<Conflict>) {
        let Some((field, rev)) = day.field() else { return (0, Vec::new()) };
        let (mut changed, mut conflicts) = (0, Vec::new());
        for (counter, value) in day.readings() {
            match self.take(&MaskedReading { meter: day.meter, field, epoch: day.epoch, counter, rev, value }) {
                Ok(Taken::New | Taken::Corrected) => changed += 1,
                Ok(Taken::Again) => {}
                Err(conflict) => conflicts.push(conflict),
            }
        }
        (changed, conflicts)
    }

    /// Readings of a meter within a range of counters, as rows of a query (one per key epoch), newest revisions.
    pub fn rows(&self, meter: MeterId, field: Field, first: u64, count: usize) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let Some(blocks) = self.cells.get(&(meter, field)) else { return rows };
        let end = first.saturating_add(count as u64);
        for (at, block) in blocks.range(first / 64..end.div_ceil(64)) {
            let counters = (at * 64).max(first)..(at * 64 + 64).min(end);
            for counter in counters {
                let place = (counter % 64) as usize;
                if block.present >> place & 1 == 0 {
                    continue;
                }
                if rows.last().is_none_or(|row| row.epoch != block.epochs[place]) {
                    let offset = (counter - first) as usize;
                    let present = vec![0; (count - offset).div_ceil(64)];
                    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
                    rows.push(Row {
                        meter,
                        epoch: block.epochs[place],
                        first: counter,
                        offset,
                        present,
                        revs: Vec::new(),
                    });
                }
                if let Some(row) = rows.last_mut() {
                    let k = (counter - row.first) as usize;
                    row.mark(k);
                    let rev = block.next_rev(place) - 1;
                    if rev > 0 {
                        row.revs.push((u32::try_from(k).unwrap_or(u32::MAX), rev));
                    }
                }
            }
        }
        rows
    }

    /// Calls for each block of which a row means any cell: counter of its first place, the places meant, the masked values.
    fn blocks(&self, row: &Row, field: Field, mut call: impl FnMut(u64, u64, &[u64; 64])) -> Result<(), DecodeError> {
        let blocks = self.cells.get(&(row.meter, field)).ok_or(DecodeError::Missing(row.first))?;
        let mut revs = row.revs.iter().map(|(k, rev)| (row.first + u64::from(*k), *rev)).peekable();
        for (at, bits) in row.words() {
            let block = blocks.get(&at).ok_or(DecodeError::Missing(at * 64))?;
            let absent = bits & !block.present;
            if absent != 0 {
                return Err(DecodeError::Missing(at * 64 + u64::from(absent.trailing_zeros())));
            }
            let last = at * 64 + u64::from(63 - bits.leading_zeros());
            if revs.peek().is_none_or(|(counter, _)| *counter > last) {
                call(at * 64, bits, &block.values);
                continue;
            }
            let mut values = block.values;
            while let Some((counter, rev)) = revs.next_if(|(counter, _)| *counter <= last) {
                let place = (counter % 64) as usize;
                values[place] = block.value(place, rev).ok_or(DecodeError::Missing(counter))?;
            }
            call(at * 64, bits, &values);
        }
        Ok(())
    }

    /// Calls with slot, counter and masked value of every cell a row means.
    fn each(&self, row: &Row, field: Field, mut call: impl FnMut(usize, u64, u64)) -> Result<(), DecodeError> {
        self.blocks(row, field, |from, bits, values| {
            let mut left = bits;
            while left != 0 {
                let place = left.trailing_zeros() as usize;
                left &= left - 1;
                let counter = from + place as u64;
                call(row.offset as usize + (counter - row.first) as usize, counter, values[place]);
            }
        })
    }

    /// Masked values summed over the rows, slot by slot.
    fn slot_sums(&self, rows: &[Row], field: Field, slots: usize) -> Result<Vec<u64>, DecodeError> {
        let mut sums = vec![0_u64; slots];
        for row in rows {
            self.blocks(row, field, |from, bits, values| {
                let (low, high) = (bits.trailing_zeros() as usize, 64 - bits.leading_zeros() as usize);
                let first = row.offset as usize + (from + low as u64 - row.first) as usize;
                let Some(sums) = sums.get_mut(first..) else { return };
                for (place, (sum, value)) in sums.iter_mut().zip(&values[low..high]).enumerate() {
                    // all ones where the cell is meant
                    *sum = sum.wrapping_add(value & 0_u64.wrapping_sub(bits >> (low + place) & 1));
                }
            })?;
        }
        Ok(sums)
    }

    /// What a query sums up, of the masked readings: the numbers asked for.
    fn masked_sums(&self, query: &Query) -> Result<Vec<u64>, DecodeError> {
        let mut sum = 0_u64;
        match query {
            Query::Spatial(q) | Query::Late(q) => return self.slot_sums(&q.rows, q.field, q.slots as usize),
            Query::Statistic(q) => {
                let slots = self.slot_sums(&q.rows, Field::Clipped, q.band as usize * q.bands as usize)?;
                let of_band = |band: &[u64]| band.iter().fold(0, |sum: u64, c| sum.wrapping_add(*c));
                return Ok(slots.chunks(q.band.max(1) as usize).map(of_band).collect());
            }
            Query::Bill(q) => {
                for row in &q.rows {
                    self.each(row, q.field, |_, counter, c| {
                        let weight = i64::from(q.weights.weight(counter)).cast_unsigned();
                        sum = sum.wrapping_add(c.wrapping_mul(weight));
                    })?;
                }
            }
            Query::Fault(q) => {
                for row in &q.rows {
                    self.each(row, q.field, |_, _, c| sum = sum.wrapping_add(c))?;
                }
            }
            Query::Unmask(q) => {
                let mut values = Vec::new();
                for row in &q.rows {
                    self.each(row, q.field, |_, _, c| values.push(c))?;
                }
                return Ok(values);
            }
            Query::Theft(_) | Query::Check(_) => return Err(DecodeError::Shape),
        }
        Ok(vec![sum])
    }

    /// What a theft case sums up, of the masked readings, by meter.
    fn masked_scores(&self, query: &Query) -> Result<BTreeMap<MeterId, u64>, DecodeError> {
        let Query::Theft(q) = query else { return Err(DecodeError::Shape) };
        let signs = theft::signs(&q.series);
        let mut scores: BTreeMap<MeterId, u64> = BTreeMap::new();
        for row in &q.rows {
            let score = scores.entry(row.meter).or_default();
            self.each(row, q.field, |slot, _, c| {
                let sign = signs.get(slot).copied().unwrap_or(0);
                *score = score.wrapping_add(c.wrapping_mul(sign.cast_unsigned()));
            })?;
        }
        Ok(scores)
    }

    /// Numbers of a query from the answers of all custodians.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(&self, query: &Query, answers: &[Answer]) -> Result<Vec<i64>, DecodeError> {
        let mut sums = self.masked_sums(query)?;
        for answer in answers {
            let Answer::Masks(masks) = answer else { return Err(DecodeError::Shape) };
            if masks.len() != sums.len() {
                return Err(DecodeError::Shape);
            }
            for (sum, mask) in sums.iter_mut().zip(masks) {
                *sum = sum.wrapping_sub(*mask);
            }
        }
        Ok(sums.into_iter().map(u64::cast_signed).collect())
    }

    /// Scores of a theft case from the answers of all custodians.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode_scores(&self, query: &Query, answers: &[Answer]) -> Result<Vec<(MeterId, i64)>, DecodeError> {
        let mut sums = self.masked_scores(query)?;
        for answer in answers {
            let Answer::Scores(masks) = answer else { return Err(DecodeError::Shape) };
            for (meter, mask) in masks {
                let sum = sums.get_mut(meter).ok_or(DecodeError::Shape)?;
                *sum = sum.wrapping_sub(*mask);
            }
        }
        Ok(sums.into_iter().map(|(meter, score)| (meter, score.cast_signed())).collect())
    }

    /// Every masked value, as it lies in the operator's files.
    pub fn values(&self) -> impl Iterator<Item = (MeterId, Field, u64, u64)> + '_ {
        let blocks =
            self.cells.iter().flat_map(|(owner, blocks)| blocks.iter().map(move |(at, block)| (owner, *at, block)));
        let places = blocks.flat_map(|(owner, at, block)| (0..64).map(move |place| (owner, at, block, place)));
        places.flat_map(|(&(meter, field), at, block, place)| {
            let values = (0..block.next_rev(place)).filter_map(move |rev| block.value(place, rev));
            values.map(move |value| (meter, field, at * 64 + place as u64, value))
        })
    }
}

/// The first number outside `±limit`.
///
/// # Errors
/// That number.
pub fn check_range(sums: &[i64], limit: i64) -> Result<(), OutOfRange> {
    match sums.iter().position(|sum| !(-limit..=limit).contains(sum)) {
        Some(slot) => Err(OutOfRange { slot, sum: sums[slot], limit }),
        None => Ok(()),
    }
}

/// Slots of a day that are drawn for a check, from a seed that is drawn after the day's roots are in.
pub fn slots_to_check(seed: &Hex<32>, count: usize, of: u32) -> Vec<u32> {
    let mut draws = crate::draws::Draws::new(&seed.0);
    let mut all: Vec<u32> = (0..of).collect();
    for k in 0..count.min(all.len()) {
        let other = k + usize::try_from(draws.below((all.len() - k) as u128)).unwrap_or(0);
        all.swap(k, other);
    }
    all.truncate(count);
    all
}
