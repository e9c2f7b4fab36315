//! The models of one kind of series, and the rows they learn from: past days as they were seen from their own midnight.

use crate::calendar::DAY_S;
use crate::climatology;
use crate::engine::{Member, Plan};
use crate::features::{DayView, MEAN_7, Surroundings};
use crate::frame::Frame;
use crate::ridge::Ridge;
use crate::series::{Known, Origin};
use crate::trees::{Draws, QuantileTrees, Rows};

/// Fewest rows worth a model.
const ROWS_LEAST: usize = 1_000;
/// Days of history a model is fitted on at most.
const DAYS_MOST: i64 = 3 * 366;
/// Shrinkage of the ridge, by the number of its members.
const LAMBDA: f64 = 0.01;

/// Series of a kind.
pub(crate) struct Group {
    kind: String,
    /// Single customers: their loads are skewed and jump; others are sums of many.
    pub(crate) single: bool,
    members: Vec<usize>,
    pub(crate) model: Option<Model>,
}

/// Fitted models.
pub(crate) struct Model {
    pub(crate) trees: QuantileTrees,
    pub(crate) ridge: Option<Ridge>,
    /// The trees' target is the difference from the mean of the last seven days.
    pub(crate) from_level: bool,
}

/// Rows to learn from.
#[derive(Default)]
struct Examples {
    rows: Rows,
    slots: Vec<usize>,
    targets: Vec<f32>,
}

impl Examples {
    fn append(&mut self, mut other: Self) {
        self.rows.values.append(&mut other.rows.values);
        self.slots.append(&mut other.slots);
        self.targets.append(&mut other.targets);
    }
}

impl Group {
    pub(crate) fn new(kind: &str, members: &[Member]) -> Self {
        let own = (0..members.len()).filter(|at| members[*at].kind == kind).collect();
        let single = matches!(kind, "household" | "usage_point" | "customer");
        Self { kind: kind.to_owned(), single, members: own, model: None }
    }

    /// Fits on what was known at the origin; without enough of it the old model stays.
    pub(crate) fn fit(&mut self, members: &[Member], around: Surroundings<'_>, plan: &Plan, origin: Origin) {
        let examples = self.examples(members, around, plan, origin);
        if examples.targets.len() < ROWS_LEAST {
            return;
        }
        let from_level = !self.single;
        let slot_count = self.members.first().map_or(48, |m| (DAY_S / members[*m].series.step_s()) as usize);
        let Examples { rows, slots, mut targets } = examples;
        let ridge = Ridge::fit(&rows, &slots, &targets, slot_count, LAMBDA);
        if from_level {
            targets.iter_mut().enumerate().for_each(|(at, t)| *t -= rows.row(at)[MEAN_7]);
        }
        let settings = if self.single { plan.customer_trees } else { plan.sum_trees };
        let seed = plan.seed ^ self.kind.bytes().fold(7u64, |a, b| a.wrapping_mul(31).wrapping_add(u64::from(b)));
        let trees = QuantileTrees::fit(&rows, &targets, &settings, seed);
        self.model = Some(Model { trees, ridge, from_level });
    }

    fn examples(&self, members: &[Member], around: Surroundings<'_>, plan: &Plan, origin: Origin) -> Examples {
        let known: Vec<(usize, Known<'_>)> =
            self.members.iter().map(|m| (*m, members[*m].series.known_at(origin))).collect();
        let most: usize =
            known.iter().map(|(_, k)| k.values().len().min((DAYS_MOST * DAY_S / k.step_s()) as usize)).sum();
        let share = (plan.rows_max as f64 / most.max(1) as f64).min(1.0) as f32;
        let chunk = known.len().div_ceil(plan.threads.max(1)).max(1);
        let parts: Vec<Examples> = std::thread::scope(|scope| {
            let of = |(m, k): &(usize, Known<'_>)| of_member(k, around, share, plan.seed ^ ((*m as u64) << 20));
            let running: Vec<_> =
                known.chunks(chunk).map(|part| scope.spawn(move || part.iter().map(of).collect::<Vec<_>>())).collect();
            running.into_iter().flat_map(|r| r.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
        });
        let mut all = Examples { rows: Rows { values: Vec::new(), width: around.width() }, ..Examples::default() };
        parts.into_iter().for_each(|part| all.append(part));
        all
    }
}

/// A share of the past days' intervals of one series, each with what was known at its day's midnight.
fn of_member(known: &Known<'_>, around: Surroundings<'_>, share: f32, seed: u64) -> Examples {
    let mut out = Examples::default();
    let step = known.step_s();
    let (today, _) = around.clock.local(known.origin().unix_s());
    let (first, _) = around.clock.local(known.first_end());
    let first = (first + climatology::LEAST_DAYS as i64 + 1).max(today - DAYS_MOST);
    for day in first..today {
        let mut draws = Draws::new(seed ^ (day as u64));
        let midnight = around.clock.unix_s(day, 0);
        let frame = Frame::new(&known.earlier(Origin::at(midnight)), around.clock);
        if frame.days_read < climatology::LEAST_DAYS {
            continue;
        }
        let view = DayView::new(&frame, around, day);
        for slot in 0..frame.slots {
            let end = around.clock.unix_s(day, slot as i64 * step) + step;
            let target = known.value(end) / frame.scale;
            if draws.unit() < share && target.is_finite() {
                view.push(slot, &mut out.rows.values);
                let level = out.rows.values[out.rows.values.len() - around.width() + MEAN_7];
                if level.is_nan() {
                    out.rows.values.truncate(out.rows.values.len() - around.width());
                    continue;
                }
                out.slots.push(slot);
                out.targets.push(target);
            }
        }
    }
    out
}
