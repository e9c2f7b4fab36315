//! The case: what was found, who looks at it, and how it ended.
//!
//! ```text
//! New ▸ Review ▸ Visit ▸ Confirmed | Cleared
//! ```
//! A review may also end a case without a visit, and a visit may send it back to review. Every change is one [`HistoryEntry`]
//! with who and when; an action that the state does not permit is refused and changes nothing. Not here: storage, permission
//! (who may act), and the control that a case may ask for.

use metering::{Timestamp, UsagePointId, ZoneId};
use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;

/// Most pieces of evidence one case keeps; the weakest go first.
pub const EVIDENCE_MAX: usize = 64;
/// Most history entries one case keeps; beyond it comments are refused and machine notes are not added.
pub const HISTORY_MAX: usize = 1_000;
/// Longest text of a comment or reason, bytes.
pub const TEXT_BYTES_MAX: usize = 4_000;

/// What a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseKind {
    /// Energy is missing in a zone; no usage point explains it beyond its threshold ("detected, not localised").
    MissingEnergy,
    /// Energy is missing and one usage point explains it.
    SuspectedTheft,
    /// A meter reported tampering.
    TamperSuspected,
    /// Meters report more than was supplied: tampered observer, wrong mapping or back-feed.
    SurplusEnergy,
}

impl CaseKind {
    /// The words shown to people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::MissingEnergy => "missing energy",
            Self::SuspectedTheft => "suspected theft",
            Self::TamperSuspected => "tamper suspected",
            Self::SurplusEnergy => "surplus energy",
        }
    }

    /// Whether such a case points at a usage point.
    pub const fn names_a_usage_point(self) -> bool {
        matches!(self, Self::SuspectedTheft | Self::TamperSuspected)
    }
}

/// Where a case stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseState {
    /// Opened, seen by nobody.
    New,
    /// Somebody looks at the evidence.
    Review,
    /// Somebody shall look on the spot.
    Visit,
    /// Ended: the suspicion was right.
    Confirmed,
    /// Ended: there was an honest explanation.
    Cleared,
}

impl CaseState {
    /// The word shown to people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Review => "review",
            Self::Visit => "visit",
            Self::Confirmed => "confirmed",
            Self::Cleared => "cleared",
        }
    }

    /// Whether the case has ended.
    pub const fn is_closed(self) -> bool {
        matches!(self, Self::Confirmed | Self::Cleared)
    }

    /// The states reachable by [`CaseAction::Move`]; the two ends are reached by [`CaseAction::Conclude`] only.
    pub const fn next(self) -> &'static [CaseState] {
        match self {
            Self::New => &[Self::Review, Self::Visit],
            Self::Review => &[Self::Visit],
            Self::Visit => &[Self::Review],
            Self::Confirmed | Self::Cleared => &[],
        }
    }
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The suspicion was right.
    Confirmed,
    /// There was an honest explanation.
    Cleared,
}

/// The outcome of an ended case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Right or not.
    pub verdict: Verdict,
    /// What was found, in words.
    pub reason: String,
    /// Energy found missing (confirmed) or explained (cleared), kWh; not negative.
    pub kwh: f64,
    /// Of it, what is recovered: billed to whoever used it, kWh; not negative.
    #[serde(default)]
    pub recovered_kwh: f64,
}

/// What somebody does with a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum CaseAction {
    /// Gives the case to somebody (or to nobody), with a due date (or none).
    Assign {
        /// Who looks at it.
        owner: Option<String>,
        /// Until when.
        due: Option<Timestamp>,
    },
    /// Moves the case to an open state.
    Move {
        /// The state to reach.
        to: CaseState,
    },
    /// Adds a remark.
    Comment {
        /// The remark.
        text: String,
    },
    /// Asks for a visit on the spot and says why; from New and Review the case moves to Visit.
    AskVisit {
        /// Why.
        reason: String,
    },
    /// Ends the case.
    Conclude {
        /// Right or not.
        verdict: Verdict,
        /// What was found.
        reason: String,
        /// Energy found missing or explained, kWh.
        #[serde(default)]
        kwh: f64,
        /// Of it, what is recovered, kWh.
        #[serde(default)]
        recovered_kwh: f64,
    },
}

