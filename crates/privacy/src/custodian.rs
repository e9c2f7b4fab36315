//! The custodian: holds mask keys, never a masked reading, and decides which sums of masks it gives.
//!
//! A state machine over a journal. [`Custodian::decide`] looks and changes nothing; the shell writes the [`Event`] durably, calls
//! [`Custodian::apply`], and only then [`Custodian::answer`]. The state is the fold of the journal, so after a crash at any point
//! it is what it was, and a query that had been committed gets its answer when it is asked again: the answer is a function of the
//! query and the keys, noise included. Therefore no cell is released twice, no budget is spent without being written down, and
//! no question gets two draws of noise. It knows no clock: the time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use curve25519_dalek::Scalar;
use ed25519_dalek::VerifyingKey;
use metering::MeterId;
use serde::{Deserialize, Serialize};

use crate::{
    answer, commitment, cross,
    hex::Hex,
    kept::KeptSum,
    ledger::{Cost, Ledger},
    mask::{Field, MaskKey},
    orders::{ErasureOrder, GroupOrder},
    policy::Policy,
    query::{Answer, CheckQuery, Named, Query, Request, Row, is_signed_by, request_bytes},
    roster::{Meter, Roster},
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
        /// The operator's signature of the order, where one came over the door.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<Hex<64>>,
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
        /// Who approved.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        approvers: Vec<String>,
    },
}

/// Membership of a group from a day on.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(crate) from_day: i64,
    pub(crate) members: BTreeSet<MeterId>,
    /// The same by their numbers, ascending.
    numbers: Vec<u32>,
}

impl Membership {
    /// Whether a meter is a member.
    pub(crate) fn has(&self, meter: &Meter) -> bool {
        self.numbers.binary_search(&meter.number).is_ok()
    }
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
    pub(crate) roster: Roster,
    pub(crate) groups: BTreeMap<String, Vec<Membership>>,
    /// Changes that each group had.
    changes: BTreeMap<String, u64>,
    /// Time of the newest event: a clock that was set back changes no group for days that have begun.
    latest: i64,
    /// Weights that sums over time declared, of whichever home, each once.
    pub(crate) declared: BTreeMap<Field, Vec<Functional>>,
    /// Released sums over time.
    pub(crate) functionals: BTreeMap<(MeterId, Field), Vec<Functional>>,
    pub(crate) ledger: Ledger,
    pub(crate) cases: BTreeMap<Hex<32>, TheftCase>,
    pub(crate) short_periods: BTreeMap<MeterId, u32>,
    pub(crate) released: BTreeMap<Hex<32>, Option<KeptSum>>,
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
    /// The operator's key of the policy, taken apart; `None` when it is no key, so that nothing is signed by it.
    operator_key: Option<VerifyingKey>,
    state: State,
    /// Keys by meter's number, with their epochs, ascending.
    keys: Vec<Vec<(u32, MaskKey)>>,
    noise_key: [u8; 32],
}

