//! `gridtally grid estimate` on a three-phase folder.

use super::{EstimateArgs, Outcome, print};
use grid::quality::SUSPECT;
use grid::threephase::PhaseNetwork;
use grid::threephase::estimate::{PhaseEstimate, PhaseEstimator};
use grid::threephase::folder::{read_phase_measurements, read_phase_network};
use serde_json::{Value, json};

pub(super) fn estimate(args: &EstimateArgs) -> Outcome {
    if args.remove_bad_data || args.robust || args.zero_injection.is_some() {
        return Err(
            "three-phase folders: nodes without a load inject nothing as they are, and suspects are listed but not \
                    removed or re-weighted; leave those options out"
                .into(),
        );
    }
    let network = read_phase_network(&args.dir)?;
    let (measurements, source) = read_phase_measurements(&args.measurements, &network)?;
    let estimate = PhaseEstimator::new(&network, &measurements, source)?.estimate()?;
    let suspects: Vec<(usize, f64)> = estimate
        .normalised_residuals
        .iter()
        .enumerate()
        .filter_map(|(k, r)| r.filter(|r| *r > SUSPECT).map(|r| (k + 1, r)))
        .collect();
    if args.json { print(&json(&network, &estimate, &suspects)) } else { table(&network, &estimate, &suspects) }
}

fn json(network: &PhaseNetwork, estimate: &PhaseEstimate, suspects: &[(usize, f64)]) -> String {
    let nodes: Vec<Value> = (0..network.nodes.len())
        .map(|k| {
            let (v, base) = (estimate.v[k], network.base_v[k]);
            json!({
                "node": network.nodes[k], "v_base_ln": base, "v_re": v.re, "v_im": v.im, "vm_pu": v.norm() / base,
                "va_deg": v.arg().to_degrees(), "vm_sigma_pu": estimate.vm_sigma_v[k] / base,
            })
        })
        .collect();
    let loads: Vec<Value> = network
        .loads
        .iter()
        .zip(&estimate.load_power)
        .map(|(load, s)| json!({"load": load.name, "node": network.nodes[load.from], "p_w": s.re, "q_var": s.im}))
        .collect();
    let suspects: Vec<Value> =
        suspects.iter().map(|(k, r)| json!({"measurement": k, "normalised_residual": r})).collect();
    json!({
        "network": network.name, "phases": 3, "buses": nodes, "loads": loads, "iterations": estimate.iterations,
        "estimation": {
            "objective": estimate.objective, "degrees_of_freedom": estimate.degrees_of_freedom,
            "p_value": estimate.p_value, "suspects": suspects,
        },
    })
    .to_string()
}

fn table(network: &PhaseNetwork, estimate: &PhaseEstimate, suspects: &[(usize, f64)]) -> Outcome {
    let mut text = String::from("            node      volts      vm_pu   sigma_pu     va_deg\n");
    for (k, node) in network.nodes.iter().enumerate() {
        let (v, base) = (estimate.v[k], network.base_v[k]);
        text += &format!(
            "{node:>16} {:>10.3} {:>10.6} {:>10.1e} {:>10.5}\n",
            v.norm(),
            v.norm() / base,
            estimate.vm_sigma_v[k] / base,
            v.arg().to_degrees()
        );
    }
    text += "\n            load          p_w        q_var\n";
    for (load, s) in network.loads.iter().zip(&estimate.load_power) {
        text += &format!("{:>16} {:>12.2} {:>12.2}\n", load.name, s.re, s.im);
    }
    text += &format!(
        "\nobjective {:.3} with {} degrees of freedom, p = {:.4} ({} iterations)",
        estimate.objective, estimate.degrees_of_freedom, estimate.p_value, estimate.iterations
    );
    for (k, r) in suspects {
        text += &format!("\nsuspect: measurement {k} of the file, normalised residual {r:.2}");
    }
    print(&text)
}
