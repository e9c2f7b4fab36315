//! Topology, controls, cases, the pipeline's slot, people, audit.

use crate::world::{DAY, T0, meter, open, runtime};
use losses::{
    balance::EnergyBalance,
    case::{Case, CaseAction, CaseKind, CaseState, Verdict},
};
use metering::{Approver, ControlKind, ControlState, Timestamp, UsagePointId, ZoneId};
use proptest::prelude::*;
use registry::ZoneKind;
use store::{
    CaseChange, CaseFilter, CaseStep, ControlChange, ControlFilter, ControlRequest, ControlTarget, NewControl,
    NewToken, NewUser, OneTime, Role, Sending, SlotCommit, Store, StoreError, SupplyPolicy,
};

const NETWORK: &str = "\
zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from,never_disconnect
T-1,F-1,M-10,,,100/5,ABC,2026-01-01,
F-1,,M-11,,,200,ABC,2026-01-01,
T-1,,,UP-1,M-1,,A,2026-01-01,
T-1,,,UP-2,M-2,1,B,2026-01-01,yes
T-1,F-1,M-10,UP-3,M-3,,C,2026-01-01,
T-1,,,UP-4,M-4,,C,2026-01-01,
";

fn zone(name: &str) -> ZoneId {
    ZoneId::new(name).expect("valid")
}

fn point(name: &str) -> UsagePointId {
    UsagePointId::new(name).expect("valid")
}

async fn network(store: &Store) {
    let report = store.import_topology(NETWORK, "asha", T0).await.expect("imported");
    assert_eq!((report.accepted, report.unchanged, &report.rejected[..]), (6, 0, &[][..]));
}

#[test]
fn a_network_is_imported_changed_and_kept_by_version() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        network(&store).await;
        let again = store.import_topology(NETWORK, "asha", T0).await.expect("imported");
        assert_eq!((again.accepted, again.unchanged, again.rejected.len()), (0, 6, 0));
        let swap = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n\
                    T-1,,,UP-1,M-20,,A,2026-01-05T12:00:00Z\nT-1,F-1,M-10,,,150/5,ABC,2026-01-03\n";
        let report = store.import_topology(swap, "asha", T0).await.expect("imported");
        assert_eq!((report.accepted, report.rejected.len()), (2, 0), "{:?}", report.rejected);
        let before = store.topology(T0.plus(DAY)).await.expect("read");
        let after = store.topology(T0.plus(5 * DAY)).await.expect("read");
        let place = |t: &registry::Topology| t.usage_point(point("UP-1")).and_then(|p| p.installation.clone());
        assert_eq!(place(&before).map(|i| (i.meter, i.valid_to)), Some((meter(1), Some(T0.plus(4 * DAY + 43_200)))));
        assert_eq!(place(&after).map(|i| (i.meter, i.valid_to)), Some((meter(20), None)));
        let ratio = |t: &registry::Topology| t.zone(zone("T-1")).and_then(|z| z.observer.as_ref()).map(|o| o.ct_ratio);
        assert_eq!((ratio(&before), ratio(&after)), (Some(20.0), Some(30.0)));
        assert_eq!(
            before.zones.iter().map(|z| (z.zone, z.kind)).collect::<Vec<_>>(),
            [(zone("F-1"), ZoneKind::Feeder), (zone("T-1"), ZoneKind::Transformer)]
        );
        assert_eq!(after.version, 2);
        assert_eq!(after.feeder_of(zone("T-1")), Some(zone("F-1")));
        let changes = store.audit_of("zone:T-1", 10).await.expect("read");
        assert!(changes[0].detail.contains("CT ratio 20.000") && changes[0].detail.contains("CT ratio 30.000"));
        assert!(store.topology(T0.plus(-1)).await.expect("read").zones.is_empty());
        store.verify_audit().await.expect("whole");
    });
}

