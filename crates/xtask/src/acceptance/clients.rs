//! Clients that others wrote are a meter: they send readings and an event, receive a control and answer it. So are the samples of
//! `docs/howto/json-meter.md`, run as they stand on the page: each is disconnected and reconnected, and both are verified.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{run, tools};

/// Three feeders: four disconnections within an hour are more than one feeder is allowed.
const TOPOLOGY: &str = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n\
    F-1,,M-FEEDER,,,1,ABC,2026-01-01\n\
    F-1,,,U-MOSQUITTO,M-MOSQUITTO,1,A,2026-01-01\n\
    F-1,,,U-PAHO,M-PAHO,1,B,2026-01-01\n\
    F-2,,,,,1,ABC,2026-01-01\n\
    F-2,,,U-SHELL,M-SHELL,1,C,2026-01-01\n\
    F-2,,,U-PYTHON,M-PYTHON,1,A,2026-01-01\n\
    F-3,,,,,1,ABC,2026-01-01\n\
    F-3,,,U-ARDUINO,M-ARDUINO,1,A,2026-01-01\n";
/// Everything that is enrolled.
const METERS: [&str; 6] = ["M-MOSQUITTO", "M-PAHO", "M-SHELL", "M-PYTHON", "M-ARDUINO", "M-FEEDER"];
/// The page with the samples.
const HOWTO: &str = "docs/howto/json-meter.md";
/// How long a sample has to be heard, to obey, and to be read back.
const PATIENCE: Duration = Duration::from_secs(240);

/// Mosquitto's command-line clients (MQTT 3.1.1) and paho (MQTT 5).
pub fn run(_: &[&str]) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("gridtally-clients-{}", std::process::id()));
    let result = in_folder(&folder);
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn in_folder(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
    let server = TestServer::start(folder)?;
    if tools::present("mosquitto_pub") && tools::present("mosquitto_sub") {
        mosquitto(&server)?;
        println!("   mosquitto: readings stored, control received and answered");
        let script = sample(folder, "sh", "json-meter.sh")?;
        let mut shell = Command::new("sh");
        shell
            .arg(script)
            .args([&server.mqtt_host, "M-SHELL", &server.secret("M-SHELL")?])
            .env("PORT", &server.mqtt_port);
        as_on_the_page(&server, shell, ("M-SHELL", "U-SHELL"), "Verified")?;
        ended_with_its_listener("M-SHELL")?;
        println!("   the page's shell: values stored, disconnected and reconnected, both verified");
    } else {
        println!("   left out: mosquitto's clients are not installed");
    }
    if let Some(python) = tools::python_with(&["paho-mqtt"]) {
        paho(&server, &python)?;
        println!("   paho: readings stored, control received and answered");
        let script = sample(folder, "python", "json-meter.py")?;
        let mut program = Command::new(&python);
        program.arg(script).args([&server.mqtt_host, "M-PYTHON", &server.secret("M-PYTHON")?, &server.mqtt_port]);
        as_on_the_page(&server, program, ("M-PYTHON", "U-PYTHON"), "Verified")?;
        println!("   the page's Python: values stored, disconnected and reconnected, both verified");
    }
    match arduino(folder, &server.mqtt_host, &server.secret("M-ARDUINO")?)? {
        Some(mut sketch) => {
            sketch.env("PORT", &server.mqtt_port);
            as_on_the_page(&server, sketch, ("M-ARDUINO", "U-ARDUINO"), "Unseen")?;
            println!(
                "   the page's sketch on this computer: values stored, disconnected and reconnected, both unseen, as it declares"
            );
        }
        None => println!("   left out: the page's sketch needs a C++ compiler (g++) and libmosquitto-dev"),
    }
    esphome(folder)
}

/// The sketch, compiled for this computer over what stands in for the Arduino core and its two libraries, with the three words that
/// its user fills in.
fn arduino(folder: &Path, host: &str, secret: &str) -> Result<Option<Command>, String> {
    if !(tools::present("g++") && tools::present(tools::MOSQUITTO_HEADER)) {
        return Ok(None);
    }
    let sketch = sample(folder, "cpp", "sketch.cpp")?;
    let mut text = std::fs::read_to_string(&sketch).map_err(|e| e.to_string())?;
    let blanks =
        [("192.168.1.10", host), ("M-100", "M-ARDUINO"), ("the 64 digits that gridtally admin enrol printed", secret)];
    for (blank, filled) in blanks {
        let quoted = |word: &str| format!("\"{word}\"");
        if !text.contains(&quoted(blank)) {
            return Err(format!("the sketch of {HOWTO} has no {blank:?} to fill in"));
        }
        text = text.replace(&quoted(blank), &quoted(filled));
    }
    std::fs::write(&sketch, text).map_err(|e| e.to_string())?;
    let core = run::root().join("crates/xtask/src/acceptance/clients/arduino");
    let program = folder.join("sketch");
    let words = ["-std=c++17", "-Wall", "-DESP32", "-include", "Arduino.h", "-I"].map(PathBuf::from);
    let files = [core.clone(), sketch, core.join("main.cpp"), "-o".into(), program.clone(), "-lmosquitto".into()];
    let status = Command::new("g++").args(words).args(files).status().map_err(|e| format!("g++: {e}"))?;
    if !status.success() {
        return Err(format!("the sketch of {HOWTO} does not compile"));
    }
    Ok(Some(Command::new(program)))
}

