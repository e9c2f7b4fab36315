//! What was used in a stretch of time: intervals of energy and demand registers, with their quality.
//!
//! Consumption is the difference of consecutive readings of one meter, plus the modulus after a roll-over, times its multiplier; several
//! meters add up. A boundary without a reading lies on the straight line between its neighbours, cut down to whole units of the register.
//! Amounts are integers: Wh times `scale`, where `scale` clears the denominators of all multipliers.

mod periods;
mod registers;

use std::cell::OnceCell;

pub use periods::{ByPeriod, SeriesPrice, by_period, priced};
pub use registers::from_tracks;

use crate::{exact::Exact, readings::Quantity};

/// Energy between two instants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Beginning, Unix seconds.
    pub start_s: i64,
    /// End.
    pub end_s: i64,
    /// Scaled units.
    pub amount: i128,
    /// Period of a register that counts only then.
    pub period: Option<String>,
}

/// Energy of one kind in a stretch of time.
#[derive(Clone, Debug)]
pub enum Energy<'a> {
    /// As registers were read.
    Intervals(Vec<Interval>),
    /// Equal steps from the beginning of the stretch, one value each: a packed block. Scale 1.
    Steps {
        /// Beginning, Unix seconds.
        start_s: i64,
        /// Length of a step, seconds; above zero.
        step_s: i64,
        /// Units of each step.
        values: &'a [u32],
    },
}

impl Energy<'_> {
    /// Sum, scaled units.
    pub fn total(&self) -> i128 {
        match self {
            Energy::Intervals(list) => list.iter().map(|interval| interval.amount).sum(),
            Energy::Steps { values, .. } => sum_of(values),
        }
    }

    /// Calls with start, end, amount and period of every interval.
    pub fn each(&self, mut take: impl FnMut(i64, i64, i128, Option<&str>)) {
        match self {
            Energy::Intervals(list) => {
                for interval in list {
                    take(interval.start_s, interval.end_s, interval.amount, interval.period.as_deref());
                }
            }
            Energy::Steps { start_s, step_s, values } => {
                let mut at_s = *start_s;
                for value in *values {
                    take(at_s, at_s + step_s, i128::from(*value), None);
                    at_s += step_s;
                }
            }
        }
    }
}

/// Sum of packed steps: 64 bits hold four thousand million of the largest.
fn sum_of(values: &[u32]) -> i128 {
    i128::from(values.iter().map(|value| u64::from(*value)).sum::<u64>())
}

impl Energy<'_> {
    /// Calls with the number of a window (counted from 1970) and the sum in it, where no interval with energy crosses windows; else
    /// gives back the first that does.
    pub fn each_window(&self, length_s: i64, mut take: impl FnMut(i64, i128)) -> Result<(), (i64, i64)> {
        if let Energy::Steps { start_s, step_s, values } = self
            && length_s % step_s == 0
            && start_s % step_s == 0
        {
            let per = usize::try_from(length_s / step_s).unwrap_or(1);
            let head = usize::try_from((-start_s).rem_euclid(length_s) / step_s).unwrap_or(0).min(values.len());
            let (head, rest) = values.split_at(head);
            let first = start_s.div_euclid(length_s);
            if !head.is_empty() {
                take(first, sum_of(head));
            }
            let behind = first + i64::from(!head.is_empty());
            (behind..).zip(rest.chunks(per)).for_each(|(number, chunk)| take(number, sum_of(chunk)));
            return Ok(());
        }
        let mut crossing = None;
        self.each(|start_s, end_s, amount, _| {
            let number = start_s.div_euclid(length_s);
            if (end_s - 1).div_euclid(length_s) != number && amount != 0 {
                crossing = crossing.or(Some((start_s, end_s)));
            }
            take(number, amount);
        });
        crossing.map_or(Ok(()), Err)
    }
}

/// A maximum-demand register read in the stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandReading {
    /// Active or apparent.
    pub quantity: Quantity,
    /// Its only period, if any.
    pub period: Option<String>,
    /// W or VA, multiplied.
    pub value: Exact,
    /// Instant of the reading.
    pub at_s: i64,
}

/// How good the readings are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// A value that counts was estimated by whoever read, or a boundary lies between readings.
    pub estimated: bool,
    /// Instants of boundaries that lie between readings.
    pub interpolated_at_s: Vec<i64>,
    /// Seconds of the stretch that no meter covers.
    pub missing_s: i64,
}

/// What was used.
#[derive(Clone, Debug)]
pub struct Usage<'a> {
    /// Units of amount per Wh.
    pub scale: i128,
    /// From the grid; `None`: there is no such register.
    pub import: Option<Energy<'a>>,
    /// To the grid.
    pub export: Option<Energy<'a>>,
    /// Apparent.
    pub apparent: Option<Energy<'a>>,
    /// Reactive.
    pub reactive: Option<Energy<'a>>,
    /// Maximum-demand registers.
    pub demand: Vec<DemandReading>,
    /// Import and export netted inside windows, once asked for.
    pub netted: OnceCell<(Energy<'static>, Energy<'static>)>,
    /// Quality.
    pub quality: Quality,
}

impl<'a> Usage<'a> {
    /// Nothing from any register, at so many units of amount per Wh.
    pub fn none(scale: i128) -> Usage<'a> {
        Usage {
            scale,
            import: None,
            export: None,
            apparent: None,
            reactive: None,
            demand: Vec::new(),
            netted: OnceCell::new(),
            quality: Quality::default(),
        }
    }

    /// Energy from the grid and nothing else: a token, a block of steps, an example.
    pub fn of_import(scale: i128, import: Energy<'a>) -> Usage<'a> {
        Usage { import: Some(import), ..Usage::none(scale) }
    }
}

impl Usage<'_> {
    /// An amount in kWh (kVAh, kvarh).
    pub fn kilo(&self, amount: i128) -> Exact {
        let denominator = self.scale.checked_mul(1000);
        let direct = denominator.and_then(|denominator| Exact::fraction(amount, denominator));
        direct.unwrap_or_else(|| {
            let whole = &Exact::whole(self.scale) * &Exact::whole(1000);
            Exact::whole(amount).over(&whole).unwrap_or(Exact::ZERO)
        })
    }

    /// The energy of a quantity, if a register counts it.
    pub fn energy(&self, quantity: Quantity) -> Option<&Energy<'_>> {
        match quantity {
            Quantity::Import => self.import.as_ref(),
            Quantity::Export => self.export.as_ref(),
            Quantity::Apparent => self.apparent.as_ref(),
            Quantity::Reactive => self.reactive.as_ref(),
            Quantity::DemandActive | Quantity::DemandApparent => None,
        }
    }
}
