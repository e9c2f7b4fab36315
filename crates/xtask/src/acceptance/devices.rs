//! Telegrams and files of real meters: every shared one as its expected readings say, damaged copies, conversations in both roles.

mod talk;

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;
use telegrams::{
    Decimal, Reading,
    bytes::from_hex,
    folder::{self, Entry},
    mbus::{Formats, header, quantity, telegram},
    models::Models,
    stream::{Context, Line, Stream},
};

use crate::run;

/// Damaged copies of each format in all.
const COPIES: u64 = 10_000;

/// Known differences: what the expectation holds is not in the bytes.
const NOT_IN_THE_BYTES: &[(&str, &str)] = &[(
    "dlms-talk/wrapper_lls.jsonl",
    "the recorded scaler is 0 where the expectation multiplies by ten; the meter number is not sent",
)];

/// All of it.
pub fn run(_arguments: &[&str]) -> Result<(), String> {
    let folder = run::shared_data().ok_or("no shared data beside the repository")?.join("devices");
    let decoded = run::output(
        &run::gridtally().display().to_string(),
        &["meters", "decode", &folder.display().to_string(), "--json"],
    )?;
    let decoded: BTreeMap<String, Value> = serde_json::from_str(&decoded).map_err(|why| why.to_string())?;
    let entries = index(&folder)?;
    let (mut equal, mut known, mut wrong) = (0, 0, Vec::new());
    for (entry, outcome) in &entries {
        let expected = read(&folder.join(format!("{}.expected.json", entry.file)))?;
        let expected: Vec<Value> = serde_json::from_str(&expected).map_err(|why| format!("{}: {why}", entry.file))?;
        let got = decoded.get(&entry.file).ok_or_else(|| format!("{} was not decoded", entry.file))?;
        match difference(outcome, &expected, got) {
            None => equal += 1,
            Some(why) => match NOT_IN_THE_BYTES.iter().find(|(file, _)| *file == entry.file) {
                Some((file, reason)) => {
                    known += 1;
                    println!("{file}: {why}; {reason}");
                }
                None => wrong.push(format!("{}: {why}", entry.file)),
            },
        }
    }
    println!("{equal} of {} files equal to their expectation, {known} differ for a stated reason", entries.len());
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    talk::replay(&folder, &entries)?;
    damage(&folder, &entries)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))
}

/// Entries with their outcome.
fn index(folder: &Path) -> Result<Vec<(Entry, String)>, String> {
    let text = read(&folder.join("index.json"))?;
    let rows: Vec<Value> = serde_json::from_str(&text).map_err(|why| why.to_string())?;
    let entry = |row: Value| {
        let outcome = row["outcome"].as_str().unwrap_or_default().to_owned();
        serde_json::from_value(row).map(|entry| (entry, outcome)).map_err(|why| why.to_string())
    };
    rows.into_iter().map(entry).collect()
}

type Row = (String, String, String, String);

/// A reading as text: decimals without trailing zeros, kilo taken out.
fn row(value: &Value) -> Option<Row> {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let unit = text("unit");
    let (exponent, base) = unit.strip_prefix('k').map_or((0, unit.as_str()), |base| (3, base));
    let value = Decimal::parse(&text("value"))?.scaled(exponent)?.reduced();
    Some((text("meter"), text("time"), text("quantity"), format!("{value} {}", base.to_lowercase())))
}

/// What differs; more readings than expected are no difference.
fn difference(outcome: &str, expected: &[Value], got: &Value) -> Option<String> {
    let readings = got.as_array();
    if outcome.starts_with("reject") {
        return readings.is_some_and(|readings| !readings.is_empty()).then(|| "accepted, not rejected".into());
    }
    let Some(readings) = readings else { return Some(format!("refused: {}", got["error"])) };
    let mut left: BTreeMap<Row, i64> = BTreeMap::new();
    readings.iter().filter_map(row).for_each(|row| *left.entry(row).or_default() += 1);
    let mut missing = expected.iter().filter_map(row).filter(|row| {
        let count = left.entry(row.clone()).or_default();
        *count -= 1;
        *count < 0
    });
    let first = missing.next()?;
    Some(format!("{} missing, such as {first:?}", 1 + missing.count()))
}

/// A generator of numbers from a seed (PCG of Knuth's constants).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }

    /// Bits flipped, a part cut out, or two halves joined.
    fn damaged(&mut self, good: &[u8]) -> Vec<u8> {
        let mut copy = good.to_vec();
        match self.below(3) {
            0 => {
                for _ in 0..=self.below(3) {
                    let at = self.below(copy.len());
                    copy[at] ^= 1 << self.below(8);
                }
            }
            1 => {
                let from = self.below(copy.len());
                let count = self.below((copy.len() - from).min(80));
                copy.drain(from..from + count);
            }
            _ => {
                let (cut, from) = (self.below(copy.len()), self.below(copy.len()));
                copy.truncate(cut);
                copy.extend_from_slice(&good[from..]);
            }
        }
        copy
    }
}