/// What an entry of the history says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum HistoryWhat {
    /// The case was opened.
    Opened,
    /// Somebody acted.
    Acted(CaseAction),
    /// Evidence was added or replaced.
    EvidenceAdded {
        /// How many pieces.
        pieces: usize,
    },
    /// The kind or the usage point changed because the evidence changed.
    Reclassified {
        /// The kind before.
        from: CaseKind,
        /// The usage point before.
        usage_point: Option<UsagePointId>,
    },
    /// The imbalance ended by itself or after an action; the case stays for a person to close.
    ImbalanceEnded,
    /// The imbalance came back.
    ImbalanceReturned,
    /// A file was attached.
    Attached {
        /// Its number.
        attachment: u64,
        /// Its name.
        name: String,
        /// SHA-256 of its content, hexadecimal.
        sha256: String,
    },
    /// A written rule moved the case on.
    MovedByRule {
        /// The state reached.
        to: CaseState,
        /// The rule, in words.
        rule: String,
    },
}

/// One line of a case's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub at: Timestamp,
    /// Who: a person's name, or the name of the pipeline or policy.
    pub by: String,
    /// What.
    #[serde(flatten)]
    pub what: HistoryWhat,
}

/// Why an action on a case was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CaseError {
    /// The state does not permit it.
    #[error("a case in state '{}' cannot move to '{}': permitted from here {}", from.word(), to.word(), permitted(*from))]
    IllegalMove {
        /// Where it stands.
        from: CaseState,
        /// Where it should have gone.
        to: CaseState,
    },
    /// The case has ended.
    #[error("the case is closed ('{}'): open a new one if there is a new reason", .0.word())]
    Closed(CaseState),
    /// A case that nobody has looked at cannot be concluded.
    #[error("the case is new: move it to 'review' before it is concluded")]
    NotReviewed,
    /// A text is missing.
    #[error("{0} is empty: say in a few words what was found")]
    EmptyText(&'static str),
    /// A text is too long.
    #[error("{0} is longer than {TEXT_BYTES_MAX} bytes: attach a report instead")]
    LongText(&'static str),
    /// An energy is negative or not a number.
    #[error("{0} kWh is not an energy: give zero or more")]
    Energy(f64),
    /// More is recovered than was found.
    #[error("{recovered} kWh cannot be recovered of {found} kWh found: correct one of the two")]
    Recovered {
        /// Energy found, kWh.
        found: f64,
        /// Energy recovered, kWh.
        recovered: f64,
    },
    /// The kind and the usage point do not fit together.
    #[error("a case of kind '{}' {}", .0.word(), if .0.names_a_usage_point() { "needs a usage point" } else { "names a zone only, not a usage point" })]
    UsagePoint(CaseKind),
    /// The history is full.
    #[error("the case has {HISTORY_MAX} history entries: conclude it and open another")]
    HistoryFull,
}

fn permitted(from: CaseState) -> String {
    let mut words: Vec<_> = from.next().iter().map(|state| state.word()).collect();
    match from {
        CaseState::Review | CaseState::Visit => words.push("a conclusion (confirmed or cleared)"),
        CaseState::New | CaseState::Confirmed | CaseState::Cleared => {}
    }
    if words.is_empty() { "is nothing, it is closed".into() } else { format!("are {}", words.join(", ")) }
}

/// A usage point that may explain what is missing, as ranked when the case was last explained, with everything for and against it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankedSuspect {
    /// Who.
    pub usage_point: UsagePointId,
    /// The score it was ranked by; larger is more suspect.
    pub score: f64,
    /// Whether it passed a gate of [`crate::explain::ExplainConfig`].
    #[serde(default)]
    pub named: bool,
    /// Energy it may have caused to be missing since the onset, Wh.
    #[serde(default)]
    pub estimated_wh: f64,
    /// Standard deviation of what is missing in its zone over that time: no estimate is better, Wh.
    #[serde(default)]
    pub sigma_wh: f64,
    /// Over how long a time, hours; zero when not known.
    #[serde(default)]
    pub hours: f64,
    /// Events of its meter, the behaviour of its load, and rivals: for and against in one list, strongest first.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
}

