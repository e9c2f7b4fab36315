//! Clocks without a zone: local time to UTC by the rule of the zone that the description or the operator names.
//!
//! Only rules in force since 1996 (Europe) or 2007 (North America) are known; telegrams are not older.

use metering::Timestamp;

/// How a zone moves its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Never.
    Fixed,
    /// Last Sunday of March to last Sunday of October, both at 01:00 UTC.
    Europe,
    /// Second Sunday of March to first Sunday of November, at 02:00 local time.
    NorthAmerica,
    /// First Sunday of October to first Sunday of April, at 02:00 standard time.
    Australia,
    /// Last Sunday of September to first Sunday of April, at 02:00 standard time.
    NewZealand,
}

/// A zone: its standard offset and its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Minutes east of UTC in standard time.
    pub standard_minutes: i32,
    /// When summer time is in force.
    pub rule: Rule,
}

/// What the sender says about a clock that stands on summer time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Season {
    /// It says summer.
    Summer,
    /// It says winter.
    Winter,
    /// It says nothing.
    Unsaid,
}

const ZONES: &[(&str, i32, Rule)] = &[
    ("UTC", 0, Rule::Fixed),
    ("GMT", 0, Rule::Fixed),
    ("Etc/UTC", 0, Rule::Fixed),
    ("Europe/London", 0, Rule::Europe),
    ("Europe/Dublin", 0, Rule::Europe),
    ("Europe/Lisbon", 0, Rule::Europe),
    ("Atlantic/Madeira", 0, Rule::Europe),
    ("Atlantic/Azores", -60, Rule::Europe),
    ("Atlantic/Canary", 0, Rule::Europe),
    ("Europe/Amsterdam", 60, Rule::Europe),
    ("Europe/Andorra", 60, Rule::Europe),
    ("Europe/Belgrade", 60, Rule::Europe),
    ("Europe/Berlin", 60, Rule::Europe),
    ("Europe/Bratislava", 60, Rule::Europe),
    ("Europe/Brussels", 60, Rule::Europe),
    ("Europe/Budapest", 60, Rule::Europe),
    ("Europe/Busingen", 60, Rule::Europe),
    ("Europe/Copenhagen", 60, Rule::Europe),
    ("Europe/Ljubljana", 60, Rule::Europe),
    ("Europe/Luxembourg", 60, Rule::Europe),
    ("Europe/Madrid", 60, Rule::Europe),
    ("Europe/Malta", 60, Rule::Europe),
    ("Europe/Monaco", 60, Rule::Europe),
    ("Europe/Oslo", 60, Rule::Europe),
    ("Europe/Paris", 60, Rule::Europe),
    ("Europe/Podgorica", 60, Rule::Europe),
    ("Europe/Prague", 60, Rule::Europe),
    ("Europe/Rome", 60, Rule::Europe),
    ("Europe/San_Marino", 60, Rule::Europe),
    ("Europe/Sarajevo", 60, Rule::Europe),
    ("Europe/Skopje", 60, Rule::Europe),
    ("Europe/Stockholm", 60, Rule::Europe),
    ("Europe/Tirane", 60, Rule::Europe),
    ("Europe/Vaduz", 60, Rule::Europe),
    ("Europe/Vienna", 60, Rule::Europe),
    ("Europe/Warsaw", 60, Rule::Europe),
    ("Europe/Zagreb", 60, Rule::Europe),
    ("Europe/Zurich", 60, Rule::Europe),
    ("CET", 60, Rule::Europe),
    ("Europe/Athens", 120, Rule::Europe),
    ("Europe/Bucharest", 120, Rule::Europe),
    ("Europe/Helsinki", 120, Rule::Europe),
    ("Europe/Kyiv", 120, Rule::Europe),
    ("Europe/Mariehamn", 120, Rule::Europe),
    ("Europe/Riga", 120, Rule::Europe),
    ("Europe/Sofia", 120, Rule::Europe),
    ("Europe/Tallinn", 120, Rule::Europe),
    ("Europe/Vilnius", 120, Rule::Europe),
    ("Asia/Nicosia", 120, Rule::Europe),
    ("EET", 120, Rule::Europe),
    ("Europe/Istanbul", 180, Rule::Fixed),
    ("Africa/Johannesburg", 120, Rule::Fixed),
    ("Africa/Lagos", 60, Rule::Fixed),
    ("Africa/Nairobi", 180, Rule::Fixed),
    ("Africa/Accra", 0, Rule::Fixed),
    ("Asia/Kolkata", 330, Rule::Fixed),
    ("Asia/Calcutta", 330, Rule::Fixed),
    ("Asia/Kathmandu", 345, Rule::Fixed),
    ("Asia/Dhaka", 360, Rule::Fixed),
    ("Asia/Karachi", 300, Rule::Fixed),
    ("Asia/Colombo", 330, Rule::Fixed),
    ("Asia/Dubai", 240, Rule::Fixed),
    ("Asia/Riyadh", 180, Rule::Fixed),
    ("Asia/Manila", 480, Rule::Fixed),
    ("Asia/Jakarta", 420, Rule::Fixed),
    ("Asia/Singapore", 480, Rule::Fixed),
    ("Asia/Shanghai", 480, Rule::Fixed),
    ("Asia/Tokyo", 540, Rule::Fixed),
    ("Australia/Brisbane", 600, Rule::Fixed),
    ("Australia/Sydney", 600, Rule::Australia),
    ("Australia/Melbourne", 600, Rule::Australia),
    ("Australia/Hobart", 600, Rule::Australia),
    ("Australia/Canberra", 600, Rule::Australia),
    ("Australia/Adelaide", 570, Rule::Australia),
    ("Australia/Darwin", 570, Rule::Fixed),
    ("Australia/Perth", 480, Rule::Fixed),
    ("Pacific/Auckland", 720, Rule::NewZealand),
    ("America/Sao_Paulo", -180, Rule::Fixed),
    ("America/Argentina/Buenos_Aires", -180, Rule::Fixed),
    ("America/Bogota", -300, Rule::Fixed),
    ("America/Mexico_City", -360, Rule::Fixed),
    ("America/Phoenix", -420, Rule::Fixed),
    ("America/St_Johns", -210, Rule::NorthAmerica),
    ("America/Halifax", -240, Rule::NorthAmerica),
    ("America/New_York", -300, Rule::NorthAmerica),
    ("America/Toronto", -300, Rule::NorthAmerica),
    ("America/Detroit", -300, Rule::NorthAmerica),
    ("America/Chicago", -360, Rule::NorthAmerica),
    ("America/Winnipeg", -360, Rule::NorthAmerica),
    ("America/Denver", -420, Rule::NorthAmerica),
    ("America/Edmonton", -420, Rule::NorthAmerica),
    ("America/Los_Angeles", -480, Rule::NorthAmerica),
    ("America/Vancouver", -480, Rule::NorthAmerica),
    ("America/Anchorage", -540, Rule::NorthAmerica),
    ("Pacific/Honolulu", -600, Rule::Fixed),
];

