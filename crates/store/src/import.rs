//! Master data from a CSV file: zones with their observers, usage points with their meters, each as a version with a first day.
//!
//! All texts are taken literally; whatever a spreadsheet would run as a formula is not an identifier and is refused as such.
//! Good rows are taken even when others are not: every refusal has its line and reason.

mod register;

use std::collections::{BTreeMap, BTreeSet};

use metering::{MeterId, Timestamp, UsagePointId, ZoneId};
use registry::{MeterClass, PhaseConnection, ZoneKind};
use sqlx::SqliteConnection;

use crate::{
    audit,
    change::Change,
    csv_fields::{ratio, shown},
    directory::Store,
    error::StoreError,
    pending::{self, GuardedChange},
    supply,
    topology::{ImportReport, RejectedRow, bump_version},
};

use register::{Network, Taken, Thing};

/// Largest file.
const CSV_BYTES_MAX: usize = 64 << 20;
/// Most rejected rows listed in words; further ones are counted in the last entry.
const REJECTED_MAX: usize = 1_000;
const COLUMNS: [&str; 8] =
    ["zone", "parent", "observer_meter", "usage_point", "meter", "ct_ratio", "phase", "valid_from"];
const OPTIONAL: [&str; 5] = ["kind", "never_disconnect", "rating_w", "meter_class", "unmetered_w"];
/// Most that is taken without a meter, W: more than that is not left unmeasured.
const UNMETERED_W_MAX: u32 = 1_000_000;

/// What a row says, parsed.
#[derive(Clone, Debug)]
struct Said {
    line: u64,
    zone: ZoneId,
    parent: Option<ZoneId>,
    observer: Option<MeterId>,
    usage_point: Option<UsagePointId>,
    meter: Option<MeterId>,
    ct_milli: u32,
    phase: PhaseConnection,
    valid_from: Timestamp,
    kind: Option<ZoneKind>,
    never_disconnect: Option<bool>,
    rating_w: Option<u64>,
    class: Option<MeterClass>,
    unmetered_w: Option<u32>,
}

impl Said {
    /// What the row is about.
    fn thing(&self) -> Thing {
        self.usage_point.map_or(Thing::Zone(self.zone), Thing::UsagePoint)
    }

    /// Whether both say something of the same thing that cannot hold at once. What one of them leaves out it does not deny.
    fn contradicts(&self, other: &Self) -> bool {
        fn differ<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_some() && b.is_some() && a != b
        }
        let place = if self.usage_point.is_some() { self.zone != other.zone } else { self.parent != other.parent };
        let meter =
            if self.usage_point.is_some() { self.meter != other.meter } else { self.observer != other.observer };
        place
            || meter
            || self.ct_milli != other.ct_milli
            || self.phase != other.phase
            || differ(self.kind, other.kind)
            || differ(self.never_disconnect, other.never_disconnect)
            || differ(self.rating_w, other.rating_w)
            || differ(self.class, other.class)
            || differ(self.unmetered_w, other.unmetered_w)
    }
}

