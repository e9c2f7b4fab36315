//! What cannot be is refused with line, field and remedy; the recipe's tariff is accepted, in TOML.

use billing::tariff::check::{Finding, Weight, read};

const GOOD: &str = r#"{
 "schema": "gridtally-tariff/1", "id": "t", "name": "T", "currency": "EUR", "minor_digits": 2,
 "timezone": "Europe/Berlin",
 "valid": {"from": "2025-01-01", "to": "2025-12-31"},
 "seasons": {"summer": [{"from": "04-01", "to": "09-30"}]},
 "periods": {"main": [{"name": "night", "when": [{"from": "22:00", "to": "06:00"}]},
  {"name": "day", "when": [{}]}]},
 "charges": [
  {"code": "ENERGY", "name": "E", "basis": "energy", "rates": [{"period": "night", "rate": "0.2"},
   {"period": "day", "rate": "0.3"}]},
  {"code": "BLOCKS", "name": "B", "basis": "energy", "rates": [{"max": "100", "rate": "0.1"},
   {"max": "200", "rate": "0.2"}, {"rate": "0.3"}]},
  {"code": "VAT", "name": "V", "basis": "amount", "of": ["ENERGY"], "rates": [{"percent": "19"}]}],
 "rounding": {"line": {"to": "0.01"}}
}"#;

fn findings(text: &str) -> Vec<Finding> {
    match read("t.json", text) {
        Ok((_, findings)) | Err(findings) => findings.into_iter().filter(|f| f.weight > Weight::Note).collect(),
    }
}

/// The file with one thing changed, and where the finding must be.
#[track_caller]
fn refused(from: &str, to: &str, line: usize, field: &str, words: &str) {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    let found = findings(&text);
    let hit = found.iter().find(|finding| finding.field == field && finding.problem.contains(words));
    let hit = hit.unwrap_or_else(|| panic!("{to}: {found:?}"));
    assert_eq!(hit.line, Some(line), "{hit}");
    assert!(!hit.remedy.is_empty(), "{hit}");
}

#[test]
fn the_unchanged_file_is_accepted() {
    assert_eq!(findings(GOOD), []);
}

#[test]
fn each_impossible_thing_is_found_where_it_stands() {
    refused("\"EUR\"", "\"EUX\"", 2, "currency", "not known");
    refused("Europe/Berlin", "Europe/Atlantis", 3, "timezone", "Atlantis");
    refused("\"2025-12-31\"", "\"2025-02-30\"", 4, "valid.to", "no date");
    refused("\"2025-12-31\"", "\"2024-12-31\"", 4, "valid.to", "before");
    refused("\"04-01\"", "\"04-31\"", 5, "seasons.summer[0].from", "no day");
    refused("\"22:00\"", "\"25:00\"", 6, "periods.main[0].when[0].from", "no time");
    refused(
        "\"when\": [{}]",
        "\"when\": [{\"from\": \"06:00\", \"to\": \"21:00\"}]",
        6,
        "periods.main",
        "no period holds",
    );
    refused(
        "\"when\": [{}]",
        "\"when\": [{\"from\": \"05:00\", \"to\": \"22:00\"}]",
        7,
        "periods.main[1]",
        "both hold",
    );
    refused("{\"period\": \"day\"", "{\"period\": \"dawn\"", 10, "charges[0].rates[1].period", "no period \"dawn\"");
    refused("\"rate\": \"0.2\"", "\"rate\": \"-0.2\"", 9, "charges[0].rates[0]", "below zero");
    refused("\"max\": \"200\"", "\"max\": \"90\"", 12, "charges[1].rates[1].max", "ends at 90");
    refused("\"max\": \"100\", ", "", 12, "charges[1].rates[1]", "no upper limit");
    refused("[\"ENERGY\"]", "[\"VAT\"]", 13, "charges[2].of[0]", "of itself");
    refused("\"to\": \"0.01\"", "\"to\": \"0.001\"", 14, "rounding.line.to", "finer");
    refused("\"basis\": \"amount\"", "\"basis\": \"percent\"", 13, "charges[2].basis", "not known");
    refused("\"percent\": \"19\"", "\"rate\": \"19\"", 13, "charges[2].rates[0]", "price");
}

#[test]
fn text_that_is_no_file_is_told_with_its_line() {
    let number = findings(&GOOD.replacen("\"0.2\"", "0.2", 1));
    assert_eq!(number[0].line, Some(9));
    assert!(number[0].remedy.contains("decimal strings"), "{}", number[0]);
    let unknown = findings(&GOOD.replacen("\"basis\": \"amount\"", "\"bases\": 1", 1));
    assert!(unknown[0].line == Some(13) && unknown[0].problem.contains("bases"), "{}", unknown[0]);
    assert_eq!(findings(&GOOD[..300])[0].weight, Weight::Refused);
}

#[test]
fn a_price_below_zero_can_be_confirmed() {
    let text = GOOD.replacen("\"rate\": \"0.2\"", "\"rate\": \"-0.2\"", 1).replacen(
        "\"seasons\"",
        "\"negative_prices\": true, \"seasons\"",
        1,
    );
    assert_eq!(findings(&text), []);
}

#[test]
fn the_recipe_holds_a_tariff_that_is_accepted() {
    let recipe = include_str!("../../../docs/howto/add-a-tariff.md");
    let (_, rest) = recipe.split_once("```toml").unwrap();
    let text: String =
        rest.split_once("```").unwrap().0.lines().map(|line| line.trim_start().to_owned() + "\n").collect();
    let (tariff, found) = read("recipe.toml", &text).unwrap_or_else(|findings| panic!("{findings:?}"));
    assert_eq!(found, []);
    assert!(billing::tariff::describe::sentences(&tariff).iter().any(|s| s.contains("night every day 22:00–06:00")));
    let wrong = text.replace("\"0.29\"", "\"0,29\"");
    let found = read("recipe.toml", &wrong).unwrap_err();
    let line = wrong.lines().position(|line| line.contains("0,29")).unwrap() + 1;
    assert_eq!((found[0].line, found[0].field.as_str()), (Some(line), "charges[0].rates[1].rate"));
}
