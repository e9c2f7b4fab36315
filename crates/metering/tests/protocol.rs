//! The text of the protocol and the parser say the same: every field of every frame kind, in both encodings; every flag and event.

use std::collections::{BTreeMap, BTreeSet};

use metering::{
    Body, Channel, Control, ControlKind, EventKind, Frame, MeterEvent, MeterId, Milliamps, Millihertz, Millivolts,
    ProfileRecord, RecordFlags, Timestamp, Vars, WattHours, Watts,
    control::SignatureBytes,
    frame::{Config, Cycle, Dip, Hello, Now, PowerQuality, Profile, RelayState, TimeFrame, check_start},
    reading::{ChannelValue, Masked},
    unit::PerMille,
};
use minicbor::{Decode, Decoder, Encode, Encoder};
use serde::{Serialize, de::DeserializeOwned};

const GRAMMAR: &str = include_str!("../../../docs/protocol.cddl");
const TEXT: &str = include_str!("../../../docs/protocol.md");
const AT: Timestamp = Timestamp(1_767_225_600);

/// The keys of a map in the grammar, and whether each may be absent.
fn grammar(rule: &str) -> BTreeMap<u64, bool> {
    let from = GRAMMAR.find(&format!("\n{rule} = {{")).unwrap_or_else(|| panic!("no rule {rule}"));
    let body = &GRAMMAR[from..from + GRAMMAR[from..].find('}').expect("closed")];
    let body = body.split_once('{').expect("a map").1;
    let without_comments: String = body.lines().map(|l| l.split(';').next().unwrap_or("").to_owned() + "\n").collect();
    let entry = |part: &str| {
        let (key, _) = part.split_once("=>")?;
        let key = key.trim().rsplit([',', '\n', ' ']).next()?.parse().ok()?;
        Some((key, part.split("=>").next()?.contains('?')))
    };
    let mut keys = BTreeMap::new();
    for part in without_comments.split(",\n").flat_map(|line| line.split(", ")) {
        keys.extend(entry(part));
    }
    keys
}

/// The entries of an encoded map, each with its bytes.
fn entries(cbor: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut from = Decoder::new(cbor);
    let count = from.map().expect("a map").expect("of known length");
    (0..count)
        .map(|_| {
            let key = from.u64().expect("a key");
            let begin = from.position();
            from.skip().expect("a value");
            (key, cbor[begin..from.position()].to_vec())
        })
        .collect()
}

fn map_of(entries: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes).map(entries.len() as u64).expect("written");
    for (key, value) in entries {
        Encoder::new(&mut bytes).u64(*key).expect("written");
        bytes.extend(value);
    }
    bytes
}

/// Walks every field of a full value: those the grammar marks optional may be null or absent, and are then the same; without the
/// others nothing is read.
fn walk<T>(rule: &str, names: &[&str], full: &T)
where
    T: for<'b> Decode<'b, ()> + Encode<()> + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let keys = grammar(rule);
    let all = entries(&minicbor::to_vec(full).expect("encoded"));
    assert_eq!(all.iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys.keys().copied().collect::<Vec<_>>(), "{rule}");
    assert_eq!(names.len(), keys.len(), "{rule}");
    let serde_json::Value::Object(json) = serde_json::to_value(full).expect("json") else { panic!("{rule}") };
    assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), json.keys().map(String::as_str).collect(), "{rule}");
    for ((key, optional), name) in keys.iter().zip(names) {
        let without: Vec<_> = all.iter().filter(|(k, _)| k != key).cloned().collect();
        let with_null: Vec<_> = all.iter().map(|(k, v)| (*k, if k == key { vec![0xf6] } else { v.clone() })).collect();
        let read = |entries: &[(u64, Vec<u8>)]| minicbor::decode::<T>(&map_of(entries));
        let mut absent = json.clone();
        absent.remove(*name);
        let mut null = json.clone();
        null.insert((*name).to_owned(), serde_json::Value::Null);
        let parse = |map| serde_json::from_value::<T>(serde_json::Value::Object(map));
        if *optional {
            let expected = read(&without).unwrap_or_else(|e| panic!("{rule}.{name} left out: {e}"));
            assert_ne!(&expected, full, "{rule}.{name}: the full value must differ");
            assert_eq!(read(&with_null).unwrap_or_else(|e| panic!("{rule}.{name} null: {e}")), expected);
            assert_eq!(parse(absent).unwrap_or_else(|e| panic!("{rule}.{name} left out of JSON: {e}")), expected);
            assert_eq!(parse(null).unwrap_or_else(|e| panic!("{rule}.{name} null in JSON: {e}")), expected);
        } else {
            assert!(read(&without).is_err() && read(&with_null).is_err(), "{rule}.{name}");
            assert!(parse(absent).is_err() && parse(null).is_err(), "{rule}.{name}");
        }
    }
}

