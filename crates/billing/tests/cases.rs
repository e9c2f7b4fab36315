//! Worked examples that others published: utilities' pages on how a bill comes about, regulators' orders, teaching material. Each folder
//! names its source in `expected.json`; the amounts there are the published ones, line by line.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

fn files_of(folder: &Path) -> impl Fn(&str) -> Result<Vec<u8>, String> + '_ {
    move |name: &str| {
        assert_ne!(name, "expected.json", "the answer must not be looked at");
        std::fs::read(folder.join(name)).map_err(|why| why.to_string())
    }
}

fn check(folder: &Path) {
    let name = folder.display();
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    assert!(expected["source"]["address"].is_string(), "{name}: no source");
    let case = billing::case::Case::read(&files_of(folder)).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    let results = case.run().unwrap_or_else(|fault| panic!("{name}: {fault}"));
    let got = serde_json::to_value(&results).unwrap();
    let (got, expected) = (got["bills"].as_array().unwrap(), expected["bills"].as_array().unwrap());
    assert_eq!(got.len(), expected.len(), "{name}");
    for (got, expected) in got.iter().zip(expected) {
        let lines: Vec<Value> = got["lines"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| serde_json::json!([line["code"], line["amount"]]))
            .collect();
        assert_eq!(&lines, expected["lines"].as_array().unwrap(), "{name}: {}", expected["id"]);
        assert_eq!(got["total"], expected["total"], "{name}: {}", expected["id"]);
        assert_eq!(got.get("token_kwh"), expected.get("token_kwh"), "{name}");
    }
}

#[test]
fn published_examples_come_out_to_the_minor_unit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let folders: BTreeSet<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(folders.len() >= 12, "{} cases", folders.len());
    for folder in &folders {
        check(folder);
    }
}

/// A tariff as another engine wrote it must be accepted, or the finding must be one that a person reads.
#[test]
fn published_tariffs_are_accepted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path().join("tariff.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let (_, findings) =
            billing::tariff::check::read("tariff.json", &text).unwrap_or_else(|f| panic!("{path:?}: {f:?}"));
        let told: Vec<String> = findings
            .iter()
            .filter(|finding| finding.weight > billing::tariff::check::Weight::Note)
            .map(ToString::to_string)
            .collect();
        assert!(told.is_empty(), "{path:?}: {told:?}");
    }
}
