//! No input makes a panic, an overflow or an endless run: tariffs with any numbers, files with any bytes.

use std::collections::BTreeMap;

use billing::{case::Case, tariff::check, urdb};
use proptest::prelude::*;
use serde_json::{Value, json};

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("0".to_owned()),
        (0u32..2000, 0u32..1000).prop_map(|(whole, rest)| format!("{whole}.{rest:03}")),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<i128>().prop_map(|n| n.to_string()),
        "[0-9]{1,20}\\.[0-9]{1,18}",
        "-?[0-9]{38}",
        Just("0.000000000000000000000000000001".to_owned()),
    ]
}

fn pick(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(words)
}

fn condition() -> impl Strategy<Value = Value> {
    let what = pick(&[
        "import_kwh",
        "demand_kw",
        "demand_kva",
        "pf",
        "days",
        "months",
        "history_max_kwh:3",
        "phase",
        "contract_kw",
    ]);
    (what, pick(&["over", "from", "upto", "below", "is"]), number(), any::<bool>()).prop_map(
        |(what, test, limit, per)| {
            let mut condition = json!({ "what": what, test: limit });
            if per {
                condition["per"] = "month".into();
            }
            condition
        },
    )
}

fn rate(percent: bool) -> impl Strategy<Value = Value> {
    let max = prop::option::of(number());
    let period = prop::option::weighted(0.2, pick(&["a", "b"]));
    (number(), prop::option::of(number()), max, period, prop::collection::vec(condition(), 0..2)).prop_map(
        move |(price, adj, max, period, conditions)| {
            let mut rate = json!({ if percent { "percent" } else { "rate" }: price, "if": conditions });
            for (key, value) in [("adj", adj.filter(|_| !percent)), ("max", max), ("period", period.map(str::to_owned))]
            {
                if let Some(value) = value {
                    rate[key] = value.into();
                }
            }
            rate
        },
    )
}

fn charge() -> impl Strategy<Value = Value> {
    let basis = pick(&["energy", "demand", "month", "day", "contract", "amount", "minimum", "carry", "settle"]);
    (basis, any::<[bool; 6]>(), number(), pick(&["month", "day", "kW"]), pick(&["kWh", "kVAh", "kvarh"])).prop_flat_map(
        |(basis, flags, percent, per, unit)| {
            prop::collection::vec(rate(basis == "amount"), 1..4).prop_map(move |rates| {
                let mut charge = json!({ "code": basis.to_uppercase(), "name": basis, "basis": basis, "rates": rates, "credit": flags[0] });
                match basis {
                    "energy" => {
                        charge["mode"] = if flags[1] { "whole".into() } else { "block".into() };
                        charge["tier_over"] = if flags[2] { "all".into() } else { "self".into() };
                        charge["max_per"] = per.into();
                        charge["unit"] = unit.into();
                        charge["flow"] = if flags[3] && unit == "kWh" { "export".into() } else { "import".into() };
                    }
                    "demand" => {
                        charge["unit"] = if flags[1] { "kVA".into() } else { "kW".into() };
                        charge["ratchet"] = json!({ "percent": percent.trim_start_matches('-'), "lookback": 11 });
                        charge["use"] = if flags[2] { "excess".into() } else { "billing".into() };
                    }
                    "amount" => {
                        charge["of"] = json!(["*"]);
                        charge["gross_up"] = flags[1].into();
                    }
                    "minimum" => {
                        charge["of"] = json!(["ENERGY", "MONTH"]);
                        charge["per"] = per.into();
                    }
                    "carry" => charge["of"] = json!(["*"]),
                    "settle" => charge["months"] = json!([1, 2, 3]),
                    _ => {}
                }
                charge
            })
        },
    )
}

