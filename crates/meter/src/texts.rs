//! What the meter says and hears by SMS: alerts at once, its register once a day while the data connection is down, and the few
//! orders that may come by text. Which texts are genuine is decided by their code and counter, never by the number they come from.
//!
//! A shell calls [`Texts::step`], obeys the actions (the counters must be saved before the modem gets its bytes), and then gives the
//! modem what [`Modem::step`] returns.

use alloc::{string::String, vec::Vec};

use metering::{
    EventKind, Timestamp,
    control::ReplyOutcome,
    sms::{Text, TextBody, TextKey, TextOrder},
};
use minicbor::{Decode, Encode};

use crate::{
    inputs::Uptime,
    meter::{Action, Meter},
    modem::{Modem, ModemEvent},
};

/// Alerts sent in a day; more are in the log and in the ring only.
pub const ALERTS_PER_DAY_MAX: u8 = 6;

/// Counters of texts, kept through power failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TextMemory {
    /// Counter of the last text sent.
    #[n(0)]
    sent: u64,
    /// Counter of the last order taken.
    #[n(1)]
    taken: u64,
    /// Day of the last register sent.
    #[n(2)]
    register_day: Option<i64>,
    /// Events below were looked at for alerts.
    #[n(3)]
    looked_at: u64,
    /// Day of the last alerts, and their number.
    #[n(4)]
    alerts: (i64, u8),
}

/// How texts are used.
#[derive(Clone, Debug)]
pub struct TextConfig {
    /// Key shared with the server.
    pub key: TextKey,
    /// The server's number.
    pub server: String,
    /// The data connection counts as down when nothing was acknowledged for so long, ms.
    pub silence_ms: u64,
}

/// Texts between a meter and its modem.
#[derive(Clone, Debug)]
pub struct Texts {
    config: TextConfig,
    delivered: u64,
    failed: u64,
    ignored: u64,
    /// The modem must be switched off and on.
    power_cycle: bool,
}

impl Texts {
    /// Nothing sent or heard yet.
    pub fn new(config: TextConfig) -> Self {
        Self { config, delivered: 0, failed: 0, ignored: 0, power_cycle: false }
    }

    /// Texts delivered, given up, and ignored because they were not genuine.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.delivered, self.failed, self.ignored)
    }

    /// Whether the modem asks to be switched off and on; told once.
    pub fn take_power_cycle(&mut self) -> bool {
        core::mem::take(&mut self.power_cycle)
    }

    /// Hears what has come, and says what is due.
    pub fn step(&mut self, meter: &mut Meter, modem: &mut Modem, now: Uptime) -> impl Iterator<Item = Action> + use<> {
        while let Some(event) = modem.next_event() {
            match event {
                ModemEvent::Received { text, .. } => self.take(meter, modem, &text, now),
                ModemEvent::Sent(_) => self.delivered += 1,
                ModemEvent::Failed(_) => {
                    self.failed += 1;
                    meter.raise(EventKind::MessageFailed);
                }
                ModemEvent::PowerCycle => self.power_cycle = true,
            }
        }
        self.alert(meter, modem, now);
        self.send_daily_register(meter, modem, now);
        meter.due()
    }

    /// Signs of tampering and power failures since the last look.
    fn alert(&self, meter: &mut Meter, modem: &mut Modem, now: Uptime) {
        let mut memory = *meter.text_memory();
        if meter.log().total() == memory.looked_at {
            return;
        }
        let news: Vec<_> = meter.log().since(memory.looked_at);
        memory.looked_at = meter.log().total();
        meter.set_text_memory(memory);
        for event in news.iter().map(|logged| logged.event) {
            if !event.kind.is_tamper() && event.kind != EventKind::PowerFail {
                continue;
            }
            let mut memory = *meter.text_memory();
            let day = event.at.day();
            if memory.alerts.0 != day {
                memory.alerts = (day, 0);
            }
            if memory.alerts.1 < ALERTS_PER_DAY_MAX {
                memory.alerts.1 += 1;
                meter.set_text_memory(memory);
                let import_wh = event.import_wh.unwrap_or_default();
                self.say(meter, modem, TextBody::Alert { at: event.at, kind: event.kind, import_wh }, now);
            }
        }
    }

    /// Once a day, while nothing is acknowledged: the last record of the load profile.
    fn send_daily_register(&self, meter: &mut Meter, modem: &mut Modem, now: Uptime) {
        let Some(today) = meter.time().map(Timestamp::day) else { return };
        let is_due = meter.text_memory().register_day != Some(today);
        if !is_due || meter.silence_ms() < self.config.silence_ms {
            return;
        }
        if let Some(register) = meter.last_register() {
            let memory = TextMemory { register_day: Some(today), ..*meter.text_memory() };
            meter.set_text_memory(memory);
            self.say(meter, modem, register, now);
        }
    }

    fn say(&self, meter: &mut Meter, modem: &mut Modem, body: TextBody, now: Uptime) {
        let memory = TextMemory { sent: meter.text_memory().sent + 1, ..*meter.text_memory() };
        meter.set_text_memory(memory);
        let text = Text { meter: meter.config().meter, counter: memory.sent, body };
        if modem.send(&self.config.server, &text.write(&self.config.key), now).is_none() {
            meter.raise(EventKind::MessageFailed);
        }
    }

    /// An order, if it is one, for this meter, genuine and new.
    fn take(&mut self, meter: &mut Meter, modem: &mut Modem, line: &str, now: Uptime) {
        let text = Text::read(line, &self.config.key).ok().filter(|text| text.meter == meter.config().meter);
        let Some(Text { counter, body: TextBody::Order { expires, order }, .. }) = text else {
            self.ignored += 1;
            return;
        };
        let memory = *meter.text_memory();
        if counter <= memory.taken {
            self.ignored += 1;
            return;
        }
        meter.set_text_memory(TextMemory { taken: counter, ..memory });
        let outcome = match meter.time() {
            None => ReplyOutcome::ClockUnset,
            Some(time) if time > expires => ReplyOutcome::Expired,
            Some(_) => meter.obey_text(order),
        };
        self.say(meter, modem, TextBody::Answer { to: counter, outcome }, now);
        if order == TextOrder::Status
            && outcome == ReplyOutcome::Done
            && let Some(register) = meter.last_register()
        {
            self.say(meter, modem, register, now);
        }
    }
}
