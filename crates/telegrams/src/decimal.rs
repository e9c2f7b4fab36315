//! Decimal numbers as meters send them: an integer and a power of ten, exact to the end.

use core::fmt;

use alloc::string::String;

/// `digits × 10^exponent`. Two of them are equal when digits and exponent are; [`Decimal::same_value`] compares values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// All digits as one integer.
    pub digits: i64,
    /// Power of ten.
    pub exponent: i8,
}

/// Places after the point that a binary floating-point number keeps.
const FLOAT_PLACES: u32 = 6;

impl Decimal {
    /// `digits × 10^exponent`.
    pub const fn new(digits: i64, exponent: i8) -> Self {
        Self { digits, exponent }
    }

    /// The value moved by a power of ten; `None` when the exponent leaves its range.
    pub fn scaled(self, exponent: i8) -> Option<Self> {
        Some(Self { digits: self.digits, exponent: self.exponent.checked_add(exponent)? })
    }

    /// The product; `None` when it does not fit.
    pub fn times(self, other: Self) -> Option<Self> {
        Some(Self {
            digits: self.digits.checked_mul(other.digits)?,
            exponent: self.exponent.checked_add(other.exponent)?,
        })
    }

    /// The sum; `None` when it does not fit.
    pub fn plus(self, other: Self) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        let digits = self.at_exponent(exponent)?.checked_add(other.at_exponent(exponent)?)?;
        Some(Self { digits, exponent })
    }

    /// The digits of this value at a smaller or equal exponent.
    fn at_exponent(self, exponent: i8) -> Option<i64> {
        let steps = u32::try_from(i16::from(self.exponent) - i16::from(exponent)).ok()?;
        self.digits.checked_mul(10_i64.checked_pow(steps)?)
    }

    /// Root of the sum of both squares, to the nearest of six places; `None` when it does not fit.
    pub fn vector_sum(self, other: Self) -> Option<Self> {
        const PLACES: i8 = -6;
        let square = |value: Self| {
            let digits = i128::from(value.reduced().at_places(6).at_exponent(PLACES)?);
            digits.checked_mul(digits)
        };
        let sum = u128::try_from(square(self)?.checked_add(square(other)?)?).ok()?;
        let root = sum.isqrt();
        // Nearer to the next: the square lies beyond root² + root.
        let root = root + u128::from(sum - root * root > root);
        Some(Self { digits: i64::try_from(root).ok()?, exponent: PLACES }.reduced())
    }

    /// The other sign.
    pub fn negated(self) -> Option<Self> {
        Some(Self { digits: self.digits.checked_neg()?, exponent: self.exponent })
    }

    /// Whole units, rounded half away from zero; `None` when it does not fit.
    pub fn rounded(self) -> Option<i64> {
        if self.exponent >= 0 {
            return self.at_exponent(0);
        }
        let divisor = 10_i128.checked_pow(u32::from(self.exponent.unsigned_abs()));
        divisor.map_or(Some(0), |divisor| {
            let half = divisor / 2;
            let digits = i128::from(self.digits);
            i64::try_from((digits + if digits < 0 { -half } else { half }) / divisor).ok()
        })
    }

    /// Rounded half away from zero to at most so many places after the point.
    pub fn at_places(self, places: u8) -> Self {
        let wanted = i8::try_from(places).unwrap_or(i8::MAX).saturating_neg();
        if self.exponent >= wanted {
            return self;
        }
        let shifted = Self { digits: self.digits, exponent: self.exponent.saturating_sub(wanted) };
        Self { digits: shifted.rounded().unwrap_or(0), exponent: wanted }
    }

    /// Without trailing zeros; zero has exponent 0.
    pub fn reduced(self) -> Self {
        if self.digits == 0 {
            return Self::new(0, 0);
        }
        let mut out = self;
        while out.digits % 10 == 0 && out.exponent < i8::MAX {
            out.digits /= 10;
            out.exponent += 1;
        }
        out
    }

    /// Whether both name the same number (5 = 5.0).
    pub fn same_value(self, other: Self) -> bool {
        self.reduced() == other.reduced()
    }

    /// Reads `[+-]digits[.digits][e±digits]`; leading zeros and a comma for the point are accepted. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        Self::plain(text.as_bytes()).or_else(|| Self::parse_any(text))
    }

    /// At most 18 characters of digits with one point: what nearly every meter sends.
    fn plain(bytes: &[u8]) -> Option<Self> {
        let (mut digits, mut places, mut seen) = (0_i64, None, false);
        (bytes.len() <= 18).then_some(())?;
        for byte in bytes {
            match byte {
                b'0'..=b'9' => {
                    digits = digits * 10 + i64::from(byte - b'0');
                    places = places.map(|places: i8| places + 1);
                    seen = true;
                }
                b'.' if places.is_none() => places = Some(0),
                _ => return None,
            }
        }
        seen.then_some(Self { digits, exponent: -places.unwrap_or(0) })
    }

    fn parse_any(text: &str) -> Option<Self> {
        let text = text.trim();
        let (text, power) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i8>().ok()?),
            None => (text, 0),
        };
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let mut digits = 0_i64;
        let (mut seen, mut places, mut point) = (false, 0_i8, false);
        for byte in text.bytes() {
            match byte {
                b'0'..=b'9' => {
                    digits = digits.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
                    seen = true;
                    places = if point { places.checked_add(1)? } else { places };
                }
                b'.' | b',' if !point => point = true,
                _ => return None,
            }
        }
        let digits = if negative { -digits } else { digits };
        seen.then_some(Self { digits, exponent: power.checked_sub(places)? })
    }

    /// A 32-bit float (IEEE 754 bits), rounded to six places; `None` for NaN, infinity and what does not fit.
    pub fn from_f32_bits(bits: u32) -> Option<Self> {
        let exponent = i32::try_from((bits >> 23) & 0xFF).ok()?;
        let fraction = u64::from(bits & 0x7F_FFFF);
        let mantissa = if exponent == 0 { fraction } else { fraction | 0x80_0000 };
        (exponent != 0xFF).then_some(())?;
        from_binary(bits >> 31 == 1, mantissa, exponent.max(1) - 150)
    }

    /// A 64-bit float (IEEE 754 bits), rounded to six places; `None` for NaN, infinity and what does not fit.
    pub fn from_f64_bits(bits: u64) -> Option<Self> {
        let exponent = i32::try_from((bits >> 52) & 0x7FF).ok()?;
        let fraction = bits & 0xF_FFFF_FFFF_FFFF;
        let mantissa = if exponent == 0 { fraction } else { fraction | 0x10_0000_0000_0000 };
        (exponent != 0x7FF).then_some(())?;
        from_binary(bits >> 63 == 1, mantissa, exponent.max(1) - 1075)
    }

    /// An unsigned 64-bit count; `None` above `i64::MAX`, where no register of a meter is.
    pub fn from_u64(value: u64) -> Option<Self> {
        i64::try_from(value).ok().map(|digits| Self::new(digits, 0))
    }
}

