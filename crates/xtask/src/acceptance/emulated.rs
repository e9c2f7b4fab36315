//! A whole meter on an emulated microcontroller speaks to the real server, and everything goes wrong between them: the server is
//! killed, the line is cut, bytes change, acknowledgements are lost. Every record must be there once, with the registers the meter
//! has.
//!
//! The bridge between the emulated UART and HTTP is what a serial gateway would be: it keeps nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use meter::serial::{Decoder, Message};
use metering::{Down, Frame, frame::Config};
use serde_json::Value;

use crate::{qemu, run, tools};

const METER: &str = "M-QEMU";
const START: i64 = 1_772_409_600;
const TOPOLOGY: &str = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n\
    F-1,,M-FEEDER,,,1,ABC,2026-01-01\n\
    F-1,,,U-QEMU,M-QEMU,1,A,2026-01-01\n";
/// The server is killed when so many frames have been posted.
const KILLS: [u64; 3] = [50, 140, 260];
/// The line is cut after so many frames, again and again.
const FRAMES_PER_LINE: u64 = 80;
/// One byte in so many changes on its way, one acknowledgement in so many is lost.
const DAMAGE: u64 = 2_000;
const LOST_ACKNOWLEDGEMENTS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(420);

/// Runs the whole.
pub fn run(_: &[&str]) -> Result<(), String> {
    if !tools::install_emulator() {
        println!("   left out: no qemu-system-riscv32 with a compiler for it");
        return Ok(());
    }
    let image = qemu::image("emulated-meter")?;
    println!("   image of the whole meter: {} bytes of code and constants", qemu::flash_bytes(&image)?);
    let folder = std::env::temp_dir().join(format!("gridtally-emulated-{}", std::process::id()));
    let result = std::fs::create_dir_all(&folder).map_err(|e| e.to_string()).and_then(|()| in_folder(&folder, &image));
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn in_folder(folder: &Path, image: &Path) -> Result<(), String> {
    let server = Arc::new(Server::prepare(folder)?);
    server.start()?;
    let line = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let port = line.local_addr().map_err(|e| e.to_string())?.port();
    let begun = Instant::now();
    let mut emulator = Emulator::start(image, port)?;
    let stop = Arc::new(AtomicBool::new(false));
    let bridge = std::thread::spawn({
        let (server, stop) = (server.clone(), stop.clone());
        move || Bridge::new(server).serve(&line, &stop)
    });
    let printed = emulator.finish();
    stop.store(true, Ordering::SeqCst);
    let bridged = bridge.join().map_err(|_| "the bridge panicked".to_owned())?;
    println!("   {:.0} s: {bridged:?}", begun.elapsed().as_secs_f64());
    let printed = printed?;
    println!("   the meter: {}", printed.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", "));
    check(&server, &bridged, &printed)
}

