//! Commands and what brakes them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    mqtt::Meter,
    must,
    server::{TestServer, now, within},
};

/// Codes of events: the cover opened, and part of the load led around the meter.
const COVER_OPEN: u16 = 251;
const BYPASS: u16 = 65;
const NETWORK: &str = "F-1,,M-OBS,,,1,ABC,2026-01-01,\nF-1,,,U-1,M-1,1,A,2026-01-01,\nF-1,,,U-2,M-2,1,B,2026-01-01,\n";

fn with_network(folder: &Path) -> Result<(TestServer, Vec<String>), String> {
    let server = TestServer::start(folder)?;
    let report = server.import(NETWORK)?;
    must(report.status == 200, || format!("import: {report:?}"))?;
    let secrets = server.enrol(&["M-1", "M-2", "M-OBS"])?;
    Ok((server, secrets))
}

fn disconnect(server: &TestServer, usage_point: &str) -> Result<u64, String> {
    let body = json!({ "usage_point": usage_point, "kind": "disconnect", "reason": "acceptance" });
    let made = server.must("POST", "/api/v1/controls", &body)?;
    made["id"].as_u64().ok_or_else(|| format!("no number: {made}"))
}

/// M-2 answers what was asked of M-1.
pub fn forged_answers(folder: &Path) -> Result<String, String> {
    let (server, secrets) = with_network(folder)?;
    let id = disconnect(&server, "U-1")?;
    let mut thief = Meter::log_on(&server.mqtt, "M-2", &secrets[1])?;
    let values = json!({ "at": now(), "voltage_mv": 230_000, "current_ma": 0, "power_w": 0, "load_voltage_mv": 0, "relay": "open", "import_wh": 1, "control": id });
    for outcome in ["signature", "done", "expired", "counter"] {
        thief.report("reply", &json!({ "control": id, "outcome": outcome, "now": values }))?;
    }
    // The numbers of readings back were to be computed.
    for snapshot in (0..8).map(|n| (1_u64 << 52) + id * 8 + n).chain((0..8).map(|n| (1_u64 << 62) + id * 4 + n)) {
        let mut values = values.clone();
        values["control"] = json!(snapshot);
        thief.report("snapshot", &values)?;
    }
    let moved =
        within(Duration::from_secs(5), || Ok(!matches!(server.state_of(id)?.as_str(), "approved" | "requested")))?;
    must(!moved, || format!("the command is {:?}", server.state_of(id)))?;
    Ok("the command stands as it was".into())
}

/// Protected after the approval, before the meter comes.
pub fn protected_after_approval(folder: &Path) -> Result<String, String> {
    let (server, secrets) = with_network(folder)?;
    let id = disconnect(&server, "U-1")?;
    let report = server.import("F-1,,,U-1,M-1,1,A,2026-01-01,yes\n")?;
    must(report.status == 200, || format!("protection: {report:?}"))?;
    let mut meter = Meter::log_on(&server.mqtt, "M-1", &secrets[0])?;
    meter.report("hello", &json!({ "profile_minutes": 15, "import_wh": 1 }))?;
    meter.listen()?;
    let got = meter.controls(Duration::from_secs(10))?;
    must(!got.iter().any(|control| control["kind"] == "disconnect"), || format!("delivered: {got:?}"))?;
    Ok(format!("not delivered; the command is {}", server.state_of(id)?))
}

