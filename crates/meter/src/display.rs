//! What the consumer sees and hears: display pages with OBIS codes, buzzer and lights, as pure functions of what the meter knows
//! and of the time. Any character display of two rows or more and sixteen columns or more will do.
//!
//! It is not: a driver. A shell draws the rows and switches the pins.

use alloc::{format, string::String, vec::Vec};

use metering::{EventKind, MeterId, Timestamp, Watts, frame::RelayState};

use crate::{
    inputs::{Inputs, Uptime},
    outages::Outages,
    register::Registers,
};

/// How long a page stays, milliseconds.
pub const PAGE_MS: u64 = 6_000;
/// Impulses of the light for a kilowatt-hour.
pub const IMPULSES_PER_KWH: u64 = 3_200;
/// How long an impulse lights, milliseconds.
const IMPULSE_MS: u64 = 50;
/// Microwatt-seconds for one impulse.
const IMPULSE_UWS: u128 = 3_600_000_000_000 / IMPULSES_PER_KWH as u128;
/// How long the buzzer sounds for a sign of tampering, milliseconds.
const ALARM_MS: u64 = 2_000;
/// Beeps before the load limit opens: at these milliseconds before, each this long.
const WARNINGS_MS: [u64; 3] = [30_000, 20_000, 10_000];
const WARNING_MS: u64 = 500;
/// The server counts as reached for this long after an acknowledgement, milliseconds.
const LINK_MS: u64 = 20 * 60_000;

/// What display, buzzer and lights depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The meter.
    pub meter: MeterId,
    /// Its time at the last step; `None` while the clock is not set.
    pub at: Option<Timestamp>,
    /// What it measured last.
    pub inputs: Inputs,
    /// Its registers.
    pub registers: Registers,
    /// Its relay; `None` without one.
    pub relay: Option<RelayState>,
    /// Rules that have begun and not ended.
    pub tamper: Vec<EventKind>,
    /// Outages.
    pub outages: Outages,
    /// Frames that wait for an acknowledgement.
    pub waiting: usize,
    /// Load limit in force.
    pub limit: Option<Watts>,
    /// Time until the load limit opens, if the load stays as it is.
    pub limit_opens_in_ms: Option<u64>,
    /// Balance in hundredths of the currency, when a shell knows one.
    pub balance: Option<i64>,
    /// The meter measures with its parts' nominal values.
    pub is_uncalibrated: bool,
    /// What must survive a power failure cannot be written: nothing is sent and nothing is switched.
    pub has_memory_fault: bool,
    /// When the meter took its last step.
    pub stepped_at: Uptime,
    /// When the last sign of tampering was told.
    pub alarmed_at: Option<Uptime>,
    /// When the server acknowledged something last.
    pub acknowledged_at: Option<Uptime>,
}

/// One page: a code, a unit, a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// OBIS code without medium and channel, or a word.
    pub code: &'static str,
    /// Unit, at most five characters.
    pub unit: &'static str,
    /// The value, at most sixteen characters.
    pub value: String,
}

/// Lights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lights {
    /// Energy: [`IMPULSES_PER_KWH`].
    pub impulse: bool,
    /// Connection: steady when the server acknowledges, blinking once a second when frames wait.
    pub link: bool,
    /// A sign of tampering is present: blinking twice a second.
    pub alarm: bool,
}

/// The pages, in the order in which they scroll.
pub fn pages(view: &View) -> Vec<Page> {
    let (inputs, registers) = (&view.inputs, &view.registers);
    let page = |code, unit, value| Page { code, unit, value };
    let mut pages = Vec::from([
        page("0.0.1.0.0", "UTC", view.at.map_or_else(|| String::from("not set"), time)),
        page("1.8.0", "kWh", thousandths(registers.import.units())),
        page("2.8.0", "kWh", thousandths(registers.export.units())),
        page("9.8.0", "kVAh", thousandths(registers.apparent.units())),
        page("32.7.0", "V", decimals(i64::from(inputs.voltage.0 / 100), 1)),
        page("31.7.0", "A", decimals(i64::from(inputs.current.0 / 10), 2)),
    ]);
    if let Some(neutral) = inputs.neutral {
        pages.push(page("91.7.0", "A", decimals(i64::from(neutral.0 / 10), 2)));
    }
    pages.push(page("1.7.0", "kW", decimals(inputs.active_mw / 1_000, 3)));
    pages.push(page("13.7.0", "PF", decimals(i64::from(inputs.power_factor.0), 3)));
    pages.push(page("14.7.0", "Hz", decimals(i64::from(inputs.frequency.0 / 10), 2)));
    pages.push(page("96.7.0", "fails", format!("{}", view.outages.count)));
    if let Some(relay) = view.relay {
        pages.push(page("96.3.10", "relay", String::from(relay_word(relay))));
    }
    if let Some(limit) = view.limit {
        pages.push(page("limit", "kW", decimals(i64::from(limit.0), 3)));
    }
    if let Some(balance) = view.balance {
        pages.push(page("balance", "", decimals(balance, 2)));
    }
    if view.is_uncalibrated {
        pages.push(page("calibr.", "none", String::from("NOT CALIBRATED")));
    }
    let tamper = view.tamper.iter().filter(|kind| kind.is_tamper());
    pages.extend(tamper.map(|kind| page("tamper", "", String::from(shortened(kind.word(), 16)))));
    pages
}

