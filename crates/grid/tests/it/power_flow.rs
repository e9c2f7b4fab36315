//! Power flow against a dense solver and the laws of circuits.

use crate::support::{branch, bus, dense_admittance, dense_power_flow, load, load_injection, random_network};
use grid::Complex64 as C64;
use grid::bench::Draw;
use grid::flow::{FlowSolver, Scenarios, solve, solve_injections};
use grid::model::Model;
use grid::network::LoadModel;
use grid::series::path_resistances;
use grid::{GridError, Tolerance};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_networks_agree_with_a_dense_solver(seed: u64, buses in 2usize..40, chords in 0usize..3) {
        let network = random_network(seed, buses, chords);
        let state = solve(&Model::new(&network).unwrap()).unwrap();
        for (v, dense) in state.v.iter().zip(dense_power_flow(&network)) {
            prop_assert!((v - dense).norm() < 1e-10, "{v} against {dense}");
        }
    }

    #[test]
    fn energy_in_is_loads_plus_losses_and_currents_balance(seed: u64, buses in 2usize..60, chords in 0usize..3) {
        let network = random_network(seed, buses, chords);
        let state = solve(&Model::new(&network).unwrap()).unwrap();
        let slack = network.slack().unwrap();
        let mut balance = state.injection.clone();
        let index = network.bus_index();
        for (b, f) in network.branches.iter().zip(&state.branches) {
            balance[index[&b.from]] -= C64::new(f.p_from_pu, f.q_from_pu);
            balance[index[&b.to]] -= C64::new(f.p_to_pu, f.q_to_pu);
        }
        for s in &balance {
            prop_assert!(s.norm() < 1e-10);
        }
        let drawn: C64 = network.buses.iter().zip(&state.v).map(|(b, v)| load_injection(&network, b.id, v.norm())).sum();
        let losses: f64 = state.branches.iter().map(|b| b.loss_p_pu()).sum();
        prop_assert!((state.injection[slack].re + drawn.re - losses).abs() < 1e-10);
        prop_assert!((state.loss_p_pu - losses).abs() < 1e-10);
        prop_assert!(losses >= -1e-12);
    }

    #[test]
    fn a_batch_equals_single_solutions(seed: u64, buses in 2usize..40, chords in 0usize..2, threads in 1usize..3) {
        let network = random_network(seed, buses, chords);
        let model = Model::new(&network).unwrap();
        let columns: Vec<usize> = (0..buses).filter(|i| i % 3 != 1).collect();
        let mut draw = Draw::new(seed ^ 1);
        let count = 19;
        let p: Vec<f64> = (0..count * columns.len()).map(|_| 0.01 * draw.normal()).collect();
        let q: Vec<f64> = (0..count * columns.len()).map(|_| 0.004 * draw.normal()).collect();
        let vm: Vec<f64> = (0..count).map(|_| 1.0 + 0.02 * draw.normal()).collect();
        let solver = FlowSolver::new(&model, &columns, &vec![C64::new(-0.005, 0.0); buses]).unwrap();
        let scenarios = Scenarios { p_pu: &p, q_pu: &q, slack_vm_pu: Some(&vm) };
        let out = solver.solve(&scenarios, Tolerance { step_pu: 1e-12, max_iterations: 50 }, threads).unwrap();
        prop_assert!(out.failed.is_empty());
        let series = solver.solve_series(&scenarios, threads).unwrap();
        for s in 0..count {
            let mut power = vec![C64::ZERO; buses];
            for (k, &c) in columns.iter().enumerate() {
                power[c] = C64::new(p[s * columns.len() + k], q[s * columns.len() + k]);
            }
            let single = solve_injections(&model, &power, C64::new(vm[s], 0.0)).unwrap();
            for i in 0..buses {
                let v = C64::new(out.re[s * buses + i], out.im[s * buses + i]);
                prop_assert!((v - single.v[i]).norm() < 1e-9);
            }
            let loss: f64 = single.branches.iter().map(|b| b.loss_p_pu()).sum();
            prop_assert!((series.loss_p_pu[s] - loss).abs() < 1e-7, "{} against {loss}", series.loss_p_pu[s]);
        }
    }
}

