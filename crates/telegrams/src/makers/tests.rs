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

#[test]
fn topics_of_tasmota_in_either_order_and_plain_states() {
    assert_eq!(
        read(&[
            ("house/plug/tele/SENSOR", r#"{"Time":"2026-01-01T12:00:00","ENERGY":{"Total":3,"ImportActive":[1,2]}}"#),
            ("stat/house/plug/POWER2", "ON"),
            ("stat/house/plug/RESULT", r#"{"POWER1":"OFF"}"#),
        ]),
        [
            "house/plug 2026-01-01T11:00:00Z import register 3 kWh",
            "house/plug 2026-01-01T11:00:00Z import register L1 1 kWh",
            "house/plug 2026-01-01T11:00:00Z import register L2 2 kWh",
            "house/plug - relay closed 2 1 ",
            "house/plug - relay closed 1 0 ",
        ]
    );
}

/// Shelly's documentation of RPC over MQTT: the answer names its device in `src`.
#[test]
fn answers_of_shelly_to_a_call() {
    assert_eq!(
        read(&[
            (
                "gt/rpc",
                r#"{"id":1,"src":"shellypro3em-1","dst":"gt","result":{"em:0":{"id":0,"b_act_power":-5.5},"sys":{"unixtime":1767225600}}}"#
            ),
            (
                "gt/rpc",
                r#"{"id":2,"src":"shellyproem50-2","dst":"gt","result":{"id":1,"total_act_energy":12.5,"total_act_ret_energy":1}}"#
            ),
            ("shellypro3em-1/rpc", r#"{"id":3,"src":"gt","method":"EM.GetStatus","params":{"id":0}}"#),
        ]),
        [
            "shellypro3em-1 2026-01-01T00:00:00Z power L2 -5.5 W",
            "shellyproem50-2#1 - import register 12.5 Wh",
            "shellyproem50-2#1 - export register 1 Wh",
        ]
    );
}

#[test]
fn zigbee_names_with_slashes_attributes_and_phases() {
    assert_eq!(
        read(&[
            (
                "zigbee2mqtt/cellar/meter",
                r#"{"power_phase_c":5,"current_c":0.1,"produced_energy":2.5,"state_l2":"OFF"}"#
            ),
            ("zigbee2mqtt/cellar/meter/power", "351.5"),
            ("zigbee2mqtt/cellar/meter/set", r#"{"power":1}"#),
            ("zigbee2mqtt/bridge/devices", "[]"),
        ]),
        [
            "cellar/meter - current L3 0.1 A",
            "cellar/meter - power L3 5 W",
            "cellar/meter - export register 2.5 kWh",
            "cellar/meter - relay closed L2 0 ",
            "cellar/meter - power 351.5 W",
        ]
    );
}

/// Home Assistant's MQTT discovery: all entities of a device in one configuration, classes left out, counters that begin anew.
#[test]
fn discovery_of_a_device() {
    let config = r#"{"dev":{"ids":"m1"},"o":{"name":"x"},"stat_t":"m/1","cmps":{
        "a":{"p":"sensor","name":"Energy","unit_of_meas":"kWh","val_tpl":"{{ value_json.e }}","uniq_id":"a"},
        "b":{"p":"sensor","name":"Energy today","dev_cla":"energy","unit_of_meas":"kWh","val_tpl":"{{ value_json.d }}","uniq_id":"b"},
        "c":{"p":"switch","cmd_t":"m/1/set"},
        "d":{"p":"sensor","name":"Power L2","dev_cla":"power","unit_of_meas":"W","val_tpl":"{{ value_json.p | is_defined }}","uniq_id":"d"}}}"#;
    let state = r#"{"e":12.5,"d":1,"p":"-3"}"#;
    let values = read(&[("ha/device/m1/config", config), ("ha/device/m1/config", config), ("m/1", state)]);
    assert_eq!(values, ["m1 - import register 12.5 kWh", "m1 - power L2 -3 W"]);
}

/// Sparkplug 3.0: a property set in the BIRTH may name the unit.
#[test]
fn a_unit_among_the_properties_of_a_birth() {
    let models = Models::builtin().expect("descriptions");
    let mut devices = Devices::new(&models, None);
    let field =
        |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).expect("short")][..], bytes].concat();
    let value = field(8, b"kWh");
    let properties = [field(1, b"engUnit"), field(2, &value)].concat();
    // name, alias 7, datatype 10 (double), properties, value
    let metric = [
        &field(1, b"Energy")[..],
        &[0x10, 7, 0x20, 10],
        &field(9, &properties),
        &[13 << 3 | 1],
        &12.5_f64.to_le_bytes(),
    ]
    .concat();
    let birth = Message { topic: "spBv1.0/g/DBIRTH/e/d".into(), payload: field(2, &metric) };
    let data = [&[0x10, 7, 13 << 3 | 1][..], &13.5_f64.to_le_bytes()].concat();
    let data = Message { topic: "spBv1.0/g/DDATA/e/d".into(), payload: field(2, &data) };
    for (message, expected) in [(birth, "Energy 12.5 kWh"), (data, "Energy 13.5 kWh")] {
        let readings = devices.message(&message).expect("a payload");
        let shown: Vec<_> = readings.iter().map(|r| format!("{} {} {}", r.quantity, r.value, r.unit)).collect();
        assert_eq!(shown, [expected]);
    }
}

#[test]
fn emoncms_with_the_node_in_the_path_and_json_as_the_body() {
    let models = Models::builtin().expect("descriptions");
    let mut devices = Devices::new(&models, None);
    let request = Request {
        path: "/emoncms/input/post/emontx4?apikey=x".into(),
        body: br#"{"P1":5,"E1":7,"time":"2026-01-01T00:00:00Z"}"#.to_vec(),
    };
    let values = devices.request(&request).expect("a post");
    let shown: Vec<_> =
        values.iter().map(|r| format!("{:?} {} {} {:?}", r.meter, r.quantity, r.value, r.time)).collect();
    assert_eq!(
        shown,
        [
            "Some(\"emontx4\") import register 1 7 Some(Timestamp(1767225600))",
            "Some(\"emontx4\") power 1 5 Some(Timestamp(1767225600))"
        ]
    );
}