impl Zone {
    /// UTC itself.
    pub const UTC: Self = Self { standard_minutes: 0, rule: Rule::Fixed };

    /// A zone by its name in the IANA table, or `UTC+10`, `UTC-3:30`, `+05:30`. `None`: not known here.
    pub fn named(name: &str) -> Option<Self> {
        if let Some((_, standard_minutes, rule)) = ZONES.iter().find(|(known, ..)| *known == name) {
            return Some(Self { standard_minutes: *standard_minutes, rule: *rule });
        }
        let offset = name.strip_prefix("UTC").or_else(|| name.strip_prefix("GMT")).unwrap_or(name);
        let (sign, digits) = match offset.as_bytes().first()? {
            b'+' => (1, &offset[1..]),
            b'-' => (-1, &offset[1..]),
            _ => return None,
        };
        let (hours, minutes) = match digits.split_once(':') {
            Some((hours, minutes)) => (hours, minutes),
            None if digits.len() == 4 => digits.split_at_checked(2)?,
            None => (digits, "0"),
        };
        let minutes = hours.parse::<u8>().ok().filter(|h| *h <= 14).map(i32::from)? * 60
            + minutes.parse::<u8>().ok().filter(|m| *m < 60).map(i32::from)?;
        Some(Self { standard_minutes: sign * minutes, rule: Rule::Fixed })
    }

