//! The rules of each class of query: who must approve, floors, periods, weights, budgets. Pure: the state and the query in, a grant
//! or a refusal out.

use std::collections::{BTreeMap, BTreeSet};

use metering::MeterId;

use crate::{
    answer, cross,
    custodian::{Enrolment, Membership, Role, State},
    hex::Hex,
    ledger::Cost,
    mask::{COUNTER_END, Field},
    noise::epsilon_of_gauss,
    policy::Policy,
    query::{
        Adjacency, Approval, BillQuery, CheckQuery, FaultQuery, LegalBasis, Mechanism, Named, Purpose, Query, ROWS_MAX,
        Row, SLOTS_MAX, SpatialQuery, StatisticQuery, TheftQuery, UnmaskQuery, approval_bytes, is_signed,
    },
    roster::{Cells, Meter},
    span::{self, Functional},
    theft,
};

/// δ at which a Gaussian release is stated.
pub const DELTA: f64 = 1e-6;
/// Cells of a bill's period that may be left out because they never arrived, thousandths.
const ABSENT_PERMILLE: usize = 100;
/// Cells of a theft case that must have been in a released sum, thousandths.
const COVERED_PERMILLE: usize = 980;
/// Shortest period of an exception, days.
const EXCEPTION_DAYS_MIN: u32 = 2;
const YEAR_SECONDS: i64 = 365 * 86_400;

/// Why something is not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the request is not signed by the operator's key of the policy")]
    Signature,
    #[error(
        "the order for group {group} says that {number} changes came before it, and {changes} did: it was given before, or another came first; sign it again with {changes}"
    )]
    Order { group: String, number: u64, changes: u64 },
    #[error("the query is malformed: {0}")]
    Shape(&'static str),
    #[error("meter {0} is not enrolled here")]
    UnknownMeter(MeterId),
    #[error("meter {meter}: {why}")]
    Enrolment { meter: MeterId, why: &'static str },
    #[error(
        "there is no key of meter {meter} for epoch {epoch}: it was never enrolled for it, or its keys were erased"
    )]
    NoKey { meter: MeterId, epoch: u32 },
    #[error("group {0} is not registered for that day; a registered change holds from the next UTC day on")]
    UnknownGroup(String),
    #[error("meter {meter} is not a member of group {group} on that day")]
    NotMember { meter: MeterId, group: String },
    #[error("meter {0} would be in two groups")]
    TwoGroups(MeterId),
    #[error(
        "{homes} homes in slot {slot} are fewer than the floor of {floor}; test and operator's meters do not count"
    )]
    TooFew { slot: usize, homes: u32, floor: u32 },
    #[error(
        "a reading of meter {meter} (counter {counter}) is already in a released sum; late readings go to a late sum"
    )]
    CellUsed { meter: MeterId, counter: u64 },
    #[error("the rows count their slots from different counters: a home would stand in another slot than its reading")]
    Misaligned,
    #[error(
        "the readings are not of that day: membership is asked for a day from the first of them to the day after the last"
    )]
    Day,
    #[error(
        "a reading of meter {meter} (counter {counter}) is in a released sum over the group and left out of this one, or the other way round: the difference would tell it"
    )]
    Omitted { meter: MeterId, counter: u64 },
    #[error(
        "the weights differ from those of other released sums over time in {slots} slots only; the group's sums would tell them of a home, at least {least} are needed"
    )]
    Twin { slots: usize, least: u32 },
    #[error(
        "noise is scaled to the allowance of the clipped readings: scores with noise are given of them only, with a level above 0"
    )]
    NotClipped,
    #[error("the weights are not signed by the tariff key")]
    Tariff,
    #[error("the period of {days} days is shorter than {least}")]
    Period { days: u32, least: u32 },
    #[error("too many of the period's readings are left out")]
    Absent,
    #[error(
        "the weights let single readings be read from the sum: at most 64 to 1, and eight slots carry at most a tenth"
    )]
    Weights,
    #[error(
        "with what was released before, {slots} slots could be computed apart; at least {least} must stay together"
    )]
    Span { slots: usize, least: u32 },
    #[error("more than {0} sums of this meter would overlap in time")]
    Registers(u32),
    #[error("the record shows no alarm: {missing} Wh a day are missing, {needed} are needed")]
    NoAlarm { missing: i64, needed: i64 },
    #[error("a theft case takes all homes of the group, each once, and nobody else")]
    NotAllHomes,
    #[error("the readings of the case were not in released sums: only {permille} in a thousand, {needed} are needed")]
    Coverage { permille: usize, needed: usize },
    #[error("meter {0} was in the permitted number of theft cases of these 12 months")]
    Cases(MeterId),
    #[error(
        "{given} valid approvals, {needed} are needed; each by another person of the policy, over this query, not expired"
    )]
    Approvals { given: usize, needed: usize },
    #[error("the approvers are of one organisation; two are needed")]
    Organisations,
    #[error("the case has expired")]
    Expired,
    #[error("the query goes beyond the scope that was approved")]
    Scope,
    #[error("the customer's notice must come within {0} days")]
    Notice(u32),
    #[error("the field evidence names no theft case that held this home")]
    NoCase,
    #[error("the budget of meter {meter} is exhausted: {asked} millionths of ε asked, {left} left")]
    Budget { meter: MeterId, asked: u64, left: u64 },
    #[error("no released exact sum has that hash and slot; for answers with noise no blinding is given")]
    NothingToCheck,
    #[error("the query was not granted")]
    NotGranted,
    #[error("the noise cannot be drawn: {0}")]
    Noise(#[from] crate::noise::NoiseError),
}

