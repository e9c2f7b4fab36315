//! Reads a three-phase folder: `network.json`, `loads.csv`, and under `reference/` the node list (`pf_nodes.csv`), the
//! admittance matrix without loads (`ybus_noload.parquet` or the same columns as `.csv`) and the Norton currents of the
//! sources (`pf_injections.csv`).
//!
//! The matrix is the network here; the reference voltages are read by the check only.

use super::estimate::{PhaseMeasurement, PhaseQuantity, SourceKnowledge};
use super::{PhaseLoad, PhaseLoadModel, PhaseNetwork};
use crate::error::GridError;
use crate::folder::{Row, Table, read_name};
use num_complex::Complex64 as C64;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

/// Reads and validates a three-phase network.
///
/// # Errors
/// The file and line that cannot be read, or the element that makes no sense.
pub fn read_phase_network(dir: &Path) -> Result<PhaseNetwork, GridError> {
    let table = Table::read(&dir.join("reference/pf_nodes.csv"))?;
    table.require(&["node", "v_base_ln"])?;
    let mut nodes = Vec::new();
    let mut base_v = Vec::new();
    for row in table.rows() {
        nodes.push(row.text("node").to_owned());
        base_v.push(row.number("v_base_ln")?);
    }
    let index: HashMap<String, usize> = nodes.iter().enumerate().map(|(i, n)| (n.to_ascii_lowercase(), i)).collect();
    let network = PhaseNetwork {
        name: read_name(dir)?,
        source_a: read_sources(&dir.join("reference/pf_injections.csv"), &index)?,
        admittance: read_admittance(dir)?,
        loads: read_loads(&dir.join("loads.csv"), &index)?,
        nodes,
        base_v,
    };
    network.validate()?;
    Ok(network)
}

fn read_sources(path: &Path, index: &HashMap<String, usize>) -> Result<Vec<C64>, GridError> {
    let table = Table::read(path)?;
    table.require(&["node", "isrc_re", "isrc_im"])?;
    let mut sources = vec![C64::ZERO; index.len()];
    let mut seen = HashSet::new();
    for row in table.rows() {
        let node = node_index(&row, index, row.text("node"))?;
        if !seen.insert(node) {
            return Err(row.error(format!("node '{}' is listed twice: it would be fed twice", row.text("node"))));
        }
        sources[node] = C64::new(row.number("isrc_re")?, row.number("isrc_im")?);
    }
    Ok(sources)
}

fn node_index(row: &Row, index: &HashMap<String, usize>, name: &str) -> Result<usize, GridError> {
    index
        .get(&name.to_ascii_lowercase())
        .copied()
        .ok_or_else(|| row.error(format!("node '{name}' is not in the node list")))
}

fn read_admittance(dir: &Path) -> Result<Vec<(usize, usize, C64)>, GridError> {
    let path = dir.join("reference/ybus_noload.csv");
    if path.exists() {
        let table = Table::read(&path)?;
        table.require(&["row", "col", "g", "b"])?;
        let entry = |row: Row| {
            Ok((row.id("row")? as usize, row.id("col")? as usize, C64::new(row.number("g")?, row.number("b")?)))
        };
        return table.rows().map(entry).collect();
    }
    let path = dir.join("reference/ybus_noload.parquet");
    let columns = read_parquet(&path, &["row", "col", "g", "b"])?;
    let position = |x: f64| {
        let valid = x >= 0.0 && x < f64::from(u32::MAX) && x.fract() == 0.0;
        if valid {
            Ok(x as usize)
        } else {
            Err(GridError::File { path: path.display().to_string(), reason: format!("'{x}' is no node position") })
        }
    };
    (0..columns[0].len())
        .map(|k| Ok((position(columns[0][k])?, position(columns[1][k])?, C64::new(columns[2][k], columns[3][k]))))
        .collect()
}

/// Numeric columns of a Parquet file. All columns when `wanted` is empty.
pub(crate) fn read_parquet(path: &Path, wanted: &[&str]) -> Result<Vec<Vec<f64>>, GridError> {
    let fail = |reason: String| GridError::File { path: path.display().to_string(), reason };
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    let reader = SerializedFileReader::new(file).map_err(|e| fail(e.to_string()))?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let names: Vec<String> = schema.columns().iter().map(|c| c.name().to_owned()).collect();
    let selected: Vec<usize> = if wanted.is_empty() {
        (0..names.len()).collect()
    } else {
        wanted
            .iter()
            .map(|w| names.iter().position(|n| n == w).ok_or_else(|| fail(format!("the column '{w}' is missing"))))
            .collect::<Result<_, _>>()?
    };
    let mut out = vec![Vec::new(); selected.len()];
    for row in reader.get_row_iter(None).map_err(|e| fail(e.to_string()))? {
        let row = row.map_err(|e| fail(e.to_string()))?;
        for (column, &k) in out.iter_mut().zip(&selected) {
            let value = row
                .get_double(k)
                .or_else(|_| row.get_float(k).map(f64::from))
                .or_else(|_| row.get_int(k).map(f64::from))
                .map_err(|e| fail(format!("column '{}': {e}", names[k])))?;
            column.push(value);
        }
    }
    Ok(out)
}

