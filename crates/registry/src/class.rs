//! How accurate a meter is.

use metering::RecordFlags;
use serde::{Deserialize, Serialize};

/// How accurate a meter is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterClass {
    /// Class 1 (IEC 62053-21), the usual consumer's meter.
    #[default]
    Class1,
    /// Class 0.5S (IEC 62053-22), the usual observer meter.
    Class05S,
    /// Class 0.2S (IEC 62053-22).
    Class02S,
    /// A meter that measures with the nominal values of its parts, because it has no calibration that it may trust.
    Uncalibrated,
    /// A meter of class 1 in an interval that it did not measure as a whole.
    Incomplete,
}

/// The errors of a meter as standard deviations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    /// Of the gain, the same in all intervals.
    pub gain: f64,
    /// Of the reading, independent between intervals, relative.
    pub random: f64,
    /// Of the clock, seconds.
    pub clock_s: f64,
    /// Step of the register, Wh.
    pub quantum_wh: f64,
}

impl MeterClass {
    /// The class of a usage point's meter when the register names none.
    pub const USAGE_POINT: Self = Self::Class1;
    /// The class of an observer when the register names none.
    pub const OBSERVER: Self = Self::Class05S;

    /// The word in files and on pages: 1, 0.5S, 0.2S; `None` for what a meter says about an interval, which is no class of the register.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Class1 => Some("1"),
            Self::Class05S => Some("0.5S"),
            Self::Class02S => Some("0.2S"),
            Self::Uncalibrated | Self::Incomplete => None,
        }
    }

    /// The class of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        let known = [Self::Class1, Self::Class05S, Self::Class02S];
        known.into_iter().find(|class| class.word().is_some_and(|known| known.eq_ignore_ascii_case(word)))
    }

    /// What a meter says about an interval that makes its energy less certain: not of its class then.
    #[must_use]
    pub const fn under(self, flags: RecordFlags) -> Self {
        if flags.contains(RecordFlags::UNCALIBRATED) {
            Self::Uncalibrated
        } else if flags.contains(RecordFlags::INCOMPLETE) || flags.contains(RecordFlags::PARTIAL) {
            Self::Incomplete
        } else {
            self
        }
    }

    /// Half the class limit as standard deviation of the gain (a meter within its class is clipped at two of them).
    pub const fn accuracy(self) -> Accuracy {
        let (gain, random) = match self {
            Self::Class1 => (0.005, 0.0005),
            Self::Class05S => (0.0025, 0.0005),
            Self::Class02S => (0.001, 0.0005),
            // Sensors and dividers of 1.5 % to 5 % each.
            Self::Uncalibrated => (0.05, 0.0005),
            // More than a thousandth was taken to be as the rest was: up to some percent of what switched meanwhile.
            Self::Incomplete => (0.005, 0.03),
        };
        Accuracy { gain, random, clock_s: 4.0, quantum_wh: 1.0 }
    }
}
