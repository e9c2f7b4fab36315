//! Price series and lists of times: step functions from files beside the tariff.

use crate::{calendar::parse_instant, error::Fault, exact::Exact, tariff::SeriesRule};

/// Most rows of one series.
const ROWS_MAX: usize = 1_100_000;

/// A step function: a value holds from its instant to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    steps: Vec<(i64, Exact)>,
}

impl Series {
    /// Parses the column of a file, scaled.
    pub fn read(rule: &SeriesRule, bytes: &[u8]) -> Result<Series, Fault> {
        let mut steps: Vec<(i64, Exact)> = Vec::new();
        rows(&rule.file, bytes, Some(&rule.column), |at_s, text| {
            let value = Exact::decimal(text).map_err(|why| format!("\"{text}\" {why}"))?;
            if steps.last().is_some_and(|(before, _)| *before >= at_s) {
                return Err("lies not after the row before it; sort the rows by time, each time once".into());
            }
            steps.push((at_s, &value * &rule.scale));
            Ok(())
        })?;
        Ok(Series { steps })
    }

    /// The value at an instant and the instant at which it ends (`i64::MAX` for the last); `None` before the first.
    pub fn at(&self, at_s: i64) -> Option<(&Exact, i64)> {
        let index = self.steps.partition_point(|(start, _)| *start <= at_s);
        let value = &self.steps.get(index.checked_sub(1)?)?.1;
        Some((value, self.steps.get(index).map_or(i64::MAX, |(start, _)| *start)))
    }

    /// Whether one value holds throughout [from, to).
    pub fn is_constant(&self, from_s: i64, to_s: i64) -> bool {
        let first = self.steps.partition_point(|(start, _)| *start <= from_s).saturating_sub(1);
        let last = self.steps.partition_point(|(start, _)| *start < to_s);
        self.steps.get(first..last.max(first)).is_some_and(|steps| steps.windows(2).all(|pair| pair[0].1 == pair[1].1))
    }
}

/// Parses a list of times.
pub fn read_times(file: &str, bytes: &[u8]) -> Result<Vec<i64>, Fault> {
    let mut times = Vec::new();
    rows(file, bytes, None, |at_s, _| {
        times.push(at_s);
        Ok(())
    })?;
    times.sort_unstable();
    Ok(times)
}

fn rows(
    file: &str,
    bytes: &[u8],
    column: Option<&str>,
    mut take: impl FnMut(i64, &str) -> Result<(), String>,
) -> Result<(), Fault> {
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let broken = |why: csv::Error| {
        let row = why.position().map_or(1, csv::Position::line);
        Fault::new(file, format!("row {row}"), format!("cannot be read as comma-separated values: {why}"))
    };
    let header = reader.headers().map_err(broken)?.clone();
    let position = |name: &str| {
        let missing = || Fault::new(file, "row 1", format!("there is no column `{name}`; add it to the header"));
        header.iter().position(|column| column == name).ok_or_else(missing)
    };
    let time = position("time")?;
    let value = column.map(position).transpose()?;
    let mut record = csv::StringRecord::new();
    let mut count = 0usize;
    while reader.read_record(&mut record).map_err(broken)? {
        count += 1;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |message: String| Fault::new(file, format!("row {line}"), message);
        if count > ROWS_MAX {
            return Err(wrong(format!("more than {ROWS_MAX} rows; divide the file by time")));
        }
        let text = record.get(time).unwrap_or_default();
        let at_s = parse_instant(text);
        let at_s = at_s.ok_or_else(|| wrong(format!("\"{text}\" is no instant; write it as 2024-01-31T18:30Z")))?;
        take(at_s, value.and_then(|value| record.get(value)).unwrap_or_default()).map_err(wrong)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> SeriesRule {
        SeriesRule { name: "spot".into(), file: "p.csv".into(), column: "p".into(), scale: Exact::ONE }
    }

    #[test]
    fn a_row_holds_until_the_next() {
        let text = "time,p\n2025-01-01T00:00Z,1\n2025-01-01T01:00Z,-2.5\n2025-01-01T02:00Z,-2.5\n";
        let series = Series::read(&rule(), text.as_bytes()).unwrap();
        let at = |text: &str| series.at(parse_instant(text).unwrap()).map(|(value, _)| value.to_decimal(3));
        assert_eq!(at("2024-12-31T23:59Z"), None);
        assert_eq!(at("2025-01-01T00:59Z").as_deref(), Some("1"));
        assert_eq!(at("2030-01-01T00:00Z").as_deref(), Some("-2.5"));
        let constant = |from, to| series.is_constant(parse_instant(from).unwrap(), parse_instant(to).unwrap());
        assert!(
            constant("2025-01-01T01:00Z", "2025-01-01T03:00Z") && constant("2025-01-01T00:00Z", "2025-01-01T01:00Z")
        );
        assert!(!constant("2025-01-01T00:30Z", "2025-01-01T01:30Z"));
    }

    #[test]
    fn times_must_rise() {
        let text = "time,p\n2025-01-01T00:00Z,1\n2025-01-01T00:00Z,2\n";
        let fault = Series::read(&rule(), text.as_bytes()).unwrap_err();
        assert_eq!((fault.file.as_str(), fault.place.as_str()), ("p.csv", "row 3"));
    }
}
