//! OBIS codes (IEC 62056-61): the standard names of what a meter shows and stores.

use core::{fmt, str::FromStr};

/// Six value groups A-B:C.D.E*F.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Obis(pub [u8; 6]);

impl Obis {
    /// Clock.
    pub const CLOCK: Self = Self([0, 0, 1, 0, 0, 255]);
    /// Active energy import, all tariffs.
    pub const ENERGY_IMPORT: Self = Self([1, 0, 1, 8, 0, 255]);
    /// Active energy export, all tariffs.
    pub const ENERGY_EXPORT: Self = Self([1, 0, 2, 8, 0, 255]);
    /// Apparent energy import.
    pub const APPARENT_ENERGY_IMPORT: Self = Self([1, 0, 9, 8, 0, 255]);
    /// Instantaneous active power import.
    pub const POWER_IMPORT: Self = Self([1, 0, 1, 7, 0, 255]);
    /// Instantaneous phase voltage L1.
    pub const VOLTAGE: Self = Self([1, 0, 32, 7, 0, 255]);
    /// Instantaneous phase current L1.
    pub const CURRENT: Self = Self([1, 0, 31, 7, 0, 255]);
    /// Instantaneous neutral current.
    pub const NEUTRAL_CURRENT: Self = Self([1, 0, 91, 7, 0, 255]);
    /// Instantaneous power factor.
    pub const POWER_FACTOR: Self = Self([1, 0, 13, 7, 0, 255]);
    /// Instantaneous frequency.
    pub const FREQUENCY: Self = Self([1, 0, 14, 7, 0, 255]);
    /// Disconnect control (relay).
    pub const DISCONNECT_CONTROL: Self = Self([0, 0, 96, 3, 10, 255]);
}

impl fmt::Display for Obis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a}-{b}:{c}.{d}.{e}*{g}")
    }
}

/// A text is not an OBIS code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObisError;

impl fmt::Display for ObisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an OBIS code: write 1-0:1.8.0*255, 1-0:1.8.0 or 1.0.1.8.0.255")
    }
}

impl core::error::Error for ObisError {}

impl FromStr for Obis {
    type Err = ObisError;

    /// Takes `A-B:C.D.E*F`, with `*F` optional (255), and the dotted form of six groups.
    fn from_str(text: &str) -> Result<Self, ObisError> {
        let mut groups = [255u8; 6];
        let mut count = 0;
        for field in text.split(['-', ':', '.', '*']) {
            let slot = groups.get_mut(count).ok_or(ObisError)?;
            *slot = field.parse().map_err(|_| ObisError)?;
            count += 1;
        }
        if count < 5 {
            return Err(ObisError);
        }
        Ok(Self(groups))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn all_written_forms_mean_the_same() {
        for text in ["1-0:1.8.0*255", "1-0:1.8.0", "1.0.1.8.0.255"] {
            assert_eq!(text.parse(), Ok(Obis::ENERGY_IMPORT));
        }
        assert_eq!(Obis::ENERGY_IMPORT.to_string(), "1-0:1.8.0*255");
        for bad in ["", "1.8.0", "1-0:1.8.0*256", "1-0:1.8.0*255.1", "a-0:1.8.0"] {
            assert_eq!(bad.parse::<Obis>(), Err(ObisError), "{bad}");
        }
    }
}
