//! What stands before a relay: the guard at every sending, a second person for what takes a brake off, and frames that speak about
//! their own meter only.

use crate::world::{DAY, T0, incoming, meter, open, profile, record, runtime};
use metering::{
    Approver, Body, ControlKind, ControlState, EventKind, Frame, MeterEvent, MeterId, Millivolts, Timestamp, WattHours,
    Watts,
    control::ReplyOutcome,
    frame::{Hello, Now, PowerQuality, RelayState, Reply},
    supply::SupplyPolicy,
};
use proptest::prelude::*;
use store::{
    Accepted, ControlRequest, ControlTarget, EventFilter, Guarded, GuardedChange, NewToken, NewUser, PendingChange,
    Role, Sending, Store, StoreError,
};

const HEAD: &str = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from,never_disconnect\n";

fn network(homes: usize) -> String {
    let homes = (1..=homes).map(|n| format!("T-1,,,UP-{n},M-{n},1,A,2026-01-01,\n"));
    format!("{HEAD}F-1,,M-OF,,,200,ABC,2026-01-01,\nT-1,F-1,M-OT,,,20,ABC,2026-01-01,\n{}", homes.collect::<String>())
}

async fn with_network(dir: &std::path::Path, homes: usize) -> Store {
    let store = open(dir).await;
    let report = store.import_topology(&network(homes), "asha", T0).await.expect("imported");
    assert!(report.rejected.is_empty(), "{:?}", report.rejected);
    store
}

fn request(meter: MeterId, kind: ControlKind, by: &str) -> ControlRequest {
    ControlRequest {
        target: ControlTarget::Meter(meter),
        kind,
        reason: "unpaid".to_owned(),
        by: Approver::Person(by.to_owned()),
        approve: true,
        expires: T0.plus(6 * 3_600),
        case: None,
    }
}

fn cut(number: usize) -> ControlRequest {
    request(meter(number), ControlKind::Disconnect, "asha")
}

async fn state(store: &Store, id: u64) -> ControlState {
    store.control(id).await.expect("read").expect("there").state
}

async fn people(store: &Store) {
    for name in ["asha", "ravi"] {
        let new = NewUser { name: name.into(), role: Role::Operator, usage_point: None, password_hash: "x".into() };
        store.create_user(new, "test", T0).await.expect("made");
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Refused(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn what_changed_since_the_approval_stops_the_sending() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = with_network(dir.path(), 4).await;
        let protect = async || {
            let point = metering::UsagePointId::new("UP-1").expect("id");
            store.set_never_disconnect(point, true, "asha", T0).await.expect("set");
        };
        let ids = [
            store.request_control(cut(1), T0).await.expect("approved"),
            store.request_control(cut(2), T0).await.expect("approved"),
            store.request_control(cut(3), T0).await.expect("approved"),
        ];
        protect().await;
        let moved = format!("{HEAD}T-1,,,UP-2,M-20,1,A,2026-01-02,\nT-1,,,UP-9,M-2,1,A,2026-01-02,\n");
        assert_eq!(store.import_topology(&moved, "asha", T0).await.expect("imported").accepted, 2);
        let tighter = SupplyPolicy { per_hour_max: 2, ..SupplyPolicy::default() };
        store.set_setting("policy", &tighter, "asha", T0).await.expect("set");
        let late = ControlRequest { expires: T0.plus(3 * DAY), ..cut(2) };
        let later = store.request_control(late, T0.plus(5_000)).await.expect("approved");
        let cases = [
            (ids[0], T0.plus(60), "never to be disconnected"),
            (ids[2], T0.plus(60), "2 disconnections within the hour"),
            (later, T0.plus(DAY), "M-2 is at UP-9 now"),
        ];
        for (id, at, words) in cases {
            let Sending::Stopped(why) = store.may_send(id, "", at).await.expect("asked") else { panic!("{words}") };
            assert!(why.contains(words), "{why}");
            assert_eq!(state(&store, id).await, ControlState::Refused(why));
        }
        assert!(matches!(store.may_send(ids[1], "", T0.plus(60)).await.expect("asked"), Sending::Send(_)));
        store.set_setting("abort_switch", &true, "asha", T0).await.expect("set");
        let Sending::Stopped(why) = store.may_send(ids[1], "", T0.plus(120)).await.expect("asked") else {
            panic!("held")
        };
        assert!(why.contains("abort switch"), "{why}");
        assert_eq!(state(&store, ids[1]).await, ControlState::Sent, "what is on its way is not sent again");
        let holds = store.audit_of("meter:M-2", 10).await.expect("read");
        assert!(holds.iter().any(|row| row.action == "control.hold"), "{holds:?}");
    });
}

