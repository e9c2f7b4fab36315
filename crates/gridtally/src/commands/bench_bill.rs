//! `gridtally bench bill`: a billing run on this machine, from packed blocks on the disk to bills written.
//!
//! Meters have one of a number of load shapes, scaled and shifted; every meter and day is a block of its own on the disk. The run goes
//! portion by portion: read and unpack, compute, commit; each phase is timed by itself and uses all threads it can.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use billing::bulk::{Batch, BulkBill};
use billing::customer::Customer;
use billing::report;
use clap::Args;
use serde_json::json;
use store::bill::{BillFile, BillRow, Steps, block_day, pack_day, unpack_month};

use super::{CommandError, tariff};

/// Meters of a portion: a month of their quarter-hours stays below 50 MB.
const PORTION: i64 = 4_000;
/// Load shapes.
const SHAPES: i64 = 64;
/// Seconds of a step.
const STEP_S: i64 = 900;

/// Arguments of `bench bill`.
#[derive(Debug, Args)]
pub struct BillArguments {
    /// Meters, each with one bill
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    meters: u32,
    /// Days of the bill
    #[arg(long, default_value_t = 31, value_parser = clap::value_parser!(u32).range(1..=31))]
    days: u32,
    /// The tariff
    #[arg(long)]
    tariff: PathBuf,
    /// Where the file of blocks and bills is made; a temporary folder without it
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Time of the phases.
#[derive(Default)]
struct Phases {
    read: Duration,
    compute: Duration,
    commit: Duration,
}

/// Runs it.
pub async fn run(arguments: BillArguments) -> Result<ExitCode, CommandError> {
    let listed = match tariff::listed(&arguments.tariff) {
        Ok(listed) => listed,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(ExitCode::from(2));
        }
    };
    let from = listed.tariff.valid_from.unwrap_or(jiff::civil::date(2025, 1, 1));
    let to = from.checked_add(jiff::Span::new().days(i64::from(arguments.days)))?;
    let batch = Batch::new(&listed, from, to, u32::try_from(STEP_S)?)?;
    let steps = Steps { from_s: batch.plan().from_s, to_s: batch.plan().to_s, step_s: STEP_S };
    let temporary = tempfile::tempdir()?;
    let folder = arguments.folder.as_deref().unwrap_or(temporary.path());
    let path = folder.join("bench-bills.db");
    if path.exists() {
        return Err(format!("{} is there already; remove it or name another folder", path.display()).into());
    }
    let file = BillFile::open(&path).await?;
    let meters = i64::from(arguments.meters);
    fill(&file, steps, meters).await?;
    let threads = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let mut phases = Phases::default();
    let mut first = 1;
    while first <= meters {
        let last = (first + PORTION - 1).min(meters);
        portion(&file, &batch, steps, (first, last), threads, &mut phases).await?;
        first = last + 1;
    }
    let (bills, sum) = file.bills().await?;
    file.close().await;
    report_run(&arguments, &batch, bills, sum, &phases, threads, &path)?;
    Ok(if bills == meters { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report_run(
    arguments: &BillArguments,
    batch: &Batch<'_>,
    bills: i64,
    sum: i64,
    phases: &Phases,
    threads: NonZero<usize>,
    path: &Path,
) -> Result<(), CommandError> {
    let intervals = bills * i64::try_from(batch.steps())?;
    let wall = phases.read + phases.compute + phases.commit;
    let rate = |time: Duration| bills as f64 / time.as_secs_f64().max(1e-9);
    let bytes = std::fs::metadata(path).map(|found| found.len()).unwrap_or(0);
    let summary = json!({
        "bills": bills, "intervals": intervals, "read_s": phases.read.as_secs_f64(), "compute_s": phases.compute.as_secs_f64(),
        "commit_s": phases.commit.as_secs_f64(), "bills_per_s": rate(wall), "computed_per_s": rate(phases.compute),
        "ns_per_interval": phases.compute.as_secs_f64() * 1e9 / intervals.max(1) as f64, "threads": threads.get(),
        "sum_minor": sum, "load_shapes": SHAPES, "file_bytes": bytes, "peak_rss_mb": super::bench::resident_mb(Some(std::process::id())),
    });
    if arguments.json {
        println!("{summary}");
    } else {
        println!("{bills} bills of {} steps each in {:.2} s: {:.0}/s", batch.steps(), wall.as_secs_f64(), rate(wall));
        println!(
            "read {:.2} s, computed {:.2} s ({:.0}/s), committed {:.2} s, {} threads",
            phases.read.as_secs_f64(),
            phases.compute.as_secs_f64(),
            rate(phases.compute),
            phases.commit.as_secs_f64(),
            threads
        );
    }
    Ok(())
}

/// Writes the blocks of all meters. The shapes are packed once; a meter takes one of them.
async fn fill(file: &BillFile, steps: Steps, meters: i64) -> Result<(), CommandError> {
    let mut shapes: Vec<Vec<(i64, Vec<u8>)>> = Vec::new();
    for shape in 0..SHAPES {
        let mut days: Vec<(i64, Vec<(i64, u64)>)> = Vec::new();
        let mut register = 1_000_000u64 * u64::try_from(shape + 1)?;
        let mut end = steps.from_s;
        while end <= steps.to_s {
            let day = block_day(end);
            match days.last_mut() {
                Some((last, list)) if *last == day => list.push((end, register)),
                _ => days.push((day, vec![(end, register)])),
            }
            register += used_wh(shape, end);
            end += STEP_S;
        }
        shapes.push(days.into_iter().map(|(day, list)| (day, pack_day(day, &list, STEP_S))).collect());
    }
    // Portion by portion, so that the file grows in the order in which a run of many months would have written it.
    let mut first = 1;
    while first <= meters {
        let last = (first + PORTION - 1).min(meters);
        let mut blocks: Vec<(i64, i64, &[u8])> = Vec::new();
        for meter in first..=last {
            let shape = usize::try_from(meter % SHAPES)?;
            blocks.extend(shapes[shape].iter().map(|(day, body)| (*day, meter, body.as_slice())));
        }
        blocks.sort_unstable_by_key(|(day, meter, _)| (*day, *meter));
        file.write_days(&blocks).await?;
        first = last + 1;
    }
    Ok(())
}

/// A household's use in a quarter-hour: base, morning and evening, with a fixed irregularity. Wh.
fn used_wh(shape: i64, end_s: i64) -> u64 {
    let quarter = (end_s / STEP_S + shape * 3) % 96;
    let base = 40 + shape % 7 * 9;
    let peak = if (28..36).contains(&quarter) || (68..88).contains(&quarter) { 180 + shape * 5 } else { 0 };
    let mixed = (end_s / STEP_S).wrapping_mul(0x9E37_79B9).wrapping_add(shape * 0x85EB_CA6B) >> 7 & 0x7F;
    (base + peak + mixed).unsigned_abs()
}

async fn portion(
    file: &BillFile,
    batch: &Batch<'_>,
    steps: Steps,
    (first, last): (i64, i64),
    threads: NonZero<usize>,
    phases: &mut Phases,
) -> Result<(), CommandError> {
    let started = Instant::now();
    let share = ((last - first + 1) + i64::try_from(threads.get())? - 1) / i64::try_from(threads.get())?;
    let mut reading = Vec::new();
    let mut at = first;
    while at <= last {
        let (file, end) = (file.clone(), (at + share - 1).min(last));
        reading.push(tokio::spawn(async move { read_months(&file, steps, at, end).await }));
        at = end + 1;
    }
    let mut months: Vec<Vec<u32>> = Vec::new();
    for task in reading {
        months.extend(task.await??);
    }
    phases.read += started.elapsed();

    let started = Instant::now();
    let nobody = Customer::default();
    let customers: Vec<(&[u32], &Customer)> = months.iter().map(|month| (month.as_slice(), &nobody)).collect();
    let bills = batch.bills(&customers, threads);
    phases.compute += started.elapsed();

    let started = Instant::now();
    let mut rows = Vec::with_capacity(bills.len());
    for (meter, bill) in (first..=last).zip(bills) {
        rows.push(row(meter, &bill.map_err(|why| format!("meter number {meter}: {why}"))?)?);
    }
    file.write_bills(steps, &rows).await?;
    phases.commit += started.elapsed();
    Ok(())
}

fn row(meter: i64, bill: &BulkBill) -> Result<BillRow, serde_json::Error> {
    let lines: Vec<report::LineView> = bill.part.lines.iter().map(|line| report::line(line, None)).collect();
    let body = serde_json::to_vec(&json!({
        "from": bill.part.from.to_string(), "to": bill.part.to.to_string(), "tariff": bill.part.tariff, "lines": lines,
    }))?;
    Ok(BillRow { meter, total: bill.total, body })
}

async fn read_months(file: &BillFile, steps: Steps, first: i64, last: i64) -> Result<Vec<Vec<u32>>, store::StoreError> {
    let blocks = file.read_days(steps, first, last).await?;
    let count = usize::try_from(last - first + 1).unwrap_or(0);
    let mut by_meter: Vec<Vec<(i64, &[u8])>> = vec![Vec::new(); count];
    for (day, meter, body) in &blocks {
        if let Some(own) = usize::try_from(meter - first).ok().and_then(|index| by_meter.get_mut(index)) {
            own.push((*day, body.as_slice()));
        }
    }
    let mut months = Vec::with_capacity(count);
    for (meter, own) in (first..=last).zip(by_meter) {
        let mut month = Vec::new();
        unpack_month(own.into_iter(), steps, meter, &mut month)?;
        months.push(month);
    }
    Ok(months)
}
