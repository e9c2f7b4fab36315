//! Why a bill is what it is: every line with the clause of the tariff, the quantity, the registers or intervals it rests on, and the
//! rounding.

use serde::Serialize;

use crate::{
    bill::{Line, Part, written},
    calendar::write_instant,
    cycle::{Made, Supply},
    demand::DemandSource,
    error::{Fault, RatingError},
    plan::Plan,
    readings::{Flag, Quantity, Track},
    report::{self, LineView},
    tariff::{Basis, Charge, EnergyUnit, Flow, Of, Tariff},
};

/// A bill with its reasons.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Which bill.
    pub bill: String,
    /// First day.
    pub from: String,
    /// The day after the last.
    pub to: String,
    /// Lines with their reasons.
    pub lines: Vec<Reason>,
    /// Quality of the readings, in words.
    pub readings: Vec<String>,
    /// Total, minor units.
    pub total: i64,
}

/// A line and why.
#[derive(Debug, Serialize)]
pub struct Reason {
    /// The line.
    #[serde(flatten)]
    pub line: LineView,
    /// Where in which tariff: `tariff.json charges[1].rates[0]`.
    pub clause: Option<String>,
    /// How the quantity came about.
    pub quantity_from: Vec<String>,
    /// How the amount came about.
    pub amount_from: String,
}

/// Explains a bill that was made.
pub fn bill(supply: &Supply<'_>, made: &Made, bill: &crate::bill::Bill) -> Result<Explanation, Fault> {
    let place = format!("bill {}", bill.id);
    let in_files = |why: RatingError| why.in_files("tariff", supply.readings_file, supply.case_file, &place);
    let tracks = supply.known_at(made.order.issued_s);
    let span = (made.order.from, made.order.to);
    let mut reasons = Vec::new();
    for part in &bill.parts {
        let listed = supply.tariff_on(part.from).map_err(in_files)?;
        let plan = Plan::new(&listed.tariff, part.from, part.to, span).map_err(in_files)?;
        let whole = Plan::new(&listed.tariff, span.0, span.1, span).map_err(in_files)?;
        let usage = supply.usage(&whole, &tracks).map_err(in_files)?;
        let source = DemandSource::new(&whole, &usage);
        let context = Context { supply, tracks: &tracks, plan: &plan, file: &listed.file, demand: &source, part };
        let split = bill.parts.len() > 1;
        reasons.extend(part.lines.iter().enumerate().map(|(index, line)| context.reason(index, line, split)));
    }
    for line in &bill.closing {
        let amount_from = if line.code == "ROUND" {
            format!("the total is rounded {}", line.rounding.as_ref().map(|r| r.label()).unwrap_or_default())
        } else {
            "the earlier bill, rated with the readings now known, less what was billed".to_owned()
        };
        reasons.push(Reason { line: report::line(line, None), clause: None, quantity_from: Vec::new(), amount_from });
    }
    Ok(Explanation {
        bill: bill.id.clone(),
        from: bill.from.to_string(),
        to: bill.to.to_string(),
        lines: reasons,
        readings: quality_words(bill),
        total: bill.total,
    })
}

fn quality_words(bill: &crate::bill::Bill) -> Vec<String> {
    let mut words = Vec::new();
    if bill.quality.estimated {
        words.push(format!("rests on an estimate ({} in a row)", bill.estimates_in_a_row));
    }
    for at_s in &bill.quality.interpolated_at_s {
        words.push(format!("no reading at {}: the straight line between its neighbours", write_instant(*at_s)));
    }
    if bill.quality.missing_s > 0 {
        words.push(format!("{} s between meters are not covered by any", bill.quality.missing_s));
    }
    words
}

struct Context<'a> {
    supply: &'a Supply<'a>,
    tracks: &'a [Track],
    plan: &'a Plan<'a>,
    file: &'a str,
    demand: &'a DemandSource<'a>,
    part: &'a Part,
}

