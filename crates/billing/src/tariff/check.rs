//! Whether a tariff can be: every finding with its line, its field and the remedy.
//!
//! A tariff is *refused* if it cannot be rated without a guess. It is *questioned* if it can be rated but is hardly meant (a price
//! below zero that the file does not confirm, periods that overlap, a block that nobody reaches): `gridtally tariff check` refuses both,
//! bills stop at the first kind only, because a published tariff is what it is.

use std::collections::BTreeSet;

use super::{
    Basis, Calendar, Charge, Of, Price, Tariff, document,
    locate::{self, Position},
    parse::{Parser, Problem},
};
use crate::when::{DAY_MINUTES, DayKind, HOLIDAY_BIT, MonthDay, When};

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Worth a look; nothing is refused.
    Note,
    /// Hardly meant: confirm it or mend it.
    Questioned,
    /// Cannot be rated.
    Refused,
}

impl Weight {
    /// For people and for `--json`.
    pub const fn word(self) -> &'static str {
        match self {
            Weight::Note => "note",
            Weight::Questioned => "questioned",
            Weight::Refused => "refused",
        }
    }
}

/// What is wrong with a field of a tariff file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it weighs.
    pub weight: Weight,
    /// Line in the file, from 1, where one can be named.
    pub line: Option<usize>,
    /// The field, as `charges[2].rates[0].max`.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}: {}; {}", self.field, self.problem, self.remedy)
    }
}

/// Parses and checks. The tariff with the findings that do not refuse it, or all findings.
pub fn read(file: &str, text: &str) -> Result<(Tariff, Vec<Finding>), Vec<Finding>> {
    let is_toml = file.ends_with(".toml");
    let positions = if is_toml { locate::toml(text) } else { locate::json(text) };
    let document = if is_toml { from_toml(text, &positions) } else { from_json(text, &positions) };
    let document = document.map_err(|finding| vec![finding])?;
    let negative_prices = document.negative_prices;
    let mut parser = Parser::default();
    let tariff = parser.tariff(document);
    let mut findings = Findings { positions, list: Vec::new() };
    for Problem { field, problem, remedy } in parser.problems {
        findings.add(Weight::Refused, &field, problem, &remedy);
    }
    if let Some(tariff) = &tariff {
        check_calendars(tariff, &mut findings);
        for (index, charge) in tariff.charges.iter().enumerate() {
            check_charge(tariff, index, charge, negative_prices, &mut findings);
        }
        check_prepaid(tariff, &mut findings);
    }
    let list = findings.list;
    match tariff {
        Some(tariff) if list.iter().all(|finding| finding.weight < Weight::Refused) => Ok((tariff, list)),
        _ => Err(list),
    }
}

fn from_json(text: &str, positions: &[Position]) -> Result<document::Document, Finding> {
    serde_json::from_str(text).map_err(|why| decode_finding(positions, Some(why.line()), &why.to_string()))
}

fn from_toml(text: &str, positions: &[Position]) -> Result<document::Document, Finding> {
    toml::from_str(text).map_err(|why| {
        let before = why.span().map(|span| &text.as_bytes()[..span.start.min(text.len())]);
        let line = before.map(|before| before.iter().filter(|b| **b == b'\n').count() + 1);
        decode_finding(positions, line, why.message())
    })
}

fn decode_finding(positions: &[Position], line: Option<usize>, why: &str) -> Finding {
    let field = line.and_then(|line| locate::field_at(positions, line)).unwrap_or_default();
    let remedy = if why.contains("expected a string") {
        "write numbers that are money, energy or percent as decimal strings: \"12.5\""
    } else if why.contains("unknown field") {
        "remove it or mend its name; the fields are in docs/billing.md and in the schema"
    } else if why.contains("missing field") {
        "add it; the fields are in docs/billing.md and in the schema"
    } else {
        "mend the text of the file"
    };
    Finding {
        weight: Weight::Refused,
        line,
        field: field.to_owned(),
        problem: why.to_owned(),
        remedy: remedy.to_owned(),
    }
}

struct Findings {
    positions: Vec<Position>,
    list: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, weight: Weight, field: &str, problem: impl Into<String>, remedy: &str) {
        let line = locate::line_of(&self.positions, field);
        let (field, remedy) = (field.to_owned(), remedy.to_owned());
        self.list.push(Finding { weight, line, field, problem: problem.into(), remedy });
    }
}

