//! A small low-voltage feeder for tests.

use grid::network::{Branch, BranchKind, Bus, BusKind, Load, LoadModel, Network};

/// A transformer with two cables of ten houses each, 30 m apart.
pub fn two_cables() -> Network {
    let bus = |id: u32, kind| Bus { id, name: format!("bus {id}"), vn_kv: 0.4, kind, gs_mw: 0.0, bs_mvar: 0.0 };
    let branch = |id: u32, from, to, kind, r_pu, x_pu| Branch {
        id,
        from,
        to,
        kind,
        name: format!("branch {id}"),
        r_pu,
        x_pu,
        g_pu: 0.0,
        b_pu: 0.0,
        tap: 1.0,
        shift_deg: 0.0,
        rate_mva: None,
        length_km: None,
    };
    let mut network = Network {
        name: "two cables".to_owned(),
        base_mva: 1.0,
        frequency_hz: 50.0,
        buses: vec![bus(0, BusKind::Slack { vm_pu: 1.02, va_deg: 0.0 }), bus(1, BusKind::Load)],
        branches: vec![branch(0, 0, 1, BranchKind::Trafo, 0.02, 0.08)],
        loads: Vec::new(),
        usage_points: Vec::new(),
    };
    for house in 0..20u32 {
        let id = 2 + house;
        let from = if house % 10 == 0 { 1 } else { id - 1 };
        network.buses.push(bus(id, BusKind::Load));
        network.branches.push(branch(1 + house, from, id, BranchKind::Line, 0.06, 0.015));
        network.loads.push(Load {
            id: house + 1,
            bus: id,
            name: format!("house {house}"),
            kind: "load".to_owned(),
            p_mw: 0.004,
            q_mvar: 0.0,
            profile: "H0-A".to_owned(),
            peak_p_mw: None,
            peak_q_mvar: None,
            model: LoadModel::Power,
        });
    }
    network
}
