//! Energy charges: netting, periods, blocks, prices by interval.

use super::{Inputs, NewLine, Rater, Rung, block_number, climb, climb_between, describe, reached};
use crate::{
    bill::{Account, Clause, Pot},
    demand,
    error::RatingError,
    exact::Exact,
    readings::Quantity,
    rounding,
    tariff::{Charge, EnergyBasis, EnergyUnit, Export, Flow, LimitPer, LoadUnit, Pots, Price, Rate},
    usage::{ByPeriod, Energy, SeriesPrice, by_period, priced},
};

/// Nets a part: pots of net metering, in the order of the calendar; none under other rules.
pub fn net(inputs: &Inputs<'_>, account: &Account) -> Result<Vec<Pot>, RatingError> {
    let Export::NetMetering(apart) = &inputs.plan.tariff.export else { return Ok(Vec::new()) };
    let round = |amount: i128| round_energy(inputs, amount);
    let energy = |quantity| inputs.usage.energy(quantity);
    let credit = |name: &str| account.kwh.get(name).cloned().unwrap_or(Exact::ZERO);
    let sums = |calendar, quantity| -> Result<ByPeriod, RatingError> {
        energy(quantity).map_or(Ok(Vec::new()), |energy| by_period(energy, inputs.plan, calendar, false))
    };
    let pot = |name: String, imports: &ByPeriod, exports: &ByPeriod| {
        let (import, export) = (round(amount_of(imports, &name)), round(amount_of(exports, &name)));
        Pot { import, export, credit_in: credit(&name), name }
    };
    match *apart {
        Pots::One => {
            let total = |quantity| round(energy(quantity).map_or(0, Energy::total));
            let (import, export) = (total(Quantity::Import), total(Quantity::Export));
            Ok(vec![Pot { name: "all".into(), import, export, credit_in: credit("all") }])
        }
        Pots::OfCalendar(calendar) => {
            let (imports, exports) = (sums(Some(calendar), Quantity::Import)?, sums(Some(calendar), Quantity::Export)?);
            let occurring = inputs.plan.calendars[calendar].occurring();
            let periods = inputs.plan.tariff.calendars[calendar].periods.iter().enumerate();
            let held = periods.filter(|(number, period)| {
                occurring.iter().any(|other| usize::from(*other) == *number) || account.kwh.contains_key(&period.name)
            });
            Ok(held.map(|(_, period)| pot(period.name.clone(), &imports, &exports)).collect())
        }
        Pots::OfRegisters => {
            let (imports, exports) = (sums(None, Quantity::Import)?, sums(None, Quantity::Export)?);
            let mut names: Vec<&String> = imports.iter().chain(&exports).map(|(name, _)| name).collect();
            names.extend(account.kwh.keys());
            let mut pots: Vec<Pot> = Vec::new();
            for name in names {
                if pots.iter().all(|other| other.name != *name) {
                    pots.push(pot(name.clone(), &imports, &exports));
                }
            }
            Ok(pots)
        }
    }
}

fn amount_of(sums: &ByPeriod, name: &str) -> i128 {
    sums.iter().find(|(period, _)| period == name).map_or(0, |(_, amount)| *amount)
}

fn round_energy(inputs: &Inputs<'_>, amount: i128) -> Exact {
    rounding::apply(inputs.plan.tariff.rounding.energy.as_ref(), &inputs.usage.kilo(amount))
}

/// Imported energy of a part after the export rule, kWh.
pub fn import_after_netting(inputs: &Inputs<'_>, pots: &[Pot]) -> Result<Exact, RatingError> {
    if pots.is_empty() {
        let energy = flow_energy(inputs, Flow::Import, EnergyUnit::KilowattHours)?;
        return Ok(round_energy(inputs, energy.map_or(0, Energy::total)));
    }
    Ok(pots.iter().map(Pot::net).sum())
}

/// Imported energy as the register counts, kWh.
pub fn import_gross(inputs: &Inputs<'_>) -> Result<Exact, RatingError> {
    let energy = flow_energy(inputs, Flow::ImportGross, EnergyUnit::KilowattHours)?;
    Ok(round_energy(inputs, energy.map_or(0, Energy::total)))
}

/// The energy that a flow means under the export rule, but for net metering. No export register: nothing was exported.
fn flow_energy<'a>(inputs: &Inputs<'a>, flow: Flow, unit: EnergyUnit) -> Result<Option<&'a Energy<'a>>, RatingError> {
    let usage = inputs.usage;
    let quantity = match (unit, flow) {
        (EnergyUnit::KilovoltAmpereHours, _) => Quantity::Apparent,
        (EnergyUnit::KilovarHours, _) => Quantity::Reactive,
        (_, Flow::Export) => Quantity::Export,
        (_, Flow::Import | Flow::ImportGross) => Quantity::Import,
    };
    if let (Export::NetBilling { window_min: Some(minutes) }, EnergyUnit::KilowattHours, Flow::Import | Flow::Export) =
        (&inputs.plan.tariff.export, unit, flow)
    {
        if usage.netted.get().is_none() {
            let span = (inputs.plan.from_s, inputs.plan.to_s);
            let netted = demand::net_in_windows(usage, span, *minutes)?;
            let _already_there = usage.netted.set(netted);
        }
        let netted = usage.netted.get();
        return Ok(netted.map(|(import, export)| if flow == Flow::Export { export } else { import }));
    }
    match (usage.energy(quantity), quantity) {
        (Some(energy), _) => Ok(Some(energy)),
        (None, Quantity::Export) => Ok(None),
        (None, missing) => {
            let column = match missing {
                Quantity::Apparent => "import_vah",
                Quantity::Reactive => "import_varh",
                _ => "import_wh",
            };
            Err(RatingError::Readings(format!(
                "the tariff prices {}, which needs the register `{column}`",
                unit.word()
            )))
        }
    }
}

