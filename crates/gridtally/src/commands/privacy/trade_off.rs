//! `gridtally privacy estimate`: what ε costs the estimate of a network's state, predicted and simulated with the exact estimator.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use grid::{
    Complex64,
    estimate::estimate,
    flow::{solve, solve_injections},
    folder::read_network,
    measurement::{Measurement, Quantity},
    model::Model,
    network::Network,
    private::{Belief, laplace_variance, lower_bound},
};
use privacy::{
    draws::Draws,
    noise::{Ratio, laplace},
};
use serde_json::json;

use super::{
    super::CommandError,
    plot::{Line, draw},
};

#[derive(Debug, Args)]
pub struct EstimateArguments {
    /// Network folder
    folder: PathBuf,
    /// One customer's readings differ by at most so much, kW; readings are clipped to that width
    #[arg(long, default_value_t = 5.0)]
    width_kw: f64,
    /// What is known of a load before, as a share of it, percent
    #[arg(long, default_value_t = 50.0)]
    prior_percent: f64,
    /// States estimated for each epsilon
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    draws: u32,
    /// Seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the plot to this SVG file
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Millionths of ε of the table.
const LEVELS: [u32; 7] = [10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000];
/// Error of the operator's own meter at the head, kW of a standard deviation, and of its voltmeter, pu.
const HEAD_KW: f64 = 1.0;
const VOLTMETER_PU: f64 = 1e-4;
/// Error of a home's meter besides the noise, kW.
const METER_KW: f64 = 0.5;

/// The loads of a network, and what is known of them.
struct Study {
    network: Network,
    model: Model,
    /// Buses with loads, mean injection in kW (negative: consumption), deviation of what is known before, kW.
    loads: Vec<(usize, f64, f64)>,
    zero: Vec<usize>,
}

/// One line of the table. Errors are root mean squares.
struct Level {
    epsilon: f64,
    noise_kw: f64,
    predicted_kw: f64,
    simulated_kw: f64,
    bound_kw: f64,
    head_kw: f64,
    voltage_pu: f64,
}

impl Study {
    fn read(arguments: &EstimateArguments) -> Result<Self, CommandError> {
        let network = read_network(&arguments.folder)?;
        let model = Model::new(&network)?;
        let state = solve(&model)?;
        let slack = model.slack_index();
        let (mut loads, mut zero) = (Vec::new(), Vec::new());
        for bus in (0..model.bus_count()).filter(|bus| *bus != slack) {
            let kw = state.injection[bus].re * model.base_mva() * 1e3;
            if state.injection[bus].norm() < 1e-12 {
                zero.push(bus);
            } else {
                loads.push((bus, kw, kw.abs() * arguments.prior_percent / 100.0 + 0.5));
            }
        }
        if loads.is_empty() {
            return Err(format!("{} has no loads, so there is nothing to protect", arguments.folder.display()).into());
        }
        Ok(Self { network, model, loads, zero })
    }

    /// What theory says: a belief improved by the private readings and the meter at the head.
    fn predicted(&self, noise_variance: f64) -> Belief {
        let means: Vec<f64> = self.loads.iter().map(|load| load.1).collect();
        let priors: Vec<f64> = self.loads.iter().map(|load| load.2 * load.2).collect();
        let mut belief = Belief::new(&means, &priors);
        for (k, mean) in means.iter().enumerate() {
            let row: Vec<f64> = (0..means.len()).map(|j| f64::from(u8::from(j == k))).collect();
            belief.measure(&row, *mean, noise_variance + METER_KW * METER_KW);
        }
        belief.measure(&vec![1.0; means.len()], means.iter().sum(), HEAD_KW * HEAD_KW);
        belief
    }

    /// Draws a state, its private readings, and estimates it with the exact estimator: squared errors of loads (mean, kW²), of the head
    /// without its own meter (kW²), and of voltages (mean, pu²).
    fn simulate(&self, width_kw: f64, micro: u32, draws: &mut Draws) -> Result<(f64, f64, f64), CommandError> {
        let per_unit = 1.0 / (self.model.base_mva() * 1e3);
        let base = solve(&self.model)?;
        let mut power: Vec<Complex64> = base.injection.clone();
        let mut measurements = Vec::new();
        let mut noise_sum = 0.0;
        let noise_variance = laplace_variance(width_kw, f64::from(micro) / 1e6);
        // noise in whole watts
        let scale = Ratio::new((width_kw * 1e3).round() as u64 * 1_000_000, u64::from(micro));
        let mut reading = |quantity, kw: f64, sigma_kw: f64| {
            measurements.push(Measurement { quantity, value_pu: kw * per_unit, sigma_pu: sigma_kw * per_unit });
        };
        let mut total = 0.0;
        for (bus, mean, prior) in &self.loads {
            let kw = mean + prior * normal(draws);
            power[*bus].re = kw * per_unit;
            total += kw;
            let noise = laplace(draws, scale)? as f64 / 1e3 + METER_KW * normal(draws);
            noise_sum += noise;
            let quantity = Quantity::ActiveInjection { bus: *bus };
            reading(quantity, *mean, *prior);
            reading(quantity, kw + noise, (noise_variance + METER_KW * METER_KW).sqrt());
            let kvar = power[*bus].im / per_unit;
            reading(Quantity::ReactiveInjection { bus: *bus }, kvar, (0.1 * kvar.abs()).max(1.0));
        }
        let slack = self.model.slack_index();
        let truth = solve_injections(&self.model, &power, base.v[slack])?;
        let head_kw = -truth.injection[slack].re / per_unit;
        reading(Quantity::ActiveInjection { bus: slack }, -head_kw + HEAD_KW * normal(draws), HEAD_KW);
        let volts = truth.v[slack].norm() + VOLTMETER_PU * normal(draws);
        measurements.push(Measurement {
            quantity: Quantity::Voltage { bus: slack },
            value_pu: volts,
            sigma_pu: VOLTMETER_PU,
        });
        let estimated = estimate(&self.model, &measurements, &self.zero)?.state;
        let of_load = |load: &(usize, f64, f64)| {
            let error = (estimated.injection[load.0].re - truth.injection[load.0].re) / per_unit;
            error * error
        };
        let loads = self.loads.iter().map(of_load).sum::<f64>() / self.loads.len() as f64;
        let voltages = estimated.vm_pu().iter().zip(truth.vm_pu()).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        debug_assert!(total.is_finite() && self.network.buses.len() == self.model.bus_count());
        Ok((loads, noise_sum * noise_sum, voltages / truth.v.len() as f64))
    }

