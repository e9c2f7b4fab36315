//! Day-ahead forecasts of many series, origin after origin: fit, forecast, settle, calibrate.
//!
//! For each origin, in order of time: what came since the last one is settled (calibration, residuals, errors); the models are fitted
//! again when it is time, on a calendar with the holidays found by then; every series gets the bands of the trees (calibrated), of the ridge (with its own residuals) and of
//! the climatology, averaged level by level with fixed weights; expectations are made coherent over the tree of the network.
//! Before the first origin asked for, four weeks are forecast silently, so that calibration rests on errors that were real.

mod combine;
mod training;

use std::collections::VecDeque;

use crate::calendar::{Clock, DAY_S, Holidays, weekday};
use crate::climatology;
use crate::conformal::{Calibration, Hits};
use crate::error::ForecastError;
use crate::features::{DayView, MEAN_7, Surroundings};
use crate::frame::{Frame, slot_of};
use crate::holidays::with_found;
use crate::quantiles::Band;
use crate::reconcile;
use crate::series::{Known, Origin, Series};
use crate::trees::{Rows, Settings as TreeSettings};
use crate::weather::Weather;

use training::{Group, Model};

/// One series in the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its energies.
    pub series: Series,
    /// household, transformer, feeder …: series of a kind share their models.
    pub kind: String,
    /// Position of the node that feeds it.
    pub parent: Option<usize>,
}

/// How to forecast.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Seed of everything random.
    pub seed: u64,
    /// Threads for features and prediction; results do not depend on it.
    pub threads: usize,
    /// Trees of single customers' kinds.
    pub customer_trees: TreeSettings,
    /// Trees of sums of many.
    pub sum_trees: TreeSettings,
    /// Days between two fits.
    pub refit_days: i64,
    /// Most rows a model is fitted on; the rest is left out at random.
    pub rows_max: usize,
    /// Days forecast before the first origin, for calibration.
    pub warm_up_days: i64,
}

impl Default for Plan {
    fn default() -> Self {
        let trees = TreeSettings::default();
        Self {
            seed: 1,
            threads: 2,
            customer_trees: trees,
            sum_trees: TreeSettings { rounds: 250, rate: 0.06, leaves: 24, leaf_rows: 200, columns: 0.4, ..trees },
            refit_days: 28,
            rows_max: 300_000,
            warm_up_days: 28,
        }
    }
}

/// The forecast of one series from one origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Position of the member.
    pub member: usize,
    /// Where it was made.
    pub origin: Origin,
    /// Ends of the intervals, unix seconds.
    pub ends: Vec<i64>,
    /// Bands by interval, kWh.
    pub bands: Vec<Band>,
    /// Expectations by interval, kWh; those of children and losses sum to the parent's.
    pub means: Vec<f32>,
    /// Share of the last four weeks' intervals inside the 50 % and the 90 % band as shown.
    pub coverage: Option<(f64, f64)>,
}

/// What the single models said; kept until it is settled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opinion {
    pub(crate) ends: Vec<i64>,
    pub(crate) slots: Vec<usize>,
    pub(crate) scale: f32,
    pub(crate) trees: Vec<Band>,
    pub(crate) ridge: Vec<f32>,
    pub(crate) climatology: Vec<Band>,
    /// The ensemble; set when combined.
    pub(crate) ensemble: Vec<Band>,
    /// Expectation before and after the sum of the children was heard; set when combined.
    pub(crate) means: Vec<f32>,
    pub(crate) sums: Vec<f32>,
}

/// What is remembered of one member.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) calibration: Calibration,
    /// How often the bands as shown held what came.
    pub(crate) shown: Hits,
    /// Ridge residuals of past days, by slot, in units of the scale.
    pub(crate) residuals: VecDeque<Vec<f32>>,
    /// Mean squared errors of past days: of the own expectation, of the children's sum.
    pub(crate) errors: VecDeque<[f64; 2]>,
    /// Supplied minus the children's sum on past days, by slot, kWh.
    pub(crate) losses: VecDeque<Vec<f32>>,
    pending: Option<Opinion>,
}

/// Days remembered.
pub(crate) const MEMORY_DAYS: usize = 28;

/// Forecasts all members.
pub struct Engine<'a> {
    members: &'a [Member],
    children: Vec<Vec<usize>>,
    around: Surroundings<'a>,
    /// Those given and those found in what was known at the last fit.
    holidays: Holidays,
    plan: Plan,
    groups: Vec<Group>,
    group_of: Vec<usize>,
    states: Vec<State>,
}