/// Kinds of days that stand for all days of a year: the first of every month and both sides of every season's edge, as each weekday
/// and, if there are holidays, as one.
fn day_kinds(tariff: &Tariff, calendar: &Calendar) -> Vec<(DayKind, String)> {
    let mut month_days: BTreeSet<MonthDay> = (1..=12).map(|month| (month, 1)).collect();
    for (from, to) in calendar.periods.iter().flat_map(|p| &p.when).flat_map(|w| &w.seasons) {
        month_days.extend([*from, *to, day_after(*to), day_after(*from)]);
    }
    let names = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let mut kinds = Vec::new();
    for month_day in month_days {
        let label = |day: &str| format!("{day}, {:02}-{:02}", month_day.0, month_day.1);
        for (index, name) in names.iter().enumerate() {
            kinds.push((DayKind::new(month_day, 1 << index), label(name)));
        }
        if !tariff.holidays.dates.is_empty() {
            let days = HOLIDAY_BIT | tariff.holidays.treated_as.map_or(0, |day| 1 << day);
            kinds.push((DayKind::new(month_day, days), label("a holiday")));
        }
    }
    kinds
}

fn day_after((month, day): MonthDay) -> MonthDay {
    let length = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][usize::from(month.clamp(1, 12)) - 1];
    match (month, day < length) {
        (_, true) => (month, day + 1),
        (12, false) => (1, 1),
        (_, false) => (month + 1, 1),
    }
}

fn check_calendars(tariff: &Tariff, findings: &mut Findings) {
    for calendar in &tariff.calendars {
        for (index, period) in calendar.periods.iter().enumerate() {
            for (number, when) in period.when.iter().enumerate() {
                let field = format!("periods.{}[{index}].when[{number}].to", calendar.name);
                check_round_the_clock(when, &field, findings);
            }
        }
        let mut edges: BTreeSet<u16> = BTreeSet::from([0]);
        edges.extend(calendar.periods.iter().flat_map(|p| &p.when).flat_map(|w| w.edges()));
        let is_else = |index: usize| calendar.periods[index].when.contains(&When::ALWAYS);
        let mut reached = vec![false; calendar.periods.len()];
        let mut missing = None;
        let mut overlaps: BTreeSet<(usize, usize, String)> = BTreeSet::new();
        let kinds = day_kinds(tariff, calendar);
        for (kind, label) in &kinds {
            for minute in &edges {
                let holding: Vec<usize> = (0..calendar.periods.len())
                    .filter(|index| calendar.periods[*index].when.iter().any(|when| when.holds(*kind, *minute)))
                    .collect();
                match holding.as_slice() {
                    [] if missing.is_none() => missing = Some(format!("{label} at {}", clock(*minute))),
                    [] => {}
                    [first, rest @ ..] => {
                        reached[*first] = true;
                        for other in rest.iter().filter(|other| !is_else(**other)) {
                            if !overlaps.iter().any(|(a, b, _)| *a == *first && *b == *other) {
                                overlaps.insert((*first, *other, format!("{label} at {}", clock(*minute))));
                            }
                        }
                    }
                }
            }
        }
        report_calendar(calendar, missing, &overlaps, &reached, findings);
    }
}

/// A time that ends when it begins is read as a whole day, over midnight; hardly anyone means that.
fn check_round_the_clock(when: &When, field: &str, findings: &mut Findings) {
    if when.from_minute == when.to_minute {
        let problem = format!("ends at {}, when it begins: read as a whole day", clock(when.to_minute));
        let remedy = "write 00:00 to 24:00, or leave both out, if the whole day is meant; else mend one of them";
        findings.add(Weight::Questioned, field, problem, remedy);
    }
}

fn report_calendar(
    calendar: &Calendar,
    missing: Option<String>,
    overlaps: &BTreeSet<(usize, usize, String)>,
    reached: &[bool],
    findings: &mut Findings,
) {
    let name = &calendar.name;
    if let Some(moment) = missing {
        let remedy = "add a period for these hours, or a last one with \"when\": [{}]";
        let problem = format!("no period holds on {moment}: charges by period do not bill what is used then");
        findings.add(Weight::Questioned, &format!("periods.{name}"), problem, remedy);
    }
    for (first, second, moment) in overlaps {
        let (a, b) = (&calendar.periods[*first].name, &calendar.periods[*second].name);
        let remedy = "let one end where the other begins, or make the later one the rest with \"when\": [{}]";
        let problem = format!("\"{a}\" and \"{b}\" both hold on {moment}");
        findings.add(Weight::Questioned, &format!("periods.{name}[{second}]"), problem, remedy);
    }
    for (index, reached) in reached.iter().enumerate() {
        if !reached {
            let problem = format!("the period \"{}\" never holds", calendar.periods[index].name);
            let remedy = "give it times that no earlier period takes, or remove it";
            findings.add(Weight::Questioned, &format!("periods.{name}[{index}]"), problem, remedy);
        }
    }
}

