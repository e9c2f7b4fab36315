//! `cargo xtask peers grid`: our power flow and estimation against power-grid-model and pandapower, in one run on this
//! machine, on the networks of `../shared/data/networks`.
//!
//! The peers come from PyPI into a virtual environment under `target/`. All times are for one thread, tolerance 1e-8,
//! voltages of all nodes written. The peers' times are processor time (they pay nothing for a busy machine); ours are wall
//! time of the fastest of many short runs.

use std::path::{Path, PathBuf};
use std::process::Command;

const NETWORKS: [&str; 6] =
    ["ukgds95", "simbench-lv-rural2", "simbench-lv-urban6", "cigre-lv", "kerber-vorstadt-1", "ukgds-hv-ohb"];

/// Reads a network folder and a count, prints one JSON object with microseconds per scenario.
const PEER: &str = r#"
import csv, json, math, sys, time
import numpy as np
from power_grid_model import (CalculationMethod as CM, CalculationType, ComponentType as CT, DatasetType as DT,
    LoadGenType, MeasuredTerminalType as MT, PowerGridModel, initialize_array)
folder, count = sys.argv[1], int(sys.argv[2])
rows = lambda f: list(csv.DictReader(open(f"{folder}/{f}")))
header = json.load(open(f"{folder}/network.json"))
base = header.get("base_mva")
rng = np.random.default_rng(1)

def best(f, runs=5):
    # one warm run, then the fastest
    f()
    out = math.inf
    for _ in range(runs):
        t = time.process_time(); f(); out = min(out, time.process_time() - t)
    return out / count * 1e6

def three_phase():
    # the European LV feeder from its line codes and transformer
    codes = {c["linecode"]: c for c in rows("linecodes.csv")}
    lines, loads = rows("lines.csv"), rows("loads.csv")
    names = sorted({int(l[end]) for l in lines for end in ("from", "to")})
    node = initialize_array(DT.input, CT.node, len(names) + 1)
    node["id"], node["u_rated"] = [0] + names, [11e3] + [416.0] * len(names)
    source = initialize_array(DT.input, CT.source, 1)
    source["id"], source["node"], source["status"], source["u_ref"] = 10**6, 0, 1, 1.05
    line = initialize_array(DT.input, CT.line, len(lines))
    line["id"] = 2 * 10**6 + np.arange(len(lines))
    line["from_node"], line["to_node"] = [int(l["from"]) for l in lines], [int(l["to"]) for l in lines]
    line["from_status"] = line["to_status"] = 1
    for name in ("r1", "x1", "r0", "x0"):
        line[name] = [float(codes[l["linecode"]][name]) * float(l["length_m"]) / 1000 for l in lines]
    line["c1"] = line["c0"] = line["tan1"] = line["tan0"] = 0
    t = initialize_array(DT.input, CT.transformer, 1)
    for name, value in dict(id=3 * 10**6, from_node=0, to_node=1, from_status=1, to_status=1, u1=11e3, u2=416, sn=8e5,
            uk=0.0402, pk=3200, i0=0, p0=0, winding_from=2, winding_to=1, clock=1, tap_side=0, tap_pos=0, tap_min=0,
            tap_max=0, tap_size=0).items():
        t[name] = value
    load = initialize_array(DT.input, CT.asym_load, len(loads))
    load["id"] = 4 * 10**6 + np.arange(len(loads))
    load["node"], load["status"] = [int(l["bus"].split(".")[0]) for l in loads], 1
    load["p_specified"], load["q_specified"] = 0, 0
    for k, l in enumerate(loads):
        phase = int(l["bus"].split(".")[1]) - 1
        load["p_specified"][k, phase], load["q_specified"][k, phase] = 1e3 * float(l["kw"]), 1e3 * float(l["kvar"])
    load["type"] = LoadGenType.const_power
    model = PowerGridModel({CT.node: node, CT.source: source, CT.line: line, CT.transformer: t, CT.asym_load: load})
    factor = 0.5 + rng.random((count, len(loads), 1))
    update = initialize_array(DT.update, CT.asym_load, (count, len(loads)))
    update["id"] = load["id"]
    update["p_specified"], update["q_specified"] = load["p_specified"] * factor, load["q_specified"] * factor
    out = {}
    for name, method in [("pf_newton", CM.newton_raphson), ("pf_iterative_current", CM.iterative_current)]:
        out[name] = best(lambda: model.calculate_power_flow(symmetric=False, calculation_method=method,
            update_data={CT.asym_load: update}, threading=-1, error_tolerance=1e-8, max_iterations=100,
            output_component_types={CT.node: ["u_pu", "u_angle"]}), 3)
    print(json.dumps(out))

