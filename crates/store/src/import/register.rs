//! The register as it will be: versions of zones and installations in memory, each row taken or refused by what the others say, and
//! what changed written at the end.

use std::collections::{BTreeMap, BTreeSet};

use metering::{MeterId, Timestamp, UsagePointId, ZoneId};
use registry::{MeterClass, PhaseConnection, ZoneKind};
use sqlx::{QueryBuilder, Row, SqliteConnection};

use super::Said;
use crate::{audit, error::StoreError, topology::class_out};

/// Rows in one statement.
const ROWS: usize = 100;
/// Deepest nesting of zones.
const DEPTH_MAX: usize = 16;

/// What holds of a zone or usage point from a time on. `place` is the parent zone of a zone, the zone of a usage point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    place: Option<ZoneId>,
    meter: Option<MeterId>,
    ct_milli: u32,
    phase: PhaseConnection,
    kind: Option<ZoneKind>,
    rating_w: Option<u64>,
    class: Option<MeterClass>,
    /// Power taken without a meter, W.
    unmetered_w: Option<u32>,
}

/// What has versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
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
pub(super) enum Taken {
    Changed,
    Unchanged,
}

/// Versions of one thing by the first instant at which they hold; each holds until the next.
type Versions = BTreeMap<Timestamp, Version>;

/// All versions of everything, as they will be.
#[derive(Default)]
pub(super) struct Network {
    things: BTreeMap<Thing, Versions>,
    never_disconnect: BTreeMap<UsagePointId, bool>,
    /// Where each meter stands in some version.
    places: BTreeMap<MeterId, BTreeSet<Thing>>,
    /// What changed: thing, first instant, what it was then.
    changed: Vec<(Thing, Timestamp, Option<Version>)>,
    flagged: BTreeSet<UsagePointId>,
    /// Things of which nothing was known before.
    new: BTreeSet<Thing>,
}

