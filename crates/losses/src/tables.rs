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
/// The same of a column of lists, whose rows are long.
const LISTS_PER_CALL: usize = 256;

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
    #[error("{path} cannot be read as Parquet: {source}; files with Snappy, Zstandard or no compression are read")]
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

/// A Parquet file that is read some rows at a time, so that it need not fit into memory.
pub struct Batches {
    path: String,
    reader: SerializedFileReader<File>,
    /// The columns read; None = all.
    wanted: Option<Vec<String>>,
    /// The row group that comes next.
    group: usize,
    /// The columns of the row group in hand, and its rows not yet read.
    cursors: Vec<Cursor>,
    left: usize,
}

/// Where reading stands within one column of a row group.
struct Cursor {
    name: String,
    levels: Levels,
    reader: ColumnReader,
}

impl Batches {
    /// Opens a Parquet file to read the columns `wanted` (None = all; those that do not exist are left out).
    pub fn open(path: &Path, wanted: Option<&[&str]>) -> Result<Self, TableError> {
        let shown = path.display().to_string();
        let file = File::open(path).map_err(|source| TableError::Open { path: shown.clone(), source })?;
        let reader =
            SerializedFileReader::new(file).map_err(|source| TableError::Parquet { path: shown.clone(), source })?;
        let wanted = wanted.map(|names| names.iter().map(|n| (*n).to_owned()).collect());
        Ok(Self { path: shown, reader, wanted, group: 0, cursors: Vec::new(), left: 0 })
    }

