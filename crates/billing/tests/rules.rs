//! One small case for each rule that price lists have and the published examples do not show. The answers are worked out by hand in the
//! comment beside each.

use std::collections::BTreeMap;

use billing::{case::Case, error::Fault};
use serde_json::{Value, json};

/// A tariff in euros and cents, Nairobi time (no clock change), lines to the cent, with further fields.
fn tariff(fields: &Value) -> Value {
    let mut tariff = json!({
        "schema": "gridtally-tariff/1", "id": "t", "name": "t", "currency": "EUR", "minor_digits": 2, "timezone": "Africa/Nairobi",
        "rounding": {},
    });
    for (key, value) in fields.as_object().unwrap() {
        tariff[key] = value.clone();
    }
    tariff
}

fn energy(rates: &Value) -> Value {
    json!({ "code": "ENERGY", "name": "E", "basis": "energy", "rates": rates })
}

/// Local midnight of a day in Nairobi, as a reading's time.
fn midnight(day: &str) -> String {
    let day: jiff::civil::Date = day.parse().unwrap();
    format!("{}T21:00Z", day.yesterday().unwrap())
}

struct Supply {
    tariffs: Vec<Value>,
    readings: String,
    case: Value,
}

impl Supply {
    fn new(tariff: Value, readings: &str, bills: &Value) -> Supply {
        let case = json!({
            "schema": "gridtally-case/1", "id": "c", "title": "c", "meters": { "M": {} }, "readings": "readings.csv", "bills": bills,
        });
        Supply { tariffs: vec![tariff], readings: readings.to_owned(), case }
    }

    fn with(mut self, field: &str, value: &Value) -> Supply {
        self.case[field] = value.clone();
        self
    }

    fn run(mut self) -> Result<Value, Fault> {
        let names: Vec<String> = (0..self.tariffs.len()).map(|n| format!("tariff-{n}.json")).collect();
        self.case["tariffs"] = json!(names);
        let mut files = BTreeMap::from([
            ("case.json".to_owned(), self.case.to_string()),
            ("readings.csv".to_owned(), self.readings),
        ]);
        files.extend(names.into_iter().zip(self.tariffs.iter().map(Value::to_string)));
        let open =
            |name: &str| files.get(name).map(|text| text.clone().into_bytes()).ok_or_else(|| "not there".to_owned());
        Case::read(&open)?.run().map(|results| serde_json::to_value(results).unwrap())
    }

    fn bills(self) -> Vec<Value> {
        self.run().unwrap_or_else(|fault| panic!("{fault}"))["bills"].as_array().unwrap().clone()
    }
}

/// Code, quantity and amount of every line.
fn lines(bill: &Value) -> Vec<(String, String, i64)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let one = |line: &Value| (text(line, "code"), text(line, "quantity"), line["amount"].as_i64().unwrap());
    bill["lines"].as_array().unwrap().iter().map(one).collect()
}

fn line(code: &str, quantity: &str, amount: i64) -> (String, String, i64) {
    (code.to_owned(), quantity.to_owned(), amount)
}

/// Registers at local midnights.
fn read(columns: &str, rows: &[(&str, &str)]) -> String {
    let rows: String = rows.iter().map(|(day, values)| format!("{},M,{values}\n", midnight(day))).collect();
    format!("time,meter,{columns}\n{rows}")
}

fn june() -> Value {
    json!([{ "id": "jun", "from": "2025-06-01", "to": "2025-07-01" }])
}

