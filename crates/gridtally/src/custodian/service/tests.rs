//! The service on a real directory: killed after any byte of its journal, its keys erased, its log altered.

use std::fs;

use ed25519_dalek::Signer;
use metering::MeterId;
use privacy::{
    Field, MaskKey,
    custodian::Role,
    query::{Adjacency, Mechanism, Purpose, Query, Row, SpatialQuery, StatisticQuery},
};

use super::*;

const FIRST: u64 = 20_000 * 96;
const NOW: i64 = 20_040 * 86_400;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(n: u8) -> Hex<32> {
    Hex(key(n).verifying_key().to_bytes())
}

fn id(n: u8) -> MeterId {
    MeterId::new(&format!("M-{n:02}")).expect("valid")
}

fn enrolment(n: u8) -> Enrolment {
    let (meter, public_key, role) = (id(n), exchange::public_key(&[n + 1; 32]), Role::Home);
    Enrolment {
        meter,
        public_key,
        role,
        manufacturer_signature: Hex(key(103).sign(&Enrolment::manufacturer_bytes(meter, &public_key)).to_bytes()),
        installer_signature: Hex(key(104).sign(&Enrolment::installer_bytes(meter, role)).to_bytes()),
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let policy = format!(
        "trust = \"split\"\noperator_key = \"{}\"\ntariff_key = \"{}\"\nmanufacturer_keys = [\"{}\"]\ninstaller_keys = [\"{}\"]\n\
         [[approvers]]\nperson = \"Ada\"\norganisation = \"regulator\"\nkey = \"{}\"\n",
        public(101),
        public(102),
        public(103),
        public(104),
        public(105)
    );
    fs::write(folder.path().join("policy.toml"), policy).expect("writes");
    let mut service = Service::open(folder.path()).expect("opens");
    for n in 0..15 {
        service.enrol(&enrolment(n), 0).expect("enrols");
    }
    let order = GroupOrder::sign("T1", (0..15).map(id).collect(), 0, &key(101));
    service.regroup(&order, 0).expect("groups");
    folder
}

fn erasure() -> ErasureOrder {
    ErasureOrder::sign(id(3), &key(101)).approved("Ada", NOW + 1, &key(105))
}

fn rows(slots: usize) -> Vec<Row> {
    (0..15).map(|n| Row::full(id(n), 1, FIRST, slots)).collect()
}

fn requests() -> Vec<Request> {
    let sum = Query::Spatial(SpatialQuery {
        group: "T1".into(),
        field: Field::Import,
        day: 20_000,
        slots: 96,
        rows: rows(96),
    });
    let part = Query::Spatial(SpatialQuery {
        group: "T1".into(),
        field: Field::Import,
        day: 20_000,
        slots: 40,
        rows: rows(40),
    });
    let statistic = Query::Statistic(StatisticQuery {
        group: "T1".into(),
        day: 20_000,
        band: 96,
        bands: 1,
        rows: rows(96),
        adjacency: Adjacency::HomeDay,
        mechanism: Mechanism::Laplace,
        level_micro: 700_000,
        purpose: Purpose::Research,
    });
    [sum, part, statistic].map(|query| Request::sign(query, &key(101))).into()
}

#[test]
fn killed_anywhere_in_the_journal_it_gives_the_same_answers_once() {
    let folder = folder();
    let whole = |name: &str| fs::read(folder.path().join(name)).expect("reads");
    let before = whole("journal").len();
    let answers: Vec<_> = {
        let mut service = Service::open(folder.path()).expect("opens");
        requests().iter().map(|request| service.ask(request, NOW).ok()).collect()
    };
    assert!(answers[0].is_some() && answers[1].is_none() && answers[2].is_some());
    let journal = whole("journal");
    let step = (journal.len() - before) / 23 + 1;
    for end in (before..=journal.len()).step_by(step) {
        fs::write(folder.path().join("journal"), &journal[..end]).expect("writes");
        // what was never written to the journal was never published
        let _ = fs::remove_dir_all(folder.path().join("log"));
        let mut service = Service::open(folder.path()).expect("opens again");
        let again: Vec<_> = requests().iter().map(|request| service.ask(request, NOW).ok()).collect();
        assert_eq!(again, answers, "cut off after byte {end} of {}", journal.len());
        assert_eq!(service.custodian().state().epsilon_micro(), 700_000);
        service.publish().expect("publishes");
        let log = service.log_folder();
        let read = |path: &str| fs::read(log.join(path)).ok();
        let report = privacy::log::verify(&read, &[], &service.log_public_key(), None).expect("readable");
        assert!(report.is_good(), "cut off after byte {end}: {report:?}");
    }
}

#[test]
fn an_erased_meter_stays_erased_when_its_key_file_comes_back() {
    let folder = folder();
    let path = folder.path().join("keys/M-03");
    let backup = fs::read(&path).expect("reads");
    let mut service = Service::open(folder.path()).expect("opens");
    service.erase(&erasure(), NOW).expect("erases");
    assert!(!path.exists());
    assert!(service.ask(&requests()[0], NOW).is_err(), "nothing is released about it");
    drop(service);
    fs::write(&path, backup).expect("a backup is restored");
    let mut service = Service::open(folder.path()).expect("opens again");
    assert!(!path.exists(), "and buried again");
    let why = service.ask(&requests()[2], NOW).expect_err("still nothing");
    assert!(why.to_string().contains("no key"), "{why}");
}

/// Whoever has a certificate may knock: a group's members and a meter's keys change by the operator's order only.
#[test]
fn a_certificate_alone_changes_no_group_and_erases_nothing() {
    let folder = folder();
    let mut service = Service::open(folder.path()).expect("opens");
    let refused = |done: Result<(), ServiceError>, because: &str| {
        let why = done.expect_err("must be refused").to_string();
        assert!(why.contains(because), "{why}");
    };
    let by_other = GroupOrder::sign("T1", Vec::new(), 1, &key(104));
    refused(service.regroup(&by_other, NOW), "not signed by the operator");
    refused(
        service.erase(&ErasureOrder::sign(id(3), &key(104)).approved("Ada", NOW + 1, &key(105)), NOW),
        "not signed",
    );
    refused(service.erase(&ErasureOrder::sign(id(3), &key(101)), NOW), "1 are needed");
    let before = fs::read(folder.path().join("journal")).expect("reads").len();
    service.erase(&erasure(), NOW).expect("erases");
    let once = fs::read(folder.path().join("journal")).expect("reads").len();
    service.erase(&erasure(), NOW).expect("again");
    assert!(once > before && fs::read(folder.path().join("journal")).expect("reads").len() == once, "written once");
}

#[test]
fn an_enrolment_that_is_repeated_gives_the_same_half() {
    let folder = folder();
    let mut service = Service::open(folder.path()).expect("opens");
    let first = service.enrol(&enrolment(40), NOW).expect("enrols");
    assert_eq!(service.enrol(&enrolment(40), NOW).expect("again"), first);
    let at_meter = exchange::mask_key(&[41; 32], &first, id(40), 1);
    let secret: [u8; 32] = fs::read(folder.path().join("keys/M-40")).expect("reads").try_into().expect("32 bytes");
    let at_custodian: Option<MaskKey> = exchange::mask_key(&secret, &enrolment(40).public_key, id(40), 1);
    assert_eq!(at_meter, at_custodian);
    assert!(Service::open(folder.path()).is_err(), "two custodians on one directory");
}

#[test]
fn a_damaged_journal_is_refused_with_what_to_do() {
    let folder = folder();
    let path = folder.path().join("journal");
    let mut bytes = fs::read(&path).expect("reads");
    bytes[30] ^= 1;
    fs::write(&path, bytes).expect("writes");
    let why = Service::open(folder.path()).err().expect("refused").to_string();
    assert!(why.contains("line 1") && why.contains("backup"), "{why}");
}

/// A backup of yesterday's journal would release a cell again: the log, which is public, tells.
#[test]
fn a_journal_older_than_its_log_is_refused() {
    let folder = folder();
    let path = folder.path().join("journal");
    let old = fs::read(&path).expect("reads");
    let mut service = Service::open(folder.path()).expect("opens");
    service.ask(&requests()[0], NOW).expect("is granted");
    service.publish().expect("publishes");
    drop(service);
    let new = fs::read(&path).expect("reads");
    fs::write(&path, &old).expect("writes");
    let why = Service::open(folder.path()).err().expect("refused").to_string();
    assert!(why.contains("older than the log"), "{why}");
    // nor one of the same length that says something else
    let mut other = journal::read(&new).expect("reads").0;
    let last = other.len() - 1;
    other[last] =
        Event::Refused { at: NOW, hash: requests()[0].query.hash(), class: "spatial".into(), reason: String::new() };
    fs::write(&path, other.iter().flat_map(journal::line).collect::<Vec<u8>>()).expect("writes");
    let why = Service::open(folder.path()).err().expect("refused").to_string();
    assert!(why.contains("not the one"), "{why}");
    fs::write(&path, &new).expect("writes");
    Service::open(folder.path()).expect("the newest opens");
}

/// A new noise key would give a second draw of noise for a question that was answered.
#[test]
fn a_lost_noise_key_is_not_replaced_by_another() {
    let folder = folder();
    let mut service = Service::open(folder.path()).expect("opens");
    let answer = service.ask(&requests()[2], NOW).expect("is granted");
    drop(service);
    let path = folder.path().join("noise.key");
    let key = fs::read(&path).expect("reads");
    fs::remove_file(&path).expect("removes");
    let why = Service::open(folder.path()).err().expect("refused").to_string();
    assert!(why.contains("noise.key") && why.contains("escrow"), "{why}");
    fs::write(&path, key).expect("writes");
    assert_eq!(Service::open(folder.path()).expect("opens").ask(&requests()[2], NOW).expect("again"), answer);
}

/// A custodian that burned down comes back from two of three parts and the backup of its journal; an older journal is refused.
#[test]
fn a_lost_custodian_comes_back_from_escrow() {
    let folder = folder();
    let mut service = Service::open(folder.path()).expect("opens");
    let answer = service.ask(&requests()[2], NOW).expect("is granted");
    let secrets = service.secrets().expect("reads");
    drop(service);
    let parts = privacy::escrow::split(&secrets, &mut privacy::draws::Draws::new(&[3; 32])).expect("shares");
    let (back, altered) = privacy::escrow::join(&parts[1..]).expect("joins");
    assert!(altered.is_empty());
    let new = tempfile::tempdir().expect("a temporary directory");
    crate::commands::escrow::restore(new.path(), &back).expect("restores");
    assert!(crate::commands::escrow::restore(new.path(), &back).is_err(), "never over another custodian's keys");
    fs::copy(folder.path().join("policy.toml"), new.path().join("policy.toml")).expect("copies");
    assert!(Service::open(new.path()).is_err(), "without its journal it would begin again");
    fs::copy(folder.path().join("journal"), new.path().join("journal")).expect("copies");
    assert_eq!(Service::open(new.path()).expect("opens").ask(&requests()[2], NOW).expect("again"), answer);
}

/// Names the directory of the process that is killed; without it that "test" is one more check that an idle directory stays as it is.
const KILLED_DIRECTORY: &str = "GRIDTALLY_KILLED_DIRECTORY";
/// Kills in one run; `cargo xtask acceptance privacy` sets 200.
const KILLS: &str = "GRIDTALLY_KILLS";

/// Request number `n`: sums of two slots each, and every fourth a statistic.
fn request(n: u64) -> Request {
    let first = FIRST + 2 * n;
    let day = i64::try_from(first / 96).expect("a day");
    let rows: Vec<Row> = (0..15).map(|home| Row::full(id(home), 1, first, 2)).collect();
    let query = if n % 4 == 3 {
        Query::Statistic(StatisticQuery {
            group: "T1".into(),
            day,
            band: 2,
            bands: 1,
            rows,
            adjacency: Adjacency::HomeDay,
            mechanism: Mechanism::Laplace,
            level_micro: 1_000,
            purpose: Purpose::PublicMap,
        })
    } else {
        Query::Spatial(SpatialQuery { group: "T1".into(), field: Field::Import, day, slots: 2, rows })
    };
    Request::sign(query, &key(101))
}

/// The process that is killed: asks one request after the other and says each answer once it has it.
#[test]
fn asks_until_it_is_killed() {
    let Some(directory) = std::env::var_os(KILLED_DIRECTORY) else {
        let folder = folder();
        let before = fs::read(folder.path().join("journal")).expect("reads");
        drop(Service::open(folder.path()).expect("opens"));
        assert_eq!(fs::read(folder.path().join("journal")).expect("reads"), before);
        return;
    };
    let mut service = Service::open(Path::new(&directory)).expect("opens");
    for n in service.custodian().state().released() as u64.. {
        let answer = service.ask(&request(n), NOW).expect("is granted");
        if n % 5 == 0 {
            service.publish().expect("publishes");
        }
        eprintln!("\nanswered {n} {}", serde_json::to_string(&answer).expect("JSON"));
    }
}

/// Killed with SIGKILL at random moments: what was answered stays the answer, every debit is there once, the log verifies.
#[test]
fn killed_at_random_moments_nothing_is_lost_or_given_twice() {
    use std::io::{BufRead, BufReader};
    let kills: u32 = std::env::var(KILLS).ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let folder = folder();
    let program = std::env::current_exe().expect("this program");
    let name = format!("{}::asks_until_it_is_killed", module_path!().split_once("::").map_or("", |(_, path)| path));
    let mut draws = privacy::draws::Draws::new(&[7; 32]);
    let mut answered: std::collections::BTreeMap<u64, String> = std::collections::BTreeMap::new();
    for _ in 0..kills {
        let mut child = std::process::Command::new(&program)
            .args(["--exact", &name, "--nocapture", "--test-threads", "1"])
            .env(KILLED_DIRECTORY, folder.path())
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut left = 1 + draws.below(6);
        for line in lines.map_while(Result::ok) {
            let Some((n, answer)) = line.strip_prefix("answered ").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            answered.insert(n.parse().expect("a number"), answer.to_owned());
            left = left.saturating_sub(1);
            if left == 0 {
                child.kill().expect("is killed");
            }
        }
        child.wait().expect("has ended");
        let mut service = Service::open(folder.path()).expect("opens after a kill");
        let state = service.custodian().state();
        let (granted, statistics) = (state.released() as u64, (state.released() as u64) / 4);
        assert_eq!(state.epsilon_micro(), statistics * 1_000, "of {granted} granted");
        for (n, answer) in answered.iter().rev().take(20) {
            let again = service.ask(&request(*n), NOW).expect("was granted");
            assert_eq!(&serde_json::to_string(&again).expect("JSON"), answer, "request {n}");
        }
        assert_eq!(service.custodian().state().released() as u64, granted, "nothing was granted again");
        service.publish().expect("publishes");
        let log = service.log_folder();
        let heads: Vec<String> = fs::read_dir(log.join("heads"))
            .expect("heads")
            .map(|head| fs::read_to_string(head.expect("a file").path()).expect("reads"))
            .collect();
        let read = |path: &str| fs::read(log.join(path)).ok();
        let report = privacy::log::verify(&read, &heads, &service.log_public_key(), None).expect("readable");
        assert!(report.is_good(), "{report:?}");
    }
    assert!(answered.len() as u32 >= kills, "{} answers in {kills} lives", answered.len());
}
