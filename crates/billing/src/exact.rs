//! Exact rational numbers: prices, quantities and shares are carried without rounding until a rule says so.
//!
//! A number is a fraction of two `i128` as long as it fits, and of big integers beyond that: no input can overflow or panic.
//! Equal numbers are equal values: fractions are always in lowest terms, with a positive denominator.

use std::{
    cmp::Ordering,
    ops::{Add, Mul, Neg, Sub},
};

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};

/// Longest decimal that is read, in characters: more digits than any price list or register has.
pub const DECIMAL_CHARACTERS_MAX: usize = 40;

/// An exact rational number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exact(Form);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Form {
    /// In lowest terms, denominator positive; numerator is never `i128::MIN`.
    Small(i128, i128),
    /// What does not fit into `Small`, in lowest terms.
    Big(Box<BigRational>),
}

/// Why a text is no decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Other characters than a sign, digits and one point.
    #[error("is not a decimal number: digits, one point and a leading minus only, as in \"-12.5\"")]
    Malformed,
    /// Longer than [`DECIMAL_CHARACTERS_MAX`].
    #[error("has more than {DECIMAL_CHARACTERS_MAX} characters")]
    TooLong,
}

/// Greatest common divisor; `gcd(0, b) = b`.
fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        if let (Ok(small_a), Ok(small_b)) = (u64::try_from(a), u64::try_from(b)) {
            return u128::from(gcd_64(small_a, small_b));
        }
        (a, b) = (b, a % b);
    }
    a
}

/// As [`gcd`], by halving: the common case, several times faster than wide division.
fn gcd_64(mut a: u64, mut b: u64) -> u64 {
    if a == 0 || b == 0 {
        return a | b;
    }
    let twos = (a | b).trailing_zeros();
    a >>= a.trailing_zeros();
    while b != 0 {
        b >>= b.trailing_zeros();
        if a > b {
            (a, b) = (b, a);
        }
        b -= a;
    }
    a << twos
}

impl Exact {
    /// Nothing.
    pub const ZERO: Exact = Exact(Form::Small(0, 1));
    /// One.
    pub const ONE: Exact = Exact(Form::Small(1, 1));

    /// A whole number.
    pub fn whole(value: i128) -> Exact {
        match value {
            i128::MIN => Exact(Form::Big(Box::new(BigRational::from_integer(BigInt::from(value))))),
            _ => Exact(Form::Small(value, 1)),
        }
    }

    /// The fraction of two whole numbers; `None` if the denominator is zero.
    pub fn fraction(numerator: i128, denominator: i128) -> Option<Exact> {
        if denominator == 0 {
            return None;
        }
        Some(Exact::reduced(numerator, denominator).unwrap_or_else(|| {
            Exact(Form::Big(Box::new(BigRational::new(BigInt::from(numerator), BigInt::from(denominator)))))
        }))
    }

    /// Ten to the power of `digits`.
    pub fn power_of_ten(digits: u32) -> Exact {
        match 10i128.checked_pow(digits) {
            Some(power) => Exact::whole(power),
            None => Exact(Form::Big(Box::new(BigRational::from_integer(BigInt::from(10).pow(digits))))),
        }
    }

    /// A decimal number as price lists write it: `12`, `-0.5`, `0.09613`.
    pub fn decimal(text: &str) -> Result<Exact, DecimalError> {
        if text.len() > DECIMAL_CHARACTERS_MAX {
            return Err(DecimalError::TooLong);
        }
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
        let written_whole = whole.bytes().all(|b| b.is_ascii_digit()) && !whole.is_empty();
        let written_rest = rest.bytes().all(|b| b.is_ascii_digit()) && (digits.contains('.') != rest.is_empty());
        if !written_whole || !written_rest {
            return Err(DecimalError::Malformed);
        }
        let joined = format!("{}{whole}{rest}", if negative { "-" } else { "" });
        let places = u32::try_from(rest.len()).map_err(|_| DecimalError::TooLong)?;
        let numerator: BigInt = joined.parse().map_err(|_| DecimalError::Malformed)?;
        Ok(Exact::shrunk(BigRational::new(numerator, BigInt::from(10).pow(places))))
    }

    /// In lowest terms, unless a part does not fit.
    fn reduced(numerator: i128, denominator: i128) -> Option<Exact> {
        if denominator == 1 && numerator != i128::MIN {
            return Some(Exact(Form::Small(numerator, 1)));
        }
        let common = gcd(numerator.unsigned_abs(), denominator.unsigned_abs());
        let top = i128::try_from(numerator.unsigned_abs() / common).ok()?;
        let bottom = i128::try_from(denominator.unsigned_abs() / common).ok()?;
        let negative = (numerator < 0) != (denominator < 0);
        Some(Exact(Form::Small(if negative { -top } else { top }, bottom)))
    }

