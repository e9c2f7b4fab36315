//! Numbers and times as people read them: fixed decimals, a true minus, groups of three, and a dash for what is not known.
//! Unknown is never written as zero.

use metering::Timestamp;

/// What stands where a value is not known.
pub const UNKNOWN: &str = "–";

/// A number with `decimals` places, groups of three and a true minus; a dash when it is not finite.
pub fn number(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    let text = format!("{:.decimals$}", value.abs());
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let negative = value < 0.0 && text.bytes().any(|b| b.is_ascii_digit() && b != b'0');
    let mut out = String::with_capacity(text.len() + 6);
    if negative {
        out.push('\u{2212}');
    }
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    out
}

/// The same, or a dash.
pub fn maybe(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |v| number(v, decimals))
}

/// Energy in watt-hours as kWh with one decimal.
pub fn kwh(wh: f64) -> String {
    number(wh / 1_000.0, 1)
}

/// Mean power in kW of an energy over some minutes.
pub fn mean_kw(wh: f64, minutes: f64) -> f64 {
    if minutes > 0.0 { wh * 60.0 / minutes / 1_000.0 } else { f64::NAN }
}

/// A count with groups of three.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// An integer in thousandths (mV, mA, mHz, ‰) as its unit, with `decimals` places.
pub fn milli(value: impl Into<i64>, decimals: usize) -> String {
    let value: i64 = value.into();
    let whole = i32::try_from(value).map_or(f64::NAN, f64::from);
    number(whole / 1_000.0, decimals)
}

/// A register in watt-hours as kWh with three decimals, exactly.
pub fn register_kwh(wh: u64) -> String {
    format!("{}.{:03}", count(wh / 1_000), wh % 1_000)
}

/// `2026-01-14 08:15:00`.
pub fn date_time(at: Timestamp) -> String {
    let text = at.to_string();
    text.trim_end_matches('Z').replace('T', " ")
}

/// `2026-01-14 08:15`.
pub fn date_minute(at: Timestamp) -> String {
    let text = date_time(at);
    text.get(..text.len().saturating_sub(3)).unwrap_or(&text).to_owned()
}

/// `14 Jan 08:15`, for sentences about the recent past.
pub fn day_minute(at: Timestamp) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, month, day) = at.civil();
    let name = usize::try_from(month).ok().and_then(|month| MONTHS.get(month.wrapping_sub(1))).unwrap_or(&UNKNOWN);
    let s = at.second_of_day();
    format!("{day} {name} {:02}:{:02}", s / 3_600, s / 60 % 60)
}

/// `2026-01-14`.
pub fn date(at: Timestamp) -> String {
    let (year, month, day) = at.civil();
    format!("{year:04}-{month:02}-{day:02}")
}

/// `08:15:00`.
pub fn clock(at: Timestamp) -> String {
    let s = at.second_of_day();
    format!("{:02}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
}

/// How long ago, in the largest unit that says enough.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.seconds_since(at).max(0);
    match seconds {
        0..=89 => format!("{seconds} s ago"),
        90..=5_399 => format!("{} min ago", (seconds + 30) / 60),
        5_400..=129_599 => format!("{} h ago", (seconds + 1_800) / 3_600),
        _ => format!("{} days ago", (seconds + 43_200) / 86_400),
    }
}

/// A length of time in seconds.
pub fn duration(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7_199 => format!("{} min", (s + 30) / 60),
        s @ 7_200..=172_799 => format!("{} h", (s + 1_800) / 3_600),
        s => format!("{} days", (s + 43_200) / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_the_same_everywhere() {
        assert_eq!(number(1_234_567.891, 1), "1,234,567.9");
        assert_eq!(number(-12.34, 1), "\u{2212}12.3");
        assert_eq!(number(-0.01, 1), "0.0");
        assert_eq!(number(f64::NAN, 1), "–");
        assert_eq!(maybe(None, 2), "–");
        assert_eq!(milli(230_150_u32, 1), "230.2");
        assert_eq!(register_kwh(1_234_567), "1,234.567");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(date_minute(Timestamp(1_795_239_000)), "2026-11-21 05:30");
        assert_eq!(day_minute(Timestamp(1_795_239_000)), "21 Nov 05:30");
        assert_eq!(ago(Timestamp(0), Timestamp(3_600)), "60 min ago");
    }
}
