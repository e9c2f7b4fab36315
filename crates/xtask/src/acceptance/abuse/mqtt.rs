//! An MQTT 3.1.1 client by hand, so that it can lie.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::server;

/// A connection of a meter.
pub struct Meter {
    stream: TcpStream,
    name: String,
    seq: u64,
    id: u16,
}

/// A packet as it came.
pub struct Packet {
    pub kind: u8,
    pub body: Vec<u8>,
}

/// The bytes of a CONNECT.
pub fn connect_packet(name: &str, secret: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xc2, 0, 60];
    for word in [name, name, secret] {
        text(&mut body, word);
    }
    packet(0x10, &body)
}

fn text(into: &mut Vec<u8>, word: &str) {
    into.extend(u16::try_from(word.len()).unwrap_or_default().to_be_bytes());
    into.extend(word.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let digit = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        bytes.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

impl Meter {
    /// Logs on; an error when it is not let in.
    pub fn log_on(address: &str, name: &str, secret: &str) -> Result<Self, String> {
        let mut stream = server::connect(address)?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        stream.write_all(&connect_packet(name, secret)).map_err(|e| e.to_string())?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).map_err(|e| format!("{name} is not answered: {e}"))?;
        if answer != [0x20, 2, 0, 0] {
            return Err(format!("{name} is refused: {answer:?}"));
        }
        // Another boot for each connection would be another meter's history; the sequence begins where no other one is.
        let seq = u64::try_from(server::now()).unwrap_or_default() * 1_000_000 + rand_of(&stream);
        Ok(Self { stream, name: name.to_owned(), seq, id: 0 })
    }

    /// Listens to what is sent to it.
    pub fn listen(&mut self) -> Result<(), String> {
        let mut body = vec![0, 1];
        text(&mut body, &format!("gt/1/{}/down/#", self.name));
        body.push(1);
        self.write(&packet(0x82, &body))?;
        match self.packet(server::PATIENCE)? {
            Some(Packet { kind: 9, .. }) => Ok(()),
            _ => Err("no SUBACK".to_owned()),
        }
    }

    /// Publishes a frame and does not wait.
    pub fn publish(&mut self, kind: &str, body: &serde_json::Value) -> Result<(), String> {
        self.seq += 1;
        self.id = self.id % 60_000 + 1;
        let payload = server::frame(&self.name, self.seq, kind, body);
        let mut bytes = Vec::new();
        text(&mut bytes, &format!("gt/1/{}/up/{kind}", self.name));
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(payload.as_bytes());
        self.write(&packet(0x32, &bytes))
    }

    /// Publishes a frame; the time until its acknowledgement.
    pub fn report(&mut self, kind: &str, body: &serde_json::Value) -> Result<Duration, String> {
        let begun = Instant::now();
        self.publish(kind, body)?;
        while let Some(packet) = self.packet(server::PATIENCE)? {
            if packet.kind == 4 {
                return Ok(begun.elapsed());
            }
        }
        Err(format!("{} is not acknowledged", self.name))
    }

    /// The next packet within a time; `None` when none came. What is sent to the meter is acknowledged.
    pub fn packet(&mut self, limit: Duration) -> Result<Option<Packet>, String> {
        self.stream.set_read_timeout(Some(limit)).map_err(|e| e.to_string())?;
        let mut first = [0; 1];
        match self.stream.read_exact(&mut first) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
            Err(e) => return Err(format!("the connection of {} has ended: {e}", self.name)),
        }
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let mut byte = [0; 1];
            self.stream.read_exact(&mut byte).map_err(|e| e.to_string())?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(|e| e.to_string())?;
        if first[0] >> 4 == 3 {
            let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
            let id = [body[2 + topic], body[3 + topic]];
            self.write(&packet(0x40, &id))?;
            body.drain(..topic + 4);
        }
        Ok(Some(Packet { kind: first[0] >> 4, body }))
    }

    /// Controls that come within a time, as JSON.
    pub fn controls(&mut self, limit: Duration) -> Result<Vec<serde_json::Value>, String> {
        let until = Instant::now() + limit;
        let mut all = Vec::new();
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            match self.packet(left)? {
                Some(Packet { kind: 3, body }) => all.extend(serde_json::from_slice::<serde_json::Value>(&body)),
                Some(_) => {}
                None => break,
            }
        }
        Ok(all)
    }

    /// Whether the server has ended the connection within a time.
    pub fn is_ended(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if self.packet(left).is_err() {
                return true;
            }
        }
        false
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|e| format!("{} cannot write: {e}", self.name))
    }
}

/// A number that differs between connections: the local port.
fn rand_of(stream: &TcpStream) -> u64 {
    stream.local_addr().map_or(0, |address| u64::from(address.port()))
}
