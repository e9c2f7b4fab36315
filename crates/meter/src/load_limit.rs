//! The load limit: opens the relay when the load stays above a limit, tries again, and gives up for a while.
//!
//! Defaults after a published meter manual: 300 s above the limit open; five tries a minute apart; then half an hour of lock-out,
//! and from the beginning.

use metering::{Watts, frame::RelayState};

use crate::{
    inputs::{Inputs, Uptime},
    relay::{OpenReason, Relay},
};

/// Times and tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadLimitRules {
    /// How long the load must stay above the limit, ms.
    pub above_ms: u64,
    /// Pause before a try, ms.
    pub retry_ms: u64,
    /// Tries before the lock-out.
    pub tries_max: u8,
    /// Length of the lock-out, ms.
    pub lockout_ms: u64,
    /// How long the load must stay below after a try before the tries are forgotten, ms.
    pub calm_ms: u64,
}

impl Default for LoadLimitRules {
    fn default() -> Self {
        Self { above_ms: 300_000, retry_ms: 60_000, tries_max: 5, lockout_ms: 1_800_000, calm_ms: 600_000 }
    }
}

/// The load limit and where it stands. The limit itself is kept through power failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadLimit {
    limit: Option<Watts>,
    above_ms: u64,
    below_ms: u64,
    tries: u8,
    opened_at: Uptime,
}

impl LoadLimit {
    /// Begins with a limit (after a start: the one remembered).
    pub fn start(limit: Option<Watts>, uptime: Uptime) -> Self {
        Self { limit, above_ms: 0, below_ms: 0, tries: 0, opened_at: uptime }
    }

    /// The limit in force.
    pub fn limit(&self) -> Option<Watts> {
        self.limit
    }

    /// Sets or lifts the limit.
    pub fn set(&mut self, limit: Option<Watts>) {
        self.limit = limit;
        (self.above_ms, self.below_ms, self.tries) = (0, 0, 0);
    }

    /// Milliseconds until it opens if the load stays as it is; `None` when the load is within the limit.
    pub fn opens_in_ms(&self, rules: &LoadLimitRules) -> Option<u64> {
        (self.above_ms > 0).then(|| rules.above_ms.saturating_sub(self.above_ms))
    }

    /// One window. Gives the reason when it asks the relay to open.
    pub fn step(
        &mut self,
        rules: &LoadLimitRules,
        relay: &mut Relay,
        at: (Uptime, u64, i64),
        inputs: &Inputs,
    ) -> Option<OpenReason> {
        let (uptime, elapsed_ms, day) = at;
        match relay.state() {
            RelayState::Closed if !relay.is_busy() => self.watch(rules, relay, (uptime, elapsed_ms), inputs),
            RelayState::OpenLimit | RelayState::Locked => {
                let pause = match (self.limit, relay.state()) {
                    (None, _) => 0,
                    (Some(_), RelayState::Locked) => rules.lockout_ms,
                    (Some(_), _) => rules.retry_ms,
                };
                if uptime.since(self.opened_at) >= pause && relay.retry_after_limit(inputs, day) {
                    if relay.state() == RelayState::Locked {
                        self.tries = 0;
                    }
                    (self.above_ms, self.below_ms) = (0, 0);
                }
                None
            }
            _ => None,
        }
    }

    fn watch(
        &mut self,
        rules: &LoadLimitRules,
        relay: &mut Relay,
        (uptime, elapsed_ms): (Uptime, u64),
        inputs: &Inputs,
    ) -> Option<OpenReason> {
        let limit_mw = i64::from(self.limit?.0) * 1_000;
        if inputs.active_mw <= limit_mw {
            self.above_ms = 0;
            self.below_ms = self.below_ms.saturating_add(elapsed_ms);
            if self.below_ms >= rules.calm_ms {
                self.tries = 0;
            }
            return None;
        }
        self.below_ms = 0;
        self.above_ms = self.above_ms.saturating_add(elapsed_ms);
        if self.above_ms < rules.above_ms {
            return None;
        }
        self.above_ms = 0;
        self.opened_at = uptime;
        let reason = if self.tries >= rules.tries_max { OpenReason::Lockout } else { OpenReason::Limit };
        self.tries = self.tries.saturating_add(1);
        relay.open(reason, None);
        Some(reason)
    }
}
