//! A tick of simulated time that could not be written is tried again: time stands still until it is, and nothing is decided twice.

use std::time::Duration;

use gridtally::{
    config::Config,
    server::{Server, ServerOptions},
};
use metering::Timestamp;
use sim::rest::RestClient;
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use store::Role;

const TOPOLOGY: &str = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n\
    F-1,,M-FEEDER,,,1,ABC,2026-01-01\n\
    F-1,,,U-1,M-1,1,A,2026-01-01\n";

async fn run(other: &mut SqliteConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(other).await.expect("done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_tick_is_tried_again_until_it_is_written() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let data = folder.path().join("data");
    let options =
        ServerOptions { data: data.clone(), config: Config::default(), simulated_clock: true, any_port: true };
    let server = Server::start(options).await.expect("starts");
    let (store, start) = (server.store.clone(), Timestamp(1_767_225_600).plus(86_400));
    let token = store.create_api_token("simulator", Role::Operator, "test", start).await.expect("token");
    let mut rest = RestClient::new(&server.http.to_string(), &token, Duration::from_secs(60)).expect("a client");
    rest.import_topology(TOPOLOGY).await.expect("imported");
    rest.put_clock(start).await.expect("set");
    let mut other = SqliteConnectOptions::new().filename(data.join("gridtally.db")).connect().await.expect("connects");
    run(&mut other, "CREATE TRIGGER full BEFORE INSERT ON balance_day BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        .await;
    let advance = tokio::spawn(async move { rest.put_clock(start.plus(4 * 900)).await });
    let failed = || store.transactions().iter().any(|(name, counts)| *name == "slot" && counts.rolled_back > 0);
    while !failed() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run(&mut other, "DROP TRIGGER full").await;
    other.close().await.expect("closes");
    let status = advance.await.expect("no panic").expect("answered");
    assert!(status.idle, "{status:?}");
    assert_eq!(status.processed_through, Some(start.plus(4 * 900)));
    let zone = metering::ZoneId::new("F-1").expect("id");
    let balances = store.balances(zone, start, start.plus(4 * 900)).await.expect("read");
    assert_eq!(balances.len(), 4, "each slot once");
    server.stop().await;
}
