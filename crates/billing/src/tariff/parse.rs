//! From the file's fields to states that can be rated. Every field that cannot be is a finding; parsing goes on to find the others.

mod calendar;
mod charge;

use std::collections::BTreeMap;

use jiff::{civil::Date, tz::TimeZone};

use super::{
    Calendar, Charge, Export, MonthBy, MonthCount, Pots, PowerFactor, Prepaid, Roundings, SeriesRule, Tariff, document,
};
use crate::{
    exact::Exact,
    rounding::{Mode, Rounding},
    when::MonthDay,
};

/// A field that cannot be, and the remedy.
pub struct Problem {
    pub field: String,
    pub problem: String,
    pub remedy: String,
}

/// Most periods of one calendar: an index fits a byte in the packed engine, with one value to spare.
pub const PERIODS_MAX: usize = 250;
/// Longest lookback of a ratchet, in months.
const LOOKBACK_MAX: u32 = 120;
/// Longest window of demand or netting, in minutes: one day.
const WINDOW_MAX_MIN: u32 = 1440;

/// Gathers problems while parsing.
#[derive(Default)]
pub struct Parser {
    pub problems: Vec<Problem>,
    seasons: BTreeMap<String, Vec<(MonthDay, MonthDay)>>,
    calendars: Vec<Calendar>,
    series: Vec<SeriesRule>,
}

