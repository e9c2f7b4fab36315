//! Store and forward: frames wait here until the server has acknowledged them. Nothing else frees a slot, except an overflow,
//! which is an event.

use alloc::{collections::VecDeque, vec::Vec};

use metering::topic::UpKind;

/// Names a waiting frame; grows with every frame, also across power failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId(pub u64);

/// A frame to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Its name in the ring, for the acknowledgement.
    pub id: FrameId,
    /// Its kind, for the topic.
    pub kind: UpKind,
    /// Its bytes (CBOR).
    pub payload: &'a [u8],
}

#[derive(Clone, Debug)]
struct Slot {
    id: FrameId,
    kind: UpKind,
    payload: Vec<u8>,
}

/// Frames of one urgency in order; the first `sent` of them are on the way.
#[derive(Clone, Debug, Default)]
struct Lane {
    slots: VecDeque<Slot>,
    sent: usize,
}

impl Lane {
    fn take_next(&mut self) -> Option<Outgoing<'_>> {
        let slot = self.slots.get(self.sent)?;
        self.sent += 1;
        Some(Outgoing { id: slot.id, kind: slot.kind, payload: &slot.payload })
    }

    fn remove(&mut self, at: usize) {
        if self.slots.remove(at).is_some() && at < self.sent {
            self.sent -= 1;
        }
    }

    fn acknowledge(&mut self, id: FrameId) -> bool {
        let Ok(at) = self.slots.binary_search_by_key(&id, |slot| slot.id) else { return false };
        self.remove(at);
        true
    }
}

/// The ring. Hello, events, replies and snapshots go before profiles and instantaneous values.
#[derive(Clone, Debug)]
pub struct Ring {
    urgent: Lane,
    bulk: Lane,
    frames_max: usize,
    next_id: u64,
    overflowing: bool,
    dropped: u64,
}

/// What putting a frame into the ring did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It waits.
    Waiting,
    /// It waits, and an older frame was dropped for it: the first of this overflow.
    OverflowBegan,
    /// It waits, and another older frame was dropped.
    StillOverflowing,
}

impl Ring {
    /// An empty ring of this many frames (at least 16).
    pub fn new(frames_max: usize) -> Self {
        Self {
            urgent: Lane::default(),
            bulk: Lane::default(),
            frames_max: frames_max.max(16),
            next_id: 0,
            overflowing: false,
            dropped: 0,
        }
    }

    /// Frames that wait or are on the way.
    pub fn len(&self) -> usize {
        self.urgent.slots.len() + self.bulk.slots.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether something has not been sent yet on this connection.
    pub fn has_unsent(&self) -> bool {
        self.urgent.sent < self.urgent.slots.len() || self.bulk.sent < self.bulk.slots.len()
    }

    /// Frames ever put in.
    pub fn frames_made(&self) -> u64 {
        self.next_id
    }

    /// Frames dropped by overflows.
    pub fn frames_dropped(&self) -> u64 {
        self.dropped
    }

    /// Puts a frame in.
    pub fn push(&mut self, kind: UpKind, payload: Vec<u8>) -> Stored {
        let full = self.len() >= self.frames_max;
        if full {
            self.drop_one();
        } else if self.len() <= self.frames_max / 2 {
            self.overflowing = false;
        }
        let id = FrameId(self.next_id);
        self.next_id += 1;
        self.lane(kind).slots.push_back(Slot { id, kind, payload });
        let before = self.overflowing;
        self.overflowing |= full;
        match (full, before) {
            (false, _) => Stored::Waiting,
            (true, false) => Stored::OverflowBegan,
            (true, true) => Stored::StillOverflowing,
        }
    }

    /// The ring as it was: what was read back from non-volatile memory, in any order. Nothing is on the way.
    pub(crate) fn restore(
        frames_max: usize,
        next_id: u64,
        dropped: u64,
        mut frames: Vec<(FrameId, UpKind, Vec<u8>)>,
    ) -> Self {
        frames.sort_by_key(|frame| frame.0);
        frames.dedup_by_key(|frame| frame.0);
        let mut ring = Self { next_id, dropped, ..Self::new(frames_max) };
        for (id, kind, payload) in frames {
            ring.lane(kind).slots.push_back(Slot { id, kind, payload });
        }
        ring
    }

    /// Every frame that waits or is on the way, from this one on, in the order of their names.
    pub(crate) fn since(&self, first: u64) -> Vec<Outgoing<'_>> {
        let lanes = [&self.urgent, &self.bulk];
        let mut frames: Vec<Outgoing<'_>> = lanes
            .into_iter()
            .flat_map(|lane| {
                let at = lane.slots.partition_point(|slot| slot.id.0 < first);
                lane.slots.range(at..)
            })
            .map(|slot| Outgoing { id: slot.id, kind: slot.kind, payload: &slot.payload })
            .collect();
        frames.sort_unstable_by_key(|frame| frame.id);
        frames
    }

