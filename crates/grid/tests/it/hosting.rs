//! Loading of branches and hosting capacity against closed forms.

use crate::support::{branch, bus, load, random_network};
use grid::Complex64 as C64;
use grid::flow::{solve, solve_injections};
use grid::hosting::{HostingLimits, hosting_capacity, loadings};
use grid::model::Model;
use grid::network::Network;
use proptest::prelude::*;

/// A slack bus at 1.02 pu and a line of `r` and `x` to one loaded bus.
fn two_buses(r: f64, x: f64, rate_mva: Option<f64>) -> Network {
    let mut network = random_network(1, 2, 0);
    network.buses = vec![bus(1, true), bus(2, false)];
    network.branches = vec![branch(1, 1, 2, r, x)];
    network.branches[0].rate_mva = rate_mva;
    network.loads = vec![load(1, 2, 0.1, 0.0)];
    network
}

fn capacity(network: &Network, limits: &HostingLimits) -> f64 {
    let model = Model::new(network).unwrap();
    let state = solve(&model).unwrap();
    hosting_capacity(network, &model, &state.injection, state.v[0], 1, limits).unwrap()
}

#[test]
fn the_voltage_limit_is_met_where_the_formula_says() {
    // over a resistance V2 = V1 + r P/V2: the limit is met at P = V2 (V2 - V1)/r, and 0.1 MW of load come back on top
    let network = two_buses(0.02, 0.0, None);
    let limits = HostingLimits { vm_max_pu: 1.05, loading_max: 1.0, p_max_mw: 10.0 };
    let wanted = 1.05 * (1.05 - 1.02) / 0.02 + 0.1;
    let found = capacity(&network, &limits);
    assert!(found <= wanted && found > wanted - 2e-3 * limits.p_max_mw, "{found} against {wanted}");
}

#[test]
fn the_rating_is_met_where_the_formula_says() {
    let network = two_buses(1e-4, 1e-4, Some(0.5));
    let limits = HostingLimits { vm_max_pu: 1.2, loading_max: 0.8, p_max_mw: 2.0 };
    let found = capacity(&network, &limits);
    // 0.4 MW may flow back beside the 0.1 MW of load
    assert!(found <= 0.5 && found > 0.5 - 3e-3 * limits.p_max_mw, "{found}");
    let loaded = loadings(&network, &solve(&Model::new(&network).unwrap()).unwrap());
    assert!((loaded[0].share - 0.2).abs() < 1e-3, "{loaded:?}");
}

#[test]
fn a_network_beyond_its_limits_hosts_nothing() {
    let network = two_buses(0.02, 0.0, Some(0.05));
    assert_eq!(capacity(&network, &HostingLimits { vm_max_pu: 1.1, loading_max: 1.0, p_max_mw: 1.0 }), 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_hosted_keeps_the_limits_and_a_little_more_breaks_them(seed: u64, buses in 3usize..20) {
        let mut network = random_network(seed, buses, 0);
        network.branches.iter_mut().for_each(|b| b.rate_mva = Some(2.0));
        let model = Model::new(&network).unwrap();
        let state = solve(&model).unwrap();
        let slack = network.slack().unwrap();
        let limits = HostingLimits { vm_max_pu: 1.08, loading_max: 1.0, p_max_mw: 4.0 };
        let power = |bus: usize, p: f64| {
            let mut power = state.injection.clone();
            power[bus] += C64::new(p, 0.0);
            solve_injections(&model, &power, state.v[slack])
        };
        let fits = |bus: usize, p: f64| power(bus, p).is_ok_and(|s| {
            s.v.iter().all(|v| v.norm() <= limits.vm_max_pu)
                && loadings(&network, &s).first().is_none_or(|l| l.share <= limits.loading_max)
        });
        for bus in (0..buses).filter(|b| *b != slack) {
            let found = hosting_capacity(&network, &model, &state.injection, state.v[slack], bus, &limits).unwrap();
            prop_assert!(found == 0.0 || fits(bus, found), "bus {bus}: {found}");
            prop_assert!(found == limits.p_max_mw || !fits(bus, found + 2e-3 * limits.p_max_mw), "bus {bus}: {found}");
        }
    }
}
