//! Did a control really happen? Judged from what meter and observer report before and after, never from the answer alone.
//!
//! A disconnect is verified when the contact is sensed open, the current is about zero, the load side is without voltage and,
//! where it can be measured, the zone's inflow did not rise; whether it fell by what the home used is said. Voltage on the load side of an open contact means
//! that the home is still supplied: a wire around the meter, or generation behind it.

use metering::{
    Milliamps, Millivolts, Watts,
    frame::{Now, RelayState},
};
use serde::{Deserialize, Serialize};

/// Largest current taken as zero: creep and noise of a class 1 meter.
const CURRENT_ZERO: Milliamps = Milliamps(50);
/// Largest load-side voltage taken as zero.
const LOAD_VOLTAGE_ZERO: Millivolts = Millivolts(25_000);
/// Smallest load-side voltage taken as supply.
const LOAD_VOLTAGE_SUPPLY: Millivolts = Millivolts(150_000);
/// The zone's inflow speaks only when the home drew at least this share of it, in percent …
const MEASURABLE_SHARE_PERCENT: i64 = 15;
/// … and at least this much.
const MEASURABLE_W: i64 = 1_500;

/// Why a command of a meter without a sense behind its relay cannot be verified.
const BLIND: &str = "acknowledged; the meter senses nothing behind its contact, so its effect cannot be read back";

/// What was read from the meter and from its zone's observer at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBack {
    /// From the meter.
    pub meter: Option<Now>,
    /// Inflow of the zone.
    pub inflow: Option<Watts>,
    /// The meter declared in its hello that it senses nothing behind its relay.
    #[serde(default)]
    pub is_blind: bool,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It happened; the words say what showed it.
    Verified(String),
    /// It did not.
    Failed(String),
    /// The meter says that it did, and had declared that it could not show it.
    Unseen(String),
    /// Not enough is known yet.
    Wait,
}

/// Judges a disconnect.
pub fn disconnect(before: &ReadBack, after: &ReadBack) -> Verdict {
    let Some(now) = &after.meter else { return Verdict::Wait };
    match now.relay {
        Some(RelayState::Closed) => return Verdict::Failed("contact still closed".into()),
        Some(RelayState::Fault) => return Verdict::Failed("contact does not follow (welded)".into()),
        Some(_) => {}
        None => return Verdict::Failed("the meter reports no contact sense, so the cut cannot be verified".into()),
    }
    if now.load_voltage_mv.is_some_and(|v| v > LOAD_VOLTAGE_ZERO) {
        return Verdict::Failed("supply still present: voltage on the load side of the open contact".into());
    }
    if after.is_blind && now.load_voltage_mv.is_none() && now.current_ma.is_none_or(|i| i <= CURRENT_ZERO) {
        return Verdict::Unseen(BLIND.into());
    }
    let Some(load_voltage) = now.load_voltage_mv else {
        return Verdict::Failed("the meter reports no load-side voltage, so the cut cannot be verified".into());
    };
    if now.current_ma.is_none_or(|i| i > CURRENT_ZERO) {
        return Verdict::Failed("supply still present: current flows".into());
    }
    let mut words = format!("contact open, current zero, load side {} V", load_voltage.0 / 1_000);
    match inflow(before, after) {
        Some(Inflow::Rose) => {
            return Verdict::Failed("the zone's inflow rose by more than half of what the home drew".into());
        }
        Some(Inflow::Fell) => words.push_str(", zone inflow fell"),
        Some(Inflow::Level) => {
            words.push_str("; the zone's inflow neither fell nor rose by half of what the home drew")
        }
        None => words.push_str("; the zone's inflow is too large to show one home"),
    }
    Verdict::Verified(words)
}

/// Judges a reconnect: closed, with voltage on the load side.
pub fn reconnect(after: &ReadBack) -> Verdict {
    let Some(now) = &after.meter else { return Verdict::Wait };
    match (now.relay, now.load_voltage_mv) {
        (Some(RelayState::Closed), Some(v)) if v >= LOAD_VOLTAGE_SUPPLY => {
            Verdict::Verified(format!("contact closed, load side {} V", v.0 / 1_000))
        }
        (Some(RelayState::Fault), _) => Verdict::Failed("contact does not follow".into()),
        (Some(RelayState::Closed), None) if after.is_blind => Verdict::Unseen(BLIND.into()),
        _ => Verdict::Wait,
    }
}

/// What the inflow of a zone did while a home was cut off, against half of what the home drew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inflow {
    /// Fell by at least half.
    Fell,
    /// Neither: other homes switch too, so it says nothing.
    Level,
    /// Rose by more than half: that contradicts.
    Rose,
}

