//! What stands in a file and in its fields: its encoding, ratios, and texts as they may be shown.

use crate::error::StoreError;

/// The text of a file, which must be UTF-8; what else it may be is said with the line.
///
/// # Errors
/// When it is not.
pub fn csv_text(bytes: &[u8]) -> Result<&str, StoreError> {
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes {
        return Err(StoreError::Invalid("the file is encoded in UTF-16: save it as UTF-8".to_owned()));
    }
    std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        StoreError::Invalid(format!(
            "the file is not encoded in UTF-8 (line {line}; is it Latin-1 or Windows-1252?): save it as UTF-8"
        ))
    })
}

/// A text as it may stand in a message: short and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let clean: String = text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > 40 { format!("{clean}…") } else { clean }
}

/// A current transformer's ratio in thousandths: `20`, `12.5`, `100/5`; empty is 1.
pub(crate) fn ratio(text: &str) -> Result<u32, String> {
    let bad = || format!("ct_ratio '{}' is not a ratio from 0.001 to 100000, such as 1, 20 or 100/5", shown(text));
    if text.is_empty() {
        return Ok(1_000);
    }
    let milli = match text.split_once('/') {
        Some((primary, secondary)) => {
            let (primary, secondary) = (decimal(primary).ok_or_else(bad)?, decimal(secondary).ok_or_else(bad)?);
            if secondary == 0 || (primary * 1_000) % secondary != 0 {
                return Err(bad());
            }
            primary * 1_000 / secondary
        }
        None => decimal(text).ok_or_else(bad)?,
    };
    u32::try_from(milli).ok().filter(|milli| (1..=100_000_000).contains(milli)).ok_or_else(bad)
}

/// A decimal number with up to three decimals, in thousandths.
fn decimal(text: &str) -> Option<u64> {
    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || part.len() > 3 || !digits(whole) || !digits(part) {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1_000 + part)
}
