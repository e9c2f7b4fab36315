//! The ground truth: which theft is whose, how much it takes, and the report at the end.

use metering::Timestamp;

use crate::{
    error::SimError,
    random::{Random, Stream},
    report::{MeterTruth, SimReport, TheftTruth, ZoneTruth},
    theft::{TheftKind, TheftPlan},
    world::World,
};

/// Load that a tap feeds when no share of the zone is asked for, watts.
const TAP_DEFAULT_W: f64 = 800.0;

/// A theft and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct TheftState {
    pub plan: TheftPlan,
    /// Place of the zone; 0 is the feeder.
    pub zone: usize,
    /// Place of the home; `None` for a tampered observer.
    pub home: Option<usize>,
    /// What the thief uses beyond his ordinary load, watts.
    pub extra_w: f64,
    pub begun: bool,
    pub ended: bool,
    pub stolen_wh: f64,
    pub zone_supplied_wh: f64,
}

/// Energies of a zone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ZoneState {
    theft_started: Option<Timestamp>,
    supplied_wh: f64,
    stolen_wh: f64,
    technical_wh: f64,
    total_supplied_wh: f64,
    total_technical_wh: f64,
}

impl ZoneState {
    pub(crate) fn theft_began(&mut self, at: Timestamp) {
        self.theft_started.get_or_insert(at);
    }

    pub(crate) fn add(&mut self, supplied_wh: f64, stolen_wh: f64, technical_wh: f64) {
        self.total_supplied_wh += supplied_wh;
        self.total_technical_wh += technical_wh;
        if self.theft_started.is_some() {
            self.supplied_wh += supplied_wh;
            self.stolen_wh += stolen_wh;
            self.technical_wh += technical_wh;
        }
    }
}

/// Chooses the thieves that the plan leaves to the seed, and the loads they need to steal the share asked for.
pub(crate) fn plan_thefts(world: &World) -> Result<Vec<TheftState>, SimError> {
    let per = usize::from(world.config.homes_per_transformer);
    let mut taken: Vec<usize> = Vec::new();
    for plan in &world.config.thefts {
        if let Some(home) = plan.home {
            taken.push(usize::from(plan.transformer) * per + usize::from(home));
        }
    }
    let mut states = Vec::new();
    for (number, plan) in world.config.thefts.iter().enumerate() {
        let zone = usize::from(plan.transformer) + 1;
        let first = usize::from(plan.transformer) * per;
        let zone_mean_w: f64 = world.homes[first..first + per].iter().map(|h| h.mean_w).sum::<f64>() * 1.01;
        let home = match (plan.kind, plan.home) {
            (TheftKind::TamperedObserver { .. }, _) => None,
            (_, Some(home)) => Some(first + usize::from(home)),
            (_, None) => {
                let mut random = Random::of(world.config.seed, Stream::Thefts, 1 << 40, number as u64);
                let free: Vec<usize> = (first..first + per).filter(|h| !taken.contains(h)).collect();
                let choice = usize::try_from(random.below(free.len() as u64)).unwrap_or(0);
                let home = *free
                    .get(choice)
                    .ok_or_else(|| SimError::Config("a transformer has more thefts than homes".into()))?;
                taken.push(home);
                Some(home)
            }
        };
        let own_w = home.map_or(0.0, |h| world.homes[h].mean_w);
        states.push(TheftState {
            plan: *plan,
            zone,
            home,
            extra_w: extra_load(plan, zone_mean_w, own_w),
            begun: false,
            ended: false,
            stolen_wh: 0.0,
            zone_supplied_wh: 0.0,
        });
    }
    states.sort_by_key(|s| s.plan.start);
    Ok(states)
}

