//! CSV for spreadsheets: RFC 4180, and no cell that a spreadsheet would run as a formula.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// A CSV document in the making.
#[derive(Debug)]
pub struct Csv(String);

impl Csv {
    /// A document with its header row.
    pub fn new(columns: &[&str]) -> Self {
        let mut csv = Self(String::new());
        csv.row(columns);
        csv
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[impl AsRef<str>]) {
        for (i, cell) in cells.iter().enumerate() {
            if i > 0 {
                self.0.push(',');
            }
            self.0.push_str(&escaped(cell.as_ref()));
        }
        self.0.push_str("\r\n");
    }

    /// As a download with this file name.
    pub fn download(self, name: &str) -> Response {
        let disposition = format!("attachment; filename=\"{name}\"");
        (
            [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, disposition)],
            self.0,
        )
            .into_response()
    }
}

/// Quotes what needs it; a text that a spreadsheet would take for a formula gets an apostrophe in front. Plain numbers stay.
fn escaped(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
    let text = if is_formula { format!("'{cell}") } else { cell.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_text_and_numbers_stay_numbers() {
        assert_eq!(escaped("=1+1"), "'=1+1");
        assert_eq!(escaped("@SUM(A1)"), "'@SUM(A1)");
        assert_eq!(escaped("-12.5"), "-12.5");
        assert_eq!(escaped("+cmd|' /C calc'!A0"), "'+cmd|' /C calc'!A0");
        assert_eq!(escaped("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
