//! The crate's targets, measured: `cargo run --release -p privacy --example bench`. One line each: what, figure, target.
//!
//! Times are the least of several runs on one thread; the machine's other work can only make them longer. The custodian's way from a
//! request to its answer is told as processor time too, and as a multiple of a plain sum over as many numbers in the same run.

use std::{hint::black_box, io::Write, time::Instant};

use ed25519_dalek::{Signer, SigningKey};
use metering::MeterId;
use privacy::{
    Custodian, Decision, Field, MaskKey,
    commitment::{CommittedDay, Generators, blinding},
    custodian::{Enrolment, Role},
    draws::Draws,
    frame::{BYTES_MAX, Day},
    hex::Hex,
    noise::{Ratio, gauss, laplace},
    operator::{MaskedReading, MaskedStore},
    orders::GroupOrder,
    policy::Policy,
    query::{BalanceSeries, BillQuery, Named, Query, Request, Row, Run, SignedWeights, SpatialQuery, TheftQuery},
};

const HOMES: usize = 200;
const DAYS: usize = 31;
const FIRST: u64 = 20_000 * 96;
const NOW: i64 = 20_040 * 86_400;

/// Least time of `runs`, microseconds.
fn least<T>(runs: u32, mut work: impl FnMut() -> T) -> f64 {
    let timed = |_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_secs_f64() * 1e6
    };
    (0..runs).map(timed).fold(f64::INFINITY, f64::min)
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(n: u8) -> Hex<32> {
    Hex(key(n).verifying_key().to_bytes())
}

fn id(n: usize) -> MeterId {
    MeterId::new(&format!("M-{n:03}")).unwrap_or_else(|_| unreachable!())
}

struct Town {
    custodian: Custodian,
    operator: MaskedStore,
    keys: Vec<MaskKey>,
    readings: Vec<Vec<i64>>,
}

fn town() -> Result<Town, Box<dyn std::error::Error>> {
    let approvers: Vec<_> = [("Ada", 5), ("Ben", 6), ("Cleo", 7)]
        .iter()
        .map(|(person, n)| serde_json::json!({"person": person, "organisation": person, "key": public(*n)}))
        .collect();
    let policy: Policy = serde_json::from_value(serde_json::json!({
        "trust": "split", "operator_key": public(1), "tariff_key": public(2), "manufacturer_keys": [public(3)],
        "installer_keys": [public(4)], "approvers": approvers,
    }))?;
    let mut custodian = Custodian::new(policy, [1; 32])?;
    let mut operator = MaskedStore::default();
    let mut draws = Draws::new(&[2; 32]);
    let (mut keys, mut readings) = (Vec::new(), Vec::new());
    for n in 0..HOMES {
        let (meter, key_of, role) = (id(n), Hex(draws.bytes()), Role::Home);
        let event = custodian.enrol(
            Enrolment {
                meter,
                public_key: key_of,
                role,
                manufacturer_signature: Hex(key(3).sign(&Enrolment::manufacturer_bytes(meter, &key_of)).to_bytes()),
                installer_signature: Hex(key(4).sign(&Enrolment::installer_bytes(meter, role)).to_bytes()),
            },
            0,
        )?;
        custodian.apply(&event);
        let mask_key = MaskKey::from_bytes(draws.bytes());
        custodian.insert_key(meter, 1, mask_key.clone());
        let home: Vec<i64> = (0..DAYS * 96).map(|_| draws.below(900) as i64).collect();
        for (counter, x) in (FIRST..).zip(&home) {
            // no reading here is beyond the allowances: the clipped ones are the same
            for field in [Field::Import, Field::Clipped] {
                let mask = mask_key.mask(field, 0, counter).ok_or("counter")?;
                let value = x.cast_unsigned().wrapping_add(mask);
                operator.take(&MaskedReading { meter, field, epoch: 1, counter, rev: 0, value })?;
            }
        }
        keys.push(mask_key);
        readings.push(home);
    }
    let event = custodian.regroup(&GroupOrder::sign("T1", (0..HOMES).map(id).collect(), 0, &key(1)), 0)?;
    custodian.apply(&event);
    Ok(Town { custodian, operator, keys, readings })
}

impl Town {
    fn spatial(&self, first: u64, slots: usize) -> Query {
        let rows = (0..HOMES).flat_map(|n| self.operator.rows(id(n), Field::Import, first, slots)).collect();
        let (day, slots) = ((first / 96).cast_signed(), slots as u32);
        Query::Spatial(SpatialQuery { group: "T1".into(), field: Field::Import, day, slots, rows })
    }

    fn grant(&mut self, request: &Request) -> Result<(), String> {
        match self.custodian.decide(request, NOW) {
            Decision::Commit(privacy::Event::Refused { reason, .. }) => Err(reason),
            Decision::Commit(event) => {
                self.custodian.apply(&event);
                Ok(())
            }
            Decision::Repeat => Ok(()),
        }
    }
}

