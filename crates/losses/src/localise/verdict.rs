//! The decision: is energy missing, of which kind is the theft, who is suspected?

use serde::{Deserialize, Serialize};

use grid::network::Network;

use crate::localise::feeder::Feeder;
use crate::localise::household;
use crate::localise::joint::{self, PlacePrior};
use crate::localise::regression::{Candidate, Regression, Shape, column};
use crate::localise::tap::{self, Place};
use crate::localise::{LocaliseError, Trial};
use crate::pattern::canary::Dice;

/// Most suspects named.
const MOST_SUSPECTS: usize = 10;
/// Most metered thieves taken one after the other.
const MOST_THIEVES: usize = 3;
/// Probability of a false alarm on an honest feeder from the metered and constant columns together.
const FALSE_ALARM: f64 = 0.02;
/// z above which a further thief is taken.
const FURTHER: f64 = 4.5;
/// A varying tap leaves this mean square in the whitened residual …
const TAP_POWER: f64 = 1.25;
/// … and this z of the correlation from slot to slot.
const TAP_MEMORY: f64 = 5.0;

/// Kinds of theft told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TheftKind {
    /// The meter counts a fixed share too little.
    UnderRegistration,
    /// The meter is bypassed at night.
    NightBypass,
    /// An unmetered, varying load at a connection.
    TapVarying,
    /// An unmetered constant load: detected, not localisable.
    TapConstant,
}

impl TheftKind {
    /// The name as in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnderRegistration => "under_registration",
            Self::NightBypass => "night_bypass",
            Self::TapVarying => "tap_varying",
            Self::TapConstant => "tap_constant",
        }
    }
}

/// One suspected usage point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// Number of the usage point.
    pub usage_point: u32,
    /// Higher is more suspicious; z for metered thefts, log-likelihood relative to the worst place for taps.
    pub score: f64,
    /// Kind.
    pub kind: TheftKind,
    /// Energy missing in the period if this suspect is right, in Wh.
    pub estimated_wh: f64,
    /// Why, in words.
    pub reason: String,
}

/// The answer for a feeder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Energy is missing beyond what honest meters explain.
    pub alarm: bool,
    /// Probability that an honest feeder shows as much.
    pub p_value: f64,
    /// Best first, at most ten.
    pub suspects: Vec<Suspect>,
}

/// Localises theft on the feeder from the first `days` days (all without).
pub fn localise(network: &Network, trial: &Trial, days: Option<usize>) -> Result<Verdict, LocaliseError> {
    let cut;
    let trial = match days {
        Some(days) => {
            cut = trial.first_days(days);
            &cut
        }
        None => trial,
    };
    if trial.delivered_wh.len() < trial.slots_per_day() {
        return Err(LocaliseError::Mismatch("localisation needs at least one day of readings".to_owned()));
    }
    let feeder = Feeder::new(network, trial)?;
    Ok(decide(&feeder))
}

/// What an oracle is told.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// The meters' theft is of this kind (one of the metered ones).
    Kind(TheftKind),
    /// A tap takes this power in W by slot.
    Tap(&'a [f64]),
}

/// Usage points in the order of one who knows the kind of theft (of a tap its power in every slot) and, from `network`, the true
/// impedances: what the readings' errors alone allow. For studies.
pub fn oracle(network: &Network, trial: &Trial, known: Known) -> Result<Vec<u32>, LocaliseError> {
    let feeder = Feeder::new(network, trial)?;
    let points: Vec<usize> = match known {
        Known::Tap(power_w) => {
            let prior = PlacePrior { impedance_sd: 0.01, amplitude_sd: 0.02 };
            one_per_bus(&feeder, tap_places(&feeder, power_w, prior)).iter().map(|p| p.point).collect()
        }
        Known::Kind(kind) => {
            let shape = if kind == TheftKind::NightBypass { Shape::Night } else { Shape::Share };
            let mut regression = Regression::new(&feeder, 0.0);
            let mut order = Vec::new();
            for _ in 0..MOST_SUSPECTS {
                let best = regression
                    .ranked()
                    .into_iter()
                    .find(|c| c.shape == shape && !c.point.is_none_or(|p| order.contains(&p)));
                let Some((best, point)) = best.and_then(|b| b.point.map(|p| (b, p))) else { break };
                order.push(point);
                // After two thieves at most the others are ranked as they are.
                if order.len() <= 2 {
                    regression.take(best);
                }
            }
            order
        }
    };
    Ok(points.into_iter().map(|p| feeder.usage_points[p]).collect())
}

