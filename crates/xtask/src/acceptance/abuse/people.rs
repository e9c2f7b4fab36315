//! People, their passwords and what they may see.

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    mqtt::Meter,
    must,
    server::{Answer, PATIENCE, TestServer, gridtally, now, password, within},
};

/// Many at the same time with the right password among them; then made-up names to have the count forgotten.
pub fn guessing(folder: &Path) -> Result<String, String> {
    let server = TestServer::start(folder)?;
    server.person("anna", "operator", None)?;
    let guess = |n: usize| match n {
        60 => format!("name=anna&password={}", password("anna")),
        n => format!("name=anna&password=guess+number+{n}"),
    };
    let answers: Vec<Answer> = std::thread::scope(|threads| {
        let asked: Vec<_> = (0..120)
            .map(|n| {
                let body = guess(n);
                let server = &server;
                threads.spawn(move || server.form("/sign-in", None, &body))
            })
            .collect();
        asked.into_iter().filter_map(|answer| answer.join().ok()?.ok()).collect()
    });
    let checked = answers.iter().filter(|answer| answer.status == 422).count();
    let waited = answers.iter().filter(|answer| matches!(answer.status, 429 | 503)).count();
    must(checked <= 6 && waited >= 100, || {
        format!("{checked} of 120 guesses at the same time were checked, {waited} waited")
    })?;
    let long = "x".repeat(300);
    for n in 0..40 {
        let answer = server.form("/sign-in", None, &format!("name=nobody{n}&password={long}"))?;
        must(answer.status == 400, || format!("a password of 300 bytes: {}", answer.status))?;
        server.form("/sign-in", None, &format!("name=nobody{n}&password=short"))?;
    }
    let again = server.form("/sign-in", None, &guess(1))?;
    must(again.status == 429, || format!("the count was forgotten: {again:?}"))?;
    for weak in ["aaaaaaaaaa", "1234567890", "gustavgustav"] {
        let made = server.rest(
            "POST",
            "/api/v1/people",
            &json!({ "name": "gustav", "role": "engineer", "password": weak }),
        )?;
        must(made.status == 400, || format!("{weak} is taken"))?;
    }
    Ok(format!("{checked} of 120 were checked, {waited} had to wait; the count stays"))
}

/// Requests reset in bursts while their password is checked: memory stays, and an operator gets in.
pub fn cancelled_sign_ins(folder: &Path) -> Result<String, String> {
    let server = TestServer::start(folder)?;
    let memory = || -> Result<u64, String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).map_err(|e| e.to_string())?;
        let line =
            text.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|line| line.split_whitespace().next());
        line.and_then(|kb| kb.parse::<u64>().ok()).ok_or_else(|| "no memory".into())
    };
    let before = memory()?;
    for n in 0..600 {
        let body = format!("name=nobody{n}&password=some+words+or+other");
        let mut stream = server.connect()?;
        let head = format!(
            "POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes());
    }
    let after = memory()?;
    must(after < before + 400_000, || format!("memory grew from {before} to {after} kB"))?;
    let begun = Instant::now();
    let page = server.ask("GET", "/sign-in", &[], "")?;
    must(page.status == 200, || format!("{page:?}"))?;
    Ok(format!(
        "{} MB before, {} MB after; the page in {:.2} s",
        before / 1_000,
        after / 1_000,
        begun.elapsed().as_secs_f64()
    ))
}

/// What was given out is taken back, and stops at once.
pub fn taken_back(folder: &Path) -> Result<String, String> {
    let server = TestServer::start(folder)?;
    let old = server.enrol(&["M-1"])?.remove(0);
    let mut thief = Meter::log_on(&server.mqtt, "M-1", &old)?;
    thief.report("now", &json!({ "at": now() }))?;
    let new = server.enrol(&["M-1"])?.remove(0);
    must(thief.is_ended(Duration::from_secs(10)), || "the old secret's connection goes on".into())?;
    let mut meter = Meter::log_on(&server.mqtt, "M-1", &new)?;
    server.must("DELETE", "/api/v1/meters/M-1/secret", &Value::Null)?;
    must(meter.is_ended(Duration::from_secs(10)), || "a meter without a secret goes on".into())?;

    let made = server.must("POST", "/api/v1/tokens", &json!({ "name": "other", "role": "operator", "days": 1 }))?;
    let other = format!("Bearer {}", made["token"].as_str().unwrap_or_default());
    let with = |token: &str| server.ask("GET", "/api/v1/zones", &[("Authorization", token)], "").map(|a| a.status);
    must(with(&other)? == 200, || "a new token does not work".into())?;
    server.must("DELETE", "/api/v1/tokens/other", &Value::Null)?;
    must(with(&other)? == 401, || "a revoked token works".into())?;

    let anna = server.person("anna", "operator", None)?;
    let bar = server.rest("PUT", "/api/v1/people/anna/disabled", &json!({ "disabled": true }))?;
    must(bar.status == 409, || format!("the last operator is barred: {bar:?}"))?;
    server.must("PUT", "/api/v1/people/anna/password", &json!({ "password": "another first one" }))?;
    let page = server.ask("GET", "/cases", &[("Cookie", &anna)], "")?;
    must(page.status == 303, || "a session outlives its password".into())?;
    let data = server.data.to_string_lossy().into_owned();
    let back = gridtally(&["admin", "person", "anna", "--data", &data])?;
    let first = back.lines().last().unwrap_or_default();
    server.sign_in("anna", first)?;
    Ok("secret, token, session ended at once; the last operator stays; `admin person` lets in again".into())
}

