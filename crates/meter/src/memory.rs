//! What survives a power failure: everything the meter must know again at the next start, and its encoding.
//!
//! Frames and logged events are kept one by one (see `flash`); the rest is one small record that is written anew each time.

use alloc::vec::Vec;

use metering::{Compartment, ProfileRecord, Watts};
use minicbor::{Decode, Encode};

use crate::{
    control::ControlMemory,
    event_log::{EventLog, LoggedEvent},
    masking::MaskMemory,
    outages::Outages,
    profile::Profile,
    register::Registers,
    relay::RelayMemory,
    ring::{FrameId, Ring},
    settings::{MeterConfig, Settings},
    tamper::TamperEngine,
    texts::TextMemory,
};
use metering::topic::UpKind;

/// What survives a power failure.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(crate) registers: Registers,
    pub(crate) profile: Profile,
    pub(crate) records: Vec<ProfileRecord>,
    pub(crate) ring: Ring,
    pub(crate) relay: RelayMemory,
    pub(crate) limit: Option<Watts>,
    pub(crate) controls: ControlMemory,
    pub(crate) tamper: TamperEngine,
    pub(crate) log: EventLog,
    pub(crate) outages: Outages,
    pub(crate) drift_ppm: i32,
    pub(crate) texts: TextMemory,
    pub(crate) settings: Settings,
    /// The calibration that was told last.
    pub(crate) calibration: Option<u32>,
    pub(crate) masking: MaskMemory,
}

impl Memory {
    /// The memory of a new meter with these settings.
    pub fn new(config: &MeterConfig, settings: Settings) -> Self {
        Self {
            registers: Registers::default(),
            profile: Profile::new(settings.profile),
            records: Vec::new(),
            ring: Ring::new(config.ring_frames_max),
            relay: RelayMemory::default(),
            limit: None,
            controls: ControlMemory::default(),
            tamper: TamperEngine::default(),
            log: EventLog::default(),
            outages: Outages::default(),
            drift_ppm: 0,
            texts: TextMemory::default(),
            settings,
            calibration: None,
            masking: MaskMemory::default(),
        }
    }

    /// The same memory with other registers, for a meter that was in use before.
    #[must_use]
    pub fn with_registers(mut self, registers: Registers) -> Self {
        self.registers = registers;
        self
    }

    /// The registers.
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    /// The waiting frames.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The event log.
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// What is remembered of controls.
    pub fn controls(&self) -> &ControlMemory {
        &self.controls
    }

    /// Everything but frames and events, as it is written at each save.
    pub(crate) fn core(&self, save: u64) -> Core {
        Core {
            save,
            registers: self.registers,
            profile: self.profile,
            records: self.records.clone(),
            relay: self.relay,
            limit: self.limit,
            controls: self.controls.clone(),
            tamper: self.tamper,
            events: self.log.total(),
            event_counts: self.log.counts(),
            outages: self.outages,
            drift_ppm: self.drift_ppm,
            settings: self.settings,
            frames_made: self.ring.frames_made(),
            frames_dropped: self.ring.frames_dropped(),
            texts: self.texts,
            calibration: self.calibration,
            masking: self.masking.clone(),
        }
    }
}

/// The record of one save.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Core {
    /// Number of this save; frames and events written under a higher one never happened.
    #[n(0)]
    pub(crate) save: u64,
    #[n(1)]
    registers: Registers,
    #[n(2)]
    profile: Profile,
    #[n(3)]
    records: Vec<ProfileRecord>,
    #[n(4)]
    relay: RelayMemory,
    #[n(5)]
    limit: Option<Watts>,
    #[n(6)]
    controls: ControlMemory,
    #[n(7)]
    tamper: TamperEngine,
    #[n(8)]
    events: u64,
    #[n(9)]
    event_counts: [u32; Compartment::ALL.len()],
    #[n(10)]
    outages: Outages,
    #[n(11)]
    drift_ppm: i32,
    #[n(12)]
    settings: Settings,
    #[n(13)]
    frames_made: u64,
    #[n(14)]
    frames_dropped: u64,
    #[n(15)]
    texts: TextMemory,
    #[n(16)]
    calibration: Option<u32>,
    #[n(17)]
    #[cbor(default)]
    masking: MaskMemory,
}

impl Core {
    /// The memory with the frames and events that belong to it.
    pub(crate) fn into_memory(
        self,
        config: &MeterConfig,
        frames: Vec<(FrameId, UpKind, Vec<u8>)>,
        events: Vec<LoggedEvent>,
    ) -> Memory {
        Memory {
            registers: self.registers,
            profile: self.profile,
            records: self.records,
            ring: Ring::restore(config.ring_frames_max, self.frames_made, self.frames_dropped, frames),
            relay: self.relay,
            limit: self.limit,
            controls: self.controls,
            tamper: self.tamper,
            log: EventLog::restore(events, self.events, self.event_counts),
            outages: self.outages,
            drift_ppm: self.drift_ppm,
            texts: self.texts,
            settings: self.settings,
            calibration: self.calibration,
            masking: self.masking,
        }
    }
}
