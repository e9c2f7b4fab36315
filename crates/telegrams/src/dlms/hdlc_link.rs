//! An HDLC connection under DLMS: SNRM and UA, numbered information frames with window 1, segments, DISC.
//!
//! Both ends without a line: frames in, frames out. One exchange at a time, as DLMS needs.

use alloc::vec::Vec;

use crate::{Fault, framing::hdlc::Frame};

const SNRM: u8 = 0x93;
const UA: u8 = 0x73;
const DISC: u8 = 0x53;
const DM: u8 = 0x1F;
const POLL: u8 = 0x10;
const TO_METER: [u8; 3] = [0xE6, 0xE6, 0x00];
const TO_CLIENT: [u8; 3] = [0xE6, 0xE7, 0x00];
/// Longest information field without negotiation.
const INFORMATION: usize = 128;
/// Longest that we agree to.
const INFORMATION_MAX: usize = 1_024;

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The client, who begins.
    Client,
    /// The meter.
    Meter,
}

/// What a frame led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Send this.
    Send(Vec<u8>),
    /// Connected: the client may send APDUs.
    Connected,
    /// A whole APDU.
    Apdu(Vec<u8>),
    /// The other end closed; send this when it is not empty.
    Closed(Vec<u8>),
    /// Nothing to do.
    Nothing,
}

/// One end of a connection.
#[derive(Clone, Debug)]
pub struct Link {
    role: Role,
    here: Vec<u8>,
    there: Vec<u8>,
    send: u8,
    receive: u8,
    information: usize,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

impl Link {
    /// Not connected. Addresses are as sent: each byte shifted left, the lowest bit set in the last.
    pub fn new(role: Role, here: &[u8], there: &[u8]) -> Self {
        Self {
            role,
            here: here.to_vec(),
            there: there.to_vec(),
            send: 0,
            receive: 0,
            information: INFORMATION,
            outgoing: Vec::new(),
            incoming: Vec::new(),
        }
    }

    /// A client's address on the wire.
    pub fn client_address(sap: u8) -> [u8; 1] {
        [sap << 1 | 1]
    }

    fn frame(&self, control: u8, segmented: bool, information: &[u8]) -> Vec<u8> {
        let frame = Frame { segmented, destination: &self.there, source: &self.here, control, information };
        frame.encode().unwrap_or_default()
    }

    /// The client's first frame.
    pub fn connect(&self) -> Vec<u8> {
        self.frame(SNRM, false, &[])
    }

    /// The client's last frame.
    pub fn disconnect(&self) -> Vec<u8> {
        self.frame(DISC, false, &[])
    }

    /// The first frame of an APDU; further ones follow on each RR.
    pub fn send(&mut self, apdu: &[u8]) -> Vec<u8> {
        let header = if self.role == Role::Client { TO_METER } else { TO_CLIENT };
        self.outgoing = [&header[..], apdu].concat();
        self.next_segment()
    }

    fn next_segment(&mut self) -> Vec<u8> {
        let count = self.outgoing.len().min(self.information);
        let part: Vec<u8> = self.outgoing.drain(..count).collect();
        let control = self.receive << 5 | POLL | self.send << 1;
        self.send = (self.send + 1) & 7;
        self.frame(control, !self.outgoing.is_empty(), &part)
    }

    fn receive_ready(&self) -> Vec<u8> {
        self.frame(self.receive << 5 | POLL | 1, false, &[])
    }

    /// What a frame from the other end means.
    pub fn take(&mut self, frame: &Frame<'_>) -> Result<Event, Fault> {
        if frame.destination != self.here && self.role == Role::Client {
            return Ok(Event::Nothing);
        }
        match frame.control {
            SNRM if self.role == Role::Meter => {
                self.there = frame.source.to_vec();
                self.here = frame.destination.to_vec();
                self.restart(frame.information);
                let size = u16::try_from(self.information).unwrap_or(128).to_be_bytes();
                let parameters = [
                    0x81, 0x80, 0x14, 0x05, 2, size[0], size[1], 0x06, 2, size[0], size[1], 0x07, 4, 0, 0, 0, 1, 0x08,
                    4, 0, 0, 0, 1,
                ];
                Ok(Event::Send(self.frame(UA, false, &parameters)))
            }
            UA if self.role == Role::Client => {
                self.restart(frame.information);
                Ok(Event::Connected)
            }
            DISC => Ok(Event::Closed(self.frame(UA, false, &[]))),
            DM | UA => Ok(Event::Closed(Vec::new())),
            control if control & 1 == 0 => self.information(frame),
            // RR: the segment arrived.
            control if control & 0x0F == 1 => {
                Ok(if self.outgoing.is_empty() { Event::Nothing } else { Event::Send(self.next_segment()) })
            }
            _ => Err(Fault::structure("the other end rejects a frame: connect anew")),
        }
    }

    fn information(&mut self, frame: &Frame<'_>) -> Result<Event, Fault> {
        let number = frame.control >> 1 & 7;
        if number != self.receive {
            // A repetition after a lost answer: say again what is expected.
            return Ok(Event::Send(self.receive_ready()));
        }
        self.receive = (self.receive + 1) & 7;
        if self.incoming.len() + frame.information.len() > usize::from(u16::MAX) {
            self.incoming.clear();
            return Err(Fault::TooLong("the APDU"));
        }
        self.incoming.extend_from_slice(frame.information);
        if frame.segmented {
            return Ok(Event::Send(self.receive_ready()));
        }
        let whole = core::mem::take(&mut self.incoming);
        let apdu = whole.get(3..).ok_or(Fault::structure("an APDU without LLC header"))?;
        Ok(Event::Apdu(apdu.to_vec()))
    }

    /// Numbers from zero; the smaller of the sizes binds.
    fn restart(&mut self, parameters: &[u8]) {
        (self.send, self.receive) = (0, 0);
        (self.outgoing, self.incoming) = (Vec::new(), Vec::new());
        // `81 80 length` then 05 (their longest when sending), 06 (when receiving).
        let mut rest = parameters.get(3..).unwrap_or_default();
        let mut size = None;
        while let [tag, count, tail @ ..] = rest {
            let Some((value, after)) = tail.split_at_checked(usize::from(*count)) else { break };
            if *tag == 6 {
                size = crate::bytes::unsigned_be(value).and_then(|value| usize::try_from(value).ok());
            }
            rest = after;
        }
        self.information = size.unwrap_or(INFORMATION).clamp(32, INFORMATION_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_apdu_crosses_in_segments() {
        let mut client = Link::new(Role::Client, &Link::client_address(16), &[0x03]);
        let mut meter = Link::new(Role::Meter, &[0x03], &[]);
        assert_eq!(crate::bytes::hex(&client.connect()), "7ea0070321930f017e");
        let apdu: Vec<u8> = (0..1000_u16).map(|value| value.to_le_bytes()[0]).collect();
        let mut wire = client.connect();
        let mut to_meter = true;
        let mut sent = false;
        for _ in 0..100 {
            let frame = Frame::parse(&wire[1..wire.len() - 1]).expect("a good frame");
            let end = if to_meter { &mut meter } else { &mut client };
            match end.take(&frame).expect("no fault") {
                Event::Send(bytes) => wire = bytes,
                Event::Connected => {
                    assert!(!sent);
                    sent = true;
                    wire = client.send(&apdu);
                }
                Event::Apdu(received) => {
                    assert!(to_meter && received == apdu);
                    return;
                }
                other => panic!("{other:?}"),
            }
            to_meter = !to_meter;
        }
        panic!("the APDU did not arrive");
    }
}
