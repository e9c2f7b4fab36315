//! How often somebody may try to sign in. A try is counted before its password is looked at and given back when it was right, so that
//! many tries at the same time are as many tries.
//!
//! Three counts, because each alone fails: by name and address (nobody elsewhere can lock a person out), by address (nobody tries many
//! names), by name over all addresses (nobody tries one name from everywhere; addresses from which the person has signed in are
//! exempt). What is counted of people who exist is never forgotten before its time; made-up names have their own, small memory.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Failed tries with one name from one address before it has to wait.
const BY_NAME_AND_ADDRESS_MAX: u32 = 5;
/// Failed tries from one address, with any name.
const BY_ADDRESS_MAX: u32 = 30;
/// Failed tries with one name, from all addresses the person has not signed in from.
const BY_NAME_MAX: u32 = 60;
/// How long it waits after the last counted try.
pub const WAIT: Duration = Duration::from_secs(300);
/// Counts of people who exist, by address; when there are more, further addresses wait.
const KNOWN_MAX: usize = 20_000;
/// Counts of names that nobody has, by address; the oldest is forgotten.
const UNKNOWN_MAX: usize = 1_000;
/// Counts of addresses; the oldest is forgotten.
const ADDRESSES_MAX: usize = 10_000;
/// Addresses remembered for a person who has signed in from them.
const OWN_ADDRESSES_MAX: usize = 8;

