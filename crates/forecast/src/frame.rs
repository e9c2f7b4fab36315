//! A series on the grid of local days: what models see. A day of 23 or 25 hours is mapped on the clock; gaps are filled from the past.

use crate::calendar::{Clock, DAY_S};
use crate::series::Known;

/// Local days before the target day that features look at.
pub const DAYS: usize = 57;
/// Days over which the scale is taken.
const SCALE_DAYS: usize = 28;

/// The last local days before an origin, the origin's own day as the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The local day of the origin (the day of the moment just after it).
    pub today: i64,
    /// Intervals of a day.
    pub slots: usize,
    first_day: i64,
    values: Vec<f32>,
    /// Mean |kWh| of the last 28 days; never 0.
    pub scale: f32,
    /// Days that have at least three quarters of their readings, without filling.
    pub days_read: usize,
}

impl Frame {
    /// The last [`DAYS`] days of what is known.
    pub fn new(known: &Known<'_>, clock: Clock) -> Self {
        Self::of_days(known, clock, DAYS)
    }

    /// The last `days` days of what is known.
    pub fn of_days(known: &Known<'_>, clock: Clock, days: usize) -> Self {
        let step = known.step_s();
        let slots = (DAY_S / step) as usize;
        let today = clock.local(known.origin().unix_s()).0;
        let first_day = today - days as i64;
        let mut values = vec![f32::NAN; (days + 1) * slots];
        for (day, row) in (first_day..).zip(values.chunks_exact_mut(slots)) {
            read_day(known, clock, day, row);
        }
        let whole = |row: &[f32]| row.iter().filter(|v| v.is_finite()).count() * 4 >= slots * 3;
        let days_read = values.chunks_exact(slots).filter(|row| whole(row)).count();
        let recent = &values[values.len() - (SCALE_DAYS.min(days) + 1) * slots..];
        let (sum, n) =
            recent.iter().filter(|v| v.is_finite()).fold((0.0f64, 0u32), |(s, n), v| (s + f64::from(v.abs()), n + 1));
        let scale = if n > 0 { (sum / f64::from(n)) as f32 } else { 0.0 };
        let mut frame = Self { today, slots, first_day, values, scale: scale.max(1e-4), days_read };
        frame.fill();
        frame
    }

    /// Missing values before the origin's day take the value of a week before, then of the day before.
    fn fill(&mut self) {
        let (slots, days) = (self.slots, self.values.len() / self.slots - 1);
        for back in [7, 1] {
            for at in back * slots..days * slots {
                if self.values[at].is_nan() {
                    self.values[at] = self.values[at - back * slots];
                }
            }
        }
    }

    /// A day's values by slot; `None` outside the frame.
    pub fn day(&self, day: i64) -> Option<&[f32]> {
        let at = usize::try_from(day - self.first_day).ok()?;
        self.values.get(at * self.slots..(at + 1) * self.slots)
    }

    /// One value; NaN when unknown. Slots run over into the neighbouring days.
    pub fn value(&self, day: i64, slot: i64) -> f32 {
        let at = (day - self.first_day) * self.slots as i64 + slot;
        usize::try_from(at).ok().and_then(|at| self.values.get(at)).copied().unwrap_or(f32::NAN)
    }
}

/// Reads one local day onto its slots.
fn read_day(known: &Known<'_>, clock: Clock, day: i64, row: &mut [f32]) {
    let step = known.step_s();
    let start = clock.unix_s(day, 0);
    let regular = clock.offset_s(start) == clock.offset_s(start + DAY_S - step);
    for (slot, value) in (0..).zip(row.iter_mut()) {
        let begin = if regular { start + slot * step } else { clock.unix_s(day, slot * step) };
        *value = known.value(begin + step);
    }
}

/// The local day and slot of the interval that ends at `end`.
pub fn slot_of(end: i64, step_s: i64, clock: Clock) -> (i64, usize) {
    let (day, second) = clock.local(end - step_s);
    (day, (second / step_s) as usize)
}
