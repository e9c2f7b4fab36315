//! How much solar or how many car chargers a place still takes, before voltage or heat binds in more than 1 % of the intervals.
//!
//! Each interval has the load quantile that its owner chose: a low one (q05) for solar, whose worst hour is a quiet noon, a high one (q95)
//! for chargers. What is added scales with the interval's factor: clear-sky yield of a kWp, or the share of chargers that run at once.

use grid::flow::{State, solve_injections};
use grid::hosting::loadings;
use grid::model::Model;
use grid::network::Network;
use grid::{Complex64, GridError};

/// What is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// Feeds in.
    Solar,
    /// Takes.
    Chargers,
}

/// One interval of the year.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// Injections by bus at the chosen load quantile, pu, generation positive.
    pub injections: Vec<Complex64>,
    /// Power per MW added, 0 … 1.
    pub factor: f64,
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Voltages, pu: 0.94 and 1.10 in Europe.
    pub vm_min_pu: f64,
    pub vm_max_pu: f64,
    /// Largest share of a branch's rating.
    pub loading_max: f64,
    /// Share of the intervals that may be beyond.
    pub share: f64,
    /// Most that is tried, MW.
    pub most_mw: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { vm_min_pu: 0.94, vm_max_pu: 1.10, loading_max: 1.0, share: 0.01, most_mw: 5.0 }
    }
}

/// Where it is added.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    pub network: &'a Network,
    /// The same, compiled.
    pub model: &'a Model,
    /// Voltage of the feeding bus, pu.
    pub slack_voltage: Complex64,
    /// Position of the bus.
    pub bus: usize,
}

/// What gives way first, by position in the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Binding {
    /// Voltage at a bus.
    Voltage { bus: usize, vm_pu: f64 },
    /// Heat in a branch.
    Heat { branch: usize, share: f64 },
    /// No solution of the power flow: the voltage collapses.
    Collapse,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Greatest power that keeps the limits in all but the allowed share of the intervals, MW.
    pub mw: f64,
    /// What binds just beyond, in the worst interval; `None` when even the most tried fits.
    pub binds: Option<Binding>,
}

/// Bisects to a two-hundredth of the most tried.
///
/// # Errors
/// A bus that does not exist.
pub fn capacity(site: &Site<'_>, added: Added, intervals: &[Interval], limits: &Limits) -> Result<Capacity, GridError> {
    let (bus, expected) = (site.bus, site.model.bus_count());
    if bus >= expected {
        return Err(GridError::Length { what: "a bus position", found: bus, expected });
    }
    let place = Place { site, added, limits };
    let allowed = (limits.share * intervals.len() as f64) as usize;
    let beyond = |mw: f64| -> (usize, Option<Binding>) {
        let found: Vec<Binding> = intervals.iter().filter_map(|i| place.binding(i, mw)).collect();
        (found.len(), worst(&found, limits))
    };
    if beyond(limits.most_mw).0 <= allowed {
        return Ok(Capacity { mw: limits.most_mw, binds: None });
    }
    if beyond(0.0).0 > allowed {
        return Ok(Capacity { mw: 0.0, binds: beyond(0.0).1 });
    }
    let (mut low, mut high) = (0.0, limits.most_mw);
    while high - low > limits.most_mw / 200.0 {
        let middle = 0.5 * (low + high);
        if beyond(middle).0 > allowed { high = middle } else { low = middle }
    }
    Ok(Capacity { mw: low, binds: beyond(high).1 })
}

struct Place<'a> {
    site: &'a Site<'a>,
    added: Added,
    limits: &'a Limits,
}

impl Place<'_> {
    fn binding(&self, interval: &Interval, mw: f64) -> Option<Binding> {
        let mut power = interval.injections.clone();
        let sign = if self.added == Added::Solar { 1.0 } else { -1.0 };
        power[self.site.bus] += sign * mw * interval.factor / self.site.model.base_mva();
        match solve_injections(self.site.model, &power, self.site.slack_voltage) {
            Ok(state) => self.judge(&state),
            Err(_) => Some(Binding::Collapse),
        }
    }

    fn judge(&self, state: &State) -> Option<Binding> {
        let outside = |vm: f64| (vm - self.limits.vm_max_pu).max(self.limits.vm_min_pu - vm);
        let voltage = state
            .vm_pu()
            .into_iter()
            .enumerate()
            .filter(|(_, vm)| outside(*vm) > 0.0)
            .max_by(|a, b| outside(a.1).total_cmp(&outside(b.1)))
            .map(|(bus, vm_pu)| Binding::Voltage { bus, vm_pu });
        let heat = loadings(self.site.network, state)
            .first()
            .filter(|l| l.share > self.limits.loading_max)
            .map(|l| Binding::Heat { branch: l.branch, share: l.share });
        voltage.or(heat)
    }
}

/// The one furthest beyond its limit.
fn worst(found: &[Binding], limits: &Limits) -> Option<Binding> {
    let size = |b: &Binding| match b {
        Binding::Voltage { vm_pu, .. } => (vm_pu - limits.vm_max_pu).max(limits.vm_min_pu - vm_pu) * 10.0,
        Binding::Heat { share, .. } => share - limits.loading_max,
        Binding::Collapse => f64::INFINITY,
    };
    found.iter().copied().max_by(|a, b| size(a).total_cmp(&size(b)))
}