impl Parser {
    fn wrong(&mut self, field: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem { field: field.to_owned(), problem: problem.into(), remedy: remedy.into() });
    }

    /// The tariff, if no problem was found.
    pub fn tariff(&mut self, file: document::Document) -> Option<Tariff> {
        if file.schema != "gridtally-tariff/1" {
            self.wrong("schema", format!("\"{}\" is not known", file.schema), "write \"gridtally-tariff/1\"");
        }
        let zone = match TimeZone::get(&file.timezone) {
            Ok(zone) => zone,
            Err(_) => {
                let remedy = "use an IANA name as Europe/Berlin or Asia/Kolkata";
                self.wrong("timezone", format!("the time zone \"{}\" is not known", file.timezone), remedy);
                TimeZone::UTC
            }
        };
        self.currency(&file);
        let (valid_from, valid_to) = self.validity(file.valid);
        let seasons = file.seasons.into_iter().map(|(name, list)| {
            let parsed = self.season(&name, list);
            (name, parsed)
        });
        self.seasons = seasons.collect::<Vec<_>>().into_iter().collect();
        let holidays = self.holidays(file.holidays);
        let calendars: Vec<Calendar> =
            file.periods.into_iter().map(|(name, periods)| self.calendar(name, periods)).collect();
        self.calendars = calendars;
        let series: Vec<SeriesRule> = file.series.into_iter().map(|(name, rule)| self.one_series(name, rule)).collect();
        self.series = series;
        let month_count = self.month_count(file.month_count);
        let demand_window_min = file.demand.and_then(|demand| self.window("demand.window_min", demand.window_min));
        let power_factor = file.pf.map(|pf| self.power_factor(pf));
        let export = self.export(file.export);
        let prepaid = file.prepaid.map(|prepaid| self.prepaid(prepaid));
        let rounding = self.roundings(file.rounding, file.minor_digits);
        let charges: Vec<Charge> = file
            .charges
            .into_iter()
            .enumerate()
            .map(|(index, charge)| self.charge(&format!("charges[{index}]"), charge, file.minor_digits))
            .collect();
        if charges.is_empty() {
            self.wrong("charges", "there is none", "add a charge: code, name, basis and rates");
        }
        self.problems.is_empty().then(|| Tariff {
            id: file.id,
            name: file.name,
            currency: file.currency,
            minor_digits: file.minor_digits,
            zone,
            zone_name: file.timezone,
            valid_from,
            valid_to,
            month_count,
            holidays,
            calendars: std::mem::take(&mut self.calendars),
            demand_window_min,
            power_factor,
            series: std::mem::take(&mut self.series),
            export,
            prepaid,
            charges,
            rounding,
        })
    }

    fn currency(&mut self, file: &document::Document) {
        if !crate::currency::is_known(&file.currency) {
            let remedy = "use the ISO 4217 code in capitals as EUR, INR or KES";
            self.wrong("currency", format!("the currency \"{}\" is not known", file.currency), remedy);
        }
        if file.minor_digits > 4 {
            self.wrong("minor_digits", "is above 4", "write the digits of the minor unit: 2 for cents, 0 for VND");
        }
        if let Some(country) = &file.country
            && (country.len() != 2 || !country.bytes().all(|b| b.is_ascii_uppercase()))
        {
            self.wrong("country", format!("\"{country}\" is no country code"), "write two capitals as IN or DE");
        }
    }

    fn date(&mut self, field: &str, text: &str) -> Option<Date> {
        let parsed = (text.len() == 10).then(|| text.parse::<Date>().ok()).flatten();
        if parsed.is_none() {
            self.wrong(field, format!("\"{text}\" is no date"), "write year-month-day as 2025-02-28");
        }
        parsed
    }

    fn number(&mut self, field: &str, text: &str) -> Option<Exact> {
        match Exact::decimal(text) {
            Ok(number) => Some(number),
            Err(why) => {
                self.wrong(field, format!("\"{text}\" {why}"), "write a decimal string as \"12.5\"");
                None
            }
        }
    }

    fn optional(&mut self, field: &str, text: Option<&str>) -> Option<Exact> {
        text.and_then(|text| self.number(field, text))
    }

    /// Not below zero.
    fn quantity(&mut self, field: &str, text: Option<&str>) -> Option<Exact> {
        let number = self.optional(field, text)?;
        if number.is_negative() {
            self.wrong(field, format!("{number} is below zero"), "write a number of zero or more");
        }
        Some(number)
    }

    fn validity(&mut self, valid: Option<document::Valid>) -> (Option<Date>, Option<Date>) {
        let Some(valid) = valid else { return (None, None) };
        let from = valid.from.as_deref().and_then(|text| self.date("valid.from", text));
        let to = valid.to.as_deref().and_then(|text| self.date("valid.to", text));
        if let (Some(from), Some(to)) = (from, to)
            && to < from
        {
            self.wrong("valid.to", format!("{to} lies before {from}"), "the last day must not lie before the first");
        }
        (from, to)
    }

    fn one_series(&mut self, name: String, rule: document::Series) -> SeriesRule {
        let field = format!("series.{name}");
        let scale = self.optional(&format!("{field}.scale"), rule.scale.as_deref());
        self.plain_file(&format!("{field}.file"), &rule.file);
        SeriesRule { name, file: rule.file, column: rule.column, scale: scale.unwrap_or(Exact::ONE) }
    }

    /// A file beside the tariff: no way out of its folder.
    fn plain_file(&mut self, field: &str, file: &str) {
        if !crate::case::is_plain_file_name(file) {
            self.wrong(field, format!("\"{file}\" is no file name"), "name a file beside the tariff, without folders");
        }
    }

    fn rounding(&mut self, field: &str, rule: Option<document::Rounding>) -> Option<Rounding> {
        let rule = rule?;
        let to = self.number(&format!("{field}.to"), &rule.to)?;
        if !to.is_positive() {
            self.wrong(&format!("{field}.to"), format!("{to} is no step"), "write a step above zero as \"0.01\"");
            return None;
        }
        let word = rule.mode.as_deref().unwrap_or("half-up");
        let mode = Mode::from_word(word);
        if mode.is_none() {
            let remedy = "write half-up, half-even, down or up";
            self.wrong(&format!("{field}.mode"), format!("\"{word}\" is no rounding"), remedy);
        }
        Some(Rounding { to, mode: mode? })
    }

    /// A rule for money: its step must be whole minor units.
    fn money_rounding(&mut self, field: &str, rule: Option<document::Rounding>, digits: u32) -> Option<Rounding> {
        let rule = self.rounding(field, rule)?;
        if !(&rule.to * &Exact::power_of_ten(digits.min(4))).is_whole() {
            let remedy = "round to a multiple of it, or raise `minor_digits`";
            self.wrong(&format!("{field}.to"), format!("{} is finer than the minor unit", rule.to), remedy);
        }
        Some(rule)
    }

    fn roundings(&mut self, rules: document::Roundings, digits: u32) -> Roundings {
        Roundings {
            energy: self.rounding("rounding.energy", rules.energy),
            demand: self.rounding("rounding.demand", rules.demand),
            contract: self.rounding("rounding.contract", rules.contract),
            line: self
                .money_rounding("rounding.line", rules.line, digits)
                .unwrap_or_else(|| Rounding::to_digits(digits.min(4))),
            total: self.money_rounding("rounding.total", rules.total, digits),
        }
    }

    fn month_count(&mut self, count: Option<document::MonthCount>) -> MonthCount {
        let Some(count) = count else { return MonthCount { by: MonthBy::Bill, round: None } };
        let days = self.optional("month_count.days", count.days.as_deref());
        let by = match (count.by.as_str(), days) {
            ("bill", _) => MonthBy::Bill,
            ("calendar", _) => MonthBy::Calendar,
            ("days", Some(days)) if days.is_positive() => MonthBy::Days(days),
            ("days", _) => {
                self.wrong("month_count.days", "is missing or not above zero", "write how many days a month has");
                MonthBy::Bill
            }
            (other, _) => {
                self.wrong("month_count.by", format!("\"{other}\" is not known"), "write bill, calendar or days");
                MonthBy::Bill
            }
        };
        MonthCount { by, round: self.rounding("month_count.round", count.round) }
    }

    fn window(&mut self, field: &str, minutes: u32) -> Option<u32> {
        if minutes == 0 || minutes > WINDOW_MAX_MIN || !WINDOW_MAX_MIN.is_multiple_of(minutes) {
            let remedy = "write a number of minutes that divides a day: 15, 30 or 60";
            self.wrong(field, format!("{minutes} minutes is no window"), remedy);
            return None;
        }
        Some(minutes)
    }

    fn power_factor(&mut self, pf: document::PowerFactor) -> PowerFactor {
        if !["kvah", "kvarh"].contains(&pf.from.as_str()) {
            self.wrong("pf.from", format!("\"{}\" is not known", pf.from), "write kvah or kvarh");
        }
        PowerFactor { from_reactive: pf.from == "kvarh", round: self.rounding("pf.round", pf.round) }
    }

    fn export(&mut self, export: Option<document::Export>) -> Export {
        let Some(export) = export else { return Export::Separate };
        let window_min = export.net_window_min.and_then(|minutes| self.window("export.net_window_min", minutes));
        let calendar = self.calendar_of("export.calendar", export.calendar.as_deref());
        match export.rule.as_str() {
            "net-metering" if export.by_period => match calendar {
                Some(calendar) => Export::NetMetering(Pots::OfCalendar(calendar)),
                None if self.calendars.is_empty() => Export::NetMetering(Pots::OfRegisters),
                None => {
                    let remedy = "name the calendar whose periods are netted apart";
                    self.wrong("export.calendar", "netting by period needs one of the calendars", remedy);
                    Export::NetMetering(Pots::One)
                }
            },
            "net-metering" => Export::NetMetering(Pots::One),
            "net-billing" => Export::NetBilling { window_min },
            other => {
                self.wrong("export.rule", format!("\"{other}\" is not known"), "write net-metering or net-billing");
                Export::Separate
            }
        }
    }

    fn prepaid(&mut self, prepaid: document::Prepaid) -> Prepaid {
        let disconnect_at = self.optional("prepaid.disconnect_at", prepaid.disconnect_at.as_deref());
        let friendly = prepaid.friendly.into_iter().enumerate();
        let friendly = friendly.filter_map(|(n, when)| self.when(&format!("prepaid.friendly[{n}]"), when)).collect();
        Prepaid { disconnect_at: disconnect_at.unwrap_or(Exact::ZERO), friendly }
    }

    /// The named calendar; without a name `main`, or the only one.
    fn calendar_of(&mut self, field: &str, name: Option<&str>) -> Option<usize> {
        let position = |calendars: &[Calendar], name: &str| calendars.iter().position(|c| c.name == name);
        let Some(name) = name else {
            return position(&self.calendars, "main").or((self.calendars.len() == 1).then_some(0));
        };
        let found = position(&self.calendars, name);
        if found.is_none() {
            self.wrong(field, format!("there is no calendar \"{name}\""), "name a calendar of `periods`");
        }
        found
    }
}