    /// A big fraction, made small if it fits.
    fn shrunk(big: BigRational) -> Exact {
        match (big.numer().to_i128(), big.denom().to_i128()) {
            (Some(numerator), Some(denominator)) if numerator != i128::MIN => {
                Exact(Form::Small(numerator, denominator))
            }
            _ => Exact(Form::Big(Box::new(big))),
        }
    }

    fn big(&self) -> BigRational {
        match &self.0 {
            Form::Small(n, d) => BigRational::new_raw(BigInt::from(*n), BigInt::from(*d)),
            Form::Big(big) => (**big).clone(),
        }
    }

    /// Quotient; `None` if `other` is zero.
    pub fn over(&self, other: &Exact) -> Option<Exact> {
        match (&self.0, &other.0) {
            (_, Form::Small(0, _)) => None,
            (Form::Small(a, b), Form::Small(c, d)) => {
                let inverse = if *c < 0 { Exact(Form::Small(-d, -c)) } else { Exact(Form::Small(*d, *c)) };
                Some(&Exact(Form::Small(*a, *b)) * &inverse)
            }
            _ => Some(Exact::shrunk(self.big() / other.big())),
        }
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        matches!(self.0, Form::Small(0, _))
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        match &self.0 {
            Form::Small(n, _) => *n < 0,
            Form::Big(big) => big.is_negative(),
        }
    }

    /// Whether it is above zero.
    pub fn is_positive(&self) -> bool {
        !self.is_zero() && !self.is_negative()
    }

    /// Without its sign.
    pub fn abs(&self) -> Exact {
        if self.is_negative() { -self } else { self.clone() }
    }

    /// The largest whole number that is not above it.
    pub fn floor(&self) -> Exact {
        match &self.0 {
            Form::Small(n, d) => Exact(Form::Small(n.div_euclid(*d), 1)),
            Form::Big(big) => Exact::shrunk(big.floor()),
        }
    }

    /// Its value, if it is whole and fits into 64 bits.
    pub fn to_i64(&self) -> Option<i64> {
        match &self.0 {
            Form::Small(n, 1) => i64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// Its value, if it is whole and fits into 128 bits.
    pub fn to_i128(&self) -> Option<i128> {
        match &self.0 {
            Form::Small(n, 1) => Some(*n),
            _ => None,
        }
    }

    /// Whether it is a whole number.
    pub fn is_whole(&self) -> bool {
        match &self.0 {
            Form::Small(_, d) => *d == 1,
            Form::Big(big) => big.is_integer(),
        }
    }

    /// As a decimal with at most `places` digits behind the point, halves away from zero, without trailing zeros.
    pub fn to_decimal(&self, places: u32) -> String {
        let scaled = &self.abs() * &Exact::power_of_ten(places);
        let rounded = (&scaled + &Exact(Form::Small(1, 2))).floor().big().to_integer();
        let width = places as usize + 1;
        let digits = format!("{:0>width$}", rounded.to_string());
        let (whole, rest) = digits.split_at(digits.len() - places as usize);
        let rest = rest.trim_end_matches('0');
        let sign = if self.is_negative() && !rounded.is_zero() { "-" } else { "" };
        if rest.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest}") }
    }
}

impl Ord for Exact {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Form::Small(a, b), Form::Small(c, d)) = (&self.0, &other.0) {
            if b == d {
                return a.cmp(c);
            }
            if let (Some(left), Some(right)) = (a.checked_mul(*d), c.checked_mul(*b)) {
                return left.cmp(&right);
            }
        }
        self.big().cmp(&other.big())
    }
}

