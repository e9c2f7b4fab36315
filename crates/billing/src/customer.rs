//! What a tariff may ask of the customer: phase, contracted load, earlier use, whatever else a price list names.

use std::collections::BTreeMap;

use crate::{error::RatingError, exact::Exact, tariff::LoadUnit};

/// Facts by name; a fact that reads as a number is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Customer {
    facts: BTreeMap<String, (String, Option<Exact>)>,
    /// Energy of earlier bills, kWh, oldest first.
    pub history_kwh: Vec<Exact>,
}

impl Customer {
    /// From the free object of a case.
    pub fn from_json(object: &serde_json::Map<String, serde_json::Value>) -> Result<Customer, RatingError> {
        let mut customer = Customer::default();
        for (name, value) in object {
            if name == "history_kwh" {
                customer.history_kwh = history(value)?;
                continue;
            }
            match value {
                serde_json::Value::String(word) => customer.set(name, word),
                serde_json::Value::Number(_) | serde_json::Value::Bool(_) => customer.set(name, &value.to_string()),
                _ => {}
            }
        }
        Ok(customer)
    }

    /// Sets a fact.
    pub fn set(&mut self, name: &str, word: &str) {
        self.facts.insert(name.to_owned(), (word.to_owned(), Exact::decimal(word).ok()));
    }

    /// A fact as a word and, if it is one, as a number.
    pub fn fact(&self, name: &str) -> Result<(&str, Option<&Exact>), RatingError> {
        let missing =
            || RatingError::Case(format!("the tariff asks for the customer's `{name}`; add it to `customer`"));
        self.facts.get(name).map(|(word, number)| (word.as_str(), number.as_ref())).ok_or_else(missing)
    }

    /// A fact that must be a number, if it is there.
    pub fn number(&self, name: &str) -> Result<Option<&Exact>, RatingError> {
        match self.facts.get(name) {
            None => Ok(None),
            Some((_, Some(number))) => Ok(Some(number)),
            Some((word, None)) => {
                Err(RatingError::Case(format!("the customer's `{name}` is \"{word}\"; write a decimal number")))
            }
        }
    }

    /// The contracted load in a unit; not below zero.
    pub fn contract(&self, unit: LoadUnit) -> Result<&Exact, RatingError> {
        let name = unit.fact();
        let missing =
            || RatingError::Case(format!("the tariff asks for the customer's `{name}`; add it to `customer`"));
        let contract = self.number(name)?.ok_or_else(missing)?;
        if contract.is_negative() {
            return Err(RatingError::Case(format!("the customer's `{name}` is below zero; write what was contracted")));
        }
        Ok(contract)
    }
}

fn history(value: &serde_json::Value) -> Result<Vec<Exact>, RatingError> {
    let wrong = || RatingError::Case("the customer's `history_kwh` is no list of numbers, oldest first".into());
    let items = value.as_array().ok_or_else(wrong)?;
    let number = |item: &serde_json::Value| match item {
        serde_json::Value::String(text) => Exact::decimal(text).map_err(|_| wrong()),
        serde_json::Value::Number(number) => Exact::decimal(&number.to_string()).map_err(|_| wrong()),
        _ => Err(wrong()),
    };
    items.iter().map(number).collect()
}
