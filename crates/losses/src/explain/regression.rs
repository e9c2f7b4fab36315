//! Which member's metered use does the missing energy follow?
//!
//! Model of the residual power y(t) of the zone (knowledge: Weckx 2012, Yip et al. 2017, with priors):
//! `y = Σ gᵢ·Pᵢ + γ·ΣPᵢ + day profile (+ another day profile after the onset) + c·d + noise`, with gᵢ ~ N(0, (0.5 %)²),
//! γ ~ N(0, (0.3 %)²). Candidates d are, after the onset only, Pₖ and Pₖ in the hours in which energy is missing. The free day
//! profile after the onset makes sure that only the quarter-hourly ups and downs identify a member, not a shape that all homes
//! share: an unmetered tap follows nobody's meter and so names nobody.
//! Noise is whitened by its lag-1 correlation and scaled by what remains after the best candidates.
//! Candidates are tested by t = c/σ(c), taken greedily, at most [`PICKS_MAX`].

use super::{linear::Square, prepared::Prepared};

/// Most members named by regression.
pub(super) const PICKS_MAX: usize = 3;
/// Bins of the free day profiles: as fine as the hours in which energy is missing, so that these alone cannot name anybody.
const PROFILE_BINS: usize = 24;
/// Rows after the onset at which a t counts 1/√2.
const FEW_ROWS: f64 = 128.0;
const GAIN_SD: f64 = 0.005;
const COMMON_GAIN_SD: f64 = 0.003;

/// What a candidate says about its member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    pub(super) member: usize,
    /// Only in the hours in which energy is missing.
    pub(super) selective: bool,
    /// Missing energy per metered energy.
    pub(super) coefficient: f64,
    pub(super) t: f64,
    /// Energy explained after the onset, Wh.
    pub(super) energy_wh: f64,
    /// t of the best candidate of another member at the same step.
    pub(super) runner_up: f64,
}

/// The regression's result.
pub(super) struct Regression {
    /// Candidates taken, best first.
    pub(super) picks: Vec<Fit>,
    /// The best candidate of every member before anything was taken.
    pub(super) single: Vec<Option<Fit>>,
}

struct Columns {
    members: usize,
    nuisance: usize,
    total: usize,
}

impl Columns {
    fn new(members: usize) -> Self {
        let nuisance = members + 1 + 2 * PROFILE_BINS;
        Self { members, nuisance, total: nuisance + 2 * members + 1 }
    }

    fn candidate(&self, member: usize, selective: bool) -> usize {
        self.nuisance + member + if selective { self.members } else { 0 }
    }

    fn y(&self) -> usize {
        self.total - 1
    }
}

/// Noise of the rows after the onset relative to their expected deviation, and its lag-1 correlation.
#[derive(Clone, Copy)]
struct Noise {
    phi: f64,
    scale: f64,
}

/// Runs the regression; `None` with fewer than 48 rows after the onset.
pub(super) fn regress(data: &Prepared) -> Option<Regression> {
    if data.rows_after < 48.0 {
        return None;
    }
    let columns = Columns::new(data.members.len());
    let before = Noise { phi: 0.3, scale: 1.0 };
    // First pass: noise as metering alone would have it, to see what the best candidates leave over.
    let picks = greedy(data, &columns, before, before).0;
    let noise = remaining_noise(data, &columns, before, &picks);
    let (picks, single) = greedy(data, &columns, before, noise);
    Some(Regression { picks, single })
}

/// A row of the design matrix, unweighted.
fn fill(data: &Prepared, columns: &Columns, t: usize, row: &mut [f64]) {
    row.fill(0.0);
    let r = &data.rows[t];
    let mut total = 0.0;
    for (m, member) in data.members.iter().enumerate() {
        let p = member.power_w[t];
        total += p;
        row[m] = p;
        if r.after {
            row[columns.candidate(m, false)] = p;
            if r.active {
                row[columns.candidate(m, true)] = p;
            }
        }
    }
    row[columns.members] = total;
    let bin = columns.members + 1 + r.hour * PROFILE_BINS / 24;
    row[bin] = 1.0;
    if r.after {
        row[bin + PROFILE_BINS] = 1.0;
    }
    row[columns.y()] = r.residual_w;
}

/// Weighted, whitened normal matrix with the priors, nuisance columns eliminated.
fn normal_matrix(data: &Prepared, columns: &Columns, before: Noise, after: Noise) -> Square {
    let mut normal = Square::zero(columns.total);
    let mut row = vec![0.0; columns.total];
    let mut last = vec![0.0; columns.total];
    let mut whitened = vec![0.0; columns.total];
    for t in 0..data.rows.len() {
        fill(data, columns, t, &mut row);
        let r = &data.rows[t];
        let noise = if r.after { after } else { before };
        let linked = t > 0 && r.follows && data.rows[t - 1].after == r.after;
        let phi = if linked { noise.phi } else { 0.0 };
        let unit = if linked { 1.0 - noise.phi * noise.phi } else { 1.0 };
        for ((w, now), past) in whitened.iter_mut().zip(&row).zip(&last) {
            *w = now - phi * past;
        }
        normal.add_outer(&whitened, 1.0 / (r.var_w2 * noise.scale * unit));
        std::mem::swap(&mut row, &mut last);
    }
    normal.mirror();
    let wide = data.mean_residual_w.abs().max(50.0);
    let narrow = 10.0 + 0.005 * data.mean_supplied_w.abs();
    for i in 0..columns.nuisance {
        let sd = match i {
            i if i < columns.members => GAIN_SD,
            i if i == columns.members => COMMON_GAIN_SD,
            i if i <= columns.members + PROFILE_BINS => narrow,
            _ => 3.0 * wide,
        };
        let at = i * columns.total + i;
        normal.cells[at] += 1.0 / (sd * sd);
        let scale = normal.cells[at];
        normal.sweep(i, scale);
    }
    normal
}

