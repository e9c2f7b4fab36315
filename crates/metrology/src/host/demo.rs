//! Pictures of a measured signal: waveform, spectrum against the EN 50160 limits, and the meter's display.
//!
//! SVG as text; colours follow the reader's light or dark setting. Everything drawn comes out of the real core, except
//! the waveform, which is the signal that went in.

use core::fmt::Write;

use crate::host::limits;
use crate::host::synthesis::{Line, Wave};
use crate::host::vectors::{Measurement, Vector, VectorError};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 36.0;
const TOP: f64 = 34.0;
const STYLE: &str = "<style>svg{font:12px system-ui,sans-serif;background:#fff;color:#1c2733}text{fill:currentColor}\
.v{fill:none;stroke:#0b6bcb;stroke-width:2}.i{fill:none;stroke:#c2410c;stroke-width:2}.g{stroke:#8884;fill:none}\
.bv{fill:#0b6bcb}.bi{fill:#c2410c}.lim{stroke:#b91c1c;stroke-width:1.5;fill:none}\
@media(prefers-color-scheme:dark){svg{background:#11181f;color:#e6edf3}.v{stroke:#6cb6ff}.bv{fill:#6cb6ff}\
.i{stroke:#ff9a5c}.bi{fill:#ff9a5c}.lim{stroke:#ff7b72}}</style>";

/// A household with LED lamps and switched supplies on a slightly distorted network.
pub fn household() -> Vector {
    Vector {
        id: "household".to_owned(),
        f_hz: 49.97,
        fs_hz: 8000.0,
        duration_s: 2.0,
        v_harm: vec![(1.0, 231.2, 0.0), (3.0, 2.1, 150.0), (5.0, 5.2, -20.0), (7.0, 2.6, 95.0), (11.0, 1.1, 10.0)],
        i_harm: vec![
            (1.0, 5.4, -14.0),
            (3.0, 1.9, 165.0),
            (5.0, 1.1, -15.0),
            (7.0, 0.6, 160.0),
            (9.0, 0.35, -8.0),
            (11.0, 0.2, 170.0),
        ],
        ..Vector::default()
    }
}

fn open(title: &str, description: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{title}: {description}\"><title>{title}</title>{STYLE}\
         <text x=\"{LEFT}\" y=\"20\" font-weight=\"600\">{title}</text>"
    )
}

/// Text made safe for SVG.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn value_at(lines: &[(f64, f64, f64)], dc: f64, f: f64, t: f64) -> f64 {
    let line = |l: &(f64, f64, f64)| {
        let line = Line { hertz: l.0 * f, rms: l.1, degrees: l.2 };
        line.rms
            * core::f64::consts::SQRT_2
            * (core::f64::consts::TAU * line.hertz * t + line.degrees.to_radians()).sin()
    };
    dc + lines.iter().map(line).sum::<f64>()
}

