//! A neighbourhood of real meters in one process, without a server: a tap before a house is flagged by everybody within minutes,
//! honest losses are not, and nobody learns what a neighbour uses.

use ed25519_dalek::SigningKey;
use meter::{
    Inputs, Memory, Meter, MeterConfig, Settings, Uptime,
    clock::MeterClock,
    local::{LocalComparison, Neighbour, Neighbourhood, net_mwh},
};
use metering::{EventKind, MeterId, Milliamps, Timestamp, local::MinuteSum};

const START: i64 = 1_772_409_600;

struct Place {
    meter: Meter,
    comparison: LocalComparison,
}

/// An observer (the last) and some homes.
struct Street {
    places: Vec<Place>,
    minute: u64,
    lost: fn(u64, usize, usize) -> bool,
    events: Vec<(u64, usize, EventKind)>,
    datagrams: Vec<Vec<u8>>,
}

fn id(n: usize) -> MeterId {
    MeterId::new(&format!("M-{n:02}")).expect("valid")
}

fn key(n: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(n).expect("small") + 1; 32])
}

fn pair_key(a: usize, b: usize) -> [u8; 32] {
    let mut secret = [0; 32];
    secret[0] = u8::try_from(a.min(b)).expect("small");
    secret[1] = u8::try_from(a.max(b)).expect("small");
    secret
}

impl Street {
    fn new(homes: usize) -> Self {
        let place = |n: usize| {
            let config = MeterConfig { has_relay: n < homes, ..MeterConfig::new(id(n)) };
            let memory = Memory::new(&config, Settings { now_seconds: 0, ..Settings::default() });
            let clock = MeterClock::backed_up(START * 1_000, Uptime(0));
            let neighbours = (0..homes).filter(|other| *other != n).map(|other| Neighbour {
                meter: id(other),
                key: key(other).verifying_key(),
                pair_key: pair_key(n, other),
            });
            let observer = (id(homes), key(homes).verifying_key());
            let neighbourhood = Neighbourhood::new(id(n), key(n), observer, neighbours.collect());
            Place {
                meter: Meter::start(config, memory, 1, clock, Uptime(0)),
                comparison: LocalComparison::new(neighbourhood),
            }
        };
        let places = (0..=homes).map(place).collect();
        Self { places, minute: 0, lost: |_, _, _| false, events: vec![], datagrams: vec![] }
    }

    /// One minute with these loads; what the observer sees is their sum, plus what is tapped, plus 2 %.
    fn pass(&mut self, watts: &[i64], tapped: i64) {
        self.minute += 1;
        let minute = Timestamp(START + i64::try_from(self.minute * 60).expect("small"));
        let inflow = (watts.iter().sum::<i64>() + tapped) * 102 / 100;
        let mut said = vec![];
        for (n, place) in self.places.iter_mut().enumerate() {
            let load = watts.get(n).copied().unwrap_or(inflow);
            let ma = u32::try_from(load.unsigned_abs() * 1_000 / 230).expect("small");
            let inputs = Inputs {
                active_mw: load * 1_000,
                current: Milliamps(ma),
                neutral: Some(Milliamps(ma)),
                ..Inputs::default()
            };
            let before = *place.meter.registers();
            place.meter.step(Uptime(self.minute * 60_000), &inputs).for_each(drop);
            let mwh = net_mwh(&before, place.meter.registers());
            let (datagram, event) = place.comparison.minute_ended(minute, mwh);
            said.push((datagram, event));
        }
        for n in 0..self.places.len() {
            for from in 0..said.len() {
                let event = if from == n {
                    said[n].1
                } else if (self.lost)(self.minute, from, n) {
                    None
                } else {
                    self.places[n].comparison.take(&said[from].0, minute)
                };
                if let Some(kind) = event {
                    self.places[n].meter.note(kind).for_each(drop);
                    self.events.push((self.minute, n, kind));
                }
            }
        }
        self.datagrams.extend(said.into_iter().map(|(datagram, _)| datagram));
    }
}