    /// UTC of a local civil time given as if it were UTC. In the doubled hour of autumn the season decides; without one the
    /// first (summer) is taken. In the hour that spring leaves out, the clock is read as standard time.
    pub fn to_utc(self, local: Timestamp, season: Season) -> Timestamp {
        let standard = local.plus(-i64::from(self.standard_minutes) * 60);
        let summer = standard.plus(-3_600);
        match season {
            _ if self.rule == Rule::Fixed => standard,
            Season::Summer => summer,
            Season::Winter => standard,
            Season::Unsaid if self.is_summer(summer) => summer,
            Season::Unsaid => standard,
        }
    }

    /// Whether summer time is in force at this instant.
    pub fn is_summer(self, at: Timestamp) -> bool {
        let (year, ..) = at.civil();
        let standard = |month, sunday, hour: i64| {
            Sunday { year, month, which: sunday }.start().plus(hour * 3_600 - i64::from(self.standard_minutes) * 60)
        };
        match self.rule {
            Rule::Fixed => false,
            Rule::Europe => {
                let start = Sunday { year, month: 3, which: 0 }.start().plus(3_600);
                let end = Sunday { year, month: 10, which: 0 }.start().plus(3_600);
                start <= at && at < end
            }
            Rule::NorthAmerica => standard(3, 2, 2) <= at && at < standard(11, 1, 1),
            Rule::Australia => at < standard(4, 1, 2) || standard(10, 1, 2) <= at,
            Rule::NewZealand => at < standard(4, 1, 2) || standard(9, 0, 2) <= at,
        }
    }
}

/// A Sunday of a month: which one, counted from 1; 0 is the last.
struct Sunday {
    year: i64,
    month: i64,
    which: i64,
}

impl Sunday {
    /// Its midnight, as if local were UTC.
    fn start(&self) -> Timestamp {
        let first = if self.which == 0 { self.last_week() } else { (self.which - 1) * 7 + 1 };
        let start = Timestamp::from_civil((self.year, self.month, first), (0, 0, 0)).unwrap_or_default();
        // 1970-01-01 was a Thursday: day 3 of the epoch was a Sunday.
        let weekday = (start.day() + 4).rem_euclid(7);
        start.plus((7 - weekday).rem_euclid(7) * 86_400)
    }

    fn last_week(&self) -> i64 {
        // Only March, September and October are asked for.
        if self.month == 9 { 24 } else { 25 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn utc(zone: &str, local: (i64, i64, i64), hour: i64, season: Season) -> alloc::string::String {
        let zone = Zone::named(zone).expect("known");
        zone.to_utc(Timestamp::from_civil(local, (hour, 30, 0)).expect("valid"), season).to_string()
    }

    #[test]
    fn the_doubled_hour_of_autumn_is_told_apart() {
        let day = (2026, 10, 25);
        assert_eq!(utc("Europe/Amsterdam", day, 2, Season::Summer), "2026-10-25T00:30:00Z");
        assert_eq!(utc("Europe/Amsterdam", day, 2, Season::Winter), "2026-10-25T01:30:00Z");
        assert_eq!(utc("Europe/Amsterdam", day, 2, Season::Unsaid), "2026-10-25T00:30:00Z");
        assert_eq!(utc("Europe/Amsterdam", day, 3, Season::Unsaid), "2026-10-25T02:30:00Z");
        assert_eq!(utc("Europe/London", (2026, 3, 29), 0, Season::Unsaid), "2026-03-29T00:30:00Z");
        assert_eq!(utc("Europe/London", (2026, 3, 29), 2, Season::Unsaid), "2026-03-29T01:30:00Z");
    }

    #[test]
    fn zones_far_away() {
        assert_eq!(utc("UTC+10", (2026, 1, 1), 10, Season::Unsaid), "2026-01-01T00:30:00Z");
        assert_eq!(utc("+05:30", (2026, 1, 1), 6, Season::Unsaid), "2026-01-01T01:00:00Z");
        assert_eq!(utc("Australia/Sydney", (2026, 1, 1), 11, Season::Unsaid), "2026-01-01T00:30:00Z");
        assert_eq!(utc("Australia/Sydney", (2026, 7, 1), 10, Season::Unsaid), "2026-07-01T00:30:00Z");
        assert_eq!(utc("America/New_York", (2026, 11, 1), 3, Season::Unsaid), "2026-11-01T08:30:00Z");
        assert_eq!(utc("America/New_York", (2026, 10, 31), 3, Season::Unsaid), "2026-10-31T07:30:00Z");
        assert_eq!(Zone::named("Mars/Olympus"), None);
    }
}