    fn level(&self, arguments: &EstimateArguments, micro: u32, draws: &mut Draws) -> Result<Level, CommandError> {
        let (width, epsilon) = (arguments.width_kw, f64::from(micro) / 1e6);
        let variance = laplace_variance(width, epsilon);
        let (mut loads, mut head, mut voltages) = (0.0, 0.0, 0.0);
        for _ in 0..arguments.draws {
            let (a, b, c) = self.simulate(width, micro, draws)?;
            loads += a / f64::from(arguments.draws);
            head += b / f64::from(arguments.draws);
            voltages += c / f64::from(arguments.draws);
        }
        Ok(Level {
            epsilon,
            noise_kw: variance.sqrt(),
            predicted_kw: self.predicted(variance).mean_variance().sqrt(),
            simulated_kw: loads.sqrt(),
            bound_kw: lower_bound(width, epsilon).sqrt(),
            head_kw: head.sqrt(),
            voltage_pu: voltages.sqrt(),
        })
    }
}

/// Sum of twelve uniform numbers less six.
fn normal(draws: &mut Draws) -> f64 {
    (0..12).map(|_| (draws.bits() >> 11) as f64 / (1_u64 << 53) as f64).sum::<f64>() - 6.0
}

pub(super) fn run(arguments: &EstimateArguments) -> Result<ExitCode, CommandError> {
    if !(arguments.width_kw >= 0.001 && arguments.width_kw <= 1e6) {
        return Err("--width-kw must lie between 0.001 and 1000000".into());
    }
    if !(arguments.prior_percent > 0.0 && arguments.prior_percent <= 1e4) {
        return Err("--prior-percent must be positive".into());
    }
    let study = Study::read(arguments)?;
    let mut start = [0; 32];
    start[..8].copy_from_slice(&arguments.seed.to_le_bytes());
    let mut draws = Draws::new(&start);
    let levels =
        LEVELS.iter().map(|micro| study.level(arguments, *micro, &mut draws)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &arguments.svg {
        let line = |name: &str, pick: fn(&Level) -> f64| Line {
            name: name.to_owned(),
            points: levels.iter().map(|l| (l.epsilon, pick(l).max(1e-9))).collect(),
        };
        let lines = [
            line("noise of one reading", |l| l.noise_kw),
            line("estimate of a load, simulated", |l| l.simulated_kw),
            line("estimate of a load, predicted", |l| l.predicted_kw),
            line("lower bound of any estimator", |l| l.bound_kw),
        ];
        let title =
            format!("Error of a load against privacy, {} loads, D = {} kW", study.loads.len(), arguments.width_kw);
        std::fs::write(path, draw(&title, "epsilon per interval", "root mean square error, kW", &lines))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    if arguments.json {
        let rows: Vec<_> = levels
            .iter()
            .map(|l| {
                json!({"epsilon": l.epsilon, "noise_kw": l.noise_kw, "predicted_kw": l.predicted_kw,
                    "simulated_kw": l.simulated_kw, "bound_kw": l.bound_kw, "sum_of_noise_kw": l.head_kw,
                    "voltage_pu": l.voltage_pu})
            })
            .collect();
        println!(
            "{}",
            json!({"folder": arguments.folder.display().to_string(), "loads": study.loads.len(),
            "width_kw": arguments.width_kw, "prior_percent": arguments.prior_percent, "levels": rows})
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} loads, D = {} kW, known before to {} %; errors are root mean squares",
        study.loads.len(),
        arguments.width_kw,
        arguments.prior_percent
    );
    println!(
        "{:>9} {:>12} {:>13} {:>13} {:>10} {:>14} {:>12}",
        "epsilon", "noise, kW", "predicted, kW", "simulated, kW", "bound, kW", "summed noise", "voltage, pu"
    );
    for l in &levels {
        println!(
            "{:>9} {:>12.3} {:>13.3} {:>13.3} {:>10.4} {:>14.2} {:>12.2e}",
            l.epsilon, l.noise_kw, l.predicted_kw, l.simulated_kw, l.bound_kw, l.head_kw, l.voltage_pu
        );
    }
    Ok(ExitCode::SUCCESS)
}
