//! Seasons, holidays, calendars and their times.

use super::{PERIODS_MAX, Parser};
use crate::{
    tariff::{Calendar, Holidays, Period, document},
    when::{DAY_MINUTES, HOLIDAY_BIT, MonthDay, When},
};

/// Longest each month can be.
const MONTH_LENGTHS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
/// Weekdays as files name them.
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Parser {
    fn month_day(&mut self, field: &str, text: &str) -> Option<MonthDay> {
        let parsed = text
            .split_once('-')
            .filter(|(m, d)| m.len() == 2 && d.len() == 2)
            .and_then(|(m, d)| Some((m.parse::<u8>().ok()?, d.parse::<u8>().ok()?)))
            .filter(|(m, d)| (1..=12).contains(m) && (1..=MONTH_LENGTHS[usize::from(*m) - 1]).contains(d));
        if parsed.is_none() {
            self.wrong(field, format!("\"{text}\" is no day of a year"), "write month-day as 04-01");
        }
        parsed
    }

    pub(super) fn season(&mut self, name: &str, list: Vec<document::Season>) -> Vec<(MonthDay, MonthDay)> {
        let mut parsed = Vec::new();
        for (index, range) in list.into_iter().enumerate() {
            let from = self.month_day(&format!("seasons.{name}[{index}].from"), &range.from);
            let to = self.month_day(&format!("seasons.{name}[{index}].to"), &range.to);
            parsed.extend(from.zip(to));
        }
        if parsed.is_empty() {
            self.wrong(&format!("seasons.{name}"), "holds no range that can be read", "give {from, to} as month-day");
        }
        parsed
    }

    pub(super) fn holidays(&mut self, holidays: Option<document::Holidays>) -> Holidays {
        let Some(holidays) = holidays else { return Holidays::default() };
        let mut dates = Vec::new();
        for (index, text) in holidays.dates.iter().enumerate() {
            dates.extend(self.date(&format!("holidays.dates[{index}]"), text));
        }
        dates.sort_unstable();
        dates.dedup();
        let treated_as = match holidays.treated_as.as_deref() {
            None | Some("holiday") => None,
            Some(word) => {
                let day = WEEKDAYS.iter().position(|day| *day == word).and_then(|day| u8::try_from(day).ok());
                if day.is_none() {
                    self.wrong("holidays.as", format!("\"{word}\" is no day"), "write mon … sun, or holiday");
                }
                day
            }
        };
        Holidays { dates, treated_as }
    }

    pub(super) fn calendar(&mut self, name: String, periods: Vec<document::Period>) -> Calendar {
        let field = format!("periods.{name}");
        if periods.is_empty() || periods.len() > PERIODS_MAX {
            self.wrong(&field, format!("has {} periods", periods.len()), format!("give 1 to {PERIODS_MAX}"));
        }
        let mut parsed: Vec<Period> = Vec::new();
        for (index, period) in periods.into_iter().enumerate() {
            let field = format!("{field}[{index}]");
            if parsed.iter().any(|other| other.name == period.name) {
                let remedy = "list all its times in one `when`";
                self.wrong(&field, format!("the period \"{}\" stands twice", period.name), remedy);
            }
            let when = period.when.into_iter().enumerate();
            let when = when.filter_map(|(n, when)| self.when(&format!("{field}.when[{n}]"), when)).collect();
            parsed.push(Period { name: period.name, when });
        }
        Calendar { name, periods: parsed }
    }

    pub(super) fn months_mask(&mut self, field: &str, months: Option<&[u8]>) -> u16 {
        let Some(months) = months else { return When::ALWAYS.months };
        let mut mask = 0;
        for month in months {
            match month {
                1..=12 => mask |= 1u16 << month,
                other => self.wrong(field, format!("{other} is no month"), "write months as 1 to 12"),
            }
        }
        mask
    }

    pub(super) fn month_list(&mut self, field: &str, months: Option<Vec<u8>>) -> Vec<u8> {
        let months = months.unwrap_or_default();
        self.months_mask(field, Some(&months));
        months
    }

    fn days_mask(&mut self, field: &str, days: Option<&[String]>) -> u8 {
        let Some(days) = days else { return u8::MAX };
        let mut mask = 0;
        for day in days {
            mask |= match day.as_str() {
                "weekday" => 0b001_1111,
                "weekend" => 0b110_0000,
                "holiday" => HOLIDAY_BIT,
                word => match WEEKDAYS.iter().position(|known| *known == word) {
                    Some(day) => 1 << day,
                    None => {
                        self.wrong(
                            field,
                            format!("\"{word}\" is no day"),
                            "write mon … sun, weekday, weekend, holiday",
                        );
                        0
                    }
                },
            };
        }
        mask
    }

    fn minute(&mut self, field: &str, text: Option<&str>, default: u16) -> u16 {
        let Some(text) = text else { return default };
        let parsed = text
            .split_once(':')
            .filter(|(h, m)| h.len() == 2 && m.len() == 2)
            .and_then(|(h, m)| Some((h.parse::<u16>().ok()?, m.parse::<u16>().ok()?)))
            .filter(|(h, m)| *m < 60 && (*h < 24 || (*h == 24 && *m == 0)))
            .map(|(h, m)| h * 60 + m);
        parsed.unwrap_or_else(|| {
            self.wrong(field, format!("\"{text}\" is no time of day"), "write hours:minutes as 06:00, up to 24:00");
            default
        })
    }

    pub(super) fn when(&mut self, field: &str, when: document::When) -> Option<When> {
        let seasons = match &when.season {
            None => Vec::new(),
            Some(name) => match self.seasons.get(name) {
                Some(ranges) => ranges.clone(),
                None => {
                    let remedy = "name a season of `seasons`";
                    self.wrong(&format!("{field}.season"), format!("there is no season \"{name}\""), remedy);
                    Vec::new()
                }
            },
        };
        let from_minute = self.minute(&format!("{field}.from"), when.from.as_deref(), 0);
        let to_minute = self.minute(&format!("{field}.to"), when.to.as_deref(), DAY_MINUTES);
        if from_minute == DAY_MINUTES {
            let remedy = "begin it at 00:00 of the next day; a whole day is 00:00 to 24:00";
            self.wrong(&format!("{field}.from"), "no time begins when the day has ended", remedy);
        }
        Some(When {
            months: self.months_mask(&format!("{field}.months"), when.months.as_deref()),
            seasons,
            days: self.days_mask(&format!("{field}.days"), when.days.as_deref()),
            from_minute,
            to_minute,
        })
    }
}