impl RankedSuspect {
    /// A suspect of whom only the score is known.
    pub fn bare(usage_point: UsagePointId, score: f64) -> Self {
        Self { usage_point, score, named: false, estimated_wh: 0.0, sigma_wh: 0.0, hours: 0.0, evidence: Vec::new() }
    }
}

/// A case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Its number; zero until the store has given one.
    pub id: u64,
    /// What it is about.
    pub kind: CaseKind,
    /// Where.
    pub zone: ZoneId,
    /// The usage point it points at; `None` when only the zone is known.
    pub usage_point: Option<UsagePointId>,
    /// Where it stands.
    pub state: CaseState,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When, by estimate, what it is about began.
    pub onset: Option<Timestamp>,
    /// When the imbalance was found gone; `None` while it lasts.
    pub imbalance_ended: Option<Timestamp>,
    /// Who looks at it.
    pub owner: Option<String>,
    /// Until when.
    pub due: Option<Timestamp>,
    /// Reasons for and against, strongest first.
    pub evidence: Vec<Evidence>,
    /// Usage points ranked, most suspect first, whether or not one is named.
    #[serde(default)]
    pub suspects: Vec<RankedSuspect>,
    /// What happened, in time order.
    pub history: Vec<HistoryEntry>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

impl Case {
    /// Opens a case.
    ///
    /// # Errors
    /// [`CaseError::UsagePoint`] when the kind needs a usage point and none is given, or the reverse (a surplus may name one:
    /// a back-feed has a place).
    pub fn open(
        kind: CaseKind,
        zone: ZoneId,
        usage_point: Option<UsagePointId>,
        at: Timestamp,
        by: &str,
        evidence: Vec<Evidence>,
    ) -> Result<Self, CaseError> {
        check_usage_point(kind, usage_point)?;
        let mut case = Self {
            id: 0,
            kind,
            zone,
            usage_point,
            state: CaseState::New,
            opened_at: at,
            onset: None,
            imbalance_ended: None,
            owner: None,
            due: None,
            evidence,
            suspects: Vec::new(),
            history: vec![HistoryEntry { at, by: by.into(), what: HistoryWhat::Opened }],
            outcome: None,
        };
        case.sort_evidence();
        Ok(case)
    }

    /// Carries out what somebody does with the case, or refuses it and changes nothing.
    ///
    /// # Errors
    /// See [`CaseError`].
    pub fn apply(&mut self, action: CaseAction, by: &str, now: Timestamp) -> Result<(), CaseError> {
        let is_comment = matches!(action, CaseAction::Comment { .. });
        if self.state.is_closed() && !is_comment {
            return Err(CaseError::Closed(self.state));
        }
        let concludes = matches!(action, CaseAction::Conclude { .. });
        if self.history.len() >= HISTORY_MAX && !concludes {
            return Err(CaseError::HistoryFull);
        }
        match &action {
            CaseAction::Assign { owner, due } => {
                if let Some(owner) = owner {
                    check_text(owner, "the owner")?;
                }
                self.owner.clone_from(owner);
                self.due = *due;
            }
            CaseAction::Move { to } => {
                if !self.state.next().contains(to) {
                    return Err(CaseError::IllegalMove { from: self.state, to: *to });
                }
                self.state = *to;
            }
            CaseAction::Comment { text } => check_text(text, "the comment")?,
            CaseAction::AskVisit { reason } => {
                check_text(reason, "the reason")?;
                self.state = CaseState::Visit;
            }
            CaseAction::Conclude { verdict, reason, kwh, recovered_kwh } => {
                self.conclude(*verdict, reason, *kwh, *recovered_kwh)?;
            }
        }
        self.history.push(HistoryEntry { at: now, by: by.into(), what: HistoryWhat::Acted(action) });
        Ok(())
    }

