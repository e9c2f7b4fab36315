//! The meter: composes registers, profile, tamper rules, relay, controls and the ring into one state machine.

use alloc::{string::ToString, vec::Vec};

use ed25519_dalek::VerifyingKey;
use metering::{
    Body, Control, ControlKind, Down, EventKind, Frame, MeterEvent, MeterId, RecordFlags, Timestamp, WattHours,
    control::ReplyOutcome,
    frame::{Config, Hello, Now, PowerQuality, Profile as ProfileBody, RECORDS_MAX, RelayState, Reply, TimeFrame},
    sms::{TextBody, TextOrder},
    topic::UpKind,
};

use crate::{
    clock::{MeterClock, TimeChange},
    control::{ControlMemory, PendingControl, Verdict},
    display::View,
    event_log::EventLog,
    inputs::{Inputs, Uptime},
    load_limit::LoadLimit,
    masking,
    memory::Memory,
    profile::Profile,
    register::Registers,
    registration::registered,
    relay::{OpenReason, Pulse, Relay},
    ring::{FrameId, Outgoing, Ring, Stored},
    settings::{Calibration, MeterConfig, Settings, SettingsChange},
    texts::TextMemory,
};

/// Snapshots that may wait for their second.
const SNAPSHOTS_MAX: usize = 8;
/// A longer window is taken as energy without a shape before its last day.
const WINDOW_MS_MAX: u64 = 86_400_000;

/// What the shell must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Give the relay a pulse.
    Relay(Pulse),
    /// Bring [`Meter::memory`] into non-volatile memory (see [`FlashStore::save`](crate::flash::FlashStore::save)) before anything
    /// else: something that must survive a power failure has changed (relay, controls, settings, events, a profile record).
    /// Before that no frame may be sent.
    Save,
    /// Something new waits in the ring.
    FrameReady,
}

/// What has become due in one call.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    save: bool,
    pulse: Option<Pulse>,
    frame: bool,
}

impl Due {
    /// In the order in which it must be done: nothing moves and nothing is sent before it is remembered.
    fn take(&mut self) -> impl Iterator<Item = Action> + use<> {
        let due = core::mem::take(self);
        let actions =
            [due.save.then_some(Action::Save), due.pulse.map(Action::Relay), due.frame.then_some(Action::FrameReady)];
        actions.into_iter().flatten()
    }
}

/// A meter that runs.
#[derive(Debug)]
pub struct Meter {
    config: MeterConfig,
    memory: Memory,
    boot: u64,
    seq: u64,
    clock: MeterClock,
    relay: Option<Relay>,
    limit: LoadLimit,
    inputs: Inputs,
    uptime: Uptime,
    greeted: bool,
    now_due: Option<i64>,
    snapshots: Vec<(u64, Timestamp)>,
    /// Controls that the last run could not answer any more: answered when the relay has found its contact.
    interrupted: Vec<PendingControl>,
    /// The last sign of tampering.
    alarmed_at: Option<Uptime>,
    /// The last acknowledgement by the server.
    acknowledged_at: Option<Uptime>,
    due: Due,
}

impl Meter {
    /// Starts a meter: `boot` is a number new at each start. The first step says hello; nothing moves the relay.
    pub fn start(config: MeterConfig, memory: Memory, boot: u64, clock: MeterClock, uptime: Uptime) -> Self {
        let mut memory = memory;
        memory.ring.link_lost();
        memory.profile.mark(RecordFlags::POWER_FAIL);
        let interrupted = memory.controls.pending().to_vec();
        let relay = config.has_relay.then(|| Relay::start(config.relay, memory.relay, uptime));
        Self {
            limit: LoadLimit::start(memory.limit, uptime),
            relay,
            clock: clock.with_drift(memory.drift_ppm),
            config,
            memory,
            boot,
            seq: 0,
            inputs: Inputs::default(),
            uptime,
            greeted: false,
            now_due: None,
            snapshots: Vec::new(),
            interrupted,
            alarmed_at: None,
            acknowledged_at: None,
            due: Due::default(),
        }
    }

