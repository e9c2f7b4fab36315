//! Events of a meter, with the codes of the DLMS/COSEM Indian companion (IS 15959): occurrence odd, restoration the next even.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{
    time::Timestamp,
    unit::{Milliamps, Millivolts, PerMille, WattHours, Watts},
};

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $word:literal;)*) => {
        /// What happened. Codes below 1000 are the companion's; from 1000 on they are ours.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind {
            $($(#[$doc])* $name,)*
            /// A code this version does not know; kept as it came.
            Other(u16),
        }

        impl EventKind {
            /// Every known kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code on the wire.
            pub const fn code(self) -> u16 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// The kind of a code.
            pub const fn from_code(code: u16) -> Self {
                match code {
                    $($code => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// The word shown to people.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                    Self::Other(_) => "unknown event",
                }
            }
        }
    };
}

events! {
    /// Voltage missing on a phase.
    PhaseMissing = 1, "phase missing";
    /// Voltage back on the phase.
    PhaseRestored = 2, "phase restored";
    /// Voltage above the limit.
    OverVoltage = 7, "over-voltage";
    /// Voltage back below the upper limit.
    OverVoltageEnd = 8, "over-voltage ended";
    /// Voltage below the limit.
    LowVoltage = 9, "low voltage";
    /// Voltage back above the lower limit.
    LowVoltageEnd = 10, "low voltage ended";
    /// Current flows backwards without a licence to generate.
    ReverseCurrent = 51, "reverse current";
    /// Current flows forward again.
    ReverseCurrentEnd = 52, "reverse current ended";
    /// Phase and neutral current differ: part of the load bypasses the meter.
    Bypass = 65, "current bypass";
    /// Phase and neutral current agree again.
    BypassEnd = 66, "current bypass ended";
    /// Current above the limit.
    OverCurrent = 67, "over-current";
    /// Current back below the limit.
    OverCurrentEnd = 68, "over-current ended";
    /// Load returns through earth.
    EarthLoad = 69, "earth loading";
    /// Earth loading ended.
    EarthLoadEnd = 70, "earth loading ended";
    /// The supply failed.
    PowerFail = 101, "power failed";
    /// The supply is back.
    PowerRestore = 102, "power restored";
    /// The clock was set by more than it may slew.
    ClockSet = 151, "clock set";
    /// The profile interval was changed.
    ProfileIntervalSet = 153, "profile interval changed";
    /// A magnet is near.
    Magnet = 201, "magnet";
    /// The magnet is gone.
    MagnetEnd = 202, "magnet gone";
    /// Direct current or high frequency in the neutral.
    NeutralDisturbance = 203, "neutral disturbance";
    /// The disturbance ended.
    NeutralDisturbanceEnd = 204, "neutral disturbance ended";
    /// Power factor very low.
    LowPowerFactor = 205, "very low power factor";
    /// Power factor normal.
    LowPowerFactorEnd = 206, "power factor normal";
    /// Neutral missing.
    NeutralMissing = 207, "neutral missing";
    /// Neutral back.
    NeutralMissingEnd = 208, "neutral restored";
    /// The meter's cover was opened; never cleared.
    CoverOpen = 251, "cover opened";
    /// The relay opened.
    LoadDisconnected = 301, "load disconnected";
    /// The relay closed.
    LoadConnected = 302, "load connected";
    /// The meter started.
    Boot = 1001, "meter started";
    /// A control was refused.
    ControlRefused = 1002, "control refused";
    /// The relay was told to open and current still flows.
    WeldedContact = 1003, "relay contact welded";
    /// The relay was armed and waits for the button.
    ReadyToReconnect = 1004, "ready to reconnect";
    /// Voltage on the load side while the relay is open.
    BackFeed = 1005, "voltage on the load side";
    /// Unacknowledged frames were dropped because the ring is full; registers still hold the energy.
    RingOverflow = 1006, "unsent frames dropped";
    /// The load limit opened the relay.
    LoadLimitTrip = 1007, "load limit exceeded";
    /// The load limit gave up reconnecting for a while.
    LoadLimitLockout = 1008, "load limit lock-out";
    /// Calibration was changed.
    CalibrationSet = 1009, "calibration changed";
    /// The power drawn is above the sanctioned load.
    Overload = 1011, "sanctioned load exceeded";
    /// The power drawn is below the sanctioned load again.
    OverloadEnd = 1012, "load within sanction";
    /// The neighbours' sum does not reach what the observer measured; found by the meters themselves.
    LocalDiscrepancy = 1013, "neighbourhood sum does not match";
    /// The neighbours' sum matches the observer again.
    LocalDiscrepancyEnd = 1014, "neighbourhood sum matches";
    /// A text message could not be delivered after every try.
    MessageFailed = 1015, "text message not delivered";
    /// The meter found no calibration that it may trust and measures with nominal values.
    CalibrationMissing = 1016, "no valid calibration";
    /// A register was lower than before: raised by the server, never by a meter.
    RegisterStepBack = 1101, "register stepped back";
    /// One sequence number came with two contents: raised by the server.
    SequenceConflict = 1102, "conflicting frames";
    /// The meter's clock was far off: raised by the server.
    ClockWrong = 1103, "clock wrong";
    /// An interval held more energy than the connection can carry: raised by the server.
    ImplausibleEnergy = 1104, "implausible energy";
    /// A reading was wrong by itself: the ones after it go on from the one before it. Raised by the server.
    WrongReading = 1105, "single wrong reading";
    /// The meter's intervals are longer than those of the balance: its readings are kept and not balanced. Raised by the server.
    IntervalTooLong = 1106, "reports too rarely to be balanced";
    /// The meter answered a control that was never sent to it: raised by the server.
    ForeignAnswer = 1107, "answered another meter's control";
    /// The meter sent more within an hour than it may, and is not listened to for the rest of it: raised by the server.
    BudgetSpent = 1108, "sent more than it may";
}

impl Serialize for EventKind {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u16(self.code())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u16::deserialize(from).map(Self::from_code)
    }
}

