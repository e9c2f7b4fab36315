//! `GET /meters/{id}/quality`: waveform, harmonics against limits, and the power-quality report of the week.
//!
//! The report is EN 50160's, over the stored ten-minute values of the week; values touched by a disturbance are left out of the
//! statistics and counted. What was not measured is a dash and never passes.

mod picture;
mod week;

use axum::{
    extract::{Path, Query, State},
    http::HeaderMap,
};
use maud::{Markup, html};
use metering::{MeterId, Timestamp, frame::Cycle};
use metrology::host::{
    classify::{Depth, IticRegion, Length, dip_cell, ieee1159, itic},
    limits::{self, EventLimits},
};
use serde::Deserialize;
use store::StoredQuality;

use super::meter::is_known;
use crate::{
    auth::Staff,
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    state::AppState,
};
use week::{JUDGED_VALUES_MIN, Judged, Report, WEEK_VALUES};

/// Length of the period, seconds.
const WEEK: i64 = 7 * 86_400;
/// Rows of the table of disturbances.
const DIPS_MAX: usize = 200;

/// Which week.
#[derive(Debug, Deserialize)]
pub struct WeekQuery {
    /// End of the week, seconds since 1970 UTC; now without it.
    to: Option<i64>,
}

/// `GET /meters/{id}/quality`.
///
/// # Errors
/// When the caller is not staff, there is no such meter or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Staff(caller): Staff,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<WeekQuery>,
) -> Result<Markup, WebError> {
    let id = MeterId::new(&id).map_err(|_| WebError::NotFound)?;
    state.note_read(&caller, "quality.read", &format!("meter:{id}")).await;
    let frame = Frame::load(&state, caller, &headers).await?;
    let now = frame.now();
    let topology = state.store.topology(now).await?;
    if !is_known(&state, &topology, id).await? {
        return Err(WebError::NotFound);
    }
    let to = query.to.map_or(now, |to| Timestamp(to.clamp(WEEK, now.0.max(WEEK))));
    let values = state.store.quality(id, to.plus(-WEEK), to).await?;
    let body = html! {
        (head(id, to, now))
        @if values.is_empty() {
            section.card { (layout::empty("No power-quality values", "This meter has sent no ten-minute values in this week: its firmware does not measure them, or it was silent.")) }
        } @else {
            (sheet(&values, state.config.nominal_voltage.of_meter(&topology, id)))
        }
    };
    let title = format!("Power quality of {id}");
    Ok(frame.page(Page { title: &title, section: Section::Meters, topics: "", charts: false, body }))
}

fn head(id: MeterId, to: Timestamp, now: Timestamp) -> Markup {
    let path = format!("/meters/{id}/quality");
    html! {
        div.crumbs { a href="/meters" { "Meters" } " › " a href={ "/meters/" (id) } { (id) } " › Power quality" }
        div.head {
            div {
                h1 { "Power quality of " (id) }
                div.sub { "Week from " (format::date_minute(to.plus(-WEEK))) " to " (format::date_minute(to)) " UTC" }
            }
            div.actions {
                div.segmented role="group" aria-label="Week" {
                    a href=(format!("{path}?to={}", to.plus(-WEEK).0)) { "Week before" }
                    @if to < now { a href=(path) { "Latest week" } }
                }
            }
        }
    }
}

fn sheet(values: &[StoredQuality], declared_v: f64) -> Markup {
    let report = week::evaluate(values, declared_v);
    let cycle = values.iter().rev().find_map(|v| v.values.cycle.as_ref().map(|c| (v.values.end, c)));
    let dips = week::dips(values);
    html! {
        (figures(&report, dips.len()))
        div.cols.even {
            (waveform(cycle, report.cycle_ms))
            (voltage(&report))
        }
        (harmonics(&report))
        div.cols.even {
            (compliance(&report))
            (disturbances(&dips, report.nominal_hz))
        }
    }
}

