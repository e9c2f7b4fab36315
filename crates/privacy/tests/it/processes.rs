//! Meters, operator, custodian and witness as processes of their own, each killed with SIGKILL at a moment that is drawn: no mask hides
//! two readings, no cell is released twice, no budget is lost or spent twice, no head is vouched for that does not continue the last.
//!
//! A party is one function over lines: it reads its directory, then answers each line with one. What it must not lose it writes and
//! synchronises before it answers. The parent gives the lines; where a party dies it is started again and given the line again.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use privacy::{
    Custodian, Decision, Event, Field, MaskCounter,
    draws::Draws,
    journal,
    log::{Checkpoint, Signed},
    merkle,
    operator::{MaskedReading, MaskedStore, Taken},
    query::{Adjacency, Answer, Mechanism, Purpose, Query, Request, SpatialQuery, StatisticQuery},
};
use serde::{Deserialize, Serialize};

use crate::world::{FIRST, NOW, World, id, key, policy, signed};

const HOMES: usize = 15;
/// Party and directory of the process that is killed.
const PARTY: &str = "GRIDTALLY_PARTY";
const DIRECTORY: &str = "GRIDTALLY_PARTY_DIRECTORY";
/// Kills in one run; `cargo xtask acceptance privacy` sets 200.
const KILLS: &str = "GRIDTALLY_KILLS";

/// A masked reading on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Sent {
    home: usize,
    field: Field,
    counter: u64,
    value: u64,
}

/// Writes a file whole: beside it, synchronised, renamed.
fn write_whole(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside).expect("creates");
    file.write_all(bytes).and_then(|()| file.sync_all()).expect("writes");
    fs::rename(&beside, path).expect("renames");
}

/// Appends lines and synchronises.
fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("opens");
    file.write_all(bytes).and_then(|()| file.sync_data()).expect("appends");
}

/// The file's whole lines; a torn last one is cut off.
fn whole_lines(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(whole as u64)).expect("cuts");
    }
    String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect()
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("has a JSON")
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// All meters: `interval readings…` closes an interval, saves counters and what waits, and only then tells what is sent.
fn meters(folder: &Path) -> impl FnMut(&str) -> String {
    type Flash = (MaskCounter, Vec<Sent>);
    let path = folder.join("flash");
    let keys = World::new(HOMES, 1).keys;
    let load = move |path: &Path| -> Flash {
        let Ok(bytes) = fs::read(path) else { return Flash::default() };
        let counter_bytes: &[u8] = bytes.get(1..=usize::from(bytes[0])).expect("a counter");
        let counter = minicbor::decode(counter_bytes).expect("a counter");
        (counter, serde_json::from_slice(&bytes[1 + usize::from(bytes[0])..]).expect("readings"))
    };
    let mut flash = load(&path);
    move |line| {
        let (interval, readings): (u64, Vec<i64>) = parsed(line);
        // asked again for what it has closed already, it sends what waits
        if flash.0.next() <= interval {
            let counter = flash.0.take(interval);
            let mask = |home: usize, field, x: i64| {
                let mask = keys[&id(home)].mask(field, 0, counter).expect("in range");
                Sent { home, field, counter, value: x.cast_unsigned().wrapping_add(mask) }
            };
            let both = |(home, x): (usize, &i64)| [mask(home, Field::Import, *x), mask(home, Field::Clipped, *x)];
            flash.1 = readings.iter().enumerate().flat_map(both).collect();
            let counter_bytes = minicbor::to_vec(flash.0).expect("encodes");
            let length = u8::try_from(counter_bytes.len()).expect("short");
            write_whole(&path, &[&[length], counter_bytes.as_slice(), json(&flash.1).as_bytes()].concat());
        }
        json(&flash.1)
    }
}

