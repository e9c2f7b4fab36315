//! `gridtally privacy bytes`: what a sum over shares costs in bytes, beside an all-to-all scheme.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use privacy::{
    draws::Draws,
    ramp::{Ramp, Share, accumulate, bytes_all_to_all},
};
use serde_json::json;

use super::{
    super::CommandError,
    plot::{Line, draw},
};

#[derive(Debug, Args)]
pub struct BytesArguments {
    /// Servers that hold shares
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..))]
    servers: u8,
    /// Numbers packed into one sharing
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    packed: u8,
    /// Servers that together learn nothing
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    private: u8,
    /// Write the plot to this SVG file
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Bytes of the shares that so many clients really send for one number each, and whether the sum came out.
fn measured(ramp: &Ramp, arguments: &BytesArguments, clients: u64) -> Result<(u64, bool), CommandError> {
    let mut draws = Draws::new(&[9; 32]);
    let packed = u64::from(arguments.packed);
    let mut sums: Vec<Share> = (1..=arguments.servers).map(|party| Share { party, value: 0 }).collect();
    let (mut bytes, mut truth) = (0, vec![0_u64; usize::from(arguments.packed)]);
    // one sharing holds `packed` readings of a client
    for _ in 0..clients {
        let readings: Vec<u64> = (0..packed).map(|_| u64::try_from(draws.below(4_000)).unwrap_or(0)).collect();
        for (sum, share) in sums.iter_mut().zip(ramp.share(&readings, &mut draws)?) {
            bytes += share.value.to_le_bytes().len() as u64;
            accumulate(sum, 1, share);
        }
        truth.iter_mut().zip(&readings).for_each(|(sum, x)| *sum += x);
    }
    Ok((bytes / packed, ramp.join(&sums)?.secrets == truth))
}

pub(super) fn run(arguments: &BytesArguments) -> Result<ExitCode, CommandError> {
    let ramp =
        Ramp::new(usize::from(arguments.packed), usize::from(arguments.private), usize::from(arguments.servers))?;
    let mut rows = Vec::new();
    for clients in [10, 30, 100, 300, 1_000, 3_000, 10_000] {
        let (bytes, is_exact) = measured(&ramp, arguments, clients)?;
        if !is_exact {
            return Err(format!("the sum over {clients} clients is wrong").into());
        }
        rows.push((clients, bytes, bytes_all_to_all(clients)));
    }
    if let Some(path) = &arguments.svg {
        let line = |name: &str, pick: fn(&(u64, u64, u64)) -> u64| Line {
            name: name.to_owned(),
            points: rows.iter().map(|row| (row.0 as f64, pick(row) as f64)).collect(),
        };
        let ours = format!("ramp sharing, {} servers, {} packed", arguments.servers, arguments.packed);
        let lines = [line(&ours, |r| r.1), line("all to all", |r| r.2)];
        std::fs::write(path, draw("Bytes of one sum", "clients", "bytes", &lines))?;
    }
    if arguments.json {
        let rows: Vec<_> = rows.iter().map(|r| json!({"clients": r.0, "ramp": r.1, "all_to_all": r.2})).collect();
        println!(
            "{}",
            json!({"servers": arguments.servers, "packed": arguments.packed, "private": arguments.private, "bytes": rows})
        );
    } else {
        println!("{:>8} {:>14} {:>16}", "clients", "ramp, bytes", "all to all");
        rows.iter().for_each(|r| println!("{:>8} {:>14} {:>16}", r.0, r.1, r.2));
    }
    Ok(ExitCode::SUCCESS)
}
