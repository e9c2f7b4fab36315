//! Detecting interference and bad supply: one table of rules, one engine with persistence.
//!
//! Each rule judges the inputs of one window; it becomes active when the condition has been present without a break for its
//! `on_ms`, and ends when it has been absent for `off_ms`. Thresholds and times are typical annexes of utilities' tenders and
//! differ between them: all of them are data ([`Thresholds`]). Of each rule only so many occurrences a day are told; more
//! are counted.
//!
//! It is not: a judgement about a person. Nothing here moves a relay.

use alloc::vec::Vec;

use metering::{EventKind, Watts};
use minicbor::{Decode, Encode};

use crate::inputs::Inputs;

/// Occurrences of one rule that are told in a day of running time; further ones are counted only.
pub const TOLD_PER_DAY_MAX: u8 = 24;
const DAY_MS: u64 = 86_400_000;

/// How long a condition must last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// How long it must be present to begin, ms.
    pub on_ms: u64,
    /// How long it must be absent to end, ms.
    pub off_ms: u64,
}

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
    /// Voltage above this part of nominal is over-voltage, thousandths.
    pub over_voltage_permille: u32,
    /// Voltage below this part of nominal is low voltage, thousandths.
    pub low_voltage_permille: u32,
    /// Voltage below this part of nominal without current is a power failure, thousandths.
    pub power_fail_permille: u32,
    /// Voltage below this part of nominal although current flows is a missing neutral, thousandths.
    pub neutral_missing_permille: u32,
    /// Current above this is over-current, mA (110 % of Imax 60 A).
    pub over_current_ma: u32,
    /// Sanctioned load; `None` = no overload rule.
    pub sanctioned: Option<Watts>,
    /// Import above this part of the sanctioned load is an overload, thousandths.
    pub overload_permille: u32,
    /// A power factor below this in size is very low, thousandths.
    pub low_power_factor_permille: u16,
    /// Frequencies outside are a disturbance, mHz: lowest and highest.
    pub frequency_mhz: (u32, u32),
    /// Distortion of the voltage above this is a disturbance, thousandths.
    pub thd_permille: i16,
    /// Direct current in the phase above this part of its rms is a disturbance, thousandths.
    pub current_dc_permille: i16,
    /// A zero of the current sensor moved by more, with a quiet neutral, is a magnet, thousandths of full scale.
    pub zero_shift_permille: i16,
    /// Persistence of each rule, in the order of [`RULES`].
    pub persistence: [Persistence; RULES.len()],
}

impl Default for Thresholds {
    /// 230 V, 10 A, and the values of the rule table.
    fn default() -> Self {
        Self {
            nominal_mv: 230_000,
            basic_ma: 10_000,
            bypass_floor_ma: 500,
            bypass_permille: 60,
            may_export: false,
            over_voltage_permille: 1_150,
            low_voltage_permille: 750,
            power_fail_permille: 600,
            neutral_missing_permille: 500,
            over_current_ma: 66_000,
            sanctioned: None,
            overload_permille: 1_050,
            low_power_factor_permille: 500,
            frequency_mhz: (47_000, 53_000),
            thd_permille: 250,
            current_dc_permille: 100,
            zero_shift_permille: 50,
            persistence: RULES.map(|rule| rule.persistence),
        }
    }
}

impl Thresholds {
    /// 5 % of the basic current, mA: below it nothing is concluded from a current.
    const fn significant_ma(&self) -> u32 {
        self.basic_ma / 20
    }

    fn is_below(&self, inputs: &Inputs, permille: u32) -> bool {
        u64::from(inputs.voltage.0) * 1_000 < u64::from(self.nominal_mv) * u64::from(permille)
    }

    fn is_above(&self, inputs: &Inputs, permille: u32) -> bool {
        u64::from(inputs.voltage.0) * 1_000 > u64::from(self.nominal_mv) * u64::from(permille)
    }
}

/// One kind of interference.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Event when it begins.
    pub on: EventKind,
    /// Event when it ends; `None` = it is latched and never ends.
    pub off: Option<EventKind>,
    /// How long it must last, by default.
    pub persistence: Persistence,
    /// Whether it is present in these inputs.
    pub present: fn(&Inputs, &Thresholds) -> bool,
}

const fn rule(
    on: EventKind,
    off: EventKind,
    on_ms: u64,
    off_ms: u64,
    present: fn(&Inputs, &Thresholds) -> bool,
) -> Rule {
    Rule { on, off: Some(off), persistence: Persistence { on_ms, off_ms }, present }
}

const MINUTE: u64 = 60_000;

use EventKind as E;

