//! Meter and modem against a scripted modem that behaves like real ones: slow, noisy, refusing, silent, dying.

use std::collections::VecDeque;

use meter::{
    Action, Inputs, Memory, Meter, MeterConfig, Settings, Uptime,
    clock::MeterClock,
    modem::Modem,
    texts::{ALERTS_PER_DAY_MAX, TextConfig, Texts},
};
use metering::{
    EventKind, MeterId, Timestamp,
    control::ReplyOutcome,
    frame::RelayState,
    sms::{Text, TextBody, TextKey, TextOrder},
};

const START: i64 = 1_772_409_600;
const SERVER: &str = "+4915112345678";

/// How the modem treats a text.
#[derive(Clone, Copy, PartialEq)]
enum Whim {
    Take,
    CmsError,
    /// No prompt ever comes.
    NoPrompt,
    /// Prompt, then nothing.
    Silence,
    /// The number comes, after an unrelated report and in two pieces.
    Chatter,
}

/// The other end of the serial line, written from 27.005 and from what modules print, not from our engine.
struct ScriptedModem {
    input: Vec<u8>,
    output: VecDeque<u8>,
    echo: bool,
    in_text: Option<String>,
    whims: VecDeque<Whim>,
    sent: Vec<(String, String)>,
    memory: Vec<(u16, String, String)>,
    /// Answers to AT+CREG? until it is registered.
    searching: u32,
    signal: u32,
    dead: bool,
    power_cycles: u32,
    deleted: usize,
}

impl ScriptedModem {
    fn new() -> Self {
        Self {
            input: vec![],
            output: VecDeque::new(),
            echo: true,
            in_text: None,
            whims: VecDeque::new(),
            sent: vec![],
            memory: vec![],
            searching: 2,
            signal: 17,
            dead: false,
            power_cycles: 0,
            deleted: 0,
        }
    }

    fn say(&mut self, line: &str) {
        self.output.extend(format!("\r\n{line}\r\n").bytes());
    }

    fn power_cycle(&mut self) {
        (self.input, self.output, self.in_text) = (vec![], VecDeque::from(*b"\x00\xff~RDY\r\n"), None);
        (self.echo, self.dead, self.power_cycles) = (true, false, self.power_cycles + 1);
    }

    fn arrive(&mut self, from: &str, text: &str) {
        let place = u16::try_from(self.memory.len()).expect("small") + 1;
        self.memory.push((place, from.into(), text.into()));
        self.say(&format!("+CMTI: \"SM\",{place}"));
    }

    fn hear(&mut self, bytes: &[u8]) {
        if self.dead {
            return;
        }
        for byte in bytes {
            if self.echo {
                self.output.push_back(*byte);
            }
            match (byte, self.in_text.clone()) {
                (0x1b, _) => self.in_text = None,
                (0x1a, Some(number)) => {
                    let text = String::from_utf8(std::mem::take(&mut self.input)).expect("ASCII");
                    self.in_text = None;
                    self.take_text(number, text);
                }
                (b'\r', None) => {
                    let command = String::from_utf8(std::mem::take(&mut self.input)).expect("ASCII");
                    self.command(&command);
                }
                _ => self.input.push(*byte),
            }
        }
    }

    fn take_text(&mut self, number: String, text: String) {
        let reference = self.sent.len() + 1;
        match self.whims.pop_front().unwrap_or(Whim::Take) {
            Whim::Take | Whim::NoPrompt => {
                self.sent.push((number, text));
                self.say(&format!("+CMGS: {reference}"));
                self.say("OK");
            }
            Whim::Chatter => {
                self.sent.push((number, text));
                self.say("RING");
                self.say("+CREG: 1");
                self.say(&format!("+CMGS: {reference}"));
                self.say("+CUSD: 0,\"OK\",15");
                self.say("OK");
            }
            Whim::CmsError => self.say("+CMS ERROR: Network out of order"),
            Whim::Silence => {}
        }
    }

