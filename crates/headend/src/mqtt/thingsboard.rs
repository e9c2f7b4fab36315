//! The topics of ThingsBoard's device and gateway API: what a message on them asks for, without a session.
//!
//! A device is the meter of its credential. A gateway names its devices, and each must be one of the meters that its credential speaks
//! for; a message that names another is refused whole. We keep no attributes and send no remote calls: a question is answered so.
//! Source: ThingsBoard documentation, "MQTT Device API" and "MQTT Gateway API".

use std::fmt;

use bytes::Bytes;
use metering::MeterId;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, json, value::RawValue};

use crate::credentials::Peer;

/// Topics of one device.
pub(super) const DEVICE: &str = "v1/devices/me/";
/// Topics of a gateway, which names the device in its payload.
pub(super) const GATEWAY: &str = "v1/gateway/";
/// Most devices in one message; so many deliveries may be taken beyond the window.
const DEVICES_MAX: usize = 256;

/// What a message asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// Reports to be kept as they came, one a device, in their order.
    Reports(Vec<(MeterId, Bytes)>),
    /// A device is reached through this gateway from now on.
    Attached(MeterId),
    /// It is no more.
    Detached(MeterId),
    /// A question; the answer goes to this topic when the peer listens to it.
    Asked { topic: String, answer: Vec<u8> },
    /// Says nothing of a meter and wants no answer.
    Unread,
}

/// Why a message is not taken; the session ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A device that the gateway does not speak for.
    Foreign(String),
    /// Not in the form of its topic.
    Malformed(&'static str),
}

/// What a message on `topic` asks for; `None` when the topic is none of ThingsBoard's, or a gateway's and the peer is none.
pub(super) fn read(topic: &str, payload: &Bytes, peer: &Peer) -> Option<Result<Message, Refused>> {
    if let Some(rest) = topic.strip_prefix(DEVICE) {
        return Some(of_device(rest, payload, peer));
    }
    let rest = topic.strip_prefix(GATEWAY).filter(|_| peer.meters.is_some())?;
    Some(match rest {
        "telemetry" | "attributes" => reports(payload, peer),
        "connect" => device(payload, peer).map(Message::Attached),
        "disconnect" => device(payload, peer).map(Message::Detached),
        "attributes/request" => attributes_asked(payload, peer),
        // The reply to a call that we never make; a claim, which only an operator can grant.
        "rpc" | "claim" => Ok(Message::Unread),
        _ => return None,
    })
}

fn of_device(rest: &str, payload: &Bytes, peer: &Peer) -> Result<Message, Refused> {
    match rest {
        "telemetry" | "attributes" if peer.meters.is_none() => Ok(Message::Reports(vec![(peer.name, payload.clone())])),
        _ => match rest.strip_prefix("attributes/request/") {
            Some(number) if !number.is_empty() && number.len() < 20 && number.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Message::Asked { topic: format!("{DEVICE}attributes/response/{number}"), answer: b"{}".to_vec() })
            }
            // What a gateway says of itself, limits that a library asks for: nothing of a meter.
            _ => Ok(Message::Unread),
        },
    }
}

/// `{"DEVICE": …, …}`: each device with what stands behind its name, byte by byte as it came.
fn reports(payload: &[u8], peer: &Peer) -> Result<Message, Refused> {
    let devices: Devices<'_> =
        serde_json::from_slice(payload).map_err(|_| Refused::Malformed("a gateway's report without device names"))?;
    if devices.0.len() > DEVICES_MAX {
        return Err(Refused::Malformed("more than 256 devices in one report: send smaller ones"));
    }
    let report = |(name, value): (String, &RawValue)| {
        let meter = own(&name, peer)?;
        let text = format!("{{{}:{}}}", Value::from(name), value.get());
        Ok((meter, Bytes::from(text)))
    };
    devices.0.into_iter().map(report).collect::<Result<_, _>>().map(Message::Reports)
}

#[derive(Deserialize)]
struct Named {
    device: String,
}

fn device(payload: &[u8], peer: &Peer) -> Result<MeterId, Refused> {
    let named: Named = serde_json::from_slice(payload).map_err(|_| Refused::Malformed("a message without a device"))?;
    own(&named.device, peer)
}

#[derive(Deserialize)]
struct Question {
    id: u64,
    device: String,
}