/// One operator, alone or twice, must not lift what holds everybody.
pub fn one_person_lifts_the_brakes(folder: &Path) -> Result<String, String> {
    let (server, _secrets) = with_network(folder)?;
    let (anna, _bert) = (server.person("anna", "operator", None)?, server.person("bert", "operator", None)?);
    let policy = json!({ "automatic_kinds": [], "per_hour_max": 1_000, "per_feeder_hour_max": 1_000, "per_day_per_mille": 1_000, "per_day_min": 1_000 });
    let by_anna = [("Cookie", anna.as_str()), ("Content-Type", "application/json")];
    let lifted = server.ask("PUT", "/api/v1/policy", &by_anna, &policy.to_string())?;
    must(matches!(lifted.status, 202 | 400 | 409), || format!("limits lifted by one person: {lifted:?}"))?;
    let limits = server.must("GET", "/api/v1/policy", &Value::Null)?;
    must(limits["policy"]["per_hour_max"].as_u64().is_some_and(|max| max < 1_000), || format!("lifted: {limits}"))?;
    let puppet = json!({ "name": "puppet", "role": "operator", "password": "a password of a puppet" });
    let made = server.ask("POST", "/api/v1/people", &by_anna, &puppet.to_string())?;
    must(made.status == 202, || format!("one operator makes another one: {made:?}"))?;
    let token =
        server.ask("POST", "/api/v1/tokens", &by_anna, &json!({ "name": "p", "role": "operator" }).to_string())?;
    must(token.status == 202, || format!("one operator makes an operator's token: {token:?}"))?;
    let password = json!({ "password": "a password for bert" }).to_string();
    let given = server.ask("PUT", "/api/v1/people/bert/password", &by_anna, &password)?;
    must(given.status == 202, || format!("one operator sets another one's password: {given:?}"))?;
    let abort = |on: bool| server.ask("PUT", "/api/v1/abort-switch", &by_anna, &json!({ "on": on }).to_string());
    must(abort(true)?.status == 204, || "the abort switch is not switched on at once".into())?;
    abort(false)?;
    let limits = server.must("GET", "/api/v1/policy", &Value::Null)?;
    must(limits["abort_switch"] == true, || "the abort switch is switched off by one person".into())?;
    abort_stays(&server)
}

fn abort_stays(server: &TestServer) -> Result<String, String> {
    let empty = server.rest("PUT", "/api/v1/policy", &json!({}))?;
    must(empty.status == 400, || format!("an empty policy: {empty:?}"))?;
    let unknown = json!({ "meter": "M-9999", "kind": "reconnect", "reason": "typing error" });
    let unknown = server.rest("POST", "/api/v1/controls", &unknown)?;
    must(unknown.status == 404, || format!("a command to a meter that is not there: {unknown:?}"))?;
    Ok("limits, the abort switch, new operators, their tokens and passwords wait for a second person; an empty policy is refused".into())
}

/// Bytes that the process has had written to disk.
fn written(server: &TestServer) -> Result<u64, String> {
    let text = std::fs::read_to_string(format!("/proc/{}/io", server.pid())).map_err(|e| e.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).ok_or_else(|| "the system does not count writing".into())
}

/// Windows of power quality of one meter: what one costs to write must not grow with those that are there.
pub fn power_quality_flood(folder: &Path) -> Result<String, String> {
    const WINDOWS: i64 = 400;
    let (server, secrets) = with_network(folder)?;
    let mut meter = Meter::log_on(&server.mqtt, "M-1", &secrets[0])?;
    // Three days in windows of ten minutes, then the same ones at seconds where no window ends.
    let begin = now() / 86_400 * 86_400 - 4 * 86_400;
    let mut cost = |from: i64, off: i64| -> Result<u64, String> {
        let before = written(&server)?;
        for n in from..from + WINDOWS / 2 {
            let body = json!({ "end": begin + n * 600 + off, "voltage_mv": [230_000, 230_000, 230_000], "harmonics": [1, 2, 3, 4, 5, 6, 7, 8] });
            if meter.report("quality", &body).is_err() {
                meter = Meter::log_on(&server.mqtt, "M-1", &secrets[0])?;
            }
        }
        Ok(written(&server)? - before)
    };
    let (first, second) = (cost(1, 0)?, cost(1 + WINDOWS / 2, 0)?);
    let off_grid = (0..3).map(|n| cost(1, 137 * (n + 1))).sum::<Result<u64, _>>()?;
    must(second < 2 * first, || format!("200 windows cost {first} bytes, the next 200 {second}"))?;
    must(off_grid < 3 * 2 * first, || format!("600 windows at other seconds cost {off_grid} bytes"))?;
    Ok(format!(
        "the first 200 windows {:.1} MB written, the next 200 {:.1} MB, 600 where no window ends {:.1} MB",
        first as f64 / 1e6,
        second as f64 / 1e6,
        off_grid as f64 / 1e6
    ))
}

