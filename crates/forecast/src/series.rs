//! Energy by interval, and the only road to it: what had ended at an origin.
//!
//! A [`Series`] holds everything and shows nothing but a [`Known`]: the intervals that ended at or before an [`Origin`]. Models
//! take a `Known`, so that looking ahead is a type error and not a matter of care. Not even the length of the series is told.

use crate::error::ForecastError;

/// Longest series held, intervals: 20 years of quarter-hours.
pub const INTERVALS_MAX: i64 = 20 * 366 * 96;

/// The moment a forecast is made, unix seconds. What ended later is unknown to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(i64);

impl Origin {
    /// The origin at a time, unix seconds.
    pub const fn at(unix_s: i64) -> Self {
        Self(unix_s)
    }

    /// Unix seconds.
    pub const fn unix_s(self) -> i64 {
        self.0
    }
}

/// One usage point's or one node's energy by interval, kWh; net of generation where that is metered (then perhaps negative).
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub id: String,
    step_s: i64,
    first_end: i64,
    /// NaN = no reading.
    values: Vec<f32>,
}

/// What was known of a series at an origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known<'a> {
    origin: Origin,
    step_s: i64,
    first_end: i64,
    values: &'a [f32],
}

impl Series {
    /// From rows of (end of the interval in unix seconds, kWh), in any order; missing intervals are missing rows.
    ///
    /// # Errors
    /// A row off the grid, doubled, not finite, or a span beyond [`INTERVALS_MAX`].
    pub fn new(id: &str, step_s: i64, rows: &[(i64, f32)]) -> Result<Self, ForecastError> {
        let series = id.to_owned();
        if ![900, 1_800, 3_600].contains(&step_s) {
            return Err(ForecastError::Step { series, step_s });
        }
        let first_end = rows.iter().map(|r| r.0).min().unwrap_or(0);
        let last_end = rows.iter().map(|r| r.0).max().unwrap_or(0);
        let intervals = if rows.is_empty() { 0 } else { (last_end - first_end) / step_s + 1 };
        if intervals > INTERVALS_MAX {
            return Err(ForecastError::TooLong { series, intervals, most: INTERVALS_MAX });
        }
        let mut values = vec![f32::NAN; usize::try_from(intervals).unwrap_or(0)];
        for &(end, kwh) in rows {
            if end.rem_euclid(step_s) != 0 {
                return Err(ForecastError::OffGrid { series, end, step_s });
            }
            if !kwh.is_finite() {
                return Err(ForecastError::NotFinite { series, end });
            }
            let slot = &mut values[((end - first_end) / step_s) as usize];
            if !slot.is_nan() {
                return Err(ForecastError::Doubled { series, end });
            }
            *slot = kwh;
        }
        Ok(Self { id: id.to_owned(), step_s, first_end, values })
    }

    /// Length of an interval, seconds.
    pub fn step_s(&self) -> i64 {
        self.step_s
    }

    /// What had ended at the origin.
    pub fn known_at(&self, origin: Origin) -> Known<'_> {
        cut(origin, self.step_s, self.first_end, &self.values)
    }
}

fn cut(origin: Origin, step_s: i64, first_end: i64, values: &[f32]) -> Known<'_> {
    let count = ((origin.unix_s() - first_end).div_euclid(step_s) + 1).max(0);
    let count = usize::try_from(count).unwrap_or(0).min(values.len());
    Known { origin, step_s, first_end, values: &values[..count] }
}

impl<'a> Known<'a> {
    /// The origin.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Length of an interval, seconds.
    pub fn step_s(&self) -> i64 {
        self.step_s
    }

    /// End of the first interval, unix seconds.
    pub fn first_end(&self) -> i64 {
        self.first_end
    }

    /// Values by interval from the first on, NaN where there is no reading.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The value of the interval that ends at `end`; NaN when missing, before the first, or after the origin.
    pub fn value(&self, end: i64) -> f32 {
        let offset = end - self.first_end;
        if offset < 0 || offset % self.step_s != 0 {
            return f32::NAN;
        }
        self.values.get((offset / self.step_s) as usize).copied().unwrap_or(f32::NAN)
    }

    /// What was known at an earlier origin; at a later one nothing more is known than now.
    pub fn earlier(&self, origin: Origin) -> Known<'a> {
        cut(origin.min(self.origin), self.step_s, self.first_end, self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(values: &[f32]) -> Series {
        let rows: Vec<(i64, f32)> = values.iter().enumerate().map(|(i, v)| (1_800 * (i as i64 + 1), *v)).collect();
        Series::new("a", 1_800, &rows).expect("a good series")
    }

    proptest! {
        #[test]
        fn nothing_after_the_origin_can_be_reached(n in 1usize..200, at in 0i64..400_000, later in 0i64..400_000) {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let series = series(&values);
            let known = series.known_at(Origin::at(at));
            prop_assert!(known.values().len() as i64 <= at / 1_800);
            for end in (0..400_000).step_by(1_800) {
                let seen = !known.value(end).is_nan();
                prop_assert_eq!(seen, end >= 1_800 && end <= at && end <= 1_800 * n as i64);
            }
            let again = known.earlier(Origin::at(later));
            prop_assert!(again.values().len() <= known.values().len());
            prop_assert!(again.values().len() as i64 <= later / 1_800);
        }
    }

    #[test]
    fn bad_rows_are_refused_by_name() {
        assert!(matches!(Series::new("a", 1_800, &[(7, 1.0)]), Err(ForecastError::OffGrid { .. })));
        assert!(matches!(Series::new("a", 1_800, &[(1_800, 1.0), (1_800, 1.0)]), Err(ForecastError::Doubled { .. })));
        assert!(matches!(Series::new("a", 1_800, &[(1_800, f32::NAN)]), Err(ForecastError::NotFinite { .. })));
        assert!(matches!(Series::new("a", 60, &[]), Err(ForecastError::Step { .. })));
        assert!(matches!(
            Series::new("a", 900, &[(0, 1.0), (900_000_000_000, 1.0)]),
            Err(ForecastError::TooLong { .. })
        ));
    }
}