fn record() -> ProfileRecord {
    ProfileRecord {
        end: AT,
        flags: RecordFlags(1),
        import_wh: WattHours(1_000),
        export_wh: WattHours(5),
        voltage_mv: Some(Millivolts(230_000)),
        current_ma: Some(Milliamps(100)),
        extra: vec![ChannelValue { channel: Channel::POWER_MAX, value: 2_300 }],
        masked: Some(Masked { epoch: 1, import: 2, export: 3 }),
    }
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
        control: Some(4),
    }
}

#[test]
fn optional_fields_of_what_a_meter_sends_may_be_null_or_absent() {
    let hello = Hello {
        at: Some(AT),
        firmware: "gridtally 0.1".into(),
        model: "sim".into(),
        profile_minutes: 15,
        import_wh: WattHours(1_000),
        export_wh: WattHours(7),
        relay: Some(RelayState::Closed),
        waiting: 3,
        senses_load: Some(false),
    };
    let names =
        ["at", "firmware", "model", "profile_minutes", "import_wh", "export_wh", "relay", "waiting", "senses_load"];
    walk("hello", &names, &hello);
    let profile = Profile { minutes: 15, records: vec![record()] };
    walk("profile", &["minutes", "records"], &profile);
    let names = ["end", "flags", "import_wh", "export_wh", "voltage_mv", "current_ma", "extra", "masked"];
    walk("record", &names, &record());
    walk("masked", &["epoch", "import", "export"], &Masked { epoch: 1, import: 2, export: 3 });
    let names = [
        "at",
        "voltage_mv",
        "current_ma",
        "power_w",
        "reactive_var",
        "power_factor",
        "frequency_mhz",
        "neutral_ma",
        "load_voltage_mv",
        "relay",
        "import_wh",
        "export_wh",
        "control",
    ];
    walk("now", &names, &now());
    let event = MeterEvent {
        at: AT,
        kind: EventKind::Magnet,
        voltage_mv: Some(Millivolts(1)),
        current_ma: Some(Milliamps(2)),
        power_w: Some(Watts(3)),
        power_factor: Some(PerMille(4)),
        import_wh: Some(WattHours(5)),
    };
    let names = ["at", "code", "voltage_mv", "current_ma", "power_w", "power_factor", "import_wh"];
    walk("event", &names, &event);
    walk("dip", &["at", "duration_ms", "extreme"], &Dip { at: AT, duration_ms: 5, extreme: PerMille(150) });
}

#[test]
fn optional_fields_of_power_quality_may_be_null_or_absent() {
    let cycle = Cycle { voltage_dv: vec![1, 2], current_ca: vec![3, 4] };
    let quality = PowerQuality {
        end: AT,
        voltage_mv: Millivolts(230_000),
        frequency_mhz: Some(Millihertz(50_000)),
        thd: Some(PerMille(20)),
        harmonics: vec![1, 2],
        pst: Some(PerMille(700)),
        dips: vec![Dip { at: AT, duration_ms: 5, extreme: PerMille(150) }],
        flagged: true,
        current_harmonics_ma: vec![Milliamps(3)],
        cycle: Some(cycle.clone()),
    };
    let names = [
        "end",
        "voltage_mv",
        "frequency_mhz",
        "thd",
        "harmonics",
        "pst",
        "dips",
        "flagged",
        "current_harmonics_ma",
        "cycle",
    ];
    walk("quality", &names, &quality);
    walk("cycle", &["voltage_dv", "current_ca"], &cycle);
}

#[test]
fn optional_fields_of_what_a_server_sends_may_be_null_or_absent() {
    let signature = SignatureBytes([7; 64]);
    let config = Config {
        version: 3,
        profile_minutes: Some(15),
        now_seconds: Some(60),
        close_without_button: Some(true),
        counter: Some(8),
        signature: Some(signature),
    };
    let names = ["version", "profile_minutes", "now_seconds", "close_without_button", "counter", "signature"];
    walk("config", &names, &config);
    let time = TimeFrame { now: AT, counter: Some(9), signature: Some(signature) };
    walk("time-frame", &["now", "counter", "signature"], &time);
    let control =
        Control { id: 1, kind: ControlKind::Disconnect, expires: AT, counter: 2, signatures: vec![signature] };
    walk("control", &["id", "kind", "expires", "counter", "signatures"], &control);
}

