//! The pattern model as a whole: train, measure by cross-validation, keep in a file, score.
//!
//! A model file is JSON: format number, software version, seed, a hash of the training data, the measured figures, the
//! seasonal curve, the members. Training is deterministic for a seed; folds never part the customers of one transformer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pattern::ModelError;
use crate::pattern::assemble::{self, Assembled, Canaries, LEAST_FOR_CURVE, OWN_COLUMNS};
use crate::pattern::blend::{LEAST_POSITIVES, Learning, MemberScores, Members, Outcomes};
use crate::pattern::calibration::{Calibration, calibration_error};
use crate::pattern::drift::{Counts, Reference};
use crate::pattern::features::Background;
use crate::pattern::inspection;
use crate::pattern::metrics::{Bootstrap, Intervals, Metrics, energy_share};
use crate::pattern::mixture::Mixture;
use crate::pattern::population::Population;
use crate::pattern::reasons::Reader;
use crate::pattern::trees::Settings;

/// Number of the file format; a reader refuses others.
pub const FORMAT: u32 = 2;
/// Share of thieves assumed when no label says otherwise; only scales the probability.
const ASSUMED_PREVALENCE: f64 = 0.02;
/// Without cross-validation every so many transformers calibrate a first fit.
const CALIBRATION_EVERY: usize = 5;
/// Draws of the paired bootstrap.
const DRAWS: usize = 400;
/// Quantities whose drift is watched.
const WATCHED: [&str; 6] = ["mean", "cv", "gap_share", "zero_share", "log_drop_t", "year_over_year"];

/// How to train.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Seed of everything random.
    pub seed: u64,
    /// Folds of the cross-validation; below 2 none is made.
    pub folds: usize,
    /// Threads for features.
    pub threads: usize,
    /// Use no labels even where there are some.
    pub without_labels: bool,
}

/// What cross-validation measured; every figure is from customers whose transformer the fit had not seen, and the blend's
/// weights from the other folds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CrossValidation {
    /// Folds.
    pub folds: usize,
    /// Metrics of the blend.
    pub metrics: Metrics,
    /// Their 90 % intervals (bootstrap over transformers).
    pub intervals: Intervals,
    /// Metrics of the blend within each fold.
    pub by_fold: Vec<Metrics>,
    /// Each member alone.
    pub members: BTreeMap<String, MeasuredMember>,
    /// The member with the highest average precision, and the blend against it.
    pub best_member: String,
    /// Blend minus best member, on the same draws, 90 % intervals.
    pub blend_minus_best_member: Intervals,
    /// Share of stolen energy in the 5 % with the highest expected energy.
    pub kwh_at_5_percent_by_expected_kwh: Option<f64>,
    /// Expected calibration error of the probability.
    pub calibration_error: f64,
}

/// One member in cross-validation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MeasuredMember {
    /// Its metrics.
    pub metrics: Metrics,
    /// Their 90 % intervals.
    pub intervals: Intervals,
}

/// A step of training that is done; for whoever shows progress or takes the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Features of customers and canaries.
    Features,
    /// Members were trained on one fold's complement, or on a part for calibration.
    Fold(usize),
    /// Members were trained on everybody.
    Members,
}

/// A trained pattern model.
#[derive(Serialize, Deserialize)]
pub struct PatternModel {
    format: u32,
    /// Version of the software that trained it.
    pub software: String,
    /// Seed of the training.
    pub seed: u64,
    /// Hash of the training data: `fnv1a64:` and sixteen hexadecimal digits.
    pub data_hash: String,
    /// Customers trained on.
    pub customers: usize,
    /// Those among them with a label.
    pub labelled: usize,
    /// Thieves among them.
    pub thieves: usize,
    /// Whether zone meters are used.
    pub with_zones: bool,
    /// Measured figures, when cross-validation was asked for.
    pub cross_validation: Option<CrossValidation>,
    seasonal: Vec<f64>,
    mixture: Mixture,
    calibration: Calibration,
    drift: Vec<Reference>,
    members: Members,
}

/// One customer's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The customer's id.
    pub id: String,
    /// Calibrated probability of theft.
    pub score: f64,
    /// Expected recoverable energy in kWh over the record.
    pub expected_kwh: f64,
    /// Why, in words.
    pub reason: String,
}

/// Drift of one watched quantity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// The quantity.
    pub quantity: String,
    /// Population stability index; above 0.25 train again.
    pub stability_index: f64,
}

