//! A GSM modem by AT commands (3GPP 27.005, 27.007): sends texts, hands over texts that come, and keeps the modem alive.
//!
//! A pure state machine: a shell gives it the bytes of the serial line and the time, and carries out what it asks for. It is not
//! built on `atat`: that client is asynchronous over a global time driver, and here time is an argument. Text mode, GSM
//! alphabet: what this project sends is plain ASCII of at most 160 characters.

use alloc::{collections::VecDeque, format, string::String, vec::Vec};

use metering::sms::TEXT_MAX;

use crate::inputs::Uptime;

/// Texts that may wait; a further one is refused.
pub const WAITING_MAX: usize = 8;
/// Tries of a text before it is given up; after the last but one the modem is switched off and on.
pub const TRIES_MAX: u8 = 4;
/// Pause after each failed try, ms.
const BACKOFF_MS: [u64; 3] = [10_000, 40_000, 160_000];
/// How long an ordinary command may take, and a text.
const COMMAND_MS_MAX: u64 = 10_000;
const SEND_MS_MAX: u64 = 60_000;
/// How long a modem needs after it was switched on.
const START_MS: u64 = 8_000;
/// How often the modem is asked whether it is registered while it is not.
const SEARCH_MS: u64 = 5_000;
/// Failures of the set-up, one after the other, before the modem is switched off and on.
const SETUP_FAILURES_MAX: u8 = 12;
/// Weakest signal taken (of 31).
const SIGNAL_MIN: u8 = 10;
/// Longest line taken; the rest of a longer one is dropped.
const LINE_MAX: usize = 256;

/// How the modem is made ready, in order.
const SETUP: [&str; 10] = [
    "AT",
    "ATE0",
    "AT+CMEE=2",
    "AT+CPIN?",
    "AT+CSQ",
    "AT+CREG?",
    "AT+CMGF=1",
    "AT+CSCS=\"GSM\"",
    "AT+CNMI=2,1",
    "AT+CMGL=\"ALL\"",
];

/// Something the shell must know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModemEvent {
    /// A text has come.
    Received {
        /// From which number, as the network says: it proves nothing.
        from: String,
        /// What it says.
        text: String,
    },
    /// A text was taken by the network.
    Sent(TextId),
    /// A text was given up after every try.
    Failed(TextId),
    /// Switch the modem off and on (PWRKEY).
    PowerCycle,
}

/// Names a text given to [`Modem::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextId(pub u32);

#[derive(Clone, Debug)]
struct Waiting {
    id: TextId,
    number: String,
    text: String,
    tries: u8,
    not_before: Uptime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Switched on, or asked in vain: nothing until then.
    Resting(Uptime),
    /// This command of the set-up was sent.
    SettingUp(usize),
    /// Ready for anything.
    Idle,
    /// `AT+CMGS` was sent, the prompt is awaited.
    Prompt,
    /// The text was sent, its number is awaited; whether that has come.
    Sending(bool),
    /// `AT+CMGR` was sent for this place of the memory.
    Reading(u16),
    /// `AT+CMGD` was sent.
    Deleting,
}

/// The modem as the meter sees it.
#[derive(Clone, Debug)]
pub struct Modem {
    state: State,
    since: Uptime,
    line: Vec<u8>,
    out: Vec<u8>,
    events: VecDeque<ModemEvent>,
    waiting: VecDeque<Waiting>,
    next_id: u32,
    /// Places of texts that have come and are to be read, and to be deleted.
    to_read: VecDeque<u16>,
    to_delete: VecDeque<u16>,
    /// Number of the sender, while the text itself is awaited.
    sender: Option<(u16, String)>,
    setup_failures: u8,
    /// The answer to the current command of the set-up was bad.
    unfit: bool,
    signal: Option<u8>,
}

impl Modem {
    /// A modem that is just being switched on.
    pub fn start(now: Uptime) -> Self {
        Self {
            state: State::Resting(Uptime(now.0 + START_MS)),
            since: now,
            line: Vec::new(),
            out: Vec::new(),
            events: VecDeque::new(),
            waiting: VecDeque::new(),
            next_id: 0,
            to_read: VecDeque::new(),
            to_delete: VecDeque::new(),
            sender: None,
            setup_failures: 0,
            unfit: false,
            signal: None,
        }
    }

