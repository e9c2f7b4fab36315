//! Models that came later: each is one description file and a few lines of a sample, no line of code.

use telegrams::{Reading, folder, models::Models};

fn decode(file: &str, contents: &str, models: &Models) -> Vec<String> {
    let entry = folder::Entry { file: file.into(), ..folder::Entry::default() };
    let readings = folder::decode(&entry, contents.as_bytes(), &|_| None, models).expect("a model that is known");
    let shown = |r: &Reading| {
        let time = r.time.map_or("-".into(), |time| time.to_string());
        format!("{} {time} {} {} {}", r.meter.as_deref().unwrap_or("-"), r.quantity, r.value, r.unit)
    };
    readings.iter().map(shown).collect()
}

#[test]
fn a_modbus_meter() {
    let image = r#"{"unit":1,"table":"input","registers":{"52":"c2a0","53":"0000","72":"4640","73":"e600","1282":"42a0","1283":"0000"}}"#;
    assert_eq!(
        decode("modbus/eastron_sdm72.json", image, &Models::builtin().expect("descriptions")),
        [
            "eastron_sdm72 - power -80 W",
            "eastron_sdm72 - import register 12345.5 kWh",
            "eastron_sdm72 - power export 80 W",
        ]
    );
}

#[test]
fn a_portal_with_hours_that_end_at_midnight() {
    let file = "CUPS;Fecha;Hora;Consumo_kWh;Metodo_obtencion\nES0021000000000000AA;2026/07/01;23:00;0,1;Real\nES0021000000000000AA;2026/07/01;24:00;0,25;Estimada\n";
    assert_eq!(
        decode("csv/datadis.csv", file, &Models::builtin().expect("descriptions")),
        [
            "ES0021000000000000AA 2026-07-01T21:00:00Z import interval energy 0.1 kWh",
            "ES0021000000000000AA 2026-07-01T22:00:00Z import interval energy 0.25 kWh",
        ]
    );
}

#[test]
fn a_portal_with_a_row_a_kind() {
    let file = "MPRN,Meter Serial Number,Read Value,Read Type,Read Date and End Time\n\
                10000000001,000000000012,0.123,Active Import Interval (kWh),01-07-2026 00:30\n\
                10000000001,000000000012,0.5,Active Export Interval (kWh),01-07-2026 00:30\n";
    assert_eq!(
        decode("csv/hdf.csv", file, &Models::builtin().expect("descriptions")),
        [
            "10000000001 2026-06-30T23:30:00Z import interval energy 0.123 kWh",
            "10000000001 2026-06-30T23:30:00Z export interval energy 0.5 kWh",
        ]
    );
}

#[test]
fn a_user_s_script_by_a_file_of_his_own() {
    let mut models = Models::builtin().expect("descriptions");
    let own = "name = 'reading head in the cellar'\nkind = 'json'\nmeter = 'id'\n[match]\ntopic = 'tele/cellar/'\nkeys = ['Bezug']\n\
               [value]\nBezug = { quantity = 'import register', unit = 'kWh' }\n";
    models.add("cellar.toml", own).expect("a file that is right");
    let line = r#"{"topic":"tele/cellar/SENSOR","payload":"{\"Time\":\"2026-07-01T12:00:00\",\"SML\":{\"Bezug\":12.5,\"id\":\"A-1\"}}"}"#;
    assert_eq!(decode("mqtt/cellar.jsonl", line, &models), ["A-1 - import register 12.5 kWh"]);
}