/// The watched quantities of the customers scored so far.
pub struct DriftWatch<'a> {
    /// Column, distribution at training, today's counts.
    watched: Vec<(usize, &'a Reference, Counts)>,
}

impl DriftWatch<'_> {
    fn add(&mut self, data: &Assembled) {
        for (column, _, counts) in &mut self.watched {
            counts.add((0..data.rows.count()).map(|r| data.rows.row(r)[*column]));
        }
    }

    /// How far these customers have drifted from the training.
    pub fn drift(&self) -> Vec<Drift> {
        let of = |reference: &Reference, counts: &Counts| Drift {
            quantity: reference.name.clone(),
            stability_index: reference.stability_index(counts),
        };
        self.watched.iter().map(|(_, reference, counts)| of(reference, counts)).collect()
    }
}

impl PatternModel {
    /// Trains on a population with labels, or without any (`without_labels`).
    pub fn train(population: &Population, options: Options) -> Result<Self, ModelError> {
        Self::train_telling(population, options, |_| ())
    }

    /// As [`Self::train`], and tells `done` each step that is done.
    pub fn train_telling(
        population: &Population,
        options: Options,
        mut done: impl FnMut(Progress),
    ) -> Result<Self, ModelError> {
        let prepared = Training::new(population, options)?;
        done(Progress::Features);
        let everyone: Vec<usize> = (0..population.customers.len()).collect();
        let (mixture, calibration, cross_validation) = if options.without_labels {
            let odds = ASSUMED_PREVALENCE / (1.0 - ASSUMED_PREVALENCE);
            (Mixture::without_labels(), Calibration { slope: 1.0, offset: odds.ln() }, None)
        } else if options.folds >= 2 {
            let (mixture, calibration, measured) = prepared.cross_validate(options.folds, &mut done)?;
            (mixture, calibration, Some(measured))
        } else {
            let (mixture, calibration) = prepared.calibrate_on_part(&mut done)?;
            (mixture, calibration, None)
        };
        let members = prepared.fit(&everyone)?;
        done(Progress::Members);
        let names = assemble::names(prepared.with_zones);
        let drift = WATCHED
            .iter()
            .filter_map(|name| names.iter().position(|n| n == name).map(|column| (name, column)))
            .filter_map(|(name, column)| Reference::new(name, &prepared.column(column)))
            .collect();
        Ok(Self {
            format: FORMAT,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            seed: options.seed,
            data_hash: data_hash(population),
            customers: population.customers.len(),
            labelled: prepared.labels.iter().flatten().count(),
            thieves: prepared.labels.iter().filter(|l| **l == Some(true)).count(),
            with_zones: prepared.with_zones,
            cross_validation,
            seasonal: prepared.background.seasonal,
            mixture,
            calibration,
            drift,
            members,
        })
    }

    /// Scores a population, in its order, and says how far it has drifted from the training.
    pub fn score(&self, population: &Population, threads: usize) -> Result<(Vec<Scored>, Vec<Drift>), ModelError> {
        self.needs_zones(!population.zones.is_empty())?;
        let mut watch = self.drift_watch();
        let scored = self.score_portion(population, threads, &mut watch)?;
        Ok((scored, watch.drift()))
    }

    /// Refuses to go on when the model was trained with zone meters and none are `given`.
    pub fn needs_zones(&self, given: bool) -> Result<(), ModelError> {
        if self.with_zones && !given {
            return Err(ModelError::Scoring(
                "the model was trained with zone meters; give the zones' readings too (--zones)".to_owned(),
            ));
        }
        Ok(())
    }

