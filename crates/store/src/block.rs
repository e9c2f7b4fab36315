//! A packed day: the intervals of one meter in one UTC day, all channels, in a few hundred bytes.
//!
//! Not here: files and transactions (`seal`), what is still in memory (`hot`).

pub(crate) mod bits;
mod codec;
pub(crate) mod crc;
mod day;

pub(crate) use day::{Day, Interval, Merged};

/// The UTC day (counted from 1970) that an interval ending at `end` belongs to: midnight ends the day before.
pub(crate) fn day_of(end: metering::Timestamp) -> i64 {
    end.plus(-1).day()
}