    /// Takes the quantities measured since the last step and gives what is to be done. Call it at least every minute, and at
    /// least every second while the relay is busy.
    pub fn step(&mut self, uptime: Uptime, inputs: &Inputs) -> impl Iterator<Item = Action> + '_ {
        let elapsed = uptime.since(self.uptime);
        let from = self.uptime;
        self.uptime = self.uptime.max(uptime);
        self.inputs = *inputs;
        self.greet();
        self.measure(from, elapsed);
        for kind in self.memory.tamper.step(elapsed, inputs, &self.config.tamper) {
            self.raise(kind);
        }
        self.move_relay(elapsed);
        self.report_now();
        self.report_snapshots();
        self.due.take()
    }

    /// The supply fails and the hold-up begins: takes what was measured up to now, logs the failure and gives what is to be done.
    /// After the save there may be time to send one frame, [`Meter::newest_frame`], out of turn.
    pub fn last_gasp(&mut self, uptime: Uptime, inputs: &Inputs) -> impl Iterator<Item = Action> + '_ {
        let elapsed = uptime.since(self.uptime);
        let from = self.uptime;
        self.uptime = self.uptime.max(uptime);
        self.inputs = *inputs;
        self.measure(from, elapsed);
        if let Some(kind) = self.memory.tamper.power_fails() {
            self.raise(kind);
        }
        self.due.save = true;
        self.due.take()
    }

    /// The frame made last, to be sent out of turn with the last gasp. It stays in the ring until it is acknowledged.
    pub fn newest_frame(&self) -> Option<Outgoing<'_>> {
        self.memory.ring.newest()
    }

    /// Logs and sends an event that the shell has found (calibration changed, a message not delivered, a neighbourhood's sum
    /// that does not match) and gives what is to be done.
    pub fn note(&mut self, kind: EventKind) -> impl Iterator<Item = Action> + '_ {
        self.raise(kind);
        self.due.take()
    }

    /// The calibration is being changed: what is measured from now on says that it is not calibrated, until the next start.
    pub fn uncalibrate(&mut self) -> impl Iterator<Item = Action> + '_ {
        if self.config.calibration != Calibration::Missing {
            self.config.calibration = Calibration::Missing;
            self.raise(EventKind::CalibrationMissing);
        }
        self.due.take()
    }

    /// Takes a frame from the server and gives what is to be done.
    pub fn receive(&mut self, down: &Down) -> impl Iterator<Item = Action> + '_ {
        match down {
            Down::Control(control) => self.take_control(control),
            Down::Config(config) => self.take_settings(config),
            Down::Time(time) => self.take_time(*time),
        }
        self.due.take()
    }

    /// Whether something that needs no answer may be taken: signed, where this meter holds the server's key, and newer than
    /// everything signed that came before.
    fn is_by_the_server(
        &mut self,
        counter: Option<u64>,
        is_signed: impl FnOnce(MeterId, &VerifyingKey) -> bool,
    ) -> bool {
        let Some(key) = &self.config.verifying_key else { return true };
        let taken = is_signed(self.config.meter, key) && self.memory.controls.take_counter(counter);
        self.due.save |= taken;
        taken
    }

    fn take_settings(&mut self, config: &Config) {
        if !self.is_by_the_server(config.counter, |meter, key| config.is_signed_by(meter, key)) {
            return;
        }
        let change = self.memory.settings.apply(config);
        if change == SettingsChange::Ignored {
            return;
        }
        self.now_due = None;
        if change == SettingsChange::ProfileChanged {
            self.flush_profile();
            self.memory.profile.set_length(self.memory.settings.profile);
            self.raise(EventKind::ProfileIntervalSet);
        }
        self.due.save = true;
    }

    /// The next frame to send on this connection, if any.
    pub fn next_to_send(&mut self) -> Option<Outgoing<'_>> {
        self.memory.ring.next_to_send()
    }

    /// The server has stored this frame for good: its slot is free. Tells whether it was waiting.
    pub fn acknowledge(&mut self, id: FrameId) -> bool {
        self.acknowledged_at = Some(self.uptime);
        self.memory.ring.acknowledge(id)
    }

    /// The connection is gone: everything not acknowledged will be sent again.
    pub fn link_lost(&mut self) {
        self.memory.ring.link_lost();
    }

    /// Power fails: what survives.
    pub fn into_memory(mut self) -> Memory {
        self.keep();
        self.memory
    }

    /// A copy of what must survive, for [`Action::Save`].
    pub fn memory(&mut self) -> &Memory {
        self.keep();
        &self.memory
    }

    /// Sends gathered profile records now, although the frame is not full.
    pub fn flush_profile(&mut self) {
        if !self.memory.records.is_empty() {
            let records = core::mem::take(&mut self.memory.records);
            let minutes = self.memory.profile.length().minutes();
            self.send(Body::Profile(ProfileBody { minutes, records }));
        }
    }

    /// Sends the power-quality values of ten minutes; they come from the metrology, which the meter does not run itself.
    pub fn report_quality(&mut self, values: PowerQuality) {
        self.send(Body::Quality(values));
    }

    /// Sets how many profile records are gathered into one frame (1 to 192). Gathered ones stay until the frame is full. While
    /// more than one is gathered, no `now` frames are made: nobody watches.
    pub fn gather_records(&mut self, records: u16) {
        self.config.records_per_frame = records;
    }

    /// The number of this start.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// What is remembered of controls.
    pub fn controls(&self) -> &ControlMemory {
        &self.memory.controls
    }

    /// The fixed configuration.
    pub fn config(&self) -> &MeterConfig {
        &self.config
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.memory.settings
    }

    /// The registers.
    pub fn registers(&self) -> &Registers {
        &self.memory.registers
    }

    /// The waiting frames.
    pub fn ring(&self) -> &Ring {
        &self.memory.ring
    }

    /// The event log.
    pub fn log(&self) -> &EventLog {
        &self.memory.log
    }

    /// State of the relay; `None` without one.
    pub fn relay_state(&self) -> Option<RelayState> {
        self.relay.as_ref().map(Relay::state)
    }

    /// Whether a control is being carried out and not answered yet.
    pub fn is_busy(&self) -> bool {
        !self.memory.controls.pending().is_empty() || self.relay.as_ref().is_some_and(Relay::is_busy)
    }

    /// How a control was answered, while that is remembered.
    pub fn answer_to(&self, control: u64) -> Option<ReplyOutcome> {
        self.memory.controls.answer_to(control)
    }

    /// The meter's time; `None` while its clock is not set.
    pub fn time(&self) -> Option<Timestamp> {
        self.clock.known(self.uptime)
    }

    /// The load profile and the interval under way.
    pub fn profile(&self) -> &Profile {
        &self.memory.profile
    }

    /// Everything display, buzzer and lights show.
    pub fn view(&self) -> View {
        View {
            meter: self.config.meter,
            at: self.time(),
            inputs: self.inputs,
            registers: self.memory.registers,
            relay: self.relay_state(),
            tamper: self.memory.tamper.present().collect(),
            outages: self.memory.outages,
            waiting: self.memory.ring.len(),
            limit: self.limit.limit(),
            limit_opens_in_ms: self.limit.opens_in_ms(&self.config.load_limit),
            balance: None,
            is_uncalibrated: self.config.calibration == Calibration::Missing,
            has_memory_fault: false,
            stepped_at: self.uptime,
            alarmed_at: self.alarmed_at,
            acknowledged_at: self.acknowledged_at,
        }
    }

    /// What has become due since the last call.
    pub(crate) fn due(&mut self) -> impl Iterator<Item = Action> + use<> {
        self.due.take()
    }

    /// Counters of texts.
    pub fn text_memory(&self) -> &TextMemory {
        &self.memory.texts
    }

    pub(crate) fn set_text_memory(&mut self, texts: TextMemory) {
        self.memory.texts = texts;
        self.due.save = true;
    }

    /// How long the server has acknowledged nothing, ms; from the start, when it never did.
    pub fn silence_ms(&self) -> u64 {
        self.uptime.since(self.acknowledged_at.unwrap_or_default())
    }

    /// The last record of the load profile, for a text.
    pub(crate) fn last_register(&self) -> Option<TextBody> {
        // a text would tell the register in clear
        if self.config.masking.is_some() {
            return None;
        }
        let last = self.memory.profile.last()?;
        let is_tampered = self.memory.tamper.is_active();
        let flags = if is_tampered { RecordFlags::TAMPER } else { RecordFlags::default() };
        Some(TextBody::Register {
            end: last.end,
            length: self.memory.profile.length(),
            flags,
            import_wh: last.import_wh,
            export_wh: last.export_wh,
        })
    }

    /// Carries out what may be ordered by text. A reconnect only ever arms.
    pub(crate) fn obey_text(&mut self, order: TextOrder) -> ReplyOutcome {
        let day = self.day();
        let outcome = match (order, &mut self.relay) {
            (TextOrder::Status, _) => ReplyOutcome::Done,
            (_, None) => ReplyOutcome::Unsupported,
            (TextOrder::LiftLimit, Some(_)) => {
                self.limit.set(None);
                ReplyOutcome::Done
            }
            (TextOrder::Reconnect, Some(relay)) => {
                relay.reconnect(&self.inputs, day, false, None).unwrap_or(ReplyOutcome::Done)
            }
        };
        match outcome {
            ReplyOutcome::Armed => self.raise(EventKind::ReadyToReconnect),
            ReplyOutcome::BackFeed => self.raise(EventKind::BackFeed),
            _ => {}
        }
        self.due.save = true;
        outcome
    }

    fn keep(&mut self) {
        if let Some(relay) = &self.relay {
            self.memory.relay = relay.memory();
        }
        self.memory.limit = self.limit.limit();
        self.memory.drift_ppm = self.clock.drift_ppm();
    }

    fn day(&self) -> i64 {
        self.clock.now(self.uptime).day()
    }

    fn greet(&mut self) {
        if self.greeted {
            return;
        }
        self.greeted = true;
        let hello = Hello {
            at: self.time(),
            firmware: self.config.firmware.clone(),
            model: self.config.model.clone(),
            profile_minutes: self.memory.profile.length().minutes(),
            import_wh: self.memory.registers.import_wh(),
            export_wh: self.memory.registers.export_wh(),
            relay: self.relay_state(),
            waiting: u32::try_from(self.memory.ring.len()).unwrap_or(u32::MAX),
            senses_load: None,
        };
        self.send(Body::Hello(hello));
        self.raise(EventKind::Boot);
        match self.config.calibration {
            Calibration::Missing => self.raise(EventKind::CalibrationMissing),
            Calibration::Record(count) if self.memory.calibration != Some(count) => {
                self.memory.calibration = Some(count);
                self.raise(EventKind::CalibrationSet);
            }
            Calibration::Record(_) | Calibration::Exact => {}
        }
    }

    fn measure(&mut self, from: Uptime, elapsed: u64) {
        let mut flags = RecordFlags::default();
        if !self.clock.is_set() {
            flags = flags.with(RecordFlags::CLOCK_UNSET);
        }
        if self.memory.tamper.is_active() {
            flags = flags.with(RecordFlags::TAMPER);
        }
        if self.memory.tamper.is_present(EventKind::PowerFail) {
            flags = flags.with(RecordFlags::POWER_FAIL);
        }
        if self.relay_state().is_some_and(|s| s != RelayState::Closed) {
            flags = flags.with(RecordFlags::DISCONNECTED);
        }
        if self.config.calibration == Calibration::Missing {
            flags = flags.with(RecordFlags::UNCALIBRATED);
        }
        if flags != RecordFlags::default() {
            self.memory.profile.mark(flags);
        }
        self.memory.profile.miss(self.inputs.unsampled_us);
        let inputs = registered(&self.inputs, self.config.registration, &self.memory.tamper, &self.config.tamper);
        let shapeless = elapsed.saturating_sub(WINDOW_MS_MAX);
        if shapeless > 0 {
            let registers = &mut self.memory.registers;
            registers.add(inputs.active_mw, inputs.reactive_mvar, inputs.voltage.0, inputs.current.0, shapeless);
        }
        let begin = self.clock.milliseconds(Uptime(from.0.saturating_add(shapeless)));
        let end = self.clock.milliseconds(self.uptime);
        if self.config.masking.is_some() {
            self.memory.masking.begin(&self.memory.registers);
        }
        let records = &mut self.memory.records;
        let before = records.len();
        self.memory.profile.add(&mut self.memory.registers, (begin, end), &inputs, |record| records.push(record));
        if let Some(masking) = &self.config.masking {
            let seconds = i64::from(self.memory.profile.length().minutes()) * 60;
            for record in records.iter_mut().skip(before) {
                masking.mask(&mut self.memory.masking, record, seconds);
            }
        }
        if records.len() > before {
            self.due.save = true;
            self.send_full_frames(flags);
        }
    }

    /// Sends what is gathered once it fills a frame; conditions that last are marked in the interval that begins.
    fn send_full_frames(&mut self, lasting: RecordFlags) {
        if lasting != RecordFlags::default() {
            self.memory.profile.mark(lasting);
        }
        let full = usize::from(self.config.records_per_frame).clamp(1, RECORDS_MAX);
        while self.memory.records.len() >= full {
            let rest = self.memory.records.split_off(full);
            let records = core::mem::replace(&mut self.memory.records, rest);
            let minutes = self.memory.profile.length().minutes();
            self.send(Body::Profile(ProfileBody { minutes, records }));
        }
    }

    fn move_relay(&mut self, elapsed: u64) {
        let day = self.day();
        let Some(relay) = &mut self.relay else { return };
        let limited = self.limit.step(&self.config.load_limit, relay, (self.uptime, elapsed, day), &self.inputs);
        let step = relay.step(self.uptime, elapsed, day, &self.inputs);
        match limited {
            Some(OpenReason::Lockout) => self.raise(EventKind::LoadLimitLockout),
            Some(_) => self.raise(EventKind::LoadLimitTrip),
            None => {}
        }
        if let Some(pulse) = step.pulse {
            self.due.save = true;
            self.due.pulse = Some(pulse);
        }
        if let Some(event) = step.event {
            self.raise(event);
        }
        for (control, outcome) in step.answers {
            self.answer(control, outcome);
        }
        self.answer_interrupted();
    }

    /// Power failed between an order and its answer. What the contact shows now is the answer; the order is not carried out later.
    fn answer_interrupted(&mut self) {
        for interrupted in core::mem::take(&mut self.interrupted) {
            let outcome = match self.relay_state() {
                Some(RelayState::Fault) => ReplyOutcome::ContactFault,
                Some(state) if (state == RelayState::Closed) == interrupted.closes => ReplyOutcome::Done,
                _ => ReplyOutcome::Overtaken,
            };
            self.answer(interrupted.control, outcome);
        }
    }

    fn take_control(&mut self, control: &Control) {
        if self.memory.controls.is_pending(control.id) {
            return; // it is being carried out; the answer follows
        }
        let (meter, now) = (self.config.meter, self.time());
        match self.memory.controls.judge(control, meter, self.config.verifying_key.as_ref(), now) {
            Verdict::Repeat(reply) => self.send(Body::Reply(reply)),
            Verdict::Refuse(outcome) => {
                self.raise(EventKind::ControlRefused);
                let reply = self.reply(control.id, outcome);
                // an expired control has used its counter: the same answer must come again
                if outcome == ReplyOutcome::Expired {
                    self.memory.controls.remember(&reply);
                }
                self.send(Body::Reply(reply));
            }
            Verdict::CarryOut => self.carry_out(control),
        }
        self.due.save = true;
    }

    fn carry_out(&mut self, control: &Control) {
        let day = self.day();
        let without_button = self.memory.settings.close_without_button;
        let outcome = match (control.kind, &mut self.relay) {
            (ControlKind::SnapshotAt { at }, _) => {
                if self.snapshots.len() == SNAPSHOTS_MAX {
                    Some(ReplyOutcome::RateLimit)
                } else {
                    self.snapshots.push((control.id, at));
                    Some(ReplyOutcome::Done)
                }
            }
            (_, None) => Some(ReplyOutcome::Unsupported),
            (ControlKind::Disconnect, Some(relay)) => relay.open(OpenReason::Command, Some(control.id)),
            (ControlKind::Reconnect, Some(relay)) => {
                let outcome = relay.reconnect(&self.inputs, day, without_button, Some(control.id));
                match outcome {
                    Some(ReplyOutcome::Armed) => self.raise(EventKind::ReadyToReconnect),
                    Some(ReplyOutcome::BackFeed) => self.raise(EventKind::BackFeed),
                    _ => {}
                }
                outcome
            }
            (ControlKind::LoadLimit { limit_w }, Some(_)) => {
                self.limit.set(limit_w);
                Some(ReplyOutcome::Done)
            }
        };
        match outcome {
            Some(outcome) => self.answer(control.id, outcome),
            None => {
                let closes = control.kind == ControlKind::Reconnect;
                self.memory.controls.begin(PendingControl { control: control.id, closes });
            }
        }
    }

    fn take_time(&mut self, time: TimeFrame) {
        let is_ours = self.is_by_the_server(time.counter, |meter, key| time.is_signed_by(meter, key));
        if !is_ours || !self.clock.admits(time.now, self.uptime) {
            return;
        }
        if self.clock.set(time.now, self.uptime) == TimeChange::Stepped {
            self.memory.profile.mark(RecordFlags::CLOCK_SET);
            self.now_due = None;
            self.raise(EventKind::ClockSet);
        }
    }

    fn report_now(&mut self) {
        let period = i64::from(self.memory.settings.now_seconds);
        let gathering = self.config.records_per_frame > 1;
        if period == 0 || gathering || !self.clock.is_set() {
            return;
        }
        let now = self.clock.now(self.uptime).0;
        let due = *self.now_due.get_or_insert_with(|| (now.div_euclid(period) + 1) * period);
        if now >= due {
            self.now_due = Some((now.div_euclid(period) + 1) * period);
            let values = self.values();
            self.send(Body::Now(values));
        }
    }

    fn report_snapshots(&mut self) {
        if self.snapshots.is_empty() {
            return;
        }
        let now = self.clock.now(self.uptime);
        let (due, waiting) = core::mem::take(&mut self.snapshots).into_iter().partition(|&(_, at)| at <= now);
        self.snapshots = waiting;
        let due: Vec<(u64, Timestamp)> = due;
        for (control, _) in due {
            let values = Now { control: Some(control), ..self.values() };
            self.send(Body::Snapshot(values));
        }
    }

    fn answer(&mut self, control: u64, outcome: ReplyOutcome) {
        let reply = self.reply(control, outcome);
        self.memory.controls.remember(&reply);
        self.send(Body::Reply(reply));
        self.due.save = true;
    }

    fn reply(&self, control: u64, outcome: ReplyOutcome) -> Reply {
        Reply { control, outcome, now: self.values() }
    }

    /// What the meter senses now.
    fn values(&self) -> Now {
        let inputs = &self.inputs;
        let watts = i32::try_from(inputs.active_mw / 1_000).unwrap_or(i32::MAX);
        let vars = i32::try_from(inputs.reactive_mvar / 1_000).unwrap_or(i32::MAX);
        Now {
            at: self.clock.now(self.uptime),
            voltage_mv: Some(inputs.voltage),
            current_ma: Some(inputs.current),
            power_w: Some(metering::Watts(watts)),
            reactive_var: Some(metering::Vars(vars)),
            power_factor: Some(inputs.power_factor),
            frequency_mhz: Some(inputs.frequency),
            neutral_ma: inputs.neutral,
            load_voltage_mv: inputs.load_voltage,
            relay: self.relay_state(),
            import_wh: Some(self.import_wh()),
            export_wh: Some(self.memory.registers.export_wh()),
            control: None,
        }
    }

    fn import_wh(&self) -> WattHours {
        self.memory.registers.import_wh()
    }

    /// Logs an event with what was measured and sends it.
    pub(crate) fn raise(&mut self, kind: EventKind) {
        let now = self.time();
        match kind {
            EventKind::PowerFail => self.memory.outages.begin(now),
            EventKind::PowerRestore => {
                self.memory.outages.end(now);
            }
            kind if kind.is_tamper() => self.alarmed_at = Some(self.uptime),
            _ => {}
        }
        let inputs = &self.inputs;
        let event = MeterEvent {
            at: self.clock.now(self.uptime),
            kind,
            voltage_mv: Some(inputs.voltage),
            current_ma: Some(inputs.current),
            power_w: i32::try_from(inputs.active_mw / 1_000).ok().map(metering::Watts),
            power_factor: Some(inputs.power_factor),
            import_wh: Some(self.import_wh()),
        };
        self.memory.log.add(event);
        self.send(Body::Event(event));
        self.due.save = true;
    }

    fn send(&mut self, mut body: Body) {
        if self.config.masking.is_some() {
            masking::hide(&mut body);
        }
        let kind = body.kind();
        let frame = Frame::new(self.config.meter, self.boot, self.seq, body);
        self.seq += 1;
        let stored = self.memory.ring.push(kind, frame.to_cbor());
        self.due.frame = true;
        // an instantaneous value may be lost; everything else is remembered before it is sent
        self.due.save |= kind != UpKind::Now;
        if stored == Stored::OverflowBegan {
            self.raise(EventKind::RingOverflow);
        }
    }
}

impl core::fmt::Display for Meter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let time = self.time().map(|t| t.to_string());
        let time = time.as_deref().unwrap_or("clock not set");
        write!(f, "{} {time} {}", self.config.meter, self.import_wh())
    }
}
