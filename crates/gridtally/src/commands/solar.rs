//! `gridtally solar`: which sites have solar behind the meter, how much, since when.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use forecast::solar::{Finding, Register, find};
use forecast::sun::Place;
use forecast::{Origin, Series};
use losses::tables::Table;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::forecast::{properties, read_readings};

/// Arguments of `solar`.
#[derive(Debug, clap::Args)]
pub struct SolarArguments {
    /// Readings: Parquet with site, end (unix seconds, end of the interval) and kwh (import minus export).
    #[arg(long, required = true)]
    history: Vec<PathBuf>,
    /// The sites: Parquet with site and step_s (length of an interval, seconds).
    #[arg(long)]
    sites: PathBuf,
    /// Weather; accepted for the protocol's sake and checked, the method needs none.
    #[arg(long)]
    weather: Option<PathBuf>,
    /// The meters have no export register: values under zero are taken as zero.
    #[arg(long)]
    import_only: bool,
    /// Latitude, degrees north; found from the sites when not given.
    #[arg(long, requires = "longitude", allow_hyphen_values = true)]
    latitude: Option<f64>,
    /// Longitude, degrees east; found from the sites when not given.
    #[arg(long, requires = "latitude", allow_hyphen_values = true)]
    longitude: Option<f64>,
    /// Where to write: Parquet with site, p, kwp, installed (unix seconds), evidence.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &SolarArguments) -> Result<(), Box<dyn Error>> {
    let list = Table::read(&arguments.sites)?;
    let (ids, steps) = (list.texts("site")?, list.integers("step_s")?);
    let position: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    if position.len() != ids.len() {
        return Err(list.content_error("a site occurs twice").into());
    }
    if let Some(path) = &arguments.weather {
        super::forecast::read_weather(path, forecast::calendar::Clock::Fixed(0))?;
    }
    let rows = read_readings(&arguments.history, "site", &position)?;
    let mut sites = Vec::with_capacity(ids.len());
    for ((id, step), rows) in ids.iter().zip(steps).zip(&rows) {
        let step = step.ok_or_else(|| list.content_error("a step_s is missing"))?;
        sites.push(Series::new(id, step, rows)?);
    }
    let known: Vec<_> = sites.iter().map(|s| s.known_at(Origin::at(i64::MAX / 4))).collect();
    let register = if arguments.import_only { Register::ImportOnly } else { Register::Net };
    let place = match (arguments.latitude, arguments.longitude) {
        (Some(latitude), Some(longitude)) => Some(Place { latitude, longitude }),
        _ => None,
    };
    write(&arguments.out, &ids, &find(&known, register, place))
}

fn write(path: &std::path::Path, ids: &[String], findings: &[Finding]) -> Result<(), Box<dyn Error>> {
    let schema = "message solar { required binary site (STRING); required double p; required double kwp; \
        optional int64 installed; required binary evidence (STRING); }";
    let file = File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    let mut writer = SerializedFileWriter::new(file, Arc::new(parse_message_type(schema)?), properties())?;
    let mut group = writer.next_row_group()?;
    let texts = |of: &dyn Fn(usize) -> String| -> Vec<ByteArray> {
        (0..ids.len()).map(|at| ByteArray::from(of(at).as_str())).collect()
    };
    let mut number = 0;
    while let Some(mut column) = group.next_column()? {
        match number {
            0 => column.typed::<ByteArrayType>().write_batch(&texts(&|at| ids[at].clone()), None, None)?,
            1 | 2 => {
                let value = |f: &Finding| if number == 1 { f.probability } else { f.kwp.unwrap_or(0.0) };
                let values: Vec<f64> = findings.iter().map(value).collect();
                column.typed::<DoubleType>().write_batch(&values, None, None)?
            }
            3 => {
                let values: Vec<i64> = findings.iter().filter_map(|f| f.installed).collect();
                let levels: Vec<i16> = findings.iter().map(|f| i16::from(f.installed.is_some())).collect();
                column.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?
            }
            _ => column.typed::<ByteArrayType>().write_batch(&texts(&|at| findings[at].words()), None, None)?,
        };
        column.close()?;
        number += 1;
    }
    group.close()?;
    writer.close()?;
    Ok(())
}
