//! Golden texts of the display, and when buzzer and lights are on.

use expect_test::expect;
use meter::{
    Inputs, Memory, Meter, MeterConfig, Settings, Uptime,
    clock::MeterClock,
    display::{View, buzzer, lights, pages, screen},
    register::{ActiveRegister, ApparentRegister, Registers},
};
use metering::{EventKind, MeterId, Milliamps, Watts, frame::RelayState, unit::PerMille};

fn view() -> View {
    let config = MeterConfig::new(MeterId::new("M-1").expect("valid"));
    let registers = Registers {
        import: ActiveRegister::starting_at(12_345_678),
        export: ActiveRegister::starting_at(42),
        apparent: ApparentRegister::starting_at(13_000_009),
        ..Registers::default()
    };
    let memory = Memory::new(&config, Settings::default()).with_registers(registers);
    let clock = MeterClock::backed_up(1_772_460_309_000, Uptime(0));
    let mut meter = Meter::start(config, memory, 1, clock, Uptime(0));
    let inputs = Inputs {
        current: Milliamps(5_434),
        neutral: Some(Milliamps(5_431)),
        active_mw: 1_187_654,
        power_factor: PerMille(-950),
        ..Inputs::default()
    };
    meter.step(Uptime(0), &inputs).for_each(drop);
    meter.view()
}

fn scroll(view: &View, columns: usize, rows: usize, turns: u64) -> String {
    let border = "-".repeat(columns);
    let mut text = String::new();
    for turn in 0..turns {
        text.push_str(&format!("+{border}+\n"));
        for line in screen(view, Uptime(turn * 6_000), columns, rows) {
            assert_eq!(line.len(), columns, "{line:?}");
            assert!(line.is_ascii());
            text.push_str(&format!("|{line}|\n"));
        }
    }
    text
}

#[test]
fn sixteen_by_two_scrolls_through_every_page() {
    let view = view();
    let turns = u64::try_from(pages(&view).len()).expect("small");
    expect![[r#"
        +----------------+
        |0.0.1.0.0    UTC|
        |2026-03-02 14:05|
        +----------------+
        |1.8.0        kWh|
        |       12345.678|
        +----------------+
        |2.8.0        kWh|
        |           0.042|
        +----------------+
        |9.8.0       kVAh|
        |       13000.009|
        +----------------+
        |32.7.0         V|
        |           230.0|
        +----------------+
        |31.7.0         A|
        |            5.43|
        +----------------+
        |91.7.0         A|
        |            5.43|
        +----------------+
        |1.7.0         kW|
        |           1.187|
        +----------------+
        |13.7.0        PF|
        |          -0.950|
        +----------------+
        |14.7.0        Hz|
        |           50.00|
        +----------------+
        |96.7.0     fails|
        |               0|
        +----------------+
        |96.3.10    relay|
        |              on|
    "#]]
    .assert_eq(&scroll(&view, 16, 2, turns));
}

#[test]
fn twenty_by_four_shows_two_pages_and_what_must_be_done_comes_first() {
    let calm = view();
    expect![[r#"
        +--------------------+
        |0.0.1.0.0        UTC|
        |    2026-03-02 14:05|
        |1.8.0            kWh|
        |           12345.678|
        +--------------------+
        |2.8.0            kWh|
        |               0.042|
        |9.8.0           kVAh|
        |           13000.009|
    "#]]
    .assert_eq(&scroll(&calm, 20, 4, 2));
    let armed = View {
        relay: Some(RelayState::Ready),
        tamper: vec![EventKind::CoverOpen, EventKind::Bypass],
        balance: Some(-1_250),
        ..view()
    };
    expect![[r#"
        +--------------------+
        |    PRESS BUTTON    |
        |    to reconnect    |
        |0.0.1.0.0!/      UTC|
        |    2026-03-02 14:05|
    "#]]
    .assert_eq(&scroll(&armed, 20, 4, 1));
    let high = View { limit_opens_in_ms: Some(41_200), limit: Some(Watts(1_000)), ..view() };
    expect![[r#"
        +----------------+
        | LOAD TOO HIGH  |
        |  off in 42 s   |
    "#]]
    .assert_eq(&scroll(&high, 16, 2, 1));
    let last = pages(&armed);
    assert_eq!(last[last.len() - 2].value, "cover opened");
    assert_eq!(last[last.len() - 3].value, "-12.50");
}

#[test]
fn the_impulse_light_counts_the_energy() {
    let mut view = view();
    for (milliwatts, expected) in [(1_125_000, 3_600), (36_000, 115), (9_000_000, 28_800), (0, 0), (-500_000, 0)] {
        view.inputs.active_mw = milliwatts;
        let (mut impulses, mut was_on) = (0, true);
        for ms in (0..3_600_000).step_by(5) {
            let on = lights(&view, Uptime(ms)).impulse;
            impulses += u64::from(on && !was_on);
            was_on = on;
        }
        assert!(expected - impulses <= 1, "{milliwatts} mW: {impulses} impulses in an hour, {expected} expected");
    }
}

#[test]
fn the_buzzer_sounds_two_seconds_for_tampering_and_thrice_before_the_limit_opens() {
    let mut view = view();
    let sounding = |view: &View| (0..60_000u64).filter(|ms| buzzer(view, Uptime(*ms))).count();
    assert_eq!(sounding(&view), 0);
    view.alarmed_at = Some(Uptime(5_000));
    assert_eq!(sounding(&view), 2_000);
    view.alarmed_at = None;
    view.limit_opens_in_ms = Some(45_000);
    assert_eq!(sounding(&view), 1_500);
    let begins: Vec<u64> =
        (1..60_000).filter(|ms| buzzer(&view, Uptime(*ms)) && !buzzer(&view, Uptime(ms - 1))).collect();
    assert_eq!(begins, [15_000, 25_000, 35_000]);
}

#[test]
fn lights_tell_link_and_alarm() {
    let mut view = view();
    view.waiting = 0;
    view.acknowledged_at = Some(Uptime(0));
    assert!(lights(&view, Uptime(600)).link && !lights(&view, Uptime(1_300_000)).link);
    view.waiting = 3;
    assert!(lights(&view, Uptime(100)).link && !lights(&view, Uptime(600)).link);
    assert!(!lights(&view, Uptime(100)).alarm);
    view.tamper = vec![EventKind::OverVoltage];
    assert!(!lights(&view, Uptime(100)).alarm, "bad supply is no tampering");
    view.tamper = vec![EventKind::Magnet];
    assert!(lights(&view, Uptime(100)).alarm && !lights(&view, Uptime(300)).alarm);
}