impl<'a> Rater<'a> {
    pub(super) fn energy(
        &mut self,
        index: usize,
        charge: &'a Charge,
        basis: &'a EnergyBasis,
        account: &Account,
    ) -> Result<(), RatingError> {
        let quantities = self.quantities(charge, basis)?;
        let all: Exact = quantities.iter().map(|(_, quantity)| quantity).sum();
        let factor = self.limit_factor(basis)?;
        for (period, quantity) in quantities {
            if quantity.is_zero() {
                continue;
            }
            let rows = self.live_rates(charge, period, account)?;
            if rows.is_empty() {
                continue;
            }
            let ladder = if basis.tier_over_all { &all } else { &quantity };
            let share = quantity.over(ladder).unwrap_or(Exact::ONE);
            let rungs = self.rungs(basis.whole, &rows, ladder, &factor)?;
            for rung in rungs {
                let (rate_index, rate) = rows[rung.index];
                let block = block_number(&rows, rung.index);
                let part = &rung.quantity * &share;
                let clause = Clause { charge: index, rate: Some(rate_index) };
                self.energy_line(charge, basis, clause, (rate, block), part)?;
            }
        }
        Ok(())
    }

    fn rungs(
        &self,
        whole: bool,
        rows: &[(usize, &Rate)],
        quantity: &Exact,
        factor: &Exact,
    ) -> Result<Vec<Rung>, RatingError> {
        match (self.inputs.sale, whole) {
            (None, false) => climb(rows, quantity, factor),
            (None, true) => Ok(vec![Rung { index: reached(rows, quantity, factor)?, quantity: quantity.clone() }]),
            (Some(sale), false) => climb_between(rows, (&sale.bought, &(&sale.bought + quantity)), factor),
            (Some(sale), true) => {
                let position = sale.band.clone().unwrap_or(&sale.bought + quantity);
                Ok(vec![Rung { index: reached(rows, &position, factor)?, quantity: quantity.clone() }])
            }
        }
    }