    /// For watching the drift over several portions.
    pub fn drift_watch(&self) -> DriftWatch<'_> {
        let names = assemble::names(self.with_zones);
        let column = |reference: &Reference| names.iter().position(|n| *n == reference.name);
        let watched = self.drift.iter().filter_map(|r| Some((column(r)?, r, r.counts()))).collect();
        DriftWatch { watched }
    }

    /// Scores a portion of a population, in its order, and adds it to `watch`. A portion of at least [`LEAST_FOR_CURVE`]
    /// customers is compared with its own seasonal curve and its own usual probability.
    pub fn score_portion(
        &self,
        population: &Population,
        threads: usize,
        watch: &mut DriftWatch<'_>,
    ) -> Result<Vec<Scored>, ModelError> {
        let everyone: Vec<usize> = (0..population.customers.len()).collect();
        let seasonal = if everyone.len() >= LEAST_FOR_CURVE {
            population.seasonal_curve(&everyone, threads)
        } else {
            self.seasonal.clone()
        };
        let background = Background::new(seasonal, population.temperature_c.clone());
        let data = assemble::assemble(population, &background, self.with_zones, threads)?;
        watch.add(&data);
        let scores = self.members.predict(&data, &everyone, threads);
        let probabilities: Vec<f64> =
            self.mixture.blend_all(&scores).iter().map(|s| self.calibration.probability(*s)).collect();
        let reasons = self.reasons(&data, &probabilities, threads);
        Ok(reasons
            .into_iter()
            .enumerate()
            .map(|(i, reason)| Scored {
                id: population.customers[i].id.clone(),
                score: probabilities[i],
                expected_kwh: expected_kwh(&scores, &data, probabilities[i], i, i),
                reason,
            })
            .collect())
    }

    /// Words for those well above the usual probability; the others get a plain sentence.
    fn reasons(&self, data: &Assembled, probabilities: &[f64], threads: usize) -> Vec<String> {
        let usual = probabilities.iter().sum::<f64>() / probabilities.len().max(1) as f64;
        let suspects: Vec<usize> = (0..probabilities.len()).filter(|&i| probabilities[i] > usual).collect();
        let mut reasons = vec!["nothing unusual".to_owned(); probabilities.len()];
        let explained = self.members.trees.as_ref();
        let (trees, names, rows) = match explained {
            Some(trees) => (trees, assemble::names(self.with_zones), data.rows.pick(&suspects)),
            None => {
                (&self.members.taught, assemble::names(false), data.rows.pick_first_columns(&suspects, OWN_COLUMNS))
            }
        };
        let reader = Reader::new(&names);
        let places: Vec<usize> = (0..suspects.len()).collect();
        let words = assemble::in_parallel(&places, threads, |&place| {
            let index = suspects[place];
            let strong = probabilities[index] > 0.3;
            let day = if strong { self.members.network.busiest_day(&data.courses[index]) } else { None };
            reader.explain(rows.row(place), &trees.contributions(rows.row(place)), day)
        });
        for (index, text) in suspects.into_iter().zip(words) {
            reasons[index] = text;
        }
        reasons
    }

    /// The model as the text of a model file.
    pub fn to_json(&self) -> Result<String, ModelError> {
        let text = serde_json::to_string(self).map_err(|e| ModelError::File(e.to_string()))?;
        // A number that is none has no form in JSON: better said by who trained than by who scores.
        Self::from_json(&text).map_err(|e| {
            ModelError::Training(format!("what was learned cannot be read back ({e}); do the records hold readings?"))
        })?;
        Ok(text)
    }

    /// Reads the text of a model file.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_str(text)
            .map_err(|e| ModelError::File(format!("it is not a pattern model: {e}; train one with `losses train`")))?;
        if head.format != FORMAT {
            return Err(ModelError::File(format!(
                "it has format {}, this version reads {FORMAT}; train it again",
                head.format
            )));
        }
        serde_json::from_str(text).map_err(|e| ModelError::File(format!("it is damaged: {e}; train it again")))
    }
}

/// Expected energy of the customer at `place` of the scores and `index` of the data: the regression where there is one,
/// weighted with the probability relative to the usual one; else probability times what lacks to the usual level.
fn expected_kwh(scores: &MemberScores, data: &Assembled, probability: f64, place: usize, index: usize) -> f64 {
    match scores.energy_kwh.get(place) {
        // The regression's figure is an expectation over thief and honest already. The geometric mean with "probability
        // times the energy if it is theft" ranks better than either, because the classifier is the sharper of the two.
        Some(kwh) => {
            let if_theft = data.lacking_kwh[index].max(*kwh);
            (kwh * probability * if_theft).sqrt()
        }
        None => probability * data.lacking_kwh[index],
    }
}

/// Everything that the fits of one training share.
struct Training<'a> {
    population: &'a Population,
    options: Options,
    background: Background,
    data: Assembled,
    canaries: Canaries,
    /// Outcomes of inspections; None where nobody has looked.
    labels: Vec<Option<bool>>,
    weights: Vec<f64>,
    stolen_kwh: Option<Vec<f64>>,
    with_zones: bool,
    settings: Settings,
}

