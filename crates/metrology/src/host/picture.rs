//! A small picture of lines, boxes and text that can be written as SVG or as PNG.
//!
//! The raster has sixteen fixed colours and a 5×7 dot font, like the display it mostly draws; its PNG is not compressed, which
//! needs no library. Not a renderer of SVG: both outputs are made from the same shapes.

use core::fmt::Write;

/// Colours by their role; the number is the place in the PNG's palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Paper.
    Ground = 0,
    /// Text.
    Text = 1,
    /// Voltage.
    Voltage = 2,
    /// Current.
    Current = 3,
    /// Scale lines.
    Grid = 4,
    /// Limits.
    Limit = 5,
    /// The display's glass.
    Glass = 6,
    /// The display's frame.
    Frame = 7,
    /// The display's dots.
    Dots = 8,
}

const PALETTE: [(&str, [u8; 3]); 9] = [
    ("#ffffff", [255, 255, 255]),
    ("#1c2733", [28, 39, 51]),
    ("#0b6bcb", [11, 107, 203]),
    ("#c2410c", [194, 65, 12]),
    ("#c9d0d6", [201, 208, 214]),
    ("#b91c1c", [185, 28, 28]),
    ("#7fa33a", [127, 163, 58]),
    ("#3d4f1c", [61, 79, 28]),
    ("#1a2408", [26, 36, 8]),
];

/// Where a text stands at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Begins there.
    Start,
    /// Centred.
    Middle,
    /// Ends there.
    End,
}

#[derive(Clone, Debug)]
enum Shape {
    Curve { points: Vec<(f64, f64)>, ink: Ink, width: f64 },
    Box { at: (f64, f64), size: (f64, f64), ink: Ink },
    Text { at: (f64, f64), text: String, ink: Ink, anchor: Anchor, dots: u32 },
}

/// Shapes on a sheet, drawn in order.
#[derive(Clone, Debug)]
pub struct Picture {
    width: u32,
    height: u32,
    title: String,
    description: String,
    shapes: Vec<Shape>,
}

impl Picture {
    /// An empty sheet.
    pub fn new(width: u32, height: u32, title: &str, description: &str) -> Self {
        Self { width, height, title: title.into(), description: description.into(), shapes: Vec::new() }
    }

    /// A line through points.
    pub fn curve(&mut self, points: Vec<(f64, f64)>, ink: Ink, width: f64) {
        self.shapes.push(Shape::Curve { points, ink, width });
    }

    /// A filled box.
    pub fn fill(&mut self, at: (f64, f64), size: (f64, f64), ink: Ink) {
        self.shapes.push(Shape::Box { at, size, ink });
    }

    /// Text with its base line at `at`; `dots` is the size of a dot of the font, 1 for labels.
    pub fn text(&mut self, at: (f64, f64), text: impl Into<String>, ink: Ink, anchor: Anchor, dots: u32) {
        self.shapes.push(Shape::Text { at, text: text.into(), ink, anchor, dots });
    }