    fn energy_line(
        &mut self,
        charge: &'a Charge,
        basis: &'a EnergyBasis,
        clause: Clause,
        (rate, block): (&'a Rate, Option<u32>),
        quantity: Exact,
    ) -> Result<(), RatingError> {
        let period = rate.period.as_deref();
        let mut description = describe(charge, period, block, rate);
        let (unit_price, amount) = match &rate.price {
            Price::Fixed(price) | Price::Percent(price) => (Some(price.clone()), &quantity * price),
            Price::Series { .. } => {
                description.push_str(", price by interval");
                (None, self.series_amount(basis, rate, &quantity)?)
            }
        };
        let line = NewLine {
            period: rate.period.clone(),
            block,
            quantity,
            unit: basis.unit.word().to_owned(),
            unit_price,
            description,
        };
        self.add(charge, clause, &amount, line)
    }

    /// Money of a quantity priced by interval: the exact sum over the intervals, scaled to the quantity where it is a part of them or
    /// rounded.
    fn series_amount(&self, basis: &EnergyBasis, rate: &Rate, quantity: &Exact) -> Result<Exact, RatingError> {
        let Price::Series { series, mul, adj, cap } = &rate.price else { return Ok(Exact::ZERO) };
        let rule = &self.plan().tariff.series[*series];
        let series = self
            .inputs
            .files
            .series
            .get(*series)
            .ok_or_else(|| RatingError::Tariff(format!("the series \"{}\" was not given", rule.name)))?;
        let price = SeriesPrice { name: &rule.name, series, mul, adj, cap: cap.as_ref() };
        let Some(energy) = flow_energy(self.inputs, basis.flow, basis.unit)? else { return Ok(Exact::ZERO) };
        let period = rate.period.as_deref();
        let money = priced(energy, self.plan(), basis.calendar, period, &price)?;
        let metered = match period {
            None => energy.total(),
            Some(period) => amount_of(&self.sums(energy, basis.calendar)?, period),
        };
        let scaled = money.over(&Exact::whole(metered)).map(|mean| &mean * quantity);
        Ok(scaled.unwrap_or(Exact::ZERO))
    }

    fn sums(&self, energy: &Energy<'_>, calendar: Option<usize>) -> Result<ByPeriod, RatingError> {
        let may_cross = matches!(self.plan().tariff.export, Export::NetBilling { window_min: Some(_) });
        by_period(energy, self.plan(), calendar, may_cross)
    }

    /// Quantities of a charge by period, in the order in which its rates name the periods; one without a period if none does.
    fn quantities(
        &self,
        charge: &'a Charge,
        basis: &EnergyBasis,
    ) -> Result<Vec<(Option<&'a str>, Exact)>, RatingError> {
        let mut periods: Vec<&'a str> = Vec::new();
        for period in charge.rates.iter().filter_map(|rate| rate.period.as_deref()) {
            if !periods.contains(&period) {
                periods.push(period);
            }
        }
        let netted = basis.flow == Flow::Import && basis.unit == EnergyUnit::KilowattHours && !self.pots.is_empty();
        let quantities = match (periods.is_empty(), netted) {
            (true, true) => vec![(None, self.import()?)],
            (true, false) => {
                let energy = flow_energy(self.inputs, basis.flow, basis.unit)?;
                vec![(None, round_energy(self.inputs, energy.map_or(0, Energy::total)))]
            }
            (false, true) => self.netted_by_period(&periods, basis)?,
            (false, false) => {
                let energy = flow_energy(self.inputs, basis.flow, basis.unit)?;
                let sums = energy.map_or(Ok(Vec::new()), |energy| self.sums(energy, basis.calendar))?;
                let rounded = |period: &&'a str| (Some(*period), round_energy(self.inputs, amount_of(&sums, period)));
                periods.iter().map(rounded).collect()
            }
        };
        match &basis.less_percent {
            None => Ok(quantities),
            Some(percent) => self.above_share(quantities, basis, percent),
        }
    }

    /// Net quantities by period: of the pots, or of the one pot in the one period that is in force.
    fn netted_by_period(
        &self,
        periods: &[&'a str],
        basis: &EnergyBasis,
    ) -> Result<Vec<(Option<&'a str>, Exact)>, RatingError> {
        let tariff = self.plan().tariff;
        if let Export::NetMetering(apart @ (Pots::OfCalendar(_) | Pots::OfRegisters)) = tariff.export {
            if let Pots::OfCalendar(calendar) = apart
                && basis.calendar != Some(calendar)
            {
                let message = format!(
                    "energy is netted by the periods of the calendar \"{}\" but priced by another; use one calendar",
                    tariff.calendars[calendar].name
                );
                return Err(RatingError::Tariff(message));
            }
            let net = |name: &str| self.pots.iter().find(|pot| pot.name == name).map_or(Exact::ZERO, Pot::net);
            return Ok(periods.iter().map(|period| (Some(*period), net(period))).collect());
        }
        let in_force: Vec<String> = match basis.calendar {
            Some(index) => {
                let name = |number: u16| tariff.calendars[index].periods[usize::from(number)].name.clone();
                self.plan().calendars[index].occurring().into_iter().map(name).collect()
            }
            None => {
                let import = self.inputs.usage.import.as_ref();
                let sums = import.map_or(Ok(Vec::new()), |import| self.sums(import, None))?;
                sums.into_iter().filter(|(_, amount)| *amount != 0).map(|(name, _)| name).collect()
            }
        };
        if in_force.len() > 1 {
            return Err(RatingError::Tariff(format!(
                "energy is netted in one pot, but the periods {} are in force during the bill; net by period, or end the bill \
                 where the period changes",
                in_force.join(", ")
            )));
        }
        let net = self.import()?;
        let quantity =
            |period: &str| if in_force.iter().any(|name| name == period) { net.clone() } else { Exact::ZERO };
        Ok(periods.iter().map(|period| (Some(*period), quantity(period))).collect())
    }

    /// Only what exceeds a share of the imported energy.
    fn above_share(
        &self,
        quantities: Vec<(Option<&'a str>, Exact)>,
        basis: &EnergyBasis,
        percent: &Exact,
    ) -> Result<Vec<(Option<&'a str>, Exact)>, RatingError> {
        let share = percent.over(&Exact::whole(100)).unwrap_or(Exact::ZERO);
        let by_period = quantities.iter().any(|(period, _)| period.is_some());
        let imports = match self.inputs.usage.import.as_ref().filter(|_| by_period) {
            Some(import) => self.sums(import, basis.calendar)?,
            None => Vec::new(),
        };
        quantities
            .into_iter()
            .map(|(period, quantity)| {
                let import = match period {
                    Some(period) => round_energy(self.inputs, amount_of(&imports, period)),
                    None => self.import()?,
                };
                Ok((period, (&quantity - &(&import * &share)).max(Exact::ZERO)))
            })
            .collect()
    }

    fn limit_factor(&self, basis: &EnergyBasis) -> Result<Exact, RatingError> {
        Ok(match basis.limit_per {
            LimitPer::Month => self.plan().months.clone(),
            LimitPer::Day => self.plan().days.clone(),
            LimitPer::Kilowatt => &self.plan().months * &self.maximum(LoadUnit::Kilowatts)?,
        })
    }
}
