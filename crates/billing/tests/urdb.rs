//! Records of the Utility Rate Database become tariffs that bill; what cannot be carried is told, with its field.

use std::collections::BTreeMap;

use billing::{
    case::Case,
    tariff::check::{self, Weight},
    urdb::{self, Imported},
};
use serde_json::{Value, json};

/// Twelve months of 24 hours of period 0, with period 1 in some hours of some months (from 0).
fn schedule(months: std::ops::Range<usize>, hours: std::ops::Range<usize>) -> Value {
    (0..12)
        .map(|m| (0..24).map(|h| json!(u8::from(months.contains(&m) && hours.contains(&h)))).collect::<Value>())
        .collect()
}

fn record(fields: &Value) -> Value {
    let mut record = json!({
        "label": "5a", "name": "Rate", "utility": "Utility", "country": "USA",
        "energyratestructure": [[{ "rate": 0.1, "unit": "kWh" }], [{ "rate": 0.2, "adj": 0.05, "unit": "kWh" }]],
        "energyweekdayschedule": schedule(0..12, 16..21), "energyweekendschedule": schedule(0..0, 0..0),
    });
    for (key, value) in fields.as_object().unwrap() {
        record[key] = value.clone();
    }
    record
}

fn import(record: &Value) -> Imported {
    urdb::import(&record.to_string(), Some("America/Chicago")).unwrap_or_else(|why| panic!("{why}"))
}

fn charge<'a>(imported: &'a Imported, code: &str) -> &'a Value {
    let charges = imported.tariff["charges"].as_array().unwrap();
    charges.iter().find(|charge| charge["code"] == code).unwrap_or_else(|| panic!("no {code} in {charges:?}"))
}

#[track_caller]
fn told(imported: &Imported, field: &str, words: &str) {
    let hit = imported.open.iter().any(|open| open.starts_with(field) && open.contains(words));
    assert!(hit, "nothing of {field} \"{words}\" in {:?}", imported.open);
}

#[track_caller]
fn accepted(imported: &Imported) {
    let text = imported.tariff.to_string();
    let (_, findings) = check::read("t.json", &text).unwrap_or_else(|findings| panic!("{findings:?}"));
    assert!(findings.iter().all(|finding| finding.weight < Weight::Questioned), "{findings:?}");
}

/// The totals of two days, Wednesday 8 and Saturday 11 January 2025 in Chicago, with 1 kWh in every hour.
fn totals(imported: &Imported) -> Vec<i64> {
    let begins_s = 1_736_316_000i64;
    let row = |hour: i64| format!("{},M,{}\n", billing::calendar::write_instant(begins_s + hour * 3600), hour * 1000);
    let readings = format!("time,meter,import_wh\n{}", (0..=96).map(row).collect::<String>());
    let case = json!({
        "schema": "gridtally-case/1", "id": "c", "title": "c", "meters": { "M": {} }, "tariffs": ["t.json"], "readings": "r.csv",
        "bills": [{ "id": "w", "from": "2025-01-08", "to": "2025-01-09" }, { "id": "s", "from": "2025-01-11", "to": "2025-01-12" }],
    });
    let mut tariff = imported.tariff.clone();
    if tariff.get("demand").is_some() {
        tariff["demand"] = json!({ "window_min": 60 });
    }
    let files = BTreeMap::from([("case.json", case.to_string()), ("t.json", tariff.to_string()), ("r.csv", readings)]);
    let open = |name: &str| files.get(name).map(|text| text.clone().into_bytes()).ok_or_else(|| "not there".to_owned());
    let results = Case::read(&open).and_then(|case| case.run()).unwrap_or_else(|fault| panic!("{fault}"));
    let results = serde_json::to_value(results).unwrap();
    results["bills"].as_array().unwrap().iter().map(|bill| bill["total"].as_i64().unwrap()).collect()
}

