//! The evidence of a case as a bundle to hand over: JSON with every reading the evidence rests on, and a PDF for people. The JSON holds
//! nothing of the moment of its making, so that its SHA-256, which the PDF prints, stays the same until the case changes.

mod layout;
mod pdf;

use std::collections::BTreeMap;

use losses::{
    case::Case,
    evidence::{Evidence, ReadingRange},
    fusion::{self, Calibration, Fused},
};
use metering::MeterId;
use serde::Serialize;
use sha2::{Digest, Sha256};
use store::{Attachment, CaseFilter, ControlFilter, Store, StoreError, StoredControl, StoredRecord};

pub use pdf::pdf;

use crate::ranking;

/// Most readings in a bundle; the case page and the CSV of a meter have the others.
const READINGS_MAX: usize = 20_000;

/// A reading range with its registers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RangeReadings {
    /// The meter and the time.
    #[serde(flatten)]
    pub range: ReadingRange,
    /// What the meter's import register counted over the range, Wh; `None` when a reading at an end is missing.
    pub import_wh: Option<u64>,
    /// The intervals, with register values.
    pub records: Vec<StoredRecord>,
    /// More intervals than the bundle takes: these are the first.
    pub cut: bool,
}

/// What the JSON holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Content {
    /// Of what kind and version this document is.
    pub format: &'static str,
    /// The case: facts, evidence for and against, history, outcome.
    pub case: Case,
    /// Its evidence fused to a probability.
    pub probability: Fused,
    /// The readings that the evidence rests on.
    pub readings: Vec<RangeReadings>,
    /// Commands of the case, with every step.
    pub controls: Vec<StoredControl>,
    /// Attached files, by hash.
    pub attachments: Vec<Attachment>,
    /// The command that computes every number again.
    pub recompute: String,
}

/// A made bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// The content.
    pub content: Content,
    /// The content as JSON.
    pub json: Vec<u8>,
    /// SHA-256 of the JSON, hexadecimal.
    pub sha256: String,
}

/// Gathers the bundle of a case; `None` when there is no such case.
///
/// # Errors
/// When the store fails.
pub async fn gather(store: &Store, id: u64) -> Result<Option<Bundle>, StoreError> {
    let Some(case) = store.case(id).await? else { return Ok(None) };
    let mut ranges: BTreeMap<(MeterId, i64, i64), ReadingRange> = BTreeMap::new();
    for range in case.evidence.iter().flat_map(|piece| &piece.readings) {
        ranges.insert((range.meter, range.from.0, range.to.0), *range);
    }
    let mut left = READINGS_MAX;
    let mut readings = Vec::with_capacity(ranges.len());
    for range in ranges.into_values() {
        // With the reading at its begin, from which the first interval is counted.
        let mut records = store.profile(range.meter, range.from.plus(-1), range.to).await?;
        let counted = records
            .first()
            .zip(records.last())
            .filter(|(first, last)| first.record.end == range.from && last.record.end == range.to)
            .filter(|(first, last)| first.quality.is_trusted() && last.quality.is_trusted());
        let import_wh = counted.and_then(|(first, last)| last.record.import_wh.0.checked_sub(first.record.import_wh.0));
        let cut = records.len() > left;
        records.truncate(left);
        left -= records.len();
        readings.push(RangeReadings { range, import_wh, records, cut });
    }
    let probability = probability(store, &case).await?;
    let filter = ControlFilter { case: Some(id), ..ControlFilter::default() };
    let content = Content {
        format: "gridtally evidence 1",
        probability,
        readings,
        controls: store.controls(filter).await?,
        attachments: store.attachments(id).await?,
        recompute: format!("gridtally losses explain {id} --data DIR"),
        case,
    };
    let json = serde_json::to_vec_pretty(&content)?;
    let sha256 = crate::assets::hex(&Sha256::digest(&json));
    Ok(Some(Bundle { content, json, sha256 }))
}

/// The chance that the pages show for the usage point that a case names; of a case that names nobody, or has ended, its evidence fused.
async fn probability(store: &Store, case: &Case) -> Result<Fused, StoreError> {
    let topology = store.topology(case.opened_at).await?;
    let filter = CaseFilter { zone: Some(case.zone), open_only: true, ..CaseFilter::default() };
    let (listed, _) = ranking::of_cases(store, &topology, &store.cases(filter).await?, case.opened_at).await?;
    if let Some(own) = listed.iter().find(|one| one.case == case.id && Some(one.usage_point) == case.usage_point) {
        return Ok(own.fused);
    }
    let members = topology.usage_points.iter().filter(|point| point.zone == case.zone).count();
    Ok(fusion::fuse(&case.evidence, members, &Calibration::default()))
}

impl Content {
    /// What a range counted, for the piece of evidence that rests on it.
    pub fn counted(&self, range: &ReadingRange) -> Option<&RangeReadings> {
        self.readings.iter().find(|known| known.range == *range)
    }

    /// The evidence in one direction, strongest first.
    pub fn evidence(&self, direction: losses::evidence::Direction) -> Vec<&Evidence> {
        let mut pieces: Vec<&Evidence> = self.case.evidence.iter().filter(|e| e.direction == direction).collect();
        pieces.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        pieces
    }
}