/// z that the largest of `tests` exceeds with this probability.
fn quantile(probability: f64, tests: f64) -> f64 {
    let (mut low, mut high) = (0.0, 10.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if family_p(middle, tests) > probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Everything the decision rests on.
struct Findings {
    picks: Vec<Candidate>,
    rest: Vec<Candidate>,
    constant_z: f64,
    constant_w: f64,
    best_z: f64,
    /// (mean square, memory z) of the residual with everything metered and a constant taken.
    power: f64,
    memory: f64,
    /// By how much the largest z of resampled honest days exceeds that of independent noise, at least 1.
    excess: f64,
}

fn decide(feeder: &Feeder) -> Verdict {
    let tests = 2.0 * feeder.points() as f64 + 1.0;
    let alarm_z = quantile(FALSE_ALARM, tests);
    let findings = examine(feeder, alarm_z);
    if findings.power > TAP_POWER && findings.memory > TAP_MEMORY {
        return varying_tap(feeder, &findings);
    }
    let (constant_z, best_z) = (findings.constant_z / findings.excess, findings.best_z / findings.excess);
    if constant_z > alarm_z && constant_z > best_z {
        return constant_tap(feeder, &findings, tests);
    }
    let p_value = family_p(best_z.max(constant_z), tests);
    let alarm = best_z > alarm_z || constant_z > alarm_z;
    let suspects = findings
        .picks
        .iter()
        .chain(&findings.rest)
        .filter(|c| c.z > 0.0)
        .filter_map(|c| metered_suspect(feeder, c))
        .fold(Vec::new(), |mut list: Vec<Suspect>, suspect| {
            if !list.iter().any(|s| s.usage_point == suspect.usage_point) && list.len() < MOST_SUSPECTS {
                list.push(suspect);
            }
            list
        });
    Verdict { alarm, p_value, suspects }
}

fn examine(feeder: &Feeder, alarm_z: f64) -> Findings {
    let mut regression = Regression::new(feeder, 0.0);
    let first = regression.ranked();
    let constant = first.iter().find(|c| c.shape == Shape::Constant);
    let (constant_z, constant_w) = constant.map_or((0.0, 0.0), |c| (c.z, c.coefficient));
    let mut picks: Vec<Candidate> = Vec::new();
    let mut best_z = 0.0;
    for round in 0..MOST_THIEVES {
        let Some(best) = regression.ranked().into_iter().find(|c| c.shape != Shape::Constant) else { break };
        if round == 0 {
            best_z = best.z;
        }
        if best.z < if round == 0 { alarm_z } else { FURTHER } {
            break;
        }
        regression.take(best);
        picks.push(best);
    }
    let rest = regression.ranked();
    let mut everything = regression;
    if let Some(constant) = rest.iter().find(|c| c.shape == Shape::Constant) {
        everything.take(*constant);
    }
    let residual = everything.whitened_residual();
    let n = residual.len() as f64;
    let square: f64 = residual.iter().map(|r| r * r).sum();
    let tests = 2.0 * feeder.points() as f64 + 1.0;
    // Only where there is something to judge: resampling costs as much as the rest.
    let excess = if best_z.max(constant_z) > alarm_z {
        excess(&everything, &residual, feeder.slots_per_day, tests)
    } else {
        1.0
    };
    let lagged: f64 = residual.windows(2).map(|w| w[0] * w[1]).sum();
    Findings {
        picks,
        rest,
        constant_z,
        constant_w,
        best_z,
        power: square / n,
        memory: lagged / square.max(1e-12) * n.sqrt(),
        excess,
    }
}

/// Days resampled for the threshold of a feeder, and the quantile compared.
const RESAMPLES: usize = 100;
const QUANTILE: f64 = 0.9;

/// Block bootstrap: days of what is left when everything found is taken are drawn anew, with nuisance from its prior, and the largest z
/// of all candidates is noted. Noise that lasts over slots (filled gaps, losses) makes it larger than the analytic one.
fn excess(regression: &Regression, residual: &[f64], block: usize, tests: f64) -> f64 {
    let mut dice = Dice::new(residual.len() as u64);
    let mut maxima: Vec<f64> =
        (0..RESAMPLES).map(|_| regression.resampled_maximum(residual, block, &mut dice)).collect();
    maxima.sort_by(f64::total_cmp);
    let seen = maxima[(QUANTILE * RESAMPLES as f64) as usize];
    (seen / quantile(1.0 - QUANTILE, tests)).max(1.0)
}

/// Variance times the integrated correlation time, up to `longest` slots.
fn lasting_variance(values: &[f64], longest: usize) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let centred: Vec<f64> = values.iter().map(|v| v - mean).collect();
    let variance = centred.iter().map(|v| v * v).sum::<f64>() / n;
    let mut time = 1.0;
    for lag in 1..longest.min(values.len()) {
        let correlation = crate::localise::regression::dot(&centred[lag..], &centred[..centred.len() - lag])
            / (n * variance).max(1e-12);
        if correlation < 0.1 {
            break;
        }
        time += 2.0 * correlation;
    }
    variance * time
}

fn metered_suspect(feeder: &Feeder, candidate: &Candidate) -> Option<Suspect> {
    let point = candidate.point?;
    let energy: f64 = candidate.coefficient * column(feeder, Some(point), candidate.shape).iter().sum::<f64>();
    let share = candidate.coefficient / (1.0 + candidate.coefficient) * 100.0;
    let (kind, what) = match candidate.shape {
        Shape::Night => (TheftKind::NightBypass, "at night"),
        _ => (TheftKind::UnderRegistration, "all day"),
    };
    Some(Suspect {
        usage_point: feeder.usage_points[point],
        score: candidate.z,
        kind,
        estimated_wh: energy,
        reason: format!(
            "the missing energy follows this meter's readings {what} (z {:.1}): it would count {share:.0} % too little",
            candidate.z
        ),
    })
}

fn constant_tap(feeder: &Feeder, findings: &Findings, tests: f64) -> Verdict {
    let watts = findings.constant_w;
    let energy = watts * feeder.slot_hours * feeder.slots() as f64;
    // Named in the order of metered evidence so that the list is not empty, but the reason says what it is worth.
    let suspects = findings
        .picks
        .iter()
        .chain(&findings.rest)
        .filter_map(|c| c.point.map(|p| (p, c.z)))
        .fold(Vec::new(), |mut list: Vec<Suspect>, (point, z)| {
            let usage_point = feeder.usage_points[point];
            if list.len() < MOST_THIEVES && !list.iter().any(|s| s.usage_point == usage_point) {
                list.push(Suspect {
                    usage_point,
                    score: z,
                    kind: TheftKind::TapConstant,
                    estimated_wh: energy,
                    reason: format!(
                        "about {watts:.0} W are missing day and night: detected, not localisable. A constant load leaves no trace \
                         that tells the connections apart; a switching test or a meter in mid-feeder would"
                    ),
                });
            }
            list
        });
    Verdict { alarm: true, p_value: family_p(findings.constant_z / findings.excess, tests), suspects }
}

fn varying_tap(feeder: &Feeder, findings: &Findings) -> Verdict {
    // The tap's own variation is noise for the nuisance. It lasts over several slots and may repeat day after day as loads do, so it
    // counts as that many times its variance; its mean is a column of its own, or the gains would swallow it.
    let days = feeder.slots() as f64 / feeder.slots_per_day as f64;
    let lasting = lasting_variance(&feeder.residual_wh, feeder.slots_per_day / 2) * days.max(1.0);
    let mut regression = Regression::new(feeder, lasting);
    if let Some(constant) = regression.ranked().into_iter().find(|c| c.shape == Shape::Constant) {
        regression.take(constant);
    }
    let cleaned: Vec<f64> = regression.cleaned().iter().map(|wh| wh / feeder.slot_hours).collect();
    let energy: f64 = cleaned.iter().sum::<f64>() * feeder.slot_hours;
    let fitted = tap_places(feeder, &cleaned, PlacePrior::default());
    let places = one_per_bus(feeder, household::believed(feeder, fitted, &cleaned));
    let worst = places.last().map_or(0.0, |p| p.misfit);
    let suspects = places
        .iter()
        .take(MOST_SUSPECTS)
        .map(|place| Suspect {
            usage_point: feeder.usage_points[place.point],
            score: 0.5 * (worst - place.misfit),
            kind: TheftKind::TapVarying,
            estimated_wh: energy,
            reason: format!(
                "voltages fall with the missing power as if it were drawn at this connection (fitted share {:.2}); neighbours \
                 on the same cable look alike, connections at the same point are alike",
                place.amplitude
            ),
        })
        .collect();
    Verdict { alarm: true, p_value: upper_tail(findings.memory), suspects }
}

/// Places of a tap with this power in W by slot, best first.
pub(crate) fn tap_places(feeder: &Feeder, power_w: &[f64], prior: PlacePrior) -> Vec<Place> {
    joint::places(feeder, power_w, prior).unwrap_or_else(|| tap::places(feeder, power_w))
}

/// Connections at one bus cannot be told apart: the first of each bus in order, then the others.
pub(crate) fn one_per_bus(feeder: &Feeder, places: Vec<Place>) -> Vec<Place> {
    let mut seen: Vec<usize> = Vec::new();
    let (first, others): (Vec<Place>, Vec<Place>) = places.into_iter().partition(|place| {
        let bus = feeder.bus_of_point[place.point];
        let new = !seen.contains(&bus);
        seen.push(bus);
        new
    });
    first.into_iter().chain(others).collect()
}

/// Probability of a z at least this high among `tests` tests.
fn family_p(z: f64, tests: f64) -> f64 {
    let single = upper_tail(z);
    // ln1p keeps small probabilities exact.
    -(tests * (-single).ln_1p()).exp_m1()
}

/// Upper tail of the standard normal (Abramowitz & Stegun 26.2.17 with the density in logarithms; relative error about 1e-4 to z = 8).
fn upper_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let series =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt() * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_tail() {
        assert!((upper_tail(0.0) - 0.5).abs() < 1e-6);
        assert!((upper_tail(1.959_964) - 0.025).abs() < 1e-6);
        assert!((upper_tail(-1.0) - 0.841_344_7).abs() < 1e-6);
        assert!(family_p(10.0, 80.0) < 1e-20);
    }
}
