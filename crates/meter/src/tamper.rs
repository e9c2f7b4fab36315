//! Detecting interference: one table of rules, one engine with persistence. A fuller set adds rows.
//!
//! Each rule judges the inputs; it becomes active when the condition has been present without a break for `on_ms`, and ends
//! when it has been absent for `off_ms`. Defaults are typical annexes of utilities' tenders and differ between them.

use metering::EventKind;

use crate::inputs::Inputs;

/// What rules compare with; thresholds differ between utilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Nominal voltage, mV.
    pub nominal_mv: u32,
    /// Basic current Ib, mA.
    pub basic_ma: u32,
    /// Phase and neutral are compared when the larger is above this, mA.
    pub bypass_floor_ma: u32,
    /// They differ when the difference is above this part of the larger, thousandths.
    pub bypass_permille: u32,
    /// Whether the connection may export (generation licence): then reverse current is no tamper.
    pub may_export: bool,
}

impl Default for Thresholds {
    /// 230 V, 10 A, 0.5 A, 6 %.
    fn default() -> Self {
        Self { nominal_mv: 230_000, basic_ma: 10_000, bypass_floor_ma: 500, bypass_permille: 60, may_export: false }
    }
}

/// One kind of interference.
pub struct Rule {
    /// Event when it begins.
    pub on: EventKind,
    /// Event when it ends; `None` = it is latched and never ends.
    pub off: Option<EventKind>,
    /// How long it must be present, ms.
    pub on_ms: u64,
    /// How long it must be absent, ms.
    pub off_ms: u64,
    /// Whether it is present in these inputs.
    pub present: fn(&Inputs, &Thresholds) -> bool,
}

/// Every rule, in the order of their events.
pub const RULES: [Rule; 5] = [
    Rule { on: EventKind::CoverOpen, off: None, on_ms: 0, off_ms: 0, present: |i, _| i.cover_open },
    Rule {
        on: EventKind::Magnet,
        off: Some(EventKind::MagnetEnd),
        on_ms: 10_000,
        off_ms: 60_000,
        present: |i, _| i.magnet,
    },
    Rule {
        on: EventKind::Bypass,
        off: Some(EventKind::BypassEnd),
        on_ms: 60_000,
        off_ms: 120_000,
        present: phase_and_neutral_differ,
    },
    Rule {
        on: EventKind::NeutralMissing,
        off: Some(EventKind::NeutralMissingEnd),
        on_ms: 60_000,
        off_ms: 60_000,
        present: |i, t| i.voltage.0 < t.nominal_mv / 2 && i.current.0 > t.basic_ma / 20,
    },
    Rule {
        on: EventKind::ReverseCurrent,
        off: Some(EventKind::ReverseCurrentEnd),
        on_ms: 120_000,
        off_ms: 120_000,
        present: power_flows_back,
    },
];

fn phase_and_neutral_differ(inputs: &Inputs, thresholds: &Thresholds) -> bool {
    let Some(neutral) = inputs.neutral else { return false };
    let larger = inputs.current.0.max(neutral.0);
    let difference = inputs.current.0.abs_diff(neutral.0);
    larger > thresholds.bypass_floor_ma
        && u64::from(difference) * 1_000 > u64::from(larger) * u64::from(thresholds.bypass_permille)
}

fn power_flows_back(inputs: &Inputs, thresholds: &Thresholds) -> bool {
    // 5 % of Ib at nominal voltage, in milliwatts
    let limit = i64::from(thresholds.basic_ma) * i64::from(thresholds.nominal_mv) / 20_000;
    !thresholds.may_export && inputs.active_mw < -limit
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RuleState {
    active: bool,
    /// How long the condition has been the opposite of `active`, ms.
    contrary_ms: u64,
}

/// The engine: one state per rule, kept through power failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TamperEngine {
    states: [RuleState; RULES.len()],
    cover_was_open: bool,
}