/// The operator: `take [readings]` keeps them; `ask COUNTER private` forms a question, once; `keep COUNTER answer` decodes it.
fn operator(folder: &Path) -> impl FnMut(&str) -> String {
    let (readings, folder) = (folder.join("readings"), folder.to_owned());
    let mut store = MaskedStore::default();
    let take = |store: &mut MaskedStore, sent: Sent| {
        let Sent { home, field, counter, value } = sent;
        store.take(&MaskedReading { meter: id(home), field, epoch: 1, counter, rev: 0, value })
    };
    for line in whole_lines(&readings) {
        for sent in parsed::<Vec<Sent>>(&line) {
            assert!(matches!(take(&mut store, sent), Ok(Taken::New | Taken::Again)), "{sent:?}");
        }
    }
    move |line| {
        let (what, rest) = line.split_once(' ').expect("a word and more");
        match what {
            "take" => {
                append(&readings, format!("{rest}\n").as_bytes());
                let mut taken = |sent| matches!(take(&mut store, sent), Ok(Taken::New | Taken::Again));
                json(&parsed::<Vec<Sent>>(rest).into_iter().all(&mut taken))
            }
            "ask" => {
                let (counter, is_private): (u64, bool) = parsed(rest);
                let path = folder.join(format!("request-{counter}-{is_private}"));
                // a question is kept before it is asked: another one for the same cells would be refused
                if !path.exists() {
                    write_whole(&path, json(&signed(question(&store, counter, is_private))).as_bytes());
                }
                fs::read_to_string(path).expect("reads")
            }
            _ => {
                let (request, answer): (Request, Answer) = parsed(rest);
                let sums = store.decode(&request.query, &[answer]).expect("decodes");
                append(&folder.join("sums"), format!("{}\n", json(&(request.query.hash(), &sums))).as_bytes());
                json(&sums)
            }
        }
    }
}

fn question(store: &MaskedStore, counter: u64, is_private: bool) -> Query {
    let field = if is_private { Field::Clipped } else { Field::Import };
    let rows = (0..HOMES).flat_map(|n| store.rows(id(n), field, counter, 1)).collect();
    let (group, day) = ("T1".to_owned(), (counter / 96) as i64);
    if !is_private {
        return Query::Spatial(SpatialQuery { group, field, day, slots: 1, rows });
    }
    let (adjacency, mechanism, purpose) = (Adjacency::HomeDay, Mechanism::Laplace, Purpose::PublicMap);
    Query::Statistic(StatisticQuery {
        group,
        day,
        band: 1,
        bands: 1,
        rows,
        adjacency,
        mechanism,
        level_micro: 100,
        purpose,
    })
}

/// A custodian from what its disk holds.
fn custodian_of(events: &[Event], world: &World) -> Custodian {
    let mut custodian = Custodian::new(policy(), [1; 32]).expect("a policy");
    events.iter().for_each(|event| custodian.apply(event));
    world.keys.iter().for_each(|(meter, key)| assert!(custodian.insert_key(*meter, 1, key.clone())));
    custodian
}

/// The journal's events; a torn last line is cut off.
fn events(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).expect("reads");
    let (events, whole) = journal::read(&bytes).expect("only the tail may be torn");
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(whole as u64)).expect("cuts");
    }
    events
}

/// The custodian: a request a line; the journal first, the answer afterwards.
fn custodian(folder: &Path) -> impl FnMut(&str) -> String {
    let path = folder.join("journal");
    let mut custodian = custodian_of(&events(&path), &World::new(HOMES, 1));
    move |line| {
        let request: Request = parsed(line);
        if let Decision::Commit(event) = custodian.decide(&request, NOW) {
            // in two writes, so that a kill may fall between them
            let line = journal::line(&event);
            let (first, second) = line.split_at(line.len() / 2);
            append(&path, first);
            append(&path, second);
            custodian.apply(&event);
        }
        json(&custodian.answer(&request.query).expect("is granted"))
    }
}

fn head(leaves: &[merkle::Hash]) -> Checkpoint {
    Checkpoint { origin: "gridtally.test/log".into(), size: leaves.len() as u64, root: merkle::root(leaves) }
}