#[test]
fn a_correction_is_kept_beside_what_was_believed_before() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        network(&store).await;
        let asked = T0.plus(10 * DAY);
        let head = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from,meter_class,unmetered_w\n";
        let rows = "T-1,F-1,M-10,,,150/5,ABC,2026-01-03,0.2S,\nT-1,,,LAMP,,,A,2026-01-02,,800\n";
        let report = store.import_topology(&format!("{head}{rows}"), "asha", T0.plus(8 * DAY)).await.expect("imported");
        assert_eq!((report.accepted, report.rejected.len()), (2, 0), "{:?}", report.rejected);
        let registry = store.registry().await.expect("read");
        let ratio = |t: &registry::Topology| t.observer_of(zone("T-1")).map(|o| (o.ct_ratio, o.class));
        let corrected = (30.0, Some(registry::MeterClass::Class02S));
        assert_eq!(ratio(&registry.at(asked)), Some(corrected));
        assert_eq!(ratio(&registry.at_as_known(asked, T0.plus(8 * DAY))), Some(corrected));
        assert_eq!(ratio(&registry.at_as_known(asked, T0.plus(8 * DAY - 1))), Some((20.0, None)), "as it was believed");
        let lamp = |t: &registry::Topology| t.usage_point(point("LAMP")).and_then(|p| p.unmetered).map(|u| u.watts);
        assert_eq!(lamp(&registry.at(asked)), Some(800));
        assert_eq!(lamp(&registry.at_as_known(asked, T0)), None);
        let unchanged = registry.at_as_known(asked, T0.plus(DAY));
        assert_eq!(
            unchanged.usage_points,
            registry.at(asked).usage_points[1..],
            "what was not touched is known since then"
        );
        // A protection is no version of an installation, and yet the network is another from then on.
        store.set_never_disconnect(point("UP-1"), true, "asha", T0).await.expect("set");
        let protected = store.topology(asked).await.expect("read");
        assert!(protected.usage_point(point("UP-1")).is_some_and(|p| p.never_disconnect));
        let both = format!("{head}T-1,,,LAMP,M-77,,A,2026-02-01,,800\nT-1,,M-10,,,,ABC,2026-02-01,3,\n");
        let refused = store.import_topology(&both, "asha", T0).await.expect("read");
        let reasons: Vec<&str> = refused.rejected.iter().map(|row| row.reason.as_str()).collect();
        assert!(
            reasons.len() == 2 && reasons[0].contains("without a meter") && reasons[1].contains("0.2S"),
            "{reasons:?}"
        );
    });
}

#[test]
fn bad_rows_are_refused_with_line_and_reason_and_the_rest_is_taken() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        network(&store).await;
        let head = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n";
        let rows = [
            ("T-2,F-9,,,,,,2026-01-01", "zone F-9 is not known"),
            ("F-1,T-1,,,,,,2026-01-01", "part of itself"),
            ("T-1,,,UP-7,M-1,,A,2026-02-01", "meter M-1 is at usage point UP-1"),
            ("T-1,,,UP-9,M-9,0,A,2026-02-01", "ct_ratio '0'"),
            ("T-1,,,UP-9,M-9,100/7,A,2026-02-01", "ct_ratio '100/7'"),
            ("T-1,,,UP-9,M-9,,A,yesterday", "valid_from 'yesterday'"),
            ("T-1,,,=1+1,M-9,,A,2026-02-01", "usage_point '=1+1'"),
            ("T-1,,,UP-9,M-9,,D,2026-02-01", "phase 'D'"),
            ("T-1,,,UP-9,M-9,,A,2025-02-01", "does not exist yet"),
            ("T-1,,,UP-9,M-9,,A", "7 fields"),
            ("T-1,,M-12,UP-9,M-9,,A,2026-02-01", "observer differs"),
            (",,,UP-9,M-9,,A,2026-02-01", "zone is empty"),
        ];
        let csv = format!("{head}{}\nT-1,,,UP-8,M-8,,A,2026-02-01\n", rows.map(|(row, _)| row).join("\n"));
        let report = store.import_topology(&csv, "asha", T0).await.expect("imported");
        assert_eq!((report.accepted, report.unchanged), (1, 0));
        assert_eq!(report.rejected.len(), rows.len());
        for ((rejected, (row, why)), line) in report.rejected.iter().zip(rows).zip(2..) {
            assert_eq!(rejected.line, line, "{row}");
            assert!(rejected.reason.contains(why), "{row}: {}", rejected.reason);
        }
        for bad in ["", "zone,parent\n", "zone,zone,parent\n"] {
            assert!(matches!(store.import_topology(bad, "asha", T0).await, Err(StoreError::Invalid(_))), "{bad}");
        }
    });
}

