//! Forms that makers document, with values of our own.

use super::*;

fn read(messages: &[(&str, &str)]) -> Vec<String> {
    let models = Models::builtin().expect("descriptions");
    let mut devices = Devices::new(&models, Zone::named("Europe/Berlin"));
    let mut out = Vec::new();
    for (topic, payload) in messages {
        let message = Message { topic: (*topic).into(), payload: payload.as_bytes().to_vec() };
        out.extend(devices.message(&message).expect("a message that is understood"));
    }
    devices.with_clocks(&mut out);
    let shown = out.iter().map(|r| {
        let time = r.time.map_or("-".into(), |time| time.to_string());
        format!("{} {time} {} {} {}", r.meter.as_deref().unwrap_or("-"), r.quantity, r.value, r.unit)
    });
    shown.collect()
}

#[test]
fn tasmota_channels_are_phases_and_the_clock_is_local() {
    let payload = r#"{"Time":"2026-07-01T12:00:00","ENERGY":{"Total":[1.5,2],"ExportActive":0.25,"Voltage":230}}"#;
    assert_eq!(
        read(&[("tele/plug/SENSOR", payload), ("tele/plug/LWT", "Online")]),
        [
            "plug 2026-07-01T10:00:00Z import register L1 1.5 kWh",
            "plug 2026-07-01T10:00:00Z import register L2 2 kWh",
            "plug 2026-07-01T10:00:00Z export register 0.25 kWh",
            "plug 2026-07-01T10:00:00Z voltage 230 V",
        ]
    );
}

#[test]
fn shelly_takes_the_clock_of_its_system() {
    let values = read(&[
        ("pro/status/em1:1", r#"{"id":1,"act_power":-5.5}"#),
        ("pro/status/sys", r#"{"unixtime":1767225600}"#),
        ("shellies/shellyem-1/emeter/1/total", "12.5"),
        ("shellies/shellyplug-1/relay/0", "off"),
    ]);
    assert_eq!(
        values,
        [
            "pro#1 2026-01-01T00:00:00Z power -5.5 W",
            "shellyem-1#1 - import register 12.5 Wh",
            "shellyplug-1 - relay closed 0 ",
        ]
    );
}

#[test]
fn discovery_names_units_and_refuses_programs() {
    let config = r#"{"~":"m/1","stat_t":"~/state","dev_cla":"energy","unit_of_meas":"kWh","name":"Energy exported",
        "val_tpl":"{{ value_json.e['out'] | float | round(1) }}","dev":{"ids":["x"]}}"#;
    let values = read(&[
        ("homeassistant/sensor/m1/out/config", config),
        ("m/1/state", r#"{"e":{"out":"12.34"}}"#),
        ("m/1/state", r#"{"e":{"out":"unavailable"}}"#),
    ]);
    assert_eq!(values, ["m1 - export register 12.3 kWh"]);
    let models = Models::builtin().expect("descriptions");
    let program = config.replace("| float", "* 1000 | float");
    let message = Message { topic: "homeassistant/sensor/m1/out/config".into(), payload: program.into_bytes() };
    assert!(matches!(Devices::new(&models, None).message(&message), Err(Fault::Unsupported(_))));
}

#[test]
fn an_alias_without_a_birth_is_no_value() {
    let models = Models::builtin().expect("descriptions");
    let payload = crate::bytes::from_hex("12070205").expect("hex");
    let message = Message { topic: "spBv1.0/g/DDATA/e/d".into(), payload };
    assert!(Devices::new(&models, None).message(&message).is_err());
}

#[test]
fn emoncms_posts() {
    let models = Models::builtin().expect("descriptions");
    let mut devices = Devices::new(&models, None);
    let path = "/input/post?node=emontx&fulljson=%7B%22power1%22%3A100%2C%22vrms%22%3A231.5%7D&apikey=x".into();
    let values = devices.request(&Request { path, body: Vec::new() }).expect("a post");
    let shown: Vec<_> = values.iter().map(|r| format!("{} {} {}", r.quantity, r.value, r.unit)).collect();
    assert_eq!(shown, ["power 1 100 W", "voltage 231.5 V"]);
    let body = br#"data=[[1767225600,"a",{"power1":5}],[1767225610,"a",{"E1":7}]]"#.to_vec();
    let values = devices.request(&Request { path: "/input/bulk".into(), body }).expect("a bulk");
    assert_eq!(values.iter().filter_map(|r| r.time).map(|t| t.0).collect::<Vec<_>>(), [1_767_225_600, 1_767_225_610]);
}