/// The witness: looks at the log, remembers its head, then cosigns it; `"refused"` when the log has another history.
fn witness(folder: &Path) -> impl FnMut(&str) -> String {
    let seen_path = folder.join("seen");
    move |line| {
        let leaves: Vec<privacy::hex::Hex<32>> = parsed(line);
        let leaves: Vec<merkle::Hash> = leaves.into_iter().map(|leaf| leaf.0).collect();
        let head = head(&leaves);
        if let Ok(text) = fs::read_to_string(&seen_path) {
            let seen = Signed::parse(&text).expect("whole").checkpoint;
            let proof = merkle::consistency(&leaves, usize::try_from(seen.size).expect("small"));
            if !merkle::check_consistency((seen.size, &seen.root), (head.size, &head.root), &proof) {
                return json(&"refused");
            }
        }
        let signed = head.sign(&key(20)).cosign("witness.test", &key(21), 7);
        write_whole(&seen_path, signed.to_text().as_bytes());
        json(&signed.to_text())
    }
}

/// Plays a party on lines until they end.
fn play(party: &str, folder: &Path, lines: impl BufRead, mut out: impl Write) {
    let mut answer: Box<dyn FnMut(&str) -> String> = match party {
        "meters" => Box::new(meters(folder)),
        "operator" => Box::new(operator(folder)),
        "custodian" => Box::new(custodian(folder)),
        _ => Box::new(witness(folder)),
    };
    for line in lines.lines().map_while(Result::ok) {
        writeln!(out, "\n> {}", answer(&line)).and_then(|()| out.flush()).expect("tells");
    }
}

/// The process that is killed. Called without a party it plays a witness here, on a log that grows and then on another one.
#[test]
fn plays_a_party_until_it_is_killed() {
    if let (Ok(party), Some(folder)) = (std::env::var(PARTY), std::env::var_os(DIRECTORY)) {
        return play(&party, Path::new(&folder), std::io::stdin().lock(), std::io::stderr().lock());
    }
    let folder = Folder::new("witness");
    let leaf = |n: u8| privacy::hex::Hex([n; 32]).to_string();
    let logs =
        [json(&[leaf(1), leaf(2)]), json(&[leaf(1), leaf(2), leaf(3)]), json(&[leaf(1), leaf(9), leaf(3), leaf(4)])];
    let mut told = Vec::new();
    play("witness", &folder.0, logs.join("\n").as_bytes(), &mut told);
    let told = String::from_utf8(told).expect("text");
    let answers: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("> ")).collect();
    assert!(answers.len() == 3 && answers[1].contains("witness.test") && answers[2] == "\"refused\"", "{answers:?}");
}

/// A directory for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gridtally-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("creates");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running party.
struct Running {
    child: Child,
    input: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

/// The parties that run, and how often each was killed.
struct Parties {
    folder: Folder,
    running: BTreeMap<&'static str, Running>,
    killed: BTreeMap<&'static str, u32>,
    draws: Draws,
    left: u32,
}

impl Parties {
    fn start(&self, party: &'static str) -> Running {
        let name = module_path!().split_once("::").map_or("", |(_, path)| path);
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                &format!("{name}::plays_a_party_until_it_is_killed"),
                "--nocapture",
                "--test-threads",
                "1",
            ])
            .env(PARTY, party)
            .env(DIRECTORY, &self.folder.0)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        let (input, errors) = (child.stdin.take().expect("piped"), child.stderr.take().expect("piped"));
        Running { child, input, lines: BufReader::new(errors).lines() }
    }

    /// Gives a line and waits for its answer; sometimes kills the party meanwhile, then `Err` with the answer if it came first.
    fn once(&mut self, party: &'static str, line: &str) -> Result<String, Option<String>> {
        let mut running = self.running.remove(party).unwrap_or_else(|| self.start(party));
        let dies = self.left > 0 && self.draws.below(3) == 0;
        writeln!(running.input, "{line}").expect("it reads");
        if dies {
            // from before it has read its directory to after it has answered
            std::thread::sleep(Duration::from_micros(self.draws.below(30_000) as u64));
            running.child.kill().expect("is killed");
        }
        let answer = running.lines.by_ref().map_while(Result::ok).find_map(|l| l.strip_prefix("> ").map(str::to_owned));
        if !dies {
            let answer = answer.unwrap_or_else(|| panic!("{party} ended at {line}"));
            self.running.insert(party, running);
            return Ok(answer);
        }
        running.child.wait().expect("has ended");
        self.left -= 1;
        *self.killed.entry(party).or_default() += 1;
        Err(answer)
    }

    /// Gives a line until it is answered; whatever was answered before a kill must be the same.
    fn tell(&mut self, party: &'static str, line: &str) -> String {
        let mut before: Option<String> = None;
        loop {
            let (answer, is_over) = match self.once(party, line) {
                Ok(answer) => (Some(answer), true),
                Err(answer) => (answer, false),
            };
            if let Some(answer) = answer {
                let earlier = before.get_or_insert_with(|| answer.clone());
                assert_eq!(*earlier, answer, "{party} gave another answer to {line}");
                if is_over {
                    return answer;
                }
            }
        }
    }
}

