//! What the network can still take: loading of branches, and the power each bus can feed in before a limit is met.

use crate::error::GridError;
use crate::flow::{State, solve_injections};
use crate::model::Model;
use crate::network::Network;
use num_complex::Complex64 as C64;

/// Loading of one branch against its rating.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loading {
    /// Position in [`Network::branches`].
    pub branch: usize,
    /// Apparent power at the more loaded end, MVA.
    pub mva: f64,
    /// Share of the rating, 1 when fully loaded.
    pub share: f64,
}

/// Loading of every branch that has a rating, the worst first.
pub fn loadings(network: &Network, state: &State) -> Vec<Loading> {
    let mut out: Vec<Loading> = network
        .branches
        .iter()
        .zip(&state.branches)
        .enumerate()
        .filter_map(|(branch, (b, f))| {
            let rate = b.rate_mva.filter(|r| *r > 0.0)?;
            let mva = network.base_mva * f.p_from_pu.hypot(f.q_from_pu).max(f.p_to_pu.hypot(f.q_to_pu));
            Some(Loading { branch, mva, share: mva / rate })
        })
        .collect();
    out.sort_by(|a, b| b.share.total_cmp(&a.share));
    out
}

/// Limits for [`hosting_capacity`].
#[derive(Debug, Clone, Copy)]
pub struct HostingLimits {
    pub vm_max_pu: f64,
    /// Largest share of a branch rating.
    pub loading_max: f64,
    /// Largest power tried, MW.
    pub p_max_mw: f64,
}

/// Largest generation (unity power factor, MW) that one bus can add to the given injections before a voltage or a rating is
/// exceeded; found by bisection to a thousandth of `p_max_mw`. 0 when the state is beyond the limits already.
///
/// # Errors
/// Those of the power flow at the given injections.
pub fn hosting_capacity(
    network: &Network,
    model: &Model,
    injections: &[C64],
    slack_voltage: C64,
    bus: usize,
    limits: &HostingLimits,
) -> Result<f64, GridError> {
    if bus >= model.bus_count() {
        return Err(GridError::Length { what: "a bus position", found: bus, expected: model.bus_count() });
    }
    let within = |p_mw: f64| -> Result<bool, GridError> {
        let mut power = injections.to_vec();
        power[bus] += p_mw / model.base_mva();
        let state = solve_injections(model, &power, slack_voltage)?;
        let voltage = state.v.iter().all(|v| v.norm() <= limits.vm_max_pu);
        Ok(voltage && loadings(network, &state).first().is_none_or(|l| l.share <= limits.loading_max))
    };
    if !within(0.0)? {
        return Ok(0.0);
    }
    // beyond the limits the flow may have no solution at all; that is "no" too
    if within(limits.p_max_mw).unwrap_or(false) {
        return Ok(limits.p_max_mw);
    }
    let (mut low, mut high) = (0.0, limits.p_max_mw);
    while high - low > 1e-3 * limits.p_max_mw {
        let middle = 0.5 * (low + high);
        if within(middle).unwrap_or(false) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
