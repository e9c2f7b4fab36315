//! The meter behind `serve-dlms`: the meter core itself in a made-up household, and its registers, profile, event logs and relay as
//! objects of DLMS. Nothing here is measured by anybody but the core.

use std::collections::VecDeque;

use meter::{Action, Inputs, Memory, Meter, MeterConfig, Settings, Uptime, clock::MeterClock, relay};
use metering::{
    Body, Compartment, Control, ControlKind, Down, Frame, MeterId, Milliamps, Millivolts, ProfileRecord, Timestamp,
    frame::RelayState,
};
use telegrams::dlms::{
    apdu::Target,
    axdr::Value,
    objects::{self, Disconnect, Object, Objects},
    time::DateTime,
};

/// Length of the profile's intervals, seconds.
const PERIOD_S: i64 = 900;
/// Rows of the profile.
pub const ROWS: usize = 240;
/// A step of the core is at most this long.
const STEP_MS: u64 = 60_000;
/// How long a control may take to arrive, seconds.
const CONTROL_S: i64 = 60;
const CLOCK: Target = Target { class: 8, obis: [0, 0, 1, 0, 0, 255], index: 2 };

/// A meter that runs.
pub struct Simulated {
    core: Meter,
    begin: Timestamp,
    uptime: u64,
    is_closed: bool,
    records: VecDeque<ProfileRecord>,
    controls: u64,
}

impl Simulated {
    /// A meter that has run long enough for a whole profile.
    pub fn new(now: Timestamp) -> Result<Self, String> {
        let rows = i64::try_from(ROWS).map_err(|why| why.to_string())?;
        // The first interval is a part of one and is no row.
        let begin = now.floor_to(PERIOD_S).plus(-(rows + 1) * PERIOD_S);
        let config = MeterConfig::new(MeterId::new("A-4711").map_err(|why| why.to_string())?);
        let settings = Settings { now_seconds: 0, close_without_button: true, ..Settings::default() };
        let memory = Memory::new(&config, settings);
        let clock = MeterClock::backed_up(begin.0 * 1_000, Uptime(0));
        let core = Meter::start(config, memory, 1, clock, Uptime(0));
        let records = VecDeque::with_capacity(ROWS + 1);
        let mut meter = Self { core, begin, uptime: 0, is_closed: true, records, controls: 0 };
        meter.catch_up(now);
        Ok(meter)
    }

    /// Lets the meter live up to now.
    pub fn catch_up(&mut self, now: Timestamp) {
        let target = u64::try_from(now.seconds_since(self.begin)).unwrap_or(0) * 1_000;
        while self.uptime < target {
            self.step((self.uptime + STEP_MS).min(target));
        }
        self.take_records();
    }

    fn step(&mut self, uptime: u64) {
        self.uptime = uptime.max(self.uptime);
        let at = self.begin.plus(i64::try_from(self.uptime / 1_000).unwrap_or(i64::MAX));
        let inputs = household(at, self.is_closed);
        let pulse = self.core.step(Uptime(self.uptime), &inputs).find_map(|action| match action {
            Action::Relay(pulse) => Some(pulse),
            Action::Save | Action::FrameReady => None,
        });
        if let Some(pulse) = pulse {
            self.is_closed = pulse == relay::Pulse::Close;
            // The core senses at once that the contact has followed.
            self.step(self.uptime + 1);
        }
    }

    /// What the core sends about its profile is what the profile shows.
    fn take_records(&mut self) {
        while let Some(out) = self.core.next_to_send() {
            let (id, frame) = (out.id, Frame::from_cbor(out.payload));
            if let Ok(Frame { body: Body::Profile(profile), .. }) = frame {
                self.records.extend(profile.records);
            }
            self.core.acknowledge(id);
        }
        while self.records.len() > ROWS {
            self.records.pop_front();
        }
    }

    /// A control to the core, as the head-end would send it; the relay follows by the core's own rules.
    pub fn switch(&mut self, is_wanted_closed: bool, now: Timestamp) {
        self.controls += 1;
        let kind = if is_wanted_closed { ControlKind::Reconnect } else { ControlKind::Disconnect };
        let expires = now.plus(CONTROL_S);
        let control = Control { id: self.controls, kind, expires, counter: self.controls, signatures: Vec::new() };
        self.core.receive(&Down::Control(control)).for_each(drop);
        self.step(self.uptime + 1);
    }

