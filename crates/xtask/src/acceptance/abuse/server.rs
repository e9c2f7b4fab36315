//! A server of its own for each attempt, and a caller that speaks HTTP by hand, so that it can also stop in the middle.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::run;

/// Longest wait for an answer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The product, serving.
pub struct TestServer {
    child: Child,
    pub http: String,
    pub mqtt: String,
    pub data: PathBuf,
    pub token: String,
    /// The set-up link, when there was nobody.
    pub set_up: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary.
pub fn program() -> String {
    std::env::var("GRIDTALLY").unwrap_or_else(|_| run::gridtally().to_string_lossy().into_owned())
}

/// Runs a command of the product; its standard output, or what it said.
pub fn gridtally(arguments: &[&str]) -> Result<String, String> {
    run::output(&program(), arguments)
}

impl TestServer {
    /// Starts on free ports, with a token of an operator.
    pub fn start(folder: &Path) -> Result<Self, String> {
        Self::start_with(folder, "")
    }

    /// As [`TestServer::start`], with lines of configuration.
    pub fn start_with(folder: &Path, configuration: &str) -> Result<Self, String> {
        let data = folder.join("data");
        let at = data.to_string_lossy().into_owned();
        let token = gridtally(&["admin", "token", "--name", "acceptance", "--data", &at])?.trim().to_owned();
        let config = folder.join("gridtally.toml");
        std::fs::write(&config, configuration).map_err(|e| e.to_string())?;
        let log = std::fs::File::create(folder.join("log")).map_err(|e| e.to_string())?;
        let mut child = Command::new(program())
            .args(["serve", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--data", &at])
            .args(["--config", &config.to_string_lossy()])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| e.to_string())?;
        let out = child.stdout.take().ok_or("serve has no output")?;
        let mut lines = BufReader::new(out).lines();
        let mut next = || lines.next().and_then(Result::ok).ok_or("serve ended before it listened");
        let console = next()?;
        let http = match console.strip_prefix("console http://") {
            Some(http) => http.to_owned(),
            None => listening(child.id())?,
        };
        let mqtt = next()?.strip_prefix("meters mqtt://").ok_or("no MQTT address")?.to_owned();
        let set_up = next()?.split("token=").nth(1).map(str::to_owned);
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, http, mqtt, data, token, set_up })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as an operator would, and waits.
    pub fn stop(&mut self) -> Result<Duration, String> {
        let begun = Instant::now();
        run::output("kill", &["-TERM", &self.pid().to_string()])?;
        self.child.wait().map_err(|e| e.to_string())?;
        Ok(begun.elapsed())
    }

    /// A connection with nothing said.
    pub fn connect(&self) -> Result<TcpStream, String> {
        connect(&self.http)
    }

    /// One request, with the header lines given, and its answer.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer, String> {
        let mut stream = self.connect()?;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request.push_str("Host: localhost\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body);
        // What is refused unread may break the writing; the answer counts.
        let _ = stream.write_all(request.as_bytes());
        answer(&mut stream)
    }

    /// As the program with the token.
    pub fn rest(&self, method: &str, path: &str, body: &Value) -> Result<Answer, String> {
        let bearer = format!("Bearer {}", self.token);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, path, &[("Authorization", &bearer), ("Content-Type", "application/json")], &body)
    }

    /// As [`TestServer::rest`]; another answer than 2xx is an error.
    pub fn must(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let answer = self.rest(method, path, body)?;
        match answer.status {
            200..=299 => Ok(answer.json()),
            status => Err(format!("{method} {path}: {status} {}", answer.body)),
        }
    }

    /// Imports rows of the register.
    pub fn import(&self, rows: &str) -> Result<Answer, String> {
        let header = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from,never_disconnect\n";
        let bearer = format!("Bearer {}", self.token);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/csv")];
        self.ask("POST", "/api/v1/topology", &headers, &format!("{header}{rows}"))
    }

    /// Secrets of meters, in their order.
    pub fn enrol(&self, meters: &[&str]) -> Result<Vec<String>, String> {
        let made = self.must("POST", "/api/v1/meters", &json!({ "meters": meters }))?;
        let secrets = made["meters"].as_array().into_iter().flatten().filter_map(|m| m["secret"].as_str());
        Ok(secrets.map(str::to_owned).collect())
    }

