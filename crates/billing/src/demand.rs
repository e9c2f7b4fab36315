//! Demand: the largest mean of a window of the bill, or what a maximum-demand register says; and netting inside windows.
//!
//! Windows are aligned to UTC. Demand in kW is of net import (import less export, not below zero), in kVA of apparent energy.

use std::cell::OnceCell;

use crate::{
    calendar::write_instant,
    error::RatingError,
    exact::Exact,
    plan::Plan,
    readings::Quantity,
    tariff::LoadUnit,
    usage::{Energy, Interval, Usage},
};

/// Means of all windows of a bill, as amounts.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Length, seconds.
    length_s: i64,
    /// Number of the first window since 1970.
    first: i64,
    /// Net import in each, scaled units.
    amounts: Vec<i128>,
}

impl Windows {
    /// Sums intervals into windows. An interval that spans several windows cannot say what each had.
    fn sum(parts: &[(&Energy<'_>, i128)], (from_s, to_s): (i64, i64), length_s: i64) -> Result<Windows, RatingError> {
        let first = from_s.div_euclid(length_s);
        let count = usize::try_from((to_s - 1).div_euclid(length_s) - first + 1).unwrap_or(0);
        let mut amounts = vec![0i128; count];
        for (energy, sign) in parts {
            let summed = energy.each_window(length_s, |number, amount| {
                let index = usize::try_from(number - first).ok();
                if let Some(slot) = index.and_then(|index| amounts.get_mut(index)) {
                    *slot += amount * sign;
                }
            });
            summed.map_err(|(start_s, end_s)| {
                RatingError::Readings(format!(
                    "demand over {} minutes cannot be measured: the interval {} to {} is longer or crosses windows; \
                     read as often, or give a maximum-demand register",
                    length_s / 60,
                    write_instant(start_s),
                    write_instant(end_s)
                ))
            })?;
        }
        Ok(Windows { length_s, first, amounts })
    }

    /// Index of the first window that begins at or after an instant. The first window begins with the stretch.
    fn index_from(&self, at_s: i64, from_s: i64) -> usize {
        let number = if at_s <= from_s { self.first } else { -(-at_s).div_euclid(self.length_s) };
        usize::try_from(number - self.first).unwrap_or(0).min(self.amounts.len())
    }

    /// The largest amount of the windows that begin in stretches of time.
    fn most(&self, from_s: i64, stretches: impl Iterator<Item = (i64, i64)>) -> Option<i128> {
        let in_stretch = |(begins_s, ends_s): (i64, i64)| {
            self.amounts[self.index_from(begins_s, from_s)..self.index_from(ends_s, from_s)].iter().copied().max()
        };
        stretches.filter_map(in_stretch).max()
    }

    /// Beginning and amount of each window.
    fn each(&self, from_s: i64) -> impl Iterator<Item = (i64, i128)> + '_ {
        (self.first..).zip(&self.amounts).map(move |(n, amount)| ((n * self.length_s).max(from_s), *amount))
    }

    fn amount_at(&self, at_s: i64) -> Option<i128> {
        let index = usize::try_from(at_s.div_euclid(self.length_s) - self.first).ok()?;
        self.amounts.get(index).copied()
    }
}

/// Where demand of a charge is sought: the whole bill, under the tariff of the part that is rated.
pub struct DemandSource<'a> {
    /// The whole bill.
    pub plan: &'a Plan<'a>,
    /// What was used in it.
    pub usage: &'a Usage<'a>,
    /// Windows of active and of apparent demand, once asked for.
    windows: [OnceCell<Windows>; 2],
}

impl<'a> DemandSource<'a> {
    /// Over the whole bill.
    pub fn new(plan: &'a Plan<'a>, usage: &'a Usage<'a>) -> DemandSource<'a> {
        DemandSource { plan, usage, windows: [OnceCell::new(), OnceCell::new()] }
    }
}

