//! `gridtally forecast`: day-ahead forecasts with their doubt, for the series of a Parquet file, into a Parquet file.
//!
//! Everything that ends after an origin stays out of that origin's forecast, also when the history holds it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forecast::calendar::{Clock, Holidays, day_of};
use forecast::engine::{Engine, Forecast, Member, Plan, World, likely_clock};
use forecast::quantiles::LEVELS;
use forecast::weather::{Weather, WeatherRow};
use forecast::{Origin, Series};
use losses::tables::Table;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Arguments of `forecast`.
#[derive(Debug, clap::Args)]
pub struct ForecastArguments {
    /// Readings: Parquet with series_id, end (unix seconds, end of the interval) and kwh; may be given several times.
    #[arg(long, required = true)]
    history: Vec<PathBuf>,
    /// What the series are: Parquet with series_id, kind (household, transformer, feeder …) and perhaps parent.
    #[arg(long)]
    series: PathBuf,
    /// Weather, measured and forecast: Parquet with time (unix seconds), temperature_c and perhaps humidity, wind_ms, cloud (0 to 1).
    #[arg(long)]
    weather: Option<PathBuf>,
    /// First origin: RFC 3339 (Z) or unix seconds.
    #[arg(long, value_parser = read_time)]
    from: i64,
    /// The day after the last origin: RFC 3339 (Z) or unix seconds.
    #[arg(long, value_parser = read_time)]
    until: i64,
    /// Intervals forecast from each origin, at most a day of them.
    #[arg(long, default_value_t = 48)]
    horizon: usize,
    /// How often to forecast.
    #[arg(long, value_enum, default_value_t = Origins::Daily)]
    origins: Origins,
    /// Clock of the people: auto (from the readings), utc, or europe (European summer time on top of the readings' time).
    #[arg(long, value_enum, default_value_t = ClockChoice::Auto)]
    clock: ClockChoice,
    /// Public holidays beside New Year, Easter and Christmas: YYYY-MM-DD, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = read_day)]
    holidays: Vec<i64>,
    /// Seed of everything random; the same seed and data give the same numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write: Parquet with series_id, origin, end, q05 … q95, mean (kWh of the interval).
    #[arg(long)]
    out: PathBuf,
}

/// How often a forecast is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Origins {
    /// Every 24 hours from the first.
    Daily,
}

/// The local clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ClockChoice {
    Auto,
    Utc,
    Europe,
}

/// Unix seconds from digits or `YYYY-MM-DDTHH:MM:SSZ`.
pub(crate) fn read_time(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds);
    }
    let at = text.parse::<metering::time::Timestamp>();
    at.map(|t| t.0).map_err(|_| format!("\"{text}\" is neither unix seconds nor a time such as 2026-11-06T00:00:00Z"))
}

/// Day since 1970-01-01 from `YYYY-MM-DD`.
fn read_day(text: &str) -> Result<i64, String> {
    let bad = || format!("\"{text}\" is not a date such as 2026-12-25");
    let parts: Vec<i64> = text.split('-').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?;
    let [year, month, day] = parts[..] else { return Err(bad()) };
    let number = day_of(year, month, day);
    if forecast::calendar::date(number) == (year, month, day) { Ok(number) } else { Err(bad()) }
}

/// Runs the command.
pub fn run(arguments: &ForecastArguments) -> Result<(), Box<dyn Error>> {
    let Origins::Daily = arguments.origins;
    if arguments.until <= arguments.from {
        return Err("there is no origin: --until must be later than --from".into());
    }
    let members = read_members(&arguments.history, &arguments.series)?;
    for member in &members {
        let (id, step) = (&member.series.id, member.series.step_s());
        if arguments.from.rem_euclid(step) != 0 {
            let why = format!("--from {} lies within an interval of {id}: give a multiple of {step} s", arguments.from);
            return Err(why.into());
        }
    }
    let first = Origin::at(arguments.from);
    let clock = match arguments.clock {
        ClockChoice::Auto => likely_clock(&members, first),
        ClockChoice::Utc => Clock::Fixed(0),
        ClockChoice::Europe => Clock::European(0),
    };
    let weather = arguments.weather.as_deref().map(|path| read_weather(path, clock)).transpose()?;
    let world = World { clock, holidays: Holidays::with(arguments.holidays.clone()), weather };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let plan = Plan { seed: arguments.seed, threads, ..Plan::default() };
    let mut engine = Engine::new(&members, world.around(), plan)?;
    // what lies at --out stays until the new table is whole
    let mut unfinished = arguments.out.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let mut table = ForecastTable::create(&unfinished)?;
    let ran = engine.run::<Box<dyn Error>>(first, Origin::at(arguments.until), arguments.horizon, &mut |forecasts| {
        table.write(&members, &forecasts)
    });
    let done = ran.and_then(|()| table.finish());
    let (from, to) = (unfinished.display(), arguments.out.display());
    match done {
        Ok(()) => std::fs::rename(&unfinished, &arguments.out)
            .map_err(|e| format!("cannot rename {from} to {to}: {e}").into()),
        Err(why) => {
            std::fs::remove_file(&unfinished).map_err(|e| format!("{why}; and cannot remove {from}: {e}"))?;
            Err(why)
        }
    }
}