    /// State of the relay as attributes of a disconnect control. Mode 2: a reconnection closes by itself.
    pub fn contact(&self, is_approved: bool) -> Disconnect {
        let state = self.core.relay_state();
        let control = match state {
            Some(RelayState::Closed) | None => 1,
            Some(RelayState::Ready) => 2,
            Some(_) => 0,
        };
        Disconnect { output: self.is_closed, control, mode: 2, is_approved }
    }

    /// Everything that changes, for a server's objects.
    pub fn refresh(&self, objects: &mut Objects, now: Timestamp) {
        let view = self.core.view();
        let (registers, inputs) = (view.registers, view.inputs);
        let positive = |value: i64| u64::try_from(value).unwrap_or(0);
        let power = inputs.active_mw / 1_000;
        let of = |obis: [u8; 6], value: u64, scaler: i8, unit: u8| objects::register(obis, value, scaler, unit);
        let all = [
            of([1, 0, 1, 8, 0, 255], registers.import.units(), 0, 30),
            of([1, 0, 2, 8, 0, 255], registers.export.units(), 0, 30),
            of([1, 0, 9, 8, 0, 255], registers.apparent.units(), 0, 31),
            of([1, 0, 1, 7, 0, 255], positive(power), 0, 27),
            of([1, 0, 2, 7, 0, 255], positive(-power), 0, 27),
            of([1, 0, 32, 7, 0, 255], positive(i64::from(inputs.voltage.0)), -3, 35),
            of([1, 0, 31, 7, 0, 255], positive(i64::from(inputs.current.0)), -3, 33),
            of([1, 0, 14, 7, 0, 255], positive(i64::from(inputs.frequency.0)), -3, 44),
            objects::data([0, 0, 42, 0, 0, 255], &Value::Octets(b"GTL0000000004711")),
            objects::data([0, 0, 96, 1, 0, 255], &Value::Octets(view.meter.as_str().as_bytes())),
            objects::clock(now),
            self.profile(),
        ];
        all.into_iter().chain(self.logs()).for_each(|object| objects.put(object));
    }

    fn profile(&self) -> Object {
        let columns = [
            CLOCK,
            Target { class: 1, obis: [0, 0, 96, 10, 1, 255], index: 2 },
            Target { class: 3, obis: [1, 0, 1, 8, 0, 255], index: 2 },
            Target { class: 3, obis: [1, 0, 2, 8, 0, 255], index: 2 },
        ];
        let row = |record: &ProfileRecord| {
            let time = DateTime::encode_utc(record.end);
            let fields = vec![
                Value::Octets(&time),
                Value::Unsigned(u64::from(record.flags.0), 2),
                Value::Unsigned(record.import_wh.0, 4),
                Value::Unsigned(record.export_wh.0, 4),
            ];
            (record.end, Value::Structure(fields).encoded())
        };
        let rows = self.records.iter().map(row).collect();
        objects::profile([1, 0, 99, 1, 0, 255], u32::try_from(PERIOD_S).unwrap_or(0), &columns, rows)
    }

    /// One log a compartment, 0.0.99.98.n.255: clock and code (IS 15959).
    fn logs(&self) -> impl Iterator<Item = Object> + '_ {
        (0_u8..).zip(Compartment::ALL).map(|(number, compartment)| {
            let columns = [CLOCK, Target { class: 1, obis: [0, 0, 96, 11, number, 255], index: 2 }];
            let rows = self.core.log().compartment(compartment).map(|logged| {
                let time = DateTime::encode_utc(logged.event.at);
                let fields = vec![Value::Octets(&time), Value::Unsigned(u64::from(logged.event.kind.code()), 2)];
                (logged.event.at, Value::Structure(fields).encoded())
            });
            objects::profile([0, 0, 99, 98, number, 255], 0, &columns, rows.collect())
        })
    }
}