fn request(target: ControlTarget, kind: ControlKind) -> ControlRequest {
    ControlRequest {
        target,
        kind,
        reason: "unpaid".to_owned(),
        by: Approver::Person("asha".to_owned()),
        approve: true,
        expires: T0.plus(600),
        case: None,
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Refused(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn controls_keep_the_supply_rules_and_their_states() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        network(&store).await;
        let cut = |name: &str| request(ControlTarget::UsagePoint(point(name)), ControlKind::Disconnect);
        assert!(refused(store.request_control(cut("UP-2"), T0).await).contains("never to be disconnected"));
        let observer = request(ControlTarget::Meter(meter(10)), ControlKind::Disconnect);
        assert!(refused(store.request_control(observer, T0).await).contains("whole zone"));
        let id = store.request_control(cut("UP-1"), T0).await.expect("made");
        let control = store.control(id).await.expect("read").expect("there");
        assert_eq!((control.meter, control.feeder, control.counter), (meter(1), Some(zone("F-1")), 1));
        let step = |to, at: i64| ControlChange { id, to, at: T0.plus(at), note: String::new() };
        assert!(refused(store.change_control(step(ControlState::Verified, 1)).await).contains("cannot become"));
        let Sending::Send(sent) = store.may_send(id, "", T0.plus(2)).await.expect("asked") else { panic!("granted") };
        assert_eq!((sent.meter(), sent.control().id, sent.control().counter), (meter(1), id, 2));
        for (to, at) in [(ControlState::Acknowledged, 3), (ControlState::Verified, 9)] {
            assert!(store.change_control(step(to.clone(), at)).await.expect("legal"));
            assert!(!store.change_control(step(to, at)).await.expect("taken before"));
        }
        assert!(refused(store.change_control(step(ControlState::Expired, 10)).await).contains("Verified"));
        let control = store.control(id).await.expect("read").expect("there");
        assert_eq!(control.history.len(), 5);
        assert_eq!(control.entered("Verified"), Some(T0.plus(9)));
        assert!(matches!(store.may_send(id, "", T0.plus(10)).await.expect("asked"), Sending::Stopped(_)));
        assert!(store.open_controls().await.expect("read").is_empty());
        assert_eq!(store.next_counter(meter(1)).await.expect("counter"), 3);
    });
}

#[test]
fn limits_approval_and_the_abort_switch_hold_in_the_transaction() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        network(&store).await;
        let policy = SupplyPolicy { per_feeder_hour_max: 2, ..SupplyPolicy::default() };
        store.set_setting("policy", &policy, "asha", T0).await.expect("set");
        assert_eq!(store.setting::<SupplyPolicy>("policy").await.expect("read"), Some(policy));
        let target = |name: &str| ControlTarget::UsagePoint(point(name));
        let later = request(target("UP-4"), ControlKind::Disconnect);
        let waiting = store.request_control(ControlRequest { approve: false, ..later }, T0).await.expect("made");
        assert_eq!(store.control(waiting).await.expect("read").map(|c| c.state), Some(ControlState::Requested));
        for name in ["UP-1", "UP-3"] {
            store.request_control(request(target(name), ControlKind::Disconnect), T0).await.expect("made");
        }
        let ravi = || Approver::Person("ravi".to_owned());
        assert!(refused(store.approve_control(waiting, ravi(), "seen", T0).await).contains("feeder F-1"));
        store.request_control(request(target("UP-1"), ControlKind::Reconnect), T0).await.expect("no limit on restores");
        store.set_setting("abort_switch", &true, "asha", T0).await.expect("set");
        let cut = request(target("UP-4"), ControlKind::Disconnect);
        let late = ControlRequest { expires: T0.plus(9_000), ..cut };
        assert!(refused(store.request_control(late.clone(), T0.plus(7_200)).await).contains("abort switch"));
        let again = ControlRequest { kind: ControlKind::Reconnect, ..late.clone() };
        store.request_control(again, T0.plus(7_200)).await.expect("restores are sent");
        store.set_setting("abort_switch", &false, "asha", T0).await.expect("set");
        store.request_control(late, T0.plus(7_200)).await.expect("the hour is over");
        let filter = ControlFilter { usage_point: Some(point("UP-4")), ..ControlFilter::default() };
        assert_eq!(store.controls(filter).await.expect("read").len(), 3);
        store.verify_audit().await.expect("whole");
    });
}

