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

/// IS 15959, parts 1 and 2, event logs. Taken up is what two or more published lists of Indian head-end systems say alike (an enumeration
/// of codes with the standard's texts, a table of tamper types of meter reading software, a table in the page of a utility); what only
/// one has (81 to 86) or what they disagree on (252, 253: welded switch) stays a number.
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
    (157, "firmware activated"),
    (158, "load limit set"),
    (159, "load limit enabled"),
    (160, "load limit disabled"),
    (161, "meter reader's secret changed"),
    (162, "utility's key changed"),
    (163, "firmware key changed"),
    (164, "global keys changed"),
    (165, "event status word changed"),
    (166, "maximum demand reset"),
    (201, "magnet"),
    (202, "magnet gone"),
    (203, "neutral disturbance"),
    (204, "neutral disturbance ended"),
    (205, "very low power factor"),
    (206, "power factor normal"),
    (207, "neutral missing"),
    (208, "neutral back"),
    (209, "communication module removed"),
    (210, "communication module back"),
    (211, "changed to post-paid"),
    (212, "changed to prepaid"),
    (213, "changed to counting forward only"),
    (214, "changed to counting import and export"),
    (215, "overload"),
    (216, "overload ended"),
    (251, "cover opened"),
    (301, "load disconnected"),
    (302, "load connected"),
];

/// DSMR P3 companion standard and IDIS package 2: standard event log, fraud detection log, disconnector log. By the lists of EnergyICT's
/// protocol classes (`dlms.as220.EventNumber` for 1 to 67 and the M-Bus channels, `dlms.idis.hs3300.events.FraudDetectionEventLog` for
/// 40 to 55 and 91). Other codes of the disconnector log have no source here and stay a number.
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
    (49, "decryption or authentication failed"),
    (50, "replay attack"),
    (53, "random number generator initialised anew"),
    (54, "local interface switched off"),
    (55, "local interface switched on"),
    (60, "disconnected by hand"),
    (61, "connected by hand"),
    (62, "disconnected remotely"),
    (63, "connected remotely"),
    (64, "disconnected by the meter"),
    (65, "limiter threshold exceeded"),
    (66, "load below the limiter threshold"),
    (67, "limiter threshold changed"),
    (91, "current reversed"),
    (100, "M-Bus channel 1: communication lost"),
    (101, "M-Bus channel 1: communication back"),
    (102, "M-Bus channel 1: replace battery"),
    (103, "M-Bus channel 1: fraud attempt"),
    (104, "M-Bus channel 1: clock adjusted"),
    (110, "M-Bus channel 2: communication lost"),
    (111, "M-Bus channel 2: communication back"),
    (112, "M-Bus channel 2: replace battery"),
    (113, "M-Bus channel 2: fraud attempt"),
    (114, "M-Bus channel 2: clock adjusted"),
    (120, "M-Bus channel 3: communication lost"),
    (121, "M-Bus channel 3: communication back"),
    (122, "M-Bus channel 3: replace battery"),
    (123, "M-Bus channel 3: fraud attempt"),
    (124, "M-Bus channel 3: clock adjusted"),
    (130, "M-Bus channel 4: communication lost"),
    (131, "M-Bus channel 4: communication back"),
    (132, "M-Bus channel 4: replace battery"),
    (133, "M-Bus channel 4: fraud attempt"),
    (134, "M-Bus channel 4: clock adjusted"),
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
        assert_eq!(
            shown(Codes::Dsmr),
            [(101, Some("M-Bus channel 1: communication back")), (62, Some("disconnected remotely")), (999, None)]
        );
    }

    /// A code is named once; one without a source is shown as its number.
    #[test]
    fn a_table_has_no_code_twice() {
        for (table, unsourced) in [(IS15959, [13, 156, 252, 253]), (DSMR, [47, 48, 68, 69])] {
            assert!(table.is_sorted_by(|(a, _), (b, _)| a < b));
            assert!(unsourced.iter().all(|code| table.iter().all(|(known, _)| known != code)));
        }
    }

    /// Our own meter's codes are those of the Indian standard, word by word where it has one.
    #[test]
    fn our_meter_speaks_these_codes() {
        for kind in metering::EventKind::ALL.iter().filter(|kind| kind.code() < 1_000) {
            assert!(meaning(Codes::Is15959, kind.code()).is_some(), "{kind:?}");
        }
    }
}
