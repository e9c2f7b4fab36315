//! A tariff in plain sentences: from when, at which hours, what for, and what a household of 250 kWh pays.

use jiff::civil::Date;

use super::{
    Basis, Calendar, Charge, Condition, DemandUse, EnergyBasis, Export, Fact, Flow, LimitPer, LoadUnit, MinimumPer,
    MonthBy, Of, Pots, Price, Rate, Tariff, Test,
};
use crate::{
    bill::{Account, Part, from_minor, sum_minor},
    customer::Customer,
    cycle::Listed,
    error::RatingError,
    exact::Exact,
    plan::Plan,
    rate::{self, Inputs},
    usage::{Energy, Interval, Usage},
    when::{DAY_MINUTES, HOLIDAY_BIT, When},
};

/// Energy of the household, kWh.
pub const HOUSEHOLD_KWH: i128 = 250;

/// What a household pays for a month.
#[derive(Clone, Debug)]
pub struct Household {
    /// First day of the month.
    pub month: Date,
    /// What was assumed of the customer, because the tariff asks.
    pub assumed: Vec<String>,
    /// Its bill.
    pub part: Part,
    /// Its total before the rounding of totals, currency units.
    pub total: Exact,
}

/// All sentences but the household's.
pub fn sentences(tariff: &Tariff) -> Vec<String> {
    let mut said = vec![format!(
        "{} ({}): amounts in {} with {} digits, times and dates of {}.",
        tariff.name, tariff.id, tariff.currency, tariff.minor_digits, tariff.zone_name
    )];
    said.push(match (tariff.valid_from, tariff.valid_to) {
        (None, None) => "It holds without a first or last day.".to_owned(),
        (Some(from), None) => format!("It holds from {from} on."),
        (None, Some(to)) => format!("It holds up to and with {to}."),
        (Some(from), Some(to)) => format!("It holds from {from} up to and with {to}."),
    });
    said.push(match &tariff.month_count.by {
        MonthBy::Bill => "A bill is one month, whatever its length.".to_owned(),
        MonthBy::Calendar => "Months are counted by days: each is one over the days of its month.".to_owned(),
        MonthBy::Days(days) => format!("A month is {} days.", days.to_decimal(4)),
    });
    for calendar in &tariff.calendars {
        said.push(format!("Hours of \"{}\": {}.", calendar.name, hours(calendar)));
    }
    said.extend(
        match &tariff.export {
            Export::Separate => None,
            Export::NetMetering(Pots::One) => Some("Export is deducted from import; a surplus is carried in kWh."),
            Export::NetMetering(Pots::OfCalendar(_) | Pots::OfRegisters) => {
                Some("Export is deducted from import period by period; a surplus is carried in kWh.")
            }
            Export::NetBilling { window_min: None } => Some("Export is priced apart from import."),
            Export::NetBilling { .. } => Some("Import and export are netted inside a window, then priced apart."),
        }
        .map(str::to_owned),
    );
    said.extend(tariff.charges.iter().map(charge_sentence));
    let rounding = &tariff.rounding;
    let mut rules = vec![format!("lines {}", rounding.line.label())];
    for (what, rule) in [
        ("energy (kWh)", &rounding.energy),
        ("demand", &rounding.demand),
        ("contracted load", &rounding.contract),
        ("the total", &rounding.total),
    ] {
        rules.extend(rule.as_ref().map(|rule| format!("{what} {}", rule.label())));
    }
    said.push(format!("Rounding: {}.", rules.join(", ")));
    if let Some(prepaid) = &tariff.prepaid {
        let friendly: Vec<String> = prepaid.friendly.iter().map(when_words).collect();
        let spared =
            if friendly.is_empty() { "never spared".to_owned() } else { format!("spared {}", friendly.join("; ")) };
        said.push(format!("Paid in advance: supply ends at a balance of {}, {spared}.", prepaid.disconnect_at));
    }
    said
}

