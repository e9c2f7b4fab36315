//! Reading a meter out, without a socket: which attributes are asked for in which order, and what is done when a meter does not do
//! what it should. The caller carries each question to the meter.

use alloc::vec::Vec;

use metering::Timestamp;

use super::{
    apdu::{Selection, Target},
    axdr::Value,
    event_log,
    profile::{self, Row},
    push::scaler_unit,
    units,
};
use crate::{Decimal, Fault, Zone};

/// Asks for an attribute or a part of it: the encoded value, or the data access result.
pub type Ask<'a> = dyn FnMut(Target, Option<Selection<'_>>) -> Result<Result<Vec<u8>, u8>, Fault> + 'a;

/// A register with its scaler and unit.
pub fn register(obis: [u8; 6], ask: &mut Ask<'_>) -> Result<Option<(Decimal, &'static str)>, Fault> {
    let target = |index| Target { class: 3, obis, index };
    let Ok(scale) = ask(target(3), None)? else { return Ok(None) };
    let Ok(value) = ask(target(2), None)? else { return Ok(None) };
    let bad = || Fault::structure("a register whose value or scaler is none");
    let (exponent, unit) = Value::whole(&scale).as_ref().and_then(scaler_unit).ok_or_else(bad)?;
    let value = Value::whole(&value).and_then(|value| value.decimal()?.scaled(exponent)).ok_or_else(bad)?;
    Ok(Some((value, units::name(unit).ok_or_else(bad)?)))
}

/// What a profile is made of; read once and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its code.
    pub obis: [u8; 6],
    /// Its columns.
    pub columns: Vec<Target>,
    /// Seconds between rows, 0 for logs.
    pub period_s: u32,
    /// Rows in it when it was asked.
    pub rows: u32,
}

/// Attributes 3, 4 and 7 of a profile; `None`: the meter has none of that code.
pub fn layout(obis: [u8; 6], ask: &mut Ask<'_>) -> Result<Option<Layout>, Fault> {
    let target = |index| Target { class: 7, obis, index };
    let Ok(columns) = ask(target(3), None)? else { return Ok(None) };
    let columns = Value::whole(&columns).as_ref().and_then(profile::columns);
    let columns = columns.ok_or(Fault::structure("a profile whose columns make no sense"))?;
    let mut number = |index| -> Result<u32, Fault> {
        let value = ask(target(index), None)?.unwrap_or_default();
        Ok(Value::whole(&value).and_then(|v| u32::try_from(v.decimal()?.rounded()?).ok()).unwrap_or(0))
    };
    Ok(Some(Layout { obis, columns, period_s: number(4)?, rows: number(7)? }))
}

/// Rows from one time to another, at most `rows_max`. A meter that refuses the range, ignores it or fails at it is asked by entry for its
/// last rows, and what lies outside is left out.
pub fn rows(
    layout: &Layout,
    (from, to): (Timestamp, Timestamp),
    zone: Option<Zone>,
    rows_max: u32,
    ask: &mut Ask<'_>,
) -> Result<Vec<Row>, Fault> {
    let target = Target { class: 7, obis: layout.obis, index: 2 };
    let most = usize::try_from(rows_max).unwrap_or(usize::MAX);
    let parsed = |encoded: &[u8]| {
        let buffer =
            Value::whole(encoded).ok_or(Fault::structure("a profile buffer that does not end where it says"))?;
        profile::rows(&buffer, &layout.columns, layout.period_s, zone, most)
    };
    let within = |row: &Row| row.time.is_some_and(|at| from <= at && at <= to);
    let clock = layout.columns.iter().find(|column| column.class == 8);
    if let Some(clock) = clock {
        let parameters = profile::range(*clock, from, to);
        let answer = ask(target, Some(Selection { selector: 1, parameters: &parameters }));
        match answer {
            Ok(Ok(encoded)) => match parsed(&encoded) {
                Ok(rows) if rows.iter().all(within) => return Ok(rows),
                Ok(_) | Err(Fault::TooLong(_)) => {}
                Err(why) => return Err(why),
            },
            Ok(Err(_)) | Err(Fault::TooLong(_)) => {}
            Err(why) => return Err(why),
        }
    }
    let first = layout.rows.saturating_sub(rows_max) + 1;
    let parameters = profile::entries(first, layout.rows);
    match ask(target, Some(Selection { selector: 2, parameters: &parameters }))? {
        Ok(encoded) => Ok(parsed(&encoded)?.into_iter().filter(within).collect()),
        Err(code) => Err(Fault::structure(alloc::format!(
            "the meter gives no part of its profile ({})",
            super::apdu::access_result(code)
        ))),
    }
}

