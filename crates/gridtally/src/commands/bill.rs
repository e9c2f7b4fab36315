//! `gridtally bill`: bills of a case folder, why they are what they are, and what another tariff would have cost.
//!
//! The work is done in the `billing` crate; here are files, tables and exit codes. Bad input: exit code 2, and with `--json` one object
//! with `error`, `file` and `where`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use billing::bill::written;
use billing::case::{Case, Wanted};
use billing::compare::{self, Comparison};
use billing::error::Fault;
use billing::{explain, forecast};
use serde_json::json;

use super::{CommandError, tariff};

/// Subcommands of `gridtally bill`.
#[derive(Debug, clap::Subcommand)]
pub enum BillCommand {
    /// Compute a case folder (case.json, tariffs, readings, series) and print its bills
    Case(CaseArguments),
    /// Every line with the tariff's clause, the registers or intervals it rests on and its rounding; corrections line by line
    Explain {
        #[command(flatten)]
        case: CaseArguments,
        /// Only this bill.
        #[arg(long)]
        bill: Option<String>,
    },
    /// What another tariff would have cost, line by line
    Compare {
        #[command(flatten)]
        case: CaseArguments,
        /// The other tariff, instead of those of the case.
        #[arg(long)]
        tariff: PathBuf,
    },
    /// What a running bill will be if use goes on as so far, with its range
    Forecast {
        #[command(flatten)]
        case: CaseArguments,
        /// First day that is not known yet, as 2025-02-14.
        #[arg(long)]
        today: String,
        /// Which bill; the first that runs on that day without it.
        #[arg(long)]
        bill: Option<String>,
    },
}

/// A case folder.
#[derive(Debug, clap::Args)]
pub struct CaseArguments {
    /// The folder.
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs a subcommand.
pub fn run(command: BillCommand) -> Result<ExitCode, CommandError> {
    let (as_json, outcome) = match &command {
        BillCommand::Case(case) => (case.json, print_case(case)),
        BillCommand::Explain { case, bill } => (case.json, print_explanation(case, bill.as_deref())),
        BillCommand::Compare { case, tariff } => (case.json, print_comparison(case, tariff)),
        BillCommand::Forecast { case, today, bill } => (case.json, print_forecast(case, today, bill.as_deref())),
    };
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Failure::Input(fault)) => {
            if as_json {
                let told = json!({ "error": fault.message, "file": fault.file, "where": fault.place });
                writeln!(std::io::stdout().lock(), "{told}")?;
            } else {
                eprintln!("{fault}");
            }
            Ok(ExitCode::from(2))
        }
        Err(Failure::Output(why)) => Err(why),
    }
}

enum Failure {
    Input(Fault),
    Output(CommandError),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Input(fault)
    }
}

impl From<std::io::Error> for Failure {
    fn from(why: std::io::Error) -> Self {
        Failure::Output(why.into())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(why: serde_json::Error) -> Self {
        Failure::Output(why.into())
    }
}

/// Most bytes of one file of a case, unpacked.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Gives files of a folder; those that end in `.gz` unpacked.
pub(super) fn files_of(folder: &Path) -> impl Fn(&str) -> Result<Vec<u8>, String> + '_ {
    move |name: &str| {
        let path = folder.join(name);
        let file =
            std::fs::File::open(&path).map_err(|why| format!("cannot be read: {why}; put it into the folder"))?;
        let mut bytes = Vec::new();
        let unpacked = if name.ends_with(".gz") {
            flate2::read::GzDecoder::new(file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
        } else {
            file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
        };
        unpacked.map_err(|why| format!("cannot be read: {why}; mend or replace the file"))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
            return Err(format!("is larger than {} MB; divide the case", FILE_BYTES_MAX >> 20));
        }
        Ok(bytes)
    }
}

fn read_case(folder: &Path) -> Result<Case, Fault> {
    Case::read(&files_of(folder))
}

fn digits(case: &Case) -> u32 {
    case.tariffs.last().map_or(2, |listed| listed.tariff.minor_digits)
}

