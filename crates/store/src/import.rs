//! Master data from a CSV file: zones with their observers, usage points with their meters, each as a version with a first day.
//!
//! All texts are taken literally; whatever a spreadsheet would run as a formula is not an identifier and is refused as such.
//! Good rows are taken even when others are not: every refusal has its line and reason.

use std::collections::{BTreeMap, BTreeSet};

use metering::{MeterId, Timestamp, UsagePointId, ZoneId};
use sqlx::{QueryBuilder, Row, SqliteConnection};

use crate::{
    audit,
    change::Change,
    csv_fields::{ratio, shown},
    directory::Store,
    error::StoreError,
    pending::{self, GuardedChange},
    supply,
    topology::{ImportReport, PhaseConnection, RejectedRow, ZoneKind},
};

/// Largest file.
const CSV_BYTES_MAX: usize = 64 << 20;
/// Most rejected rows listed in words; further ones are counted in the last entry.
const REJECTED_MAX: usize = 1_000;
/// Rows in one statement.
const ROWS: usize = 100;
/// Deepest nesting of zones.
const DEPTH_MAX: usize = 16;
const COLUMNS: [&str; 8] =
    ["zone", "parent", "observer_meter", "usage_point", "meter", "ct_ratio", "phase", "valid_from"];
const OPTIONAL: [&str; 3] = ["kind", "never_disconnect", "rating_w"];

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
    }
}

/// What holds of a zone or usage point from a time on. `place` is the parent zone of a zone, the zone of a usage point.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    place: Option<ZoneId>,
    meter: Option<MeterId>,
    ct_milli: u32,
    phase: PhaseConnection,
    kind: Option<ZoneKind>,
    rating_w: Option<u64>,
}

/// What has versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Zone(ZoneId),
    UsagePoint(UsagePointId),
}

impl Thing {
    fn name(self) -> String {
        match self {
            Self::Zone(zone) => zone.to_string(),
            Self::UsagePoint(point) => point.to_string(),
        }
    }
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Zone(zone) => write!(f, "zone {zone}"),
            Self::UsagePoint(point) => write!(f, "usage point {point}"),
        }
    }
}

/// What a row did.
enum Taken {
    Changed,
    Unchanged,
}

impl Store {
    /// Imports zones, usage points and installations from a CSV text with the columns `zone, parent, observer_meter,
    /// usage_point, meter, ct_ratio, phase, valid_from` and, if wanted, `kind, never_disconnect, rating_w`. A row without a usage
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
            (Network::read(&mut tx).await?, supply::operators(&mut tx).await? > 1)
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

async fn bump_version(tx: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO meta (key, value) VALUES ('topology_version', '1')
         ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(meta.value AS INTEGER) + 1 AS TEXT)",
    )
    .execute(tx)
    .await?;
    Ok(())
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

/// Versions of one thing by the first instant at which they hold; each holds until the next.
type Versions = BTreeMap<Timestamp, Version>;

/// All versions of everything, as they will be.
#[derive(Default)]
struct Network {
    things: BTreeMap<Thing, Versions>,
    never_disconnect: BTreeMap<UsagePointId, bool>,
    /// Where each meter stands in some version.
    places: BTreeMap<MeterId, BTreeSet<Thing>>,
    /// What changed: thing, first instant, what it was then.
    changed: Vec<(Thing, Timestamp, Option<Version>)>,
    flagged: BTreeSet<UsagePointId>,
}

