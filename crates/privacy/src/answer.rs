//! What a granted query is answered with: sums of masks, noise where the class says so, blindings.
//!
//! Noise is drawn from a stream that the custodian's own key and the query's hash determine: the same query gets the same noise,
//! after a restart too, and another query gets noise that has nothing to do with it. It is added inside the sum of masks, so the
//! operator cannot take it off.

use std::collections::BTreeMap;

use metering::MeterId;

use crate::{
    draws::Draws,
    hex::Hex,
    mask::{Field, MaskKey, authenticate},
    noise::{self, Ratio},
    policy::Policy,
    query::{Answer, Mechanism, Query, Row, StatisticQuery},
    rules::{Refusal, sensitivity, sensitivity_squared},
    theft,
};

/// Finds the key of a row.
type KeyOf<'f, 'k> = dyn FnMut(&Row) -> Result<&'k MaskKey, Refusal> + 'f;

/// What a query's noise is drawn from.
pub(crate) struct NoiseSeed<'s> {
    /// The custodian's own key.
    pub(crate) key: &'s [u8; 32],
    /// The query's hash.
    pub(crate) query: Hex<32>,
}

impl NoiseSeed<'_> {
    fn draws(&self) -> Draws {
        Draws::new(&authenticate(self.key, &[b"gridtally noise 1", &self.query.0]))
    }
}

/// A mechanism with its scale.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Noise {
    Laplace(Ratio),
    Gauss(Ratio),
}

impl Noise {
    fn draw(self, draws: &mut Draws) -> Result<u64, Refusal> {
        let drawn = match self {
            Self::Laplace(scale) => noise::laplace(draws, scale)?,
            Self::Gauss(variance) => noise::gauss(draws, variance)?,
        };
        Ok(drawn.cast_unsigned())
    }
}

pub(crate) fn answer<'k>(
    policy: &Policy,
    query: &Query,
    key_of: &mut KeyOf<'_, 'k>,
    seed: &NoiseSeed<'_>,
) -> Result<Answer, Refusal> {
    match query {
        Query::Spatial(q) | Query::Late(q) => {
            let mut sums = vec![0; q.slots as usize];
            add_rows(&q.rows, q.field, key_of, &mut sums)?;
            Ok(Answer::Masks(sums))
        }
        Query::Bill(q) => {
            let mut sum = 0_u64;
            each(&q.rows, q.field, key_of, |row, k, mask| {
                let weight = i64::from(q.weights.weight(row.first + k as u64));
                sum = sum.wrapping_add(mask.wrapping_mul(weight.cast_unsigned()));
            })?;
            Ok(Answer::Masks(vec![sum]))
        }
        Query::Fault(q) => {
            let mut sum = 0_u64;
            each(&q.rows, q.field, key_of, |_, _, mask| sum = sum.wrapping_add(mask))?;
            Ok(Answer::Masks(vec![sum]))
        }
        Query::Theft(q) => {
            let signs = theft::signs(&q.series);
            let mut scores: BTreeMap<MeterId, u64> = BTreeMap::new();
            for row in &q.rows {
                let score = scores.entry(row.meter).or_default();
                each(std::slice::from_ref(row), q.field, key_of, |row, k, mask| {
                    let sign = signs.get(row.offset as usize + k).copied().unwrap_or(0);
                    *score = score.wrapping_add(mask.wrapping_mul(sign.cast_unsigned()));
                })?;
            }
            if let Some(micro) = q.epsilon_micro {
                let (noise, mut draws) = (laplace(u64::from(policy.clip_day_wh), micro)?, seed.draws());
                for score in scores.values_mut() {
                    // F goes off the ciphertext, so noise on the mask sum arrives with the opposite sign: it is symmetric
                    *score = score.wrapping_add(noise.draw(&mut draws)?);
                }
            }
            Ok(Answer::Scores(scores.into_iter().collect()))
        }
        Query::Unmask(q) => {
            let mut masks = Vec::new();
            each(&q.rows, q.field, key_of, |_, _, mask| masks.push(mask))?;
            Ok(Answer::Masks(masks))
        }
        Query::Statistic(q) => statistic(policy, q, key_of, &mut seed.draws()),
        // answered from what is kept of the sum
        Query::Check(_) => Err(Refusal::NothingToCheck),
    }
}

/// Laplace of scale `Δ/ε` with ε in millionths; refused where the numbers could leave their range, before anything is debited.
fn laplace(sensitivity: u64, micro: u64) -> Result<Noise, Refusal> {
    let scale = Ratio::new(sensitivity.checked_mul(1_000_000).ok_or(noise::NoiseError::TooLarge)?, micro);
    noise::check_laplace(scale)?;
    Ok(Noise::Laplace(scale))
}

