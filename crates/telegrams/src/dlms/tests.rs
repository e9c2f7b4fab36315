//! Our client and our server talk to each other: every protection, blocks, selection, the contact.

use super::{
    acse::{Association, InitiateRequest},
    apdu::{Selection, Target},
    axdr::Value,
    client::{Authentication, Client, Progress},
    disconnect::{Effect, ReadBack, Wanted, judge},
    objects::{self, ASSOCIATION, DISCONNECT, Disconnect, Objects},
    profile,
    security::OwnCounter,
    server::{Access, Server},
    time::DateTime,
};
use crate::{Fault, cipher::Keys};
use metering::Timestamp;

const START: i64 = 1_767_225_600;
const ENERGY: Target = Target { class: 3, obis: [1, 0, 1, 8, 0, 255], index: 2 };
const CLOCK: Target = Target { class: 8, obis: [0, 0, 1, 0, 0, 255], index: 2 };
const PROFILE: Target = Target { class: 7, obis: [1, 0, 99, 1, 0, 255], index: 2 };
const CONTACT: Target = Target { class: 70, obis: DISCONNECT, index: 2 };

fn keys() -> Keys {
    Keys { encryption: [7; 16], authentication: Some([9; 16]) }
}

fn reserved() -> OwnCounter {
    let mut counter = OwnCounter::restarted(1);
    counter.kept(10_000);
    counter
}

fn server(is_approved: bool) -> Server {
    let rows = (0..240_i64).map(|row| {
        let at = Timestamp(START + row * 900);
        let time = DateTime::encode_utc(at);
        (at, Value::Structure(vec![Value::Octets(&time), Value::Unsigned(row.unsigned_abs() * 25, 4)]).encoded())
    });
    let all = vec![
        objects::register(ENERGY.obis, 12_345_678, 0, 30),
        objects::clock(Timestamp(START)),
        objects::profile(PROFILE.obis, 900, &[CLOCK, ENERGY], rows.collect()),
        objects::data([0, 0, 42, 0, 0, 255], &Value::Octets(b"GTL0000000000001")),
    ];
    let disconnect = Disconnect { output: true, control: 1, mode: 4, is_approved };
    let access = Access { public: true, password: Some(b"secret".to_vec()), keys: Some(keys()) };
    Server::new(Objects::new(all, disconnect), *b"GTL\0\0\0\0\x01", access, reserved(), None)
}

fn hls() -> Authentication {
    Authentication::HlsGmac { keys: keys(), title: *b"GTC\0\0\0\0\x02", challenge: vec![3; 16], suite: 0 }
}

/// Sends until the answer is more than "send this".
fn exchange(client: &mut Client, server: &mut Server, first: Vec<u8>) -> Result<Progress, Fault> {
    let mut apdu = first;
    for _ in 0..1_000 {
        let answer = server.answer(&apdu, [5; 16]).expect("every request is answered");
        match client.take(&answer)? {
            Progress::Send(next) => apdu = next,
            other => return Ok(other),
        }
    }
    panic!("no end");
}

fn opened(authentication: Authentication, server: &mut Server) -> Result<Client, Fault> {
    let mut client = Client::new(authentication, 512, reserved(), None);
    let request = client.open()?;
    assert_eq!(exchange(&mut client, server, request)?, Progress::Opened);
    Ok(client)
}

