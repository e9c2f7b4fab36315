//! The one-line diagram of the overview: feeder, transformers, branches as a tree, each with what became of its energy in the last
//! 24 hours.

use std::collections::BTreeMap;

use maud::{Markup, html};
use metering::ZoneId;

use super::overview::ZoneView;
use crate::{layout, live::Values, totals::Totals};

/// Most zones drawn; with more the table serves better.
pub const ZONES_MAX: usize = 60;
const ROW: usize = 62;
const INDENT: usize = 48;
const BOX_WIDTH: usize = 150;
const BAR_X: usize = 310;
const BAR_WIDTH: f64 = 280.0;
const TEXT_X: usize = 604;
const WIDTH: usize = 790;

/// What the parts of a bar mean.
pub fn legend() -> Markup {
    html! {
        span.legend {
            span { span.key.metered aria-hidden="true" {} "metered" }
            span { span.key.technical aria-hidden="true" {} "technical" }
            span { span.key.gap aria-hidden="true" {} "unaccounted" }
            span { "share of the energy supplied in 24 h" }
        }
    }
}

/// Positions of the parts of a zone's bar.
pub fn put_bar(values: &mut Values, zone: ZoneId, day: &Totals) {
    let whole = day.supplied_wh.max(day.metered_wh + day.technical_wh).max(1.0);
    let part = |wh: f64| (wh.max(0.0) / whole * BAR_WIDTH).clamp(0.0, BAR_WIDTH);
    let x0 = f64::from(u32::try_from(BAR_X).unwrap_or(0));
    let (metered, technical, gap) = (part(day.metered_wh), part(day.technical_wh), part(day.unaccounted_wh));
    let mut bar = |name: &str, x: f64, width: f64| {
        values.attr(format!("bar:{zone}:{name}"), "x", format!("{:.1}", x0 + x));
        values.attr(format!("bar:{zone}:{name}"), "width", format!("{width:.1}"));
    };
    bar("m", 0.0, metered);
    bar("t", metered, technical);
    bar("g", metered + technical, gap);
}

/// The diagram.
pub fn draw(views: &[ZoneView], values: &Values, alarmed: &BTreeMap<ZoneId, usize>) -> Markup {
    if views.is_empty() {
        return layout::empty("Nothing to draw", "Import the topology first.");
    }
    if views.len() > ZONES_MAX {
        return layout::empty("Too many zones for one picture", "The table below has them all.");
    }
    let rows: BTreeMap<ZoneId, usize> = views.iter().enumerate().map(|(row, view)| (view.zone.zone, row)).collect();
    html! {
        div.scroll tabindex="0" role="group" aria-labelledby="diagram" {
            svg.oneline viewBox=(format!("0 0 {WIDTH} {}", views.len() * ROW + 8)) role="group" aria-labelledby="diagram" {
                @for (row, view) in views.iter().enumerate() {
                    @if let Some(parent) = view.zone.parent.and_then(|parent| rows.get(&parent)) { (wire(*parent, row, view.depth)) }
                }
                @for (row, view) in views.iter().enumerate() { (zone(view, row, values, alarmed.contains_key(&view.zone.zone))) }
            }
        }
    }
}

fn x_of(depth: usize) -> usize {
    20 + depth.min(3) * INDENT
}

fn y_of(row: usize) -> usize {
    row * ROW + ROW / 2 + 4
}

fn wire(parent_row: usize, row: usize, depth: usize) -> Markup {
    let x = x_of(depth.saturating_sub(1)) + 28;
    html! { path.wire d=(format!("M{x} {} V{} H{}", y_of(parent_row) + 22, y_of(row), x_of(depth))) {} }
}

fn zone(view: &ZoneView, row: usize, values: &Values, alarmed: bool) -> Markup {
    let zone = view.zone.zone;
    let (x, y) = (x_of(view.depth), y_of(row));
    let bar = |part: &str, class: &str| {
        let key = format!("bar:{zone}:{part}");
        html! { rect class=(class) data-k=(key) x=(values.attr_of(&key, "x")) width=(values.attr_of(&key, "width")) y=(y - 12) height="16" {} }
    };
    let text = |part: &str| {
        let key = format!("{zone}:{part}");
        html! { tspan data-k=(key) { (values.of(&key)) } }
    };
    html! {
        a href={ "/zones/" (zone) } {
            rect class=(if alarmed { "box alarm" } else { "box" }) x=(x) y=(y - 22) width=(BOX_WIDTH) height="44" rx="6" {}
            (symbol(view, x + 20, y))
            text.t-strong x=(x + 42) y=(y - 3) { (zone) @if alarmed { tspan.t-gap dx="8" { "▲ case" } } }
            text.t-dim x=(x + 42) y=(y + 13) { (view.zone.kind.word())  }
        }
        line.wire x1=(x + BOX_WIDTH) y1=(y) x2=(BAR_X - 8) y2=(y) stroke-dasharray="1 4" {}
        @if view.day.is_some() {
            rect.track x=(BAR_X) y=(y - 12) width=(BAR_WIDTH) height="16" {}
            (bar("m", "f-metered")) (bar("t", "f-technical")) (bar("g", "f-gap"))
            text.t-dim x=(BAR_X) y=(y + 19) { (text("supplied")) " kW now" }
            text x=(TEXT_X) y=(y - 1) class=(if view.day.as_ref().is_some_and(Totals::stands_out) { "t-gap" } else { "t-strong" }) { (text("gap-day")) " kWh" }
            text.t-dim x=(TEXT_X) y=(y + 15) { "± " (text("pm-day")) " · " (text("share-day")) " % of supplied" }
        } @else {
            text.t-dim x=(BAR_X) y=(y + 4) { "no data yet" }
        }
    }
}

/// Two circles for a transformer, a bar for a feeder, a dot for the rest.
fn symbol(view: &ZoneView, x: usize, y: usize) -> Markup {
    match view.zone.kind {
        registry::ZoneKind::Feeder => html! { line.bus x1=(x) y1=(y - 13) x2=(x) y2=(y + 13) {} },
        registry::ZoneKind::Transformer => html! {
            circle.wire cx=(x) cy=(y - 5) r="8" {} circle.wire cx=(x) cy=(y + 5) r="8" {}
        },
        registry::ZoneKind::Branch | registry::ZoneKind::Service => html! { circle.wire cx=(x) cy=(y) r="5" {} },
    }
}
