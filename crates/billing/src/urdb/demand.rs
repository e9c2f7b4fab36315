//! Demand charges of a record: flat by month, by hours of use, with a ratchet.

use serde_json::{Value, json};

use super::{
    Import, UrdbError,
    schedule::{calendar, months_calendar},
    structure::decimal,
    wrong,
};

impl Import<'_> {
    fn ratchet(&mut self) -> Result<Option<Value>, UrdbError> {
        let percent = match self.number("lookbackpercent")?.filter(|percent| percent != "0") {
            Some(percent) => Some(percent),
            None => self.one_ratchet_percentage(),
        };
        let Some(percent) = percent else { return Ok(None) };
        let exact = crate::exact::Exact::decimal(&percent).map_err(|why| wrong("lookbackpercent", why.to_string()))?;
        // The field is a fraction in some records: 0.8 is 80 percent.
        let exact = if exact <= crate::exact::Exact::ONE { &exact * &crate::exact::Exact::whole(100) } else { exact };
        let flags = self.record.get("lookbackmonths").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let set = |flag: &Value| flag.as_bool() == Some(true) || decimal(flag).is_some_and(|flag| flag == "1");
        let months: Vec<usize> = (1..=12).filter(|month| flags.get(month - 1).is_some_and(set)).collect();
        let range =
            self.number("lookbackrange")?.and_then(|range| range.parse::<u32>().ok()).filter(|range| *range > 0);
        let mut ratchet = json!({ "percent": exact.to_decimal(6), "lookback": range.unwrap_or(11) });
        if range.is_none() {
            self.open.push("lookbackrange: not given; the preceding 11 months were written".into());
        }
        if !months.is_empty() && months.len() < 12 {
            ratchet["months"] = json!(months);
        }
        Ok(Some(ratchet))
    }

    /// The older field has a share for each month; only one share for all can be carried.
    fn one_ratchet_percentage(&mut self) -> Option<String> {
        let list = self.record.get("demandratchetpercentage")?.as_array()?;
        let shares: Vec<String> = list.iter().filter_map(decimal).collect();
        let first = shares.first()?.clone();
        match shares.iter().all(|share| *share == first) {
            true => Some(first).filter(|share| share != "0"),
            false => {
                self.open.push(format!(
                    "demandratchetpercentage: not carried, as it differs by month: {}",
                    shares.join(" ")
                ));
                None
            }
        }
    }

    /// Unit of a demand structure: its own field, else the one of all demand.
    fn demand_unit(&mut self, field: &str) -> &'static str {
        let unit = self.text(field).or_else(|| self.text("demandunits"));
        match unit.as_deref() {
            None | Some("kW") => "kW",
            Some("kVA") => "kVA",
            Some(other) => {
                self.open.push(format!("{field}: demand in \"{other}\" cannot be carried; kW by month was written"));
                "kW"
            }
        }
    }

    pub(super) fn demand(&mut self) -> Result<(), UrdbError> {
        let ratchet = self.ratchet()?;
        let before = self.charges.len();
        if let Some(mut structure) = self.structure("flatdemandstructure", "f")?.filter(|found| !found.is_free()) {
            let mut charge = json!({ "code": "DEMAND", "name": "Demand charge", "basis": "demand" });
            if structure.periods > 1 {
                let months = months_calendar(self.record.get("flatdemandmonths"), structure.periods)?;
                structure.keep_running(&months);
                self.periods.insert("demand_months".into(), months);
                charge["calendar"] = "demand_months".into();
            } else {
                for row in &mut structure.rows {
                    row.as_object_mut().map(|row| row.remove("period"));
                }
            }
            charge["rates"] = structure.rows.into();
            charge["unit"] = self.demand_unit("flatdemandunit").into();
            self.charges.push(charge);
        }
        if let Some(mut structure) = self.structure("demandratestructure", "d")?.filter(|found| !found.is_free()) {
            let [weekday, weekend] = self.schedules("demand", structure.periods);
            let periods = calendar("demand", "d", weekday, weekend, structure.periods)?;
            structure.keep_running(&periods);
            self.periods.insert("demand".into(), periods);
            let unit = self.demand_unit("demandrateunit");
            self.charges.push(json!({
                "code": "TOU-DEMAND", "name": "Time-of-use demand charge", "basis": "demand", "calendar": "demand",
                "unit": unit, "rates": structure.rows,
            }));
        }
        match ratchet {
            Some(ratchet) if self.charges.len() > before => {
                for charge in &mut self.charges[before..] {
                    charge["ratchet"] = ratchet.clone();
                }
            }
            Some(_) => self.open.push("lookbackpercent: a ratchet without a demand charge was left out".into()),
            None => {}
        }
        Ok(())
    }

    /// The demand window, if demand is priced.
    pub(super) fn window(&mut self) -> Result<Option<Value>, UrdbError> {
        let needed = self.charges.iter().any(|c| c["basis"] == "demand" || c["max_per"] == "kW");
        if !needed {
            return Ok(None);
        }
        let minutes = self.number("demandwindow")?.and_then(|minutes| minutes.parse::<u32>().ok());
        if minutes.is_none() {
            self.open.push("demandwindow: not given; 15 minutes were written".into());
        }
        Ok(Some(json!({ "window_min": minutes.unwrap_or(15) })))
    }
}
