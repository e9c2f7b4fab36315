//! Reading Parquet tables: plain columns and one level of lists, with nulls.
//!
//! Why not Arrow: the tables here have a handful of columns of four types; the column readers of the `parquet` crate alone
//! read them, and leaving Arrow out saves about forty crates to build. Not a general Parquet tool: deeper nesting and
//! maps are refused with a message.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::reader::{FileReader, SerializedFileReader};

/// Rows read from one column chunk in one call; bounds the temporary buffers.
const ROWS_PER_CALL: usize = 65_536;

/// Why a table could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file could not be opened.
    #[error("cannot open {path}: {source}; check the path and the permissions")]
    Open {
        /// The path as given.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The file is not Parquet or uses a feature that is not built in.
    #[error("{path} cannot be read as Parquet: {source}; files with Snappy or no compression are read")]
    Parquet {
        /// The path as given.
        path: String,
        /// The Parquet reader's answer.
        source: parquet::errors::ParquetError,
    },
    /// A column is absent.
    #[error("{path} has no column \"{column}\"; it has: {present}")]
    MissingColumn {
        /// The path as given.
        path: String,
        /// The column looked for.
        column: String,
        /// The columns that exist, separated by commas.
        present: String,
    },
    /// A column has another type than needed.
    #[error("column \"{column}\" of {path} should hold {expected}")]
    WrongType {
        /// The path as given.
        path: String,
        /// The column.
        column: String,
        /// What was expected, in words.
        expected: &'static str,
    },
    /// The table's contents contradict each other.
    #[error("{path}: {problem}")]
    Content {
        /// The path as given.
        path: String,
        /// What is wrong, in words.
        problem: String,
    },
}

/// One column; all variants hold one entry per row.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Integers and booleans.
    Integer(Vec<Option<i64>>),
    /// Floating point numbers.
    Real(Vec<Option<f64>>),
    /// Text.
    Text(Vec<Option<String>>),
    /// Lists of numbers; a null element is NaN, a null list is empty.
    RealList(Vec<Vec<f64>>),
}

/// A table in memory, by column name.
#[derive(Debug, Clone)]
pub struct Table {
    path: String,
    rows: usize,
    columns: BTreeMap<String, Column>,
}

