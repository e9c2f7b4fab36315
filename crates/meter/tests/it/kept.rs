//! A meter with its flash: what happens when the flash fails, and when it is full.

use crate::torn::{BLOCK, BLOCKS, Socket};
use meter::{
    Inputs, MeterConfig, Settings, Uptime,
    clock::MeterClock,
    display::screen,
    flash::{FlashStore, Layout},
    kept::KeptMeter,
    relay::Pulse,
};
use metering::{Control, ControlKind, Down, EventKind, MeterId, Timestamp, frame::RelayState};

const START: i64 = 1_772_409_600;

fn start(flash: &Socket, blocks: usize) -> KeptMeter<Socket> {
    let (blocks, block) = (u32::try_from(blocks).expect("few"), u32::try_from(BLOCK).expect("small"));
    let layout = Layout::divide(0, blocks, block).expect("enough blocks");
    let store = FlashStore::new(flash.clone(), layout).expect("a layout");
    let config = MeterConfig::new(MeterId::new("M-1").expect("valid"));
    let settings = Settings { now_seconds: 0, ..Settings::default() };
    let clock = MeterClock::backed_up(START * 1_000, Uptime(0));
    KeptMeter::start(store, config, settings, clock, Uptime(0)).expect("power is on")
}

fn disconnect(id: u64) -> Down {
    let expires = Timestamp(START + 600);
    Down::Control(Control { id, kind: ControlKind::Disconnect, expires, counter: id, signatures: vec![] })
}

#[test]
fn a_flash_that_fails_stops_sending_and_switching_and_says_so() {
    let flash = Socket::new(1);
    let mut kept = start(&flash, BLOCKS);
    kept.step(Uptime(20_000), &Inputs::default());
    assert!(kept.next_to_send().is_some(), "hello");
    flash.power(Some(0));
    assert_eq!(kept.receive(Uptime(21_000), &disconnect(1)), None);
    let pulses: Vec<Pulse> = (22..25).filter_map(|s| kept.step(Uptime(s * 1_000), &Inputs::default())).collect();
    assert_eq!(pulses, [], "the order is not remembered: nothing moves");
    kept.link_lost();
    assert!(kept.next_to_send().is_none(), "not even what was safe before");
    assert!(kept.fault().is_some());
    assert!(screen(&kept.view(), Uptime(6_000), 16, 2)[0].contains("MEMORY FAULT"));
    flash.power(None);
    kept.step(Uptime(26_000), &Inputs::default());
    assert!(kept.fault().is_some(), "it is not tried at every step");
    kept.step(Uptime(31_000), &Inputs::default());
    assert!(kept.fault().is_none() && kept.next_to_send().is_some());
    assert_eq!(kept.meter().relay_state(), Some(RelayState::Fault), "the contact stayed where it was");
}

#[test]
fn a_pulse_comes_after_its_save_and_a_restart_gives_none() {
    let flash = Socket::new(2);
    let mut kept = start(&flash, BLOCKS);
    kept.step(Uptime(20_000), &Inputs::default());
    let before = kept.saves();
    assert_eq!(kept.receive(Uptime(20_500), &disconnect(1)), None);
    let pulse = kept.step(Uptime(21_000), &Inputs::default());
    assert_eq!((pulse, kept.saves()), (Some(Pulse::Open), before + 2));
    drop(kept);
    let mut again = start(&flash, BLOCKS);
    let open = Inputs { contact_closed: Some(false), ..Inputs::default() };
    let pulses = (1..100).filter_map(|s| again.step(Uptime(s * 1_000), &open)).count();
    assert_eq!((pulses, again.meter().relay_state()), (0, Some(RelayState::Open)));
    assert_eq!(again.meter().boot(), 2);
}

#[test]
fn overwritten_frames_are_told_once() {
    let flash = Socket::new(3);
    let mut kept = start(&flash, 8);
    for minute in 0..6_000 {
        kept.step(Uptime(minute * 60_000), &Inputs::default());
    }
    let told = kept.meter().log().events().filter(|event| event.kind == EventKind::RingOverflow).count();
    assert_eq!(told, 1);
}