/// ESPHome's own check of the page's configuration; compiling it needs a cross-compiler that is fetched from elsewhere.
fn esphome(folder: &Path) -> Result<(), String> {
    if !tools::present("esphome") {
        println!("   left out: the page's ESPHome configuration is checked where `esphome` is installed (PyPI)");
        return Ok(());
    }
    let file = sample(folder, "yaml", "m-100.yaml")?;
    let secrets = format!("wifi_ssid: network\nwifi_password: password\ngridtally_secret: {}\n", "0".repeat(64));
    std::fs::write(folder.join("secrets.yaml"), secrets).map_err(|e| e.to_string())?;
    run::output("esphome", &["-q", "config", &file.to_string_lossy()])?;
    let version = run::output("esphome", &["version"])?;
    println!(
        "   the page's ESPHome configuration is valid for ESPHome {}",
        version.trim().trim_start_matches("Version: ")
    );
    Ok(())
}

/// The one code block of a language on the page, in a file.
fn sample(folder: &Path, language: &str, name: &str) -> Result<PathBuf, String> {
    let page = std::fs::read_to_string(run::root().join(HOWTO)).map_err(|e| format!("{HOWTO}: {e}"))?;
    let file = folder.join(name);
    std::fs::write(&file, code_block(&page, language)?).map_err(|e| e.to_string())?;
    Ok(file)
}

/// The text between the fences of a language; an error unless there is exactly one.
fn code_block<'a>(page: &'a str, language: &str) -> Result<&'a str, String> {
    let fence = format!("\n```{language}\n");
    let mut blocks = page.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next());
    match (blocks.next(), blocks.next()) {
        (Some(block), None) => Ok(block),
        (None, _) => Err(format!("{HOWTO} has no block of {language}")),
        (Some(_), Some(_)) => Err(format!("{HOWTO} has several blocks of {language}: which is the sample?")),
    }
}