#[test]
fn hours_of_use_fixed_and_minimum_are_carried_and_billed() {
    let imported = import(&record(&json!({
        "fixedchargefirstmeter": 5, "fixedchargeunits": "$/month", "mincharge": 8.5, "minchargeunits": "$/month",
    })));
    accepted(&imported);
    // Wednesday: 19 h at 0.10, 5 h at 0.25, 5.00: 8.15, topped up to 8.50. Saturday: 24 h at 0.10 and 5.00: 7.40, to 8.50.
    assert_eq!(totals(&imported), [850, 850]);
    assert_eq!(charge(&imported, "MINIMUM")["of"], json!(["FIXED", "ENERGY"]));
    let yearly = import(&record(&json!({ "fixedchargefirstmeter": 1, "fixedchargeunits": "$/day" })));
    assert_eq!(totals(&yearly), [415, 340]);
}

#[test]
fn a_ratchet_is_carried_under_either_spelling_of_its_fields() {
    let demand = json!({ "flatdemandstructure": [[{ "rate": 10.0 }]], "flatdemandmonths": [0,0,0,0,0,0,0,0,0,0,0,0], "flatdemandunit": "kW",
        "demandwindow": 30 });
    let with = |more: Value| {
        let mut record = record(&demand);
        for (key, value) in more.as_object().unwrap() {
            record[key] = value.clone();
        }
        import(&record)
    };
    for (percent, range, months) in
        [("lookbackPercent", "lookbackRange", "lookbackMonths"), ("lookbackpercent", "lookbackrange", "lookbackmonths")]
    {
        let imported = with(json!({ percent: 0.8, range: 6, months: [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0] }));
        accepted(&imported);
        assert_eq!(
            charge(&imported, "DEMAND")["ratchet"],
            json!({ "percent": "80", "lookback": 6, "months": [6, 7, 8] })
        );
        assert_eq!(imported.tariff["demand"]["window_min"], 30);
    }
    let older = with(json!({ "demandratchetpercentage": [0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5] }));
    assert_eq!(charge(&older, "DEMAND")["ratchet"], json!({ "percent": "50", "lookback": 11 }));
    let seasonal = with(json!({ "demandratchetpercentage": [0.5,0.5,0.5,0.5,0.9,0.9,0.5,0.5,0.5,0.5,0.5,0.5] }));
    assert!(charge(&seasonal, "DEMAND").get("ratchet").is_none());
    told(&seasonal, "demandratchetpercentage", "differs by month");
    told(&import(&record(&json!({ "lookbackPercent": 80 }))), "lookbackpercent", "without a demand charge");
}

#[test]
fn units_of_demand_are_carried_or_told() {
    let unit = |fields: Value| {
        let mut own =
            json!({ "flatdemandstructure": [[{ "rate": 1 }]], "flatdemandmonths": [0,0,0,0,0,0,0,0,0,0,0,0] });
        own.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        import(&record(&own))
    };
    assert_eq!(charge(&unit(json!({ "flatdemandunit": "kVA" })), "DEMAND")["unit"], "kVA");
    assert_eq!(charge(&unit(json!({ "demandunits": "kVA" })), "DEMAND")["unit"], "kVA");
    told(&unit(json!({ "flatdemandunit": "kW daily" })), "flatdemandunit", "kW daily");
    told(&unit(json!({ "demandunits": "hp" })), "flatdemandunit", "hp");
}

#[test]
fn tiers_that_are_never_reached_or_end_are_told() {
    let tiers = |tiers: Value| {
        import(&record(&json!({ "energyratestructure": [tiers], "energyweekdayschedule": schedule(0..0, 0..0) })))
    };
    let open_end = tiers(json!([{ "max": 10, "rate": 0.1 }, { "max": 1e38, "rate": 0.2 }, { "max": 50, "rate": 0.3 }]));
    accepted(&open_end);
    told(&open_end, "energyratestructure[0][1]", "never reached");
    assert_eq!(totals(&open_end), [100 + 280, 100 + 280]);
    let closed = tiers(json!([{ "max": 10, "rate": 0.1 }, { "max": 500, "rate": 0.2 }]));
    told(&closed, "energyratestructure[0][1]", "ends at 500");
    told(&tiers(json!([{ "unit": "kWh" }])), "energyratestructure[0][0]", "no rate");
}

