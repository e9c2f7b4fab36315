//! Comparing with the neighbours, without a server: the observer says what flowed into the neighbourhood in a minute, every home
//! what it registered (hidden by masks that cancel in the sum), and every meter adds up. When the sum stays below the observer
//! for some minutes, by more than lines can lose, an event is told.
//!
//! It says that something is missing, never who takes it. A minute in which one home is silent cannot be judged: masks cancel in
//! whole sums only. It is not a transport: a shell broadcasts the datagrams, by UDP or over a serial line.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use ed25519_dalek::{SigningKey, VerifyingKey};
use metering::{
    EventKind, MeterId, Timestamp,
    local::{MinuteSum, pair_mask},
};

use crate::register::Registers;

/// Minutes that may be incomplete at once; older ones are given up.
const OPEN_MINUTES_MAX: usize = 8;
/// A datagram about a minute further away is not looked at, seconds.
const AWAY_SECONDS_MAX: i64 = 300;

/// A home of the neighbourhood, other than oneself.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Which.
    pub meter: MeterId,
    /// Key of its datagrams.
    pub key: VerifyingKey,
    /// The secret shared with it, for the masks.
    pub pair_key: [u8; 32],
}

/// What a meter was enrolled with.
#[derive(Clone, Debug)]
pub struct Neighbourhood {
    /// Oneself.
    pub me: MeterId,
    /// Key of one's own datagrams.
    pub signing_key: SigningKey,
    /// The observer and the key of its datagrams. An observer names itself.
    pub observer: (MeterId, VerifyingKey),
    /// Every other home.
    pub homes: Vec<Neighbour>,
    /// What lines may lose, thousandths of the observer's energy.
    pub loss_permille: u32,
    /// What may be missing in any case, mWh in a minute (errors of the meters).
    pub floor_mwh: i64,
    /// Minutes that must be missing, or right again, one after the other.
    pub minutes: u16,
}

impl Neighbourhood {
    /// With 4 % of loss, 1 Wh a minute (60 W) of error and five minutes of patience.
    pub fn new(me: MeterId, signing_key: SigningKey, observer: (MeterId, VerifyingKey), homes: Vec<Neighbour>) -> Self {
        Self { me, signing_key, observer, homes, loss_permille: 40, floor_mwh: 1_000, minutes: 5 }
    }

    fn key_of(&self, meter: MeterId) -> Option<&VerifyingKey> {
        if meter == self.observer.0 {
            return Some(&self.observer.1);
        }
        self.homes.iter().find(|home| home.meter == meter).map(|home| &home.key)
    }

    /// One's own datagram for a minute.
    fn say(&self, minute: Timestamp, mwh: i64) -> MinuteSum {
        let plain = u64::from_le_bytes(mwh.to_le_bytes());
        let is_observer = self.me == self.observer.0;
        let hide = |value: u64, home: &Neighbour| {
            let mask = pair_mask(&home.pair_key, minute);
            if self.me < home.meter { value.wrapping_add(mask) } else { value.wrapping_sub(mask) }
        };
        let value = if is_observer { plain } else { self.homes.iter().fold(plain, hide) };
        MinuteSum { from: self.me, minute, value }
    }
}

#[derive(Clone, Debug, Default)]
struct OpenMinute {
    observed: Option<i64>,
    sum: u64,
    heard: BTreeSet<MeterId>,
}

/// Compares minute by minute.
#[derive(Clone, Debug)]
pub struct LocalComparison {
    neighbourhood: Neighbourhood,
    open: BTreeMap<i64, OpenMinute>,
    /// Minutes in a row that spoke against `flagged`.
    contrary: u16,
    flagged: bool,
    judged_until: i64,
    judged: u64,
    given_up: u64,
    refused: u64,
    /// The newest minute that was said.
    said_until: i64,
}

impl LocalComparison {
    /// Nothing heard yet.
    pub fn new(neighbourhood: Neighbourhood) -> Self {
        Self {
            neighbourhood,
            open: BTreeMap::new(),
            contrary: 0,
            flagged: false,
            judged_until: i64::MIN,
            said_until: i64::MIN,
            judged: 0,
            given_up: 0,
            refused: 0,
        }
    }

    /// Whether the sum does not match at present.
    pub fn is_flagged(&self) -> bool {
        self.flagged
    }