#[test]
fn a_feeder_gets_its_supply_back_in_turns() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = with_network(dir.path(), 4).await;
        let policy = SupplyPolicy { restores_per_feeder_minute: 2, ..SupplyPolicy::default() };
        store.set_setting("policy", &policy, "asha", T0).await.expect("set");
        let mut sent = Vec::new();
        for n in 1..=4 {
            let id = store.request_control(request(meter(n), ControlKind::Reconnect, "asha"), T0).await.expect("made");
            sent.push(match store.may_send(id, "", T0.plus(1)).await.expect("asked") {
                Sending::Send(_) => true,
                Sending::Wait(until) => {
                    assert!(until > T0.plus(1));
                    assert!(matches!(store.may_send(id, "", T0.plus(62)).await.expect("asked"), Sending::Send(_)));
                    false
                }
                Sending::Stopped(why) => panic!("{why}"),
            });
        }
        assert_eq!(sent, [true, true, false, false]);
    });
}

async fn waiting(store: &Store) -> Vec<PendingChange> {
    store.pending_changes(T0).await.expect("read")
}

#[test]
fn what_takes_a_brake_off_waits_for_another_operator() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = with_network(dir.path(), 4).await;
        people(&store).await;
        let point = metering::UsagePointId::new("UP-1").expect("id");
        store.set_never_disconnect(point, true, "asha", T0).await.expect("set");
        store.set_setting("abort_switch", &true, "asha", T0).await.expect("set");
        let looser = SupplyPolicy { per_hour_max: 50, ..SupplyPolicy::default() };
        let changes =
            [GuardedChange::Policy(looser.clone()), GuardedChange::AbortSwitchOff, GuardedChange::LiftProtection(point)];
        for change in changes {
            assert!(matches!(store.ask_change(change, "asha", T0).await.expect("kept"), Guarded::Waits(_)));
        }
        let ratio = format!("{HEAD}T-1,F-1,M-OT,,,10,ABC,2026-01-01,\nT-1,,,UP-1,M-1,1,A,2026-01-01,no\nT-1,,,UP-8,M-8,1,A,2026-01-01,\n");
        let report = store.import_topology(&ratio, "asha", T0).await.expect("imported");
        assert_eq!((report.accepted, report.waiting, report.pending), (1, 2, Some(4)));
        let held = store.topology(T0.plus(DAY)).await.expect("read");
        assert!(store.is_aborted() && held.usage_point(point).expect("there").never_disconnect);
        assert_eq!(held.zones[1].observer.as_ref().expect("there").ct_ratio, 20.0);
        let all = waiting(&store).await;
        assert_eq!(all.len(), 4);
        for change in &all {
            assert!(refused(store.confirm_change(change.id, "asha", T0).await).contains("another person"));
            assert!(refused(store.confirm_change(change.id, "token:ops", T0).await).contains("another person"));
        }
        for change in &all {
            store.confirm_change(change.id, "ravi", T0).await.expect("carried out");
        }
        let held = store.topology(T0.plus(DAY)).await.expect("read");
        assert!(!store.is_aborted() && !held.usage_point(point).expect("there").never_disconnect);
        assert_eq!(held.zones[1].observer.as_ref().expect("there").ct_ratio, 10.0);
        assert_eq!(store.setting::<SupplyPolicy>("policy").await.expect("read"), Some(looser));
        assert!(waiting(&store).await.is_empty());
        // A brake is put on by anybody, at once.
        let done = store.ask_change(GuardedChange::Policy(SupplyPolicy::default()), "asha", T0).await.expect("done");
        assert_eq!(done, Guarded::Done);
        let high = SupplyPolicy { per_hour_max: 1_000_000, ..SupplyPolicy::default() };
        let Guarded::Waits(id) = store.ask_change(GuardedChange::Policy(high), "asha", T0).await.expect("kept") else {
            panic!("it waits");
        };
        assert!(matches!(store.confirm_change(id, "ravi", T0).await, Err(StoreError::Invalid(_))), "above the ceiling");
        store.withdraw_change(id, "asha", T0).await.expect("withdrawn");
        store.verify_audit().await.expect("whole");
    });
}

