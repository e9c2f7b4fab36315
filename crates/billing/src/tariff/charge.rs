//! Charges: what is priced, by which rates, under which conditions.

use crate::{exact::Exact, rounding::Rounding};

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
        /// Index into [`Tariff::series`](super::Tariff::series).
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