#[test]
fn the_customers_band_prices_all_units_of_a_token() {
    let price_list = tariff(&json!({
        "charges": [
            { "code": "ENERGY", "name": "E", "basis": "energy", "mode": "whole",
              "rates": [{ "max": "30", "rate": "10" }, { "max": "100", "rate": "20" }, { "rate": "30" }] },
            { "code": "VAT", "name": "V", "basis": "amount", "of": ["ENERGY"], "rates": [{ "percent": "10" }] },
        ],
        "rounding": { "energy": { "to": "0.1", "mode": "down" } },
    }));
    let sale = json!([{ "id": "s", "kind": "vend", "at": "2025-06-10T09:00Z", "pay": "1000.00" }]);
    let sold = |customer: &Value| {
        let readings = read("import_wh", &[("2025-06-01", "0")]);
        Supply::new(price_list.clone(), &readings, &sale).with("customer", customer).bills().remove(0)
    };
    // Band of 25 kWh: 11.00 a unit with tax; 90.9 × 11 = 999.90. Band of 84 kWh: 22.00; 45.4 × 22 = 998.80. Without one the token's own
    // energy counts: 45.4 lies in the second block as well.
    let low = sold(&json!({ "band_kwh": "25" }));
    assert_eq!(low["token_kwh"], "90.9");
    assert_eq!(lines(&low), [line("ENERGY", "90.9", 90_900), line("VAT", "909", 9_090), line("ROUND", "1", 10)]);
    let middle = sold(&json!({ "band_kwh": "84" }));
    assert_eq!(lines(&middle), [line("ENERGY", "45.4", 90_800), line("VAT", "908", 9_080), line("ROUND", "1", 120)]);
    assert_eq!(sold(&json!({}))["token_kwh"], "45.4");
    // Band of 140 kWh: 33.00; 30.3 × 33 = 999.90.
    assert_eq!(sold(&json!({ "band_kwh": "140" }))["token_kwh"], "30.3");
}

#[test]
fn net_metering_by_the_periods_of_switched_registers_needs_no_calendar() {
    let price_list = tariff(&json!({
        "export": { "rule": "net-metering", "by_period": true },
        "charges": [energy(&json!([{ "period": "peak", "rate": "10" }, { "period": "off", "rate": "4" }]))],
    }));
    let readings = read(
        "import_wh@peak,import_wh@off,export_wh@peak,export_wh@off",
        &[
            ("2025-06-01", "0,0,0,0"),
            ("2025-07-01", "100000,200000,130000,20000"),
            ("2025-08-01", "200000,250000,150000,80000"),
        ],
    );
    let bills = json!([
        { "id": "jun", "from": "2025-06-01", "to": "2025-07-01" }, { "id": "jul", "from": "2025-07-01", "to": "2025-08-01" },
    ]);
    let bills = Supply::new(price_list, &readings, &bills).bills();
    // June: peak 100 − 130 leaves 30 to carry; off 200 − 20 = 180 at 4. July: peak 100 − 20 − 30 = 50 at 10; off 50 − 60 leaves 10.
    assert_eq!(lines(&bills[0]), [line("ENERGY", "180", 72_000)]);
    assert_eq!(bills[0]["carry"]["kwh"], json!({ "peak": "30", "off": "0" }));
    assert_eq!(lines(&bills[1]), [line("ENERGY", "50", 50_000)]);
    assert_eq!(bills[1]["carry"]["kwh"], json!({ "peak": "0", "off": "10" }));
}

#[test]
fn a_register_of_a_period_that_the_tariff_does_not_have_is_not_dropped_silently() {
    let price_list = tariff(
        &json!({ "charges": [energy(&json!([{ "period": "day", "rate": "1" }, { "period": "night", "rate": "1" }]))] }),
    );
    let readings = read("import_wh@day,import_wh@nigth", &[("2025-06-01", "0,0"), ("2025-07-01", "1000,1000")]);
    let fault = Supply::new(price_list, &readings, &june()).run().unwrap_err();
    assert_eq!(fault.file, "readings.csv");
    assert!(fault.message.contains("\"nigth\""), "{fault}");
    // A surcharge in one period beside a price for all: every register is billed by the one, one of them by the other.
    let surcharge = tariff(&json!({ "charges": [
        energy(&json!([{ "rate": "1" }])),
        { "code": "PEAK", "name": "P", "basis": "energy", "rates": [{ "period": "day", "rate": "0.5" }] },
    ] }));
    let bill = Supply::new(surcharge, &readings, &june()).bills().remove(0);
    assert_eq!(lines(&bill), [line("ENERGY", "2", 200), line("PEAK", "1", 50)]);
    // A tariff without periods bills the sum of all registers.
    let flat = tariff(&json!({ "charges": [energy(&json!([{ "rate": "1" }]))] }));
    assert_eq!(lines(&Supply::new(flat, &readings, &june()).bills()[0]), [line("ENERGY", "2", 200)]);
}