#[test]
fn a_brake_is_not_taken_off_in_two_steps() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = with_network(dir.path(), 4).await;
        people(&store).await;
        store
            .set_never_disconnect(metering::UsagePointId::new("UP-1").expect("id"), true, "asha", T0)
            .await
            .expect("set");
        let waits = async |row: &str| {
            let report = store.import_topology(&format!("{HEAD}{row}\n"), "asha", T0).await.expect("imported");
            assert!(report.rejected.is_empty(), "{:?}", report.rejected);
            (report.accepted, report.waiting)
        };
        assert_eq!(waits("T-1,,,UP-1,,1,A,2026-01-02,").await, (0, 1), "the meter leaves its protected place");
        assert_eq!(waits("T-1,,,UP-2,,1,A,2026-01-02,").await, (1, 0));
        assert_eq!(waits("T-1,,,UP-9,M-2,5,A,2026-01-03,").await, (0, 1), "it comes back with another ratio");
        assert_eq!(waits("T-1,,,UP-9,M-2,1,A,2026-01-03,").await, (1, 0));
        assert_eq!(waits("T-1,,,UP-8,M-80,5,A,2026-01-03,").await, (1, 0), "a new meter has any ratio");
    });
}

#[test]
fn who_makes_an_operator_asks_another_one() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = with_network(dir.path(), 4).await;
        people(&store).await;
        let hash = || "$argon2id$made-up".to_owned();
        let operator = GuardedChange::Operator { name: "puppet".to_owned(), password_hash: hash() };
        let Guarded::Waits(id) = store.ask_change(operator.clone(), "asha", T0).await.expect("kept") else {
            panic!("one person makes no operator")
        };
        assert!(store.user_by_name("puppet").await.expect("read").is_none());
        let shown = serde_json::to_string(&waiting(&store).await).expect("JSON");
        assert!(!shown.contains("argon2id"), "{shown}");
        store.confirm_change(id, "ravi", T0).await.expect("made");
        let puppet = store.user_by_name("puppet").await.expect("read").expect("there");
        assert!(puppet.role == Role::Operator && puppet.first_password && puppet.password_hash == hash());
        assert!(
            matches!(store.ask_change(operator, "asha", T0).await, Err(StoreError::Invalid(_))),
            "the name is taken"
        );

        // An operator's password, chosen by somebody else, opens what the operator may do.
        let password = GuardedChange::OperatorPassword { name: "ravi".to_owned(), password_hash: hash() };
        assert!(matches!(store.ask_change(password, "asha", T0).await.expect("kept"), Guarded::Waits(_)));
        assert_ne!(store.user_by_name("ravi").await.expect("read").expect("there").password_hash, hash());

        // Who bars all others is not alone; and nobody lets a barred operator in again alone.
        for name in ["ravi", "puppet"] {
            store.disable_user(name, "asha", T0).await.expect("at once");
        }
        store.set_setting("abort_switch", &true, "asha", T0).await.expect("set");
        let off = store.ask_change(GuardedChange::AbortSwitchOff, "asha", T0.plus(DAY)).await.expect("kept");
        assert!(matches!(off, Guarded::Waits(_)) && store.is_aborted());
        let again = GuardedChange::OperatorEnabled { name: "puppet".to_owned() };
        assert!(matches!(store.ask_change(again, "asha", T0.plus(DAY)).await.expect("kept"), Guarded::Waits(_)));
        // A week later those who left do not count any more.
        let off = store.ask_change(GuardedChange::AbortSwitchOff, "asha", T0.plus(8 * DAY)).await.expect("done");
        assert_eq!(off, Guarded::Done);
        store.verify_audit().await.expect("whole");
    });
}

