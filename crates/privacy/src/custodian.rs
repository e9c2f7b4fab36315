//! The custodian: holds mask keys, never a masked reading, and decides which sums of masks it gives.
//!
//! A state machine over a journal. [`Custodian::decide`] looks and changes nothing; the shell writes the [`Event`] durably, calls
//! [`Custodian::apply`], and only then [`Custodian::answer`]. The state is the fold of the journal, so after a crash at any point
//! it is what it was, and a query that had been committed gets its answer when it is asked again: the answer is a function of the
//! query and the keys, noise included. Therefore no cell is released twice, no budget is spent without being written down, and
//! no question gets two draws of noise. It knows no clock: the time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use metering::MeterId;
use serde::{Deserialize, Serialize};

use crate::{
    answer,
    cross::{self, Cells},
    hex::Hex,
    ledger::{Cost, Ledger},
    mask::{Field, MaskKey},
    policy::Policy,
    query::{Answer, Query, Request, Row},
    rules::{self, Grant, Refusal},
    span::Functional,
};

/// What a meter is, as far as floors go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A home whose people have nothing to do with the operator: counts.
    Home,
    /// The operator's own or its employees': does not count.
    Operator,
    /// A test meter: does not count.
    Test,
}

/// A meter as manufacturer and installer vouch for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Its name.
    pub meter: MeterId,
    /// Its X25519 public key.
    pub public_key: Hex<32>,
    /// What it is.
    pub role: Role,
    /// By a manufacturer over [`Enrolment::manufacturer_bytes`].
    pub manufacturer_signature: Hex<64>,
    /// By an installer over [`Enrolment::installer_bytes`].
    pub installer_signature: Hex<64>,
}

impl Enrolment {
    /// What the manufacturer signs: meter and key.
    pub fn manufacturer_bytes(meter: MeterId, public_key: &Hex<32>) -> Vec<u8> {
        [b"gridtally meter 1 ".as_slice(), meter.as_str().as_bytes(), &[0], &public_key.0].concat()
    }

    /// What the installer signs: meter and role.
    pub fn installer_bytes(meter: MeterId, role: Role) -> Vec<u8> {
        let role: &[u8] = match role {
            Role::Home => b"home",
            Role::Operator => b"operator",
            Role::Test => b"test",
        };
        [b"gridtally installed 1 ".as_slice(), meter.as_str().as_bytes(), &[0], role].concat()
    }
}

/// What happened, one entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A meter was enrolled.
    Enrolled {
        /// When.
        at: i64,
        /// Which.
        enrolment: Enrolment,
    },
    /// A group has other members from a day on; no members: it is dissolved.
    Grouped {
        /// When.
        at: i64,
        /// Which.
        group: String,
        /// UTC day from which it holds.
        from_day: i64,
        /// Its members.
        members: Vec<MeterId>,
    },
    /// A query was granted.
    Released {
        /// When.
        at: i64,
        /// What.
        query: Query,
        /// Who approved.
        approvers: Vec<String>,
        /// What it cost.
        costs: Vec<(MeterId, u64)>,
    },
    /// A query was refused.
    Refused {
        /// When.
        at: i64,
        /// Its hash.
        hash: Hex<32>,
        /// Its class.
        class: String,
        /// Why.
        reason: String,
    },
    /// A meter's keys were erased for good.
    Erased {
        /// When.
        at: i64,
        /// Which.
        meter: MeterId,
    },
}

/// Membership of a group from a day on.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(crate) from_day: i64,
    pub(crate) members: BTreeSet<MeterId>,
}

/// A theft case that was released.
#[derive(Clone, Debug)]
pub(crate) struct TheftCase {
    pub(crate) at: i64,
    pub(crate) homes: BTreeSet<MeterId>,
}

/// The fold of the journal.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) meters: BTreeMap<MeterId, Role>,
    public_keys: BTreeMap<MeterId, Hex<32>>,
    pub(crate) groups: BTreeMap<String, Vec<Membership>>,
    /// Cells that entered a released spatial sum; a field counts as what it is audited as.
    pub(crate) used: BTreeMap<(MeterId, Field), Cells>,
    /// Cells that a released sum over time left out: they come into no spatial sum any more.
    pub(crate) omitted: BTreeMap<(MeterId, Field), Cells>,
    /// Weights that sums over time declared, of whichever home, each once.
    pub(crate) declared: BTreeMap<Field, Vec<Functional>>,
    /// Released sums over time.
    pub(crate) functionals: BTreeMap<(MeterId, Field), Vec<Functional>>,
    pub(crate) ledger: Ledger,
    pub(crate) cases: BTreeMap<Hex<32>, TheftCase>,
    pub(crate) short_periods: BTreeMap<MeterId, u32>,
    pub(crate) released: BTreeMap<Hex<32>, Option<Query>>,
    pub(crate) erased: BTreeSet<MeterId>,
    refused: u64,
}

