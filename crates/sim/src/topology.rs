//! The topology and the names of everything in it; the numbers people see begin at 1.

use std::fmt::Write as _;

use metering::{MeterId, UsagePointId, ZoneId};

use crate::{config::SimConfig, error::SimError};

/// The topology in the form `gridtally admin import-topology` takes. CT ratios are 1: the observers' registers count primary
/// energy.
pub(crate) fn topology_csv(config: &SimConfig) -> Result<String, SimError> {
    let mut csv = String::from("zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n");
    let from = config.start;
    let feeder = names::feeder()?;
    let mut row = |zone: ZoneId, parent: &str, observer: &str, usage_point: &str, meter: &str, phase: &str| {
        // writing to a String cannot fail
        let _ = writeln!(csv, "{zone},{parent},{observer},{usage_point},{meter},1,{phase},{from}");
    };
    row(feeder, "", names::feeder_observer()?.as_str(), "", "", "");
    for transformer in 0..config.transformers {
        let zone = names::zone(transformer)?;
        row(zone, feeder.as_str(), names::transformer_observer(transformer)?.as_str(), "", "", "");
    }
    for transformer in 0..config.transformers {
        let zone = names::zone(transformer)?;
        for home in 0..config.homes_per_transformer {
            let phase = ["A", "B", "C"][usize::from(home % 3)];
            let usage_point = names::usage_point(transformer, home)?;
            let meter = names::home_meter(transformer, home)?;
            row(zone, "", "", usage_point.as_str(), meter.as_str(), phase);
        }
    }
    Ok(csv)
}

pub(crate) mod names {
    use super::{MeterId, SimError, UsagePointId, ZoneId};

    fn id<T, E: std::fmt::Display>(made: Result<T, E>) -> Result<T, SimError> {
        made.map_err(|e| SimError::Config(e.to_string()))
    }

    pub(crate) fn feeder() -> Result<ZoneId, SimError> {
        id(ZoneId::new("F1"))
    }

    pub(crate) fn zone(transformer: u16) -> Result<ZoneId, SimError> {
        id(ZoneId::new(&format!("F1-T{}", transformer + 1)))
    }

    pub(crate) fn usage_point(transformer: u16, home: u16) -> Result<UsagePointId, SimError> {
        id(UsagePointId::new(&format!("UP-{}-{:02}", transformer + 1, home + 1)))
    }

    pub(crate) fn home_meter(transformer: u16, home: u16) -> Result<MeterId, SimError> {
        id(MeterId::new(&format!("M-{}-{:02}", transformer + 1, home + 1)))
    }

    pub(crate) fn transformer_observer(transformer: u16) -> Result<MeterId, SimError> {
        id(MeterId::new(&format!("OBS-F1-T{}", transformer + 1)))
    }

    pub(crate) fn feeder_observer() -> Result<MeterId, SimError> {
        id(MeterId::new("OBS-F1"))
    }
}
