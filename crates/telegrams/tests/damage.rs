//! Damaged copies of every format: an answer each time, never a panic, never more readings than bytes; and where a frame carries a CRC,
//! never a value that no good frame carries.

use rand_pcg::{
    Pcg64Mcg,
    rand_core::{RngCore, SeedableRng},
};
use telegrams::{
    bytes::{from_hex, hex},
    folder::{Entry, decode},
    framing::mbus,
    mbus::{Formats, header, quantity, telegram},
    modbus::{frame::Request, map::Table},
    models::Models,
};

/// Damaged copies of each format.
const COPIES: u64 = 200;

fn below(random: &mut Pcg64Mcg, limit: usize) -> usize {
    usize::try_from(random.next_u64() % u64::try_from(limit.max(1)).expect("small")).expect("small")
}

fn flipped(good: &[u8], flips: usize, random: &mut Pcg64Mcg) -> Vec<u8> {
    let mut copy = good.to_vec();
    for _ in 0..flips {
        let at = below(random, copy.len());
        copy[at] ^= 1 << below(random, 8);
    }
    copy
}

/// Flipped bits, a part cut out, or two halves joined.
fn damaged(good: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    match seed % 3 {
        0 => {
            let flips = 1 + below(&mut random, 4);
            flipped(good, flips, &mut random)
        }
        1 => {
            let (from, count) = (below(&mut random, good.len()), below(&mut random, 60));
            [&good[..from], good.get(from + count..).unwrap_or_default()].concat()
        }
        _ => {
            let (cut, from) = (below(&mut random, good.len()), below(&mut random, good.len()));
            [&good[..cut], &good[from..]].concat()
        }
    }
}

