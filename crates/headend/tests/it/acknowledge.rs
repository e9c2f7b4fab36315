//! An acknowledgement means "stored", comes after the commit and in the order of the publishes.

use headend::Outcome;
use tokio::sync::oneshot;

use crate::support::*;

#[tokio::test]
async fn nothing_is_acknowledged_before_the_commit() {
    let mut server = server().await;
    for version in [4, 5] {
        let mut client = server.client(version, 1).await;
        client.publish(&now_frame(meter(1), 1), 300).await;
        let batch = server.batch().await;
        client.expect_silence().await;
        batch.done.send(vec![Outcome::Stored]).expect("the connection waits");
        let puback = client.packet().await;
        assert_eq!((puback.kind, puback.id()), (PUBACK, 300));
    }
    assert_eq!(server.headend.counters().acknowledged, 2);
}

#[tokio::test]
async fn every_outcome_is_acknowledged() {
    let mut server = server().await;
    for version in [4, 5] {
        let mut client = server.client(version, 1).await;
        for (id, outcome) in [(1, Outcome::Stored), (2, Outcome::Duplicate), (3, Outcome::Conflict)] {
            client.publish(&now_frame(meter(1), 1), id).await;
            server.store(1, outcome).await;
            let puback = client.packet().await;
            assert_eq!((puback.id(), puback.body.get(2).copied().unwrap_or(0)), (id, 0));
        }
    }
}

#[tokio::test]
async fn a_batch_that_is_not_stored_is_not_acknowledged_and_closes() {
    let mut server = server().await;
    for version in [4, 5] {
        // dropped
        let mut client = server.client(version, 1).await;
        client.publish(&now_frame(meter(1), 1), 1).await;
        drop(server.batch().await);
        client.expect_close(Some(0x89)).await;
        // answered with a number of outcomes that cannot be right
        let mut client = server.client(version, 1).await;
        client.publish(&now_frame(meter(1), 1), 1).await;
        server.batch().await.done.send(vec![]).expect("the connection waits");
        client.expect_close(Some(0x89)).await;
    }
    assert_eq!(server.headend.counters().not_stored, 4);
    assert_eq!(server.headend.counters().acknowledged, 0);
}

#[tokio::test]
async fn commits_in_any_order_are_acknowledged_in_the_order_of_publishes() {
    let mut server = server().await;
    let mut client = server.client(4, 1).await;
    let mut waiting: Vec<(usize, oneshot::Sender<Vec<Outcome>>)> = Vec::new();
    for id in 1..=5 {
        client.publish(&now_frame(meter(1), id.into()), id).await;
        let batch = server.batch().await;
        waiting.push((batch.deliveries.len(), batch.done));
    }
    let first = waiting.remove(0);
    for (count, done) in waiting.into_iter().rev() {
        done.send(vec![Outcome::Stored; count]).expect("the connection waits");
    }
    client.expect_silence().await;
    first.1.send(vec![Outcome::Stored; first.0]).expect("the connection waits");
    for id in 1..=5 {
        assert_eq!(client.packet().await.id(), id);
    }
}

#[tokio::test]
async fn a_burst_above_the_window_is_taken_in_portions_and_acknowledged_in_order() {
    for version in [4, 5] {
        let mut server = server().await;
        let mut client = server.client(version, 1).await;
        let mut burst = Vec::new();
        for id in 1..=200u16 {
            let payload = now_frame(meter(1), id.into()).to_cbor();
            burst.extend(publish(version, "gt/1/M-1/up/now", &payload, 2, id));
        }
        client.write(&burst).await;
        let mut taken = 0;
        while taken < 200 {
            // let come what comes before anything is answered: never more than the window
            let mut batches = vec![server.batch().await];
            while batches.iter().map(|batch| batch.deliveries.len()).sum::<usize>() < 64.min(200 - taken) {
                batches.push(server.batch().await);
            }
            assert!(server.batches.try_recv().is_err(), "the window is closed");
            for batch in batches {
                for delivery in &batch.deliveries {
                    taken += 1;
                    let frame = delivery.frame.as_ref().expect("a frame");
                    assert_eq!(frame.seq, u64::try_from(taken).expect("small"));
                }
                batch.done.send(vec![Outcome::Stored; batch.deliveries.len()]).expect("the connection waits");
            }
        }
        for id in 1..=200 {
            let puback = client.packet().await;
            assert_eq!((puback.kind, puback.id()), (PUBACK, id));
        }
        assert_eq!(server.headend.counters().acknowledged, 200);
    }
}

#[tokio::test]
async fn qos_2_is_answered_after_the_commit_and_a_repetition_does_not_jump_ahead() {
    let mut server = server().await;
    let mut client = server.client(4, 1).await;
    let payload = now_frame(meter(1), 1).to_cbor();
    client.write(&publish(4, "gt/1/M-1/up/now", &payload, 4, 8)).await;
    let batch = server.batch().await;
    client.write(&publish(4, "gt/1/M-1/up/now", &payload, 4 | 8, 8)).await;
    client.expect_silence().await;
    batch.done.send(vec![Outcome::Stored]).expect("the connection waits");
    let pubrec = client.packet().await;
    assert_eq!((pubrec.kind, pubrec.id()), (PUBREC, 8));
    client.expect_silence().await;
    // repeated after the commit: answered, not delivered again
    client.write(&publish(4, "gt/1/M-1/up/now", &payload, 4 | 8, 8)).await;
    assert_eq!(client.packet().await.kind, PUBREC);
    client.write(&packet(0x62, &[0, 8])).await;
    let pubcomp = client.packet().await;
    assert_eq!((pubcomp.kind, pubcomp.id()), (PUBCOMP, 8));
    assert!(server.batches.try_recv().is_err());
}

#[tokio::test]
async fn qos_2_released_before_its_commit_is_a_breach() {
    let mut server = server().await;
    let mut client = server.client(4, 1).await;
    client.write(&publish(4, "gt/1/M-1/up/now", &now_frame(meter(1), 1).to_cbor(), 4, 8)).await;
    let _batch = server.batch().await;
    client.write(&packet(0x62, &[0, 8])).await;
    client.expect_close(None).await;
}

#[tokio::test]
async fn qos_2_is_refused_on_version_5_which_was_told() {
    let server = server().await;
    let mut client = server.client(5, 1).await;
    client.write(&publish(5, "gt/1/M-1/up/now", &now_frame(meter(1), 1).to_cbor(), 4, 8)).await;
    client.expect_close(Some(0x9b)).await;
}

#[tokio::test]
async fn the_same_identifier_again_and_again_stays_within_the_window() {
    let mut server = server_with(|config| config.window = 4).await;
    let mut client = server.client(4, 1).await;
    let one = publish(4, "gt/1/M-1/up/now", &now_frame(meter(1), 1).to_cbor(), 2, 1);
    client.write(&one.repeat(100)).await;
    let mut acknowledged = 0;
    while acknowledged < 100 {
        let batch = server.batch().await;
        assert!(batch.deliveries.len() <= 4);
        acknowledged += batch.deliveries.len();
        batch.done.send(vec![Outcome::Duplicate; batch.deliveries.len()]).expect("the connection waits");
    }
    for _ in 0..100 {
        assert_eq!(client.packet().await.id(), 1);
    }
}