impl Context<'_> {
    fn reason(&self, index: usize, line: &Line, split: bool) -> Reason {
        let tariff = self.plan.tariff;
        let charge = line.clause.map(|clause| &tariff.charges[clause.charge]);
        let clause = line.clause.map(|clause| {
            let rate = clause.rate.map(|rate| format!(".rates[{rate}]")).unwrap_or_default();
            format!("{} charges[{}]{rate}", self.file, clause.charge)
        });
        let quantity_from = charge.map(|charge| self.quantity_from(index, line, charge)).unwrap_or_default();
        let amount_from = amount_words(line, charge, tariff);
        Reason { line: report::line(line, split.then_some(self.part)), clause, quantity_from, amount_from }
    }

    fn quantity_from(&self, index: usize, line: &Line, charge: &Charge) -> Vec<String> {
        let months = || vec![format!("{} months ({} days)", self.plan.months.to_decimal(6), self.plan.days)];
        match &charge.basis {
            Basis::Energy(basis) => {
                let quantity = match (basis.unit, basis.flow) {
                    (EnergyUnit::KilovoltAmpereHours, _) => Quantity::Apparent,
                    (EnergyUnit::KilovarHours, _) => Quantity::Reactive,
                    (_, Flow::Export) => Quantity::Export,
                    _ => Quantity::Import,
                };
                let mut words = self.registers(quantity, line.period.as_deref(), basis.calendar);
                words.extend(self.part.netting.iter().filter(|_| basis.flow == Flow::Import).map(|pot| {
                    format!(
                        "netted ({}): import {} less export {} less carried {} kWh",
                        pot.name, pot.import, pot.export, pot.credit_in
                    )
                }));
                words
            }
            Basis::Demand(basis) => {
                let period = line.period.as_deref().map(|name| (basis.calendar, name));
                let moment = self.demand.moment_of_maximum(basis.unit, period);
                let mut words: Vec<String> =
                    moment.map(|at_s| format!("largest at {}", write_instant(at_s))).into_iter().collect();
                if let Ok(Some(value)) = self.demand.maximum(basis.unit, period) {
                    words.push(format!("measured {} {}", value.to_decimal(6), basis.unit.word()));
                }
                words
            }
            Basis::Month { .. } => months(),
            Basis::Contract { unit, .. } => {
                let mut words = months();
                words.extend(
                    self.supply.customer.contract(*unit).ok().map(|load| format!("contract {load} {}", unit.word())),
                );
                words
            }
            Basis::Day { .. } => vec![format!("{} days from {} to {}", self.plan.days, self.part.from, self.part.to)],
            Basis::Amount { of, .. } | Basis::Minimum { of, .. } | Basis::Carry { of, .. } => {
                self.base_lines(index, of)
            }
            Basis::Settle { .. } => vec!["energy carried from earlier bills".to_owned()],
        }
    }

    fn base_lines(&self, index: usize, of: &Of) -> Vec<String> {
        let digits = self.plan.tariff.minor_digits;
        let above = self.part.lines[..index].iter().filter(|line| of.names(&line.code));
        above.map(|line| format!("{} {}", line.code, written(line.amount, digits))).collect()
    }

    /// The registers behind a quantity: first and last reading that count, and how many intervals lie between; where a calendar divides
    /// them, how many of those belong to the period.
    fn registers(&self, quantity: Quantity, period: Option<&str>, calendar: Option<usize>) -> Vec<String> {
        let readings = self.supply.readings;
        let counts = |track: &&Track| {
            let register = &readings.registers[track.register];
            register.quantity == quantity
                && (register.period.is_none() || period.is_none() || register.period.as_deref() == period)
        };
        let mut words = Vec::new();
        for track in self.tracks.iter().filter(counts) {
            let inside =
                |pair: &&[crate::readings::Point]| pair[1].at_s > self.plan.from_s && pair[0].at_s < self.plan.to_s;
            let pairs: Vec<_> = track.points.windows(2).filter(inside).collect();
            let (Some(first), Some(last)) = (pairs.first(), pairs.last()) else { continue };
            let meter = &readings.meters[track.meter];
            let told = |point: &crate::readings::Point| {
                let estimated = if point.flag == Flag::Estimated { ", estimated" } else { "" };
                format!("{} at {} (row {}{estimated})", point.value, write_instant(point.at_s), point.row + 2)
            };
            let factor = if meter.multiplier == crate::exact::Exact::ONE {
                String::new()
            } else {
                format!(", times {}", meter.multiplier)
            };
            let divided = period.zip(calendar).filter(|_| readings.registers[track.register].period.is_none());
            let share = divided.map_or_else(String::new, |(period, calendar)| {
                let starts = pairs.iter().map(|pair| pair[0].at_s.max(self.plan.from_s));
                let own = starts.filter(|at_s| self.plan.period_at(calendar, *at_s) == Some(period)).count();
                format!(", {own} of them in \"{period}\"")
            });
            words.push(format!(
                "meter {}: {} to {}, {}{share}{factor}",
                meter.name,
                told(&first[0]),
                told(&last[1]),
                if pairs.len() == 1 { "one interval".to_owned() } else { format!("{} intervals", pairs.len()) }
            ));
        }
        words
    }
}

fn amount_words(line: &Line, charge: Option<&Charge>, tariff: &Tariff) -> String {
    let amount = written(line.amount, tariff.minor_digits);
    let settles = charge.is_some_and(|charge| matches!(charge.basis, Basis::Settle { .. }));
    let paid = settles || charge.is_some_and(|charge| charge.credit);
    let credit = if paid { ", paid to the customer" } else { "" };
    let inside = charge.is_some_and(|charge| matches!(charge.basis, Basis::Amount { gross_up: true, .. }));
    match (&line.rounding, &line.unit_price) {
        (None, _) => format!("{amount}, not rounded"),
        (Some(rule), Some(price)) => {
            let (quantity, price) = (line.quantity.to_decimal(6), price.to_decimal(8));
            let rest = if inside { format!(" / (1 − {price})") } else { String::new() };
            let exact = if settles { line.exact.abs() } else { line.exact.clone() };
            format!("{quantity} × {price}{rest} = {}, {}: {amount}{credit}", exact.to_decimal(8), rule.label())
        }
        (Some(rule), None) => {
            format!("the sum over the intervals {}, {}: {amount}{credit}", line.exact.to_decimal(8), rule.label())
        }
    }
}