fn print_case(arguments: &CaseArguments) -> Result<(), Failure> {
    let case = read_case(&arguments.dir)?;
    let results = case.run()?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer(&mut out, &results)?;
        writeln!(out)?;
        return Ok(());
    }
    for words in results.bills.iter().flat_map(|result| result.words(results.minor_digits)) {
        writeln!(out, "{words}")?;
    }
    Ok(())
}

fn print_explanation(arguments: &CaseArguments, wanted: Option<&str>) -> Result<(), Failure> {
    let case = read_case(&arguments.dir)?;
    let supply = case.supply();
    let bills = case.bills()?;
    let mut explanations = Vec::new();
    let mut corrections: Vec<Comparison> = Vec::new();
    for (made, bill) in bills.iter().filter(|(made, _)| wanted.is_none_or(|id| made.order.id == id)) {
        explanations.push(explain::bill(&supply, made, bill)?);
        for correction in &bill.corrections {
            let Some((old, _)) = bills.iter().find(|(old, _)| old.order.id == correction.bill) else { continue };
            let before = (old.parts.as_slice(), correction.billed);
            corrections.push(compare::bills(&correction.bill, before, (&correction.parts, correction.corrected)));
        }
    }
    if let (true, Some(id)) = (explanations.is_empty(), wanted) {
        return Err(Fault::new("case.json", "bills", format!("there is no bill \"{id}\"; name one of the case")).into());
    }
    if explanations.is_empty() {
        let message = "there is no bill to explain; the lines of tokens and prepaid days are in `bill case`";
        return Err(Fault::new("case.json", "bills", message).into());
    }
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", json!({ "bills": explanations, "corrections": corrections }))?;
        return Ok(());
    }
    for explanation in &explanations {
        writeln!(out, "{} {} to {}", explanation.bill, explanation.from, explanation.to)?;
        for reason in &explanation.lines {
            writeln!(out, "  {}", reason.line.words(digits(&case)))?;
            if let Some(clause) = &reason.clause {
                writeln!(out, "      {clause}")?;
            }
            for words in &reason.quantity_from {
                writeln!(out, "      {words}")?;
            }
            writeln!(out, "      {}", reason.amount_from)?;
        }
        for words in &explanation.readings {
            writeln!(out, "  {words}")?;
        }
        writeln!(out, "  {:<60} {:>14}", "total", written(explanation.total, digits(&case)))?;
    }
    for comparison in &corrections {
        write_comparison(&mut out, comparison, digits(&case))?;
    }
    Ok(())
}

fn write_comparison(out: &mut impl Write, comparison: &Comparison, digits: u32) -> std::io::Result<()> {
    writeln!(out, "{}: before, after, difference", comparison.bill)?;
    let money = |amount: i64| written(amount, digits);
    for line in &comparison.lines {
        let mut name = line.code.clone();
        for part in
            [line.period.clone(), line.block.map(|b| format!("block {b}")), line.from.clone()].into_iter().flatten()
        {
            name.push_str(&format!(" {part}"));
        }
        writeln!(
            out,
            "  {name:<40} {:>14} {:>14} {:>14}",
            money(line.before),
            money(line.after),
            money(line.difference)
        )?;
    }
    let (before, after) = (money(comparison.before), money(comparison.after));
    writeln!(out, "  {:<40} {before:>14} {after:>14} {:>14}", "total", money(comparison.difference))
}

