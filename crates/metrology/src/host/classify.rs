//! Classes of voltage disturbances: IEEE 1159 categories, the ITIC curve, and the cells of the EN 50160 dip table.

use crate::host::limits::{EventLimits, IticStep};

/// Depth of a disturbance by IEEE 1159.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Below 10 %.
    Interruption,
    /// 10 to 90 %.
    Sag,
    /// Above 110 %.
    Swell,
    /// Within 90 to 110 %: no disturbance.
    Normal,
}

/// Length of a disturbance by IEEE 1159.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Up to 30 cycles.
    Instantaneous,
    /// To 3 s.
    Momentary,
    /// To 1 min.
    Temporary,
    /// Longer: sustained interruption, undervoltage, overvoltage.
    LongDuration,
}

/// Where a disturbance lies against the ITIC curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IticRegion {
    /// Equipment should run on.
    NoInterruption,
    /// Equipment may stop, without damage.
    NoDamage,
    /// Equipment may be damaged.
    Prohibited,
}

/// IEEE 1159 category of a residual (or highest) voltage in percent and a duration in seconds at `f_hz`.
pub fn ieee1159(limits: &EventLimits, level_pct: f64, duration_s: f64, f_hz: f64) -> (Depth, Length) {
    let l = &limits.ieee1159;
    let depth = if level_pct < l.interruption_below_pct {
        Depth::Interruption
    } else if level_pct < l.sag_below_pct {
        Depth::Sag
    } else if level_pct > l.swell_above_pct {
        Depth::Swell
    } else {
        Depth::Normal
    };
    let length = if duration_s > l.temporary_to_s {
        Length::LongDuration
    } else if duration_s > l.momentary_to_s {
        Length::Temporary
    } else if duration_s * f_hz > l.instantaneous_to_cycles || depth == Depth::Interruption {
        // Interruptions have no instantaneous class.
        Length::Momentary
    } else {
        Length::Instantaneous
    };
    (depth, length)
}

/// ITIC region of a voltage in percent lasting `duration_s`.
pub fn itic(limits: &EventLimits, level_pct: f64, duration_s: f64) -> IticRegion {
    let at = |steps: &[IticStep]| steps.iter().find(|s| duration_s <= s.to_s).map(|s| s.pct);
    if at(&limits.itic.upper).is_some_and(|p| level_pct > p) {
        IticRegion::Prohibited
    } else if at(&limits.itic.lower).is_some_and(|p| level_pct < p) {
        IticRegion::NoDamage
    } else {
        IticRegion::NoInterruption
    }
}

/// Row and column of the EN 50160 dip table; nothing above 90 % or beyond the last column.
pub fn dip_cell(limits: &EventLimits, residual_pct: f64, duration_s: f64) -> Option<(usize, usize)> {
    if residual_pct >= limits.ieee1159.sag_below_pct {
        return None;
    }
    let row = limits.en50160_dips.residual_from_pct.iter().position(|&from| residual_pct >= from)?;
    let column = limits.en50160_dips.duration_to_s.iter().position(|&to| duration_s <= to)?;
    Some((row, column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::limits::events;

    #[test]
    fn known_cases() {
        let l = events();
        assert_eq!(ieee1159(&l, 40.0, 0.1, 50.0), (Depth::Sag, Length::Instantaneous));
        assert_eq!(ieee1159(&l, 0.0, 0.1, 50.0), (Depth::Interruption, Length::Momentary));
        assert_eq!(ieee1159(&l, 115.0, 0.7, 50.0), (Depth::Swell, Length::Momentary));
        assert_eq!(ieee1159(&l, 85.0, 120.0, 60.0), (Depth::Sag, Length::LongDuration));
        assert_eq!(itic(&l, 0.0, 0.015), IticRegion::NoInterruption);
        assert_eq!(itic(&l, 0.0, 0.03), IticRegion::NoDamage);
        assert_eq!(itic(&l, 75.0, 5.0), IticRegion::NoDamage);
        assert_eq!(itic(&l, 130.0, 0.1), IticRegion::Prohibited);
        assert_eq!(dip_cell(&l, 75.0, 0.3), Some((1, 1)));
        assert_eq!(dip_cell(&l, 95.0, 0.3), None);
        assert_eq!(dip_cell(&l, 3.0, 0.1), Some((4, 0)));
    }
}
