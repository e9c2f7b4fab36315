//! Forecasts the last days of a history and scores them beside the mean of four weeks: `evaluate FOLDER DAYS [weather] [households N]`
//! `[skip=DAYS] [baselines]`. `skip` leaves the last days out; `baselines` chooses a demand-response baseline for each kind on the first two thirds
//! of the days and judges all of them on the last third (working days, 16 to 20 o'clock).
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use forecast::calendar::{DAY_S, DayType, Holidays};
use forecast::engine::{Engine, Forecast, Member, Plan, World, likely_clock};
use forecast::quantiles::{Band, LEVELS, pinball};
use forecast::response::{Baseline, Day, back_test_from, choose_for_group, median_quality};
use forecast::weather::{Weather, WeatherRow};
use forecast::{ForecastError, Origin, Series};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    let folder = Path::new(words.get(1).ok_or("give a folder")?);
    let days: i64 = words.get(2).ok_or("give the number of days")?.parse()?;
    let most: usize = words
        .iter()
        .position(|w| w == "households")
        .and_then(|i| words.get(i + 1))
        .map_or(Ok(10_000), |w| w.parse())?;
    let (members, last) = read(folder, most)?;
    let skip = words.iter().find_map(|w| w.strip_prefix("skip=")).map_or(Ok(0i64), str::parse)?;
    let last = last - skip * DAY_S;
    let first = last - days * DAY_S;
    let european = words.iter().any(|w| w == "europe");
    let clock =
        if european { forecast::calendar::Clock::European(0) } else { likely_clock(&members, Origin::at(first)) };
    let weather = words.iter().any(|w| w == "weather").then(|| read_weather(folder)).transpose()?;
    let world = World { clock, holidays: Holidays::default(), weather: weather.map(|rows| Weather::new(rows, clock)) };
    println!("{} series, clock {clock:?}", members.len());
    let mut plan = Plan::default();
    for word in &words {
        if let Some((key, value)) = word.split_once('=').filter(|(key, _)| *key != "skip") {
            set(&mut plan, key, value)?;
        }
    }
    let start = Instant::now();
    let mut engine = Engine::new(&members, world.around(), plan)?;
    let mut scores: BTreeMap<String, Vec<Score>> = BTreeMap::new();
    let mut by_member: Vec<Score> = vec![Score::default(); members.len()];
    let mut days_of: Vec<Vec<Day>> = vec![Vec::new(); members.len()];
    engine.run::<ForecastError>(Origin::at(first), Origin::at(last), 48, &mut |forecasts| {
        for f in &forecasts {
            let known = members[f.member].series.known_at(Origin::at(last));
            if Holidays::default().day_type(f.origin.unix_s().div_euclid(DAY_S)) == DayType::Working {
                let actual = f.ends.iter().map(|end| known.value(*end)).collect();
                days_of[f.member].push(Day { actual, expected: f.means.clone() });
            }
        }
        for f in &forecasts {
            by_member[f.member].add(&members[f.member], f, Origin::at(last));
        }
        Ok(())
    })?;
    for (member, score) in members.iter().zip(by_member) {
        scores.entry(member.kind.clone()).or_default().push(score);
    }
    println!("{:.0} s", start.elapsed().as_secs_f64());
    for (kind, scores) in scores {
        report(&kind, &scores);
    }
    if words.iter().any(|w| w == "baselines") {
        baselines(&members, &days_of);
    }
    Ok(())
}

/// Baselines by kind: chosen on the first two thirds of the days, judged on the last third.
fn baselines(members: &[Member], days: &[Vec<Day>]) {
    let window = 32..40;
    let mut kinds: Vec<&str> = members.iter().map(|m| m.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let own: Vec<&[Day]> =
            members.iter().zip(days).filter(|(m, d)| m.kind == kind && d.len() >= 30).map(|(_, d)| &d[..]).collect();
        let past: Vec<&[Day]> = own.iter().map(|d| &d[..d.len() * 2 / 3]).collect();
        let Some((chosen, _)) = choose_for_group(&past, window.clone()) else { continue };
        for baseline in Baseline::ALL {
            let judged = |d: &&[Day]| back_test_from(baseline, d, d.len() * 2 / 3, window.clone());
            let Some(q) = median_quality(&own.iter().filter_map(judged).collect::<Vec<_>>()) else { continue };
            println!(
                "{kind:16} {:56} CVRMSE {:.3}  bias {:+.3}  energy {:.3}  {} days{}",
                baseline.name(),
                q.cvrmse,
                q.bias,
                q.energy_error,
                q.days,
                if baseline == chosen { "  chosen" } else { "" }
            );
        }
    }
}

fn set(plan: &mut Plan, key: &str, value: &str) -> Result<(), Box<dyn Error>> {
    match key {
        "rows" => plan.rows_max = value.parse()?,
        "rounds" => {
            plan.customer_trees.rounds = value.parse()?;
            plan.sum_trees.rounds = value.parse()?;
        }
        "rate" => {
            plan.customer_trees.rate = value.parse()?;
            plan.sum_trees.rate = value.parse()?;
        }
        "leaves" => {
            plan.customer_trees.leaves = value.parse()?;
            plan.sum_trees.leaves = value.parse()?;
        }
        "leafrows" => {
            plan.customer_trees.leaf_rows = value.parse()?;
            plan.sum_trees.leaf_rows = value.parse()?;
        }
        "bags" => {
            plan.customer_trees.bags = value.parse()?;
            plan.sum_trees.bags = value.parse()?;
        }
        "rowshare" => {
            plan.customer_trees.rows = value.parse()?;
            plan.sum_trees.rows = value.parse()?;
        }
        "columns" => {
            plan.customer_trees.columns = value.parse()?;
            plan.sum_trees.columns = value.parse()?;
        }
        "refit" => plan.refit_days = value.parse()?,
        _ => return Err(format!("unknown setting {key}").into()),
    }
    Ok(())
}