#[test]
fn a_program_is_an_operator_when_another_person_has_confirmed_it() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = with_network(dir.path(), 4).await;
        people(&store).await;
        let new = |role| NewToken { name: "billing".to_owned(), role, expires: None };
        let (token, done) = store.ask_api_token(new(Role::Engineer), "asha", T0).await.expect("made");
        assert_eq!(done, Guarded::Done);
        assert!(store.api_token(&token, T0).await.expect("read").is_some());
        let (token, done) = store.ask_api_token(new(Role::Operator), "asha", T0).await.expect("kept");
        let Guarded::Waits(id) = done else { panic!("it waits") };
        assert!(store.api_token(&token, T0).await.expect("read").is_none(), "it opens nothing yet");
        assert!(refused(store.confirm_change(id, "asha", T0).await).contains("another person"));
        store.confirm_change(id, "ravi", T0).await.expect("made");
        assert_eq!(store.api_token(&token, T0).await.expect("read").map(|token| token.role), Some(Role::Operator));

        // What a program asks for, its owner and nobody else may want: two persons stand behind it.
        store.set_setting("abort_switch", &true, "asha", T0).await.expect("set");
        let asked = store.ask_change(GuardedChange::AbortSwitchOff, "token:billing", T0).await.expect("kept");
        let Guarded::Waits(id) = asked else { panic!("it waits") };
        assert_eq!(store.confirm_change(id, "asha", T0).await.expect("taken over"), Guarded::Waits(id));
        assert!(store.is_aborted());
        assert!(refused(store.confirm_change(id, "asha", T0).await).contains("another person"));
        assert_eq!(store.confirm_change(id, "ravi", T0).await.expect("done"), Guarded::Done);
        assert!(!store.is_aborted());
    });
}

#[test]
fn a_single_operator_is_not_locked_out() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = with_network(dir.path(), 4).await;
        store.set_setting("abort_switch", &true, "asha", T0).await.expect("set");
        assert_eq!(store.ask_change(GuardedChange::AbortSwitchOff, "asha", T0).await.expect("done"), Guarded::Done);
        assert!(!store.is_aborted());
    });
}

#[test]
fn one_person_alone_cuts_off_a_few_and_the_rest_with_another() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = with_network(dir.path(), 4).await;
        people(&store).await;
        let policy = SupplyPolicy { alone_per_day_max: 2, ..SupplyPolicy::default() };
        store.set_setting("policy", &policy, "asha", T0).await.expect("set");
        let mut ids = Vec::new();
        for n in 1..=3 {
            ids.push(store.request_control(cut(n), T0).await.expect("made"));
        }
        assert_eq!(state(&store, ids[1]).await, ControlState::Approved);
        assert_eq!(state(&store, ids[2]).await, ControlState::Requested, "the third waits");
        let by = |name: &str| Approver::Person(name.to_owned());
        for alone in ["asha", "token:ops"] {
            let why = refused(store.approve_control(ids[2], by(alone), "seen", T0).await);
            assert!(why.contains("another operator"), "{why}");
        }
        store.approve_control(ids[2], by("ravi"), "seen", T0).await.expect("approved");
        let strict = SupplyPolicy { two_persons: true, per_feeder_hour_max: 10, ..SupplyPolicy::default() };
        store.set_setting("policy", &strict, "asha", T0).await.expect("set");
        let fourth = store.request_control(cut(4), T0).await.expect("made");
        assert_eq!(state(&store, fourth).await, ControlState::Requested);
    });
}

#[test]
fn open_requests_are_bounded_and_none_is_lost_from_sight() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = with_network(dir.path(), 1_510).await;
        let asked =
            |n: usize, by: &str| ControlRequest { approve: false, ..request(meter(n), ControlKind::Disconnect, by) };
        for _ in 0..10 {
            store.request_control(asked(1, "asha"), T0).await.expect("made");
        }
        assert!(refused(store.request_control(asked(1, "ravi"), T0).await).contains("controls to M-1"));
        store.request_control(request(meter(1), ControlKind::Reconnect, "asha"), T0).await.expect("restores are apart");
        for n in 0..490 {
            store.request_control(asked(100 + n, "asha"), T0).await.expect("made");
        }
        assert!(refused(store.request_control(asked(900, "asha"), T0).await).contains("asha"));
        for n in 0..510 {
            store.request_control(asked(1_000 + n, &format!("person-{}", n % 2)), T0).await.expect("made");
        }
        let open = store.open_controls().await.expect("read");
        assert_eq!((open.len(), open[0].id), (1_011, 1), "all of them, the oldest first");
    });
}

