//! A round of snapshots of one zone: at which seconds all its meters are asked to read themselves, and what happens next. Decided from where the
//! round stands and the time; nothing is done here.
//!
//! Whether a second was read well enough is judged by what is stored, so nothing that was heard must be remembered: a server that is killed
//! between two instants goes on with the same ones.

use metering::{Timestamp, frame::Now};
use serde::{Deserialize, Serialize};
use store::StoredReply;

/// Instants that a round wants.
pub const WANTED: usize = 3;
/// Most instants asked for, when some had too few answers.
const ASKED_MAX: usize = 6;
/// Share of the meters that must have answered, in percent, besides the observer.
const ENOUGH_PERCENT: usize = 80;
/// A clock further off than this, or an answer later than this after the second, is no reading of the same second.
pub const CLOCK_SECONDS_MAX: i64 = 30;
/// Seconds between two looks for answers.
const LOOK_SECONDS: i64 = 60;
/// Instants lie on full minutes: zones that are asked at the same time share them.
const GRID_SECONDS: i64 = 60;

/// Timing of rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the asking to the second, so that controls arrive.
    pub lead_seconds: i64,
    /// Between two instants: missing power should change.
    pub apart_seconds: i64,
    /// After the second, before the first look for answers.
    pub settle_seconds: i64,
    /// After the second, until which answers are waited for.
    pub answers_seconds: i64,
}

/// How an instant came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Asked for; answers are waited for.
    Open,
    /// The observer and enough meters answered.
    Read,
    /// Too few answered in time.
    TooFew,
}

/// A second that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instant {
    /// The second.
    pub at: Timestamp,
    /// How it came out.
    pub outcome: Outcome,
    /// When answers were looked for last.
    pub looked: Option<Timestamp>,
    /// Meters that had answered by then, and all that were asked; the observer is one of them.
    pub answered: (usize, usize),
}

/// The memory of a round; kept with the pipeline's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// When the alarm was raised that it looks into.
    pub alarm: Timestamp,
    /// When it had its turn.
    pub begun: Option<Timestamp>,
    /// Its instants, ascending.
    pub instants: Vec<Instant>,
    /// When nothing further happened.
    pub ended: Option<Timestamp>,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask all meters for this second, a new one.
    Ask(Timestamp),
    /// Ask once more for this second: nobody remembers whether all were asked. A meter takes it once.
    AskAgain(Timestamp),
    /// Look for the answers of this second.
    Look(Timestamp),
    /// Nothing further.
    End,
    /// Nothing before this time.
    WaitUntil(Timestamp),
}

/// The identifier under which every meter is asked for a second: the same after a restart and for all zones, distinct from every control
/// and from the reading back of controls. So a meter that two zones ask for one second answers once, and both have the answer. A meter can
/// know it, which gives it nothing: it speaks about itself only. Below 2^53, which JSON on small computers keeps whole.
pub fn instant_id(at: Timestamp) -> u64 {
    (1 << 51) | (at.0.unsigned_abs() & ((1 << 51) - 1))
}

/// The identifier that was used before identifiers were kept below 2^53; what was answered then is still read.
pub fn earlier_instant_id(at: Timestamp) -> u64 {
    (1 << 61) | at.0.unsigned_abs()
}

/// What a meter says of a second, of all it has sent around it: the answer to this very asking, with a power, in time, by a clock that is right.
/// Whatever was sent twice counts once.
pub fn answer<'a>(at: Timestamp, snapshots: &'a [Now], replies: &[&StoredReply]) -> Option<&'a Now> {
    let skews = replies.iter().map(|stored| stored.reply.now.at.seconds_since(stored.received).abs());
    if skews.min().is_some_and(|skew| skew > CLOCK_SECONDS_MAX) {
        return None;
    }
    snapshots.iter().find(|now| {
        (now.control == Some(instant_id(at)) || now.control == Some(earlier_instant_id(at)))
            && now.power_w.is_some()
            && (0..=CLOCK_SECONDS_MAX).contains(&now.at.seconds_since(at))
    })
}

/// Whether the observer and enough of the `asked` meters answered.
pub fn is_enough(observer_answered: bool, answered: usize, asked: usize) -> bool {
    observer_answered && answered * 100 >= asked * ENOUGH_PERCENT
}

impl Round {
    /// A round that waits for its turn.
    pub fn waiting(alarm: Timestamp) -> Self {
        Self { alarm, begun: None, instants: Vec::new(), ended: None }
    }