fn clock(minute: u16) -> String {
    format!("{:02}:{:02}", minute % DAY_MINUTES / 60, minute % 60)
}

fn check_charge(tariff: &Tariff, index: usize, charge: &Charge, negative_prices: bool, findings: &mut Findings) {
    let field = format!("charges[{index}]");
    check_periods(tariff, &field, charge, findings);
    check_blocks(&field, charge, findings);
    for (row, rate) in charge.rates.iter().enumerate() {
        let place = format!("{field}.rates[{row}]");
        if let Price::Fixed(price) = &rate.price
            && price.is_negative()
            && !negative_prices
        {
            let remedy = "use `credit` for what is paid to the customer, or confirm with \"negative_prices\": true";
            findings.add(Weight::Questioned, &place, format!("the price {price} is below zero"), remedy);
        }
        if let (Price::Percent(percent), Basis::Amount { gross_up: true, .. }) = (&rate.price, &charge.basis)
            && *percent >= crate::exact::Exact::whole(100)
        {
            let remedy = "a tax inside the price is below 100 percent";
            findings.add(Weight::Refused, &place, format!("{percent} percent of the price is tax"), remedy);
        }
    }
    if let Basis::Amount { of, .. } | Basis::Minimum { of, .. } | Basis::Carry { of, .. } = &charge.basis {
        check_base(tariff, index, of, findings);
    }
    if matches!(charge.basis, Basis::Demand(_)) && tariff.demand_window_min.is_none() {
        let remedy = "add \"demand\": {\"window_min\": 15} unless every meter has a demand register";
        findings.add(Weight::Note, &field, "no demand window is given", remedy);
    }
}

/// Percentages look back only: of itself, or of what stands below, is a circle.
fn check_base(tariff: &Tariff, index: usize, of: &Of, findings: &mut Findings) {
    let Of::Codes(codes) = of else { return };
    for (position, code) in codes.iter().enumerate() {
        let field = format!("charges[{index}].of[{position}]");
        let above = tariff.charges[..index].iter().any(|charge| charge.code == *code);
        let here_or_below = tariff.charges[index..].iter().any(|charge| charge.code == *code);
        if !above && here_or_below {
            let circular = refers_to(tariff, code, &tariff.charges[index].code);
            let (weight, problem) = if circular {
                (Weight::Refused, format!("\"{code}\" rests on this charge: the percentage would be of itself"))
            } else {
                (Weight::Questioned, format!("\"{code}\" stands below this charge and does not count"))
            };
            findings.add(weight, &field, problem, "move the charge below all it looks back at");
        } else if !above && !known_base(tariff, index, code) {
            let problem = format!("no charge above has the code \"{code}\"");
            findings.add(Weight::Note, &field, problem, "remove it, or mend the code, if it was meant to count");
        }
    }
}

/// Whether charges of a code are the charge with the code `target`, or look back at it over any number of others.
fn refers_to(tariff: &Tariff, code: &str, target: &str) -> bool {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut waiting: Vec<&str> = tariff.charges.iter().map(|c| c.code.as_str()).filter(|c| *c == code).collect();
    while let Some(next) = waiting.pop() {
        if next == target {
            return true;
        }
        if !seen.insert(next) {
            continue;
        }
        for charge in tariff.charges.iter().filter(|charge| charge.code == next) {
            match &charge.basis {
                Basis::Amount { of, .. } | Basis::Minimum { of, .. } | Basis::Carry { of, .. } => match of {
                    Of::All => return true,
                    Of::Codes(codes) => waiting.extend(codes.iter().map(String::as_str)),
                },
                _ => {}
            }
        }
    }
    false
}

fn known_base(tariff: &Tariff, index: usize, code: &str) -> bool {
    let base = code.strip_suffix("-IN").or_else(|| code.strip_suffix("-OUT"));
    base.is_some_and(|base| tariff.charges[..index].iter().any(|charge| charge.code == base))
}

