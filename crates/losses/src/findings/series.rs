//! The readings of a zone and its neighbours on one time grid, and what is made of them before the tests.

use metering::{MeterId, Timestamp, ZoneId};
use serde::{Deserialize, Serialize};

use crate::balance::{MemberId, MeterClass, MeterSlot};
use crate::explain::ZoneHistory;
use crate::localise::trial::{Filled, fill};
use crate::technical::TechnicalPrior;

/// Most slots looked at, the newest (45 days of quarter-hours).
const SLOTS_MAX: usize = 4_320;
/// Most members of a zone and its neighbours together.
const MEMBERS_MAX: usize = 2_000;

/// Where a zone lies: for sunset and sunrise. Degrees, north and east positive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Latitude.
    pub latitude: f64,
    /// Longitude.
    pub longitude: f64,
}

/// The readings of one meter, primary side (ratio applied), one value per slot; `None` = missing.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterSeries {
    /// Whose meter; of an observer: its zone.
    pub id: MemberId,
    /// The meter.
    pub meter: MeterId,
    /// Its class.
    pub class: MeterClass,
    /// The ratio in the register, already applied to the readings; 1 = directly connected.
    pub ct_ratio: f64,
    /// Whether a generator is registered behind it.
    pub generates: bool,
    /// Energy drawn from the network, Wh.
    pub import_wh: Vec<Option<f64>>,
    /// Energy fed in, Wh; same length.
    pub export_wh: Vec<Option<f64>>,
}

/// A zone whose meters could be confused with this zone's: a neighbouring transformer, or another phase.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighbourZone {
    /// Which.
    pub zone: ZoneId,
    /// Its unaccounted energy, Wh, same slots; empty when it has no observer.
    pub residual_wh: Vec<Option<f64>>,
    /// Its meters; may be left out.
    pub members: Vec<MeterSeries>,
}

/// A zone's recent past. Hours or quarter-hours.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneSeries {
    /// The zone.
    pub zone: ZoneId,
    /// End of the first slot.
    pub first_end: Timestamp,
    /// Slot length, minutes.
    pub minutes: u16,
    /// Where it lies; without it lighting and hidden generation are not looked for.
    pub site: Option<Site>,
    /// What is known of its technical loss.
    pub prior: TechnicalPrior,
    /// The observer meter (import = delivered into the zone).
    pub observer: MeterSeries,
    /// The members.
    pub members: Vec<MeterSeries>,
    /// Zones nearby.
    pub neighbours: Vec<NeighbourZone>,
}

impl ZoneSeries {
    /// The series of a history as `explain` takes it; times between its balances that are absent become missing readings.
    /// Neighbours and site can be set afterwards.
    pub fn of_history(history: &ZoneHistory, prior: TechnicalPrior) -> Option<Self> {
        let step = i64::from(history.minutes) * 60;
        let (first, last) = (history.balances.first()?.end, history.balances.last()?.end);
        if step == 0 {
            return None;
        }
        let slots = usize::try_from(last.seconds_since(first) / step).ok()? + 1;
        let slots = slots.min(4 * SLOTS_MAX);
        let place = |end: Timestamp| usize::try_from(end.seconds_since(first) / step).ok().filter(|at| *at < slots);
        let mut observer = MeterSeries {
            id: MemberId::Zone(history.zone),
            meter: history.observer,
            class: MeterClass::Class05S,
            ct_ratio: 1.0,
            generates: true,
            import_wh: vec![None; slots],
            export_wh: vec![None; slots],
        };
        for balance in history.balances.iter().filter(|b| b.coverage > 0.0) {
            if let Some(at) = place(balance.end) {
                observer.import_wh[at] = Some(balance.supplied_wh);
                observer.export_wh[at] = Some(0.0);
            }
        }
        let members = history
            .members
            .iter()
            .map(|member| {
                let mut series = MeterSeries {
                    id: member.id,
                    meter: member.meter,
                    class: member.class,
                    ct_ratio: member.ct_ratio,
                    generates: false,
                    import_wh: vec![None; slots],
                    export_wh: vec![None; slots],
                };
                for (balance, flow) in history.balances.iter().zip(&member.slots) {
                    let (Some(at), Some(flow)) = (place(balance.end), flow) else { continue };
                    let one_way = |flow| MeterSlot { flow: Some(flow), ct_ratio: member.ct_ratio, class: member.class };
                    let none = metering::WattHours(0);
                    let import = crate::balance::Flow { import_wh: flow.import_wh, export_wh: none };
                    let export = crate::balance::Flow { import_wh: flow.export_wh, export_wh: none };
                    series.import_wh[at] = one_way(import).net_wh();
                    series.export_wh[at] = one_way(export).net_wh();
                }
                series
            })
            .collect();
        let (zone, minutes) = (history.zone, history.minutes);
        let neighbours = Vec::new();
        Some(Self { zone, first_end: first, minutes, site: None, prior, observer, members, neighbours })
    }
}