impl Table {
    /// Reads all columns of a Parquet file.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let shown = path.display().to_string();
        let file = File::open(path).map_err(|source| TableError::Open { path: shown.clone(), source })?;
        let parquet_error = |source| TableError::Parquet { path: shown.clone(), source };
        let reader = SerializedFileReader::new(file).map_err(parquet_error)?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let mut columns: BTreeMap<String, Column> = BTreeMap::new();
        let mut rows = 0;
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group).map_err(parquet_error)?;
            rows += usize::try_from(group.metadata().num_rows()).unwrap_or(0);
            for index in 0..schema.num_columns() {
                let descr = schema.column(index);
                let name = descr.path().parts()[0].clone();
                if descr.max_rep_level() > 1 {
                    let expected = "plain values or a list of numbers, nothing deeper";
                    return Err(TableError::WrongType { path: shown.clone(), column: name, expected });
                }
                let levels = Levels {
                    max_definition: descr.max_def_level(),
                    element_optional: descr.self_type().is_optional(),
                    list: descr.max_rep_level() == 1,
                };
                let chunk = group.get_column_reader(index).map_err(parquet_error)?;
                let part = read_chunk(chunk, levels).map_err(parquet_error)?;
                let part = part.ok_or_else(|| TableError::WrongType {
                    path: shown.clone(),
                    column: name.clone(),
                    expected: "integers, floating point numbers, booleans, text or lists of numbers",
                })?;
                match columns.get_mut(&name) {
                    Some(whole) => whole.append(part),
                    None => {
                        columns.insert(name, part);
                    }
                }
            }
        }
        Ok(Self { path: shown, rows, columns })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether the column exists.
    pub fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// An error about this table's contents.
    pub fn content_error(&self, problem: impl Into<String>) -> TableError {
        TableError::Content { path: self.path.clone(), problem: problem.into() }
    }

    fn column(&self, column: &str) -> Result<&Column, TableError> {
        self.columns.get(column).ok_or_else(|| TableError::MissingColumn {
            path: self.path.clone(),
            column: column.to_owned(),
            present: self.columns.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    fn wrong(&self, column: &str, expected: &'static str) -> TableError {
        TableError::WrongType { path: self.path.clone(), column: column.to_owned(), expected }
    }

    /// An integer column.
    pub fn integers(&self, column: &str) -> Result<&[Option<i64>], TableError> {
        match self.column(column)? {
            Column::Integer(values) => Ok(values),
            _ => Err(self.wrong(column, "integers")),
        }
    }

    /// A column of numbers; null is NaN, integers are widened.
    pub fn reals(&self, column: &str) -> Result<Vec<f64>, TableError> {
        match self.column(column)? {
            Column::Real(values) => Ok(values.iter().map(|v| v.unwrap_or(f64::NAN)).collect()),
            Column::Integer(values) => Ok(values.iter().map(|v| v.map_or(f64::NAN, |v| v as f64)).collect()),
            _ => Err(self.wrong(column, "numbers")),
        }
    }

    /// A text column; null is the empty text, integers are written out.
    pub fn texts(&self, column: &str) -> Result<Vec<String>, TableError> {
        match self.column(column)? {
            Column::Text(values) => Ok(values.iter().map(|v| v.clone().unwrap_or_default()).collect()),
            Column::Integer(values) => {
                Ok(values.iter().map(|v| v.map(|v| v.to_string()).unwrap_or_default()).collect())
            }
            _ => Err(self.wrong(column, "text")),
        }
    }

    /// A column of lists of numbers; null elements are NaN.
    pub fn real_lists(&self, column: &str) -> Result<&[Vec<f64>], TableError> {
        match self.column(column)? {
            Column::RealList(values) => Ok(values),
            _ => Err(self.wrong(column, "lists of numbers")),
        }
    }
}

impl Column {
    fn append(&mut self, part: Column) {
        match (self, part) {
            (Column::Integer(whole), Column::Integer(part)) => whole.extend(part),
            (Column::Real(whole), Column::Real(part)) => whole.extend(part),
            (Column::Text(whole), Column::Text(part)) => whole.extend(part),
            (Column::RealList(whole), Column::RealList(part)) => whole.extend(part),
            // One schema rules all row groups of a file, so the types cannot differ.
            _ => unreachable!("row groups of one Parquet file share one schema"),
        }
    }
}

#[derive(Clone, Copy)]
struct Levels {
    max_definition: i16,
    element_optional: bool,
    list: bool,
}

fn read_chunk(chunk: ColumnReader, levels: Levels) -> Result<Option<Column>, parquet::errors::ParquetError> {
    let integer = |rows: Vec<Option<i64>>| Column::Integer(rows);
    Ok(match (chunk, levels.list) {
        (ColumnReader::BoolColumnReader(r), false) => Some(integer(flat(r, levels, |v| i64::from(*v))?)),
        (ColumnReader::Int32ColumnReader(r), false) => Some(integer(flat(r, levels, |v| i64::from(*v))?)),
        (ColumnReader::Int64ColumnReader(r), false) => Some(integer(flat(r, levels, |v| *v)?)),
        (ColumnReader::FloatColumnReader(r), false) => Some(Column::Real(flat(r, levels, |v| f64::from(*v))?)),
        (ColumnReader::DoubleColumnReader(r), false) => Some(Column::Real(flat(r, levels, |v| *v)?)),
        (ColumnReader::ByteArrayColumnReader(r), false) => Some(Column::Text(flat(r, levels, text)?)),
        (ColumnReader::Int32ColumnReader(r), true) => Some(Column::RealList(list(r, levels, |v| f64::from(*v))?)),
        (ColumnReader::Int64ColumnReader(r), true) => Some(Column::RealList(list(r, levels, |v| *v as f64)?)),
        (ColumnReader::FloatColumnReader(r), true) => Some(Column::RealList(list(r, levels, |v| f64::from(*v))?)),
        (ColumnReader::DoubleColumnReader(r), true) => Some(Column::RealList(list(r, levels, |v| *v)?)),
        _ => None,
    })
}

fn text(value: &ByteArray) -> String {
    String::from_utf8_lossy(value.data()).into_owned()
}

fn flat<T: DataType, V>(
    mut reader: ColumnReaderImpl<T>,
    levels: Levels,
    convert: impl Fn(&T::T) -> V,
) -> Result<Vec<Option<V>>, parquet::errors::ParquetError> {
    let mut rows = Vec::new();
    let (mut definitions, mut values) = (Vec::new(), Vec::new());
    loop {
        definitions.clear();
        values.clear();
        let (records, _, _) = reader.read_records(ROWS_PER_CALL, Some(&mut definitions), None, &mut values)?;
        if records == 0 {
            return Ok(rows);
        }
        let mut present = values.iter();
        // A required column has no definition levels: every record is a value.
        definitions.resize(records, levels.max_definition);
        for definition in &definitions {
            let is_value = *definition == levels.max_definition;
            rows.push(if is_value { present.next().map(&convert) } else { None });
        }
    }
}

fn list<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    levels: Levels,
    convert: impl Fn(&T::T) -> f64,
) -> Result<Vec<Vec<f64>>, parquet::errors::ParquetError> {
    let slot_level = if levels.element_optional { levels.max_definition - 1 } else { levels.max_definition };
    let mut rows: Vec<Vec<f64>> = Vec::new();
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        definitions.clear();
        repetitions.clear();
        values.clear();
        let (records, _, _) =
            reader.read_records(ROWS_PER_CALL, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
        if records == 0 {
            return Ok(rows);
        }
        let mut present = values.iter();
        for (&definition, &repetition) in definitions.iter().zip(&repetitions) {
            if repetition == 0 {
                rows.push(Vec::new());
            }
            if definition < slot_level {
                continue;
            }
            let value =
                if definition == levels.max_definition { present.next().map_or(f64::NAN, &convert) } else { f64::NAN };
            if let Some(row) = rows.last_mut() {
                row.push(value);
            }
        }
    }
}
