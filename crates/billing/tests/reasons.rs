//! Why a bill is what it is, what it would be, and that the packed engine makes the same bill.

use std::collections::BTreeMap;

use billing::{
    bill::Account,
    bulk::Batch,
    calendar::write_instant,
    case::{Case, Wanted},
    compare,
    customer::Customer,
    explain, forecast,
};
use jiff::civil::date;
use serde_json::json;

const TARIFF: &str = r#"{"schema":"gridtally-tariff/1","id":"tou","name":"T","currency":"EUR","minor_digits":2,"timezone":"Europe/Berlin",
 "demand":{"window_min":15},"rounding":{"line":{"to":"0.01"}},
 "periods":{"main":[{"name":"peak","when":[{"days":["weekday"],"from":"17:00","to":"20:00"}]},{"name":"off","when":[{}]}]},
 "charges":[{"code":"ENERGY","name":"E","basis":"energy","rates":[{"period":"peak","rate":"0.41"},{"period":"off","rate":"0.19"}]},
 {"code":"BLOCKS","name":"B","basis":"energy","rates":[{"max":"50","rate":"0.01"},{"rate":"0.02"}]},
 {"code":"DEMAND","name":"D","basis":"demand","unit":"kW","calendar":"main","rates":[{"period":"peak","rate":"5"},{"period":"off","rate":"1"}]},
 {"code":"VAT","name":"V","basis":"amount","of":["*"],"rates":[{"percent":"19"}]}]}"#;

/// Midnight of 2025-10-01 in Berlin; the month has 745 hours.
const OCTOBER_S: i64 = 1_759_269_600;
const QUARTERS: usize = 745 * 4;

fn quarter(index: usize) -> u32 {
    u32::try_from(index * 7919 % 613).unwrap()
}

fn files(quarters: usize, to: &str) -> BTreeMap<&'static str, String> {
    let mut readings = "time,meter,import_wh\n".to_owned();
    let mut register = 1_000u64;
    for index in 0..=quarters {
        readings
            .push_str(&format!("{},M,{register}\n", write_instant(OCTOBER_S + 900 * i64::try_from(index).unwrap())));
        register += u64::from(quarter(index));
    }
    let case = json!({
        "schema": "gridtally-case/1", "id": "r", "title": "r", "meters": { "M": {} }, "tariffs": ["tariff.json"],
        "readings": "readings.csv", "bills": [{ "id": "oct", "from": "2025-10-01", "to": to }],
    });
    BTreeMap::from([("case.json", case.to_string()), ("tariff.json", TARIFF.to_owned()), ("readings.csv", readings)])
}

fn read(files: &BTreeMap<&str, String>) -> Case {
    Case::read(&|name: &str| {
        files.get(name).map(|text| text.clone().into_bytes()).ok_or_else(|| "not there".to_owned())
    })
    .unwrap()
}

#[test]
fn the_packed_engine_makes_the_bill_of_the_readings() {
    let case = read(&files(QUARTERS, "2025-11-01"));
    let (_, bill) = case.bills().unwrap().pop().unwrap();
    let batch = Batch::new(&case.tariffs[0], date(2025, 10, 1), date(2025, 11, 1), 900).unwrap();
    let steps: Vec<u32> = (0..QUARTERS).map(quarter).collect();
    assert_eq!(batch.steps(), QUARTERS, "a month with the 25-hour day");
    let nobody = Customer::default();
    let threads = std::num::NonZero::new(3).unwrap();
    for made in batch.bills(&[(steps.as_slice(), &nobody); 5], threads) {
        let made = made.unwrap();
        assert_eq!(made.part.lines, bill.parts[0].lines);
        assert_eq!(made.total, bill.total);
    }
    assert!(batch.bill(&steps[1..], &nobody, &mut Account::default()).is_err(), "a step is missing");
}

