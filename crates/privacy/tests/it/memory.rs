//! What an operator holds, on its disk and in its memory: the image of a running process is searched for readings in clear, and the
//! search finds them in one that was made to keep them.
#![allow(clippy::print_stdout)] // the process that is searched says where it stands
#![cfg(target_os = "linux")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
};

use ed25519_dalek::Signer;
use privacy::{
    Field,
    commitment::{CommittedDay, Generators},
    frame::{BYTES_MAX, Day},
    hex::Hex,
    merkle,
    operator::MaskedStore,
    query::{Answer, Query, is_signed},
    search,
};

use crate::world::{FIRST, World, id, key, signed};

/// The directory of the operator's process, and whether it also keeps what it must not have.
const DIRECTORY: &str = "GRIDTALLY_OPERATOR_DIRECTORY";
const PLANTED: &str = "GRIDTALLY_OPERATOR_PLANTED";
const HOMES: usize = 15;

/// Home `n`'s day as the frame that its meter sends.
pub fn day_frame(world: &World, home: usize, generators: &Generators) -> Vec<u8> {
    let (meter, key_of) = (id(home), &world.keys[&id(home)]);
    let readings: Vec<i64> = (0..96).map(|t| world.readings[&(meter, Field::Import, FIRST + t)]).collect();
    let mut masks = [0; 96];
    key_of.fill(Field::Import, 0, FIRST, &mut masks).expect("in range");
    let masked = readings.iter().zip(masks).map(|(x, mask)| x.cast_unsigned().wrapping_add(mask));
    let values: Vec<u8> = masked.flat_map(u64::to_le_bytes).collect();
    let committed = CommittedDay::new(generators, key_of, Field::Import, FIRST, &readings).expect("in range");
    let day = Day {
        meter,
        epoch: 1,
        field_and_rev: Day::said(Field::Import, 0),
        first: FIRST,
        present: &[],
        values: &values,
        root: committed.root,
        total: committed.total().expect("points"),
    };
    let mut out = [0; BYTES_MAX];
    day.write(&mut out, |parts| key(30).sign(&parts.concat()).to_bytes()).expect("writes").to_vec()
}

/// Starts this program as an operator.
fn operator(directory: &std::path::Path, planted: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "memory::an_operator_keeps_what_it_got", "--nocapture", "--test-threads", "1"])
        .env(DIRECTORY, directory)
        .env(PLANTED, planted)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// The process that is searched: takes frames, keeps them on its disk, decodes the day's sums, and waits. Without its directory this
/// is a check that a frame which was altered on its way is not taken.
#[test]
fn an_operator_keeps_what_it_got() {
    let public = Hex(key(30).verifying_key().to_bytes());
    let is_good = |parts: [&[u8]; 2], signature: &[u8; 64]| is_signed(&public, &parts.concat(), &Hex(*signature));
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        let mut world = World::new(HOMES, 1);
        world.fill(1, 96, Field::Import);
        let mut frame = day_frame(&world, 0, &Generators::default());
        assert!(Day::read(&frame, is_good).is_ok());
        frame[200] ^= 1;
        assert!(Day::read(&frame, is_good).is_err());
        return;
    };
    let mut lines = BufReader::new(std::io::stdin().lock()).lines().map(|line| line.expect("a line"));
    let mut store = MaskedStore::default();
    for _ in 0..HOMES {
        let frame: Vec<u8> = serde_json::from_str(&lines.next().expect("a frame")).expect("bytes");
        let day = Day::read(&frame, is_good).expect("a frame");
        assert_eq!(store.take_day(&day), (96, Vec::new()));
    }
    let kept: Vec<u8> = store.values().flat_map(|(_, _, _, value)| value.to_le_bytes()).collect();
    fs::write(std::path::Path::new(&directory).join("masked"), kept).expect("writes");
    let (query, answer): (Query, Answer) = serde_json::from_str(&lines.next().expect("an answer")).expect("JSON");
    let sums = store.decode(&query, &[answer]).expect("decodes");
    // what it must not have, in the form that is asked for
    let form = std::env::var(PLANTED).unwrap_or_default();
    let planted: Vec<i64> = serde_json::from_str(&lines.next().expect("a list")).expect("numbers");
    let planted: Vec<u8> = match form.as_str() {
        "integers" => planted.iter().flat_map(|x| x.to_le_bytes()).collect(),
        "differences" => planted.windows(2).flat_map(|p| zigzag(p[1] - p[0])).collect(),
        "text" => planted.iter().map(|x| format!("{x};")).collect::<String>().into_bytes(),
        _ => Vec::new(),
    };
    println!("\nsums {}", serde_json::to_string(&sums).expect("JSON"));
    std::hint::black_box((&store, &planted));
    let end = lines.next();
    std::hint::black_box((store, planted, end));
}