/// What is to be done about a request.
#[allow(clippy::large_enum_variant, reason = "one is made per request and taken apart at once")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was granted before: answer it again.
    Repeat,
    /// Write the event, apply it; then answer, if it is a release.
    Commit(Event),
}

/// A custodian.
#[derive(Debug)]
pub struct Custodian {
    policy: Policy,
    state: State,
    keys: BTreeMap<(MeterId, u32), MaskKey>,
    noise_key: [u8; 32],
}

impl Custodian {
    /// A custodian without meters. `noise_key` is 32 random bytes that it keeps for ever.
    ///
    /// # Errors
    /// What is wrong with the policy.
    pub fn new(policy: Policy, noise_key: [u8; 32]) -> Result<Self, crate::policy::PolicyError> {
        policy.check()?;
        Ok(Self { policy, state: State::default(), keys: BTreeMap::new(), noise_key })
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the journal says.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Puts a key in place, unless its meter was erased: a key store restored from a backup brings no erased key back.
    pub fn insert_key(&mut self, meter: MeterId, epoch: u32, key: MaskKey) -> bool {
        let may = !self.state.erased.contains(&meter);
        if may {
            self.keys.insert((meter, epoch), key);
        }
        may
    }

    /// The event of a new meter.
    ///
    /// # Errors
    /// A signature that is not by a known manufacturer or installer; a name that is taken or was erased.
    pub fn enrol(&self, enrolment: Enrolment, now: i64) -> Result<Event, Refusal> {
        rules::enrolment(&self.policy, &self.state, &enrolment)?;
        Ok(Event::Enrolled { at: now, enrolment })
    }

    /// The event of a group's new members; it holds from the next UTC day on.
    ///
    /// # Errors
    /// Unknown meters, fewer homes than the floor, a home in two groups.
    pub fn regroup(&self, group: &str, members: Vec<MeterId>, now: i64) -> Result<Event, Refusal> {
        let from_day = now.div_euclid(86_400) + 1;
        rules::membership(&self.policy, &self.state, group, &members, from_day)?;
        Ok(Event::Grouped { at: now, group: group.to_owned(), from_day, members })
    }

    /// The event of an erasure; nothing can be released about the meter's readings afterwards.
    ///
    /// # Errors
    /// A meter that is not known.
    pub fn erase(&self, meter: MeterId, now: i64) -> Result<Event, Refusal> {
        self.state.meters.get(&meter).ok_or(Refusal::UnknownMeter(meter))?;
        Ok(Event::Erased { at: now, meter })
    }

    /// Decides about a request. A refusal is an event too.
    pub fn decide(&self, request: &Request, now: i64) -> Decision {
        let hash = request.query.hash();
        let refuse = |why: &Refusal| {
            let class = request.query.class().to_owned();
            Decision::Commit(Event::Refused { at: now, hash, class, reason: why.to_string() })
        };
        if let Err(why) = rules::signature(&self.policy, request, &hash) {
            return refuse(&why);
        }
        if self.state.released.contains_key(&hash) {
            return Decision::Repeat;
        }
        let missing = request.query.rows().iter().find(|row| !self.keys.contains_key(&(row.meter, row.epoch)));
        if let Some(row) = missing {
            return refuse(&Refusal::NoKey { meter: row.meter, epoch: row.epoch });
        }
        match rules::grant(&self.policy, &self.state, request, &hash, now) {
            Ok(Grant { approvers, costs }) => {
                let costs = costs.into_iter().map(|cost| (cost.meter, cost.micro)).collect();
                Decision::Commit(Event::Released { at: now, query: request.query.clone(), approvers, costs })
            }
            Err(why) => refuse(&why),
        }
    }

    /// Takes an event of the journal in.
    pub fn apply(&mut self, event: &Event) {
        if let Event::Erased { meter, .. } = event {
            self.keys.retain(|(m, _), _| m != meter);
        }
        self.state.apply(&self.policy, event);
    }

    /// The answer to a query that was granted.
    ///
    /// # Errors
    /// It was not granted, or a key was erased since.
    pub fn answer(&self, query: &Query) -> Result<Answer, Refusal> {
        let hash = query.hash();
        if !self.state.released.contains_key(&hash) {
            return Err(Refusal::NotGranted);
        }
        let key_of = |row: &Row| {
            let missing = Refusal::NoKey { meter: row.meter, epoch: row.epoch };
            self.keys.get(&(row.meter, row.epoch)).ok_or(missing)
        };
        let seed = answer::NoiseSeed { key: &self.noise_key, query: hash };
        answer::answer(&self.policy, &self.state, query, &key_of, &seed)
    }
}

impl State {
    /// Requests refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The most ε, in millionths, that was spent on any home.
    pub fn epsilon_micro(&self) -> u64 {
        self.ledger.spent_most()
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Queries granted.
    pub fn released(&self) -> usize {
        self.released.len()
    }

    /// Meters that were ever enrolled.
    pub fn enrolled(&self) -> impl Iterator<Item = MeterId> + '_ {
        self.meters.keys().copied()
    }