#[test]
fn a_sequence_that_starts_again_loses_no_reading() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let mut said = std::collections::BTreeMap::new();
        let frame = |slot: i64| {
            profile(meter(1), 0, slot as u64 % 192 + 1, vec![record(slot + 1, 1_000_000 + 200 * slot as u64)])
        };
        for slot in 0..288 {
            let outcome = store.ingest(vec![incoming(&frame(slot), (slot + 1) * 900)]).await.expect("stored")[0];
            *said.entry(format!("{outcome:?}")).or_insert(0) += 1;
        }
        assert_eq!(said, [("Conflict".to_owned(), 96), ("Stored".to_owned(), 192)].into());
        assert_eq!(store.profile(meter(1), T0, T0.plus(3 * DAY)).await.expect("read").len(), 288);
        let conflicts = EventFilter { kinds: vec![EventKind::SequenceConflict], ..EventFilter::default() };
        assert_eq!(store.events(conflicts).await.expect("read").len(), 96);
        // An old frame that comes once more, byte for byte, is known by what it says; packed or not.
        for packed in [false, true] {
            if packed {
                store.seal().await.expect("packed");
            }
            let again =
                store.ingest(vec![incoming(&frame(if packed { 6 } else { 5 }), 4 * DAY)]).await.expect("stored");
            assert_eq!(again, [Accepted::Duplicate], "packed: {packed}");
        }
    });
}

fn event(at: i64, kind: EventKind) -> MeterEvent {
    MeterEvent::bare(kind, T0.plus(at))
}

#[test]
fn a_flood_of_one_meter_hides_nobody_else() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let send = async |frames: Vec<Frame>| {
            store.ingest(frames.iter().map(|frame| incoming(frame, 3_600)).collect()).await.expect("stored");
        };
        let flood =
            (0..2_000).map(|n| Frame::new(meter(1), 1, n, Body::Event(event(n as i64 * DAY, EventKind::Bypass))));
        send(flood.collect()).await;
        send(vec![Frame::new(meter(2), 1, 1, Body::Event(event(60, EventKind::CoverOpen)))]).await;
        let (seen, through) = store.tampering_since(0).await.expect("read").expect("some");
        let of = |n: usize| seen.iter().filter(|folded| folded.event.meter == meter(n)).count();
        assert!(of(1) <= 16, "{}", of(1));
        assert_eq!(of(2), 1);
        assert!(store.tampering_since(through).await.expect("read").is_none(), "all were looked at");
    });
}

#[test]
fn power_quality_has_one_row_an_interval_and_older_days_are_read() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let values = |end: i64, volts: u32| PowerQuality {
            end: T0.plus(end),
            voltage_mv: Millivolts(volts * 1_000),
            frequency_mhz: None,
            thd: None,
            harmonics: vec![],
            pst: None,
            dips: vec![],
            flagged: false,
            current_harmonics_ma: vec![],
            cycle: None,
        };
        let store = open(dir.path()).await;
        store.ingest(vec![incoming(&profile(meter(1), 1, 1, vec![record(1, 1_000)]), 1_000)]).await.expect("stored");
        // A day as it was kept before.
        let mut old = sqlx::ConnectOptions::connect(
            &sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("log.db")),
        )
        .await
        .expect("connects");
        let day = vec![(T0.plus(600), values(600, 220)), (T0.plus(1_200), values(1_200, 221))];
        sqlx::query("INSERT INTO quality_day (meter, day, body) VALUES (1, $1, $2)")
            .bind(T0.0 / DAY)
            .bind(metering::cbor(&day))
            .execute(&mut old)
            .await
            .expect("written");
        for (seq, (end, volts)) in [(1_200, 231), (1_800, 232), (1_800, 233)].into_iter().enumerate() {
            let frame = Frame::new(meter(1), 1, seq as u64 + 2, Body::Quality(values(end, volts)));
            store.ingest(vec![incoming(&frame, 2_000)]).await.expect("stored");
        }
        let read = store.quality(meter(1), T0, T0.plus(DAY)).await.expect("read");
        let read: Vec<_> =
            read.iter().map(|q| (q.values.end.seconds_since(T0), q.values.voltage_mv.0 / 1_000)).collect();
        assert_eq!(read, [(600, 220), (1_200, 231), (1_800, 233)]);
        let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM quality").fetch_one(&mut old).await.expect("read");
        assert_eq!(rows, 2);
    });
}

