//! Pictures of a measured signal: waveform, spectrum against the EN 50160 limits, and the meter's display.
//!
//! Everything drawn comes out of the real core, except the waveform, which is the signal that went in.

use crate::host::limits;
use crate::host::picture::{Anchor, Ink, Picture};
use crate::host::synthesis::{Line, Wave};
use crate::host::vectors::{Measurement, Vector, VectorError};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 36.0;
const TOP: f64 = 34.0;

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

fn sheet(title: &str, description: &str) -> Picture {
    let mut picture = Picture::new(WIDTH as u32, HEIGHT as u32, title, description);
    picture.text((LEFT, 20.0), title, Ink::Text, Anchor::Start, 1);
    picture
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

fn waveform(vector: &Vector) -> Picture {
    let mut picture = sheet("Waveform", "two cycles of voltage and current");
    let span = 2.0 / vector.f_hz;
    let plot = (WIDTH - 2.0 * LEFT, HEIGHT - TOP - BOTTOM);
    let middle = TOP + plot.1 / 2.0;
    picture.curve(vec![(LEFT, middle), (WIDTH - LEFT, middle)], Ink::Grid, 1.0);
    let mut curve = |ink: Ink, lines: &[(f64, f64, f64)], dc: f64, unit: &str, label: f64| {
        let lines_of = |l: &(f64, f64, f64)| Line { hertz: l.0 * vector.f_hz, rms: l.1, degrees: l.2 };
        let wave = Wave { dc, lines: lines.iter().map(lines_of).collect(), noise: 0.0 };
        let peak = wave.peak().max(1e-9);
        let point = |k: u32| {
            let share = f64::from(k) / 400.0;
            let value = value_at(lines, dc, vector.f_hz, span * share);
            (LEFT + plot.0 * share, middle - value / peak * plot.1 / 2.0)
        };
        picture.curve((0..=400).map(point).collect(), ink, 2.0);
        picture.text((label, 20.0), format!("to {peak:.1} {unit}"), ink, Anchor::End, 1);
    };
    curve(Ink::Voltage, &vector.v_harm, vector.v_dc, "V", WIDTH - LEFT - 110.0);
    curve(Ink::Current, &vector.i_harm, vector.i_dc, "A", WIDTH - LEFT);
    picture.text((LEFT, HEIGHT - 12.0), "0 ms", Ink::Text, Anchor::Start, 1);
    picture.text((WIDTH - LEFT, HEIGHT - 12.0), format!("{:.1} ms", span * 1000.0), Ink::Text, Anchor::End, 1);
    picture
}

fn spectrum(run: &Measurement) -> Picture {
    let limits = limits::en50160();
    let caveat = limits::caveat(limits.checked_against_standard);
    let about = format!("orders 2 to 25 in percent of the fundamental, with the EN 50160 limits{caveat}");
    let mut picture = sheet("Harmonics", &about);
    let Some(window) = run.windows.last() else { return picture };
    let share = |groups: &[u32], order: usize| {
        if groups[0] == 0 { 0.0 } else { f64::from(groups[order - 1]) / f64::from(groups[0]) * 100.0 }
    };
    let (v, i) = (&window.voltage.subgroup, &window.current.subgroup);
    let plot = (WIDTH - 2.0 * LEFT, HEIGHT - TOP - BOTTOM);
    let top_v = (2..=25).map(|h| share(v, h)).fold(8.0, f64::max);
    let top_i = (2..=25).map(|h| share(i, h)).fold(10.0, f64::max);
    let slot = plot.0 / 24.0;
    let base = TOP + plot.1;
    picture.curve(vec![(LEFT, base), (WIDTH - LEFT, base)], Ink::Grid, 1.0);
    for order in 2..=25usize {
        let x = LEFT + slot * (order - 2) as f64;
        let mut bar = |ink: Ink, dx: f64, height: f64| {
            picture.fill((x + dx, base - height), (slot * 0.38, height), ink);
        };
        bar(Ink::Voltage, slot * 0.08, share(v, order) / top_v * plot.1);
        bar(Ink::Current, slot * 0.50, share(i, order) / top_i * plot.1);
        if let Some(limit) = limits.harmonic_pct(order) {
            let y = base - (limit / top_v).min(1.0) * plot.1;
            picture.curve(vec![(x + slot * 0.04, y), (x + slot * 0.5, y)], Ink::Limit, 2.0);
        }
        picture.text((x + slot / 2.0, HEIGHT - 14.0), order.to_string(), Ink::Text, Anchor::Middle, 1);
    }
    let (voltage, current) = (format!("voltage to {top_v:.0} %"), format!("current to {top_i:.0} %"));
    picture.text((WIDTH - LEFT - 330.0, 20.0), voltage, Ink::Voltage, Anchor::End, 1);
    picture.text((WIDTH - LEFT - 185.0, 20.0), current, Ink::Current, Anchor::End, 1);
    let limit = if limits.checked_against_standard { "limit EN 50160" } else { "EN 50160, unchecked" };
    picture.text((WIDTH - LEFT, 20.0), limit, Ink::Limit, Anchor::End, 1);
    picture
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

fn display(run: &Measurement) -> Picture {
    let pages = display_pages(run);
    let mut picture = sheet("Display", "pages of the meter's 16 by 2 display");
    for (k, page) in pages.iter().enumerate() {
        let x = LEFT - 10.0 + (k % 3) as f64 * 226.0;
        let y = TOP + 12.0 + (k / 3) as f64 * 120.0;
        picture.fill((x, y), (214.0, 84.0), Ink::Frame);
        picture.fill((x + 6.0, y + 6.0), (202.0, 72.0), Ink::Glass);
        for (line, text) in page.iter().enumerate() {
            let at = (x + 12.0, y + 34.0 + line as f64 * 30.0);
            picture.text(at, format!("{text:<16}"), Ink::Dots, Anchor::Start, 2);
        }
    }
    picture
}

/// Names (without ending) and pictures of a measured vector.
pub fn pictures(vector: &Vector, run: &Measurement) -> Result<[(&'static str, Picture); 3], VectorError> {
    if run.windows.is_empty() {
        return Err(VectorError::Signal(vector.id.clone(), "too short for one window"));
    }
    Ok([("waveform", waveform(vector)), ("spectrum", spectrum(run)), ("display", display(run))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_show_what_was_measured() {
        let vector = household();
        let run = crate::host::vectors::run(&vector, 230.0).unwrap_or_else(|e| panic!("{e}"));
        let pictures = pictures(&vector, &run).unwrap_or_else(|e| panic!("{e}"));
        let svg: Vec<String> = pictures.iter().map(|(_, picture)| picture.svg()).collect();
        assert!(svg.iter().all(|svg| svg.starts_with("<svg") && svg.ends_with("</svg>")));
        assert!(svg[2].contains("49.97") && svg[2].contains("231.3"));
        assert!(pictures.iter().all(|(_, picture)| picture.png().len() > 100_000));
    }
}