fn zigzag(difference: i64) -> Vec<u8> {
    let mut left = ((difference << 1) ^ (difference >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left.to_le_bytes()[0] | 0x80);
        left >>= 7;
    }
    bytes.push(left.to_le_bytes()[0]);
    bytes
}

/// Everything that the process has written to or could write to.
fn image(process: u32) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("maps");
    let memory = fs::File::open(format!("/proc/{process}/mem")).expect("memory");
    let mut image = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
        let mut bytes = vec![0; (number(to) - number(from)) as usize];
        // pages that were never touched may not be there
        if memory.read_exact_at(&mut bytes, number(from)).is_ok() {
            image.extend(bytes);
        }
    }
    image
}

/// Plays a day with an operator in a process of its own; what the search finds on its disk and in its memory.
fn found(form: &str) -> (Vec<String>, usize) {
    let generators = Generators::default();
    let mut world = World::new(HOMES, 9);
    world.fill(HOMES, 96, Field::Import);
    let query = world.spatial(0..HOMES, FIRST, 96);
    let answer = world.ask(&signed(query.clone())).expect("answers");
    let truth: Vec<Vec<i64>> =
        (0..HOMES).map(|n| (0..96).map(|t| world.readings[&(id(n), Field::Import, FIRST + t)]).collect()).collect();
    let folder = std::env::temp_dir().join(format!("gridtally-operator-{}-{form}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let mut child = operator(&folder, form);
    let mut to = child.stdin.take().expect("piped");
    for home in 0..HOMES {
        writeln!(to, "{}", serde_json::to_string(&day_frame(&world, home, &generators)).expect("JSON"))
            .expect("writes");
    }
    writeln!(to, "{}", serde_json::to_string(&(&query, &answer)).expect("JSON")).expect("writes");
    // an operator that is not made to keep readings is not sent any
    let sent: &[i64] = if form.is_empty() { &[] } else { &truth[4][30..50] };
    writeln!(to, "{}", serde_json::to_string(sent).expect("JSON")).expect("writes");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let sums = lines.find_map(|line| line.strip_prefix("sums ").map(str::to_owned)).expect("the operator decodes");
    let sums: Vec<i64> = serde_json::from_str(&sums).expect("numbers");
    assert!((0..96).all(|t| sums[t] == truth.iter().map(|home| home[t]).sum::<i64>()), "the sums are exact");
    let image = image(child.id());
    let homes: Vec<&[i64]> = truth.iter().map(Vec::as_slice).collect();
    let mut forms: Vec<String> =
        search::find_any(&image, &homes, 50).iter().map(|(home, found)| format!("{home} {}", found.form)).collect();
    let mut disk = Vec::new();
    fs::File::open(folder.join("masked")).and_then(|mut file| file.read_to_end(&mut disk)).expect("reads");
    assert!(search::find_any(&disk, &homes, 1).is_empty(), "on the operator's disk");
    // the masked values are in the image: it is the right one
    let one = &disk[..32];
    assert!(image.windows(32).any(|w| w == one), "the store is not in the image");
    drop(to);
    assert!(child.wait().expect("ends").success());
    fs::remove_dir_all(&folder).expect("removes");
    forms.sort();
    forms.dedup();
    (forms, merkle::root(&[]).len() + image.len())
}

#[test]
fn an_operators_memory_holds_no_reading() {
    let (forms, bytes) = found("");
    assert!(bytes > 100_000, "an image of {bytes} bytes is none");
    assert_eq!(forms, Vec::<String>::new());
}

#[test]
fn readings_that_are_planted_in_memory_are_found() {
    for (form, name) in
        [("integers", "4 64-bit integers"), ("differences", "4 zigzag differences"), ("text", "4 decimal text")]
    {
        let (forms, _) = found(form);
        assert!(forms.iter().any(|f| f == name), "{form}: {forms:?}");
    }
}
