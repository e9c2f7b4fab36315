//! Who is let in, by which road, and what is left lying open.

use std::{
    io::{Read, Write},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    mqtt::{self, Meter},
    must,
    server::{self, PATIENCE, TestServer, basic, connect, frame, gridtally, now, program},
};

/// Off loopback without https the server does not start, and says why.
pub fn plain_off_loopback(folder: &Path) -> Result<String, String> {
    let data = folder.join("data").to_string_lossy().into_owned();
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let out = Command::new(program())
            .args(["serve", "--data", &data, "--mqtt", "127.0.0.1:0", "--http", listen])
            .output()
            .map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        must(!out.status.success() && said.contains("[http.tls]"), || {
            format!("--http {listen}: {} {said}", out.status)
        })?;
    }
    Ok("refused at the start, with what to configure".into())
}

/// Behind a proxy it counts what the proxy says, and nobody else's word.
pub fn plain_through_a_proxy(folder: &Path) -> Result<String, String> {
    let config = "[http]\nproxies = [\"127.0.0.1\"]\npublic_url = \"https://gridtally.example\"\n";
    let server = TestServer::start_with(folder, config)?;
    let secret = server.enrol(&["M-1"])?.remove(0);
    let own = basic("M-1", &secret);
    let post = |seq, forwarded: &[(&str, &str)]| {
        let body = frame("M-1", seq, "now", &json!({ "at": now() }));
        let headers = [&[("Authorization", own.as_str())], forwarded].concat();
        server.ask("POST", "/api/v1/readings", &headers, &body)
    };
    let http = post(1, &[("X-Forwarded-For", "127.0.0.1, 192.0.2.7"), ("X-Forwarded-Proto", "http")])?;
    must(http.status == 403 && http.body.contains("plain_networks"), || format!("plain: {http:?}"))?;
    let https = post(2, &[("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https")])?;
    must(https.status == 200, || format!("https: {https:?}"))?;
    let host = server.ask("GET", "/sign-in", &[("Host", "evil.example")], "")?;
    must(host.status == 421, || format!("another name is served: {host:?}"))?;
    let page = server.ask("GET", "/sign-in", &[("Host", "gridtally.example")], "")?;
    must(page.header("strict-transport-security").is_some(), || "no HSTS".into())?;
    Ok("403 with the reason; https stored; another Host 421".into())
}

/// SIGHUP reads certificates again instead of ending the server.
pub fn hang_up(folder: &Path) -> Result<String, String> {
    let mut server = TestServer::start(folder)?;
    crate::run::output("kill", &["-HUP", &server.pid().to_string()])?;
    let answer = server.ask("GET", "/health", &[], "")?;
    must(answer.status == 200 && server.is_running(), || "SIGHUP ended the server".into())?;
    let took = server.stop()?;
    must(took < Duration::from_secs(2), || format!("an idle server stopped after {took:?}"))?;
    Ok(format!("it runs on; an idle server stopped in {:.2} s", took.as_secs_f64()))
}

/// Sockets that never finish what they began: others are served, and they end.
pub fn unfinished_requests(folder: &Path) -> Result<String, String> {
    let server = TestServer::start(folder)?;
    let secrets = server.enrol(&["M-1", "M-2"])?;
    let mut held = Vec::new();
    for n in 0..1_100 {
        let mut stream = connect(&server.http)?;
        match n % 3 {
            0 => {}
            1 => drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: loc")),
            _ => {
                let own = basic("M-1", &secrets[0]);
                let head = format!(
                    "POST /api/v1/readings HTTP/1.1\r\nHost: localhost\r\nAuthorization: {own}\r\nContent-Length: 90\r\n\r\n{{"
                );
                let _ = stream.write_all(head.as_bytes());
            }
        }
        held.push(stream);
    }
    let begun = Instant::now();
    let page = server.ask("GET", "/health", &[], "")?;
    must(page.status == 200, || format!("the console under 1,100 sockets: {page:?}"))?;
    Meter::log_on(&server.mqtt, "M-2", &secrets[1])?.report("now", &json!({ "at": now() }))?;
    let own = basic("M-2", &secrets[1]);
    let posted = server.ask(
        "POST",
        "/api/v1/readings",
        &[("Authorization", &own)],
        &frame("M-2", 1, "now", &json!({ "at": now() })),
    )?;
    must(posted.status == 200, || format!("another meter's reading: {posted:?}"))?;
    let served = begun.elapsed();
    let mut last = held.pop().ok_or("none is held")?;
    last.set_read_timeout(Some(Duration::from_secs(45))).map_err(|e| e.to_string())?;
    let mut rest = Vec::new();
    must(last.read_to_end(&mut rest).is_ok() || rest.starts_with(b"HTTP/1.1 408"), || {
        "a half request lives on after 45 s".into()
    })?;
    let dribbled = dribble(&server, &secrets[0])?;
    Ok(format!(
        "others served within {:.1} s; a dribbled CONNECT ended after {:.0} s",
        served.as_secs_f64(),
        dribbled.as_secs_f64()
    ))
}

