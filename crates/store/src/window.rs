//! Which frames of a meter's run (boot) were seen: so that each (meter, boot, sequence) is taken once.
//!
//! The newest [`HELD`] sequences keep a hash of their bytes, so that other bytes under the same sequence show as a conflict.
//! Of older ones only the number is kept, in ranges: that one of them comes again says nothing about its bytes, and the caller compares
//! what it says with what is stored.

use std::collections::VecDeque;

use crate::block::bits::{BitReader, BitWriter, BitsError};

/// Newest sequences whose bytes are compared.
const HELD: usize = 128;
/// Most ranges of older sequences; the oldest are forgotten first. A meter that counts without gaps needs one.
const RANGES_MAX: usize = 256;
/// Most contents remembered beside the newest: conflicting ones, and those of older sequences.
const CONFLICTS_MAX: usize = 256;
const VERSION: u64 = 1;

/// What a frame is, compared with those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// New.
    New,
    /// The same bytes were there.
    Same,
    /// Other bytes were there.
    Other,
    /// Something was there, of which the bytes are not known any more.
    Old,
}

/// The sequences of one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// Sequence of the first hash.
    base: u64,
    /// Hashes from `base` on; zero = not seen.
    hashes: VecDeque<u64>,
    /// Older sequences seen, inclusive ranges, ascending, not touching.
    older: Vec<(u64, u64)>,
    /// Contents that came under a sequence taken before, or late.
    conflicts: VecDeque<(u64, u64)>,
}

impl Window {
    /// What a frame would be. `hash` must not be zero.
    pub(crate) fn peek(&self, seq: u64, hash: u64) -> Seen {
        match self.at(seq) {
            Some(0) => Seen::New,
            Some(known) if known == hash || self.conflicts.contains(&(seq, hash)) => Seen::Same,
            Some(_) => Seen::Other,
            None if seq >= self.base => Seen::New,
            None if self.conflicts.contains(&(seq, hash)) => Seen::Same,
            None if self.is_in_ranges(seq) => Seen::Old,
            None => Seen::New,
        }
    }

    /// Notes a frame. Doing it again changes nothing.
    pub(crate) fn note(&mut self, seq: u64, hash: u64) -> Seen {
        let seen = self.peek(seq, hash);
        match seen {
            Seen::Same => {}
            Seen::Other | Seen::Old => self.remember(seq, hash),
            Seen::New if seq < self.base => {
                self.add_older(seq);
                self.remember(seq, hash);
            }
            Seen::New => self.put(seq, hash),
        }
        seen
    }

    /// Notes a frame of the log once more: whatever was noted of it since is not changed.
    pub(crate) fn repeat(&mut self, seq: u64, hash: u64, conflict: bool) {
        match self.peek(seq, hash) {
            Seen::New => {
                self.note(seq, hash);
            }
            Seen::Other | Seen::Old if conflict => self.remember(seq, hash),
            _ => {}
        }
    }

    fn remember(&mut self, seq: u64, hash: u64) {
        self.conflicts.push_back((seq, hash));
        if self.conflicts.len() > CONFLICTS_MAX {
            self.conflicts.pop_front();
        }
    }

    fn at(&self, seq: u64) -> Option<u64> {
        let index = usize::try_from(seq.checked_sub(self.base)?).ok()?;
        self.hashes.get(index).copied()
    }

    fn is_in_ranges(&self, seq: u64) -> bool {
        let after = self.older.partition_point(|(from, _)| *from <= seq);
        after > 0 && self.older[after - 1].1 >= seq
    }

    fn put(&mut self, seq: u64, hash: u64) {
        if self.hashes.is_empty() {
            self.base = seq.saturating_sub(HELD as u64 - 1);
        }
        // Slide until `seq` fits; whatever falls out is kept by number.
        let first = seq.saturating_sub(HELD as u64 - 1);
        while self.base < first {
            match self.hashes.pop_front() {
                Some(hash) => {
                    let left = self.base;
                    self.base += 1;
                    if hash != 0 {
                        self.add_older(left);
                    }
                }
                None => self.base = first,
            }
        }
        let index = usize::try_from(seq - self.base).unwrap_or(HELD - 1);
        if self.hashes.len() <= index {
            self.hashes.resize(index + 1, 0);
        }
        self.hashes[index] = hash;
    }