impl<'a> Training<'a> {
    fn new(population: &'a Population, options: Options) -> Result<Self, ModelError> {
        let everyone: Vec<usize> = (0..population.customers.len()).collect();
        if !options.without_labels && population.customers.iter().all(|c| c.label.is_none()) {
            return Err(ModelError::Training(format!(
                "none of {} customers has a label (column \"label\", 1 = theft found, 0 = inspected and honest, empty = not \
                 inspected); train without labels",
                everyone.len()
            )));
        }
        let background =
            Background::new(population.seasonal_curve(&everyone, options.threads), population.temperature_c.clone());
        let with_zones = !population.zones.is_empty();
        let data = assemble::assemble(population, &background, with_zones, options.threads)?;
        let canaries = assemble::canaries(population, &background, options.seed, options.threads);
        let labels: Vec<Option<bool>> = population.customers.iter().map(|c| c.label).collect();
        let weights = inspection::weights(&population.customers);
        let stolen: Vec<f64> = population.customers.iter().map(|c| c.stolen_kwh.unwrap_or(0.0)).collect();
        let known = population.customers.iter().zip(&labels).all(|(c, l)| *l != Some(true) || c.stolen_kwh.is_some());
        let settings = Settings { seeds: 2, ..Settings::default() };
        let stolen_kwh = (known && !options.without_labels).then_some(stolen);
        Ok(Self { population, options, background, data, canaries, labels, weights, stolen_kwh, with_zones, settings })
    }

    fn column(&self, column: usize) -> Vec<f64> {
        (0..self.data.rows.count()).map(|r| self.data.rows.row(r)[column]).collect()
    }

    fn fit(&self, members: &[usize]) -> Result<Members, ModelError> {
        let labels = (!self.options.without_labels).then_some(self.labels.as_slice());
        let outcomes = Outcomes { labels, weights: &self.weights, stolen_kwh: self.stolen_kwh.as_deref() };
        let learning = Learning { data: &self.data, canaries: &self.canaries, outcomes, members };
        Members::fit(learning, &self.settings, self.options.seed, self.options.threads)
    }

    /// Fold of each customer: transformers in order of name, dealt out in turn.
    fn folds(&self, folds: usize) -> Vec<usize> {
        let mut fold = vec![0; self.population.customers.len()];
        for (place, (_, members)) in self.population.by_transformer().into_iter().enumerate() {
            members.into_iter().for_each(|i| fold[i] = place % folds);
        }
        fold
    }

    /// Predictions of each fold wanted by a fit on the others: the customers with a label, fold by fold, and their scores.
    fn out_of_fold(
        &self,
        folds: usize,
        wanted: impl Fn(usize) -> bool,
        done: &mut impl FnMut(Progress),
    ) -> Result<OutOfFold, ModelError> {
        let fold = self.folds(folds);
        let mut result = OutOfFold::default();
        for part in (0..folds).filter(|p| wanted(*p)) {
            let (mut test, train): (Vec<usize>, Vec<usize>) = (0..fold.len()).partition(|i| fold[*i] == part);
            test.retain(|&i| self.labels[i].is_some());
            if test.is_empty() || train.is_empty() {
                return Err(ModelError::Training(format!(
                    "{folds} folds need customers with a label below at least {folds} transformers, and there are {} transformers",
                    self.population.by_transformer().len()
                )));
            }
            result.scores.extend(self.fit(&train)?.predict(&self.data, &test, self.options.threads));
            result.labels.extend(test.iter().map(|&i| self.labels[i] == Some(true)));
            result.weights.extend(test.iter().map(|&i| self.weights[i]));
            result.parts.push(test.len());
            result.tested.extend(test);
            done(Progress::Fold(part));
        }
        Ok(result)
    }

    fn calibrate_on_part(&self, done: &mut impl FnMut(Progress)) -> Result<(Mixture, Calibration), ModelError> {
        let fold = self.folds(CALIBRATION_EVERY);
        let thieves = (0..fold.len()).filter(|i| fold[*i] == 0 && self.labels[*i] == Some(true)).count();
        // Where labels are few, one part says too little.
        let all = thieves < LEAST_POSITIVES;
        let found = self.out_of_fold(CALIBRATION_EVERY, |part| all || part == 0, done)?;
        let places: Vec<usize> = (0..found.tested.len()).collect();
        let mixture = Mixture::fit(&found.scores, &found.labels, &found.weights, &places);
        let calibration = Calibration::fit(&mixture.blend_all(&found.scores), &found.labels, &found.weights);
        Ok((mixture, calibration))
    }

