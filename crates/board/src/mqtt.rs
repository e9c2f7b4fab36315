//! The eight MQTT 3.1.1 packets that a meter needs, written and read as bytes.
//!
//! QoS 1 up and down, clean session, no will: the meter's own ring keeps what is not acknowledged. Sections are those of the OASIS
//! standard, version 3.1.1. Not a client: the firmware owns socket, timers and what is on the way.

use alloc::vec::Vec;

/// Largest packet that a meter takes; larger ones end the connection.
pub const PACKET_BYTES_MAX: usize = 8 * 1024;
/// Longest fixed header.
const HEADER_BYTES_MAX: usize = 5;

/// A packet from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Answer to the connection: 0 is yes (§ 3.2).
    Connack(u8),
    /// A message; with QoS 1 it must be acknowledged under its id (§ 3.3).
    Publish {
        /// Topic name.
        topic: &'a str,
        /// Packet id at QoS 1.
        id: Option<u16>,
        /// The frame.
        payload: &'a [u8],
    },
    /// The server has stored a message (§ 3.4).
    Puback(u16),
    /// The subscription stands (`true`) or was refused (§ 3.9).
    Suback(bool),
    /// Still there (§ 3.13).
    Pingresp,
}

/// Why bytes from the server end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttError {
    /// Larger than [`PACKET_BYTES_MAX`].
    TooLarge,
    /// Not a packet a server may send to a meter.
    Malformed,
}

impl core::fmt::Display for MqttError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the server sent a packet that is too large for a meter",
            Self::Malformed => "the server sent what is not an MQTT packet for a meter",
        })
    }
}

impl core::error::Error for MqttError {}

fn text(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Fixed header with the remaining length (§ 2.2.3), then the body.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + HEADER_BYTES_MAX);
    out.push(kind);
    let mut rest = body.len();
    loop {
        let digit = (rest % 128) as u8;
        rest /= 128;
        out.push(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// The first packet: a clean session under the meter's name with its secret (§ 3.1).
pub fn connect(meter: &str, secret: &str, keep_alive_s: u16) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    // level 4; user name, password, clean session
    body.extend_from_slice(&[4, 0b1100_0010]);
    body.extend_from_slice(&keep_alive_s.to_be_bytes());
    text(&mut body, meter);
    text(&mut body, meter);
    text(&mut body, secret);
    packet(0x10, &body)
}

/// A message at QoS 1; `again` when it was sent before on this session (§ 3.3).
pub fn publish(topic: &str, id: u16, payload: &[u8], again: bool) -> Vec<u8> {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
    text(&mut body, topic);
    body.extend_from_slice(&id.to_be_bytes());
    body.extend_from_slice(payload);
    packet(if again { 0x3a } else { 0x32 }, &body)
}

/// Asks for everything sent to the meter, at QoS 1 (§ 3.8).
pub fn subscribe(filter: &str, id: u16) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    text(&mut body, filter);
    body.push(1);
    packet(0x82, &body)
}

/// A message of the server has been taken (§ 3.4).
pub fn puback(id: u16) -> Vec<u8> {
    packet(0x40, &id.to_be_bytes())
}

/// Still here (§ 3.12).
pub fn ping() -> Vec<u8> {
    packet(0xc0, &[])
}

fn number(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?))
}

fn body(kind: u8, body: &[u8]) -> Option<Packet<'_>> {
    Some(match (kind >> 4, body) {
        (2, [_, code]) => Packet::Connack(*code),
        (3, _) => {
            let length = usize::from(number(body)?);
            let topic = core::str::from_utf8(body.get(2..2 + length)?).ok()?;
            let rest = &body[2 + length..];
            match (kind >> 1) & 3 {
                0 => Packet::Publish { topic, id: None, payload: rest },
                1 => Packet::Publish { topic, id: Some(number(rest)?), payload: &rest[2..] },
                _ => return None,
            }
        }
        (4, [_, _]) => Packet::Puback(number(body)?),
        (9, [_, _, code]) => Packet::Suback(*code < 0x80),
        (13, []) => Packet::Pingresp,
        _ => return None,
    })
}

/// The first packet in `bytes` and how many bytes it takes; nothing while it is not whole.
///
/// # Errors
/// When the bytes cannot become a packet; the connection must end.
pub fn read(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, MqttError> {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    let (mut length, mut digits) = (0, 0);
    loop {
        let Some(&digit) = rest.get(digits) else { return Ok(None) };
        length |= usize::from(digit & 0x7f) << (7 * digits);
        digits += 1;
        if digit & 0x80 == 0 {
            break;
        }
        if digits == HEADER_BYTES_MAX - 1 {
            return Err(MqttError::Malformed);
        }
    }
    if length > PACKET_BYTES_MAX {
        return Err(MqttError::TooLarge);
    }
    let Some(content) = rest.get(digits..digits + length) else { return Ok(None) };
    let packet = body(kind, content).ok_or(MqttError::Malformed)?;
    Ok(Some((packet, 1 + digits + length)))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_are_those_of_the_standard() {
        let expected = b"\x10\x16\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02M1\x00\x02M1\x00\x02ab";
        assert_eq!(connect("M1", "ab", 60), expected);
        assert_eq!(subscribe("a/#", 7), b"\x82\x08\x00\x07\x00\x03a/#\x01");
        assert_eq!(publish("t", 3, b"xy", false), b"\x32\x07\x00\x01t\x00\x03xy");
        assert_eq!(publish("t", 3, &[0; 200], true)[..3], [0x3a, 205 & 0x7f | 0x80, 1]);
        assert_eq!((puback(258), ping()), (vec![0x40, 2, 1, 2], vec![0xc0, 0]));
    }

    #[test]
    fn the_servers_packets_are_read_whole_or_not_at_all() {
        let stream = b"\x20\x02\x00\x00\x32\x07\x00\x01t\x00\x03xy\x40\x02\x00\x09\x90\x03\x00\x07\x01\xd0\x00";
        let mut rest = &stream[..];
        let mut seen = Vec::new();
        while let Some((packet, taken)) = read(rest).expect("sound") {
            assert_eq!(read(&rest[..taken - 1]), Ok(None));
            seen.push(packet);
            rest = &rest[taken..];
        }
        let message = Packet::Publish { topic: "t", id: Some(3), payload: b"xy" };
        assert_eq!(seen, [Packet::Connack(0), message, Packet::Puback(9), Packet::Suback(true), Packet::Pingresp]);
        assert_eq!(read(&[0x30, 0xff, 0xff, 0xff, 0xff, 1]), Err(MqttError::Malformed));
        assert_eq!(read(&[0x30, 0xff, 0xff, 0x03]), Err(MqttError::TooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_read_beyond(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some((_, taken))) = read(&bytes) {
                prop_assert!(taken <= bytes.len());
            }
        }
    }
}
