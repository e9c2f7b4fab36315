//! Supply paid in advance: each local midnight the day just ended is debited; supply ends when nothing is left, but not in the hours in
//! which a customer could not do anything about it.

use jiff::civil::Date;

use crate::{
    bill::{Account, Line, sum_minor},
    calendar::{Segments, day_start},
    cycle::Supply,
    error::{Fault, RatingError},
    exact::Exact,
    plan::Plan,
    rate::{self, Inputs},
    tariff::Tariff,
};

/// A stretch of days under prepayment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepaidOrder {
    /// Identity.
    pub id: String,
    /// First local day.
    pub from: Date,
    /// The day after the last.
    pub to: Date,
    /// Balance at the beginning, minor units.
    pub opening_balance: i64,
    /// Top-ups: instant, minor units; by time.
    pub topups: Vec<(i64, i64)>,
    /// Readings received later are not known.
    pub issued_s: Option<i64>,
}

/// A day's debit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debit {
    /// The day.
    pub date: Date,
    /// Energy, kWh.
    pub kwh: Exact,
    /// Its lines.
    pub lines: Vec<Line>,
    /// Their sum, minor units.
    pub debit: i64,
    /// Balance after it, minor units.
    pub balance: i64,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Money came in, minor units.
    TopUp(i64),
    /// Supply ended.
    Disconnect,
    /// Supply came back.
    Reconnect,
}

/// When something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Instant, Unix seconds.
    pub at_s: i64,
    /// What.
    pub kind: EventKind,
    /// Balance after it, minor units.
    pub balance: i64,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepaidResult {
    /// Identity.
    pub id: String,
    /// Debits by day.
    pub ledger: Vec<Debit>,
    /// Events by time.
    pub events: Vec<Event>,
    /// Sum of debits, minor units.
    pub total: i64,
    /// Balance at the end, minor units.
    pub closing_balance: i64,
    /// Whether there is supply at the end.
    pub connected: bool,
}

/// Balance and supply through time.
struct Purse {
    balance: i64,
    limit: i64,
    connected: bool,
    /// When supply is to end, if nothing comes in before.
    ends_at_s: Option<i64>,
    friendly: Segments,
    events: Vec<Event>,
}

impl Purse {
    fn event(&mut self, at_s: i64, kind: EventKind) {
        self.events.push(Event { at_s, kind, balance: self.balance });
    }

    /// Lets time pass up to an instant, which itself is not reached.
    fn pass(&mut self, before_s: i64) {
        if let Some(at_s) = self.ends_at_s.filter(|at_s| *at_s < before_s) {
            self.connected = false;
            self.ends_at_s = None;
            self.event(at_s, EventKind::Disconnect);
        }
    }

    /// Decides what the balance means at an instant.
    fn judge(&mut self, at_s: i64) {
        let empty = self.balance <= self.limit;
        match (self.connected, empty) {
            (true, true) if self.ends_at_s.is_none() => self.ends_at_s = self.first_unfriendly(at_s),
            (true, false) => self.ends_at_s = None,
            (false, false) => {
                self.connected = true;
                self.event(at_s, EventKind::Reconnect);
            }
            _ => {}
        }
    }

    fn first_unfriendly(&self, from_s: i64) -> Option<i64> {
        let outside = self.friendly.iter().find(|(_, end_s, held)| *end_s > from_s && held.is_none());
        outside.map(|(start_s, _, _)| start_s.max(from_s))
    }
}

