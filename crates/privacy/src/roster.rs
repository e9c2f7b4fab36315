//! The custodian's meters, and of each which cells were released: numbered, so that a request looks a name up once.
//!
//! Cells are bits in pages of 3,072 counters, a month of quarter-hours. A page is made when a cell of it is released; an absurd counter
//! costs one page, not the memory up to it.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

use metering::MeterId;

use crate::{custodian::Role, hex::Hex, mask::Field, query::Row};

/// Words of 64 cells in a page.
const PAGE_WORDS: usize = 48;

/// A set of one meter's cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cells {
    pages: BTreeMap<u64, [u64; PAGE_WORDS]>,
}

/// Page and place in it of word `at`.
fn place(at: u64) -> (u64, usize) {
    let words = PAGE_WORDS as u64;
    (at / words, usize::try_from(at % words).unwrap_or(0))
}

impl Cells {
    /// The cells of rows, whosever they are.
    pub(crate) fn of<'r>(rows: impl IntoIterator<Item = &'r Row>) -> Self {
        let mut cells = Self::default();
        rows.into_iter().for_each(|row| cells.extend(row.words()));
        cells
    }

    /// Takes words of cells in: counter / 64, bits.
    pub(crate) fn extend(&mut self, words: impl IntoIterator<Item = (u64, u64)>) {
        let mut words = words.into_iter().filter(|(_, bits)| *bits != 0).peekable();
        while let Some((page, _)) = words.peek().map(|(at, _)| place(*at)) {
            let page_words = self.pages.entry(page).or_insert([0; PAGE_WORDS]);
            while let Some((at, bits)) = words.next_if(|(at, _)| place(*at).0 == page) {
                page_words[place(at).1] |= bits;
            }
        }
    }

    /// Word `at`.
    pub(crate) fn word(&self, at: u64) -> u64 {
        let (page, k) = place(at);
        self.pages.get(&page).map_or(0, |words| words[k])
    }

    /// The words that hold a cell, in order.
    pub(crate) fn words(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let first = |page: u64| page * PAGE_WORDS as u64;
        let all = self.pages.iter().flat_map(move |(page, words)| (first(*page)..).zip(words.iter().copied()));
        all.filter(|(_, bits)| *bits != 0)
    }

    /// A counter that is in these words too.
    pub(crate) fn common(&self, words: impl IntoIterator<Item = (u64, u64)>) -> Option<u64> {
        let mut last: Option<(u64, Option<&[u64; PAGE_WORDS]>)> = None;
        words.into_iter().find_map(|(at, bits)| {
            let (page, k) = place(at);
            let words = match last {
                Some((number, words)) if number == page => words,
                _ => self.pages.get(&page),
            };
            last = Some((page, words));
            let both = words.map_or(0, |words| words[k]) & bits;
            (both != 0).then(|| at * 64 + u64::from(both.trailing_zeros()))
        })
    }
}

/// A meter that was enrolled.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    /// Its name.
    pub(crate) id: MeterId,
    /// Its place in the roster.
    pub(crate) number: u32,
    pub(crate) role: Role,
    pub(crate) public_key: Hex<32>,
    used: [Cells; 3],
    omitted: [Cells; 3],
}

/// Place of a field among those that are audited apart.
fn audited(field: Field) -> usize {
    match field.audited_as() {
        Field::Import | Field::Clipped => 0,
        Field::Export => 1,
        Field::Voltage => 2,
    }
}

impl Meter {
    /// Cells that entered a released spatial sum.
    pub(crate) fn used(&self, field: Field) -> &Cells {
        &self.used[audited(field)]
    }

    /// Cells that a released sum over time left out: they come into no spatial sum any more.
    pub(crate) fn omitted(&self, field: Field) -> &Cells {
        &self.omitted[audited(field)]
    }
}

/// Hashes names by multiplication. Names are signed by a manufacturer, so nobody floods the table with names of one hash.
#[derive(Clone, Debug, Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut take = |word: u64| self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| take(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| take(u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        // the table looks at the lowest and the highest bits, and a product has its best in the middle
        self.0.rotate_right(26)
    }
}

/// All meters that were ever enrolled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    numbers: HashMap<MeterId, u32, BuildHasherDefault<NameHasher>>,
    meters: Vec<Meter>,
}