fn greedy(data: &Prepared, columns: &Columns, before: Noise, after: Noise) -> (Vec<Fit>, Vec<Option<Fit>>) {
    let mut normal = normal_matrix(data, columns, before, after);
    let mut picks: Vec<Fit> = Vec::new();
    let mut single = Vec::new();
    for step in 0..PICKS_MAX {
        let best: Vec<Option<Fit>> = (0..columns.members).map(|m| best_of_member(data, columns, &normal, m)).collect();
        if step == 0 {
            single.clone_from(&best);
        }
        let taken = |m: usize| picks.iter().any(|pick: &Fit| pick.member == m);
        let mut open: Vec<Fit> = best.into_iter().flatten().filter(|fit| !taken(fit.member)).collect();
        open.sort_by(|a, b| b.t.total_cmp(&a.t));
        let Some(mut top) = open.first().copied() else { break };
        if top.t < 3.0 {
            break;
        }
        top.runner_up = open.get(1).map_or(0.0, |fit| fit.t.max(0.0));
        let at = columns.candidate(top.member, top.selective);
        let scale = normal.at(at, at);
        normal.sweep(at, scale);
        picks.push(top);
    }
    refit(data, columns, before, after, &mut picks);
    (picks, single)
}

/// Coefficients of all picks together: each pick's as the last one eliminated.
fn refit(data: &Prepared, columns: &Columns, before: Noise, after: Noise, picks: &mut [Fit]) {
    if picks.len() < 2 {
        return;
    }
    let chosen = picks.to_vec();
    for (i, pick) in picks.iter_mut().enumerate() {
        let mut normal = normal_matrix(data, columns, before, after);
        for (j, other) in chosen.iter().enumerate() {
            if i != j {
                let at = columns.candidate(other.member, other.selective);
                let scale = normal.at(at, at);
                normal.sweep(at, scale);
            }
        }
        if let Some(fit) = candidate_fit(data, columns, &normal, pick.member, pick.selective) {
            *pick = Fit { runner_up: pick.runner_up, ..fit };
        }
    }
}

fn best_of_member(data: &Prepared, columns: &Columns, normal: &Square, member: usize) -> Option<Fit> {
    let all = candidate_fit(data, columns, normal, member, false);
    let selective = if data.selective { candidate_fit(data, columns, normal, member, true) } else { None };
    match (all, selective) {
        (Some(a), Some(s)) => Some(if s.t > a.t + 0.5 { s } else { a }),
        (a, s) => a.or(s),
    }
}

fn candidate_fit(data: &Prepared, columns: &Columns, normal: &Square, member: usize, selective: bool) -> Option<Fit> {
    let at = columns.candidate(member, selective);
    let information = normal.at(at, at);
    if information <= 1e-12 {
        return None;
    }
    let coefficient = normal.at(at, columns.y()) / information;
    let energy_w: f64 = data
        .rows
        .iter()
        .zip(&data.members[member].power_w)
        .filter(|(row, _)| row.after && (!selective || row.active))
        .map(|(_, p)| p)
        .sum();
    Some(Fit {
        member,
        selective,
        coefficient,
        // With few rows the noise is known badly and chance likenesses are common: t is taken down.
        t: coefficient * information.sqrt() / (1.0 + FEW_ROWS / data.rows_after.max(1.0)).sqrt(),
        energy_wh: coefficient * energy_w * data.hours,
        runner_up: 0.0,
    })
}

/// What the picks leave over after the onset, relative to the expected noise: scale (at least 1) and lag-1 correlation. A free
/// day profile is removed first.
fn remaining_noise(data: &Prepared, columns: &Columns, before: Noise, picks: &[Fit]) -> Noise {
    let _ = columns;
    let mut left: Vec<(usize, f64)> = Vec::new();
    for (t, row) in data.rows.iter().enumerate().filter(|(_, row)| row.after) {
        let explained: f64 = picks
            .iter()
            .filter(|pick| pick.t > 4.0 && (!pick.selective || row.active))
            .map(|pick| pick.coefficient * data.members[pick.member].power_w[t])
            .sum();
        left.push((t, row.residual_w - explained));
    }
    let mut sums = [(0.0, 0.0); PROFILE_BINS];
    for (t, value) in &left {
        let bin = &mut sums[data.rows[*t].hour * PROFILE_BINS / 24];
        bin.0 += value;
        bin.1 += 1.0;
    }
    let (mut square, mut product, mut count, mut pairs) = (0.0, 0.0, 0.0, 0.0);
    let mut last: Option<(usize, f64)> = None;
    for (t, value) in left {
        let row = &data.rows[t];
        let (sum, n) = sums[row.hour * PROFILE_BINS / 24];
        let z = (value - sum / f64::max(n, 1.0)) / row.var_w2.sqrt();
        square += z * z;
        count += 1.0;
        if let Some((before, past)) = last
            && before + 1 == t
            && row.follows
        {
            product += z * past;
            pairs += 1.0;
        }
        last = Some((t, z));
    }
    let free = f64::max(count - PROFILE_BINS as f64, count / 3.0);
    let scale = (square / f64::max(free, 1.0)).max(before.scale);
    let phi = if pairs > 8.0 { product / pairs / (square / count).max(1e-9) } else { before.phi };
    Noise { phi: phi.clamp(0.0, 0.9), scale }
}
