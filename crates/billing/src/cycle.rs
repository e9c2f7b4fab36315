//! The bills of one supply, in order: parts where tariffs change, corrections, rounding of the total, what passes on.

use jiff::civil::Date;

use crate::{
    bill::{Account, Bill, Correction, DemandOfMonth, Line, Part, rounded_total, sum_minor},
    customer::Customer,
    demand::DemandSource,
    error::{Fault, RatingError},
    exact::Exact,
    plan::Plan,
    rate::{self, Inputs, SideFiles},
    readings::{Quantity, Readings, Track},
    tariff::{Basis, Charge, EnergyUnit, Flow, Tariff},
    usage::{self, Quality, Usage},
};

/// A tariff with its files.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Name of its file.
    pub file: String,
    /// The tariff.
    pub tariff: Tariff,
    /// The files it names.
    pub files: SideFiles,
}

/// What a customer has: tariffs through time, meters with readings, facts.
pub struct Supply<'a> {
    /// Exactly one holds on any day of a bill.
    pub tariffs: &'a [Listed],
    /// Readings.
    pub readings: &'a Readings,
    /// Facts.
    pub customer: &'a Customer,
    /// Name of the file of readings, for faults.
    pub readings_file: &'a str,
    /// Name of the file that orders the bills, for faults.
    pub case_file: &'a str,
}

/// A bill that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Identity.
    pub id: String,
    /// First local day.
    pub from: Date,
    /// The day after the last.
    pub to: Date,
    /// Readings received later are not known; without it, all are.
    pub issued_s: Option<i64>,
    /// Earlier bills to correct.
    pub rerate: Vec<String>,
}

/// A bill that was made, and the account before it: what a correction starts from.
pub struct Made {
    /// What was ordered.
    pub order: Order,
    /// The account before it.
    pub before: Account,
    /// Its total as billed or last corrected, minor units.
    pub stands_at: i64,
    /// Its parts as billed.
    pub parts: Vec<Part>,
}

/// A stretch of days under one tariff.
struct Stretch<'a> {
    listed: &'a Listed,
    from: Date,
    to: Date,
}

/// What a stretch of days costs, before corrections.
struct Rated {
    parts: Vec<Part>,
    demand: DemandOfMonth,
    quality: Quality,
    energy: Exact,
}

impl<'a> Supply<'a> {
    /// The registers as known at a moment.
    pub fn known_at(&self, moment_s: Option<i64>) -> Vec<Track> {
        self.readings.known_at(moment_s)
    }