/// Runs a sample until its disconnection and its reconnection have ended as they must: verified, or unseen where the sample says that
/// it cannot sense its contact.
fn as_on_the_page(
    server: &TestServer,
    mut program: Command,
    (meter, usage_point): (&str, &str),
    ends: &str,
) -> Result<(), String> {
    let child = program.stdout(Stdio::null()).spawn().map_err(|e| format!("{program:?}: {e}"))?;
    let _running = Running(child);
    let deadline = Instant::now() + PATIENCE;
    // Its first values are there at once, not after a quarter of an hour.
    loop {
        let seen = server.rest("GET", &format!("/api/v1/meters/{meter}"), &Value::Null)?;
        if seen.to_string().contains("\"power_w\":720") {
            break;
        }
        if Instant::now() > deadline {
            return Err(format!("{meter} sent no values: {seen}"));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    for kind in ["disconnect", "reconnect"] {
        let id = server.order(usage_point, kind)?;
        server.await_state(id, &[ends])?;
    }
    Ok(())
}

/// A sample that was ended leaves nobody behind who listens in its name.
fn ended_with_its_listener(meter: &str) -> Result<(), String> {
    if !tools::present("pgrep") {
        return Ok(());
    }
    std::thread::sleep(Duration::from_millis(500));
    match run::output("pgrep", &["-f", &format!("{meter}-listens")]) {
        Ok(left) if !left.trim().is_empty() => Err(format!("{meter} was ended and left a listener: {}", left.trim())),
        _ => Ok(()),
    }
}

/// A sample; ended with what it has started when it goes out of scope.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The shell's sample ends its listener when it is asked to end, not when it is killed.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

struct TestServer {
    child: Child,
    http: String,
    mqtt_host: String,
    mqtt_port: String,
    token: String,
    secrets: Value,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl TestServer {
    fn start(folder: &Path) -> Result<Self, String> {
        let program = run::gridtally().to_string_lossy().into_owned();
        let data = folder.join("data").to_string_lossy().into_owned();
        let token =
            run::output(&program, &["admin", "token", "--name", "acceptance", "--data", &data])?.trim().to_owned();
        let csv = folder.join("zones.csv");
        std::fs::write(&csv, TOPOLOGY).map_err(|e| e.to_string())?;
        run::output(&program, &["admin", "import-topology", &csv.to_string_lossy(), "--data", &data])?;
        let secrets =
            run::output(&program, &[&["admin", "enrol"], &METERS[..], &["--json", "--data", &data]].concat())?;
        let mut child = Command::new(&program)
            .args(["serve", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--data", &data])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let out = child.stdout.take().ok_or("serve has no output")?;
        let mut lines = BufReader::new(out).lines();
        let mut next = |prefix: &str| -> Result<String, String> {
            let line = lines.next().ok_or("serve ended before it listened")?.map_err(|e| e.to_string())?;
            line.strip_prefix(prefix).map(str::to_owned).ok_or_else(|| format!("serve said {line:?}, not {prefix:?}"))
        };
        let http = next("console http://")?;
        let mqtt = next("meters mqtt://")?;
        std::thread::spawn(move || lines.for_each(drop));
        let (host, port) = mqtt.rsplit_once(':').ok_or("serve named no MQTT port")?;
        let secrets = serde_json::from_str(&secrets).map_err(|e| e.to_string())?;
        Ok(Self { child, http, mqtt_host: host.into(), mqtt_port: port.into(), token, secrets })
    }

    fn secret(&self, meter: &str) -> Result<String, String> {
        let meters = self.secrets["meters"].as_array().into_iter().flatten();
        let found = meters.filter(|m| m["meter"] == meter).find_map(|m| m["secret"].as_str());
        found.map(str::to_owned).ok_or_else(|| format!("{meter} was not enrolled"))
    }

    /// One REST call; a plain HTTP/1.1 request with the connection closed after it.
    fn rest(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(&self.http).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|e| e.to_string())?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.http,
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        if !head.starts_with("HTTP/1.1 2") {
            return Err(format!("{method} {path}: {} {body}", head.lines().next().unwrap_or_default()));
        }
        let json = match (body.find(['{', '[']), body.rfind(['}', ']'])) {
            (Some(from), Some(to)) => &body[from..=to],
            _ => "null",
        };
        serde_json::from_str(json).map_err(|e| format!("{method} {path}: {e}: {body}"))
    }

    /// Asks for a disconnection and returns the control's number.
    fn disconnect(&self, usage_point: &str) -> Result<u64, String> {
        self.order(usage_point, "disconnect")
    }

    /// Asks for a control of a kind and returns its number.
    fn order(&self, usage_point: &str, kind: &str) -> Result<u64, String> {
        let body = json!({ "usage_point": usage_point, "kind": kind, "reason": "acceptance" });
        let answer = self.rest("POST", "/api/v1/controls", &body)?;
        answer["id"].as_u64().ok_or_else(|| format!("no control id in {answer}"))
    }

    /// Waits until a control is in one of `states`.
    fn await_state(&self, id: u64, states: &[&str]) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let control = self.rest("GET", &format!("/api/v1/controls/{id}"), &Value::Null)?;
            let state = control["state"].as_str().unwrap_or_default().to_owned();
            if states.iter().any(|wanted| wanted.eq_ignore_ascii_case(&state)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("control {id} is {state}, not one of {states:?}"));
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

fn now_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn frame(meter: &str, seq: u64, kind: &str, body: Value) -> String {
    json!({ "v": 1, "meter": meter, "boot": 1, "seq": seq, kind: body }).to_string()
}

fn now_values(at: i64, control: u64) -> Value {
    json!({ "at": at, "voltage_mv": 230_000, "current_ma": 0, "power_w": 0, "load_voltage_mv": 0, "relay": "open", "import_wh": 1_200, "control": control })
}

fn mosquitto(server: &TestServer) -> Result<(), String> {
    let meter = "M-MOSQUITTO";
    let secret = server.secret(meter)?;
    let connect =
        ["-h", &server.mqtt_host, "-p", &server.mqtt_port, "-u", meter, "-P", &secret, "-q", "1"].map(str::to_owned);
    let publish = |kind: &str, payload: &str| -> Result<(), String> {
        let mut words: Vec<String> = connect.to_vec();
        words.extend([
            "-i".into(),
            format!("{meter}-pub"),
            "-t".into(),
            format!("gt/1/{meter}/up/{kind}"),
            "-m".into(),
            payload.into(),
        ]);
        run::output("mosquitto_pub", &words.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
    };
    let end = now_seconds() / 900 * 900;
    let record = json!({ "end": end, "import_wh": 1_200, "voltage_mv": 230_100, "current_ma": 4_100 });
    publish("profile", &frame(meter, 1, "profile", json!({ "minutes": 15, "records": [record] })))?;
    let stored =
        server.rest("GET", &format!("/api/v1/meters/{meter}/profile?from={}&to={end}", end - 900), &Value::Null)?;
    if !stored.to_string().contains("1200") {
        return Err(format!("the reading is not there: {stored}"));
    }
    let mut listener = Command::new("mosquitto_sub")
        .args(&connect)
        .args(["-i", meter, "-t", &format!("gt/1/{meter}/down/#"), "-W", "60"])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let out = listener.stdout.take().ok_or("mosquitto_sub has no output")?;
    let (sender, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let id = server.disconnect("U-MOSQUITTO")?;
    let result = answer_controls(&heard, id, |seq, kind, body| publish(kind, &frame(meter, seq, kind, body)));
    let ended = result.and_then(|()| server.await_state(id, &["Verified"]));
    let _ = listener.kill();
    let _ = listener.wait();
    ended
}

/// Plays the meter: snapshots are answered with values, the disconnect with a reply and an open contact.
fn answer_controls(
    heard: &std::sync::mpsc::Receiver<String>,
    id: u64,
    publish: impl Fn(u64, &str, Value) -> Result<(), String>,
) -> Result<(), String> {
    let (mut seq, mut disconnected) = (2, false);
    let mut read_back = false;
    while !read_back {
        let line = heard.recv_timeout(Duration::from_secs(45)).map_err(|_| "no control arrived".to_owned())?;
        let control: Value =
            serde_json::from_str(&line).map_err(|e| format!("a control that is not JSON: {e}: {line}"))?;
        let this = control["id"].as_u64().ok_or("a control without an id")?;
        let values = now_values(now_seconds(), this);
        if this == id {
            publish(seq, "reply", json!({ "control": id, "outcome": "done", "now": values }))?;
            disconnected = true;
        } else {
            publish(seq, "snapshot", values)?;
            read_back = disconnected;
        }
        seq += 1;
    }
    Ok(())
}

const PAHO_METER: &str = r#"
import json, queue, sys, time
import paho.mqtt.client as mqtt
host, port, meter, secret = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
heard, seq = queue.Queue(), 0
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=meter, protocol=mqtt.MQTTv5)
client.username_pw_set(meter, secret)
client.on_message = lambda c, u, m: heard.put(m.payload)
client.connect(host, port)
client.loop_start()
client.subscribe(f"gt/1/{meter}/down/#", qos=1)
def send(kind, body):
    global seq
    seq += 1
    frame = {"v": 1, "meter": meter, "boot": 1, "seq": seq, kind: body}
    client.publish(f"gt/1/{meter}/up/{kind}", json.dumps(frame), qos=1).wait_for_publish(20)
end = int(time.time()) // 900 * 900
send("profile", {"minutes": 15, "records": [{"end": end, "import_wh": 3400}]})
print("ready", flush=True)
switched = False
while True:
    control = json.loads(heard.get(timeout=45))
    values = {"at": int(time.time()), "voltage_mv": 230000, "current_ma": 0, "power_w": 0,
              "load_voltage_mv": 0, "relay": "open", "control": control["id"]}
    if control["kind"] == "disconnect":
        send("reply", {"control": control["id"], "outcome": "done", "now": values})
        switched = True
    else:
        send("snapshot", values)
        if switched:
            break
client.disconnect()
"#;

fn paho(server: &TestServer, python: &PathBuf) -> Result<(), String> {
    let meter = "M-PAHO";
    let mut client = Command::new(python)
        .args(["-c", PAHO_METER, &server.mqtt_host, &server.mqtt_port, meter, &server.secret(meter)?])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut line = String::new();
    let out = client.stdout.take().ok_or("paho has no output")?;
    BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
    if line.trim() != "ready" {
        let _ = client.wait();
        return Err("paho could not send its readings".into());
    }
    let id = server.disconnect("U-PAHO")?;
    let status = client.wait().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("paho ended with {status}"));
    }
    server.await_state(id, &["Verified"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_sample_of_each_language() {
        let page = std::fs::read_to_string(run::root().join(HOWTO)).expect("the page is there");
        for (language, has) in
            [("sh", "mosquitto_pub"), ("python", "snapshot_at"), ("cpp", "snapshot_at"), ("yaml", "snapshot_at")]
        {
            assert!(code_block(&page, language).expect("one block").contains(has), "{language}");
        }
        assert!(code_block("\n```sh\na\n```\n\n```sh\nb\n```\n", "sh").is_err(), "two");
    }
}
