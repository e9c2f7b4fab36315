//! The neighbourhood itself: who is connected where, and what truly happens.

use std::fmt::Write as _;

use metering::{MeterId, Timestamp, UsagePointId, ZoneId};

use crate::{
    config::SimConfig,
    error::SimError,
    report::{SimReport, ZoneTruth},
};

/// A simulated neighbourhood at an instant.
pub struct World {
    config: SimConfig,
    now: Timestamp,
    meters: Vec<MeterId>,
}

impl World {
    /// Builds a neighbourhood; the same configuration gives the same one.
    pub fn new(config: &SimConfig) -> Result<Self, SimError> {
        config.check()?;
        let mut meters = Vec::new();
        for transformer in 0..config.transformers {
            for home in 0..config.homes_per_transformer {
                meters.push(names::home_meter(transformer, home)?);
            }
        }
        for transformer in 0..config.transformers {
            meters.push(names::transformer_observer(transformer)?);
        }
        meters.push(names::feeder_observer()?);
        Ok(Self { config: config.clone(), now: config.start, meters })
    }

    /// Virtual time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Every meter: homes first, then transformers' observers, then the feeder's.
    pub fn meters(&self) -> &[MeterId] {
        &self.meters
    }

    /// The topology in the form `gridtally admin import-topology` takes. CT ratios are 1: the observers' registers count
    /// primary energy.
    pub fn topology_csv(&self) -> String {
        topology_csv(&self.config).unwrap_or_default()
    }

    /// The truth so far.
    pub fn report(&self) -> SimReport {
        SimReport {
            seed: self.config.seed,
            start: self.config.start,
            end: self.now,
            frames_made: 0,
            frames_sent: 0,
            frames_resent: 0,
            connections_lost: 0,
            server_losses: 0,
            records_made: 0,
            meters: Vec::new(),
            zones: Vec::<ZoneTruth>::new(),
            thefts: Vec::new(),
        }
    }
}

fn topology_csv(config: &SimConfig) -> Result<String, SimError> {
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
            let phase = ["L1", "L2", "L3"][usize::from(home % 3)];
            let usage_point = names::usage_point(transformer, home)?;
            let meter = names::home_meter(transformer, home)?;
            row(zone, feeder.as_str(), "", usage_point.as_str(), meter.as_str(), phase);
        }
    }
    Ok(csv)
}

/// Names of everything; the numbers people see begin at 1.
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
