//! What happens next to a control, decided from where it stands, what was heard and the time; nothing is done here.
//!
//! Before a disconnect the meter and its zone's observer are read; after the meter's answer both are read again, and
//! [`super::verify`] judges. Every wait has an end: by expiry, or by `verify_within_seconds`.

use metering::{ControlKind, ControlState, MeterId, Timestamp, Watts, control::ReplyOutcome, frame::Now};
use serde::{Deserialize, Serialize};

use super::verify::{self, ReadBack, Verdict};

/// Seconds after which an unanswered control is sent again; the meter takes it once.
const RESEND_SECONDS: i64 = 60;
/// Seconds between two looks at an armed relay.
const ARMED_LOOK_SECONDS: i64 = 300;

/// Timing of read-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between an answer and the reading back.
    pub read_back_seconds: i64,
    /// An acknowledged disconnect not read back by then has failed.
    pub verify_within_seconds: i64,
}

/// A reading that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When.
    pub at: Timestamp,
    /// Number of the asking, part of its identifier.
    pub round: u8,
}

/// The memory of one open control; kept with the pipeline's state, so that a restart goes on where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// Reading before the control.
    pub before: ReadBack,
    /// The asking for it.
    pub asked_before: Option<Asked>,
    /// When the control was sent last.
    pub sent_at: Option<Timestamp>,
    /// The meter's answer.
    pub answer: Option<(Timestamp, ReplyOutcome)>,
    /// Reading after the answer.
    pub after: ReadBack,
    /// The asking for it.
    pub asked_after: Option<Asked>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask meter and observer for a snapshot.
    Read(Asked),
    /// Send the control to the meter.
    Send,
    /// Enter a state.
    Enter(ControlState, String),
    /// Nothing before this time, unless something is heard.
    WaitUntil(Timestamp),
}

/// A snapshot's identifier: distinct from every control, the same after a restart.
pub fn snapshot_id(control: u64, asked: Asked, observer: bool) -> u64 {
    (1 << 62) | (control << 9) | (u64::from(asked.round) << 1) | u64::from(observer)
}

impl Flight {
    /// Takes a snapshot that was asked for; returns whether it belongs to this flight.
    pub fn hear_snapshot(&mut self, control: u64, id: u64, now: &Now, ct_ratio: f64) -> bool {
        let inflow = || now.power_w.map(|w| scaled(w, ct_ratio));
        for (asked, read_back) in [(self.asked_before, &mut self.before), (self.asked_after, &mut self.after)] {
            let Some(asked) = asked else { continue };
            if id == snapshot_id(control, asked, false) {
                read_back.meter = Some(now.clone());
                return true;
            }
            if id == snapshot_id(control, asked, true) {
                read_back.inflow = inflow();
                return true;
            }
        }
        false
    }

    /// Decides the next step of a control in `state`. `reachable`: the meter is connected.
    pub fn next(
        &self,
        kind: &ControlKind,
        state: &ControlState,
        expires: Timestamp,
        reachable: bool,
        now: Timestamp,
        timing: Timing,
    ) -> Step {
        match state {
            ControlState::Requested | ControlState::Approved | ControlState::Sent
                if now > expires && self.answer.is_none() =>
            {
                let note = if reachable {
                    "no answer before its expiry"
                } else {
                    "the meter was not connected before its expiry"
                };
                Step::Enter(ControlState::Expired, note.into())
            }
            ControlState::Requested => Step::WaitUntil(expires.plus(1)),
            ControlState::Approved => self.before_sending(kind, expires, reachable, now, timing),
            ControlState::Sent => self.after_sending(expires, reachable, now),
            ControlState::Acknowledged => self.reading_back(kind, expires, now, timing),
            ControlState::Verified | ControlState::Refused(_) | ControlState::Expired | ControlState::Failed(_) => {
                Step::WaitUntil(Timestamp(i64::MAX))
            }
        }
    }

    fn before_sending(
        &self,
        kind: &ControlKind,
        expires: Timestamp,
        reachable: bool,
        now: Timestamp,
        timing: Timing,
    ) -> Step {
        if !reachable {
            return Step::WaitUntil(now.plus(RESEND_SECONDS).min(expires.plus(1)));
        }
        if *kind != ControlKind::Disconnect {
            return Step::Send;
        }
        let Some(asked) = self.asked_before else { return Step::Read(Asked { at: now, round: 1 }) };
        let complete = self.before.meter.is_some() && self.before.inflow.is_some();
        let patience = asked.at.plus(timing.read_back_seconds);
        if complete || now >= patience { Step::Send } else { Step::WaitUntil(patience) }
    }

    fn after_sending(&self, expires: Timestamp, reachable: bool, now: Timestamp) -> Step {
        if let Some((_, outcome)) = self.answer {
            return Step::Enter(state_of(outcome), outcome.word().into());
        }
        let again = self.sent_at.unwrap_or(now).plus(RESEND_SECONDS);
        if reachable && now >= again {
            Step::Send
        } else {
            Step::WaitUntil(again.max(now.plus(1)).min(expires.plus(1)))
        }
    }

