//! Golden runs: masked records, and the local comparison: one home of a small street through honest minutes, a tap and its end. Host and
//! microcontroller must give the same lines and the same datagrams.
//!
//! [`Home`] is what runs on both; it hears the others over a line. [`Street`] is the others, damage and forgery included, on the host only.

use alloc::{format, string::String, vec, vec::Vec};

use ed25519_dalek::SigningKey;
use metering::{
    EventKind, MeterId, Milliamps, Millivolts, ProfileRecord, RecordFlags, Timestamp, WattHours, local::MinuteSum,
    reading::Channel,
};
use privacy::MaskKey;

use crate::{
    Inputs, Memory, Meter, MeterConfig, Settings, Uptime,
    clock::MeterClock,
    local::{LocalComparison, Neighbour, Neighbourhood, net_mwh},
    masking::{MaskMemory, Masking},
    register::Registers,
};

/// Minutes of the run.
pub const MINUTES: u64 = 30;
const START: i64 = 1_772_409_600;
/// Constant loads of the homes, watts; the first is the home that runs. The observer is the place behind them.
const WATTS: [u32; 3] = [600, 1_200, 60];
const OBSERVER: usize = WATTS.len();
/// Lost in the lines, thousandths.
const LINE_PERMILLE: i64 = 20;
/// A tap before a house: minutes from and to, watts.
const TAPPED: (u64, u64, i64) = (9, 18, 480);
/// The minutes in which a neighbour's datagram arrives damaged, one is forged besides, and a neighbour is silent.
const DAMAGED: u64 = 3;
const FORGED: u64 = 5;
const SILENT: u64 = 22;

/// Records of the masked run: two days, with a change of keys in each.
pub const MASKED_RECORDS: u64 = 192;

/// Masks records for so many custodians and says each as a line. `ticks` counts what the work costs (instructions, say); gives the mean
/// of a record.
pub fn masked(custodians: u8, mut ticks: impl FnMut() -> u64, mut say: impl FnMut(&str)) -> u64 {
    let keys = (1..=custodians).map(|n| MaskKey::from_bytes([n; 32])).collect();
    let masking = Masking { epoch: 1, keys, clip_day_wh: 20_000, clip_slot_wh: 2_000, epoch_masks: 70 };
    let (mut memory, mut spent, mut import) = (MaskMemory::default(), 0, 0);
    memory.begin(&Registers::default());
    for slot in 1..=MASKED_RECORDS {
        import += 20 + slot * 7_919 % 450;
        let mut record = ProfileRecord {
            end: Timestamp(START + 900 * i64::try_from(slot).unwrap_or(0)),
            flags: RecordFlags::default(),
            import_wh: WattHours(import),
            export_wh: WattHours(0),
            voltage_mv: Some(Millivolts(231_000)),
            current_ma: None,
            extra: Vec::new(),
            masked: None,
        };
        let before = ticks();
        masking.mask(&mut memory, &mut record, 900);
        spent += ticks().saturating_sub(before);
        say(&line_of(&record));
    }
    spent / MASKED_RECORDS
}

/// A masked record as a line: its end, then everything in it.
fn line_of(record: &ProfileRecord) -> String {
    let of = |channel: Channel| {
        let value = record.extra.iter().find(|v| v.channel == channel);
        value.map_or(0, |v| v.value.cast_unsigned())
    };
    let (end, clear) = (record.end.0, record.import_wh.0);
    let masked = record.masked.map_or((0, 0, 0), |m| (m.epoch, m.import, m.export));
    let (counter, clipped) = (of(Channel::MASK_COUNTER), of(Channel::MASKED_CLIPPED));
    let voltage = of(Channel::MASKED_VOLTAGE);
    format!("masked {end} {clear} {} {counter} {} {} {clipped} {voltage}", masked.0, masked.1, masked.2)
}

/// The end of a minute of the run.
pub fn end_of(minute: u64) -> Timestamp {
    Timestamp(START + 60 * i64::try_from(minute).unwrap_or(0))
}

fn id(place: usize) -> Option<MeterId> {
    MeterId::new(&format!("M-{place}")).ok()
}

/// Keys of a test, known to everybody.
fn key(place: usize) -> SigningKey {
    SigningKey::from_bytes(&[place.to_le_bytes()[0] + 1; 32])
}

fn neighbourhood(me: usize) -> Option<Neighbourhood> {
    let pair_key = |other: usize| {
        let mut secret = [7; 32];
        (secret[0], secret[1]) = (me.min(other).to_le_bytes()[0], me.max(other).to_le_bytes()[0]);
        secret
    };
    let neighbour = |other: usize| {
        Some(Neighbour { meter: id(other)?, key: key(other).verifying_key(), pair_key: pair_key(other) })
    };
    let homes: Option<Vec<Neighbour>> = (0..OBSERVER).filter(|other| *other != me).map(neighbour).collect();
    Some(Neighbourhood::new(id(me)?, key(me), (id(OBSERVER)?, key(OBSERVER).verifying_key()), homes?))
}

/// The home that runs: a real meter and its comparison.
pub struct Home {
    meter: Meter,
    comparison: LocalComparison,
    minute: u64,
}