if header.get("phases") == 3:
    three_phase()
    raise SystemExit
buses, branches, loads = rows("buses.csv"), rows("branches.csv"), rows("loads.csv")
node = initialize_array(DT.input, CT.node, len(buses))
node["id"] = [int(b["bus"]) for b in buses]
node["u_rated"] = [1e3 * float(b["vn_kv"]) for b in buses]
kv = {int(b["bus"]): float(b["vn_kv"]) for b in buses}
slack = next(b for b in buses if b["type"] == "slack")
top = 10_000_000
source = initialize_array(DT.input, CT.source, 1)
source["id"], source["node"], source["status"] = top, int(slack["bus"]), 1
source["u_ref"], source["sk"] = float(slack["vm_set"]), 1e40
line = initialize_array(DT.input, CT.generic_branch, len(branches))
f = lambda name: np.array([float(b[name] or 0) for b in branches])
line["id"] = [top + 1000 + int(b["branch"]) for b in branches]
line["from_node"] = [int(b["from"]) for b in branches]
line["to_node"] = [int(b["to"]) for b in branches]
line["from_status"] = line["to_status"] = 1
z = np.array([kv[int(b["to"])] ** 2 / base for b in branches])
line["r1"], line["x1"], line["g1"], line["b1"] = f("r_pu") * z, f("x_pu") * z, f("g_pu") / z, f("b_pu") / z
line["k"], line["theta"], line["sn"] = f("tap"), np.radians(f("shift_deg")), 1e6 * base
load = initialize_array(DT.input, CT.sym_load, len(loads))
load["id"] = [top + 100000 + int(l["load"]) for l in loads]
load["node"] = [int(l["bus"]) for l in loads]
load["status"], load["type"] = 1, LoadGenType.const_power
load["p_specified"] = [1e6 * float(l["p_mw"]) for l in loads]
load["q_specified"] = [1e6 * float(l["q_mvar"]) for l in loads]
data = {CT.node: node, CT.source: source, CT.generic_branch: line, CT.sym_load: load}
out = {"folder": folder}

model = PowerGridModel(data)
reference = {int(r["bus"]): float(r["vm_pu"]) for r in rows("reference/pf_bus.csv")}
v = model.calculate_power_flow(error_tolerance=1e-8)[CT.node]
out["pf_error"] = max(abs(u - reference[int(i)]) for i, u in zip(v["id"], v["u_pu"]))
update = initialize_array(DT.update, CT.sym_load, (count, len(loads)))
update["id"] = load["id"]
factor = 0.5 + rng.random((count, len(loads)))
update["p_specified"], update["q_specified"] = load["p_specified"] * factor, load["q_specified"] * factor
options = dict(update_data={CT.sym_load: update}, threading=-1, error_tolerance=1e-8, max_iterations=100,
    output_component_types={CT.node: ["u_pu", "u_angle"]})
for name, method in [("pf_newton", CM.newton_raphson), ("pf_iterative_current", CM.iterative_current), ("pf_linear", CM.linear)]:
    try:
        out[name] = best(lambda: model.calculate_power_flow(calculation_method=method, **options))
    except Exception as error:
        out[name + "_error"] = str(error)[:80]

