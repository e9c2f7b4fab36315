//! What an operator may ask a custodian for, and how it is signed and approved.
//!
//! Every query is a linear function over cells; a cell is (meter, field, counter), whatever its revision. The classes differ in
//! the rules of `rules.rs`, not in the mathematics.

use std::cell::OnceCell;

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use metering::MeterId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{hex::Hex, json, mask::Field};

/// Most slots of one query: a leap month of minutes.
pub const SLOTS_MAX: usize = 44_640;
/// Most rows of one query.
pub const ROWS_MAX: usize = 4_096;

/// Cells of one meter under one key epoch, consecutive counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Whose.
    pub meter: MeterId,
    /// Key epoch.
    pub epoch: u32,
    /// Counter of the first cell.
    pub first: u64,
    /// Slot of the first cell, counted from the first slot of the query.
    #[serde(default)]
    pub offset: u32,
    /// Which of the cells are meant: bit `k mod 64` of word `k / 64` for counter `first + k`.
    pub present: Vec<u64>,
    /// Cells whose reading was corrected: position `k`, revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revs: Vec<(u32, u16)>,
}

impl Row {
    /// All of `count` cells.
    pub fn full(meter: MeterId, epoch: u32, first: u64, count: usize) -> Self {
        let mut row = Self { meter, epoch, first, offset: 0, present: vec![0; count.div_ceil(64)], revs: Vec::new() };
        (0..count).for_each(|k| row.mark(k));
        row
    }

    /// Means cell `k` too; nothing when it lies beyond the words.
    pub fn mark(&mut self, k: usize) {
        if let Some(word) = self.present.get_mut(k / 64) {
            *word |= 1 << (k % 64);
        }
    }

    /// Whether cell `k` is meant.
    pub fn has(&self, k: usize) -> bool {
        self.present.get(k / 64).is_some_and(|word| word >> (k % 64) & 1 == 1)
    }

    /// Cells that are meant.
    pub fn count(&self) -> usize {
        self.present.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Positions of the cells that are meant.
    pub fn cells(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.present.len() * 64).filter(|k| self.has(*k))
    }

    /// One past the last cell that is meant.
    pub fn end(&self) -> usize {
        let last = self.present.iter().rposition(|word| *word != 0);
        last.map_or(0, |i| i * 64 + 64 - self.present[i].leading_zeros() as usize)
    }

    /// The same cells as bits of absolute counters: word number, bits.
    pub fn words(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let shift = (self.first % 64) as u32;
        self.present.iter().zip(self.first / 64..).flat_map(move |(word, at)| {
            let high = if shift == 0 { 0 } else { word >> (64 - shift) };
            [(at, word << shift), (at + 1, high)].into_iter().filter(|(_, bits)| *bits != 0)
        })
    }
}

/// `Σ` over meters, one number per slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpatialQuery {
    /// A registered group.
    pub group: String,
    /// What is summed.
    pub field: Field,
    /// The UTC day (days since 1970) whose membership holds.
    pub day: i64,
    /// Slots asked for.
    pub slots: u32,
    /// Who was present.
    pub rows: Vec<Row>,
}

impl Row {
    /// Appends its JSON. An identifier needs no escapes.
    fn write_json(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(b"{\"meter\":\"");
        bytes.extend_from_slice(self.meter.as_str().as_bytes());
        bytes.extend_from_slice(b"\",\"epoch\":");
        json::append(bytes, &self.epoch);
        bytes.extend_from_slice(b",\"first\":");
        json::append(bytes, &self.first);
        bytes.extend_from_slice(b",\"offset\":");
        json::append(bytes, &self.offset);
        bytes.extend_from_slice(b",\"present\":[");
        for (k, word) in self.present.iter().enumerate() {
            if k > 0 {
                bytes.push(b',');
            }
            json::append(bytes, word);
        }
        bytes.push(b']');
        if !self.revs.is_empty() {
            bytes.extend_from_slice(b",\"revs\":");
            json::append(bytes, &self.revs);
        }
        bytes.push(b'}');
    }
}