fn report(what: &str, figure: f64, unit: &str, target: &str) {
    let line = format!("{what:<58} {figure:>10.2} {unit:<14} target {target}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("standard output takes a line");
}

/// Bytes of a day's frame as it is written, in a TLS 1.3 record (header 5, content type 1, tag 16).
fn day_bytes(town: &Town) -> Result<usize, Box<dyn std::error::Error>> {
    let (key_of, readings) = (&town.keys[0], &town.readings[0][..96]);
    let mut masks = [0; 96];
    key_of.fill(Field::Import, 0, FIRST, &mut masks).ok_or("counter")?;
    let masked = readings.iter().zip(masks).map(|(x, mask)| x.cast_unsigned().wrapping_add(mask));
    let values: Vec<u8> = masked.flat_map(u64::to_le_bytes).collect();
    let day = CommittedDay::new(&Generators::default(), key_of, Field::Import, FIRST, readings).ok_or("counter")?;
    let frame = Day {
        meter: id(0),
        epoch: 1,
        field_and_rev: Day::said(Field::Import, 0),
        first: FIRST,
        present: &[],
        values: &values,
        root: day.root,
        total: day.total().ok_or("no commitments")?,
    };
    let mut out = [0; BYTES_MAX];
    let bytes = frame.write(&mut out, |parts| key(8).sign(&parts.concat()).to_bytes())?;
    Ok(bytes.len() + 22)
}

/// Processor time of this process, microseconds, in steps of ten milliseconds; `None` where the system does not tell.
fn processor_us() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * 1e4)
}

/// Days that are asked for, one after the other.
const ASKED: u64 = 2_000;

