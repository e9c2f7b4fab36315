//! A small neighbourhood in a real store: readings, balances, events, cases and commands, all from one seed. Used by the tests and
//! by the example that shows the pages.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use losses::{
    balance::EnergyBalance,
    case::{Case, CaseAction, CaseKind, CaseState, Verdict},
    evidence::{Direction, Evidence, EvidenceKind, ReadingRange},
};
use metering::{
    Approver, ControlKind, ControlState, EventKind, Frame, MeterEvent, MeterId, ProfileRecord, Timestamp, UsagePointId,
    WattHours, ZoneId,
    frame::{Body, Cycle, Dip, Hello, Now, PowerQuality, Profile, RelayState},
    reading::RecordFlags,
    unit::{Milliamps, Millihertz, Millivolts, PerMille, Watts},
};
use store::{CaseChange, ControlChange, ControlRequest, ControlTarget, Incoming, OpenOptions, Role, SlotCommit, Store};
use tokio::sync::watch;
use web::{AppState, PipelineStatus, WebConfig};

pub const SLOT: i64 = 900;
/// The end of the neighbourhood's history: 2026-01-15T12:00:00Z.
pub const NOW: Timestamp = Timestamp(1_768_478_400);

/// How large.
pub struct Size {
    pub transformers: usize,
    pub homes: usize,
    pub days: i64,
}

/// A pseudo-random sequence (Knuth's MMIX constants); repeatable, not for secrets.
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 33).unwrap_or(0)) / f64::from(1_u32 << 31)
    }
}

fn wh(value: f64) -> u64 {
    format!("{:.0}", value.max(0.0)).parse().unwrap_or(0)
}

pub fn zone(t: usize) -> ZoneId {
    ZoneId::new(&format!("T{t}")).expect("id")
}

pub fn meter(t: usize, h: usize) -> MeterId {
    MeterId::new(&format!("M-{t}{h:02}")).expect("id")
}

pub fn point(t: usize, h: usize) -> UsagePointId {
    UsagePointId::new(&format!("UP-{t}{h:02}")).expect("id")
}

pub fn observer(name: &str) -> MeterId {
    MeterId::new(&format!("OBS-{name}")).expect("id")
}

/// The topology as CSV.
pub fn topology_csv(size: &Size) -> String {
    let mut csv = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n".to_owned();
    csv.push_str("F1,,OBS-F1,,,,,2026-01-01\n");
    for t in 1..=size.transformers {
        csv.push_str(&format!("T{t},F1,OBS-T{t},,,,,2026-01-01\n"));
        for h in 1..=size.homes {
            let phase = ["A", "B", "C"][h % 3];
            csv.push_str(&format!("T{t},F1,,{},{},1,{phase},2026-01-01\n", point(t, h), meter(t, h)));
        }
    }
    csv
}

/// Mean power of a home in a slot, W.
fn home_power(dice: &mut Dice, end: Timestamp, level: f64) -> f64 {
    let hour = end.second_of_day() / 3_600;
    let shape = match hour {
        0..=5 => 0.45,
        6..=8 => 1.2,
        9..=15 => 0.8,
        16..=17 => 1.4,
        18..=21 => 2.1,
        _ => 0.9,
    };
    level * shape * (0.55 + 0.9 * dice.unit())
}

/// Energy taken in front of the meters of transformer 3 in a slot, Wh: since 30 hours before the end.
fn stolen(t: usize, end: Timestamp) -> f64 {
    if t == 3 && end > NOW.plus(-30 * 3_600) { 420.0 } else { 0.0 }
}

struct Slots {
    frames: BTreeMap<MeterId, Vec<ProfileRecord>>,
    balances: Vec<(ZoneId, EnergyBalance)>,
}

fn record(end: Timestamp, register: f64, power: f64, volts: f64) -> ProfileRecord {
    ProfileRecord {
        end,
        flags: RecordFlags::default(),
        import_wh: WattHours(wh(register)),
        export_wh: WattHours(0),
        voltage_mv: Some(Millivolts(u32::try_from(wh(volts * 1_000.0)).expect("fits"))),
        current_ma: Some(Milliamps(u32::try_from(wh(power / volts * 1_000.0)).expect("fits"))),
        extra: Vec::new(),
        masked: None,
    }
}

fn balance(
    zone: ZoneId,
    end: Timestamp,
    (supplied, metered, technical): (f64, f64, f64),
    coverage: f64,
) -> EnergyBalance {
    EnergyBalance {
        zone,
        end,
        minutes: 15,
        supplied_wh: supplied,
        metered_wh: metered,
        technical_wh: technical,
        unaccounted_wh: supplied - metered - technical,
        sigma_random_wh: 8.0 + 0.006 * supplied,
        sigma_systematic_wh: 0.004 * supplied,
        coverage,
    }
}

