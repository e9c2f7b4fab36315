//! The local link of a zone: while no server is to be reached, its observer and its homes say each minute what flowed, hear each
//! other, and compare (`meter::local`).
//!
//! The link is a medium on the virtual clock that loses datagrams as the seed says; what is said in a minute is heard in it, and
//! meters' clocks are taken to agree on which minute it is. It is not a transport: a board broadcasts by UDP or over a serial line.

use ed25519_dalek::SigningKey;
use meter::{
    local::{LocalComparison, Neighbour, Neighbourhood, net_mwh},
    register::Registers,
};
use metering::{EventKind, MeterId, Timestamp};

use crate::random::{Random, Stream};

/// One meter on the link.
struct Place {
    /// Its place in the world.
    meter: usize,
    neighbourhood: Neighbourhood,
    /// Set while it cannot reach the server.
    comparing: Option<LocalComparison>,
    /// Its registers when the minute began.
    before: Registers,
}

/// The meters of one zone that hear each other.
pub(crate) struct Street {
    seed: u64,
    lost_permille: u16,
    places: Vec<Place>,
}

impl Street {
    /// Enrols a zone's meters with each other; the observer is the last of them. `meters` are places in the world.
    pub(crate) fn enrol(seed: u64, lost_permille: u16, meters: &[(usize, MeterId)]) -> Self {
        let Some((observer, homes)) = meters.split_last() else {
            return Self { seed, lost_permille, places: Vec::new() };
        };
        let observer = (observer.1, key(seed, observer.0).verifying_key());
        let public: Vec<_> = homes.iter().map(|&(place, id)| (place, id, key(seed, place).verifying_key())).collect();
        let enrolled = |&(me, id): &(usize, MeterId)| {
            let others = public.iter().filter(|(place, ..)| *place != me);
            let neighbours =
                others.map(|&(place, meter, key)| Neighbour { meter, key, pair_key: pair_key(seed, me, place) });
            Place {
                meter: me,
                neighbourhood: Neighbourhood::new(id, key(seed, me), observer, neighbours.collect()),
                comparing: None,
                before: Registers::default(),
            }
        };
        Self { seed, lost_permille, places: meters.iter().map(enrolled).collect() }
    }

    /// A minute begins: who has lost the server begins to compare, who has it back stops.
    pub(crate) fn begin_minute(&mut self, is_away: impl Fn(usize) -> bool, registers: impl Fn(usize) -> Registers) {
        for place in &mut self.places {
            if !is_away(place.meter) {
                place.comparing = None;
                continue;
            }
            place.before = registers(place.meter);
            if place.comparing.is_none() {
                place.comparing = Some(LocalComparison::new(place.neighbourhood.clone()));
            }
        }
    }

    /// A minute has ended: everybody who compares says its part and hears the others. Gives events to note, and whose they are.
    pub(crate) fn end_minute(
        &mut self,
        minute: Timestamp,
        registers: impl Fn(usize) -> Registers,
    ) -> Vec<(usize, EventKind)> {
        let mut events = Vec::new();
        let mut said = Vec::new();
        for place in &mut self.places {
            let Some(comparing) = &mut place.comparing else { continue };
            let (datagram, event) = comparing.minute_ended(minute, net_mwh(&place.before, &registers(place.meter)));
            if !datagram.is_empty() {
                said.push((place.meter, datagram));
            }
            events.extend(event.map(|kind| (place.meter, kind)));
        }
        let (seed, lost) = (self.seed, f64::from(self.lost_permille) / 1_000.0);
        for place in &mut self.places {
            let Some(comparing) = &mut place.comparing else { continue };
            let listener = u64::try_from(place.meter).unwrap_or(0);
            let mut medium = Random::of(seed, Stream::Neighbours, listener, minute.0.unsigned_abs());
            for (from, datagram) in &said {
                if *from == place.meter || medium.chance(lost) {
                    continue;
                }
                events.extend(comparing.take(datagram, minute).map(|kind| (place.meter, kind)));
            }
        }
        events
    }
}

/// The signing key that a meter was enrolled with.
fn key(seed: u64, meter: usize) -> SigningKey {
    SigningKey::from_bytes(&secret(seed, meter, meter))
}

/// The secret of two homes.
fn pair_key(seed: u64, one: usize, other: usize) -> [u8; 32] {
    secret(seed, one.min(other), one.max(other))
}

/// 32 bytes for a pair of meters, or for one. Simulated meters need no true secret.
fn secret(seed: u64, one: usize, other: usize) -> [u8; 32] {
    let pair = (u64::try_from(one).unwrap_or(0) << 32) | u64::try_from(other).unwrap_or(0);
    let mut random = Random::of(seed, Stream::Neighbours, u64::MAX, pair);
    core::array::from_fn(|_| random.below(256).to_le_bytes()[0])
}
