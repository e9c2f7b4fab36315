//! A tariff in plain sentences: from when, at which hours, what for, how it is rounded.

use super::{
    Basis, Calendar, Charge, Condition, DemandBasis, DemandUse, EnergyBasis, Export, Fact, Flow, Holidays, LimitPer,
    MinimumPer, MonthBy, Of, Pots, Price, Rate, Tariff, Test,
};
use crate::{
    exact::Exact,
    when::{DAY_MINUTES, HOLIDAY_BIT, When},
};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// All sentences; what a household pays is in `household`.
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
    let months = match &tariff.month_count.by {
        MonthBy::Bill => "A bill is one month, whatever its length".to_owned(),
        MonthBy::Calendar => "Months are counted by days: each is one over the days of its month".to_owned(),
        MonthBy::Days(days) => format!("A month is {} days", days.to_decimal(4)),
    };
    let rounded = tariff.month_count.round.as_ref().map(|rule| format!(", rounded {}", rule.label()));
    said.push(format!("{months}{}.", rounded.unwrap_or_default()));
    said.extend(holidays(&tariff.holidays));
    for calendar in &tariff.calendars {
        said.push(format!("Hours of \"{}\": {}.", calendar.name, hours(calendar)));
    }
    said.extend(tariff.demand_window_min.map(|minutes| format!("Demand is the largest mean of {minutes} minutes.")));
    said.extend(tariff.power_factor.as_ref().map(|factor| {
        let from = if factor.from_reactive { "kWh / √(kWh² + kvarh²)" } else { "kWh / kVAh" };
        let rounded = factor.round.as_ref().map(|rule| format!(", rounded {}", rule.label()));
        format!("The power factor is {from} of the bill{}.", rounded.unwrap_or_default())
    }));
    said.extend(match &tariff.export {
        Export::Separate => None,
        Export::NetMetering(Pots::One) => {
            Some("Export is deducted from import; a surplus is carried in kWh.".to_owned())
        }
        Export::NetMetering(Pots::OfCalendar(_) | Pots::OfRegisters) => {
            Some("Export is deducted from import period by period; a surplus is carried in kWh.".to_owned())
        }
        Export::NetBilling { window_min: None } => Some("Export is priced apart from import.".to_owned()),
        Export::NetBilling { window_min: Some(minutes) } => {
            Some(format!("Import and export are netted inside each {minutes} minutes, then priced apart."))
        }
    });
    said.extend(tariff.charges.iter().map(|charge| charge_sentence(tariff, charge)));
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

fn holidays(holidays: &Holidays) -> Option<String> {
    let (first, last) = (holidays.dates.first()?, holidays.dates.last()?);
    let days = match holidays.dates.as_slice() {
        [only] => format!("One holiday, {only},"),
        dates => format!("{} holidays from {first} to {last}", dates.len()),
    };
    Some(match holidays.treated_as.and_then(|day| DAYS.get(usize::from(day))) {
        Some(day) => format!("{days} count as {day}."),
        None => format!("{days}: neither weekday nor weekend, but a day of its own."),
    })
}

fn month_words(months: &[u8]) -> String {
    let name = |month: &u8| usize::from(*month).checked_sub(1).and_then(|month| MONTHS.get(month)).copied();
    months.iter().filter_map(name).collect::<Vec<_>>().join(" ")
}

