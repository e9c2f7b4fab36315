//! Another connection holds the writer's place of the database: writers wait for it, readers do not notice, what stops disconnections
//! is in force meanwhile.

use std::path::Path;

use crate::world::{T0, incoming, meter, open, profile, record, runtime};
use metering::{Approver, ControlKind, MeterId};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use store::{ControlRequest, ControlTarget, GuardedChange, SlotCommit, Store};

/// A second connection that has begun to write, as a backup or another program would.
async fn hold(dir: &Path, file: &str) -> SqliteConnection {
    let mut other = SqliteConnectOptions::new().filename(dir.join(file)).connect().await.expect("connects");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("begins");
    other
}

async fn release(mut other: SqliteConnection) {
    sqlx::query("COMMIT").execute(&mut other).await.expect("ends");
    other.close().await.expect("closes");
}

fn read_request(meter: MeterId) -> ControlRequest {
    ControlRequest {
        target: ControlTarget::Meter(meter),
        kind: ControlKind::SnapshotAt { at: T0 },
        reason: "a look".to_owned(),
        by: Approver::Person("asha".to_owned()),
        approve: true,
        expires: T0.plus(600),
        case: None,
    }
}

fn busy(store: &Store) -> u64 {
    store.transactions().iter().map(|(_, counts)| counts.busy).sum()
}

#[test]
fn writers_wait_for_the_place_and_all_of_them_get_it() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        store.enrol(&(0..6).map(meter).collect::<Vec<_>>(), "asha", T0).await.expect("enrolled");
        let (main, log) = (hold(dir.path(), "gridtally.db").await, hold(dir.path(), "log.db").await);
        let mut writers = tokio::task::JoinSet::new();
        for n in 0..6_usize {
            let store = store.clone();
            writers.spawn(async move {
                store.set_setting(&format!("key-{n}"), &n, "asha", T0).await?;
                store.request_control(read_request(meter(n)), T0).await?;
                let blobs = vec![(format!("blob-{n}"), vec![1])];
                store.commit_slot(SlotCommit { at: T0, position: Some(T0), blobs, ..SlotCommit::default() }).await?;
                store.audit_note("asha", "note", "subject", "detail", T0).await?;
                store.ingest(vec![incoming(&profile(meter(n), 1, 1, vec![record(1, 1_000)]), 1_000)]).await
            });
        }
        // One of them has been turned away once by now: it comes again.
        while busy(&store) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        release(main).await;
        release(log).await;
        while let Some(done) = writers.join_next().await {
            done.expect("no panic").expect("written");
        }
        let counts = store.transactions();
        let of = |name: &str| counts.iter().find(|(n, _)| *n == name).map(|(_, counts)| counts.committed);
        assert_eq!((of("setting.change"), of("slot"), of("control.request")), (Some(6), Some(6), Some(6)));
        assert!(
            store.transactions_prometheus().contains("gridtally_transaction_committed_total{transaction=\"slot\"} 6")
        );
        store.verify_audit().await.expect("whole");
    });
}

#[test]
fn readers_never_wait_for_a_writer() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        store.ingest(vec![incoming(&profile(meter(1), 1, 1, vec![record(1, 1_000)]), 1_000)]).await.expect("stored");
        store.seal().await.expect("packed");
        let held = [
            hold(dir.path(), "gridtally.db").await,
            hold(dir.path(), "log.db").await,
            hold(dir.path(), "blocks-2026-01.db").await,
        ];
        let mut readers = tokio::task::JoinSet::new();
        for n in 0..32_usize {
            let store = store.clone();
            readers.spawn(async move {
                store.setting::<bool>(&format!("key-{n}")).await?;
                store.counts().await?;
                store.topology(T0).await?;
                store.profile(meter(1), T0, T0.plus(900)).await.map(|rows| rows.len())
            });
        }
        while let Some(read) = readers.join_next().await {
            assert_eq!(read.expect("no panic").expect("read"), 1);
        }
        for other in held {
            release(other).await;
        }
    });
}

#[test]
fn the_abort_switch_does_not_wait_for_the_database() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let other = hold(dir.path(), "gridtally.db").await;
        store.set_setting("abort_switch", &true, "asha", T0).await.expect("answered while another one writes");
        assert!(store.is_aborted(), "in force");
        assert_eq!(store.setting::<bool>("abort_switch").await.expect("read"), None, "not in the database yet");
        release(other).await;
        while store.setting::<bool>("abort_switch").await.expect("read").is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let noted = store.audit_of("setting:abort_switch", 10).await.expect("read");
        assert!(noted.iter().any(|row| row.by == "asha"), "{noted:?}");
    });
}

#[test]
fn an_abort_that_the_database_never_took_is_in_force_after_a_restart() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        drop(open(dir.path()).await);
        std::fs::write(dir.path().join("abort-switch-on"), "").expect("written");
        let store = open(dir.path()).await;
        assert!(store.is_aborted());
        store.ask_change(GuardedChange::AbortSwitchOff, "asha", T0).await.expect("off");
        assert!(!store.is_aborted());
        drop(store);
        assert!(!open(dir.path()).await.is_aborted(), "and stays off");
    });
}

/// The schema as it was before: what lies in it is opened and read.
#[test]
fn an_older_directory_opens() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        for (file, versions) in [
            ("gridtally.db", &[include_str!("../../src/schema/main_1.sql"), include_str!("../../src/schema/main_2.sql"), include_str!("../../src/schema/main_3.sql")][..]),
            ("log.db", &[include_str!("../../src/schema/log_1.sql")][..]),
        ] {
            let options = SqliteConnectOptions::new().filename(dir.path().join(file)).create_if_missing(true);
            let mut old = options.connect().await.expect("made");
            for version in versions {
                sqlx::raw_sql(*version).execute(&mut old).await.expect("applied");
            }
            let count = format!("PRAGMA user_version = {}", versions.len());
            sqlx::raw_sql(sqlx::AssertSqlSafe(count)).execute(&mut old).await.expect("set");
            if file == "gridtally.db" {
                sqlx::raw_sql("INSERT INTO setting VALUES ('abort_switch', 'true'); INSERT INTO meta VALUES ('use', 'real meters');")
                    .execute(&mut old)
                    .await
                    .expect("written");
            }
            old.close().await.expect("closes");
        }
        let store = open(dir.path()).await;
        assert!(store.is_aborted());
        assert!(store.pending_changes(T0).await.expect("read").is_empty());
        store.ingest(vec![incoming(&profile(meter(1), 1, 1, vec![record(1, 1_000)]), 1_000)]).await.expect("stored");
    });
}