#[test]
fn the_power_factor_is_that_of_the_bill_also_where_the_price_list_changes_inside() {
    let price_list = |id: &str, valid: &Value| {
        tariff(&json!({
            "id": id, "valid": valid, "pf": { "from": "kvah", "round": { "to": "0.01" } },
            "charges": [
                energy(&json!([{ "rate": "1" }])),
                { "code": "PF", "name": "P", "basis": "amount", "of": ["ENERGY"], "rates": [
                    { "if": [{ "what": "pf", "from": "0.90" }], "percent": "-1" },
                    { "if": [{ "what": "pf", "below": "0.90" }], "percent": "5" },
                ] },
            ],
        }))
    };
    let readings = read(
        "import_wh,import_vah",
        &[("2025-06-01", "0,0"), ("2025-06-16", "80000,100000"), ("2025-07-01", "180000,200000")],
    );
    let mut supply = Supply::new(price_list("a", &json!({ "to": "2025-06-15" })), &readings, &june());
    supply.tariffs.push(price_list("b", &json!({ "from": "2025-06-16" })));
    // 180 kWh over 200 kVAh is 0.90: one percent back on both parts, 80 and 100.
    let bill = supply.bills().remove(0);
    assert_eq!(
        lines(&bill),
        [line("ENERGY", "80", 8_000), line("PF", "80", -80), line("ENERGY", "100", 10_000), line("PF", "100", -100)]
    );
}

#[test]
fn a_time_that_ends_when_it_begins_is_the_whole_day() {
    let price_list = tariff(&json!({
        "periods": { "main": [{ "name": "sunday", "when": [{ "days": ["sun"], "from": "00:00", "to": "00:00" }] }, { "name": "rest", "when": [{}] }] },
        "charges": [energy(&json!([{ "period": "sunday", "rate": "1" }, { "period": "rest", "rate": "2" }]))],
    }));
    // 2025-06-01 is a Sunday: 24 kWh at 1, the other 24 at 2.
    let readings = read("import_wh", &[("2025-06-01", "0"), ("2025-06-02", "24000"), ("2025-06-03", "48000")]);
    let bill = Supply::new(price_list, &readings, &json!([{ "id": "b", "from": "2025-06-01", "to": "2025-06-03" }]))
        .bills()
        .remove(0);
    assert_eq!(lines(&bill), [line("ENERGY", "24", 2_400), line("ENERGY", "24", 4_800)]);
}

#[test]
fn a_holiday_that_is_treated_as_no_weekday_is_neither_weekday_nor_weekend() {
    let price_list = |as_day: Option<&str>| {
        let mut holidays = json!({ "dates": ["2025-06-04"] });
        if let Some(day) = as_day {
            holidays["as"] = day.into();
        }
        tariff(&json!({
            "holidays": holidays,
            "periods": { "main": [
                { "name": "work", "when": [{ "days": ["weekday"] }] }, { "name": "free", "when": [{ "days": ["weekend"] }] },
                { "name": "feast", "when": [{}] },
            ] },
            "charges": [energy(&json!([{ "period": "work", "rate": "3" }, { "period": "free", "rate": "2" }, { "period": "feast", "rate": "1" }]))],
        }))
    };
    // A Wednesday, 10 kWh.
    let readings = read("import_wh", &[("2025-06-04", "0"), ("2025-06-05", "10000")]);
    let bill = |as_day| {
        let wanted = json!([{ "id": "b", "from": "2025-06-04", "to": "2025-06-05" }]);
        Supply::new(price_list(as_day), &readings, &wanted).bills()[0]["total"].as_i64().unwrap()
    };
    assert_eq!([bill(None), bill(Some("holiday")), bill(Some("sun")), bill(Some("tue"))], [1_000, 1_000, 2_000, 3_000]);
}

