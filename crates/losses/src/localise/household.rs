//! Who would take energy past the meter here? What is believed of a tap's place before any voltage is looked at.
//!
//! Neighbouring connections look alike in the voltages, so the order among them rests on little; to put an honest household first there
//! accuses it for nothing. A tap serves those who live at it. Where nobody is at home while the missing energy goes on as before, or
//! where a household feeds in, drawing past the meter brings little, so such connections are believed less often guilty; the voltages
//! can still outweigh that. The odds are judgements, to be replaced by an operator's own inspections; nothing in a trial tells them.

use crate::localise::feeder::Feeder;
use crate::localise::tap::Place;
use crate::pattern::statistics::median;

/// Odds of a tap where nobody benefits, relative to an ordinary household.
const WITHOUT_BENEFIT: f64 = 0.05;
/// Mean power drawn below which nobody lives at a connection, W (an ordinary home draws 150 to 600).
const UNINHABITED_W: f64 = 40.0;
/// Share of what is drawn above which a connection that feeds in does so for good.
const FED_IN_SHARE: f64 = 0.02;
/// A day below this share of the connection's median day is one of absence …
const ABSENCE_SHARE: f64 = 0.3;
/// … when it lasts for so many days.
const ABSENCE_DAYS: usize = 4;
/// Share of its usual level at which the missing energy goes on as before.
const GOES_ON: f64 = 0.5;

/// The places by falling belief: the voltages' likelihood times the odds of the households at each bus. Every connection is as likely
/// as the other at first, so a bus with two has twice the odds.
pub(crate) fn believed(feeder: &Feeder, mut places: Vec<Place>, power_w: &[f64]) -> Vec<Place> {
    let odds: Vec<f64> = (0..feeder.points())
        .map(|point| if benefits(feeder, point, power_w) { 1.0 } else { WITHOUT_BENEFIT })
        .collect();
    for place in &mut places {
        let bus = feeder.bus_of_point[place.point];
        let beside = (0..feeder.points()).filter(|&k| feeder.bus_of_point[k] == bus && !feeder.generator[k]);
        let (sum, best) = beside.fold((0.0, 0.0f64), |(sum, best), k| (sum + odds[k], best.max(odds[k])));
        place.misfit -= 2.0 * (odds[place.point] * sum / best.max(WITHOUT_BENEFIT)).ln();
    }
    places.sort_by(|a, b| a.misfit.total_cmp(&b.misfit));
    places
}

/// Whether somebody at this connection has a use for energy past the meter, as far as its readings tell.
fn benefits(feeder: &Feeder, point: usize, power_w: &[f64]) -> bool {
    let drawn: f64 = feeder.drawn_wh[point].iter().sum();
    let fed = drawn - feeder.net_wh[point].iter().sum::<f64>();
    let mean_w = drawn / (feeder.slots() as f64 * feeder.slot_hours);
    mean_w >= UNINHABITED_W && fed <= FED_IN_SHARE * drawn && !goes_on_without(feeder, point, power_w)
}

/// Whether the missing energy goes on as before on the days on which nobody is at home.
fn goes_on_without(feeder: &Feeder, point: usize, power_w: &[f64]) -> bool {
    let per_day = feeder.slots_per_day.max(1);
    let daily = |values: &[f64]| -> Vec<f64> { values.chunks_exact(per_day).map(|day| day.iter().sum()).collect() };
    let (drawn, missing) = (daily(&feeder.drawn_wh[point]), daily(power_w));
    let usual = median(&drawn);
    let low: Vec<bool> = drawn.iter().map(|day| *day < ABSENCE_SHARE * usual).collect();
    let away: Vec<usize> = low
        .chunk_by(|a, b| a == b)
        .scan(0, |begin, run| {
            let days = *begin..*begin + run.len();
            *begin = days.end;
            Some((days, run[0]))
        })
        .filter(|(days, low)| *low && days.len() >= ABSENCE_DAYS)
        .flat_map(|(days, _)| days)
        .collect();
    if away.is_empty() {
        return false;
    }
    let during = away.iter().map(|&day| missing[day]).sum::<f64>() / away.len() as f64;
    during >= GOES_ON * missing.iter().sum::<f64>() / missing.len() as f64
}
