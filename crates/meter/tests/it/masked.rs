//! A meter that masks: nothing of the home's use leaves it in clear, no mask is used twice, sums come out to the watt-hour.

use std::collections::{BTreeMap, BTreeSet};

use meter::{Inputs, Memory, Meter, MeterConfig, Settings, Uptime, clock::MeterClock, masking::Masking};
use metering::{
    Body, Down, Frame, MeterId, Milliamps, Millivolts, Timestamp, WattHours,
    frame::TimeFrame,
    reading::{Channel, ProfileRecord},
};
use privacy::{Field, MaskKey, search};

const START: i64 = 1_772_409_600;

fn config(keys: Vec<MaskKey>) -> MeterConfig {
    let masking = Masking { epoch: 3, keys, clip_day_wh: 9_000, clip_slot_wh: 2_000, epoch_masks: 1_000 };
    MeterConfig { masking: Some(masking), ..MeterConfig::new(MeterId::new("M-1").expect("valid")) }
}

/// The power of a quarter-hour, W: no two neighbours alike.
fn power(slot: u64) -> u64 {
    200 + slot * 7_919 % 1_800
}

struct Run {
    meter: Meter,
    uptime: u64,
    slot: u64,
    frames: Vec<Vec<u8>>,
}

impl Run {
    fn new() -> Self {
        Self::with(config(keys()))
    }

    fn with(config: MeterConfig) -> Self {
        let memory = Memory::new(&config, Settings { now_seconds: 60, ..Settings::default() });
        let clock = MeterClock::backed_up(START * 1_000, Uptime(0));
        Self { meter: Meter::start(config, memory, 1, clock, Uptime(0)), uptime: 0, slot: 0, frames: Vec::new() }
    }

    fn slots(&mut self, count: u64) {
        for _ in 0..count * 15 {
            self.uptime += 60_000;
            let watts = power(self.slot);
            let inputs = Inputs {
                active_mw: i64::try_from(watts * 1_000).expect("small"),
                voltage: Millivolts(231_000),
                current: Milliamps(u32::try_from(watts * 1_000 / 231).expect("small")),
                ..Inputs::default()
            };
            self.meter.step(Uptime(self.uptime), &inputs).for_each(drop);
            self.slot = self.uptime / 900_000;
            while let Some(frame) = self.meter.next_to_send() {
                let (id, bytes) = (frame.id, frame.payload.to_vec());
                self.frames.push(bytes);
                self.meter.acknowledge(id);
            }
        }
    }

    fn records(&self) -> Vec<ProfileRecord> {
        let frames = self.frames.iter().map(|bytes| Frame::from_cbor(bytes).expect("a frame"));
        frames.filter_map(|f| if let Body::Profile(p) = f.body { Some(p.records) } else { None }).flatten().collect()
    }
}

fn keys() -> Vec<MaskKey> {
    vec![MaskKey::from_bytes([1; 32]), MaskKey::from_bytes([2; 32])]
}

fn channel(record: &ProfileRecord, channel: Channel) -> u64 {
    record.extra.iter().find(|v| v.channel == channel).expect("in every masked record").value.cast_unsigned()
}

fn clear(field: Field, counter: u64, c: u64) -> u64 {
    keys().iter().fold(c, |c, key| c.wrapping_sub(key.mask(field, 0, counter).expect("in range")))
}

#[test]
fn sums_of_masked_records_are_the_register() {
    let mut run = Run::new();
    run.slots(2 * 96);
    let records = run.records();
    assert!(records.len() >= 190, "{}", records.len());
    let mut sum = 0;
    let mut clipped: BTreeMap<i64, u64> = BTreeMap::new();
    for record in &records {
        assert_eq!((record.import_wh, record.voltage_mv, record.current_ma), (WattHours(0), None, None));
        let masked = record.masked.expect("masked");
        assert_eq!(masked.epoch, 3);
        let counter = channel(record, Channel::MASK_COUNTER);
        sum += clear(Field::Import, counter, masked.import);
        assert_eq!(clear(Field::Export, counter, masked.export), 0);
        assert!((230_000..232_000).contains(&clear(Field::Voltage, counter, channel(record, Channel::MASKED_VOLTAGE))));
        let slot = clear(Field::Clipped, counter, channel(record, Channel::MASKED_CLIPPED));
        // the record's day is that of its end
        *clipped.entry(record.end.day()).or_default() += slot;
    }
    let left = run.meter.registers().import_wh().0 - sum;
    assert!(left < 500, "{left} Wh are in no record: more than the interval under way");
    assert!(clipped.values().all(|wh| *wh <= 9_000) && clipped.values().any(|wh| *wh == 9_000), "{clipped:?}");
}