    /// Meters whose keys were erased.
    pub fn erased(&self) -> &BTreeSet<MeterId> {
        &self.erased
    }

    /// Whether exactly this meter with this key was enrolled.
    pub fn knows(&self, enrolment: &Enrolment) -> bool {
        self.public_keys.get(&enrolment.meter) == Some(&enrolment.public_key)
    }

    /// Members of a group on a day.
    pub(crate) fn members(&self, group: &str, day: i64) -> Option<&BTreeSet<MeterId>> {
        let versions = self.groups.get(group)?;
        versions.iter().rev().find(|m| m.from_day <= day).map(|m| &m.members).filter(|m| !m.is_empty())
    }

    fn apply(&mut self, policy: &Policy, event: &Event) {
        match event {
            Event::Enrolled { enrolment, .. } => {
                self.meters.insert(enrolment.meter, enrolment.role);
                self.public_keys.insert(enrolment.meter, enrolment.public_key);
            }
            Event::Grouped { group, from_day, members, .. } => {
                let membership = Membership { from_day: *from_day, members: members.iter().copied().collect() };
                let versions = self.groups.entry(group.clone()).or_default();
                // the last word about a day holds
                versions.retain(|v| v.from_day < *from_day);
                versions.push(membership);
            }
            Event::Released { at, query, .. } => self.release(policy, query, *at),
            Event::Refused { .. } => self.refused += 1,
            Event::Erased { meter, .. } => {
                self.erased.insert(*meter);
            }
        }
    }

    fn release(&mut self, policy: &Policy, query: &Query, at: i64) {
        let hash = query.hash();
        for cost in rules::costs(policy, query) {
            self.ledger.debit(&cost);
        }
        match query {
            Query::Spatial(q) | Query::Late(q) => {
                for row in &q.rows {
                    let used = self.used.entry((row.meter, q.field.audited_as())).or_default();
                    row.words().for_each(|(at, bits)| *used.entry(at).or_default() |= bits);
                }
            }
            Query::Theft(q) => {
                let homes = q.rows.iter().map(|row| row.meter).collect();
                self.cases.insert(hash, TheftCase { at, homes });
            }
            Query::Bill(q) if q.exception.is_some() => {
                if let Some(row) = q.rows.first() {
                    *self.short_periods.entry(row.meter).or_default() += 1;
                }
            }
            _ => {}
        }
        self.declare(policy, query);
        for (meter, field, functional) in rules::functionals(query) {
            self.functionals.entry((meter, field.audited_as())).or_default().push(functional);
        }
        // a check of a slot needs the sum it checks
        let kept = matches!(query, Query::Spatial(_) | Query::Late(_)).then(|| query.clone());
        self.released.insert(hash, kept);
    }

    fn declare(&mut self, policy: &Policy, query: &Query) {
        let Some((field, weights)) = cross::declared(policy, query) else { return };
        let field = field.audited_as();
        for (meter, left_out) in cross::omitted(&weights, query) {
            let omitted = self.omitted.entry((meter, field)).or_default();
            left_out.into_iter().for_each(|(at, bits)| *omitted.entry(at).or_default() |= bits);
        }
        let all = self.declared.entry(field).or_default();
        if !all.contains(&weights) {
            all.push(weights);
        }
    }

    pub(crate) fn costs_allowed(&self, policy: &Policy, costs: &[Cost]) -> Result<(), Refusal> {
        match costs.iter().find(|cost| !self.ledger.allows(policy, cost)) {
            None => Ok(()),
            Some(cost) => Err(Refusal::Budget {
                meter: cost.meter,
                asked: cost.micro,
                left: self.ledger.remaining(policy, cost.purpose, cost.meter, cost.days),
            }),
        }
    }
}