/// Counts of what failed lately.
#[derive(Debug)]
struct Counts<K>(HashMap<K, (u32, Instant)>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash + Clone> Counts<K> {
    fn of(&self, key: &K, now: Instant) -> u32 {
        self.0.get(key).filter(|(_, last)| now.duration_since(*last) < WAIT).map_or(0, |(n, _)| *n)
    }

    fn add(&mut self, key: &K, now: Instant) {
        let n = self.of(key, now);
        self.0.insert(key.clone(), (n + 1, now));
    }

    fn take_back(&mut self, key: &K) {
        if let Some((n, _)) = self.0.get_mut(key) {
            *n -= 1;
            if *n == 0 {
                self.0.remove(key);
            }
        }
    }

    /// Whether there is room for a key, after what is over was forgotten.
    fn has_room(&mut self, key: &K, max: usize, now: Instant) -> bool {
        if self.0.len() < max || self.0.contains_key(key) {
            return true;
        }
        self.0.retain(|_, (_, last)| now.duration_since(*last) < WAIT);
        self.0.len() < max
    }

    fn forget_oldest(&mut self) {
        let oldest = self.0.iter().min_by_key(|(_, (_, last))| *last).map(|(key, _)| key.clone());
        oldest.map(|key| self.0.remove(&key));
    }
}

/// Tries to sign in that failed, or are being looked at.
#[derive(Debug, Default)]
pub struct Attempts {
    known: Counts<(String, IpAddr)>,
    unknown: Counts<(String, IpAddr)>,
    addresses: Counts<IpAddr>,
    names: Counts<String>,
    own_addresses: BTreeMap<String, Vec<IpAddr>>,
}

/// A counted try.
#[derive(Debug)]
pub struct Ticket {
    name: String,
    address: IpAddr,
    is_known: bool,
}

/// Whose try it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// There is such a person.
    Known(&'a str),
    /// There is nobody of that name.
    Unknown(&'a str),
}

impl Attempts {
    /// Counts a try; `None` when one has to wait.
    pub fn begin(&mut self, name: Name<'_>, address: IpAddr, now: Instant) -> Option<Ticket> {
        let (name, is_known) = match name {
            Name::Known(name) => (name.to_owned(), true),
            Name::Unknown(name) => (name.to_owned(), false),
        };
        let pair = (name.clone(), address);
        let (pairs, pairs_max) = match is_known {
            true => (&mut self.known, KNOWN_MAX),
            false => (&mut self.unknown, UNKNOWN_MAX),
        };
        let is_own = self.own_addresses.get(&name).is_some_and(|own| own.contains(&address));
        let must_wait = pairs.of(&pair, now) >= BY_NAME_AND_ADDRESS_MAX
            || self.addresses.of(&address, now) >= BY_ADDRESS_MAX
            || (!is_own && self.names.of(&name, now) >= BY_NAME_MAX);
        if must_wait {
            return None;
        }
        if !pairs.has_room(&pair, pairs_max, now) {
            match (is_known, is_own) {
                (true, false) => return None,
                (true, true) => {}
                (false, _) => pairs.forget_oldest(),
            }
        }
        if !self.addresses.has_room(&address, ADDRESSES_MAX, now) {
            self.addresses.forget_oldest();
        }
        pairs.add(&pair, now);
        self.addresses.add(&address, now);
        if is_known && !is_own {
            self.names.add(&name, now);
        }
        Some(Ticket { name, address, is_known })
    }

    /// The password was right: the try does not count, and those with this name from this address are forgotten.
    pub fn succeeded(&mut self, ticket: Ticket) {
        let Ticket { name, address, .. } = ticket;
        self.addresses.take_back(&address);
        self.known.0.remove(&(name.clone(), address));
        let own = self.own_addresses.entry(name.clone()).or_default();
        if !own.contains(&address) {
            self.names.take_back(&name);
            if own.len() >= OWN_ADDRESSES_MAX {
                own.remove(0);
            }
            own.push(address);
        }
    }

    /// The password was not looked at: the try does not count.
    pub fn not_checked(&mut self, ticket: Ticket) {
        let pair = (ticket.name, ticket.address);
        let pairs = if ticket.is_known { &mut self.known } else { &mut self.unknown };
        pairs.take_back(&pair);
        self.addresses.take_back(&pair.1);
        let is_own = self.own_addresses.get(&pair.0).is_some_and(|own| own.contains(&pair.1));
        if ticket.is_known && !is_own {
            self.names.take_back(&pair.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    fn tries(attempts: &mut Attempts, name: Name<'_>, address: IpAddr, now: Instant) -> u32 {
        (0..1_000).map_while(|_| attempts.begin(name, address, now)).count().try_into().expect("small")
    }

    #[test]
    fn tries_at_the_same_time_are_as_many_tries() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        assert_eq!(tries(&mut attempts, Name::Known("anna"), address(1), now), BY_NAME_AND_ADDRESS_MAX);
        assert!(attempts.begin(Name::Known("anna"), address(1), now + WAIT - Duration::from_secs(1)).is_none());
        assert!(attempts.begin(Name::Known("anna"), address(1), now + WAIT).is_some());
    }

    #[test]
    fn made_up_names_do_not_make_a_person_forgotten() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        tries(&mut attempts, Name::Known("anna"), address(1), now);
        for n in 2..2_000 {
            let _ = attempts.begin(Name::Unknown(&format!("nobody {n}")), address(n), now);
        }
        assert!(attempts.begin(Name::Known("anna"), address(1), now).is_none());
        assert!(attempts.unknown.0.len() <= UNKNOWN_MAX);
    }

    #[test]
    fn nobody_elsewhere_locks_a_person_out() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let ticket = attempts.begin(Name::Known("anna"), address(1), now).expect("the first");
        attempts.succeeded(ticket);
        let mut others = 0;
        for n in 2..100 {
            others += tries(&mut attempts, Name::Known("anna"), address(n), now);
        }
        assert_eq!(others, BY_NAME_MAX, "one name from everywhere");
        assert!(attempts.begin(Name::Known("anna"), address(1), now).is_some(), "from where she signs in");
    }

    #[test]
    fn one_address_tries_few_names_and_a_right_password_costs_nothing() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..100 {
            let ticket = attempts.begin(Name::Known("anna"), address(1), now).expect("hers");
            attempts.succeeded(ticket);
            let ticket = attempts.begin(Name::Unknown("x"), address(1), now).expect("not looked at");
            attempts.not_checked(ticket);
        }
        let failed = (0..1_000).filter(|n| attempts.begin(Name::Unknown(&n.to_string()), address(1), now).is_some());
        assert_eq!(failed.count(), usize::try_from(BY_ADDRESS_MAX).expect("small"));
    }
}