#[test]
fn months_are_rounded_once_and_multiply_limits_contracts_and_minimum() {
    let price_list = tariff(&json!({
        "month_count": { "by": "days", "days": "30", "round": { "to": "0.5", "mode": "up" } },
        "charges": [
            { "code": "FIX", "name": "F", "basis": "month", "rates": [{ "rate": "10" }] },
            { "code": "YEAR", "name": "Y", "basis": "month", "per": "year", "rates": [{ "rate": "24" }] },
            { "code": "LOAD", "name": "L", "basis": "contract", "unit": "kVA", "rates": [{ "max": "2", "rate": "1" }, { "rate": "4" }] },
            energy(&json!([{ "max": "100", "rate": "0.1" }, { "rate": "0.2" }])),
            { "code": "MIN", "name": "M", "basis": "minimum", "of": ["ENERGY"], "per": "kVA", "rates": [{ "max": "1", "rate": "20" }, { "rate": "5" }] },
        ],
        "rounding": { "contract": { "to": "0.5", "mode": "up" } },
    }));
    let readings = read("import_wh", &[("2025-06-01", "0"), ("2025-07-04", "160000")]);
    let wanted = json!([{ "id": "b", "from": "2025-06-01", "to": "2025-07-04" }]);
    let bill = Supply::new(price_list, &readings, &wanted)
        .with("customer", &json!({ "contract_kva": "2.6" }))
        .bills()
        .remove(0);
    // 33 days are 1.1, rounded up 1.5 months; 2.6 kVA count as 3. Blocks up to 150 kWh. At least (20 + 2 × 5) × 1.5 = 45.
    assert_eq!(
        lines(&bill),
        [
            line("FIX", "1.5", 1_500),
            line("YEAR", "0.125", 300),
            line("LOAD", "3", 300),
            line("LOAD", "1.5", 600),
            line("ENERGY", "150", 1_500),
            line("ENERGY", "10", 200),
            line("MIN", "1", 2_800),
        ]
    );
}

#[test]
fn minimum_by_day_own_rounding_and_tax_inside_the_price() {
    let price_list = tariff(&json!({
        "charges": [
            { "code": "ENERGY", "name": "E", "basis": "energy", "round": { "to": "0.05", "mode": "half-even" },
              "rates": [{ "max": "3", "rate": "0.375" }, { "rate": "1", "round": { "to": "1", "mode": "up" } }] },
            { "code": "MIN", "name": "M", "basis": "minimum", "per": "day", "of": ["*"], "rates": [{ "rate": "0.5" }] },
            { "code": "TAX", "name": "T", "basis": "amount", "of": ["*"], "gross_up": true, "rates": [{ "percent": "20" }] },
        ],
        "rounding": { "total": { "to": "5", "mode": "half-even" } },
    }));
    let readings = read("import_wh", &[("2025-06-01", "0"), ("2025-06-11", "3200")]);
    let bill = Supply::new(price_list, &readings, &json!([{ "id": "b", "from": "2025-06-01", "to": "2025-06-11" }]))
        .bills()
        .remove(0);
    // 3 × 0.375 = 1.125 lies between 1.10 and 1.15: half to the even multiple, 1.10 (22 steps). 0.2 × 1 up to 1. Ten days: at least 5, so
    // 2.90 more. 5 × 20 / 80 = 1.25. 6.25 to a multiple of 5: 5.
    assert_eq!(
        lines(&bill),
        [
            line("ENERGY", "3", 110),
            line("ENERGY", "0.2", 100),
            line("MIN", "1", 290),
            line("TAX", "5", 125),
            line("ROUND", "1", -125),
        ]
    );
    assert_eq!(bill["total"], 500);
}