impl<C> Encode<C> for EventKind {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.code())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for EventKind {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.u16().map(Self::from_code)
    }
}

/// The compartments of a meter's event log (IS 15959: profiles 0.0.99.98.0.255 to 0.0.99.98.6.255), each a ring of its own, so
/// that many events of one class push out none of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compartment {
    /// Phases and voltages.
    Voltage,
    /// Currents.
    Current,
    /// Supply failed and restored.
    Power,
    /// Settings and clock changed.
    Transaction,
    /// Magnet, neutral, power factor, and our own kinds.
    Other,
    /// What is never overwritten: cover openings.
    NonRollover,
    /// Relay and controls.
    Control,
}

impl Compartment {
    /// All, in the order of their profiles.
    pub const ALL: [Self; 7] =
        [Self::Voltage, Self::Current, Self::Power, Self::Transaction, Self::Other, Self::NonRollover, Self::Control];

    /// The number in the profile's code, 0.0.99.98.`n`.255, and the place in [`Compartment::ALL`].
    pub const fn number(self) -> u8 {
        match self {
            Self::Voltage => 0,
            Self::Current => 1,
            Self::Power => 2,
            Self::Transaction => 3,
            Self::Other => 4,
            Self::NonRollover => 5,
            Self::Control => 6,
        }
    }
}

impl EventKind {
    /// Where the meter logs it.
    pub const fn compartment(self) -> Compartment {
        match self.code() {
            1..=50 => Compartment::Voltage,
            51..=100 => Compartment::Current,
            101..=150 => Compartment::Power,
            151..=200 | 1009 | 1016 => Compartment::Transaction,
            251..=300 => Compartment::NonRollover,
            301..=350 | 1002..=1005 | 1007 | 1008 => Compartment::Control,
            _ => Compartment::Other,
        }
    }
}

/// An event with the quantities captured at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct MeterEvent {
    /// When it happened (after persistence), by the meter's clock.
    #[n(0)]
    pub at: Timestamp,
    /// What happened; a number on the wire.
    #[n(1)]
    #[serde(rename = "code")]
    pub kind: EventKind,
    /// Voltage at that time.
    #[n(2)]
    pub voltage_mv: Option<Millivolts>,
    /// Phase current at that time.
    #[n(3)]
    pub current_ma: Option<Milliamps>,
    /// Active power at that time.
    #[n(4)]
    pub power_w: Option<Watts>,
    /// Power factor at that time.
    #[n(5)]
    pub power_factor: Option<PerMille>,
    /// Import register at that time.
    #[n(6)]
    pub import_wh: Option<WattHours>,
}

impl MeterEvent {
    /// An event with which nothing was captured.
    pub const fn bare(kind: EventKind, at: Timestamp) -> Self {
        Self { at, kind, voltage_mv: None, current_ma: None, power_w: None, power_factor: None, import_wh: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_return() {
        for (i, kind) in EventKind::ALL.iter().enumerate() {
            assert_eq!(EventKind::from_code(kind.code()), *kind);
            assert!(EventKind::ALL[i + 1..].iter().all(|other| other.code() != kind.code()));
        }
        assert_eq!(EventKind::from_code(65_535).code(), 65_535);
    }

    #[test]
    fn every_kind_has_the_compartment_of_the_companion() {
        for (kind, compartment) in [
            (EventKind::OverVoltage, Compartment::Voltage),
            (EventKind::ReverseCurrentEnd, Compartment::Current),
            (EventKind::PowerRestore, Compartment::Power),
            (EventKind::ClockSet, Compartment::Transaction),
            (EventKind::CalibrationSet, Compartment::Transaction),
            (EventKind::CalibrationMissing, Compartment::Transaction),
            (EventKind::Magnet, Compartment::Other),
            (EventKind::CoverOpen, Compartment::NonRollover),
            (EventKind::LoadConnected, Compartment::Control),
            (EventKind::WeldedContact, Compartment::Control),
            (EventKind::Boot, Compartment::Other),
        ] {
            assert_eq!(kind.compartment(), compartment, "{kind:?}");
        }
        for (n, compartment) in (0u8..).zip(Compartment::ALL) {
            assert_eq!(compartment.number(), n);
        }
    }
}
