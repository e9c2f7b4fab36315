//! A tariff: a price list as it was published, parsed once to states that can be rated.
//!
//! The file is data (`gridtally-tariff/1`, JSON or TOML with the same fields; the schema lies in `crates/billing/schema`). Words follow
//! the Utility Rate Database (`rate`, `adj`, `max`), IEC CIM and ESPI (charge, flow direction) and plain speech. `document` is the
//! file, `parse` turns it into these types (`charge` holds those of charges), `check` says what cannot be, `describe` explains it in sentences, `household` by an example.

mod charge;
pub mod check;
pub mod describe;
mod document;
pub mod household;
mod locate;
mod parse;

use jiff::{civil::Date, tz::TimeZone};

pub use charge::{
    Basis, Charge, Condition, DemandBasis, DemandUse, EnergyBasis, EnergyUnit, Fact, Flow, LimitPer, LoadUnit,
    MinimumPer, Of, Price, Ratchet, Rate, Test,
};

use crate::{exact::Exact, rounding::Rounding, when::When};

/// A price list.
#[derive(Clone, Debug)]
pub struct Tariff {
    /// Identity, for the clerk.
    pub id: String,
    /// Name.
    pub name: String,
    /// Currency, ISO 4217.
    pub currency: String,
    /// Decimal digits of the minor unit: amounts are whole minor units.
    pub minor_digits: u32,
    /// All dates and times of day are local to this zone.
    pub zone: TimeZone,
    /// IANA name of the zone.
    pub zone_name: String,
    /// First day it holds; without it, always.
    pub valid_from: Option<Date>,
    /// Last day it holds; without it, for ever.
    pub valid_to: Option<Date>,
    /// How many months a bill is.
    pub month_count: MonthCount,
    /// Days that are not what the week says.
    pub holidays: Holidays,
    /// Named calendars, each an ordered list of periods.
    pub calendars: Vec<Calendar>,
    /// Length of the demand interval, minutes.
    pub demand_window_min: Option<u32>,
    /// How the power factor of a bill is made.
    pub power_factor: Option<PowerFactor>,
    /// Price series the rates name.
    pub series: Vec<SeriesRule>,
    /// What becomes of exported energy.
    pub export: Export,
    /// Rules of supply that is paid in advance.
    pub prepaid: Option<Prepaid>,
    /// In order: percentages, minimum and carry look back at what stands above them.
    pub charges: Vec<Charge>,
    /// Rounding of quantities, lines and total.
    pub rounding: Roundings,
}

/// The one proration rule: a bill or a part of it as a number of months.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonthCount {
    /// By what.
    pub by: MonthBy,
    /// Rounding of the number.
    pub round: Option<Rounding>,
}

/// See [`MonthCount`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonthBy {
    /// A bill is one month whatever its length; a part of it has its share by days.
    Bill,
    /// Each local day is one over the days of its month.
    Calendar,
    /// Days over this number.
    Days(Exact),
}

/// Holidays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holidays {
    /// Local dates, sorted.
    pub dates: Vec<Date>,
    /// The weekday they are treated as, Monday = 0; without it they are only `holiday`.
    pub treated_as: Option<u8>,
}

/// A named calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Its name, which charges give.
    pub name: String,
    /// Its periods; the first whose `when` holds is the period of a moment.
    pub periods: Vec<Period>,
}

/// A period of a calendar: "night", "e0".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its name, which rates and registers give.
    pub name: String,
    /// Any of these.
    pub when: Vec<When>,
}

/// Power factor: active over apparent energy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerFactor {
    /// Whether apparent energy is computed from reactive energy instead of read.
    pub from_reactive: bool,
    /// Rounding before a table is read.
    pub round: Option<Rounding>,
}

/// A price series: a step function of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesRule {
    /// Name the rates give.
    pub name: String,
    /// File beside the tariff.
    pub file: String,
    /// Column of the file.
    pub column: String,
    /// Factor from the file's unit to currency per kWh.
    pub scale: Exact,
}

/// What becomes of exported energy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// Import and export are separate registers; without an export charge, export earns nothing.
    Separate,
    /// Import less export less carried kWh; a surplus is carried.
    NetMetering(Pots),
    /// Import and export are priced apart.
    NetBilling {
        /// Window inside which they are netted first, minutes.
        window_min: Option<u32>,
    },
}

/// What net metering nets apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pots {
    /// Nothing: all energy lies in one pot.
    One,
    /// The periods of a calendar.
    OfCalendar(usize),
    /// The periods of registers that the meter switches, where the tariff has no calendar.
    OfRegisters,
}

/// Supply that is paid in advance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepaid {
    /// Supply ends at or below this balance, currency units.
    pub disconnect_at: Exact,
    /// Hours in which supply does not end.
    pub friendly: Vec<When>,
}

/// Rounding rules of a tariff. No rule: exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roundings {
    /// Energy of a period, kWh, before blocks.
    pub energy: Option<Rounding>,
    /// Demand, kW or kVA.
    pub demand: Option<Rounding>,
    /// Contracted load.
    pub contract: Option<Rounding>,
    /// Amount of a line; the minor unit where the file gives none.
    pub line: Rounding,
    /// Total of a bill.
    pub total: Option<Rounding>,
}

impl Tariff {
    /// Parses a tariff file; the extension of the name says which language. What cannot be, is refused with every finding.
    pub fn read(file: &str, text: &str) -> Result<Tariff, Vec<check::Finding>> {
        check::read(file, text).map(|(tariff, _)| tariff)
    }

    /// Whether it holds on a local day.
    pub fn holds_on(&self, day: Date) -> bool {
        self.valid_from.is_none_or(|from| from <= day) && self.valid_to.is_none_or(|to| day <= to)
    }

    /// Index of a calendar.
    pub fn calendar(&self, name: &str) -> Option<usize> {
        self.calendars.iter().position(|calendar| calendar.name == name)
    }
}