/// Runs prepayment over the days of an order.
pub fn run(supply: &Supply<'_>, order: &PrepaidOrder, account: &mut Account) -> Result<PrepaidResult, Fault> {
    let place = format!("bill {}", order.id);
    let in_case = |why: RatingError| why.in_files("tariff", supply.readings_file, supply.case_file, &place);
    let days = crate::plan::days_between(order.from, order.to);
    if !(1..=crate::plan::BILL_DAYS_MAX).contains(&days) {
        let message = format!("{} to {}: the days must be 1 to {}", order.from, order.to, crate::plan::BILL_DAYS_MAX);
        return Err(Fault::new(supply.case_file, place, message));
    }
    let first = supply.tariff_on(order.from).map_err(in_case)?;
    let mut purse = open(&first.tariff, order)
        .map_err(|why| why.in_files(&first.file, supply.readings_file, supply.case_file, &place))?;
    let begins_s = day_start(&first.tariff.zone, order.from).unwrap_or(i64::MIN);
    purse.judge(begins_s);
    let tracks = supply.known_at(order.issued_s);
    let mut topups = order.topups.iter().peekable();
    let mut ledger = Vec::new();
    let mut day = order.from;
    while day < order.to {
        let listed = supply.tariff_on(day).map_err(in_case)?;
        let in_files = |why: RatingError| {
            why.in_files(&listed.file, supply.readings_file, supply.case_file, &format!("day {day}"))
        };
        let next = day.tomorrow().map_err(|_| in_case(RatingError::Case(format!("{day} is the last day of time"))))?;
        let plan = Plan::new(&listed.tariff, day, next, (day, next)).map_err(in_files)?;
        let plan = Plan { months: Exact::ONE, ..plan };
        while let Some((at_s, amount)) = topups.next_if(|(at_s, _)| *at_s < plan.to_s) {
            purse.pass(*at_s);
            purse.balance = purse.balance.saturating_add(*amount);
            purse.event(*at_s, EventKind::TopUp(*amount));
            purse.judge(*at_s);
        }
        purse.pass(plan.to_s);
        let (lines, kwh) = rate_day(supply, &plan, &tracks, account).map_err(in_files)?;
        let debit = sum_minor(lines.iter()).map_err(in_files)?;
        purse.balance = purse.balance.saturating_sub(debit);
        purse.judge(plan.to_s);
        ledger.push(Debit { date: day, kwh, lines, debit, balance: purse.balance });
        if next == order.to {
            // The last debit may end supply in the same minute.
            purse.pass(plan.to_s.saturating_add(1));
        }
        day = next;
    }
    Ok(PrepaidResult {
        id: order.id.clone(),
        total: ledger.iter().map(|debit| debit.debit).fold(0, i64::saturating_add),
        ledger,
        closing_balance: purse.balance,
        connected: purse.connected,
        events: purse.events,
    })
}

fn open(tariff: &Tariff, order: &PrepaidOrder) -> Result<Purse, RatingError> {
    let prepaid = tariff.prepaid.as_ref().ok_or_else(|| {
        RatingError::Tariff(
            "the tariff has no `prepaid`; say at which balance supply ends: {\"disconnect_at\": \"0\"}".into(),
        )
    })?;
    let outside = || RatingError::Case("the days lie outside of the time that can be computed".into());
    let from_s = day_start(&tariff.zone, order.from).ok_or_else(outside)?;
    let to_s = day_start(&tariff.zone, order.to).ok_or_else(outside)?;
    if order.topups.iter().any(|(at_s, _)| !(from_s..to_s).contains(at_s)) {
        return Err(RatingError::Case("a top-up lies outside of the days; move it, or widen the days".into()));
    }
    // The minute of the last debit counts as well.
    let friendly = Segments::of_rule(&prepaid.friendly, &tariff.holidays, &tariff.zone, (from_s, to_s + 60));
    Ok(Purse {
        balance: order.opening_balance,
        limit: crate::bill::to_minor(&prepaid.disconnect_at, tariff.minor_digits)?,
        connected: true,
        ends_at_s: None,
        friendly,
        events: Vec::new(),
    })
}

fn rate_day(
    supply: &Supply<'_>,
    plan: &Plan<'_>,
    tracks: &[crate::readings::Track],
    account: &mut Account,
) -> Result<(Vec<Line>, Exact), RatingError> {
    let listed = supply.tariff_on(plan.from)?;
    let usage = supply.usage(plan, tracks)?;
    let inputs = Inputs::new(plan, &listed.files, &usage, supply.customer);
    let part = rate::rate(&inputs, account)?;
    let kwh = rate::energy_of_part(&inputs, &part.netting)?;
    Ok((part.lines, kwh))
}
