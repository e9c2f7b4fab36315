//! A town for tests: homes with meters that mask, an operator that stores, a custodian that decides.

use std::collections::BTreeMap;

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
    policy::{Approver, Policy},
    query::{Answer, Query, Request, Row, Run, SignedWeights, SpatialQuery},
};

/// First slot of all tests: the begin of a day.
pub const FIRST: u64 = 20_000 * 96;
/// Now: after everything.
pub const NOW: i64 = 20_040 * 86_400;

pub fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub fn id(n: usize) -> MeterId {
    MeterId::new(&format!("M-{n:03}")).expect("valid")
}

fn public(n: u8) -> Hex<32> {
    Hex(key(n).verifying_key().to_bytes())
}

pub fn policy() -> Policy {
    let approver = |person: &str, organisation: &str, n| Approver {
        person: person.into(),
        organisation: organisation.into(),
        key: public(n),
    };
    serde_json::from_value(serde_json::json!({
        "trust": "split", "operator_key": public(1), "tariff_key": public(2),
        "manufacturer_keys": [public(3)], "installer_keys": [public(4)],
        "approvers": [
            approver("Ada", "utility", 5), approver("Ben", "utility", 6), approver("Cleo", "regulator", 7),
        ],
    }))
    .expect("a policy")
}

/// What everybody holds.
pub struct World {
    pub custodian: Custodian,
    pub journal: Vec<Event>,
    pub operator: MaskedStore,
    pub keys: BTreeMap<MeterId, MaskKey>,
    /// The truth that nobody else sees.
    pub readings: BTreeMap<(MeterId, Field, u64), i64>,
    pub draws: Draws,
}

impl World {
    /// A group `T1` of so many homes; nothing measured yet.
    pub fn new(homes: usize, seed: u8) -> Self {
        let custodian = Custodian::new(policy(), [seed; 32]).expect("a policy");
        let mut world = Self {
            custodian,
            journal: Vec::new(),
            operator: MaskedStore::default(),
            keys: BTreeMap::new(),
            readings: BTreeMap::new(),
            draws: Draws::new(&[seed; 32]),
        };
        for n in 0..homes {
            world.enrol(id(n), Role::Home);
        }
        world.group("T1", (0..homes).map(id).collect(), FIRST as i64 / 96 * 86_400 - 86_400 - 1);
        world
    }

    pub fn enrol(&mut self, meter: MeterId, role: Role) {
        let secret = self.draws.bytes();
        let custodian_secret = [77; 32];
        let public_key = exchange::public_key(&secret);
        let enrolment = Enrolment {
            meter,
            public_key,
            role,
            manufacturer_signature: Hex(key(3).sign(&Enrolment::manufacturer_bytes(meter, &public_key)).to_bytes()),
            installer_signature: Hex(key(4).sign(&Enrolment::installer_bytes(meter, role)).to_bytes()),
        };
        let event = self.custodian.enrol(enrolment, 0).expect("enrols");
        self.commit(event);
        let at_meter = exchange::mask_key(&secret, &exchange::public_key(&custodian_secret), meter, 1);
        let at_custodian = exchange::mask_key(&custodian_secret, &public_key, meter, 1).expect("a good key");
        assert_eq!(at_meter.as_ref(), Some(&at_custodian), "both sides derive the same key");
        assert!(self.custodian.insert_key(meter, 1, at_custodian));
        self.keys.extend(at_meter.map(|key| (meter, key)));
    }

    pub fn group(&mut self, name: &str, members: Vec<MeterId>, now: i64) {
        let order = GroupOrder::sign(name, members, self.custodian.state().changes(name), &key(1));
        let event = self.custodian.regroup(&order, now).expect("groups");
        self.commit(event);
    }

    pub fn commit(&mut self, event: Event) {
        self.custodian.apply(&event);
        self.journal.push(event);
    }

    /// A reading goes out masked; `false` when the operator does not take it.
    pub fn send(&mut self, meter: MeterId, field: Field, counter: u64, rev: u16, x: i64) -> bool {
        let mask = self.keys[&meter].mask(field, rev, counter).expect("in range");
        let value = x.cast_unsigned().wrapping_add(mask);
        self.readings.insert((meter, field, counter), x);
        self.operator.take(&MaskedReading { meter, field, epoch: 1, counter, rev, value }).is_ok()
    }

    /// A month of plausible use; each home has a base, a daily shape and chance.
    pub fn fill(&mut self, homes: usize, slots: usize, field: Field) {
        for n in 0..homes {
            let base = 20 + self.draws.below(60) as i64;
            for t in 0..slots {
                let evening = if (68..88).contains(&(t % 96)) { 150 } else { 0 };
                let spike = if self.draws.below(12) == 0 { self.draws.below(500) as i64 } else { 0 };
                let x = base + evening + spike + self.draws.below(40) as i64;
                self.send(id(n), field, FIRST + t as u64, 0, x);
            }
        }
    }

    pub fn ask(&mut self, request: &Request) -> Result<Answer, String> {
        self.ask_at(request, NOW)
    }

    /// As the shell does it: decide, write, apply, answer.
    pub fn ask_at(&mut self, request: &Request, now: i64) -> Result<Answer, String> {
        if let Decision::Commit(event) = self.custodian.decide(request, now) {
            self.commit(event.clone());
            if let Event::Refused { reason, .. } = event {
                return Err(reason);
            }
        }
        self.custodian.answer(&request.query).map_err(|why| why.to_string())
    }

    pub fn rows(&self, homes: impl IntoIterator<Item = usize>, field: Field, first: u64, slots: usize) -> Vec<Row> {
        homes.into_iter().flat_map(|n| self.operator.rows(id(n), field, first, slots)).collect()
    }

    pub fn spatial(&self, homes: impl IntoIterator<Item = usize>, first: u64, slots: usize) -> Query {
        Query::Spatial(SpatialQuery {
            group: "T1".into(),
            field: Field::Import,
            day: (first / 96) as i64,
            slots: slots as u32,
            rows: self.rows(homes, Field::Import, first, slots),
        })
    }

    pub fn truth(&self, query: &Query, field: Field) -> i64 {
        query
            .rows()
            .iter()
            .flat_map(|row| row.cells().map(|k| self.readings[&(row.meter, field, row.first + k as u64)]))
            .sum()
    }
}

pub fn signed(query: Query) -> Request {
    Request::sign(query, &key(1))
}

pub fn weights(register: &str, first: u64, runs: &[(u32, i32)]) -> SignedWeights {
    let runs = runs.iter().map(|(length, weight)| Run { length: *length, weight: *weight }).collect();
    SignedWeights::sign(register, first, runs, &key(2))
}

/// That something was refused, and why.
pub fn refused<T: std::fmt::Debug>(answer: Result<T, impl ToString + std::fmt::Debug>, because: &str) {
    let why = answer.expect_err("must be refused").to_string();
    assert!(why.contains(because), "refused, but because: {why}");
}