fn simulate(size: &Size) -> Slots {
    let mut dice = Dice(7);
    let levels: Vec<Vec<f64>> =
        (0..size.transformers).map(|_| (0..size.homes).map(|_| 180.0 + 420.0 * dice.unit()).collect()).collect();
    let mut registers: BTreeMap<MeterId, f64> = BTreeMap::new();
    let mut slots = Slots { frames: BTreeMap::new(), balances: Vec::new() };
    let first = NOW.plus(-size.days * 86_400);
    let mut end = first;
    while end <= NOW {
        let mut feeder = (0.0, 0.0, 0.0);
        for t in 1..=size.transformers {
            let (mut used, mut peak) = (0.0, 0.0);
            for h in 1..=size.homes {
                let power = home_power(&mut dice, end, levels[t - 1][h - 1]);
                let register = registers
                    .entry(meter(t, h))
                    .or_insert_with(|| 900_000.0 + 3_000.0 * f64::from(u32::try_from(h).expect("small")));
                *register += power / 4.0;
                slots.frames.entry(meter(t, h)).or_default().push(record(end, *register, power, 231.0 - power / 900.0));
                used += power / 4.0;
                peak += power;
            }
            let technical = 12.0 + peak * peak * 4e-7;
            let supplied = used + technical + stolen(t, end) + 14.0 * (dice.unit() - 0.5);
            let name = format!("T{t}");
            let register = registers.entry(observer(&name)).or_insert(40_000_000.0);
            *register += supplied;
            slots.frames.entry(observer(&name)).or_default().push(record(end, *register, supplied * 4.0, 232.0));
            // transformer 2 missed some readings, which were estimated
            let coverage = if t == 2 && end > NOW.plus(-7_200) { 0.9 } else { 1.0 };
            slots.balances.push((zone(t), balance(zone(t), end, (supplied, used, technical), coverage)));
            feeder = (feeder.0 + supplied, feeder.1 + supplied, feeder.2 + 6.0);
        }
        let supplied = feeder.0 + feeder.2 + 20.0 * (dice.unit() - 0.5);
        let register = registers.entry(observer("F1")).or_insert(160_000_000.0);
        *register += supplied;
        slots.frames.entry(observer("F1")).or_default().push(record(end, *register, supplied * 4.0, 233.0));
        let f1 = ZoneId::new("F1").expect("id");
        slots.balances.push((f1, balance(f1, end, (supplied, feeder.1, feeder.2), 1.0)));
        end = end.plus(SLOT);
    }
    slots
}

fn incoming(meter: MeterId, seq: u64, body: Body, received: Timestamp) -> Incoming {
    let frame = Frame::new(meter, 1, seq, body);
    let payload = frame.to_cbor().into();
    Incoming { frame, payload, received }
}

fn now_values(meter: MeterId, last: &ProfileRecord, off: bool) -> Now {
    let hash = meter.as_str().bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let current = if off { 0 } else { last.current_ma.map_or(0, |c| c.0) };
    let volts = last.voltage_mv.map_or(230_000, |v| v.0) + hash % 700;
    let power = u64::from(current) * u64::from(volts) / 1_000_000 * 97 / 100;
    Now {
        at: NOW.plus(-i64::from(hash % 40)),
        voltage_mv: Some(Millivolts(volts)),
        current_ma: Some(Milliamps(current)),
        power_w: Some(Watts(i32::try_from(power).expect("fits"))),
        power_factor: Some(PerMille(970)),
        frequency_mhz: Some(Millihertz(49_980 + hash % 40)),
        neutral_ma: Some(Milliamps(current)),
        load_voltage_mv: Some(Millivolts(if off { 0 } else { volts })),
        relay: Some(if off { RelayState::Open } else { RelayState::Closed }),
        import_wh: Some(last.import_wh),
        export_wh: Some(WattHours(0)),
        ..Now::default()
    }
}