impl TamperEngine {
    /// Judges the inputs of a window of `elapsed_ms` and gives the events they raise.
    pub fn step(
        &mut self,
        elapsed_ms: u64,
        inputs: &Inputs,
        thresholds: &Thresholds,
    ) -> impl Iterator<Item = EventKind> + use<> {
        let mut raised = [None; RULES.len()];
        for ((rule, state), event) in RULES.iter().zip(&mut self.states).zip(&mut raised) {
            let present = (rule.present)(inputs, thresholds);
            if present == state.active {
                state.contrary_ms = 0;
                continue;
            }
            state.contrary_ms = state.contrary_ms.saturating_add(elapsed_ms);
            if !state.active && state.contrary_ms >= rule.on_ms {
                *state = RuleState { active: true, contrary_ms: 0 };
                *event = Some(rule.on);
            } else if let Some(off) = rule.off
                && state.active
                && state.contrary_ms >= rule.off_ms
            {
                *state = RuleState::default();
                *event = Some(off);
            }
        }
        // the latch stays, but every further opening is told again
        if inputs.cover_open && !self.cover_was_open && self.states[0].active && raised[0].is_none() {
            raised[0] = Some(EventKind::CoverOpen);
        }
        self.cover_was_open = inputs.cover_open;
        raised.into_iter().flatten()
    }

    /// Whether a condition that shows in profile records is active: any that can end, or an open cover.
    pub fn is_active(&self) -> bool {
        self.cover_was_open || RULES.iter().zip(&self.states).any(|(rule, state)| rule.off.is_some() && state.active)
    }

    /// Whether the cover has ever been open.
    pub fn cover_latched(&self) -> bool {
        self.states[0].active
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use metering::{Milliamps, Millivolts};

    use super::*;

    /// Events by step of ten seconds.
    fn events(steps: &[Inputs]) -> Vec<(usize, EventKind)> {
        let mut engine = TamperEngine::default();
        let step = |(i, inputs)| engine.step(10_000, inputs, &Thresholds::default()).map(move |e| (i, e)).collect();
        steps.iter().enumerate().map(step).collect::<Vec<Vec<_>>>().concat()
    }

    #[test]
    fn each_rule_needs_its_persistence_and_ends_after_its_own() {
        let calm = Inputs::default();
        let bypass = Inputs { current: Milliamps(300), neutral: Some(Milliamps(5_000)), ..calm };
        let mut steps = vec![bypass; 5];
        steps.push(calm);
        steps.extend([bypass; 6]);
        steps.extend([calm; 12]);
        assert_eq!(events(&steps), [(11, EventKind::Bypass), (23, EventKind::BypassEnd)]);

        let reverse = Inputs { active_mw: -200_000, current: Milliamps(900), neutral: Some(Milliamps(900)), ..calm };
        assert_eq!(events(&[reverse; 13]), [(11, EventKind::ReverseCurrent)]);
        let magnet = Inputs { magnet: true, ..calm };
        assert_eq!(events(&[magnet]), [(0, EventKind::Magnet)]);
        let dead =
            Inputs { voltage: Millivolts(10_000), current: Milliamps(4_000), neutral: Some(Milliamps(4_000)), ..calm };
        assert_eq!(events(&[dead; 7]), [(5, EventKind::NeutralMissing)]);
    }

    #[test]
    fn an_open_cover_is_told_at_once_and_stays_latched() {
        let calm = Inputs::default();
        let open = Inputs { cover_open: true, ..calm };
        assert_eq!(events(&[calm, open, open, calm, open]), [(1, EventKind::CoverOpen), (4, EventKind::CoverOpen)]);
        let mut engine = TamperEngine::default();
        assert_eq!(engine.step(0, &open, &Thresholds::default()).count(), 1);
        assert_eq!(engine.step(0, &calm, &Thresholds::default()).count(), 0);
        assert!(engine.cover_latched() && !engine.is_active());
    }

    #[test]
    fn balanced_currents_and_small_ones_raise_nothing() {
        let calm = Inputs::default();
        let balanced = Inputs { current: Milliamps(10_000), neutral: Some(Milliamps(9_500)), ..calm };
        let small = Inputs { current: Milliamps(0), neutral: Some(Milliamps(400)), ..calm };
        let blind = Inputs { current: Milliamps(10_000), neutral: None, ..calm };
        assert!(events(&[[balanced; 10], [small; 10], [blind; 10]].concat()).is_empty());
    }
}
