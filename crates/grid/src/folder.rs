//! The neutral folder format: `network.json`, `buses.csv`, `branches.csv`, `loads.csv`, optionally `usage_points.csv`.
//!
//! Why: it is what acceptance data, utilities' exports and our own exporter share. Columns are found by name; unknown
//! columns are left alone, an empty number is "not given". It never guesses a missing impedance.

use crate::error::GridError;
use crate::network::{Branch, BranchKind, Bus, BusKind, Load, LoadModel, Network, UsagePoint};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

/// A CSV file whose columns are addressed by name.
pub(crate) struct Table {
    path: String,
    columns: HashMap<String, usize>,
    rows: Vec<csv::StringRecord>,
}

impl Table {
    pub(crate) fn read(path: &Path) -> Result<Self, GridError> {
        let name = path.display().to_string();
        let fail = |reason: String| GridError::File { path: path.display().to_string(), reason };
        let size = fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(fail(format!("{size} bytes are more than the limit of {MAX_FILE_BYTES}")));
        }
        let text = fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        Self::parse(&name, &text)
    }

    pub(crate) fn parse(path: &str, text: &str) -> Result<Self, GridError> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let fail = |e: csv::Error| GridError::File { path: path.to_owned(), reason: e.to_string() };
        let mut columns = HashMap::new();
        for (i, name) in reader.headers().map_err(fail)?.iter().enumerate() {
            // Which of two columns is meant cannot be known; a nameless one (a spreadsheet's margin) is asked for by nobody.
            if columns.insert(name.to_owned(), i).is_some() && !name.is_empty() {
                let reason = format!("the column '{name}' stands twice in the header: keep one of them");
                return Err(GridError::File { path: path.to_owned(), reason });
            }
        }
        let rows = reader.records().collect::<Result<Vec<_>, _>>().map_err(fail)?;
        Ok(Self { path: path.to_owned(), columns, rows })
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.rows.len()).map(move |row| Row { table: self, row })
    }

    pub(crate) fn require(&self, columns: &[&str]) -> Result<(), GridError> {
        match columns.iter().find(|c| !self.columns.contains_key(**c)) {
            Some(missing) => {
                Err(GridError::File { path: self.path.clone(), reason: format!("the column '{missing}' is missing") })
            }
            None => Ok(()),
        }
    }
}

/// One row of a [`Table`].
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    table: &'a Table,
    row: usize,
}

impl<'a> Row<'a> {
    pub(crate) fn error(&self, reason: String) -> GridError {
        let line = self.table.rows[self.row].position().map_or(0, csv::Position::line);
        GridError::Row { path: self.table.path.clone(), line, reason }
    }

    pub(crate) fn text(&self, column: &str) -> &'a str {
        self.table.columns.get(column).and_then(|&c| self.table.rows[self.row].get(c)).unwrap_or("")
    }

    pub(crate) fn optional(&self, column: &str) -> Result<Option<f64>, GridError> {
        match self.text(column) {
            "" => Ok(None),
            text => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(self.error(format!("{column} '{text}' is not a number"))),
            },
        }
    }

    pub(crate) fn number(&self, column: &str) -> Result<f64, GridError> {
        self.optional(column)?.ok_or_else(|| self.error(format!("{column} is empty")))
    }

    pub(crate) fn id(&self, column: &str) -> Result<u32, GridError> {
        let text = self.text(column);
        text.parse().map_err(|_| self.error(format!("{column} '{text}' is not a whole number")))
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    name: String,
    #[serde(default = "one")]
    phases: u32,
    #[serde(default)]
    base_mva: f64,
    #[serde(default = "fifty")]
    frequency_hz: f64,
}

fn one() -> u32 {
    1
}

fn fifty() -> f64 {
    50.0
}

/// Number of phases that `network.json` declares: 1 for a single-phase equivalent, 3 for an unbalanced network.
pub fn folder_phases(dir: &Path) -> Result<u32, GridError> {
    Ok(read_header(dir)?.phases)
}

/// The network's name from `network.json`.
pub(crate) fn read_name(dir: &Path) -> Result<String, GridError> {
    Ok(read_header(dir)?.name)
}