fn figures(report: &Report, dips: usize) -> Markup {
    let failed = report.items.iter().filter(|item| item.judged == Judged::Fails).count();
    let judged = failed + report.items.iter().filter(|item| item.judged == Judged::Passes).count();
    let verdict = if failed > 0 {
        html! { span.badge.bad { "does not comply" } }
    } else if report.used < JUDGED_VALUES_MIN {
        html! { span.badge.warn { "provisional" } }
    } else {
        html! { span.badge.good { "complies" } }
    };
    html! {
        div.kpis {
            div.kpi { div.label { "EN 50160" } div.value { (verdict) } div.note { @if judged == 0 { "too early for a verdict" } @else { (failed) " of " (judged) " items outside" } } }
            div.kpi { div.label { "Values used" } div.value { (format::number(share(report.used) * 100.0, 1)) " " span.unit { "%" } } div.note { (report.used) " of " (WEEK_VALUES) "; " (report.flagged) " flagged" } }
            div.kpi { div.label { "Voltage" } div.value { (format::maybe(report.voltage_mean_v, 1)) " " span.unit { "V" } } div.note { "mean of the week; declared " (format::number(report.declared_v, 0)) } }
            div.kpi { div.label { "Distortion" } div.value { (format::maybe(report.thd_95_pct, 2)) " " span.unit { "%" } } div.note { "95 % of the week below" } }
            div.kpi { div.label { "Flicker Plt" } div.value { (format::maybe(report.plt_95, 2)) } div.note { @if report.plt_95.is_none() { "not measured" } @else { "95 % of the week below" } } }
            div.kpi { div.label { "Disturbances" } div.value { (dips) } div.note { "dips, swells, interruptions" } }
        }
    }
}

fn share(used: usize) -> f64 {
    used as f64 / WEEK_VALUES as f64
}

