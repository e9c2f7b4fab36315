//! Laws that hold for any numbers: bills add up, units do not matter, whole weeks do not matter, nothing used is nothing but the fixed part.

use std::collections::BTreeMap;

use billing::case::Case;
use proptest::prelude::*;
use serde_json::{Value, json};

fn run(files: &BTreeMap<&str, String>) -> Value {
    let open = |name: &str| files.get(name).map(|text| text.clone().into_bytes()).ok_or_else(|| "not there".to_owned());
    let case = Case::read(&open).unwrap_or_else(|fault| panic!("{fault}"));
    serde_json::to_value(case.run().unwrap_or_else(|fault| panic!("{fault}"))).unwrap()
}

fn instant(second: i64) -> String {
    billing::calendar::write_instant(second)
}

fn case(bills: &Value, meters: &Value) -> String {
    json!({
        "schema": "gridtally-case/1", "id": "law", "title": "law", "customer": {}, "meters": meters, "tariffs": ["tariff.json"],
        "readings": "readings.csv", "bills": bills,
    })
    .to_string()
}

fn tariff(zone: &str, extra: &Value) -> String {
    let mut tariff = json!({
        "schema": "gridtally-tariff/1", "id": "law", "name": "law", "currency": "EUR", "minor_digits": 2, "timezone": zone,
        "rounding": { "line": { "to": "0.01" } },
    });
    for (key, value) in extra.as_object().unwrap() {
        tariff[key] = value.clone();
    }
    tariff.to_string()
}

/// 2025-03-03, a Monday, 00:00 in Kolkata.
const MONDAY_S: i64 = 1_740_940_200;

fn time_of_use() -> Value {
    json!({
        "periods": { "main": [
            { "name": "peak", "when": [{ "days": ["weekday"], "from": "17:00", "to": "21:00" }] },
            { "name": "night", "when": [{ "from": "23:00", "to": "05:00" }] },
            { "name": "day", "when": [{}] },
        ] },
        "charges": [
            { "code": "ENERGY", "name": "E", "basis": "energy",
              "rates": [{ "period": "peak", "rate": "31" }, { "period": "night", "rate": "7" }, { "period": "day", "rate": "19" }] },
            { "code": "STANDING", "name": "S", "basis": "day", "rates": [{ "rate": "0.41" }] },
        ],
    })
}

/// Hourly registers from a beginning, whole kWh each hour.
fn hourly(begins_s: i64, hours: &[u8]) -> String {
    let mut text = "time,meter,import_wh\n".to_owned();
    let mut register = 5_000u64;
    text.push_str(&format!("{},M,{register}\n", instant(begins_s)));
    for (hour, used) in hours.iter().enumerate() {
        register += u64::from(*used) * 1000;
        text.push_str(&format!("{},M,{register}\n", instant(begins_s + (i64::try_from(hour).unwrap() + 1) * 3600)));
    }
    text
}