fn get(client: &mut Client, server: &mut Server, target: Target, selection: Option<Selection<'_>>) -> Vec<u8> {
    let request = client.get(target, selection).expect("a request");
    match exchange(client, server, request).expect("an answer") {
        Progress::Value(value) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_authentication_reads_registers_and_a_profile_in_blocks() {
    for authentication in [Authentication::None, Authentication::Lls(b"secret".to_vec()), hls()] {
        let mut server = server(false);
        let mut client = opened(authentication, &mut server).expect("an association");
        let value = get(&mut client, &mut server, ENERGY, None);
        assert_eq!(Value::whole(&value), Some(Value::Unsigned(12_345_678, 4)));
        let buffer = get(&mut client, &mut server, PROFILE, None);
        assert!(buffer.len() > 4_000, "it needs many blocks");
        let whole = Value::whole(&buffer).expect("a buffer");
        let rows = profile::rows(&whole, &[CLOCK, ENERGY], 900, None, 1_000).expect("rows");
        assert_eq!((rows.len(), rows[239].time), (240, Some(Timestamp(START + 239 * 900))));
        let entries = profile::entries(2, 3);
        let some = get(&mut client, &mut server, PROFILE, Some(Selection { selector: 2, parameters: &entries }));
        assert_eq!(Value::whole(&some).and_then(|v| v.items().map(<[_]>::len)), Some(2));
        let range = profile::range(CLOCK, Timestamp(START + 900), Timestamp(START + 3_600));
        let some = get(&mut client, &mut server, PROFILE, Some(Selection { selector: 1, parameters: &range }));
        assert_eq!(Value::whole(&some).and_then(|v| v.items().map(<[_]>::len)), Some(4));
        let list = get(&mut client, &mut server, Target { class: 15, obis: ASSOCIATION, index: 2 }, None);
        assert_eq!(Value::whole(&list).and_then(|v| v.items().map(<[_]>::len)), Some(6));
        let close = client.close();
        assert_eq!(exchange(&mut client, &mut server, close), Ok(Progress::Closed));
    }
}

#[test]
fn short_names_read_registers_and_a_profile_in_blocks() {
    for authentication in [Authentication::None, Authentication::Lls(b"secret".to_vec())] {
        let mut server = server(false);
        let mut client = Client::new(authentication, 512, reserved(), None).with_short_names();
        let request = client.open().expect("a request");
        assert_eq!(exchange(&mut client, &mut server, request), Ok(Progress::Opened));
        assert_eq!(client.agreed().map(|agreed| agreed.base_name), Some(0xFA00));
        assert!(client.get(ENERGY, None).is_err(), "nothing is named before the list is read");
        let list = client.list_names();
        let Ok(Progress::Value(list)) = exchange(&mut client, &mut server, list) else { panic!("no list") };
        client.take_names(&list).expect("a list");
        let value = get(&mut client, &mut server, ENERGY, None);
        assert_eq!(Value::whole(&value), Some(Value::Unsigned(12_345_678, 4)));
        let buffer = get(&mut client, &mut server, PROFILE, None);
        assert_eq!(Value::whole(&buffer).and_then(|v| v.items().map(<[_]>::len)), Some(240));
        let entries = profile::entries(2, 3);
        let some = get(&mut client, &mut server, PROFILE, Some(Selection { selector: 2, parameters: &entries }));
        assert_eq!(Value::whole(&some).and_then(|v| v.items().map(<[_]>::len)), Some(2));
        let unknown = Target { obis: [1, 0, 99, 9, 0, 255], ..ENERGY };
        assert!(client.get(unknown, None).is_err());
    }
}

#[test]
fn a_long_value_is_set_in_blocks() {
    let text = Target { class: 1, obis: [0, 0, 42, 0, 0, 255], index: 2 };
    for authentication in [Authentication::None, hls()] {
        let mut server = server(false);
        let mut client = opened(authentication, &mut server).expect("an association");
        let long: Vec<u8> = (0..5_000_u16).map(|at| at.to_le_bytes()[0]).collect();
        let value = Value::Octets(&long).encoded();
        let request = client.set(text, &value).expect("a request");
        assert_eq!(exchange(&mut client, &mut server, request), Ok(Progress::Done(0, None)));
        assert_eq!(get(&mut client, &mut server, text, None), value);
        let register = client.set(ENERGY, &value).expect("a request");
        let Ok(Progress::Done(code, None)) = exchange(&mut client, &mut server, register) else { panic!("no result") };
        assert_ne!(code, 0, "a register is not written from outside");
    }
}

/// An answer in blocks of general block transfer, one of which is lost on the way.
#[test]
fn general_block_transfer_recovers_a_lost_block() {
    use super::{
        apdu::{INVOKE, Response},
        push_link::Block,
    };
    let mut server = server(false);
    let mut client = opened(Authentication::None, &mut server).expect("an association");
    client.get(ENERGY, None).expect("a request");
    let value = Value::Octets(&[7; 300]).encoded();
    let answer = Response::Get(INVOKE, Ok(&value)).encode();
    let parts: Vec<&[u8]> = answer.chunks(50).collect();
    let block = |at: usize, streaming: bool| {
        let number = u16::try_from(at + 1).expect("few");
        Block { last: at + 1 == parts.len(), streaming, window: 1, number, acknowledged: 1, bytes: parts[at] }.encode()
    };
    let acknowledged = |progress: Result<Progress, Fault>| match progress {
        Ok(Progress::Send(bytes)) => Block::parse(&bytes).expect("a block").acknowledged,
        other => panic!("{other:?}"),
    };
    assert_eq!(acknowledged(client.take(&block(0, false))), 1);
    assert_eq!(client.take(&block(1, true)), Ok(Progress::Wait), "more comes by itself");
    assert_eq!(acknowledged(client.take(&block(3, false))), 2, "the third is asked for again");
    for at in 2..parts.len() - 1 {
        assert_eq!(acknowledged(client.take(&block(at, false))), u16::try_from(at + 1).expect("few"));
    }
    assert_eq!(client.take(&block(parts.len() - 1, false)), Ok(Progress::Value(value)));
    client.get(ENERGY, None).expect("a request");
    let outcome = (0..40).map(|_| client.take(&block(3, false))).find_map(Result::err);
    assert!(outcome.is_some(), "a block that never comes ends it");
}

#[test]
fn the_contact_moves_under_an_approval_only() {
    for approved in [false, true] {
        let mut server = server(approved);
        let mut client = opened(hls(), &mut server).expect("an association");
        let request = client.action(Target { index: 1, ..CONTACT }, Some(&[15, 0])).expect("a request");
        let Ok(Progress::Done(code, None)) = exchange(&mut client, &mut server, request) else { panic!("no result") };
        let output = Value::whole(&get(&mut client, &mut server, CONTACT, None)) == Some(Value::Boolean(true));
        let read = ReadBack { output: Some(output), control: None, mode: Some(4), load_voltage: None };
        let effect = judge(Wanted::Disconnected, code, read);
        assert_eq!(effect == Effect::Verified, approved, "{effect:?}");
    }
}

#[test]
fn wrong_passwords_keys_and_repetitions_are_refused() {
    assert!(opened(Authentication::Lls(b"wrong".to_vec()), &mut server(false)).is_err());
    let Authentication::HlsGmac { title, challenge, suite, .. } = hls() else { panic!() };
    let wrong = Keys { encryption: [8; 16], authentication: Some([9; 16]) };
    assert!(opened(Authentication::HlsGmac { keys: wrong, title, challenge, suite }, &mut server(false)).is_err());
    let mut meter = server(false);
    let mut client = opened(hls(), &mut meter).expect("an association");
    let request = client.get(ENERGY, None).expect("a request");
    let first = meter.answer(&request, [5; 16]).expect("an answer");
    let again = meter.answer(&request, [5; 16]).expect("an answer");
    assert_eq!(again.first(), Some(&0xD8), "a repeated counter is an exception");
    assert!(matches!(client.take(&first), Ok(Progress::Value(_))));
    assert_eq!(client.take(&first), Err(Fault::Replayed));
}

/// An association request without a key, with the highest counter there is: the meter's own client must still be let in.
#[test]
fn who_has_no_key_cannot_use_up_the_counters() {
    let mut meter = server(false);
    let honest = Client::new(hls(), 512, reserved(), None).open().expect("a request");
    let request = Association::parse(&honest).expect("an association");
    let initiate = InitiateRequest { dedicated_key: None, conformance: 0x1E_5D00, max_pdu: 512 }.encode();
    for control in [0x00, 0x10, 0x20, 0x30] {
        let mut body = vec![control, 0xFF, 0xFF, 0xFF, 0xFF];
        body.extend_from_slice(&initiate);
        body.extend_from_slice(&[0; 12]);
        let mut user_information = vec![0x21, u8::try_from(body.len()).expect("short")];
        user_information.extend_from_slice(&body);
        let forged = Association { user_information, ..request.clone() }.encode_request();
        let answer = meter.answer(&forged, [5; 16]).expect("an answer");
        let refused = Association::parse(&answer).expect("an AARE");
        assert_ne!((refused.result, refused.diagnostic), (0, 14), "{control:02x}");
    }
    assert!(opened(hls(), &mut meter).is_ok());
}

#[test]
fn nothing_is_read_before_the_client_has_proved_itself() {
    let mut meter = server(false);
    let mut client = Client::new(hls(), 512, reserved(), None);
    let aare = meter.answer(&client.open().expect("a request"), [5; 16]).expect("an AARE");
    let Ok(Progress::Send(_)) = client.take(&aare) else { panic!("the client must prove itself") };
    let request = client.get(ENERGY, None).expect("a request");
    assert_eq!(meter.answer(&request, [5; 16]).expect("an answer").first(), Some(&0xD8));
}

#[test]
fn arbitrary_bytes_do_not_stop_the_server() {
    let mut meter = server(true);
    let mut seed = 1_u64;
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..(seed >> 33) % 40 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push((seed >> 40).to_le_bytes()[0]);
        }
        seed = seed.wrapping_add(7);
        if let Some(first) = bytes.first_mut() {
            *first = [0x60, 0x62, 0xC0, 0xC1, 0xC3, 0xC8, 0xDB, 0xD0][usize::from(*first % 8)];
        }
        let _ = meter.answer(&bytes, [1; 16]);
    }
    assert!(opened(Authentication::None, &mut meter).is_ok());
}