impl Network {
    async fn read(tx: &mut SqliteConnection) -> Result<Self, StoreError> {
        let damaged = |what: &str| StoreError::damaged(format!("the topology: {what}"));
        let mut network = Self::default();
        let rows = sqlx::query(
            "SELECT 1, zone, valid_from, parent, meter, ct_milli, phase, kind, rating_w FROM zone_version
             UNION ALL SELECT 0, usage_point, valid_from, zone, meter, ct_milli, phase, NULL, rating_w FROM installation",
        )
        .fetch_all(&mut *tx)
        .await?;
        for row in &rows {
            let name: &str = row.get(1);
            let thing = if row.get::<i64, _>(0) == 1 {
                Thing::Zone(ZoneId::new(name).map_err(|_| damaged("a zone"))?)
            } else {
                Thing::UsagePoint(UsagePointId::new(name).map_err(|_| damaged("a usage point"))?)
            };
            let text = |column: usize| row.get::<Option<&str>, _>(column);
            let version = Version {
                place: text(3).map(ZoneId::new).transpose().map_err(|_| damaged("a zone"))?,
                meter: text(4).map(MeterId::new).transpose().map_err(|_| damaged("a meter"))?,
                ct_milli: u32::try_from(row.get::<i64, _>(5)).map_err(|_| damaged("a ratio"))?,
                phase: text(6).and_then(PhaseConnection::from_word).ok_or_else(|| damaged("a phase"))?,
                kind: text(7).map(|word| ZoneKind::from_word(word).ok_or_else(|| damaged("a kind"))).transpose()?,
                rating_w: row.get::<Option<i64>, _>(8).map(i64::cast_unsigned),
            };
            if let Some(meter) = version.meter {
                network.places.entry(meter).or_default().insert(thing);
            }
            network.things.entry(thing).or_default().insert(Timestamp(row.get(2)), version);
        }
        for row in sqlx::query("SELECT id, never_disconnect FROM usage_point").fetch_all(&mut *tx).await? {
            let point = UsagePointId::new(row.get(0)).map_err(|_| damaged("a usage point"))?;
            network.never_disconnect.insert(point, row.get::<i64, _>(1) != 0);
        }
        Ok(network)
    }

    /// Whether a row takes a brake off: another ratio for a meter than it had, a protection lifted, or the meter taken from where it is
    /// protected.
    fn loosens(&self, said: &Said) -> bool {
        let meter = if said.usage_point.is_some() { said.meter } else { said.observer };
        let ratio = meter.and_then(|meter| self.last_ratio(meter, said.valid_from));
        if ratio.is_some_and(|ratio| ratio != said.ct_milli) {
            return true;
        }
        let Some(point) = said.usage_point.filter(|point| self.never_disconnect.get(point) == Some(&true)) else {
            return false;
        };
        let held = self.things.get(&Thing::UsagePoint(point));
        let there = held.and_then(|held| held.range(..=said.valid_from).next_back()).and_then(|(_, held)| held.meter);
        said.never_disconnect == Some(false) || (there.is_some() && there != said.meter)
    }

    /// The ratio with which a meter hung last before or at a time, wherever that was.
    fn last_ratio(&self, meter: MeterId, at: Timestamp) -> Option<u32> {
        let places = self.places.get(&meter).into_iter().flatten();
        let versions = places.flat_map(|thing| self.things[thing].range(..=at));
        versions
            .filter(|(_, held)| held.meter == Some(meter))
            .max_by_key(|(from, _)| **from)
            .map(|(_, held)| held.ct_milli)
    }

    /// Takes a row, or says why not and changes nothing.
    fn take(&mut self, said: &Said) -> Result<Taken, String> {
        match said.usage_point {
            None => self.take_zone(said),
            Some(point) => self.take_usage_point(said, point),
        }
    }

    fn take_zone(&mut self, said: &Said) -> Result<Taken, String> {
        if said.never_disconnect.is_some() {
            return Err("never_disconnect belongs to a usage point, not to a zone".to_owned());
        }
        let parent = said.parent.map(|parent| self.zone_at(parent, said.valid_from)).transpose()?;
        self.check_cycle(said)?;
        let kind = said.kind.unwrap_or(match parent.and_then(|parent| parent.kind) {
            None => ZoneKind::Feeder,
            Some(ZoneKind::Feeder) => ZoneKind::Transformer,
            Some(_) => ZoneKind::Branch,
        });
        if (kind == ZoneKind::Feeder) != said.parent.is_none() {
            return Err(format!(
                "a {} {}",
                kind.word(),
                if said.parent.is_none() { "needs a parent zone" } else { "has no parent zone" }
            ));
        }
        let version = Version {
            place: said.parent,
            meter: said.observer,
            ct_milli: said.ct_milli,
            phase: said.phase,
            kind: Some(kind),
            rating_w: said.rating_w,
        };
        self.put(Thing::Zone(said.zone), said.valid_from, version)
    }