/// A row with its meter.
type Placed<'a> = (&'a Row, &'a Meter);

/// What a granted query carries along.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grant {
    pub(crate) approvers: Vec<String>,
    pub(crate) costs: Vec<Cost>,
}

pub(crate) fn enrolment(policy: &Policy, state: &State, enrolment: &Enrolment) -> Result<(), Refusal> {
    let meter = enrolment.meter;
    let refuse = |why| Err(Refusal::Enrolment { meter, why });
    if state.erased.contains(&meter) {
        return refuse("its keys were erased; a meter in use again gets a new name");
    }
    if state.roster.get(meter).is_some() {
        return refuse("the name is taken");
    }
    let by = |keys: &[Hex<32>], bytes: &[u8], signature| keys.iter().any(|key| is_signed(key, bytes, signature));
    let made = Enrolment::manufacturer_bytes(meter, &enrolment.public_key);
    if !by(&policy.manufacturer_keys, &made, &enrolment.manufacturer_signature) {
        return refuse("its key is signed by no manufacturer of the policy");
    }
    let installed = Enrolment::installer_bytes(meter, enrolment.role);
    if !by(&policy.installer_keys, &installed, &enrolment.installer_signature) {
        return refuse("its installation is signed by no installer of the policy");
    }
    Ok(())
}

pub(crate) fn membership(
    policy: &Policy,
    state: &State,
    group: &str,
    members: &[MeterId],
    from_day: i64,
) -> Result<(), Refusal> {
    let mut homes = 0;
    let mut seen = BTreeSet::new();
    for meter in members {
        let known = state.roster.get(*meter).ok_or(Refusal::UnknownMeter(*meter))?;
        let elsewhere = state.groups.keys().filter(|name| name.as_str() != group);
        let is_elsewhere = |name: &String| state.members(name, from_day).is_some_and(|m| m.members.contains(meter));
        if !seen.insert(*meter) || elsewhere.into_iter().any(is_elsewhere) {
            return Err(Refusal::TwoGroups(*meter));
        }
        homes += u32::from(known.role == Role::Home);
    }
    if !members.is_empty() && homes < policy.floor {
        return Err(Refusal::TooFew { slot: 0, homes, floor: policy.floor });
    }
    Ok(())
}

