//! The three pictures of the page as SVG: a cycle, a histogram of voltages, harmonics with their limits.

use maud::{Markup, html};
use metering::frame::{CYCLE_POINTS_MAX, Cycle};
use metrology::host::limits::En50160;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 52.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 28.0;
/// Bins of the histogram, and the share of the declared voltage that they span.
const BINS: usize = 64;
const SPAN: f64 = 0.28;

fn view() -> String {
    format!("0 0 {WIDTH} {HEIGHT}")
}

fn short(value: f64) -> String {
    format!("{value:.1}")
}

/// A round value not below `value`.
fn round_up(value: f64) -> f64 {
    let unit = 10f64.powf(value.max(1e-3).log10().floor());
    [1.0, 2.0, 2.5, 4.0, 5.0, 8.0, 10.0].into_iter().map(|k| k * unit).find(|&k| k >= value).unwrap_or(10.0 * unit)
}

/// One cycle: voltage to the left scale, current to the right one.
pub fn waveform(cycle: &Cycle, length_ms: f64) -> Markup {
    let points = cycle.voltage_dv.len().min(cycle.current_ca.len()).min(CYCLE_POINTS_MAX);
    if points < 2 {
        return html! { p.none { "The cycle holds no points." } };
    }
    let volts: Vec<f64> = cycle.voltage_dv[..points].iter().map(|&v| f64::from(v) / 10.0).collect();
    let amperes: Vec<f64> = cycle.current_ca[..points].iter().map(|&i| f64::from(i) / 100.0).collect();
    let peak = |values: &[f64]| values.iter().fold(0.0_f64, |top, v| top.max(v.abs()));
    let (top_v, top_a) = (round_up(peak(&volts)), round_up(peak(&amperes).max(0.05)));
    let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let middle = TOP + height / 2.0;
    let line = |values: &[f64], top: f64| -> String {
        // the first point again at the end: a whole cycle
        let closed = values.iter().chain(values.first()).enumerate();
        closed
            .map(|(k, value)| {
                let x = LEFT + width * k as f64 / points as f64;
                format!("{x:.1},{:.1} ", middle - value / top * height / 2.0)
            })
            .collect()
    };
    let label = format!("one cycle: voltage to {:.0} V, current to {:.2} A", peak(&volts), peak(&amperes));
    html! {
        svg.still viewBox=(view()) role="img" aria-label=(label) {
            @for (k, share) in [1.0, 0.5, -0.5, -1.0].into_iter().enumerate() {
                @let y = short(middle - share * height / 2.0);
                line.rule x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
                text.t-dim x=(LEFT - 6.0) y=(short(middle - share * height / 2.0 + 4.0)) text-anchor="end" { (format!("{:.0}", share * top_v)) }
                text.t-dim x=(WIDTH - RIGHT + 6.0) y=(short(middle - share * height / 2.0 + 4.0)) { (format!("{:.1}", share * top_a)) }
                @if k == 0 {
                    text x=(LEFT) y="12" { tspan.t-metered { "— voltage, V" } }
                    text x=(WIDTH - RIGHT) y="12" text-anchor="end" { tspan.t-gap { "╌ current, A" } }
                }
            }
            line.zero x1=(LEFT) x2=(WIDTH - RIGHT) y1=(short(middle)) y2=(short(middle)) {}
            polyline.s-metered.thick points=(line(&volts, top_v)) {}
            polyline.s-gap.thick.dashed points=(line(&amperes, top_a)) {}
            text.t-dim x=(LEFT) y=(HEIGHT - 8.0) { "0 ms" }
            text.t-dim x=(WIDTH - RIGHT) y=(HEIGHT - 8.0) text-anchor="end" { (format!("{length_ms:.2} ms")) }
        }
    }
}

