//! Text on pages of A4: lines broken by the widths of Helvetica, pages turned when they are full. Only what the evidence bundle needs;
//! letters outside Windows' Latin code page are replaced, since no font is embedded.

use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

const PAGE: (f32, f32) = (595.0, 842.0);
const MARGIN: f32 = 56.0;
/// Most pages; beyond it text is left out and the last page says so.
const PAGES_MAX: usize = 200;

/// Widths of Helvetica's letters from space to tilde, thousandths of the size (Adobe's metrics of the standard fonts).
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
];

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Style {
    font: &'static [u8],
    size: f32,
    before: f32,
    indent: f32,
}

pub(super) const TITLE: Style = Style { font: b"B", size: 18.0, before: 0.0, indent: 0.0 };
pub(super) const HEADING: Style = Style { font: b"B", size: 12.0, before: 14.0, indent: 0.0 };
pub(super) const STRONG: Style = Style { font: b"B", size: 10.0, before: 6.0, indent: 0.0 };
pub(super) const BODY: Style = Style { font: b"R", size: 10.0, before: 2.0, indent: 0.0 };
pub(super) const INDENTED: Style = Style { font: b"R", size: 9.0, before: 1.0, indent: 14.0 };
pub(super) const CODE: Style = Style { font: b"M", size: 9.0, before: 4.0, indent: 14.0 };

/// A document in the making.
pub(super) struct Paper {
    pages: Vec<Content>,
    y: f32,
    full: bool,
}

impl Paper {
    pub(super) fn new() -> Self {
        Self { pages: vec![Content::new()], y: PAGE.1 - MARGIN, full: false }
    }

    /// Adds a paragraph.
    pub(super) fn text(&mut self, style: Style, text: &str) {
        self.y -= style.before;
        let width = PAGE.0 - 2.0 * MARGIN - style.indent;
        for line in broken(&latin(text), style, width) {
            let height = style.size * 1.35;
            if self.y - height < MARGIN && !self.turn() {
                return;
            }
            self.y -= height;
            let y = self.y;
            if let Some(page) = self.pages.last_mut() {
                page.begin_text();
                page.set_font(Name(style.font), style.size);
                page.next_line(MARGIN + style.indent, y);
                page.show(Str(&line));
                page.end_text();
            }
        }
    }

    fn turn(&mut self) -> bool {
        if self.pages.len() >= PAGES_MAX {
            self.full = true;
            return false;
        }
        self.pages.push(Content::new());
        self.y = PAGE.1 - MARGIN;
        true
    }

    /// The finished document; `foot` stands at the foot of every page.
    pub(super) fn finish(self, title: &str, foot: &str) -> Vec<u8> {
        let count = i32::try_from(self.pages.len()).unwrap_or(i32::MAX);
        let (catalog, tree, info) = (Ref::new(1), Ref::new(2), Ref::new(3));
        let fonts = [
            (Ref::new(4), b"R", &b"Helvetica"[..]),
            (Ref::new(5), b"B", b"Helvetica-Bold"),
            (Ref::new(6), b"M", b"Courier"),
        ];
        let page_ref = |index: i32| Ref::new(10 + 2 * index);
        let content_ref = |index: i32| Ref::new(11 + 2 * index);
        let mut pdf = Pdf::new();
        pdf.catalog(catalog).pages(tree);
        pdf.pages(tree).kids((0..count).map(page_ref)).count(count);
        pdf.document_info(info).title(TextStr(title)).producer(TextStr("Gridtally"));
        for (id, _, name) in fonts {
            pdf.type1_font(id).base_font(Name(name)).encoding_predefined(Name(b"WinAnsiEncoding"));
        }
        for (index, mut content) in (0..count).zip(self.pages) {
            let more = if self.full && index + 1 == count { " · cut: too long" } else { "" };
            let words = format!("{foot} · page {} of {count}{more}", index + 1);
            content.begin_text();
            content.set_font(Name(b"R"), 8.0);
            content.next_line(MARGIN, MARGIN / 2.0);
            content.show(Str(&latin(&words)));
            content.end_text();
            let mut page = pdf.page(page_ref(index));
            page.media_box(Rect::new(0.0, 0.0, PAGE.0, PAGE.1));
            page.parent(tree);
            page.contents(content_ref(index));
            let mut resources = page.resources();
            let mut named = resources.fonts();
            for (id, name, _) in fonts {
                named.pair(Name(name), id);
            }
            named.finish();
            resources.finish();
            page.finish();
            pdf.stream(content_ref(index), &content.finish());
        }
        pdf.finish()
    }
}

/// Windows' Latin code page; what it lacks becomes a question mark, spaces of all widths become one space.
fn latin(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| match c {
            ' '..='~' | '\u{a1}'..='\u{ff}' => u8::try_from(u32::from(c)).unwrap_or(b'?'),
            '\n' | '\t' | '\u{a0}' | '\u{2009}' | '\u{202f}' => b' ',
            '–' => 0x96,
            '—' => 0x97,
            '‘' => 0x91,
            '’' => 0x92,
            '“' => 0x93,
            '”' => 0x94,
            '…' => 0x85,
            '‰' => 0x89,
            '€' => 0x80,
            '\u{2212}' => b'-',
            '›' | '▸' => 0x9b,
            _ => b'?',
        })
        .collect()
}

fn width_of(byte: u8, style: Style) -> f32 {
    let thousandths = match style.font {
        b"M" => 600,
        // Bold letters are a little wider; the widest of the two faces keeps within the margin.
        font => {
            let known = usize::from(byte).checked_sub(32).and_then(|index| WIDTHS.get(index)).copied().unwrap_or(600);
            if font == b"B" { known + 40 } else { known }
        }
    };
    f32::from(thousandths) * style.size / 1_000.0
}

/// Breaks a text at spaces; a word wider than the line is broken within.
fn broken(text: &[u8], style: Style, width: f32) -> Vec<Vec<u8>> {
    let (mut lines, mut line, mut used) = (Vec::new(), Vec::new(), 0.0_f32);
    for word in text.split(|byte| *byte == b' ').filter(|word| !word.is_empty()) {
        let wide: f32 = word.iter().map(|byte| width_of(*byte, style)).sum();
        let space = width_of(b' ', style);
        if !line.is_empty() && used + space + wide > width {
            lines.push(std::mem::take(&mut line));
            used = 0.0;
        }
        if !line.is_empty() {
            line.push(b' ');
            used += space;
        }
        for byte in word {
            let one = width_of(*byte, style);
            if used + one > width {
                lines.push(std::mem::take(&mut line));
                used = 0.0;
            }
            line.push(*byte);
            used += one;
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_within_their_width_and_lose_nothing() {
        let text = latin("1.68 ± 0.12 kW are missing – a third of the zone’s supply; ₹ and Σ are not in the code page");
        let lines = broken(&text, BODY, 120.0);
        assert!(lines.len() > 3);
        for line in &lines {
            assert!(line.iter().map(|b| width_of(*b, BODY)).sum::<f32>() <= 120.0);
        }
        assert_eq!(lines.join(&b' '), text);
        let long = broken(&latin(&"x".repeat(100)), BODY, 50.0);
        assert!(long.len() > 5 && long.concat().len() == 100);
    }

    #[test]
    fn pages_turn_and_end() {
        let mut paper = Paper::new();
        (0..200).for_each(|i| paper.text(BODY, &format!("line {i}")));
        assert!(paper.pages.len() > 3);
        let bytes = paper.finish("title", "foot");
        assert!(bytes.starts_with(b"%PDF-1.7") && bytes.ends_with(b"%%EOF"));
    }
}