impl SpatialQuery {
    /// Appends its JSON, in an object of one key.
    fn write_json(&self, bytes: &mut Vec<u8>, key: &[u8]) {
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(b"{\"group\":");
        json::append(bytes, &self.group);
        bytes.extend_from_slice(b",\"field\":");
        json::append(bytes, &self.field);
        bytes.extend_from_slice(b",\"day\":");
        json::append(bytes, &self.day);
        bytes.extend_from_slice(b",\"slots\":");
        json::append(bytes, &self.slots);
        bytes.extend_from_slice(b",\"rows\":[");
        for (k, row) in self.rows.iter().enumerate() {
            if k > 0 {
                bytes.push(b',');
            }
            row.write_json(bytes);
        }
        bytes.extend_from_slice(b"]}}");
    }
}

/// The same weight for so many counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Consecutive counters.
    pub length: u32,
    /// Their weight.
    pub weight: i32,
}

/// A register of a tariff, signed by whoever approves tariffs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedWeights {
    /// Name of the register.
    pub register: String,
    /// Counter of the first weight.
    pub first: u64,
    /// The weights.
    pub runs: Vec<Run>,
    /// By the tariff key over [`SignedWeights::signed_bytes`].
    pub signature: Hex<64>,
}

/// `Σ_t w_t·x_t` of one meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BillQuery {
    /// What is summed.
    pub field: Field,
    /// The register.
    pub weights: SignedWeights,
    /// The meter's cells; several rows when the period crosses key epochs or its counter made a step.
    pub rows: Vec<Row>,
    /// Why the period may be shorter than the rule says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<ShortPeriod>,
}

/// Why a period is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShortPeriod {
    /// The customer moves in or out.
    Move,
    /// The meter was changed.
    MeterSwap,
}

/// What a transformer supplied, what the meters' exact sums were and what the lines lose, Wh per slot; signed by the operator, who
/// answers for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceSeries {
    /// Measured at the transformer.
    pub supplied: Vec<i64>,
    /// Exact sums of the group's meters.
    pub metered: Vec<i64>,
    /// Technical loss by the model.
    pub loss: Vec<i64>,
}

/// One scalar per home of an alarmed group: `Σ_t w_t·x_{i,t}` with weights that the custodian derives itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TheftQuery {
    /// The alarmed group.
    pub group: String,
    /// Import, its clipped form, or voltage.
    pub field: Field,
    /// The UTC day whose membership holds.
    pub day: i64,
    /// The alarm's record.
    pub series: BalanceSeries,
    /// All homes of the group.
    pub rows: Vec<Row>,
    /// Millionths of ε of the noise on each score; absent: exact scores, which need a third approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon_micro: Option<u64>,
}

/// A meter's total, to find which one spoiled a sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultQuery {
    /// What is summed.
    pub field: Field,
    /// The meter's cells.
    pub rows: Vec<Row>,
}

/// Why a curve may be unmasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegalBasis {
    /// Field evidence in a theft case that named this home; the hash of the case's query.
    FieldEvidence {
        /// Hash of the theft query.
        case: Hex<32>,
    },
    /// The customer asked for it.
    CustomerRequest,
    /// A court ordered it.
    CourtOrder {
        /// Its number.
        number: String,
    },
}

/// One home's readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnmaskQuery {
    /// What is unmasked.
    pub field: Field,
    /// The meter's cells.
    pub rows: Vec<Row>,
    /// Why.
    pub basis: LegalBasis,
    /// The first and last counter that the approvers were shown.
    pub scope: (u64, u64),
    /// When the case ends, seconds since 1970.
    pub expires: i64,
    /// When the customer is told, seconds since 1970.
    pub notice_at: i64,
}

/// What is protected by the noise of a statistic: two sets of readings that differ so are hard to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjacency {
    /// One home, one slot.
    Event,
    /// One home, one day.
    HomeDay,
    /// One home, up to 31 days.
    UserMonth,
}

/// Which noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// Discrete Laplace, pure ε.
    Laplace,
    /// Discrete Gaussian, zero-concentrated, stated as ε at δ = 10⁻⁶.
    Gauss,
}

/// Whom the statistic is for; each has a budget of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Research.
    Research,
    /// Published maps and reports.
    PublicMap,
    /// A theft case's scores.
    Theft,
}