fn clock(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn when_words(when: &When) -> String {
    let mut words = Vec::new();
    if when.months != When::ALWAYS.months {
        let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let named: Vec<&str> = (0..12).filter(|m| when.months & (2 << m) != 0).map(|m| names[m]).collect();
        words.push(format!("in {}", named.join(" ")));
    }
    for (from, to) in &when.seasons {
        words.push(format!("{:02}-{:02} to {:02}-{:02}", from.0, from.1, to.0, to.1));
    }
    words.push(match when.days {
        u8::MAX => "every day".to_owned(),
        0b001_1111 => "Monday to Friday".to_owned(),
        0b110_0000 => "Saturday and Sunday".to_owned(),
        mask => {
            let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
            let mut named: Vec<&str> = (0..7).filter(|day| mask & (1 << day) != 0).map(|day| names[day]).collect();
            named.extend((mask & HOLIDAY_BIT != 0).then_some("holidays"));
            named.join(" ")
        }
    });
    if (when.from_minute, when.to_minute) != (0, DAY_MINUTES) {
        words.push(format!("{}–{}", clock(when.from_minute), clock(when.to_minute)));
    }
    words.join(" ")
}

fn hours(calendar: &Calendar) -> String {
    let of = |period: &super::Period| {
        let rest = period.when.contains(&When::ALWAYS);
        let times: Vec<String> = period.when.iter().map(when_words).collect();
        format!("{} {}", period.name, if rest { "otherwise".to_owned() } else { times.join(" and ") })
    };
    calendar.periods.iter().map(of).collect::<Vec<_>>().join("; ")
}

fn test_words(test: &Test) -> String {
    match test {
        Test::Is(word) => format!("is {word}"),
        Test::Over(limit) => format!("is over {limit}"),
        Test::From(limit) => format!("is {limit} or more"),
        Test::Upto(limit) => format!("is up to {limit}"),
        Test::Below(limit) => format!("is below {limit}"),
    }
}

fn condition_words(conditions: &[Condition]) -> String {
    let fact = |what: &Fact| match what {
        Fact::ImportKwh => "the energy in kWh".to_owned(),
        Fact::ImportGrossKwh => "the energy in kWh before netting".to_owned(),
        Fact::Demand(unit) => format!("the demand in {}", unit.word()),
        Fact::PowerFactor => "the power factor".to_owned(),
        Fact::Days => "the number of days".to_owned(),
        Fact::Months => "the number of months".to_owned(),
        Fact::HistoryMaxKwh(count) => format!("the largest of the last {count} bills in kWh"),
        Fact::Customer(name) => format!("the customer's {name}"),
    };
    let one = |condition: &Condition| {
        let tests: Vec<String> = condition.test.iter().map(test_words).collect();
        let per = if condition.per_month { " a month" } else { "" };
        format!("{}{per} {}", fact(&condition.what), tests.join(" and "))
    };
    conditions.iter().map(one).collect::<Vec<_>>().join(" and ")
}

fn of_words(of: &Of) -> String {
    match of {
        Of::All => "everything above".to_owned(),
        Of::Codes(codes) => codes.join(" + "),
    }
}

fn charge_sentence(charge: &Charge) -> String {
    let about = match &charge.basis {
        Basis::Energy(basis) => energy_words(basis),
        Basis::Demand(basis) => {
            let which = match basis.usage {
                DemandUse::Billing => "of maximum demand",
                DemandUse::Excess => "of demand over the contract",
                DemandUse::Coincident(_) => "of demand at the listed times",
            };
            format!("per {} {which} and {}", basis.unit.word(), per_year(basis.per_year))
        }
        Basis::Month { per_year: yearly } => format!("per {}", per_year(*yearly)),
        Basis::Day { per_year: true } => "per year, by days".to_owned(),
        Basis::Day { per_year: false } => "per day".to_owned(),
        Basis::Contract { unit, per_year: yearly } => {
            format!("per {} of contract and {}", unit.word(), per_year(*yearly))
        }
        Basis::Amount { of, gross_up } => {
            format!("of {}{}", of_words(of), if *gross_up { ", inside the price" } else { "" })
        }
        Basis::Minimum { of, per } => format!("at least, for {}, {}", of_words(of), minimum_words(per)),
        Basis::Carry { of, .. } => format!("a credit over {} is carried to the next bill", of_words(of)),
        Basis::Settle { .. } => "per kWh that is still carried, once a year".to_owned(),
    };
    let rates: Vec<String> = charge.rates.iter().map(rate_words).collect();
    let condition = match charge.conditions.as_slice() {
        [] => String::new(),
        conditions => format!(", if {}", condition_words(conditions)),
    };
    let credit = if charge.credit { " (paid to the customer)" } else { "" };
    format!("{} – {}{credit}: {} {about}{condition}.", charge.code, charge.name, rates.join("; "))
}

fn per_year(yearly: bool) -> &'static str {
    if yearly { "year" } else { "month" }
}

fn energy_words(basis: &EnergyBasis) -> String {
    let flow = match basis.flow {
        Flow::Import => "",
        Flow::ImportGross => " of import before netting",
        Flow::Export => " of export",
    };
    let blocks = if basis.whole { ", all units at the block reached" } else { "" };
    let limits = match basis.limit_per {
        LimitPer::Month => "",
        LimitPer::Day => ", limits a day",
        LimitPer::Kilowatt => ", limits for each kW of demand",
    };
    let above = basis.less_percent.as_ref().map(|percent| format!(" above {percent} % of the active energy"));
    format!("per {}{flow}{}{blocks}{limits}", basis.unit.word(), above.unwrap_or_default())
}