impl Store {
    /// Imports zones, usage points and installations from a CSV text with the columns `zone, parent, observer_meter,
    /// usage_point, meter, ct_ratio, phase, valid_from` and, if wanted, `kind, never_disconnect, rating_w, meter_class,
    /// unmetered_w`. A row without a usage
    /// point describes a zone. Good rows are taken, bad ones listed with line and reason; rows that say what is known change
    /// nothing.
    ///
    /// # Errors
    /// When the header is not usable or the database fails; then nothing is taken.
    pub async fn import_topology(&self, csv: &str, by: &str, now: Timestamp) -> Result<ImportReport, StoreError> {
        // Read and checked before the transaction begins: only the writing keeps others from writing.
        let _one_at_a_time = self.inner.importing.lock().await;
        let (network, is_guarded) = {
            let mut tx = self.inner.main_read.begin().await?;
            (Network::read(&mut tx).await?, supply::operators(&mut tx, now).await? > 1)
        };
        let text = csv.to_owned();
        let checked = tokio::task::spawn_blocking(move || Checked::of(&text, network, is_guarded));
        let Checked { network, mut report, guarded } = checked.await.map_err(|e| StoreError::Task(e.to_string()))??;
        if report.accepted == 0 && guarded.is_empty() {
            return Ok(report);
        }
        report.pending = self
            .transaction("topology.import", async |tx| {
                if report.accepted > 0 {
                    network.write(tx, by, now).await?;
                    bump_version(tx).await?;
                    let detail = format!("{} rows taken, {} refused", report.accepted, report.rejected_count);
                    let entry = audit::Entry { by, action: "topology.import", subject: "topology".to_owned(), detail };
                    audit::record(tx, now, entry).await?;
                }
                if guarded.is_empty() {
                    return Ok(None);
                }
                let csv = register_csv(&guarded);
                pending::keep(tx, &GuardedChange::Register { csv }, by, now).await.map(Some)
            })
            .await?;
        if report.accepted > 0 {
            self.refresh_limits().await?;
            self.announce(Change::Topology);
        }
        if report.pending.is_some() {
            self.announce(Change::Setting("pending".to_owned()));
        }
        Ok(report)
    }
}

/// A file that was compared with the register.
struct Checked {
    network: Network,
    report: ImportReport,
    /// Rows that another person must confirm.
    guarded: Vec<Said>,
}

impl Checked {
    fn of(csv: &str, mut network: Network, is_guarded: bool) -> Result<Self, StoreError> {
        let (rows, mut rejected) = parse(csv)?;
        let (mut rows, contradicting) = without_contradictions(rows);
        rejected.extend(contradicting);
        // Zones before what is in them; otherwise in the order of the file.
        rows.sort_by_key(|row| row.usage_point.is_some());
        let mut report = ImportReport::default();
        let (guarded, mut waiting): (Vec<Said>, Vec<Said>) =
            rows.into_iter().partition(|row| is_guarded && network.loosens(row));
        report.waiting = guarded.len() as u64;
        // A zone may stand in the file before its parent: rows that wait for one are tried again as long as others get through.
        loop {
            let mut still = Vec::new();
            let before = waiting.len();
            for row in waiting {
                match network.take(&row) {
                    Ok(Taken::Changed) => report.accepted += 1,
                    Ok(Taken::Unchanged) => report.unchanged += 1,
                    Err(reason) => still.push((row, reason)),
                }
            }
            if still.is_empty() || still.len() == before {
                rejected.extend(still.into_iter().map(|(row, reason)| RejectedRow { line: row.line, reason }));
                break;
            }
            waiting = still.into_iter().map(|(row, _)| row).collect();
        }
        rejected.sort_by_key(|row| row.line);
        report.rejected_count = rejected.len() as u64;
        report.rejected = shortened(rejected);
        Ok(Self { network, report, guarded })
    }
}

/// Takes rows that were confirmed, all of them or none.
pub(crate) async fn take_confirmed(
    tx: &mut SqliteConnection,
    csv: &str,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Checked { network, report, .. } = Checked::of(csv, Network::read(tx).await?, false)?;
    if let Some(refused) = report.rejected.first() {
        return Err(StoreError::Refused(format!("the register refuses it: {}", refused.reason)));
    }
    network.write(tx, by, now).await?;
    bump_version(tx).await
}

