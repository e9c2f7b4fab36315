//! Bills computed in a second: `speed TARIFF [CUSTOMERS]`, a month of quarter-hours each, in memory, on one thread and on all.

#![allow(clippy::print_stdout, reason = "an example talks to the person who started it")]

use std::{num::NonZero, time::Instant};

use billing::{bulk::Batch, case::read_tariff, customer::Customer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let path = std::path::PathBuf::from(words.next().ok_or("name a tariff file")?);
    let count: usize = words.next().map_or(Ok(20_000), |word| word.parse())?;
    let folder = path.parent().ok_or("no folder")?.to_owned();
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    let files = |name: &str| std::fs::read(folder.join(name)).map_err(|why| why.to_string());
    let listed = read_tariff(&files, "the command line", "TARIFF", name)?;
    let from = listed.tariff.valid_from.unwrap_or(jiff::civil::date(2025, 7, 1));
    let batch = Batch::new(&listed, from, from.checked_add(jiff::Span::new().days(31))?, 900)?;
    let months: Vec<Vec<u32>> = (0..64u32)
        .map(|shape| (0..batch.steps()).map(|n| u32::try_from(n * 7919 % 613).unwrap_or(0) + shape).collect())
        .collect();
    let nobody = Customer::default();
    let customers: Vec<(&[u32], &Customer)> = (0..count).map(|n| (months[n % 64].as_slice(), &nobody)).collect();
    let all = std::thread::available_parallelism()?;
    for threads in [NonZero::<usize>::MIN, all] {
        let start = Instant::now();
        let bills = batch.bills(&customers, threads);
        let elapsed = start.elapsed();
        let failed = bills.iter().filter(|bill| bill.is_err()).count();
        let nanos = elapsed.as_nanos() / u128::try_from(count * batch.steps())?.max(1);
        let rate = u128::try_from(count)? * 1_000_000_000 / elapsed.as_nanos().max(1);
        println!("{threads} threads: {count} bills, {failed} failed, {rate} bills/s, {nanos} ns an interval");
    }
    Ok(())
}
