//! Chromium behind a chromedriver of our own, and the running demo that it looks at: for pictures and for checks of the pages.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::run;

/// A busy machine takes minutes for what the demo shows within two.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at the page.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Ends its program when it goes out of scope.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running demo, the address that signs in, and the rest of what it says, line by line.
pub struct Demo {
    /// Ends it.
    pub running: Running,
    /// The address that signs in, once.
    pub link: String,
    /// What it says from then on.
    pub lines: std::sync::mpsc::Receiver<String>,
}

/// Starts the built demo.
pub fn demo(arguments: &[&str]) -> Result<Demo, String> {
    let mut child = Command::new(run::gridtally())
        .arg("demo")
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("the demo does not start: {e}; build it with `cargo build --release`"))?;
    let out = child.stdout.take().ok_or("the demo has no output")?;
    let running = Running(child);
    let mut lines = BufReader::new(out).lines().map_while(Result::ok);
    let link = lines.find_map(|line| line.strip_prefix("console").map(|rest| rest.trim().to_owned()));
    let link = link.ok_or("the demo ended before it printed its address")?;
    let (sender, said) = std::sync::mpsc::channel();
    // Read to the end, listened to or not: a demo whose words nobody takes would wait.
    std::thread::spawn(move || lines.for_each(|line| drop(sender.send(line))));
    Ok(Demo { running, link, lines: said })
}

/// Chromium behind a chromedriver of our own; the few WebDriver commands that pictures need.
pub struct Browser {
    _driver: Running,
    address: String,
    session: String,
}

impl Browser {
    /// Starts both; the profile is a folder of its own.
    pub fn start(profile: &Path) -> Result<Self, String> {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("chromedriver does not start: {e}; on Debian install chromium-driver"))?;
        let out = child.stdout.take().ok_or("chromedriver has no output")?;
        let driver = Running(child);
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            line.rsplit_once("successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        let address = format!("127.0.0.1:{}", port.ok_or("chromedriver said no port")?);
        let profile = format!("--user-data-dir={}", profile.display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1280,800",
            &profile,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        let begun = ask(&address, "POST", "/session", &wanted)?;
        let session = begun["sessionId"].as_str().ok_or("chromedriver began no session")?.to_owned();
        let browser = Self { _driver: driver, address, session };
        browser.size(1280, 800)?;
        Ok(browser)
    }

    /// Makes the page, not the window around it, so many pixels wide and high.
    pub fn size(&self, width: i64, height: i64) -> Result<(), String> {
        let script = json!({"script": "return [outerWidth - innerWidth, outerHeight - innerHeight]", "args": []});
        let frame = self.command("POST", "/execute/sync", &script)?;
        let side = |i: usize| frame[i].as_i64().unwrap_or(0);
        self.command("POST", "/window/rect", &json!({"width": width + side(0), "height": height + side(1)})).map(drop)
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        ask(&self.address, method, &format!("/session/{}{path}", self.session), body)
    }

    /// Runs a script in the page; what it returns.
    pub fn script(&self, script: &str) -> Result<Value, String> {
        self.command("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Runs a script that calls its last argument when it is done.
    pub fn script_until_done(&self, script: &str) -> Result<Value, String> {
        self.command("POST", "/execute/async", &json!({"script": script, "args": []}))
    }

    /// Opens one more window and looks at it; the windows before stay open.
    pub fn new_window(&self) -> Result<(), String> {
        let window = self.command("POST", "/window/new", &json!({"type": "window"}))?;
        let handle = window["handle"].as_str().ok_or("no window was opened")?;
        self.command("POST", "/window", &json!({"handle": handle})).map(drop)
    }

    /// Opens an address.
    pub fn goto(&self, url: &str) -> Result<(), String> {
        self.command("POST", "/url", &json!({"url": url})).map(drop)
    }

    /// The first element that fits, as soon as there is one.
    pub fn shown(&self, xpath: &str) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.command("POST", "/element", &json!({"using": "xpath", "value": xpath}));
            let element =
                found.as_ref().ok().and_then(Value::as_object).and_then(|o| o.values().next()).and_then(Value::as_str);
            match element {
                Some(element) => return Ok(element.to_owned()),
                None if Instant::now() > deadline => return Err(format!("not seen on the page: {xpath}")),
                None => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// Clicks an element.
    pub fn click(&self, element: &str) -> Result<(), String> {
        self.command("POST", &format!("/element/{element}/click"), &json!({})).map(drop)
    }

    /// Takes a picture of what is seen.
    pub fn picture(&self, file: &Path) -> Result<(), String> {
        let picture = self.command("GET", "/screenshot", &Value::Null)?;
        let bytes = from_base64(picture.as_str().ok_or("the browser took no picture")?);
        println!("   {}: {} kB", file.display(), bytes.len() / 1_000);
        fs::write(file, bytes).map_err(|e| format!("{}: {e}", file.display()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.command("DELETE", "", &Value::Null);
    }
}

/// One request to the driver; its `value`.
fn ask(address: &str, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(address).map_err(|e| format!("chromedriver: {e}"))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    // The driver keeps the connection open: the length says where its answer ends.
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).map_err(|e| e.to_string())?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(|_| format!("chromedriver said {line:?}"))?;
            }
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).map_err(|e| e.to_string())?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|e| format!("chromedriver: {e}"))?;
    match answer["value"]["error"].as_str() {
        Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
        None => Ok(answer["value"].clone()),
    }
}

/// Bytes of standard base64; what is not of its alphabet is skipped.
fn from_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_of_every_remainder() {
        for (text, bytes) in
            [("", &b""[..]), ("Zg==", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("+/+/", &[0xfb, 0xff, 0xbf])]
        {
            assert_eq!(super::from_base64(text), bytes);
        }
    }
}
