//! The session under arbitrary bytes and an arbitrary order of calls: it never panics, never hands out a payload before the
//! log-on or beyond the window, never acknowledges more than was committed, and says nothing after its end.

use metering::{Frame, MeterId, frame::Body, frame::Now, topic::DownKind};

use super::session::{End, Session, SessionEvent};
use crate::{Credentials, HeadendConfig, Outcome};

const ROUNDS: u64 = 600;
const STEPS: u64 = 60;

/// SplitMix64 (Steele, Lea, Flood 2014): enough to draw test cases, the same on every machine.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).expect("small")).expect("small")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

fn meter() -> MeterId {
    MeterId::new("M-1").expect("valid")
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes = vec![first];
    if length < 128 {
        bytes.push(u8::try_from(length).expect("short"));
    } else {
        bytes.push(u8::try_from(length & 0x7f).expect("short") | 0x80);
        bytes.push(u8::try_from(length >> 7).expect("short"));
    }
    bytes.extend(body);
    bytes
}

fn connect(version: u8, right: bool) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([version, 0xc2, 0, 60]);
    if version == 5 {
        body.push(0);
    }
    body.extend(text("c"));
    body.extend(text("M-1"));
    body.extend(text(&if right { "07" } else { "08" }.repeat(32)));
    packet(0x10, &body)
}

fn publish(draw: &mut Draw, version: u8) -> Vec<u8> {
    let topics = [
        "gt/1/M-1/up/now",
        "gt/1/M-1/up/now",
        "gt/1/M-1/up/event",
        "gt/1/M-2/up/now",
        "v1/devices/me/telemetry",
        "v1/devices/me/attributes/request/1",
        "v1/gateway/telemetry",
        "",
        "#",
    ];
    let qos = [0, 2, 2, 2, 4, 6][draw.below(6)];
    let mut body = text(topics[if draw.below(8) > 0 { 0 } else { draw.below(topics.len()) }]);
    if qos > 0 {
        body.extend(u16::try_from(draw.below(12)).expect("small").to_be_bytes());
    }
    if version == 5 {
        body.push(0);
    }
    body.extend(Frame::new(meter(), 1, draw.next(), Body::Now(Now::default())).to_cbor());
    packet(0x30 | qos | [0, 0, 0, 8, 1][draw.below(5)], &body)
}

fn other(draw: &mut Draw, version: u8) -> Vec<u8> {
    let id = u16::try_from(draw.below(6)).expect("small").to_be_bytes();
    let mut body = id.to_vec();
    match draw.below(8) {
        0 => packet(0x40, &body),
        1 => packet(0x62, &body),
        2 => packet(0x50, &body),
        3 | 4 => {
            if version == 5 {
                body.push(0);
            }
            body.extend(text(["gt/1/M-1/down/#", "gt/1/M-1/down/time", "#", "gt/1/M-2/down/#"][draw.below(4)]));
            body.push(draw.byte() & 3);
            packet(0x82, &body)
        }
        5 => {
            if version == 5 {
                body.push(0);
            }
            body.extend(text("gt/1/M-1/down/#"));
            packet(0xa2, &body)
        }
        6 => packet(0xc0, &[]),
        _ => packet(0xe0, &[]),
    }
}

/// What a well-behaved meter sends.
fn tame(draw: &mut Draw, version: u8) -> Vec<u8> {
    let mut body = text("gt/1/M-1/up/now");
    body.extend((1 + u16::try_from(draw.below(12)).expect("small")).to_be_bytes());
    if version == 5 {
        body.push(0);
    }
    body.extend(Frame::new(meter(), 1, draw.next(), Body::Now(Now::default())).to_cbor());
    if draw.below(10) == 0 { packet(0xc0, &[]) } else { packet(0x32 | [0, 8][draw.below(2)], &body) }
}

