//! What of false data is seen on a published network: `false_data FOLDER [TRIALS] [equal]` with a folder of buses.csv, branches.csv … as `grid`
//! reads it.
//!
//! Meters at every bus (voltage to 0.2 %, power to 1 % of its value or of the mean load where that is more; with `equal` to 1 % of the mean load
//! everywhere) and flows at every branch; a tenth of each load is the doubt of its forecast. One sensor is moved by five of its deviations; the
//! areas under the curve are those of residual, innovation and the larger of both against the same sensors' honest values. Then
//! all loads are scaled, so that the measurements agree with each other and not with the forecasts.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use forecast::false_data::{Verdict, Witness, inspect};
use forecast::trees::Draws;
use grid::Complex64;
use grid::estimate::Estimator;
use grid::flow::{State, solve_injections};
use grid::folder::read_network;
use grid::measurement::{Measurement, Quantity, Side};
use grid::model::Model;
use grid::network::BusKind;

const VOLTAGE: f64 = 0.002;
const POWER: f64 = 0.01;
const FORECAST: f64 = 0.1;

struct World {
    model: Model,
    usual: Vec<Complex64>,
    slack: Complex64,
    /// Mean of the loads, pu: the unit of small ones.
    size: f64,
    /// Whether all power meters are equally good, pu.
    is_equal: bool,
}

impl World {
    fn read(folder: &Path, is_equal: bool) -> Result<Self, Box<dyn Error>> {
        let network = read_network(folder)?;
        let model = Model::new(&network)?;
        let mut usual = vec![Complex64::ZERO; network.buses.len()];
        for load in &network.loads {
            let bus =
                network.buses.iter().position(|b| b.id == load.bus).ok_or("a load at a bus that does not exist")?;
            usual[bus] -= Complex64::new(load.p_mw, load.q_mvar) / network.base_mva;
        }
        let slack = network
            .buses
            .iter()
            .find_map(|b| if let BusKind::Slack { vm_pu, va_deg } = b.kind { Some((vm_pu, va_deg)) } else { None })
            .map(|(vm, va)| Complex64::from_polar(vm, va.to_radians()))
            .ok_or("there is no slack bus")?;
        let loaded = usual.iter().filter(|u| u.norm() > 0.0).count().max(1);
        let size = usual.iter().map(|u| u.norm()).sum::<f64>() / loaded as f64;
        Ok(Self { model, usual, slack, size, is_equal })
    }

    /// The state at loads of their own share of the usual.
    fn state(&self, shares: &[f64]) -> Result<State, Box<dyn Error>> {
        let loads: Vec<Complex64> = self.usual.iter().zip(shares).map(|(u, s)| u * *s).collect();
        Ok(solve_injections(&self.model, &loads, self.slack)?)
    }

    /// Of a power meter: of its value, or of the mean load where that is more; or the latter everywhere.
    fn sigma(&self, value: f64) -> f64 {
        POWER * if self.is_equal { self.size } else { value.abs().max(self.size) }
    }

    /// Everything measured, and the forecasts of the injections.
    fn scan(&self, seen: &State, draws: &mut Draws) -> (Vec<Measurement>, Vec<Option<Witness>>) {
        let (mut all, mut witnesses) = (Vec::new(), Vec::new());
        let mut add = |quantity, value: f64, sigma_pu: f64, witness| {
            all.push(Measurement { quantity, value_pu: value + sigma_pu * normal(draws), sigma_pu });
            witnesses.push(witness);
        };
        for (bus, usual) in self.usual.iter().enumerate() {
            let doubt = |v: f64| FORECAST * v.abs().max(0.1 * self.size);
            let witness = |v: f64| (usual.norm() > 0.0).then_some(Witness { expected_pu: v, sigma_pu: doubt(v) });
            add(Quantity::Voltage { bus }, seen.v[bus].norm(), VOLTAGE, None);
            let (p, q) = (seen.injection[bus].re, seen.injection[bus].im);
            add(Quantity::ActiveInjection { bus }, p, self.sigma(p), witness(usual.re));
            add(Quantity::ReactiveInjection { bus }, q, self.sigma(q), witness(usual.im));
        }
        for branch in 0..self.model.branch_count() {
            let (p, q) = (seen.branches[branch].p_from_pu, seen.branches[branch].q_from_pu);
            add(Quantity::ActiveFlow { branch, side: Side::From }, p, self.sigma(p), None);
            add(Quantity::ReactiveFlow { branch, side: Side::From }, q, self.sigma(q), None);
        }
        (all, witnesses)
    }
}