/// No attribute of a meter is kept, so there is none to tell.
fn attributes_asked(payload: &[u8], peer: &Peer) -> Result<Message, Refused> {
    let question: Question =
        serde_json::from_slice(payload).map_err(|_| Refused::Malformed("a question without id and device"))?;
    own(&question.device, peer)?;
    let answer = json!({ "id": question.id, "device": question.device, "values": {} });
    Ok(Message::Asked { topic: format!("{GATEWAY}attributes/response"), answer: answer.to_string().into_bytes() })
}

fn own(name: &str, peer: &Peer) -> Result<MeterId, Refused> {
    let meter = MeterId::new(name).ok().filter(|meter| peer.speaks_for(*meter));
    meter.ok_or_else(|| Refused::Foreign(name.chars().take(64).collect()))
}

/// Devices with what is said of each, in the order of the message; one that is named twice comes twice.
struct Devices<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Devices<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Devices<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("device names, each with what is said of it")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Devices(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Whether a subscription covers a topic: `+` one level, `#` all that follow.
pub(super) fn covers(filter: &str, topic: &str) -> bool {
    let (mut wanted, mut levels) = (filter.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(want), Some(level)) if want == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use super::*;

    fn meter(n: u8) -> MeterId {
        MeterId::new(&format!("M-{n}")).expect("valid")
    }

    fn gateway() -> Peer {
        let meters = Some(Arc::new(HashSet::from([meter(1), meter(2)])));
        Peer { name: MeterId::new("site").expect("valid"), meters }
    }

    fn told(topic: &str, payload: &str) -> Option<Result<Message, Refused>> {
        read(topic, &Bytes::from(payload.to_owned()), &gateway())
    }

    #[test]
    fn each_device_keeps_what_was_said_of_it_to_the_digit() {
        let parts = told("v1/gateway/telemetry", r#"{"M-1": [{"ts":1,"values":{"e":1.50}}], "M-2":{"p":3},"M-1":7 }"#);
        let expected = [
            (meter(1), r#"{"M-1":[{"ts":1,"values":{"e":1.50}}]}"#),
            (meter(2), r#"{"M-2":{"p":3}}"#),
            (meter(1), r#"{"M-1":7}"#),
        ];
        let expected = expected.map(|(meter, text)| (meter, Bytes::from(text))).to_vec();
        assert_eq!(parts, Some(Ok(Message::Reports(expected))));
    }

    #[test]
    fn a_foreign_device_or_a_wrong_form_is_refused_whole() {
        for (topic, payload) in [
            ("v1/gateway/telemetry", r#"{"M-1":{"e":1},"M-3":{"e":1}}"#),
            ("v1/gateway/connect", r#"{"device":"M-3"}"#),
            ("v1/gateway/disconnect", r#"{"device":"../M-1"}"#),
            ("v1/gateway/attributes/request", r#"{"id":1,"device":"M-3","client":true,"key":"x"}"#),
        ] {
            assert!(matches!(told(topic, payload), Some(Err(Refused::Foreign(_)))), "{topic}");
        }
        let many = format!("{{{}}}", vec![r#""M-1":1"#; DEVICES_MAX + 1].join(","));
        let deep = format!(r#"{{"M-1":{}}}"#, "[".repeat(10_000));
        for payload in ["", "7", "[]", r#"{"M-1":"#, r#"{"device":7}"#, &many, &deep] {
            for topic in ["v1/gateway/connect", "v1/gateway/attributes/request"] {
                assert!(matches!(told(topic, payload), Some(Err(Refused::Malformed(_)))), "{topic} {payload:.20}");
            }
            if payload != r#"{"device":7}"# {
                let outcome = told("v1/gateway/telemetry", payload);
                assert!(matches!(outcome, Some(Err(Refused::Malformed(_)))), "{payload:.20}");
            }
        }
    }

    #[test]
    fn a_meter_is_no_gateway() {
        let payload = Bytes::from_static(br#"{"M-1":{"e":1}}"#);
        assert_eq!(read("v1/gateway/telemetry", &payload, &Peer { name: meter(1), meters: None }), None);
        assert_eq!(told("v1/gateway/firmware", "{}"), None);
    }

    #[test]
    fn filters_cover_as_mqtt_says() {
        let topic = "v1/devices/me/attributes/response/1";
        for filter in ["v1/devices/me/attributes/response/+", "v1/#", "#", topic, "+/devices/me/+/+/+"] {
            assert!(covers(filter, topic), "{filter}");
        }
        for filter in ["v1/devices/me/attributes/response", "v1/devices/me/+", "v1/devices/me/attributes/response/2"] {
            assert!(!covers(filter, topic), "{filter}");
        }
    }
}
