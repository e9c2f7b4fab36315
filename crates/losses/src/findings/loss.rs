//! A technical loss that no network has: the fit hides energy that is not counted, or counted wrongly.
//!
//! Asked of a zone's balances of a day. It cannot tell which reading is wrong; a meter whose readings are suspect, a connection
//! larger than its rating says, a wrong ratio of the observer and a zone that lacks its largest consumer all look so.

use super::{Correction, Finding, FindingKind, Subject, number};
use crate::balance::EnergyBalance;

/// No low-voltage zone loses more than this share of what it is supplied over a day.
const LARGEST_SHARE: f64 = 0.1;
/// Nothing is said about zones that are supplied less than this mean power, W: iron and meters take much of it.
const LEAST_W: f64 = 500.0;
/// Slots of which so many hours are looked at, at least.
const LEAST_HOURS: f64 = 20.0;

/// What the balances of a day say about the technical loss; `None` when it is plausible.
pub fn implausible_loss(day: &[EnergyBalance]) -> Option<Finding> {
    let zone = day.last()?.zone;
    // Where the observer is missing, the supply is made of the loss: that says nothing.
    let observed = || day.iter().filter(|balance| balance.coverage > 0.0);
    let hours: f64 = observed().map(|balance| f64::from(balance.minutes) / 60.0).sum();
    let supplied_wh: f64 = observed().map(|balance| balance.supplied_wh).sum();
    let technical_wh: f64 = observed().map(|balance| balance.technical_wh).sum();
    if hours < LEAST_HOURS || supplied_wh < LEAST_W * hours || technical_wh <= LARGEST_SHARE * supplied_wh {
        return None;
    }
    let share = technical_wh / supplied_wh;
    let words = format!(
        "{:.0} % of what the zone was supplied within a day are called technical loss ({:.1} of {:.1} kWh), and no network \
         loses so much: look for a meter whose readings are suspect or missing, a connection larger than its rating, a wrong \
         ratio of the observer, or a consumer that is not registered",
        share * 100.0,
        technical_wh / 1e3,
        supplied_wh / 1e3
    );
    Some(Finding {
        kind: FindingKind::ImplausibleLoss,
        zone,
        subject: Subject::Zone { zone },
        correction: Correction::CheckZone,
        confidence: 0.9,
        words,
        numbers: vec![
            number("technical loss", technical_wh / 1e3, "kWh"),
            number("supplied", supplied_wh / 1e3, "kWh"),
            number("share", share * 100.0, "%"),
        ],
    })
}

#[cfg(test)]
mod tests {
    use metering::{Timestamp, ZoneId};

    use super::*;

    fn day(supplied_wh: f64, technical_wh: f64, coverage: f64) -> Vec<EnergyBalance> {
        let balance = |slot: i64| EnergyBalance {
            zone: ZoneId::new("Z").expect("id"),
            end: Timestamp(900 * (slot + 1)),
            minutes: 15,
            supplied_wh,
            metered_wh: supplied_wh - technical_wh,
            technical_wh,
            unaccounted_wh: 0.0,
            sigma_random_wh: 1.0,
            sigma_systematic_wh: 1.0,
            coverage,
        };
        (0..96).map(balance).collect()
    }

    #[test]
    fn a_loss_that_no_network_has_is_said_of_the_zone() {
        let found = implausible_loss(&day(31_000.0, 6_000.0, 0.4)).expect("found");
        assert_eq!((found.kind, found.subject.usage_point()), (FindingKind::ImplausibleLoss, None));
        assert!(found.words.contains("19 %") && found.is_to_be_checked_first(), "{}", found.words);
        assert_eq!(implausible_loss(&day(31_000.0, 2_500.0, 1.0)), None, "8 % may be");
        assert_eq!(implausible_loss(&day(60.0, 30.0, 1.0)), None, "an idle zone");
        assert_eq!(implausible_loss(&day(31_000.0, 6_000.0, 0.0)), None, "without its observer");
        assert_eq!(implausible_loss(&day(31_000.0, 6_000.0, 0.4)[..40]), None, "half a day");
        assert_eq!(implausible_loss(&[]), None);
    }
}