/// Every rule. The first is the latched cover.
pub const RULES: [Rule; 13] = [
    Rule {
        on: E::CoverOpen,
        off: None,
        persistence: Persistence { on_ms: 0, off_ms: 0 },
        present: |i, _| i.cover_open,
    },
    rule(E::Magnet, E::MagnetEnd, 10_000, MINUTE, magnet_is_near),
    rule(E::Bypass, E::BypassEnd, MINUTE, 2 * MINUTE, |i, t| differs(i, t, |phase, neutral| neutral > phase)),
    rule(E::EarthLoad, E::EarthLoadEnd, MINUTE, 2 * MINUTE, |i, t| differs(i, t, |phase, neutral| phase > neutral)),
    rule(E::NeutralMissing, E::NeutralMissingEnd, MINUTE, MINUTE, neutral_is_missing),
    rule(E::ReverseCurrent, E::ReverseCurrentEnd, 2 * MINUTE, 2 * MINUTE, power_flows_back),
    rule(E::OverVoltage, E::OverVoltageEnd, 5 * MINUTE, 5 * MINUTE, |i, t| t.is_above(i, t.over_voltage_permille)),
    rule(E::LowVoltage, E::LowVoltageEnd, 5 * MINUTE, 5 * MINUTE, |i, t| {
        t.is_below(i, t.low_voltage_permille) && !power_has_failed(i, t) && !neutral_is_missing(i, t)
    }),
    rule(E::OverCurrent, E::OverCurrentEnd, 5 * MINUTE, 5 * MINUTE, |i, t| i.current.0 > t.over_current_ma),
    rule(E::Overload, E::OverloadEnd, 5 * MINUTE, 5 * MINUTE, load_is_above_sanction),
    rule(E::LowPowerFactor, E::LowPowerFactorEnd, 30 * MINUTE, 5 * MINUTE, power_factor_is_low),
    rule(E::NeutralDisturbance, E::NeutralDisturbanceEnd, 10_000, MINUTE, supply_is_disturbed),
    // two cycles; the meter's hold-up must do the rest
    rule(E::PowerFail, E::PowerRestore, 40, 1_000, power_has_failed),
];

/// A magnet sensor, or a current sensor's zero that moved while the neutral carries nothing.
fn magnet_is_near(inputs: &Inputs, thresholds: &Thresholds) -> bool {
    let is_quiet = inputs.neutral.is_some_and(|neutral| neutral.0 <= thresholds.bypass_floor_ma);
    inputs.magnet || (is_quiet && inputs.zero_shift.0.saturating_abs() > thresholds.zero_shift_permille)
}

/// Phase and neutral differ; which of them must be the larger tells a bypass of the phase from a load through earth.
fn differs(inputs: &Inputs, thresholds: &Thresholds, order: fn(u32, u32) -> bool) -> bool {
    let Some(neutral) = inputs.neutral else { return false };
    let larger = inputs.current.0.max(neutral.0);
    let difference = inputs.current.0.abs_diff(neutral.0);
    larger > thresholds.bypass_floor_ma
        && u64::from(difference) * 1_000 > u64::from(larger) * u64::from(thresholds.bypass_permille)
        && order(inputs.current.0, neutral.0)
}

fn neutral_is_missing(inputs: &Inputs, thresholds: &Thresholds) -> bool {
    thresholds.is_below(inputs, thresholds.neutral_missing_permille) && inputs.current.0 > thresholds.significant_ma()
}

fn power_has_failed(inputs: &Inputs, thresholds: &Thresholds) -> bool {
    thresholds.is_below(inputs, thresholds.power_fail_permille) && inputs.current.0 <= thresholds.significant_ma()
}

fn power_flows_back(inputs: &Inputs, thresholds: &Thresholds) -> bool {
    // 5 % of Ib at nominal voltage, in milliwatts
    let limit = i64::from(thresholds.basic_ma) * i64::from(thresholds.nominal_mv) / 20_000;
    !thresholds.may_export && inputs.active_mw < -limit
}

fn load_is_above_sanction(inputs: &Inputs, thresholds: &Thresholds) -> bool {
    // watts times thousandths are milliwatts
    let limit_mw = |watts: Watts| i64::from(watts.0) * i64::from(thresholds.overload_permille);
    thresholds.sanctioned.is_some_and(|watts| inputs.active_mw > limit_mw(watts))
}

fn power_factor_is_low(inputs: &Inputs, thresholds: &Thresholds) -> bool {
    let is_live = !thresholds.is_below(inputs, thresholds.power_fail_permille);
    let is_low = inputs.power_factor.0.unsigned_abs() < thresholds.low_power_factor_permille;
    is_live && is_low && inputs.current.0 > thresholds.significant_ma()
}

fn supply_is_disturbed(inputs: &Inputs, thresholds: &Thresholds) -> bool {
    let (lowest, highest) = thresholds.frequency_mhz;
    let is_odd =
        inputs.frequency.0 < lowest || inputs.frequency.0 > highest || inputs.voltage_thd.0 > thresholds.thd_permille;
    let has_direct_current = inputs.current.0 > thresholds.significant_ma()
        && inputs.current_dc.0.saturating_abs() > thresholds.current_dc_permille;
    !thresholds.is_below(inputs, thresholds.power_fail_permille) && (is_odd || has_direct_current)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
struct RuleState {
    #[n(0)]
    active: bool,
    /// Whether its beginning was told; then its end is told too.
    #[n(1)]
    told: bool,
    /// How long the condition has been the opposite of `active`, ms.
    #[n(2)]
    contrary_ms: u64,
    /// Occurrences told in the running day.
    #[n(3)]
    told_today: u8,
    /// Occurrences ever.
    #[n(4)]
    count: u32,
}

/// The engine: one state per rule, kept through power failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TamperEngine {
    states: [RuleState; RULES.len()],
    cover_was_open: bool,
    day_ms: u64,
}