    fn conclude(&mut self, verdict: Verdict, reason: &str, kwh: f64, recovered_kwh: f64) -> Result<(), CaseError> {
        if self.state == CaseState::New {
            return Err(CaseError::NotReviewed);
        }
        check_text(reason, "the reason")?;
        if let Some(wrong) = [kwh, recovered_kwh].into_iter().find(|energy| !energy.is_finite() || *energy < 0.0) {
            return Err(CaseError::Energy(wrong));
        }
        if recovered_kwh > kwh {
            return Err(CaseError::Recovered { found: kwh, recovered: recovered_kwh });
        }
        self.state = match verdict {
            Verdict::Confirmed => CaseState::Confirmed,
            Verdict::Cleared => CaseState::Cleared,
        };
        self.outcome = Some(Outcome { verdict, reason: reason.into(), kwh, recovered_kwh });
        Ok(())
    }

    /// Adds evidence to an open case; a piece replaces an earlier one of the same kind and direction.
    ///
    /// # Errors
    /// [`CaseError::Closed`] when the case has ended.
    pub fn add_evidence(&mut self, evidence: Vec<Evidence>, by: &str, now: Timestamp) -> Result<(), CaseError> {
        self.check_open()?;
        let pieces = evidence.len();
        self.evidence.retain(|old| !evidence.iter().any(|new| new.kind == old.kind && new.direction == old.direction));
        self.evidence.extend(evidence);
        self.sort_evidence();
        self.note(HistoryWhat::EvidenceAdded { pieces }, by, now);
        Ok(())
    }

    /// Replaces evidence of an open case by the same kinds computed anew. The numbers change, the case does not: only a piece that was
    /// not there before is worth a line of the history.
    ///
    /// # Errors
    /// [`CaseError::Closed`] when the case has ended.
    pub fn refresh_evidence(&mut self, evidence: Vec<Evidence>, by: &str, now: Timestamp) -> Result<(), CaseError> {
        self.check_open()?;
        let known =
            |new: &Evidence| self.evidence.iter().any(|old| old.kind == new.kind && old.direction == new.direction);
        if evidence.iter().all(known) {
            self.evidence
                .retain(|old| !evidence.iter().any(|new| new.kind == old.kind && new.direction == old.direction));
            self.evidence.extend(evidence);
            self.sort_evidence();
            return Ok(());
        }
        self.add_evidence(evidence, by, now)
    }

    /// Changes kind and usage point of an open case because the evidence changed.
    ///
    /// # Errors
    /// [`CaseError::Closed`] or [`CaseError::UsagePoint`].
    pub fn reclassify(
        &mut self,
        kind: CaseKind,
        usage_point: Option<UsagePointId>,
        by: &str,
        now: Timestamp,
    ) -> Result<(), CaseError> {
        self.check_open()?;
        check_usage_point(kind, usage_point)?;
        if (kind, usage_point) != (self.kind, self.usage_point) {
            let before = HistoryWhat::Reclassified { from: self.kind, usage_point: self.usage_point };
            (self.kind, self.usage_point) = (kind, usage_point);
            self.note(before, by, now);
        }
        Ok(())
    }

    /// Records that the imbalance is gone; the case stays open for a person to conclude.
    pub fn imbalance_ended(&mut self, by: &str, now: Timestamp) {
        if self.imbalance_ended.is_none() && !self.state.is_closed() {
            self.imbalance_ended = Some(now);
            self.note(HistoryWhat::ImbalanceEnded, by, now);
        }
    }

