//! What comes out of every telegram and file: readings, or the reason why there are none.

use core::fmt;

use alloc::{borrow::Cow, string::String, sync::Arc};
use metering::Timestamp;

use crate::Decimal;

/// One value of one meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The number that the telegram gives; `None` when it gives none and the connection must say. A number is checked against
    /// the credential of the connection, never trusted alone.
    pub meter: Option<Arc<str>>,
    /// When it was measured; for an interval, its end. `None`: no usable time was sent, the time of receipt counts.
    pub time: Option<Timestamp>,
    /// An OBIS code where the protocol has one, else a name.
    pub quantity: String,
    /// The value in `unit`, after the scaling of the model.
    pub value: Decimal,
    /// The unit; empty for a pure number.
    pub unit: Cow<'static, str>,
    /// How far it can be believed.
    pub quality: Quality,
    /// Length of the interval in seconds when the value is the energy of an interval and not a register.
    pub interval_s: Option<u32>,
}

impl Reading {
    /// A measured value.
    pub fn new(quantity: impl Into<String>, value: Decimal, unit: impl Into<Cow<'static, str>>) -> Self {
        Self {
            meter: None,
            time: None,
            quantity: quantity.into(),
            value,
            unit: unit.into(),
            quality: Quality::Measured,
            interval_s: None,
        }
    }

    /// The same of this meter.
    #[must_use]
    pub fn of(mut self, meter: Option<Arc<str>>) -> Self {
        self.meter = meter;
        self
    }

    /// The same at this time.
    #[must_use]
    pub fn at(mut self, time: Option<Timestamp>) -> Self {
        self.time = time;
        self
    }
}

/// How far a value can be believed, as its sender says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Measured.
    Measured,
    /// Estimated or substituted by the sender.
    Estimated,
    /// Measured, but sent with fewer digits than the register has (a locked meter shows whole kWh).
    Reduced,
    /// Marked as doubtful by the sender.
    Doubtful,
}

impl Quality {
    /// The word in files and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Estimated => "estimated",
            Self::Reduced => "reduced",
            Self::Doubtful => "doubtful",
        }
    }
}

/// Why bytes gave no readings. The text says what it probably means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A checksum differs: the bytes were damaged on the way.
    Checksum(&'static str),
    /// Longer than the format allows, or an end that never came.
    TooLong(&'static str),
    /// The bytes do not have the form of the format.
    Structure(Cow<'static, str>),
    /// It is encrypted and no key was given.
    KeyMissing,
    /// Decrypted, but not authentic or without sense: the key is wrong.
    WrongKey,
    /// Not protected as the keys that are given for its meter ask: anyone could have sent it.
    Unprotected(&'static str),
    /// An invocation counter that does not grow: repeated or old.
    Replayed,
    /// Whole and undamaged, but no description file fits: the text shows what is in it.
    ModelUnknown(String),
    /// A form of the format that is not read here.
    Unsupported(Cow<'static, str>),
}

impl Fault {
    /// A fault of form.
    pub fn structure(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Structure(why.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum(which) => write!(
                f,
                "{which} differs: the bytes were damaged on the way (check parity, speed and the receive buffer of the line)"
            ),
            Self::TooLong(what) => write!(f, "{what} is longer than the format allows: its end was lost"),
            Self::Structure(why) => write!(f, "not a telegram of this format: {why}"),
            Self::KeyMissing => f.write_str("encrypted: give the key of the meter (its operator has it)"),
            Self::WrongKey => {
                f.write_str("wrong key: it decrypts to nothing that makes sense; the bytes themselves are whole")
            }
            Self::Unprotected(how) => write!(
                f,
                "{how}, though a key is given for this meter: anyone could have sent it (take the key out if the meter really sends so)"
            ),
            Self::Replayed => f.write_str("invocation counter did not grow: a repeated or old telegram"),
            Self::ModelUnknown(seen) => {
                write!(f, "model unknown: write a description file (docs/howto/add-a-meter-model.md); seen: {seen}")
            }
            Self::Unsupported(what) => write!(f, "not read here: {what}"),
        }
    }
}

impl core::error::Error for Fault {}