impl Roster {
    /// Takes a meter in; a name that is taken keeps its cells.
    pub(crate) fn enrol(&mut self, id: MeterId, role: Role, public_key: Hex<32>) {
        let number = u32::try_from(self.meters.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(id).or_insert(number);
        match self.meters.get_mut(number as usize) {
            Some(meter) => (meter.role, meter.public_key) = (role, public_key),
            None => self.meters.push(Meter {
                id,
                number,
                role,
                public_key,
                used: Default::default(),
                omitted: Default::default(),
            }),
        }
    }

    /// The meter of this name.
    pub(crate) fn get(&self, id: MeterId) -> Option<&Meter> {
        self.meters.get(*self.numbers.get(&id)? as usize)
    }

    /// The meter of this number.
    pub(crate) fn at(&self, number: u32) -> Option<&Meter> {
        self.meters.get(number as usize)
    }

    /// The same when its number may be known from before.
    pub(crate) fn find(&self, id: MeterId, guess: Option<u32>) -> Option<&Meter> {
        let guessed = guess.and_then(|number| self.meters.get(number as usize)).filter(|meter| meter.id == id);
        guessed.or_else(|| self.get(id))
    }

    /// Whether it is a home that counts.
    pub(crate) fn is_home(&self, id: MeterId) -> bool {
        self.get(id).is_some_and(|meter| meter.role == Role::Home)
    }

    /// Names in the order of enrolment.
    pub(crate) fn ids(&self) -> impl Iterator<Item = MeterId> + '_ {
        self.meters.iter().map(|meter| meter.id)
    }

    /// Marks cells as released in a spatial sum.
    pub(crate) fn mark_used(&mut self, row: &Row, field: Field, guess: Option<u32>) {
        let number = self.find(row.meter, guess).map(|meter| meter.number as usize);
        if let Some(meter) = number.and_then(|number| self.meters.get_mut(number)) {
            meter.used[audited(field)].extend(row.words());
        }
    }

    /// Marks cells as left out of a sum over time.
    pub(crate) fn mark_omitted(&mut self, id: MeterId, field: Field, cells: &Cells) {
        let number = self.get(id).map(|meter| meter.number as usize);
        if let Some(meter) = number.and_then(|number| self.meters.get_mut(number)) {
            meter.omitted[audited(field)].extend(cells.words());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_alike_have_hashes_that_are_not() {
        let hash = |n: usize| {
            let mut hasher = NameHasher::default();
            std::hash::Hash::hash(&MeterId::new(&format!("M-{n:06}")).expect("a name"), &mut hasher);
            hasher.finish()
        };
        let (low, high): (Vec<u64>, Vec<u64>) = (0..1 << 14).map(hash).map(|h| (h & 0x3FFF, h >> 50)).unzip();
        for mut places in [low, high] {
            places.sort_unstable();
            places.dedup();
            // of places drawn at random 1 − 1/e are taken
            assert!(places.len() > 9_000, "{} of 16384 places taken", places.len());
        }
    }

    #[test]
    fn cells_are_kept_one_by_one_however_far_apart() {
        let id = MeterId::new("M-1").expect("a name");
        let row = Row { present: vec![0b1011, 0, 1 << 63], ..Row::full(id, 1, PAGE_WORDS as u64 * 64 - 70, 1) };
        let far = Row::full(id, 1, crate::mask::COUNTER_END - 65, 64);
        let cells = Cells::of([&row, &far]);
        assert_eq!(cells.pages.len(), 3, "absurd counters cost a page each");
        let listed: Vec<u64> = cells
            .words()
            .flat_map(|(at, bits)| (0..64).filter(move |k| bits >> k & 1 == 1).map(move |k| at * 64 + k))
            .collect();
        let meant = |row: &Row| row.cells().map(|k| row.first + k as u64).collect::<Vec<_>>();
        assert_eq!(listed, [meant(&row), meant(&far)].concat());
        let of_one = |counter: u64| Row::full(id, 1, counter, 1);
        for counter in row.first - 3..row.first + 200 {
            let is_meant = listed.contains(&counter);
            assert_eq!(cells.common(of_one(counter).words()), is_meant.then_some(counter), "{counter}");
            assert_eq!(cells.word(counter / 64) >> (counter % 64) & 1 == 1, is_meant, "{counter}");
        }
    }
}