for which in ["full", "sparse"]:
    meter = rows(f"reference/se_{which}_measurements.csv")
    volts = [m for m in meter if m["type"] == "v"]
    pairs = {}
    for m in meter:
        if m["type"] != "v":
            kind, place = m["type"].split("_")
            pairs.setdefault((place, int(m["at"]), m["side"]), {})[kind] = (float(m["value_pu"]), float(m["sigma_pu"]))
    vs = initialize_array(DT.input, CT.sym_voltage_sensor, len(volts))
    vs["id"] = top + 200000 + np.arange(len(volts))
    vs["measured_object"] = [int(m["at"]) for m in volts]
    rated = np.array([1e3 * kv[int(m["at"])] for m in volts])
    vs["u_measured"] = np.array([float(m["value_pu"]) for m in volts]) * rated
    vs["u_sigma"] = np.array([float(m["sigma_pu"]) for m in volts]) * rated
    ps = initialize_array(DT.input, CT.sym_power_sensor, len(pairs))
    ps["id"] = top + 300000 + np.arange(len(pairs))
    for k, ((place, at, side), pq) in enumerate(pairs.items()):
        ps[k]["measured_object"] = at if place == "inj" else top + 1000 + at
        ps[k]["measured_terminal_type"] = MT.node if place == "inj" else (MT.branch_to if side == "to" else MT.branch_from)
        for kind in "pq":
            ps[k][f"{kind}_measured"], ps[k][f"{kind}_sigma"] = pq[kind][0] * base * 1e6, pq[kind][1] * base * 1e6
        ps[k]["power_sigma"] = np.hypot(ps[k]["p_sigma"], ps[k]["q_sigma"])
    model_se = PowerGridModel({**data, CT.sym_voltage_sensor: vs, CT.sym_power_sensor: ps})
    reference = {int(r["bus"]): float(r["vm_pu"]) for r in rows(f"reference/se_{which}_bus.csv")}
    uv = initialize_array(DT.update, CT.sym_voltage_sensor, (count, len(volts)))
    uv["id"], uv["u_measured"] = vs["id"], vs["u_measured"] + vs["u_sigma"] * rng.standard_normal((count, len(volts)))
    up = initialize_array(DT.update, CT.sym_power_sensor, (count, len(pairs)))
    up["id"] = ps["id"]
    for kind in "pq":
        up[f"{kind}_measured"] = ps[f"{kind}_measured"] + ps[f"{kind}_sigma"] * rng.standard_normal((count, len(pairs)))
    options = dict(update_data={CT.sym_voltage_sensor: uv, CT.sym_power_sensor: up}, threading=-1, error_tolerance=1e-8,
        max_iterations=100, output_component_types={CT.node: ["u_pu", "u_angle"]})
    for name, method in [("newton", CM.newton_raphson), ("iterative_linear", CM.iterative_linear)]:
        key = f"se_{which}_{name}"
        try:
            v = model_se.calculate_state_estimation(calculation_method=method, error_tolerance=1e-8, max_iterations=100)[CT.node]
            out[key + "_off"] = max(abs(u - reference[int(i)]) for i, u in zip(v["id"], v["u_pu"]))
            out[key] = best(lambda: model_se.calculate_state_estimation(calculation_method=method, **options), 3)
        except Exception as error:
            out[key + "_error"] = str(error).splitlines()[0][:80]
print(json.dumps(out))
"#;

/// Prints the time of one pandapower power flow on the one network of ours that its library holds, in microseconds.
const PANDAPOWER: &str = r#"
import time, warnings
warnings.filterwarnings("ignore")
import pandapower, pandapower.networks
net = pandapower.networks.case33bw()
best = 1e9
for _ in range(10):
    t = time.process_time(); pandapower.runpp(net, tolerance_mva=1e-8, numba=False); best = min(best, time.process_time() - t)
print(best * 1e6)
"#;