#[test]
fn export_follows_the_rule_and_what_it_leaves_out_is_told() {
    let sells = json!([[{ "max": 100, "rate": 0.1, "sell": 0.03 }, { "rate": 0.2, "sell": 0.04 }], [{ "rate": 0.2, "sell": 0.05 }]]);
    let by_rule = |fields: Value| {
        let mut own = json!({ "energyratestructure": sells, "mincharge": 2 });
        own.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        import(&record(&own))
    };
    let hourly = by_rule(json!({ "dgrules": "Net Billing Hourly" }));
    assert_eq!(hourly.tariff["export"], json!({ "rule": "net-billing", "net_window_min": 60 }));
    assert_eq!(
        charge(&hourly, "EXPORT")["rates"],
        json!([{ "period": "e0", "rate": "0.03" }, { "period": "e1", "rate": "0.05" }])
    );
    told(&hourly, "energyratestructure[0]", "0.03, 0.04");
    for net in [by_rule(json!({ "dgrules": "Net Metering" })), by_rule(json!({ "usenetmetering": true }))] {
        accepted(&net);
        assert_eq!(net.tariff["export"], json!({ "rule": "net-metering", "calendar": "energy", "by_period": true }));
        assert_eq!(charge(&net, "MINIMUM")["of"], json!(["ENERGY"]), "what is left out is not looked back at");
        told(&net, "dgrules", "settle");
        told(&net, "energyratestructure", "was left out");
    }
    told(&by_rule(json!({ "dgrules": "Feed-in" })), "dgrules", "Feed-in");
}

#[test]
fn what_has_a_price_or_a_date_is_never_left_out_silently() {
    let imported = import(&record(&json!({
        "startdate": 1_372_658_400, "enddate": 1_401_580_800.0, "country": "CAN", "demandreactivepowercharge": 2.7, "annualmincharge": 12,
        "fixedchargeeaaddl": 3, "coincidentratestructure": [[{ "rate": 0.79 }]], "energycomments": "Riders apply", "energytoulabels": [],
    })));
    for (field, words) in [
        ("startdate", "2013-07-01"),
        ("enddate", "2014-06-01"),
        ("country", "CAN"),
        ("demandreactivepowercharge", "2.7"),
        ("annualmincharge", "12"),
        ("fixedchargeeaaddl", "3"),
        ("coincidentratestructure", "0.79"),
        ("energycomments", "Riders"),
    ] {
        told(&imported, field, words);
    }
    let no_schedule = import(&json!({ "energyratestructure": [[{ "rate": 1 }], [{ "rate": 2 }]] }));
    told(&no_schedule, "energyweekdayschedule", "is missing");
    let several = json!({ "items": [record(&json!({})), record(&json!({}))] });
    told(&import(&several), "items", "2 records");
}

#[test]
fn what_is_no_record_says_so() {
    for (text, words) in [
        ("{}", "holds no record"),
        ("[]", "holds no record"),
        ("{\"items\":[]}", "holds no record"),
        ("{", "JSON"),
        ("{\"energyratestructure\": 3}", "no list of periods"),
        ("{\"energyratestructure\": [[{\"rate\": \"x\"}]]}", "no number"),
        (
            "{\"energyratestructure\": [[{\"rate\": 1, \"max\": 9, \"unit\": \"kWh\"}, {\"rate\": 1, \"unit\": \"kWh/kW\"}]]}",
            "kWh and kWh/kW",
        ),
        ("{\"energyratestructure\": [[{\"rate\": 1}]], \"energyweekdayschedule\": [[0]]}", "12 months"),
        ("{\"fixedchargefirstmeter\": {}}", "no number"),
    ] {
        let why = urdb::import(text, None).unwrap_err().to_string();
        assert!(why.contains(words), "{text}: {why}");
    }
}