/// The noise on each number of a statistic: Laplace of scale `Δ₁/ε`, or Gauss of variance `Δ₂²/(2ρ)`.
pub(crate) fn noise_of(policy: &Policy, q: &StatisticQuery) -> Result<Noise, Refusal> {
    if q.mechanism == Mechanism::Laplace {
        return laplace(sensitivity(policy, q, q.adjacency), q.level_micro);
    }
    let squared = sensitivity_squared(policy, q, q.adjacency).checked_mul(1_000_000);
    let twice = q.level_micro.checked_mul(2);
    let (above, below) = squared.zip(twice).ok_or(noise::NoiseError::TooLarge)?;
    let variance = Ratio::new(above, below);
    noise::check_gauss(variance)?;
    Ok(Noise::Gauss(variance))
}

fn statistic<'k>(
    policy: &Policy,
    q: &StatisticQuery,
    key_of: &mut KeyOf<'_, 'k>,
    draws: &mut Draws,
) -> Result<Answer, Refusal> {
    let noise = noise_of(policy, q)?;
    let mut slots = vec![0; q.band as usize * q.bands as usize];
    add_rows(&q.rows, Field::Clipped, key_of, &mut slots)?;
    let band_sum = |band: &[u64]| band.iter().fold(0, |sum: u64, mask| sum.wrapping_add(*mask));
    let sums = slots.chunks(q.band.max(1) as usize).map(|band| Ok(band_sum(band).wrapping_add(noise.draw(draws)?)));
    Ok(Answer::Masks(sums.collect::<Result<_, Refusal>>()?))
}

/// Adds every row's masks to the sums of their slots; the rules refuse rows that pass the sums' end.
fn add_rows<'k>(rows: &[Row], field: Field, key_of: &mut KeyOf<'_, 'k>, sums: &mut [u64]) -> Result<(), Refusal> {
    parts(rows, field, key_of, |row, from, word, masks| {
        let Some(sums) = sums.get_mut(row.offset as usize + from..) else { return };
        if word == u64::MAX >> (64 - masks.len()) {
            for (sum, mask) in sums.iter_mut().zip(masks) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*mask));
            }
            return;
        }
        for (bit, (sum, mask)) in sums.iter_mut().zip(masks).enumerate() {
            // all ones where the cell is meant
            *sum = sum.wrapping_add(u64::from_le_bytes(*mask) & 0_u64.wrapping_sub(word >> bit & 1));
        }
    })
}

/// Bytes of the masks that are made at once.
const BYTES_AT_ONCE: usize = 4_096;
/// Such masks.
const AT_ONCE: usize = BYTES_AT_ONCE / 8;

/// Calls with row, position and mask of every cell that is meant.
fn each<'r, 'k>(
    rows: &'r [Row],
    field: Field,
    key_of: &mut KeyOf<'_, 'k>,
    mut call: impl FnMut(&'r Row, usize, u64),
) -> Result<(), Refusal> {
    parts(rows, field, key_of, |row, from, word, masks| {
        let mut left = word;
        while left != 0 {
            let bit = left.trailing_zeros() as usize;
            left &= left - 1;
            if let Some(mask) = masks.get(bit) {
                call(row, from + bit, u64::from_le_bytes(*mask));
            }
        }
    })
}

/// Calls for each word of the rows that means any cell: its row, position of its first cell, the word, the masks from there to the
/// row's end, little endian.
fn parts<'r, 'k>(
    rows: &'r [Row],
    field: Field,
    key_of: &mut KeyOf<'_, 'k>,
    mut call: impl FnMut(&'r Row, usize, u64, &[[u8; 8]]),
) -> Result<(), Refusal> {
    let beyond = || Refusal::Shape("a counter beyond its end");
    let mut all = [0; BYTES_AT_ONCE];
    for row in rows {
        let (key, end) = (key_of(row)?, row.end());
        let mut revs = row.revs.iter().peekable();
        for from in (0..end).step_by(AT_ONCE) {
            let bytes = &mut all[..(end - from).min(AT_ONCE) * 8];
            let masks = key.fill_bytes(field, 0, row.first + from as u64, bytes).ok_or_else(beyond)?;
            while let Some((k, rev)) = revs.next_if(|(k, _)| (*k as usize) < from + AT_ONCE) {
                let mask = key.mask(field, *rev, row.first + u64::from(*k)).ok_or_else(beyond)?;
                *masks.get_mut(*k as usize - from).ok_or_else(beyond)? = mask.to_le_bytes();
            }
            for (word, (part, masks)) in row.present[from / 64..].iter().zip(masks.chunks(64).enumerate()) {
                if *word != 0 {
                    call(row, from + part * 64, *word, masks);
                }
            }
        }
    }
    Ok(())
}