    fn command(&mut self, command: &str) {
        match command {
            "ATE0" => self.echo = false,
            "AT+CPIN?" => self.say("+CPIN: READY"),
            "AT+CSQ" => self.say(&format!("+CSQ: {},0", self.signal)),
            "AT+CREG?" => {
                let state = if self.searching > 0 { 2 } else { 5 };
                self.searching = self.searching.saturating_sub(1);
                self.say(&format!("+CREG: 0,{state}"));
            }
            "AT+CMGL=\"ALL\"" => {
                for (place, from, text) in self.memory.clone() {
                    self.say(&format!("+CMGL: {place},\"REC UNREAD\",\"{from}\",,\"26/03/02,00:00:00+00\"\r\n{text}"));
                }
            }
            "AT" | "AT+CMEE=2" | "AT+CMGF=1" | "AT+CSCS=\"GSM\"" | "AT+CNMI=2,1" => {}
            _ => return self.other(command),
        }
        self.say("OK");
    }

    fn other(&mut self, command: &str) {
        if let Some(number) = command.strip_prefix("AT+CMGS=\"").and_then(|rest| rest.strip_suffix('"')) {
            if self.whims.front() == Some(&Whim::NoPrompt) {
                self.whims.pop_front();
                return;
            }
            self.in_text = Some(number.into());
            self.output.extend(b"\r\n> ");
        } else if let Some(place) = command.strip_prefix("AT+CMGR=").and_then(|p| p.parse::<u16>().ok()) {
            if let Some((_, from, text)) = self.memory.iter().find(|m| m.0 == place).cloned() {
                self.say(&format!("+CMGR: \"REC UNREAD\",\"{from}\",,\"26/03/02,00:00:00+00\"\r\n{text}"));
            }
            self.say("OK");
        } else if let Some(place) = command.strip_prefix("AT+CMGD=").and_then(|p| p.parse::<u16>().ok()) {
            let before = self.memory.len();
            self.memory.retain(|m| m.0 != place);
            self.deleted += before - self.memory.len();
            self.say("OK");
        } else {
            self.say("ERROR");
        }
    }
}

/// A meter, its modem, and time.
struct Bench {
    meter: Meter,
    modem: Modem,
    texts: Texts,
    peer: ScriptedModem,
    inputs: Inputs,
    now: u64,
    saved: bool,
}

fn id() -> MeterId {
    MeterId::new("M-1").expect("valid")
}

fn key() -> TextKey {
    TextKey::from_secret(&[7; 32])
}

impl Bench {
    fn new() -> Self {
        let config = MeterConfig::new(id());
        let memory = Memory::new(&config, Settings { now_seconds: 0, ..Settings::default() });
        let meter = Meter::start(config, memory, 1, MeterClock::backed_up(START * 1_000, Uptime(0)), Uptime(0));
        let config = TextConfig { key: key(), server: SERVER.into(), silence_ms: 6 * 3_600_000 };
        Self {
            meter,
            modem: Modem::start(Uptime(0)),
            texts: Texts::new(config),
            peer: ScriptedModem::new(),
            inputs: Inputs { active_mw: 1_000_000, ..Inputs::default() },
            now: 0,
            saved: false,
        }
    }