/// A statistic with noise for someone outside the operator's own balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatisticQuery {
    /// A registered group.
    pub group: String,
    /// The UTC day whose membership holds.
    pub day: i64,
    /// Slots that one number sums up.
    pub band: u32,
    /// Numbers asked for.
    pub bands: u32,
    /// Who was present; field [`Field::Clipped`].
    pub rows: Vec<Row>,
    /// What is protected.
    pub adjacency: Adjacency,
    /// Which noise.
    pub mechanism: Mechanism,
    /// Millionths of ε (Laplace) or of ρ (Gauss).
    pub level_micro: u64,
    /// For whom.
    pub purpose: Purpose,
}

/// The blinding of one slot of a released exact sum, to check its commitments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckQuery {
    /// Hash of the spatial query.
    pub of: Hex<32>,
    /// Its slot.
    pub slot: u32,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// Sum over a group, slot by slot.
    Spatial(SpatialQuery),
    /// Second sum, over cells that came late.
    Late(SpatialQuery),
    /// A register of a bill.
    Bill(BillQuery),
    /// Scores of a theft case.
    Theft(TheftQuery),
    /// A total, to find a fault.
    Fault(FaultQuery),
    /// A curve.
    Unmask(UnmaskQuery),
    /// A statistic with noise.
    Statistic(StatisticQuery),
    /// A check of a slot.
    Check(CheckQuery),
}

/// One person's yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Name in the policy.
    pub person: String,
    /// Until when it holds, seconds since 1970.
    pub expires: i64,
    /// By the person's key over [`approval_bytes`].
    pub signature: Hex<64>,
}

/// A query as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The question.
    pub query: Query,
    /// By the operator's key over [`request_bytes`].
    pub signature: Hex<64>,
    /// Who approved it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
}

/// A request with the hash of its query, which is made here and nowhere else: so it is that of the query, and made once.
#[derive(Clone, Debug)]
pub struct Named<'r> {
    request: &'r Request,
    hash: Hex<32>,
    /// Numbers that the custodian who decided gave the rows' meters; a guess that is checked wherever it is used.
    pub(crate) numbers: OnceCell<Vec<u32>>,
}

impl<'r> Named<'r> {
    /// Hashes its query.
    pub fn new(request: &'r Request) -> Self {
        Self { request, hash: request.query.hash(), numbers: OnceCell::new() }
    }

    /// The request.
    pub fn request(&self) -> &'r Request {
        self.request
    }

    /// The hash of its query.
    pub fn hash(&self) -> &Hex<32> {
        &self.hash
    }

    /// Numbers of its rows' meters, as far as they are known.
    pub(crate) fn guesses(&self) -> &[u32] {
        self.numbers.get().map(Vec::as_slice).unwrap_or_default()
    }
}

/// What a custodian gives: never a reading, and never a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Sums of masks modulo 2^64, one per number asked for.
    Masks(Vec<u64>),
    /// The same, by meter.
    Scores(Vec<(MeterId, u64)>),
    /// Sum of blindings of one slot.
    Blinding(Hex<32>),
}

impl Query {
    /// SHA-256 of the query's JSON: its name in approvals, journal and log.
    pub fn hash(&self) -> Hex<32> {
        Hex(Sha256::digest(self.json()).into())
    }

    /// Its JSON, as `serde_json` writes it; sums over many homes, most of which are rows, are written here, in half the time.
    fn json(&self) -> Vec<u8> {
        // a row of a day has about so many bytes
        let mut bytes = Vec::with_capacity(256 + 128 * self.rows().len());
        match self {
            Self::Spatial(q) => q.write_json(&mut bytes, b"{\"spatial\":"),
            Self::Late(q) => q.write_json(&mut bytes, b"{\"late\":"),
            other => json::append(&mut bytes, other),
        }
        bytes
    }