impl Custodian {
    /// A custodian without meters. `noise_key` is 32 random bytes that it keeps for ever.
    ///
    /// # Errors
    /// What is wrong with the policy.
    pub fn new(policy: Policy, noise_key: [u8; 32]) -> Result<Self, crate::policy::PolicyError> {
        policy.check()?;
        let operator_key = VerifyingKey::from_bytes(&policy.operator_key.0).ok();
        Ok(Self { policy, operator_key, state: State::default(), keys: Vec::new(), noise_key })
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the journal says.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Puts a key in place, unless its meter was never enrolled, or erased: a key store restored from a backup brings no erased key
    /// back.
    pub fn insert_key(&mut self, meter: MeterId, epoch: u32, key: MaskKey) -> bool {
        let number = self.state.roster.get(meter).map(|meter| meter.number as usize);
        let Some(number) = number.filter(|_| !self.state.erased.contains(&meter)) else { return false };
        if self.keys.len() <= number {
            self.keys.resize(number + 1, Vec::new());
        }
        let keys = &mut self.keys[number];
        match keys.binary_search_by_key(&epoch, |(epoch, _)| *epoch) {
            Ok(place) => keys[place].1 = key,
            Err(place) => keys.insert(place, (epoch, key)),
        }
        true
    }

    /// The meter of a row, and its key of the row's epoch.
    fn key_of(&self, row: &Row, guess: Option<u32>) -> Result<(&Meter, &MaskKey), Refusal> {
        let meter = self.state.roster.find(row.meter, guess);
        let found = meter.and_then(|meter| Some((meter, self.key(meter, row.epoch)?)));
        found.ok_or(Refusal::NoKey { meter: row.meter, epoch: row.epoch })
    }

    fn key(&self, meter: &Meter, epoch: u32) -> Option<&MaskKey> {
        let keys = self.keys.get(meter.number as usize)?;
        let place = keys.binary_search_by_key(&epoch, |(epoch, _)| *epoch).ok()?;
        Some(&keys[place].1)
    }

    /// The event of a new meter.
    ///
    /// # Errors
    /// A signature that is not by a known manufacturer or installer; a name that is taken or was erased.
    pub fn enrol(&self, enrolment: Enrolment, now: i64) -> Result<Event, Refusal> {
        rules::enrolment(&self.policy, &self.state, &enrolment)?;
        Ok(Event::Enrolled { at: now, enrolment })
    }

    /// The event of a group's new members by the operator's order; it holds from the next UTC day on.
    ///
    /// # Errors
    /// Unknown meters, fewer homes than the floor, a home in two groups; a signature that is not the operator's; an order that was given
    /// before.
    pub fn regroup(&self, order: &GroupOrder, now: i64) -> Result<Event, Refusal> {
        self.signed_by_operator(&order.signed_bytes(), &order.signature)?;
        let changes = self.state.changes(&order.group);
        if order.number != changes {
            return Err(Refusal::Order { group: order.group.clone(), number: order.number, changes });
        }
        let from_day = self.next_day(now);
        rules::membership(&self.policy, &self.state, &order.group, &order.members, from_day)?;
        let (group, members) = (order.group.clone(), order.members.clone());
        Ok(Event::Grouped { at: now, group, from_day, members, signature: Some(order.signature) })
    }

    /// The UTC day that begins next, by the clock or by the newest event.
    fn next_day(&self, now: i64) -> i64 {
        now.max(self.state.latest).div_euclid(86_400) + 1
    }

    fn signed_by_operator(&self, bytes: &[u8], signature: &Hex<64>) -> Result<(), Refusal> {
        let is_good = |key| is_signed_by(key, bytes, signature);
        self.operator_key.as_ref().is_some_and(is_good).then_some(()).ok_or(Refusal::Signature)
    }

    /// The event of an erasure by the operator's order, which a person of the policy approved; nothing can be released about the meter's
    /// readings afterwards. `None` when it was erased before.
    ///
    /// # Errors
    /// A meter that is not known; a signature that is not the operator's; nobody's approval.
    pub fn erase(&self, order: &ErasureOrder, now: i64) -> Result<Option<Event>, Refusal> {
        self.signed_by_operator(&order.signed_bytes(), &order.signature)?;
        if self.state.erased.contains(&order.meter) {
            return Ok(None);
        }
        let approvers = rules::approvers(&self.policy, &order.approvals, &order.hash(), now);
        rules::approved(&approvers, 1)?;
        self.state.roster.get(order.meter).ok_or(Refusal::UnknownMeter(order.meter))?;
        let approvers = approvers.into_iter().map(|(person, _)| person.to_owned()).collect();
        Ok(Some(Event::Erased { at: now, meter: order.meter, approvers }))
    }

    /// Decides about a request. A refusal is an event too.
    pub fn decide(&self, request: &Request, now: i64) -> Decision {
        self.decide_named(&Named::new(request), now)
    }

    /// The same for a request whose query was hashed before.
    pub fn decide_named(&self, named: &Named<'_>, now: i64) -> Decision {
        let (request, hash) = (named.request(), *named.hash());
        let refuse = |why: &Refusal| {
            let class = request.query.class().to_owned();
            Decision::Commit(Event::Refused { at: now, hash, class, reason: why.to_string() })
        };
        if let Err(why) = self.signed_by_operator(&request_bytes(&hash), &request.signature) {
            return refuse(&why);
        }
        if self.state.released.contains_key(&hash) {
            return Decision::Repeat;
        }
        let placed = |row| Ok((row, self.key_of(row, None)?.0));
        let rows: Result<Vec<_>, Refusal> = request.query.rows().iter().map(placed).collect();
        if let Ok(rows) = &rows {
            named.numbers.get_or_init(|| rows.iter().map(|(_, meter)| meter.number).collect());
        }
        match rows.and_then(|rows| rules::grant(&self.policy, &self.state, named, &rows, now)) {
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
            let number = self.state.roster.get(*meter).map(|meter| meter.number as usize);
            if let Some(keys) = number.and_then(|number| self.keys.get_mut(number)) {
                keys.clear();
            }
        }
        self.state.apply(&self.policy, event);
    }

    /// Takes the event in that a request came to.
    pub fn apply_named(&mut self, event: &Event, named: &Named<'_>) {
        match event {
            Event::Released { at, query, .. } if *query == named.request().query => {
                self.state.latest = self.state.latest.max(*at);
                self.state.release(&self.policy, query, *named.hash(), *at, named.guesses());
            }
            other => self.apply(other),
        }
    }

    /// The answer to a query that was granted.
    ///
    /// # Errors
    /// It was not granted, or a key was erased since.
    pub fn answer(&self, query: &Query) -> Result<Answer, Refusal> {
        self.answer_hashed(query, query.hash(), &[])
    }

    /// The same for a request whose query was hashed before.
    ///
    /// # Errors
    /// As of [`Custodian::answer`].
    pub fn answer_named(&self, named: &Named<'_>) -> Result<Answer, Refusal> {
        self.answer_hashed(&named.request().query, *named.hash(), named.guesses())
    }

    fn answer_hashed(&self, query: &Query, hash: Hex<32>, guesses: &[u32]) -> Result<Answer, Refusal> {
        if !self.state.released.contains_key(&hash) {
            return Err(Refusal::NotGranted);
        }
        // rows are asked for in their order
        let mut guesses = guesses.iter().copied();
        let mut key_of = |row: &Row| Ok(self.key_of(row, guesses.next())?.1);
        let seed = answer::NoiseSeed { key: &self.noise_key, query: hash };
        match query {
            Query::Check(q) => self.blinding(q),
            _ => answer::answer(&self.policy, query, &mut key_of, &seed),
        }
    }

    /// Sum of the blindings of a released sum's slot.
    fn blinding(&self, q: &CheckQuery) -> Result<Answer, Refusal> {
        let Some(Some(sum)) = self.state.released.get(&q.of) else { return Err(Refusal::NothingToCheck) };
        let mut total = Scalar::ZERO;
        for cell in sum.cells(q.slot) {
            let meter = self.state.roster.at(cell.meter).ok_or(Refusal::NothingToCheck)?;
            let key = self.key(meter, cell.epoch).ok_or(Refusal::NoKey { meter: meter.id, epoch: cell.epoch })?;
            let blinding = commitment::blinding(key, sum.field, cell.rev, cell.counter);
            total += blinding.ok_or(Refusal::Shape("a counter beyond its end"))?;
        }
        Ok(Answer::Blinding(Hex(total.to_bytes())))
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
        self.roster.ids()
    }

    /// Meters whose keys were erased.
    pub fn erased(&self) -> &BTreeSet<MeterId> {
        &self.erased
    }

    /// Changes that a group had: the number that its next order must name.
    pub fn changes(&self, group: &str) -> u64 {
        self.changes.get(group).copied().unwrap_or(0)
    }

    /// Whether exactly this meter with this key was enrolled.
    pub fn knows(&self, enrolment: &Enrolment) -> bool {
        self.roster.get(enrolment.meter).is_some_and(|meter| meter.public_key == enrolment.public_key)
    }

    /// Members of a group on a day.
    pub(crate) fn members(&self, group: &str, day: i64) -> Option<&Membership> {
        let versions = self.groups.get(group)?;
        versions.iter().rev().find(|m| m.from_day <= day).filter(|m| !m.members.is_empty())
    }

    fn apply(&mut self, policy: &Policy, event: &Event) {
        let (Event::Enrolled { at, .. }
        | Event::Grouped { at, .. }
        | Event::Released { at, .. }
        | Event::Refused { at, .. }
        | Event::Erased { at, .. }) = event;
        self.latest = self.latest.max(*at);
        match event {
            Event::Enrolled { enrolment, .. } => {
                self.roster.enrol(enrolment.meter, enrolment.role, enrolment.public_key);
            }
            Event::Grouped { group, from_day, members, .. } => {
                let number = |meter: &MeterId| Some(self.roster.get(*meter)?.number);
                let mut numbers: Vec<u32> = members.iter().filter_map(number).collect();
                numbers.sort_unstable();
                let members = members.iter().copied().collect();
                let membership = Membership { from_day: *from_day, members, numbers };
                *self.changes.entry(group.clone()).or_default() += 1;
                let versions = self.groups.entry(group.clone()).or_default();
                // the last word about a day holds
                versions.retain(|v| v.from_day < *from_day);
                versions.push(membership);
            }
            Event::Released { at, query, .. } => self.release(policy, query, query.hash(), *at, &[]),
            Event::Refused { .. } => self.refused += 1,
            Event::Erased { meter, .. } => {
                self.erased.insert(*meter);
            }
        }
    }

    fn release(&mut self, policy: &Policy, query: &Query, hash: Hex<32>, at: i64, guesses: &[u32]) {
        for cost in rules::costs(policy, query) {
            self.ledger.debit(&cost);
        }
        match query {
            Query::Spatial(q) | Query::Late(q) => {
                for (k, row) in q.rows.iter().enumerate() {
                    self.roster.mark_used(row, q.field, guesses.get(k).copied());
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
        let kept = match query {
            Query::Spatial(q) | Query::Late(q) => Some(KeptSum::new(q, &self.roster, guesses)),
            _ => None,
        };
        self.released.insert(hash, kept);
    }

    fn declare(&mut self, policy: &Policy, query: &Query) {
        let Some((field, weights)) = cross::declared(policy, query) else { return };
        let field = field.audited_as();
        for (meter, left_out) in cross::omitted(&weights, query) {
            self.roster.mark_omitted(meter, field, &left_out);
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
