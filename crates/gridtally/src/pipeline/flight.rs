//! What happens next to a control, decided from where it stands, what was heard and the time; nothing is done here.
//!
//! Before a disconnect the meter and its zone's observer are read; after the meter's answer both are read again, and
//! [`super::verify`] judges. Every wait has an end: by expiry, or by `verify_within_seconds`.

use std::collections::BTreeMap;

use metering::{
    ControlKind, ControlState, MeterId, Timestamp, Watts,
    control::ReplyOutcome,
    frame::{Now, Reply},
};
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

/// A reading that was asked for: of the meter and of its zone's observer, each under an identifier that nobody else knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When.
    pub at: Timestamp,
    /// Number of the asking.
    pub round: u8,
    /// Identifier of the question to the meter. None in what was kept before identifiers were drawn: it is asked again.
    #[serde(default)]
    pub id: Option<u64>,
    /// The observer, and the identifier of the question to it.
    #[serde(default)]
    pub observer: Option<(MeterId, u64)>,
}

/// The memory of one open control; kept with the pipeline's state, so that a restart goes on where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// The meter it is for: nobody else's answer counts.
    #[serde(default)]
    pub meter: Option<MeterId>,
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
    /// The rule that forbids sending it again.
    #[serde(default)]
    pub held: Option<String>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask meter and observer for a snapshot, for the so many-th time.
    Read(u8),
    /// Send the control to the meter.
    Send,
    /// Enter a state.
    Enter(ControlState, String),
    /// Nothing before this time, unless something is heard.
    WaitUntil(Timestamp),
}

/// What a message of a meter was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something that this meter was asked; it is noted.
    Asked,
    /// Something that another meter was asked, or this one not yet; nothing changed.
    Foreign,
    /// Nothing that is open.
    Nothing,
}

/// The memory of all open controls, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flights(pub BTreeMap<u64, Flight>);

impl Flights {
    /// Takes an answer of a meter. `ct_ratio`: of the meter, where it is an observer.
    pub fn reply(&mut self, from: MeterId, reply: &Reply, now: Timestamp, ct_ratio: f64) -> Heard {
        match self.0.get_mut(&reply.control) {
            Some(flight) if flight.meter == Some(from) && flight.sent_at.is_some() => {
                flight.answer.get_or_insert((now, reply.outcome));
                Heard::Asked
            }
            Some(_) => Heard::Foreign,
            None if reply.outcome.accepted() => self.values(from, reply.control, &reply.now, ct_ratio),
            None => Heard::Nothing,
        }
    }

    /// Takes values that a meter sent under the identifier of a question.
    pub fn values(&mut self, from: MeterId, id: u64, values: &Now, ct_ratio: f64) -> Heard {
        let mut heard = Heard::Nothing;
        for flight in self.0.values_mut() {
            match flight.values(from, id, values, ct_ratio) {
                Heard::Asked => return Heard::Asked,
                Heard::Foreign => heard = Heard::Foreign,
                Heard::Nothing => {}
            }
        }
        heard
    }
}

impl Flight {
    /// The memory of a control that is new.
    pub fn of(meter: MeterId) -> Self {
        Self { meter: Some(meter), ..Self::default() }
    }