    fn reading_back(&self, kind: &ControlKind, expires: Timestamp, now: Timestamp, timing: Timing) -> Step {
        let answered = self.answer.map_or(now, |(at, _)| at);
        let verdict = match kind {
            ControlKind::Disconnect => verify::disconnect(&self.before, &self.after),
            ControlKind::Reconnect => verify::reconnect(&self.after),
            ControlKind::LoadLimit { .. } => Verdict::Verified("limit set, as the meter confirmed".into()),
            ControlKind::SnapshotAt { .. } => Verdict::Verified("values received".into()),
        };
        match verdict {
            Verdict::Verified(words) => return Step::Enter(ControlState::Verified, words),
            Verdict::Failed(words) => return Step::Enter(ControlState::Failed(words.clone()), words),
            Verdict::Wait => {}
        }
        let (deadline, pause, too_late) = match kind {
            ControlKind::Reconnect => (
                expires.max(answered.plus(timing.verify_within_seconds)),
                ARMED_LOOK_SECONDS,
                "armed, but not closed in time",
            ),
            _ => (
                answered.plus(timing.verify_within_seconds),
                timing.read_back_seconds,
                "acknowledged, but could not be read back",
            ),
        };
        if now >= deadline {
            return Step::Enter(ControlState::Failed(too_late.into()), too_late.into());
        }
        let due = match self.asked_after {
            None => answered.plus(timing.read_back_seconds),
            Some(asked) => asked.at.plus(pause),
        };
        if now < due {
            return Step::WaitUntil(due.min(deadline));
        }
        let round = self.asked_after.map_or(2, |asked| asked.round.checked_add(1).unwrap_or(2));
        Step::Read(Asked { at: now, round })
    }
}

/// The state a meter's answer leads to.
fn state_of(outcome: ReplyOutcome) -> ControlState {
    match outcome {
        ReplyOutcome::Done | ReplyOutcome::Armed => ControlState::Acknowledged,
        ReplyOutcome::ContactFault => ControlState::Failed(outcome.word().into()),
        ReplyOutcome::Expired => ControlState::Expired,
        refused => ControlState::Refused(format!("the meter refused: {}", refused.word())),
    }
}

/// Power behind a current transformer.
fn scaled(power: Watts, ct_ratio: f64) -> Watts {
    // In range: a zone's inflow in watts fits 32 bits up to 2 GW; `as` saturates beyond.
    #[allow(clippy::cast_possible_truncation)]
    Watts((f64::from(power.0) * ct_ratio).round() as i32)
}

/// The meters a flight reads: the one controlled, and its zone's observer with its CT ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Readers {
    /// The meter controlled.
    pub meter: MeterId,
    /// The observer of its zone.
    pub observer: Option<(MeterId, f64)>,
}

#[cfg(test)]
mod tests {
    use metering::{Milliamps, Millivolts, frame::RelayState};

    use super::*;

    const TIMING: Timing = Timing { read_back_seconds: 60, verify_within_seconds: 600 };
    const EXPIRES: Timestamp = Timestamp(100_000);

    fn open(load_mv: u32) -> Now {
        Now {
            relay: Some(RelayState::Open),
            load_voltage_mv: Some(Millivolts(load_mv)),
            current_ma: Some(Milliamps(0)),
            power_w: Some(Watts(0)),
            ..Now::default()
        }
    }

    #[test]
    fn a_disconnect_reads_sends_reads_and_judges() {
        let kind = ControlKind::Disconnect;
        let mut flight = Flight::default();
        let step = |flight: &Flight, state: &ControlState, now| {
            flight.next(&kind, state, EXPIRES, true, Timestamp(now), TIMING)
        };
        let Step::Read(asked) = step(&flight, &ControlState::Approved, 0) else { panic!("reads first") };
        flight.asked_before = Some(asked);
        assert_eq!(step(&flight, &ControlState::Approved, 0), Step::WaitUntil(Timestamp(60)));
        assert!(flight.hear_snapshot(7, snapshot_id(7, asked, false), &open(230_000), 1.0));
        assert!(flight.hear_snapshot(7, snapshot_id(7, asked, true), &open(230_000), 1.0));
        assert!(!flight.hear_snapshot(8, snapshot_id(7, asked, true), &open(230_000), 1.0));
        assert_eq!(step(&flight, &ControlState::Approved, 0), Step::Send);
        flight.sent_at = Some(Timestamp(0));
        assert_eq!(step(&flight, &ControlState::Sent, 10), Step::WaitUntil(Timestamp(60)));
        assert_eq!(step(&flight, &ControlState::Sent, 60), Step::Send);
        flight.answer = Some((Timestamp(61), ReplyOutcome::Done));
        assert_eq!(step(&flight, &ControlState::Sent, 61), Step::Enter(ControlState::Acknowledged, "done".into()));
        assert_eq!(step(&flight, &ControlState::Acknowledged, 61), Step::WaitUntil(Timestamp(121)));
        let Step::Read(asked) = step(&flight, &ControlState::Acknowledged, 121) else { panic!("reads back") };
        flight.asked_after = Some(asked);
        assert!(flight.hear_snapshot(7, snapshot_id(7, asked, false), &open(0), 1.0));
        assert!(matches!(step(&flight, &ControlState::Acknowledged, 121), Step::Enter(ControlState::Verified, _)));
        flight.after.meter = Some(open(230_000));
        assert!(matches!(step(&flight, &ControlState::Acknowledged, 121), Step::Enter(ControlState::Failed(_), _)));
    }

    #[test]
    fn no_control_hangs() {
        for kind in [ControlKind::Disconnect, ControlKind::Reconnect, ControlKind::LoadLimit { limit_w: None }] {
            for state in
                [ControlState::Requested, ControlState::Approved, ControlState::Sent, ControlState::Acknowledged]
            {
                for reachable in [true, false] {
                    let flight = Flight {
                        answer: (state == ControlState::Acknowledged).then_some((Timestamp(5), ReplyOutcome::Done)),
                        ..Flight::default()
                    };
                    let step = flight.next(&kind, &state, EXPIRES, reachable, Timestamp(200_000), TIMING);
                    assert!(
                        matches!(&step, Step::Enter(end, _) if end.is_final()),
                        "{kind:?} {state:?} {reachable}: {step:?}"
                    );
                }
            }
        }
    }
}
