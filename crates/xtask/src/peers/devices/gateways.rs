//! Who connects to our listener for others: a bridge of mosquitto as it is by default, and the SDK of ThingsBoard.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::dlms::{Running, wait_for};
use crate::{run, tools};

const SDK: &str = include_str!("../thingsboard_client.py");
const TOPOLOGY: &str = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n\
    F-1,,M-FEEDER,,,1,ABC,2026-01-01\n\
    F-1,,,U-1,M-1,1,A,2026-01-01\n\
    F-1,,,U-2,M-2,1,B,2026-01-01\n";
/// A secret of the gateway, and the SHA-256 of its bytes.
const SECRET: &str = "4747474747474747474747474747474747474747474747474747474747474747";
const SECRET_SHA256: &str = "ebec2554dbc09345eccdeea2246d08bc4f9a1d396b77e7e40512b71602738145";

/// Both, on one server.
pub fn run(python: &str, gridtally: &str, work: &Path) -> Result<(), String> {
    let folder = work.join("gateways");
    // What an earlier run has left.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|why| why.to_string())?;
    let data = folder.join("data").display().to_string();
    let zones = folder.join("zones.csv");
    fs::write(&zones, TOPOLOGY).map_err(|why| why.to_string())?;
    // The first thing makes the data directory.
    run::output(gridtally, &["admin", "token", "--name", "peers", "--data", &data])?;
    run::output(gridtally, &["admin", "import-topology", &zones.display().to_string(), "--data", &data])?;
    let secrets = run::output(gridtally, &["admin", "enrol", "M-1", "M-2", "M-FEEDER", "--json", "--data", &data])?;
    let secrets: Value = serde_json::from_str(&secrets).map_err(|why| why.to_string())?;
    let config = folder.join("gridtally.toml");
    let gateway = format!(
        "[[mqtt.gateway]]\nname = \"site-1\"\nsecret_sha256 = \"{SECRET_SHA256}\"\nmeters = [\"M-1\", \"M-2\"]\n"
    );
    fs::write(&config, gateway).map_err(|why| why.to_string())?;
    let server = Command::new(gridtally)
        .args(["serve", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--data", &data, "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut server = Running(server.map_err(|why| why.to_string())?);
    let mut lines = BufReader::new(server.0.stdout.take().ok_or("serve has no output")?).lines();
    let mqtt =
        lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix("meters mqtt://").map(String::from));
    let mqtt = mqtt.ok_or("serve ended before it listened")?;
    std::thread::spawn(move || lines.for_each(drop));
    let (host, port) = mqtt.rsplit_once(':').ok_or("serve named no port")?;
    println!("\nwho speaks for others");
    bridge((host, port), &folder)?;
    let meters = secrets["meters"].as_array().into_iter().flatten();
    let secret =
        meters.filter(|m| m["meter"] == "M-1").find_map(|m| m["secret"].as_str()).ok_or("M-1 has no secret")?;
    let told = run::output(python, &["-c", SDK, host, port, "M-1", secret])?;
    let told: Value =
        serde_json::from_str(told.lines().last().unwrap_or_default()).map_err(|why| format!("{why}: {told}"))?;
    let stays = told["connected"] == true && told["connections"] == 1 && told["published"] == true;
    println!("    tb-mqtt-client      {} {told}", if stays { "stays connected" } else { "DOES NOT STAY" });
    if stays { Ok(()) } else { Err(format!("tb-mqtt-client: {told}")) }
}

/// `try_private` and `notifications` as they are by default; what a local client publishes must be acknowledged by us.
fn bridge((host, port): (&str, &str), folder: &Path) -> Result<(), String> {
    if !tools::present("mosquitto") || !tools::present("mosquitto_pub") {
        println!("    mosquitto bridge    left out: mosquitto is not installed");
        return Ok(());
    }
    for version in ["mqttv311", "mqttv50"] {
        let local = "21884";
        let log = folder.join(format!("{version}.log"));
        let config = format!(
            "user root\nlistener {local} 127.0.0.1\nallow_anonymous true\nlog_dest file {}\nlog_type all\nconnection site\naddress {host}:{port}\n\
             bridge_protocol_version {version}\nremote_username site-1\nremote_password {SECRET}\nremote_clientid site-{version}\n\
             topic gt/1/+/up/# out 1\n",
            log.display()
        );
        let file = folder.join(format!("{version}.conf"));
        fs::write(&file, config).map_err(|why| why.to_string())?;
        let broker = Command::new("mosquitto").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let _broker = Running(broker.map_err(|why| why.to_string())?);
        wait_for(local)?;
        for (number, meter) in (1_u64..).zip(["M-1", "M-2"]) {
            let frame = json!({ "v": 1, "meter": meter, "boot": number, "seq": 1, "now": { "at": 1_767_225_600 } });
            let topic = format!("gt/1/{meter}/up/now");
            run::output(
                "mosquitto_pub",
                &["-h", "127.0.0.1", "-p", local, "-q", "1", "-t", &topic, "-m", &frame.to_string()],
            )?;
        }
        // Its log names each acknowledgement of ours.
        let start = Instant::now();
        let (mut acknowledged, mut connects) = (0, 0);
        while acknowledged < 3 && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(200));
            let text = fs::read_to_string(&log).unwrap_or_default();
            acknowledged = text.matches("Received PUBACK from local.site").count();
            connects = text.matches("sending CONNECT").count();
        }
        let works = acknowledged >= 3;
        println!(
            "    mosquitto bridge    {} ({version}): {acknowledged} acknowledged, its notification among them, {connects} connections",
            if works { "works" } else { "DOES NOT WORK" }
        );
        if !works {
            let text = fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("{version}: {}", text.lines().rev().take(12).collect::<Vec<_>>().join(" | ")));
        }
    }
    Ok(())
}
