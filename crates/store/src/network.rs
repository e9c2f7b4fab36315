//! Electrical networks by version: buses, branches, loads and where usage points hang, as [`grid`] reads them from a folder.
//!
//! A version is valid from a time until the next one of the same name; versions are never changed. What is read back equals
//! what was imported, number for number. It is no asset register, and usage points here say where in the wires a load
//! hangs, not which meter measures it (that is the topology).

use grid::network::{Branch, BranchKind, Bus, BusKind, Load, LoadModel, Network, UsagePoint};
use metering::Timestamp;
use serde::Serialize;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    audit,
    directory::{Store, id_in, id_out, time},
    error::StoreError,
};

/// One imported version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkVersion {
    /// Its number.
    pub id: u64,
    /// Name of the network.
    pub name: String,
    /// Valid from here until the next version of the name.
    pub valid_from: Timestamp,
    /// When it was imported.
    pub imported_at: Timestamp,
    /// Who imported it.
    pub imported_by: String,
}

impl Store {
    /// Imports a network as a version valid from `valid_from`; audited in the same transaction.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] naming the element at fault, [`StoreError::Refused`] when another network of the name is
    /// valid from the same time (an equal one is returned as it is), or when the database fails.
    pub async fn import_network(
        &self,
        network: &Network,
        valid_from: Timestamp,
        by: &str,
        now: Timestamp,
    ) -> Result<NetworkVersion, StoreError> {
        network.validate().map_err(|e| StoreError::Invalid(e.to_string()))?;
        let mut tx = self.inner.main.begin("network.import").await?;
        let there = sqlx::query(
            "SELECT id, name, valid_from, imported_at, imported_by FROM network_version \
             WHERE name = $1 AND valid_from = $2",
        )
        .bind(&network.name)
        .bind(valid_from.0)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(row) = there {
            let version = version(&row);
            if read(&mut tx, id_in(version.id)).await? == *network {
                return Ok(version);
            }
            return Err(StoreError::Refused(format!(
                "another network {} is valid from {valid_from} already: give the new one a later time",
                network.name
            )));
        }
        let id = write(&mut tx, network, valid_from, by, now).await?;
        let detail = format!(
            "{} buses, {} branches, {} loads, {} usage points, valid from {valid_from}",
            network.buses.len(),
            network.branches.len(),
            network.loads.len(),
            network.usage_points.len()
        );
        let entry = audit::Entry { by, action: "network.import", subject: format!("network:{}", network.name), detail };
        audit::record(&mut tx, now, entry).await?;
        tx.commit().await?;
        Ok(NetworkVersion {
            id: id_out(id),
            name: network.name.clone(),
            valid_from,
            imported_at: now,
            imported_by: by.to_owned(),
        })
    }

    /// All versions, by name and time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn networks(&self) -> Result<Vec<NetworkVersion>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, name, valid_from, imported_at, imported_by FROM network_version ORDER BY name, valid_from",
        )
        .fetch_all(&self.inner.main_read)
        .await?;
        Ok(rows.iter().map(version).collect())
    }

    /// The network of a name as it was at a time; `None` before its first version.
    ///
    /// # Errors
    /// When the database fails or holds what no import wrote.
    pub async fn network_at(&self, name: &str, at: Timestamp) -> Result<Option<Network>, StoreError> {
        let mut connection = self.inner.main_read.acquire().await?;
        let id: Option<i64> = sqlx::query_scalar(
            "SELECT id FROM network_version WHERE name = $1 AND valid_from <= $2 ORDER BY valid_from DESC LIMIT 1",
        )
        .bind(name)
        .bind(at.0)
        .fetch_optional(&mut *connection)
        .await?;
        match id {
            Some(id) => Ok(Some(read(&mut connection, id).await?)),
            None => Ok(None),
        }
    }
}

fn version(row: &SqliteRow) -> NetworkVersion {
    NetworkVersion {
        id: id_out(row.get(0)),
        name: row.get(1),
        valid_from: time(row.get(2)),
        imported_at: time(row.get(3)),
        imported_by: row.get(4),
    }
}