/// Mostly whole packets, some of them damaged, some noise.
fn wild(draw: &mut Draw, version: u8) -> Vec<u8> {
    let mut bytes = match draw.below(20) {
        0 => (0..draw.below(40)).map(|_| draw.byte()).collect(),
        1 => connect(version, draw.below(3) > 0),
        2..=6 => other(draw, version),
        _ => (0..=draw.below(6)).flat_map(|_| publish(draw, version)).collect(),
    };
    if draw.below(12) == 0 && !bytes.is_empty() {
        let at = draw.below(bytes.len());
        bytes[at] ^= draw.byte();
    }
    if draw.below(12) == 0 {
        bytes.truncate(draw.below(bytes.len() + 1));
    }
    bytes
}

/// PUBACK and PUBREC packets among what the session wrote; it writes whole packets only.
fn acknowledgements(out: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < out.len() {
        let first = out[at];
        let mut length = usize::from(out[at + 1] & 0x7f);
        at += 2;
        if out[at - 1] & 0x80 != 0 {
            length |= usize::from(out[at]) << 7;
            at += 1;
        }
        at += length;
        count += usize::from(matches!(first >> 4, 4 | 5));
    }
    assert_eq!(at, out.len(), "whole packets");
    count
}

#[test]
fn arbitrary_bytes_and_calls() {
    let credentials = Credentials::new();
    let _ = credentials.insert(meter(), Credentials::hash(&[7; 32]));
    let config = HeadendConfig { window: 8, down_window: 3, ..HeadendConfig::default() };
    let (mut opened, mut payloads, mut ended) = (0, 0, 0);
    for seed in 0..ROUNDS {
        let mut draw = Draw(seed);
        let version = if draw.below(2) == 0 { 4 } else { 5 };
        let mut session = Session::new(&config, seed);
        let (mut is_open, mut is_over, mut waiting, mut committed, mut acknowledged) = (false, false, 0, 0, 0);
        let mut repeated_qos2 = 0;
        let mut inbox = if draw.below(10) > 0 { connect(version, true) } else { Vec::new() };
        for step in 0..STEPS {
            let mut events = Vec::new();
            match draw.below(10) {
                0..=5 => {
                    let is_tame = seed % 2 == 0;
                    inbox.extend(if is_tame { tame(&mut draw, version) } else { wild(&mut draw, version) });
                    repeated_qos2 += inbox.iter().filter(|byte| **byte & 0xf4 == 0x34).count();
                    let taken = session.receive(&inbox, &credentials, &mut events);
                    assert!(taken <= inbox.len(), "seed {seed} step {step}");
                    inbox.drain(..taken);
                }
                6..=7 => {
                    let count = draw.below(waiting + 1);
                    let outcome = [Outcome::Stored, Outcome::Duplicate, Outcome::Quarantined][draw.below(3)];
                    session.acknowledge(&vec![outcome; count], &mut events);
                    waiting -= count;
                    committed += count;
                }
                8 => drop(session.send(DownKind::ALL[draw.below(3)], b"payload", step)),
                _ if draw.below(20) == 0 => session.end(End::TakenOver, &mut events),
                _ => {}
            }
            for event in events {
                assert!(!is_over, "seed {seed} step {step}: {event:?} after the end");
                match event {
                    SessionEvent::Accepted { .. } => {
                        assert!(!is_open);
                        is_open = true;
                        opened += 1;
                    }
                    SessionEvent::Publish { .. } => {
                        assert!(is_open, "seed {seed} step {step}: a payload before the log-on");
                        waiting += 1;
                        payloads += 1;
                        assert!(waiting <= config.window, "seed {seed} step {step}: beyond the window");
                    }
                    SessionEvent::End(_) => {
                        is_over = true;
                        ended += 1;
                    }
                    _ => {}
                }
            }
            assert_eq!(is_over, session.is_over(), "seed {seed} step {step}");
            acknowledged += acknowledgements(session.out());
            session.out().clear();
            assert!(
                acknowledged <= committed + repeated_qos2,
                "seed {seed} step {step}: acknowledged before the commit"
            );
        }
    }
    // the draw reaches what it shall reach
    assert!(opened > ROUNDS / 2 && payloads > 5 * ROUNDS && ended > ROUNDS / 2, "{opened} {payloads} {ended}");
}
