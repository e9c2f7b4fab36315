//! Readings: cumulative registers are the truth, interval energies are derived, every value carries its quality.

use alloc::vec::Vec;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{
    absent,
    time::Timestamp,
    unit::{Milliamps, Millivolts, WattHours},
};

/// How far a reading can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Read from the meter and plausible.
    #[default]
    Measured,
    /// Computed in place of a missing reading.
    Estimated,
    /// Corrected by a person, with a reason.
    Edited,
    /// Read from the meter but implausible; kept, not billed on without review.
    Suspect,
    /// Expected and not there.
    Missing,
}

impl Quality {
    /// The number in storage.
    pub const fn code(self) -> u8 {
        match self {
            Self::Measured => 0,
            Self::Estimated => 1,
            Self::Edited => 2,
            Self::Suspect => 3,
            Self::Missing => 4,
        }
    }

    /// The quality of a stored number.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Measured,
            1 => Self::Estimated,
            2 => Self::Edited,
            3 => Self::Suspect,
            4 => Self::Missing,
            _ => return None,
        })
    }

    /// Whether balance and bill may rest on it without review: there is a value, and nothing speaks against it.
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::Measured | Self::Estimated | Self::Edited)
    }

    /// The word shown to people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Estimated => "estimated",
            Self::Edited => "edited",
            Self::Suspect => "suspect",
            Self::Missing => "missing",
        }
    }
}

/// What the meter itself says about an interval; a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct RecordFlags(#[n(0)] pub u16);

impl RecordFlags {
    /// The supply was off for part of the interval.
    pub const POWER_FAIL: Self = Self(1);
    /// The clock was set within the interval.
    pub const CLOCK_SET: Self = Self(1 << 1);
    /// The clock had never been set since the start; times count from the boot.
    pub const CLOCK_UNSET: Self = Self(1 << 2);
    /// A tamper condition was active.
    pub const TAMPER: Self = Self(1 << 3);
    /// The relay was open for part of the interval.
    pub const DISCONNECTED: Self = Self(1 << 4);
    /// The interval is shorter than the profile's (start-up).
    pub const PARTIAL: Self = Self(1 << 5);
    /// A voltage dip, swell or interruption happened within the interval.
    pub const QUALITY_EVENT: Self = Self(1 << 6);
    /// More than a thousandth of the interval was not sampled; its energy there is the mean of what was.
    pub const INCOMPLETE: Self = Self(1 << 7);
    /// The meter had no valid calibration: it measured with the nominal values of its parts.
    pub const UNCALIBRATED: Self = Self(1 << 8);

    /// Every flag.
    pub const ALL: [Self; 9] = [
        Self::POWER_FAIL,
        Self::CLOCK_SET,
        Self::CLOCK_UNSET,
        Self::TAMPER,
        Self::DISCONNECTED,
        Self::PARTIAL,
        Self::QUALITY_EVENT,
        Self::INCOMPLETE,
        Self::UNCALIBRATED,
    ];

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Further channels of a profile record; the number is the one on the wire and in storage. Unknown numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
#[cbor(transparent)]
pub struct Channel(#[n(0)] pub u8);

impl Channel {
    /// Import register, Wh.
    pub const IMPORT: Self = Self(0);
    /// Export register, Wh.
    pub const EXPORT: Self = Self(1);
    /// Mean voltage of the interval, mV.
    pub const VOLTAGE: Self = Self(2);
    /// Mean current of the interval, mA.
    pub const CURRENT: Self = Self(3);
    /// The meter's own flags.
    pub const FLAGS: Self = Self(4);
    /// Quality given by the server.
    pub const QUALITY: Self = Self(5);
    /// Reactive energy register, quadrant I, varh.
    pub const REACTIVE_Q1: Self = Self(16);
    /// Reactive energy register, quadrant II, varh.
    pub const REACTIVE_Q2: Self = Self(17);
    /// Reactive energy register, quadrant III, varh.
    pub const REACTIVE_Q3: Self = Self(18);
    /// Reactive energy register, quadrant IV, varh.
    pub const REACTIVE_Q4: Self = Self(19);
    /// Apparent energy register, VAh.
    pub const APPARENT: Self = Self(20);
    /// Largest active power of the interval, W.
    pub const POWER_MAX: Self = Self(24);
    /// Smallest voltage of the interval, mV.
    pub const VOLTAGE_MIN: Self = Self(25);
    /// Largest voltage of the interval, mV.
    pub const VOLTAGE_MAX: Self = Self(26);
    /// Mean neutral current, mA.
    pub const NEUTRAL_CURRENT: Self = Self(27);
    /// Mean frequency, mHz.
    pub const FREQUENCY: Self = Self(28);
    /// Number of the masks of a masked record.
    pub const MASK_COUNTER: Self = Self(40);
    /// Clipped import of the interval plus mask, modulo 2^64.
    pub const MASKED_CLIPPED: Self = Self(41);
    /// Mean voltage of the interval, mV, plus mask, modulo 2^64.
    pub const MASKED_VOLTAGE: Self = Self(42);
}

/// A value of a further channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ChannelValue {
    /// Which channel.
    #[n(0)]
    pub channel: Channel,
    /// Its value, in the unit of the channel.
    #[n(1)]
    pub value: i64,
}

/// Masked energy: opaque increments that only sums reveal. Present instead of readable registers when the meter runs in the
/// split-trust model; the registers are then zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct Masked {
    /// Key epoch the masks were drawn from.
    #[n(0)]
    pub epoch: u32,
    /// Import increment of the interval plus mask, modulo 2^64.
    #[n(1)]
    pub import: u64,
    /// Export increment of the interval plus mask, modulo 2^64.
    #[n(2)]
    pub export: u64,
}

/// One interval of the load profile, as the meter sends it: registers at the *end* of the interval and means over it.
/// The interval's energy is the difference of two registers and is never sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct ProfileRecord {
    /// End of the interval.
    #[n(0)]
    pub end: Timestamp,
    /// What the meter says about the interval.
    #[n(1)]
    #[serde(default, deserialize_with = "absent::in_json")]
    #[cbor(default, decode_with = "absent::in_cbor")]
    pub flags: RecordFlags,
    /// Import register at the end.
    #[n(2)]
    pub import_wh: WattHours,
    /// Export register at the end.
    #[n(3)]
    #[serde(default, deserialize_with = "absent::in_json")]
    #[cbor(default, decode_with = "absent::in_cbor")]
    pub export_wh: WattHours,
    /// Mean voltage.
    #[n(4)]
    pub voltage_mv: Option<Millivolts>,
    /// Mean current.
    #[n(5)]
    pub current_ma: Option<Milliamps>,
    /// Further channels.
    #[n(6)]
    #[serde(default, deserialize_with = "absent::in_json", skip_serializing_if = "Vec::is_empty")]
    #[cbor(default, decode_with = "absent::in_cbor")]
    pub extra: Vec<ChannelValue>,
    /// Masked increments, when the meter hides its registers.
    #[n(7)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<Masked>,
}

/// Energy between two register readings, or `None` when the register went back.
pub fn energy_between(earlier: WattHours, later: WattHours) -> Option<WattHours> {
    later.checked_sub(earlier)
}