    fn take_usage_point(&mut self, said: &Said, point: UsagePointId) -> Result<Taken, String> {
        if said.kind.is_some() {
            return Err("kind belongs to a zone: give it in a row without usage_point".to_owned());
        }
        let zone = self.zone_at(said.zone, said.valid_from)?;
        if said.parent.is_some() && said.parent != zone.place {
            return Err(format!(
                "the parent differs from that of zone {}: give the zone in a row of its own",
                said.zone
            ));
        }
        if said.observer.is_some() && said.observer != zone.meter {
            return Err(format!(
                "the observer differs from that of zone {}: give the zone in a row of its own",
                said.zone
            ));
        }
        let version = Version {
            place: Some(said.zone),
            meter: said.meter,
            ct_milli: said.ct_milli,
            phase: said.phase,
            kind: None,
            // As with the protection: what a row leaves out stays.
            rating_w: said.rating_w.or_else(|| self.at(Thing::UsagePoint(point), said.valid_from)?.rating_w),
        };
        let taken = self.put(Thing::UsagePoint(point), said.valid_from, version)?;
        let before = self.never_disconnect.get(&point).copied();
        let never = said.never_disconnect.or(before).unwrap_or(false);
        self.never_disconnect.insert(point, never);
        if before.unwrap_or(false) == never {
            return Ok(taken);
        }
        self.flagged.insert(point);
        Ok(Taken::Changed)
    }

    /// What holds of a thing at a time.
    fn at(&self, thing: Thing, at: Timestamp) -> Option<&Version> {
        self.things.get(&thing)?.range(..=at).next_back().map(|(_, version)| version)
    }

    fn zone_at(&self, zone: ZoneId, at: Timestamp) -> Result<&Version, String> {
        let versions = self
            .things
            .get(&Thing::Zone(zone))
            .ok_or_else(|| format!("zone {zone} is not known: add a row for it with an empty usage_point"))?;
        versions
            .range(..=at)
            .next_back()
            .map(|(_, version)| version)
            .ok_or_else(|| format!("zone {zone} does not exist yet at {at}: give it an earlier valid_from"))
    }

    /// Whether a zone would become part of itself, now or at a later time.
    fn check_cycle(&self, said: &Said) -> Result<(), String> {
        let Some(parent) = said.parent else { return Ok(()) };
        if parent == said.zone {
            return Err(format!("zone {} cannot be its own parent", said.zone));
        }
        let mut times: BTreeSet<Timestamp> = BTreeSet::from([said.valid_from]);
        let own = self.things.get(&Thing::Zone(said.zone));
        if own.is_some() {
            // Nothing can be inside a zone that is new; a known one is checked at every later change of any zone.
            let zones = self.things.iter().filter(|(thing, _)| matches!(thing, Thing::Zone(_)));
            times.extend(zones.flat_map(|(_, versions)| versions.range(said.valid_from..).map(|(at, _)| *at)));
        }
        let until = own.and_then(|v| v.range(said.valid_from.plus(1)..).next()).map(|(at, _)| *at);
        for at in times.into_iter().filter(|at| until.is_none_or(|until| *at < until)) {
            let mut above = Some(parent);
            for depth in 0.. {
                let Some(zone) = above else { break };
                if zone == said.zone {
                    return Err(format!("zone {} would be part of itself through {parent}", said.zone));
                }
                if depth >= DEPTH_MAX {
                    return Err(format!("zones are nested deeper than {DEPTH_MAX} levels"));
                }
                above = self.zone_at(zone, at).ok().and_then(|version| version.place);
            }
        }
        Ok(())
    }

