//! Random networks and an independent dense solver.
#![allow(dead_code)] // every test file uses a part of it

use grid::Complex64 as C64;
use grid::bench::Draw;
use grid::network::{Branch, BranchKind, Bus, BusKind, Load, LoadModel, Network};

pub fn bus(id: u32, slack: bool) -> Bus {
    let kind = if slack { BusKind::Slack { vm_pu: 1.02, va_deg: 0.0 } } else { BusKind::Load };
    Bus { id, name: format!("B{id}"), vn_kv: 0.4, kind, gs_mw: 0.0, bs_mvar: 0.0 }
}

pub fn branch(id: u32, from: u32, to: u32, r_pu: f64, x_pu: f64) -> Branch {
    Branch {
        id,
        from,
        to,
        kind: BranchKind::Line,
        name: format!("L{id}"),
        r_pu,
        x_pu,
        g_pu: 0.0,
        b_pu: 0.0,
        tap: 1.0,
        shift_deg: 0.0,
        rate_mva: None,
        length_km: Some(0.1),
    }
}

pub fn load(id: u32, bus: u32, p_mw: f64, q_mvar: f64) -> Load {
    Load {
        id,
        bus,
        name: format!("LD{id}"),
        kind: "load".into(),
        p_mw,
        q_mvar,
        profile: String::new(),
        peak_p_mw: None,
        peak_q_mvar: None,
        model: LoadModel::Power,
    }
}

/// A random tree of `buses` buses with `chords` further branches; numbers are scattered, the slack is anywhere.
/// The total drop stays moderate whatever the size.
pub fn random_network(seed: u64, buses: usize, chords: usize) -> Network {
    let mut draw = Draw::new(seed);
    let pick = |draw: &mut Draw, n: usize| ((draw.uniform() * n as f64) as usize).min(n - 1);
    let id = |i: usize| 7 + 3 * i as u32;
    let slack = pick(&mut draw, buses);
    let scale = 0.3 / buses as f64;
    let mut branches = Vec::new();
    for i in 1..buses {
        // only the transformer leaves the first bus
        let parent = if i == 1 || draw.uniform() < 0.5 { i - 1 } else { 1 + pick(&mut draw, i - 1) };
        let mut line =
            branch(i as u32, id(parent), id(i), scale * (0.2 + draw.uniform()), scale * (0.1 + draw.uniform()));
        line.b_pu = 0.01 * draw.uniform();
        branches.push(line);
    }
    branches[0].kind = BranchKind::Trafo;
    branches[0].tap = 0.975;
    branches[0].shift_deg = 30.0;
    for k in 0..chords {
        let (a, b) = (pick(&mut draw, buses), pick(&mut draw, buses));
        // a chord across the transformer would short its phase shift
        if a != b && a > 0 && b > 0 && buses > 3 && slack > 0 {
            branches.push(branch((buses + k) as u32, id(a), id(b), scale * (0.2 + draw.uniform()), scale));
        }
    }
    let mut loads = Vec::new();
    for i in 0..buses {
        if i != slack && draw.uniform() < 0.7 {
            let p = 0.4 * (draw.uniform() - 0.2) / buses.min(40) as f64;
            let mut l = load(i as u32, id(i), p, 0.4 * p);
            l.model = match pick(&mut draw, 6) {
                0 => LoadModel::Current,
                1 => LoadModel::Impedance,
                _ => LoadModel::Power,
            };
            loads.push(l);
        }
    }
    Network {
        name: "random".into(),
        base_mva: 1.0,
        frequency_hz: 50.0,
        buses: (0..buses).map(|i| bus(id(i), i == slack)).collect(),
        branches,
        loads,
        usage_points: Vec::new(),
    }
}

/// Node admittances written from the definition of a branch, dense.
pub fn dense_admittance(network: &Network) -> Vec<Vec<C64>> {
    let index = network.bus_index();
    let n = network.buses.len();
    let mut y = vec![vec![C64::ZERO; n]; n];
    for b in &network.branches {
        let (f, t) = (index[&b.from], index[&b.to]);
        let series = C64::ONE / C64::new(b.r_pu, b.x_pu);
        let half = C64::new(b.g_pu, b.b_pu) * 0.5;
        let ratio = C64::from_polar(b.tap, b.shift_deg.to_radians());
        y[f][f] += (series + half) / ratio.norm_sqr();
        y[f][t] -= series / ratio.conj();
        y[t][f] -= series / ratio;
        y[t][t] += series + half;
    }
    y
}

/// Gaussian elimination with row pivoting.
pub fn dense_solve(mut a: Vec<Vec<C64>>, mut b: Vec<C64>) -> Vec<C64> {
    let n = b.len();
    for k in 0..n {
        let pivot = (k..n).max_by(|&i, &j| a[i][k].norm().total_cmp(&a[j][k].norm())).expect("not empty");
        a.swap(k, pivot);
        b.swap(k, pivot);
        let row = a[k].clone();
        for i in k + 1..n {
            let factor = a[i][k] / row[k];
            if factor != C64::ZERO {
                for (x, r) in a[i].iter_mut().zip(&row).skip(k) {
                    *x -= factor * r;
                }
                let bk = b[k];
                b[i] -= factor * bk;
            }
        }
    }
    for k in (0..n).rev() {
        let sum: C64 = (k + 1..n).map(|j| a[k][j] * b[j]).sum();
        b[k] = (b[k] - sum) / a[k][k];
    }
    b
}

/// Power drawn by the loads of each bus at voltage magnitude `vm`, as an injection.
pub fn load_injection(network: &Network, bus: u32, vm: f64) -> C64 {
    network
        .loads
        .iter()
        .filter(|l| l.bus == bus)
        .map(|l| {
            let factor = match l.model {
                LoadModel::Power => 1.0,
                LoadModel::Current => vm,
                LoadModel::Impedance => vm * vm,
            };
            -C64::new(l.p_mw, l.q_mvar) / network.base_mva * factor
        })
        .sum()
}

/// Power flow by fixed-point iteration on the dense matrix.
pub fn dense_power_flow(network: &Network) -> Vec<C64> {
    let y = dense_admittance(network);
    let slack = network.slack().expect("one slack");
    let BusKind::Slack { vm_pu, va_deg } = network.buses[slack].kind else { unreachable!("checked by slack()") };
    let v0 = C64::from_polar(vm_pu, va_deg.to_radians());
    let solve = |v: Option<&[C64]>| {
        let mut a = y.clone();
        let mut b = vec![C64::ZERO; y.len()];
        a[slack].fill(C64::ZERO);
        a[slack][slack] = C64::ONE;
        b[slack] = v0;
        if let Some(v) = v {
            for (i, bus) in network.buses.iter().enumerate().filter(|(i, _)| *i != slack) {
                b[i] = (load_injection(network, bus.id, v[i].norm()) / v[i]).conj();
            }
        }
        dense_solve(a, b)
    };
    let mut v = solve(None);
    for _ in 0..200 {
        let new = solve(Some(&v));
        let step = v.iter().zip(&new).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
        v = new;
        if step < 1e-13 {
            break;
        }
    }
    v
}