/// The entries of all logs that the meter has, at most `rows_max` of each.
pub fn event_logs(codes: event_log::Codes, rows_max: u32, ask: &mut Ask<'_>) -> Result<Vec<event_log::Entry>, Fault> {
    let mut out = Vec::new();
    for obis in event_log::LOGS {
        let Some(layout) = layout(obis, ask)? else { continue };
        let all = (Timestamp(0), Timestamp(253_402_300_799));
        let rows = match rows(&layout, all, None, rows_max, ask) {
            Ok(rows) => rows,
            // A log without a clock column cannot be bounded by time.
            Err(Fault::Structure(_)) => continue,
            Err(why) => return Err(why),
        };
        out.extend(event_log::entries(&rows, &layout.columns, codes));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlms::{objects, time::DateTime};

    const CLOCK: Target = Target { class: 8, obis: [0, 0, 1, 0, 0, 255], index: 2 };
    const ENERGY: Target = Target { class: 3, obis: [1, 0, 1, 8, 0, 255], index: 2 };
    const PROFILE: [u8; 6] = [1, 0, 99, 1, 0, 255];
    const START: i64 = 1_767_225_600;

    fn meter() -> objects::Objects {
        let rows = (0..100_i64).map(|row| {
            let at = Timestamp(START + row * 900);
            let time = DateTime::encode_utc(at);
            (at, Value::Structure(alloc::vec![Value::Octets(&time), Value::Unsigned(row.unsigned_abs(), 4)]).encoded())
        });
        let all = alloc::vec![
            objects::register(ENERGY.obis, 12_345, -1, 30),
            objects::profile(PROFILE, 900, &[CLOCK, ENERGY], rows.collect()),
        ];
        objects::Objects::new(all, objects::Disconnect { output: true, control: 1, mode: 4, is_approved: false })
    }

    /// How a meter treats a selection by range.
    #[derive(Clone, Copy, Debug)]
    enum Habit {
        Good,
        Refuses,
        IgnoresIt,
    }

    #[test]
    fn a_range_is_bounded_whatever_the_meter_does_with_it() {
        for habit in [Habit::Good, Habit::Refuses, Habit::IgnoresIt] {
            let meter = meter();
            let mut ask = |target: Target, selection: Option<Selection<'_>>| {
                Ok(match (habit, selection) {
                    (Habit::Refuses, Some(Selection { selector: 1, .. })) => Err(1),
                    (Habit::IgnoresIt, Some(Selection { selector: 1, .. })) => meter.get(&target, None),
                    (_, selection) => meter.get(&target, selection.as_ref()),
                })
            };
            let layout = layout(PROFILE, &mut ask).expect("an answer").expect("a profile");
            assert_eq!((layout.columns.len(), layout.period_s, layout.rows), (2, 900, 100));
            let span = (Timestamp(START + 95 * 900), Timestamp(START + 97 * 900));
            let rows = rows(&layout, span, None, 20, &mut ask).expect("rows");
            let numbers: Vec<_> = rows.iter().map(|row| row.numbers[1].expect("a number").digits).collect();
            assert_eq!(numbers, [95, 96, 97], "{habit:?}");
        }
    }

    #[test]
    fn a_register_with_its_scaler() {
        let meter = meter();
        let mut ask = |target: Target, selection: Option<Selection<'_>>| Ok(meter.get(&target, selection.as_ref()));
        assert_eq!(register(ENERGY.obis, &mut ask), Ok(Some((Decimal::new(12_345, -1), "Wh"))));
        assert_eq!(register([1, 0, 2, 8, 0, 255], &mut ask), Ok(None));
    }
}
