//! Looks for solar in a CSV of site,end,kwh with a CSV of site,step_s: `find_solar NET SITES [import-only]`; prints CSV.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::collections::BTreeMap;
use std::error::Error;

use forecast::solar::{Register, find, likely_place};
use forecast::{Origin, Series};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    let [_, net, sites, rest @ ..] = &words[..] else { return Err("give NET and SITES".into()) };
    let (net, sites) = (std::fs::read_to_string(net)?, std::fs::read_to_string(sites)?);
    let mut rows: BTreeMap<&str, Vec<(i64, f32)>> = BTreeMap::new();
    for line in net.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        rows.entry(cells[0]).or_default().push((cells[1].parse()?, cells[2].parse()?));
    }
    let mut series = Vec::new();
    for line in sites.lines().skip(1) {
        let (site, step) = line.split_once(',').ok_or("site,step_s")?;
        series.push(Series::new(site, step.parse()?, rows.get(site).map_or(&[][..], |r| r))?);
    }
    let known: Vec<_> = series.iter().map(|s| s.known_at(Origin::at(i64::MAX / 4))).collect();
    let register = if rest.is_empty() { Register::Net } else { Register::ImportOnly };
    for step in [1_800, 3_600] {
        let group: Vec<_> = known.iter().copied().filter(|k| k.step_s() == step).collect();
        eprintln!("{step} s: {:?}", likely_place(&group));
    }
    println!("site,p,kwp,installed");
    for (site, f) in series.iter().zip(find(&known, register, None)) {
        let installed = f.installed.map(|t| t.to_string()).unwrap_or_default();
        println!("{},{},{},{installed}", site.id, f.probability, f.kwp.unwrap_or(0.0));
    }
    Ok(())
}
