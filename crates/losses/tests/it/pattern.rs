//! The pattern model end to end on a small synthetic town: tables, training, cross-validation, file, scores.

use std::path::Path;
use std::sync::Arc;

use losses::pattern::canary::{Dice, Tampering, tamper};
use losses::pattern::inspection::Selection;
use losses::pattern::model::{Options, PatternModel};
use losses::pattern::population::{Customer, Population, Portions};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

const DAYS: usize = 400;

/// Zones of thirty homes with an observer meter; every third home steals.
fn town(seed: u64, zones: usize) -> Population {
    let mut dice = Dice::new(seed);
    let mut population = Population { days: DAYS, ..Population::default() };
    let weather: Vec<f64> = (0..DAYS).map(|_| 0.15 * dice.normal()).collect();
    for zone in 0..zones {
        let mut supplied = vec![0.0; DAYS];
        for home in 0..30 {
            let level = 8.0 * (0.4 * dice.normal()).exp();
            let mut memory = 0.0;
            let kwh: Vec<f64> = (0..DAYS)
                .map(|t| {
                    memory = 0.6 * memory + 0.15 * dice.normal();
                    let season = 1.0 + 0.3 * (t as f64 / 365.0 * std::f64::consts::TAU).cos();
                    let weekend = if t % 7 >= 5 { 1.15 } else { 1.0 };
                    level * season * weekend * f64::exp(memory + weather[t])
                })
                .collect();
            supplied.iter_mut().zip(&kwh).for_each(|(s, k)| *s += k);
            let steals = home % 3 == 0;
            let kinds = [Tampering::Scale, Tampering::RandomScale, Tampering::Spells];
            let canary = tamper(&kwh, kinds[dice.below(3)], &mut dice);
            let mut reported = if steals { canary.kwh } else { kwh };
            reported[dice.below(DAYS)] = f64::NAN;
            population.customers.push(Customer {
                id: format!("C{zone:02}{home:02}"),
                transformer: format!("T{zone:02}"),
                label: Some(steals),
                selection: None,
                stolen_kwh: Some(if steals { canary.stolen_kwh } else { 0.0 }),
                kwh: reported,
            });
        }
        let noisy = supplied.iter().map(|s| s * 1.01 * (1.0 + 0.003 * dice.normal())).collect();
        population.zones.insert(format!("T{zone:02}"), noisy);
    }
    population
}

fn options(folds: usize) -> Options {
    Options { seed: 4, folds, threads: 2, without_labels: false }
}

#[test]
fn finds_thieves_reproducibly_and_survives_its_file() {
    let population = town(1, 6);
    let model = PatternModel::train(&population, options(2)).expect("trains");
    let measured = model.cross_validation.as_ref().expect("measured");
    assert!(measured.metrics.auc > 0.9, "{measured:?}");
    assert!(measured.metrics.kwh_at_5_percent.is_some());
    assert_eq!((measured.by_fold.len(), measured.members.len()), (2, 4));
    let [lower, middle, upper] = measured.intervals.ap;
    assert!(lower <= middle && middle <= upper && lower <= measured.metrics.ap && measured.metrics.ap <= upper);
    assert!(measured.members.contains_key(&measured.best_member));
    let text = model.to_json().expect("written");
    let read = PatternModel::from_json(&text).expect("read back");
    let fresh = town(2, 2);
    let (scores, _) = model.score(&fresh, 2).expect("scores");
    let (again, drift) = read.score(&fresh, 1).expect("scores");
    assert_eq!(scores, again, "file or number of threads changed the scores");
    assert!(!drift.is_empty());
    let best = scores.iter().max_by(|a, b| a.score.total_cmp(&b.score)).expect("someone");
    assert_ne!(best.reason, "nothing unusual");
    let twice = PatternModel::train(&population, Options { threads: 1, ..options(2) }).expect("trains");
    assert_eq!(twice.to_json().expect("written"), text, "one thread and two do not train the same model to the bit");
    assert_eq!(twice.data_hash, model.data_hash);
    let (second, _) = twice.score(&fresh, 1).expect("scores");
    assert_eq!(scores, second, "training is not deterministic");
}

