//! `gridtally meters serve-dlms`: a simulated meter that answers DLMS over TCP, in the wrapper or in HDLC frames.
//!
//! For clients of others, to be tried without a meter. The conversation is `telegrams::dlms::server`, the values are those of a meter core that runs;
//! here are the socket and the clock. One connection at a time, as a real meter has.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    time::Duration,
};

use metering::Timestamp;
use telegrams::{
    bytes::from_hex,
    cipher::Keys,
    dlms::{
        hdlc_link::{Event, Link, Role},
        objects::Objects,
        security::SystemTitle,
        server::{Access, Server},
    },
    framing::{
        Splitter,
        hdlc::{Frame, HdlcFraming},
        wrapper::{Wrapped, WrapperFraming},
    },
};

use super::{kept_counter::KeptCounter, simulated::Simulated};

/// What the meter is asked with.
#[derive(clap::Args)]
pub struct ServeDlmsArguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:4059")]
    pub listen: SocketAddr,
    /// Password of low level security; without one it is not offered.
    #[arg(long)]
    pub password: Option<String>,
    /// Global encryption key, 32 hexadecimal digits; without one HLS-GMAC is not offered.
    #[arg(long, requires = "counter_file")]
    pub key: Option<String>,
    /// Global authentication key, 32 hexadecimal digits.
    #[arg(long)]
    pub authentication_key: Option<String>,
    /// File that keeps the meter's invocation counter across restarts.
    #[arg(long)]
    pub counter_file: Option<PathBuf>,
    /// Who has approved that clients switch the contact; without a name it is refused.
    #[arg(long)]
    pub approved_by: Option<String>,
    /// Connections to serve before the command ends; without a number it serves on.
    #[arg(long)]
    pub connections: Option<u32>,
}

const TITLE: SystemTitle = *b"GTL\0\0\0\x47\x11";
/// A silent client is left after this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Serves until the given number of connections has ended.
pub fn run(arguments: &ServeDlmsArguments, now: &dyn Fn() -> Timestamp) -> Result<(), String> {
    let key = |text: &String| {
        from_hex(text).and_then(|bytes| bytes.try_into().ok()).ok_or("a key is 32 hexadecimal digits".to_owned())
    };
    let authentication = arguments.authentication_key.as_ref().map(key).transpose()?;
    let keys = arguments.key.as_ref().map(key).transpose()?.map(|encryption| Keys { encryption, authentication });
    let access =
        Access { public: true, password: arguments.password.as_ref().map(|text| text.clone().into_bytes()), keys };
    let kept = KeptCounter { file: arguments.counter_file.clone() };
    let meter = Simulated::new(now())?;
    let is_approved = arguments.approved_by.is_some();
    let mut objects = Objects::new(Vec::new(), meter.contact(is_approved));
    meter.refresh(&mut objects, now());
    let server = Server::new(objects, TITLE, access, kept.counter()?, None);
    let mut place = Place { server, meter, kept, is_approved, now };
    let listener = TcpListener::bind(arguments.listen).map_err(|why| format!("{}: {why}", arguments.listen))?;
    let address = listener.local_addr().map_err(|why| why.to_string())?;
    println!("a simulated meter answers DLMS on {address} (wrapper or HDLC, client 16, meter 1)");
    let mut left = arguments.connections;
    for stream in listener.incoming() {
        let outcome = stream.map_err(|why| why.to_string()).and_then(|stream| serve(stream, &mut place));
        if let Err(why) = outcome {
            eprintln!("connection: {why}");
        }
        place.server.disconnected();
        left = left.map(|count| count.saturating_sub(1));
        if left == Some(0) {
            break;
        }
    }
    Ok(())
}

/// The meter, its server and what they need.
struct Place<'a> {
    server: Server,
    meter: Simulated,
    kept: KeptCounter,
    is_approved: bool,
    now: &'a dyn Fn() -> Timestamp,
}

impl Place<'_> {
    /// Answers an APDU with the meter as it is now. What an ACTION asked of the contact goes to the meter's relay, and what the relay
    /// does is what is read back.
    fn answer(&mut self, apdu: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let now = (self.now)();
        self.kept.refill(self.server.counters().0)?;
        self.meter.catch_up(now);
        self.server.objects.disconnect = self.meter.contact(self.is_approved);
        self.meter.refresh(&mut self.server.objects, now);
        let before = self.server.objects.disconnect;
        let answer = self.server.answer(apdu, challenge()?);
        let after = self.server.objects.disconnect;
        if after != before {
            self.meter.switch(after.control != 0, now);
        }
        Ok(answer)
    }
}

fn serve(mut stream: TcpStream, place: &mut Place<'_>) -> Result<(), String> {
    let told = |why: std::io::Error| why.to_string();
    stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    let (mut wrapper, mut hdlc) = (Splitter::new(WrapperFraming), Splitter::new(HdlcFraming));
    let mut link = Link::new(Role::Meter, &[3], &[]);
    let (mut buffer, mut is_hdlc) = ([0; 2048], None);
    loop {
        let count = stream.read(&mut buffer).map_err(told)?;
        if count == 0 {
            return Ok(());
        }
        let bytes = &buffer[..count];
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let mut sink = |frame: Result<&[u8], telegrams::Fault>| frames.extend(frame.ok().map(<[u8]>::to_vec));
        if *is_hdlc.get_or_insert(bytes[0] == 0x7E) {
            hdlc.push(bytes, &mut sink);
        } else {
            wrapper.push(bytes, &mut sink);
        }
        for frame in frames {
            let answer = if is_hdlc == Some(true) {
                hdlc_answer(&frame, &mut link, place)?
            } else {
                wrapped_answer(&frame, place)?
            };
            stream.write_all(&answer).map_err(told)?;
        }
    }
}

fn challenge() -> Result<[u8; 16], String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|why| why.to_string())?;
    Ok(bytes)
}

fn wrapped_answer(frame: &[u8], place: &mut Place<'_>) -> Result<Vec<u8>, String> {
    let Some(wrapped) = Wrapped::parse(frame) else { return Ok(Vec::new()) };
    let Some(apdu) = place.answer(wrapped.apdu)? else { return Ok(Vec::new()) };
    let answer = Wrapped { source: wrapped.destination, destination: wrapped.source, apdu: &apdu };
    answer.encode().ok_or_else(|| "an answer that is too long".into())
}

fn hdlc_answer(bytes: &[u8], link: &mut Link, place: &mut Place<'_>) -> Result<Vec<u8>, String> {
    let told = |why: telegrams::Fault| why.to_string();
    let frame = Frame::parse(bytes.get(1..).unwrap_or_default()).map_err(told)?;
    Ok(match link.take(&frame).map_err(told)? {
        Event::Send(bytes) => bytes,
        Event::Closed(bytes) => {
            place.server.disconnected();
            bytes
        }
        Event::Apdu(apdu) => match place.answer(&apdu)? {
            Some(answer) => link.send(&answer),
            None => Vec::new(),
        },
        Event::Connected | Event::Nothing => Vec::new(),
    })
}