fn waveform(vector: &Vector) -> String {
    let mut svg = open("Waveform", "two cycles of voltage and current");
    let span = 2.0 / vector.f_hz;
    let plot = (WIDTH - 2.0 * LEFT, HEIGHT - TOP - BOTTOM);
    let middle = TOP + plot.1 / 2.0;
    let mut curve = |class: &str, lines: &[(f64, f64, f64)], dc: f64, unit: &str, x_label: f64, anchor: &str| {
        let lines_of = |l: &(f64, f64, f64)| Line { hertz: l.0 * vector.f_hz, rms: l.1, degrees: l.2 };
        let wave = Wave { dc, lines: lines.iter().map(lines_of).collect(), noise: 0.0 };
        let peak = wave.peak().max(1e-9);
        let mut points = String::new();
        for k in 0..=400 {
            let t = span * f64::from(k) / 400.0;
            let x = LEFT + plot.0 * f64::from(k) / 400.0;
            let y = middle - value_at(lines, dc, vector.f_hz, t) / peak * plot.1 / 2.0;
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
        let _ = write!(
            svg,
            "<polyline class=\"{class}\" points=\"{points}\"/><text x=\"{x_label}\" y=\"{:.0}\" \
             text-anchor=\"{anchor}\">±{peak:.1} {unit}</text>",
            TOP - 4.0
        );
    };
    curve("v", &vector.v_harm, vector.v_dc, "V (blue)", WIDTH - LEFT - 140.0, "end");
    curve("i", &vector.i_harm, vector.i_dc, "A (orange)", WIDTH - LEFT, "end");
    let _ = write!(
        svg,
        "<path class=\"g\" d=\"M{LEFT},{middle}H{}\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{:.1} ms</text></svg>",
        WIDTH - LEFT,
        WIDTH - LEFT,
        HEIGHT - 12.0,
        span * 1000.0
    );
    svg
}

fn spectrum(run: &Measurement) -> String {
    let mut svg = open("Harmonics", "orders 2 to 25 in percent of the fundamental, with the EN 50160 limits");
    let Some(window) = run.windows.last() else { return svg + "</svg>" };
    let limits = limits::en50160();
    let share = |groups: &[u32], order: usize| {
        if groups[0] == 0 { 0.0 } else { f64::from(groups[order - 1]) / f64::from(groups[0]) * 100.0 }
    };
    let (v, i) = (&window.voltage.subgroup, &window.current.subgroup);
    let plot = (WIDTH - 2.0 * LEFT, HEIGHT - TOP - BOTTOM);
    let top_v = (2..=25).map(|h| share(v, h)).fold(8.0, f64::max);
    let top_i = (2..=25).map(|h| share(i, h)).fold(10.0, f64::max);
    let slot = plot.0 / 24.0;
    for order in 2..=25usize {
        let x = LEFT + slot * (order - 2) as f64;
        let base = TOP + plot.1;
        let mut bar = |class: &str, dx: f64, height: f64| {
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
                x + dx,
                base - height,
                slot * 0.38
            );
        };
        bar("bv", slot * 0.08, share(v, order) / top_v * plot.1);
        bar("bi", slot * 0.50, share(i, order) / top_i * plot.1);
        if let Some(limit) = limits.harmonic_pct(order) {
            let y = base - (limit / top_v).min(1.0) * plot.1;
            let _ = write!(svg, "<path class=\"lim\" d=\"M{:.1},{y:.1}h{:.1}\"/>", x + slot * 0.04, slot * 0.46);
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{order}</text>",
            x + slot / 2.0,
            HEIGHT - 14.0
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"20\" text-anchor=\"end\">voltage to {top_v:.0} % (blue), current to {top_i:.0} % (orange), \
         limit EN 50160 (red)</text></svg>",
        WIDTH - LEFT
    );
    svg
}

/// The two lines of a 16-character display for each page.
fn display_pages(run: &Measurement) -> Vec<[String; 2]> {
    let Some(w) = run.windows.last() else { return vec![["no measurement".to_owned(), String::new()]] };
    let kilo = |micro: i64| micro as f64 * 1e-9;
    let frequency = w.frequency_uhz.map_or("--".to_owned(), |f| format!("{:.2}", f64::from(f) * 1e-6));
    let pf = w.pf_ppm().map_or("--".to_owned(), |p| format!("{:.3}", f64::from(p) * 1e-6));
    vec![
        ["1.0.32.7.0  V".to_owned(), format!("{:>16.1}", f64::from(w.vrms_uv) * 1e-6)],
        ["1.0.31.7.0  A".to_owned(), format!("{:>16.3}", f64::from(w.irms_ua) * 1e-6)],
        ["1.0.1.7.0  kW".to_owned(), format!("{:>16.3}", kilo(w.p_uw))],
        ["1.0.13.7.0 PF".to_owned(), format!("{pf:>16}")],
        ["1.0.14.7.0 Hz".to_owned(), format!("{frequency:>16}")],
        ["1.0.1.8.0 kWh".to_owned(), format!("{:>16.6}", run.registers.import.micro as f64 * 1e-9)],
    ]
}

fn display(run: &Measurement) -> String {
    let pages = display_pages(run);
    let mut svg = open("Display", "pages of the meter's 16 by 2 display");
    for (k, page) in pages.iter().enumerate() {
        let x = LEFT + (k % 3) as f64 * 220.0;
        let y = TOP + 12.0 + (k / 3) as f64 * 120.0;
        let _ = write!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"206\" height=\"84\" rx=\"6\" fill=\"#7fa33a\" stroke=\"#3d4f1c\" \
             stroke-width=\"5\"/>"
        );
        for (line, text) in page.iter().enumerate() {
            let _ = write!(
                svg,
                "<text x=\"{}\" y=\"{}\" xml:space=\"preserve\" textLength=\"180\" lengthAdjust=\"spacingAndGlyphs\" \
                 style=\"font:18px ui-monospace,monospace;fill:#1a2408\">{}</text>",
                x + 13.0,
                y + 35.0 + line as f64 * 28.0,
                escape(&format!("{text:<16}"))
            );
        }
    }
    svg + "</svg>"
}

/// File names and pictures of a measured vector.
pub fn pictures(vector: &Vector, run: &Measurement) -> Result<[(&'static str, String); 3], VectorError> {
    if run.windows.is_empty() {
        return Err(VectorError::Signal(vector.id.clone(), "too short for one window"));
    }
    Ok([("waveform.svg", waveform(vector)), ("spectrum.svg", spectrum(run)), ("display.svg", display(run))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_show_what_was_measured() {
        let vector = household();
        let run = crate::host::vectors::run(&vector, 230.0).unwrap_or_else(|e| panic!("{e}"));
        let pictures = pictures(&vector, &run).unwrap_or_else(|e| panic!("{e}"));
        assert!(pictures.iter().all(|(_, svg)| svg.starts_with("<svg") && svg.ends_with("</svg>")));
        assert!(pictures[2].1.contains("49.97"));
        assert!(pictures[2].1.contains("231.3"));
    }
}
