//! A meter with its flash: nothing is sent and nothing moves before it is remembered.
//!
//! [`Meter`] says in which order a shell must act; this is the one shell that does so, for every board: it saves when the meter
//! asks for it, gives the relay's pulse only after the save has returned, and hands out no frame while something is not saved. A
//! flash that fails stops sending and switching, shows on the display and is tried again; registers go on counting. It is not: a
//! driver, or a connection.

use core::fmt;

use embedded_storage::nor_flash::MultiwriteNorFlash;
use metering::{Down, EventKind};

use crate::{
    clock::MeterClock,
    display::View,
    flash::{FlashError, FlashStore},
    inputs::{Inputs, Uptime},
    meter::{Action, Meter},
    relay::Pulse,
    ring::{FrameId, Outgoing},
    settings::{MeterConfig, Settings},
};

/// A flash that failed is tried again after so long, milliseconds.
const RETRY_MS: u64 = 10_000;

/// A meter whose memory lies in flash.
#[derive(Debug)]
pub struct KeptMeter<F: MultiwriteNorFlash> {
    meter: Meter,
    store: FlashStore<F>,
    /// Something is not saved yet.
    is_unsaved: bool,
    saves: u64,
    /// Frames were overwritten in flash since the start: that is told once.
    has_overwritten: bool,
    /// Why, and when it is tried again.
    fault: Option<(FlashError<F::Error>, Uptime)>,
}

impl<F: MultiwriteNorFlash> KeptMeter<F>
where
    F::Error: fmt::Debug,
{
    /// Starts a meter from what its flash holds; a new one, when it holds nothing.
    ///
    /// # Errors
    /// When the flash fails or its content is damaged beyond repair.
    pub fn start(
        mut store: FlashStore<F>,
        config: MeterConfig,
        settings: Settings,
        clock: MeterClock,
        uptime: Uptime,
    ) -> Result<Self, FlashError<F::Error>> {
        let (memory, boot) = store.load(&config, settings)?;
        let meter = Meter::start(config, memory, boot, clock, uptime);
        Ok(Self { meter, store, is_unsaved: false, saves: 0, has_overwritten: false, fault: None })
    }

    /// As [`Meter::step`]; gives the relay's pulse once it is remembered.
    pub fn step(&mut self, uptime: Uptime, inputs: &Inputs) -> Option<Pulse> {
        let due = Due::of(self.meter.step(uptime, inputs));
        self.obey(due, uptime)
    }

    /// As [`Meter::last_gasp`].
    pub fn last_gasp(&mut self, uptime: Uptime, inputs: &Inputs) -> Option<Pulse> {
        let due = Due::of(self.meter.last_gasp(uptime, inputs));
        self.obey(due, uptime)
    }

    /// As [`Meter::receive`].
    pub fn receive(&mut self, uptime: Uptime, down: &Down) -> Option<Pulse> {
        let due = Due::of(self.meter.receive(down));
        self.obey(due, uptime)
    }

    /// As [`Meter::note`].
    pub fn note(&mut self, uptime: Uptime, kind: EventKind) {
        let due = Due::of(self.meter.note(kind));
        self.obey(due, uptime);
    }

    /// As [`Meter::uncalibrate`].
    pub fn uncalibrate(&mut self, uptime: Uptime) {
        let due = Due::of(self.meter.uncalibrate());
        self.obey(due, uptime);
    }

    /// As [`Meter::next_to_send`]; nothing while something is not saved.
    pub fn next_to_send(&mut self) -> Option<Outgoing<'_>> {
        if self.is_unsaved { None } else { self.meter.next_to_send() }
    }

    /// As [`Meter::acknowledge`]; it is struck out of flash with the next save, and a frame sent twice is taken once.
    pub fn acknowledge(&mut self, id: FrameId) -> bool {
        self.meter.acknowledge(id)
    }

    /// As [`Meter::link_lost`].
    pub fn link_lost(&mut self) {
        self.meter.link_lost();
    }

    /// Strikes acknowledged frames out of flash without saving anything else; without it they go with the next save.
    ///
    /// # Errors
    /// When the flash fails.
    pub fn forget_acknowledged(&mut self) -> Result<u32, FlashError<F::Error>> {
        self.store.forget_acknowledged(&self.meter)
    }

    /// The meter, to look at.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// What display, buzzer and lights show.
    pub fn view(&self) -> View {
        View { has_memory_fault: self.fault.is_some(), ..self.meter.view() }
    }

    /// Why the last save failed, as long as it was not made good.
    pub fn fault(&self) -> Option<&FlashError<F::Error>> {
        self.fault.as_ref().map(|(why, _)| why)
    }

    /// Saves since the start.
    pub fn saves(&self) -> u64 {
        self.saves
    }

    fn obey(&mut self, due: Due, uptime: Uptime) -> Option<Pulse> {
        self.is_unsaved |= due.save;
        let must_wait = self.fault.as_ref().is_some_and(|(_, until)| uptime < *until);
        if self.is_unsaved && !must_wait {
            self.save(uptime);
        }
        // a pulse that could not be remembered is not made up for: the relay finds its contact where it was, and says so
        due.pulse.filter(|_| self.fault.is_none())
    }

    fn save(&mut self, uptime: Uptime) {
        match self.store.save(&mut self.meter) {
            Ok(saved) => {
                (self.is_unsaved, self.fault) = (false, None);
                self.saves += 1;
                if saved.overwritten && !self.has_overwritten {
                    self.has_overwritten = true;
                    // its frame waits for the next save
                    self.meter.note(EventKind::RingOverflow).for_each(drop);
                    self.is_unsaved = true;
                }
            }
            Err(why) => self.fault = Some((why, Uptime(uptime.0.saturating_add(RETRY_MS)))),
        }
    }
}

/// What a call asks for.
#[derive(Clone, Copy, Default)]
struct Due {
    save: bool,
    pulse: Option<Pulse>,
}

impl Due {
    fn of(actions: impl Iterator<Item = Action>) -> Self {
        let mut due = Self::default();
        for action in actions {
            match action {
                Action::Save => due.save = true,
                Action::Relay(pulse) => due.pulse = Some(pulse),
                Action::FrameReady => {}
            }
        }
        due
    }
}
