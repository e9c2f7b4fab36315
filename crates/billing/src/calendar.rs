//! A calendar compiled for a stretch of time: which period holds when, as instants.
//!
//! Local days have 23, 24 or 25 hours, zones change their rules, half-hour zones exist: all of that is resolved here, once per tariff
//! and bill period, by walking the stretches of constant offset. After that time is only seconds.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::{
    tariff::{Calendar, Holidays},
    when::{DayKind, When},
};

/// Seconds of a day on the clock.
const DAY_S: i64 = 86_400;

/// A moment at which something begins, and what: `None` where nothing holds.
pub type Segment = (i64, Option<u16>);

/// Instants in order, each the beginning of what holds until the next; the last one holds until the end of the stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    list: Vec<Segment>,
    end_s: i64,
}

impl Segments {
    /// Compiles the periods of a calendar for [from, to), Unix seconds.
    pub fn of_calendar(calendar: &Calendar, holidays: &Holidays, zone: &TimeZone, span: (i64, i64)) -> Segments {
        let rules: Vec<&[When]> = calendar.periods.iter().map(|period| period.when.as_slice()).collect();
        Segments::compile(&rules, holidays, zone, span)
    }

    /// Compiles one rule: index 0 where it holds.
    pub fn of_rule(when: &[When], holidays: &Holidays, zone: &TimeZone, span: (i64, i64)) -> Segments {
        Segments::compile(&[when], holidays, zone, span)
    }

    fn compile(rules: &[&[When]], holidays: &Holidays, zone: &TimeZone, (from_s, to_s): (i64, i64)) -> Segments {
        let mut edges: Vec<i64> =
            rules.iter().flat_map(|rule| rule.iter()).flat_map(When::edges).map(|m| i64::from(m) * 60).collect();
        edges.push(0);
        edges.sort_unstable();
        edges.dedup();
        let mut list: Vec<Segment> = Vec::new();
        let mut push = |at: i64, period: Option<u16>| {
            if list.last().is_none_or(|(_, before)| *before != period) {
                list.push((at, period));
            }
        };
        for (start_s, end_s, offset_s) in stretches(zone, from_s, to_s) {
            let first_day = (start_s + offset_s).div_euclid(DAY_S);
            let last_day = (end_s - 1 + offset_s).div_euclid(DAY_S);
            for day in first_day..=last_day {
                let kind = DayKind::of(date_of_day(day), holidays);
                for (index, edge) in edges.iter().enumerate() {
                    let begins = day * DAY_S + edge - offset_s;
                    let ends = day * DAY_S + edges.get(index + 1).copied().unwrap_or(DAY_S) - offset_s;
                    if ends <= start_s || begins >= end_s {
                        continue;
                    }
                    let minute = u16::try_from(edge / 60).unwrap_or(0);
                    let holds = |rule: &&[When]| rule.iter().any(|when| when.holds(kind, minute));
                    let period = rules.iter().position(holds).and_then(|index| u16::try_from(index).ok());
                    push(begins.max(start_s), period);
                }
            }
        }
        Segments { list, end_s: to_s }
    }

    /// What holds at an instant, and until when.
    pub fn at(&self, at_s: i64) -> (Option<u16>, i64) {
        let index = self.list.partition_point(|(start, _)| *start <= at_s);
        let until = self.list.get(index).map_or(self.end_s, |(start, _)| *start);
        (index.checked_sub(1).and_then(|index| self.list[index].1), until)
    }

    /// All of them: start, end, what holds.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64, Option<u16>)> + '_ {
        self.list.iter().enumerate().map(|(index, (start, period))| {
            (*start, self.list.get(index + 1).map_or(self.end_s, |(next, _)| *next), *period)
        })
    }

    /// Whether a period occurs.
    pub fn has(&self, period: u16) -> bool {
        self.list.iter().any(|(_, other)| *other == Some(period))
    }

    /// The periods that occur, in the order of the calendar.
    pub fn occurring(&self) -> Vec<u16> {
        let mut periods: Vec<u16> = self.list.iter().filter_map(|(_, period)| *period).collect();
        periods.sort_unstable();
        periods.dedup();
        periods
    }
}

/// Local date of a day number since 1970-01-01. Outside of the calendar's range the nearest date.
fn date_of_day(day: i64) -> Date {
    let days = jiff::Span::new().try_days(day);
    let epoch = Date::constant(1970, 1, 1);
    days.and_then(|days| epoch.checked_add(days)).unwrap_or(if day < 0 { Date::MIN } else { Date::MAX })
}

/// Stretches of constant offset from UTC within [from, to): start, end, offset in seconds.
fn stretches(zone: &TimeZone, from_s: i64, to_s: i64) -> Vec<(i64, i64, i64)> {
    let mut found = Vec::new();
    let Ok(start) = Timestamp::from_second(from_s) else { return found };
    let mut offset = i64::from(zone.to_offset(start).seconds());
    let mut at = from_s;
    for transition in zone.following(start) {
        let when = transition.timestamp().as_second();
        if when >= to_s {
            break;
        }
        if when > at {
            found.push((at, when, offset));
            at = when;
        }
        offset = i64::from(transition.offset().seconds());
    }
    if at < to_s {
        found.push((at, to_s, offset));
    }
    found
}

