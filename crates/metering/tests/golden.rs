//! Golden bytes of protocol version 1: what these tests hold is what devices in the field send. A change here is a new protocol
//! version, not a correction. The JSON beside the bytes is the same frame.

use expect_test::{Expect, expect};
use metering::{
    Body, Channel, Control, ControlKind, Down, EventKind, Frame, MeterEvent, MeterId, Milliamps, Millihertz,
    Millivolts, ProfileRecord, RecordFlags, Timestamp, Vars, WattHours, Watts,
    control::{ReplyOutcome, SignatureBytes},
    frame::{Config, Cycle, Dip, Hello, Now, PowerQuality, Profile, RelayState, Reply, TimeFrame},
    reading::{ChannelValue, Masked},
    unit::PerMille,
};

const AT: Timestamp = Timestamp(1_767_225_600);

fn meter() -> MeterId {
    MeterId::new("M-1").expect("valid")
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(48).map(line).collect()
}

/// The bytes and the JSON of a frame, and that both read back as the same frame.
fn check_frame(body: Body, expected: Expect) {
    let frame = Frame::new(meter(), 42, 7, body);
    let cbor = frame.to_cbor();
    let json = serde_json::to_string(&frame).expect("json");
    assert_eq!(Frame::from_cbor(&cbor).as_ref(), Ok(&frame));
    assert_eq!(serde_json::from_str::<Frame>(&json).expect("reads").check().as_ref(), Ok(&frame));
    expected.assert_eq(&format!("{}{json}\n", hex(&cbor)));
}

/// The same for a body from the server; in JSON, too, it stands alone.
fn check_down(down: Down, expected: Expect) {
    let cbor = down.to_cbor();
    assert_eq!(Down::from_cbor(down.kind(), &cbor).as_ref(), Ok(&down));
    let tagged = serde_json::to_value(&down).expect("json");
    assert_eq!(serde_json::from_value::<Down>(tagged).expect("reads"), down);
    let json = match &down {
        Down::Control(body) => serde_json::to_string(body),
        Down::Config(body) => serde_json::to_string(body),
        Down::Time(body) => serde_json::to_string(body),
    };
    expected.assert_eq(&format!("{}{}\n", hex(&cbor), json.expect("json")));
}

fn now() -> Now {
    Now {
        at: AT,
        voltage_mv: Some(Millivolts(230_000)),
        current_ma: Some(Milliamps(4_350)),
        power_w: Some(Watts(-998)),
        reactive_var: Some(Vars(63)),
        power_factor: Some(PerMille(-998)),
        frequency_mhz: Some(Millihertz(50_010)),
        neutral_ma: Some(Milliamps(4_340)),
        load_voltage_mv: Some(Millivolts(229_900)),
        relay: Some(RelayState::Closed),
        import_wh: Some(WattHours(1_234_567)),
        export_wh: Some(WattHours(89)),
        control: None,
    }
}

