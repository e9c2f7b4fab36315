//! Captures in pieces, and damaged ones: the same readings however they arrive, and never a wrong value where a checksum stands.

use rand_pcg::{
    Pcg64Mcg,
    rand_core::{RngCore, SeedableRng},
};
use telegrams::{
    Reading, Zone, checksum,
    cipher::Keys,
    dlms::{axdr::Value, push_link::Block, security},
    framing::hdlc::Frame,
    models::Models,
    stream::{Context, Line, Stream},
};

/// Damaged copies of each capture.
const COPIES: u32 = 200;

fn keys() -> Keys {
    Keys { encryption: [0x42; 16], authentication: Some([0x17; 16]) }
}

fn p1(number: u32) -> Vec<u8> {
    let body = format!(
        "/GTL5\\TEST\r\n\r\n1-3:0.2.8(50)\r\n0-0:1.0.0(260701{:02}0000S)\r\n0-0:96.1.1(47544C31)\r\n\
         1-0:1.8.1({:06}.123*kWh)\r\n1-0:2.8.1(000001.000*kWh)\r\n1-0:1.7.0(00.{:03}*kW)\r\n\
         0-1:24.1.0(003)\r\n0-1:96.1.0(4731)\r\n0-1:24.2.1(260701{:02}0000S)(00012.{:03}*m3)\r\n!",
        number % 24,
        number,
        number % 1000,
        number % 24,
        number % 1000
    );
    let crc = checksum::arc(body.as_bytes());
    format!("{body}{crc:04X}\r\n").into_bytes()
}

fn p1_encrypted(number: u32) -> Vec<u8> {
    security::general_glo(*b"GTL\0\0\0\0\x01", &security::seal(0x30, *b"GTL\0\0\0\0\x01", number, &keys(), &p1(number)))
}