impl DemandSource<'_> {
    fn windows(&self, unit: LoadUnit) -> Result<&Windows, RatingError> {
        let known = &self.windows[usize::from(unit == LoadUnit::KilovoltAmperes)];
        if let Some(windows) = known.get() {
            return Ok(windows);
        }
        let windows = self.summed(unit)?;
        Ok(known.get_or_init(|| windows))
    }

    fn summed(&self, unit: LoadUnit) -> Result<Windows, RatingError> {
        let minutes = self.plan.tariff.demand_window_min.ok_or_else(|| {
            let message = "demand needs \"demand\": {\"window_min\": 15} in the tariff, or a maximum-demand register";
            RatingError::Tariff(message.into())
        })?;
        let length_s = i64::from(minutes) * 60;
        let span = (self.plan.from_s, self.plan.to_s);
        let missing =
            |column: &str| RatingError::Readings(format!("demand in {} needs the register `{column}`", unit.word()));
        match unit {
            LoadUnit::KilovoltAmperes => {
                let apparent = self.usage.apparent.as_ref().ok_or_else(|| missing("demand_va or import_vah"))?;
                Windows::sum(&[(apparent, 1)], span, length_s)
            }
            _ => {
                let import = self.usage.import.as_ref().ok_or_else(|| missing("demand_w or import_wh"))?;
                let mut parts = vec![(import, 1)];
                parts.extend(self.usage.export.as_ref().map(|export| (export, -1)));
                Windows::sum(&parts, span, length_s)
            }
        }
    }

    /// An amount of a window as mean power, kW or kVA; not below zero.
    fn mean(&self, windows: &Windows, amount: i128) -> Exact {
        let hours = Exact::fraction(i128::from(windows.length_s), 3600).unwrap_or(Exact::ONE);
        self.usage.kilo(amount.max(0)).over(&hours).unwrap_or(Exact::ZERO)
    }

    /// The largest demand, unrounded. `period`: calendar and name; `None` of a period that does not occur.
    pub fn maximum(&self, unit: LoadUnit, period: Option<(Option<usize>, &str)>) -> Result<Option<Exact>, RatingError> {
        let quantity = match unit {
            LoadUnit::KilovoltAmperes => Quantity::DemandApparent,
            _ => Quantity::DemandActive,
        };
        let registers = self.usage.demand.iter().filter(|reading| reading.quantity == quantity);
        let by_register = |wanted: Option<&str>| {
            let kilo = Exact::fraction(1, 1000).unwrap_or(Exact::ONE);
            let values = registers.clone().filter(|reading| wanted.is_none() || reading.period.as_deref() == wanted);
            values.map(|reading| &reading.value * &kilo).max()
        };
        let Some((calendar, name)) = period else {
            return match by_register(None) {
                Some(value) => Ok(Some(value)),
                None => {
                    let windows = self.windows(unit)?;
                    let most = windows.amounts.iter().copied().max().unwrap_or(0);
                    Ok(Some(self.mean(windows, most)))
                }
            };
        };
        if let Some(value) = by_register(Some(name)) {
            return Ok(Some(value));
        }
        let index = calendar.ok_or_else(|| {
            RatingError::Tariff(format!("demand in the period \"{name}\" needs a calendar or a register of the period"))
        })?;
        let number = self.plan.tariff.calendars[index].periods.iter().position(|period| period.name == name);
        let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else { return Ok(None) };
        let segments = &self.plan.calendars[index];
        if !segments.has(number) {
            return Ok(None);
        }
        if segments.occurring().len() == 1
            && let Some(value) = by_register(None)
        {
            return Ok(Some(value));
        }
        let windows = self.windows(unit)?;
        let held = segments.iter().filter(|(_, _, period)| *period == Some(number)).map(|(from, to, _)| (from, to));
        Ok(windows.most(self.plan.from_s, held).map(|most| self.mean(windows, most)))
    }

    /// When demand was largest: the beginning of the window, or the reading of the register. `None` where it cannot be told.
    pub fn moment_of_maximum(&self, unit: LoadUnit, period: Option<(Option<usize>, &str)>) -> Option<i64> {
        let quantity = match unit {
            LoadUnit::KilovoltAmperes => Quantity::DemandApparent,
            _ => Quantity::DemandActive,
        };
        let registers = self.usage.demand.iter().filter(|reading| reading.quantity == quantity);
        if let Some(most) = registers.max_by(|a, b| a.value.cmp(&b.value).then(b.at_s.cmp(&a.at_s))) {
            return Some(most.at_s);
        }
        let windows = self.windows(unit).ok()?;
        let held = |at_s: i64| match period {
            Some((Some(index), name)) => self.plan.period_at(index, at_s) == Some(name),
            _ => true,
        };
        let inside = windows.each(self.plan.from_s).filter(|(at_s, _)| held(*at_s));
        inside.max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0))).map(|(at_s, _)| at_s)
    }

    /// The largest demand at the given times of the bill; `None` if none lies in it.
    pub fn coincident(
        &self,
        unit: LoadUnit,
        times: &[i64],
        period: Option<(Option<usize>, &str)>,
    ) -> Result<Option<Exact>, RatingError> {
        let inside = |at: &&i64| self.plan.from_s <= **at && **at < self.plan.to_s;
        let in_period = |at: &&i64| match period {
            Some((Some(index), name)) => self.plan.period_at(index, **at) == Some(name),
            _ => true,
        };
        let mut times = times.iter().filter(inside).filter(in_period).peekable();
        if times.peek().is_none() {
            return Ok(None);
        }
        let windows = self.windows(unit)?;
        let most = times.filter_map(|at| windows.amount_at(*at)).max();
        Ok(most.map(|most| self.mean(windows, most)))
    }
}

