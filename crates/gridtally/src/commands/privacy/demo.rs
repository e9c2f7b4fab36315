//! `gridtally privacy demo`: a month of masked meters. Every number that comes out is compared with the truth, which no party holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use metering::{MeterId, Timestamp};
use privacy::{
    Field,
    log::{Checkpoint, tiles, verify},
    merkle,
    query::{
        Adjacency, BalanceSeries, BillQuery, LegalBasis, Mechanism, Purpose, Query, Request, Row, Run, SignedWeights,
        SpatialQuery, StatisticQuery, TheftQuery, UnmaskQuery,
    },
    theft,
};
use serde_json::{Value, json};
use sim::household::Household;

use super::{
    super::CommandError,
    frames::{CommittedDays, HomeDay},
    town::{Town, runs_in_clear},
};
use crate::custodian::files::write_whole;

const DAY: usize = 96;
/// 2026-03-02.
const FIRST_DAY: u64 = 20_514;
const SWAP_DAY: usize = 17;
const SWAPPED: usize = 7;
const THIEF: usize = 23;
const CORRECTED: (usize, usize) = (11, 8 * DAY + 40);
const CLIP_DAY_WH: i64 = 20_000;
const CLIP_SLOT_WH: i64 = 2_000;

#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Custodians; every one must agree to a sum
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    custodians: u8,
    /// Homes
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(40..=500))]
    homes: u16,
    /// Days
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(28..=31))]
    days: u16,
    /// Seed of loads, losses and keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the first custodian's log to this folder, as `gridtally log` and `gridtally witness` read it
    #[arg(long)]
    log: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What came out.
#[derive(Debug, Default)]
struct Figures {
    sums: u64,
    sums_exact: u64,
    late_sums: u64,
    bills: u64,
    bills_exact: u64,
    t_cases: u64,
    thief_ranks: Vec<usize>,
    refused: u64,
    slots_checked: u64,
    /// Bytes of a meter's day of one field on the link, on average.
    day_bytes: u64,
    wrong: u64,
    notes: Vec<String>,
}

impl Figures {
    fn expect(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        if !is_right {
            self.wrong += 1;
            self.notes.push(what());
        }
    }
}

/// Loads, and what the transformer measured.
struct Month {
    /// What each home used, Wh a slot.
    used: Vec<Vec<i64>>,
    /// What its meter registered.
    registered: Vec<Vec<i64>>,
    supplied: Vec<i64>,
    slots: usize,
    first: u64,
}

impl Month {
    fn new(arguments: &DemoArguments) -> Self {
        let (days, first) = (usize::from(arguments.days), FIRST_DAY * 96);
        let used: Vec<Vec<i64>> = (0..u64::from(arguments.homes))
            .map(|home| {
                let household = Household::draw(arguments.seed, home);
                let day = |d: u64| household.day(Timestamp(i64::try_from((FIRST_DAY + d) * 86_400).unwrap_or(0)));
                (0..days as u64).flat_map(|d| slots_of(&day(d))).collect()
            })
            .collect();
        let slots = days * DAY;
        let mut registered = used.clone();
        for x in registered[THIEF].iter_mut().skip(9 * DAY) {
            *x = *x * 6 / 10;
        }
        let supplied = (0..slots)
            .map(|t| {
                let sum: i64 = used.iter().map(|home| home[t]).sum();
                (sum + loss(sum)) * 1_001 / 1_000
            })
            .collect();
        Self { used, registered, supplied, slots, first }
    }

    fn clipped(&self, home: usize, t: usize) -> i64 {
        let begin = t / DAY * DAY;
        let clip = |x: i64| x.min(CLIP_SLOT_WH);
        let before: i64 = self.registered[home][begin..t].iter().map(|x| clip(*x)).sum();
        clip(self.registered[home][t]).min((CLIP_DAY_WH - before).max(0))
    }
}

/// Watt-hours of quarter-hours from watts of minutes.
fn slots_of(minutes: &[f32]) -> Vec<i64> {
    minutes.chunks(15).map(|part| (part.iter().map(|w| f64::from(*w)).sum::<f64>() / 60.0).round() as i64).collect()
}

/// Technical loss of a slot, Wh: a quarter per cent at 10 kWh.
fn loss(sum: i64) -> i64 {
    sum * sum / 4_000_000
}

