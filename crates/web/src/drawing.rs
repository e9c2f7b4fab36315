//! Small pictures rendered by the server as SVG: they work in print, without scripts, and in tests by their text.

use maud::{Markup, html};

/// The hatch of what is unaccounted; once a page.
pub fn hatch() -> Markup {
    html! {
        svg.visually-hidden width="0" height="0" aria-hidden="true" { defs { pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
            line class="hatch-line" x1="0" y1="0" x2="0" y2="6" {}
        } } }
    }
}

/// A line through values at equal steps; a hole where a value is not known; on a band of ± what is uncertain around zero.
pub fn sparkline(values: &[Option<f64>], uncertain: f64, what: &str) -> Markup {
    const WIDTH: f64 = 120.0;
    const HEIGHT: f64 = 28.0;
    let known: Vec<f64> = values.iter().flatten().copied().filter(|v| v.is_finite()).collect();
    if known.len() < 2 {
        return html! { span.none { "–" } };
    }
    let low = known.iter().copied().fold(-1.5 * uncertain, f64::min);
    let high = known.iter().copied().fold(1.5 * uncertain, f64::max);
    let span = if high > low { high - low } else { 1.0 };
    let y = |value: f64| HEIGHT - 2.0 - (value - low) / span * (HEIGHT - 4.0);
    let step = WIDTH / f64::from(u32::try_from(values.len().max(2) - 1).unwrap_or(u32::MAX));
    let mut path = String::new();
    let mut x = 0.0;
    let mut pen_down = false;
    for value in values {
        match value.filter(|v| v.is_finite()) {
            Some(value) => {
                path.push_str(&format!("{}{x:.1} {:.1}", if pen_down { "L" } else { "M" }, y(value)));
                pen_down = true;
            }
            None => pen_down = false,
        }
        x += step;
    }
    html! {
        svg width="120" height="28" viewBox="0 0 120 28" role="img" aria-label=(what) {
            rect.spark-band x="0" width="120" y=(format!("{:.1}", y(uncertain))) height=(format!("{:.1}", y(-uncertain) - y(uncertain))) {}
            line.zero x1="0" x2="120" y1=(format!("{:.1}", y(0.0))) y2=(format!("{:.1}", y(0.0))) {}
            path.s-gap d=(path) {}
        }
    }
}

/// The weight of a piece of evidence as a bar, full at `full`.
pub fn weigh_bar(weight: f64, full: f64, is_for: bool) -> Markup {
    let width = (weight / full).clamp(0.0, 1.0) * 90.0;
    html! {
        svg.weigh viewBox="0 0 90 8" aria-hidden="true" {
            rect.track width="90" height="8" rx="2" {}
            rect class=(if is_for { "w-for" } else { "w-against" }) width=(format!("{width:.0}")) height="8" rx="2" {}
        }
    }
}

/// Which segments a character lights: a top, b c right, d bottom, e f left, g middle.
fn segments(character: char) -> u8 {
    match character {
        '0' => 0b011_1111,
        '1' => 0b000_0110,
        '2' => 0b101_1011,
        '3' => 0b100_1111,
        '4' => 0b110_0110,
        '5' => 0b110_1101,
        '6' => 0b111_1101,
        '7' => 0b000_0111,
        '8' => 0b111_1111,
        '9' => 0b110_1111,
        '-' => 0b100_0000,
        _ => 0,
    }
}

/// Corners of the seven segments in a cell of 20 × 36.
const SEGMENTS: [&str; 7] = [
    "3,1 17,1 14,5 6,5",
    "18,2 18,17 14,15 14,6",
    "18,19 18,34 14,30 14,21",
    "3,35 17,35 14,31 6,31",
    "2,19 2,34 6,30 6,21",
    "2,2 2,17 6,15 6,6",
    "3,18 6,16 14,16 17,18 14,20 6,20",
];

/// What the display of a meter shows: one value with its OBIS code, unit and signs.
#[derive(Debug)]
pub struct Lcd<'a> {
    /// Digits with at most one point, e.g. `001234.567`; `None` when nothing is known.
    pub value: Option<&'a str>,
    /// Its unit.
    pub unit: &'a str,
    /// OBIS code of the value.
    pub obis: &'a str,
    /// Name on the front plate.
    pub name: &'a str,
    /// Words lit below: the annunciators.
    pub signs: &'a [String],
}