/// Readings by series, and what the series are.
fn read_members(histories: &[PathBuf], series: &Path) -> Result<Vec<Member>, Box<dyn Error>> {
    let list = Table::read(series)?;
    let (ids, kinds) = (list.texts("series_id")?, list.texts("kind")?);
    let parents = if list.has("parent") { list.texts("parent")? } else { vec![String::new(); ids.len()] };
    let position: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    if position.len() != ids.len() {
        return Err(format!("{}: a series_id occurs twice", series.display()).into());
    }
    let rows = read_readings(histories, "series_id", &position)?;
    let mut members = Vec::with_capacity(ids.len());
    for ((id, kind), (parent, rows)) in ids.iter().zip(kinds).zip(parents.iter().zip(rows)) {
        let parent = match (parent.as_str(), position.get(parent.as_str())) {
            ("", _) => None,
            (_, Some(at)) => Some(*at),
            (name, None) => {
                return Err(format!("{id} names the parent {name}, which is not in {}", series.display()).into());
            }
        };
        members.push(Member { series: Series::new(id, step_of(&rows), &rows)?, kind, parent });
    }
    Ok(members)
}

/// The most frequent distance of two neighbouring ends, so that one that lies off is named and not taken for the step; half an hour
/// where there are not two.
pub(crate) fn step_of(rows: &[(i64, f32)]) -> i64 {
    let mut ends: Vec<i64> = rows.iter().map(|r| r.0).collect();
    ends.sort_unstable();
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for distance in ends.windows(2).map(|w| w[1] - w[0]).filter(|d| *d > 0) {
        *counts.entry(distance).or_default() += 1;
    }
    // of two that are equally frequent the shorter: the other is a gap
    counts
        .iter()
        .max_by_key(|(distance, n)| (**n, core::cmp::Reverse(**distance)))
        .map_or(1_800, |(distance, _)| *distance)
}

/// Rows of one series: end of the interval in seconds, energy in kWh.
type SeriesRows = Vec<(i64, f32)>;

/// Rows of each series wanted; those not asked for are left out. Null and NaN are no reading; an infinite one is refused.
pub(crate) fn read_readings(
    paths: &[PathBuf],
    key: &str,
    position: &BTreeMap<&str, usize>,
) -> Result<Vec<SeriesRows>, Box<dyn Error>> {
    let mut rows: Vec<SeriesRows> = vec![Vec::new(); position.len()];
    for path in paths {
        let table = Table::read(path)?;
        let (names, ends, kwh) = (table.texts(key)?, table.integers("end")?, table.reals("kwh")?);
        for ((name, end), kwh) in names.iter().zip(ends).zip(kwh) {
            let end = end.ok_or_else(|| table.content_error("an end is missing"))?;
            let Some(&at) = position.get(name.as_str()).filter(|_| !kwh.is_nan()) else { continue };
            if (kwh as f32).is_infinite() {
                let what = format!(
                    "{name}: the energy of the interval that ends at {end} is {kwh}; leave the row out or mend it"
                );
                return Err(table.content_error(what).into());
            }
            rows[at].push((end, kwh as f32));
        }
    }
    Ok(rows)
}