    /// A second at a time; the line carries a few bytes at once.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1_000;
            let now = Uptime(self.now);
            let inputs = self.inputs;
            for action in self.meter.step(now, &inputs).collect::<Vec<_>>() {
                if let Action::Relay(pulse) = action {
                    let closed = pulse == meter::relay::Pulse::Close;
                    self.inputs.contact_closed = Some(closed);
                    self.inputs.load_voltage = Some(metering::Millivolts(if closed { 230_000 } else { 0 }));
                    self.inputs.active_mw = if closed { 1_000_000 } else { 0 };
                }
            }
            let actions: Vec<Action> = self.texts.step(&mut self.meter, &mut self.modem, now).collect();
            self.saved |= actions.contains(&Action::Save);
            if self.texts.take_power_cycle() {
                self.peer.power_cycle();
            }
            for _ in 0..4 {
                let out = self.modem.step(now);
                self.peer.hear(&out);
                while !self.peer.output.is_empty() {
                    let piece = self.peer.output.len().min(7);
                    let bytes: Vec<u8> = self.peer.output.drain(..piece).collect();
                    self.modem.receive(&bytes, now);
                }
            }
        }
    }

    fn acknowledge_all(&mut self) {
        while let Some(frame) = self.meter.next_to_send().map(|out| out.id) {
            self.meter.acknowledge(frame);
        }
    }

    fn received(&self) -> Vec<TextBody> {
        let read = |(number, line): &(String, String)| {
            assert_eq!(number, SERVER);
            Text::read(line, &key()).expect("genuine").body
        };
        self.peer.sent.iter().map(read).collect()
    }

    fn order(&mut self, counter: u64, order: TextOrder, lives: i64) {
        let expires = Timestamp(START + i64::try_from(self.now / 1_000).expect("small") + lives);
        let text = Text { meter: id(), counter, body: TextBody::Order { expires, order } };
        self.peer.arrive("+49000", &text.write(&key()));
    }

    fn answers(&self) -> Vec<(u64, ReplyOutcome)> {
        let answer = |body| if let TextBody::Answer { to, outcome } = body { Some((to, outcome)) } else { None };
        self.received().into_iter().filter_map(answer).collect()
    }
}

#[test]
fn an_alert_is_sent_at_once_and_only_so_many_a_day() {
    let mut bench = Bench::new();
    bench.pass(60);
    assert!(bench.modem.is_ready() && bench.modem.signal() == Some(17), "after two searches");
    bench.inputs.cover_open = true;
    bench.pass(5);
    assert!(bench.saved, "the counter is saved before the text goes");
    let expected = |body: &TextBody| matches!(body, TextBody::Alert { kind: EventKind::CoverOpen, .. });
    assert!(bench.received().len() == 1 && bench.received().iter().all(expected));
    for _ in 0..20 {
        bench.inputs.cover_open = !bench.inputs.cover_open;
        bench.pass(30);
    }
    assert_eq!(bench.received().len(), usize::from(ALERTS_PER_DAY_MAX));
    assert_eq!(bench.texts.counts(), (u64::from(ALERTS_PER_DAY_MAX), 0, 0));
}

#[test]
fn the_register_goes_once_a_day_only_while_data_is_down() {
    let mut bench = Bench::new();
    for _ in 0..48 {
        bench.pass(1_800);
        bench.acknowledge_all();
    }
    assert_eq!(bench.received(), [], "the server has acknowledged");
    for _ in 0..3 * 48 {
        bench.pass(1_800);
    }
    let registers: Vec<(i64, u64)> = bench
        .received()
        .iter()
        .filter_map(|body| match body {
            TextBody::Register { end, import_wh, .. } => Some((end.0 - START, import_wh.0)),
            _ => None,
        })
        .collect();
    let times: Vec<i64> = registers.iter().map(|register| register.0).collect();
    assert_eq!(times, [108_000, 172_800, 259_200, 345_600], "six hours of silence, then every midnight");
    for (seconds, wh) in registers {
        assert_eq!(wh, u64::try_from(seconds).expect("positive") * 1_000 / 3_600, "the register of that record");
    }
}

#[test]
fn a_text_is_tried_four_times_with_a_power_cycle_and_then_reported() {
    for whim in [Whim::CmsError, Whim::NoPrompt, Whim::Silence] {
        let mut bench = Bench::new();
        bench.pass(60);
        bench.peer.whims.extend([whim; 4]);
        bench.inputs.cover_open = true;
        bench.pass(900);
        assert_eq!(bench.peer.power_cycles, 1);
        assert_eq!(bench.texts.counts().1, 1, "given up");
        let failed = bench.meter.log().events().filter(|event| event.kind == EventKind::MessageFailed).count();
        assert_eq!(failed, 1, "reported");
        assert!(bench.peer.sent.is_empty() && bench.modem.waiting() == 0);
    }
    let mut bench = Bench::new();
    bench.pass(60);
    bench.peer.whims.extend([Whim::CmsError, Whim::Silence, Whim::NoPrompt, Whim::Chatter]);
    bench.inputs.cover_open = true;
    bench.pass(900);
    assert_eq!((bench.received().len(), bench.texts.counts()), (1, (1, 0, 0)), "the last try came through");
}