impl PartialOrd for Exact {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Sum of two small fractions, if it fits.
fn small_sum(a: i128, b: i128, c: i128, d: i128) -> Option<Exact> {
    if b == d {
        return Exact::reduced(a.checked_add(c)?, b);
    }
    let common = i128::try_from(gcd(b.unsigned_abs(), d.unsigned_abs())).ok()?;
    let (left, right) = (b / common, d / common);
    let numerator = a.checked_mul(right)?.checked_add(c.checked_mul(left)?)?;
    Exact::reduced(numerator, left.checked_mul(d)?)
}

/// Product of two small fractions, if it fits. Crosswise reduction keeps the parts small.
fn small_product(a: i128, b: i128, c: i128, d: i128) -> Option<Exact> {
    if b == 1 && d == 1 {
        return Exact::reduced(a.checked_mul(c)?, 1);
    }
    let first = i128::try_from(gcd(a.unsigned_abs(), d.unsigned_abs())).ok()?;
    let second = i128::try_from(gcd(c.unsigned_abs(), b.unsigned_abs())).ok()?;
    let numerator = (a / first).checked_mul(c / second)?;
    let denominator = (b / second).checked_mul(d / first)?;
    (numerator != i128::MIN).then_some(Exact(Form::Small(numerator, denominator)))
}

impl Add for &Exact {
    type Output = Exact;
    fn add(self, other: &Exact) -> Exact {
        if let (Form::Small(a, b), Form::Small(c, d)) = (&self.0, &other.0)
            && let Some(sum) = small_sum(*a, *b, *c, *d)
        {
            return sum;
        }
        Exact::shrunk(self.big() + other.big())
    }
}

impl Neg for &Exact {
    type Output = Exact;
    fn neg(self) -> Exact {
        match &self.0 {
            Form::Small(n, d) => Exact(Form::Small(-n, *d)),
            Form::Big(big) => Exact::shrunk(-(**big).clone()),
        }
    }
}

impl Sub for &Exact {
    type Output = Exact;
    fn sub(self, other: &Exact) -> Exact {
        self + &(-other)
    }
}

impl Mul for &Exact {
    type Output = Exact;
    fn mul(self, other: &Exact) -> Exact {
        if let (Form::Small(a, b), Form::Small(c, d)) = (&self.0, &other.0)
            && let Some(product) = small_product(*a, *b, *c, *d)
        {
            return product;
        }
        Exact::shrunk(self.big() * other.big())
    }
}

impl std::iter::Sum for Exact {
    fn sum<I: Iterator<Item = Exact>>(numbers: I) -> Exact {
        numbers.fold(Exact::ZERO, |sum, number| &sum + &number)
    }
}

impl<'a> std::iter::Sum<&'a Exact> for Exact {
    fn sum<I: Iterator<Item = &'a Exact>>(numbers: I) -> Exact {
        numbers.fold(Exact::ZERO, |sum, number| &sum + number)
    }
}

impl Default for Exact {
    fn default() -> Self {
        Exact::ZERO
    }
}

impl std::fmt::Display for Exact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_decimal(12))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Exact {
        Exact::decimal(text).unwrap()
    }

    #[test]
    fn decimals_are_read_and_written() {
        for (text, written) in [("5.10", "5.1"), ("-0.065", "-0.065"), ("0", "0"), ("100", "100"), ("-0.0", "0")] {
            assert_eq!(number(text).to_decimal(8), written);
        }
        assert_eq!(number("0.0000005").to_decimal(6), "0.000001");
        assert_eq!(number("-0.0000005").to_decimal(6), "-0.000001");
        assert_eq!(number("42.6229508196").to_decimal(6), "42.622951");
        for wrong in ["", "-", ".", "1.", ".5", "1e3", "+1", "1,5", " 1", "0x10", "--1", "1.2.3"] {
            assert_eq!(Exact::decimal(wrong), Err(DecimalError::Malformed), "{wrong:?}");
        }
        assert_eq!(Exact::decimal(&"9".repeat(41)), Err(DecimalError::TooLong));
    }

    #[test]
    fn numbers_beyond_128_bits_stay_exact() {
        let large = Exact::whole(i128::MAX);
        let square = &large * &large;
        assert_eq!(square.over(&large), Some(large.clone()));
        assert_eq!(&(&square - &square) + &Exact::ONE, Exact::ONE);
        assert_eq!(Exact::whole(i128::MIN).abs().big(), BigRational::from_integer(BigInt::from(1) << 127u32));
        assert_eq!(Exact::fraction(i128::MIN, i128::MIN), Some(Exact::ONE));
        assert!(square > large && -&square < large);
    }

    proptest! {
        #[test]
        fn arithmetic_equals_that_of_big_fractions(
            a in any::<i128>(), b in any::<i128>(), c in any::<i64>(), d in 1i64..=i64::MAX, e in 1i128..=i128::MAX,
        ) {
            let (x, y) = (Exact::fraction(a, e).unwrap(), Exact::fraction(i128::from(c), i128::from(d)).unwrap());
            let z = Exact::whole(b);
            for (left, right) in [(&x, &y), (&y, &x), (&x, &z), (&y, &z)] {
                prop_assert_eq!((left + right).big(), left.big() + right.big());
                prop_assert_eq!((left - right).big(), left.big() - right.big());
                prop_assert_eq!((left * right).big(), left.big() * right.big());
                prop_assert_eq!(left.cmp(right), left.big().cmp(&right.big()));
                prop_assert_eq!(left.floor().big(), left.big().floor());
                if !right.is_zero() {
                    prop_assert_eq!(left.over(right).unwrap().big(), left.big() / right.big());
                }
            }
        }
    }
}