/// A list of SML with energy and power.
fn sml(number: u32) -> Vec<u8> {
    let entry = |obis: [u8; 6], unit: u8, scaler: i8, value: &[u8]| {
        let mut out = vec![0x77, 0x07];
        out.extend_from_slice(&obis);
        out.extend_from_slice(&[0x01, 0x01, 0x62, unit, 0x52, scaler.to_le_bytes()[0]]);
        out.extend_from_slice(value);
        out.push(0x01);
        out
    };
    let message = |body: &[u8]| {
        let mut out = vec![0x76, 0x03, 0x01, 0x02, 0x62, 0x00, 0x62, 0x00];
        out.extend_from_slice(body);
        let crc = checksum::x25(&out).to_le_bytes();
        out.extend_from_slice(&[0x63, crc[0], crc[1], 0x00]);
        out
    };
    let mut energy = vec![0x59];
    energy.extend_from_slice(&i64::from(number).to_be_bytes());
    let power = [0x55, 0x1B, 0x1B, 0x1B, 0x1B];
    let mut list = vec![0x72, 0x63, 0x07, 0x01, 0x77, 0x01, 0x05, 1, 2, 3, 4, 0x01, 0x01, 0x72];
    list.extend(entry([1, 0, 1, 8, 0, 255], 30, -1, &energy));
    list.extend(entry([1, 0, 16, 7, 0, 255], 27, 0, &power));
    list.extend_from_slice(&[0x01, 0x01]);
    let contents = [message(&[0x72, 0x63, 0x02, 0x01, 0x71, 0x01]), message(&list)].concat();
    let mut escaped = Vec::new();
    let mut rest = contents.as_slice();
    while let Some((first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(&[0x1B; 4]) {
            escaped.extend_from_slice(&[0x1B; 8]);
            rest = after;
        } else {
            escaped.push(*first);
            rest = tail;
        }
    }
    let padding = (4 - escaped.len() % 4) % 4;
    let mut out = vec![0x1B, 0x1B, 0x1B, 0x1B, 1, 1, 1, 1];
    out.extend(escaped);
    out.extend(vec![0; padding]);
    out.extend_from_slice(&[0x1B, 0x1B, 0x1B, 0x1B, 0x1A, u8::try_from(padding).expect("small")]);
    let crc = checksum::x25(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn notification(number: u32) -> Vec<u8> {
    let value = |obis: [u8; 6], value: u64, unit: u8| {
        let scale = Value::Structure(vec![Value::Signed(0, 1), Value::Enum(unit)]);
        Value::Structure(vec![Value::Octets(&obis), Value::Unsigned(value, 4), scale]).encoded()
    };
    let mut out = vec![0x0F, 0, 0, 0, 1, 0, 0x01, 3];
    out.extend(Value::Structure(vec![Value::Octets(&[0, 0, 96, 1, 0, 255]), Value::Visible(b"GTL1")]).encoded());
    out.extend(value([1, 0, 1, 8, 0, 255], u64::from(number), 30));
    out.extend(value([1, 0, 1, 7, 0, 255], 351, 27));
    out
}

/// Segments of HDLC around an APDU.
fn segments(apdu: &[u8], size: usize) -> Vec<u8> {
    let whole = [&[0xE6, 0xE7, 0x00], apdu].concat();
    let parts: Vec<&[u8]> = whole.chunks(size).collect();
    let frames = parts.iter().enumerate().map(|(at, part)| {
        let segmented = at + 1 < parts.len();
        let frame = Frame { segmented, destination: &[0x03], source: &[0x21], control: 0x13, information: part };
        frame.encode().expect("short enough")
    });
    frames.collect::<Vec<_>>().concat()
}

fn push(number: u32) -> Vec<u8> {
    segments(&notification(number), 40)
}

fn push_blocks(number: u32) -> Vec<u8> {
    let title = *b"GTL\0\0\0\0\x01";
    let sealed = security::general_glo(title, &security::seal(0x30, title, number, &keys(), &notification(number)));
    let parts: Vec<&[u8]> = sealed.chunks(50).collect();
    let blocks = parts.iter().enumerate().map(|(at, bytes)| {
        let number = u16::try_from(at + 1).expect("few");
        let last = at + 1 == parts.len();
        segments(&Block { last, streaming: true, window: 0, number, acknowledged: 0, bytes }.encode(), 1_000)
    });
    blocks.collect::<Vec<_>>().concat()
}

/// What a meter's line is told beforehand: nothing, or its keys.
type Known = Option<fn() -> Keys>;

fn context(models: &Models, known: Known) -> Context<'_> {
    Context { models, zone: Zone::named("Europe/Amsterdam"), keys: known.map(|keys| keys()) }
}

/// Readings of a capture that arrives in pieces of the given sizes.
fn read(models: &Models, (line, known): (Line, Known), bytes: &[u8], mut size: impl FnMut() -> usize) -> Vec<Reading> {
    let mut out = Vec::new();
    let mut stream = Stream::new(line, context(models, known));
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(size().clamp(1, rest.len()));
        stream.push(piece, &mut |outcome| out.extend(outcome.into_iter().flatten()));
        rest = tail;
    }
    stream.end(&mut |outcome| out.extend(outcome.into_iter().flatten()));
    out
}

type Capture = fn(u32) -> Vec<u8>;

const FORMATS: [(&str, (Line, Known), Capture, usize); 5] = [
    ("P1", (Line::P1, None), p1, 4),
    ("P1 encrypted", (Line::P1, Some(keys)), p1_encrypted, 4),
    ("SML", (Line::Sml, None), sml, 2),
    ("DLMS push in segments", (Line::PushHdlc, None), push, 2),
    ("DLMS push encrypted in blocks", (Line::PushHdlc, Some(keys)), push_blocks, 2),
];

fn below(random: &mut Pcg64Mcg, limit: usize) -> usize {
    usize::try_from(random.next_u64() % u64::try_from(limit.max(1)).expect("small")).expect("small")
}

#[test]
fn a_capture_gives_the_same_readings_however_it_arrives() {
    let models = Models::builtin().expect("descriptions");
    for (name, line, telegram, readings) in FORMATS {
        // The beginning is cut: a reader starts anywhere.
        let whole = [&telegram(1)[20..], &telegram(2), &telegram(3), &telegram(4)].concat();
        let expected = read(&models, line, &whole, || usize::MAX);
        assert_eq!(expected.len(), 3 * readings, "{name}");
        assert_eq!(read(&models, line, &whole, || 1), expected, "{name}, byte by byte");
        for seed in 0..20 {
            let mut random = Pcg64Mcg::seed_from_u64(seed);
            let pieces = read(&models, line, &whole, || 1 + below(&mut random, 90));
            assert_eq!(pieces, expected, "{name}, seed {seed}");
        }
    }
}

#[test]
fn damage_never_gives_a_wrong_value_and_the_next_telegram_is_found() {
    let models = Models::builtin().expect("descriptions");
    for (name, line, telegram, _) in FORMATS {
        let good = [telegram(7), telegram(8), telegram(9)].concat();
        let last = telegram(10);
        let known = read(&models, line, &[good.as_slice(), &last].concat(), || usize::MAX);
        let of_last = read(&models, line, &last, || usize::MAX);
        for seed in 0..COPIES {
            let mut random = Pcg64Mcg::seed_from_u64(u64::from(seed));
            let mut copy = good.clone();
            match seed % 3 {
                0 => {
                    for _ in 0..=below(&mut random, 3) {
                        let at = below(&mut random, copy.len());
                        copy[at] ^= 1 << below(&mut random, 8);
                    }
                }
                1 => {
                    let from = below(&mut random, copy.len());
                    let to = from + below(&mut random, (copy.len() - from).min(60));
                    copy.drain(from..to);
                }
                _ => {
                    let cut = below(&mut random, copy.len());
                    let other = good[below(&mut random, good.len())..].to_vec();
                    copy.truncate(cut);
                    copy.extend(other);
                }
            }
            // A telegram that broke off may swallow the beginning of the next: it is found again within two.
            copy.extend_from_slice(&last);
            copy.extend_from_slice(&last);
            let found = read(&models, line, &copy, || usize::MAX);
            let wrong: Vec<_> = found.iter().filter(|reading| !known.contains(reading)).collect();
            assert!(wrong.is_empty(), "{name}, seed {seed}: {wrong:?}");
            assert!(
                of_last.iter().all(|reading| found.contains(reading)),
                "{name}, seed {seed}: the last telegram is lost"
            );
        }
    }
}

/// A meter's keys are known: whoever can write to its line must not be able to speak for it, by leaving the protection out or by sending
/// again what the meter has sent.
#[test]
fn with_keys_nothing_in_the_clear_and_nothing_twice_is_believed() {
    let models = Models::builtin().expect("descriptions");
    for (line, sealed, clear) in
        [(Line::P1, p1_encrypted as Capture, p1 as Capture), (Line::PushHdlc, push_blocks, push)]
    {
        let known: (Line, Known) = (line, Some(keys));
        let honest = read(&models, known, &[sealed(5), sealed(6)].concat(), || usize::MAX);
        assert!(!honest.is_empty());
        let attacked = [clear(9), sealed(5), clear(9), sealed(5), sealed(4), sealed(6), sealed(6), clear(9)].concat();
        assert_eq!(read(&models, known, &attacked, || usize::MAX), honest, "{line:?}");
    }
}