fn print_comparison(arguments: &CaseArguments, other: &Path) -> Result<(), Failure> {
    let case = read_case(&arguments.dir)?;
    let mut listed = tariff::listed(other)?;
    // The question is what it would have cost, also on days before it was offered.
    (listed.tariff.valid_from, listed.tariff.valid_to) = (None, None);
    let first = case.tariffs.first().map(|listed| listed.tariff.currency.clone()).unwrap_or_default();
    if listed.tariff.currency != first || listed.tariff.minor_digits != digits(&case) {
        let message = format!("is in {}, the case in {first}; compare tariffs of one currency", listed.tariff.currency);
        return Err(Fault::new(listed.file.clone(), "currency", message).into());
    }
    let with_other = Case { tariffs: vec![listed], ..case.clone() };
    let (before, after) = (case.bills()?, with_other.bills()?);
    let comparisons: Vec<Comparison> = before
        .iter()
        .zip(&after)
        .map(|((_, a), (_, b))| compare::bills(&a.id, (&a.parts, a.total), (&b.parts, b.total)))
        .collect();
    let sum = |pick: fn(&Comparison) -> i64| comparisons.iter().map(pick).fold(0i64, i64::saturating_add);
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let told = json!({
            "currency": first, "minor_digits": digits(&case), "tariff": name_of_other(&with_other), "bills": comparisons,
            "before": sum(|c| c.before), "after": sum(|c| c.after), "difference": sum(|c| c.difference),
        });
        writeln!(out, "{told}")?;
        return Ok(());
    }
    for comparison in &comparisons {
        write_comparison(&mut out, comparison, digits(&case))?;
    }
    writeln!(
        out,
        "{} instead of the case's tariff: {}",
        name_of_other(&with_other),
        written(sum(|c| c.difference), digits(&case))
    )?;
    Ok(())
}

fn name_of_other(case: &Case) -> String {
    case.tariffs.first().map(|listed| listed.tariff.id.clone()).unwrap_or_default()
}

fn print_forecast(arguments: &CaseArguments, today: &str, wanted: Option<&str>) -> Result<(), Failure> {
    let mut case = read_case(&arguments.dir)?;
    let today = today.parse().map_err(|_| {
        Fault::new("the command line", "--today", format!("\"{today}\" is no date; write it as 2025-02-14"))
    })?;
    let running = |order: &billing::cycle::Order| match wanted {
        Some(id) => order.id == id,
        None => order.from < today && today < order.to,
    };
    let position = case.wanted.iter().position(|wanted| matches!(wanted, Wanted::Bill(order) if running(order)));
    let missing = || {
        Fault::new(
            "case.json",
            "bills",
            format!("no bill runs on {today}; order one that begins before and ends after"),
        )
    };
    let position = position.ok_or_else(missing)?;
    let rest = case.wanted.split_off(position);
    let Some(Wanted::Bill(order)) = rest.into_iter().next() else { return Err(missing().into()) };
    let bills = case.bills()?;
    let account = bills.last().map_or_else(|| case.opening.clone(), |(_, bill)| bill.carry.clone());
    let forecast = forecast::running_bill(&case.supply(), &order, &account, today)?;
    let kwh = forecast.kwh.each_ref().map(|kwh| kwh.to_decimal(3));
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let told = json!({
            "bill": order.id, "from": order.from.to_string(), "to": order.to.to_string(), "known_days": forecast.known_days,
            "days_ahead": forecast.days_ahead, "known_kwh": forecast.known_kwh.to_decimal(3), "so_far": forecast.so_far,
            "kwh": { "low": kwh[0], "expected": kwh[1], "high": kwh[2] },
            "total": { "low": forecast.total[0], "expected": forecast.total[1], "high": forecast.total[2] },
            "chance": "0.8", "read_daily": forecast.read_daily, "minor_digits": digits(&case),
        });
        writeln!(out, "{told}")?;
        return Ok(());
    }
    let money = |amount: i64| written(amount, digits(&case));
    let [low, expected, high] = forecast.total.map(money);
    writeln!(out, "{}: {expected} expected, between {low} and {high}", order.id)?;
    writeln!(
        out,
        "{} of {} days known; {} kWh so far, {} to {} kWh in all",
        forecast.known_days,
        forecast.known_days + forecast.days_ahead,
        forecast.known_kwh,
        kwh[0],
        kwh[2]
    )?;
    if !forecast.read_daily {
        writeln!(out, "there is no reading of every day: the range is a quarter of the rest either way")?;
    }
    Ok(())
}
