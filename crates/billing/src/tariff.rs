//! A tariff: a price list as it was published, parsed once to states that can be rated.
//!
//! The file is data (`gridtally-tariff/1`, JSON or TOML with the same fields; the schema lies in `crates/billing/schema`). Words follow
//! the Utility Rate Database (`rate`, `adj`, `max`), IEC CIM and ESPI (charge, flow direction) and plain speech. `document` is the
//! file, `parse` turns it into these types, `check` says what cannot be, `describe` explains it in sentences.

pub mod check;
pub mod describe;
mod document;
mod locate;
mod parse;

use jiff::{civil::Date, tz::TimeZone};

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

/// A charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Code; several charges may share one.
    pub code: String,
    /// Name on the bill.
    pub name: String,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What is priced.
    pub basis: Basis,
    /// Its rates, in the order of the file.
    pub rates: Vec<Rate>,
    /// Rounding of its lines instead of the tariff's.
    pub round: Option<Rounding>,
    /// Whether the amount turns negative after rounding.
    pub credit: bool,
}

/// What a charge prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Energy.
    Energy(EnergyBasis),
    /// Demand.
    Demand(DemandBasis),
    /// Months of the bill.
    Month {
        /// Price per year: a month is one twelfth.
        per_year: bool,
    },
    /// Local days of the bill.
    Day {
        /// Price per year: a day is one over the days of its year.
        per_year: bool,
    },
    /// Contracted load.
    Contract {
        /// Its unit.
        unit: LoadUnit,
        /// Price per year.
        per_year: bool,
    },
    /// A percentage of lines above.
    Amount {
        /// Which lines.
        of: Of,
        /// Tax inside the price: base × p / (100 − p).
        gross_up: bool,
    },
    /// Tops lines above up to a minimum.
    Minimum {
        /// Which lines.
        of: Of,
        /// What the minimum is per.
        per: MinimumPer,
    },
    /// Money account over lines above.
    Carry {
        /// Which lines.
        of: Of,
        /// Month (1–12) in which a negative rest is paid out instead of carried.
        settle_month: Option<u8>,
    },
    /// Pays for carried kWh and clears them.
    Settle {
        /// Months (1–12).
        months: Vec<u8>,
    },
}

/// An energy charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnergyBasis {
    /// Direction.
    pub flow: Flow,
    /// Which energy.
    pub unit: EnergyUnit,
    /// Calendar of its periods.
    pub calendar: Option<usize>,
    /// All units at the block reached, instead of each block at its own price.
    pub whole: bool,
    /// Blocks run over the sum of all periods, each period takes its share.
    pub tier_over_all: bool,
    /// What a block limit is per.
    pub limit_per: LimitPer,
    /// Only what exceeds this percentage of imported energy.
    pub less_percent: Option<Exact>,
}

/// Direction of energy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// From the grid, after the export rule.
    Import,
    /// From the grid, as the register counts.
    ImportGross,
    /// To the grid.
    Export,
}

/// Active, apparent or reactive energy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnergyUnit {
    /// Active.
    KilowattHours,
    /// Apparent.
    KilovoltAmpereHours,
    /// Reactive.
    KilovarHours,
}

impl EnergyUnit {
    /// As a bill shows it.
    pub const fn word(self) -> &'static str {
        match self {
            EnergyUnit::KilowattHours => "kWh",
            EnergyUnit::KilovoltAmpereHours => "kVAh",
            EnergyUnit::KilovarHours => "kvarh",
        }
    }
}

/// What an energy block's limit is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitPer {
    /// Months of the bill.
    Month,
    /// Local days.
    Day,
    /// Months × maximum demand in kW ("hours use").
    Kilowatt,
}

/// Active power, apparent power or current of a contract or of demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadUnit {
    /// Active.
    Kilowatts,
    /// Apparent.
    KilovoltAmperes,
    /// Current (contracts only).
    Amperes,
}