impl<'a> Engine<'a> {
    /// Prepares; nothing is read yet.
    ///
    /// # Errors
    /// A parent that does not exist or a ring of parents.
    pub fn new(members: &'a [Member], around: Surroundings<'a>, plan: Plan) -> Result<Self, ForecastError> {
        let mut children = vec![Vec::new(); members.len()];
        for (at, member) in members.iter().enumerate() {
            let mut above = member.parent;
            for _ in 0..=members.len() {
                let Some(parent) = above else { break };
                let node = members.get(parent).ok_or_else(|| {
                    ForecastError::Request(format!("{} names a parent that does not exist", member.series.id))
                })?;
                above = node.parent;
            }
            if above.is_some() {
                return Err(ForecastError::Request(format!("the parents of {} form a ring", member.series.id)));
            }
            if let Some(parent) = member.parent {
                children[parent].push(at);
            }
        }
        let mut kinds: Vec<&str> = members.iter().map(|m| m.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let groups: Vec<Group> = kinds.iter().map(|kind| Group::new(kind, members)).collect();
        let group_of = members.iter().map(|m| kinds.binary_search(&m.kind.as_str()).unwrap_or(0)).collect();
        let states = vec![State::default(); members.len()];
        let holidays = around.holidays.clone();
        Ok(Self { members, children, around, holidays, plan, groups, group_of, states })
    }

    /// Forecasts from `first` every day before `until`, `horizon` intervals each, and hands each origin's forecasts to `sink`.
    ///
    /// # Errors
    /// A series with less than a week of readings at an origin; an unusable request; what `sink` says.
    pub fn run<E: From<ForecastError>>(
        &mut self,
        first: Origin,
        until: Origin,
        horizon: usize,
        sink: &mut dyn FnMut(Vec<Forecast>) -> Result<(), E>,
    ) -> Result<(), E> {
        let steps = self.members.iter().map(|m| m.series.step_s()).max().unwrap_or(1_800);
        if horizon == 0 || horizon as i64 * steps > DAY_S {
            let why = format!("a horizon of {horizon} intervals of {steps} s: give 1 to one day of them");
            return Err(ForecastError::Request(why).into());
        }
        let start = first.unix_s() - self.plan.warm_up_days * DAY_S;
        let mut fitted: Option<i64> = None;
        let mut at = start;
        while at < until.unix_s() {
            let origin = Origin::at(at);
            self.settle(origin);
            if at == first.unix_s() || fitted.is_none_or(|f| at - f >= self.plan.refit_days * DAY_S) {
                self.fit(origin);
                fitted = Some(at);
            }
            let opinions = self.opinions(origin, horizon);
            let forecasts = self.combine(origin, opinions, at >= first.unix_s())?;
            if at >= first.unix_s() {
                sink(forecasts)?;
            }
            at += DAY_S;
        }
        Ok(())
    }

    fn fit(&mut self, origin: Origin) {
        let roots: Vec<Known<'_>> =
            self.members.iter().filter(|m| m.parent.is_none()).map(|m| m.series.known_at(origin)).collect();
        self.holidays = with_found(self.around.holidays, &roots, self.around.clock);
        let around = Surroundings { holidays: &self.holidays, ..self.around };
        for group in &mut self.groups {
            group.fit(self.members, around, &self.plan, origin);
        }
    }

    /// Learns from what ended since the last origin.
    fn settle(&mut self, origin: Origin) {
        let members = self.members;
        for (at, state) in self.states.iter_mut().enumerate() {
            let Some(opinion) = state.pending.take() else { continue };
            let known = members[at].series.known_at(origin);
            let actual: Vec<f32> = opinion.ends.iter().map(|end| known.value(*end)).collect();
            if actual.iter().all(|y| y.is_nan()) {
                continue;
            }
            if !opinion.trees.is_empty() {
                state.calibration.learn(&opinion.trees, &actual);
            }
            state.shown.learn(&opinion.ensemble, &actual);
            state.remember(&opinion, &actual, members[at].series.step_s());
            if !self.children[at].is_empty() {
                let below = |end: i64| -> f32 {
                    self.children[at].iter().map(|c| members[*c].series.known_at(origin).value(end)).sum()
                };
                let mut day = vec![f32::NAN; (DAY_S / members[at].series.step_s()) as usize];
                for ((end, slot), y) in opinion.ends.iter().zip(&opinion.slots).zip(&actual) {
                    day[*slot] = y - below(*end);
                }
                push(&mut state.losses, day);
            }
        }
    }

    /// What each model says about each member, on several threads.
    fn opinions(&self, origin: Origin, horizon: usize) -> Vec<Option<Opinion>> {
        let around = Surroundings { holidays: &self.holidays, ..self.around };
        let share = self.members.len().div_ceil(self.plan.threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let running: Vec<_> = self
                .members
                .chunks(share)
                .zip(self.group_of.chunks(share))
                .map(|(members, groups)| {
                    scope.spawn(move || -> Vec<Option<Opinion>> {
                        let one = |(m, g): (&Member, &usize)| {
                            opinion(m, self.groups[*g].model.as_ref(), around, origin, horizon)
                        };
                        members.iter().zip(groups).map(one).collect()
                    })
                })
                .collect();
            running.into_iter().flat_map(|r| r.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
        })
    }

    /// The ensemble of all members; opinions are kept to be settled.
    fn combine(
        &mut self,
        origin: Origin,
        opinions: Vec<Option<Opinion>>,
        asked: bool,
    ) -> Result<Vec<Forecast>, ForecastError> {
        let mut forecasts = Vec::with_capacity(opinions.len());
        for (at, opinion) in opinions.into_iter().enumerate() {
            let Some(mut opinion) = opinion else {
                if asked {
                    return Err(self.too_short(at, origin));
                }
                continue;
            };
            let single = self.groups[self.group_of[at]].single;
            opinion.ensemble = combine::ensemble(&opinion, &self.states[at], single);
            let bands = opinion.ensemble.clone();
            opinion.means = bands.iter().map(Band::mean).collect();
            let (ends, means) = (opinion.ends.clone(), opinion.means.clone());
            let coverage = self.states[at].shown.coverage();
            self.states[at].pending = Some(opinion);
            forecasts.push(Forecast { member: at, origin, ends, bands, means, coverage });
        }
        if forecasts.len() == self.members.len() {
            self.reconcile(&mut forecasts);
        }
        Ok(forecasts)
    }

    fn too_short(&self, at: usize, origin: Origin) -> ForecastError {
        let series = &self.members[at].series;
        let days = Frame::new(&series.known_at(origin), self.around.clock).days_read;
        let least = climatology::LEAST_DAYS;
        ForecastError::TooShort { series: series.id.clone(), days, origin: origin.unix_s(), least }
    }

    fn reconcile(&mut self, forecasts: &mut [Forecast]) {
        if self.children.iter().all(Vec::is_empty) {
            return;
        }
        let nodes: Vec<reconcile::Node> = forecasts
            .iter()
            .enumerate()
            .map(|(at, f)| {
                let state = &self.states[at];
                let slots = state.pending.as_ref().map(|p| p.slots.clone()).unwrap_or_default();
                let losses = if self.children[at].is_empty() { Vec::new() } else { state.usual_losses(&slots) };
                let [error, sum_error] = state.mean_errors();
                reconcile::Node { parent: self.members[at].parent, mean: f.means.clone(), error, sum_error, losses }
            })
            .collect();
        for at in (0..forecasts.len()).filter(|at| !self.children[*at].is_empty()) {
            let sums = (0..nodes[at].mean.len())
                .map(|k| self.children[at].iter().map(|c| nodes[*c].mean[k]).sum::<f32>() + nodes[at].losses[k])
                .collect();
            if let Some(pending) = &mut self.states[at].pending {
                pending.sums = sums;
            }
        }
        let Some(coherent) = reconcile::coherent(&nodes) else { return };
        for (forecast, means) in forecasts.iter_mut().zip(coherent) {
            for ((band, mean), new) in forecast.bands.iter_mut().zip(&mut forecast.means).zip(means) {
                *band = band.shifted(new - *mean);
                *mean = new;
            }
        }
    }
}

pub(crate) fn push<T>(memory: &mut VecDeque<T>, day: T) {
    memory.push_back(day);
    if memory.len() > MEMORY_DAYS {
        memory.pop_front();
    }
}

/// The models' views of one member; `None` with less than a week of readings.
fn opinion(
    member: &Member,
    model: Option<&Model>,
    around: Surroundings<'_>,
    origin: Origin,
    horizon: usize,
) -> Option<Opinion> {
    let known = member.series.known_at(origin);
    let frame = Frame::new(&known, around.clock);
    if frame.days_read < climatology::LEAST_DAYS {
        return None;
    }
    let step = known.step_s();
    let mut out = Opinion { scale: frame.scale, ..Opinion::default() };
    let mut rows = Rows { values: Vec::new(), width: around.width() };
    let views = [DayView::new(&frame, around, frame.today), DayView::new(&frame, around, frame.today + 1)];
    for k in 1..=horizon as i64 {
        let end = origin.unix_s() + k * step;
        let (day, slot) = slot_of(end, step, around.clock);
        views[usize::from(day > frame.today)].push(slot, &mut rows.values);
        out.ends.push(end);
        out.slots.push(slot);
        out.climatology.push(climatology::band(&frame, around.holidays, day, slot)?);
    }
    if let Some(model) = model {
        out.trees = model.trees.predict(&rows);
        for (at, band) in out.trees.iter_mut().enumerate() {
            let level = if model.from_level { rows.row(at)[MEAN_7] } else { 0.0 };
            let level = if level.is_finite() { level } else { 0.0 };
            band.0.iter_mut().for_each(|q| *q = (*q + level) * frame.scale);
        }
        if let Some(ridge) = &model.ridge {
            out.ridge =
                out.slots.iter().enumerate().map(|(at, s)| ridge.predict(rows.row(at), *s) * frame.scale).collect();
        }
    }
    Some(out)
}

/// The clock of the people, from readings before an origin: at the changes of European summer time of the past, do the mornings of
/// the readings' own time move by an hour? Fixed when there was no change yet, or when they do not.
pub fn likely_clock(members: &[Member], origin: Origin) -> Clock {
    let known: Vec<Known<'_>> = members.iter().take(CLOCK_MEMBERS).map(|m| m.series.known_at(origin)).collect();
    let european = Clock::European(0);
    let mut evidence = 0.0;
    let last = origin.unix_s().div_euclid(DAY_S);
    let first = known.iter().map(|k| k.first_end().div_euclid(DAY_S)).min().unwrap_or(last);
    for day in first + 14..last - 7 {
        let moved = european.offset_s((day + 1) * DAY_S) - european.offset_s(day * DAY_S);
        if moved == 0 {
            continue;
        }
        let before = morning(&known, day - 14..day, 0);
        let distance = |by: i64| -> f64 {
            let after = morning(&known, day + 1..(day + 14).min(last), by);
            before.iter().zip(after).map(|(a, b)| (a - b).powi(2)).sum()
        };
        let (fixed, moved) = (distance(0), distance(-moved));
        if fixed > 0.0 && moved > 0.0 {
            evidence += (moved / fixed).ln();
        }
    }
    if evidence < -0.5 { european } else { Clock::Fixed(0) }
}

/// Members whose mornings are looked at.
const CLOCK_MEMBERS: usize = 200;

/// Mean load from 4 to 11 o'clock of the working days by half hour, moved by seconds, in units of its day's mean.
fn morning(known: &[Known<'_>], days: core::ops::Range<i64>, moved_s: i64) -> Vec<f64> {
    let mut profile = [(0.0f64, 0u32); 48];
    for day in days.filter(|day| weekday(*day) < 5) {
        for known in known {
            for (slot, cell) in (1..).zip(profile.iter_mut()) {
                let value = known.value(day * DAY_S + slot * 1_800 + moved_s);
                if value.is_finite() {
                    *cell = (cell.0 + f64::from(value), cell.1 + 1);
                }
            }
        }
    }
    let means: Vec<f64> = profile.iter().map(|(sum, n)| sum / f64::from((*n).max(1))).collect();
    let size = means.iter().map(|m| m.abs()).sum::<f64>() / 48.0;
    means[8..22].iter().map(|m| m / size.max(1e-9)).collect()
}

/// Everything but the series, owned; [`Surroundings`] borrows it.
#[derive(Debug, Clone)]
pub struct World {
    /// The local clock.
    pub clock: Clock,
    /// Public holidays.
    pub holidays: Holidays,
    /// Weather, when there is any.
    pub weather: Option<Weather>,
}

impl World {
    /// Borrowed.
    pub fn around(&self) -> Surroundings<'_> {
        Surroundings { holidays: &self.holidays, weather: self.weather.as_ref(), clock: self.clock }
    }
}
