//! More is metered than supplied: which honest or dishonest reason fits? Checked in this order: the parent zone misses the same energy
//! (the observer between them reads low), one member's whole use is in surplus (it is fed from elsewhere), the surplus is a
//! fixed share of the supply (observer or its ratio).

use super::{
    Explanation, Localisation, ZoneHistory, after_hours,
    prepared::{Prepared, mean},
    readings, regression,
};
use crate::{
    balance::{EnergyBalance, MemberId},
    case::CaseKind,
    evidence::{Direction, Evidence, EvidenceKind},
};

pub(super) fn explain(
    history: &ZoneHistory,
    data: &Prepared,
    mut zone_evidence: Vec<Evidence>,
    missing_wh: f64,
) -> Explanation {
    let kind = CaseKind::SurplusEnergy;
    let observer = observer_disagrees(history, data);
    let share = share_of_supply(data);
    let mut localisation = Localisation::NotLocalised {
        reason: "meters report more than was supplied: check the observer meter, its ratio, the mapping and back-feed"
            .into(),
    };
    if let Some(evidence) = observer {
        zone_evidence.push(evidence);
        localisation = Localisation::Observer { zone: history.zone };
    } else if let Some((evidence, id)) = foreign_member(history, data) {
        zone_evidence.push(evidence);
        let reason = match id {
            MemberId::UsagePoint(point) => format!("usage point {point} seems to be supplied from another zone"),
            MemberId::Zone(zone) => format!("zone {zone} seems to be supplied from elsewhere"),
        };
        localisation = Localisation::NotLocalised { reason };
    } else if let Some((slope, r2)) = share
        && r2 > 0.8
        && slope > 0.02
    {
        let words = format!(
            "the surplus is {:.1} % of the supply at all times (R² = {r2:.2}): the observer meter or its ratio reads low",
            100.0 * slope
        );
        zone_evidence.push(Evidence::new(
            EvidenceKind::ObserverDisagrees,
            Direction::For,
            4.0 * r2,
            words,
            history.zone,
            readings(history, data, history.observer),
        ));
        localisation = Localisation::Observer { zone: history.zone };
    }
    zone_evidence.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    Explanation { kind, localisation, suspects: vec![], zone_evidence, missing_wh }
}

/// The parent misses what this zone has too much.
fn observer_disagrees(history: &ZoneHistory, data: &Prepared) -> Option<Evidence> {
    let baseline = |b: &&EnergyBalance| b.end <= history.onset.plus(-6 * 3_600) && b.coverage > 0.0;
    let before = mean(history.parent.iter().filter(baseline).map(|b| b.unaccounted_wh));
    let (mut sxy, mut sxx, mut syy, mut n) = (0.0, 0.0, 0.0, 0.0);
    for row in data.rows.iter().filter(|row| row.after) {
        let Ok(at) = history.parent.binary_search_by_key(&row.end, |b| b.end) else { continue };
        let parent_w = (history.parent[at].unaccounted_wh - before) / data.hours;
        sxy += row.residual_w * parent_w;
        sxx += row.residual_w * row.residual_w;
        syy += parent_w * parent_w;
        n += 1.0;
    }
    if n < 4.0 || sxx <= 0.0 || syy <= 0.0 {
        return None;
    }
    let (slope, cosine) = (sxy / sxx, sxy / (sxx * syy).sqrt());
    ((0.6..1.5).contains(&slope) && cosine > 0.8).then(|| {
        Evidence::new(
            EvidenceKind::ObserverDisagrees,
            Direction::For,
            8.0 * cosine,
            format!(
                "the zone above misses {:.0} % of this surplus at the same times: the observer meter between them reads low",
                100.0 * slope
            ),
            history.zone,
            readings(history, data, history.observer),
        )
    })
}

/// Slope and R² of the surplus on the supply after the onset.
fn share_of_supply(data: &Prepared) -> Option<(f64, f64)> {
    let rows: Vec<_> = data.rows.iter().filter(|row| row.after).collect();
    if rows.len() < 16 {
        return None;
    }
    let sxx: f64 = rows.iter().map(|r| r.supplied_w * r.supplied_w).sum();
    let sxy: f64 = rows.iter().map(|r| r.supplied_w * r.residual_w).sum();
    let slope = sxy / sxx.max(1.0);
    let left: f64 = rows.iter().map(|r| (r.residual_w - slope * r.supplied_w).powi(2)).sum();
    let level = data.mean_residual_w;
    let total: f64 = rows.iter().map(|r| (r.residual_w - level).powi(2)).sum();
    Some((slope, 1.0 - left / total.max(1e-9)))
}

/// A member whose own use is the surplus, one to one.
fn foreign_member(history: &ZoneHistory, data: &Prepared) -> Option<(Evidence, MemberId)> {
    let fits = regression::regress(data)?;
    let pick = fits.picks.first()?;
    let energy = data.mean_residual_w * after_hours(data);
    let whole = (pick.coefficient - 1.0).abs() < 0.08 && pick.t > 6.0 && pick.energy_wh > 0.6 * energy;
    if !whole {
        return None;
    }
    let member = data.members[pick.member].history;
    let words = format!(
        "the surplus is the use of meter {} one to one ({:.2}, t = {:.1}): it is probably supplied from another zone",
        member.meter, pick.coefficient, pick.t
    );
    let evidence = Evidence::new(
        EvidenceKind::MappingChange,
        Direction::For,
        (pick.t * pick.t / 2.0).min(10.0),
        words,
        history.zone,
        readings(history, data, member.meter),
    );
    Some((evidence, member.id))
}