fn balance(end: i64, unaccounted: f64) -> EnergyBalance {
    EnergyBalance {
        zone: zone("T-1"),
        end: T0.plus(end),
        minutes: 15,
        supplied_wh: 100.0,
        metered_wh: 90.0,
        technical_wh: 10.0 - unaccounted,
        unaccounted_wh: unaccounted,
        sigma_random_wh: 0.1 + 0.2,
        sigma_systematic_wh: f64::MIN_POSITIVE,
        coverage: 1.0,
    }
}

#[test]
fn a_slot_is_written_whole_or_not_at_all() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        network(&store).await;
        assert_eq!(store.pipeline_state().await.expect("read").processed_through, None);
        let case = Case::open(CaseKind::TamperSuspected, zone("T-1"), Some(point("UP-2")), T0, "balance", vec![]);
        let forbidden = request(ControlTarget::UsagePoint(point("UP-2")), ControlKind::Disconnect);
        let forbidden = ControlRequest { expires: T0.plus(2_000), ..forbidden };
        let commit = SlotCommit {
            at: T0.plus(900),
            position: Some(T0.plus(900)),
            balances: vec![(zone("T-1"), balance(900, 1.0)), (zone("T-1"), balance(DAY + 900, 2.0))],
            blobs: vec![("monitor".to_owned(), vec![1, 2, 3])],
            cases: vec![CaseChange::Open(Box::new(case.expect("opens")))],
            controls: vec![NewControl { request: forbidden, opened_case: Some(0) }],
            ..SlotCommit::default()
        };
        let committed = store.commit_slot(commit).await.expect("written");
        let (case, control) = (committed.case_ids[0], committed.control_ids[0].expect("made"));
        let control = store.control(control).await.expect("read").expect("there");
        assert!(matches!(&control.state, ControlState::Refused(why) if why.contains("never")));
        assert_eq!(control.case, Some(case));
        let illegal = ControlChange { id: control.id, to: ControlState::Sent, at: T0, note: String::new() };
        let bad = SlotCommit {
            at: T0.plus(1_800),
            position: Some(T0.plus(1_800)),
            balances: vec![(zone("T-1"), balance(1_800, 9.0))],
            control_changes: vec![illegal],
            ..SlotCommit::default()
        };
        refused(store.commit_slot(bad).await);
        let state = store.pipeline_state().await.expect("read");
        assert_eq!(state.processed_through, Some(T0.plus(900)));
        assert_eq!(state.blobs.get("monitor"), Some(&vec![1, 2, 3]));
        let held = store.balances(zone("T-1"), T0, T0.plus(3 * DAY)).await.expect("read");
        assert_eq!(held, [balance(900, 1.0), balance(DAY + 900, 2.0)]);
        let replaced = SlotCommit {
            at: T0.plus(1_800),
            position: Some(T0.plus(1_800)),
            balances: vec![(zone("T-1"), balance(900, 3.0))],
            blobs: vec![("monitor".to_owned(), vec![])],
            cases: vec![CaseChange::Edit {
                id: case,
                by: "balance".to_owned(),
                at: T0.plus(1_800),
                steps: vec![CaseStep::ImbalanceEnded, CaseStep::Act(CaseAction::Move { to: CaseState::Cleared })],
            }],
            ..SlotCommit::default()
        };
        store.commit_slot(replaced).await.expect("written");
        assert_eq!(store.balances(zone("T-1"), T0, T0.plus(DAY)).await.expect("read"), [balance(900, 3.0)]);
        assert!(store.pipeline_state().await.expect("read").blobs.is_empty());
        let newest = store.newest_balances(T0, T0.plus(3 * DAY)).await.expect("read");
        assert_eq!(newest, [balance(DAY + 900, 2.0)]);
        let case = store.case(case).await.expect("read").expect("there");
        assert_eq!((case.imbalance_ended, case.state), (Some(T0.plus(1_800)), CaseState::New));
    });
}