    /// Minutes judged, minutes given up because someone was silent, datagrams refused.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.judged, self.given_up, self.refused)
    }

    /// The newest minute that was said; kept by the shell through a restart, and given back to [`LocalComparison::said_until`].
    pub fn newest_said(&self) -> Option<Timestamp> {
        (self.said_until > i64::MIN).then_some(Timestamp(self.said_until))
    }

    /// The same, with the newest minute said before a restart.
    #[must_use]
    pub fn said_until(mut self, minute: Timestamp) -> Self {
        self.said_until = self.said_until.max(minute.0);
        self
    }

    /// One's own minute has ended with this net energy (import less export, mWh): the datagram to broadcast, and an event to
    /// note ([`Meter::note`](crate::Meter::note)). A minute that was said before, because the clock went back, is not said again:
    /// two values under one mask would show their difference. Then the datagram is empty and nothing is to be broadcast.
    pub fn minute_ended(&mut self, minute: Timestamp, mwh: i64) -> (Vec<u8>, Option<EventKind>) {
        if minute.0 <= self.said_until {
            return (Vec::new(), None);
        }
        self.said_until = minute.0;
        let sum = self.neighbourhood.say(minute, mwh);
        let datagram = sum.write(&self.neighbourhood.signing_key);
        (datagram, self.add(&sum))
    }

    /// A datagram has come. Gives an event to note.
    pub fn take(&mut self, bytes: &[u8], now: Timestamp) -> Option<EventKind> {
        let sum = MinuteSum::read(bytes, |meter| self.neighbourhood.key_of(meter));
        let timely = |sum: &MinuteSum| {
            sum.minute.seconds_since(now).abs() <= AWAY_SECONDS_MAX && sum.minute.0 > self.judged_until
        };
        let Some(sum) = sum.filter(timely) else {
            self.refused += 1;
            return None;
        };
        self.add(&sum)
    }

    fn add(&mut self, sum: &MinuteSum) -> Option<EventKind> {
        let (observer, homes) = (self.neighbourhood.observer.0, self.neighbourhood.homes.len());
        let everybody = if self.neighbourhood.me == observer { homes + 1 } else { homes + 2 };
        let minute = self.open.entry(sum.minute.0).or_default();
        if !minute.heard.insert(sum.from) {
            return None; // said before
        }
        if sum.from == observer {
            minute.observed = Some(i64::from_le_bytes(sum.value.to_le_bytes()));
        } else {
            minute.sum = minute.sum.wrapping_add(sum.value);
        }
        let complete = (minute.heard.len() == everybody).then_some((minute.observed, minute.sum));
        if self.open.len() > OPEN_MINUTES_MAX {
            self.open.pop_first();
            self.given_up += 1;
        }
        let (observed, sum_of_homes) = complete?;
        self.open.remove(&sum.minute.0);
        self.judged_until = self.judged_until.max(sum.minute.0);
        self.judge(observed?, i64::from_le_bytes(sum_of_homes.to_le_bytes()))
    }

    fn judge(&mut self, observed: i64, homes: i64) -> Option<EventKind> {
        self.judged += 1;
        let loss = i128::from(observed.max(0)) * i128::from(self.neighbourhood.loss_permille) / 1_000;
        let allowed = loss + i128::from(self.neighbourhood.floor_mwh);
        let is_missing = i128::from(observed) - i128::from(homes) > allowed;
        if is_missing == self.flagged {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        if self.contrary < self.neighbourhood.minutes {
            return None;
        }
        (self.flagged, self.contrary) = (is_missing, 0);
        Some(if is_missing { EventKind::LocalDiscrepancy } else { EventKind::LocalDiscrepancyEnd })
    }
}

/// Net energy between two states of the registers, mWh, import less export.
pub fn net_mwh(before: &Registers, after: &Registers) -> i64 {
    // a Wh is 3.6e9 of the register's parts, a mWh 3.6e6
    let parts = |registers: &Registers| {
        let whole = |units: u64, rest: u64| i128::from(units) * 3_600_000_000 + i128::from(rest);
        whole(registers.import.units(), registers.import.remainder())
            - whole(registers.export.units(), registers.export.remainder())
    };
    i64::try_from((parts(after) - parts(before)) / 3_600_000).unwrap_or(i64::MAX)
}