impl LoadUnit {
    /// As a bill shows it.
    pub const fn word(self) -> &'static str {
        match self {
            LoadUnit::Kilowatts => "kW",
            LoadUnit::KilovoltAmperes => "kVA",
            LoadUnit::Amperes => "A",
        }
    }

    /// The customer's fact that holds the contracted load.
    pub const fn fact(self) -> &'static str {
        match self {
            LoadUnit::Kilowatts => "contract_kw",
            LoadUnit::KilovoltAmperes => "contract_kva",
            LoadUnit::Amperes => "contract_a",
        }
    }
}

/// A demand charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandBasis {
    /// kW or kVA.
    pub unit: LoadUnit,
    /// Calendar of its periods.
    pub calendar: Option<usize>,
    /// At least a share of earlier demand.
    pub ratchet: Option<Ratchet>,
    /// At least a share of the contract.
    pub floor_percent: Option<Exact>,
    /// At least this.
    pub at_least: Option<Exact>,
    /// Which demand.
    pub usage: DemandUse,
    /// Price per year: a month is one twelfth.
    pub per_year: bool,
}

/// See [`DemandBasis::ratchet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ratchet {
    /// Percentage of the highest earlier demand.
    pub percent: Exact,
    /// How many preceding calendar months count.
    pub lookback: u32,
    /// Only these months (1–12), if given.
    pub months: Option<Vec<u8>>,
}

/// Which demand is billed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DemandUse {
    /// The maximum of the bill.
    Billing,
    /// What the maximum exceeds the contract by.
    Excess,
    /// Demand at the times in this file.
    Coincident(String),
}

/// What a minimum is per.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MinimumPer {
    /// Month.
    Month,
    /// A twelfth a month.
    Year,
    /// Local day.
    Day,
    /// Unit of contracted load, in blocks, per month.
    Contract(LoadUnit),
    /// Unit of the highest earlier demand, per month.
    PastDemand {
        /// kW or kVA.
        unit: LoadUnit,
        /// How many preceding calendar months count.
        lookback: u32,
        /// At least this demand.
        at_least: Option<Exact>,
    },
}

/// Lines above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// All.
    All,
    /// Those with these codes.
    Codes(Vec<String>),
}

impl Of {
    /// Whether it names the code of a line. `CREDIT` names `CREDIT-IN` and `CREDIT-OUT` of a carry as well.
    pub fn names(&self, code: &str) -> bool {
        let base = |code: &str| code.strip_suffix("-IN").or_else(|| code.strip_suffix("-OUT")).map(str::to_owned);
        match self {
            Of::All => true,
            Of::Codes(codes) => codes.iter().any(|c| c == code) || base(code).is_some_and(|b| codes.contains(&b)),
        }
    }
}

/// A row of a charge: one possible line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Period it holds in.
    pub period: Option<String>,
    /// Upper limit of the block.
    pub max: Option<Exact>,
    /// Its price.
    pub price: Price,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Rounding of its line.
    pub round: Option<Rounding>,
}

/// The price of a rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Price {
    /// Currency units per unit of quantity: `rate` + `adj`.
    Fixed(Exact),
    /// Percent of the base.
    Percent(Exact),
    /// By interval: value of the series × `mul` + `adj`, at most `cap`.
    Series {
        /// Index into [`Tariff::series`].
        series: usize,
        /// Factor.
        mul: Exact,
        /// Addition.
        adj: Exact,
        /// Upper limit.
        cap: Option<Exact>,
    },
}

/// A condition of a charge or a rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which fact.
    pub what: Fact,
    /// Divide by the months of the bill first.
    pub per_month: bool,
    /// What it must be.
    pub test: Vec<Test>,
}

/// A fact a condition asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Imported energy after netting, kWh.
    ImportKwh,
    /// Imported energy as the register counts, kWh.
    ImportGrossKwh,
    /// Maximum demand.
    Demand(LoadUnit),
    /// Power factor.
    PowerFactor,
    /// Local days of the bill.
    Days,
    /// Months of the bill.
    Months,
    /// Largest of the last bills' energy, kWh, and how many of them.
    HistoryMaxKwh(usize),
    /// A fact of the customer.
    Customer(String),
}

/// What a fact must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// Equal, as a number or as a word.
    Is(String),
    /// Above.
    Over(Exact),
    /// Not below.
    From(Exact),
    /// Not above.
    Upto(Exact),
    /// Below.
    Below(Exact),
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
