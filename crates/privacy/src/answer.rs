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
    query::{Adjacency, Answer, CheckQuery, Mechanism, Query, Row, StatisticQuery},
    rules::{Refusal, sensitivity},
    theft,
};

/// Finds the key of a row.
type KeyOf<'k> = dyn Fn(&Row) -> Result<&'k MaskKey, Refusal> + 'k;

pub(crate) fn answer<'k>(
    policy: &Policy,
    state: &State,
    query: &Query,
    key_of: &KeyOf<'k>,
    noise_key: &[u8; 32],
) -> Result<Answer, Refusal> {
    let seed = authenticate(noise_key, &[b"gridtally noise 1", &query.hash().0]);
    let mut draws = Draws::new(&seed);
    match query {
        Query::Spatial(q) | Query::Late(q) => {
            let mut sums = vec![0; q.slots as usize];
            add_rows(&q.rows, q.field, key_of, |slot, mask| {
                if let Some(sum) = sums.get_mut(slot) {
                    *sum = u64::wrapping_add(*sum, mask);
                }
            })?;
            Ok(Answer::Masks(sums))
        }
        Query::Bill(q) => {
            let mut sum = 0_u64;
            for row in &q.rows {
                let key = key_of(row)?;
                each(row, q.field, key, |k, mask| {
                    let weight = i64::from(q.weights.weight(row.first + k as u64));
                    sum = sum.wrapping_add(mask.wrapping_mul(weight.cast_unsigned()));
                })?;
            }
            Ok(Answer::Masks(vec![sum]))
        }
        Query::Fault(q) => {
            let mut sum = 0_u64;
            add_rows(&q.rows, q.field, key_of, |_, mask| sum = sum.wrapping_add(mask))?;
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
                let scale = laplace_scale(u64::from(policy.clip_day_wh), micro);
                for score in scores.values_mut() {
                    // F goes off the ciphertext, so noise on the mask sum arrives with the opposite sign: it is symmetric
                    *score = score.wrapping_add(noise::laplace(&mut draws, scale)?.cast_unsigned());
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
        Query::Statistic(q) => statistic(policy, q, key_of, &mut draws),
        Query::Check(q) => check(state, q, key_of),
    }
}

/// `Δ/ε` with ε in millionths.
fn laplace_scale(sensitivity: u64, micro: u64) -> Ratio {
    Ratio::new(sensitivity.saturating_mul(1_000_000), micro)
}

fn statistic<'k>(
    policy: &Policy,
    q: &StatisticQuery,
    key_of: &KeyOf<'k>,
    draws: &mut Draws,
) -> Result<Answer, Refusal> {
    let mut sums = vec![0_u64; q.bands as usize];
    add_rows(&q.rows, Field::Clipped, key_of, |slot, mask| {
        if let Some(sum) = sums.get_mut(slot / q.band as usize) {
            *sum = sum.wrapping_add(mask);
        }
    })?;
    let slots = u64::from(q.band) * u64::from(q.bands);
    let l1 = sensitivity(policy, q.adjacency, slots);
    for sum in &mut sums {
        let noise = match q.mechanism {
            Mechanism::Laplace => noise::laplace(draws, laplace_scale(l1, q.level_micro))?,
            Mechanism::Gauss => noise::gauss(draws, gauss_variance(policy, q, l1))?,
        };
        *sum = sum.wrapping_add(noise.cast_unsigned());
    }
    Ok(Answer::Masks(sums))
}

/// `σ² = Δ₂²/(2ρ)`. A number is at most the band's slots times the slot's allowance, all numbers together at most L1, so
/// `Δ₂² ≤ L1·min(L1, band·clip_slot)`.
pub(crate) fn gauss_variance(policy: &Policy, q: &StatisticQuery, l1: u64) -> Ratio {
    let one = match q.adjacency {
        Adjacency::Event => u64::from(policy.clip_slot_wh),
        _ => u64::from(q.band).saturating_mul(u64::from(policy.clip_slot_wh)),
    };
    let squared = l1.saturating_mul(l1.min(one));
    Ratio::new(squared.saturating_mul(1_000_000), q.level_micro.saturating_mul(2))
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

fn add_rows<'k>(
    rows: &[Row],
    field: Field,
    key_of: &KeyOf<'k>,
    mut add: impl FnMut(usize, u64),
) -> Result<(), Refusal> {
    for row in rows {
        each(row, field, key_of(row)?, |k, mask| add(row.offset as usize + k, mask))?;
    }
    Ok(())
}

/// Masks that are made at once.
const AT_ONCE: usize = 512;

/// Calls with position and mask of every cell that is meant.
fn each(row: &Row, field: Field, key: &MaskKey, mut call: impl FnMut(usize, u64)) -> Result<(), Refusal> {
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
            let at = from + part * 64;
            if *word == u64::MAX {
                masks.iter().enumerate().for_each(|(bit, mask)| call(at + bit, *mask));
                continue;
            }
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                if let Some(mask) = masks.get(bit) {
                    call(at + bit, *mask);
                }
            }
        }
    }
    Ok(())
}