#[test]
fn people_work_on_cases_and_the_rules_of_the_case_hold() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let case = Case::open(CaseKind::MissingEnergy, zone("T-1"), None, T0, "balance", vec![]).expect("opens");
        let commit = SlotCommit { cases: vec![CaseChange::Open(Box::new(case))], ..SlotCommit::default() };
        let id = store.commit_slot(commit).await.expect("written").case_ids[0];
        let conclude = CaseAction::Conclude {
            verdict: Verdict::Confirmed,
            reason: "hook on the line".to_owned(),
            kwh: 12.0,
            recovered_kwh: 9.0,
        };
        assert!(refused(store.case_action(id, conclude.clone(), "asha", T0).await).contains("review"));
        store.case_action(id, CaseAction::Move { to: CaseState::Review }, "asha", T0).await.expect("moves");
        let open_cases = CaseFilter { open_only: true, zone: Some(zone("T-1")), ..CaseFilter::default() };
        assert_eq!(store.cases(open_cases.clone()).await.expect("read").len(), 1);
        let done = store.case_action(id, conclude, "asha", T0).await.expect("concludes");
        assert_eq!(done.outcome.map(|o| o.kwh), Some(12.0));
        assert!(store.cases(open_cases).await.expect("read").is_empty());
        assert!(matches!(
            store.case_action(99, CaseAction::Comment { text: "x".into() }, "a", T0).await,
            Err(StoreError::Unknown { .. })
        ));
        assert_eq!(store.audit_of(&format!("case:{id}"), 9).await.expect("read").len(), 3);
    });
}

#[test]
fn tokens_work_as_long_as_they_may() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let new = |name: &str, role, usage_point| NewUser {
            name: name.to_owned(),
            role,
            usage_point,
            password_hash: "$argon2id$…".to_owned(),
        };
        store.create_user(new("asha", Role::Operator, None), "set-up", T0).await.expect("made");
        for bad in [new("asha", Role::Engineer, None), new(" x", Role::Operator, None), new("c", Role::Consumer, None)]
        {
            assert!(matches!(store.create_user(bad, "asha", T0).await, Err(StoreError::Invalid(_))));
        }
        let session = store.create_session("asha", T0.plus(100), T0).await.expect("begun");
        assert_eq!(store.session(&session, T0).await.expect("read").map(|u| u.name), Some("asha".to_owned()));
        assert_eq!(store.session(&session, T0.plus(100)).await.expect("read"), None);
        assert_eq!(store.session("nonsense", T0).await.expect("read"), None);
        let last = store.disable_user("asha", "token:x", T0).await;
        assert!(matches!(last, Err(StoreError::Refused(_))), "the last operator stays: {last:?}");
        store.create_user(new("ravi", Role::Operator, None), "asha", T0).await.expect("made");
        store.disable_user("asha", "ravi", T0).await.expect("barred");
        assert_eq!(store.session(&session, T0).await.expect("read"), None);
        let first = store.create_one_time(&OneTime::SetUp, T0.plus(100)).await.expect("made");
        let second = store.create_one_time(&OneTime::SetUp, T0.plus(100)).await.expect("made");
        assert_eq!(store.spend_one_time(&first, T0).await.expect("read"), None);
        assert_eq!(store.one_time(&second, T0).await.expect("read"), Some(OneTime::SetUp));
        assert_eq!(store.spend_one_time(&second, T0).await.expect("read"), Some(OneTime::SetUp));
        assert_eq!(store.spend_one_time(&second, T0).await.expect("read"), None);
        let token = store.create_api_token("sim", Role::Operator, "asha", T0).await.expect("made");
        assert_eq!(store.api_token(&token, T0).await.expect("read").map(|t| t.role), Some(Role::Operator));
        store.revoke_api_token("sim", "asha", T0).await.expect("revoked");
        assert_eq!(store.api_token(&token, T0).await.expect("read"), None);
        let day = NewToken { name: "day".to_owned(), role: Role::Engineer, expires: Some(T0.plus(86_400)) };
        let token = store.issue_api_token(day, "asha", T0).await.expect("made");
        assert!(store.api_token(&token, T0.plus(86_399)).await.expect("read").is_some());
        assert_eq!(store.api_token(&token, T0.plus(86_400)).await.expect("read"), None);
        assert_eq!(store.api_tokens(T0).await.expect("read").len(), 1);
    });
}