/// First instant of a local day, Unix seconds; `None` outside of the range of time.
pub fn day_start(zone: &TimeZone, day: Date) -> Option<i64> {
    let at = zone.to_ambiguous_zoned(day.at(0, 0, 0, 0)).compatible().ok()?.timestamp();
    // Where the clocks jump over midnight, the day begins with the jump.
    let local = |at_s: i64| Timestamp::from_second(at_s).ok().map(|at| zone.to_datetime(at).date());
    let jump = zone.preceding(at.checked_add(jiff::SignedDuration::from_secs(1)).ok()?).next();
    let begins = jump
        .map(|jump| jump.timestamp().as_second())
        .filter(|jump| local(*jump) == Some(day) && local(*jump - 1).is_some_and(|before| before < day));
    Some(begins.unwrap_or_else(|| at.as_second()))
}

/// Local date of an instant.
pub fn local_date(zone: &TimeZone, at_s: i64) -> Option<Date> {
    Timestamp::from_second(at_s).ok().map(|at| zone.to_datetime(at).date())
}

/// Reads an instant as `2024-01-31T18:30Z` or with seconds or another offset; Unix seconds.
pub fn parse_instant(text: &str) -> Option<i64> {
    fast_instant(text.as_bytes()).or_else(|| text.parse::<Timestamp>().ok().map(|at| at.as_second()))
}

/// The usual form, without the general parser: a year of quarter-hours is 35,040 of them.
fn fast_instant(text: &[u8]) -> Option<i64> {
    let (stem, seconds) = match text.len() {
        17 => (text.get(..16)?, 0),
        20 if text.get(16) == Some(&b':') => (text.get(..16)?, digits(text.get(17..19)?)?),
        _ => return None,
    };
    let separators = stem[4] == b'-' && stem[7] == b'-' && stem[10] == b'T' && stem[13] == b':';
    if !separators || text.last() != Some(&b'Z') {
        return None;
    }
    let (year, month, day) = (digits(&stem[..4])?, digits(&stem[5..7])?, digits(&stem[8..10])?);
    let (hour, minute) = (digits(&stem[11..13])?, digits(&stem[14..16])?);
    if hour > 23 || minute > 59 || seconds > 59 {
        return None;
    }
    let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    Some(days_since_1970(date) * DAY_S + hour * 3600 + minute * 60 + seconds)
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
}

/// Day number of a date since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_since_1970(date: Date) -> i64 {
    let month = i64::from(date.month());
    let year = i64::from(date.year()) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(date.day()) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// An instant as files write it: minutes, UTC.
pub fn write_instant(at_s: i64) -> String {
    match Timestamp::from_second(at_s) {
        Ok(at) => {
            let civil = jiff::tz::Offset::UTC.to_datetime(at);
            let (date, time) = (civil.date(), civil.time());
            let seconds = if time.second() == 0 { String::new() } else { format!(":{:02}", time.second()) };
            format!("{date}T{:02}:{:02}{seconds}Z", time.hour(), time.minute())
        }
        Err(_) => at_s.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tariff::Period;
    use jiff::civil::date;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    #[test]
    fn instants_are_read_as_the_general_parser_reads_them() {
        for text in ["2024-02-29T18:30Z", "1999-12-31T23:59:59Z", "2000-03-01T00:00Z", "1969-07-20T20:17Z"] {
            let general = text.parse::<Timestamp>().unwrap().as_second();
            assert_eq!(fast_instant(text.as_bytes()), Some(general), "{text}");
        }
        assert_eq!(parse_instant("2024-02-29T18:30+01:00"), parse_instant("2024-02-29T17:30Z"));
        for wrong in ["2024-02-30T00:00Z", "2024-02-29T24:00Z", "", "2024-02-29T00:00"] {
            assert_eq!(parse_instant(wrong), None, "{wrong:?}");
        }
        assert_eq!(write_instant(parse_instant("2025-10-27T11:00:00Z").unwrap()), "2025-10-27T11:00Z");
    }

    #[test]
    fn a_night_window_has_six_eight_or_ten_half_hours() {
        let london = zone("Europe/London");
        let when = When { from_minute: 30, to_minute: 270, ..When::ALWAYS };
        let cheap = Calendar { name: "main".into(), periods: vec![Period { name: "cheap".into(), when: vec![when] }] };
        for (day, hours) in [(date(2025, 3, 30), 3), (date(2025, 3, 31), 4), (date(2025, 10, 26), 5)] {
            let span = (day_start(&london, day).unwrap(), day_start(&london, day.tomorrow().unwrap()).unwrap());
            let segments = Segments::of_calendar(&cheap, &Holidays::default(), &london, span);
            let held: i64 = segments.iter().filter(|s| s.2.is_some()).map(|(from, to, _)| to - from).sum();
            assert_eq!(held, hours * 3600, "{day}");
        }
    }

    #[test]
    fn days_begin_where_the_clocks_jump_over_midnight() {
        // Beirut 2021-03-28: 00:00 becomes 01:00. Apia 2011-12-30 does not exist.
        let beirut = zone("Asia/Beirut");
        let begins = day_start(&beirut, date(2021, 3, 28)).unwrap();
        assert_eq!(write_instant(begins), "2021-03-27T22:00Z");
        assert_eq!(day_start(&beirut, date(2021, 3, 29)).unwrap() - begins, 23 * 3600);
        let apia = zone("Pacific/Apia");
        assert_eq!(day_start(&apia, date(2011, 12, 30)), day_start(&apia, date(2011, 12, 31)));
    }
}