#[test]
fn works_without_labels_and_without_zones() {
    let mut population = town(3, 4);
    population.zones.clear();
    let labels: Vec<bool> = population.customers.iter().map(|c| c.label == Some(true)).collect();
    population.customers.iter_mut().for_each(|c| c.label = None);
    let without = Options { without_labels: true, ..options(0) };
    let model = PatternModel::train(&population, without).expect("trains");
    let (scores, _) = model.score(&population, 2).expect("scores");
    let scores: Vec<f64> = scores.iter().map(|s| s.score).collect();
    assert!(losses::pattern::metrics::auc(&scores, &labels) > 0.8);
    let error = PatternModel::train(&population, options(0)).err().expect("needs labels").to_string();
    assert!(error.contains("without labels"), "{error}");
}

/// Most thieves were suspected and visited, few honest homes were; of the others a few were visited at random.
fn inspected_town() -> (Population, Vec<bool>) {
    let mut population = town(5, 8);
    let truth: Vec<bool> = population.customers.iter().map(|c| c.label == Some(true)).collect();
    let mut dice = Dice::new(6);
    for (customer, steals) in population.customers.iter_mut().zip(&truth) {
        let suspected = dice.unit() < if *steals { 0.6 } else { 0.05 };
        customer.selection = match (suspected, dice.unit() < 0.4) {
            (true, _) => Some(Selection::Targeted),
            (false, true) => Some(Selection::Random),
            (false, false) => None,
        };
        customer.label = customer.selection.and(customer.label);
        customer.stolen_kwh = customer.selection.and(customer.stolen_kwh);
    }
    (population, truth)
}

#[test]
fn learns_from_inspections_and_knows_that_suspects_are_not_everybody() {
    let (mut population, truth) = inspected_town();
    let inspected = population.customers.iter().filter(|c| c.label.is_some()).count();
    assert!(inspected < truth.len() * 2 / 3, "{inspected}");
    let expected = |population: &Population| {
        let model = PatternModel::train(population, options(0)).expect("trains");
        assert_eq!((model.customers, model.labelled), (truth.len(), inspected));
        let (scored, _) = model.score(population, 2).expect("scores");
        let scores: Vec<f64> = scored.iter().map(|s| s.score).collect();
        let unseen: Vec<usize> = (0..truth.len()).filter(|i| population.customers[*i].label.is_none()).collect();
        let of = |i: &usize| (scores[*i], truth[*i]);
        let (scores_unseen, truth_unseen): (Vec<f64>, Vec<bool>) = unseen.iter().map(of).unzip();
        let auc = losses::pattern::metrics::auc(&scores_unseen, &truth_unseen);
        assert!(auc > 0.85, "of those nobody inspected: {auc}");
        scores.iter().sum::<f64>()
    };
    let thieves = truth.iter().filter(|t| **t).count() as f64;
    let weighted = expected(&population);
    population.customers.iter_mut().for_each(|c| c.selection = None);
    let unweighted = expected(&population);
    assert!((weighted - thieves).abs() < 0.2 * thieves, "{weighted} expected, {thieves} there");
    assert!(unweighted > weighted, "all labels alike: {unweighted}, by selection: {weighted}");
}

#[test]
fn a_damaged_or_foreign_file_is_refused_with_advice() {
    for text in ["", "{}", "{\"format\": 99}"] {
        let error = PatternModel::from_json(text).err().expect("refused").to_string();
        assert!(error.contains("train"), "{error}");
    }
}

/// Writes lists of floats with nulls the way dataframe tools do, all rows in one group.
fn write_table(path: &Path, rows: &[(&str, &str, Vec<Option<f32>>)]) {
    write_groups(path, rows, rows.len());
}

/// As `write_table`, in groups of so many rows.
fn write_groups(path: &Path, rows: &[(&str, &str, Vec<Option<f32>>)], group_rows: usize) {
    let schema = "message schema {
        optional binary id (UTF8);
        optional binary transformer (UTF8);
        optional group kwh (LIST) { repeated group list { optional float element; } }
    }";
    let schema = Arc::new(parse_message_type(schema).expect("schema"));
    let file = std::fs::File::create(path).expect("file");
    let mut writer =
        SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::builder().build())).expect("writer");
    for rows in rows.chunks(group_rows) {
        let mut group = writer.next_row_group().expect("group");
        while let Some(mut column) = group.next_column().expect("column") {
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(texts) => {
                    let first = texts.get_descriptor().name() == "id";
                    let values: Vec<ByteArray> =
                        rows.iter().map(|r| ByteArray::from(if first { r.0 } else { r.1 })).collect();
                    texts.write_batch(&values, Some(&vec![1; rows.len()]), None).expect("texts");
                }
                ColumnWriter::FloatColumnWriter(floats) => {
                    let values: Vec<f32> = rows.iter().flat_map(|r| r.2.iter().flatten().copied()).collect();
                    let levels: Vec<i16> =
                        rows.iter().flat_map(|r| r.2.iter().map(|v| if v.is_some() { 3 } else { 2 })).collect();
                    let repeated: Vec<i16> =
                        rows.iter().flat_map(|r| (0..r.2.len()).map(|i| i16::from(i > 0))).collect();
                    floats.write_batch(&values, Some(&levels), Some(&repeated)).expect("floats");
                }
                _ => panic!("unexpected column type"),
            }
            column.close().expect("closed");
        }
        group.close().expect("group closed");
    }
    writer.close().expect("file closed");
}