/// The frames as they would lie in an operator's log: no eight consecutive readings in any form.
#[test]
fn nothing_of_a_homes_use_leaves_the_meter() {
    let mut run = Run::new();
    run.slots(96);
    let truth: Vec<i64> = (0..96).map(|slot| i64::try_from(power(slot) / 4).expect("small")).collect();
    let registers: Vec<i64> = truth
        .iter()
        .scan(0, |sum, x| {
            *sum += x;
            Some(*sum)
        })
        .collect();
    let watts: Vec<i64> = (0..96).map(|slot| i64::try_from(power(slot)).expect("small")).collect();
    let all = run.frames.concat();
    for (name, numbers) in [("energies", &truth), ("registers", &registers), ("power", &watts)] {
        assert_eq!(search::find(&all, numbers, 3), [], "{name}");
    }
    for bytes in &run.frames {
        match Frame::from_cbor(bytes).expect("a frame").body {
            Body::Now(now) | Body::Snapshot(now) => {
                assert_eq!((now.power_w, now.import_wh, now.current_ma, now.voltage_mv), (None, None, None, None));
            }
            Body::Hello(hello) => assert_eq!(hello.import_wh, WattHours(0)),
            Body::Event(event) => assert_eq!((event.import_wh, event.power_w), (None, None)),
            _ => {}
        }
    }
    // and the display goes on to tell those who stand before it
    assert!(run.meter.view().registers.import_wh().0 > 1_000);
}

#[test]
fn case_08_neither_clock_nor_power_failure_uses_a_mask_twice() {
    let mut run = Run::new();
    run.slots(20);
    let set = |run: &mut Run, to: i64| {
        run.meter.receive(&Down::Time(TimeFrame::unsigned(Timestamp(to)))).for_each(drop);
    };
    set(&mut run, START - 86_400 + 40);
    run.slots(20);
    let memory = run.meter.into_memory();
    let clock = MeterClock::backed_up((START - 10 * 86_400) * 1_000, Uptime(0));
    run.meter = Meter::start(config(keys()), memory, 2, clock, Uptime(0));
    run.uptime = 0;
    run.slots(20);
    set(&mut run, START + 3 * 86_400);
    run.slots(10);
    let mut used = BTreeSet::new();
    let records = run.records();
    assert!(records.len() >= 35, "{}", records.len());
    for record in &records {
        let counter = channel(record, Channel::MASK_COUNTER);
        assert!(used.insert(counter), "counter {counter} was used again in the record of {}", record.end);
    }
}

#[test]
fn without_a_key_a_record_carries_nothing_rather_than_a_reading() {
    let masking = Masking { epoch: 1, keys: Vec::new(), clip_day_wh: 1, clip_slot_wh: 1, epoch_masks: 0 };
    let mut memory = meter::masking::MaskMemory::default();
    let mut record = ProfileRecord {
        end: Timestamp(START),
        flags: metering::RecordFlags::default(),
        import_wh: WattHours(500),
        export_wh: WattHours(0),
        voltage_mv: Some(Millivolts(230_000)),
        current_ma: None,
        extra: Vec::new(),
        masked: None,
    };
    masking.mask(&mut memory, &mut record, 900);
    assert_eq!((record.import_wh, record.voltage_mv, record.masked), (WattHours(0), None, None));
}

/// Forty masks an epoch: the custodian, who ratchets the same first keys on, reads every record, and a key of a later epoch reads none of
/// an earlier one.
#[test]
fn epochs_follow_from_each_other_and_not_back() {
    let mut config = config(keys());
    let masking = config.masking.as_mut().expect("masks");
    (masking.epoch, masking.epoch_masks) = (privacy::mask::FIRST_EPOCH, 40);
    let mut run = Run::with(config.clone());
    run.slots(70);
    // a power failure in the middle of an epoch does not begin it again
    let memory = run.meter.into_memory();
    let clock = MeterClock::backed_up((START + 70 * 900) * 1_000, Uptime(0));
    run.meter = Meter::start(config, memory, 2, clock, Uptime(0));
    run.uptime = 0;
    run.slots(70);
    let at_custodian: Vec<BTreeMap<u32, MaskKey>> =
        keys().into_iter().map(|first| privacy::exchange::epochs(first).take(5).collect()).collect();
    let records = run.records();
    let mut by_epoch: BTreeMap<u32, usize> = BTreeMap::new();
    for record in &records {
        let masked = record.masked.expect("masked");
        let counter = channel(record, Channel::MASK_COUNTER);
        let read = |epoch: u32| {
            at_custodian.iter().fold(masked.import, |c, keys| {
                c.wrapping_sub(keys[&epoch].mask(Field::Import, 0, counter).expect("in range"))
            })
        };
        assert!(read(masked.epoch) < 1_000, "the record of {} under the key of its epoch", record.end);
        assert!(read(masked.epoch % 4 + 1) > 1_000_000, "and under that of another");
        *by_epoch.entry(masked.epoch).or_default() += 1;
    }
    let full: Vec<usize> = by_epoch.values().copied().take(by_epoch.len() - 1).collect();
    assert!(by_epoch.len() >= 3 && full.iter().all(|count| *count == 40), "{by_epoch:?}");
}