/// Fills a store; some meters are silent, one reported its cover open and was disconnected.
pub async fn seed(store: &Store, size: &Size) {
    let start = NOW.plus(-size.days * 86_400);
    let report = store.import_topology(&topology_csv(size), "anna", start).await.expect("topology");
    assert!(report.rejected.is_empty(), "{report:?}");
    let slots = simulate(size);
    let meters: Vec<MeterId> = slots.frames.keys().copied().collect();
    store.enrol(&meters, "anna", start).await.expect("enrolled");
    for (meter_id, records) in &slots.frames {
        let silent = *meter_id == meter(2, 1);
        let hello = Hello {
            at: Some(start),
            firmware: "gridtally-meter 0.1.0".to_owned(),
            model: "GT-1P".to_owned(),
            profile_minutes: 15,
            import_wh: WattHours(0),
            export_wh: WattHours(0),
            relay: Some(RelayState::Closed),
            waiting: 0,
            senses_load: None,
        };
        let mut batch = vec![incoming(*meter_id, 1, Body::Hello(hello), start)];
        let mut seq = 2;
        for chunk in records.chunks(96) {
            let received = chunk.last().map_or(start, |last| last.end.plus(20));
            if silent && received > NOW.plus(-26 * 3_600) {
                break;
            }
            batch.push(incoming(
                *meter_id,
                seq,
                Body::Profile(Profile { minutes: 15, records: chunk.to_vec() }),
                received,
            ));
            seq += 1;
        }
        if let (Some(last), false) = (records.last(), silent) {
            let now = now_values(*meter_id, last, *meter_id == meter(1, 3));
            batch.push(incoming(*meter_id, seq, Body::Now(now), NOW));
        }
        store.ingest(batch).await.expect("stored");
    }
    let event = MeterEvent {
        at: NOW.plus(-5 * 3_600),
        kind: EventKind::CoverOpen,
        voltage_mv: Some(Millivolts(230_400)),
        current_ma: Some(Milliamps(2_100)),
        power_w: Some(Watts(470)),
        power_factor: None,
        import_wh: None,
    };
    store.ingest(vec![incoming(meter(1, 3), 9_001, Body::Event(event), NOW.plus(-5 * 3_600))]).await.expect("event");
    store.ingest(power_quality()).await.expect("quality");
    commit_cases(store, slots.balances).await;
    work_on_cases(store).await;
}

/// A day of ten-minute values of M-101 with one dip and a cycle at the end.
fn power_quality() -> Vec<Incoming> {
    let begin = NOW.plus(-86_400);
    let sine =
        |peak: f64| (0..64).map(|k| (peak * (f64::from(k) * std::f64::consts::TAU / 64.0).sin()) as i16).collect();
    let value = |k: u16| {
        let end = begin.plus(600 * i64::from(k + 1)).floor_to(600);
        let dip = Dip { at: end.plus(-200), duration_ms: 700, extreme: PerMille(620) };
        PowerQuality {
            end,
            voltage_mv: Millivolts(229_000 + u32::from(k) * 20),
            frequency_mhz: Some(Millihertz(50_010)),
            thd: Some(PerMille(28)),
            harmonics: vec![8, 90, 4, 240 + k, 3, 130],
            pst: None,
            dips: if k == 70 { vec![dip] } else { Vec::new() },
            flagged: k == 70,
            current_harmonics_ma: vec![Milliamps(4_000), Milliamps(20), Milliamps(900)],
            cycle: (k == 143).then(|| Cycle { voltage_dv: sine(3_260.0), current_ca: sine(560.0) }),
        }
    };
    (0..144_u16)
        .map(|k| (9_100 + u64::from(k), value(k)))
        .map(|(seq, values)| {
            let end = values.end;
            incoming(meter(1, 1), seq, Body::Quality(values), end)
        })
        .collect()
}

async fn commit_cases(store: &Store, balances: Vec<(ZoneId, EnergyBalance)>) {
    let range = |meter| ReadingRange { meter, from: NOW.plus(-30 * 3_600), to: NOW };
    let piece = |kind, direction, weight, words: &str, zone, meters: &[MeterId]| {
        Evidence::new(kind, direction, weight, words, zone, meters.iter().map(|m| range(*m)).collect())
    };
    let theft = Case::open(
        CaseKind::SuspectedTheft,
        zone(3),
        Some(point(3, 2)),
        NOW.plus(-26 * 3_600),
        "pipeline",
        vec![
            piece(
                EvidenceKind::ZoneImbalance,
                Direction::For,
                14.2,
                "1.68 ± 0.12 kW are missing in T3 since 2026-01-14 06:00.",
                zone(3),
                &[observer("T3")],
            ),
            piece(
                EvidenceKind::MissingLoad,
                Direction::For,
                4.1,
                "The use of UP-302 fell by 38 % when the loss began; the neighbours' did not.",
                zone(3),
                &[meter(3, 2)],
            ),
            piece(
                EvidenceKind::Ambiguous,
                Direction::Against,
                0.8,
                "UP-305 explains the residual nearly as well (correlation 0.61 against 0.66).",
                zone(3),
                &[meter(3, 5)],
            ),
        ],
    );
    let tamper = Case::open(
        CaseKind::TamperSuspected,
        zone(1),
        Some(point(1, 3)),
        NOW.plus(-5 * 3_600),
        "pipeline",
        vec![piece(
            EvidenceKind::Tamper(EventKind::CoverOpen),
            Direction::For,
            3.2,
            "Meter M-103 reported its cover opened.",
            zone(1),
            &[meter(1, 3)],
        )],
    );
    let missing = Case::open(
        CaseKind::MissingEnergy,
        zone(2),
        None,
        NOW.plus(-2 * 86_400),
        "pipeline",
        vec![
            piece(
                EvidenceKind::ZoneImbalance,
                Direction::For,
                2.1,
                "0.21 ± 0.10 kW were missing for six hours.",
                zone(2),
                &[observer("T2")],
            ),
            piece(
                EvidenceKind::MissingReadings,
                Direction::Against,
                2.9,
                "Meter M-201 was silent in that time and was estimated.",
                zone(2),
                &[meter(2, 1)],
            ),
        ],
    );
    let cases = [missing, theft, tamper].map(|case| CaseChange::Open(Box::new(case.expect("consistent"))));
    let commit = SlotCommit { at: NOW, position: Some(NOW), balances, cases: cases.into(), ..SlotCommit::default() };
    let done = store.commit_slot(commit).await.expect("committed");
    assert_eq!(done.case_ids, [1, 2, 3]);
}