    /// Whether it has begun and not ended.
    pub fn is_under_way(&self) -> bool {
        self.begun.is_some() && self.ended.is_none()
    }

    /// The seconds that were read, once the round has ended with any.
    pub fn read(&self) -> Option<Vec<Timestamp>> {
        let read = || self.instants.iter().filter(|instant| instant.outcome == Outcome::Read);
        (self.ended.is_some() && read().next().is_some()).then(|| read().map(|instant| instant.at).collect())
    }

    /// Decides the next step. `asked`: the last second was asked for since the server was started.
    pub fn next(&self, asked: bool, now: Timestamp, timing: Timing) -> Step {
        if self.ended.is_some() {
            return Step::WaitUntil(Timestamp(i64::MAX));
        }
        let soonest = now.plus(timing.lead_seconds);
        let Some(last) = self.instants.last() else { return Step::Ask(on_grid(soonest)) };
        if last.outcome == Outcome::Open {
            return match now < last.at {
                true if asked => Step::WaitUntil(last.at),
                true => Step::AskAgain(last.at),
                false => last.look(now, timing),
            };
        }
        let read = self.instants.iter().filter(|instant| instant.outcome == Outcome::Read).count();
        if read >= WANTED || self.instants.len() >= ASKED_MAX {
            return Step::End;
        }
        let due = last.at.plus(timing.apart_seconds);
        if now < due.plus(-timing.lead_seconds) {
            return Step::WaitUntil(due.plus(-timing.lead_seconds));
        }
        Step::Ask(on_grid(soonest.max(due)))
    }

    /// The meters are asked for a new second.
    pub fn ask(&mut self, at: Timestamp) {
        self.instants.push(Instant { at, outcome: Outcome::Open, looked: None, answered: (0, 0) });
    }

    /// What a look for answers found.
    pub fn looked(&mut self, observer_answered: bool, answered: usize, asked: usize, now: Timestamp, timing: Timing) {
        let Some(last) = self.instants.last_mut().filter(|instant| instant.outcome == Outcome::Open) else { return };
        last.looked = Some(now);
        last.answered = (answered, asked);
        let is_over = now >= last.at.plus(timing.answers_seconds);
        if answered == asked || is_over {
            let enough = is_enough(observer_answered, answered, asked);
            last.outcome = if enough { Outcome::Read } else { Outcome::TooFew };
        }
    }
}

impl Instant {
    fn look(&self, now: Timestamp, timing: Timing) -> Step {
        let first = self.at.plus(timing.settle_seconds);
        let last = self.at.plus(timing.answers_seconds.max(timing.settle_seconds));
        let due = self.looked.map_or(first, |looked| looked.plus(LOOK_SECONDS).min(last));
        if now >= due { Step::Look(self.at) } else { Step::WaitUntil(due) }
    }
}

fn on_grid(at: Timestamp) -> Timestamp {
    at.plus(GRID_SECONDS - 1).floor_to(GRID_SECONDS)
}

#[cfg(test)]
mod tests {
    use metering::{MeterId, Watts, control::ReplyOutcome, frame::Reply};

    use super::*;

    const TIMING: Timing = Timing { lead_seconds: 120, apart_seconds: 1_800, settle_seconds: 15, answers_seconds: 600 };

    fn snapshot(asked: i64, at: i64) -> Now {
        let control = Some(instant_id(Timestamp(asked)));
        Now { at: Timestamp(at), power_w: Some(Watts(at as i32)), control, ..Now::default() }
    }

    fn reply(at: i64, received: i64) -> StoredReply {
        let now = Now { at: Timestamp(at), ..Now::default() };
        let reply = Reply { control: 1, outcome: ReplyOutcome::Done, now };
        StoredReply { id: 1, meter: MeterId::new("M-1").expect("id"), received: Timestamp(received), reply }
    }

    /// Runs a round until it ends; `answers` says for each second how many of ten answered, with the observer. The seconds asked for.
    fn run(answers: impl Fn(usize) -> usize) -> (Round, Vec<Timestamp>) {
        let mut round = Round::waiting(Timestamp(0));
        round.begun = Some(Timestamp(1_000));
        let (mut now, mut asked) = (Timestamp(1_000), Vec::new());
        for _ in 0..1_000 {
            match round.next(true, now, TIMING) {
                Step::Ask(at) => {
                    round.ask(at);
                    asked.push(at);
                }
                Step::AskAgain(at) => panic!("{at} was asked for"),
                Step::Look(_) => {
                    let answered = answers(asked.len() - 1);
                    round.looked(answered > 0, answered, 10, now, TIMING);
                }
                Step::WaitUntil(at) => {
                    assert!(at > now, "{round:?} at {now}");
                    now = at;
                }
                Step::End => {
                    round.ended = Some(now);
                    return (round, asked);
                }
            }
        }
        panic!("it did not end: {round:?}");
    }