/// Weather of a file.
pub(crate) fn read_weather(path: &Path, clock: Clock) -> Result<Weather, Box<dyn Error>> {
    let table = Table::read(path)?;
    let column = |name: &str| {
        if table.has(name) { table.reals(name) } else { Ok(vec![f64::NAN; table.rows()]) }
    };
    let [temperature, humidity, wind, cloud] = ["temperature_c", "humidity", "wind_ms", "cloud"].map(column);
    let (temperature, humidity, wind, cloud) = (temperature?, humidity?, wind?, cloud?);
    let times = table.integers("time")?;
    let mut rows = Vec::with_capacity(table.rows());
    for (at, time) in times.iter().enumerate() {
        rows.push(WeatherRow {
            time: time.ok_or_else(|| table.content_error("a time is missing"))?,
            temperature_c: temperature[at] as f32,
            humidity: humidity[at] as f32,
            wind_ms: wind[at] as f32,
            cloud: cloud[at] as f32,
        });
    }
    Ok(Weather::new(rows, clock))
}

/// The table of forecasts, one row group an origin.
struct ForecastTable {
    writer: SerializedFileWriter<File>,
}

impl ForecastTable {
    fn create(path: &Path) -> Result<Self, Box<dyn Error>> {
        let levels: String = LEVELS.iter().map(|l| format!("required float q{:02.0}; ", l * 100.0)).collect();
        let schema = format!(
            "message forecast {{ required binary series_id (STRING); required int64 origin; required int64 end; {levels}required double mean; }}"
        );
        let file = File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(Self { writer: SerializedFileWriter::new(file, Arc::new(parse_message_type(&schema)?), properties())? })
    }

    fn write(&mut self, members: &[Member], forecasts: &[Forecast]) -> Result<(), Box<dyn Error>> {
        let rows = || forecasts.iter().flat_map(|f| f.ends.iter().enumerate().map(move |(k, end)| (f, k, *end)));
        let mut group = self.writer.next_row_group()?;
        let mut number = 0;
        while let Some(mut column) = group.next_column()? {
            match number {
                0 => {
                    let ids: Vec<ByteArray> =
                        rows().map(|(f, _, _)| ByteArray::from(members[f.member].series.id.as_str())).collect();
                    column.typed::<ByteArrayType>().write_batch(&ids, None, None)?;
                }
                1 => {
                    let origins: Vec<i64> = rows().map(|(f, _, _)| f.origin.unix_s()).collect();
                    column.typed::<Int64Type>().write_batch(&origins, None, None)?;
                }
                2 => {
                    let ends: Vec<i64> = rows().map(|(_, _, end)| end).collect();
                    column.typed::<Int64Type>().write_batch(&ends, None, None)?;
                }
                level if level < 3 + LEVELS.len() => {
                    let values: Vec<f32> = rows().map(|(f, k, _)| f.bands[k].0[level - 3]).collect();
                    column.typed::<FloatType>().write_batch(&values, None, None)?;
                }
                _ => {
                    let means: Vec<f64> = rows().map(|(f, k, _)| f64::from(f.means[k])).collect();
                    column.typed::<DoubleType>().write_batch(&means, None, None)?;
                }
            }
            column.close()?;
            number += 1;
        }
        group.close()?;
        Ok(())
    }

    fn finish(self) -> Result<(), Box<dyn Error>> {
        self.writer.close()?;
        Ok(())
    }
}

/// How tables are written.
pub(crate) fn properties() -> Arc<WriterProperties> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
    Arc::new(properties.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_the_usual_distance_and_not_a_stray_ones() {
        let rows = |ends: &[i64]| ends.iter().map(|e| (*e, 1.0)).collect::<Vec<_>>();
        assert_eq!(step_of(&rows(&[900, 1_800, 2_700, 3_607, 4_500, 9_000])), 900);
        assert_eq!(step_of(&rows(&[3_600, 7_200, 18_000])), 3_600, "a gap is no step");
        assert_eq!(step_of(&rows(&[5])), 1_800);
    }

    #[test]
    fn times_are_read_or_refused() {
        assert_eq!(read_time("1383696000"), Ok(1_383_696_000));
        assert_eq!(read_time("2013-11-06T00:00:00Z"), Ok(1_383_696_000));
        assert_eq!(read_time("2013-11-06"), Ok(1_383_696_000), "a date is its midnight");
        for bad in ["", "06.11.2013", "2013-02-30T00:00:00Z", "2013-11-06T25:00:00Z", "2013-11-06T00:00:00+01:00"] {
            assert!(read_time(bad).is_err(), "{bad}");
        }
    }
}