    /// Puts a text into the queue; `None` when that is full, or the text or number cannot be sent.
    pub fn send(&mut self, number: &str, text: &str, now: Uptime) -> Option<TextId> {
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'+');
        let is_text = text.len() <= TEXT_MAX && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        if self.waiting.len() >= WAITING_MAX || !is_number || number.len() > 20 || !is_text {
            return None;
        }
        let id = TextId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.waiting.push_back(Waiting {
            id,
            number: String::from(number),
            text: String::from(text),
            tries: 0,
            not_before: now,
        });
        Some(id)
    }

    /// Texts not sent and not given up yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the modem is registered and answers.
    pub fn is_ready(&self) -> bool {
        !matches!(self.state, State::Resting(_) | State::SettingUp(_))
    }

    /// Signal strength 0 to 31, as last told.
    pub fn signal(&self) -> Option<u8> {
        self.signal
    }

    /// The next event, if any.
    pub fn next_event(&mut self) -> Option<ModemEvent> {
        self.events.pop_front()
    }

    /// Lets time pass; gives bytes for the modem. Call it at least every second.
    pub fn step(&mut self, now: Uptime) -> Vec<u8> {
        let waited = now.since(self.since);
        match self.state {
            State::Resting(until) if now >= until => self.set_up(0, now),
            State::Resting(_) => {}
            State::Idle => self.begin(now),
            State::Prompt if waited >= COMMAND_MS_MAX => {
                self.out.push(0x1b); // out of the text, if it waits for one
                self.failed(now);
            }
            State::Sending(_) if waited >= SEND_MS_MAX => self.failed(now),
            State::SettingUp(_) if waited >= COMMAND_MS_MAX => self.unready(now),
            State::Reading(_) | State::Deleting if waited >= COMMAND_MS_MAX => self.to(State::Idle, now),
            _ => {}
        }
        core::mem::take(&mut self.out)
    }

    /// Takes bytes from the modem.
    pub fn receive(&mut self, bytes: &[u8], now: Uptime) {
        for byte in bytes {
            match byte {
                b'\r' => {}
                b'\n' => {
                    let line = core::mem::take(&mut self.line);
                    if let Ok(line) = core::str::from_utf8(&line)
                        && !line.is_empty()
                    {
                        self.take_line(line, now);
                    }
                }
                _ if self.line.len() < LINE_MAX => self.line.push(*byte),
                _ => {}
            }
            if self.state == State::Prompt && self.line.first() == Some(&b'>') {
                self.line.clear();
                self.give_text(now);
            }
        }
    }

    fn to(&mut self, state: State, now: Uptime) {
        (self.state, self.since) = (state, now);
    }

    fn command(&mut self, command: &str, state: State, now: Uptime) {
        self.out.extend(command.bytes());
        self.out.push(b'\r');
        self.to(state, now);
    }

    fn set_up(&mut self, step: usize, now: Uptime) {
        self.unfit = false;
        match SETUP.get(step) {
            Some(command) => self.command(command, State::SettingUp(step), now),
            None => {
                self.setup_failures = 0;
                self.to(State::Idle, now);
            }
        }
    }

    /// The set-up did not go through: again later, or switched off and on.
    fn unready(&mut self, now: Uptime) {
        self.setup_failures = self.setup_failures.saturating_add(1);
        if self.setup_failures >= SETUP_FAILURES_MAX {
            self.power_cycle(now);
        } else {
            self.to(State::Resting(Uptime(now.0 + SEARCH_MS)), now);
        }
    }

    fn power_cycle(&mut self, now: Uptime) {
        self.setup_failures = 0;
        self.line.clear();
        self.events.push_back(ModemEvent::PowerCycle);
        self.to(State::Resting(Uptime(now.0 + START_MS)), now);
    }

    /// Idle: what is the most urgent?
    fn begin(&mut self, now: Uptime) {
        if let Some(place) = self.to_delete.pop_front() {
            self.command(&format!("AT+CMGD={place}"), State::Deleting, now);
        } else if let Some(place) = self.to_read.pop_front() {
            self.command(&format!("AT+CMGR={place}"), State::Reading(place), now);
        } else if let Some(at) = self.waiting.iter().position(|text| now >= text.not_before)
            && let Some(text) = self.waiting.remove(at)
        {
            self.command(&format!("AT+CMGS=\"{}\"", text.number), State::Prompt, now);
            self.waiting.push_front(text);
        }
    }

    fn give_text(&mut self, now: Uptime) {
        if let Some(text) = self.waiting.front() {
            self.out.extend(text.text.bytes());
            self.out.push(0x1a);
        }
        self.to(State::Sending(false), now);
    }

    /// The text on its way was not taken.
    fn failed(&mut self, now: Uptime) {
        self.to(State::Idle, now);
        let Some(mut text) = self.waiting.pop_front() else { return };
        text.tries += 1;
        if text.tries >= TRIES_MAX {
            self.events.push_back(ModemEvent::Failed(text.id));
            return;
        }
        let pause = BACKOFF_MS[usize::from(text.tries - 1).min(BACKOFF_MS.len() - 1)];
        text.not_before = Uptime(now.0 + pause);
        let was_last_but_one = text.tries == TRIES_MAX - 1;
        self.waiting.push_back(text);
        if was_last_but_one {
            self.power_cycle(now);
        }
    }

    fn sent(&mut self, now: Uptime) {
        if let Some(text) = self.waiting.pop_front() {
            self.events.push_back(ModemEvent::Sent(text.id));
        }
        self.to(State::Idle, now);
    }

    fn take_line(&mut self, line: &str, now: Uptime) {
        // the line after a header is the text itself, whatever it looks like
        if let Some((place, from)) = self.sender.take() {
            self.events.push_back(ModemEvent::Received { from, text: String::from(line) });
            self.to_delete.push_back(place);
            return;
        }
        if let Some(place) = line.strip_prefix("+CMTI:").and_then(|rest| rest.rsplit(',').next()).and_then(number) {
            self.to_read.push_back(place);
        } else if let (State::Reading(place), Some(rest)) = (self.state, line.strip_prefix("+CMGR:")) {
            self.sender = Some((place, sender(rest, 1)));
        } else if let (State::SettingUp(_), Some(rest)) = (self.state, line.strip_prefix("+CMGL:")) {
            let place = rest.split(',').next().and_then(number);
            self.sender = place.map(|place| (place, sender(rest, 2)));
        } else if line == "OK" {
            self.ok(now);
        } else if line == "ERROR" || line.starts_with("+CMS ERROR") || line.starts_with("+CME ERROR") {
            self.error(now);
        } else {
            self.take_answer(line);
        }
    }

    fn take_answer(&mut self, line: &str) {
        match self.state {
            State::Sending(_) if line.starts_with("+CMGS:") => self.state = State::Sending(true),
            State::SettingUp(_) => {
                if let Some(rest) = line.strip_prefix("+CPIN:") {
                    self.unfit |= rest.trim() != "READY";
                } else if let Some(rest) = line.strip_prefix("+CSQ:") {
                    self.signal = rest.split(',').next().and_then(number).filter(|s| *s <= 31);
                    self.unfit |= self.signal.is_none_or(|signal| signal < SIGNAL_MIN);
                } else if let Some(rest) = line.strip_prefix("+CREG:") {
                    let registered: Option<u16> = rest.split(',').nth(1).and_then(number);
                    self.unfit |= !matches!(registered, Some(1 | 5));
                }
            }
            _ => {}
        }
    }

    fn ok(&mut self, now: Uptime) {
        match self.state {
            State::SettingUp(_) if self.unfit => self.unready(now),
            State::SettingUp(step) => self.set_up(step + 1, now),
            State::Sending(true) => self.sent(now),
            // an OK without a number is of something else
            State::Sending(false) | State::Prompt | State::Resting(_) | State::Idle => {}
            State::Reading(_) | State::Deleting => self.to(State::Idle, now),
        }
    }

    fn error(&mut self, now: Uptime) {
        match self.state {
            State::SettingUp(_) => self.unready(now),
            State::Prompt | State::Sending(_) => self.failed(now),
            State::Reading(_) | State::Deleting => self.to(State::Idle, now),
            State::Resting(_) | State::Idle => {}
        }
    }
}

fn number<T: core::str::FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

/// The number in the n-th field of a header, without its quotes.
fn sender(header: &str, field: usize) -> String {
    String::from(header.split(',').nth(field).unwrap_or_default().trim().trim_matches('"'))
}