#[test]
fn a_dead_or_unregistered_modem_is_switched_off_and_on() {
    let mut bench = Bench::new();
    bench.peer.dead = true;
    bench.pass(60 * 5);
    assert_eq!(bench.peer.power_cycles, 1);
    assert!(bench.modem.is_ready());
    let mut bench = Bench::new();
    bench.peer.signal = 3;
    bench.pass(70);
    assert!(!bench.modem.is_ready());
    bench.peer.signal = 12;
    bench.pass(30);
    assert!(bench.modem.is_ready());
}

#[test]
fn only_genuine_new_orders_count_and_none_of_them_closes_by_itself() {
    let mut bench = Bench::new();
    bench.pass(60);
    bench.order(1, TextOrder::Status, 600);
    bench.pass(10);
    assert_eq!(bench.answers(), [(1, ReplyOutcome::Done)]);
    bench.order(1, TextOrder::Status, 600);
    let forged = Text {
        meter: id(),
        counter: 9,
        body: TextBody::Order { expires: Timestamp(i64::MAX), order: TextOrder::Reconnect },
    };
    bench.peer.arrive(SERVER, &forged.write(&TextKey::from_secret(&[8; 32])));
    bench.peer.arrive(SERVER, "OK");
    bench.peer.arrive(SERVER, "+CMTI: \"SM\",999");
    bench.pass(30);
    assert_eq!((bench.answers().len(), bench.texts.counts().2), (1, 4));
    bench.order(2, TextOrder::Reconnect, -1);
    bench.pass(10);
    assert_eq!(bench.answers().last(), Some(&(2, ReplyOutcome::Expired)));
    let control = metering::Control {
        id: 1,
        kind: metering::ControlKind::Disconnect,
        expires: Timestamp(i64::MAX),
        counter: 1,
        signatures: vec![],
    };
    bench.meter.receive(&metering::Down::Control(control)).for_each(drop);
    bench.pass(20);
    assert_eq!(bench.meter.relay_state(), Some(RelayState::Open));
    bench.order(3, TextOrder::Reconnect, 600);
    bench.pass(60);
    assert_eq!(bench.answers().last(), Some(&(3, ReplyOutcome::Armed)));
    assert_eq!(bench.meter.relay_state(), Some(RelayState::Ready), "the button closes, never a text");
    bench.inputs.button = true;
    bench.pass(20);
    assert_eq!(bench.meter.relay_state(), Some(RelayState::Closed));
    assert_eq!((bench.peer.memory.len(), bench.peer.deleted), (0, 7), "read texts are deleted");
}

#[test]
fn texts_that_came_while_the_modem_was_away_are_found() {
    let mut bench = Bench::new();
    bench.order(1, TextOrder::Status, 6_000);
    bench.peer.output.clear();
    bench.pass(120);
    assert_eq!(bench.answers(), [(1, ReplyOutcome::Done)]);
    assert!(bench.peer.memory.is_empty());
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let mut modem = Modem::start(Uptime(0));
    for (number, text) in [("", "x"), ("12\"3", "x"), ("+1;rm", "x"), ("+49", "two\nlines"), ("+49", "\u{1a}")] {
        assert_eq!(modem.send(number, text, Uptime(0)), None);
    }
    assert_eq!(modem.send("+49", &"x".repeat(161), Uptime(0)), None);
    let taken = (0..20).filter(|_| modem.send("+49", "x", Uptime(0)).is_some()).count();
    assert_eq!(taken, meter::modem::WAITING_MAX);
}
