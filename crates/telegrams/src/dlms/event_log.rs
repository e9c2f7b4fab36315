//! Event logs: profiles of a clock and a code, and what the codes mean in the Indian standard and in the Dutch one (with IDIS).

use alloc::vec::Vec;

use metering::Timestamp;

use super::{apdu::Target, profile::Row};

/// Whose codes a meter uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// IS 15959, parts 1 and 2.
    Is15959,
    /// DSMR P3 and IDIS.
    Dsmr,
}

/// One entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub time: Option<Timestamp>,
    /// The code.
    pub code: u16,
    /// What it means; `None` for a code that is not known.
    pub meaning: Option<&'static str>,
}

/// Entries of rows that were read: the column of class 1 is the code.
pub fn entries(rows: &[Row], columns: &[Target], codes: Codes) -> Vec<Entry> {
    // 0.0.96.11.x in both; some meters list other data beside it.
    let is_code = |column: &Target| column.class == 1 && column.obis[2..4] == [96, 11];
    let at = columns.iter().position(is_code).or_else(|| columns.iter().position(|column| column.class == 1));
    let entry = |row: &Row| {
        let number = row.numbers.get(at?).copied().flatten()?;
        let code = u16::try_from(number.rounded()?).ok()?;
        Some(Entry { time: row.time, code, meaning: meaning(codes, code) })
    };
    rows.iter().filter_map(entry).collect()
}

/// What a code means.
pub fn meaning(codes: Codes, code: u16) -> Option<&'static str> {
    let table = match codes {
        Codes::Is15959 => IS15959,
        Codes::Dsmr => DSMR,
    };
    table.iter().find(|(known, _)| *known == code).map(|(_, text)| *text)
}

/// OBIS codes of the logs: Indian voltage, current, power, transaction, other, non-rollover, control; Dutch standard, fraud,
/// disconnector, communication.
pub const LOGS: [[u8; 6]; 7] = [
    [0, 0, 99, 98, 0, 255],
    [0, 0, 99, 98, 1, 255],
    [0, 0, 99, 98, 2, 255],
    [0, 0, 99, 98, 3, 255],
    [0, 0, 99, 98, 4, 255],
    [0, 0, 99, 98, 5, 255],
    [0, 0, 99, 98, 6, 255],
];

/// IS 15959, event logs, by public lists of its codes.
const IS15959: &[(u16, &str)] = &[
    (1, "R phase: voltage missing"),
    (2, "R phase: voltage back"),
    (3, "Y phase: voltage missing"),
    (4, "Y phase: voltage back"),
    (5, "B phase: voltage missing"),
    (6, "B phase: voltage back"),
    (7, "over-voltage"),
    (8, "over-voltage ended"),
    (9, "low voltage"),
    (10, "low voltage ended"),
    (11, "voltage unbalance"),
    (12, "voltage unbalance ended"),
    (51, "R phase: current reversed"),
    (52, "R phase: current forward again"),
    (53, "Y phase: current reversed"),
    (54, "Y phase: current forward again"),
    (55, "B phase: current reversed"),
    (56, "B phase: current forward again"),
    (57, "R phase: current transformer open"),
    (58, "R phase: current transformer back"),
    (59, "Y phase: current transformer open"),
    (60, "Y phase: current transformer back"),
    (61, "B phase: current transformer open"),
    (62, "B phase: current transformer back"),
    (63, "current unbalance"),
    (64, "current unbalance ended"),
    (65, "current transformer bypassed"),
    (66, "bypass ended"),
    (67, "over-current"),
    (68, "over-current ended"),
    (69, "earth loading"),
    (70, "earth loading ended"),
    (101, "power failed"),
    (102, "power restored"),
    (151, "clock set"),
    (152, "demand period changed"),
    (153, "profile period changed"),
    (154, "billing date changed"),
    (155, "tariff zones changed"),
    (201, "magnet"),
    (202, "magnet gone"),
    (203, "neutral disturbance"),
    (204, "neutral disturbance ended"),
    (205, "very low power factor"),
    (206, "power factor normal"),
    (207, "neutral missing"),
    (208, "neutral back"),
    (251, "cover opened"),
    (301, "load disconnected"),
    (302, "load connected"),
];

/// DSMR P3 companion standard and IDIS package 2: standard event log, fraud detection log, disconnector log.
const DSMR: &[(u16, &str)] = &[
    (1, "power down"),
    (2, "power up"),
    (3, "summer time switched"),
    (4, "clock adjusted, old time"),
    (5, "clock adjusted, new time"),
    (6, "clock invalid"),
    (7, "replace battery"),
    (8, "battery low"),
    (9, "tariff programme activated"),
    (10, "error register cleared"),
    (11, "alarm register cleared"),
    (12, "programme memory error"),
    (13, "working memory error"),
    (14, "non-volatile memory error"),
    (15, "watchdog error"),
    (16, "measurement system error"),
    (17, "firmware ready for activation"),
    (18, "firmware activated"),
    (40, "terminal cover removed"),
    (41, "terminal cover closed"),
    (42, "strong magnetic field"),
    (43, "no strong magnetic field any more"),
    (44, "meter cover removed"),
    (45, "meter cover closed"),
    (46, "association authentication failed repeatedly"),
    (47, "decryption or authentication failed"),
    (48, "replay attack"),
    (60, "disconnected by hand"),
    (61, "connected by hand"),
    (62, "disconnected remotely"),
    (63, "connected remotely"),
    (64, "disconnected by the meter"),
    (65, "limiter threshold exceeded"),
    (66, "load below the limiter threshold"),
    (67, "limiter threshold changed"),
    (68, "disconnector failed"),
    (69, "connected by the meter"),
    (255, "log cleared"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decimal, dlms::time::DateTime};

    #[test]
    fn a_log_names_its_events() {
        let columns = [
            Target { class: 8, obis: [0, 0, 1, 0, 0, 255], index: 2 },
            Target { class: 1, obis: [0, 0, 96, 11, 2, 255], index: 2 },
        ];
        let at = DateTime::parse(&DateTime::encode_utc(Timestamp(1_767_225_600))).and_then(|time| time.to_utc(None));
        let row = |code| Row { time: at, numbers: alloc::vec![None, Some(Decimal::new(code, 0))] };
        let shown = |codes| {
            let entries = entries(&[row(101), row(62), row(999)], &columns, codes);
            entries.iter().map(|entry| (entry.code, entry.meaning)).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(Codes::Is15959),
            [(101, Some("power failed")), (62, Some("B phase: current transformer back")), (999, None)]
        );
        assert_eq!(shown(Codes::Dsmr), [(101, None), (62, Some("disconnected remotely")), (999, None)]);
    }

    /// Our own meter's codes are those of the Indian standard, word by word where it has one.
    #[test]
    fn our_meter_speaks_these_codes() {
        for kind in metering::EventKind::ALL.iter().filter(|kind| kind.code() < 1_000) {
            assert!(meaning(Codes::Is15959, kind.code()).is_some(), "{kind:?}");
        }
    }
}