    /// The class in words.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Spatial(_) => "spatial",
            Self::Late(_) => "late",
            Self::Bill(_) => "bill",
            Self::Theft(_) => "theft",
            Self::Fault(_) => "fault",
            Self::Unmask(_) => "unmask",
            Self::Statistic(_) => "statistic",
            Self::Check(_) => "check",
        }
    }

    /// The rows it names.
    pub fn rows(&self) -> &[Row] {
        match self {
            Self::Spatial(q) | Self::Late(q) => &q.rows,
            Self::Bill(q) => &q.rows,
            Self::Theft(q) => &q.rows,
            Self::Fault(q) => &q.rows,
            Self::Unmask(q) => &q.rows,
            Self::Statistic(q) => &q.rows,
            Self::Check(_) => &[],
        }
    }
}

impl SignedWeights {
    /// Signs a register.
    pub fn sign(register: &str, first: u64, runs: Vec<Run>, key: &SigningKey) -> Self {
        let mut signed = Self { register: register.to_owned(), first, runs, signature: Hex([0; 64]) };
        signed.signature = Hex(key.sign(&signed.signed_bytes()).to_bytes());
        signed
    }

    /// What is signed: `gridtally tariff 1` and the JSON of register, first counter and runs.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"gridtally tariff 1 ".to_vec();
        json::append(&mut bytes, &(&self.register, self.first, &self.runs));
        bytes
    }

    /// The weight of a counter; 0 outside.
    pub fn weight(&self, counter: u64) -> i32 {
        let Some(mut at) = counter.checked_sub(self.first) else { return 0 };
        for run in &self.runs {
            match at.checked_sub(u64::from(run.length)) {
                None => return run.weight,
                Some(rest) => at = rest,
            }
        }
        0
    }
}

/// What an operator signs.
pub fn request_bytes(hash: &Hex<32>) -> Vec<u8> {
    [b"gridtally request 1 ".as_slice(), &hash.0].concat()
}

/// What an approver signs.
pub fn approval_bytes(hash: &Hex<32>, expires: i64) -> Vec<u8> {
    [b"gridtally approval 1 ".as_slice(), &hash.0, &expires.to_be_bytes()].concat()
}

impl Request {
    /// Signs a query.
    pub fn sign(query: Query, key: &SigningKey) -> Self {
        let signature = Hex(key.sign(&request_bytes(&query.hash())).to_bytes());
        Self { query, signature, approvals: Vec::new() }
    }

    /// With a person's approval.
    #[must_use]
    pub fn approved(mut self, person: &str, expires: i64, key: &SigningKey) -> Self {
        let signature = Hex(key.sign(&approval_bytes(&self.query.hash(), expires)).to_bytes());
        self.approvals.push(Approval { person: person.to_owned(), expires, signature });
        self
    }
}

/// Whether a signature of these bytes is good.
pub fn is_signed(key: &Hex<32>, bytes: &[u8], signature: &Hex<64>) -> bool {
    VerifyingKey::from_bytes(&key.0).is_ok_and(|key| is_signed_by(&key, bytes, signature))
}

/// The same with a key that was taken apart before.
pub(crate) fn is_signed_by(key: &VerifyingKey, bytes: &[u8], signature: &Hex<64>) -> bool {
    key.verify(bytes, &Signature::from_bytes(&signature.0)).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row() -> impl Strategy<Value = Row> {
        let revs = proptest::collection::vec((any::<u32>(), any::<u16>()), 0..3);
        let present = proptest::collection::vec(any::<u64>(), 0..4);
        ("[A-Za-z0-9_-]{1,32}", any::<u32>(), any::<u64>(), any::<u32>(), present, revs).prop_map(
            |(name, epoch, first, offset, present, revs)| {
                let meter = MeterId::new(&name).expect("a name");
                Row { meter, epoch, first, offset, present, revs }
            },
        )
    }

    proptest! {
        #[test]
        fn the_quick_json_is_the_json(
            group in ".{0,12}", day in any::<i64>(), slots in any::<u32>(), rows in proptest::collection::vec(row(), 0..4),
        ) {
            for field in [Field::Import, Field::Export, Field::Voltage, Field::Clipped] {
                let sum = SpatialQuery { group: group.clone(), field, day, slots, rows: rows.clone() };
                for query in [Query::Spatial(sum.clone()), Query::Late(sum)] {
                    prop_assert_eq!(query.json(), serde_json::to_vec(&query).expect("has a JSON"));
                }
            }
        }
    }
}