fn read_loads(path: &Path, index: &HashMap<String, usize>) -> Result<Vec<PhaseLoad>, GridError> {
    let table = Table::read(path)?;
    table.require(&["load", "bus", "phases", "delta", "model", "kv", "kw", "kvar"])?;
    let mut loads = Vec::new();
    let mut names = HashSet::new();
    for row in table.rows() {
        let name = row.text("load").to_ascii_lowercase();
        if name.is_empty() {
            return Err(row.error("the load has no name".to_owned()));
        }
        if !names.insert(name) {
            return Err(row.error(format!("load '{}' is listed twice: it would be supplied twice", row.text("load"))));
        }
        let model = match row.text("model") {
            "1" => PhaseLoadModel::Power,
            "2" => PhaseLoadModel::Impedance,
            "4" => PhaseLoadModel::Exponential,
            "5" => PhaseLoadModel::Current,
            other => return Err(row.error(format!("load model {other} is none of 1, 2, 4, 5"))),
        };
        let phases = row.id("phases")?;
        let delta = match row.text("delta") {
            "1" => true,
            "" | "0" => false,
            other => return Err(row.error(format!("delta '{other}' is neither 0 nor 1"))),
        };
        let mut parts = row.text("bus").split('.');
        let bus = parts.next().unwrap_or("");
        let mut terminals: Vec<&str> = parts.collect();
        if terminals.is_empty() {
            terminals = vec!["1", "2", "3"];
        }
        let node = |t: &str| node_index(&row, index, &format!("{bus}.{t}"));
        let pairs: Vec<(usize, Option<usize>)> = match (phases, delta, terminals.as_slice()) {
            // a delta load with one named terminal: the other one is ground
            (1, _, [a]) => vec![(node(a)?, None)],
            (1, true, [a, b]) => vec![(node(a)?, Some(node(b)?))],
            (3, false, [a, b, c]) => vec![(node(a)?, None), (node(b)?, None), (node(c)?, None)],
            (3, true, [a, b, c]) => {
                let (a, b, c) = (node(a)?, node(b)?, node(c)?);
                vec![(a, Some(b)), (b, Some(c)), (c, Some(a))]
            }
            _ => {
                return Err(row.error(format!("{phases} phases, delta {delta} does not fit bus '{}'", row.text("bus"))));
            }
        };
        let share = 1.0 / pairs.len() as f64;
        let rated = 1000.0 * row.number("kv")? / if phases == 3 && !delta { 3f64.sqrt() } else { 1.0 };
        for (from, to) in pairs {
            loads.push(PhaseLoad {
                name: row.text("load").to_owned(),
                from,
                to,
                rated_v: rated,
                p_w: 1000.0 * share * row.number("kw")?,
                q_var: 1000.0 * share * row.number("kvar")?,
                model,
            });
        }
    }
    Ok(loads)
}

/// Reads measurements of a three-phase network: CSV with `type,at,value,sigma`. `v` at a node (`671.2`) or between two nodes
/// of one bus (`671.1-671.2`), V; `p` and `q` at a load, W and var consumed, where a load of several phases is named with the
/// phase counted from one (`671/2`). One row `source` gives the expected magnitude of the sources over the folder's and its
/// sigma.
///
/// # Errors
/// The line that names an unknown type, node or load, or holds no number.
pub fn read_phase_measurements(
    path: &Path,
    network: &PhaseNetwork,
) -> Result<(Vec<PhaseMeasurement>, SourceKnowledge), GridError> {
    let table = Table::read(path)?;
    table.require(&["type", "at", "value", "sigma"])?;
    let nodes: HashMap<String, usize> =
        network.nodes.iter().enumerate().map(|(i, n)| (n.to_ascii_lowercase(), i)).collect();
    let mut loads: HashMap<String, usize> = HashMap::new();
    let mut parts: HashMap<&str, usize> = HashMap::new();
    for (k, load) in network.loads.iter().enumerate() {
        let part = parts.entry(&load.name).or_default();
        *part += 1;
        loads.insert(format!("{}/{part}", load.name).to_ascii_lowercase(), k);
    }
    for (k, load) in network.loads.iter().enumerate().filter(|(_, l)| parts[l.name.as_str()] == 1) {
        loads.insert(load.name.to_ascii_lowercase(), k);
    }
    let (mut out, mut source) = (Vec::new(), SourceKnowledge::default());
    for row in table.rows() {
        let at = row.text("at");
        let (value, sigma) = (row.number("value")?, row.number("sigma")?);
        let load = || {
            let found = loads.get(&at.to_ascii_lowercase()).copied();
            found.ok_or_else(|| {
                row.error(format!("there is no load '{at}' (one of several phases is NAME/1, NAME/2 …)"))
            })
        };
        let quantity = match row.text("type") {
            "source" => {
                (source.magnitude, source.magnitude_sigma) = (value, sigma);
                continue;
            }
            "v" => match at.split_once('-') {
                Some((a, b)) => PhaseQuantity::Voltage {
                    from: node_index(&row, &nodes, a)?,
                    to: Some(node_index(&row, &nodes, b)?),
                },
                None => PhaseQuantity::Voltage { from: node_index(&row, &nodes, at)?, to: None },
            },
            "p" => PhaseQuantity::ActivePower { load: load()? },
            "q" => PhaseQuantity::ReactivePower { load: load()? },
            other => return Err(row.error(format!("type '{other}' is none of v, p, q, source"))),
        };
        out.push(PhaseMeasurement { quantity, value, sigma });
    }
    Ok((out, source))
}
