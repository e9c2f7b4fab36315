//! Rounding rules: to the nearest multiple of a step, in decimal, on exact numbers.

use crate::exact::Exact;

/// What happens to a number between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To the nearest, halves away from zero. The default.
    HalfUp,
    /// To the nearest, halves to the even multiple.
    HalfEven,
    /// Toward zero.
    Down,
    /// Away from zero.
    Up,
}

impl Mode {
    /// As it is written in a tariff file.
    pub const fn word(self) -> &'static str {
        match self {
            Mode::HalfUp => "half-up",
            Mode::HalfEven => "half-even",
            Mode::Down => "down",
            Mode::Up => "up",
        }
    }

    /// From the word of a tariff file.
    pub fn from_word(word: &str) -> Option<Mode> {
        [Mode::HalfUp, Mode::HalfEven, Mode::Down, Mode::Up].into_iter().find(|mode| mode.word() == word)
    }
}

/// A rule: multiples of `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rounding {
    /// The step; above zero.
    pub to: Exact,
    /// Direction.
    pub mode: Mode,
}

impl Rounding {
    /// Halves away from zero, at the given number of decimal digits: the minor unit of a currency.
    pub fn to_digits(digits: u32) -> Rounding {
        let to = Exact::ONE.over(&Exact::power_of_ten(digits)).unwrap_or(Exact::ONE);
        Rounding { to, mode: Mode::HalfUp }
    }

    /// The rounded number.
    pub fn apply(&self, number: &Exact) -> Exact {
        let Some(steps) = number.abs().over(&self.to) else { return number.clone() };
        let below = steps.floor();
        let rest = &steps - &below;
        let half = (&rest + &rest).cmp(&Exact::ONE);
        let up = match self.mode {
            Mode::HalfUp => half.is_ge(),
            Mode::HalfEven => half.is_gt() || (half.is_eq() && !is_even(&below)),
            Mode::Down => false,
            Mode::Up => !rest.is_zero(),
        };
        let count = if up { &below + &Exact::ONE } else { below };
        let rounded = &count * &self.to;
        if number.is_negative() { -&rounded } else { rounded }
    }

    /// As a bill line shows it.
    pub fn label(&self) -> String {
        format!("{} to {}", self.mode.word(), self.to.to_decimal(8))
    }
}

fn is_even(whole: &Exact) -> bool {
    let half = whole.over(&Exact::whole(2)).unwrap_or(Exact::ZERO);
    half.is_whole()
}

/// The rounded number, or the number itself where there is no rule.
pub fn apply(rule: Option<&Rounding>, number: &Exact) -> Exact {
    rule.map_or_else(|| number.clone(), |rule| rule.apply(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_on_both_sides_of_zero() {
        let table = [
            ("0.825", ["0.83", "0.82", "0.82", "0.83"]),
            ("0.835", ["0.84", "0.84", "0.83", "0.84"]),
            ("-0.225", ["-0.23", "-0.22", "-0.22", "-0.23"]),
            ("-0.065", ["-0.07", "-0.06", "-0.06", "-0.07"]),
            ("1.001", ["1", "1", "1", "1.01"]),
            ("1.00", ["1", "1", "1", "1"]),
            ("0", ["0", "0", "0", "0"]),
        ];
        for (number, expected) in table {
            let modes = [Mode::HalfUp, Mode::HalfEven, Mode::Down, Mode::Up];
            for (mode, expected) in modes.into_iter().zip(expected) {
                let rule = Rounding { to: Exact::decimal("0.01").unwrap(), mode };
                assert_eq!(rule.apply(&Exact::decimal(number).unwrap()).to_decimal(8), expected, "{number} {mode:?}");
            }
        }
    }

    #[test]
    fn steps_need_not_be_powers_of_ten() {
        let half_kilowatt = Rounding { to: Exact::decimal("0.5").unwrap(), mode: Mode::Up };
        assert_eq!(half_kilowatt.apply(&Exact::decimal("2.3").unwrap()).to_decimal(3), "2.5");
        assert_eq!(half_kilowatt.label(), "up to 0.5");
    }
}