impl Drop for Parties {
    fn drop(&mut self) {
        for running in self.running.values_mut() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

#[test]
fn every_party_killed_with_sigkill_at_any_moment() {
    let kills: u32 = std::env::var(KILLS).ok().and_then(|n| n.parse().ok()).unwrap_or(16);
    let folder = Folder::new("parties");
    let world = World::new(HOMES, 1);
    let setup: Vec<u8> = world.journal.iter().flat_map(journal::line).collect();
    append(&folder.0.join("journal"), &setup);
    let (running, killed, draws) = (BTreeMap::new(), BTreeMap::new(), Draws::new(&[0x51; 32]));
    let mut parties = Parties { folder, running, killed, draws, left: kills };
    let mut masks: BTreeMap<(usize, Field, u64), u64> = BTreeMap::new();
    let (mut round, mut granted, mut spent) = (0, 0, 0);
    while parties.left > 0 {
        let interval = FIRST + round;
        // a meter that lost an interval before it was saved measures another one: other readings each time it is asked
        let sent: Vec<Sent> = loop {
            let readings: Vec<i64> = (0..HOMES).map(|_| parties.draws.below(800) as i64).collect();
            let answer = parties.once("meters", &json(&(interval, readings)));
            let is_over = answer.is_ok();
            let told: Vec<Sent> = answer.or_else(|e| e.ok_or(())).map_or_else(|()| Vec::new(), |text| parsed(&text));
            for s in &told {
                let before = masks.insert((s.home, s.field, s.counter), s.value);
                assert!(before.is_none_or(|before| before == s.value), "a mask hides two readings: {s:?}");
            }
            if is_over {
                break told;
            }
        };
        assert_eq!(parties.tell("operator", &format!("take {}", json(&sent))), "true");
        let truth = |s: &Sent| {
            let mask = world.keys[&id(s.home)].mask(s.field, 0, s.counter).expect("in range");
            s.value.wrapping_sub(mask).cast_signed()
        };
        let sum: i64 = sent.iter().filter(|s| s.field == Field::Import).map(truth).sum();
        for is_private in if round % 5 == 4 { [false, true].as_slice() } else { &[false] } {
            let request = parties.tell("operator", &format!("ask {}", json(&(interval, is_private))));
            let answer = parties.tell("custodian", &request);
            let sums = parties.tell("operator", &format!("keep [{request},{answer}]"));
            assert!(*is_private || parsed::<Vec<i64>>(&sums) == [sum], "round {round}: {sums} is not {sum}");
            (granted, spent) = (granted + 1, spent + if *is_private { 100 } else { 0 });
        }
        let journal = events(&parties.folder.0.join("journal"));
        let leaves: Vec<_> = journal.iter().map(|e| privacy::hex::Hex(merkle::leaf(&journal::public(e)))).collect();
        let cosigned = parties.tell("witness", &json(&leaves));
        assert_ne!(cosigned, "\"refused\"", "round {round}");
        // a log of the same length with another last entry is refused whatever was killed
        let forked: Vec<_> = leaves[1..].iter().chain(&leaves[..1]).collect();
        assert_eq!(parties.tell("witness", &json(&forked)), "\"refused\"", "round {round}");
        let custodian = custodian_of(&journal, &world);
        let state = custodian.state();
        assert_eq!((state.released(), state.epsilon_micro(), state.refused()), (granted, spent, 0), "round {round}");
        round += 1;
    }
    assert_eq!(parties.killed.values().sum::<u32>(), kills, "{:?}", parties.killed);
    assert!(
        kills < 100 || parties.killed.len() == 4 && parties.killed.values().all(|n| *n > 20),
        "{:?}",
        parties.killed
    );
}
