//! The parties of the demonstration: homes that mask, an operator that stores, custodians that decide, people who approve.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use ed25519_dalek::{Signer, SigningKey};
use metering::MeterId;
use privacy::{
    Custodian, Decision, Event, Field, MaskKey,
    custodian::{Enrolment, Role},
    draws::Draws,
    exchange,
    hex::Hex,
    operator::{MaskedReading, MaskedStore},
    orders::GroupOrder,
    policy::Policy,
    query::{Answer, Query, Request},
    search,
};
use serde_json::json;

use super::super::CommandError;

/// Keys of everyone who signs in the demonstration.
pub struct People {
    pub operator: SigningKey,
    pub tariff: SigningKey,
    manufacturer: SigningKey,
    installer: SigningKey,
    pub approvers: Vec<(&'static str, &'static str, SigningKey)>,
}

fn public(key: &SigningKey) -> Hex<32> {
    Hex(key.verifying_key().to_bytes())
}

impl People {
    pub fn new(draws: &mut Draws) -> Self {
        let mut key = || SigningKey::from_bytes(&draws.bytes());
        let people = [("Ada", "utility"), ("Ben", "utility"), ("Cleo", "regulator")];
        Self {
            operator: key(),
            tariff: key(),
            manufacturer: key(),
            installer: key(),
            approvers: people.map(|(person, organisation)| (person, organisation, key())).into(),
        }
    }

    pub fn policy(&self) -> Result<Policy, CommandError> {
        let approvers: Vec<_> = self
            .approvers
            .iter()
            .map(|(person, organisation, key)| json!({"person": person, "organisation": organisation, "key": public(key)}))
            .collect();
        Ok(serde_json::from_value(json!({
            "trust": "split", "operator_key": public(&self.operator), "tariff_key": public(&self.tariff),
            "manufacturer_keys": [public(&self.manufacturer)], "installer_keys": [public(&self.installer)],
            "approvers": approvers,
        }))?)
    }

    fn enrolment(&self, meter: MeterId, public_key: Hex<32>) -> Enrolment {
        let role = Role::Home;
        Enrolment {
            meter,
            public_key,
            role,
            manufacturer_signature: Hex(self
                .manufacturer
                .sign(&Enrolment::manufacturer_bytes(meter, &public_key))
                .to_bytes()),
            installer_signature: Hex(self.installer.sign(&Enrolment::installer_bytes(meter, role)).to_bytes()),
        }
    }
}

/// Everybody, and the truth that none of them sees whole.
pub struct Town {
    pub people: People,
    pub custodians: Vec<(Custodian, Vec<Event>)>,
    pub operator: MaskedStore,
    /// Keys in each meter, one per custodian.
    pub keys: BTreeMap<MeterId, Vec<MaskKey>>,
    pub truth: BTreeMap<(MeterId, Field, u64), i64>,
    /// Signs the head of the first custodian's log.
    pub log_key: SigningKey,
    pub draws: Draws,
    pub conflicts: u64,
}

impl Town {
    pub fn new(custodians: usize, seed: u64) -> Result<Self, CommandError> {
        let mut start = [0; 32];
        start[..8].copy_from_slice(&seed.to_le_bytes());
        let mut draws = Draws::new(&start);
        let people = People::new(&mut draws);
        let custodian = |draws: &mut Draws| -> Result<_, CommandError> {
            Ok((Custodian::new(people.policy()?, draws.bytes())?, Vec::new()))
        };
        let custodians = (0..custodians).map(|_| custodian(&mut draws)).collect::<Result<_, _>>()?;
        let (operator, keys, truth) = (MaskedStore::default(), BTreeMap::new(), BTreeMap::new());
        let log_key = SigningKey::from_bytes(&draws.bytes());
        Ok(Self { people, custodians, operator, keys, truth, log_key, draws, conflicts: 0 })
    }

    /// A new meter makes a key with every custodian.
    pub fn enrol(&mut self, meter: MeterId, now: i64) -> Result<(), CommandError> {
        let secret = self.draws.bytes();
        for (custodian, events) in &mut self.custodians {
            let own = self.draws.bytes();
            let enrolment = self.people.enrolment(meter, exchange::public_key(&secret));
            let event = custodian.enrol(enrolment.clone(), now)?;
            custodian.apply(&event);
            events.push(event);
            let key = exchange::mask_key(&own, &enrolment.public_key, meter, 1).ok_or("a public key of small order")?;
            custodian.insert_key(meter, 1, key);
            let at_meter = exchange::mask_key(&secret, &exchange::public_key(&own), meter, 1);
            self.keys.entry(meter).or_default().extend(at_meter);
        }
        Ok(())
    }