#[test]
fn demand_blocks_excess_and_a_ratchet_of_some_months() {
    let price_list = tariff(&json!({
        "demand": { "window_min": 30 },
        "charges": [
            { "code": "DEMAND", "name": "D", "basis": "demand", "unit": "kW", "ratchet": { "percent": "80", "lookback": 3, "months": [3, 4] },
              "rates": [{ "max": "5", "rate": "2" }, { "rate": "3" }] },
            { "code": "OVER", "name": "O", "basis": "demand", "unit": "kW", "use": "excess", "rates": [{ "rate": "7" }] },
            { "code": "BIG", "name": "B", "basis": "month", "if": [{ "what": "demand_kw", "over": "6.3" }], "rates": [{ "rate": "1" }] },
            { "code": "SMALL", "name": "S", "basis": "month", "if": [{ "what": "demand_kw", "upto": "6.4" }], "rates": [{ "rate": "2" }] },
        ],
        "rounding": { "demand": { "to": "0.5" } },
    }));
    let readings = read("import_wh,demand_w", &[("2025-06-01", "0,"), ("2025-07-01", "1000,6300")]);
    let supply = Supply::new(price_list, &readings, &june())
        .with("customer", &json!({ "contract_kw": "4.4" }))
        .with("opening", &json!({ "demand_history": { "2025-02": { "kW": "99" }, "2025-03": { "kW": "8.9" }, "2025-05": { "kW": "50" } } }));
    // 6.3 rounds to 6.5. February is too far back, May no month that counts: 80 % of March's 8.9 is 7.12, rounded 7. Excess 6.5 − 4.4.
    assert_eq!(
        lines(&supply.bills()[0]),
        [line("DEMAND", "5", 1_000), line("DEMAND", "2", 600), line("OVER", "2.1", 1_470), line("BIG", "1", 100)]
    );
}

#[test]
fn power_factor_from_reactive_energy_and_reactive_energy_above_a_free_share() {
    let price_list = tariff(&json!({
        "pf": { "from": "kvarh", "round": { "to": "0.001", "mode": "down" } },
        "charges": [
            energy(&json!([{ "rate": "1" }])),
            { "code": "VAR", "name": "V", "basis": "energy", "unit": "kvarh", "less": { "percent": "50", "of": "import" }, "rates": [{ "rate": "0.1" }] },
            { "code": "PF", "name": "P", "basis": "amount", "of": ["ENERGY"], "if": [{ "what": "pf", "is": "0.8" }], "rates": [{ "percent": "3" }] },
        ],
        "rounding": { "energy": { "to": "1" } },
    }));
    // 400 / √(400² + 300²) is 0.8 exactly. 300 kvarh less half of 400 kWh: 100.
    let readings = read("import_wh,import_varh", &[("2025-06-01", "0,0"), ("2025-07-01", "400000,300000")]);
    let bill = Supply::new(price_list, &readings, &june()).bills().remove(0);
    assert_eq!(lines(&bill), [line("ENERGY", "400", 40_000), line("VAR", "100", 1_000), line("PF", "400", 1_200)]);
}

#[test]
fn carried_money_is_paid_out_in_its_month_and_carried_energy_lapses_in_its() {
    let price_list = tariff(&json!({
        "export": { "rule": "net-metering" },
        "charges": [
            energy(&json!([{ "rate": "2" }])),
            { "code": "BONUS", "name": "B", "basis": "month", "credit": true, "rates": [{ "rate": "30" }] },
            { "code": "SETTLE", "name": "S", "basis": "settle", "months": [7], "rates": [{ "rate": "0.5" }] },
            { "code": "CREDIT", "name": "C", "basis": "carry", "of": ["*"], "settle": { "month": 8 } },
        ],
    }));
    let readings = read(
        "import_wh,export_wh",
        &[
            ("2025-06-01", "0,0"),
            ("2025-07-01", "10000,25000"),
            ("2025-08-01", "20000,30000"),
            ("2025-09-01", "21000,30000"),
        ],
    );
    let bills = json!([
        { "id": "6", "from": "2025-06-01", "to": "2025-07-01" }, { "id": "7", "from": "2025-07-01", "to": "2025-08-01" },
        { "id": "8", "from": "2025-08-01", "to": "2025-09-01" },
    ]);
    let bills = Supply::new(price_list, &readings, &bills).bills();
    // June: 10 − 25 carries 15 kWh; −30 carried. July: 10 − 5 − 15 carries 10 kWh, paid 5.00; −30 − 5 − 30 = −65 carried.
    // August: 1 kWh, −30, −65 brought forward: −93 paid out.
    assert_eq!(lines(&bills[0]), [line("BONUS", "1", -3_000), line("CREDIT-OUT", "1", 3_000)]);
    assert_eq!((&bills[0]["carry"]["money"], &bills[0]["carry"]["kwh"]["all"]), (&json!(3_000), &json!("15")));
    assert_eq!(
        lines(&bills[1]),
        [
            line("BONUS", "1", -3_000),
            line("SETTLE", "10", -500),
            line("CREDIT-IN", "1", -3_000),
            line("CREDIT-OUT", "1", 6_500),
        ]
    );
    assert_eq!(
        lines(&bills[2]),
        [line("ENERGY", "1", 200), line("BONUS", "1", -3_000), line("CREDIT-IN", "1", -6_500)]
    );
    assert_eq!((&bills[2]["total"], &bills[2]["carry"]["money"]), (&json!(-9_300), &json!(0)));
}

