//! Sums and bills are exact to the last watt-hour whatever is lost, late or corrected: more than ten thousand patterns of who was
//! present, each another one.

use privacy::{
    Field,
    draws::Draws,
    query::{BillQuery, Query, SpatialQuery},
};

use crate::world::{FIRST, World, id, signed, weights};

const HOMES: usize = 20;
const SLOTS: usize = 7 * 96;

/// Numbers that were compared with the truth.
#[derive(Default)]
struct Compared {
    sums: usize,
    late_sums: usize,
    corrected: usize,
    bills: usize,
}

/// How often something happens, in a thousand.
struct Rates {
    lost: u128,
    late: u128,
    corrected: u128,
}

/// Asks for every slot's sum and compares those that are given.
fn compare_sums(world: &mut World, class: fn(SpatialQuery) -> Query, homes: impl Fn(usize) -> Vec<usize>) -> usize {
    let mut compared = 0;
    for t in 0..SLOTS {
        let Query::Spatial(query) = world.spatial(homes(t), FIRST + t as u64, 1) else { unreachable!() };
        let query = class(query);
        let truth = world.truth(&query, Field::Import);
        if let Ok(answer) = world.ask(&signed(query.clone())) {
            assert_eq!(world.operator.decode(&query, &[answer]), Ok(vec![truth]), "slot {t}");
            compared += 1;
        }
    }
    compared
}

/// One town: readings lost, delayed beyond the early sum and corrected at random, a concentrator that is away now and then.
fn town(seed: u8, rates: &Rates) -> Compared {
    let mut world = World::new(HOMES, seed);
    let mut draws = Draws::new(&[seed ^ 0x5A; 32]);
    let (mut waiting, mut compared) = (Vec::new(), Compared::default());
    for t in 0..SLOTS {
        let is_away = draws.below(40) == 0;
        for n in 0..HOMES {
            let x = draws.below(900) as i64;
            match draws.below(1_000) {
                p if p < rates.lost => {}
                p if p < rates.lost + rates.late || is_away && n < 17 => waiting.push((n, t, x)),
                _ => assert!(world.send(id(n), Field::Import, FIRST + t as u64, 0, x)),
            }
        }
    }
    compared.sums = compare_sums(&mut world, Query::Spatial, |_| (0..HOMES).collect());
    let mut late: Vec<Vec<usize>> = vec![Vec::new(); SLOTS];
    for (n, t, x) in waiting {
        assert!(world.send(id(n), Field::Import, FIRST + t as u64, 0, x));
        late[t].push(n);
        if draws.below(1_000) < rates.corrected {
            assert!(world.send(id(n), Field::Import, FIRST + t as u64, 1, x / 2));
            compared.corrected += 1;
        }
    }
    compared.late_sums = compare_sums(&mut world, Query::Late, |t| late[t].clone());
    // corrections of what had come in time
    for _ in 0..rates.corrected {
        let (n, t) = (draws.below(HOMES as u128) as usize, draws.below(SLOTS as u128) as u64);
        let rows = world.rows([n], Field::Import, FIRST + t, 1);
        if let Some(row) = rows.first() {
            let rev = row.revs.first().map_or(0, |(_, rev)| *rev) + 1;
            assert!(world.send(id(n), Field::Import, FIRST + t, rev, draws.below(900) as i64));
            compared.corrected += 1;
        }
    }
    compared.bills = (0..HOMES).filter(|home| bill(&mut world, *home)).count();
    compared
}

/// Asks for a register of a home; whether it was given, and then it is right.
fn bill(world: &mut World, home: usize) -> bool {
    let rows = world.rows([home], Field::Import, FIRST, SLOTS);
    let half = SLOTS as u32 / 2;
    let weights = weights("peak", FIRST, &[(half, 31), (SLOTS as u32 - half, 24)]);
    let weigh = |counter: u64| i64::from(weights.weight(counter)) * world.readings[&(id(home), Field::Import, counter)];
    let truth: i64 = rows.iter().flat_map(|row| row.cells().map(|k| row.first + k as u64)).map(weigh).sum();
    let query = Query::Bill(BillQuery { field: Field::Import, weights, rows, exception: None });
    let Ok(answer) = world.ask(&signed(query.clone())) else { return false };
    assert_eq!(world.operator.decode(&query, &[answer]), Ok(vec![truth]), "home {home}");
    true
}

#[test]
fn sums_and_bills_are_exact_over_ten_thousand_patterns() {
    let mut all = Compared::default();
    let mut towns = 0;
    for seed in 0_u8.. {
        let mut draws = Draws::new(&[seed ^ 0xC3; 32]);
        let mut rate = |end| draws.below(end);
        let rates = Rates { lost: rate(60), late: rate(150), corrected: rate(1_000) };
        let one = town(seed, &rates);
        all.sums += one.sums;
        all.late_sums += one.late_sums;
        all.corrected += one.corrected;
        all.bills += one.bills;
        towns += 1;
        if all.sums >= 10_000 {
            break;
        }
    }
    assert!(all.sums >= 10_000, "{} sums", all.sums);
    assert!(all.late_sums >= 100 && all.corrected >= 1_000, "{} late, {} corrected", all.late_sums, all.corrected);
    assert!(all.bills > towns * HOMES / 2, "{} bills of {towns} towns", all.bills);
}

#[test]
fn a_whole_town_without_losses() {
    let one = town(7, &Rates { lost: 0, late: 0, corrected: 0 });
    assert_eq!(one.bills, HOMES);
}
