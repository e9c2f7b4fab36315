//! What is kept of a released sum over homes: enough to check a slot of it later, in two lists rather than in one per home.

use crate::{
    mask::Field,
    query::{Row, SpatialQuery},
    roster::{Meter, Roster},
};

/// A released sum over homes.
#[derive(Clone, Debug)]
pub(crate) struct KeptSum {
    pub(crate) field: Field,
    pub(crate) slots: u32,
    rows: Vec<KeptRow>,
    words: Vec<u64>,
    /// Row, position, revision; in their order.
    revs: Vec<(u32, u32, u16)>,
}

/// A row whose words end at `end` of all words, and begin where those of the row before end.
#[derive(Clone, Copy, Debug)]
struct KeptRow {
    meter: u32,
    epoch: u32,
    first: u64,
    offset: u32,
    end: u32,
}

/// A cell that is in a slot of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptCell {
    /// The meter's number.
    pub(crate) meter: u32,
    pub(crate) epoch: u32,
    pub(crate) counter: u64,
    pub(crate) rev: u16,
}

impl KeptSum {
    /// Of a query, with the meters of its rows; a row of a meter that is not enrolled is in no released sum.
    pub(crate) fn new(query: &SpatialQuery, roster: &Roster, guesses: &[u32]) -> Self {
        let all: usize = query.rows.iter().map(|row| row.present.len()).sum();
        let (field, slots) = (query.field, query.slots);
        let (rows, words) = (Vec::with_capacity(query.rows.len()), Vec::with_capacity(all));
        let mut kept = Self { field, slots, rows, words, revs: Vec::new() };
        for (k, row) in query.rows.iter().enumerate() {
            if let Some(meter) = roster.find(row.meter, guesses.get(k).copied()) {
                kept.push(row, meter);
            }
        }
        kept
    }

    fn push(&mut self, row: &Row, meter: &Meter) {
        // at most 4,096 rows of 699 words
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let place = number(self.rows.len());
        self.words.extend_from_slice(&row.present);
        self.revs.extend(row.revs.iter().map(|(k, rev)| (place, *k, *rev)));
        let (epoch, first, offset) = (row.epoch, row.first, row.offset);
        self.rows.push(KeptRow { meter: meter.number, epoch, first, offset, end: number(self.words.len()) });
    }

    /// The cells of a slot.
    pub(crate) fn cells(&self, slot: u32) -> impl Iterator<Item = KeptCell> + '_ {
        let starts = core::iter::once(0).chain(self.rows.iter().map(|row| row.end));
        self.rows.iter().zip(starts).zip(0..).filter_map(move |((row, start), place)| {
            let k = slot.checked_sub(row.offset)?;
            let words = self.words.get(start as usize..row.end as usize)?;
            let is_meant = words.get(k as usize / 64).is_some_and(|word| word >> (k % 64) & 1 == 1);
            let rev = self.revs.binary_search_by_key(&(place, k), |(row, k, _)| (*row, *k));
            let rev = rev.map_or(0, |found| self.revs[found].2);
            let counter = row.first + u64::from(k);
            is_meant.then_some(KeptCell { meter: row.meter, epoch: row.epoch, counter, rev })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{custodian::Role, hex::Hex};
    use metering::MeterId;

    #[test]
    fn a_slot_has_the_cells_it_had() {
        let id = |n: u32| MeterId::new(&format!("M-{n}")).expect("a name");
        let mut roster = Roster::default();
        (0..3).for_each(|n| roster.enrol(id(n), Role::Home, Hex([0; 32])));
        let whole = Row::full(id(2), 1, 960, 96);
        let gaps = Row { present: vec![0b101, 1 << 3], revs: vec![(2, 1), (67, 4)], ..Row::full(id(0), 3, 970, 1) };
        let short = Row { offset: 10, revs: vec![(0, 9)], ..Row::full(id(1), 1, 970, 1) };
        let rows = vec![whole, Row { offset: 10, ..gaps }, short];
        let query = SpatialQuery { group: "T".into(), field: Field::Export, day: 10, slots: 96, rows };
        for guesses in [&[][..], &[2, 0, 1], &[0, 0, 0]] {
            let kept = KeptSum::new(&query, &roster, guesses);
            for slot in 0..96 {
                let of_row = |row: &Row| {
                    let k = slot - row.offset;
                    let rev = row.revs.iter().find(|(at, _)| *at == k).map_or(0, |(_, rev)| *rev);
                    let meter = roster.get(row.meter).expect("enrolled").number;
                    KeptCell { meter, epoch: row.epoch, counter: row.first + u64::from(k), rev }
                };
                let meant = query.rows.iter().filter(|row| slot >= row.offset && row.has((slot - row.offset) as usize));
                assert_eq!(kept.cells(slot).collect::<Vec<_>>(), meant.map(of_row).collect::<Vec<_>>(), "{slot}");
            }
        }
    }
}