    /// The bytes of every frame that waits or is on the way.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        [&self.urgent, &self.bulk].into_iter().flat_map(|lane| &lane.slots).map(|slot| slot.payload.as_slice())
    }

    /// Whether a frame waits or is on the way.
    pub fn holds(&self, id: FrameId) -> bool {
        [&self.urgent, &self.bulk].iter().any(|lane| lane.slots.binary_search_by_key(&id, |slot| slot.id).is_ok())
    }

    /// The frame made last, whether or not it is on the way.
    pub fn newest(&self) -> Option<Outgoing<'_>> {
        self.since(self.next_id.checked_sub(1)?).pop()
    }

    fn lane(&mut self, kind: UpKind) -> &mut Lane {
        match kind {
            UpKind::Hello | UpKind::Event | UpKind::Reply | UpKind::Snapshot => &mut self.urgent,
            UpKind::Profile | UpKind::Now | UpKind::Quality => &mut self.bulk,
        }
    }

    /// The next frame to send, urgent ones first; it counts as on the way until it is acknowledged or the link is lost.
    pub fn next_to_send(&mut self) -> Option<Outgoing<'_>> {
        if self.urgent.sent < self.urgent.slots.len() { self.urgent.take_next() } else { self.bulk.take_next() }
    }

    /// Frees a frame. Tells whether it was there.
    pub fn acknowledge(&mut self, id: FrameId) -> bool {
        self.urgent.acknowledge(id) || self.bulk.acknowledge(id)
    }

    /// The connection is gone: everything not acknowledged will be sent again.
    pub fn link_lost(&mut self) {
        self.urgent.sent = 0;
        self.bulk.sent = 0;
    }

    /// Makes room: the oldest instantaneous values go first, then the oldest profile, then the oldest at all.
    fn drop_one(&mut self) {
        self.dropped += 1;
        let idle = self.bulk.slots.iter().position(|s| matches!(s.kind, UpKind::Now | UpKind::Quality));
        if let Some(at) = idle {
            self.bulk.remove(at);
        } else if self.bulk.slots.is_empty() {
            self.urgent.remove(0);
        } else {
            self.bulk.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urgent_frames_go_first_and_a_lost_link_sends_all_again() {
        let mut ring = Ring::new(16);
        ring.push(UpKind::Profile, vec![1]);
        ring.push(UpKind::Event, vec![2]);
        let order = |ring: &mut Ring| -> Vec<u8> {
            core::iter::from_fn(|| ring.next_to_send().map(|o| o.payload[0])).collect()
        };
        assert_eq!(order(&mut ring), [2, 1]);
        assert!(!ring.has_unsent());
        assert!(ring.acknowledge(FrameId(1)));
        assert!(!ring.acknowledge(FrameId(1)));
        ring.link_lost();
        assert_eq!(order(&mut ring), [1]);
    }

    #[test]
    fn an_overflow_is_told_once_and_drops_instantaneous_values_first() {
        let mut ring = Ring::new(16);
        ring.push(UpKind::Now, vec![0]);
        for i in 1..16 {
            assert_eq!(ring.push(UpKind::Profile, vec![i]), Stored::Waiting);
        }
        assert_eq!(ring.push(UpKind::Profile, vec![16]), Stored::OverflowBegan);
        assert_eq!(ring.push(UpKind::Profile, vec![17]), Stored::StillOverflowing);
        assert_eq!(ring.len(), 16);
        assert_eq!(ring.next_to_send().map(|o| o.payload[0]), Some(2), "the value and then the oldest profile went");
    }

    proptest! {
        /// Against a plain list: what is not acknowledged is sent again after every lost link, what is acknowledged never.
        #[test]
        fn acknowledged_is_freed_and_the_rest_is_sent_again(operations in prop::collection::vec((0u8..4, 0usize..8), 0..200)) {
            let mut ring = Ring::new(10_000);
            let mut unacknowledged: Vec<u64> = Vec::new();
            let mut on_the_way: Vec<u64> = Vec::new();
            for (operation, argument) in operations {
                match operation {
                    0 => {
                        let kind = if argument % 2 == 0 { UpKind::Profile } else { UpKind::Event };
                        unacknowledged.push(ring.frames_made());
                        ring.push(kind, vec![]);
                    }
                    1 => {
                        if let Some(sent) = ring.next_to_send() {
                            prop_assert!(unacknowledged.contains(&sent.id.0) && !on_the_way.contains(&sent.id.0));
                            on_the_way.push(sent.id.0);
                        } else {
                            prop_assert_eq!(on_the_way.len(), unacknowledged.len());
                        }
                    }
                    2 if !on_the_way.is_empty() => {
                        let id = on_the_way.remove(argument % on_the_way.len());
                        unacknowledged.retain(|&u| u != id);
                        prop_assert!(ring.acknowledge(FrameId(id)));
                        prop_assert!(!ring.acknowledge(FrameId(id)));
                    }
                    _ => {
                        ring.link_lost();
                        on_the_way.clear();
                    }
                }
                prop_assert_eq!(ring.len(), unacknowledged.len());
            }
            ring.link_lost();
            let mut again: Vec<u64> = core::iter::from_fn(|| ring.next_to_send().map(|o| o.id.0)).collect();
            again.sort_unstable();
            prop_assert_eq!(again, unacknowledged);
        }
    }
}
