//! Outages on simulated feeders with flaky links: where, when, and how often nothing is called an outage.

use forecast::outage::{Element, Interruption, Sign, energy_not_served, group, reliability};
use forecast::trees::Draws;

/// A feeder with `transformers`, each with two branches of ten meters; links fail in 2 % of the intervals.
fn feeder(transformers: usize) -> Vec<Element> {
    let node = |parent| Element { parent, silence_rate: None, concentrator: None };
    let mut all = vec![node(None)];
    for t in 0..transformers {
        let transformer = all.len();
        all.push(node(Some(0)));
        for _ in 0..2 {
            let branch = all.len();
            all.push(node(Some(transformer)));
            all.extend((0..10).map(|_| Element {
                parent: Some(branch),
                silence_rate: Some(0.02),
                concentrator: Some(1_000 + t),
            }));
        }
    }
    all
}

fn is_below(elements: &[Element], mut at: usize, top: usize) -> bool {
    while at != top {
        let Some(parent) = elements[at].parent else { return false };
        at = parent;
    }
    true
}

/// Signs with an outage at `top` from `since` on: seven of ten meters gasp within 20 s, the others are only silent; and flaky links.
fn signs(elements: &[Element], top: Option<usize>, since: i64, draws: &mut Draws) -> Vec<Sign> {
    (0..elements.len())
        .map(|at| {
            if top.is_some_and(|top| is_below(elements, at, top)) {
                let late = (draws.unit() * 20.0) as i64;
                return if draws.unit() < 0.7 { Sign::LastGasp(since + late) } else { Sign::Silent(since - late) };
            }
            if draws.unit() < 0.02 {
                Sign::Silent(since - (draws.unit() * 86_400.0) as i64)
            } else {
                Sign::Reports(since)
            }
        })
        .collect()
}

#[test]
fn outages_go_to_the_right_element_and_in_time() {
    let elements = feeder(12);
    let nodes: Vec<usize> = (1..elements.len()).filter(|at| elements[*at].silence_rate.is_none()).collect();
    let (mut right, mut delays, mut draws) = (0, Vec::new(), Draws::new(1));
    let trials = 2_000;
    for trial in 0..trials {
        let top = nodes[trial % nodes.len()];
        let found = group(&elements, &signs(&elements, Some(top), 1_000_000, &mut draws)).expect("a tree");
        if found.len() == 1 && found[0].element == top {
            right += 1;
            delays.push((found[0].since - 1_000_000).abs());
        }
    }
    delays.sort_unstable();
    assert!(right * 100 >= trials * 99, "{right} of {trials}");
    assert!(delays[delays.len() * 95 / 100] <= 30, "{}", delays[delays.len() * 95 / 100]);
}

#[test]
fn flaky_links_alone_are_no_outage() {
    let elements = feeder(12);
    let mut draws = Draws::new(2);
    // silences draw anew every fifteen minutes at most: 12 transformers, 24,000 looks
    let mut false_groups = 0;
    for _ in 0..24_000 {
        false_groups += group(&elements, &signs(&elements, None, 1_000_000, &mut draws)).expect("a tree").len();
    }
    assert_eq!(false_groups, 0, "288,000 looks at transformers: eight years of one");
}

#[test]
fn a_silent_concentrator_is_no_outage_and_a_gasp_behind_it_is() {
    let elements = feeder(2);
    let mut seen: Vec<Sign> = vec![Sign::Reports(0); elements.len()];
    for (at, sign) in seen.iter_mut().enumerate() {
        if elements[at].concentrator == Some(1_000) {
            *sign = Sign::Silent(500);
        }
    }
    assert!(group(&elements, &seen).expect("a tree").is_empty());
    // it comes back, and its meters report again one by one: those left are one branch
    for sign in &mut seen[14..24] {
        *sign = Sign::Reports(900);
    }
    assert!(group(&elements, &seen).expect("a tree").is_empty(), "what is left of a link's fault");
    seen[3..8].fill(Sign::LastGasp(510));
    let found = group(&elements, &seen).expect("a tree");
    assert!(!found.is_empty(), "last gasps are believed");
    let ring = [Element { parent: Some(0), silence_rate: Some(0.1), concentrator: None }];
    assert!(group(&ring, &[Sign::Reports(0)]).is_none());
}

#[test]
fn indices_and_energy_are_those_of_the_standard() {
    let hour = Interruption { customers: 50, duration_s: 3_600 };
    let blink = Interruption { customers: 1_000, duration_s: 120 };
    let found = reliability(&[hour, blink], 1_000).expect("customers");
    assert!((found.saidi_minutes - 3.0).abs() < 1e-12 && (found.saifi - 0.05).abs() < 1e-12);
    assert_eq!(found.caidi_minutes, Some(60.0));
    assert!(reliability(&[], 0).is_none());
    let kwh = energy_not_served(&[2.0, 4.0, 6.0], &[1_800, 3_600, 5_400], 1_800, 900, 4_500);
    assert!((kwh - (1.0 + 4.0 + 3.0)).abs() < 1e-9);
}