/// The extra load E with which the hidden part `h` of (own + E) is the share `s` of (zone + E):
/// `E = (s · zone − h · own) / (h − s)`. A tap's own load is not hidden.
fn extra_load(plan: &TheftPlan, zone_w: f64, own_w: f64) -> f64 {
    let hidden = match plan.kind {
        TheftKind::UnderRegistration { kept } | TheftKind::Shunt { kept } | TheftKind::WireAround { kept } => {
            1.0 - kept
        }
        TheftKind::NightBypass { .. } | TheftKind::Tap => 1.0,
        TheftKind::TamperedObserver { .. } => return 0.0,
    };
    let own_w = if plan.kind == TheftKind::Tap { 0.0 } else { own_w };
    match plan.zone_share {
        Some(share) if share < hidden => ((share * zone_w - hidden * own_w) / (hidden - share)).max(0.0),
        Some(_) => 0.0,
        None if plan.kind == TheftKind::Tap => TAP_DEFAULT_W,
        None => 0.0,
    }
}

/// The report of a world at its present time.
pub(crate) fn report(world: &World) -> SimReport {
    let meters: Vec<MeterTruth> = (0..world.ids.len()).map(|place| meter_truth(world, place)).collect();
    let frames_made = (0..world.ids.len()).map(|m| world.meter(m).ring().frames_made()).sum();
    SimReport {
        seed: world.config.seed,
        start: world.config.start,
        end: world.now,
        frames_made,
        frames_sent: world.frames_acknowledged,
        frames_resent: 0,
        connections_lost: 0,
        server_losses: 0,
        records_made: meters.iter().map(|m| m.records).sum(),
        meters,
        zones: zone_truths(world),
        thefts: theft_truths(world),
    }
}

fn meter_truth(world: &World, place: usize) -> MeterTruth {
    let meter = world.meter(place);
    let per = usize::from(world.config.homes_per_transformer);
    let homes = world.homes.len();
    let (zone, true_wh) = match place.checked_sub(homes) {
        None => (place / per + 1, world.homes[place].true_wh),
        Some(observer) => match world.observers.get(observer) {
            Some(o) => (observer + 1, o.true_wh),
            None => (0, world.feeder.true_wh),
        },
    };
    let last = meter.profile().last();
    MeterTruth {
        meter: world.ids[place],
        zone: world.zone_ids[zone],
        usage_point: world.usage_points.get(place).copied(),
        import_wh: meter.registers().import_wh().0,
        export_wh: meter.registers().export_wh().0,
        last_end: last.map(|l| l.end),
        last_import_wh: last.map_or(0, |l| l.import_wh.0),
        last_export_wh: last.map_or(0, |l| l.export_wh.0),
        records: meter.profile().records(),
        true_wh: true_wh.round() as u64,
        unacknowledged: meter.ring().len() as u64,
    }
}

fn zone_truths(world: &World) -> Vec<ZoneTruth> {
    let homes = world.homes.len();
    let transformers = world.observers.len();
    world
        .zones
        .iter()
        .enumerate()
        .map(|(i, zone)| ZoneTruth {
            zone: world.zone_ids[i],
            observer: world.ids[if i == 0 { homes + transformers } else { homes + i - 1 }],
            theft_started: zone.theft_started,
            supplied_wh: zone.supplied_wh,
            stolen_wh: zone.stolen_wh,
            technical_wh: zone.technical_wh,
            total_supplied_wh: zone.total_supplied_wh,
            total_technical_wh: zone.total_technical_wh,
        })
        .collect()
}

fn theft_truths(world: &World) -> Vec<TheftTruth> {
    let homes = world.homes.len();
    let begun = world.thefts.iter().filter(|t| t.begun);
    begun
        .map(|theft| TheftTruth {
            kind: theft.plan.kind.word().into(),
            zone: world.zone_ids[theft.zone],
            usage_point: theft.home.map(|h| world.usage_points[h]),
            meter: world.ids[theft.home.unwrap_or(homes + theft.zone - 1)],
            start: theft.plan.start,
            end: theft.plan.end.filter(|_| theft.ended),
            stolen_wh: theft.stolen_wh,
            zone_supplied_wh: theft.zone_supplied_wh,
        })
        .collect()
}