#[test]
fn a_frame_holds_one_body_and_says_so() {
    let read = |json: &str| serde_json::from_str::<Frame>(json).map_err(|e| e.to_string());
    let head = r#""v":1,"meter":"M-1","boot":1,"seq":1"#;
    let two = read(&format!(
        r#"{{{head},"now":{{"at":1}},"profile":{{"minutes":15,"records":[{{"end":1,"import_wh":2}}]}}}}"#
    ));
    let why = two.expect_err("two bodies");
    assert!(why.contains("a frame holds one body, this one profile and now"), "{why}");
    let twice = read(&format!(r#"{{{head},"now":{{"at":1}},"now":{{"at":2}}}}"#)).expect_err("one body twice");
    assert!(twice.contains("duplicate field `now`"), "{twice}");
    let none = read(&format!(r#"{{{head},"Now":{{"at":1}}}}"#)).expect_err("no body");
    assert!(none.contains("it has no body") && none.contains("hello, profile, now"), "{none}");
    let one = read(&format!(r#"{{{head},"hello":null,"now":{{"at":1}},"comment":"ignored"}}"#)).expect("one body");
    assert!(matches!(one.body, Body::Now(_)));
}

#[test]
fn what_begins_like_neither_encoding_is_named() {
    for (bytes, word) in [
        (&b"\xef\xbb\xbf{}"[..], "byte order mark"),
        (&b"\xff\xfe{\0}\0"[..], "byte order mark"),
        (&b"\x1f\x8b\x08"[..], "gzip"),
    ] {
        let why = check_start(bytes).expect_err(word).to_string();
        assert!(why.contains(word), "{why}");
        assert!(Frame::from_cbor(bytes).expect_err(word).to_string().contains(word));
    }
    assert_eq!(check_start(b"{}"), Ok(()));
    assert_eq!(check_start(&[0xa5]), Ok(()));
}

/// The numbers in the first column of the table under a heading `| head | |` in the section on the server.
fn listed(head: &str) -> Vec<u16> {
    let section = TEXT.split_once("### What the server does with flags and events").expect("the section").1;
    let table = section.split_once(&format!("| {head} | |\n|---|---|\n")).expect("the table").1;
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('|').nth(1).expect("a column").split(','))
        .map(|number| number.trim().parse().expect("a number"))
        .collect()
}

#[test]
fn the_text_says_of_every_flag_and_every_event_what_the_server_does_with_it() {
    let mut events = listed("event");
    events.sort_unstable();
    let mut all: Vec<u16> = EventKind::ALL.iter().map(|kind| kind.code()).collect();
    all.sort_unstable();
    assert_eq!(events, all, "once each");
    let tamper: Vec<u16> = EventKind::ALL.iter().filter(|kind| kind.is_tamper()).map(|kind| kind.code()).collect();
    assert_eq!(&listed("event")[..tamper.len()], tamper, "the first row is that of tampering");
    let flags = [
        RecordFlags::POWER_FAIL,
        RecordFlags::CLOCK_SET,
        RecordFlags::CLOCK_UNSET,
        RecordFlags::TAMPER,
        RecordFlags::DISCONNECTED,
        RecordFlags::PARTIAL,
        RecordFlags::QUALITY_EVENT,
        RecordFlags::INCOMPLETE,
        RecordFlags::UNCALIBRATED,
    ];
    assert_eq!(RecordFlags::ALL, flags);
    assert_eq!(listed("flag"), RecordFlags::ALL.map(|flag| flag.0));
}

#[test]
fn a_signed_time_or_setting_is_good_for_one_meter_and_one_content() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
    let (mine, other) = (MeterId::new("M-1").expect("id"), MeterId::new("M-2").expect("id"));
    let time = TimeFrame::signed(AT, mine, 8, &key);
    let public = key.verifying_key();
    assert!(time.is_signed_by(mine, &public) && !time.is_signed_by(other, &public));
    assert!(!TimeFrame { now: AT.plus(1), ..time }.is_signed_by(mine, &public));
    assert!(!TimeFrame { counter: Some(9), ..time }.is_signed_by(mine, &public));
    assert!(!TimeFrame::unsigned(AT).is_signed_by(mine, &public));
    let config = Config { version: 2, now_seconds: Some(60), ..Config::default() }.signed(mine, 9, &key);
    assert!(config.is_signed_by(mine, &public) && !config.is_signed_by(other, &public));
    assert!(!Config { close_without_button: Some(true), ..config.clone() }.is_signed_by(mine, &public));
    let json = serde_json::to_string(&config).expect("json");
    assert_eq!(serde_json::from_str::<Config>(&json).expect("reads back"), config);
}
