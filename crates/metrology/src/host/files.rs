//! Test files told apart by their keys: `vectors` (waveforms) or `pinst_tests` / `pst_tests` (flicker).

use serde_json::{Map, Value, json};

use crate::host::check::{Item, judge};
use crate::host::flicker_tests::FlickerFile;
use crate::host::vectors::{VectorFile, measure};

/// A parsed test file.
#[derive(Clone, Debug)]
pub enum TestFile {
    /// Waveform vectors.
    Vectors(VectorFile),
    /// Flicker points.
    Flicker(FlickerFile),
}

/// Why a file cannot be used.
#[derive(Debug)]
pub enum FileError {
    /// Not JSON, or not of the described shape.
    Parse(serde_json::Error),
    /// Neither kind of file.
    Unknown,
    /// A vector cannot be run.
    Vector(crate::host::vectors::VectorError),
}

impl core::fmt::Display for FileError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Parse(error) => write!(f, "not a metrology test file: {error}"),
            Self::Unknown => f.write_str(
                "neither a vector file (key \"vectors\") nor a flicker file (\"pinst_tests\" or \"pst_tests\")",
            ),
            Self::Vector(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {}

impl TestFile {
    /// Parses a file's text.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let value: Value = serde_json::from_str(text).map_err(FileError::Parse)?;
        if value.get("vectors").is_some() {
            serde_json::from_value(value).map(Self::Vectors).map_err(FileError::Parse)
        } else if value.get("pinst_tests").is_some() || value.get("pst_tests").is_some() {
            serde_json::from_value(value).map(Self::Flicker).map_err(FileError::Parse)
        } else {
            Err(FileError::Unknown)
        }
    }

    /// Measures everything and judges it against the file's expectations.
    pub fn check(&self) -> Result<Vec<Item>, FileError> {
        match self {
            Self::Flicker(file) => Ok(file.check()),
            Self::Vectors(file) => {
                let mut items = Vec::new();
                for vector in &file.vectors {
                    let measured = measure(vector, file.udin_v).map_err(FileError::Vector)?;
                    items.extend(judge(vector, &measured));
                }
                Ok(items)
            }
        }
    }

    /// Measures everything without looking at expectations: objects of `id` and `quantities`.
    pub fn measure(&self) -> Result<Vec<Value>, FileError> {
        let entry = |id: &str, quantities: Map<String, Value>| json!({ "id": id, "quantities": quantities });
        match self {
            Self::Flicker(file) => {
                let one = |(id, quantity, value): (String, &str, f64)| {
                    entry(&id, Map::from_iter([(quantity.to_owned(), json!(value))]))
                };
                Ok(file.measure().into_iter().map(one).collect())
            }
            Self::Vectors(file) => file
                .vectors
                .iter()
                .map(|v| measure(v, file.udin_v).map(|q| entry(&v.id, q)).map_err(FileError::Vector))
                .collect(),
        }
    }
}
