//! What a simulated neighbourhood looks like; everything else follows from the seed.

use metering::Timestamp;

use crate::{
    error::SimError,
    profiles::Profiles,
    theft::{TheftKind, TheftPlan},
    waveform::WaveformPlan,
};

/// 2026-03-02T00:00:00Z, a Monday: the first instant of the demonstration.
pub const DEMO_START: Timestamp = Timestamp(1_772_409_600);

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;

/// Where the homes' loads come from.
#[derive(Clone, Debug, Default)]
pub enum LoadSource {
    /// The stochastic household generator of [`crate::household`].
    #[default]
    Generated,
    /// Measured profiles from a file.
    Measured(Profiles),
}

/// A stretch in which no meter reaches the server, because what all of them reach it by is down. Meanwhile the meters of each
/// transformer compare among themselves, over a local link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CutOff {
    /// First instant.
    pub from: Timestamp,
    /// First instant at which the server is to be reached again.
    pub to: Timestamp,
    /// Datagrams that each listener misses on the local link, thousandths.
    pub lost_permille: u16,
}

/// Settings of a simulated neighbourhood.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Everything random follows from it.
    pub seed: u64,
    /// First instant; must be a UTC midnight.
    pub start: Timestamp,
    /// Days at the beginning that are fast-forwarded.
    pub history_days: u32,
    /// Transformers on the feeder, 1 to 99.
    pub transformers: u16,
    /// Homes at each transformer, 1 to 999.
    pub homes_per_transformer: u16,
    /// Where loads come from.
    pub loads: LoadSource,
    /// Thefts, in any order.
    pub thefts: Vec<TheftPlan>,
    /// Mean number of hours-long outages of its link that a home meter has in 30 days.
    pub link_losses_per_month: f64,
    /// A stretch without the server, if there shall be one.
    pub cut_off: Option<CutOff>,
    /// Seconds between `now` frames of a meter; 0 switches them off.
    pub now_seconds: u32,
    /// Virtual minutes until a home whose meter is armed presses the button: between these two.
    pub button_minutes: (u32, u32),
    /// The server's Ed25519 verifying key, which the meters demand a signature by; `None`: controls may be unsigned.
    pub verifying_key: Option<[u8; 32]>,
    /// Homes that are driven at sample level; `None`: all meters are fed with the physics' quantities.
    pub waveforms: Option<WaveformPlan>,
}

impl SimConfig {
    /// A neighbourhood of one feeder, four transformers and 160 homes, without thieves.
    pub fn honest(seed: u64, history_days: u32) -> Self {
        Self {
            seed,
            start: DEMO_START,
            history_days,
            transformers: 4,
            homes_per_transformer: 40,
            loads: LoadSource::Generated,
            thefts: Vec::new(),
            link_losses_per_month: 0.5,
            cut_off: None,
            now_seconds: 900,
            button_minutes: (3, 25),
            verifying_key: None,
            waveforms: None,
        }
    }

    /// The demonstration: after the history, a large theft begins early on the first day and others follow on later days, at
    /// least one of every kind within 16 days.
    pub fn demo(seed: u64, history_days: u32) -> Self {
        let mut config = Self::honest(seed, history_days);
        let at = |day: i64, hour: i64| config.start.plus((i64::from(history_days) + day) * DAY + hour * HOUR);
        let theft = |kind, transformer, day, hour, end, zone_share| TheftPlan {
            kind,
            transformer,
            home: None,
            start: at(day, hour),
            end,
            zone_share,
        };
        config.thefts = vec![
            theft(TheftKind::Shunt { kept: 0.08 }, 0, 0, 1, None, Some(0.25)),
            theft(TheftKind::UnderRegistration { kept: 0.3 }, 1, 1, 9, None, Some(0.08)),
            theft(TheftKind::NightBypass { from_hour: 22, to_hour: 5 }, 2, 3, 22, Some(at(10, 5)), Some(0.12)),
            theft(TheftKind::WireAround { kept: 0.1 }, 3, 5, 14, None, Some(0.12)),
            theft(TheftKind::Tap, 0, 7, 11, None, Some(0.08)),
            theft(TheftKind::TamperedObserver { kept: 0.85 }, 2, 11, 8, None, None),
        ];
        config
    }

    /// End of the fast-forwarded history.
    pub fn history_end(&self) -> Timestamp {
        self.start.plus(i64::from(self.history_days) * DAY)
    }

    /// Checks that the settings can work.
    pub fn check(&self) -> Result<(), SimError> {
        let fail = |text: &str| Err(SimError::Config(text.into()));
        if self.start.second_of_day() != 0 {
            return fail("the start must be a UTC midnight");
        }
        if !(1..=99).contains(&self.transformers) || !(1..=999).contains(&self.homes_per_transformer) {
            return fail("a feeder has 1 to 99 transformers, a transformer 1 to 999 homes");
        }
        if self.button_minutes.0 > self.button_minutes.1 {
            return fail("the button is pressed between the first and the second number of minutes");
        }
        if let Some(waveforms) = &self.waveforms {
            waveforms.check()?;
        }
        if self.cut_off.is_some_and(|cut| cut.to <= cut.from || cut.lost_permille > 1_000) {
            return fail(
                "the server is away from an instant to a later one, and a link loses at most all of 1,000 datagrams",
            );
        }
        for plan in &self.thefts {
            if plan.transformer >= self.transformers || plan.home.is_some_and(|h| h >= self.homes_per_transformer) {
                return fail("a theft is at a transformer or a home that does not exist");
            }
            if plan.zone_share.is_some_and(|share| !(0.0..=0.6).contains(&share)) {
                return fail("a theft takes a share of its zone between 0 and 0.6");
            }
            if plan.end.is_some_and(|end| end <= plan.start) {
                return fail("a theft ends after it begins");
            }
        }
        Ok(())
    }
}
