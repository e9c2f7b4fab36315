//! What a set of released numbers reveals: the span audit against brute force, and the rank of sums over both directions.

use privacy::{
    draws::Draws,
    ramp::{MODULUS, invert, mul, sub},
    span::{Functional, is_spread, smallest_support},
};
use proptest::prelude::*;

/// Rank of a matrix over the field, by elimination.
fn rank(mut rows: Vec<Vec<u64>>) -> usize {
    let width = rows.first().map_or(0, Vec::len);
    let mut rank = 0;
    for column in 0..width {
        let Some(at) = (rank..rows.len()).find(|r| rows[*r][column] != 0) else { continue };
        rows.swap(rank, at);
        let inverse = invert(rows[rank][column]);
        for r in 0..rows.len() {
            if r != rank && rows[r][column] != 0 {
                let factor = mul(rows[r][column], inverse);
                let pivot = rows[rank].clone();
                for (cell, above) in rows[r].iter_mut().zip(&pivot) {
                    *cell = sub(*cell, mul(factor, *above));
                }
            }
        }
        rank += 1;
    }
    rank
}

/// The fewest slots of a combination: the smallest set whose removal lowers the rank.
fn brute(matrix: &[Vec<i64>]) -> Option<usize> {
    let width = matrix[0].len();
    let element = |w: i64| if w < 0 { MODULUS - w.unsigned_abs() } else { w.unsigned_abs() };
    let without = |removed: u32| -> Vec<Vec<u64>> {
        let kept = |row: &Vec<i64>| (0..width).filter(|c| removed >> c & 1 == 0).map(|c| element(row[c])).collect();
        matrix.iter().map(kept).collect()
    };
    let full = rank(without(0));
    if full == 0 {
        return None;
    }
    (0_u32..1 << width).filter(|set| rank(without(*set)) < full).map(|set| set.count_ones() as usize).min()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_audit_finds_the_smallest_support(
        matrix in prop::collection::vec(prop::collection::vec(-2_i64..3, 8), 1..4)
    ) {
        let functionals: Vec<Functional> = matrix
            .iter()
            .map(|row| row.iter().enumerate().filter(|(_, w)| **w != 0).map(|(t, w)| (t as u64, *w)).collect())
            .collect();
        prop_assert_eq!(smallest_support(&functionals.iter().collect::<Vec<_>>()), brute(&matrix));
    }
}

#[test]
fn many_columns_are_audited_by_drawing() {
    let mut draws = Draws::new(&[3; 32]);
    let month = 2_880_u64;
    // hourly prices of three suppliers: hundreds of different columns
    let price = |draws: &mut Draws| -> Vec<i64> { (0..month / 4).map(|_| 20 + draws.below(40) as i64).collect() };
    let functional = |hours: &[i64]| -> Functional { (0..month).map(|t| (t, hours[(t / 4) as usize])).collect() };
    let prices = [price(&mut draws), price(&mut draws), price(&mut draws)];
    let mut functionals: Vec<Functional> = prices.iter().map(|p| functional(p)).collect();
    let honest = smallest_support(&functionals.iter().collect::<Vec<_>>()).expect("not all zero");
    assert!(honest > 1_000, "{honest}");
    // a fourth that is a combination of the others but for one hour
    let mut planted: Vec<i64> = (0..prices[0].len()).map(|h| prices[0][h] + 2 * prices[1][h] - prices[2][h]).collect();
    planted[77] += 1;
    functionals.push(functional(&planted));
    let found = smallest_support(&functionals.iter().collect::<Vec<_>>()).expect("not all zero");
    assert_eq!(found, 4, "the hour could be computed apart");
}

#[test]
fn weights_that_stand_out_are_seen() {
    let flat: Functional = (0..672).map(|t| (t, 1)).collect();
    assert!(is_spread(&flat));
    let tariff: Functional = (0..672).map(|t| (t, if t % 96 < 28 { 18 } else { 31 })).collect();
    assert!(is_spread(&tariff));
    let packed: Functional = (0..672).map(|t| (t, 1 << (t % 3 * 16))).collect();
    assert!(!is_spread(&packed));
}

/// Sums over homes in every slot and sums over slots for every home are a table with known margins: no cell follows, as long as
/// neither a row nor a column has one cell. Shown by the rank: a unit vector added to the released rows raises it.
#[test]
fn sums_in_both_directions_reveal_no_cell() {
    let (homes, slots) = (6, 10);
    let cell = |i: usize, t: usize| i * slots + t;
    let mut rows = Vec::new();
    for t in 0..slots {
        let mut row = vec![0; homes * slots];
        (0..homes).for_each(|i| row[cell(i, t)] = 1);
        rows.push(row);
    }
    for i in 0..homes {
        for register in 0..2 {
            let mut row = vec![0; homes * slots];
            (0..slots).filter(|t| t % 2 == register).for_each(|t| row[cell(i, t)] = 1 + register as u64);
            rows.push(row);
        }
    }
    let released = rank(rows.clone());
    for one in 0..homes * slots {
        let mut with = rows.clone();
        let mut unit = vec![0; homes * slots];
        unit[one] = 1;
        with.push(unit);
        assert_eq!(rank(with), released + 1, "cell {one} could be computed");
    }
    // and the test can fail: a second sum without one home gives that home's cell away
    let mut without: Vec<u64> = vec![0; homes * slots];
    (1..homes).for_each(|i| without[cell(i, 4)] = 1);
    rows.push(without);
    let mut with = rows.clone();
    let mut unit = vec![0; homes * slots];
    unit[cell(0, 4)] = 1;
    with.push(unit);
    assert_eq!(rank(with), rank(rows));
}
