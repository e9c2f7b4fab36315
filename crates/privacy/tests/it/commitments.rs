//! Lazy commitments: an honest custodian passes, one that gives wrong sums is caught in the slot that is checked.

use privacy::{
    Field,
    commitment::{CommittedDay, Generators},
    hex::Hex,
    merkle,
    operator::slots_to_check,
    query::{Answer, CheckQuery, Query},
};

use crate::world::{FIRST, World, id, signed};

/// Abuse case 24.
#[test]
fn case_24_a_wrong_sum_fails_the_check_of_its_slot() {
    let generators = Generators::default();
    let mut world = World::new(15, 1);
    world.fill(15, 96, Field::Import);
    let days: Vec<CommittedDay> = (0..15)
        .map(|n| {
            let readings: Vec<i64> = (0..96).map(|t| world.readings[&(id(n), Field::Import, FIRST + t)]).collect();
            CommittedDay::new(&generators, &world.keys[&id(n)], Field::Import, FIRST, &readings).expect("in range")
        })
        .collect();
    let query = world.spatial(0..15, FIRST, 96);
    let answer = world.ask(&signed(query.clone())).expect("answers");
    let honest = world.operator.decode(&query, std::slice::from_ref(&answer)).expect("decodes");
    let Answer::Masks(mut masks) = answer else { unreachable!() };
    masks[17] = masks[17].wrapping_add(500);
    let cheated = world.operator.decode(&query, &[Answer::Masks(masks)]).expect("decodes");
    for slot in slots_to_check(&Hex([8; 32]), 4, 96).into_iter().chain([17]) {
        let check = signed(Query::Check(CheckQuery { of: query.hash(), slot }));
        let Ok(Answer::Blinding(blinding)) = world.ask(&check) else { panic!("a blinding is given for exact sums") };
        let mut leaves = Vec::new();
        for day in &days {
            let (leaf, path) = day.open(slot as usize).expect("there");
            assert!(merkle::check_inclusion(&merkle::leaf(&leaf), u64::from(slot), 96, &path, &day.root));
            leaves.push(leaf);
        }
        let at = slot as usize;
        assert!(generators.check_given(&leaves, honest[at], &blinding), "slot {slot}");
        assert_eq!(generators.check_given(&leaves, cheated[at], &blinding), at != 17, "slot {slot}");
        assert!(!generators.check_given(&leaves, honest[at], &Hex([0xFF; 32])), "no scalar");
    }
}

/// A blinding would let guesses of the exact sum behind a noisy answer be tested.
#[test]
fn no_blinding_for_an_answer_with_noise() {
    let mut world = World::new(15, 1);
    world.fill(15, 96, Field::Clipped);
    let statistic = Query::Statistic(crate::abuse::statistic(&world, 96, 1, 1_000_000));
    world.ask(&signed(statistic.clone())).expect("answers");
    let check = Query::Check(CheckQuery { of: statistic.hash(), slot: 0 });
    let why = world.ask(&signed(check)).expect_err("is refused");
    assert!(why.contains("no blinding"), "{why}");
}
