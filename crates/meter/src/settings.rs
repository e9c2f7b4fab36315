//! What is fixed when a meter is made, and what a server may change.

use alloc::string::String;

use ed25519_dalek::VerifyingKey;
use minicbor::{Decode, Encode};

use metering::{IntervalLength, MeterId, frame::Config};

use crate::{
    load_limit::LoadLimitRules, masking::Masking, registration::RegistrationPolicy, relay::RelayRules,
    tamper::Thresholds,
};

/// What a meter's measuring parts are calibrated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calibration {
    /// Its parts are exact, as in a simulated meter.
    Exact,
    /// By a record that may be trusted; the number tells the calibrations of one meter apart (their count). A new one is an event.
    Record(u32),
    /// There is no record, or none that may be trusted, and the parts' nominal values are used: an event at every start, and a
    /// flag in every profile record.
    Missing,
}

/// Fixed at the factory or at installation.
#[derive(Clone, Debug)]
pub struct MeterConfig {
    /// Who it is.
    pub meter: MeterId,
    /// Hardware model.
    pub model: String,
    /// Firmware name and version.
    pub firmware: String,
    /// The server's key; when set, a control without a valid signature by it is refused.
    pub verifying_key: Option<VerifyingKey>,
    /// Whether it has a relay (observers have none).
    pub has_relay: bool,
    /// Profile records gathered into one frame, 1 to 192.
    pub records_per_frame: u16,
    /// Frames kept until they are acknowledged; at least 16.
    pub ring_frames_max: usize,
    /// Rules of the relay.
    pub relay: RelayRules,
    /// Rules of the load limit.
    pub load_limit: LoadLimitRules,
    /// Thresholds of the tamper rules.
    pub tamper: Thresholds,
    /// What the registers count while a sign of tampering is present.
    pub registration: RegistrationPolicy,
    /// What its measuring parts are calibrated with.
    pub calibration: Calibration,
    /// When set, readings leave the meter masked only.
    pub masking: Option<Masking>,
}

impl MeterConfig {
    /// A house meter with the default rules.
    pub fn new(meter: MeterId) -> Self {
        Self {
            meter,
            model: String::from("GT-1P"),
            firmware: String::from(concat!("gridtally-meter ", env!("CARGO_PKG_VERSION"))),
            verifying_key: None,
            has_relay: true,
            records_per_frame: 1,
            ring_frames_max: 9_000,
            relay: RelayRules::default(),
            load_limit: LoadLimitRules::default(),
            tamper: Thresholds::default(),
            registration: RegistrationPolicy::default(),
            calibration: Calibration::Exact,
            masking: None,
        }
    }
}

/// Set by the server, kept through power failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Settings {
    /// Version of these settings; only a newer one is taken.
    #[n(0)]
    pub version: u32,
    /// Length of profile intervals.
    #[n(1)]
    #[cbor(with = "interval_minutes")]
    pub profile: IntervalLength,
    /// Seconds between `now` frames; 0 = none.
    #[n(2)]
    pub now_seconds: u32,
    /// Whether a reconnect closes by itself instead of waiting for the button.
    #[n(3)]
    pub close_without_button: bool,
}

impl Default for Settings {
    /// Quarter-hours, `now` every 15 minutes, the button closes.
    fn default() -> Self {
        Self { version: 0, profile: IntervalLength::M15, now_seconds: 900, close_without_button: false }
    }
}

/// What came of settings sent by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsChange {
    /// Not newer, or not possible: nothing changed.
    Ignored,
    /// Taken; the profile interval stayed.
    Taken,
    /// Taken, and the profile interval is another.
    ProfileChanged,
}

impl Settings {
    /// Takes settings from the server, if they are newer and possible.
    pub fn apply(&mut self, config: &Config) -> SettingsChange {
        if config.version <= self.version {
            return SettingsChange::Ignored;
        }
        let profile = match config.profile_minutes.map(IntervalLength::try_from) {
            Some(Err(_)) => return SettingsChange::Ignored,
            Some(Ok(length)) => length,
            None => self.profile,
        };
        let changed = profile != self.profile;
        *self = Self {
            version: config.version,
            profile,
            now_seconds: config.now_seconds.unwrap_or(self.now_seconds),
            close_without_button: config.close_without_button.unwrap_or(self.close_without_button),
        };
        if changed { SettingsChange::ProfileChanged } else { SettingsChange::Taken }
    }
}

/// An interval length as its minutes, in non-volatile memory.
pub(crate) mod interval_minutes {
    use metering::IntervalLength;
    use minicbor::{Decoder, Encoder};

    pub(crate) fn encode<C, W: minicbor::encode::Write>(
        length: &IntervalLength,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(length.minutes())?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<IntervalLength, minicbor::decode::Error> {
        IntervalLength::try_from(d.u16()?).map_err(minicbor::decode::Error::message)
    }
}
