//! The compiled network: fused buses, branch and node admittances, ready for factorisation.
//!
//! Sign conventions: injections positive into the network; branch currents positive from the bus into the branch.
//! A branch with series admittance y, shunt y_s and ratio t = tap e^{j shift} at its from side has
//! `Yff = (y + y_s/2)/|t|²`, `Yft = -y/conj(t)`, `Ytf = -y/t`, `Ytt = y + y_s/2` (the MATPOWER convention).
//! Buses joined by zero-impedance branches become one node; parallel branches add up in the node matrix.

use crate::error::GridError;
use crate::network::{BusKind, LoadModel, Network};
use num_complex::Complex64 as C64;
use std::collections::HashMap;

/// Admittances of one branch, buses as positions in [`Network::buses`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct BranchY {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) yff: C64,
    pub(crate) yft: C64,
    pub(crate) ytf: C64,
    pub(crate) ytt: C64,
    /// a connection without impedance: its flow follows from the balance of the buses it joins
    pub(crate) zero: bool,
}

/// One coupled pair of nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coupling {
    pub(crate) i: usize,
    pub(crate) j: usize,
    pub(crate) yij: C64,
    pub(crate) yji: C64,
}

/// A validated network with its admittances. Compile once, solve many times.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) bus_ids: Vec<u32>,
    pub(crate) base_mva: f64,
    pub(crate) node_of_bus: Vec<usize>,
    pub(crate) buses_of_node: Vec<Vec<usize>>,
    pub(crate) slack_bus: usize,
    pub(crate) slack_voltage: C64,
    pub(crate) branches: Vec<BranchY>,
    pub(crate) diagonal: Vec<C64>,
    pub(crate) couplings: Vec<Coupling>,
    /// injections of constant-power loads, per bus, pu
    pub(crate) power: Vec<C64>,
    /// injections of constant-current loads at 1 pu, per node
    pub(crate) current: Vec<C64>,
    /// admittance of constant-impedance loads, per node
    pub(crate) load_admittance: Vec<C64>,
}

impl Model {
    /// Validates and compiles a network.
    pub fn new(network: &Network) -> Result<Self, GridError> {
        network.validate()?;
        let index = network.bus_index();
        let (node_of_bus, buses_of_node) = fuse(network, &index);
        let nodes = buses_of_node.len();
        let mut diagonal = vec![C64::ZERO; nodes];
        for (i, bus) in network.buses.iter().enumerate() {
            diagonal[node_of_bus[i]] += C64::new(bus.gs_mw, bus.bs_mvar) / network.base_mva;
        }
        let mut branches = Vec::with_capacity(network.branches.len());
        let mut couplings: Vec<Coupling> = Vec::new();
        let mut coupling_at: HashMap<(usize, usize), usize> = HashMap::new();
        for b in &network.branches {
            let branch = branch_admittance(b, index[&b.from], index[&b.to]);
            branches.push(branch);
            if branch.zero {
                continue;
            }
            let (f, t) = (node_of_bus[branch.from], node_of_bus[branch.to]);
            diagonal[f] += branch.yff;
            diagonal[t] += branch.ytt;
            if f == t {
                diagonal[f] += branch.yft + branch.ytf;
                continue;
            }
            let (i, j, yij, yji) = if f < t { (f, t, branch.yft, branch.ytf) } else { (t, f, branch.ytf, branch.yft) };
            let slot = *coupling_at.entry((i, j)).or_insert_with(|| {
                couplings.push(Coupling { i, j, yij: C64::ZERO, yji: C64::ZERO });
                couplings.len() - 1
            });
            couplings[slot].yij += yij;
            couplings[slot].yji += yji;
        }
        let slack_bus = network.slack()?;
        let BusKind::Slack { vm_pu, va_deg } = network.buses[slack_bus].kind else { return Err(GridError::NoSlack) };
        let mut model = Self {
            bus_ids: network.buses.iter().map(|b| b.id).collect(),
            base_mva: network.base_mva,
            node_of_bus,
            buses_of_node,
            slack_bus,
            slack_voltage: C64::from_polar(vm_pu, va_deg.to_radians()),
            branches,
            diagonal,
            couplings,
            power: vec![C64::ZERO; network.buses.len()],
            current: vec![C64::ZERO; nodes],
            load_admittance: vec![C64::ZERO; nodes],
        };
        for load in &network.loads {
            let bus = index[&load.bus];
            let s = -C64::new(load.p_mw, load.q_mvar) / network.base_mva;
            match load.model {
                LoadModel::Power => model.power[bus] += s,
                LoadModel::Current => model.current[model.node_of_bus[bus]] += s,
                // S = conj(Y)|V|² consumed
                LoadModel::Impedance => model.load_admittance[model.node_of_bus[bus]] -= s.conj(),
            }
        }
        Ok(model)
    }