/// `±mantissa × 2^power`, rounded half to even at six places.
fn from_binary(negative: bool, mantissa: u64, power: i32) -> Option<Decimal> {
    if mantissa == 0 {
        return Some(Decimal::new(0, 0));
    }
    let scaled = i128::from(mantissa) * 10_i128.pow(FLOAT_PLACES);
    let digits = if power >= 0 {
        let shift = u32::try_from(power).ok().filter(|shift| *shift < 48)?;
        scaled.checked_shl(shift)?
    } else {
        let shift = power.unsigned_abs();
        if shift > 120 {
            return Some(Decimal::new(0, 0));
        }
        let (whole, rest, half) = (scaled >> shift, scaled & ((1 << shift) - 1), 1_i128 << (shift - 1));
        whole + i128::from(rest > half || (rest == half && whole % 2 == 1))
    };
    let mut digits = if negative { -digits } else { digits };
    let mut exponent = -i8::try_from(FLOAT_PLACES).ok()?;
    while digits % 10 == 0 && digits != 0 && exponent < 0 {
        digits /= 10;
        exponent += 1;
    }
    Some(Decimal { digits: i64::try_from(digits).ok()?, exponent })
}

impl fmt::Display for Decimal {
    /// Plain digits with a point, no exponent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let magnitude = self.digits.unsigned_abs();
        fmt::Write::write_fmt(&mut text, format_args!("{magnitude}"))?;
        if self.digits < 0 {
            f.write_str("-")?;
        }
        if self.exponent >= 0 {
            f.write_str(&text)?;
            if magnitude != 0 {
                (0..self.exponent).try_for_each(|_| f.write_str("0"))?;
            }
            return Ok(());
        }
        let places = usize::from(self.exponent.unsigned_abs());
        if text.len() <= places {
            f.write_str("0.")?;
            (text.len()..places).try_for_each(|_| f.write_str("0"))?;
            return f.write_str(&text);
        }
        let (whole, fraction) = text.split_at(text.len() - places);
        write!(f, "{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn digits_survive_as_they_were_sent() {
        for (text, expected) in
            [("000123.450", "123.450"), ("-0,5", "-0.5"), ("1.5e3", "1500"), ("7", "7"), ("+2.0", "2.0")]
        {
            assert_eq!(Decimal::parse(text).map(|d| d.to_string()).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "-", ".", "1.2.3", "nan", "12a", "99999999999999999999"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn floats_are_rounded_to_six_places() {
        let f32s = [(0x4365_E666_u32, "229.899994"), (0x3FA0_0000, "1.25"), (0xC2A0_0000, "-80"), (0x8000_0000, "0")];
        for (bits, expected) in f32s {
            assert_eq!(Decimal::from_f32_bits(bits).map(|d| d.to_string()).as_deref(), Some(expected));
        }
        assert_eq!(Decimal::from_f32_bits(0x7FC0_0000), None);
        assert_eq!(Decimal::from_f64_bits(1234.5_f64.to_bits()), Some(Decimal::new(12345, -1)));
        assert_eq!(Decimal::from_f32_bits(1.0e-30_f32.to_bits()), Some(Decimal::new(0, 0)));
    }

    #[test]
    fn rounding_and_sums() {
        assert_eq!(Decimal::new(-15, -1).rounded(), Some(-2));
        assert_eq!(Decimal::new(1234567, -6).at_places(3), Decimal::new(1235, -3));
        assert_eq!(Decimal::new(5, 0).plus(Decimal::new(25, -2)), Some(Decimal::new(525, -2)));
        assert!(Decimal::new(50, -1).same_value(Decimal::new(5, 0)));
        assert_eq!(Decimal::new(3, 3).vector_sum(Decimal::new(-4, 3)), Some(Decimal::new(5, 3)));
        assert_eq!(Decimal::new(229, 0).vector_sum(Decimal::new(63, 0)), Some(Decimal::new(237_507_895, -6)));
        assert_eq!(Decimal::new(i64::MAX, 0).vector_sum(Decimal::new(1, 0)), None);
    }
}