    /// The tariff of a day.
    pub fn tariff_on(&self, day: Date) -> Result<&'a Listed, RatingError> {
        let mut holding = self.tariffs.iter().filter(|listed| listed.tariff.holds_on(day));
        match (holding.next(), holding.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(RatingError::Case(format!("no tariff holds on {day}; add the one that was valid then"))),
            (Some(first), Some(second)) => Err(RatingError::Case(format!(
                "two tariffs hold on {day}: {} and {}; mend `valid` so that one ends before the other begins",
                first.file, second.file
            ))),
        }
    }

    fn stretches(&self, from: Date, to: Date) -> Result<Vec<Stretch<'a>>, RatingError> {
        let days = crate::plan::days_between(from, to);
        if !(1..=crate::plan::BILL_DAYS_MAX).contains(&days) {
            let most = crate::plan::BILL_DAYS_MAX;
            let message = format!("{from} to {to}: a bill has 1 to {most} days, and ends after it begins");
            return Err(RatingError::Case(message));
        }
        let mut found: Vec<Stretch<'a>> = Vec::new();
        let mut day = from;
        while day < to {
            let listed = self.tariff_on(day)?;
            let next = day.tomorrow().map_err(|_| RatingError::Case(format!("{day} is the last day of time")))?;
            match found.last_mut() {
                Some(last) if std::ptr::eq(last.listed, listed) => last.to = next,
                _ => found.push(Stretch { listed, from: day, to: next }),
            }
            day = next;
        }
        let first = &found[0].listed.tariff;
        let other = found.iter().find(|s| {
            (&s.listed.tariff.currency, s.listed.tariff.minor_digits) != (&first.currency, first.minor_digits)
        });
        match other {
            None => Ok(found),
            Some(other) => Err(RatingError::Case(format!(
                "the bill changes from {} to {} inside; end one bill where the currency changes",
                first.currency, other.listed.tariff.currency
            ))),
        }
    }

    fn fault(&self, why: RatingError, stretches: &[Stretch<'_>], id: &str) -> Fault {
        let tariff = stretches.first().map_or("tariff", |stretch| stretch.listed.file.as_str());
        why.in_files(tariff, self.readings_file, self.case_file, &format!("bill {id}"))
    }

    /// Makes a bill. `earlier` are the bills made so far; corrected ones are brought up to date.
    pub fn bill(&self, order: &Order, account: &mut Account, earlier: &mut [Made]) -> Result<Bill, Fault> {
        let in_case = |why: RatingError| self.fault(why, &[], &order.id);
        let stretches = self.stretches(order.from, order.to).map_err(in_case)?;
        let in_files = |why: RatingError| self.fault(why, &stretches, &order.id);
        let tracks = self.known_at(order.issued_s);
        let rated = self.rate(&stretches, &tracks, account, order).map_err(in_files)?;
        let last = &stretches[stretches.len() - 1].listed.tariff;
        let mut corrections = Vec::new();
        for wanted in &order.rerate {
            corrections.push(self.correct(wanted, order, &tracks, earlier)?);
        }
        let lines = sum_minor(rated.parts.iter().flat_map(|part| &part.lines)).map_err(in_files)?;
        let own_total = lines + round_line(last, lines).map_err(in_files)?.map_or(0, |line| line.amount);
        let mut closing: Vec<Line> =
            corrections.iter().map(|c| correction_line(&c.bill, c.corrected - c.billed, last.minor_digits)).collect();
        let corrected = sum_minor(closing.iter()).map_err(in_files)?.saturating_add(lines);
        let mut total = corrected;
        if let Some(line) = round_line(last, corrected).map_err(in_files)? {
            total += line.amount;
            closing.push(line);
        }
        account.history_kwh.push(rated.energy);
        account.remember_demand(order.from, &rated.demand);
        account.estimates_in_a_row = if rated.quality.estimated { account.estimates_in_a_row + 1 } else { 0 };
        Ok(Bill {
            id: order.id.clone(),
            from: order.from,
            to: order.to,
            parts: rated.parts,
            corrections,
            closing,
            own_total,
            total,
            carry: account.clone(),
            demand: rated.demand,
            quality: rated.quality,
            estimates_in_a_row: account.estimates_in_a_row,
        })
    }

    /// Rates an earlier bill again with what is known now. The old bill itself stays.
    fn correct(
        &self,
        wanted: &str,
        order: &Order,
        tracks: &[Track],
        earlier: &mut [Made],
    ) -> Result<Correction, Fault> {
        let old = earlier.iter_mut().find(|made| made.order.id == wanted).ok_or_else(|| {
            let message =
                format!("`rerate` names the bill \"{wanted}\", which was not made before; name an earlier bill");
            Fault::new(self.case_file, format!("bill {}", order.id), message)
        })?;
        let stretches =
            self.stretches(old.order.from, old.order.to).map_err(|why| self.fault(why, &[], &old.order.id))?;
        let in_files = |why: RatingError| self.fault(why, &stretches, wanted);
        let mut account = old.before.clone();
        let rated = self.rate(&stretches, tracks, &mut account, &old.order).map_err(in_files)?;
        let last = &stretches[stretches.len() - 1].listed.tariff;
        let lines = sum_minor(rated.parts.iter().flat_map(|part| &part.lines)).map_err(in_files)?;
        let round_line = round_line(last, lines).map_err(in_files)?;
        let corrected = lines + round_line.as_ref().map_or(0, |line| line.amount);
        let billed = std::mem::replace(&mut old.stands_at, corrected);
        Ok(Correction { bill: wanted.to_owned(), billed, corrected, parts: rated.parts, round_line })
    }

    fn rate(
        &self,
        stretches: &[Stretch<'_>],
        tracks: &[Track],
        account: &mut Account,
        order: &Order,
    ) -> Result<Rated, RatingError> {
        let bill = (order.from, order.to);
        let mut rated = Rated {
            parts: Vec::new(),
            demand: DemandOfMonth::default(),
            quality: Quality::default(),
            energy: Exact::ZERO,
        };
        for stretch in stretches {
            let tariff = &stretch.listed.tariff;
            let plan = Plan::new(tariff, stretch.from, stretch.to, bill)?;
            let part = self.usage(&plan, tracks)?;
            // Demand is the maximum of the bill, also where the tariff changes inside.
            let whole = match stretches.len() {
                1 => None,
                _ => {
                    let plan = Plan::new(tariff, bill.0, bill.1, bill)?;
                    let usage = self.usage(&plan, tracks)?;
                    Some((plan, usage))
                }
            };
            let (demand_plan, demand_usage) = whole.as_ref().map_or((&plan, &part), |(plan, usage)| (plan, usage));
            let inputs = Inputs {
                demand: DemandSource::new(demand_plan, demand_usage),
                ..Inputs::new(&plan, &stretch.listed.files, &part, self.customer)
            };
            let made = rate::rate(&inputs, account)?;
            let energy = rate::energy_of_part(&inputs, &made.netting).unwrap_or(Exact::ZERO);
            rated.energy = &rated.energy + &energy;
            rated.demand = rate::demand_of_bill(&inputs.demand);
            rated.quality.estimated |= part.quality.estimated;
            rated.quality.missing_s += part.quality.missing_s;
            rated.quality.interpolated_at_s.extend_from_slice(&part.quality.interpolated_at_s);
            rated.parts.push(made);
        }
        rated.quality.interpolated_at_s.sort_unstable();
        rated.quality.interpolated_at_s.dedup();
        Ok(rated)
    }

    /// What was used in a plan's days.
    pub fn usage(&self, plan: &Plan<'_>, tracks: &[Track]) -> Result<Usage<'static>, RatingError> {
        let usage = usage::from_tracks(self.readings, tracks, (plan.from_s, plan.to_s))?;
        refuse_unpriced_register(plan.tariff, &usage)?;
        Ok(usage)
    }
}

/// A register that counts in a period which no charge on its energy knows would be read and never billed. Where a charge prices all of
/// that energy, or none does, nothing is lost by the name.
fn refuse_unpriced_register(tariff: &Tariff, usage: &Usage<'_>) -> Result<(), RatingError> {
    for quantity in [Quantity::Import, Quantity::Export, Quantity::Apparent, Quantity::Reactive] {
        let Some(energy) = usage.energy(quantity) else { continue };
        let rates = tariff.charges.iter().filter(|c| prices(c, quantity)).flat_map(|charge| &charge.rates);
        let mut named: Vec<&str> = rates.clone().filter_map(|rate| rate.period.as_deref()).collect();
        if named.is_empty() || rates.clone().any(|rate| rate.period.is_none()) {
            continue;
        }
        named.extend(tariff.calendars.iter().flat_map(|calendar| &calendar.periods).map(|period| period.name.as_str()));
        let mut unknown: Option<String> = None;
        energy.each(|_, _, amount, period| {
            if let (None, Some(name)) = (&unknown, period.filter(|name| amount != 0 && !named.contains(name))) {
                unknown = Some(name.to_owned());
            }
        });
        if let Some(name) = unknown {
            return Err(RatingError::Readings(format!(
                "a register counts in the period \"{name}\", which the tariff does not have; name the column after a period of it"
            )));
        }
    }
    Ok(())
}

/// Whether a charge prices the energy of a register.
fn prices(charge: &Charge, quantity: Quantity) -> bool {
    let Basis::Energy(basis) = &charge.basis else { return false };
    match (basis.unit, basis.flow) {
        (EnergyUnit::KilovoltAmpereHours, _) => quantity == Quantity::Apparent,
        (EnergyUnit::KilovarHours, _) => quantity == Quantity::Reactive,
        (EnergyUnit::KilowattHours, Flow::Export) => quantity == Quantity::Export,
        (EnergyUnit::KilowattHours, Flow::Import | Flow::ImportGross) => quantity == Quantity::Import,
    }
}

/// The line that brings a sum to the tariff's rounding of totals, if it does not stand there.
fn round_line(tariff: &Tariff, sum: i64) -> Result<Option<Line>, RatingError> {
    let amount = rounded_total(tariff, sum)? - sum;
    let line = || Line {
        rounding: tariff.rounding.total.clone(),
        ..Line::of_money("ROUND", "Rounding of the total", amount, tariff.minor_digits)
    };
    Ok((amount != 0).then(line))
}

fn correction_line(bill: &str, amount: i64, digits: u32) -> Line {
    Line::of_money("RERATE", format!("Correction of bill {bill}"), amount, digits)
}