#[test]
fn reads_lists_with_nulls_and_explains_what_is_wrong() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let path = folder.path().join("customers.parquet");
    let series: Vec<Option<f32>> = (0..150).map(|t| if t == 7 { None } else { Some(t as f32) }).collect();
    write_table(&path, &[("A", "T1", series.clone()), ("B", "T1", series.clone())]);
    let population = Population::read(&path, None, None, None).expect("read");
    assert_eq!((population.customers.len(), population.days), (2, 150));
    assert!(population.customers[1].kwh[7].is_nan());
    assert_eq!(population.customers[1].kwh[149], 149.0);
    assert_eq!(population.customers[0].label, None);
    write_table(&path, &[("A", "T1", series.clone()), ("B", "T1", series[..120].to_vec())]);
    let error = Population::read(&path, None, None, None).expect_err("uneven").to_string();
    assert!(error.contains("equally long"), "{error}");
    let error = Population::read(&folder.path().join("none.parquet"), None, None, None).expect_err("absent");
    assert!(error.to_string().contains("check the path"));
}

#[test]
fn portions_hold_the_same_customers_as_the_whole_and_never_part_a_transformer() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let (path, zones) = (folder.path().join("customers.parquet"), folder.path().join("zones.parquet"));
    let series = |level: usize| (0..150).map(|t| (t != 7).then_some((level + t) as f32)).collect::<Vec<Option<f32>>>();
    let transformers = ["T2", "T2", "T2", "T1", "T1", "T3", "T3", "T4"];
    let ids: Vec<String> = (0..transformers.len()).map(|i| format!("C{i}")).collect();
    let rows = |transformers: &[&'static str]| -> Vec<_> {
        ids.iter().zip(transformers).enumerate().map(|(i, (id, t))| (id.as_str(), *t, series(i))).collect()
    };
    // Groups of rows end within a transformer and within a portion.
    write_groups(&path, &rows(&transformers), 4);
    write_table(&zones, &[("", "T1", series(10)), ("", "T2", series(20)), ("", "T4", series(40))]);
    let whole = Population::read(&path, Some(&zones), None, None).expect("read");
    let portions = |zones: Option<&Path>| -> Vec<Population> {
        let mut portions = Portions::open(&path, zones, None, 3).expect("opened");
        std::iter::from_fn(|| portions.next_portion().expect("portion")).collect()
    };
    let sizes = |portions: &[Population]| portions.iter().map(|p| p.customers.len()).collect::<Vec<usize>>();
    let text = |customers: &[Customer]| format!("{customers:?}");
    let parts = portions(Some(&zones));
    assert_eq!(sizes(&parts), [3, 2, 3]);
    assert_eq!(text(&parts.iter().flat_map(|p| p.customers.clone()).collect::<Vec<_>>()), text(&whole.customers));
    let names: Vec<Vec<&String>> = parts.iter().map(|p| p.zones.keys().collect()).collect();
    assert_eq!(names, [["T2"], ["T1"], ["T4"]]);
    assert_eq!(parts[0].zones["T2"][3], whole.zones["T2"][3]);
    let parts = portions(None);
    assert_eq!(sizes(&parts), [3, 3, 2]);
    assert_eq!(text(&parts.iter().flat_map(|p| p.customers.clone()).collect::<Vec<_>>()), text(&whole.customers));
    // A transformer in two places keeps everybody together.
    write_groups(&path, &rows(&["T1", "T1", "T2", "T1", "T2", "T3", "T3", "T4"]), 4);
    assert_eq!(sizes(&portions(Some(&zones))), [8]);
    assert_eq!(sizes(&portions(None)), [3, 3, 2]);
}
