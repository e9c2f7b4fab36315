//! What a simulation tells while it runs and what it knows at its end: the ground truth.

use metering::{MeterId, Timestamp, UsagePointId, ZoneId};
use serde::{Deserialize, Serialize};

/// Something worth telling, in time order.
#[derive(Clone, Debug, PartialEq)]
pub enum SimEvent {
    /// All meters of the neighbourhood are enrolled and the topology is imported.
    Enrolled {
        /// Number of meters.
        meters: usize,
    },
    /// The fast-forwarded history is over.
    HistoryDone {
        /// Virtual time.
        at: Timestamp,
    },
    /// A theft begins.
    TheftBegan {
        /// Virtual time.
        at: Timestamp,
        /// The word of its kind.
        kind: &'static str,
        /// Where it is.
        zone: ZoneId,
        /// Who; `None` for a tampered observer.
        usage_point: Option<UsagePointId>,
    },
    /// A thief stops by himself.
    TheftEnded {
        /// Virtual time.
        at: Timestamp,
        /// The word of its kind.
        kind: &'static str,
        /// Where it was.
        zone: ZoneId,
        /// Who.
        usage_point: Option<UsagePointId>,
    },
    /// A home's relay opened.
    RelayOpened {
        /// Virtual time.
        at: Timestamp,
        /// The home.
        usage_point: UsagePointId,
        /// Whether current still flows around it.
        still_supplied: bool,
    },
    /// A home's relay closed.
    RelayClosed {
        /// Virtual time.
        at: Timestamp,
        /// The home.
        usage_point: UsagePointId,
    },
    /// Someone at home pressed the button of an armed meter.
    ButtonPressed {
        /// Virtual time.
        at: Timestamp,
        /// The home.
        usage_point: UsagePointId,
    },
    /// A meter's link goes down for hours.
    LinkLost {
        /// Virtual time.
        at: Timestamp,
        /// The meter.
        meter: MeterId,
    },
    /// A meter's link is back.
    LinkRestored {
        /// Virtual time.
        at: Timestamp,
        /// The meter.
        meter: MeterId,
    },
    /// A meter found, without the server, that its neighbourhood's sum does not match, or that it matches again.
    NeighboursCompared {
        /// Virtual time.
        at: Timestamp,
        /// The meter.
        meter: MeterId,
        /// Whether something is missing.
        is_missing: bool,
    },
    /// A control reached a meter and was answered.
    ControlAnswered {
        /// Virtual time.
        at: Timestamp,
        /// The meter.
        meter: MeterId,
        /// The word of the control's kind.
        kind: &'static str,
        /// The word of the answer.
        outcome: &'static str,
    },
    /// The server does not answer; the simulation waits and tries again.
    ServerLost {
        /// Virtual time.
        at: Timestamp,
    },
    /// The server answers again.
    ServerBack {
        /// Virtual time.
        at: Timestamp,
    },
    /// The server has been told this time and has come to rest.
    Reached {
        /// Virtual time.
        at: Timestamp,
    },
}

/// A meter's registers at the end, against which a store is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterTruth {
    /// The meter.
    pub meter: MeterId,
    /// Its zone (for an observer: the zone it observes).
    pub zone: ZoneId,
    /// The home; `None` for an observer.
    pub usage_point: Option<UsagePointId>,
    /// Import register of the meter itself, Wh.
    pub import_wh: u64,
    /// Export register of the meter itself, Wh.
    pub export_wh: u64,
    /// End of the last profile record it made, if any.
    pub last_end: Option<Timestamp>,
    /// Import register in that record, Wh.
    pub last_import_wh: u64,
    /// Export register in that record, Wh.
    pub last_export_wh: u64,
    /// Profile records made since the start.
    pub records: u64,
    /// Energy that truly flowed to the home (stolen included) or through the observer, Wh.
    pub true_wh: u64,
    /// Frames the meter has not got acknowledged: none, unless the simulation was broken off.
    pub unacknowledged: u64,
}

/// A theft as it truly was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TheftTruth {
    /// The word of its kind.
    pub kind: String,
    /// The transformer's zone.
    pub zone: ZoneId,
    /// The thief; `None` for a tampered observer.
    pub usage_point: Option<UsagePointId>,
    /// The thief's meter, or the tampered observer.
    pub meter: MeterId,
    /// When it began (RFC 3339 in [`Timestamp`]'s display form).
    pub start: Timestamp,
    /// When it ended by the thief's own choice, within the simulated time.
    pub end: Option<Timestamp>,
    /// Energy not registered because of it, Wh. For a tampered observer: what the observer failed to register.
    pub stolen_wh: f64,
    /// Energy that flowed into the zone while the theft was under way (start to end of theft or simulation), Wh.
    pub zone_supplied_wh: f64,
}

/// A zone's true energies since the first theft in it began (zero when none did).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZoneTruth {
    /// The zone.
    pub zone: ZoneId,
    /// Its observer.
    pub observer: MeterId,
    /// Start of the first theft in it; a tampered observer counts for its own zone and for the zone above.
    pub theft_started: Option<Timestamp>,
    /// True inflow since then, Wh.
    pub supplied_wh: f64,
    /// Unregistered by homes since then, Wh.
    pub stolen_wh: f64,
    /// Lost in lines (and, for the feeder, transformers) since then, Wh.
    pub technical_wh: f64,
    /// True inflow over the whole simulation, Wh.
    pub total_supplied_wh: f64,
    /// Technical loss over the whole simulation, Wh.
    pub total_technical_wh: f64,
}

/// Everything true at the end of a simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimReport {
    /// The seed.
    pub seed: u64,
    /// First instant.
    pub start: Timestamp,
    /// Last instant.
    pub end: Timestamp,
    /// Different frames that meters made.
    pub frames_made: u64,
    /// Different frames that the server acknowledged.
    pub frames_sent: u64,
    /// Frames sent a second time after a lost connection.
    pub frames_resent: u64,
    /// Connections to the server that broke.
    pub connections_lost: u64,
    /// Times the server was found not answering.
    pub server_losses: u64,
    /// Profile records that meters made.
    pub records_made: u64,
    /// Every meter, homes first, then transformers' observers, then the feeder's.
    pub meters: Vec<MeterTruth>,
    /// Every zone, the feeder first.
    pub zones: Vec<ZoneTruth>,
    /// Every theft that began, in order of its start.
    pub thefts: Vec<TheftTruth>,
}