async fn work_on_cases(store: &Store) {
    let act = async |id, action, by: &str, at: Timestamp| {
        drop(store.case_action(id, action, by, at).await.expect("permitted"))
    };
    act(1, CaseAction::Move { to: CaseState::Review }, "ben", NOW.plus(-40 * 3_600)).await;
    let reason = "The silent meter explains it; its radio was replaced.".to_owned();
    act(
        1,
        CaseAction::Conclude { verdict: Verdict::Cleared, reason, kwh: 1.3, recovered_kwh: 0.0 },
        "ben",
        NOW.plus(-39 * 3_600),
    )
    .await;
    act(
        2,
        CaseAction::Assign { owner: Some("ben".to_owned()), due: Some(NOW.plus(2 * 86_400)) },
        "anna",
        NOW.plus(-7_200),
    )
    .await;
    act(2, CaseAction::Move { to: CaseState::Review }, "ben", NOW.plus(-3_600)).await;
    act(
        2,
        CaseAction::Comment { text: "New heat pump at UP-305 last month, see the connection file.".to_owned() },
        "ben",
        NOW.plus(-3_000),
    )
    .await;
    let at = NOW.plus(-5 * 3_600 + 40);
    let request = ControlRequest {
        target: ControlTarget::Meter(meter(1, 3)),
        kind: ControlKind::Disconnect,
        reason: "cover opened; contact sensor in the yard confirms".to_owned(),
        by: Approver::Person("anna".to_owned()),
        approve: true,
        expires: at.plus(3_600),
        case: Some(3),
    };
    let id = store.request_control(request, at).await.expect("permitted");
    for (to, seconds, note) in [
        (ControlState::Sent, 1, "handed to the connection"),
        (ControlState::Acknowledged, 4, "the meter answered: done"),
        (ControlState::Verified, 64, "contact open, current 0.00 A, load side 0.0 V, the zone's inflow fell by 0.5 kW"),
    ] {
        store
            .change_control(ControlChange { id, to, at: at.plus(seconds), note: note.to_owned() })
            .await
            .expect("legal");
    }
}

/// The state over a store, with a fixed clock; dropping the sender ends the streams.
pub fn state_over(store: Store, base_url: &str) -> (AppState, watch::Sender<PipelineStatus>) {
    let status = PipelineStatus {
        now: NOW,
        processed_through: Some(NOW),
        idle: true,
        wake_at: None,
        meters_connected: 41,
        ..PipelineStatus::default()
    };
    let (sender, receiver) = watch::channel(status);
    let config = WebConfig {
        nominal_voltage: Default::default(),
        base_url: base_url.to_owned(),
        hosts: vec!["127.0.0.1".to_owned()],
        now: Arc::new(|| NOW),
        status: receiver,
        advance: None,
        metrics: Arc::new(|| "gridtally_extra 1\n".to_owned()),
        verifying_key: [7; 32],
        mqtt: None,
        enrolled: Arc::new(|_, _| {}),
    };
    (AppState::new(store, config), sender)
}

/// An empty store of a simulation.
pub async fn open(dir: &Path) -> Store {
    Store::open(dir, OpenOptions { create: true, simulation: true }).await.expect("store")
}

/// The role's user of a name, with a hash that no password opens.
pub async fn user(store: &Store, name: &str, role: Role, usage_point: Option<UsagePointId>) {
    let new = store::NewUser { name: name.to_owned(), role, usage_point, password_hash: "-".to_owned() };
    store.create_user(new, "set-up", NOW).await.expect("user");
}