fn total(result: &Value) -> i64 {
    result["bills"].as_array().unwrap().iter().map(|bill| bill["total"].as_i64().unwrap()).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// An additive tariff: the bill of a fortnight is the sum of its days'.
    #[test]
    fn a_bill_is_the_sum_of_its_parts(hours in prop::collection::vec(0u8..9, 14 * 24), cut in 4u32..17) {
        let whole = json!([{ "id": "all", "from": "2025-03-03", "to": "2025-03-17" }]);
        let parts = json!([
            { "id": "a", "from": "2025-03-03", "to": format!("2025-03-{cut:02}") },
            { "id": "b", "from": format!("2025-03-{cut:02}"), "to": "2025-03-17" },
        ]);
        let files = |bills: &Value| BTreeMap::from([
            ("case.json", case(bills, &json!({ "M": {} }))), ("tariff.json", tariff("Asia/Kolkata", &time_of_use())),
            ("readings.csv", hourly(MONDAY_S, &hours)),
        ]);
        prop_assert_eq!(total(&run(&files(&whole))), total(&run(&files(&parts))));
    }

    /// kWh registers behind a multiplier of 1000 are Wh registers; readings in between change nothing.
    #[test]
    fn units_and_further_readings_change_nothing(used in prop::collection::vec(0u64..400, 1..9), blocks in 1u32..300) {
        let bills = json!([{ "id": "m", "from": "2025-03-03", "to": "2025-04-03" }]);
        let charges = json!({ "charges": [
            { "code": "ENERGY", "name": "E", "basis": "energy", "rates": [{ "max": blocks.to_string(), "rate": "0.1234" }, { "rate": "0.2" }] },
            { "code": "TAX", "name": "T", "basis": "amount", "of": ["*"], "rates": [{ "percent": "19" }] },
        ] });
        let end_s = MONDAY_S + 31 * 86_400;
        let rows = |unit: u64, all: bool| {
            let mut text = format!("time,meter,import_wh\n{},M,0\n", instant(MONDAY_S));
            let mut register = 0;
            for (number, kwh) in used.iter().enumerate() {
                register += kwh * unit;
                let last = number + 1 == used.len();
                let at_s = if last { end_s } else { MONDAY_S + (i64::try_from(number).unwrap() + 1) * 86_400 };
                if all || last {
                    text.push_str(&format!("{},M,{register}\n", instant(at_s)));
                }
            }
            text
        };
        let of = |meters: Value, readings: String| {
            let files = BTreeMap::from([
                ("case.json", case(&bills, &meters)), ("tariff.json", tariff("Asia/Kolkata", &charges)), ("readings.csv", readings),
            ]);
            run(&files)["bills"][0]["lines"].clone()
        };
        let plain = of(json!({ "M": {} }), rows(1000, true));
        prop_assert_eq!(&plain, &of(json!({ "M": { "multiplier": "1000" } }), rows(1, true)));
        prop_assert_eq!(&plain, &of(json!({ "M": {} }), rows(1000, false)));
    }

    /// Where no month, season or change of the clocks is between, whole weeks change nothing.
    #[test]
    fn whole_weeks_change_nothing(hours in prop::collection::vec(0u8..9, 7 * 24), weeks in 1i64..60) {
        let of = |shift: i64| {
            let from = jiff::civil::date(2025, 3, 3).checked_add(jiff::Span::new().weeks(shift)).unwrap();
            let to = from.checked_add(jiff::Span::new().weeks(1)).unwrap();
            let bills = json!([{ "id": "w", "from": from.to_string(), "to": to.to_string() }]);
            let files = BTreeMap::from([
                ("case.json", case(&bills, &json!({ "M": {} }))), ("tariff.json", tariff("Asia/Kolkata", &time_of_use())),
                ("readings.csv", hourly(MONDAY_S + shift * 7 * 86_400, &hours)),
            ]);
            run(&files)["bills"][0]["lines"].clone()
        };
        prop_assert_eq!(of(0), of(weeks));
    }

    /// Nothing used: only what does not depend on use.
    #[test]
    fn nothing_used_pays_the_fixed_part(days in 1u32..31, standing in 1u32..999) {
        let bills = json!([{ "id": "z", "from": "2025-03-01", "to": format!("2025-03-{:02}", days + 1) }]);
        let charges = json!({ "charges": [
            { "code": "ENERGY", "name": "E", "basis": "energy", "rates": [{ "max": "10", "rate": "0.3" }, { "rate": "0.2" }] },
            { "code": "DEMAND", "name": "D", "basis": "demand", "unit": "kW", "rates": [{ "rate": "7" }] },
            { "code": "STANDING", "name": "S", "basis": "day", "rates": [{ "rate": format!("0.{standing:03}") }] },
            { "code": "TAX", "name": "T", "basis": "amount", "of": ["ENERGY", "DEMAND"], "rates": [{ "percent": "19" }] },
        ], "demand": { "window_min": 15 } });
        let readings = "time,meter,import_wh\n2025-02-28T18:30Z,M,777\n2025-04-01T18:30Z,M,777\n".to_owned();
        let files = BTreeMap::from([
            ("case.json", case(&bills, &json!({ "M": {} }))), ("tariff.json", tariff("Asia/Kolkata", &charges)), ("readings.csv", readings),
        ]);
        let result = run(&files);
        let lines = result["bills"][0]["lines"].as_array().unwrap();
        prop_assert_eq!(lines.len(), 1);
        prop_assert_eq!(lines[0]["amount"].as_u64().unwrap(), (u64::from(days) * u64::from(standing) + 5) / 10);
    }
}

/// A tariff whose rounded lines rise and fall: a price and a subsidy, each rounded in its own way, and a tax.
fn price_and_subsidy(price: u32, subsidy: u32, step: &str, mode: &str) -> Value {
    let mut tariff: Value = serde_json::from_str(&tariff("Asia/Kolkata", &json!({ "charges": [
        { "code": "ENERGY", "name": "E", "basis": "energy", "rates": [{ "max": "40", "rate": format!("0.{price:03}") }, { "rate": "0.9" }],
          "round": { "to": step, "mode": mode } },
        { "code": "SUBSIDY", "name": "S", "basis": "energy", "credit": true, "rates": [{ "rate": format!("0.{subsidy:03}") }],
          "round": { "to": step, "mode": "down" } },
        { "code": "TAX", "name": "T", "basis": "amount", "of": ["ENERGY"], "rates": [{ "percent": "7" }] },
    ] }))).unwrap();
    tariff["rounding"]["energy"] = json!({ "to": "1", "mode": "down" });
    tariff
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A token is the largest energy that a bill of its own would not make dearer than what is paid.
    #[test]
    fn no_larger_token_would_have_been_paid_for(
        price in 20u32..900, subsidy in 0u32..19, pay in 5u32..60, step in prop::sample::select(&["0.01", "0.5", "1"][..]),
        mode in prop::sample::select(&["half-up", "up", "down"][..]),
    ) {
        let tariff = price_and_subsidy(price, subsidy, step, mode);
        let cost = |kwh: i64| {
            let bills = json!([{ "id": "b", "from": "2025-03-03", "to": "2025-04-03" }]);
            let readings =
                format!("time,meter,import_wh\n{},M,0\n{},M,{}\n", instant(MONDAY_S), instant(MONDAY_S + 31 * 86_400), kwh * 1000);
            let files = BTreeMap::from([
                ("case.json", case(&bills, &json!({ "M": {} }))), ("tariff.json", tariff.to_string()), ("readings.csv", readings),
            ]);
            total(&run(&files))
        };
        let sale = json!([{ "id": "s", "kind": "vend", "at": "2025-03-05T06:00Z", "pay": pay.to_string() }]);
        let files = BTreeMap::from([
            ("case.json", case(&sale, &json!({ "M": {} }))), ("tariff.json", tariff.to_string()),
            ("readings.csv", "time,meter,import_wh\n2025-03-02T18:30Z,M,0\n".to_owned()),
        ]);
        let sold: i64 = run(&files)["bills"][0]["token_kwh"].as_str().unwrap().parse().unwrap();
        let paid = i64::from(pay) * 100;
        prop_assert!(sold == 0 || cost(sold) <= paid);
        for more in sold + 1..sold + 60 {
            prop_assert!(cost(more) > paid, "{sold} kWh were sold, but {more} cost {}", cost(more));
        }
    }
}
