//! Quantities as integers in types: the unit stands in the name, nothing is rounded twice and nothing floats.

use core::fmt;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty), $symbol:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
        #[serde(transparent)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub $inner);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// Sum, or `None` when it does not fit.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// Difference, or `None` when it does not fit (for unsigned quantities: when it would be negative).
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }

            /// Sum, held at the largest value.
            pub fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{} ", $symbol), self.0)
            }
        }
    };
}

unit! {
    /// Active energy of a cumulative register; import and export are two registers, never a sign.
    WattHours(u64), "Wh"
}
unit! {
    /// Active power; positive flows to the consumer (import).
    Watts(i32), "W"
}
unit! {
    /// Reactive power; positive is inductive on import (quadrant I).
    Vars(i32), "var"
}
unit! {
    /// Rms voltage.
    Millivolts(u32), "mV"
}
unit! {
    /// Rms current.
    Milliamps(u32), "mA"
}
unit! {
    /// Frequency.
    Millihertz(u32), "mHz"
}
unit! {
    /// A ratio in thousandths, signed: a power factor of −0.95 is −950.
    PerMille(i16), "‰"
}