    /// As SVG; ground and text follow the reader's light or dark setting.
    pub fn svg(&self) -> String {
        let (w, h) = (self.width, self.height);
        let (title, description) = (escape(&self.title), escape(&self.description));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" role=\"img\" \
             aria-label=\"{title}: {description}\"><title>{title}</title><style>svg{{background:#fff;color:#1c2733}}\
             @media(prefers-color-scheme:dark){{svg{{background:#11181f;color:#e6edf3}}}}</style>"
        );
        for shape in &self.shapes {
            let _ = match shape {
                Shape::Curve { points, ink, width } => {
                    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                    let points = points.join(" ");
                    write!(
                        out,
                        "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" points=\"{points}\"/>",
                        hex(*ink)
                    )
                }
                Shape::Box { at: (x, y), size: (w, h), ink } => {
                    write!(
                        out,
                        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{}\"/>",
                        hex(*ink)
                    )
                }
                Shape::Text { at: (x, y), text, ink, anchor, dots } => {
                    let anchor = match anchor {
                        Anchor::Start => "start",
                        Anchor::Middle => "middle",
                        Anchor::End => "end",
                    };
                    let font = if *dots > 1 { "ui-monospace,monospace" } else { "system-ui,sans-serif" };
                    let width = if *dots > 1 {
                        format!(
                            " textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\"",
                            text.chars().count() as u32 * 6 * dots
                        )
                    } else {
                        String::new()
                    };
                    write!(
                        out,
                        "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{}\" text-anchor=\"{anchor}\" xml:space=\"preserve\"{width} \
                         font-family=\"{font}\" font-size=\"{}\">{}</text>",
                        hex(*ink),
                        if *dots > 1 { dots * 9 } else { 12 },
                        escape(text)
                    )
                }
            };
        }
        out + "</svg>"
    }

    /// As PNG with sixteen colours.
    pub fn png(&self) -> Vec<u8> {
        let mut raster = Raster::new(self.width as usize, self.height as usize);
        for shape in &self.shapes {
            match shape {
                Shape::Curve { points, ink, width } => {
                    for pair in points.windows(2) {
                        raster.segment(pair[0], pair[1], *ink, *width);
                    }
                }
                Shape::Box { at, size, ink } => raster.fill(*at, *size, *ink),
                Shape::Text { at, text, ink, anchor, dots } => raster.text(*at, text, *ink, *anchor, *dots),
            }
        }
        raster.png()
    }
}

/// Colour as CSS; ground and text follow the setting.
fn hex(ink: Ink) -> &'static str {
    if ink == Ink::Text { "currentColor" } else { PALETTE[ink as usize].0 }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Pixels, one palette place each.
struct Raster {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Raster {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![Ink::Ground as u8; width * height] }
    }

    fn set(&mut self, x: i64, y: i64, ink: Ink) {
        if let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y))
            && x < self.width
            && y < self.height
        {
            self.pixels[y * self.width + x] = ink as u8;
        }
    }

    fn fill(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), ink: Ink) {
        for row in y.round() as i64..(y + h).round() as i64 {
            for column in x.round() as i64..(x + w).round() as i64 {
                self.set(column, row, ink);
            }
        }
    }

    fn segment(&mut self, (x0, y0): (f64, f64), (x1, y1): (f64, f64), ink: Ink, width: f64) {
        let steps = ((x1 - x0).abs().max((y1 - y0).abs()) * 2.0).ceil().clamp(1.0, 1e5);
        let pen = width.max(1.0);
        for k in 0..=steps as u32 {
            let share = f64::from(k) / steps;
            let (x, y) = (x0 + (x1 - x0) * share - pen / 2.0, y0 + (y1 - y0) * share - pen / 2.0);
            self.fill((x, y), (pen, pen), ink);
        }
    }

    fn text(&mut self, (x, y): (f64, f64), text: &str, ink: Ink, anchor: Anchor, dots: u32) {
        let dot = f64::from(dots);
        let long = text.chars().count() as f64 * 6.0 * dot;
        let left = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - long / 2.0,
            Anchor::End => x - long,
        };
        for (k, character) in text.chars().enumerate() {
            for (column, bits) in glyph(character).into_iter().enumerate() {
                for row in 0..7_u8 {
                    if bits >> row & 1 == 1 {
                        let at = (left + (k * 6 + column) as f64 * dot, y - f64::from(7 - row) * dot);
                        self.fill(at, (dot, dot), ink);
                    }
                }
            }
        }
    }

    /// PNG, four bits a pixel, the data in stored blocks.
    fn png(&self) -> Vec<u8> {
        let mut rows = Vec::with_capacity((self.width / 2 + 2) * self.height);
        for row in self.pixels.chunks(self.width) {
            rows.push(0);
            rows.extend(row.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)));
        }
        let mut data = vec![0x78, 0x01];
        let blocks = rows.chunks(65_535).count();
        for (k, block) in rows.chunks(65_535).enumerate() {
            let length = block.len() as u16;
            data.push(u8::from(k + 1 == blocks));
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(&(!length).to_le_bytes());
            data.extend_from_slice(block);
        }
        data.extend_from_slice(&adler32(&rows).to_be_bytes());
        let mut header = Vec::new();
        header.extend_from_slice(&(self.width as u32).to_be_bytes());
        header.extend_from_slice(&(self.height as u32).to_be_bytes());
        header.extend_from_slice(&[4, 3, 0, 0, 0]);
        let palette: Vec<u8> = PALETTE.iter().flat_map(|(_, rgb)| *rgb).collect();
        let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, content) in [(b"IHDR", &header), (b"PLTE", &palette), (b"IDAT", &data), (b"IEND", &Vec::new())] {
            chunk(&mut out, kind, content);
        }
        out
    }
}