/// A member ready for the tests.
pub(super) struct Member<'a> {
    pub(super) series: &'a MeterSeries,
    /// Net energy with gaps filled, Wh.
    pub(super) net_wh: Vec<f64>,
    /// Energy drawn, NaN = missing.
    pub(super) import_wh: Vec<f64>,
    /// Energy fed in, NaN = missing.
    pub(super) export_wh: Vec<f64>,
    pub(super) gap_variance: Vec<f64>,
}

/// A zone ready for the tests; all vectors have one value per slot.
pub(super) struct Prepared<'a> {
    pub(super) series: &'a ZoneSeries,
    pub(super) ends: Vec<Timestamp>,
    pub(super) hours: f64,
    pub(super) per_day: usize,
    pub(super) members: Vec<Member<'a>>,
    /// (index of the neighbour, its member).
    pub(super) foreign: Vec<(usize, Member<'a>)>,
    /// Residuals of the neighbours, NaN = missing.
    pub(super) neighbour_residual: Vec<Vec<f64>>,
    pub(super) supplied_wh: Vec<f64>,
    pub(super) residual_wh: Vec<f64>,
    pub(super) variance: Vec<f64>,
}

/// The values of the newest slots, NaN = missing.
fn tail(values: &[Option<f64>], from: usize, slots: usize) -> Vec<f64> {
    (from..slots).map(|t| values.get(t).copied().flatten().unwrap_or(f64::NAN)).collect()
}

fn member(series: &MeterSeries, from: usize, slots: usize, per_day: usize) -> Member<'_> {
    let (import_wh, export_wh) = (tail(&series.import_wh, from, slots), tail(&series.export_wh, from, slots));
    let net: Vec<f64> = import_wh.iter().zip(&export_wh).map(|(i, e)| i - if e.is_nan() { 0.0 } else { *e }).collect();
    let Filled { values, variance } = fill(&net, per_day);
    Member { series, net_wh: values, import_wh, export_wh, gap_variance: variance }
}

/// `None` with less than two days of observer readings.
pub(super) fn prepare(series: &ZoneSeries) -> Option<Prepared<'_>> {
    let slots = series.observer.import_wh.len();
    let per_day = (1_440 / usize::from(series.minutes.max(1))).max(1);
    let hours = f64::from(series.minutes) / 60.0;
    let from = slots.saturating_sub(SLOTS_MAX);
    let neighbours: usize = series.neighbours.iter().map(|n| n.members.len()).sum();
    if slots - from < 2 * per_day || series.members.is_empty() || series.members.len() + neighbours > MEMBERS_MAX {
        return None;
    }
    let step = i64::from(series.minutes) * 60;
    let observer = member(&series.observer, from, slots, per_day);
    let known = observer.import_wh.iter().filter(|v| !v.is_nan()).count();
    if known < 2 * per_day {
        return None;
    }
    let members: Vec<Member> = series.members.iter().map(|m| member(m, from, slots, per_day)).collect();
    let foreign = series
        .neighbours
        .iter()
        .enumerate()
        .flat_map(|(at, n)| n.members.iter().map(move |m| (at, m)))
        .map(|(at, m)| (at, member(m, from, slots, per_day)))
        .collect();
    let n = slots - from;
    let prior = series.prior;
    let accuracy = series.observer.class.accuracy();
    let quantum = |q: f64, ratio: f64| (q * ratio).powi(2) / 6.0;
    let (mut residual_wh, mut variance) = (vec![0.0; n], vec![0.0; n]);
    for t in 0..n {
        let supplied = observer.net_wh[t];
        let watts = supplied / hours;
        let loss_wh = (prior.k0_w + prior.k2_share / prior.reference_w.max(1.0) * watts * watts) * hours;
        residual_wh[t] = supplied - loss_wh;
        variance[t] = observer.gap_variance[t]
            + (0.003 * supplied).powi(2)
            + quantum(accuracy.quantum_wh, series.observer.ct_ratio);
        for m in &members {
            let own = m.series.class.accuracy();
            let change = (m.net_wh[t] - m.net_wh[t.saturating_sub(1)]) / hours;
            residual_wh[t] -= m.net_wh[t];
            variance[t] += m.gap_variance[t]
                + (own.random * m.net_wh[t]).powi(2)
                + quantum(own.quantum_wh, m.series.ct_ratio)
                + (own.clock_s / 3_600.0 * change).powi(2);
        }
    }
    Some(Prepared {
        series,
        ends: (from..slots).map(|t| series.first_end.plus(t as i64 * step)).collect(),
        hours,
        per_day,
        members,
        foreign,
        neighbour_residual: series.neighbours.iter().map(|z| tail(&z.residual_wh, from, slots)).collect(),
        supplied_wh: observer.net_wh,
        residual_wh,
        variance,
    })
}