/// What the zone's inflow did; `None` when the home is too small to be seen.
fn inflow(before: &ReadBack, after: &ReadBack) -> Option<Inflow> {
    let drawn = i64::from(before.meter.as_ref()?.power_w?.0);
    let inflow_before = i64::from(before.inflow?.0);
    let inflow_after = i64::from(after.inflow?.0);
    let measurable = drawn >= MEASURABLE_W && drawn * 100 >= inflow_before * MEASURABLE_SHARE_PERCENT;
    let fell = inflow_before - inflow_after;
    measurable.then_some(match fell * 2 {
        twice if twice >= drawn => Inflow::Fell,
        twice if twice < -drawn => Inflow::Rose,
        _ => Inflow::Level,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(relay: RelayState, load_mv: u32, current_ma: u32, power_w: i32, inflow_w: i32) -> ReadBack {
        ReadBack {
            meter: Some(Now {
                relay: Some(relay),
                load_voltage_mv: Some(Millivolts(load_mv)),
                current_ma: Some(Milliamps(current_ma)),
                power_w: Some(Watts(power_w)),
                ..Now::default()
            }),
            inflow: Some(Watts(inflow_w)),
            is_blind: false,
        }
    }

    #[test]
    fn a_meter_that_declared_itself_blind_ends_unseen_unless_something_contradicts() {
        let before = read_back(RelayState::Closed, 230_000, 9_000, 2_000, 9_000);
        let mut after = read_back(RelayState::Open, 0, 0, 0, 7_000);
        after.is_blind = true;
        assert!(matches!(disconnect(&before, &after), Verdict::Verified(_)), "what it senses counts all the same");
        let blind = |after: &mut ReadBack| {
            if let Some(now) = &mut after.meter {
                now.load_voltage_mv = None;
            }
        };
        blind(&mut after);
        assert!(matches!(disconnect(&before, &after), Verdict::Unseen(why) if why.contains("cannot be read back")));
        let mut flows = ReadBack { is_blind: true, ..read_back(RelayState::Open, 0, 900, 200, 7_000) };
        blind(&mut flows);
        assert!(matches!(disconnect(&before, &flows), Verdict::Failed(_)), "current flows");
        let mut closed = ReadBack { is_blind: true, ..read_back(RelayState::Closed, 0, 900, 200, 7_000) };
        assert!(matches!(disconnect(&before, &closed), Verdict::Failed(_)), "it did not open");
        blind(&mut closed);
        assert!(matches!(reconnect(&closed), Verdict::Unseen(_)));
    }

    #[test]
    fn a_cut_is_believed_only_when_everything_agrees() {
        let before = read_back(RelayState::Closed, 230_000, 9_000, 2_000, 9_000);
        let cases = [
            (read_back(RelayState::Open, 0, 0, 0, 7_000), "verified"),
            (read_back(RelayState::Open, 230_000, 0, 0, 7_000), "failed"),
            (read_back(RelayState::Open, 0, 2_000, 460, 7_000), "failed"),
            (read_back(RelayState::Closed, 230_000, 9_000, 2_000, 9_000), "failed"),
            (read_back(RelayState::Fault, 0, 0, 0, 7_000), "failed"),
            (read_back(RelayState::Open, 0, 0, 0, 12_000), "failed"),
            (ReadBack::default(), "wait"),
        ];
        for (after, expected) in cases {
            let got = match disconnect(&before, &after) {
                Verdict::Verified(_) => "verified",
                Verdict::Failed(_) => "failed",
                Verdict::Unseen(_) => "unseen",
                Verdict::Wait => "wait",
            };
            assert_eq!(got, expected, "{after:?}");
        }
    }

    #[test]
    fn the_words_about_the_inflow_are_true() {
        let before = read_back(RelayState::Closed, 230_000, 9_000, 2_000, 9_000);
        let words = |inflow_w| match disconnect(&before, &read_back(RelayState::Open, 0, 0, 0, inflow_w)) {
            Verdict::Verified(words) => words,
            other => panic!("{inflow_w}: {other:?}"),
        };
        for fell in [7_000, 8_000] {
            assert!(words(fell).ends_with(", zone inflow fell"), "{fell}");
        }
        for level in [8_001, 9_000, 9_900, 10_000] {
            assert!(words(level).contains("neither fell nor rose"), "{level}");
        }
        let rose = disconnect(&before, &read_back(RelayState::Open, 0, 0, 0, 10_001));
        assert!(matches!(&rose, Verdict::Failed(why) if why.contains("inflow rose")), "{rose:?}");
    }

    #[test]
    fn a_meter_that_cannot_sense_is_never_verified() {
        let before = read_back(RelayState::Closed, 230_000, 9_000, 2_000, 9_000);
        let mut after = read_back(RelayState::Open, 0, 0, 0, 7_000);
        if let Some(now) = &mut after.meter {
            now.load_voltage_mv = None;
        }
        assert!(matches!(disconnect(&before, &after), Verdict::Failed(_)));
    }

    #[test]
    fn a_reconnect_waits_for_the_button() {
        assert_eq!(reconnect(&read_back(RelayState::Ready, 0, 0, 0, 0)), Verdict::Wait);
        assert!(matches!(reconnect(&read_back(RelayState::Closed, 229_000, 100, 20, 0)), Verdict::Verified(_)));
    }
}