/// Four meters send events as fast as they are acknowledged, to the end of what a meter may send in an hour; then one event of another.
pub fn event_flood(folder: &Path) -> Result<String, String> {
    let (server, secrets) = with_network(folder)?;
    let names = ["F-1", "F-2", "F-3", "F-4"];
    let flooding = server.enrol(&names)?;
    let rows: String = names.iter().map(|name| format!("F-1,,,P-{name},{name},1,C,2026-01-01,\n")).collect();
    server.import(&rows)?;
    let taken: u64 = std::thread::scope(|threads| {
        let floods: Vec<_> =
            names.iter().zip(&flooding).map(|(name, secret)| threads.spawn(|| flood(&server, name, secret))).collect();
        floods
            .into_iter()
            .map(|flood| flood.join().map_err(|_| "a flood broke off".to_owned())?)
            .sum::<Result<u64, String>>()
    })?;
    must(taken < 4 * 20_000, || format!("{taken} events of four meters were taken within 10 s"))?;
    let mut honest = Meter::log_on(&server.mqtt, "M-2", &secrets[1])?;
    let begun = Instant::now();
    honest.report("event", &json!({ "at": now(), "code": COVER_OPEN }))?;
    let seen = within(Duration::from_secs(30), || {
        let cases = server.must("GET", "/api/v1/cases?usage_point=U-2", &Value::Null)?;
        Ok(cases.as_array().is_some_and(|cases| !cases.is_empty()))
    })?;
    must(seen, || format!("{taken} events of four meters hide another's for more than 30 s"))?;
    Ok(format!(
        "after {taken} events of four meters the other meter's case came in {:.1} s",
        begun.elapsed().as_secs_f64()
    ))
}

/// Events of one meter for ten seconds, or until the server takes no more of it; how many it took.
fn flood(server: &TestServer, name: &str, secret: &str) -> Result<u64, String> {
    let mut meter = Meter::log_on(&server.mqtt, name, secret)?;
    let until = Instant::now() + Duration::from_secs(10);
    let mut taken = 0;
    while Instant::now() < until {
        for _ in 0..64 {
            if meter.publish("event", &json!({ "at": now(), "code": BYPASS })).is_err() {
                return Ok(taken);
            }
        }
        for _ in 0..64 {
            match meter.packet(Duration::from_secs(5)) {
                Ok(Some(_)) => taken += 1,
                // No acknowledgement, or the connection is ended: its hour is used up.
                Ok(None) | Err(_) => return Ok(taken),
            }
        }
    }
    Ok(taken)
}

/// The abort switch must not wait for a file that is being read in.
pub fn abort_during_import(folder: &Path) -> Result<String, String> {
    let server = TestServer::start(folder)?;
    let rows: String = std::iter::once("F-1,,M-OBS,,,1,ABC,2026-01-01,\n".to_owned())
        .chain((0..150_000).map(|n| format!("F-1,,,U-{n},M-{n},1,A,2026-01-01,\n")))
        .collect();
    std::thread::scope(|threads| {
        let import = threads.spawn(|| server.import(&rows));
        std::thread::sleep(Duration::from_secs(2));
        let begun = Instant::now();
        let answer = server.rest("PUT", "/api/v1/abort-switch", &json!({ "on": true }))?;
        let took = begun.elapsed();
        must(answer.status == 204, || format!("the switch: {answer:?}"))?;
        let report = import.join().map_err(|_| "the import broke off")??;
        must(report.status == 200, || format!("the import: {} {}", report.status, report.body))?;
        must(took < Duration::from_secs(3), || format!("the switch took {took:?}"))?;
        Ok(format!("{:.2} s during an import of 150,000 rows", took.as_secs_f64()))
    })
}

/// A reconnect approved before a thousand requests is still delivered, or the thousand are refused.
pub fn many_commands(folder: &Path) -> Result<String, String> {
    let (server, secrets) = with_network(folder)?;
    let body = json!({ "usage_point": "U-1", "kind": "reconnect", "reason": "acceptance" });
    server.must("POST", "/api/v1/controls", &body)?;
    let mut taken = 0;
    for _ in 0..1_002 {
        let body = json!({ "usage_point": "U-2", "kind": "disconnect", "reason": "acceptance", "approve": false });
        if server.rest("POST", "/api/v1/controls", &body)?.status == 201 {
            taken += 1;
        }
    }
    let mut meter = Meter::log_on(&server.mqtt, "M-1", &secrets[0])?;
    meter.report("hello", &json!({ "profile_minutes": 15, "import_wh": 1 }))?;
    meter.listen()?;
    let until = Instant::now() + Duration::from_secs(40);
    while Instant::now() < until {
        if meter.controls(Duration::from_secs(2))?.iter().any(|control| control["kind"] == "reconnect") {
            return Ok(format!("{taken} of 1,002 requests were taken; the reconnect came"));
        }
    }
    Err(format!("{taken} requests were taken, and the reconnect does not come"))
}