#[test]
fn every_line_says_its_clause_quantity_and_rounding() {
    let case = read(&files(QUARTERS, "2025-11-01"));
    let bills = case.bills().unwrap();
    let explanation = explain::bill(&case.supply(), &bills[0].0, &bills[0].1).unwrap();
    let text = serde_json::to_value(&explanation).unwrap();
    let lines = text["lines"].as_array().unwrap();
    assert_eq!(lines[0]["clause"], "tariff.json charges[0].rates[0]");
    let last = 1000 + (0..QUARTERS).map(|n| u64::from(quarter(n))).sum::<u64>();
    let registers = format!(
        "meter M: 1000 at 2025-09-30T22:00Z (row 2) to {last} at 2025-10-31T23:00Z (row 2982), 2980 intervals, "
    );
    let of_period = |line: &serde_json::Value| -> usize {
        let words = line["quantity_from"][0].as_str().unwrap();
        let own = words.strip_prefix(registers.as_str()).unwrap_or_else(|| panic!("{words}"));
        let (count, name) = own.split_once(" of them in ").unwrap();
        assert_eq!(name, line["period"].to_string());
        count.parse().unwrap()
    };
    let energy = lines.iter().filter(|line| line["code"] == lines[0]["code"] && line["period"].is_string());
    assert_eq!(energy.map(of_period).sum::<usize>(), QUARTERS, "each interval belongs to one period");
    assert!(lines[0]["amount_from"].as_str().unwrap().contains("half-up to 0.01"));
    let demand = lines.iter().find(|line| line["code"] == "DEMAND").unwrap();
    assert!(demand["quantity_from"][0].as_str().unwrap().starts_with("largest at 2025-10-"), "{demand}");
    let vat = lines.last().unwrap();
    assert_eq!(vat["quantity_from"].as_array().unwrap().len(), lines.len() - 1, "the lines it is of");
}

#[test]
fn two_bills_are_compared_line_by_line() {
    let case = read(&files(QUARTERS, "2025-11-01"));
    let bill = case.bills().unwrap().pop().unwrap().1;
    let mut other = bill.clone();
    let taken = other.parts[0].lines.remove(0);
    other.parts[0].lines[0].amount += 7;
    let comparison = compare::bills("oct", (&bill.parts, bill.total), (&other.parts, bill.total + 7 - taken.amount));
    assert_eq!(comparison.lines.len(), bill.parts[0].lines.len());
    assert_eq!((comparison.lines[0].before, comparison.lines[0].after), (taken.amount, 0));
    assert_eq!(comparison.lines[1].difference, 7);
    assert_eq!(comparison.lines.iter().map(|line| line.difference).sum::<i64>(), comparison.difference);
}

#[test]
fn a_running_bill_is_forecast_between_bounds() {
    // Ten days known of thirty-one.
    let known = 10 * 96;
    let case = read(&files(known, "2025-11-01"));
    let Wanted::Bill(order) = &case.wanted[0] else { panic!("a bill") };
    let forecast = forecast::running_bill(&case.supply(), order, &Account::default(), date(2025, 10, 11)).unwrap();
    let [low, expected, high] = forecast.total;
    assert!(low < expected && expected < high && forecast.so_far < low, "{forecast:?}");
    assert_eq!((forecast.known_days, forecast.days_ahead), (10, 21));
    assert!(forecast.read_daily);
    // October 2025: the first ten days have eight working and two free days; 15 and 6 lie ahead.
    let day = |day: usize| (day * 96..(day + 1) * 96).map(|n| i128::from(quarter(n))).sum::<i128>();
    let (free, all) = (day(3) + day(4), (0..10).map(day).sum::<i128>());
    let whole_wh = all + (all - free) * 15 / 8 + free * 6 / 2;
    assert_eq!(forecast.kwh[1], billing::exact::Exact::fraction(whole_wh, 1000).unwrap());
    // The days to come are like those known: the true bill lies inside.
    let whole = read(&files(QUARTERS, "2025-11-01")).bills().unwrap().pop().unwrap().1;
    assert!((low..=high).contains(&whole.total), "{low} {} {high}", whole.total);
    let early = forecast::running_bill(&case.supply(), order, &Account::default(), date(2025, 10, 3));
    assert!(early.unwrap_err().message.contains("at least 3 days"));
}