fn meter(home: usize, t: usize) -> Result<MeterId, CommandError> {
    let tail = if home == SWAPPED && t >= SWAP_DAY * DAY { "-B" } else { "" };
    Ok(MeterId::new(&format!("M-{:03}{tail}", home + 1))?)
}

/// When a reading arrives: the day after which it is there; `None`: never.
fn arrives(town: &mut Town, home: usize, t: usize) -> Option<usize> {
    let day = t / DAY;
    // a concentrator that is away for three hours of day 5, and comes back two days later
    if home < 20 && (5 * DAY + 40..5 * DAY + 52).contains(&t) {
        return Some(day + 2);
    }
    match town.draws.below(10_000) {
        0..4 => None,
        4..40 => Some(day + 1 + usize::try_from(town.draws.below(5)).unwrap_or(0)),
        _ => Some(day),
    }
}

fn now_after(day: usize) -> i64 {
    i64::try_from((FIRST_DAY + day as u64 + 1) * 86_400 + 3_600).unwrap_or(i64::MAX)
}

pub(super) fn run(arguments: &DemoArguments) -> Result<ExitCode, CommandError> {
    let (told, figures) = played(arguments)?;
    print(arguments, &told, &figures);
    Ok(if figures.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The month, and what came out.
fn played(arguments: &DemoArguments) -> Result<(Value, Figures), CommandError> {
    let month = Month::new(arguments);
    let mut town = Town::new(usize::from(arguments.custodians), arguments.seed)?;
    let mut figures = Figures::default();
    let before = now_after(0) - 3 * 86_400;
    let members = |t: usize| (0..month.used.len()).map(|home| meter(home, t)).collect::<Result<Vec<_>, _>>();
    for member in members(0)? {
        town.enrol(member, before)?;
    }
    town.group(&members(0)?, before)?;
    let mut metered = vec![0; month.slots];
    let mut late: Vec<Vec<(usize, usize)>> = vec![Vec::new(); usize::from(arguments.days) + 8];
    for day in 0..usize::from(arguments.days) {
        if day == SWAP_DAY - 1 {
            // the new meter is enrolled the day before; its group holds from the next day on
            town.enrol(meter(SWAPPED, month.slots)?, now_after(day) - 80_000)?;
            town.group(&members(month.slots)?, now_after(day) - 80_000)?;
        }
        let committed = send_day(&mut town, &month, day, &mut late)?;
        let (query, sums) = spatial_day(&mut town, &month, day, &mut metered, &mut figures)?;
        if let Some(committed) = committed {
            let (checked, held) = committed.check(&mut town, &query, &sums, now_after(day))?;
            figures.expect(checked == held, || format!("{} checks of slots failed", checked - held));
            figures.slots_checked += checked;
            figures.day_bytes = committed.bytes / month.used.len() as u64;
        }
    }
    for arriving in late {
        for (home, t) in arriving {
            send(&mut town, &month, home, t)?;
        }
    }
    let end = now_after(usize::from(arguments.days));
    late_sum(&mut town, &month, end, &mut figures)?;
    correct(&mut town, &month)?;
    bills(&mut town, &month, end, &mut figures)?;
    let series = theft_cases(&mut town, &month, &metered, end, &mut figures)?;
    statistic(&mut town, &month, end, &mut figures)?;
    abuses(&mut town, &month, &series, end, &mut figures)?;
    let told = finish(&town, &month, arguments, &mut figures)?;
    Ok((told, figures))
}

fn send(town: &mut Town, month: &Month, home: usize, t: usize) -> Result<(), CommandError> {
    let (meter, counter) = (meter(home, t)?, month.first + t as u64);
    let spoiled = if (home, t) == CORRECTED { 3_000 } else { 0 };
    town.send(meter, Field::Import, counter, 0, month.registered[home][t] + spoiled)?;
    town.send(meter, Field::Clipped, counter, 0, month.clipped(home, t))
}

/// A day of all homes. The first goes out in frames with commitments, which cost a meter's processor seconds; then readings go singly.
fn send_day(
    town: &mut Town,
    month: &Month,
    day: usize,
    late: &mut [Vec<(usize, usize)>],
) -> Result<Option<CommittedDays>, CommandError> {
    let mut committed = (day == 0).then(CommittedDays::default);
    for home in 0..month.used.len() {
        let mut in_time = Vec::new();
        for t in day * DAY..(day + 1) * DAY {
            match arrives(town, home, t) {
                Some(when) if when == day => in_time.push(t),
                Some(when) => late[when].push((home, t)),
                None => {}
            }
        }
        let Some(committed) = &mut committed else {
            in_time.into_iter().try_for_each(|t| send(town, month, home, t))?;
            continue;
        };
        let readings = month.registered[home][..DAY].to_vec();
        let meter = meter(home, 0)?;
        for t in &in_time {
            town.send(meter, Field::Clipped, month.first + *t as u64, 0, month.clipped(home, *t))?;
        }
        committed.send(town, &HomeDay { meter, readings, in_time }, month.first)?;
    }
    Ok(committed)
}

/// Rows of all members' cells in a range.
fn rows(town: &Town, month: &Month, field: Field, from: usize, count: usize) -> Result<Vec<Row>, CommandError> {
    let mut rows = Vec::new();
    for home in 0..month.used.len() {
        let mut meters: BTreeSet<MeterId> = BTreeSet::new();
        meters.insert(meter(home, from)?);
        meters.insert(meter(home, from + count - 1)?);
        for meter in meters {
            rows.extend(town.operator.rows(meter, field, month.first + from as u64, count));
        }
    }
    Ok(rows)
}

fn spatial_day(
    town: &mut Town,
    month: &Month,
    day: usize,
    metered: &mut [i64],
    figures: &mut Figures,
) -> Result<(Query, Vec<i64>), CommandError> {
    let query = Query::Spatial(SpatialQuery {
        group: "T1".into(),
        field: Field::Import,
        day: i64::try_from(FIRST_DAY)? + i64::try_from(day)?,
        slots: DAY as u32,
        rows: rows(town, month, Field::Import, day * DAY, DAY)?,
    });
    let answers = town.ask(&town.sign(query.clone()), now_after(day))?;
    let sums = town.operator.decode(&query, &answers)?;
    metered[day * DAY..(day + 1) * DAY].copy_from_slice(&sums);
    compare(town, &query, &sums, figures);
    Ok((query, sums))
}

/// Compares released sums, slot by slot, with the truth over the cells that were meant.
fn compare(town: &Town, query: &Query, sums: &[i64], figures: &mut Figures) {
    let mut truth = vec![0; sums.len()];
    for row in query.rows() {
        for k in row.cells() {
            let cell = (row.meter, Field::Import, row.first + k as u64);
            truth[row.offset as usize + k] += town.truth.get(&cell).copied().unwrap_or(i64::MIN / 1_000);
        }
    }
    let exact = truth.iter().zip(sums).filter(|(a, b)| a == b).count() as u64;
    figures.sums += sums.len() as u64;
    figures.sums_exact += exact;
    figures.wrong += sums.len() as u64 - exact;
}

fn late_sum(town: &mut Town, month: &Month, now: i64, figures: &mut Figures) -> Result<(), CommandError> {
    let from = 5 * DAY + 40;
    let mut late = Vec::new();
    for home in 0..20 {
        late.extend(town.operator.rows(meter(home, from)?, Field::Import, month.first + from as u64, 12));
    }
    let query = Query::Late(SpatialQuery {
        group: "T1".into(),
        field: Field::Import,
        day: i64::try_from(FIRST_DAY + 5)?,
        slots: 12,
        rows: late,
    });
    let answers = town.ask(&town.sign(query.clone()), now)?;
    let sums = town.operator.decode(&query, &answers)?;
    compare(town, &query, &sums, figures);
    figures.late_sums += sums.len() as u64;
    Ok(())
}

/// The spoiled reading is sent again under the next revision; the old revision once more is refused.
fn correct(town: &mut Town, month: &Month) -> Result<(), CommandError> {
    let (home, t) = CORRECTED;
    let (meter, counter) = (meter(home, t)?, month.first + t as u64);
    town.send(meter, Field::Import, counter, 0, month.registered[home][t])?;
    town.send(meter, Field::Import, counter, 1, month.registered[home][t])
}

/// Day (6 to 22 o'clock) and night register of a period.
fn registers(town: &Town, first: u64, days: usize) -> [SignedWeights; 2] {
    let runs = |night: i32, day: i32| -> Vec<Run> {
        let parts = [(24, night), (64, day), (8, night)];
        let of_day = parts.map(|(length, weight)| Run { length, weight });
        of_day.iter().copied().cycle().take(3 * days).collect()
    };
    let sign = |name: &str, runs| SignedWeights::sign(name, first, runs, &town.people.tariff);
    [sign("day", runs(0, 1)), sign("night", runs(1, 0))]
}

fn bills(town: &mut Town, month: &Month, now: i64, figures: &mut Figures) -> Result<(), CommandError> {
    let days = month.slots / DAY;
    for home in 0..month.used.len() {
        let periods: &[(usize, usize)] =
            if home == SWAPPED { &[(0, SWAP_DAY), (SWAP_DAY, days - SWAP_DAY)] } else { &[(0, days)] };
        for (from, length) in periods {
            let meter = meter(home, from * DAY)?;
            let first = month.first + (from * DAY) as u64;
            let rows = town.operator.rows(meter, Field::Import, first, length * DAY);
            for weights in registers(town, first, *length) {
                let truth: i64 = rows
                    .iter()
                    .flat_map(|row| row.cells().map(move |k| row.first + k as u64))
                    .map(|counter| i64::from(weights.weight(counter)) * town.truth[&(meter, Field::Import, counter)])
                    .sum();
                let query =
                    Query::Bill(BillQuery { field: Field::Import, weights, rows: rows.clone(), exception: None });
                let answers = town.ask(&town.sign(query.clone()), now)?;
                let given = town.operator.decode(&query, &answers)?;
                figures.bills += 1;
                figures.bills_exact += u64::from(given == [truth]);
                figures.expect(given == [truth], || format!("bill of {meter}: {given:?}, not {truth}"));
            }
        }
    }
    Ok(())
}

/// The alarm's record, and two cases on it: with noise on the clipped readings (two approvers), exact (three).
fn theft_cases(
    town: &mut Town,
    month: &Month,
    metered: &[i64],
    now: i64,
    figures: &mut Figures,
) -> Result<BalanceSeries, CommandError> {
    // after the swap, so that every home is one meter
    let from = SWAP_DAY * DAY;
    let count = month.slots - from;
    let series = BalanceSeries {
        supplied: month.supplied[from..].to_vec(),
        metered: metered[from..].to_vec(),
        loss: metered[from..].iter().map(|m| loss(*m)).collect(),
    };
    let noisy = (Field::Clipped, Some(4_000_000), [0, 1].as_slice());
    let exact = (Field::Import, None, [0, 1, 2].as_slice());
    for (field, epsilon_micro, approvers) in [noisy, exact] {
        let query = Query::Theft(TheftQuery {
            group: "T1".into(),
            field,
            day: i64::try_from(FIRST_DAY)? + i64::try_from(month.slots / DAY)?,
            series: series.clone(),
            rows: rows(town, month, field, from, count)?,
            epsilon_micro,
        });
        let request = town.approve(town.sign(query), approvers, now + 86_400);
        let answers = town.ask(&request, now)?;
        let scores = town.operator.decode_scores(&request.query, &answers)?;
        let ranked = theft::rank(&scores.iter().map(|(_, score)| *score).collect::<Vec<_>>());
        let thief = meter(THIEF, from)?;
        let rank = ranked.iter().position(|(place, _)| scores[*place].0 == thief).map_or(0, |place| place + 1);
        figures.t_cases += 1;
        figures.thief_ranks.push(rank);
        // With noise the place is a draw: it is told here, and `theft.rs` of the crate bounds it over many seeds. Exact, it must be the first.
        if epsilon_micro.is_none() {
            figures.expect(rank == 1, || format!("the thief's place by {field:?} is {rank}"));
        }
    }
    Ok(series)
}

/// Research asks for the total of the days after the swap, ε = 1 for any home-day.
fn statistic(town: &mut Town, month: &Month, now: i64, figures: &mut Figures) -> Result<(), CommandError> {
    let from = SWAP_DAY * DAY;
    let query = Query::Statistic(StatisticQuery {
        group: "T1".into(),
        day: i64::try_from(FIRST_DAY)? + i64::try_from(month.slots / DAY)?,
        band: u32::try_from(month.slots - from)?,
        bands: 1,
        rows: rows(town, month, Field::Clipped, from, month.slots - from)?,
        adjacency: Adjacency::HomeDay,
        mechanism: Mechanism::Laplace,
        level_micro: 1_000_000,
        purpose: Purpose::Research,
    });
    let request = town.sign(query);
    let answers = town.ask(&request, now)?;
    let again = town.ask(&request, now)?;
    figures.expect(answers == again, || "the same question got another answer".into());
    Ok(())
}

/// What an operator might try; each must be refused by every custodian that is asked.
fn abuses(
    town: &mut Town,
    month: &Month,
    series: &BalanceSeries,
    now: i64,
    figures: &mut Figures,
) -> Result<(), CommandError> {
    let last = month.slots - DAY;
    let day = i64::try_from(FIRST_DAY)? + i64::try_from(last / DAY)?;
    let one = |home: usize, count: usize| -> Result<Vec<Row>, CommandError> {
        Ok(town.operator.rows(meter(home, last)?, Field::Import, month.first + (month.slots - count) as u64, count))
    };
    let sum = |rows: Vec<Row>| {
        Query::Spatial(SpatialQuery { group: "T1".into(), field: Field::Import, day, slots: DAY as u32, rows })
    };
    let all = rows(town, month, Field::Import, last, DAY)?;
    let few: Vec<Row> = all.iter().take(14).cloned().collect();
    let but_one: Vec<Row> = all.iter().skip(1).cloned().collect();
    let bill = |runs: &[(u32, i32)]| -> Result<Query, CommandError> {
        let runs = runs.iter().map(|(length, weight)| Run { length: *length, weight: *weight }).collect();
        let first = month.first + (month.slots - 10 * DAY) as u64;
        let weights = SignedWeights::sign("trick", first, runs, &town.people.tariff);
        Ok(Query::Bill(BillQuery { field: Field::Import, weights, rows: one(0, 10 * DAY)?, exception: None }))
    };
    let unmask = Query::Unmask(UnmaskQuery {
        field: Field::Import,
        rows: one(THIEF, DAY)?,
        basis: LegalBasis::CustomerRequest,
        scope: (0, u64::MAX - 1),
        expires: now + 86_400,
        notice_at: now + 86_400,
    });
    let quiet = BalanceSeries { supplied: series.metered.clone(), ..series.clone() };
    let fishing = Query::Theft(TheftQuery {
        group: "T1".into(),
        field: Field::Import,
        day: day + 1,
        series: quiet,
        rows: rows(town, month, Field::Import, SWAP_DAY * DAY, month.slots - SWAP_DAY * DAY)?,
        epsilon_micro: None,
    });
    let statistic = Query::Statistic(StatisticQuery {
        group: "T1".into(),
        day,
        band: DAY as u32,
        bands: 1,
        rows: rows(town, month, Field::Clipped, last, DAY)?,
        adjacency: Adjacency::HomeDay,
        mechanism: Mechanism::Laplace,
        level_micro: 1_000_000,
        purpose: Purpose::Research,
    });
    let tries: Vec<(&str, Request)> = vec![
        ("a sum of 14 homes", town.sign(sum(few))),
        ("the same slots without one home", town.sign(sum(but_one))),
        ("a bill that weighs one slot", town.sign(bill(&[(1, 1)])?)),
        ("a bill with packed weights", town.sign(bill(&[(1, 1), (1, 1 << 15), (1, 1 << 30), (900, 1)])?)),
        ("a curve with approvals of one organisation", town.approve(town.sign(unmask), &[0, 1], now + 1)),
        ("theft scores without an alarm", town.approve(town.sign(fishing), &[0, 1, 2], now + 1)),
        ("a statistic beyond the budget", town.sign(statistic)),
    ];
    for (what, request) in tries {
        let answer = town.ask(&request, now);
        figures.expect(answer.is_err(), || format!("{what} was given"));
        figures.refused += u64::from(answer.is_err());
        figures.notes.extend(answer.err().map(|why| format!("refused: {what}: {why}")));
    }
    Ok(())
}

/// What each party holds in the end, searched and checked.
fn finish(town: &Town, month: &Month, arguments: &DemoArguments, figures: &mut Figures) -> Result<Value, CommandError> {
    figures.expect(town.conflicts == 1, || format!("{} conflicts, one was planted", town.conflicts));
    let folder = tempfile::tempdir()?;
    let bytes = town.write_operator(folder.path())?;
    let in_clear = runs_in_clear(folder.path(), &month.registered)?;
    figures.expect(in_clear.is_empty(), || format!("readings in clear at the operator: {in_clear:?}"));
    let planted: Vec<u8> = month.registered[1][60..80].iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(folder.path().join("planted"), planted)?;
    let found = runs_in_clear(folder.path(), &month.registered)?.len();
    figures.expect(found > 0, || "the search does not find planted readings".into());
    let (custodian, events) = &town.custodians[0];
    let entries: Vec<Vec<u8>> = events.iter().map(privacy::journal::public).collect();
    let log_key = publish(town, &entries, arguments.log.as_deref(), figures)?;
    let state = custodian.state();
    Ok(json!({
        "custodians": arguments.custodians, "homes": arguments.homes, "days": arguments.days,
        "sums": figures.sums, "sums_exact": figures.sums_exact, "late_sums": figures.late_sums,
        "bills": figures.bills, "bills_exact": figures.bills_exact,
        "t_cases": figures.t_cases, "thief_ranks": figures.thief_ranks,
        "refused": figures.refused, "epsilon_spent": state.epsilon_micro() as f64 / 1e6, "wrong": figures.wrong,
        "operator_bytes": bytes, "runs_in_clear": in_clear.len(), "planted_found": found,
        "log_entries": entries.len(), "log_key": log_key, "slots_checked": figures.slots_checked,
        "day_bytes": figures.day_bytes, "notes": figures.notes,
    }))
}

/// Makes the log's files from its entries and verifies them; the public key that its head is signed with.
fn publish(
    town: &Town,
    entries: &[Vec<u8>],
    folder: Option<&std::path::Path>,
    figures: &mut Figures,
) -> Result<privacy::hex::Hex<32>, CommandError> {
    let hashes: Vec<merkle::Hash> = entries.iter().map(|entry| merkle::leaf(entry)).collect();
    let (size, root) = (entries.len() as u64, merkle::root(&hashes));
    let head = Checkpoint { origin: "gridtally.demo/log".into(), size, root }.sign(&town.log_key).to_text();
    let mut files: BTreeMap<_, _> = tiles::files(entries, 0).into_iter().collect();
    files.insert("checkpoint".to_owned(), head.clone().into_bytes());
    files.insert(format!("heads/{size}"), head.clone().into_bytes());
    let public = privacy::hex::Hex(town.log_key.verifying_key().to_bytes());
    let report = verify(&|path: &str| files.get(path).cloned(), &[head], &public, None)?;
    figures.expect(report.is_good(), || format!("the log does not verify: {report:?}"));
    for (path, content) in folder.iter().flat_map(|folder| files.iter().map(move |(p, c)| (folder.join(p), c))) {
        write_whole(&path, content).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok(public)
}

fn print(arguments: &DemoArguments, told: &Value, figures: &Figures) {
    if arguments.json {
        println!("{told}");
        return;
    }
    println!("{} masked meters, {} days, {} custodian(s)\n", arguments.homes, arguments.days, arguments.custodians);
    println!("What each party saw");
    println!("  a home       its own readings on its display. Nobody else saw one.");
    println!(
        "  the operator {} bytes of masked numbers, in which {} runs of eight readings stand in clear (a planted one is found),",
        told["operator_bytes"], told["runs_in_clear"]
    );
    println!(
        "               {} sums of its transformer, {} registers of bills, {} lists of scores.",
        figures.sums, figures.bills, figures.t_cases
    );
    println!(
        "  a custodian  who was present when, which sums were asked for, the balance of the theft case. No reading, masked or not."
    );
    println!("  a researcher one total with noise; the same question again gave the same answer.");
    println!("  the public   {} entries of the log: classes, hashes, approvers. No reading.\n", told["log_entries"]);
    println!(
        "Exact: {} of {} sums, {} of {} registers of bills.",
        figures.sums_exact, figures.sums, figures.bills_exact, figures.bills
    );
    println!("The thief's place: {:?} (first with noise on clipped readings, then exact).", figures.thief_ranks);
    println!(
        "Slots opened and checked: {}. A meter's day on the link: {} bytes.",
        figures.slots_checked, figures.day_bytes
    );
    println!("Privacy spent on any home: epsilon {}. Refused: {}.", told["epsilon_spent"], figures.refused);
    figures.notes.iter().for_each(|note| println!("  {note}"));
    println!("Wrong: {}", figures.wrong);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_with_two_custodians_is_exact_and_refuses_every_abuse() {
        let arguments = DemoArguments { custodians: 2, homes: 60, days: 30, seed: 3, log: None, json: true };
        let (told, figures) = played(&arguments).expect("plays");
        assert_eq!((figures.wrong, figures.refused), (0, 7), "{told}");
        assert_eq!((figures.sums, figures.bills), (figures.sums_exact, figures.bills_exact));
        assert!(figures.sums >= 30 * 96 && figures.t_cases == 2, "{told}");
        assert!(figures.slots_checked == 3 && (400..1_000).contains(&figures.day_bytes), "{told}");
    }
}
