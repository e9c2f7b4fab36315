//! Profile generic (class 7): selections, and rows with what meters leave out filled in.

use alloc::{vec, vec::Vec};

use metering::Timestamp;

use super::{apdu::Target, axdr::Value, time::DateTime};
use crate::{Decimal, Fault, Zone};

/// Parameters of selector 1: rows of a range of time, all columns.
pub fn range(clock: Target, from: Timestamp, to: Timestamp) -> Vec<u8> {
    let (from, to) = (DateTime::encode_utc(from), DateTime::encode_utc(to));
    let column = Value::Structure(vec![
        Value::Unsigned(u64::from(clock.class), 2),
        Value::Octets(&clock.obis),
        Value::Signed(i64::from(clock.index), 1),
        Value::Unsigned(0, 2),
    ]);
    Value::Structure(vec![column, Value::Octets(&from), Value::Octets(&to), Value::Array(Vec::new())]).encoded()
}

/// Parameters of selector 2: rows `from` to `to`, counted from 1; 0 is the last. All columns.
pub fn entries(from: u32, to: u32) -> Vec<u8> {
    Value::Structure(vec![
        Value::Unsigned(u64::from(from), 4),
        Value::Unsigned(u64::from(to), 4),
        Value::Unsigned(1, 2),
        Value::Unsigned(0, 2),
    ])
    .encoded()
}

/// Columns of attribute 3.
pub fn columns(value: &Value<'_>) -> Option<Vec<Target>> {
    let column = |item: &Value<'_>| match item.items()? {
        [Value::Unsigned(class, 2), obis, Value::Signed(index, _), ..] => {
            Some(Target { class: u16::try_from(*class).ok()?, obis: obis.obis()?, index: u8::try_from(*index).ok()? })
        }
        _ => None,
    };
    value.items()?.iter().map(column).collect()
}

/// A row: its time, its status word when the profile has one, its numbers by column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// End of the interval.
    pub time: Option<Timestamp>,
    /// Numbers; `None` where a column holds none.
    pub numbers: Vec<Option<Decimal>>,
}

/// Rows of a buffer. A null column repeats the row before; a null clock is the time before plus the period. More than `rows_max` rows, or
/// a row of another width, is an error: a meter that ignores the selection may send a year.
pub fn rows(
    buffer: &Value<'_>,
    columns: &[Target],
    period_s: u32,
    zone: Option<Zone>,
    rows_max: usize,
) -> Result<Vec<Row>, Fault> {
    let items = buffer.items().ok_or(Fault::structure("a profile buffer that is no array"))?;
    if items.len() > rows_max {
        return Err(Fault::TooLong("the profile: the meter ignores the selection; ask by entry"));
    }
    let clock = columns.iter().position(|column| column.class == 8);
    let mut out: Vec<Row> = Vec::with_capacity(items.len());
    for item in items {
        let fields = item.items().filter(|fields| fields.len() == columns.len());
        let fields = fields.ok_or(Fault::structure("a row with another number of columns than attribute 3 says"))?;
        let before = out.last();
        let time = clock.and_then(|at| match &fields[at] {
            Value::Null => before.and_then(|row| row.time).map(|time| time.plus(i64::from(period_s))),
            value => DateTime::parse(value.octets()?)?.to_utc(zone),
        });
        let numbers = fields.iter().enumerate().map(|(at, value)| match value {
            Value::Null if Some(at) != clock => before.and_then(|row| row.numbers.get(at).copied().flatten()),
            value => value.decimal(),
        });
        let numbers = numbers.collect();
        out.push(Row { time, numbers });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Target = Target { class: 8, obis: [0, 0, 1, 0, 0, 255], index: 2 };
    const ENERGY: Target = Target { class: 3, obis: [1, 0, 1, 8, 0, 255], index: 2 };

    #[test]
    fn null_columns_are_filled_in() {
        let first = DateTime::encode_utc(Timestamp(1_767_225_600));
        let buffer = Value::Array(vec![
            Value::Structure(vec![Value::Octets(&first), Value::Unsigned(10, 4)]),
            Value::Structure(vec![Value::Null, Value::Unsigned(11, 4)]),
            Value::Structure(vec![Value::Null, Value::Null]),
        ]);
        let rows = rows(&buffer, &[CLOCK, ENERGY], 900, None, 10).expect("rows");
        let times: Vec<_> = rows.iter().filter_map(|row| row.time).map(|time| time.0 - 1_767_225_600).collect();
        assert_eq!(times, [0, 900, 1_800]);
        assert_eq!(rows[2].numbers[1], Some(Decimal::new(11, 0)));
        assert!(super::rows(&buffer, &[CLOCK, ENERGY], 900, None, 2).is_err(), "more than was asked for");
        assert!(super::rows(&buffer, &[CLOCK], 900, None, 10).is_err());
    }
}