fn chunk(out: &mut Vec<u8>, kind: &[u8; 4], content: &[u8]) {
    out.extend_from_slice(&(content.len() as u32).to_be_bytes());
    let begin = out.len();
    out.extend_from_slice(kind);
    out.extend_from_slice(content);
    let mut crc = u32::MAX;
    for byte in &out[begin..] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    out.extend_from_slice(&(!crc).to_be_bytes());
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    b << 16 | a
}

/// The five columns of a character, lowest bit on top: the usual 5×7 dots. Others are a box.
#[rustfmt::skip]
const GLYPHS: [[u8; 5]; 95] = [
    [0x00,0x00,0x00,0x00,0x00],[0x00,0x00,0x5f,0x00,0x00],[0x00,0x07,0x00,0x07,0x00],[0x14,0x7f,0x14,0x7f,0x14],
    [0x24,0x2a,0x7f,0x2a,0x12],[0x23,0x13,0x08,0x64,0x62],[0x36,0x49,0x55,0x22,0x50],[0x00,0x05,0x03,0x00,0x00],
    [0x00,0x1c,0x22,0x41,0x00],[0x00,0x41,0x22,0x1c,0x00],[0x14,0x08,0x3e,0x08,0x14],[0x08,0x08,0x3e,0x08,0x08],
    [0x00,0x50,0x30,0x00,0x00],[0x08,0x08,0x08,0x08,0x08],[0x00,0x60,0x60,0x00,0x00],[0x20,0x10,0x08,0x04,0x02],
    [0x3e,0x51,0x49,0x45,0x3e],[0x00,0x42,0x7f,0x40,0x00],[0x42,0x61,0x51,0x49,0x46],[0x21,0x41,0x45,0x4b,0x31],
    [0x18,0x14,0x12,0x7f,0x10],[0x27,0x45,0x45,0x45,0x39],[0x3c,0x4a,0x49,0x49,0x30],[0x01,0x71,0x09,0x05,0x03],
    [0x36,0x49,0x49,0x49,0x36],[0x06,0x49,0x49,0x29,0x1e],[0x00,0x36,0x36,0x00,0x00],[0x00,0x56,0x36,0x00,0x00],
    [0x08,0x14,0x22,0x41,0x00],[0x14,0x14,0x14,0x14,0x14],[0x00,0x41,0x22,0x14,0x08],[0x02,0x01,0x51,0x09,0x06],
    [0x32,0x49,0x79,0x41,0x3e],[0x7e,0x11,0x11,0x11,0x7e],[0x7f,0x49,0x49,0x49,0x36],[0x3e,0x41,0x41,0x41,0x22],
    [0x7f,0x41,0x41,0x22,0x1c],[0x7f,0x49,0x49,0x49,0x41],[0x7f,0x09,0x09,0x09,0x01],[0x3e,0x41,0x49,0x49,0x7a],
    [0x7f,0x08,0x08,0x08,0x7f],[0x00,0x41,0x7f,0x41,0x00],[0x20,0x40,0x41,0x3f,0x01],[0x7f,0x08,0x14,0x22,0x41],
    [0x7f,0x40,0x40,0x40,0x40],[0x7f,0x02,0x0c,0x02,0x7f],[0x7f,0x04,0x08,0x10,0x7f],[0x3e,0x41,0x41,0x41,0x3e],
    [0x7f,0x09,0x09,0x09,0x06],[0x3e,0x41,0x51,0x21,0x5e],[0x7f,0x09,0x19,0x29,0x46],[0x46,0x49,0x49,0x49,0x31],
    [0x01,0x01,0x7f,0x01,0x01],[0x3f,0x40,0x40,0x40,0x3f],[0x1f,0x20,0x40,0x20,0x1f],[0x3f,0x40,0x38,0x40,0x3f],
    [0x63,0x14,0x08,0x14,0x63],[0x07,0x08,0x70,0x08,0x07],[0x61,0x51,0x49,0x45,0x43],[0x00,0x7f,0x41,0x41,0x00],
    [0x02,0x04,0x08,0x10,0x20],[0x00,0x41,0x41,0x7f,0x00],[0x04,0x02,0x01,0x02,0x04],[0x40,0x40,0x40,0x40,0x40],
    [0x00,0x01,0x02,0x04,0x00],[0x20,0x54,0x54,0x54,0x78],[0x7f,0x48,0x44,0x44,0x38],[0x38,0x44,0x44,0x44,0x20],
    [0x38,0x44,0x44,0x48,0x7f],[0x38,0x54,0x54,0x54,0x18],[0x08,0x7e,0x09,0x01,0x02],[0x0c,0x52,0x52,0x52,0x3e],
    [0x7f,0x08,0x04,0x04,0x78],[0x00,0x44,0x7d,0x40,0x00],[0x20,0x40,0x44,0x3d,0x00],[0x7f,0x10,0x28,0x44,0x00],
    [0x00,0x41,0x7f,0x40,0x00],[0x7c,0x04,0x18,0x04,0x78],[0x7c,0x08,0x04,0x04,0x78],[0x38,0x44,0x44,0x44,0x38],
    [0x7c,0x14,0x14,0x14,0x08],[0x08,0x14,0x14,0x18,0x7c],[0x7c,0x08,0x04,0x04,0x08],[0x48,0x54,0x54,0x54,0x20],
    [0x04,0x3f,0x44,0x40,0x20],[0x3c,0x40,0x40,0x20,0x7c],[0x1c,0x20,0x40,0x20,0x1c],[0x3c,0x40,0x30,0x40,0x3c],
    [0x44,0x28,0x10,0x28,0x44],[0x0c,0x50,0x50,0x50,0x3c],[0x44,0x64,0x54,0x4c,0x44],[0x00,0x08,0x36,0x41,0x00],
    [0x00,0x00,0x7f,0x00,0x00],[0x00,0x41,0x36,0x08,0x00],[0x08,0x04,0x08,0x10,0x08],
];