#[test]
fn a_new_secret_replaces_the_old_and_an_altered_audit_shows() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let meters = [meter(1), meter(2)];
        let first = store.enrol(&meters, "asha", T0).await.expect("enrolled");
        let second = store.enrol(&meters[..1], "asha", T0).await.expect("enrolled");
        assert_ne!(first[0].secret, second[0].secret);
        assert!(!format!("{second:?}").contains("secret"));
        let hashes = store.credentials().await.expect("read");
        let expected = |secret: &[u8; 32]| <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(secret));
        assert_eq!(hashes, [(meter(1), expected(&second[0].secret)), (meter(2), expected(&first[1].secret))]);
        store.withdraw(meter(2), "asha", T0).await.expect("withdrawn");
        assert_eq!(store.credentials().await.expect("read").len(), 1);
        assert_eq!(store.meters(T0).await.expect("read").len(), 2);
        let rows = store.verify_audit().await.expect("whole");
        assert_eq!(rows, 4);
        store.close().await.expect("closed");
        let url = format!("sqlite:{}", dir.path().join("gridtally.db").display());
        let pool = sqlx::SqlitePool::connect(&url).await.expect("opens");
        sqlx::query("UPDATE audit SET by_whom = 'ravi' WHERE id = 3").execute(&pool).await.expect("altered");
        pool.close().await;
        let store = open(dir.path()).await;
        let damage = store.verify_audit().await.expect_err("altered");
        assert!(damage.to_string().contains("row 3"), "{damage}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_file_holds_each_row_is_taken_or_refused(
        rows in prop::collection::vec(prop::collection::vec("[FTMU][-0-9]{0,3}|=|\"|2026-01-0[1-9]|[A-C]|20|", 1..10), 0..30),
    ) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().expect("directory");
            let store = open(dir.path()).await;
            let head = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n";
            let body: Vec<String> = rows.iter().map(|row| row.join(",")).collect();
            let csv = format!("{head}{}\n", body.join("\n"));
            let first = store.import_topology(&csv, "asha", T0).await.expect("never fails as a whole");
            let lines: Vec<u64> = first.rejected.iter().map(|r| r.line).collect();
            prop_assert!(lines.is_sorted());
            let topology = store.topology(Timestamp(i64::MAX - 1)).await.expect("read");
            for zone in &topology.zones {
                prop_assert!(topology.feeder_of(zone.zone).is_some());
            }
            let mut meters: Vec<_> = topology.usage_points.iter().filter_map(|p| p.installation.as_ref())
                .chain(topology.zones.iter().filter_map(|z| z.observer.as_ref())).map(|i| i.meter).collect();
            let count = meters.len();
            meters.sort_unstable();
            meters.dedup();
            prop_assert_eq!(meters.len(), count);
            Ok(())
        })?;
    }
}

#[test]
fn files_of_a_case_come_back_as_they_went_in() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        network(&store).await;
        let case = Case::open(CaseKind::MissingEnergy, zone("T-1"), None, T0, "balance", vec![]).expect("opens");
        let commit = SlotCommit {
            at: T0.plus(900),
            position: Some(T0.plus(900)),
            cases: vec![CaseChange::Open(Box::new(case))],
            ..SlotCommit::default()
        };
        let id = store.commit_slot(commit).await.expect("written").case_ids[0];
        let body = b"%PDF-1.7 a report".to_vec();
        let new = store::NewAttachment { name: "../visit report.pdf".to_owned(), body: body.clone() };
        let made = store.attach(id, new, "ada", T0.plus(1_000)).await.expect("attached");
        assert_eq!((made.name.as_str(), made.content_type.as_str()), ("visit report.pdf", "application/pdf"));
        let found = store.attachment(id, made.id).await.expect("read").expect("there");
        assert_eq!((found.body, &found.attachment), (body, &made));
        assert_eq!(store.attachment(id + 1, made.id).await.expect("read"), None, "another case's file");
        let program = store::NewAttachment { name: "x.exe".to_owned(), body: b"MZ\x90\x00".to_vec() };
        assert!(store.attach(id, program, "ada", T0).await.is_err());
        let case = store.case(id).await.expect("read").expect("there");
        assert_eq!(case.history.len(), 2, "opened, attached");
    });
}
