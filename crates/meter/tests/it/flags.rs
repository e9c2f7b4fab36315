//! Flags of profile records that the measuring parts cause: samples that are missing, calibration that is missing.

use meter::{Calibration, Inputs, Memory, Meter, MeterConfig, Settings, Uptime, clock::MeterClock, display::pages};
use metering::{Body, EventKind, Frame, MeterId, ProfileRecord, RecordFlags};

const START: i64 = 1_772_409_600;
const WINDOW_MS: u64 = 200;

fn meter(memory: Option<Memory>, calibration: Calibration) -> Meter {
    let config = MeterConfig { calibration, ..MeterConfig::new(MeterId::new("M-1").expect("valid")) };
    let memory = memory.unwrap_or_else(|| Memory::new(&config, Settings { now_seconds: 0, ..Settings::default() }));
    Meter::start(config, memory, 1, MeterClock::backed_up(START * 1_000, Uptime(0)), Uptime(0))
}

fn records(meter: &Meter) -> Vec<ProfileRecord> {
    let frames = meter.ring().payloads().map(|payload| Frame::from_cbor(payload).expect("own bytes"));
    frames.flat_map(|frame| if let Body::Profile(profile) = frame.body { profile.records } else { vec![] }).collect()
}

fn events(meter: &Meter, kind: EventKind) -> usize {
    meter.log().events().filter(|event| event.kind == kind).count()
}

#[test]
fn an_interval_with_too_many_missing_samples_says_so_and_its_energy_is_whole() {
    let mut meter = meter(None, Calibration::Exact);
    // of each quarter-hour 0.1 % less a little, 0.1 % and a little, nothing
    let missing_us = [899_000, 901_000, 0];
    let windows = 900_000 / WINDOW_MS;
    for (quarter, missing_us) in (0..).zip(missing_us) {
        for window in 1..=windows {
            let unsampled_us = if window == 7 { missing_us } else { 0 };
            let inputs = Inputs { active_mw: 4_000_000, unsampled_us, ..Inputs::default() };
            meter.step(Uptime((quarter * windows + window) * WINDOW_MS), &inputs).for_each(drop);
        }
    }
    let records = records(&meter);
    let flagged: Vec<bool> = records.iter().map(|r| r.flags.contains(RecordFlags::INCOMPLETE)).collect();
    assert_eq!(flagged, [false, true, false]);
    let energy: Vec<u64> = records.iter().map(|r| r.import_wh.0).collect();
    assert_eq!(energy, [1_000, 2_000, 3_000], "what was not sampled counts as the rest");
}

#[test]
fn a_meter_without_calibration_says_so_in_every_record_on_its_display_and_at_every_start() {
    let mut meter = meter(None, Calibration::Missing);
    for quarter in 1..=3 {
        meter.step(Uptime(quarter * 900_000), &Inputs::default()).for_each(drop);
    }
    assert!(records(&meter).iter().skip(1).all(|r| r.flags.contains(RecordFlags::UNCALIBRATED)));
    assert_eq!(records(&meter).len(), 3);
    assert_eq!(events(&meter, EventKind::CalibrationMissing), 1);
    assert!(pages(&meter.view()).iter().any(|page| page.value == "NOT CALIBRATED"));
}

#[test]
fn what_is_measured_while_a_calibration_is_made_says_so_until_the_next_start() {
    let mut first = meter(None, Calibration::Record(1));
    first.step(Uptime(900_000), &Inputs::default()).for_each(drop);
    first.uncalibrate().for_each(drop);
    first.uncalibrate().for_each(drop);
    first.step(Uptime(1_800_000), &Inputs::default()).for_each(drop);
    let flagged: Vec<bool> = records(&first).iter().map(|r| r.flags.contains(RecordFlags::UNCALIBRATED)).collect();
    assert_eq!(flagged, [false, true]);
    assert_eq!(events(&first, EventKind::CalibrationMissing), 1);
}

#[test]
fn a_new_calibration_is_an_event_once() {
    let mut first = meter(None, Calibration::Record(1));
    first.step(Uptime(1_000), &Inputs::default()).for_each(drop);
    assert_eq!(events(&first, EventKind::CalibrationSet), 1);
    let mut same = meter(Some(first.into_memory()), Calibration::Record(1));
    same.step(Uptime(1_000), &Inputs::default()).for_each(drop);
    assert_eq!(events(&same, EventKind::CalibrationSet), 1);
    let mut other = meter(Some(same.into_memory()), Calibration::Record(2));
    other.step(Uptime(1_000), &Inputs::default()).for_each(drop);
    assert_eq!(events(&other, EventKind::CalibrationSet), 2);
    assert!(!pages(&other.view()).iter().any(|page| page.value == "NOT CALIBRATED"));
}