/// Rows as a file that says the same.
fn register_csv(rows: &[Said]) -> String {
    let mut csv = format!("{},{}\n", COLUMNS.join(","), OPTIONAL.join(","));
    for row in rows {
        let text = |id: Option<&dyn std::fmt::Display>| id.map(ToString::to_string).unwrap_or_default();
        let fields = [
            row.zone.to_string(),
            text(row.parent.as_ref().map(|id| id as _)),
            text(row.observer.as_ref().map(|id| id as _)),
            text(row.usage_point.as_ref().map(|id| id as _)),
            text(row.meter.as_ref().map(|id| id as _)),
            format!("{}.{:03}", row.ct_milli / 1_000, row.ct_milli % 1_000),
            row.phase.word().to_owned(),
            row.valid_from.to_string(),
            row.kind.map(ZoneKind::word).unwrap_or_default().to_owned(),
            row.never_disconnect.map(|never| if never { "yes" } else { "no" }).unwrap_or_default().to_owned(),
            row.rating_w.map(|rating| rating.to_string()).unwrap_or_default(),
            row.class.and_then(MeterClass::word).unwrap_or_default().to_owned(),
            row.unmetered_w.map(|watts| watts.to_string()).unwrap_or_default(),
        ];
        csv.push_str(&fields.join(","));
        csv.push('\n');
    }
    csv
}

/// Takes out rows that say different things of one zone or usage point from the same time on: which one is right is not ours to say.
fn without_contradictions(rows: Vec<Said>) -> (Vec<Said>, Vec<RejectedRow>) {
    let mut first: BTreeMap<(Thing, Timestamp), Said> = BTreeMap::new();
    let mut disputed: BTreeMap<(Thing, Timestamp), BTreeSet<u64>> = BTreeMap::new();
    for row in &rows {
        let key = (row.thing(), row.valid_from);
        match first.get(&key) {
            Some(other) if row.contradicts(other) => {
                disputed.entry(key).or_default().extend([other.line, row.line]);
            }
            Some(_) => {}
            None => {
                first.insert(key, row.clone());
            }
        }
    }
    let (mut good, mut rejected) = (Vec::new(), Vec::new());
    for row in rows {
        let Some(lines) = disputed.get(&(row.thing(), row.valid_from)) else {
            good.push(row);
            continue;
        };
        let others: Vec<String> = lines.iter().filter(|line| **line != row.line).map(u64::to_string).collect();
        let reason = format!(
            "{} stands in line {} too, from the same day on and with other values: keep one of them",
            row.thing(),
            others.join(", ")
        );
        rejected.push(RejectedRow { line: row.line, reason });
    }
    (good, rejected)
}

fn shortened(mut rejected: Vec<RejectedRow>) -> Vec<RejectedRow> {
    let more = rejected.len().saturating_sub(REJECTED_MAX);
    if more > 0 {
        rejected.truncate(REJECTED_MAX);
        let line = rejected.last().map_or(0, |row| row.line);
        rejected
            .push(RejectedRow { line, reason: format!("{more} further rows after this line were refused as well") });
    }
    rejected
}

/// Reads the text; good rows and refused ones.
fn parse(csv: &str) -> Result<(Vec<Said>, Vec<RejectedRow>), StoreError> {
    if csv.len() > CSV_BYTES_MAX {
        return Err(StoreError::Invalid("the file is larger than 64 MiB: split it".to_owned()));
    }
    let text = csv.trim_start_matches('\u{feff}');
    let delimiter =
        if text.lines().next().is_some_and(|head| head.contains(';') && !head.contains(',')) { b';' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).delimiter(delimiter).from_reader(text.as_bytes());
    let head = reader.headers().map_err(|e| StoreError::Invalid(format!("the file is not CSV: {e}")))?.clone();
    let columns = Columns::new(&head)?;
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                if record.iter().all(str::is_empty) {
                    continue;
                }
                match columns.row(&record, head.len(), line) {
                    Ok(row) => rows.push(row),
                    Err(reason) => rejected.push(RejectedRow { line, reason }),
                }
            }
            Err(e) => {
                let line = e.position().map_or(0, csv::Position::line);
                rejected.push(RejectedRow { line, reason: format!("the row is not CSV: {e}") });
            }
        }
    }
    Ok((rows, rejected))
}

/// Where each column stands in the file.
struct Columns(BTreeMap<String, usize>);