const fn branch_word(kind: BranchKind) -> &'static str {
    match kind {
        BranchKind::Line => "line",
        BranchKind::Trafo => "trafo",
    }
}

const fn model_word(model: LoadModel) -> &'static str {
    match model {
        LoadModel::Power => "power",
        LoadModel::Current => "current",
        LoadModel::Impedance => "impedance",
    }
}

async fn write(
    tx: &mut SqliteConnection,
    network: &Network,
    valid_from: Timestamp,
    by: &str,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO network_version (name, valid_from, imported_at, imported_by, base_mva, frequency_hz) \
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
    )
    .bind(&network.name)
    .bind(valid_from.0)
    .bind(now.0)
    .bind(by)
    .bind(network.base_mva)
    .bind(network.frequency_hz)
    .fetch_one(&mut *tx)
    .await?;
    for (bus, place) in network.buses.iter().zip(0i64..) {
        let (vm, va) = match bus.kind {
            BusKind::Slack { vm_pu, va_deg } => (Some(vm_pu), Some(va_deg)),
            BusKind::Load => (None, None),
        };
        sqlx::query("INSERT INTO network_bus VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
            .bind(id)
            .bind(place)
            .bind(i64::from(bus.id))
            .bind(&bus.name)
            .bind(bus.vn_kv)
            .bind(vm)
            .bind(va)
            .bind(bus.gs_mw)
            .bind(bus.bs_mvar)
            .execute(&mut *tx)
            .await?;
    }
    for (branch, place) in network.branches.iter().zip(0i64..) {
        write_branch(tx, id, place, branch).await?;
    }
    for (load, place) in network.loads.iter().zip(0i64..) {
        write_load(tx, id, place, load).await?;
    }
    for (point, place) in network.usage_points.iter().zip(0i64..) {
        sqlx::query("INSERT INTO network_usage_point VALUES ($1, $2, $3, $4, $5, $6, $7)")
            .bind(id)
            .bind(place)
            .bind(&point.usage_point)
            .bind(point.load.map(i64::from))
            .bind(i64::from(point.bus))
            .bind(point.phase.map(i64::from))
            .bind(&point.valid_from)
            .execute(&mut *tx)
            .await?;
    }
    Ok(id)
}

async fn write_branch(tx: &mut SqliteConnection, id: i64, place: i64, branch: &Branch) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO network_branch VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)")
        .bind(id)
        .bind(place)
        .bind(i64::from(branch.id))
        .bind(i64::from(branch.from))
        .bind(i64::from(branch.to))
        .bind(branch_word(branch.kind))
        .bind(&branch.name)
        .bind(branch.r_pu)
        .bind(branch.x_pu)
        .bind(branch.g_pu)
        .bind(branch.b_pu)
        .bind(branch.tap)
        .bind(branch.shift_deg)
        .bind(branch.rate_mva)
        .bind(branch.length_km)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn write_load(tx: &mut SqliteConnection, id: i64, place: i64, load: &Load) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO network_load VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)")
        .bind(id)
        .bind(place)
        .bind(i64::from(load.id))
        .bind(i64::from(load.bus))
        .bind(&load.name)
        .bind(&load.kind)
        .bind(load.p_mw)
        .bind(load.q_mvar)
        .bind(&load.profile)
        .bind(load.peak_p_mw)
        .bind(load.peak_q_mvar)
        .bind(model_word(load.model))
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// A number of a bus, branch or load.
fn number(row: &SqliteRow, column: usize) -> Result<u32, StoreError> {
    let value: i64 = row.get(column);
    u32::try_from(value).map_err(|_| StoreError::Damaged(format!("a network holds the number {value}")))
}