    fn put(&mut self, thing: Thing, from: Timestamp, version: Version) -> Result<Taken, String> {
        let held = self.things.get(&thing);
        if held.and_then(|held| held.range(..=from).next_back()).is_some_and(|(_, held)| *held == version) {
            return Ok(Taken::Unchanged);
        }
        let until =
            held.and_then(|held| held.range(from.plus(1)..).next()).map_or(Timestamp(i64::MAX), |(next, _)| *next);
        if let Some(meter) = version.meter {
            self.check_meter_free(meter, thing, from, until)?;
            self.places.entry(meter).or_default().insert(thing);
        }
        let held = self.things.entry(thing).or_default();
        let before = held.range(..=from).next_back().map(|(_, before)| before.clone());
        held.insert(from, version);
        self.changed.push((thing, from, before));
        Ok(Taken::Changed)
    }

    /// Whether a meter stands nowhere else within [`from`, `until`).
    fn check_meter_free(&self, meter: MeterId, at: Thing, from: Timestamp, until: Timestamp) -> Result<(), String> {
        for thing in self.places.get(&meter).into_iter().flatten().filter(|thing| **thing != at) {
            let versions = &self.things[thing];
            for (start, _) in versions.iter().filter(|(_, version)| version.meter == Some(meter)) {
                let end = versions.range(start.plus(1)..).next().map_or(Timestamp(i64::MAX), |(next, _)| *next);
                if *start < until && from < end {
                    return Err(format!(
                        "meter {meter} is at {thing} from {start} on: end that first by a row for {thing} with another or no meter"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Writes what changed, with the audit.
    async fn write(&self, tx: &mut SqliteConnection, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let changed: BTreeSet<Thing> = self.changed.iter().map(|(thing, ..)| *thing).collect();
        let points: BTreeSet<UsagePointId> = changed
            .iter()
            .filter_map(|thing| match thing {
                Thing::UsagePoint(point) => Some(*point),
                Thing::Zone(_) => None,
            })
            .chain(self.flagged.iter().copied())
            .collect();
        self.write_points(tx, &points).await?;
        for thing in &self.flagged {
            let never = self.never_disconnect.get(thing).copied().unwrap_or(false);
            let detail = if never { "set" } else { "lifted" }.to_owned();
            let subject = format!("usage_point:{thing}");
            let entry = audit::Entry { by, action: "usage_point.never_disconnect", subject, detail };
            audit::record(tx, now, entry).await?;
        }
        write_zones(tx, &self.rows(&changed, true)).await?;
        write_installations(tx, &self.rows(&changed, false)).await?;
        let entries = self.changed.iter().map(|(thing, from, before)| {
            let after = &self.things[thing][from];
            let (subject, action) = match thing {
                Thing::Zone(zone) => (format!("zone:{zone}"), "zone.change"),
                Thing::UsagePoint(point) => (format!("usage_point:{point}"), "installation.change"),
            };
            let was = before.as_ref().map_or_else(|| "nothing".to_owned(), words);
            audit::Entry { by, action, subject, detail: format!("from {from}: {was} -> {}", words(after)) }
        });
        audit::record_all(tx, now, entries).await
    }

    /// New usage points, and the marks that the file sets or lifts; a mark that it does not name stays as it is by now.
    async fn write_points(&self, tx: &mut SqliteConnection, points: &BTreeSet<UsagePointId>) -> Result<(), StoreError> {
        let points: Vec<&UsagePointId> = points.iter().collect();
        for rows in points.chunks(ROWS) {
            let mut insert = QueryBuilder::new("INSERT INTO usage_point (id, never_disconnect) ");
            insert.push_values(rows, |mut row, point| {
                let never = self.never_disconnect.get(*point).copied().unwrap_or(false);
                row.push_bind(point.to_string()).push_bind(i64::from(never));
            });
            insert.push(" ON CONFLICT (id) DO NOTHING");
            insert.build().execute(&mut *tx).await?;
        }
        for point in &self.flagged {
            let never = self.never_disconnect.get(point).copied().unwrap_or(false);
            sqlx::query("UPDATE usage_point SET never_disconnect = $2 WHERE id = $1")
                .bind(point.as_str())
                .bind(i64::from(never))
                .execute(&mut *tx)
                .await?;
        }
        Ok(())
    }

    /// All versions of the zones, or of the usage points, that changed: each with its first and last instant.
    fn rows(&self, changed: &BTreeSet<Thing>, zones: bool) -> Vec<(Thing, Timestamp, i64, &Version)> {
        let wanted = changed.iter().filter(|thing| matches!(thing, Thing::Zone(_)) == zones);
        wanted
            .flat_map(|thing| {
                let versions = &self.things[thing];
                let ends = versions.keys().skip(1).map(|at| at.0).chain([i64::MAX]);
                versions.iter().zip(ends).map(|((from, version), to)| (*thing, *from, to, version))
            })
            .collect()
    }
}

fn words(version: &Version) -> String {
    let place = version.place.map_or_else(|| "-".to_owned(), |zone| zone.to_string());
    let meter = version.meter.map_or_else(|| "-".to_owned(), |meter| meter.to_string());
    let ratio = format!("{}.{:03}", version.ct_milli / 1_000, version.ct_milli % 1_000);
    let rating = version.rating_w.map_or_else(String::new, |watts| format!(", rating {watts} W"));
    format!("in {place}, meter {meter}, CT ratio {ratio}, phase '{}'{rating}", version.phase.word())
}

async fn write_zones(tx: &mut SqliteConnection, rows: &[(Thing, Timestamp, i64, &Version)]) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO zone_version (zone, valid_from, valid_to, parent, meter, ct_milli, phase, kind, rating_w) ",
        );
        insert.push_values(rows, |mut row, (thing, from, to, version)| {
            row.push_bind(thing.name())
                .push_bind(from.0)
                .push_bind(*to)
                .push_bind(version.place.map(|zone| zone.to_string()))
                .push_bind(version.meter.map(|meter| meter.to_string()))
                .push_bind(i64::from(version.ct_milli))
                .push_bind(version.phase.word())
                .push_bind(version.kind.unwrap_or(ZoneKind::Branch).word())
                .push_bind(version.rating_w.map(u64::cast_signed));
        });
        insert.push(
            " ON CONFLICT (zone, valid_from) DO UPDATE SET valid_to = excluded.valid_to, parent = excluded.parent,
                meter = excluded.meter, ct_milli = excluded.ct_milli, phase = excluded.phase, kind = excluded.kind,
                rating_w = excluded.rating_w",
        );
        insert.build().execute(&mut *tx).await?;
    }
    Ok(())
}

async fn write_installations(
    tx: &mut SqliteConnection,
    rows: &[(Thing, Timestamp, i64, &Version)],
) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO installation (usage_point, valid_from, valid_to, zone, meter, ct_milli, phase, rating_w) ",
        );
        insert.push_values(rows, |mut row, (thing, from, to, version)| {
            row.push_bind(thing.name())
                .push_bind(from.0)
                .push_bind(*to)
                .push_bind(version.place.map(|zone| zone.to_string()))
                .push_bind(version.meter.map(|meter| meter.to_string()))
                .push_bind(i64::from(version.ct_milli))
                .push_bind(version.phase.word())
                .push_bind(version.rating_w.map(u64::cast_signed));
        });
        insert.push(
            " ON CONFLICT (usage_point, valid_from) DO UPDATE SET valid_to = excluded.valid_to, zone = excluded.zone,
                meter = excluded.meter, ct_milli = excluded.ct_milli, phase = excluded.phase,
                rating_w = excluded.rating_w",
        );
        insert.build().execute(&mut *tx).await?;
    }
    Ok(())
}
