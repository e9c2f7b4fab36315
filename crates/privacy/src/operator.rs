//! The operator's side: masked readings in, requests out, sums decoded. It never holds a mask key.

use std::collections::BTreeMap;

use metering::MeterId;

use crate::{
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

#[derive(Clone, Debug)]
struct Stored {
    epoch: u32,
    /// By revision.
    values: Vec<u64>,
}

/// The masked readings of an operator.
#[derive(Clone, Debug, Default)]
pub struct MaskedStore {
    cells: BTreeMap<(MeterId, Field), BTreeMap<u64, Stored>>,
}

impl MaskedStore {
    /// Takes a reading in, once.
    ///
    /// # Errors
    /// See [`Conflict`]; nothing has changed then.
    pub fn take(&mut self, reading: &MaskedReading) -> Result<Taken, Conflict> {
        let MaskedReading { meter, field, epoch, counter, rev, value } = *reading;
        let cells = self.cells.entry((meter, field)).or_default();
        let Some(stored) = cells.get_mut(&counter) else {
            if rev != 0 {
                return Err(Conflict::Revision { meter, counter, rev, expected: 0 });
            }
            cells.insert(counter, Stored { epoch, values: vec![value] });
            return Ok(Taken::New);
        };
        match stored.values.get(usize::from(rev)) {
            Some(before) if *before == value && stored.epoch == epoch => Ok(Taken::Again),
            Some(_) => Err(Conflict::Differs { meter, counter, rev }),
            None if usize::from(rev) == stored.values.len() && stored.epoch == epoch => {
                stored.values.push(value);
                Ok(Taken::Corrected)
            }
            None => {
                let expected = u16::try_from(stored.values.len()).unwrap_or(u16::MAX);
                Err(Conflict::Revision { meter, counter, rev, expected })
            }
        }
    }

    /// Readings of a meter within a range of counters, as rows of a query (one per key epoch), newest revisions.
    pub fn rows(&self, meter: MeterId, field: Field, first: u64, count: usize) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let Some(cells) = self.cells.get(&(meter, field)) else { return rows };
        for (counter, stored) in cells.range(first..first.saturating_add(count as u64)) {
            if rows.last().is_none_or(|row| row.epoch != stored.epoch) {
                let offset = (counter - first) as usize;
                let words = (count - offset).div_ceil(64);
                rows.push(Row {
                    meter,
                    epoch: stored.epoch,
                    first: *counter,
                    offset: u32::try_from(offset).unwrap_or(u32::MAX),
                    present: vec![0; words],
                    revs: Vec::new(),
                });
            }
            if let Some(row) = rows.last_mut() {
                let k = (counter - row.first) as usize;
                row.mark(k);
                if stored.values.len() > 1 {
                    let rev = u16::try_from(stored.values.len() - 1).unwrap_or(u16::MAX);
                    row.revs.push((u32::try_from(k).unwrap_or(u32::MAX), rev));
                }
            }
        }
        rows
    }

    /// Calls with slot, counter and masked value of every cell a row means.
    fn each(&self, row: &Row, field: Field, mut call: impl FnMut(usize, u64, u64)) -> Result<(), DecodeError> {
        let cells = self.cells.get(&(row.meter, field)).ok_or(DecodeError::Missing(row.first))?;
        let mut revs = row.revs.iter().peekable();
        let mut stored = cells.range(row.first..).peekable();
        for k in row.cells() {
            let counter = row.first + k as u64;
            let rev = revs.next_if(|(at, _)| *at as usize == k).map_or(0, |(_, rev)| usize::from(*rev));
            while stored.next_if(|(at, _)| **at < counter).is_some() {}
            let cell = stored.next_if(|(at, _)| **at == counter).map(|(_, cell)| cell);
            let value = cell.and_then(|cell| cell.values.get(rev)).ok_or(DecodeError::Missing(counter))?;
            call(row.offset as usize + k, counter, *value);
        }
        Ok(())
    }

    /// What a query sums up, of the masked readings: the numbers asked for, by meter where scores are asked for.
    fn masked_sums(&self, query: &Query) -> Result<BTreeMap<Option<MeterId>, Vec<u64>>, DecodeError> {
        let signs = if let Query::Theft(q) = query { theft::signs(&q.series) } else { Vec::new() };
        let (field, numbers) = match query {
            Query::Spatial(q) | Query::Late(q) => (q.field, q.slots as usize),
            Query::Bill(q) => (q.field, 1),
            Query::Fault(q) => (q.field, 1),
            Query::Theft(q) => (q.field, 1),
            Query::Unmask(q) => (q.field, q.rows.iter().map(Row::count).sum()),
            Query::Statistic(q) => (Field::Clipped, q.bands as usize),
            Query::Check(_) => return Err(DecodeError::Shape),
        };
        let mut all: BTreeMap<Option<MeterId>, Vec<u64>> = BTreeMap::new();
        let mut position = 0;
        for row in query.rows() {
            let owner = matches!(query, Query::Theft(_)).then_some(row.meter);
            let sums = all.entry(owner).or_insert_with(|| vec![0; numbers]);
            self.each(row, field, |slot, counter, c| {
                let (number, weight) = match query {
                    Query::Bill(q) => (0, i64::from(q.weights.weight(counter))),
                    Query::Fault(_) => (0, 1),
                    Query::Theft(_) => (0, signs.get(slot).copied().unwrap_or(0)),
                    Query::Unmask(_) => (position, 1),
                    Query::Statistic(q) => (slot / q.band as usize, 1),
                    _ => (slot, 1),
                };
                position += 1;
                if let Some(sum) = sums.get_mut(number) {
                    *sum = sum.wrapping_add(c.wrapping_mul(weight.cast_unsigned()));
                }
            })?;
        }
        Ok(all)
    }

    /// Numbers of a query from the answers of all custodians.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(&self, query: &Query, answers: &[Answer]) -> Result<Vec<i64>, DecodeError> {
        let mut sums = self.masked_sums(query)?.remove(&None).ok_or(DecodeError::Shape)?;
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
        let mut sums = self.masked_sums(query)?;
        for answer in answers {
            let Answer::Scores(masks) = answer else { return Err(DecodeError::Shape) };
            for (meter, mask) in masks {
                let sum = sums.get_mut(&Some(*meter)).and_then(|v| v.first_mut()).ok_or(DecodeError::Shape)?;
                *sum = sum.wrapping_sub(*mask);
            }
        }
        let scores = sums.into_iter().filter_map(|(meter, v)| Some((meter?, v.first()?.cast_signed())));
        Ok(scores.collect())
    }

    /// Every masked value, as it lies in the operator's files.
    pub fn values(&self) -> impl Iterator<Item = (MeterId, Field, u64, u64)> + '_ {
        self.cells.iter().flat_map(|((meter, field), cells)| {
            cells.iter().flat_map(|(counter, s)| s.values.iter().map(|v| (*meter, *field, *counter, *v)))
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