#[test]
fn a_second_correction_starts_from_the_first() {
    let price_list = tariff(&json!({ "charges": [energy(&json!([{ "rate": "1" }]))] }));
    let readings = format!(
        "time,meter,import_wh,flag,received\n{a},M,0,A,\n{b},M,100000,E,{b}\n{b},M,90000,C,{c}\n{b},M,95000,C,{d}\n{c},M,190000,A,\n{d},M,290000,A,\n",
        a = midnight("2025-06-01"),
        b = midnight("2025-07-01"),
        c = midnight("2025-08-01"),
        d = midnight("2025-09-01"),
    );
    let bills = json!([
        { "id": "6", "from": "2025-06-01", "to": "2025-07-01", "issued": "2025-07-02T00:00Z" },
        { "id": "7", "from": "2025-07-01", "to": "2025-08-01", "issued": "2025-08-02T00:00Z", "rerate": ["6"] },
        { "id": "8", "from": "2025-08-01", "to": "2025-09-01", "issued": "2025-09-02T00:00Z", "rerate": ["6", "7"] },
    ]);
    let bills = Supply::new(price_list, &readings, &bills).bills();
    // June 100 as estimated, then 90, then 95. July 100 from 90 to 190, then 95 from 95.
    assert_eq!(lines(&bills[1]), [line("ENERGY", "100", 10_000), line("RERATE", "1", -1_000)]);
    assert_eq!(lines(&bills[2]), [line("ENERGY", "100", 10_000), line("RERATE", "1", 500), line("RERATE", "1", -500)]);
    assert_eq!(
        bills.iter().map(|bill| bill["total"].as_i64().unwrap()).sum::<i64>(),
        29_000,
        "all that was read, once"
    );
}