    pub fn group(&mut self, members: &[MeterId], now: i64) -> Result<(), CommandError> {
        for (custodian, events) in &mut self.custodians {
            let number = custodian.state().changes("T1");
            let order = GroupOrder::sign("T1", members.to_vec(), number, &self.people.operator);
            let event = custodian.regroup(&order, now)?;
            custodian.apply(&event);
            events.push(event);
        }
        Ok(())
    }

    /// A meter masks a reading; the operator stores what arrives.
    pub fn send(&mut self, meter: MeterId, field: Field, counter: u64, rev: u16, x: i64) -> Result<(), CommandError> {
        let mut value = x.cast_unsigned();
        for key in self.keys.get(&meter).into_iter().flatten() {
            value = value.wrapping_add(key.mask(field, rev, counter).ok_or("the counter is at its end")?);
        }
        self.truth.insert((meter, field, counter), x);
        let taken = self.operator.take(&MaskedReading { meter, field, epoch: 1, counter, rev, value });
        self.conflicts += u64::from(taken.is_err());
        Ok(())
    }

    /// Asks every custodian; the first refusal is the answer.
    pub fn ask(&mut self, request: &Request, now: i64) -> Result<Vec<Answer>, String> {
        let mut answers = Vec::new();
        for (custodian, events) in &mut self.custodians {
            if let Decision::Commit(event) = custodian.decide(request, now) {
                custodian.apply(&event);
                events.push(event.clone());
                if let Event::Refused { reason, .. } = event {
                    return Err(reason);
                }
            }
            answers.push(custodian.answer(&request.query).map_err(|why| why.to_string())?);
        }
        Ok(answers)
    }

    pub fn sign(&self, query: Query) -> Request {
        Request::sign(query, &self.people.operator)
    }

    /// With the approval of these persons, by their place in the list.
    pub fn approve(&self, mut request: Request, who: &[usize], until: i64) -> Request {
        for place in who {
            let (person, _, key) = &self.people.approvers[*place];
            request = request.approved(person, until, key);
        }
        request
    }

    /// Writes what the operator holds as files, as a database would keep it.
    pub fn write_operator(&self, folder: &Path) -> Result<u64, CommandError> {
        let mut bytes = Vec::new();
        for (meter, field, counter, value) in self.operator.values() {
            bytes.extend_from_slice(format!("{meter},{field:?},{counter},").as_bytes());
            bytes.extend_from_slice(&value.to_le_bytes());
            bytes.push(b'\n');
        }
        std::fs::write(folder.join("masked"), &bytes)?;
        Ok(bytes.len() as u64)
    }
}

/// Runs told of one file.
const RUNS_TOLD_MAX: usize = 100;

/// Runs of eight readings of any home that stand in clear in the files of a folder.
pub fn runs_in_clear(folder: &Path, homes: &[Vec<i64>]) -> Result<Vec<String>, CommandError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(runs_in_clear(&path, homes)?);
            continue;
        }
        let bytes = std::fs::read(&path)?;
        let readings: Vec<&[i64]> = homes.iter().map(Vec::as_slice).collect();
        let runs = search::find_any(&bytes, &readings, RUNS_TOLD_MAX);
        found.extend(runs.iter().map(|(home, run)| {
            format!("{}: home {home}, slot {} on, as {}, at byte {}", path.display(), run.slot, run.form, run.at)
        }));
    }
    Ok(found)
}

#[derive(Debug, Args)]
pub struct SearchArguments {
    /// Folder whose files are searched
    folder: PathBuf,
    /// CSV of the readings in clear: one line per home, numbers separated by commas
    #[arg(long)]
    truth: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `gridtally privacy search`: fails when something is found.
pub(super) fn search(arguments: &SearchArguments) -> Result<ExitCode, CommandError> {
    let text = std::fs::read_to_string(&arguments.truth)
        .map_err(|e| format!("cannot read {}: {e}", arguments.truth.display()))?;
    let number = |(line, cell): (usize, &str)| {
        cell.trim()
            .parse::<i64>()
            .map_err(|_| format!("line {line} of the readings holds '{cell}', not a whole number"))
    };
    let homes: Vec<Vec<i64>> = text
        .lines()
        .enumerate()
        .map(|(n, line)| line.split(',').map(|cell| number((n + 1, cell))).collect::<Result<_, _>>())
        .collect::<Result<_, _>>()?;
    let found = runs_in_clear(&arguments.folder, &homes)?;
    if arguments.json {
        println!("{}", json!({"homes": homes.len(), "found": found}));
    } else {
        found.iter().for_each(|line| println!("{line}"));
        println!("{} runs of eight readings in clear", found.len());
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