/// One byte of a CONNECT now and then; the time until the server has enough.
fn dribble(server: &TestServer, secret: &str) -> Result<Duration, String> {
    let mut stream = connect(&server.mqtt)?;
    stream.set_read_timeout(Some(Duration::from_millis(1_500))).map_err(|e| e.to_string())?;
    let begun = Instant::now();
    for byte in mqtt::connect_packet("M-1", secret) {
        if stream.write_all(&[byte]).is_err() {
            break;
        }
        let mut one = [0; 1];
        if matches!(stream.read(&mut one), Ok(0)) {
            break;
        }
        if begun.elapsed() > Duration::from_secs(25) {
            return Err("a dribbled CONNECT is open after 25 s".into());
        }
    }
    Ok(begun.elapsed())
}

/// Nobody but its owner reads the data.
pub fn data_directory(folder: &Path) -> Result<String, String> {
    use std::os::unix::fs::PermissionsExt;
    let data = folder.join("data");
    std::fs::create_dir_all(&data).map_err(|e| e.to_string())?;
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
    let server = TestServer::start(folder)?;
    let secret = server.enrol(&["M-1"])?.remove(0);
    Meter::log_on(&server.mqtt, "M-1", &secret)?.report("now", &json!({ "at": now() }))?;
    let mode = |path: &Path| std::fs::metadata(path).map(|about| about.permissions().mode() & 0o777);
    let own = mode(&data).map_err(|e| e.to_string())?;
    must(own == 0o700, || format!("the directory has mode {own:o}"))?;
    let mut files = 0;
    for entry in std::fs::read_dir(&data).map_err(|e| e.to_string())?.flatten() {
        let own = mode(&entry.path()).map_err(|e| e.to_string())?;
        must(own & 0o077 == 0, || format!("{} has mode {own:o}", entry.path().display()))?;
        files += 1;
    }
    Ok(format!("a wider directory was closed; {files} files for the owner only"))
}

/// A lost key is said before anything starts.
pub fn lost_key(folder: &Path) -> Result<String, String> {
    let data = folder.join("data");
    let at = data.to_string_lossy().into_owned();
    gridtally(&["admin", "token", "--name", "a", "--data", &at])?;
    gridtally(&["admin", "enrol", "M-1", "--json", "--data", &at])?;
    std::fs::remove_file(data.join("server.key")).map_err(|e| e.to_string())?;
    let begun = Instant::now();
    let out = Command::new(program())
        .args(["serve", "--data", &at, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"])
        .output()
        .map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    must(!out.status.success() && said.contains("server.key is missing"), || format!("{}: {said}", out.status))?;
    must(!data.join("server.key").exists(), || "a new key was made in silence".into())?;
    must(begun.elapsed() < PATIENCE, || "slow".into())?;
    gridtally(&["admin", "renew-key", "--data", &at])?;
    server::gridtally(&["admin", "enrol", "M-1", "--json", "--data", &at])?;
    Ok("refused with what to do; renewed only when asked".into())
}