#[test]
fn a_push_that_names_its_objects_first() {
    use telegrams::dlms::{axdr::Value, push::Notification};
    let listed = |class, obis: &'static [u8; 6]| {
        let fields = vec![Value::Unsigned(class, 2), Value::Octets(obis), Value::Signed(2, 1), Value::Unsigned(0, 2)];
        Value::Structure(fields)
    };
    let list = Value::Array(vec![
        listed(1, &[0, 0, 96, 1, 0, 255]),
        listed(3, &[1, 0, 1, 8, 0, 255]),
        listed(3, &[1, 0, 1, 7, 0, 255]),
    ]);
    let body =
        Value::Structure(vec![list, Value::Octets(b"LGZ4711"), Value::Unsigned(12_345, 4), Value::Unsigned(351, 4)]);
    let apdu = [&[0x0F, 0, 0, 0, 1, 0][..], &body.encoded()].concat();
    let notification = Notification::parse(&apdu).expect("a notification");
    let models = Models::builtin().expect("descriptions");
    let layout = models.push(&notification, None).expect("a model").layout();
    let readings = notification.readings(layout, None);
    let shown: Vec<_> =
        readings.iter().map(|r| format!("{:?} {} {} {}", r.meter, r.quantity, r.value, r.unit)).collect();
    assert_eq!(shown, ["Some(\"LGZ4711\") 1-0:1.8.0*255 12345 Wh", "Some(\"LGZ4711\") 1-0:1.7.0*255 351 W"]);
}

fn push(body: &telegrams::dlms::axdr::Value<'_>) -> Vec<String> {
    use telegrams::dlms::push::{Layout, Notification};
    let apdu = [&[0x0F, 0, 0, 0, 1, 0][..], &body.encoded()].concat();
    let notification = Notification::parse(&apdu).expect("a notification");
    let models = Models::builtin().expect("descriptions");
    let layout = models
        .push(&notification, None)
        .map_or_else(|| Layout { trust_clock: true, ..Layout::default() }, |model| model.layout().clone());
    let readings = notification.readings(&layout, None);
    readings
        .iter()
        .map(|r| format!("{} {} {} {}", r.meter.as_deref().unwrap_or("-"), r.quantity, r.value, r.unit))
        .collect()
}

/// The layout that Wiener Netze publish for their customers' interface: push setup, number, time, date, then values by position.
#[test]
fn a_push_by_position_behind_its_push_setup() {
    use telegrams::dlms::axdr::Value;
    let mut body = vec![
        Value::Octets(&[0, 6, 25, 9, 0, 255]),
        Value::Octets(b"1121270000001"),
        Value::Octets(&[19, 1, 14, 0]),
        Value::Octets(&[7, 0xE5, 3, 25, 4]),
    ];
    body.extend([9_534_290, 2_896_624, 726_595, 2_561_341, 738, 0].map(|value| Value::Unsigned(value, 4)));
    let ten = push(&Value::Structure(body.clone()));
    body.extend([Value::Octets(&[]), Value::Octets(&[])]);
    let twelve = push(&Value::Structure(body));
    assert_eq!(ten, twelve);
    assert_eq!(twelve.len(), 6);
    assert_eq!(twelve[0], "1121270000001 1-0:1.8.0*255 9534290 Wh");
    assert_eq!(twelve[4], "1121270000001 1-0:1.7.0*255 738 W");
}

#[test]
fn a_number_behind_all_values() {
    use telegrams::dlms::axdr::Value;
    let scale = Value::Structure(vec![Value::Signed(0, 1), Value::Enum(30)]);
    let body =
        vec![Value::Octets(&[1, 0, 1, 8, 0, 255]), Value::Unsigned(12_345, 4), scale, Value::Octets(b"181220000009")];
    assert_eq!(push(&Value::Structure(body)), ["181220000009 1-0:1.8.0*255 12345 Wh"]);
}

#[test]
fn what_no_file_describes_is_named_and_shown() {
    let models = Models::builtin().expect("descriptions");
    let entry = folder::Entry { file: "csv/unknown.csv".into(), ..folder::Entry::default() };
    let why = folder::decode(&entry, b"When;How much\n2026-01-01;5\n", &|_| None, &models).expect_err("unknown");
    assert!(why.to_string().contains("model unknown") && why.to_string().contains("How much"), "{why}");
}
