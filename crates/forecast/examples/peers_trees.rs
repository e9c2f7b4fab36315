//! Speed and loss of the quantile trees on 300,000 rows of 34 features, made from a seed: `peers_trees FILE [ROWS]` writes the table for
//! other programs (f32, row after row: features, then the target; the last tenth is for judging) and prints our figures as JSON.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::time::Instant;

use forecast::quantiles::LEVELS;
use forecast::trees::{Draws, QuantileTrees, Rows, Settings};

const WIDTH: usize = 34;
/// The levels judged: 0.05, 0.1, 0.2 … 0.9, 0.95 as positions in [`LEVELS`].
const JUDGED: [usize; 11] = [0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 18];

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    let path = words.get(1).ok_or("give a file for the table")?;
    let rows: usize = words.get(2).map_or(Ok(300_000), |w| w.parse())?;
    let (table, targets) = table(rows + rows / 10);
    let mut bytes = Vec::with_capacity(table.values.len() * 4 + targets.len() * 4);
    for (row, target) in targets.iter().enumerate() {
        bytes.extend(table.row(row).iter().chain([target]).flat_map(|v| v.to_le_bytes()));
    }
    std::fs::write(path, bytes)?;
    let train = Rows { values: table.values[..rows * WIDTH].to_vec(), width: WIDTH };
    let (start, worked) = (Instant::now(), processor_seconds()?);
    let model = QuantileTrees::fit(&train, &targets[..rows], &Settings::default(), 1);
    let (fit, cpu) = (start.elapsed().as_secs_f64(), processor_seconds()? - worked);
    let judged = Rows { values: table.values[rows * WIDTH..].to_vec(), width: WIDTH };
    let start = Instant::now();
    let bands = model.predict(&judged);
    let predict = start.elapsed().as_secs_f64();
    let mut loss = 0.0;
    for (band, y) in bands.iter().zip(&targets[rows..]) {
        for at in JUDGED {
            let (d, t) = (f64::from(y - band.0[at]), f64::from(LEVELS[at]));
            loss += (t * d).max((t - 1.0) * d);
        }
    }
    let loss = loss / (bands.len() * JUDGED.len()) as f64;
    println!(
        "{{\"fit_seconds\": {fit}, \"fit_cpu_seconds\": {cpu}, \"predict_per_second\": {}, \"pinball\": {loss}}}",
        bands.len() as f64 / predict
    );
    Ok(())
}

/// Processor time of this program so far, all threads: fields 14 and 15 of Linux's `stat`, in ticks of a hundredth of a second.
fn processor_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let behind = stat.rsplit(')').next().ok_or("no end of the name in /proc/self/stat")?;
    let ticks = behind.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}

/// Loads of homes: a level, a daily shape, lags that know them with noise, a skewed spread that depends on the hour.
fn table(count: usize) -> (Rows, Vec<f32>) {
    let mut draws = Draws::new(7);
    let mut rows = Rows { values: Vec::with_capacity(count * WIDTH), width: WIDTH };
    let mut targets = Vec::with_capacity(count);
    for _ in 0..count {
        let (slot, weekday, level) = ((draws.unit() * 48.0).floor(), (draws.unit() * 7.0).floor(), 0.3 + draws.unit());
        let shape = 0.6 + 0.5 * (slot * 0.26).sin() + if weekday > 4.0 { 0.2 * (slot * 0.13).cos() } else { 0.0 };
        let mut sample =
            || level * (shape + (0.3 + 0.4 * shape.max(0.0)) * -(1.0 - draws.unit()).max(1e-6).ln()).max(0.0);
        let target = sample();
        let lags: Vec<f32> = (0..24).map(|_| sample()).collect();
        let mean = |n: usize| lags[..n].iter().sum::<f32>() / n as f32;
        rows.values.extend([slot, weekday, level.ln(), mean(7), mean(14), mean(24)]);
        rows.values.extend(&lags);
        rows.values.extend((0..4).map(|_| draws.unit()));
        targets.push(target);
    }
    (rows, targets)
}