/// Rates name periods that exist, and every period has a rate or none of the charge has one.
fn check_periods(tariff: &Tariff, field: &str, charge: &Charge, findings: &mut Findings) {
    let calendar = match &charge.basis {
        Basis::Energy(basis) => basis.calendar,
        Basis::Demand(basis) => basis.calendar,
        _ => {
            if let Some(row) = charge.rates.iter().position(|rate| rate.period.is_some()) {
                let remedy = "remove it: only energy and demand have periods";
                findings.add(Weight::Refused, &format!("{field}.rates[{row}].period"), "has no meaning here", remedy);
            }
            return;
        }
    };
    let named: BTreeSet<&str> = charge.rates.iter().filter_map(|rate| rate.period.as_deref()).collect();
    let plain = charge.rates.iter().position(|rate| rate.period.is_none());
    if let (false, Some(row)) = (named.is_empty(), plain) {
        let remedy = "give every rate of the charge a period, or none";
        findings.add(Weight::Refused, &format!("{field}.rates[{row}]"), "has no period beside rates that have", remedy);
    }
    let Some(calendar) = calendar.map(|index| &tariff.calendars[index]) else { return };
    for (row, rate) in charge.rates.iter().enumerate() {
        if let Some(period) = &rate.period
            && !calendar.periods.iter().any(|known| known.name == *period)
        {
            let problem = format!("the calendar \"{}\" has no period \"{period}\"", calendar.name);
            let remedy = "name a period of the charge's calendar";
            findings.add(Weight::Refused, &format!("{field}.rates[{row}].period"), problem, remedy);
        }
    }
    let unpriced = calendar.periods.iter().find(|period| !named.contains(period.name.as_str()));
    if let (false, Some(period)) = (named.is_empty(), unpriced) {
        let problem = format!("the period \"{}\" of \"{}\" has no rate here", period.name, calendar.name);
        let remedy = "its quantity stays unbilled by this charge; if that is not meant, add a rate for it";
        findings.add(Weight::Note, field, problem, remedy);
    }
}

/// Limits of a ladder rise, and only its last block may be open. Rows with conditions on themselves are alternatives, not a ladder.
fn check_blocks(field: &str, charge: &Charge, findings: &mut Findings) {
    for (row, rate) in charge.rates.iter().enumerate() {
        let before = charge.rates[..row]
            .iter()
            .rev()
            .find(|other| other.period == rate.period && other.conditions == rate.conditions);
        let Some(before) = before else { continue };
        if matches!(charge.basis, Basis::Month { .. } | Basis::Day { .. } | Basis::Amount { .. }) {
            let problem = "stands below a rate that always holds first";
            let remedy = "remove it, or give both the condition under which each holds";
            findings.add(Weight::Questioned, &format!("{field}.rates[{row}]"), problem, remedy);
            continue;
        }
        match (&before.max, &rate.max) {
            (None, _) => {
                let remedy = "give the block before it an upper limit, or make this row the last";
                let problem = "is a block above one that has no upper limit";
                findings.add(Weight::Refused, &format!("{field}.rates[{row}]"), problem, remedy);
            }
            (Some(below), Some(max)) if max <= below => {
                let problem = format!("the block ends at {max}, the one before it at {below}");
                let remedy = "order the blocks by rising limits";
                findings.add(Weight::Refused, &format!("{field}.rates[{row}].max"), problem, remedy);
            }
            _ => {}
        }
    }
}

fn check_prepaid(tariff: &Tariff, findings: &mut Findings) {
    let Some(prepaid) = &tariff.prepaid else { return };
    for (index, when) in prepaid.friendly.iter().enumerate() {
        check_round_the_clock(when, &format!("prepaid.friendly[{index}].to"), findings);
    }
    let always =
        |kind: DayKind| (0..DAY_MINUTES).all(|minute| prepaid.friendly.iter().any(|when| when.holds(kind, minute)));
    let calendar = Calendar { name: String::new(), periods: Vec::new() };
    if day_kinds(tariff, &calendar).iter().all(|(kind, _)| always(*kind)) {
        let remedy = "leave hours in which supply may end, or raise no debt by prepayment";
        findings.add(Weight::Questioned, "prepaid.friendly", "covers every hour: supply never ends", remedy);
    }
}