    fn cross_validate(
        &self,
        folds: usize,
        done: &mut impl FnMut(Progress),
    ) -> Result<(Mixture, Calibration, CrossValidation), ModelError> {
        let OutOfFold { tested, parts, labels, weights, scores } = self.out_of_fold(folds, |_| true, done)?;
        let kwh: Option<Vec<f64>> = self.stolen_kwh.as_ref().map(|k| tested.iter().map(|&i| k[i]).collect());
        let places: Vec<usize> = (0..tested.len()).collect();
        let mut blended = Vec::with_capacity(tested.len());
        for size in &parts {
            let part = blended.len()..blended.len() + size;
            let others: Vec<usize> = places.iter().copied().filter(|p| !part.contains(p)).collect();
            let mixture = Mixture::fit(&scores, &labels, &weights, &others);
            blended.extend(part.map(|p| mixture.blend(&scores, p)));
        }
        let calibration = Calibration::fit(&blended, &labels, &weights);
        let probabilities: Vec<f64> = blended.iter().map(|s| calibration.probability(*s)).collect();
        let mut start = 0;
        let by_fold = parts
            .iter()
            .map(|size| {
                let part = start..start + size;
                start += size;
                let kwh = kwh.as_ref().map(|k| &k[part.clone()]);
                Metrics::measure(&blended[part.clone()], &labels[part], kwh)
            })
            .collect();
        let groups = self.groups(&tested);
        let bootstrap = Bootstrap::new(&groups, &labels, kwh.as_deref(), DRAWS, self.options.seed);
        let whole = bootstrap.measure(&blended);
        let mut members = BTreeMap::new();
        let mut best: Option<(&str, f64, Intervals)> = None;
        for (name, member) in [
            ("trees", &scores.trees),
            ("support_vector_machine", &scores.machine),
            ("trees_with_canaries", &scores.taught),
            ("sequence_network", &scores.network),
        ] {
            let drawn = bootstrap.measure(member);
            let metrics = Metrics::measure(member, &labels, kwh.as_deref());
            if best.as_ref().is_none_or(|(_, ap, _)| metrics.ap > *ap) {
                best = Some((name, metrics.ap, bootstrap.difference(&whole, &drawn)));
            }
            let intervals = bootstrap.intervals(&drawn);
            members.insert(name.to_owned(), MeasuredMember { metrics, intervals });
        }
        let (best_member, _, blend_minus_best_member) =
            best.ok_or_else(|| ModelError::Training("no member could be measured".to_owned()))?;
        let expected: Vec<f64> =
            places.iter().map(|&p| expected_kwh(&scores, &self.data, probabilities[p], p, tested[p])).collect();
        let measured = CrossValidation {
            folds,
            metrics: Metrics::measure(&blended, &labels, kwh.as_deref()),
            intervals: bootstrap.intervals(&whole),
            by_fold,
            members,
            best_member: best_member.to_owned(),
            blend_minus_best_member,
            kwh_at_5_percent_by_expected_kwh: kwh.as_ref().map(|k| energy_share(&expected, k, 0.05)),
            calibration_error: calibration_error(&probabilities, &labels, &weights),
        };
        Ok((Mixture::fit(&scores, &labels, &weights, &places), calibration, measured))
    }

    /// Number of each customer's transformer.
    fn groups(&self, customers: &[usize]) -> Vec<usize> {
        let mut group = vec![0; self.population.customers.len()];
        for (number, (_, members)) in self.population.by_transformer().into_iter().enumerate() {
            members.into_iter().for_each(|i| group[i] = number);
        }
        customers.iter().map(|&i| group[i]).collect()
    }
}

/// Predictions for customers whose transformer the fit had not seen.
#[derive(Default)]
struct OutOfFold {
    /// The customers, fold by fold.
    tested: Vec<usize>,
    /// Customers of each fold.
    parts: Vec<usize>,
    labels: Vec<bool>,
    weights: Vec<f64>,
    scores: MemberScores,
}

/// FNV-1a over ids, labels and readings: tells whether two models saw the same data; not a signature.
fn data_hash(population: &Population) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for customer in &population.customers {
        feed(customer.id.as_bytes());
        feed(customer.transformer.as_bytes());
        feed(&[customer.label.map_or(2, u8::from)]);
        // Where nobody noted it, the hash is that of a table without the column.
        customer.selection.iter().for_each(|s| feed(&[if *s == inspection::Selection::Random { 3 } else { 4 }]));
        customer.kwh.iter().for_each(|v| feed(&v.to_bits().to_le_bytes()));
    }
    for (name, kwh) in &population.zones {
        feed(name.as_bytes());
        kwh.iter().for_each(|v| feed(&v.to_bits().to_le_bytes()));
    }
    format!("fnv1a64:{hash:016x}")
}
