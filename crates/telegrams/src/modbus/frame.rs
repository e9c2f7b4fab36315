//! Requests and answers of Modbus TCP and RTU.
//!
//! An answer is taken only when transaction, unit, function and length are those of the request: a late answer to an earlier
//! request looks like an answer to this one. After a time-out the caller closes the connection or drains it.

use super::map::Table;
use crate::Fault;

/// A request for registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Counts up with every request (TCP).
    pub transaction: u16,
    /// Address of the meter.
    pub unit: u8,
    /// Table.
    pub table: Table,
    /// First register.
    pub address: u16,
    /// How many, 1 to 125.
    pub count: u16,
}

impl Request {
    fn function(&self) -> u8 {
        match self.table {
            Table::Holding => 3,
            Table::Input => 4,
        }
    }

    fn pdu(&self) -> [u8; 5] {
        let ([a, b], [c, d]) = (self.address.to_be_bytes(), self.count.to_be_bytes());
        [self.function(), a, b, c, d]
    }

    /// Bytes for TCP.
    pub fn tcp(&self) -> Vec<u8> {
        let mut out = self.transaction.to_be_bytes().to_vec();
        out.extend_from_slice(&[0, 0, 0, 6, self.unit]);
        out.extend_from_slice(&self.pdu());
        out
    }

    /// Bytes for a serial line.
    pub fn rtu(&self) -> Vec<u8> {
        let mut out = vec![self.unit];
        out.extend_from_slice(&self.pdu());
        out.extend_from_slice(&crc(&out).to_le_bytes());
        out
    }

    /// The registers of an answer over TCP; `Ok(None)` while it is not whole.
    pub fn tcp_answer(&self, bytes: &[u8]) -> Result<Option<Vec<u16>>, Fault> {
        let Some(head) = bytes.get(..7) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        if head[2..4] != [0, 0] || !(3..=254).contains(&length) {
            return Err(Fault::structure("not a header of Modbus TCP"));
        }
        if head[..2] != self.transaction.to_be_bytes() {
            return Err(Fault::structure("an answer to another request: drain the connection or open a new one"));
        }
        let Some(pdu) = bytes.get(6..6 + length) else { return Ok(None) };
        self.registers(pdu).map(Some)
    }

    /// The registers of an answer on a serial line; `Ok(None)` while it is not whole.
    pub fn rtu_answer(&self, bytes: &[u8]) -> Result<Option<Vec<u16>>, Fault> {
        let (Some(function), Some(count)) = (bytes.get(1), bytes.get(2)) else { return Ok(None) };
        let length = if function & 0x80 == 0 { usize::from(*count) + 3 } else { 3 };
        let (Some(covered), Some(tail)) = (bytes.get(..length), bytes.get(length..length + 2)) else { return Ok(None) };
        if tail != crc(covered).to_le_bytes() {
            return Err(Fault::Checksum("the CRC of the Modbus answer"));
        }
        self.registers(covered).map(Some)
    }

    /// `unit function count bytes…`
    fn registers(&self, answer: &[u8]) -> Result<Vec<u16>, Fault> {
        match answer {
            [unit, ..] if *unit != self.unit => Err(Fault::structure("an answer of another meter on the line")),
            [_, function, code, ..] if *function == self.function() | 0x80 => {
                Err(Fault::structure(format!("the meter refuses: {}", refusal(*code))))
            }
            [_, function, count, words @ ..]
                if *function == self.function()
                    && usize::from(*count) == words.len()
                    && words.len() == usize::from(self.count) * 2 =>
            {
                Ok(words.as_chunks::<2>().0.iter().map(|word| u16::from_be_bytes(*word)).collect())
            }
            _ => Err(Fault::structure("an answer that does not fit the request")),
        }
    }
}

fn refusal(code: u8) -> String {
    match code {
        1 => "it does not know the function (other table?)".into(),
        2 => "no such register (addresses are the number in the manual minus one)".into(),
        3 => "so many registers at once are too many".into(),
        4 => "it failed".into(),
        6 => "it is busy".into(),
        other => format!("code {other}"),
    }
}

/// CRC-16/MODBUS: as ARC, from FFFF.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request = Request { transaction: 7, unit: 1, table: Table::Input, address: 0x48, count: 2 };

    #[test]
    fn an_answer_must_fit_its_request() {
        assert_eq!(REQUEST.tcp(), [0, 7, 0, 0, 0, 6, 1, 4, 0, 0x48, 0, 2]);
        let answer = [0, 7, 0, 0, 0, 7, 1, 4, 4, 0x46, 0x40, 0xE6, 0];
        assert_eq!(REQUEST.tcp_answer(&answer), Ok(Some(vec![0x4640, 0xE600])));
        assert_eq!(REQUEST.tcp_answer(&answer[..9]), Ok(None));
        let late = Request { transaction: 8, ..REQUEST };
        assert!(late.tcp_answer(&answer).is_err());
        assert!(REQUEST.tcp_answer(&[0, 7, 0, 0, 0, 3, 1, 0x84, 2]).is_err());
    }

    #[test]
    fn the_serial_form_has_a_crc() {
        let request = REQUEST.rtu();
        let mut answer = vec![1, 4, 4, 0x46, 0x40, 0xE6, 0];
        answer.extend_from_slice(&crc(&answer).to_le_bytes());
        assert_eq!(request.len(), 8);
        assert_eq!(REQUEST.rtu_answer(&answer), Ok(Some(vec![0x4640, 0xE600])));
        answer[4] ^= 1;
        assert_eq!(REQUEST.rtu_answer(&answer), Err(Fault::Checksum("the CRC of the Modbus answer")));
    }
}