#[test]
fn two_thousand_buses_satisfy_the_network_equations() {
    let mut network = random_network(42, 2000, 0);
    for l in &mut network.loads {
        l.p_mw *= 0.05;
        l.q_mvar *= 0.05;
    }
    let state = solve(&Model::new(&network).unwrap()).unwrap();
    let y = dense_admittance(&network);
    let slack = network.slack().unwrap();
    for (i, b) in network.buses.iter().enumerate().filter(|(i, _)| *i != slack) {
        let current: C64 = y[i].iter().zip(&state.v).filter(|(y, _)| **y != C64::ZERO).map(|(y, v)| y * v).sum();
        let wanted = load_injection(&network, b.id, state.v[i].norm());
        assert!((state.v[i] * current.conj() - wanted).norm() < 1e-8, "bus {}", b.id);
    }
}

#[test]
fn trees_of_up_to_two_thousand_buses_agree_with_a_dense_solver() {
    for (seed, buses) in [(1, 150), (2, 600), (3, 2000)] {
        let mut network = random_network(seed, buses, 0);
        for l in &mut network.loads {
            l.p_mw *= 0.05;
            l.q_mvar *= 0.05;
        }
        let state = solve(&Model::new(&network).unwrap()).unwrap();
        let slack = network.slack().unwrap();
        // V = Y⁻¹ I(V) at the solution; rows from the far end, where the dense elimination fills in least
        let at = |i: usize| buses - 1 - i;
        let mut y = dense_admittance(&network);
        let mut right = vec![C64::ZERO; buses];
        for (i, b) in network.buses.iter().enumerate() {
            right[at(i)] = (load_injection(&network, b.id, state.v[i].norm()) / state.v[i]).conj();
        }
        y[slack].fill(C64::ZERO);
        y[slack][slack] = C64::ONE;
        right[at(slack)] = state.v[slack];
        y.reverse();
        y.iter_mut().for_each(|row| row.reverse());
        let dense = crate::support::dense_solve(y, right);
        for i in 0..buses {
            assert!((dense[at(i)] - state.v[i]).norm() < 1e-9, "{buses} buses, position {i}");
        }
    }
}

#[test]
fn a_fused_switch_carries_the_balance_of_its_bus() {
    let mut network = random_network(1, 2, 0);
    network.buses = vec![bus(1, true), bus(2, false), bus(3, false), bus(4, false)];
    network.branches = vec![branch(1, 1, 2, 0.01, 0.01), branch(2, 2, 3, 0.0, 0.0), branch(3, 3, 4, 0.02, 0.01)];
    network.loads = vec![load(1, 3, 0.2, 0.1), load(2, 4, 0.3, 0.0)];
    let state = solve(&Model::new(&network).unwrap()).unwrap();
    assert_eq!(state.v[1], state.v[2]);
    let through = state.branches[1].p_from_pu;
    assert!((through + state.branches[0].p_to_pu).abs() < 1e-12);
    assert!((through - 0.2 - state.branches[2].p_from_pu).abs() < 1e-12);
}

#[test]
fn too_much_load_is_reported_with_the_worst_bus() {
    let mut network = random_network(1, 2, 0);
    network.buses = vec![bus(1, true), bus(2, false)];
    network.branches = vec![branch(1, 1, 2, 0.1, 0.1)];
    network.loads = vec![load(1, 2, 50.0, 10.0)];
    match solve(&Model::new(&network).unwrap()) {
        Err(GridError::NotConverged { bus, .. }) => assert_eq!(bus, "2"),
        other => panic!("{other:?}"),
    }
    let model = Model::new(&network).unwrap();
    let solver = FlowSolver::new(&model, &[1], &[C64::ZERO, C64::new(-0.1, 0.0)]).unwrap();
    let scenarios = Scenarios { p_pu: &[-0.2, -50.0], q_pu: &[0.0, 0.0], slack_vm_pu: None };
    let out = solver.solve(&scenarios, Tolerance::default(), 1).unwrap();
    assert_eq!(out.failed.len(), 1);
    assert_eq!(out.failed[0].0, 1);
    assert!(out.re[3].is_nan() && out.re[1].is_finite());
}

#[test]
fn path_resistance_is_the_common_part() {
    let mut network = random_network(1, 2, 0);
    network.buses = vec![bus(1, true), bus(2, false), bus(3, false), bus(4, false)];
    network.branches = vec![branch(1, 1, 2, 0.01, 0.1), branch(2, 2, 3, 0.02, 0.1), branch(3, 2, 4, 0.03, 0.1)];
    network.loads = vec![load(1, 3, 0.2, 0.1)];
    network.loads[0].model = LoadModel::Power;
    let r = path_resistances(&Model::new(&network).unwrap(), &[2, 3]).unwrap();
    for (value, wanted) in r.iter().zip([0.03, 0.01, 0.01, 0.04]) {
        assert!((value - wanted).abs() < 1e-12);
    }
}