fn minimum_words(per: &MinimumPer) -> String {
    match per {
        MinimumPer::Month => "a month".to_owned(),
        MinimumPer::Year => "a year".to_owned(),
        MinimumPer::Day => "a day".to_owned(),
        MinimumPer::Contract(unit) => format!("per {} of contract and month", unit.word()),
        MinimumPer::PastDemand { unit, lookback, .. } => {
            format!("per {} of the highest demand of the last {lookback} months", unit.word())
        }
    }
}

fn rate_words(rate: &Rate) -> String {
    let price = match &rate.price {
        Price::Fixed(price) => price.to_decimal(8),
        Price::Percent(percent) => format!("{} %", percent.to_decimal(8)),
        Price::Series { mul, adj, cap, .. } => {
            let cap = cap.as_ref().map(|cap| format!(", at most {cap}")).unwrap_or_default();
            format!("the series × {mul} + {adj}{cap}")
        }
    };
    let period = rate.period.as_ref().map(|period| format!("{period} ")).unwrap_or_default();
    let limit = rate.max.as_ref().map(|max| format!(" up to {max}")).unwrap_or_default();
    let condition = match rate.conditions.as_slice() {
        [] => String::new(),
        conditions => format!(" if {}", condition_words(conditions)),
    };
    format!("{period}{price}{limit}{condition}")
}

/// The bill of a household that uses 250 kWh in a month, the same in every hour.
pub fn household(listed: &Listed) -> Result<Household, RatingError> {
    let tariff = &listed.tariff;
    let month = example_month(tariff);
    let next = month.checked_add(jiff::Span::new().months(1)).map_err(|_| outside())?;
    let plan = Plan::new(tariff, month, next, (month, next))?;
    let (customer, assumed) = assumed_customer(tariff);
    let hours = i128::from((plan.to_s - plan.from_s) / 3600).max(1);
    // Amounts of each hour are whole if Wh are counted in parts of the number of hours.
    let hour = |number: i128| {
        let start_s = plan.from_s + i64::try_from(number).unwrap_or(0) * 3600;
        Interval { start_s, end_s: start_s + 3600, amount: HOUSEHOLD_KWH * 1000, period: None }
    };
    let usage = Usage::of_import(hours, Energy::Intervals((0..hours).map(hour).collect()));
    let inputs = Inputs::new(&plan, &listed.files, &usage, &customer);
    let part = rate::rate(&inputs, &mut Account::default())?;
    let total = from_minor(sum_minor(part.lines.iter())?, tariff.minor_digits);
    Ok(Household { month, assumed, part, total })
}

fn outside() -> RatingError {
    RatingError::Case("the month lies outside of the time that can be computed".into())
}

/// The first whole month in which the tariff holds, or the last, or any.
fn example_month(tariff: &Tariff) -> Date {
    let month = jiff::Span::new().months(1);
    match (tariff.valid_from, tariff.valid_to) {
        (Some(from), _) if from.day() == 1 => from,
        (Some(from), _) => from.first_of_month().checked_add(month).unwrap_or(from),
        (None, Some(to)) if to.tomorrow().is_ok_and(|next| next.day() == 1) => to.first_of_month(),
        (None, Some(to)) => to.first_of_month().checked_sub(month).unwrap_or(to),
        (None, None) => Date::constant(2025, 1, 1),
    }
}

/// What the tariff asks of the customer, with the first value it knows: of a house with 5 kW, 5 kVA or 30 A.
fn assumed_customer(tariff: &Tariff) -> (Customer, Vec<String>) {
    let mut customer = Customer::default();
    let mut assumed = Vec::new();
    let mut assume = |customer: &mut Customer, name: &str, word: &str| {
        if customer.fact(name).is_err() {
            customer.set(name, word);
            assumed.push(format!("{name} {word}"));
        }
    };
    for charge in &tariff.charges {
        let needed = match &charge.basis {
            Basis::Contract { unit, .. } | Basis::Minimum { per: MinimumPer::Contract(unit), .. } => Some(*unit),
            Basis::Demand(basis) if basis.usage == DemandUse::Excess || basis.floor_percent.is_some() => {
                Some(basis.unit)
            }
            _ => None,
        };
        if let Some(unit) = needed {
            assume(&mut customer, unit.fact(), if unit == LoadUnit::Amperes { "30" } else { "5" });
        }
        for condition in charge.conditions.iter().chain(charge.rates.iter().flat_map(|rate| &rate.conditions)) {
            let Fact::Customer(name) = &condition.what else { continue };
            let word = condition.test.iter().find_map(|test| match test {
                Test::Is(word) => Some(word.clone()),
                Test::From(limit) | Test::Upto(limit) => Some(limit.to_decimal(6)),
                Test::Over(_) | Test::Below(_) => None,
            });
            assume(&mut customer, name, &word.unwrap_or_else(|| "5".to_owned()));
        }
    }
    (customer, assumed)
}
