//! The voltage that a network is declared to have, against which power quality is judged: one for all, and others for zones.

use std::collections::BTreeMap;

use metering::{MeterId, ZoneId};
use registry::Topology;

/// Declared phase voltage, volts, where nothing else is said: the 230 V of IEC 60038.
pub const NOMINAL_VOLTS: u16 = 230;

/// Declared phase voltages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NominalVoltage {
    volts: u16,
    /// Of a zone and all zones in it that are not named themselves.
    zones: BTreeMap<ZoneId, u16>,
}

impl Default for NominalVoltage {
    fn default() -> Self {
        Self::new(NOMINAL_VOLTS, BTreeMap::new())
    }
}

impl NominalVoltage {
    /// One voltage for all but these zones, volts.
    pub fn new(volts: u16, zones: BTreeMap<ZoneId, u16>) -> Self {
        Self { volts, zones }
    }

    /// The declared voltage where a meter is installed, volts; the general one for a meter that is not.
    pub fn of_meter(&self, topology: &Topology, meter: MeterId) -> f64 {
        let observed = topology.observed_by(meter).map(|zone| zone.zone);
        let mut at = observed.or_else(|| topology.usage_point_of(meter).map(|point| point.zone));
        for _ in 0..=topology.zones.len() {
            let Some(zone) = at else { break };
            if let Some(volts) = self.zones.get(&zone) {
                return f64::from(*volts);
            }
            at = topology.zone(zone).and_then(|zone| zone.parent);
        }
        f64::from(self.volts)
    }
}

#[cfg(test)]
mod tests {
    use metering::{Timestamp, UsagePointId};
    use registry::{Installation, PhaseConnection, TopologyParts, TopologyUsagePoint, TopologyZone, ZoneKind};

    use super::*;

    fn installed(meter: &str) -> Option<Installation> {
        Some(Installation {
            meter: MeterId::new(meter).expect("id"),
            ct_ratio: 1.0,
            phase: PhaseConnection::A,
            class: None,
            valid_from: Timestamp(0),
            valid_to: None,
        })
    }

    #[test]
    fn the_innermost_zone_that_is_named_decides() {
        let id = |zone| ZoneId::new(zone).expect("id");
        let zone = |name, parent: Option<&str>, observer| TopologyZone {
            zone: id(name),
            parent: parent.map(|parent| ZoneId::new(parent).expect("id")),
            kind: ZoneKind::Transformer,
            rating_w: None,
            observer,
        };
        let point = |name, zone, meter| TopologyUsagePoint {
            usage_point: UsagePointId::new(name).expect("id"),
            zone: id(zone),
            never_disconnect: false,
            rating_w: None,
            installation: installed(meter),
            unmetered: None,
        };
        let topology = Topology::new(TopologyParts {
            version: 1,
            zones: vec![
                zone("F", None, installed("O-F")),
                zone("T-1", Some("F"), installed("O-1")),
                zone("B-1", Some("T-1"), None),
            ],
            usage_points: vec![point("U-1", "B-1", "M-1"), point("U-2", "F", "M-2")],
        });
        let nominal = NominalVoltage::new(240, BTreeMap::from([(id("T-1"), 120)]));
        let of = |meter| nominal.of_meter(&topology, MeterId::new(meter).expect("id"));
        assert_eq!(["M-1", "O-1", "M-2", "O-F", "M-9"].map(of), [120.0, 120.0, 240.0, 240.0, 240.0]);
    }
}