/// Import and export of a stretch, netted inside windows: each window is import or export of its difference.
pub fn net_in_windows(
    usage: &Usage<'_>,
    span: (i64, i64),
    minutes: u32,
) -> Result<(Energy<'static>, Energy<'static>), RatingError> {
    let mut parts: Vec<(&Energy<'_>, i128)> = Vec::new();
    parts.extend(usage.import.as_ref().map(|import| (import, 1)));
    parts.extend(usage.export.as_ref().map(|export| (export, -1)));
    let windows = Windows::sum(&parts, span, i64::from(minutes) * 60).map_err(|_| {
        RatingError::Readings(format!(
            "netting inside {minutes} minutes needs readings at least as often; read so, or leave `net_window_min` out"
        ))
    })?;
    let (mut import, mut export) = (Vec::new(), Vec::new());
    for (start_s, amount) in windows.each(span.0) {
        let end_s = ((start_s.div_euclid(windows.length_s) + 1) * windows.length_s).min(span.1);
        let into = if amount >= 0 { &mut import } else { &mut export };
        into.push(Interval { start_s, end_s, amount: amount.abs(), period: None });
    }
    Ok((Energy::Intervals(import), Energy::Intervals(export)))
}

/// Active over apparent energy of a bill, rounded by the tariff's rule before any table is read; `None` if nothing was used.
///
/// From reactive energy it is kWh / √(kWh² + kvarh²), rounded exactly by comparing squares; without a rule to 12 digits.
pub fn power_factor(plan: &Plan<'_>, usage: &Usage<'_>) -> Result<Option<Exact>, RatingError> {
    let rule = plan.tariff.power_factor.as_ref().ok_or_else(|| {
        RatingError::Tariff(
            "a condition asks for the power factor; say how it is made: \"pf\": {\"from\": \"kvah\"}".into(),
        )
    })?;
    let needed = |energy: Option<&Energy<'_>>, column: &str| {
        let missing = || RatingError::Readings(format!("the power factor needs the register `{column}`"));
        energy.map(Energy::total).ok_or_else(missing)
    };
    let active = usage.kilo(needed(usage.import.as_ref(), "import_wh")?);
    if !rule.from_reactive {
        let apparent = usage.kilo(needed(usage.apparent.as_ref(), "import_vah")?);
        return Ok(active.over(&apparent).map(|factor| crate::rounding::apply(rule.round.as_ref(), &factor)));
    }
    let reactive = usage.kilo(needed(usage.reactive.as_ref(), "import_varh")?);
    let square = &active * &active;
    let squared = square.over(&(&square + &(&reactive * &reactive)));
    let fine = crate::rounding::Rounding::to_digits(12);
    Ok(squared.map(|squared| root_rounded(&squared, rule.round.as_ref().unwrap_or(&fine))))
}

/// The square root of a number between 0 and 1, rounded: the step is found by comparing squares, so no root is ever inexact.
fn root_rounded(squared: &Exact, rule: &crate::rounding::Rounding) -> Exact {
    let square_of = |steps: &Exact| {
        let value = steps * &rule.to;
        &value * &value
    };
    // The largest number of steps whose square is not above.
    let (mut low, mut high) = (Exact::ZERO, &Exact::ONE.over(&rule.to).unwrap_or(Exact::ZERO).floor() + &Exact::ONE);
    let half = Exact::fraction(1, 2).unwrap_or(Exact::ONE);
    while &high - &low > Exact::ONE {
        let middle = (&(&low + &high) * &half).floor();
        if square_of(&middle) <= *squared { low = middle } else { high = middle }
    }
    // Between `low` and the next step the root behaves as the rule says of any number that lies so.
    let middle = square_of(&(&low + &half)).cmp(squared);
    let quarter = Exact::fraction(1, 4).unwrap_or(Exact::ONE);
    let stand_in = match middle {
        _ if square_of(&low) == *squared => low,
        std::cmp::Ordering::Greater => &low + &quarter,
        std::cmp::Ordering::Equal => &low + &half,
        std::cmp::Ordering::Less => &low + &(&half + &quarter),
    };
    rule.apply(&(&stand_in * &rule.to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounding::{Mode, Rounding};

    #[test]
    fn roots_are_rounded_exactly() {
        let number = |text: &str| Exact::decimal(text).unwrap();
        let root = |squared: &str, to: &str, mode| {
            root_rounded(&number(squared), &Rounding { to: number(to), mode }).to_decimal(9)
        };
        assert_eq!(root("0.8649", "0.01", Mode::HalfUp), "0.93");
        assert_eq!(root("0.855625", "0.01", Mode::HalfUp), "0.93", "0.925 is a half");
        assert_eq!(root("0.855625", "0.01", Mode::HalfEven), "0.92");
        assert_eq!(root("0.855624", "0.01", Mode::HalfUp), "0.92");
        assert_eq!(root("0.855624", "0.01", Mode::Up), "0.93");
        assert_eq!(root("0.5", "0.000000001", Mode::Down), "0.707106781");
        assert_eq!(root("1", "0.01", Mode::HalfUp), "1");
        assert_eq!(root("0", "0.01", Mode::Up), "0");
        assert_eq!(root("0.5", "1", Mode::HalfUp), "1");
        assert_eq!(root("0.5", "3", Mode::Down), "0");
    }
}