#[test]
fn hello() {
    let body = Hello {
        at: Some(AT),
        firmware: "gridtally 0.1".into(),
        model: "sim".into(),
        profile_minutes: 15,
        import_wh: WattHours(1_000),
        export_wh: WattHours(0),
        relay: Some(RelayState::Closed),
        waiting: 3,
        senses_load: None,
    };
    check_frame(
        Body::Hello(body),
        expect![[r#"
            a5000101634d2d3102182a030704820081a8001a6955b900016d6772696474616c6c7920302e31026373696d030f0419
            03e8050006000703
            {"v":1,"meter":"M-1","boot":42,"seq":7,"hello":{"at":1767225600,"firmware":"gridtally 0.1","model":"sim","profile_minutes":15,"import_wh":1000,"export_wh":0,"relay":"closed","waiting":3,"senses_load":null}}
        "#]],
    );
    let least = Hello {
        at: None,
        firmware: String::new(),
        model: String::new(),
        profile_minutes: 60,
        import_wh: WattHours(0),
        export_wh: WattHours(0),
        relay: None,
        waiting: 0,
        senses_load: None,
    };
    check_frame(
        Body::Hello(least),
        expect![[r#"
            a5000101634d2d3102182a030704820081a60160026003183c040005000700
            {"v":1,"meter":"M-1","boot":42,"seq":7,"hello":{"at":null,"firmware":"","model":"","profile_minutes":60,"import_wh":0,"export_wh":0,"relay":null,"waiting":0,"senses_load":null}}
        "#]],
    );
}

#[test]
fn profile() {
    let plain = ProfileRecord {
        end: AT,
        flags: RecordFlags(0),
        import_wh: WattHours(1_234_567),
        export_wh: WattHours(0),
        voltage_mv: None,
        current_ma: None,
        extra: vec![],
        masked: None,
    };
    let full = ProfileRecord {
        end: Timestamp(AT.0 + 900),
        flags: RecordFlags::TAMPER,
        import_wh: WattHours(1_234_800),
        export_wh: WattHours(1),
        voltage_mv: Some(Millivolts(230_500)),
        current_ma: Some(Milliamps(4_000)),
        extra: vec![ChannelValue { channel: Channel::POWER_MAX, value: 2_300 }],
        masked: None,
    };
    check_frame(
        Body::Profile(Profile { minutes: 15, records: vec![plain.clone(), full] }),
        expect![[r#"
        a5000101634d2d3102182a030704820181a2000f0182a5001a6955b9000100021a0012d68703000680a7001a6955bc84
        0108021a0012d7700301041a0003846405190fa006818218181908fc
        {"v":1,"meter":"M-1","boot":42,"seq":7,"profile":{"minutes":15,"records":[{"end":1767225600,"flags":0,"import_wh":1234567,"export_wh":0,"voltage_mv":null,"current_ma":null},{"end":1767226500,"flags":8,"import_wh":1234800,"export_wh":1,"voltage_mv":230500,"current_ma":4000,"extra":[{"channel":24,"value":2300}]}]}}
    "#]],
    );
    let masked = Masked { epoch: 2, import: u64::MAX, export: 1 };
    let record = ProfileRecord { import_wh: WattHours(0), masked: Some(masked), ..plain };
    check_frame(
        Body::Profile(Profile { minutes: 15, records: vec![record] }),
        expect![[r#"
        a5000101634d2d3102182a030704820181a2000f0181a6001a6955b900010002000300068007a30002011bffffffffff
        ffffff0201
        {"v":1,"meter":"M-1","boot":42,"seq":7,"profile":{"minutes":15,"records":[{"end":1767225600,"flags":0,"import_wh":0,"export_wh":0,"voltage_mv":null,"current_ma":null,"masked":{"epoch":2,"import":18446744073709551615,"export":1}}]}}
    "#]],
    );
}

#[test]
fn now_and_snapshot() {
    check_frame(
        Body::Now(now()),
        expect![[r#"
        a5000101634d2d3102182a030704820281ac001a6955b900011a00038270021910fe033903e504183f053903e50619c3
        5a071910f4081a0003820c09000a1a0012d6870b1859
        {"v":1,"meter":"M-1","boot":42,"seq":7,"now":{"at":1767225600,"voltage_mv":230000,"current_ma":4350,"power_w":-998,"reactive_var":63,"power_factor":-998,"frequency_mhz":50010,"neutral_ma":4340,"load_voltage_mv":229900,"relay":"closed","import_wh":1234567,"export_wh":89,"control":null}}
    "#]],
    );
    check_frame(
        Body::Now(Now { at: AT, ..Now::default() }),
        expect![[r#"
        a5000101634d2d3102182a030704820281a1001a6955b900
        {"v":1,"meter":"M-1","boot":42,"seq":7,"now":{"at":1767225600,"voltage_mv":null,"current_ma":null,"power_w":null,"reactive_var":null,"power_factor":null,"frequency_mhz":null,"neutral_ma":null,"load_voltage_mv":null,"relay":null,"import_wh":null,"export_wh":null,"control":null}}
    "#]],
    );
    check_frame(
        Body::Snapshot(Now { control: Some(9), ..now() }),
        expect![[r#"
        a5000101634d2d3102182a030704820681ad001a6955b900011a00038270021910fe033903e504183f053903e50619c3
        5a071910f4081a0003820c09000a1a0012d6870b18590c09
        {"v":1,"meter":"M-1","boot":42,"seq":7,"snapshot":{"at":1767225600,"voltage_mv":230000,"current_ma":4350,"power_w":-998,"reactive_var":63,"power_factor":-998,"frequency_mhz":50010,"neutral_ma":4340,"load_voltage_mv":229900,"relay":"closed","import_wh":1234567,"export_wh":89,"control":9}}
    "#]],
    );
}

#[test]
fn event() {
    let body = MeterEvent {
        at: AT,
        kind: EventKind::CoverOpen,
        voltage_mv: Some(Millivolts(230_000)),
        current_ma: Some(Milliamps(0)),
        power_w: Some(Watts(0)),
        power_factor: None,
        import_wh: Some(WattHours(1_234_567)),
    };
    check_frame(
        Body::Event(body),
        expect![[r#"
        a5000101634d2d3102182a030704820381a6001a6955b9000118fb021a0003827003000400061a0012d687
        {"v":1,"meter":"M-1","boot":42,"seq":7,"event":{"at":1767225600,"code":251,"voltage_mv":230000,"current_ma":0,"power_w":0,"power_factor":null,"import_wh":1234567}}
    "#]],
    );
}

#[test]
fn reply() {
    let open = Now { at: AT, relay: Some(RelayState::Open), ..Now::default() };
    check_frame(
        Body::Reply(Reply { control: 9, outcome: ReplyOutcome::Done, now: open }),
        expect![[r#"
        a5000101634d2d3102182a030704820481a300090182008002a2001a6955b9000901
        {"v":1,"meter":"M-1","boot":42,"seq":7,"reply":{"control":9,"outcome":"done","now":{"at":1767225600,"voltage_mv":null,"current_ma":null,"power_w":null,"reactive_var":null,"power_factor":null,"frequency_mhz":null,"neutral_ma":null,"load_voltage_mv":null,"relay":"open","import_wh":null,"export_wh":null,"control":null}}}
    "#]],
    );
}

#[test]
fn quality() {
    let body = PowerQuality {
        end: AT,
        voltage_mv: Millivolts(231_200),
        frequency_mhz: Some(Millihertz(49_990)),
        thd: Some(PerMille(21)),
        harmonics: vec![10, 150],
        pst: Some(PerMille(400)),
        dips: vec![Dip { at: Timestamp(AT.0 - 60), duration_ms: 120, extreme: PerMille(640) }],
        flagged: true,
        current_harmonics_ma: vec![Milliamps(5_400), Milliamps(0), Milliamps(1_900)],
        cycle: Some(Cycle { voltage_dv: vec![0, 3_270, 0, -3_268], current_ca: vec![-12, 760, 14, -758] }),
    };
    check_frame(
        Body::Quality(body),
        expect![[r#"
            a5000101634d2d3102182a030704820581aa001a6955b900011a000387200219c346031504820a1896051901900681a3
            001a6955b8c40118780219028007f508831915180019076c09a2008400190cc600390cc301842b1902f80e3902f5
            {"v":1,"meter":"M-1","boot":42,"seq":7,"quality":{"end":1767225600,"voltage_mv":231200,"frequency_mhz":49990,"thd":21,"harmonics":[10,150],"pst":400,"dips":[{"at":1767225540,"duration_ms":120,"extreme":640}],"flagged":true,"current_harmonics_ma":[5400,0,1900],"cycle":{"voltage_dv":[0,3270,0,-3268],"current_ca":[-12,760,14,-758]}}}
        "#]],
    );
}

#[test]
fn control() {
    let control = |kind, signatures| {
        Down::Control(Control { id: 9, kind, expires: Timestamp(AT.0 + 600), counter: 4, signatures })
    };
    check_down(
        control(ControlKind::Disconnect, vec![]),
        expect![[r#"
        a5000901820080021a6955bb5803040480
        {"id":9,"kind":"disconnect","expires":1767226200,"counter":4,"signatures":[]}
    "#]],
    );
    let signature = SignatureBytes(core::array::from_fn(|n| u8::try_from(n).expect("small")));
    check_down(
        control(ControlKind::Reconnect, vec![signature]),
        expect![[r#"
        a5000901820180021a6955bb58030404815840000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c
        1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f
        {"id":9,"kind":"reconnect","expires":1767226200,"counter":4,"signatures":["000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"]}
    "#]],
    );
    check_down(
        control(ControlKind::LoadLimit { limit_w: Some(Watts(3_000)) }, vec![]),
        expect![[r#"
        a50009018202a100190bb8021a6955bb5803040480
        {"id":9,"kind":{"load_limit":{"limit_w":3000}},"expires":1767226200,"counter":4,"signatures":[]}
    "#]],
    );
    check_down(
        control(ControlKind::LoadLimit { limit_w: None }, vec![]),
        expect![[r#"
        a50009018202a0021a6955bb5803040480
        {"id":9,"kind":{"load_limit":{"limit_w":null}},"expires":1767226200,"counter":4,"signatures":[]}
    "#]],
    );
    check_down(
        control(ControlKind::SnapshotAt { at: AT }, vec![]),
        expect![[r#"
        a50009018203a1001a6955b900021a6955bb5803040480
        {"id":9,"kind":{"snapshot_at":{"at":1767225600}},"expires":1767226200,"counter":4,"signatures":[]}
    "#]],
    );
}

#[test]
fn what_a_signature_covers() {
    let control = Control { id: 9, kind: ControlKind::Disconnect, expires: AT, counter: 4, signatures: vec![] };
    expect![[r#"
        8282736772696474616c6c7920636f6e74726f6c2031634d2d3184098200801a6955b90004
    "#]]
    .assert_eq(&hex(&control.signed_bytes(meter())));
}

#[test]
fn config_and_time() {
    check_down(
        Down::Config(Config { version: 2, ..Config::default() }),
        expect![[r#"
        a10002
        {"version":2,"profile_minutes":null,"now_seconds":null,"close_without_button":null}
    "#]],
    );
    let all = Config {
        version: 3,
        profile_minutes: Some(30),
        now_seconds: Some(10),
        close_without_button: Some(false),
        ..Config::default()
    };
    check_down(
        Down::Config(all),
        expect![[r#"
        a4000301181e020a03f4
        {"version":3,"profile_minutes":30,"now_seconds":10,"close_without_button":false}
    "#]],
    );
    check_down(
        Down::Time(TimeFrame::unsigned(AT)),
        expect![[r#"
        a1001a6955b900
        {"now":1767225600}
    "#]],
    );
}

/// A maker's frame: members in any order, optional ones left out, unknown ones ignored.
#[test]
fn json_by_hand() {
    let text = r#"{"seq":1,"boot":1767225000,"meter":"M-1","v":1,"note":"unknown members are ignored",
        "profile":{"minutes":15,"records":[{"end":1767225600,"import_wh":1234567}]}}"#;
    let frame = serde_json::from_str::<Frame>(text).expect("reads").check().expect("a frame");
    let Body::Profile(profile) = frame.body else { panic!("a profile") };
    assert_eq!((profile.records[0].end, profile.records[0].import_wh), (AT, WattHours(1_234_567)));
    assert_eq!((profile.records[0].voltage_mv, profile.records[0].export_wh), (None, WattHours(0)));
}

/// Unknown integer keys in CBOR maps are skipped, so that a later minor addition does not break an old reader.
#[test]
fn cbor_with_an_unknown_key() {
    let frame = Frame::new(meter(), 42, 7, Body::Now(Now { at: AT, ..Now::default() }));
    let mut bytes = frame.to_cbor();
    assert_eq!(bytes[0], 0xa5, "a map of five");
    bytes[0] = 0xa6;
    bytes.extend([0x18, 0x63, 0x61, b'x']);
    assert_eq!(Frame::from_cbor(&bytes), Ok(frame));
}