#[test]
fn a_tap_is_flagged_by_everybody_after_five_minutes_and_its_end_too() {
    let mut street = Street::new(5);
    let loads = |minute: i64| [300 + minute, 1_200, 40, 2_500 - minute, -800];
    for minute in 0..20 {
        street.pass(&loads(minute), 0);
    }
    assert_eq!(street.events, [], "2 % of loss is honest");
    for minute in 20..40 {
        street.pass(&loads(minute), 400);
    }
    let flagged: Vec<usize> = street.events.iter().map(|(_, n, _)| *n).collect();
    assert_eq!(flagged, [0, 1, 2, 3, 4, 5]);
    assert!(street.events.iter().all(|(minute, _, kind)| *minute == 25 && *kind == EventKind::LocalDiscrepancy));
    street.events.clear();
    for minute in 40..50 {
        street.pass(&loads(minute), 0);
    }
    assert_eq!(street.events.len(), 6);
    assert!(street.events.iter().all(|(minute, _, kind)| *minute == 45 && *kind == EventKind::LocalDiscrepancyEnd));
    for place in &street.places {
        let told = place.meter.log().events().filter(|event| event.kind == EventKind::LocalDiscrepancy).count();
        assert_eq!(told, 1, "in the log, and in the ring for the server when it is back");
        assert!(!place.meter.ring().is_empty());
    }
}

#[test]
fn lost_datagrams_cost_minutes_and_not_the_result() {
    let mut street = Street::new(4);
    // each way between two meters loses about one datagram in twenty
    street.lost = |minute, from, to| (minute * 31 + from as u64 * 7 + to as u64 * 13).is_multiple_of(20);
    for _ in 0..60 {
        street.pass(&[500, 700, 900, 100], 300);
    }
    for n in 0..=4 {
        let first = street.events.iter().find(|(_, place, _)| *place == n).expect("flagged");
        assert!(first.2 == EventKind::LocalDiscrepancy && first.0 <= 20, "{first:?}");
        let (judged, given_up, _) = street.places[n].comparison.counts();
        assert!(judged >= 30 && given_up > 0, "{judged} judged, {given_up} given up");
    }
}

#[test]
fn forged_repeated_old_and_foreign_datagrams_change_nothing() {
    let mut street = Street::new(3);
    street.pass(&[500, 700, 900], 0);
    let place = &mut street.places[0];
    let now = Timestamp(START + 120);
    let (_, _, before) = place.comparison.counts();
    let forged = |minute, n: usize, by: usize| {
        MinuteSum { from: id(n), minute: Timestamp(minute), value: 77_000_000 }.write(&key(by))
    };
    for bytes in [
        forged(START + 120, 3, 1),
        forged(START + 120, 9, 9),
        forged(START + 60, 3, 3),
        forged(START + 3_600, 3, 3),
        forged(START + 121, 3, 3),
        vec![],
        vec![0xff; 90],
        vec![0; 2_000],
    ] {
        assert_eq!(place.comparison.take(&bytes, now), None);
    }
    assert_eq!(place.comparison.counts().2, before + 8);
    for _ in 0..3 {
        // the first word of a meter about a minute counts
        place.comparison.take(&forged(START + 120, 1, 1), now);
    }
    assert!(!place.comparison.is_flagged());
}

#[test]
fn a_datagram_does_not_tell_what_a_home_uses() {
    let mut street = Street::new(3);
    for _ in 0..50 {
        street.pass(&[600, 600, 600], 0);
    }
    let public = [0, 1, 2, 3].map(|n| key(n).verifying_key());
    let read = |bytes: &Vec<u8>| {
        MinuteSum::read(bytes, |meter| (0..4).find(|n| id(*n) == meter).map(|n| &public[n])).expect("signed")
    };
    let sums: Vec<MinuteSum> = street.datagrams.iter().map(read).collect();
    for minute in sums.chunks(4) {
        let total = minute[..3].iter().fold(0u64, |sum, home| sum.wrapping_add(home.value));
        assert_eq!(total, 30_000, "three homes of 10 Wh");
        assert!(minute[..3].iter().all(|home| home.value.min(home.value.wrapping_neg()) > 1 << 32), "hidden");
    }
}

#[test]
fn a_minute_is_said_once_when_the_clock_goes_back() {
    let mut street = Street::new(2);
    let comparison = &mut street.places[0].comparison;
    let minute = |n: i64| Timestamp(START + 60 * n);
    let first = comparison.minute_ended(minute(5), 1_000).0;
    assert!(!first.is_empty());
    for again in [5, 4, 1] {
        assert!(comparison.minute_ended(minute(again), 2_000).0.is_empty(), "minute {again} has its mask already");
    }
    assert!(!comparison.minute_ended(minute(6), 2_000).0.is_empty());
    assert_eq!(comparison.newest_said(), Some(minute(6)));
    // And after a restart, when the shell has kept it.
    let mut restarted = Street::new(2).places.remove(0).comparison.said_until(minute(6));
    assert!(restarted.minute_ended(minute(6), 3_000).0.is_empty());
    assert!(!restarted.minute_ended(minute(7), 3_000).0.is_empty());
}