#[test]
fn supply_ends_only_outside_of_friendly_hours_and_a_top_up_in_time_keeps_it() {
    let price_list = tariff(&json!({
        "charges": [energy(&json!([{ "rate": "1" }]))],
        "prepaid": { "disconnect_at": "2", "friendly": [{ "from": "18:00", "to": "10:30" }, { "days": ["sun"] }] },
    }));
    // Friday 6 June to Tuesday 10 June 2025, 4 kWh a day.
    let days = ["2025-06-06", "2025-06-07", "2025-06-08", "2025-06-09", "2025-06-10"];
    let rows: Vec<(&str, String)> = days.iter().enumerate().map(|(n, day)| (*day, (n * 4000).to_string())).collect();
    let rows: Vec<(&str, &str)> = rows.iter().map(|(day, value)| (*day, value.as_str())).collect();
    let order = |topups: &Value| json!([{ "id": "p", "kind": "prepaid", "from": "2025-06-06", "to": "2025-06-10", "opening_balance": "10.00", "topups": topups }]);
    let run =
        |topups: &Value| Supply::new(price_list.clone(), &read("import_wh", &rows), &order(topups)).bills().remove(0);
    let events = |result: &Value| -> Vec<(String, String, i64)> {
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        let list = result["events"].as_array().unwrap();
        list.iter()
            .map(|event| (text(event, "time"), text(event, "event"), event["balance"].as_i64().unwrap()))
            .collect()
    };
    let event = |time: &str, event: &str, balance: i64| (time.to_owned(), event.to_owned(), balance);
    // 10, 6 at Saturday 00:00, 2 at Sunday 00:00: spared until Monday 10:30 (07:30 UTC), when Sunday has been debited as well.
    let ended = run(&json!([]));
    assert_eq!(events(&ended), [event("2025-06-09T07:30Z", "disconnect", -200)]);
    assert_eq!(
        (&ended["closing_balance"], &ended["connected"], &ended["total"]),
        (&json!(-600), &json!(false), &json!(1_600))
    );
    // In the very minute of the cut-off money comes first.
    let kept = run(&json!([{ "time": "2025-06-09T07:30Z", "amount": "20.00" }]));
    assert_eq!(events(&kept), [event("2025-06-09T07:30Z", "topup", 1_800)]);
    // Too little does not bring supply back: not above the limit.
    let little = run(
        &json!([{ "time": "2025-06-09T08:00Z", "amount": "4.00" }, { "time": "2025-06-09T09:00Z", "amount": "0.01" }]),
    );
    assert_eq!(
        events(&little),
        [
            event("2025-06-09T07:30Z", "disconnect", -200),
            event("2025-06-09T08:00Z", "topup", 200),
            event("2025-06-09T09:00Z", "topup", 201),
            event("2025-06-09T09:00Z", "reconnect", 201),
        ]
    );
}

#[test]
fn the_sentences_say_everything_that_changes_a_bill() {
    let price_list = tariff(&json!({
        "month_count": { "by": "days", "days": "30", "round": { "to": "0.1" } },
        "holidays": { "dates": ["2025-06-02", "2025-06-04"], "as": "sun" },
        "periods": { "main": [{ "name": "all", "when": [{}] }] },
        "demand": { "window_min": 15 }, "pf": { "from": "kvarh", "round": { "to": "0.01" } },
        "export": { "rule": "net-billing", "net_window_min": 60 },
        "series": { "spot": { "file": "spot.csv", "column": "p" } },
        "charges": [
            { "code": "ENERGY", "name": "E", "basis": "energy", "tier_over": "all", "rates": [{ "series": "spot", "mul": "2", "cap": "0.9" }] },
            { "code": "DEMAND", "name": "D", "basis": "demand", "unit": "kVA", "floor": { "percent": "75", "at_least": "20" },
              "ratchet": { "percent": "80", "lookback": 11, "months": [6, 7] }, "rates": [{ "rate": "3" }] },
            { "code": "CREDIT", "name": "C", "basis": "carry", "of": ["ENERGY"], "settle": { "month": 12 } },
            { "code": "SETTLE", "name": "S", "basis": "settle", "months": [3, 9], "rates": [{ "rate": "0.05" }] },
        ],
    }));
    let (tariff, _) = billing::tariff::check::read("t.json", &price_list.to_string()).unwrap();
    let said = billing::tariff::describe::sentences(&tariff).join("\n");
    for words in [
        "A month is 30 days, rounded half-up to 0.1.",
        "2 holidays from 2025-06-02 to 2025-06-04 count as Sun.",
        "Demand is the largest mean of 15 minutes.",
        "The power factor is kWh / √(kWh² + kvarh²) of the bill, rounded half-up to 0.01.",
        "netted inside each 60 minutes",
        "what \"spot\" says for the interval × 2, at most 0.9 per kWh, blocks over all periods together",
        "3 per kVA of maximum demand and month, at least 75 % of the contract, at least 20 kVA, at least 80 % of the highest of the \
         preceding 11 months (of Jun Jul)",
        "CREDIT – C: a credit over ENERGY is carried to the next bill, and paid out in Dec.",
        "SETTLE – S: 0.05 paid per kWh that is still carried in Mar Sep, which is then cleared.",
    ] {
        assert!(said.contains(words), "{words}\nis not in\n{said}");
    }
}
