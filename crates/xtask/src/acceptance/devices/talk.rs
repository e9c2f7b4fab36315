//! Recorded conversations of DLMS again, in both roles: our client hears the recorded meter, our server hears the recorded client.

use std::{fs, path::Path};

use serde_json::Value as Json;
use telegrams::{
    bytes::from_hex,
    cipher::Keys,
    dlms::{
        acse::Association,
        apdu::Target,
        axdr::Value,
        client::{Authentication, Client, Progress},
        objects::{self, DISCONNECT, Disconnect, Objects},
        security::OwnCounter,
        server::{Access, Server},
    },
    folder::Entry,
    framing::wrapper::Wrapped,
};

const ENERGY: Target = Target { class: 3, obis: [1, 0, 1, 8, 0, 255], index: 2 };

/// Every conversation of the folder.
pub fn replay(folder: &Path, entries: &[(Entry, String)]) -> Result<(), String> {
    for (entry, _) in entries.iter().filter(|(entry, _)| entry.kind() == "dlms-talk") {
        let text = fs::read_to_string(folder.join(&entry.file)).map_err(|why| why.to_string())?;
        let frames = frames(&text)?;
        let keys = entry.keys().map_err(|why| why.to_string())?;
        let values = as_client(&frames, keys).map_err(|why| format!("{}: our client: {why}", entry.file))?;
        let answers = as_server(&frames, keys).map_err(|why| format!("{}: our server: {why}", entry.file))?;
        println!("{}: our client took {values} values, our server answered {answers} requests", entry.file);
    }
    Ok(())
}

/// APDUs in order: to the meter, and what is in them.
fn frames(text: &str) -> Result<Vec<(bool, Vec<u8>)>, String> {
    let frame = |line: &str| {
        let line: Json = serde_json::from_str(line).map_err(|why| why.to_string())?;
        let bytes = line["hex"].as_str().and_then(from_hex).ok_or("a line without hexadecimal")?;
        let apdu = Wrapped::parse(&bytes).ok_or("a frame that is not the wrapper")?.apdu.to_vec();
        Ok((line["to"] == "meter", apdu))
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(frame).collect()
}

fn counter() -> OwnCounter {
    let mut counter = OwnCounter::restarted(1);
    counter.kept(1_000_000);
    counter
}

/// The recorded answers are taken in order. What the client would send is its own; what it asks for is the recorded request.
fn as_client(frames: &[(bool, Vec<u8>)], keys: Option<Keys>) -> Result<usize, String> {
    let told = |why: telegrams::Fault| why.to_string();
    let opening = frames.first().and_then(|(_, apdu)| Association::parse(apdu)).ok_or("no AARQ at the beginning")?;
    let authentication = match (opening.mechanism, keys) {
        (0, _) => Authentication::None,
        (1, _) => Authentication::Lls(opening.authentication.clone()),
        (5, Some(keys)) => {
            let title = opening.title.ok_or("no client title")?;
            Authentication::HlsGmac { keys, title, challenge: opening.authentication.clone(), suite: 0 }
        }
        other => return Err(format!("mechanism {} is not ours", other.0)),
    };
    let mut client = Client::new(authentication, 512, counter(), None);
    client.open().map_err(told)?;
    let (mut values, mut goes_on) = (0, true);
    for (_, answer) in frames.iter().filter(|(to_meter, _)| !to_meter) {
        if !goes_on {
            client.get(ENERGY, None).map_err(told)?;
        }
        let progress = match client.take(answer) {
            Ok(progress) => progress,
            // A meter that answers nonsense to one question is asked the next.
            Err(_) if values > 0 => {
                goes_on = false;
                continue;
            }
            Err(why) => return Err(told(why)),
        };
        goes_on = matches!(progress, Progress::Send(_));
        if let Progress::Value(value) = progress {
            Value::whole(&value).ok_or("a value that does not end where it says")?;
            values += 1;
        }
    }
    if values == 0 { Err("no value".into()) } else { Ok(values) }
}

/// The recorded requests are answered by a meter with the same titles, keys and challenge.
fn as_server(frames: &[(bool, Vec<u8>)], keys: Option<Keys>) -> Result<usize, String> {
    let accepted = frames.iter().find(|(to_meter, _)| !to_meter).and_then(|(_, apdu)| Association::parse(apdu));
    let accepted = accepted.ok_or("no AARE")?;
    let challenge: [u8; 16] = accepted.authentication.clone().try_into().unwrap_or([1; 16]);
    let password = frames.first().and_then(|(_, apdu)| Association::parse(apdu)).map(|aarq| aarq.authentication);
    let access = Access { public: true, password, keys };
    let rows = (0..240_u32).map(|row| {
        let fields =
            vec![Value::Unsigned(u64::from(1_000_000 + row * 17), 4), Value::Unsigned(u64::from(row * 7 % 1000), 2)];
        (metering::Timestamp(i64::from(row) * 900), Value::Structure(fields).encoded())
    });
    let all = vec![
        objects::register(ENERGY.obis, 12_345_678, 0, 30),
        objects::profile([1, 0, 99, 1, 0, 255], 900, &[ENERGY, ENERGY], rows.collect()),
    ];
    let contact = Disconnect { output: true, control: 1, mode: 4, is_approved: true };
    let title = accepted.title.unwrap_or(*b"GTL\0\0\0\0\x01");
    let mut server = Server::new(Objects::new(all, contact), title, access, counter(), None);
    let mut answers = 0;
    for (_, request) in frames.iter().filter(|(to_meter, _)| *to_meter) {
        let answer = server.answer(request, challenge).ok_or("a request without an answer")?;
        if answer.first() == Some(&0xD8) {
            return Err(format!("request {} ended in an exception", answers + 1));
        }
        answers += 1;
    }
    // The last switching was a reconnection, or none was taken.
    let output = server.objects.get(&Target { class: 70, obis: DISCONNECT, index: 2 }, None);
    let switched = frames.iter().filter(|(to_meter, apdu)| *to_meter && apdu.first() == Some(&0xC3)).count();
    if switched >= 2 && output != Ok(Value::Boolean(true).encoded()) {
        return Err("the contact is not closed at the end".into());
    }
    Ok(answers)
}