/// The rows of a display of `columns` by `rows` characters at a time: the pages scroll, as many at once as there is room for;
/// what the consumer must do now comes before them. Rows are exactly `columns` long, ASCII.
pub fn screen(view: &View, uptime: Uptime, columns: usize, rows: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some((first, second)) = message(view) {
        lines.push(centred(&first, columns));
        lines.push(centred(&second, columns));
    }
    let pages = pages(view);
    let at_once = (rows.saturating_sub(lines.len()) / 2).min(pages.len());
    let turn = usize::try_from(uptime.0 / PAGE_MS).unwrap_or(0);
    for n in 0..at_once {
        let page = &pages[(turn * at_once + n) % pages.len()];
        lines.push(title(view, page, columns));
        lines.push(format!("{:>columns$}", shortened(&page.value, columns)));
    }
    lines.resize(rows, " ".repeat(columns));
    lines
}

/// Whether the buzzer sounds.
pub fn buzzer(view: &View, uptime: Uptime) -> bool {
    let alarm = view.alarmed_at.is_some_and(|at| uptime >= at && uptime.since(at) < ALARM_MS);
    let warning = view.limit_opens_in_ms.is_some_and(|left| {
        let left = left.saturating_sub(uptime.since(view.stepped_at));
        WARNINGS_MS.iter().any(|at| left <= *at && left + WARNING_MS > *at)
    });
    alarm || warning
}

/// Which lights are on.
pub fn lights(view: &View, uptime: Uptime) -> Lights {
    let is_heard = view.acknowledged_at.is_some_and(|at| uptime.since(at) < LINK_MS);
    let blinks = uptime.0 % 1_000 < 500;
    Lights {
        impulse: impulse(view, uptime),
        link: if view.waiting == 0 { is_heard } else { blinks },
        alarm: view.tamper.iter().any(|kind| kind.is_tamper()) && uptime.0 % 500 < 250,
    }
}

/// Lit for [`IMPULSE_MS`] after each impulse's energy is full, the power taken as steady since the last step.
fn impulse(view: &View, uptime: Uptime) -> bool {
    let Ok(milliwatts) = u128::try_from(view.inputs.active_mw) else { return false };
    if milliwatts == 0 {
        return false;
    }
    let import = &view.registers.import;
    let registered = u128::from(import.units()) * 3_600_000_000 + u128::from(import.remainder());
    let since = milliwatts * u128::from(uptime.since(view.stepped_at));
    let beyond = (registered + since) % IMPULSE_UWS;
    // at full load an impulse is shorter than twice its light: then half the time
    beyond < (milliwatts * u128::from(IMPULSE_MS)).min(IMPULSE_UWS / 2)
}

/// What the consumer must know or do at once.
fn message(view: &View) -> Option<(String, String)> {
    if view.has_memory_fault {
        return Some((String::from("MEMORY FAULT"), String::from("call supplier")));
    }
    if let Some(left) = view.limit_opens_in_ms {
        return Some((String::from("LOAD TOO HIGH"), format!("off in {} s", left.div_ceil(1_000))));
    }
    let text = match view.relay? {
        RelayState::Ready => ("PRESS BUTTON", "to reconnect"),
        RelayState::OpenLimit => ("LOAD TOO HIGH", "switch off, wait"),
        RelayState::Locked => ("LOCKED 30 MIN", "load too high"),
        RelayState::Fault => ("RELAY FAULT", "call supplier"),
        _ => return None,
    };
    Some((String::from(text.0), String::from(text.1)))
}

fn title(view: &View, page: &Page, columns: usize) -> String {
    let is_open = view.relay.is_some_and(|relay| !matches!(relay, RelayState::Closed));
    let mark = |on, sign| if on { sign } else { ' ' };
    let marks = [mark(view.tamper.iter().any(|kind| kind.is_tamper()), '!'), mark(is_open, '/')];
    let left = format!("{:<9}{}{}", page.code, marks[0], marks[1]);
    let right = columns.saturating_sub(left.len());
    let unit = page.unit;
    format!("{left}{unit:>right$}")
}

fn centred(text: &str, columns: usize) -> String {
    format!("{:^columns$}", shortened(text, columns))
}

fn shortened(text: &str, columns: usize) -> &str {
    text.get(..columns).unwrap_or(text)
}

fn relay_word(relay: RelayState) -> &'static str {
    match relay {
        RelayState::Closed => "on",
        RelayState::Open => "off",
        RelayState::OpenLimit => "off (load)",
        RelayState::OpenTamper => "off (tamper)",
        RelayState::Ready => "press button",
        RelayState::Locked => "locked",
        RelayState::Fault => "fault",
    }
}

fn time(at: Timestamp) -> String {
    let (year, month, day) = at.civil();
    let second = at.second_of_day();
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", second / 3_600, second / 60 % 60)
}

/// A register of thousandths, with three decimals.
fn thousandths(units: u64) -> String {
    format!("{}.{:03}", units / 1_000, units % 1_000)
}

/// A value that counts 10^-`places`.
fn decimals(value: i64, places: u32) -> String {
    let scale = 10u64.pow(places);
    let (whole, part) = (value.unsigned_abs() / scale, value.unsigned_abs() % scale);
    let sign = if value < 0 { "-" } else { "" };
    let width = usize::try_from(places).unwrap_or(0);
    format!("{sign}{whole}.{part:0width$}")
}
