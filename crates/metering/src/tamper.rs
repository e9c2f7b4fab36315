//! The signs of tampering that a meter senses, each with what follows from it: one row per kind, asked by meter, detection, policy and
//! pages alike.

use crate::event::EventKind;

/// What in the meter gives a sign. Two kinds of one sensor are one sign: a neutral that is shared by mistake shows as bypass and as
/// earth loading within a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensor {
    /// The switch under the cover.
    Cover,
    /// The magnetic field sensor.
    Magnet,
    /// The comparison of phase and neutral current, and the direction of the current.
    Currents,
    /// The voltage between phase and neutral.
    Neutral,
}

/// One kind of tampering.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tamper {
    /// The event at its begin.
    pub kind: EventKind,
    /// What senses it. A second, independent sign is one of another sensor.
    pub sensor: Sensor,
    /// Whether it stays until a person clears it: there is no event of its end.
    pub is_latched: bool,
    /// Whether it is a reason to look by itself; the others wait for a second sign.
    pub opens_case: bool,
    /// Whether a meter that gives it cannot be explained by an honest fault of the meter.
    pub excludes_fault: bool,
    /// What it weighs by itself as evidence against the home, tenths of a nat (log likelihood ratio). Judged, not measured: no public record says how
    /// often honest meters give each sign.
    pub decinats: u8,
}

/// Every kind, in the order of their codes.
pub const TAMPERS: [Tamper; 7] = [
    row(EventKind::ReverseCurrent, Sensor::Currents, 25),
    Tamper { excludes_fault: true, ..row(EventKind::Bypass, Sensor::Currents, 50) },
    Tamper { excludes_fault: true, ..row(EventKind::EarthLoad, Sensor::Currents, 50) },
    Tamper { opens_case: true, excludes_fault: true, ..row(EventKind::Magnet, Sensor::Magnet, 45) },
    row(EventKind::NeutralDisturbance, Sensor::Neutral, 35),
    row(EventKind::NeutralMissing, Sensor::Neutral, 35),
    Tamper { is_latched: true, opens_case: true, excludes_fault: true, ..row(EventKind::CoverOpen, Sensor::Cover, 45) },
];

/// A soft sign that ends by itself.
const fn row(kind: EventKind, sensor: Sensor, decinats: u8) -> Tamper {
    Tamper { kind, sensor, is_latched: false, opens_case: false, excludes_fault: false, decinats }
}

impl EventKind {
    /// What follows from the kind, when it points at tampering with the meter.
    pub fn tamper(self) -> Option<&'static Tamper> {
        TAMPERS.iter().find(|tamper| tamper.kind == self)
    }

    /// Whether the kind, by itself, points at tampering with the meter.
    pub fn is_tamper(self) -> bool {
        self.tamper().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_each_kind_that_ends_has_an_event_for_it() {
        assert!(TAMPERS.windows(2).all(|pair| pair[0].kind.code() < pair[1].kind.code()));
        for tamper in TAMPERS {
            let end = EventKind::from_code(tamper.kind.code() + 1);
            assert_eq!(matches!(end, EventKind::Other(_)), tamper.is_latched, "{:?}", tamper.kind);
            assert!(!end.is_tamper(), "an end is no sign");
            assert!(tamper.decinats > 0 && (!tamper.opens_case || tamper.decinats >= 40), "{:?}", tamper.kind);
        }
    }
}