async fn read(connection: &mut SqliteConnection, id: i64) -> Result<Network, StoreError> {
    let head = sqlx::query("SELECT name, base_mva, frequency_hz FROM network_version WHERE id = $1")
        .bind(id)
        .fetch_one(&mut *connection)
        .await?;
    let buses = sqlx::query(
        "SELECT bus, name, vn_kv, slack_vm_pu, slack_va_deg, gs_mw, bs_mvar FROM network_bus \
         WHERE network = $1 ORDER BY place",
    );
    let branches = sqlx::query(
        "SELECT branch, from_bus, to_bus, kind, name, r_pu, x_pu, g_pu, b_pu, tap, shift_deg, rate_mva, length_km \
         FROM network_branch WHERE network = $1 ORDER BY place",
    );
    let loads = sqlx::query(
        "SELECT load, bus, name, kind, p_mw, q_mvar, profile, peak_p_mw, peak_q_mvar, model FROM network_load \
         WHERE network = $1 ORDER BY place",
    );
    let points = sqlx::query(
        "SELECT usage_point, load, bus, phase, valid_from FROM network_usage_point WHERE network = $1 ORDER BY place",
    );
    let buses = buses.bind(id).fetch_all(&mut *connection).await?;
    let branches = branches.bind(id).fetch_all(&mut *connection).await?;
    let loads = loads.bind(id).fetch_all(&mut *connection).await?;
    let points = points.bind(id).fetch_all(&mut *connection).await?;
    Ok(Network {
        name: head.get(0),
        base_mva: head.get(1),
        frequency_hz: head.get(2),
        buses: buses.iter().map(bus).collect::<Result<_, _>>()?,
        branches: branches.iter().map(branch).collect::<Result<_, _>>()?,
        loads: loads.iter().map(load).collect::<Result<_, _>>()?,
        usage_points: points.iter().map(usage_point).collect::<Result<_, _>>()?,
    })
}

fn bus(row: &SqliteRow) -> Result<Bus, StoreError> {
    let kind = match (row.get::<Option<f64>, _>(3), row.get::<Option<f64>, _>(4)) {
        (Some(vm_pu), Some(va_deg)) => BusKind::Slack { vm_pu, va_deg },
        _ => BusKind::Load,
    };
    Ok(Bus { id: number(row, 0)?, name: row.get(1), vn_kv: row.get(2), kind, gs_mw: row.get(5), bs_mvar: row.get(6) })
}

fn branch(row: &SqliteRow) -> Result<Branch, StoreError> {
    let word: String = row.get(3);
    let kind = [BranchKind::Line, BranchKind::Trafo].into_iter().find(|k| branch_word(*k) == word);
    Ok(Branch {
        id: number(row, 0)?,
        from: number(row, 1)?,
        to: number(row, 2)?,
        kind: kind.ok_or_else(|| StoreError::Damaged(format!("a branch is of the kind '{word}'")))?,
        name: row.get(4),
        r_pu: row.get(5),
        x_pu: row.get(6),
        g_pu: row.get(7),
        b_pu: row.get(8),
        tap: row.get(9),
        shift_deg: row.get(10),
        rate_mva: row.get(11),
        length_km: row.get(12),
    })
}

fn load(row: &SqliteRow) -> Result<Load, StoreError> {
    let word: String = row.get(9);
    let model =
        [LoadModel::Power, LoadModel::Current, LoadModel::Impedance].into_iter().find(|m| model_word(*m) == word);
    Ok(Load {
        id: number(row, 0)?,
        bus: number(row, 1)?,
        name: row.get(2),
        kind: row.get(3),
        p_mw: row.get(4),
        q_mvar: row.get(5),
        profile: row.get(6),
        peak_p_mw: row.get(7),
        peak_q_mvar: row.get(8),
        model: model.ok_or_else(|| StoreError::Damaged(format!("a load has the model '{word}'")))?,
    })
}

fn usage_point(row: &SqliteRow) -> Result<UsagePoint, StoreError> {
    let damaged = |_| StoreError::Damaged("a usage point of a network holds a number out of range".to_owned());
    Ok(UsagePoint {
        usage_point: row.get(0),
        load: row.get::<Option<i64>, _>(1).map(u32::try_from).transpose().map_err(damaged)?,
        bus: number(row, 2)?,
        phase: row.get::<Option<i64>, _>(3).map(u8::try_from).transpose().map_err(damaged)?,
        valid_from: row.get(4),
    })
}