fn waveform(cycle: Option<(Timestamp, &Cycle)>, length_ms: f64) -> Markup {
    html! {
        section.card aria-labelledby="waveform" {
            header { h2 #waveform { "Waveform" } span.small.dim { @if let Some((end, _)) = cycle { "one cycle, " (format::date_minute(end)) " UTC" } } }
            @match cycle {
                Some((_, cycle)) => (picture::waveform(cycle, length_ms)),
                None => (layout::empty("No waveform", "This meter sends no cycle with its values.")),
            }
        }
    }
}

fn voltage(report: &Report) -> Markup {
    html! {
        section.card aria-labelledby="voltage" {
            header { h2 #voltage { "Ten-minute voltages" } span.small.dim { (report.used) " values; " (report.flagged) " flagged ones left out" } }
            (picture::histogram(&report.voltages_v, report.declared_v))
        }
    }
}

fn harmonics(report: &Report) -> Markup {
    let table = limits::en50160();
    html! {
        section.card aria-labelledby="harmonics" {
            header { h2 #harmonics { "Voltage harmonics" } span.small.dim { "value that 95 % of the week does not exceed; ticks are the limits" } }
            (picture::harmonics(&report.harmonics_95_pct, &table))
            p.small.dim { "IEEE 519 asks for 5 % each and 8 % in all up to 1 kV. Limits: " (table.provenance()) "." }
            @if !report.current_95_ma.is_empty() {
                details { summary { "Current harmonics" } (currents(report)) }
            }
        }
    }
}

/// Current harmonics of the week against the strictest row of IEEE 519.
fn currents(report: &Report) -> Markup {
    let table = limits::ieee519();
    let row = table.current_row(0.0);
    let load_a = report.load_a;
    html! {
        p.small.dim { "95 % values. The load current is the largest ten-minute fundamental of the week, " (format::maybe(load_a, 2)) " A. The short-circuit ratio here is not known: the limits are those of the strictest row (below 20)" (limits::caveat(table.checked_against_standard)) ". They are meant for a point of common coupling, not for one appliance's spectrum." }
        div.scroll tabindex="0" role="group" aria-label="Current harmonics" { table {
            thead { tr { th scope="col" { "Order" } th.num scope="col" { "Current A" } th.num scope="col" { "Of the load current %" } th.num scope="col" { "Limit %" } } }
            tbody { @for (k, ma) in report.current_95_ma.iter().enumerate().skip(1).filter(|(k, _)| k % 2 == 0) {
                @let pct = load_a.filter(|&a| a > 0.0).map(|a| ma / 10.0 / a);
                @let limit = row.and_then(|row| table.current_pct(row, k + 1));
                tr {
                    th scope="row" { (k + 1) }
                    td.num { (format::number(ma / 1_000.0, 2)) }
                    td.num { (format::maybe(pct, 1)) @if let (Some(p), Some(l)) = (pct, limit) { @if p > l { " " span.badge.warn { "above" } } } }
                    td.num { (format::maybe(limit, 1)) }
                }
            } }
        } }
    }
}

fn compliance(report: &Report) -> Markup {
    html! {
        section.card aria-labelledby="report" {
            header { h2 #report { "EN 50160, this week" } }
            div.scroll tabindex="0" role="group" aria-labelledby="report" { table {
                thead { tr { th scope="col" { "Item" } th.num scope="col" { "Value" } th.num scope="col" { "Limit" } th scope="col" { "Verdict" } } }
                tbody { @for item in &report.items { tr {
                    th scope="row" { (item.name) }
                    td.num { (format::maybe(item.value, 2)) }
                    td.num { (format::maybe(item.limit, 2)) }
                    td { @match item.judged {
                        Judged::Passes => { span.badge.good { "within" } }
                        Judged::Fails => { span.badge.bad { "outside" } }
                        Judged::NoLimit => { span.none { "no limit" } }
                        Judged::NotMeasured => { span.none { "not measured" } }
                        Judged::TooFew => { span.none { "too early" } }
                    } }
                } } }
            } }
            @if report.used < JUDGED_VALUES_MIN { p.small { (report.used) " of the week's " (WEEK_VALUES) " ten-minute values are there and count; a verdict needs " (JUDGED_VALUES_MIN) "." } }
            p.small.dim { "Unbalance needs three phases and is not measured here. Limits: " (limits::en50160().provenance()) "." }
        }
    }
}

fn disturbances(dips: &[week::Disturbance], nominal_hz: f64) -> Markup {
    let table = limits::events();
    html! {
        section.card aria-labelledby="dips" {
            header { h2 #dips { "Dips, swells and interruptions" } span.small.dim { "newest first" } }
            @if dips.is_empty() { (layout::empty("None", "The voltage stayed between 90 and 110 % all week.")) } @else {
                (cells(dips, &table))
                div.scroll tabindex="0" role="group" aria-labelledby="dips" { table {
                    thead { tr { th scope="col" { "Begin (UTC)" } th.num scope="col" { "Voltage %" } th.num scope="col" { "Duration s" } th scope="col" { "IEEE 1159" } th scope="col" { "ITIC curve" } } }
                    tbody { @for dip in dips.iter().rev().take(DIPS_MAX) {
                        @let (depth, length) = ieee1159(&table, dip.level_pct, dip.seconds, nominal_hz);
                        tr {
                            th.nowrap scope="row" { (layout::time(dip.at, &format::date_time(dip.at))) }
                            td.num { (format::number(dip.level_pct, 1)) }
                            td.num { (format::number(dip.seconds, 2)) }
                            td { (length_word(length)) " " (depth_word(depth)) }
                            td { (itic_badge(itic(&table, dip.level_pct, dip.seconds))) }
                        }
                    } }
                } }
                p.small.dim { "Classes by tables of IEEE 1159, ITIC and EN 50160" (limits::caveat(table.checked_against_standard)) "." }
                @if dips.len() > DIPS_MAX { p.small.dim { "The newest " (DIPS_MAX) " of " (dips.len()) "." } }
            }
        }
    }
}

/// The EN 50160 table: residual voltage by duration.
fn cells(dips: &[week::Disturbance], table: &EventLimits) -> Markup {
    let (rows, columns) = (&table.en50160_dips.residual_from_pct, &table.en50160_dips.duration_to_s);
    let mut counts = vec![vec![0_u32; columns.len()]; rows.len()];
    for (row, column) in dips.iter().filter_map(|d| dip_cell(table, d.level_pct, d.seconds)) {
        counts[row][column] += 1;
    }
    html! {
        div.scroll tabindex="0" role="group" aria-label="Dips by residual voltage and duration" { table {
            thead { tr { th scope="col" { "Residual voltage" } @for to in columns { th.num scope="col" { "to " (format::number(*to, 1)) " s" } } } }
            tbody { @for (from, counts) in rows.iter().zip(&counts) { tr {
                th scope="row" { "from " (format::number(*from, 0)) " %" }
                @for count in counts { td.num { @if *count > 0 { (count) } @else { span.none { "·" } } } }
            } } }
        } }
    }
}

fn depth_word(depth: Depth) -> &'static str {
    match depth {
        Depth::Interruption => "interruption",
        Depth::Sag => "sag",
        Depth::Swell => "swell",
        Depth::Normal => "variation",
    }
}

fn length_word(length: Length) -> &'static str {
    match length {
        Length::Instantaneous => "instantaneous",
        Length::Momentary => "momentary",
        Length::Temporary => "temporary",
        Length::LongDuration => "sustained",
    }
}

fn itic_badge(region: IticRegion) -> Markup {
    match region {
        IticRegion::NoInterruption => html! { span.badge.good { "rides through" } },
        IticRegion::NoDamage => html! { span.badge.warn { "may stop" } },
        IticRegion::Prohibited => html! { span.badge.bad { "may be damaged" } },
    }
}