    /// Number of buses, in the order of [`Network::buses`].
    pub fn bus_count(&self) -> usize {
        self.bus_ids.len()
    }

    /// Number of branches, in the order of [`Network::branches`].
    pub fn branch_count(&self) -> usize {
        self.branches.len()
    }

    /// The bus numbers, in the order of all per-bus slices of this crate.
    pub fn bus_ids(&self) -> &[u32] {
        &self.bus_ids
    }

    /// Position of the slack bus.
    pub fn slack_index(&self) -> usize {
        self.slack_bus
    }

    /// Power base in MVA.
    pub fn base_mva(&self) -> f64 {
        self.base_mva
    }

    pub(crate) fn node_count(&self) -> usize {
        self.buses_of_node.len()
    }

    pub(crate) fn slack_node(&self) -> usize {
        self.node_of_bus[self.slack_bus]
    }

    /// `Y V` at every node.
    pub(crate) fn node_currents(&self, v: &[C64]) -> Vec<C64> {
        let mut i: Vec<C64> = self.diagonal.iter().zip(v).map(|(y, v)| y * v).collect();
        for c in &self.couplings {
            i[c.i] += c.yij * v[c.j];
            i[c.j] += c.yji * v[c.i];
        }
        i
    }

    /// Whether two buses are joined without impedance.
    pub fn same_node(&self, a: usize, b: usize) -> bool {
        self.node_of_bus[a] == self.node_of_bus[b]
    }

    /// Power that the node of a bus injects at the voltages of all buses, pu; of all buses fused with it together.
    pub fn node_injection(&self, bus: usize, v: &[C64]) -> C64 {
        let nodes: Vec<C64> = self.buses_of_node.iter().map(|b| v[b[0]]).collect();
        v[bus] * self.node_currents(&nodes)[self.node_of_bus[bus]].conj()
    }

    /// Spreads node values over the buses.
    pub(crate) fn to_buses(&self, nodes: &[C64]) -> Vec<C64> {
        self.node_of_bus.iter().map(|&n| nodes[n]).collect()
    }
}

fn branch_admittance(b: &crate::network::Branch, from: usize, to: usize) -> BranchY {
    if b.r_pu == 0.0 && b.x_pu == 0.0 {
        let zero = C64::ZERO;
        return BranchY { from, to, yff: zero, yft: zero, ytf: zero, ytt: zero, zero: true };
    }
    let series = C64::new(b.r_pu, b.x_pu).inv();
    let shunt = C64::new(b.g_pu, b.b_pu) / 2.0;
    let ratio = C64::from_polar(b.tap, b.shift_deg.to_radians());
    BranchY {
        from,
        to,
        yff: (series + shunt) / (b.tap * b.tap),
        yft: -series / ratio.conj(),
        ytf: -series / ratio,
        ytt: series + shunt,
        zero: false,
    }
}

/// Joins buses connected by zero impedances: node of each bus and buses of each node.
fn fuse(network: &Network, index: &HashMap<u32, usize>) -> (Vec<usize>, Vec<Vec<usize>>) {
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let n = network.buses.len();
    let mut parent: Vec<usize> = (0..n).collect();
    for b in network.branches.iter().filter(|b| b.r_pu == 0.0 && b.x_pu == 0.0) {
        let (i, j) = (root(&mut parent, index[&b.from]), root(&mut parent, index[&b.to]));
        parent[i.max(j)] = i.min(j);
    }
    let mut node_of_bus = vec![usize::MAX; n];
    let mut buses_of_node: Vec<Vec<usize>> = Vec::new();
    for bus in 0..n {
        let top = root(&mut parent, bus);
        if node_of_bus[top] == usize::MAX {
            node_of_bus[top] = buses_of_node.len();
            buses_of_node.push(Vec::new());
        }
        node_of_bus[bus] = node_of_bus[top];
        buses_of_node[node_of_bus[top]].push(bus);
    }
    (node_of_bus, buses_of_node)
}