impl Network {
    pub(super) async fn read(tx: &mut SqliteConnection) -> Result<Self, StoreError> {
        let damaged = |what: &str| StoreError::damaged(format!("the topology: {what}"));
        let mut network = Self::default();
        let rows = sqlx::query(
            "SELECT 1, zone, valid_from, parent, meter, ct_milli, phase, kind, rating_w, meter_class, NULL FROM zone_version
             UNION ALL SELECT 0, usage_point, valid_from, zone, meter, ct_milli, phase, NULL, rating_w, meter_class,
                unmetered_w FROM installation",
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
                class: text(9).map(class_out).transpose()?,
                unmetered_w: row
                    .get::<Option<i64>, _>(10)
                    .map(u32::try_from)
                    .transpose()
                    .map_err(|_| damaged("a power"))?,
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
    pub(super) fn loosens(&self, said: &Said) -> bool {
        let meter = if said.usage_point.is_some() { said.meter } else { said.observer };
        let ratio = meter.and_then(|meter| self.last_ratio(meter, said.valid_from));
        if ratio.is_some_and(|ratio| ratio != said.ct_milli) {
            return true;
        }
        let Some(point) = said.usage_point else { return false };
        let held = self.at(Thing::UsagePoint(point), said.valid_from);
        // What is declared without a meter is not missed in the balance.
        let declared = held.and_then(|held| held.unmetered_w).unwrap_or(0);
        if said.unmetered_w.is_some_and(|watts| watts > declared) {
            return true;
        }
        if self.never_disconnect.get(&point) != Some(&true) {
            return false;
        }
        let there = held.and_then(|held| held.meter);
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
    pub(super) fn take(&mut self, said: &Said) -> Result<Taken, String> {
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
        if said.unmetered_w.is_some() {
            return Err("unmetered_w belongs to a usage point, not to a zone".to_owned());
        }
        let class = self.class_of(Thing::Zone(said.zone), said.observer, said);
        let version = Version {
            place: said.parent,
            meter: said.observer,
            class,
            unmetered_w: None,
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
        if said.meter.is_some() && said.unmetered_w.is_some_and(|watts| watts > 0) {
            return Err("unmetered_w is for a usage point without a meter: leave one of the two empty".to_owned());
        }
        let thing = Thing::UsagePoint(point);
        let held = self.at(thing, said.valid_from);
        let unmetered_w = said.unmetered_w.or_else(|| held?.unmetered_w).filter(|w| *w > 0 && said.meter.is_none());
        let version = Version {
            place: Some(said.zone),
            meter: said.meter,
            class: self.class_of(thing, said.meter, said),
            unmetered_w,
            ct_milli: said.ct_milli,
            phase: said.phase,
            kind: None,
            // As with the protection: what a row leaves out stays.
            rating_w: said.rating_w.or_else(|| held?.rating_w),
        };
        let taken = self.put(thing, said.valid_from, version)?;
        let before = self.never_disconnect.get(&point).copied();
        let never = said.never_disconnect.or(before).unwrap_or(false);
        self.never_disconnect.insert(point, never);
        if before.unwrap_or(false) == never {
            return Ok(taken);
        }
        self.flagged.insert(point);
        Ok(Taken::Changed)
    }

    /// The class that a row gives a meter; one that it does not name stays with the meter that is there.
    fn class_of(&self, thing: Thing, meter: Option<MeterId>, said: &Said) -> Option<MeterClass> {
        let held = self.at(thing, said.valid_from).filter(|held| held.meter == meter);
        said.class.or_else(|| held?.class).filter(|_| meter.is_some())
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
        if !self.things.contains_key(&thing) {
            self.new.insert(thing);
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
    pub(super) async fn write(&self, tx: &mut SqliteConnection, by: &str, now: Timestamp) -> Result<(), StoreError> {
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
        keep_past(tx, changed.difference(&self.new), now).await?;
        write_zones(tx, &self.rows(&changed, true), now).await?;
        write_installations(tx, &self.rows(&changed, false), now).await?;
        forget_unchanged(tx, now).await?;
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
    let class = version.class.and_then(MeterClass::word).map_or_else(String::new, |class| format!(", class {class}"));
    let lamp = version.unmetered_w.map_or_else(String::new, |watts| format!(", {watts} W without meter"));
    format!("in {place}, meter {meter}, CT ratio {ratio}, phase '{}'{rating}{class}{lamp}", version.phase.word())
}

/// Keeps what is known of these until now, before it is changed.
async fn keep_past(
    tx: &mut SqliteConnection,
    changed: impl Iterator<Item = &Thing>,
    now: Timestamp,
) -> Result<(), StoreError> {
    for thing in changed {
        let sql = match thing {
            Thing::Zone(_) => {
                "INSERT INTO zone_version_past (zone, valid_from, valid_to, parent, kind, rating_w, meter, ct_milli, phase,
                    meter_class, known_from, known_to)
                 SELECT zone, valid_from, valid_to, parent, kind, rating_w, meter, ct_milli, phase, meter_class, known_from,
                    $2 FROM zone_version WHERE zone = $1"
            }
            Thing::UsagePoint(_) => {
                "INSERT INTO installation_past (usage_point, valid_from, valid_to, zone, rating_w, meter, ct_milli, phase,
                    meter_class, unmetered_w, known_from, known_to)
                 SELECT usage_point, valid_from, valid_to, zone, rating_w, meter, ct_milli, phase, meter_class, unmetered_w,
                    known_from, $2 FROM installation WHERE usage_point = $1"
            }
        };
        sqlx::query(sql).bind(thing.name()).bind(now.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Drops what was kept as past and is still there as it was.
async fn forget_unchanged(tx: &mut SqliteConnection, now: Timestamp) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM zone_version_past WHERE known_to = $1 AND EXISTS (SELECT 1 FROM zone_version z
            WHERE z.zone = zone_version_past.zone AND z.valid_from = zone_version_past.valid_from
                AND z.known_from = zone_version_past.known_from)",
        "DELETE FROM installation_past WHERE known_to = $1 AND EXISTS (SELECT 1 FROM installation i
            WHERE i.usage_point = installation_past.usage_point AND i.valid_from = installation_past.valid_from
                AND i.known_from = installation_past.known_from)",
    ] {
        sqlx::query(sql).bind(now.0).execute(&mut *tx).await?;
    }
    Ok(())
}

async fn write_zones(
    tx: &mut SqliteConnection,
    rows: &[(Thing, Timestamp, i64, &Version)],
    now: Timestamp,
) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO zone_version (zone, valid_from, valid_to, parent, meter, ct_milli, phase, kind, rating_w,
                meter_class, known_from) ",
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
                .push_bind(version.rating_w.map(u64::cast_signed))
                .push_bind(version.class.and_then(MeterClass::word))
                .push_bind(now.0);
        });
        insert.push(
            " ON CONFLICT (zone, valid_from) DO UPDATE SET valid_to = excluded.valid_to, parent = excluded.parent,
                meter = excluded.meter, ct_milli = excluded.ct_milli, phase = excluded.phase, kind = excluded.kind,
                rating_w = excluded.rating_w, meter_class = excluded.meter_class, known_from = excluded.known_from
             WHERE (zone_version.valid_to, zone_version.parent, zone_version.meter, zone_version.ct_milli,
                    zone_version.phase, zone_version.kind, zone_version.rating_w, zone_version.meter_class)
                IS NOT (excluded.valid_to, excluded.parent, excluded.meter, excluded.ct_milli, excluded.phase,
                    excluded.kind, excluded.rating_w, excluded.meter_class)",
        );
        insert.build().execute(&mut *tx).await?;
    }
    Ok(())
}

async fn write_installations(
    tx: &mut SqliteConnection,
    rows: &[(Thing, Timestamp, i64, &Version)],
    now: Timestamp,
) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO installation (usage_point, valid_from, valid_to, zone, meter, ct_milli, phase, rating_w,
                meter_class, unmetered_w, known_from) ",
        );
        insert.push_values(rows, |mut row, (thing, from, to, version)| {
            row.push_bind(thing.name())
                .push_bind(from.0)
                .push_bind(*to)
                .push_bind(version.place.map(|zone| zone.to_string()))
                .push_bind(version.meter.map(|meter| meter.to_string()))
                .push_bind(i64::from(version.ct_milli))
                .push_bind(version.phase.word())
                .push_bind(version.rating_w.map(u64::cast_signed))
                .push_bind(version.class.and_then(MeterClass::word))
                .push_bind(version.unmetered_w.map(i64::from))
                .push_bind(now.0);
        });
        insert.push(
            " ON CONFLICT (usage_point, valid_from) DO UPDATE SET valid_to = excluded.valid_to, zone = excluded.zone,
                meter = excluded.meter, ct_milli = excluded.ct_milli, phase = excluded.phase,
                rating_w = excluded.rating_w, meter_class = excluded.meter_class, unmetered_w = excluded.unmetered_w,
                known_from = excluded.known_from
             WHERE (installation.valid_to, installation.zone, installation.meter, installation.ct_milli,
                    installation.phase, installation.rating_w, installation.meter_class, installation.unmetered_w)
                IS NOT (excluded.valid_to, excluded.zone, excluded.meter, excluded.ct_milli, excluded.phase,
                    excluded.rating_w, excluded.meter_class, excluded.unmetered_w)",
        );
        insert.build().execute(&mut *tx).await?;
    }
    Ok(())
}
