//! A home on the emulated microcontroller compares with its neighbours: their signed sums go in over the serial line, and what it
//! finds must be what the host finds.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use meter::{
    golden::{Home, MINUTES, Street, end_of},
    serial::{Decoder, Message},
};
use metering::{Down, frame::TimeFrame};

use super::{emulator, image, lines};

/// How long the run may take; it takes seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs both and compares lines and datagrams.
pub fn run() -> Result<(), String> {
    let image = image("neighbour")?;
    let (heard, expected) = host().ok_or("the golden run has no valid names")?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let serial = format!("tcp:127.0.0.1:{port}");
    let child = emulator(&image).args(["-serial", &serial]).stdout(Stdio::piped()).spawn();
    let mut emulated = Emulated(child.map_err(|e| format!("qemu-system-riscv32 does not start: {e}"))?);
    let mut line = emulated.connected(&listener)?;
    line.write_all(&heard).map_err(|e| format!("the emulator's line: {e}"))?;
    let datagrams = emulated.until_closed(&mut line)?;
    let text = emulated.printed()?;
    let found = lines(&text, "local");
    if found != expected.lines || datagrams != expected.datagrams {
        return Err(format!(
            "neighbours: host and emulation differ\nhost:\n{}\nemulation:\n{text}",
            expected.lines.join("\n")
        ));
    }
    let flagged = found.iter().filter(|line| line.contains("event 1013")).count();
    if flagged != 1 {
        return Err(format!("neighbours: the discrepancy was flagged {flagged} times:\n{text}"));
    }
    println!(
        "   {MINUTES} minutes of comparing with neighbours are equal on host and emulation; the discrepancy was flagged"
    );
    Ok(())
}

struct Expected {
    lines: Vec<String>,
    datagrams: Vec<Vec<u8>>,
}

/// The host's run: what the home hears, as bytes on the line, and what it must say and find.
fn host() -> Option<(Vec<u8>, Expected)> {
    let (mut home, mut street) = (Home::new()?, Street::new()?);
    let mut line = Vec::new();
    let mut expected = Expected { lines: Vec::new(), datagrams: Vec::new() };
    for minute in 1..=MINUTES {
        let said = street.say();
        let (datagram, found) = home.minute(&said);
        line.extend(said.into_iter().flat_map(|bytes| Message::Neighbour(bytes).encode()));
        line.extend(Message::Down(Down::Time(TimeFrame::unsigned(end_of(minute)))).encode());
        expected.lines.push(found);
        expected.datagrams.push(datagram);
    }
    expected.lines.push(home.waiting());
    Some((line, expected))
}

/// The emulator; ended when it is dropped.
struct Emulated(Child);

impl Emulated {
    /// The emulator's end of the serial line.
    fn connected(&mut self, listener: &TcpListener) -> Result<TcpStream, String> {
        listener.set_nonblocking(true).map_err(|e| e.to_string())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(|e| e.to_string())?;
                    return Ok(stream);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e.to_string()),
            }
            if self.0.try_wait().map_err(|e| e.to_string())?.is_some() || Instant::now() > deadline {
                return Err("the emulator did not open its serial line".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The datagrams that the home says until the emulator ends.
    fn until_closed(&mut self, line: &mut TcpStream) -> Result<Vec<Vec<u8>>, String> {
        let deadline = Instant::now() + PATIENCE;
        line.set_read_timeout(Some(Duration::from_millis(200))).map_err(|e| e.to_string())?;
        let (mut decoder, mut bytes, mut datagrams) = (Decoder::default(), [0; 4_096], Vec::new());
        loop {
            match line.read(&mut bytes) {
                Ok(0) => return Ok(datagrams),
                Ok(count) => decoder.push(&bytes[..count]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(datagrams),
                Err(e) => return Err(e.to_string()),
            }
            while let Some(message) = decoder.next_message() {
                if let Message::Neighbour(datagram) = message {
                    datagrams.push(datagram);
                }
            }
            if Instant::now() > deadline {
                return Err(format!("the emulated home said {} of {MINUTES} minutes in time", datagrams.len()));
            }
        }
    }

    fn printed(mut self) -> Result<String, String> {
        let mut text = String::new();
        let status = self.0.wait().map_err(|e| e.to_string())?;
        self.0.stdout.take().ok_or("no output")?.read_to_string(&mut text).map_err(|e| e.to_string())?;
        if status.success() { Ok(text) } else { Err(format!("the emulated home failed ({status}): {text}")) }
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