/// Installs the peers, builds the product, prints the table.
pub fn run() -> Result<(), String> {
    let target = PathBuf::from(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    let networks = Path::new("../shared/data/networks");
    if !networks.is_dir() {
        return Err(format!("{} is missing: the comparison needs the reference networks", networks.display()));
    }
    crate::run::build_product()?;
    let python = environment(&target.join("peers-grid"))?;
    compare(&target.join("release/gridtally"), &["grid"], &python, networks)
}

/// A virtual environment with the peers; its Python.
fn environment(folder: &Path) -> Result<PathBuf, String> {
    let python = folder.join("bin/python");
    if !python.exists() {
        checked(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    }
    checked(Command::new(&python).args(["-m", "pip", "install", "--quiet", "power-grid-model", "pandapower"]))?;
    Ok(python)
}

fn checked(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("cannot start {command:?}: {e}"))?;
    if output.status.success() {
        String::from_utf8(output.stdout).map_err(|e| e.to_string())
    } else {
        Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Runs both sides on every network and prints the table.
pub fn compare(ours: &Path, prefix: &[&str], python: &Path, networks: &Path) -> Result<(), String> {
    println!("µs per scenario, one thread, tolerance 1e-8 pu; in brackets how many times faster we are");
    println!(
        "| network | our power flow | PGM Newton | PGM iterative current | our estimation (full) | PGM Newton (exact) | PGM iterative linear (approximate) | our estimation (sparse) | PGM Newton (exact) |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for name in NETWORKS {
        let folder = networks.join(name);
        let script = ["-c", PEER];
        let peer = checked(Command::new(python).args(script).arg(&folder).arg("200"))?;
        let peer: serde_json::Value = serde_json::from_str(peer.trim()).map_err(|e| e.to_string())?;
        let options = ["--json", "--scenarios", "200", "--runs", "300"];
        let bench = checked(Command::new(ours).args(prefix).arg("bench").arg(&folder).args(options))?;
        let bench: serde_json::Value = serde_json::from_str(bench.trim()).map_err(|e| e.to_string())?;
        let time = |what: &str| {
            bench["timings"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|t| t["what"] == what)
                .and_then(|t| t["us_per_scenario_one_thread"].as_f64())
                .unwrap_or(f64::NAN)
        };
        let theirs = |key: &str, ours: f64| match peer[key].as_f64() {
            Some(t) => format!("{t:.1} ({:.0}×)", t / ours),
            None => "fails".to_owned(),
        };
        let (flow, full, sparse) = (time("power flow"), time("estimation, full set"), time("estimation, sparse set"));
        println!(
            "| {name} | {flow:.2} | {} | {} | {full:.2} | {} | {} | {sparse:.2} | {} |",
            theirs("pf_newton", flow),
            theirs("pf_iterative_current", flow),
            theirs("se_full_newton", full),
            theirs("se_full_iterative_linear", full),
            theirs("se_sparse_newton", sparse),
        );
    }
    match checked(Command::new(python).args(["-c", PANDAPOWER])) {
        Ok(time) => println!("pandapower, case33bw, one power flow: {} µs", time.trim()),
        Err(why) => println!("pandapower gave no figure: {}", why.lines().last().unwrap_or_default()),
    }
    compare_three_phase(ours, prefix, python, &networks.join("ieee-eu-lv"))
}

fn compare_three_phase(ours: &Path, prefix: &[&str], python: &Path, folder: &Path) -> Result<(), String> {
    let peer = checked(Command::new(python).args(["-c", PEER]).arg(folder).arg("50"))?;
    let peer: serde_json::Value = serde_json::from_str(peer.trim()).map_err(|e| e.to_string())?;
    let options = ["--json", "--scenarios", "48", "--runs", "200"];
    let bench = checked(Command::new(ours).args(prefix).arg("bench").arg(folder).args(options))?;
    let bench: serde_json::Value = serde_json::from_str(bench.trim()).map_err(|e| e.to_string())?;
    let own = bench["timings"][0]["us_per_scenario_one_thread"].as_f64().unwrap_or(f64::NAN);
    for method in ["pf_newton", "pf_iterative_current"] {
        let time = peer[method].as_f64().unwrap_or(f64::NAN);
        println!(
            "European LV feeder, three-phase: ours {own:.1} µs, power-grid-model {method} {time:.0} µs ({:.0}×)",
            time / own
        );
    }
    Ok(())
}