fn tariff() -> impl Strategy<Value = Value> {
    let export = prop::option::of(pick(&["net-metering", "net-billing"]));
    let zone = pick(&["Europe/London", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"]);
    let step = prop_oneof![Just("1".to_owned()), Just("0.01".to_owned()), number()];
    (prop::collection::vec(charge(), 1..6), export, zone, step, 0u32..5, pick(&["bill", "calendar", "days"]), number()).prop_map(
        |(charges, export, zone, step, digits, by, days)| {
            let mut tariff = json!({
                "schema": "gridtally-tariff/1", "id": "f", "name": "f", "currency": "EUR", "minor_digits": digits, "timezone": zone,
                "month_count": { "by": by, "days": days }, "charges": charges, "demand": { "window_min": 60 }, "pf": { "from": "kvarh" },
                "periods": { "main": [{ "name": "a", "when": [{ "from": "22:00", "to": "06:00" }] }, { "name": "b", "when": [{}] }] },
                "rounding": { "energy": { "to": step, "mode": "half-even" }, "demand": { "to": step } },
            });
            if let Some(rule) = export {
                tariff["export"] = json!({ "rule": rule, "net_window_min": 60 });
            }
            tariff
        },
    )
}

fn readings(scale: u64) -> String {
    let mut text = "time,meter,import_wh,export_wh,import_vah,import_varh\n".to_owned();
    for hour in 0..=72u64 {
        let at_s = 1_735_600_000 / 3600 * 3600 + i64::try_from(hour).unwrap() * 3600;
        let at = billing::calendar::write_instant(at_s);
        let registers = [3, 1, 4, 2].map(|n| (hour * n * scale) % 9_000_000_000_000_000_000);
        text.push_str(&format!("{at},M,{},{},{},{}\n", registers[0], registers[1], registers[2], registers[3]));
    }
    text
}

/// Runs a case; only the way it ends is of interest.
fn run(tariff: &str, scale: u64, multiplier: &str, bill: &Value) -> Result<(), String> {
    let case = json!({
        "schema": "gridtally-case/1", "id": "f", "title": "f", "customer": { "phase": "1", "contract_kw": "5", "contract_kva": "6" },
        "meters": { "M": { "multiplier": multiplier } }, "tariffs": ["tariff.json"], "readings": "readings.csv", "bills": [bill],
    });
    let files = BTreeMap::from([
        ("case.json", case.to_string()),
        ("tariff.json", tariff.to_owned()),
        ("readings.csv", readings(scale)),
    ]);
    let open = |name: &str| files.get(name).map(|text| text.clone().into_bytes()).ok_or_else(|| "not there".to_owned());
    let case = Case::read(&open).map_err(|fault| fault.to_string())?;
    case.run().map(|_| ()).map_err(|fault| fault.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_tariff_rates_or_says_why_not(
        tariff in tariff(), scale in prop_oneof![1u64..5000, any::<u64>().prop_map(|n| n >> 9)], multiplier in pick(&["1", "0.001", "600"]),
        vend in any::<bool>(),
    ) {
        let bill = if vend {
            json!({ "id": "v", "kind": "vend", "at": "2025-01-01T10:00Z", "pay": "100", "months_due": "1" })
        } else {
            json!({ "id": "b", "from": "2025-01-01", "to": "2025-01-02" })
        };
        if let Err(why) = run(&tariff.to_string(), scale, multiplier, &bill) {
            prop_assert!(why.contains(": "), "{why}");
        }
    }

    #[test]
    fn any_text_is_a_tariff_or_a_finding(text in "\\PC{0,200}", cut in 0usize..2000, file in pick(&["t.json", "t.toml"])) {
        let whole = include_str!("cases/in-kseb-2019-117/tariff.json");
        let cut = whole.char_indices().map(|(at, _)| at).take_while(|at| *at <= cut).last().unwrap_or(0);
        for text in [text.as_str(), &whole[..cut], &format!("{}{text}{}", &whole[..cut], &whole[cut..])] {
            if let Err(findings) = check::read(file, text) {
                prop_assert!(findings.iter().all(|finding| !finding.remedy.is_empty()));
            }
            let _draft_or_error = urdb::import(text, None);
        }
    }

    #[test]
    fn any_bytes_are_readings_or_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let meters = vec![billing::readings::Meter { name: "M".into(), multiplier: billing::exact::Exact::ONE, rollover_wh: None }];
        if let Err(fault) = billing::readings::Readings::read("r.csv", &bytes, meters) {
            prop_assert!(!fault.message.is_empty());
        }
    }
}

/// A file of a case with a piece cut out, doubled, or put in place of another.
fn damaged(text: &str, (kind, from, length, byte): (u8, usize, usize, u8)) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    let from = from % bytes.len().max(1);
    let to = (from + length).min(bytes.len());
    match kind {
        0 => drop(bytes.drain(from..to)),
        1 => bytes.truncate(from),
        2 => {
            let piece = bytes[from..to].to_vec();
            bytes.splice(from..from, piece);
        }
        3 => bytes[from] = byte,
        // A digit becomes many: numbers beyond what fits.
        _ => match bytes[from..].iter().position(u8::is_ascii_digit) {
            Some(at) => drop(bytes.splice(from + at..from + at, std::iter::repeat_n(b'9', length))),
            None => bytes.clear(),
        },
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Published cases with one file damaged: a result or a fault that names the file, never a panic.
    #[test]
    fn a_damaged_case_folder_is_a_result_or_a_fault(
        folder in any::<prop::sample::Index>(), file in any::<prop::sample::Index>(),
        damage in (0u8..5, any::<usize>(), 1usize..40, any::<u8>()),
    ) {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
        let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        let folder = folder.get(&folders);
        let mut files = BTreeMap::new();
        for name in ["case.json", "tariff.json", "readings.csv"] {
            files.insert(name, std::fs::read(folder.join(name)).unwrap());
        }
        let name = *file.get(&["case.json", "tariff.json", "readings.csv"]);
        let whole = String::from_utf8(files[name].clone()).unwrap();
        files.insert(name, damaged(&whole, damage));
        let open = |name: &str| files.get(name).cloned().ok_or_else(|| "not there".to_owned());
        if let Err(fault) = Case::read(&open).and_then(|case| case.run()) {
            prop_assert!(!fault.file.is_empty() && !fault.message.is_empty(), "{fault}");
        }
    }
}
