//! Hosting capacity and false data on a small network made by hand.

use forecast::false_data::{Verdict, Witness, inspect};
use forecast::hosting::{Added, Binding, Interval, Limits, Site, capacity};
use forecast::trees::Draws;
use grid::Complex64 as C64;
use grid::estimate::Estimator;
use grid::flow::{State, solve_injections};
use grid::measurement::{Measurement, Quantity, Side};
use grid::model::Model;
use grid::network::{Branch, BranchKind, Bus, BusKind, Network};

const BUSES: usize = 8;

/// A line of eight buses, 1 MVA base.
fn network() -> Network {
    let bus = |i: usize| Bus {
        id: i as u32,
        name: format!("B{i}"),
        vn_kv: 0.4,
        kind: if i == 0 { BusKind::Slack { vm_pu: 1.0, va_deg: 0.0 } } else { BusKind::Load },
        gs_mw: 0.0,
        bs_mvar: 0.0,
    };
    let branch = |i: usize| Branch {
        id: i as u32,
        from: i as u32,
        to: i as u32 + 1,
        kind: BranchKind::Line,
        name: format!("L{i}"),
        r_pu: 0.06,
        x_pu: 0.03,
        g_pu: 0.0,
        b_pu: 0.0,
        tap: 1.0,
        shift_deg: 0.0,
        rate_mva: Some(0.6),
        length_km: None,
    };
    Network {
        name: "line".to_owned(),
        base_mva: 1.0,
        frequency_hz: 50.0,
        buses: (0..BUSES).map(bus).collect(),
        branches: (0..BUSES - 1).map(branch).collect(),
        loads: Vec::new(),
        usage_points: Vec::new(),
    }
}

fn loads(size: f64) -> Vec<C64> {
    (0..BUSES).map(|i| if i == 0 { C64::ZERO } else { C64::new(-0.02 * size, -0.005 * size) }).collect()
}

#[test]
fn the_far_end_is_bound_by_voltage_and_the_near_one_by_heat() {
    let network = network();
    let model = Model::new(&network).expect("a good network");
    let year: Vec<Interval> =
        (0..200).map(|i| Interval { injections: loads(1.0), factor: f64::from(i) / 199.0 }).collect();
    let site = |bus| Site { network: &network, model: &model, slack_voltage: C64::new(1.0, 0.0), bus };
    let of = |bus, added| capacity(&site(bus), added, &year, &Limits::default()).expect("it solves");
    let far = of(7, Added::Solar);
    assert!(matches!(far.binds, Some(Binding::Voltage { bus: 7, .. })), "{far:?}");
    let near = of(1, Added::Solar);
    assert!(matches!(near.binds, Some(Binding::Heat { branch: 0, .. })), "{near:?}");
    assert!(near.mw > far.mw && far.mw > 0.0, "{near:?} {far:?}");
    let chargers = of(7, Added::Chargers);
    assert!(matches!(chargers.binds, Some(Binding::Voltage { vm_pu, .. }) if vm_pu < 0.94), "{chargers:?}");
    assert!(chargers.mw < far.mw, "the band below is narrower");
    let idle: Vec<Interval> = (0..10).map(|_| Interval { injections: loads(1.0), factor: 0.0 }).collect();
    let free = capacity(&site(7), Added::Solar, &idle, &Limits::default()).expect("it solves");
    assert_eq!(free.binds, None);
}

const METER: f64 = 0.0004;
const FORECAST: f64 = 0.004;

/// Everything measured: voltages, injections, flows; forecasts of the injections. `seen` = the state the measurements show.
fn scan(model: &Model, seen: &State, expected: &[C64], draws: &mut Draws) -> (Vec<Measurement>, Vec<Option<Witness>>) {
    let mut normal = || (0..12).map(|_| f64::from(draws.unit())).sum::<f64>() - 6.0;
    let (mut all, mut witnesses) = (Vec::new(), Vec::new());
    let mut add = |quantity, value: f64, witness| {
        all.push(Measurement { quantity, value_pu: value + METER * normal(), sigma_pu: METER });
        witnesses.push(witness);
    };
    for (bus, usual) in expected.iter().enumerate().take(model.bus_count()) {
        add(Quantity::Voltage { bus }, seen.v[bus].norm(), None);
        let witness = |e: f64| (bus > 0).then_some(Witness { expected_pu: e, sigma_pu: FORECAST });
        add(Quantity::ActiveInjection { bus }, seen.injection[bus].re, witness(usual.re));
        add(Quantity::ReactiveInjection { bus }, seen.injection[bus].im, witness(usual.im));
    }
    for branch in 0..model.branch_count() {
        add(Quantity::ActiveFlow { branch, side: Side::From }, seen.branches[branch].p_from_pu, None);
        add(Quantity::ReactiveFlow { branch, side: Side::From }, seen.branches[branch].q_from_pu, None);
    }
    (all, witnesses)
}

fn area_under_curve(honest: &[f64], wrong: &[f64]) -> f64 {
    let wins: f64 = wrong
        .iter()
        .map(|w| {
            honest
                .iter()
                .map(|h| {
                    if w > h {
                        1.0
                    } else if w == h {
                        0.5
                    } else {
                        0.0
                    }
                })
                .sum::<f64>()
        })
        .sum();
    wins / (honest.len() * wrong.len()) as f64
}

#[test]
fn one_sensor_is_found_by_the_others_and_a_coordinated_injection_by_the_forecasts() {
    let network = network();
    let model = Model::new(&network).expect("a good network");
    let mut draws = Draws::new(5);
    let truth = |size: f64| solve_injections(&model, &loads(size), C64::new(1.0, 0.0)).expect("it solves");
    let honest_state = truth(1.0);
    let (mut honest, mut wrong) = (Vec::new(), Vec::new());
    for trial in 0..40 {
        let (mut all, witnesses) = scan(&model, &honest_state, &loads(1.0), &mut draws);
        let at = (trial * 7) % all.len();
        let look = |all: &[Measurement]| {
            inspect(&Estimator::new(&model, all, &[]).expect("good"), &witnesses).expect("it solves")
        };
        honest.push(look(&all).doubts[at].residual.unwrap_or(0.0));
        all[at].value_pu += 5.0 * METER;
        wrong.push(look(&all).doubts[at].residual.unwrap_or(0.0));
    }
    let area = area_under_curve(&honest, &wrong);
    assert!(area >= 0.95, "{area}");

    // every measurement tells the same lie: loads of 1.8 times the truth; and one below the forecast's doubt
    let verdict = |size: f64, draws: &mut Draws| {
        let (all, witnesses) = scan(&model, &truth(size), &loads(1.0), draws);
        inspect(&Estimator::new(&model, &all, &[]).expect("good"), &witnesses).expect("it solves")
    };
    let seen = verdict(1.8, &mut draws);
    assert!(seen.residual_p > 1e-3, "the residuals are blind to it: {}", seen.residual_p);
    assert_eq!(seen.verdict(), Verdict::AgainstForecasts);
    assert_eq!(
        verdict(1.05, &mut draws).verdict(),
        Verdict::Honest,
        "what hides below the forecast's doubt is not seen"
    );
}