impl Lcd<'_> {
    /// The picture; its text is in the label.
    pub fn draw(&self) -> Markup {
        let shown = self.value.unwrap_or("---");
        let digits: Vec<(char, bool)> = digits(shown);
        let first = 9_usize.saturating_sub(digits.len());
        let label = match self.value {
            Some(value) => format!("display: {value} {} ({})", self.unit, self.obis),
            None => "display: no reading yet".to_owned(),
        };
        html! {
            svg.lcd viewBox="0 0 360 150" role="img" aria-label=(label) {
                rect.frame x="0" y="0" width="360" height="150" rx="10" {}
                text.brandline x="16" y="138" { (self.name) }
                rect.glass x="12" y="12" width="336" height="108" rx="4" {}
                text x="22" y="30" { (self.obis) }
                text x="338" y="30" text-anchor="end" { (self.signs.join("  ")) }
                @for cell in 0..9_usize {
                    g transform=(format!("translate({} 46) scale(1.5)", 20 + cell * 32)) {
                        @let lit = cell.checked_sub(first).and_then(|i| digits.get(i));
                        @let mask = lit.map_or(0, |(character, _)| segments(*character));
                        @for (bit, corners) in SEGMENTS.iter().enumerate() {
                            polygon class=(if mask >> bit & 1 == 1 { "seg" } else { "ghost" }) points=(corners) {}
                        }
                        @if lit.is_some_and(|(_, point)| *point) { circle.seg cx="20.6" cy="34" r="1.8" {} }
                    }
                }
                text x="312" y="98" { (self.unit) }
            }
        }
    }
}

/// Each digit with whether a point follows it.
fn digits(text: &str) -> Vec<(char, bool)> {
    let mut out: Vec<(char, bool)> = Vec::new();
    for character in text.chars() {
        match character {
            '.' => {
                if let Some(last) = out.last_mut() {
                    last.1 = true;
                }
            }
            other => out.push((other, false)),
        }
    }
    out
}

/// One cell of the fleet picture.
#[derive(Debug)]
pub struct FleetCell {
    /// The meter, also the link.
    pub meter: String,
    /// Class: `c-on`, `c-off`, `c-open` or `c-tamper`.
    pub class: &'static str,
    /// The state in words.
    pub word: &'static str,
}

/// A grid with one cell a meter.
pub fn fleet(cells: &[FleetCell]) -> Markup {
    const PER_ROW: usize = 40;
    let rows = cells.len().div_ceil(PER_ROW);
    html! {
        svg.fleet viewBox=(format!("0 0 {} {}", PER_ROW * 14, rows * 14)) role="group" aria-label="All meters, one cell each" {
            @for (i, cell) in cells.iter().enumerate() {
                a href=(format!("/meters/{}", cell.meter)) aria-label=(format!("{} {}", cell.meter, cell.word)) {
                    rect class=(cell.class) x=(i % PER_ROW * 14 + 1) y=(i / PER_ROW * 14 + 1) width="12" height="12" rx="2" {
                        title { (cell.meter) ": " (cell.word) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_in_a_line_stays_a_hole() {
        let drawn = sparkline(&[Some(1.0), None, Some(2.0), Some(3.0)], 0.5, "x").into_string();
        assert_eq!(drawn.matches('M').count(), 2);
        assert!(sparkline(&[None, Some(1.0)], 0.5, "x").into_string().contains('–'));
    }

    #[test]
    fn the_display_says_what_it_shows_and_shows_nothing_as_dashes() {
        let lcd = |value| Lcd { value, unit: "kWh", obis: "1.8.0", name: "M-1", signs: &[] }.draw().into_string();
        assert!(lcd(Some("1234.567")).contains("display: 1234.567 kWh (1.8.0)"));
        let dark = lcd(None);
        assert!(dark.contains("no reading yet") && dark.matches("class=\"seg\"").count() == 3);
    }
}