    fn add_older(&mut self, seq: u64) {
        let after = self.older.partition_point(|(from, _)| *from <= seq);
        let joins_left = after > 0 && self.older[after - 1].1.saturating_add(1) >= seq;
        let joins_right = self.older.get(after).is_some_and(|(from, _)| *from - 1 == seq);
        match (joins_left, joins_right) {
            (true, true) => {
                self.older[after - 1].1 = self.older[after].1;
                self.older.remove(after);
            }
            (true, false) => self.older[after - 1].1 = self.older[after - 1].1.max(seq),
            (false, true) => self.older[after].0 = seq,
            (false, false) => self.older.insert(after, (seq, seq)),
        }
        if self.older.len() > RANGES_MAX {
            self.older.remove(0);
        }
    }

    /// The stored form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = BitWriter::default();
        out.put(VERSION, 8);
        out.put_varint(self.base);
        out.put_varint(self.hashes.len() as u64);
        self.hashes.iter().for_each(|hash| out.put(*hash, 64));
        out.put_varint(self.older.len() as u64);
        self.older.iter().for_each(|(from, to)| {
            out.put_varint(*from);
            out.put_varint(to - from);
        });
        out.put_varint(self.conflicts.len() as u64);
        self.conflicts.iter().for_each(|(seq, hash)| {
            out.put_varint(*seq);
            out.put(*hash, 64);
        });
        out.finish()
    }

    /// Reads the stored form.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BitsError> {
        let mut from = BitReader::new(bytes);
        if from.get(8)? != VERSION {
            return Err(BitsError);
        }
        let mut window = Self { base: from.get_varint()?, ..Self::default() };
        for _ in 0..from.get_count(HELD)? {
            window.hashes.push_back(from.get(64)?);
        }
        for _ in 0..from.get_count(RANGES_MAX)? {
            let first = from.get_varint()?;
            let last = first.checked_add(from.get_varint()?).ok_or(BitsError)?;
            window.older.push((first, last));
        }
        for _ in 0..from.get_count(CONFLICTS_MAX)? {
            window.conflicts.push_back((from.get_varint()?, from.get(64)?));
        }
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_jump_to_the_last_sequence_and_back_is_held() {
        let mut window = Window::default();
        for seq in [0, u64::MAX, 1, u64::MAX - 1, 500] {
            assert_eq!(window.note(seq, seq | 1), Seen::New, "{seq}");
            assert_eq!(window.note(seq, seq | 1), Seen::Same, "{seq}");
        }
    }

    #[test]
    fn other_bytes_show_while_the_sequence_is_held() {
        let mut window = Window::default();
        for seq in 0..300 {
            assert_eq!(window.note(seq, 7), Seen::New);
        }
        assert_eq!(window.note(299, 8), Seen::Other);
        assert_eq!(window.note(299, 8), Seen::Same);
        assert_eq!(window.note(172, 8), Seen::Other);
        assert_eq!(window.note(171, 8), Seen::Old, "nobody compared it");
        assert_eq!(window.note(171, 8), Seen::Same);
        assert_eq!(window.note(171, 9), Seen::Old);
    }

    #[test]
    fn repeating_the_log_changes_nothing() {
        let mut window = Window::default();
        for seq in 0..300 {
            window.note(seq, 7);
        }
        window.note(3, 8);
        let held = window.clone();
        for seq in 0..300 {
            window.repeat(seq, 7, false);
        }
        window.repeat(3, 8, true);
        assert_eq!(window, held);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn each_sequence_is_new_once(frames in prop::collection::vec((0_u64..400, 1_u64..3), 1..300)) {
            let mut window = Window::default();
            let mut model = BTreeSet::new();
            for (seq, hash) in frames {
                let seen = window.note(seq, hash);
                prop_assert_eq!(seen == Seen::New, model.insert(seq));
                prop_assert_eq!(window.note(seq, hash), Seen::Same);
            }
            prop_assert_eq!(Window::decode(&window.encode()), Ok(window));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Window::decode(&bytes);
        }
    }
}