/// Several with one link: one operator; with somebody there: none.
pub fn set_up_link(folder: &Path) -> Result<String, String> {
    let server = TestServer::start(folder)?;
    let token = server.set_up.clone().ok_or("no set-up link was printed")?;
    let made = std::thread::scope(|threads| {
        let asked: Vec<_> = (0..6)
            .map(|n| {
                let body = format!("token={token}&name=op{n}&password=quiet+river+stones");
                let server = &server;
                threads.spawn(move || server.form("/setup", None, &body))
            })
            .collect();
        asked.into_iter().filter_map(|answer| answer.join().ok()?.ok()).filter(|answer| answer.status == 303).count()
    });
    let people = server.must("GET", "/api/v1/people", &Value::Null)?;
    let count = people.as_array().map_or(0, Vec::len);
    must(made == 1 && count == 1, || format!("{made} were made, {count} are there"))?;
    Ok("of six one is the operator".into())
}

/// After signing in nobody is sent to another server.
pub fn open_redirect(folder: &Path) -> Result<String, String> {
    let server = TestServer::start(folder)?;
    server.person("anna", "operator", None)?;
    for next in ["%2F%09%2Fevil.example", "%2F%2Fevil.example", "%2F%5Cevil.example", "%2F%00", "%2F%0A%2Fevil.example"]
    {
        let body = format!("name=anna&password={}&next={next}", password("anna"));
        let answer = server.form("/sign-in", None, &body)?;
        must(answer.status == 303 && answer.header("location") == Some("/"), || format!("{next}: {answer:?}"))?;
    }
    Ok("every crooked address leads to the start page".into())
}

/// M-1 hung at U-1 until a minute ago, and hangs at U-2 now.
pub fn former_customer(folder: &Path) -> Result<String, String> {
    let server = TestServer::start(folder)?;
    let moved = now() / 900 * 900 - 3_600;
    server.import("F-1,,M-OBS,,,1,ABC,2026-01-01,\nF-1,,,U-1,M-1,1,A,2026-01-01,\n")?;
    let secret = server.enrol(&["M-1"])?.remove(0);
    let records: Vec<Value> =
        (-12..=4).map(|n| json!({ "end": moved + n * 900, "import_wh": 1_000 + (n + 12) * 100 })).collect();
    let mut meter = Meter::log_on(&server.mqtt, "M-1", &secret)?;
    meter.report("profile", &json!({ "minutes": 15, "records": records }))?;
    let date = civil(moved);
    let report = server.import(&format!("F-1,,,U-1,M-9,1,A,{date},\nF-1,,,U-2,M-1,1,A,{date},\n"))?;
    must(report.status == 200 && report.body.contains("\"rejected\":[]"), || format!("{report:?}"))?;
    let (before, after) =
        (server.person("carla", "consumer", Some("U-1"))?, server.person("erik", "consumer", Some("U-2"))?);
    let ends = |cookie: &str| -> Result<Vec<i64>, String> {
        let answer = server.ask("GET", "/api/v1/meters/M-1/profile?hours=48", &[("Cookie", cookie)], "")?;
        Ok(answer.json()["rows"].as_array().into_iter().flatten().filter_map(|row| row["end"].as_i64()).collect())
    };
    let (hers, his) = (ends(&before)?, ends(&after)?);
    must(!his.is_empty() && his.iter().all(|end| *end > moved), || format!("he sees {his:?}, moved {moved}"))?;
    must(!hers.is_empty() && hers.iter().all(|end| *end <= moved), || format!("she sees {hers:?}, moved {moved}"))?;
    Ok("each sees the time at the own place".into())
}

/// `YYYY-MM-DDTHH:MM:SSZ`, by the standard's own rules for leap years.
fn civil(seconds: i64) -> String {
    metering::Timestamp(seconds).to_string()
}

/// Refusals and failed sign-ins are written down, and the newest row is signed beside the database.
pub fn audit(folder: &Path) -> Result<String, String> {
    let mut server = TestServer::start(folder)?;
    let ben = server.person("ben", "engineer", None)?;
    server.form("/sign-in", None, "name=ben&password=not+the+right+one")?;
    server.ask("GET", "/people", &[("Cookie", &ben)], "")?;
    server.form("/sign-out", Some(&ben), "")?;
    let audit = server.must("GET", "/api/v1/audit", &Value::Null)?.to_string();
    for action in ["sign_in.failed", "access.refused", "session.end", "person.password"] {
        must(audit.contains(action), || format!("{action} is not written down"))?;
    }
    let head = server.data.join("audit.head");
    must(within(PATIENCE, || Ok(head.exists()))?, || "no head is signed".into())?;
    server.stop()?;
    let data = server.data.to_string_lossy().into_owned();
    let whole = gridtally(&["admin", "verify-audit", "--data", &data])?;
    must(whole.contains("unbroken; row"), || whole.clone())?;
    let text = std::fs::read_to_string(&head).map_err(|e| e.to_string())?;
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    words[4] = "999999".into();
    std::fs::write(&head, words.join(" ")).map_err(|e| e.to_string())?;
    must(gridtally(&["admin", "verify-audit", "--data", &data]).is_err(), || "a forged head is believed".into())?;
    Ok(whole.trim().to_owned())
}