fn now(at: i64, power: i32, control: Option<u64>) -> Now {
    Now {
        at: T0.plus(at),
        power_w: Some(Watts(power)),
        relay: Some(RelayState::Open),
        load_voltage_mv: Some(Millivolts(0)),
        control,
        ..Now::default()
    }
}

fn body() -> impl Strategy<Value = Body> {
    let (at, power, control) = (0_i64..90_000, -5_000_i32..5_000, 0_u64..6);
    (0_u8..7, at, power, control, 0_usize..ReplyOutcome::ALL.len(), 0_usize..EventKind::ALL.len()).prop_map(
        |(kind, at, power, control, outcome, event_kind)| match kind {
            0 => Body::Hello(Hello {
                at: Some(T0.plus(at)),
                firmware: "other".into(),
                model: "other".into(),
                profile_minutes: 15,
                import_wh: WattHours(7),
                export_wh: WattHours(7),
                relay: Some(RelayState::Fault),
                waiting: 3,
                senses_load: None,
            }),
            1 => profile(meter(2), 1, 1, vec![record(at / 900, u64::from(power.unsigned_abs()))]).body,
            2 => Body::Now(now(at, power, Some(control))),
            3 => Body::Event(event(at, EventKind::ALL[event_kind])),
            4 => {
                let outcome = ReplyOutcome::ALL[outcome];
                Body::Reply(Reply { control, outcome, now: now(at, power, Some(control)) })
            }
            5 => Body::Quality(PowerQuality {
                end: T0.plus(at / 600 * 600),
                voltage_mv: Millivolts(1),
                frequency_mhz: None,
                thd: None,
                harmonics: vec![1; 3],
                pst: None,
                dips: vec![],
                flagged: true,
                current_harmonics_ma: vec![],
                cycle: None,
            }),
            _ => Body::Snapshot(now(at, power, Some(control))),
        },
    )
}

/// Everything that the store knows of a meter.
async fn everything(store: &Store, of: MeterId) -> String {
    let (from, to) = (Timestamp(0), Timestamp(i64::MAX));
    let events = EventFilter { meter: Some(of), ..EventFilter::default() };
    let mut replies = Vec::new();
    for control in 0..6 {
        replies.extend(store.replies(control).await.expect("read").into_iter().filter(|reply| reply.meter == of));
    }
    format!(
        "{:?}",
        (
            store.latest(of),
            store.profile(of, from, to).await.expect("read"),
            store.registers_at(of, to).await.expect("read"),
            store.events(events).await.expect("read"),
            store.snapshots(of, from, to).await.expect("read"),
            store.quality(of, from, to).await.expect("read"),
            replies,
            store.open_controls().await.expect("read"),
        )
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Whatever a meter sends, in whatever batches, nothing that is known of another meter changes, and no control does.
    #[test]
    fn no_frame_of_a_meter_changes_anything_of_another(batches in prop::collection::vec(prop::collection::vec(body(), 1..6), 1..6)) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().expect("directory");
            let store = with_network(dir.path(), 2).await;
            store.request_control(cut(1), T0).await.expect("approved");
            let own = [
                profile(meter(1), 1, 1, vec![record(1, 1_000), record(2, 1_100)]),
                Frame::new(meter(1), 1, 2, Body::Snapshot(now(900, 700, Some(1)))),
                Frame::new(meter(1), 1, 3, Body::Event(event(901, EventKind::CoverOpen))),
            ];
            store.ingest(own.iter().map(|frame| incoming(frame, 1_900)).collect()).await.expect("stored");
            let before = everything(&store, meter(1)).await;
            let mut seq = 0;
            for batch in batches {
                let frames: Vec<Frame> = batch.into_iter().map(|body| {
                    seq += 1;
                    Frame::new(meter(2), 1, seq, body)
                }).collect();
                store.ingest(frames.iter().map(|frame| incoming(frame, 2_000)).collect()).await.expect("stored");
            }
            assert_eq!(everything(&store, meter(1)).await, before);
        });
    }
}