/// How often which voltage occurred, with the limits of ±10 %.
pub fn histogram(voltages: &[f64], declared: f64) -> Markup {
    let (first, bin_v) = (declared * (1.0 - SPAN / 2.0), declared * SPAN / BINS as f64);
    let mut bins = [0_u32; BINS];
    for volts in voltages {
        let bin = ((volts - first) / bin_v).clamp(0.0, BINS as f64 - 1.0) as usize;
        bins[bin] += 1;
    }
    let most = f64::from(bins.iter().copied().max().unwrap_or(0).max(1));
    let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let x = |volts: f64| LEFT + (volts - first) / (declared * SPAN) * width;
    let base = TOP + height;
    let outside = voltages.iter().filter(|v| (*v / declared - 1.0).abs() > 0.1).count();
    let label = format!("voltages of {} intervals, {outside} outside ±10 %", voltages.len());
    html! {
        svg.still viewBox=(view()) role="img" aria-label=(label) {
            @for (k, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
                @let tall = f64::from(*count) / most * height;
                rect.f-metered x=(short(x(first + k as f64 * bin_v) + 0.5)) y=(short(base - tall)) width=(short(width / BINS as f64 - 1.0)) height=(short(tall)) {}
            }
            line.zero x1=(LEFT) x2=(WIDTH - RIGHT) y1=(base) y2=(base) {}
            @for volts in [declared * 0.9, declared, declared * 1.1] {
                @let at = short(x(volts));
                @if volts != declared { line.limit x1=(at) x2=(at) y1=(TOP) y2=(base) {} }
                text.t-dim x=(at) y=(HEIGHT - 8.0) text-anchor="middle" { (format!("{volts:.0} V")) }
            }
            text.t-dim x=(LEFT - 6.0) y=(TOP + 10.0) text-anchor="end" { (format!("{most:.0}")) }
            text.t-dim x=(short(x(declared * 0.9) - 4.0)) y=(TOP - 8.0) text-anchor="middle" { "−10 %" }
            text.t-dim x=(short(x(declared * 1.1) + 4.0)) y=(TOP - 8.0) text-anchor="middle" { "+10 %" }
        }
    }
}

/// Bars of orders 2 to 25 in percent of the fundamental, with the limit of each order as a tick.
pub fn harmonics(values_pct: &[f64], limits: &En50160) -> Markup {
    const WIDE: f64 = 1_120.0;
    let orders = 2..=25_usize;
    let shown: Vec<(usize, Option<f64>, Option<f64>)> =
        orders.map(|order| (order, values_pct.get(order - 2).copied(), limits.harmonic_pct(order))).collect();
    let top = shown.iter().flat_map(|(_, value, limit)| [*value, *limit]).flatten().fold(1.0, f64::max);
    let top = round_up(top);
    let (width, height) = (WIDE - LEFT - 12.0, HEIGHT - TOP - BOTTOM);
    let base = TOP + height;
    let slot = width / shown.len() as f64;
    let y = |pct: f64| base - pct / top * height;
    let over = shown.iter().filter(|(_, value, limit)| matches!((value, limit), (Some(v), Some(l)) if v > l)).count();
    let label = format!("voltage harmonics 2 to 25, {over} above their limit");
    html! {
        div.scroll tabindex="0" role="group" aria-label=(label) { svg.still.wide viewBox=(format!("0 0 {WIDE} {HEIGHT}")) role="img" aria-label=(label) {
            @for share in [0.5, 1.0] {
                line.rule x1=(LEFT) x2=(WIDE - 12.0) y1=(short(y(share * top))) y2=(short(y(share * top))) {}
                text.t-dim x=(LEFT - 6.0) y=(short(y(share * top) + 4.0)) text-anchor="end" { (format!("{:.1} %", share * top)) }
            }
            @for (k, (order, value, limit)) in shown.iter().enumerate() {
                @let left = LEFT + slot * k as f64;
                @if let Some(value) = value {
                    @let above = limit.is_some_and(|limit| *value > limit);
                    rect class=(if above { "f-gap" } else { "f-metered" }) x=(short(left + slot * 0.24)) y=(short(y(*value))) width=(short(slot * 0.52)) height=(short(base - y(*value))) {
                        title { "order " (order) ": " (format!("{value:.2}")) " %" @if let Some(limit) = limit { ", limit " (limit) " %" } }
                    }
                }
                @if let Some(limit) = limit {
                    line.limit x1=(short(left + slot * 0.1)) x2=(short(left + slot * 0.9)) y1=(short(y(*limit))) y2=(short(y(*limit))) {}
                }
                text.t-dim x=(short(left + slot / 2.0)) y=(HEIGHT - 8.0) text-anchor="middle" { (order) }
            }
            line.zero x1=(LEFT) x2=(WIDE - 12.0) y1=(base) y2=(base) {}
        } }
    }
}