impl Columns {
    fn new(head: &csv::StringRecord) -> Result<Self, StoreError> {
        let mut columns = BTreeMap::new();
        for (index, name) in head.iter().enumerate() {
            let name = name.to_ascii_lowercase();
            if !COLUMNS.contains(&name.as_str()) && !OPTIONAL.contains(&name.as_str()) {
                let known = [&COLUMNS[..], &OPTIONAL[..]].concat().join(", ");
                return Err(StoreError::Invalid(format!("the column '{name}' is not known; known are {known}")));
            }
            if columns.insert(name.clone(), index).is_some() {
                return Err(StoreError::Invalid(format!("the column '{name}' stands twice in the header")));
            }
        }
        for needed in COLUMNS {
            if !columns.contains_key(needed) {
                let all = COLUMNS.join(",");
                return Err(StoreError::Invalid(format!("the column '{needed}' is missing; the header is {all}")));
            }
        }
        Ok(Self(columns))
    }

    fn row(&self, record: &csv::StringRecord, width: usize, line: u64) -> Result<Said, String> {
        if record.len() != width {
            return Err(format!("the row has {} fields, the header {width}", record.len()));
        }
        let field = |name: &str| self.0.get(name).and_then(|index| record.get(*index)).unwrap_or("");
        let usage_point = id(field("usage_point"), "usage_point", UsagePointId::new)?;
        let meter = id(field("meter"), "meter", MeterId::new)?;
        if usage_point.is_none() && meter.is_some() {
            return Err("a meter is given without a usage_point; a zone's meter goes into observer_meter".to_owned());
        }
        let valid_from: Timestamp =
            field("valid_from").parse().map_err(|e| format!("valid_from '{}' is {e}", shown(field("valid_from"))))?;
        Ok(Said {
            line,
            zone: id(field("zone"), "zone", ZoneId::new)?.ok_or("the zone is empty: name it")?,
            parent: id(field("parent"), "parent", ZoneId::new)?,
            observer: id(field("observer_meter"), "observer_meter", MeterId::new)?,
            usage_point,
            meter,
            ct_milli: ratio(field("ct_ratio"))?,
            phase: PhaseConnection::from_word(field("phase"))
                .ok_or_else(|| format!("phase '{}' is not A, B, C, ABC or empty", shown(field("phase"))))?,
            valid_from,
            kind: match field("kind") {
                "" => None,
                word => {
                    Some(ZoneKind::from_word(&word.to_ascii_lowercase()).ok_or_else(|| {
                        format!("kind '{}' is not feeder, transformer, branch or service", shown(word))
                    })?)
                }
            },
            never_disconnect: match field("never_disconnect").to_ascii_lowercase().as_str() {
                "" => None,
                "1" | "true" | "yes" => Some(true),
                "0" | "false" | "no" => Some(false),
                other => return Err(format!("never_disconnect '{}' is not yes or no", shown(other))),
            },
            rating_w: match field("rating_w") {
                "" => None,
                text => {
                    Some(text.parse::<u64>().ok().filter(|w| *w > 0 && *w <= 1 << 50).ok_or_else(|| {
                        format!("rating_w '{}' is not a whole number of watts above zero", shown(text))
                    })?)
                }
            },
            class: match field("meter_class") {
                "" => None,
                word => {
                    let class = MeterClass::from_word(word);
                    Some(class.ok_or_else(|| format!("meter_class '{}' is not 1, 0.5S or 0.2S", shown(word)))?)
                }
            },
            unmetered_w: match field("unmetered_w") {
                "" => None,
                text => Some(text.parse::<u32>().ok().filter(|w| *w <= UNMETERED_W_MAX).ok_or_else(|| {
                    format!("unmetered_w '{}' is not a whole number of watts up to {UNMETERED_W_MAX}", shown(text))
                })?),
            },
        })
    }
}

fn id<T>(
    text: &str,
    column: &str,
    make: impl Fn(&str) -> Result<T, metering::id::IdError>,
) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    make(text).map(Some).map_err(|e| format!("{column} '{}': {e}", shown(text)))
}