    /// Records that the imbalance is back.
    pub fn imbalance_returned(&mut self, by: &str, now: Timestamp) {
        if self.imbalance_ended.take().is_some() {
            self.note(HistoryWhat::ImbalanceReturned, by, now);
        }
    }

    /// Moves a case that nobody has looked at to review, because of a written rule; any other stays where it is.
    pub fn review_by_rule(&mut self, rule: &str, by: &str, now: Timestamp) {
        if self.state == CaseState::New {
            self.state = CaseState::Review;
            self.note(HistoryWhat::MovedByRule { to: CaseState::Review, rule: rule.into() }, by, now);
        }
    }

    /// Notes that a file was attached; possible in every state, as reports come late.
    ///
    /// # Errors
    /// [`CaseError::HistoryFull`].
    pub fn attached(
        &mut self,
        attachment: u64,
        name: &str,
        sha256: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<(), CaseError> {
        if self.history.len() >= HISTORY_MAX {
            return Err(CaseError::HistoryFull);
        }
        self.note(HistoryWhat::Attached { attachment, name: name.into(), sha256: sha256.into() }, by, now);
        Ok(())
    }

    /// Whether it is open past its due date.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        // Due until the end of the day.
        !self.state.is_closed() && self.due.is_some_and(|due| now >= due.plus(86_400))
    }

    /// Sum of the signed weights of all evidence (nats): for ranking only.
    pub fn weight(&self) -> f64 {
        self.evidence.iter().map(Evidence::signed_weight).sum()
    }

    fn check_open(&self) -> Result<(), CaseError> {
        if self.state.is_closed() { Err(CaseError::Closed(self.state)) } else { Ok(()) }
    }

    fn note(&mut self, what: HistoryWhat, by: &str, at: Timestamp) {
        if self.history.len() < HISTORY_MAX {
            self.history.push(HistoryEntry { at, by: by.into(), what });
        }
    }

    fn sort_evidence(&mut self) {
        self.evidence.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        self.evidence.truncate(EVIDENCE_MAX);
    }
}

fn check_usage_point(kind: CaseKind, usage_point: Option<UsagePointId>) -> Result<(), CaseError> {
    let fits = match kind {
        CaseKind::SuspectedTheft | CaseKind::TamperSuspected => usage_point.is_some(),
        CaseKind::MissingEnergy => usage_point.is_none(),
        CaseKind::SurplusEnergy => true,
    };
    if fits { Ok(()) } else { Err(CaseError::UsagePoint(kind)) }
}