/// Formats with a checksum: no damaged copy may give a value that no good one gives.
fn damage(folder: &Path, entries: &[(Entry, String)]) -> Result<(), String> {
    let models = Models::builtin()?;
    let lines = [("p1", Line::P1), ("sml", Line::Sml), ("dlms-push", Line::PushHdlc)];
    for (kind, line) in lines {
        let files: Vec<(&Entry, Vec<u8>)> = entries
            .iter()
            .filter(|(entry, outcome)| {
                entry.kind() == kind && outcome == "accept" && entry.framing.as_deref().is_none_or(|f| f == "hdlc")
            })
            .filter_map(|(entry, _)| Some((entry, fs::read(folder.join(&entry.file)).ok()?)))
            // DSMR 2.2 and mode D have no checksum.
            .filter(|(_, bytes)| kind != "p1" || !bytes.windows(3).any(|three| three == b"!\r\n"))
            .collect();
        let mut random = Random(1);
        let (mut copies, mut wrong) = (0, 0);
        let each = COPIES / u64::try_from(files.len().max(1)).unwrap_or(1) + 1;
        for (entry, bytes) in &files {
            let context = Context {
                models: &models,
                zone: entry.zone().map_err(|why| why.to_string())?,
                keys: entry.keys().map_err(|why| why.to_string())?,
            };
            let good = readings(line, context, bytes);
            for _ in 0..each {
                copies += 1;
                let copy = random.damaged(bytes);
                wrong += usize::from(readings(line, context, &copy).iter().any(|reading| !good.contains(reading)));
            }
        }
        println!("{kind}: {copies} damaged copies of {} files, {wrong} with a wrong value", files.len());
        if wrong > 0 {
            return Err(format!("{kind}: a damaged copy gave a wrong value"));
        }
    }
    radio(folder, entries)?;
    any_bytes(folder, entries, &models)
}

/// Radio frames with their block checksums, as they go over the air: a damaged copy gives what the good one gives, or nothing.
fn radio(folder: &Path, entries: &[(Entry, String)]) -> Result<(), String> {
    let mut random = Random(3);
    let (mut copies, mut wrong) = (0, 0);
    let wireless = |entry: &Entry| {
        let text = read(&folder.join(&entry.file)).ok().filter(|_| entry.kind() == "wmbus")?;
        // Some of the folder are wired frames.
        from_hex(&text).filter(|frame| frame.first() != Some(&0x68))
    };
    let files: Vec<(&Entry, Vec<u8>)> =
        entries.iter().filter_map(|(entry, _)| Some((entry, wireless(entry)?))).collect();
    let each = COPIES / u64::try_from(files.len().max(1)).unwrap_or(1) + 1;
    for (entry, frame) in &files {
        let key = entry.keys().map_err(|why| why.to_string())?.map(|keys| keys.encryption);
        let read = |frame: &[u8]| {
            let telegram = telegram::wireless(frame, key.as_ref(), &mut Formats::default())?;
            quantity::wireless(&telegram, |_| None)
        };
        let air = header::with_block_checksums(frame);
        let good = read(&air);
        for _ in 0..each {
            copies += 1;
            wrong += usize::from(read(&random.damaged(&air)).is_ok_and(|readings| Ok(&readings) != good.as_ref()));
        }
    }
    println!(
        "wmbus: {copies} damaged copies of {} frames with block checksums, {wrong} with a wrong value",
        files.len()
    );
    if wrong > 0 { Err("wmbus: a damaged copy gave a wrong value".into()) } else { Ok(()) }
}

fn readings(line: Line, context: Context<'_>, bytes: &[u8]) -> Vec<Reading> {
    let mut out = Vec::new();
    let mut stream = Stream::new(line, context);
    stream.push(bytes, &mut |outcome| out.extend(outcome.into_iter().flatten()));
    stream.end(&mut |outcome| out.extend(outcome.into_iter().flatten()));
    out
}

/// Every format: damaged copies end in readings or an error, never in a panic.
fn any_bytes(folder: &Path, entries: &[(Entry, String)], models: &Models) -> Result<(), String> {
    let mut random = Random(2);
    let mut kinds: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for (entry, _) in entries.iter().filter(|(_, outcome)| outcome == "accept") {
        kinds.entry(entry.kind()).or_default().push(entry);
    }
    for (kind, files) in kinds {
        let each = COPIES / u64::try_from(files.len()).unwrap_or(1) + 1;
        let (mut copies, mut answered) = (0_u64, 0_u64);
        for entry in &files {
            let bytes = fs::read(folder.join(&entry.file)).map_err(|why| why.to_string())?;
            for _ in 0..each {
                copies += 1;
                let copy = random.damaged(&bytes);
                // Readings or an error: both are answers, a panic would end this process. No file has more readings than bytes.
                let readings = folder::decode(entry, &copy, &|_| None, models).unwrap_or_default();
                if readings.len() > copy.len() {
                    return Err(format!("{}: {} readings of {} bytes", entry.file, readings.len(), copy.len()));
                }
                answered += u64::from(!readings.is_empty());
            }
        }
        println!(
            "{kind}: {copies} damaged copies of {} files, {answered} with readings, none stopped the reader",
            files.len()
        );
    }
    Ok(())
}
