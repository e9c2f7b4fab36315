//! Features as bytes: bin 0 is unknown, the others hold about as many rows each.

use serde::{Deserialize, Serialize};

use super::Rows;

/// Bins of a feature, the one for unknown values included.
pub const BINS: usize = 64;
/// Rows looked at to place the edges.
const SAMPLE: usize = 40_000;

/// Upper ends of the bins of each feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edges {
    cuts: Vec<Vec<f32>>,
}

impl Edges {
    /// Edges at the quantiles of the rows, or between neighbours where a feature takes few values.
    pub fn of(rows: &Rows) -> Self {
        let stride = rows.count().div_ceil(SAMPLE).max(1);
        let cuts = (0..rows.width)
            .map(|column| {
                let mut seen: Vec<f32> =
                    rows.values.chunks_exact(rows.width).step_by(stride).map(|r| r[column]).collect();
                seen.retain(|v| v.is_finite());
                seen.sort_unstable_by(f32::total_cmp);
                cuts_of(&seen)
            })
            .collect();
        Self { cuts }
    }

    /// The rows as bins.
    pub fn bin(&self, rows: &Rows) -> Vec<u8> {
        let mut out = Vec::with_capacity(rows.values.len());
        for row in rows.values.chunks_exact(rows.width.max(1)) {
            out.extend(row.iter().zip(&self.cuts).map(|(v, cuts)| bin_of(*v, cuts)));
        }
        out
    }
}

fn bin_of(value: f32, cuts: &[f32]) -> u8 {
    if value.is_nan() { 0 } else { 1 + cuts.partition_point(|cut| *cut < value) as u8 }
}

fn cuts_of(sorted: &[f32]) -> Vec<f32> {
    let mut distinct = sorted.to_vec();
    distinct.dedup();
    let most = BINS - 2;
    if distinct.len() <= most {
        return distinct.windows(2).map(|w| w[0] + 0.5 * (w[1] - w[0])).collect();
    }
    let mut cuts: Vec<f32> = (1..=most).map(|i| sorted[i * sorted.len() / (most + 1)]).collect();
    cuts.dedup();
    cuts
}