    /// Rows of the whole file.
    pub fn total_rows(&self) -> usize {
        usize::try_from(self.reader.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// An error about this file's contents.
    pub fn content_error(&self, problem: impl Into<String>) -> TableError {
        TableError::Content { path: self.path.clone(), problem: problem.into() }
    }

    /// The next rows, `most` of them or as many as are left; none at the end of the file.
    pub fn next(&mut self, most: usize) -> Result<Table, TableError> {
        let mut table = Table { path: self.path.clone(), rows: 0, columns: BTreeMap::new() };
        while table.rows < most && (self.left > 0 || self.open_group()?) {
            let rows = self.left.min(most - table.rows);
            for cursor in &mut self.cursors {
                let part = cursor.read(rows, &self.path)?;
                match table.columns.get_mut(&cursor.name) {
                    Some(whole) => whole.append(part),
                    None => {
                        table.columns.insert(cursor.name.clone(), part);
                    }
                }
            }
            self.left -= rows;
            table.rows += rows;
        }
        Ok(table)
    }

    /// Begins the next row group; false at the end of the file.
    fn open_group(&mut self) -> Result<bool, TableError> {
        if self.group >= self.reader.num_row_groups() {
            return Ok(false);
        }
        let parquet_error = |source| TableError::Parquet { path: self.path.clone(), source };
        let schema = self.reader.metadata().file_metadata().schema_descr_ptr();
        let group = self.reader.get_row_group(self.group).map_err(parquet_error)?;
        self.cursors.clear();
        for index in 0..schema.num_columns() {
            let descr = schema.column(index);
            let name = descr.path().parts()[0].clone();
            if self.wanted.as_ref().is_some_and(|w| !w.contains(&name)) {
                continue;
            }
            if descr.max_rep_level() > 1 {
                let expected = "plain values or a list of numbers, nothing deeper";
                return Err(TableError::WrongType { path: self.path.clone(), column: name, expected });
            }
            let levels = Levels {
                max_definition: descr.max_def_level(),
                element_optional: descr.self_type().is_optional(),
                list: descr.max_rep_level() == 1,
            };
            let reader = group.get_column_reader(index).map_err(parquet_error)?;
            self.cursors.push(Cursor { name, levels, reader });
        }
        self.left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        self.group += 1;
        Ok(true)
    }
}

impl Cursor {
    /// The column's next `rows` rows.
    fn read(&mut self, rows: usize, path: &str) -> Result<Column, TableError> {
        let part = read_rows(&mut self.reader, self.levels, rows)
            .map_err(|source| TableError::Parquet { path: path.to_owned(), source })?
            .ok_or_else(|| TableError::WrongType {
                path: path.to_owned(),
                column: self.name.clone(),
                expected: "integers, floating point numbers, booleans, text or lists of numbers",
            })?;
        if part.rows() != rows {
            let problem = format!("column \"{}\" ends early; the file is damaged", self.name);
            return Err(TableError::Content { path: path.to_owned(), problem });
        }
        Ok(part)
    }
}

impl Table {
    /// Reads all columns of a Parquet file.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        Batches::open(path, None)?.next(usize::MAX)
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

    /// As [`Self::real_lists`], taking the column out of the table, since readings are large.
    pub fn take_real_lists(&mut self, column: &str) -> Result<Vec<Vec<f64>>, TableError> {
        self.real_lists(column)?;
        match self.columns.remove(column) {
            Some(Column::RealList(values)) => Ok(values),
            _ => Err(self.wrong(column, "lists of numbers")),
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
    fn rows(&self) -> usize {
        match self {
            Column::Integer(values) => values.len(),
            Column::Real(values) => values.len(),
            Column::Text(values) => values.len(),
            Column::RealList(values) => values.len(),
        }
    }

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

fn read_rows(
    chunk: &mut ColumnReader,
    levels: Levels,
    rows: usize,
) -> Result<Option<Column>, parquet::errors::ParquetError> {
    use ColumnReader as Reader;
    Ok(Some(match (chunk, levels.list) {
        (Reader::BoolColumnReader(r), false) => Column::Integer(flat(r, levels, rows, |v| i64::from(*v))?),
        (Reader::Int32ColumnReader(r), false) => Column::Integer(flat(r, levels, rows, |v| i64::from(*v))?),
        (Reader::Int64ColumnReader(r), false) => Column::Integer(flat(r, levels, rows, |v| *v)?),
        (Reader::FloatColumnReader(r), false) => Column::Real(flat(r, levels, rows, |v| f64::from(*v))?),
        (Reader::DoubleColumnReader(r), false) => Column::Real(flat(r, levels, rows, |v| *v)?),
        (Reader::ByteArrayColumnReader(r), false) => Column::Text(flat(r, levels, rows, text)?),
        (Reader::Int32ColumnReader(r), true) => Column::RealList(list(r, levels, rows, |v| f64::from(*v))?),
        (Reader::Int64ColumnReader(r), true) => Column::RealList(list(r, levels, rows, |v| *v as f64)?),
        (Reader::FloatColumnReader(r), true) => Column::RealList(list(r, levels, rows, |v| f64::from(*v))?),
        (Reader::DoubleColumnReader(r), true) => Column::RealList(list(r, levels, rows, |v| *v)?),
        _ => return Ok(None),
    }))
}

fn text(value: &ByteArray) -> String {
    String::from_utf8_lossy(value.data()).into_owned()
}

fn flat<T: DataType, V>(
    reader: &mut ColumnReaderImpl<T>,
    levels: Levels,
    wanted: usize,
    convert: impl Fn(&T::T) -> V,
) -> Result<Vec<Option<V>>, parquet::errors::ParquetError> {
    let mut rows = Vec::new();
    let (mut definitions, mut values) = (Vec::new(), Vec::new());
    while rows.len() < wanted {
        definitions.clear();
        values.clear();
        let most = ROWS_PER_CALL.min(wanted - rows.len());
        let (records, _, _) = reader.read_records(most, Some(&mut definitions), None, &mut values)?;
        if records == 0 {
            break;
        }
        let mut present = values.iter();
        // A required column has no definition levels: every record is a value.
        definitions.resize(records, levels.max_definition);
        for definition in &definitions {
            let is_value = *definition == levels.max_definition;
            rows.push(if is_value { present.next().map(&convert) } else { None });
        }
    }
    Ok(rows)
}

fn list<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    levels: Levels,
    wanted: usize,
    convert: impl Fn(&T::T) -> f64,
) -> Result<Vec<Vec<f64>>, parquet::errors::ParquetError> {
    let slot_level = if levels.element_optional { levels.max_definition - 1 } else { levels.max_definition };
    let mut rows: Vec<Vec<f64>> = Vec::new();
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    while rows.len() < wanted {
        definitions.clear();
        repetitions.clear();
        values.clear();
        let most = LISTS_PER_CALL.min(wanted - rows.len());
        let (records, _, _) = reader.read_records(most, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
        if records == 0 {
            break;
        }
        let mut present = values.iter();
        // Rows of one table tend to be equally long.
        let length = rows.last().map_or(0, Vec::len);
        for (&definition, &repetition) in definitions.iter().zip(&repetitions) {
            if repetition == 0 {
                rows.push(Vec::with_capacity(length));
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
    Ok(rows)
}