/// A household's load by the hour of the day (UTC), watts; voltage sags a little under it.
fn household(at: Timestamp, is_closed: bool) -> Inputs {
    const WATTS: [u32; 24] = [
        140, 130, 130, 130, 140, 220, 640, 980, 520, 310, 280, 420, 760, 540, 330, 310, 420, 890, 1_450, 1_720, 1_180,
        740, 390, 200,
    ];
    let hour = usize::try_from(at.second_of_day() / 3_600).unwrap_or(0);
    let watts = if is_closed { WATTS[hour % 24] } else { 0 };
    let voltage = Millivolts(231_000 - watts);
    let current = Milliamps(watts * 1_000 / 230);
    Inputs {
        voltage,
        current,
        active_mw: i64::from(watts) * 1_000,
        neutral: Some(current),
        load_voltage: Some(if is_closed { voltage } else { Millivolts(0) }),
        contact_closed: Some(is_closed),
        ..Inputs::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telegrams::dlms::{event_log, profile};

    const NOW: Timestamp = Timestamp(1_767_225_600 + 10 * 86_400 + 37);

    fn read(objects: &Objects, class: u16, obis: [u8; 6], index: u8) -> Vec<u8> {
        objects.get(&Target { class, obis, index }, None).expect("an attribute")
    }

    fn register(objects: &Objects) -> i64 {
        let value = read(objects, 3, [1, 0, 1, 8, 0, 255], 2);
        Value::whole(&value).and_then(|value| value.decimal()).expect("a number").digits
    }

    #[test]
    fn registers_and_profile_are_those_of_the_core() {
        let mut meter = Simulated::new(NOW).expect("a meter");
        let mut objects = Objects::new(Vec::new(), meter.contact(false));
        meter.refresh(&mut objects, NOW);
        let columns = read(&objects, 7, [1, 0, 99, 1, 0, 255], 3);
        let columns = Value::whole(&columns).as_ref().and_then(profile::columns).expect("columns");
        let buffer = read(&objects, 7, [1, 0, 99, 1, 0, 255], 2);
        let buffer = Value::whole(&buffer).expect("a buffer");
        let rows = profile::rows(&buffer, &columns, 900, None, ROWS).expect("rows");
        assert_eq!((rows.len(), rows[ROWS - 1].time), (ROWS, Some(NOW.floor_to(900))));
        let last = rows[ROWS - 1].numbers[2].expect("a register").digits;
        let before = register(&objects);
        assert!((last..last + 500).contains(&before), "{last} {before}");
        let later = NOW.plus(3_600);
        meter.catch_up(later);
        meter.refresh(&mut objects, later);
        assert!(register(&objects) > before, "an hour later it has counted on");
    }

    #[test]
    fn the_contact_follows_the_rules_of_the_relay_and_is_logged() {
        let mut meter = Simulated::new(NOW).expect("a meter");
        meter.switch(false, NOW);
        assert_eq!((meter.contact(true).output, meter.contact(true).control), (false, 0));
        meter.switch(true, NOW.plus(1));
        assert!(!meter.contact(true).output, "ten seconds must lie between two operations");
        meter.catch_up(NOW.plus(12));
        assert_eq!((meter.contact(true).output, meter.contact(true).control), (true, 1));
        meter.switch(false, NOW.plus(13));
        meter.catch_up(NOW.plus(24));
        assert!(!meter.contact(true).output, "it opened when the ten seconds were over");
        meter.switch(true, NOW.plus(24));
        meter.catch_up(NOW.plus(40));
        assert!(meter.contact(true).output, "and closes again");
        let mut objects = Objects::new(Vec::new(), meter.contact(true));
        meter.refresh(&mut objects, NOW.plus(40));
        let mut ask = |target: Target, selection: Option<telegrams::dlms::apdu::Selection<'_>>| {
            Ok(objects.get(&target, selection.as_ref()))
        };
        let entries = telegrams::dlms::reading_out::event_logs(event_log::Codes::Is15959, 100, &mut ask).expect("logs");
        let codes: Vec<u16> = entries.iter().map(|entry| entry.code).collect();
        assert!(codes.contains(&301) && codes.contains(&302), "{codes:?}");
    }
}
