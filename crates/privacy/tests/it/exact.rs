//! Sums and bills are exact to the last watt-hour whatever is lost, late or corrected.

use privacy::{
    Field,
    draws::Draws,
    query::{BillQuery, Query},
};
use proptest::prelude::*;

use crate::world::{FIRST, World, id, signed, weights};

/// One town: readings lost, delayed beyond the early sum and corrected at random; all sums and a bill of each kind are compared.
fn town(seed: u8, days: usize, lost: u128, late: u128, corrected: u128) {
    let homes = 20;
    let slots = days * 96;
    let mut world = World::new(homes, seed);
    let mut draws = Draws::new(&[seed ^ 0x5A; 32]);
    let mut waiting = Vec::new();
    for n in 0..homes {
        for t in 0..slots as u64 {
            let x = draws.below(900) as i64;
            match draws.below(1_000) {
                p if p < lost => {}
                p if p < lost + late => waiting.push((n, t, x)),
                _ => assert!(world.send(id(n), Field::Import, FIRST + t, 0, x)),
            }
        }
    }
    let mut decoded = Vec::new();
    let mut ask_sums = |world: &mut World, class: fn(privacy::query::SpatialQuery) -> Query| {
        for t in 0..slots as u64 {
            let Query::Spatial(query) = world.spatial(0..homes, FIRST + t, 1) else { unreachable!() };
            let query = class(query);
            let truth = world.truth(&query, Field::Import);
            if let Ok(answer) = world.ask(&signed(query.clone())) {
                let sums = world.operator.decode(&query, &[answer]).expect("decodes");
                assert_eq!(sums, [truth], "seed {seed}, slot {t}");
                decoded.push(sums[0]);
            }
        }
    };
    ask_sums(&mut world, Query::Spatial);
    assert!(!decoded.is_empty() || lost + late > 200, "nothing was released");
    for (n, t, x) in waiting {
        assert!(world.send(id(n), Field::Import, FIRST + t, 0, x));
        if draws.below(1_000) < corrected {
            assert!(world.send(id(n), Field::Import, FIRST + t, 1, x / 2));
        }
    }
    for n in 0..homes {
        let rows = world.rows([n], Field::Import, FIRST, slots);
        let half = slots as u32 / 2;
        let weights = weights("peak", FIRST, &[(half, 31), (slots as u32 - half, 24)]);
        let query = Query::Bill(BillQuery { field: Field::Import, weights: weights.clone(), rows, exception: None });
        let truth: i64 = query
            .rows()
            .iter()
            .flat_map(|row| {
                let world = &world;
                let weights = &weights;
                row.cells().map(move |k| {
                    let counter = row.first + k as u64;
                    i64::from(weights.weight(counter)) * world.readings[&(id(n), Field::Import, counter)]
                })
            })
            .sum();
        if let Ok(answer) = world.ask(&signed(query.clone())) {
            assert_eq!(world.operator.decode(&query, &[answer]), Ok(vec![truth]), "seed {seed}, home {n}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Each town holds 672 patterns of who was present and 20 bills: with all cases more than ten thousand.
    #[test]
    fn sums_and_bills_are_exact(seed in 0_u8.., lost in 0_u128..60, late in 0_u128..150, corrected in 0_u128..1000) {
        town(seed, 7, lost, late, corrected);
    }
}

#[test]
fn a_whole_town_without_losses() {
    town(7, 7, 0, 0, 0);
}