    /// Takes values that answer a question of this control, by the one that was asked.
    fn values(&mut self, from: MeterId, id: u64, now: &Now, ct_ratio: f64) -> Heard {
        let meter = self.meter;
        for (asked, read_back) in [(self.asked_before, &mut self.before), (self.asked_after, &mut self.after)] {
            let Some(asked) = asked else { continue };
            if asked.id == Some(id) {
                if meter != Some(from) {
                    return Heard::Foreign;
                }
                read_back.meter = Some(now.clone());
                return Heard::Asked;
            }
            if let Some((observer, question)) = asked.observer
                && question == id
            {
                if observer != from {
                    return Heard::Foreign;
                }
                read_back.inflow = now.power_w.map(|w| scaled(w, ct_ratio));
                return Heard::Asked;
            }
        }
        Heard::Nothing
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
            // Whatever was heard: what has not been sent has no answer.
            ControlState::Requested | ControlState::Approved if now > expires => self.expired(reachable),
            ControlState::Sent if now > expires && self.answer.is_none() => self.expired(reachable),
            ControlState::Requested => Step::WaitUntil(expires.plus(1)),
            ControlState::Approved => self.before_sending(kind, expires, reachable, now, timing),
            ControlState::Sent => self.after_sending(expires, reachable, now),
            ControlState::Acknowledged => self.reading_back(kind, expires, now, timing),
            ControlState::Verified
            | ControlState::Refused(_)
            | ControlState::Expired
            | ControlState::Failed(_)
            | ControlState::Unseen(_) => Step::WaitUntil(Timestamp(i64::MAX)),
        }
    }

    /// The end of a control that was not sent yet, for a meter that only a gateway reports: waiting would change nothing.
    pub fn behind_gateway(state: &ControlState, gateway: MeterId) -> Option<Step> {
        let is_unsent = matches!(state, ControlState::Requested | ControlState::Approved);
        is_unsent.then(|| {
            let why = headend::SendError::BehindGateway(gateway).to_string();
            Step::Enter(ControlState::Refused(why.clone()), why)
        })
    }

    fn expired(&self, reachable: bool) -> Step {
        let note =
            if reachable { "no answer before its expiry" } else { "the meter was not connected before its expiry" };
        Step::Enter(ControlState::Expired, note.into())
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
        let Some(asked) = self.asked_before else { return Step::Read(1) };
        let complete = self.before.meter.is_some() && self.before.inflow.is_some();
        let patience = asked.at.plus(timing.read_back_seconds);
        if complete || now >= patience { Step::Send } else { Step::WaitUntil(patience) }
    }

    fn after_sending(&self, expires: Timestamp, reachable: bool, now: Timestamp) -> Step {
        if let Some((_, outcome)) = self.answer {
            return Step::Enter(state_of(outcome), outcome.word().into());
        }
        // Without a time it was entered as sent just before a stop: nobody knows whether it went out.
        let again = self.sent_at.map_or(now, |at| at.plus(RESEND_SECONDS));
        if self.held.is_some() {
            Step::WaitUntil(expires.plus(1))
        } else if reachable && now >= again {
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
            Verdict::Unseen(words) => return Step::Enter(ControlState::Unseen(words.clone()), words),
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
        Step::Read(round)
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

#[cfg(test)]
mod tests {
    use metering::{Milliamps, Millivolts, frame::RelayState};
    use proptest::prelude::*;

    use super::*;

    const TIMING: Timing = Timing { read_back_seconds: 60, verify_within_seconds: 600 };
    const EXPIRES: Timestamp = Timestamp(100_000);

    fn id(name: &str) -> MeterId {
        MeterId::new(name).expect("id")
    }

    fn asked(at: i64, question: u64, observer: Option<(MeterId, u64)>) -> Asked {
        Asked { at: Timestamp(at), round: 1, id: Some(question), observer }
    }

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
        let mut flight = Flight::of(id("M-7"));
        let step = |flight: &Flight, state: &ControlState, now| {
            flight.next(&kind, state, EXPIRES, true, Timestamp(now), TIMING)
        };
        assert_eq!(step(&flight, &ControlState::Approved, 0), Step::Read(1), "reads first");
        let observer = id("OBS");
        flight.asked_before = Some(asked(0, 71, Some((observer, 72))));
        assert_eq!(step(&flight, &ControlState::Approved, 0), Step::WaitUntil(Timestamp(60)));
        assert_eq!(flight.values(id("M-7"), 71, &open(230_000), 1.0), Heard::Asked);
        assert_eq!(flight.values(observer, 72, &open(230_000), 1.0), Heard::Asked);
        assert_eq!(flight.values(observer, 73, &open(230_000), 1.0), Heard::Nothing);
        assert_eq!(step(&flight, &ControlState::Approved, 0), Step::Send);
        flight.sent_at = Some(Timestamp(0));
        assert_eq!(step(&flight, &ControlState::Sent, 10), Step::WaitUntil(Timestamp(60)));
        assert_eq!(step(&flight, &ControlState::Sent, 60), Step::Send);
        flight.answer = Some((Timestamp(61), ReplyOutcome::Done));
        assert_eq!(step(&flight, &ControlState::Sent, 61), Step::Enter(ControlState::Acknowledged, "done".into()));
        assert_eq!(step(&flight, &ControlState::Acknowledged, 61), Step::WaitUntil(Timestamp(121)));
        assert_eq!(step(&flight, &ControlState::Acknowledged, 121), Step::Read(2), "reads back");
        flight.asked_after = Some(asked(121, 74, None));
        assert_eq!(flight.values(id("M-7"), 74, &open(0), 1.0), Heard::Asked);
        assert!(matches!(step(&flight, &ControlState::Acknowledged, 121), Step::Enter(ControlState::Verified, _)));
        flight.after.meter = Some(open(230_000));
        assert!(matches!(step(&flight, &ControlState::Acknowledged, 121), Step::Enter(ControlState::Failed(_), _)));
    }

    #[test]
    fn a_control_behind_a_gateway_is_refused_before_it_is_sent() {
        for state in [ControlState::Requested, ControlState::Approved] {
            let Some(Step::Enter(ControlState::Refused(why), note)) = Flight::behind_gateway(&state, id("site-1"))
            else {
                panic!("{state:?} is refused")
            };
            assert!(why.contains("gateway site-1") && why == note, "{why}");
        }
        for state in [ControlState::Sent, ControlState::Acknowledged, ControlState::Verified] {
            assert_eq!(Flight::behind_gateway(&state, id("site-1")), None, "{state:?}");
        }
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

    #[test]
    fn an_answer_that_came_before_the_sending_keeps_nothing_open() {
        let mut flight = Flight { answer: Some((Timestamp(5), ReplyOutcome::Signature)), ..Flight::of(id("M-7")) };
        for state in [ControlState::Requested, ControlState::Approved] {
            let step = flight.next(&ControlKind::Disconnect, &state, EXPIRES, false, EXPIRES.plus(1), TIMING);
            assert!(matches!(step, Step::Enter(ControlState::Expired, _)), "{state:?}: {step:?}");
        }
        flight.answer = None;
        let step = flight.next(&ControlKind::Disconnect, &ControlState::Sent, EXPIRES, true, Timestamp(50), TIMING);
        assert_eq!(step, Step::Send, "sent just before a stop: once more");
        flight.held = Some("the abort switch is on".into());
        let step = flight.next(&ControlKind::Disconnect, &ControlState::Sent, EXPIRES, true, Timestamp(50), TIMING);
        assert_eq!(step, Step::WaitUntil(EXPIRES.plus(1)));
    }

    #[test]
    fn what_was_kept_before_identifiers_were_drawn_is_read() {
        let kept = r#"{"7":{"before":{"meter":null,"inflow":900},"asked_before":{"at":5,"round":1},"sent_at":6,
            "answer":[7,"done"],"after":{"meter":null,"inflow":null},"asked_after":{"at":8,"round":2}}}"#;
        let mut flights: Flights = serde_json::from_str(kept).expect("parses");
        let old_id = (1 << 62) | (7 << 9) | (2 << 1);
        assert_eq!(flights.values(id("M-7"), old_id, &open(0), 1.0), Heard::Nothing, "its number could be computed");
        let flight = &flights.0[&7];
        assert_eq!(flight.answer, Some((Timestamp(7), ReplyOutcome::Done)));
        let step =
            flight.next(&ControlKind::Disconnect, &ControlState::Acknowledged, EXPIRES, true, Timestamp(90), TIMING);
        assert_eq!(step, Step::Read(3), "it is asked again");
    }

    fn frame(kind: u8, control: u64, outcome: ReplyOutcome, load_mv: u32) -> (Option<Reply>, Option<Now>) {
        let now = Now { control: Some(control), ..open(load_mv) };
        match kind {
            0 => (Some(Reply { control, outcome, now }), None),
            1 => (None, Some(now)),
            _ => (None, Some(Now { control: None, ..now })),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
        /// Whatever another meter says, under whatever number, the controls and read-backs of a meter stay as they are; and what it
        /// says under a number of theirs is noticed.
        #[test]
        fn no_answer_of_another_meter_changes_a_control(
            said in prop::collection::vec((0_u8..3, 0_usize..8, 0_usize..ReplyOutcome::ALL.len(), 0_u32..240_000), 1..20),
            sent in any::<bool>(),
        ) {
            let flight = |meter: &str, base: u64| Flight {
                asked_before: Some(asked(0, base + 1, Some((id("OBS"), base + 2)))),
                asked_after: Some(asked(9, base + 3, Some((id("OBS"), base + 4)))),
                sent_at: sent.then_some(Timestamp(1)),
                ..Flight::of(id(meter))
            };
            let mut flights = Flights(BTreeMap::from([(1, flight("M-A", 100)), (2, flight("M-C", 200))]));
            let before = flights.clone();
            let numbers = [1, 2, 101, 102, 103, 104, 201, 999];
            for (kind, number, outcome, load_mv) in said {
                let (number, outcome) = (numbers[number], ReplyOutcome::ALL[outcome]);
                let (reply, values) = frame(kind, number, outcome, load_mv);
                let heard = match (&reply, &values) {
                    (Some(reply), _) => flights.reply(id("M-B"), reply, Timestamp(20), 1.0),
                    (_, Some(values)) => flights.values(id("M-B"), values.control.unwrap_or(0), values, 1.0),
                    _ => Heard::Nothing,
                };
                prop_assert_ne!(heard, Heard::Asked);
                if reply.is_some() && number <= 2 {
                    prop_assert_eq!(heard, Heard::Foreign);
                }
                prop_assert_eq!(&flights, &before);
            }
            let own = Reply { control: 1, outcome: ReplyOutcome::Done, now: open(0) };
            let heard = flights.reply(id("M-A"), &own, Timestamp(20), 1.0);
            prop_assert_eq!(heard, if sent { Heard::Asked } else { Heard::Foreign });
        }
    }
}
