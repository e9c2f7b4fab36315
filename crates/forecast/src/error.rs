//! What can be wrong with the data or the request, in words that say what to do.

/// Why a forecast could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForecastError {
    /// The interval does not divide a day, or is not between 15 minutes and an hour.
    #[error("series {series}: an interval of {step_s} s is not used here; give 900, 1800 or 3600 s")]
    Step {
        /// The series.
        series: String,
        /// What was found, seconds.
        step_s: i64,
    },
    /// The end of an interval is not on the grid.
    #[error("series {series}: the end {end} is not a multiple of {step_s} s; intervals must end on the clock's grid")]
    OffGrid {
        /// The series.
        series: String,
        /// The end, unix seconds.
        end: i64,
        /// The interval, seconds.
        step_s: i64,
    },
    /// The same interval twice.
    #[error("series {series}: the interval that ends at {end} occurs twice; remove one of the rows")]
    Doubled {
        /// The series.
        series: String,
        /// The end, unix seconds.
        end: i64,
    },
    /// A value is not a number.
    #[error("series {series}: the value at {end} is not a finite number; leave the row out when it is missing")]
    NotFinite {
        /// The series.
        series: String,
        /// The end, unix seconds.
        end: i64,
    },
    /// A series spans more than is held.
    #[error("series {series} spans {intervals} intervals, at most {most} are held; cut the history")]
    TooLong {
        /// The series.
        series: String,
        /// What was found.
        intervals: i64,
        /// The limit.
        most: i64,
    },
    /// Too little history before an origin.
    #[error("series {series} has {days} days of readings before {origin}; a forecast needs {least}")]
    TooShort {
        /// The series.
        series: String,
        /// Days with readings.
        days: usize,
        /// The origin, unix seconds.
        origin: i64,
        /// What is needed.
        least: usize,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Request(String),
}