    /// Posts a form as whoever has the cookie.
    pub fn form(&self, path: &str, cookie: Option<&str>, body: &str) -> Result<Answer, String> {
        let mut headers = vec![("Content-Type", "application/x-www-form-urlencoded")];
        headers.extend(cookie.map(|cookie| ("Cookie", cookie)));
        self.ask("POST", path, &headers, body)
    }

    /// Makes a person who has changed the first password; the session's cookie.
    pub fn person(&self, name: &str, role: &str, usage_point: Option<&str>) -> Result<String, String> {
        let first = "quiet river stones";
        let body = json!({ "name": name, "role": role, "usage_point": usage_point, "password": first });
        self.must("POST", "/api/v1/people", &body)?;
        let signed_in = self.sign_in(name, "quiet+river+stones")?;
        let own = password(name);
        let body = format!("old=quiet+river+stones&new={own}&again={own}");
        let changed = self.form("/password", Some(&signed_in), &body)?;
        changed.cookie().ok_or_else(|| format!("the first password is not changed: {changed:?}"))
    }

    /// The cookie of a new session.
    pub fn sign_in(&self, name: &str, password: &str) -> Result<String, String> {
        let answer = self.form("/sign-in", None, &format!("name={name}&password={password}"))?;
        answer.cookie().ok_or_else(|| format!("{name} is not let in: {} {}", answer.status, answer.body))
    }

    /// The state of a command.
    pub fn state_of(&self, control: u64) -> Result<String, String> {
        let control = self.must("GET", &format!("/api/v1/controls/{control}"), &Value::Null)?;
        Ok(control["state"].as_str().unwrap_or_default().to_lowercase())
    }
}

/// The password that a person of the tests chooses, as a form sends it.
pub fn password(name: &str) -> String {
    format!("{name}+likes+four+words")
}

/// Where a process listens by TCP first, read from the system: behind a proxy the server prints another address.
fn listening(pid: u32) -> Result<String, String> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .map_err(|e| e.to_string())?
        .flatten()
        .filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned()))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).map_err(|e| e.to_string())?;
    let ports = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_ours =
            words.get(3) == Some(&"0A") && words.get(9).is_some_and(|inode| sockets.iter().any(|s| s == inode));
        is_ours.then(|| u16::from_str_radix(words[1].rsplit(':').next()?, 16).ok()).flatten()
    });
    for port in ports {
        let address = format!("127.0.0.1:{port}");
        let mut stream = connect(&address)?;
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        if answer(&mut stream).is_ok() {
            return Ok(address);
        }
    }
    Err("serve listens nowhere by HTTP".to_owned())
}

/// Connects, with a limit on every reading and writing.
pub fn connect(address: &str) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).map_err(|e| format!("{address}: {e}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    Ok(stream)
}

/// Reads an answer to its end.
pub fn answer(stream: &mut TcpStream) -> Result<Answer, String> {
    let mut bytes = Vec::new();
    // A connection that is broken off after the answer has still answered.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status")?;
    Ok(Answer { status, head: head.to_owned(), body: unchunked(head, body) })
}

fn unchunked(head: &str, body: &str) -> String {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut rest, mut whole) = (body, String::new());
    while let Some((length, after)) = rest.split_once("\r\n") {
        let Ok(length) = usize::from_str_radix(length.trim(), 16) else { break };
        let Some(chunk) = after.get(..length).filter(|chunk| !chunk.is_empty()) else { break };
        whole.push_str(chunk);
        rest = after.get(length + 2..).unwrap_or_default();
    }
    whole
}

impl Answer {
    /// The body; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// A header line.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The session of a sign-in that succeeded.
    pub fn cookie(&self) -> Option<String> {
        let cookie = self.header("set-cookie")?.split(';').next()?;
        (self.status == 303 && !cookie.ends_with('=')).then(|| cookie.to_owned())
    }
}

/// Basic authentication.
pub fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("Basic ");
    for group in format!("{user}:{password}").as_bytes().chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let value = usize::try_from(bits >> (18 - 6 * digit) & 63).unwrap_or_default();
            text.push(if digit > group.len() { '=' } else { char::from(DIGITS[value]) });
        }
    }
    text
}

/// A JSON frame.
pub fn frame(meter: &str, seq: u64, kind: &str, body: &Value) -> String {
    json!({ "v": 1, "meter": meter, "boot": 1, "seq": seq, kind: body }).to_string()
}

/// The machine's time.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Asks again until it holds, or the time is over.
pub fn within(limit: Duration, mut holds: impl FnMut() -> Result<bool, String>) -> Result<bool, String> {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if holds()? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(false)
}