/// Everything about a query but its operator's signature.
pub(crate) fn grant(
    policy: &Policy,
    state: &State,
    named: &Named<'_>,
    rows: &[Placed<'_>],
    now: i64,
) -> Result<Grant, Refusal> {
    let query = &named.request().query;
    shape(rows)?;
    let approvers = approvers(policy, &named.request().approvals, named.hash(), now);
    let costs = costs(policy, query);
    state.costs_allowed(policy, &costs)?;
    match query {
        Query::Spatial(q) | Query::Late(q) => spatial(policy, state, q, rows)?,
        Query::Bill(q) => bill(policy, state, q)?,
        Query::Fault(q) => fault(policy, q)?,
        Query::Theft(q) => {
            let needed = if q.epsilon_micro.is_some() { 2 } else { 3 };
            approved(&approvers, needed)?;
            theft_case(policy, state, q, rows, now)?;
        }
        Query::Unmask(q) => {
            approved(&approvers, 2)?;
            let organisations: BTreeSet<&str> = approvers.iter().map(|(_, organisation)| *organisation).collect();
            if organisations.len() < 2 {
                return Err(Refusal::Organisations);
            }
            unmask(policy, state, q, now)?;
        }
        Query::Statistic(q) => statistic(policy, state, q, rows)?,
        Query::Check(q) => check(state, q)?,
    }
    audit(policy, state, query)?;
    cross::audit(policy, state, query)?;
    Ok(Grant { approvers: approvers.into_iter().map(|(person, _)| person.to_owned()).collect(), costs })
}

fn shape(rows: &[Placed<'_>]) -> Result<(), Refusal> {
    if rows.len() > ROWS_MAX {
        return Err(Refusal::Shape("more than 4096 rows"));
    }
    for (row, _) in rows {
        if row.present.len() > SLOTS_MAX / 64 + 1 || row.end() + row.offset as usize > SLOTS_MAX {
            return Err(Refusal::Shape("more slots than a month of minutes"));
        }
        if row.first.saturating_add(row.end() as u64) >= COUNTER_END {
            return Err(Refusal::Shape("a counter beyond its end"));
        }
        let is_ascending = row.revs.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !is_ascending || row.revs.iter().any(|(k, _)| !row.has(*k as usize)) {
            return Err(Refusal::Shape("revisions that do not ascend, or of a cell that is not meant"));
        }
    }
    // within a row no cell can be named twice
    if rows.windows(2).all(|pair| pair[0].1.number < pair[1].1.number) {
        return Ok(());
    }
    let mut by_meter: Vec<&Placed<'_>> = rows.iter().collect();
    by_meter.sort_unstable_by_key(|(_, meter)| meter.number);
    for of_one in by_meter.chunk_by(|a, b| a.1.number == b.1.number).filter(|of_one| of_one.len() > 1) {
        let mut seen = Cells::default();
        for (row, _) in of_one {
            if seen.common(row.words()).is_some() {
                return Err(Refusal::Shape("a cell named twice"));
            }
            seen.extend(row.words());
        }
    }
    Ok(())
}

/// Persons and organisations whose approval is good and holds now; each once.
pub(crate) fn approvers<'p>(
    policy: &'p Policy,
    approvals: &[Approval],
    hash: &Hex<32>,
    now: i64,
) -> Vec<(&'p str, &'p str)> {
    let mut good = BTreeMap::new();
    for approval in approvals.iter().filter(|approval| approval.expires > now) {
        let person = policy.approvers.iter().find(|a| a.person == approval.person);
        let bytes = approval_bytes(hash, approval.expires);
        if let Some(person) = person.filter(|p| is_signed(&p.key, &bytes, &approval.signature)) {
            good.insert(person.person.as_str(), person.organisation.as_str());
        }
    }
    good.into_iter().collect()
}

pub(crate) fn approved(approvers: &[(&str, &str)], needed: usize) -> Result<(), Refusal> {
    let given = approvers.len();
    if given < needed { Err(Refusal::Approvals { given, needed }) } else { Ok(()) }
}

/// Members of the group on the day, and that every row is one of them.
fn members<'s>(state: &'s State, group: &str, day: i64, rows: &[Placed<'_>]) -> Result<&'s Membership, Refusal> {
    let members = state.members(group, day).ok_or_else(|| Refusal::UnknownGroup(group.to_owned()))?;
    match rows.iter().find(|(_, meter)| !members.has(meter)) {
        Some((row, _)) => Err(Refusal::NotMember { meter: row.meter, group: group.to_owned() }),
        None => Ok(members),
    }
}

/// That every slot has enough homes.
fn floor(policy: &Policy, rows: &[Placed<'_>], slots: usize) -> Result<(), Refusal> {
    let mut homes = Tally::new(slots);
    for (row, meter) in rows {
        if row.offset as usize + row.end() > slots {
            return Err(Refusal::Shape("a cell beyond the last slot"));
        }
        if meter.role == Role::Home {
            homes.add(row);
        }
    }
    match (0..slots).map(|slot| (slot, homes.count(slot))).find(|(_, homes)| *homes < policy.floor) {
        Some((slot, homes)) => Err(Refusal::TooFew { slot, homes, floor: policy.floor }),
        None => Ok(()),
    }
}

/// Counts of slots, kept by binary digit: adding a row is a carry through whole words.
struct Tally {
    digits: Vec<Vec<u64>>,
}

impl Tally {
    fn new(slots: usize) -> Self {
        // as many digits as the most rows of a query need, and one word beyond the last slot for those that are shifted
        let digits = ROWS_MAX.ilog2() as usize + 1;
        Self { digits: vec![vec![0; slots.div_ceil(64) + 1]; digits] }
    }

    /// One more in each slot of the row; the row ends before the last slot.
    fn add(&mut self, row: &Row) {
        let (from, shift) = (row.offset as usize / 64, row.offset % 64);
        for (k, word) in row.present.iter().enumerate().filter(|(_, word)| **word != 0) {
            self.carry(from + k, word << shift);
            // in two steps, because a shift by 64 is none
            self.carry(from + k + 1, word >> (63 - shift) >> 1);
        }
    }

    fn carry(&mut self, at: usize, mut ones: u64) {
        for digit in self.digits.iter_mut().filter_map(|digit| digit.get_mut(at)) {
            if ones == 0 {
                return;
            }
            (*digit, ones) = (*digit ^ ones, *digit & ones);
        }
    }

    fn count(&self, slot: usize) -> u32 {
        let digit = |digit: &Vec<u64>| (digit[slot / 64] >> (slot % 64) & 1) as u32;
        self.digits.iter().zip(0..).map(|(d, place)| digit(d) << place).sum()
    }
}

/// That a day's membership is that of readings: of their first day, their last, one between, or the day after.
fn of_day(policy: &Policy, first: u64, slots: u64, day: i64) -> Result<(), Refusal> {
    let of = |counter: u64| i64::try_from(counter / u64::from(policy.day_slots)).unwrap_or(i64::MAX);
    let last = first.saturating_add(slots).saturating_sub(1);
    let days = of(first)..=of(last).saturating_add(1);
    if days.contains(&day) { Ok(()) } else { Err(Refusal::Day) }
}

fn spatial(policy: &Policy, state: &State, q: &SpatialQuery, rows: &[Placed<'_>]) -> Result<(), Refusal> {
    if q.slots == 0 || q.slots as usize > SLOTS_MAX {
        return Err(Refusal::Shape("no slot, or more than a month of minutes"));
    }
    members(state, &q.group, q.day, rows)?;
    of_day(policy, cross::aligned(&q.rows)?, u64::from(q.slots), q.day)?;
    floor(policy, rows, q.slots as usize)?;
    for (row, meter) in rows {
        if let Some(counter) = meter.used(q.field).common(row.words()) {
            return Err(Refusal::CellUsed { meter: row.meter, counter });
        }
        if let Some(counter) = meter.omitted(q.field).common(row.words()) {
            return Err(Refusal::Omitted { meter: row.meter, counter });
        }
    }
    Ok(())
}

/// The one meter of rows.
fn one_meter(rows: &[Row]) -> Result<MeterId, Refusal> {
    let meter = rows.first().ok_or(Refusal::Shape("no cells"))?.meter;
    let is_one = rows.iter().all(|row| row.meter == meter);
    is_one.then_some(meter).ok_or(Refusal::Shape("cells of several meters"))
}

fn bill(policy: &Policy, state: &State, q: &BillQuery) -> Result<(), Refusal> {
    let meter = one_meter(&q.rows)?;
    if !is_signed(&policy.tariff_key, &q.weights.signed_bytes(), &q.weights.signature) {
        return Err(Refusal::Tariff);
    }
    let length = q.weights.runs.iter().fold(0_usize, |sum, run| sum.saturating_add(run.length as usize));
    if length > SLOTS_MAX {
        return Err(Refusal::Shape("a register of more slots than a month of minutes"));
    }
    let functional = functional_of_bill(q);
    if !span::is_spread(&functional) {
        return Err(Refusal::Weights);
    }
    // a month's register whose weights lie on one day would be a bill of that day
    let day = |counter: &u64| counter / u64::from(policy.day_slots);
    if functional.keys().next().map(day) == functional.keys().next_back().map(day) {
        return Err(Refusal::Period { days: 1, least: EXCEPTION_DAYS_MIN });
    }
    period(policy, &q.rows, q.exception.is_some())?;
    if q.exception.is_some() && state.short_periods.contains_key(&meter) {
        // two short periods beside each other would leave a day alone
        return Err(Refusal::Period { days: days(policy, &q.rows).0, least: policy.bill_days_min });
    }
    Ok(())
}

fn fault(policy: &Policy, q: &FaultQuery) -> Result<(), Refusal> {
    one_meter(&q.rows)?;
    period(policy, &q.rows, false)
}

/// Days from the first to the last cell, and cells meant.
fn days(policy: &Policy, rows: &[Row]) -> (u32, usize, usize) {
    let cells: usize = rows.iter().map(Row::count).sum();
    let span: usize = rows.iter().map(Row::end).sum();
    (u32::try_from(cells / policy.day_slots as usize).unwrap_or(u32::MAX), cells, span)
}

fn period(policy: &Policy, rows: &[Row], is_exception: bool) -> Result<(), Refusal> {
    let (days, cells, span) = days(policy, rows);
    let least = if is_exception { EXCEPTION_DAYS_MIN } else { policy.bill_days_min };
    // what never arrived is forgiven up to the share that may be absent
    let full = cells + cells * ABSENT_PERMILLE / 1_000;
    if full < (least * policy.day_slots) as usize {
        return Err(Refusal::Period { days, least });
    }
    if (span - cells) * 1_000 > span * ABSENT_PERMILLE { Err(Refusal::Absent) } else { Ok(()) }
}

fn theft_case(policy: &Policy, state: &State, q: &TheftQuery, rows: &[Placed<'_>], now: i64) -> Result<(), Refusal> {
    let members = members(state, &q.group, q.day, rows)?;
    let is_private = q.epsilon_micro.is_some_and(|micro| micro > 0) && q.field == Field::Clipped;
    if q.epsilon_micro.is_some() && !is_private {
        return Err(Refusal::NotClipped);
    }
    if q.field == Field::Export {
        return Err(Refusal::Shape("a theft case asks for import, its clipped form or voltage"));
    }
    let slots = q.series.supplied.len();
    if slots > SLOTS_MAX {
        return Err(Refusal::Shape("more slots than a month of minutes"));
    }
    of_day(policy, cross::aligned(&q.rows)?, slots as u64, q.day)?;
    if q.rows.iter().any(|row| row.offset as usize + row.end() > slots) {
        return Err(Refusal::Shape("a cell beyond the last slot"));
    }
    if q.series.metered.len() != slots || q.series.loss.len() != slots {
        return Err(Refusal::Shape("series of unequal length"));
    }
    if slots < (policy.bill_days_min * policy.day_slots) as usize {
        return Err(Refusal::Period { days: (slots / policy.day_slots as usize) as u32, least: policy.bill_days_min });
    }
    let homes: BTreeSet<MeterId> = members.members.iter().copied().filter(|m| state.roster.is_home(*m)).collect();
    let asked: BTreeSet<MeterId> = q.rows.iter().map(|row| row.meter).collect();
    if asked != homes || (homes.len() as u32) < policy.floor {
        return Err(Refusal::NotAllHomes);
    }
    let alarm = theft::alarm(&q.series, policy);
    if alarm.missing_wh_day < alarm.needed_wh_day {
        return Err(Refusal::NoAlarm { missing: alarm.missing_wh_day, needed: alarm.needed_wh_day });
    }
    let (mut cells, mut covered) = (0, 0);
    for (row, meter) in rows {
        // the alarm rests on sums of import; voltage and the clipped form are asked for the same cells
        for (at, bits) in row.words() {
            cells += bits.count_ones() as usize;
            covered += (meter.used(Field::Import).word(at) & bits).count_ones() as usize;
        }
    }
    let permille = covered * 1_000 / cells.max(1);
    if permille < COVERED_PERMILLE || cells * 1_000 < homes.len() * slots * COVERED_PERMILLE {
        return Err(Refusal::Coverage { permille, needed: COVERED_PERMILLE });
    }
    let recent = |meter: &MeterId| {
        let within = |case: &&crate::custodian::TheftCase| case.at > now - YEAR_SECONDS && case.homes.contains(meter);
        state.cases.values().filter(within).count()
    };
    match homes.iter().find(|meter| recent(meter) >= policy.theft_cases_max as usize) {
        Some(meter) => Err(Refusal::Cases(*meter)),
        None => Ok(()),
    }
}

fn unmask(policy: &Policy, state: &State, q: &UnmaskQuery, now: i64) -> Result<(), Refusal> {
    let meter = one_meter(&q.rows)?;
    if q.expires <= now {
        return Err(Refusal::Expired);
    }
    let is_inside = |row: &Row| row.first >= q.scope.0 && row.first + row.end() as u64 <= q.scope.1 + 1;
    let cells: usize = q.rows.iter().map(Row::count).sum();
    if !q.rows.iter().all(is_inside) || cells > policy.unmask_slots_max as usize {
        return Err(Refusal::Scope);
    }
    if q.notice_at > now + i64::from(policy.notice_days_max) * 86_400 {
        return Err(Refusal::Notice(policy.notice_days_max));
    }
    match &q.basis {
        LegalBasis::FieldEvidence { case } if !state.cases.get(case).is_some_and(|c| c.homes.contains(&meter)) => {
            Err(Refusal::NoCase)
        }
        LegalBasis::CourtOrder { number } if number.trim().is_empty() => {
            Err(Refusal::Shape("a court order without number"))
        }
        _ => Ok(()),
    }
}

fn statistic(policy: &Policy, state: &State, q: &StatisticQuery, rows: &[Placed<'_>]) -> Result<(), Refusal> {
    let slots = (q.band as usize).saturating_mul(q.bands as usize);
    if slots == 0 || slots > SLOTS_MAX || q.level_micro == 0 || q.purpose == Purpose::Theft {
        return Err(Refusal::Shape("no band, too many slots, no noise, or the purpose of theft cases"));
    }
    if q.adjacency == Adjacency::UserMonth && slots > 31 * policy.day_slots as usize {
        return Err(Refusal::Shape("the adjacency user-month covers at most 31 days"));
    }
    members(state, &q.group, q.day, rows)?;
    of_day(policy, cross::aligned(&q.rows)?, slots as u64, q.day)?;
    answer::noise_of(policy, q)?;
    let homes: BTreeSet<u32> =
        rows.iter().filter(|(_, meter)| meter.role == Role::Home).map(|(_, meter)| meter.number).collect();
    let homes = homes.len() as u32;
    let is_beyond = q.rows.iter().any(|row| row.offset as usize + row.end() > slots);
    match () {
        () if is_beyond => Err(Refusal::Shape("a cell beyond the last slot")),
        () if homes < policy.floor => Err(Refusal::TooFew { slot: 0, homes, floor: policy.floor }),
        () => Ok(()),
    }
}

fn check(state: &State, q: &CheckQuery) -> Result<(), Refusal> {
    match state.released.get(&q.of) {
        Some(Some(sum)) if q.slot < sum.slots => Ok(()),
        _ => Err(Refusal::NothingToCheck),
    }
}

/// L1 sensitivity of a statistic, Wh. A user's month has the allowance of every day that the window touches: one from noon to noon
/// touches two.
pub(crate) fn sensitivity(policy: &Policy, q: &StatisticQuery, adjacency: Adjacency) -> u64 {
    let day = u64::from(policy.clip_day_wh);
    match adjacency {
        Adjacency::Event => u64::from(policy.clip_slot_wh).min(day),
        Adjacency::HomeDay => day,
        Adjacency::UserMonth => {
            let first = cross::start(&q.rows).unwrap_or(0);
            let slots = (u64::from(q.band) * u64::from(q.bands)).max(1);
            let of = |counter: u64| counter / u64::from(policy.day_slots);
            day * (of(first + slots - 1) - of(first) + 1)
        }
    }
}

/// Square of the L2 sensitivity, Wh²: a number changes by at most its slots' allowances, all numbers together by at most L1, so
/// `Δ₂² ≤ L1·min(L1, band·clip_slot)`.
pub(crate) fn sensitivity_squared(policy: &Policy, q: &StatisticQuery, adjacency: Adjacency) -> u64 {
    let slot = u64::from(policy.clip_slot_wh);
    let one = if adjacency == Adjacency::Event { slot } else { slot.saturating_mul(u64::from(q.band)) };
    let l1 = sensitivity(policy, q, adjacency);
    l1.saturating_mul(l1.min(one))
}

/// Millionths of ε that a statistic costs a home-day, which is what budgets are kept in. Noise that hides one slot hides a home-day as
/// much less as that has more allowance; noise that hides a month hides a day of it at least as well.
fn statistic_micro(policy: &Policy, q: &StatisticQuery) -> u64 {
    let as_of_day = |of: fn(&Policy, &StatisticQuery, Adjacency) -> u64| {
        let (day, slot) = (of(policy, q, Adjacency::HomeDay), of(policy, q, Adjacency::Event).max(1));
        let micro = (u128::from(q.level_micro) * u128::from(day)).div_ceil(u128::from(slot));
        if q.adjacency == Adjacency::Event { u64::try_from(micro).unwrap_or(u64::MAX) } else { q.level_micro }
    };
    match q.mechanism {
        Mechanism::Laplace => as_of_day(sensitivity),
        Mechanism::Gauss => gauss_micro(as_of_day(sensitivity_squared)),
    }
}

/// What a query costs each of its homes.
pub(crate) fn costs(policy: &Policy, query: &Query) -> Vec<Cost> {
    let (rows, purpose, micro) = match query {
        Query::Statistic(q) => (&q.rows, q.purpose, statistic_micro(policy, q)),
        Query::Theft(TheftQuery { rows, epsilon_micro: Some(micro), .. }) => (rows, Purpose::Theft, *micro),
        _ => return Vec::new(),
    };
    let mut days: BTreeMap<MeterId, (u64, u64)> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.count() > 0) {
        let day = |counter: u64| counter / u64::from(policy.day_slots);
        let (first, last) = (day(row.first), day(row.first + row.end() as u64 - 1));
        let entry = days.entry(row.meter).or_insert((first, last));
        *entry = (entry.0.min(first), entry.1.max(last));
    }
    days.into_iter().map(|(meter, days)| Cost { purpose, meter, days, micro }).collect()
}

/// ε of a Gaussian release of so many millionths of ρ, millionths, rounded up.
fn gauss_micro(rho_micro: u64) -> u64 {
    // epsilon_of_gauss takes Δ²/(2σ²) = ρ: Δ² = 2ρ at σ² = 1
    let rho = rho_micro as f64 / 1e6;
    (epsilon_of_gauss((2.0 * rho).sqrt(), 1.0, DELTA) * 1e6).ceil() as u64
}

fn functional_of_bill(q: &BillQuery) -> Functional {
    let mut functional = Functional::new();
    for row in &q.rows {
        for counter in row.cells().map(|k| row.first + k as u64) {
            let weight = i64::from(q.weights.weight(counter));
            if weight != 0 {
                functional.insert(counter, weight);
            }
        }
    }
    functional
}

/// The exact sums over time that a query releases.
pub(crate) fn functionals(query: &Query) -> Vec<(MeterId, Field, Functional)> {
    let ones = |rows: &[Row]| -> Functional {
        rows.iter().flat_map(|row| row.cells().map(|k| (row.first + k as u64, 1))).collect()
    };
    match query {
        Query::Bill(q) => q.rows.first().map(|row| (row.meter, q.field, functional_of_bill(q))).into_iter().collect(),
        Query::Fault(q) => q.rows.first().map(|row| (row.meter, q.field, ones(&q.rows))).into_iter().collect(),
        // scores with noise are in the ledger instead
        Query::Theft(q) if q.epsilon_micro.is_none() => {
            let signs = theft::signs(&q.series);
            let mut all: BTreeMap<MeterId, Functional> = BTreeMap::new();
            for row in &q.rows {
                let functional = all.entry(row.meter).or_default();
                for k in row.cells() {
                    let sign = signs.get(row.offset as usize + k).copied().unwrap_or(0);
                    if sign != 0 {
                        functional.insert(row.first + k as u64, sign);
                    }
                }
            }
            all.into_iter().map(|(meter, functional)| (meter, q.field, functional)).collect()
        }
        _ => Vec::new(),
    }
}

fn audit(policy: &Policy, state: &State, query: &Query) -> Result<(), Refusal> {
    for (meter, field, new) in functionals(query) {
        let before = state.functionals.get(&(meter, field.audited_as())).map(Vec::as_slice).unwrap_or_default();
        let together = connected(&new, before);
        if together.len() > policy.registers_max as usize + policy.theft_cases_max as usize {
            return Err(Refusal::Registers(policy.registers_max));
        }
        match span::smallest_support(&together) {
            Some(slots) if slots < policy.support_min as usize => {
                return Err(Refusal::Span { slots, least: policy.support_min });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The new sum and those before that share counters with it, directly or through others.
fn connected<'f>(new: &'f Functional, before: &'f [Functional]) -> Vec<&'f Functional> {
    let ends = |f: &Functional| Some((*f.keys().next()?, *f.keys().next_back()?));
    let mut together = vec![new];
    let mut left: Vec<&Functional> = before.iter().collect();
    let Some(mut range) = ends(new) else { return together };
    loop {
        let (near, far): (Vec<&Functional>, Vec<&Functional>) =
            left.into_iter().partition(|f| ends(f).is_some_and(|(a, b)| a <= range.1 && b >= range.0));
        if near.is_empty() {
            return together;
        }
        for (a, b) in near.iter().filter_map(|f| ends(f)) {
            range = (range.0.min(a), range.1.max(b));
        }
        together.extend(near);
        left = far;
    }
}