fn line(topic: &str, payload: &str) -> String {
    format!("{{\"topic\":{topic:?},\"payload\":{payload:?}}}\n")
}

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let records = from_hex("7278563412 653201 02 09000000 0C0427104885 0C2B51010000 02FDC9FC01E100").expect("hex");
    let wired = mbus::encode(8, 1, &records).expect("short");
    let mut wireless = from_hex("0044653278563412 0102 7A09000000 0C0427104885 0C2B51010000").expect("hex");
    wireless[0] = u8::try_from(wireless.len() - 1).expect("short");
    let day = ["1.5"; 48].join(",");
    let mqtt = [
        line("tele/plug/SENSOR", r#"{"Time":"2026-01-01T12:00:00","ENERGY":{"Total":[1.5,2],"Power":3}}"#),
        line("pro/status/em:0", r#"{"id":0,"a_act_power":1.5,"total_act_power":7}"#),
        line("zigbee2mqtt/plug", r#"{"energy":1.2,"state":"ON"}"#),
        line(
            "homeassistant/sensor/m/e/config",
            r#"{"stat_t":"m/e","dev_cla":"energy","unit_of_meas":"kWh","name":"E"}"#,
        ),
        line("m/e", "12.5"),
        line("emon/node/power1", "42"),
        line("v1/gateway/telemetry", r#"{"A":[{"ts":1767225600000,"values":{"power":5}}]}"#),
    ];
    let sparkplug = "{\"topic\":\"spBv1.0/g/DBIRTH/e/d\",\"payload_hex\":\"12100a01451007200a690000000000002940\"}\n";
    let http = "{\"path\":\"/input/post?node=a&fulljson=%7B%22power1%22%3A100%7D\",\"body\":\"\"}\n";
    let espi = r#"<feed xmlns:e="x"><entry><link rel="self" href="/resource/ReadingType/1"/><content><e:ReadingType><e:uom>72</e:uom></e:ReadingType></content></entry><entry><link rel="up" href="/resource/UsagePoint/U/MeterReading/1/IntervalBlock"/><content><e:IntervalBlock><e:IntervalReading><e:timePeriod><e:duration>900</e:duration><e:start>1767225600</e:start></e:timePeriod><e:value>5</e:value></e:IntervalReading></e:IntervalBlock></content></entry></feed>"#;
    let iec = r#"<m:MeterReadings xmlns:m="x"><m:MeterReading><m:Readings><m:timeStamp>2026-01-01T00:00:00Z</m:timeStamp><m:value>5</m:value><m:ReadingType ref="0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"/></m:Readings></m:MeterReading></m:MeterReadings>"#;
    let mscons = "UNB+UNOC:3+A+B+260101:0000+R'UNH+1+MSCONS:D:04B:UN:2.4c'LOC+172+DE1'LIN+1'PIA+5+1-1?:1.8.0:SRW'QTY+220:1'DTM+9:202601010000?+00:303'UNT+7+1'UNZ+1+R'";
    let cmep = "MEPMD01,19970819,X,U,C,M1,,M1,,1,KWH,1.0,00000100,2,202601010100,R0,8,202601010200,R0,9\n";
    let csv = "Start,End,Consumption (kWh)\n2026-01-01T00:00:00Z,2026-01-01T00:30:00Z,0.5\n";
    let modbus = r#"{"registers":{"52":"c2a0","53":"0000","72":"4640","73":"e600"}}"#;
    vec![
        ("p1", b"/GTL5X\r\n\r\n1-0:1.8.1(000012.5*kWh)\r\n0-1:24.3.0(260701120000)(00)(60)(1)(0-1:24.2.1)(m3)\r\n(00012.345)\r\n!\r\n".to_vec()),
        ("mbus", wired),
        ("wmbus", hex(&wireless).into_bytes()),
        ("modbus", modbus.into()),
        ("mqtt", mqtt.concat().into_bytes()),
        ("sparkplug", sparkplug.into()),
        ("http", http.into()),
        ("nem12", format!("100,NEM12,202601010000,A,B\n200,N,E1,E1,E1,N1,S1,kWh,30,\n300,20260101,{day},V,,,,\n400,1,48,A,,\n900\n").into_bytes()),
        ("espi", espi.into()),
        ("iec61968", iec.into()),
        ("mscons", mscons.into()),
        ("csv", cmep.into()),
        ("csv", csv.into()),
    ]
}

#[test]
fn every_format_answers_whatever_comes() {
    let models = Models::builtin().expect("descriptions");
    for (kind, good) in samples() {
        let name = if kind == "modbus" { "eastron_sdm72.json" } else { "sample" };
        let entry = Entry { file: format!("{kind}/{name}"), zone: Some("Europe/Berlin".into()), ..Entry::default() };
        let whole = decode(&entry, &good, &|_| None, &models);
        assert!(whole.as_ref().is_ok_and(|readings| !readings.is_empty()), "{kind}: {whole:?}");
        for seed in 0..COPIES {
            let copy = damaged(&good, seed);
            if let Ok(readings) = decode(&entry, &copy, &|_| None, &models) {
                assert!(readings.len() <= copy.len(), "{kind}, seed {seed}: {} readings", readings.len());
            }
        }
    }
}

#[test]
fn a_radio_frame_with_block_checksums_is_right_or_nothing() {
    let mut plain = from_hex("0044653278563412 0102 7A09000000 0C0427104885 0C2B51010000 0C0327104885 04FB8275150000")
        .expect("hex");
    plain.resize(60, 0x2F);
    plain[0] = u8::try_from(plain.len() - 1).expect("short");
    let good = header::with_block_checksums(&plain);
    let read = |frame: &[u8]| {
        let telegram = telegram::wireless(frame, None, &mut Formats::default())?;
        quantity::wireless(&telegram, |_| None)
    };
    let known = read(&good).expect("a telegram");
    assert_eq!(known.len(), 4);
    for seed in 0..COPIES {
        let copy = damaged(&good, seed);
        if let Ok(readings) = read(&copy) {
            assert_eq!(readings, known, "seed {seed}");
        }
    }
}

/// The sum of wired M-Bus is eight bits: every single flipped bit is seen, as is a lost part; a pair that cancels out is not.
#[test]
fn a_wired_frame_with_one_flipped_bit_is_refused() {
    let records = from_hex("7278563412 653201 02 09000000 0C0427104885 0C2B51010000").expect("hex");
    let good = mbus::encode(8, 1, &records).expect("short");
    let models = Models::builtin().expect("descriptions");
    let entry = Entry { file: "mbus/x".into(), ..Entry::default() };
    for at in 0..good.len() * 8 {
        let mut copy = good.clone();
        copy[at / 8] ^= 1 << (at % 8);
        assert!(decode(&entry, &copy, &|_| None, &models).is_err(), "bit {at}");
    }
}

#[test]
fn a_modbus_answer_on_a_line_is_right_or_nothing() {
    let request = Request { transaction: 1, unit: 1, table: Table::Input, address: 72, count: 4 };
    // The CRC by the rule of the specification, so that a mistake of ours is not its own proof.
    let mut good = from_hex("010408 4640E600 42A00000").expect("hex");
    let crc = good.iter().fold(0xFFFF_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    });
    good.extend_from_slice(&crc.to_le_bytes());
    let known = request.rtu_answer(&good).expect("an answer").expect("whole");
    for seed in 0..COPIES {
        if let Ok(Some(words)) = request.rtu_answer(&damaged(&good, seed)) {
            assert_eq!(words, known, "seed {seed}");
        }
    }
}