impl TamperEngine {
    /// Judges the inputs of a window of `elapsed_ms` and gives the events they raise.
    pub fn step(
        &mut self,
        elapsed_ms: u64,
        inputs: &Inputs,
        thresholds: &Thresholds,
    ) -> impl Iterator<Item = EventKind> + use<> {
        self.day_ms = self.day_ms.saturating_add(elapsed_ms);
        if self.day_ms >= DAY_MS {
            self.day_ms %= DAY_MS;
            self.states.iter_mut().for_each(|state| state.told_today = 0);
        }
        let mut raised = [None; RULES.len()];
        for (n, rule) in RULES.iter().enumerate() {
            let present = (rule.present)(inputs, thresholds);
            raised[n] = judge(rule, thresholds.persistence[n], &mut self.states[n], present, elapsed_ms);
        }
        // the latch stays, but every further opening is told again
        let cover = &mut self.states[0];
        if inputs.cover_open && !self.cover_was_open && cover.active && raised[0].is_none() {
            raised[0] = begin(cover).then_some(EventKind::CoverOpen);
        }
        self.cover_was_open = inputs.cover_open;
        raised.into_iter().flatten()
    }

    /// The supply fails: what the last gasp says, unless it was said already.
    pub fn power_fails(&mut self) -> Option<EventKind> {
        let place = RULES.iter().position(|rule| rule.on == EventKind::PowerFail)?;
        let state = &mut self.states[place];
        if state.active {
            return None;
        }
        (state.active, state.contrary_ms) = (true, 0);
        begin(state).then_some(EventKind::PowerFail)
    }

    /// Whether a sign of tampering is present that shows in profile records: any that can end, or an open cover.
    pub fn is_active(&self) -> bool {
        let rules = RULES.iter().zip(&self.states);
        self.cover_was_open || rules.into_iter().any(|(r, s)| r.off.is_some() && r.on.is_tamper() && s.active)
    }

    /// Whether this kind has begun and not ended.
    pub fn is_present(&self, kind: EventKind) -> bool {
        RULES.iter().zip(&self.states).any(|(rule, state)| rule.on == kind && state.active)
    }

    /// Kinds that have begun and not ended, in the order of [`RULES`]; the latched cover among them.
    pub fn present(&self) -> impl Iterator<Item = EventKind> + '_ {
        RULES.iter().zip(&self.states).filter(|(_, state)| state.active).map(|(rule, _)| rule.on)
    }

    /// Occurrences of a kind, ever, told or not.
    pub fn count(&self, kind: EventKind) -> u32 {
        RULES.iter().zip(&self.states).find(|(rule, _)| rule.on == kind).map_or(0, |(_, state)| state.count)
    }

    /// Whether the cover has ever been open.
    pub fn cover_latched(&self) -> bool {
        self.states[0].active
    }
}

/// One rule, one window.
fn judge(
    rule: &Rule,
    persistence: Persistence,
    state: &mut RuleState,
    present: bool,
    elapsed_ms: u64,
) -> Option<EventKind> {
    if present == state.active {
        state.contrary_ms = 0;
        return None;
    }
    state.contrary_ms = state.contrary_ms.saturating_add(elapsed_ms);
    if !state.active && state.contrary_ms >= persistence.on_ms {
        (state.active, state.contrary_ms) = (true, 0);
        return begin(state).then_some(rule.on);
    }
    if state.active && rule.off.is_some() && state.contrary_ms >= persistence.off_ms {
        (state.active, state.contrary_ms) = (false, 0);
        return if state.told { rule.off } else { None };
    }
    None
}

/// Counts an occurrence; whether it is told.
fn begin(state: &mut RuleState) -> bool {
    state.count = state.count.saturating_add(1);
    state.told = state.told_today < TOLD_PER_DAY_MAX;
    if state.told {
        state.told_today += 1;
    }
    state.told
}

impl<C> Encode<C> for TamperEngine {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(3)?.encode_with(&self.states[..], context)?.bool(self.cover_was_open)?.u64(self.day_ms)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for TamperEngine {
    /// States of rules that this version does not have are dropped, those it did not have before begin afresh.
    fn decode(d: &mut minicbor::Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.array()?;
        let read: Vec<RuleState> = d.decode_with(context)?;
        let mut engine = Self { cover_was_open: d.bool()?, day_ms: d.u64()?, ..Self::default() };
        engine.states.iter_mut().zip(read).for_each(|(state, was)| *state = was);
        Ok(engine)
    }
}
