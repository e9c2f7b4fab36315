//! Charges of a tariff file: basis, rates, conditions.

use super::{LOOKBACK_MAX, Parser};
use crate::{
    exact::Exact,
    tariff::{
        Basis, Charge, Condition, DemandBasis, DemandUse, EnergyBasis, EnergyUnit, Fact, Flow, LimitPer, LoadUnit,
        MinimumPer, Of, Price, Ratchet, Rate, Test, document,
    },
};

impl Parser {
    fn conditions(&mut self, field: &str, list: Vec<document::Condition>) -> Vec<Condition> {
        list.into_iter()
            .enumerate()
            .map(|(index, condition)| self.condition(&format!("{field}.if[{index}]"), condition))
            .collect()
    }

    fn condition(&mut self, field: &str, condition: document::Condition) -> Condition {
        let what = match condition.what.as_str() {
            "import_kwh" => Fact::ImportKwh,
            "import_gross_kwh" => Fact::ImportGrossKwh,
            "demand_kw" => Fact::Demand(LoadUnit::Kilowatts),
            "demand_kva" => Fact::Demand(LoadUnit::KilovoltAmperes),
            "pf" => Fact::PowerFactor,
            "days" => Fact::Days,
            "months" => Fact::Months,
            other => match other.strip_prefix("history_max_kwh:").map(str::parse::<usize>) {
                Some(Ok(count)) if (1..=LOOKBACK_MAX as usize).contains(&count) => Fact::HistoryMaxKwh(count),
                Some(_) => {
                    let remedy = format!("write history_max_kwh: and 1 to {LOOKBACK_MAX} bills");
                    self.wrong(&format!("{field}.what"), format!("\"{other}\" counts no bills"), remedy);
                    Fact::HistoryMaxKwh(1)
                }
                None => Fact::Customer(other.to_owned()),
            },
        };
        if condition.per.as_deref().is_some_and(|per| per != "month") {
            self.wrong(&format!("{field}.per"), "is not known", "write month, or leave it out");
        }
        let mut test = Vec::new();
        match &condition.is {
            None => {}
            Some(serde_json::Value::String(word)) => test.push(Test::Is(word.clone())),
            Some(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => {
                test.push(Test::Is(value.to_string()));
            }
            Some(_) => self.wrong(&format!("{field}.is"), "is neither a word nor a number", "write one value"),
        }
        type Make = fn(Exact) -> Test;
        let limits: [(&str, Option<&str>, Make); 4] = [
            ("over", condition.over.as_deref(), Test::Over),
            ("from", condition.from.as_deref(), Test::From),
            ("upto", condition.upto.as_deref(), Test::Upto),
            ("below", condition.below.as_deref(), Test::Below),
        ];
        for (word, text, make) in limits {
            test.extend(self.optional(&format!("{field}.{word}"), text).map(make));
        }
        if test.is_empty() {
            self.wrong(field, "tests nothing", "give is, over, from, upto or below");
        }
        Condition { what, per_month: condition.per.is_some(), test }
    }

    fn energy_basis(&mut self, field: &str, charge: &document::Charge) -> EnergyBasis {
        let flow = match charge.flow.as_deref() {
            None | Some("import") => Flow::Import,
            Some("import_gross") => Flow::ImportGross,
            Some("export") => Flow::Export,
            Some(other) => {
                let remedy = "write import, import_gross or export";
                self.wrong(&format!("{field}.flow"), format!("\"{other}\" is not known"), remedy);
                Flow::Import
            }
        };
        let unit = match charge.unit.as_deref() {
            None | Some("kWh") => EnergyUnit::KilowattHours,
            Some("kVAh") => EnergyUnit::KilovoltAmpereHours,
            Some("kvarh") => EnergyUnit::KilovarHours,
            Some(other) => {
                self.wrong(&format!("{field}.unit"), format!("\"{other}\" is no energy"), "write kWh, kVAh or kvarh");
                EnergyUnit::KilowattHours
            }
        };
        if flow != Flow::Import && unit != EnergyUnit::KilowattHours {
            let remedy = "leave `flow` out for kVAh and kvarh";
            self.wrong(&format!("{field}.flow"), "has a direction that registers of this unit do not have", remedy);
        }
        let limit_per = match charge.max_per.as_deref() {
            None | Some("month") => LimitPer::Month,
            Some("day") => LimitPer::Day,
            Some("kW") => LimitPer::Kilowatt,
            Some(other) => {
                let remedy = "write month, day or kW";
                self.wrong(&format!("{field}.max_per"), format!("\"{other}\" is not known"), remedy);
                LimitPer::Month
            }
        };
        if let Some(less) = &charge.less
            && less.of.as_deref().is_some_and(|of| of != "import")
        {
            self.wrong(&format!("{field}.less.of"), "is not known", "write import, or leave it out");
        }
        EnergyBasis {
            flow,
            unit,
            calendar: self.calendar_of(&format!("{field}.calendar"), charge.calendar.as_deref()),
            whole: self.choice(&format!("{field}.mode"), charge.mode.as_deref(), "block", "whole"),
            tier_over_all: self.choice(&format!("{field}.tier_over"), charge.tier_over.as_deref(), "self", "all"),
            limit_per,
            less_percent: self
                .quantity(&format!("{field}.less.percent"), charge.less.as_ref().map(|less| less.percent.as_str())),
        }
    }

    /// Whether the second of two words is given; the first is the default.
    fn choice(&mut self, field: &str, word: Option<&str>, first: &str, second: &str) -> bool {
        match word {
            None => false,
            Some(word) if word == first => false,
            Some(word) if word == second => true,
            Some(word) => {
                self.wrong(field, format!("\"{word}\" is not known"), format!("write {first} or {second}"));
                false
            }
        }
    }

    fn load_unit(&mut self, field: &str, word: Option<&str>) -> LoadUnit {
        match word {
            None | Some("kW") => LoadUnit::Kilowatts,
            Some("kVA") => LoadUnit::KilovoltAmperes,
            Some("A") => LoadUnit::Amperes,
            Some(other) => {
                self.wrong(field, format!("\"{other}\" is no load"), "write kW, kVA or A");
                LoadUnit::Kilowatts
            }
        }
    }

    fn lookback(&mut self, field: &str, months: u32) -> u32 {
        if months == 0 || months > LOOKBACK_MAX {
            self.wrong(field, format!("{months} months"), format!("write 1 to {LOOKBACK_MAX}"));
        }
        months.min(LOOKBACK_MAX)
    }

    fn demand_basis(&mut self, field: &str, charge: &mut document::Charge) -> DemandBasis {
        let unit = self.load_unit(&format!("{field}.unit"), charge.unit.as_deref());
        if unit == LoadUnit::Amperes {
            self.wrong(&format!("{field}.unit"), "demand is not measured in amperes", "write kW or kVA");
        }
        let ratchet = charge.ratchet.take().and_then(|ratchet| {
            let percent = self.quantity(&format!("{field}.ratchet.percent"), Some(&ratchet.percent))?;
            let lookback = self.lookback(&format!("{field}.ratchet.lookback"), ratchet.lookback);
            let months = ratchet.months.map(|months| self.month_list(&format!("{field}.ratchet.months"), Some(months)));
            Some(Ratchet { percent, lookback, months })
        });
        let floor = charge.floor.take();
        let percent = floor.as_ref().and_then(|floor| floor.percent.as_deref());
        let at_least = floor.as_ref().and_then(|floor| floor.at_least.as_deref());
        let usage = match (charge.usage.as_deref(), charge.times.take()) {
            (None | Some("billing"), _) => DemandUse::Billing,
            (Some("excess"), _) => DemandUse::Excess,
            (Some("coincident"), Some(times)) => {
                self.plain_file(&format!("{field}.times"), &times);
                DemandUse::Coincident(times)
            }
            (Some("coincident"), None) => {
                self.wrong(&format!("{field}.times"), "is missing", "name the file that lists the times");
                DemandUse::Billing
            }
            (Some(other), _) => {
                let remedy = "write billing, excess or coincident";
                self.wrong(&format!("{field}.use"), format!("\"{other}\" is not known"), remedy);
                DemandUse::Billing
            }
        };
        DemandBasis {
            unit,
            calendar: self.calendar_of(&format!("{field}.calendar"), charge.calendar.as_deref()),
            ratchet,
            floor_percent: self.quantity(&format!("{field}.floor.percent"), percent),
            at_least: self.quantity(&format!("{field}.floor.at_least"), at_least),
            usage,
            per_year: self.choice(&format!("{field}.per"), charge.per.as_deref(), "month", "year"),
        }
    }

    fn of(&mut self, field: &str, codes: Option<Vec<String>>) -> Of {
        match codes {
            None => {
                self.wrong(
                    &format!("{field}.of"),
                    "is missing",
                    "list the codes of the lines, or [\"*\"] for all above",
                );
                Of::All
            }
            Some(codes) if codes.iter().any(|code| code == "*") => Of::All,
            Some(codes) => Of::Codes(codes),
        }
    }

    fn minimum_per(&mut self, field: &str, charge: &mut document::Charge) -> MinimumPer {
        match (charge.per.as_deref(), charge.past_demand.take()) {
            (None | Some("month"), _) => MinimumPer::Month,
            (Some("year"), _) => MinimumPer::Year,
            (Some("day"), _) => MinimumPer::Day,
            (Some("kW"), _) => MinimumPer::Contract(LoadUnit::Kilowatts),
            (Some("kVA"), _) => MinimumPer::Contract(LoadUnit::KilovoltAmperes),
            (Some("past-demand"), Some(past)) => MinimumPer::PastDemand {
                unit: self.load_unit(&format!("{field}.past_demand.unit"), Some(&past.unit)),
                lookback: self.lookback(&format!("{field}.past_demand.lookback"), past.lookback),
                at_least: self.quantity(&format!("{field}.past_demand.at_least"), past.at_least.as_deref()),
            },
            (Some("past-demand"), None) => {
                self.wrong(&format!("{field}.past_demand"), "is missing", "give unit and lookback");
                MinimumPer::Month
            }
            (Some(other), _) => {
                let remedy = "write month, year, day, kW, kVA or past-demand";
                self.wrong(&format!("{field}.per"), format!("\"{other}\" is not known"), remedy);
                MinimumPer::Month
            }
        }
    }

    fn basis(&mut self, field: &str, charge: &mut document::Charge) -> Basis {
        match charge.basis.as_str() {
            "energy" => Basis::Energy(self.energy_basis(field, charge)),
            "demand" => Basis::Demand(self.demand_basis(field, charge)),
            "month" => {
                Basis::Month { per_year: self.choice(&format!("{field}.per"), charge.per.as_deref(), "month", "year") }
            }
            "day" => {
                Basis::Day { per_year: self.choice(&format!("{field}.per"), charge.per.as_deref(), "day", "year") }
            }
            "contract" => Basis::Contract {
                unit: self.load_unit(&format!("{field}.unit"), charge.unit.as_deref()),
                per_year: self.choice(&format!("{field}.per"), charge.per.as_deref(), "month", "year"),
            },
            "amount" => Basis::Amount { of: self.of(field, charge.of.take()), gross_up: charge.gross_up },
            "minimum" => Basis::Minimum { of: self.of(field, charge.of.take()), per: self.minimum_per(field, charge) },
            "carry" => {
                let settle_month = charge.settle.take().map(|settle| settle.month);
                self.months_mask(&format!("{field}.settle.month"), settle_month.as_ref().map(std::slice::from_ref));
                Basis::Carry { of: self.of(field, charge.of.take()), settle_month }
            }
            "settle" => {
                let months = self.month_list(&format!("{field}.months"), charge.months.take());
                if months.is_empty() {
                    self.wrong(&format!("{field}.months"), "names no month", "list the months of settlement, 1 to 12");
                }
                Basis::Settle { months }
            }
            other => {
                let remedy = "write energy, demand, month, day, contract, amount, minimum, carry or settle";
                self.wrong(&format!("{field}.basis"), format!("\"{other}\" is not known"), remedy);
                Basis::Month { per_year: false }
            }
        }
    }

    pub(super) fn charge(&mut self, field: &str, mut charge: document::Charge, digits: u32) -> Charge {
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
        if charge.code.is_empty() || !charge.code.bytes().all(plain) {
            let remedy = "use capitals, digits and hyphens as ENERGY-2";
            self.wrong(&format!("{field}.code"), format!("\"{}\" is no code", charge.code), remedy);
        }
        let basis = self.basis(field, &mut charge);
        let rates: Vec<Rate> = charge
            .rates
            .into_iter()
            .enumerate()
            .map(|(index, rate)| self.rate(&format!("{field}.rates[{index}]"), rate, &basis, digits))
            .collect();
        if rates.is_empty() && !matches!(basis, Basis::Carry { .. }) {
            self.wrong(&format!("{field}.rates"), "there is none", "give at least one rate");
        }
        Charge {
            conditions: self.conditions(field, charge.conditions),
            code: charge.code,
            name: charge.name,
            basis,
            rates,
            round: self.money_rounding(&format!("{field}.round"), charge.round, digits),
            credit: charge.credit,
        }
    }

    fn rate(&mut self, field: &str, rate: document::Rate, basis: &Basis, digits: u32) -> Rate {
        let price = self.price(field, &rate, basis);
        Rate {
            max: self.quantity(&format!("{field}.max"), rate.max.as_deref()),
            price,
            conditions: self.conditions(field, rate.conditions),
            round: self.money_rounding(&format!("{field}.round"), rate.round, digits),
            period: rate.period,
        }
    }

    fn price(&mut self, field: &str, rate: &document::Rate, basis: &Basis) -> Price {
        let adj = self.optional(&format!("{field}.adj"), rate.adj.as_deref()).unwrap_or(Exact::ZERO);
        let percentage = matches!(basis, Basis::Amount { .. });
        match (&rate.series, &rate.percent, &rate.rate) {
            (None, Some(percent), None) if percentage => {
                Price::Percent(self.number(&format!("{field}.percent"), percent).unwrap_or(Exact::ZERO))
            }
            (None, None, Some(price)) if !percentage => {
                let price = self.number(&format!("{field}.rate"), price).unwrap_or(Exact::ZERO);
                Price::Fixed(&price + &adj)
            }
            (None, None, None) if !percentage && rate.adj.is_some() => Price::Fixed(adj),
            (Some(name), None, None) if matches!(basis, Basis::Energy(_)) => {
                let series = self.series.iter().position(|series| series.name == *name);
                if series.is_none() {
                    let remedy = "name a series of `series`";
                    self.wrong(&format!("{field}.series"), format!("there is no series \"{name}\""), remedy);
                }
                Price::Series {
                    series: series.unwrap_or(0),
                    mul: self.optional(&format!("{field}.mul"), rate.mul.as_deref()).unwrap_or(Exact::ONE),
                    adj,
                    cap: self.optional(&format!("{field}.cap"), rate.cap.as_deref()),
                }
            }
            _ => {
                let remedy = if percentage {
                    "give `percent` only"
                } else {
                    "give `rate` (energy also: `series`), and nothing else that is a price"
                };
                self.wrong(field, "does not hold exactly the price that this basis has", remedy);
                Price::Fixed(Exact::ZERO)
            }
        }
    }
}