/// Every record once, and the registers of the meter.
fn check(server: &Server, bridged: &Bridged, printed: &BTreeMap<String, u64>) -> Result<(), String> {
    let made = |name: &str| printed.get(name).copied().ok_or_else(|| format!("the meter printed no {name}"));
    let (records, last) = (made("records")?, i64::try_from(made("last")?).unwrap_or(0));
    if bridged.refused > 0 || bridged.kills < 3 || bridged.cuts == 0 || bridged.damaged == 0 {
        return Err(format!("not everything was tried, or the server refused a frame: {bridged:?}"));
    }
    let taken = u64::try_from(bridged.taken.len()).unwrap_or(0);
    if taken != made("frames")? {
        return Err(format!("the meter made {} frames, the server took {taken}", made("frames")?));
    }
    let (mut ends, mut import) = (BTreeSet::new(), 0);
    let mut from = START;
    while from < last {
        let to = (from + 86_400).min(last);
        let profile = server.get(&format!("/api/v1/meters/{METER}/profile?from={from}&to={to}"))?;
        for row in profile["rows"].as_array().into_iter().flatten() {
            let (end, register) = (row["end"].as_i64().unwrap_or(0), row["import_wh"].as_u64().unwrap_or(0));
            if !ends.insert(end) || register < import {
                return Err(format!("interval {end} came twice, or its register {register} lies below {import}"));
            }
            import = register;
        }
        from = to;
    }
    let expected = u64::try_from((last - START) / 900).unwrap_or(0);
    let stored = u64::try_from(ends.len()).unwrap_or(0);
    if stored != records || stored != expected || import != made("import_wh")? {
        return Err(format!(
            "{stored} intervals stored, {records} made, {expected} fit the time; register {import}, the meter has {}",
            made("import_wh")?
        ));
    }
    println!("   {stored} intervals stored once each, register {import} Wh as in the meter");
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The real server on a folder of its own; killed without warning, started again on the same port.
struct Server {
    child: Mutex<Option<Child>>,
    data: String,
    address: String,
    token: String,
    basic: String,
}

impl Server {
    fn prepare(folder: &Path) -> Result<Self, String> {
        let program = run::gridtally().to_string_lossy().into_owned();
        let data = folder.join("data").to_string_lossy().into_owned();
        let token = run::output(&program, &["admin", "token", "--name", "acceptance", "--data", &data])?;
        let csv = folder.join("zones.csv");
        std::fs::write(&csv, TOPOLOGY).map_err(|e| e.to_string())?;
        run::output(&program, &["admin", "import-topology", &csv.to_string_lossy(), "--data", &data])?;
        let enrolled = run::output(&program, &["admin", "enrol", METER, "--json", "--data", &data])?;
        let enrolled: Value = serde_json::from_str(&enrolled).map_err(|e| e.to_string())?;
        let secret = enrolled["meters"][0]["secret"].as_str().ok_or("the meter was not enrolled")?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(|e| e.to_string())?;
        Ok(Self {
            child: Mutex::default(),
            data,
            address: free.to_string(),
            token: token.trim().to_owned(),
            basic: base64(format!("{METER}:{secret}").as_bytes()),
        })
    }

    fn start(&self) -> Result<(), String> {
        let mut child = Command::new(run::gridtally())
            .args(["serve", "--http", &self.address, "--mqtt", "127.0.0.1:0", "--data", &self.data])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let out = child.stdout.take().ok_or("serve has no output")?;
        *lock(&self.child) = Some(child);
        let mut lines = BufReader::new(out).lines();
        let first = lines.next().ok_or("serve ended before it listened")?.map_err(|e| e.to_string())?;
        std::thread::spawn(move || lines.for_each(drop));
        if first.starts_with("console ") { Ok(()) } else { Err(format!("serve said {first:?}")) }
    }

    fn kill(&self) {
        if let Some(mut child) = lock(&self.child).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// One plain HTTP/1.1 request; status and body.
    fn request(&self, head: &str, kind: &str, body: &[u8]) -> Result<(u16, String), String> {
        let mut stream = TcpStream::connect(&self.address).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(|e| e.to_string())?;
        let request = format!(
            "{head}\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).and_then(|()| stream.write_all(body)).map_err(|e| e.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
        let status = answer.split_whitespace().nth(1).and_then(|s| s.parse().ok()).ok_or("no answer")?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let json = body.find('{').zip(body.rfind('}')).map_or("", |(from, to)| &body[from..=to]);
        Ok((status, json.to_owned()))
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let head = format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {}", self.token);
        let (status, body) = self.request(&head, "application/json", b"")?;
        if status != 200 {
            return Err(format!("GET {path}: {status} {body}"));
        }
        serde_json::from_str(&body).map_err(|e| format!("GET {path}: {e}"))
    }

    /// Hands a frame over; what became of it.
    fn post(&self, frame: &[u8]) -> Result<String, String> {
        let head = format!("POST /api/v1/readings HTTP/1.1\r\nAuthorization: Basic {}", self.basic);
        let (status, body) = self.request(&head, "application/cbor", frame)?;
        let answer: Value = serde_json::from_str(&body).map_err(|e| format!("{status}: {e}"))?;
        answer["results"][0]["outcome"].as_str().map(str::to_owned).ok_or_else(|| format!("{status}: {body}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The emulator; ended when it is dropped.
struct Emulator(Child);

impl Emulator {
    fn start(image: &Path, port: u16) -> Result<Self, String> {
        let line = format!("socket,id=line,host=127.0.0.1,port={port},reconnect=1");
        let child = Command::new("qemu-system-riscv32")
            .args(["-M", "virt", "-bios", "none", "-display", "none", "-monitor", "none", "-chardev", &line])
            .args(["-serial", "chardev:line", "-semihosting-config", "enable=on,target=native", "-kernel"])
            .arg(image)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("qemu-system-riscv32 does not start: {e}"))?;
        Ok(Self(child))
    }

    /// Waits for its end and reads what it printed: lines of a name and a number.
    fn finish(&mut self) -> Result<BTreeMap<String, u64>, String> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.0.try_wait().map_err(|e| e.to_string())? {
                break status;
            }
            if Instant::now() > deadline {
                return Err(format!("the emulated meter has not ended after {} s", PATIENCE.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let mut text = String::new();
        self.0.stdout.take().ok_or("no output")?.read_to_string(&mut text).map_err(|e| e.to_string())?;
        if !status.success() {
            return Err(format!("the emulated meter failed ({status}): {text}"));
        }
        let number = |line: &str| line.split_once(' ').and_then(|(k, v)| Some((k.to_owned(), v.trim().parse().ok()?)));
        Ok(text.lines().filter_map(number).collect())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the bridge has seen and done.
#[derive(Default)]
struct Bridged {
    posts: u64,
    duplicates: u64,
    refused: u64,
    unanswered: u64,
    /// Why the server did not answer last.
    last_error: String,
    damaged: u64,
    cuts: u64,
    kills: u64,
    lines: u64,
    /// Boot and sequence of every frame the server has taken.
    taken: BTreeSet<(u64, u64)>,
}

impl std::fmt::Debug for Bridged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} frames taken in {} posts ({} again, {} unanswered, the last for {:?}, {} refused); {} bytes damaged, {} lines cut, {} kills, {} lines",
            self.taken.len(),
            self.posts,
            self.duplicates,
            self.unanswered,
            self.last_error,
            self.refused,
            self.damaged,
            self.cuts,
            self.kills,
            self.lines
        )
    }
}

struct Bridge {
    server: Arc<Server>,
    seen: Bridged,
    random: u64,
}

impl Bridge {
    fn new(server: Arc<Server>) -> Self {
        Self { server, seen: Bridged::default(), random: 0x2545_f491_4f6c_dd1d }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    /// Takes one line after the other until the emulator has ended.
    fn serve(mut self, line: &TcpListener, stop: &AtomicBool) -> Bridged {
        let _ = line.set_nonblocking(true);
        while !stop.load(Ordering::SeqCst) {
            match line.accept() {
                Ok((stream, _)) => {
                    self.seen.lines += 1;
                    if self.carry(stream, stop).is_err() {
                        self.seen.cuts += 1;
                    }
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        self.seen
    }

    /// One line, until it is cut or its other end is gone.
    fn carry(&mut self, mut stream: TcpStream, stop: &AtomicBool) -> Result<(), std::io::Error> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        let settings = Config { version: 1, close_without_button: Some(false), ..Config::default() };
        self.tell(&mut stream, &Message::Down(Down::Config(settings)))?;
        let (mut decoder, mut frames, mut bytes) = (Decoder::default(), 0, [0; 4_096]);
        while !stop.load(Ordering::SeqCst) {
            let count = match stream.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    decoder.give_up();
                    0
                }
                Err(e) => return Err(e),
            };
            self.damage(&mut bytes[..count]);
            decoder.push(&bytes[..count]);
            while let Some(message) = decoder.next_message() {
                let Message::Up { id, payload, .. } = message else { continue };
                let is_stored = self.hand_over(&payload);
                if is_stored && self.below(LOST_ACKNOWLEDGEMENTS) > 0 {
                    self.tell(&mut stream, &Message::Acknowledge(id))?;
                }
                frames += 1;
                if frames > FRAMES_PER_LINE {
                    return Err(std::io::Error::other("cut"));
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, stream: &mut TcpStream, message: &Message) -> Result<(), std::io::Error> {
        let mut bytes = message.encode();
        self.damage(&mut bytes);
        stream.write_all(&bytes)
    }

    fn damage(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.below(DAMAGE) == 0 {
                *byte ^= 1 << self.below(8);
                self.seen.damaged += 1;
            }
        }
    }

    /// Whether the server has the frame for good.
    fn hand_over(&mut self, payload: &[u8]) -> bool {
        self.seen.posts += 1;
        let kills = usize::try_from(self.seen.kills).unwrap_or(usize::MAX);
        let is_time = KILLS.get(kills).is_some_and(|at| self.seen.posts >= *at);
        let outcome = if is_time { self.post_and_kill(payload) } else { self.server.post(payload) };
        match outcome.as_deref() {
            Ok(word @ ("stored" | "duplicate")) => {
                self.seen.duplicates += u64::from(word == "duplicate");
                if let Ok(frame) = Frame::from_cbor(payload) {
                    self.seen.taken.insert((frame.boot, frame.seq));
                }
                true
            }
            Ok(_) => {
                self.seen.refused += 1;
                true
            }
            Err(why) => {
                self.seen.unanswered += 1;
                self.seen.last_error.clone_from(why);
                false
            }
        }
    }
}

impl Bridge {
    /// Kills the server while a frame is on its way into it (it may be stored and never answered), and starts it again.
    fn post_and_kill(&mut self, payload: &[u8]) -> Result<String, String> {
        self.seen.kills += 1;
        let wait = Duration::from_micros(200 + self.below(6_000));
        let server = self.server.clone();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(wait);
            server.kill();
        });
        let outcome = self.server.post(payload);
        let _ = killer.join();
        if let Err(why) = self.server.start() {
            println!("   the server does not start again: {why}");
        }
        outcome
    }
}

/// Base64 (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain(&[0, 0]).take(3).fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
        for place in 0..4 {
            let digit = usize::try_from(group >> (18 - 6 * place) & 63).unwrap_or(0);
            text.push(if place <= chunk.len() { char::from(DIGITS[digit]) } else { '=' });
        }
    }
    text
}