fn check_text(text: &str, what: &'static str) -> Result<(), CaseError> {
    if text.trim().is_empty() {
        Err(CaseError::EmptyText(what))
    } else if text.len() > TEXT_BYTES_MAX {
        Err(CaseError::LongText(what))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Case {
        let zone = ZoneId::new("T-1").expect("id");
        Case::open(CaseKind::MissingEnergy, zone, None, Timestamp(1_000), "balance", vec![]).expect("opens")
    }

    #[test]
    fn a_case_walks_to_its_outcome_and_keeps_its_history() {
        let mut case = case();
        let due = Some(Timestamp(9_000));
        for action in [
            CaseAction::Assign { owner: Some("asha".into()), due },
            CaseAction::Move { to: CaseState::Review },
            CaseAction::AskVisit { reason: "supply still present after disconnection".into() },
            CaseAction::Conclude {
                verdict: Verdict::Confirmed,
                reason: "wire around the meter".into(),
                kwh: 120.5,
                recovered_kwh: 100.0,
            },
        ] {
            case.apply(action, "asha", Timestamp(2_000)).expect("permitted");
        }
        assert_eq!((case.state, case.history.len(), case.due), (CaseState::Confirmed, 5, due));
        assert_eq!(case.outcome.as_ref().map(|o| o.kwh), Some(120.5));
        assert_eq!(
            case.apply(CaseAction::Move { to: CaseState::Review }, "asha", Timestamp(3_000)),
            Err(CaseError::Closed(CaseState::Confirmed))
        );
        case.apply(CaseAction::Comment { text: "paid".into() }, "asha", Timestamp(3_000))
            .expect("comment stays possible");
        let json = serde_json::to_string(&case).expect("json");
        assert_eq!(serde_json::from_str::<Case>(&json).expect("back"), case);
    }

    #[test]
    fn illegal_moves_are_refused_with_words_and_change_nothing() {
        let mut case = case();
        let before = case.clone();
        let conclude = |kwh| CaseAction::Conclude {
            verdict: Verdict::Cleared,
            reason: "vacant".into(),
            kwh,
            recovered_kwh: if kwh > 100.0 { kwh + 1.0 } else { 0.0 },
        };
        let refused = [
            (conclude(1.0), CaseError::NotReviewed),
            (
                CaseAction::Move { to: CaseState::Confirmed },
                CaseError::IllegalMove { from: CaseState::New, to: CaseState::Confirmed },
            ),
            (CaseAction::Comment { text: " ".into() }, CaseError::EmptyText("the comment")),
        ];
        for (action, error) in refused {
            assert_eq!(case.apply(action, "asha", Timestamp(2_000)), Err(error));
        }
        assert_eq!(case, before);
        case.apply(CaseAction::Move { to: CaseState::Review }, "asha", Timestamp(2_000)).expect("permitted");
        assert_eq!(case.apply(conclude(-1.0), "asha", Timestamp(2_000)), Err(CaseError::Energy(-1.0)));
        let more = Err(CaseError::Recovered { found: 200.0, recovered: 201.0 });
        assert_eq!(case.apply(conclude(200.0), "asha", Timestamp(2_000)), more);
        let text = CaseError::IllegalMove { from: CaseState::Review, to: CaseState::New }.to_string();
        assert_eq!(
            text,
            "a case in state 'review' cannot move to 'new': permitted from here are visit, a conclusion (confirmed or cleared)"
        );
    }

    #[test]
    fn a_rule_moves_new_cases_only_and_files_are_noted() {
        let mut case = case();
        case.review_by_rule("supply is off", "pipeline", Timestamp(2_000));
        assert_eq!((case.state, case.history.len()), (CaseState::Review, 2));
        case.apply(CaseAction::Move { to: CaseState::Visit }, "asha", Timestamp(2_000)).expect("permitted");
        case.review_by_rule("supply is off", "pipeline", Timestamp(2_000));
        assert_eq!((case.state, case.history.len()), (CaseState::Visit, 3));
        case.attached(7, "seal.jpg", "00ff", "asha", Timestamp(3_000)).expect("noted");
        assert!(matches!(&case.history[3].what, HistoryWhat::Attached { attachment: 7, .. }));
        case.apply(CaseAction::Assign { owner: None, due: Some(Timestamp(86_400)) }, "asha", Timestamp(0))
            .expect("set");
        assert!(!case.is_overdue(Timestamp(2 * 86_400 - 1)) && case.is_overdue(Timestamp(2 * 86_400)));
    }

    #[test]
    fn kind_and_usage_point_belong_together() {
        let zone = ZoneId::new("T-1").expect("id");
        let point = UsagePointId::new("UP-1").ok();
        assert!(Case::open(CaseKind::SuspectedTheft, zone, None, Timestamp(0), "x", vec![]).is_err());
        assert!(Case::open(CaseKind::MissingEnergy, zone, point, Timestamp(0), "x", vec![]).is_err());
        let mut case = case();
        case.reclassify(CaseKind::SuspectedTheft, point, "balance", Timestamp(5)).expect("fits");
        assert_eq!((case.kind, case.usage_point), (CaseKind::SuspectedTheft, point));
        case.imbalance_ended("balance", Timestamp(6));
        case.imbalance_returned("balance", Timestamp(7));
        assert_eq!(case.history.len(), 4);
    }
}
