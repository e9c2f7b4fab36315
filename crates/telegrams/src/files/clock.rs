//! Times in files: ISO 8601 with or without an offset, compact digits, dates with separators.

use metering::Timestamp;

use crate::zone::{Season, Zone};

/// `2026-01-01T01:00[:00[.0]][+01:00|Z]`, `T` or a blank between. Without an offset the zone decides; without both there is no time.
pub fn iso(text: &str, zone: Option<Zone>) -> Option<Timestamp> {
    let text = text.trim();
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', ' ']).unwrap_or(rest);
    let end = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (time, offset) = rest.split_at(end);
    let local = civil(date, time, "YMD")?;
    match offset {
        "" => Some(zone?.to_utc(local, Season::Unsaid)),
        "Z" => Some(local),
        offset => Some(Zone::named(offset)?.to_utc(local, Season::Unsaid)),
    }
}

/// `YYYYMMDD[hhmm[ss]]` as if it were UTC.
pub fn compact(text: &str) -> Option<Timestamp> {
    let digits = text.as_bytes();
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to).map_or(Some(0), |part| part.parse::<i64>().ok());
    let date = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    // 24:00 is the beginning of the next day.
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    time_of(date, hour, minute, second)
}

/// Date with separators in the order given (`YMD`, `DMY`, `MDY`), time `hh:mm[:ss]`, as if it were UTC. 24:00 is the next midnight.
pub fn civil(date: &str, time: &str, order: &str) -> Option<Timestamp> {
    let mut parts = date.split(['-', '/', '.']).map(|part| part.trim().parse::<i64>().ok());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    let at = |letter| order.find(letter).and_then(|at| three.get(at).copied());
    let year = at('Y')?;
    let date = (if year < 100 { year + 2000 } else { year }, at('M')?, at('D')?);
    let time = time.trim();
    let (time, afternoon) = match time.len().checked_sub(2).and_then(|cut| time.split_at_checked(cut)) {
        Some((clock, half)) if half.eq_ignore_ascii_case("am") => (clock.trim(), Some(false)),
        Some((clock, half)) if half.eq_ignore_ascii_case("pm") => (clock.trim(), Some(true)),
        _ => (time, None),
    };
    let mut parts = time.split([':', '.']).map(|part| part.parse::<i64>().ok());
    let (hour, minute) = if time.is_empty() { (0, 0) } else { (parts.next()??, parts.next().unwrap_or(Some(0))?) };
    let second = parts.next().unwrap_or(Some(0))?;
    let hour = match afternoon {
        Some(true) => hour % 12 + 12,
        Some(false) => hour % 12,
        None => hour,
    };
    time_of(date, hour, minute, second)
}

fn time_of(date: (i64, i64, i64), hour: i64, minute: i64, second: i64) -> Option<Timestamp> {
    if (hour, minute, second) == (24, 0, 0) {
        return Some(Timestamp::from_civil(date, (0, 0, 0))?.plus(86_400));
    }
    Timestamp::from_civil(date, (hour, minute, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_time() {
        let shown = |time: Option<Timestamp>| time.map_or("none".into(), |time| time.to_string());
        assert_eq!(shown(iso("2025-10-26T01:00:00+01:00", None)), "2025-10-26T00:00:00Z");
        assert_eq!(shown(iso("2025-10-26 01:00", Zone::named("Europe/Berlin"))), "2025-10-25T23:00:00Z");
        assert_eq!(shown(iso("2025-10-26T01:00:00.250Z", None)), "2025-10-26T01:00:00Z");
        assert_eq!(shown(iso("2025-10-26T01:00:00", None)), "none");
        assert_eq!(shown(compact("202601010800")), "2026-01-01T08:00:00Z");
        assert_eq!(shown(civil("31/12/2026", "24:00", "DMY")), "2027-01-01T00:00:00Z");
        assert_eq!(shown(civil("1/2/26", "3:15 PM", "MDY")), "2026-01-02T15:15:00Z");
        assert_eq!(shown(compact("20261332")), "none");
        for damaged in ["2025-10-26T01:00\u{FFFD}", "2025-10-26T01:00+0\u{FFFD}", "2025-10-2\u{FFFD}"] {
            assert_eq!(shown(iso(damaged, Some(Zone::UTC))), "none", "{damaged}");
        }
    }
}