    #[test]
    fn three_seconds_are_read_apart_from_each_other_and_ahead_of_the_asking() {
        let (round, asked) = run(|_| 10);
        // 1,000 + 120 is put on the next full minute.
        assert_eq!(asked, [1_140, 2_940, 4_740].map(Timestamp));
        assert_eq!(round.read(), Some(asked));
        assert_eq!(round.next(true, Timestamp(i64::MAX - 1), TIMING), Step::WaitUntil(Timestamp(i64::MAX)));
        assert_eq!(round.ended, Some(Timestamp(4_755)), "all answered: nothing is waited for");
    }

    #[test]
    fn some_meters_may_be_missing_but_a_second_with_too_few_is_asked_for_anew() {
        let (round, asked) = run(|instant| if instant == 1 { 7 } else { 8 });
        assert_eq!(asked.len(), 4);
        assert_eq!(round.instants[1].outcome, Outcome::TooFew);
        assert_eq!(round.instants[0].looked, Some(round.instants[0].at.plus(600)), "waited for until the time-out");
        assert_eq!(round.read(), Some(vec![asked[0], asked[2], asked[3]]));
        let (silent, asked) = run(|_| 0);
        assert_eq!((asked.len(), silent.read()), (ASKED_MAX, None), "it gives up");
    }

    #[test]
    fn without_its_observer_a_second_is_worth_nothing() {
        assert!(is_enough(true, 8, 10) && !is_enough(true, 7, 10) && !is_enough(false, 9, 10));
    }

    #[test]
    fn after_a_restart_the_same_second_is_asked_for_again_and_no_other() {
        let mut round = Round { begun: Some(Timestamp(1_000)), ..Round::waiting(Timestamp(0)) };
        round.ask(Timestamp(1_140));
        let kept: Round = serde_json::from_slice(&serde_json::to_vec(&round).expect("json")).expect("back");
        assert_eq!(kept.next(false, Timestamp(1_050), TIMING), Step::AskAgain(Timestamp(1_140)));
        assert_eq!(kept.next(true, Timestamp(1_050), TIMING), Step::WaitUntil(Timestamp(1_140)));
        // Down over the second: what was answered before or after lies in the store, and is looked for.
        assert_eq!(kept.next(false, Timestamp(1_300), TIMING), Step::Look(Timestamp(1_140)));
        let mut late = kept.clone();
        late.looked(true, 9, 10, Timestamp(9_000), TIMING);
        assert_eq!(late.instants[0].outcome, Outcome::Read);
        assert_eq!(late.next(false, Timestamp(9_000), TIMING), Step::Ask(Timestamp(9_120)));
        late.looked(false, 0, 10, Timestamp(9_001), TIMING);
        assert_eq!(late.instants[0].outcome, Outcome::Read, "what was read stays read");
    }

    #[test]
    fn an_answer_counts_once_and_only_for_its_own_second() {
        let at = Timestamp(6_000);
        let in_time = snapshot(6_000, 6_004);
        let twice = [in_time.clone(), snapshot(6_000, 6_006)];
        assert_eq!(answer(at, &twice, &[]), Some(&in_time));
        let others = [
            snapshot(4_200, 6_001),
            snapshot(6_000, 6_031),
            snapshot(6_000, 5_999),
            Now { power_w: None, ..in_time.clone() },
            Now { control: None, ..in_time.clone() },
        ];
        assert_eq!(answer(at, &others, &[]), None, "another round's, late, early, without a power, not asked for");
    }

    #[test]
    fn a_meter_whose_clock_is_off_is_not_believed() {
        let answers = [snapshot(6_000, 6_004)];
        let (right, off) = (reply(5_895, 5_890), reply(5_850, 5_890));
        assert!(answer(Timestamp(6_000), &answers, &[&right]).is_some());
        assert!(answer(Timestamp(6_000), &answers, &[&off]).is_none());
        assert!(answer(Timestamp(6_000), &answers, &[&right, &off]).is_some(), "a reply repeated later is an old one");
    }
}
