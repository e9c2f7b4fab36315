//! In which line of a file a field stands, so that a finding can be shown where it is.

use toml::de::{DeTable, DeValue};

/// A field and the line (from 1) its value begins in.
pub struct Position {
    /// As `charges[2].rates[0].max`.
    pub field: String,
    /// Line of the value.
    pub line: usize,
}

/// Every field of a JSON text, in the order of the file. Stops silently at a syntax error: the parser has told it already.
pub fn json(text: &str) -> Vec<Position> {
    let mut scan = Scan { bytes: text.as_bytes(), at: 0, line: 1, found: Vec::new() };
    let _ended_early = scan.value(String::new(), 0).is_none();
    scan.found
}

/// Every field of a TOML text.
pub fn toml(text: &str) -> Vec<Position> {
    let mut found = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        walk_table(text, table.get_ref(), "", &mut found);
    }
    found
}

/// The line of a field, or of the nearest field around it.
pub fn line_of(positions: &[Position], field: &str) -> Option<usize> {
    let mut name = field;
    loop {
        if let Some(position) = positions.iter().find(|position| position.field == name) {
            return Some(position.line);
        }
        let cut = name.rfind(['.', '['])?;
        name = &name[..cut];
    }
}

/// The innermost field that begins in or before a line.
pub fn field_at(positions: &[Position], line: usize) -> Option<&str> {
    positions.iter().take_while(|position| position.line <= line).last().map(|position| position.field.as_str())
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn walk_table(text: &str, table: &DeTable<'_>, path: &str, found: &mut Vec<Position>) {
    for (key, value) in table {
        walk_toml(text, value.get_ref(), value.span().start, joined(path, key.get_ref()), found);
    }
}

fn walk_toml(text: &str, value: &DeValue<'_>, start: usize, path: String, found: &mut Vec<Position>) {
    let line = text.as_bytes()[..start.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
    found.push(Position { field: path.clone(), line });
    match value {
        DeValue::Table(table) => walk_table(text, table, &path, found),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk_toml(text, item.get_ref(), item.span().start, format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// Deepest nesting that is followed: the JSON parser's own limit.
const DEPTH_MAX: usize = 128;

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    found: Vec<Position>,
}

impl Scan<'_> {
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                _ => return Some(*byte),
            }
            self.at += 1;
        }
        None
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn string(&mut self) -> Option<String> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            match self.bytes.get(self.at)? {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(String::from_utf8_lossy(&self.bytes[start..self.at - 1]).into_owned())
    }

    fn value(&mut self, path: String, depth: usize) -> Option<()> {
        let first = self.peek()?;
        if depth > DEPTH_MAX {
            return None;
        }
        self.found.push(Position { field: path.clone(), line: self.line });
        match first {
            b'{' => self.members(&path, depth),
            b'[' => self.items(&path, depth),
            b'"' => self.string().map(|_| ()),
            _ => {
                while self.bytes.get(self.at).is_some_and(|b| !b",]} \t\r\n".contains(b)) {
                    self.at += 1;
                }
                Some(())
            }
        }
    }

    fn members(&mut self, path: &str, depth: usize) -> Option<()> {
        self.at += 1;
        if self.peek()? == b'}' {
            return self.take(b'}');
        }
        loop {
            self.peek()?;
            let key = self.string()?;
            self.take(b':')?;
            self.value(joined(path, &key), depth + 1)?;
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.take(b'}'),
            }
        }
    }

    fn items(&mut self, path: &str, depth: usize) -> Option<()> {
        self.at += 1;
        if self.peek()? == b']' {
            return self.take(b']');
        }
        for index in 0usize.. {
            self.value(format!("{path}[{index}]"), depth + 1)?;
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.take(b']'),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_both_languages() {
        let text = "{\n \"a\": [\n  {\"max\": \"1\\\"\"},\n  {\"max\":\n \"2\"}],\n \"b\": {}}";
        let positions = json(text);
        assert_eq!(line_of(&positions, "a[1].max"), Some(5));
        assert_eq!(line_of(&positions, "a[0].rate"), Some(3), "the nearest around a field that is missing");
        assert_eq!(line_of(&positions, "b"), Some(6));
        assert_eq!(field_at(&positions, 3), Some("a[0].max"));
        let text = "b = 1\n[[charges]]\ncode = 'X'\nrates = [\n { max = '1' },\n { max = '2' } ]\n";
        assert_eq!(line_of(&toml(text), "charges[0].rates[1].max"), Some(6));
    }

    #[test]
    fn broken_text_ends_the_search() {
        for text in ["{", "{\"a\"", "[1,", "{\"a\":\"\\", "]", ""] {
            assert!(json(text).len() < 4);
        }
    }
}