#[derive(Debug, Clone, Default)]
struct Score {
    n: f64,
    pinball: f64,
    reference: f64,
    size: f64,
    inside: [f64; 2],
}

impl Score {
    fn add(&mut self, member: &Member, f: &Forecast, last: Origin) {
        let known = member.series.known_at(last);
        for (end, band) in f.ends.iter().zip(&f.bands) {
            let y = known.value(*end);
            if y.is_nan() {
                continue;
            }
            self.n += 1.0;
            self.pinball += pinball(band, y);
            self.size += f64::from(y.abs());
            self.inside[0] += f64::from(u8::from(band.0[4] <= y && y <= band.0[14]));
            self.inside[1] += f64::from(u8::from(band.0[0] <= y && y <= band.0[18]));
            let past = member.series.known_at(f.origin);
            self.reference += pinball(&mean4week(&past, *end), y);
        }
    }
}

/// Mean of the last four same weekdays, with the empirical quantiles of its residuals over eight weeks.
fn mean4week(known: &forecast::Known<'_>, end: i64) -> Band {
    let mean = |at: i64| {
        let v: Vec<f32> = (1..=4).map(|w| known.value(at - w * 7 * DAY_S)).filter(|v| v.is_finite()).collect();
        if v.is_empty() { f32::NAN } else { v.iter().sum::<f32>() / v.len() as f32 }
    };
    let mut residuals: Vec<f32> =
        (1..=28).map(|d| end - d * DAY_S).map(|at| known.value(at) - mean(at)).filter(|v| v.is_finite()).collect();
    residuals.sort_unstable_by(f32::total_cmp);
    let centre = mean(end);
    let centre = if centre.is_finite() { centre } else { 0.0 };
    Band(LEVELS.map(|t| {
        let place = t * (residuals.len() as f32 - 1.0);
        let low = place.max(0.0) as usize;
        let get = |i: usize| residuals.get(i.min(residuals.len().saturating_sub(1))).copied().unwrap_or(0.0);
        centre + get(low) + (place - low as f32) * (get(low + 1) - get(low))
    }))
}

fn report(kind: &str, scores: &[Score]) {
    let sum = |f: &dyn Fn(&Score) -> f64| scores.iter().map(f).sum::<f64>();
    let (n, size) = (sum(&|s| s.n), sum(&|s| s.size / s.n));
    let ours = 2.0 * sum(&|s| s.pinball / s.n) / size;
    let theirs = 2.0 * sum(&|s| s.reference / s.n) / size;
    let rel = (scores.iter().map(|s| (s.pinball / s.reference).ln()).sum::<f64>() / scores.len() as f64).exp();
    println!(
        "{kind:16} nCRPS {ours:.4} (mean of 4 weeks {theirs:.4})  rel {rel:.4}  50 % {:.3}  90 % {:.3}",
        sum(&|s| s.inside[0]) / n,
        sum(&|s| s.inside[1]) / n
    );
}

/// Rows of a CSV file as columns asked for by name; an absent column is empty text.
fn columns(path: &Path, wanted: &[&str]) -> Result<Vec<Vec<String>>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut lines = text.lines();
    let clean = |word: &str| word.trim_matches('"').to_owned();
    let heads: Vec<String> = lines.next().unwrap_or_default().split(',').map(clean).collect();
    let at: Vec<Option<usize>> = wanted.iter().map(|w| heads.iter().position(|h| h == w)).collect();
    let cells = |line: &str| {
        let words: Vec<String> = line.split(',').map(clean).collect();
        at.iter().map(|a| a.and_then(|a| words.get(a).cloned()).unwrap_or_default()).collect()
    };
    Ok(lines.map(cells).collect())
}

fn read(folder: &Path, most: usize) -> Result<(Vec<Member>, i64), Box<dyn Error>> {
    let list = columns(&folder.join("series.csv"), &["series_id", "kind", "parent"])?;
    let mut rows: BTreeMap<String, Vec<(i64, f32)>> = BTreeMap::new();
    let mut last = 0;
    for row in columns(&folder.join("train.csv"), &["series_id", "end", "kwh"])? {
        let end: i64 = row[1].parse()?;
        last = last.max(end);
        rows.entry(row[0].clone()).or_default().push((end, row[2].parse()?));
    }
    let keep: Vec<&Vec<String>> =
        list.iter().enumerate().filter(|(i, r)| r[1] != "household" || *i < most).map(|(_, r)| r).collect();
    let at = |id: &str| keep.iter().position(|r| r[0] == id);
    let members = keep.iter().map(|r| {
        let series = Series::new(&r[0], 1_800, rows.get(&r[0]).map_or(&[][..], |r| r))?;
        let parent = if most < list.len() { None } else { at(&r[2]) };
        Ok(Member { series, kind: r[1].clone(), parent })
    });
    Ok((members.collect::<Result<_, ForecastError>>()?, last / DAY_S * DAY_S))
}

fn read_weather(folder: &Path) -> Result<Vec<WeatherRow>, Box<dyn Error>> {
    let wanted = ["time", "temperature_c", "humidity", "wind_ms", "cloud"];
    let number = |word: &String| word.parse().unwrap_or(f32::NAN);
    columns(&folder.join("weather.csv"), &wanted)?
        .iter()
        .map(|r| {
            let [temperature_c, humidity, wind_ms, cloud] = [1, 2, 3, 4].map(|i| number(&r[i]));
            Ok(WeatherRow { time: r[0].parse()?, temperature_c, humidity, wind_ms, cloud })
        })
        .collect()
}