fn glyph(character: char) -> [u8; 5] {
    let place = u32::from(character).checked_sub(32).and_then(|k| GLYPHS.get(k as usize));
    place.copied().unwrap_or([0x7f, 0x41, 0x41, 0x41, 0x7f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_the_same_in_both_forms() {
        let mut picture = Picture::new(40, 20, "t", "d");
        picture.fill((2.0, 3.0), (4.0, 5.0), Ink::Voltage);
        picture.text((10.0, 12.0), "A<", Ink::Text, Anchor::Start, 1);
        assert!(picture.svg().contains("A&lt;") && picture.svg().ends_with("</svg>"));
        let png = picture.png();
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        // header, palette, one stored block of 20 rows of 21 bytes, end
        assert_eq!(png.len(), 8 + (12 + 13) + (12 + 27) + (12 + 2 + 5 + 20 * 21 + 4) + 12);
        let mut raster = Raster::new(40, 20);
        raster.text((10.0, 12.0), "I", Ink::Text, Anchor::Start, 1);
        assert_eq!(raster.pixels.iter().filter(|&&p| p == Ink::Text as u8).count(), 11);
    }

    #[test]
    fn checksums_are_the_usual_ones() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        let mut end = Vec::new();
        chunk(&mut end, b"IEND", &[]);
        assert_eq!(end[8..], [0xae, 0x42, 0x60, 0x82]);
    }
}
