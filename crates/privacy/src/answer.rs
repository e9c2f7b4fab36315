//! What a granted query is answered with: sums of masks, noise where the class says so, blindings.
//!
//! Noise is drawn from a stream that the custodian's own key and the query's hash determine: the same query gets the same noise,
//! after a restart too, and another query gets noise that has nothing to do with it. It is added inside the sum of masks, so the
//! operator cannot take it off.

use std::collections::BTreeMap;

use curve25519_dalek::Scalar;
use metering::MeterId;

use crate::{
    commitment,
    custodian::State,
    draws::Draws,
    hex::Hex,
    mask::{Field, MaskKey, authenticate},
    noise::{self, Ratio},
    policy::Policy,
    query::{Answer, CheckQuery, Mechanism, Query, Row, StatisticQuery},
    rules::{Refusal, sensitivity, sensitivity_squared},
    theft,
};

/// Finds the key of a row.
type KeyOf<'k> = dyn Fn(&Row) -> Result<&'k MaskKey, Refusal> + 'k;

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
    state: &State,
    query: &Query,
    key_of: &KeyOf<'k>,
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
            for row in &q.rows {
                each(row, q.field, key_of(row)?, |k, mask| {
                    let weight = i64::from(q.weights.weight(row.first + k as u64));
                    sum = sum.wrapping_add(mask.wrapping_mul(weight.cast_unsigned()));
                })?;
            }
            Ok(Answer::Masks(vec![sum]))
        }
        Query::Fault(q) => {
            let mut sum = 0_u64;
            for row in &q.rows {
                each(row, q.field, key_of(row)?, |_, mask| sum = sum.wrapping_add(mask))?;
            }
            Ok(Answer::Masks(vec![sum]))
        }
        Query::Theft(q) => {
            let signs = theft::signs(&q.series);
            let mut scores: BTreeMap<MeterId, u64> = BTreeMap::new();
            for row in &q.rows {
                let score = scores.entry(row.meter).or_default();
                each(row, q.field, key_of(row)?, |k, mask| {
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
            for row in &q.rows {
                each(row, q.field, key_of(row)?, |_, mask| masks.push(mask))?;
            }
            Ok(Answer::Masks(masks))
        }
        Query::Statistic(q) => statistic(policy, q, key_of, &mut seed.draws()),
        Query::Check(q) => check(state, q, key_of),
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
    key_of: &KeyOf<'k>,
    draws: &mut Draws,
) -> Result<Answer, Refusal> {
    let noise = noise_of(policy, q)?;
    let mut slots = vec![0; q.band as usize * q.bands as usize];
    add_rows(&q.rows, Field::Clipped, key_of, &mut slots)?;
    let band_sum = |band: &[u64]| band.iter().fold(0, |sum: u64, mask| sum.wrapping_add(*mask));
    let sums = slots.chunks(q.band.max(1) as usize).map(|band| Ok(band_sum(band).wrapping_add(noise.draw(draws)?)));
    Ok(Answer::Masks(sums.collect::<Result<_, Refusal>>()?))
}

fn check<'k>(state: &State, q: &CheckQuery, key_of: &KeyOf<'k>) -> Result<Answer, Refusal> {
    let Some(Some(Query::Spatial(sum) | Query::Late(sum))) = state.released.get(&q.of) else {
        return Err(Refusal::NothingToCheck);
    };
    let mut total = Scalar::ZERO;
    for row in &sum.rows {
        let Some(k) = q.slot.checked_sub(row.offset).map(|k| k as usize).filter(|k| row.has(*k)) else { continue };
        let rev = row.revs.iter().find(|(at, _)| *at as usize == k).map_or(0, |(_, rev)| *rev);
        let blinding = commitment::blinding(key_of(row)?, sum.field, rev, row.first + k as u64);
        total += blinding.ok_or(Refusal::Shape("a counter beyond its end"))?;
    }
    Ok(Answer::Blinding(Hex(total.to_bytes())))
}

/// Adds every row's masks to the sums of their slots.
fn add_rows<'k>(rows: &[Row], field: Field, key_of: &KeyOf<'k>, sums: &mut [u64]) -> Result<(), Refusal> {
    for row in rows {
        let key = key_of(row)?;
        let beyond = Refusal::Shape("a cell beyond the last slot");
        // a row's slots lie within the sums: the rules refuse others
        let sums = sums.get_mut(row.offset as usize..).ok_or(beyond)?;
        parts(row, field, key, |from, word, masks| {
            let Some(sums) = sums.get_mut(from..) else { return };
            if word == u64::MAX >> (64 - masks.len()) {
                sums.iter_mut().zip(masks).for_each(|(sum, mask)| *sum = sum.wrapping_add(*mask));
                return;
            }
            for (bit, (sum, mask)) in sums.iter_mut().zip(masks).enumerate() {
                // all ones where the cell is meant
                *sum = sum.wrapping_add(mask & 0_u64.wrapping_sub(word >> bit & 1));
            }
        })?;
    }
    Ok(())
}

/// Masks that are made at once.
const AT_ONCE: usize = 512;

/// Calls with position and mask of every cell that is meant.
fn each(row: &Row, field: Field, key: &MaskKey, mut call: impl FnMut(usize, u64)) -> Result<(), Refusal> {
    parts(row, field, key, |from, word, masks| {
        let mut left = word;
        while left != 0 {
            let bit = left.trailing_zeros() as usize;
            left &= left - 1;
            if let Some(mask) = masks.get(bit) {
                call(from + bit, *mask);
            }
        }
    })
}

/// Calls for each word of a row that means any cell: position of its first cell, the word, the masks from there to the row's end.
fn parts(row: &Row, field: Field, key: &MaskKey, mut call: impl FnMut(usize, u64, &[u64])) -> Result<(), Refusal> {
    let beyond = || Refusal::Shape("a counter beyond its end");
    let mut masks = [0; AT_ONCE];
    let end = row.end();
    let mut revs = row.revs.iter().peekable();
    for from in (0..end).step_by(AT_ONCE) {
        let masks = &mut masks[..(end - from).min(AT_ONCE)];
        key.fill(field, 0, row.first + from as u64, masks).ok_or_else(beyond)?;
        while let Some((k, rev)) = revs.next_if(|(k, _)| (*k as usize) < from + AT_ONCE) {
            let mask = key.mask(field, *rev, row.first + u64::from(*k)).ok_or_else(beyond)?;
            *masks.get_mut(*k as usize - from).ok_or_else(beyond)? = mask;
        }
        for (word, (part, masks)) in row.present[from / 64..].iter().zip(masks.chunks(64).enumerate()) {
            if *word != 0 {
                call(from + part * 64, *word, masks);
            }
        }
    }
    Ok(())
}