fn clock(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn when_words(when: &When) -> String {
    let mut words = Vec::new();
    if when.months != When::ALWAYS.months {
        let named: Vec<&str> = (0..12).filter(|m| when.months & (2 << m) != 0).map(|m| MONTHS[m]).collect();
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
            let mut named: Vec<&str> = (0..7).filter(|day| mask & (1 << day) != 0).map(|day| DAYS[day]).collect();
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

fn charge_sentence(tariff: &Tariff, charge: &Charge) -> String {
    let about = match &charge.basis {
        Basis::Energy(basis) => energy_words(basis),
        Basis::Demand(basis) => demand_words(basis),
        Basis::Month { per_year: yearly } => format!("per {}", per_year(*yearly)),
        Basis::Day { per_year: true } => "per year, by days".to_owned(),
        Basis::Day { per_year: false } => "per day".to_owned(),
        Basis::Contract { unit, per_year: yearly } => {
            format!("per {} of contract and {}", unit.word(), per_year(*yearly))
        }
        Basis::Amount { of, gross_up } => {
            let comma = if charge.rates.iter().any(|rate| !rate.conditions.is_empty()) { ", " } else { "" };
            format!("{comma}of {}{}", of_words(of), if *gross_up { ", inside the price" } else { "" })
        }
        Basis::Minimum { of, per } => format!("at least, for {}, {}", of_words(of), minimum_words(per)),
        Basis::Carry { of, settle_month } => {
            let paid = settle_month.map(|month| format!(", and paid out in {}", month_words(&[month])));
            format!("a credit over {} is carried to the next bill{}", of_words(of), paid.unwrap_or_default())
        }
        Basis::Settle { months } => {
            format!("paid per kWh that is still carried in {}, which is then cleared", month_words(months))
        }
    };
    let rates: Vec<String> = charge.rates.iter().map(|rate| rate_words(tariff, rate)).collect();
    let condition = match charge.conditions.as_slice() {
        [] => String::new(),
        conditions => format!(", if {}", condition_words(conditions)),
    };
    let credit = if charge.credit { " (paid to the customer)" } else { "" };
    let gap = if rates.is_empty() || about.starts_with(',') { "" } else { " " };
    let price = format!("{}{gap}", rates.join("; "));
    format!("{} – {}{credit}: {price}{about}{condition}.", charge.code, charge.name)
}

fn per_year(yearly: bool) -> &'static str {
    if yearly { "year" } else { "month" }
}

fn demand_words(basis: &DemandBasis) -> String {
    let unit = basis.unit.word();
    let which = match basis.usage {
        DemandUse::Billing => "of maximum demand",
        DemandUse::Excess => "of demand over the contract",
        DemandUse::Coincident(_) => "of demand at the listed times",
    };
    let mut words = format!("per {unit} {which} and {}", per_year(basis.per_year));
    if let Some(percent) = &basis.floor_percent {
        words.push_str(&format!(", at least {percent} % of the contract"));
    }
    if let Some(least) = &basis.at_least {
        words.push_str(&format!(", at least {least} {unit}"));
    }
    if let Some(ratchet) = &basis.ratchet {
        let (percent, lookback) = (&ratchet.percent, ratchet.lookback);
        words.push_str(&format!(", at least {percent} % of the highest of the preceding {lookback} months"));
        if let Some(months) = &ratchet.months {
            words.push_str(&format!(" (of {})", month_words(months)));
        }
    }
    words
}

fn energy_words(basis: &EnergyBasis) -> String {
    let flow = match basis.flow {
        Flow::Import => "",
        Flow::ImportGross => " of import before netting",
        Flow::Export => " of export",
    };
    let blocks = match (basis.whole, basis.tier_over_all) {
        (true, _) => ", all units at the block reached",
        (false, true) => ", blocks over all periods together",
        (false, false) => "",
    };
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

fn rate_words(tariff: &Tariff, rate: &Rate) -> String {
    let price = match &rate.price {
        Price::Fixed(price) => price.to_decimal(8),
        Price::Percent(percent) => format!("{} %", percent.to_decimal(8)),
        Price::Series { series, mul, adj, cap } => {
            let times = if *mul == Exact::ONE { String::new() } else { format!(" × {mul}") };
            let plus = if adj.is_zero() { String::new() } else { format!(" + {adj}") };
            let cap = cap.as_ref().map(|cap| format!(", at most {cap}")).unwrap_or_default();
            format!("what \"{}\" says for the interval{times}{plus}{cap}", tariff.series[*series].name)
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