fn read_header(dir: &Path) -> Result<Header, GridError> {
    let path = dir.join("network.json");
    let fail = |reason: String| GridError::File { path: path.display().to_string(), reason };
    let text = fs::read_to_string(&path).map_err(|e| fail(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| fail(e.to_string()))
}

/// Reads and validates a single-phase equivalent network.
///
/// # Errors
/// The file and line that cannot be read, or the element that makes no sense.
pub fn read_network(dir: &Path) -> Result<Network, GridError> {
    let header = read_header(dir)?;
    if header.phases != 1 {
        return Err(GridError::element(
            format!("network {}", header.name),
            format!("has {} phases; read it as a three-phase network", header.phases),
        ));
    }
    let usage_path = dir.join("usage_points.csv");
    let network = Network {
        name: header.name,
        base_mva: header.base_mva,
        frequency_hz: header.frequency_hz,
        buses: read_buses(&Table::read(&dir.join("buses.csv"))?)?,
        branches: read_branches(&Table::read(&dir.join("branches.csv"))?)?,
        loads: read_loads(&Table::read(&dir.join("loads.csv"))?)?,
        usage_points: if usage_path.exists() { read_usage_points(&Table::read(&usage_path)?)? } else { Vec::new() },
    };
    network.validate()?;
    Ok(network)
}

fn read_buses(table: &Table) -> Result<Vec<Bus>, GridError> {
    table.require(&["bus", "vn_kv", "type"])?;
    table
        .rows()
        .map(|row| {
            let kind = match row.text("type") {
                "slack" => {
                    BusKind::Slack { vm_pu: row.number("vm_set")?, va_deg: row.optional("va_set_deg")?.unwrap_or(0.0) }
                }
                "pq" => BusKind::Load,
                other => return Err(row.error(format!("type '{other}' is neither 'slack' nor 'pq'"))),
            };
            Ok(Bus {
                id: row.id("bus")?,
                name: row.text("name").to_owned(),
                vn_kv: row.number("vn_kv")?,
                kind,
                gs_mw: row.optional("gs_mw")?.unwrap_or(0.0),
                bs_mvar: row.optional("bs_mvar")?.unwrap_or(0.0),
            })
        })
        .collect()
}

fn read_branches(table: &Table) -> Result<Vec<Branch>, GridError> {
    table.require(&["branch", "from", "to", "r_pu", "x_pu"])?;
    table
        .rows()
        .map(|row| {
            let kind = match row.text("kind") {
                "line" | "" => BranchKind::Line,
                "trafo" => BranchKind::Trafo,
                other => return Err(row.error(format!("kind '{other}' is neither 'line' nor 'trafo'"))),
            };
            Ok(Branch {
                id: row.id("branch")?,
                from: row.id("from")?,
                to: row.id("to")?,
                kind,
                name: row.text("name").to_owned(),
                r_pu: row.number("r_pu")?,
                x_pu: row.number("x_pu")?,
                g_pu: row.optional("g_pu")?.unwrap_or(0.0),
                b_pu: row.optional("b_pu")?.unwrap_or(0.0),
                tap: row.optional("tap")?.unwrap_or(1.0),
                shift_deg: row.optional("shift_deg")?.unwrap_or(0.0),
                rate_mva: row.optional("rate_mva")?,
                length_km: row.optional("length_km")?,
            })
        })
        .collect()
}

fn read_loads(table: &Table) -> Result<Vec<Load>, GridError> {
    table.require(&["load", "bus", "p_mw", "q_mvar"])?;
    table
        .rows()
        .map(|row| {
            let model = match row.text("model") {
                "" | "power" => LoadModel::Power,
                "current" => LoadModel::Current,
                "impedance" => LoadModel::Impedance,
                other => return Err(row.error(format!("model '{other}' is none of power, current, impedance"))),
            };
            Ok(Load {
                id: row.id("load")?,
                bus: row.id("bus")?,
                name: row.text("name").to_owned(),
                kind: row.text("kind").to_owned(),
                p_mw: row.number("p_mw")?,
                q_mvar: row.number("q_mvar")?,
                profile: row.text("profile").to_owned(),
                peak_p_mw: row.optional("peak_p_mw")?,
                peak_q_mvar: row.optional("peak_q_mvar")?,
                model,
            })
        })
        .collect()
}

fn read_usage_points(table: &Table) -> Result<Vec<UsagePoint>, GridError> {
    table.require(&["usage_point", "bus"])?;
    table
        .rows()
        .map(|row| {
            let phase = match row.text("phase") {
                "" | "123" => None,
                "1" => Some(1),
                "2" => Some(2),
                "3" => Some(3),
                other => return Err(row.error(format!("phase '{other}' is none of 1, 2, 3, 123"))),
            };
            let load = if row.text("load").is_empty() { None } else { Some(row.id("load")?) };
            Ok(UsagePoint {
                usage_point: row.text("usage_point").to_owned(),
                load,
                bus: row.id("bus")?,
                phase,
                valid_from: row.text("valid_from").to_owned(),
            })
        })
        .collect()
}

/// Writes a network so that [`read_network`] gives back an equal one. Creates the folder if needed.
pub fn write_network(network: &Network, dir: &Path) -> Result<(), GridError> {
    let fail = |path: &Path, reason: String| GridError::File { path: path.display().to_string(), reason };
    fs::create_dir_all(dir).map_err(|e| fail(dir, e.to_string()))?;
    let header = Header {
        name: network.name.clone(),
        phases: 1,
        base_mva: network.base_mva,
        frequency_hz: network.frequency_hz,
    };
    let path = dir.join("network.json");
    let json = serde_json::to_string_pretty(&header).map_err(|e| fail(&path, e.to_string()))?;
    fs::write(&path, json).map_err(|e| fail(&path, e.to_string()))?;
    write_table(
        &dir.join("buses.csv"),
        &["bus", "name", "vn_kv", "type", "vm_set", "va_set_deg", "gs_mw", "bs_mvar"],
        network.buses.iter().map(bus_row),
    )?;
    let columns = [
        "branch",
        "from",
        "to",
        "kind",
        "name",
        "r_pu",
        "x_pu",
        "g_pu",
        "b_pu",
        "tap",
        "shift_deg",
        "rate_mva",
        "length_km",
    ];
    write_table(&dir.join("branches.csv"), &columns, network.branches.iter().map(branch_row))?;
    let columns = ["load", "bus", "name", "kind", "p_mw", "q_mvar", "profile", "peak_p_mw", "peak_q_mvar", "model"];
    write_table(&dir.join("loads.csv"), &columns, network.loads.iter().map(load_row))?;
    if !network.usage_points.is_empty() {
        let columns = ["usage_point", "load", "bus", "phase", "valid_from"];
        write_table(&dir.join("usage_points.csv"), &columns, network.usage_points.iter().map(usage_point_row))?;
    }
    Ok(())
}

fn write_table(path: &Path, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<(), GridError> {
    let fail = |reason: String| GridError::File { path: path.display().to_string(), reason };
    let mut writer = csv::Writer::from_path(path).map_err(|e| fail(e.to_string()))?;
    writer.write_record(columns).map_err(|e| fail(e.to_string()))?;
    for row in rows {
        writer.write_record(&row).map_err(|e| fail(e.to_string()))?;
    }
    writer.flush().map_err(|e| fail(e.to_string()))
}

fn maybe(value: Option<f64>) -> String {
    value.map_or_else(String::new, |v| v.to_string())
}

fn bus_row(bus: &Bus) -> Vec<String> {
    let (kind, vm, va) = match bus.kind {
        BusKind::Slack { vm_pu, va_deg } => ("slack", vm_pu.to_string(), va_deg.to_string()),
        BusKind::Load => ("pq", String::new(), String::new()),
    };
    vec![
        bus.id.to_string(),
        bus.name.clone(),
        bus.vn_kv.to_string(),
        kind.to_owned(),
        vm,
        va,
        bus.gs_mw.to_string(),
        bus.bs_mvar.to_string(),
    ]
}

fn branch_row(b: &Branch) -> Vec<String> {
    let kind = match b.kind {
        BranchKind::Line => "line",
        BranchKind::Trafo => "trafo",
    };
    let mut row = vec![b.id.to_string(), b.from.to_string(), b.to.to_string(), kind.to_owned(), b.name.clone()];
    row.extend([b.r_pu, b.x_pu, b.g_pu, b.b_pu, b.tap, b.shift_deg].map(|v| v.to_string()));
    row.extend([maybe(b.rate_mva), maybe(b.length_km)]);
    row
}

fn load_row(l: &Load) -> Vec<String> {
    let model = match l.model {
        LoadModel::Power => "power",
        LoadModel::Current => "current",
        LoadModel::Impedance => "impedance",
    };
    vec![
        l.id.to_string(),
        l.bus.to_string(),
        l.name.clone(),
        l.kind.clone(),
        l.p_mw.to_string(),
        l.q_mvar.to_string(),
        l.profile.clone(),
        maybe(l.peak_p_mw),
        maybe(l.peak_q_mvar),
        model.to_owned(),
    ]
}

fn usage_point_row(u: &UsagePoint) -> Vec<String> {
    vec![
        u.usage_point.clone(),
        u.load.map_or_else(String::new, |l| l.to_string()),
        u.bus.to_string(),
        u.phase.map_or_else(String::new, |p| p.to_string()),
        u.valid_from.clone(),
    ]
}