impl Home {
    /// Before the first minute; `None` never happens (its names are valid).
    pub fn new() -> Option<Self> {
        let config = MeterConfig::new(id(0)?);
        let memory = Memory::new(&config, Settings { now_seconds: 0, ..Settings::default() });
        let clock = MeterClock::backed_up(START * 1_000, Uptime(0));
        let meter = Meter::start(config, memory, 1, clock, Uptime(0));
        Some(Self { meter, comparison: LocalComparison::new(neighbourhood(0)?), minute: 0 })
    }

    /// A minute passes in which these datagrams were heard. Gives the own datagram, and a line that says what was found.
    pub fn minute(&mut self, heard: &[Vec<u8>]) -> (Vec<u8>, String) {
        self.minute += 1;
        let ma = Milliamps(WATTS[0] * 1_000 / 230);
        let active_mw = i64::from(WATTS[0]) * 1_000;
        let inputs = Inputs { active_mw, current: ma, neutral: Some(ma), ..Inputs::default() };
        let before = *self.meter.registers();
        self.meter.step(Uptime(self.minute * 60_000), &inputs).for_each(drop);
        let (now, mwh) = (end_of(self.minute), net_mwh(&before, self.meter.registers()));
        let (datagram, own) = self.comparison.minute_ended(now, mwh);
        let mut events: Vec<EventKind> = own.into_iter().collect();
        events.extend(heard.iter().filter_map(|bytes| self.comparison.take(bytes, now)));
        let mut found = String::new();
        for kind in events {
            self.meter.note(kind).for_each(drop);
            found += &format!(" event {}", kind.code());
        }
        let (judged, given_up, refused) = self.comparison.counts();
        let line = format!(
            "local {} said {:016x} judged {judged} given-up {given_up} refused {refused}{found}",
            self.minute,
            hash(0, &datagram)
        );
        (datagram, line)
    }

    /// What waits for the server at the end, as a line.
    pub fn waiting(&mut self) -> String {
        let (mut frames, mut all) = (0, 0);
        while let Some(out) = self.meter.next_to_send() {
            frames += 1;
            all = hash(all, out.payload);
        }
        format!("local waiting {frames} frames {all:016x}")
    }
}

/// FNV-1a, going on from an earlier hash.
fn hash(before: u64, bytes: &[u8]) -> u64 {
    let start = before ^ 0xcbf2_9ce4_8422_2325;
    bytes.iter().fold(start, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Everybody but the home that runs.
pub struct Street {
    others: Vec<(usize, LocalComparison)>,
    minute: u64,
}

impl Street {
    /// Before the first minute; `None` never happens (its names are valid).
    pub fn new() -> Option<Self> {
        let other = |place| Some((place, LocalComparison::new(neighbourhood(place)?)));
        Some(Self { others: (1..=OBSERVER).map(other).collect::<Option<_>>()?, minute: 0 })
    }

    /// The datagrams of the next minute, as they arrive.
    pub fn say(&mut self) -> Vec<Vec<u8>> {
        self.minute += 1;
        let (from, to, tapped_w) = TAPPED;
        let tapped = if (from..to).contains(&self.minute) { tapped_w } else { 0 };
        let all: i64 = WATTS.iter().map(|watts| i64::from(*watts)).sum();
        let inflow = (all + tapped) * (1_000 + LINE_PERMILLE) / 1_000;
        let minute = end_of(self.minute);
        let mut said = vec![];
        for (place, comparison) in &mut self.others {
            let watts = WATTS.get(*place).map_or(inflow, |watts| i64::from(*watts));
            // a minute is a sixtieth of an hour
            let (mut datagram, _) = comparison.minute_ended(minute, watts * 1_000 / 60);
            if self.minute == SILENT && *place == 2 {
                continue;
            }
            if self.minute == DAMAGED && *place == 1 {
                datagram[40] ^= 1;
            }
            said.push(datagram);
        }
        if self.minute == FORGED
            && let Some(observer) = id(OBSERVER)
        {
            said.insert(0, MinuteSum { from: observer, minute, value: 77_000_000 }.write(&key(1)));
        }
        said
    }
}

/// The whole run in one process: its lines.
pub fn run() -> Option<Vec<String>> {
    let (mut home, mut street) = (Home::new()?, Street::new()?);
    let mut lines: Vec<String> = (0..MINUTES).map(|_| home.minute(&street.say()).1).collect();
    lines.push(home.waiting());
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tap_and_its_end_are_found_and_nothing_else() {
        let lines = run().expect("valid names");
        let events: Vec<&str> = lines.iter().filter(|line| line.contains("event")).map(String::as_str).collect();
        let [begun, ended] = events[..] else { panic!("{events:?}") };
        assert!(begun.starts_with("local 13 ") && begun.ends_with("event 1013"), "{begun}");
        assert!(ended.starts_with("local 23 ") && ended.ends_with("event 1014"), "{ended}");
        let last = &lines[lines.len() - 2];
        assert!(last.contains("judged 28 given-up 0 refused 2"), "{last}");
    }
}