/// The way of a request for a day's sums, each day once: hashed, its signature checked, decided, taken in, answered. A plain sum of as
/// many numbers is told beside it.
fn request_to_answer(town: &mut Town) -> Result<(), Box<dyn std::error::Error>> {
    let cells = (HOMES * 96) as f64;
    let of_day = |day: u64| {
        let rows = (0..HOMES).map(|n| Row::full(id(n), 1, day * 96, 96)).collect();
        let query = SpatialQuery { group: "T1".into(), field: Field::Export, day: day.cast_signed(), slots: 96, rows };
        Request::sign(Query::Spatial(query), &key(1))
    };
    let requests: Vec<Request> = (0..ASKED).map(|day| of_day(FIRST / 96 + day)).collect();
    let mut at_best = f64::INFINITY;
    let before = processor_us();
    for request in &requests {
        let start = Instant::now();
        let named = Named::new(request);
        let Decision::Commit(event) = town.custodian.decide_named(&named, NOW) else {
            return Err("asked twice".into());
        };
        town.custodian.apply_named(&event, &named);
        black_box(town.custodian.answer_named(&named)?);
        at_best = at_best.min(start.elapsed().as_secs_f64() * 1e6);
    }
    let spent = before.zip(processor_us()).map(|(before, after)| (after - before) / ASKED as f64);
    report("custodian: request to answer, all of it", at_best * 1e3 / cells, "ns/meter-slot", "<= 10");
    let numbers: Vec<u64> = (0..HOMES as u64 * 96).collect();
    let mut sums = [0; 96];
    let plain = least(200, || {
        for home in black_box(&numbers).as_chunks::<96>().0 {
            sums.iter_mut().zip(home).for_each(|(sum, x): (&mut u64, _)| *sum = sum.wrapping_add(*x));
        }
        sums[95]
    });
    if let Some(spent) = spent {
        report("  the same, processor time of all days", spent * 1e3 / cells, "ns/meter-slot", "<= 10");
        report("  as a multiple of a plain sum of as many numbers", spent / plain, "times", "(told)");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut town = town()?;
    let cells = (HOMES * 96) as f64;
    let day = town.spatial(FIRST, 96);
    let request = Request::sign(day.clone(), &key(1));
    town.grant(&request)?;
    let answer = town.custodian.answer(&day)?;
    let named = Named::new(&request);
    report(
        "custodian: mask sums of 200 homes x 96 slots",
        least(200, || town.custodian.answer_named(&named)) * 1e3 / cells,
        "ns/meter-slot",
        "<= 10",
    );
    let next = Request::sign(town.spatial(FIRST + 96, 96), &key(1));
    let text = serde_json::to_string(&next)?;
    report(
        "door: reading its JSON",
        least(50, || serde_json::from_str::<Request>(&text).map(|r| r.query.rows().len())) * 1e3 / cells,
        "ns/meter-slot",
        "(beside it)",
    );
    report("custodian: hashing it", least(50, || Named::new(&next)) * 1e3 / cells, "ns/meter-slot", "(in the 10)");
    let named = Named::new(&next);
    report(
        "custodian: deciding it (signature, floor, cells)",
        least(50, || town.custodian.decide_named(&named, NOW)) * 1e3 / cells,
        "ns/meter-slot",
        "(in the 10)",
    );
    report(
        "operator: decoding it",
        least(10, || town.operator.decode(&day, std::slice::from_ref(&answer))) * 1e3 / cells,
        "ns/meter-slot",
        "<= 5",
    );
    request_to_answer(&mut town)?;
    let runs = vec![Run { length: 1_488, weight: 31 }, Run { length: 1_488, weight: 24 }];
    let bill = Query::Bill(BillQuery {
        field: Field::Import,
        weights: SignedWeights::sign("peak", FIRST, runs, &key(2)),
        rows: town.operator.rows(id(0), Field::Import, FIRST, DAYS * 96),
        exception: None,
    });
    town.grant(&Request::sign(bill.clone(), &key(1)))?;
    report("custodian: a month's scalar", least(30, || town.custodian.answer(&bill)), "us/home", "<= 50");
    for d in 1..7 {
        town.grant(&Request::sign(town.spatial(FIRST + d * 96, 96), &key(1)))?;
    }
    let metered: Vec<i64> = (0..672).map(|t| town.readings.iter().map(|home| home[t]).sum()).collect();
    let supplied = metered.iter().map(|m| m * 104 / 100).collect();
    let series = BalanceSeries { loss: vec![0; 672], metered, supplied };
    let rows = (0..HOMES).flat_map(|n| town.operator.rows(id(n), Field::Clipped, FIRST, 672)).collect();
    let case = Query::Theft(TheftQuery {
        group: "T1".into(),
        field: Field::Clipped,
        day: 20_000,
        series,
        rows,
        epsilon_micro: Some(4_000_000),
    });
    let until = NOW + 1;
    let request = Request::sign(case.clone(), &key(1)).approved("Ada", until, &key(5)).approved("Ben", until, &key(6));
    report(
        "custodian: deciding a T case of 200 homes",
        least(5, || town.custodian.decide(&request, NOW)) / 1e3,
        "ms",
        "<= 50 together",
    );
    town.grant(&request)?;
    let answer = town.custodian.answer(&case)?;
    report("custodian: answering it", least(5, || town.custodian.answer(&case)) / 1e3, "ms", "<= 50 together");
    report(
        "operator: its scores",
        least(5, || town.operator.decode_scores(&case, std::slice::from_ref(&answer))) / 1e3,
        "ms",
        "<= 50 together",
    );
    let generators = Generators::default();
    let commitments: Vec<_> = town
        .keys
        .iter()
        .zip(&town.readings)
        .filter_map(|(key, home)| Some(generators.commit(home[0], &blinding(key, Field::Import, 0, FIRST)?)))
        .collect();
    let total = town.keys.iter().filter_map(|key| blinding(key, Field::Import, 0, FIRST)).sum();
    let sum = town.readings.iter().map(|home| home[0]).sum();
    if !generators.check_sum(&commitments, sum, &total) {
        return Err("the check of a true sum fails".into());
    }
    report(
        "check of one slot of 200 homes",
        least(10, || generators.check_sum(&commitments, sum, &total)) / 1e3,
        "ms",
        "<= 2",
    );
    report(
        "meter: commitments and root of a day",
        least(3, || CommittedDay::new(&generators, &town.keys[0], Field::Import, FIRST, &town.readings[0][..96])) / 1e3,
        "ms",
        "(once a day)",
    );
    let mut masks = [0; 96];
    report(
        "meter: one mask",
        least(100, || town.keys[0].mask(Field::Import, 0, FIRST)) * 1e3,
        "ns",
        "(0.15 us/reading)",
    );
    report(
        "meter: a day's masks",
        least(100, || town.keys[0].fill(Field::Import, 0, FIRST, &mut masks)) * 1e3 / 96.0,
        "ns/reading",
        "(0.15 us/reading)",
    );
    let mut draws = Draws::new(&[3; 32]);
    report(
        "discrete Laplace, scale 20000",
        least(5, || (0..1_000).map(|_| laplace(&mut draws, Ratio::new(20_000, 1))).collect::<Vec<_>>()) / 1e3,
        "us/draw",
        "<= 20",
    );
    let mut draws = Draws::new(&[4; 32]);
    report(
        "discrete Gauss, variance 4e8",
        least(5, || (0..1_000).map(|_| gauss(&mut draws, Ratio::new(400_000_000, 1))).collect::<Vec<_>>()) / 1e3,
        "us/draw",
        "<= 20",
    );
    report("a meter's day on the link, one field, all in", day_bytes(&town)? as f64, "bytes", "<= 1000");
    Ok(())
}