fn normal(draws: &mut Draws) -> f64 {
    (0..12).map(|_| f64::from(draws.unit())).sum::<f64>() - 6.0
}

fn area(honest: &[f64], wrong: &[f64]) -> f64 {
    let wins =
        |w: &f64| honest.iter().map(|h| if w > h { 1.0 } else { 0.5 * f64::from(u8::from(w == h)) }).sum::<f64>();
    wrong.iter().map(wins).sum::<f64>() / (honest.len() * wrong.len()).max(1) as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    let world = World::read(
        Path::new(words.get(1).ok_or("give the folder of a network")?),
        words.iter().any(|w| w == "equal"),
    )?;
    let trials: usize = words.get(2).map_or(Ok(300), |w| w.parse())?;
    let mut draws = Draws::new(3);
    let mut by_kind: BTreeMap<&str, [Vec<f64>; 6]> = BTreeMap::new();
    for _ in 0..trials {
        let shares: Vec<f64> = world.usual.iter().map(|_| 1.0 + FORECAST * normal(&mut draws)).collect();
        let state = world.state(&shares)?;
        let (mut all, witnesses) = world.scan(&state, &mut draws);
        let at = (draws.bits() % all.len() as u64) as usize;
        let kind = match all[at].quantity {
            Quantity::Voltage { .. } => "voltage",
            Quantity::ActiveInjection { .. } | Quantity::ReactiveInjection { .. } => "injection",
            _ => "flow",
        };
        let entry = by_kind.entry(kind).or_default();
        for side in [0, 3] {
            let doubt = inspect(&Estimator::new(&world.model, &all, &[])?, &witnesses)?.doubts[at];
            entry[side].push(doubt.residual.unwrap_or(0.0));
            entry[side + 1].push(doubt.innovation.map_or(0.0, f64::abs));
            entry[side + 2].push(doubt.size());
            all[at].value_pu += 5.0 * all[at].sigma_pu;
        }
    }
    println!("one sensor at five deviations: kind, trials, area by residual, by forecast, by the larger");
    let mut total: [Vec<f64>; 6] = Default::default();
    for (kind, values) in &by_kind {
        let of = |i: usize| area(&values[i], &values[i + 3]);
        println!("{kind:<10} {:>4} {:.3} {:.3} {:.3}", values[0].len(), of(0), of(1), of(2));
        total.iter_mut().zip(values).for_each(|(t, v)| t.extend(v));
    }
    println!(
        "all        {:>4} {:.3} {:.3} {:.3}",
        total[0].len(),
        area(&total[0], &total[3]),
        area(&total[1], &total[4]),
        area(&total[2], &total[5])
    );
    println!("coordinated: loads scaled, share found against the forecasts, named as one sensor");
    for scale in [1.0, 1.02, 1.05, 1.1, 1.2, 1.5] {
        let (mut seen, mut named) = (0, 0);
        let tests = (trials / 10).max(10);
        for _ in 0..tests {
            let shares: Vec<f64> = world.usual.iter().map(|_| scale * (1.0 + FORECAST * normal(&mut draws))).collect();
            let state = world.state(&shares)?;
            let (all, witnesses) = world.scan(&state, &mut draws);
            match inspect(&Estimator::new(&world.model, &all, &[])?, &witnesses)?.verdict() {
                Verdict::AgainstForecasts => seen += 1,
                Verdict::Sensor(_) => named += 1,
                Verdict::Honest => {}
            }
        }
        println!("{scale:.2} {:.2} {:.2}", f64::from(seen) / tests as f64, f64::from(named) / tests as f64);
    }
    Ok(())
}
