//! `GET /`: all zones at a glance, the open cases, the one-line diagram, which meters report.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use losses::{balance::EnergyBalance, case::Case};
use maud::{Markup, html};
use metering::{MeterId, Timestamp, ZoneId};
use registry::{Topology, TopologyZone};
use store::{CaseFilter, EventFilter, MeterRow};

use super::{one_line, story};
use crate::{
    auth::SignedIn,
    drawing::{self, FleetCell},
    error::WebError,
    format,
    layout::{self, Frame, Page, Section},
    live::Values,
    pages::cases,
    state::AppState,
    totals::Totals,
};

/// Most zones on the page; the search finds the others.
const ZONES_MAX: usize = 500;
/// Most meters drawn one by one.
const CELLS_MAX: usize = 2_000;
/// Newest open cases by which zones are marked.
const ALARMED_MAX: u32 = 10_000;
/// Most cases in the inbox.
const INBOX_MAX: usize = 7;
/// A meter that has not been heard for longer counts as silent, seconds.
pub const SILENT_SECONDS: i64 = 3_600;
/// The period of the totals, seconds.
const DAY_SECONDS: i64 = 86_400;

/// A zone with what is known of it.
#[derive(Debug)]
pub struct ZoneView {
    /// The zone.
    pub zone: TopologyZone,
    /// How many zones it is inside of.
    pub depth: usize,
    /// Its newest interval.
    pub last: Option<Totals>,
    /// Its last 24 hours.
    pub day: Option<Totals>,
    /// Unaccounted energy by interval over the last 24 hours.
    pub spark: Vec<Option<f64>>,
}

/// Reads the zones with their newest interval and their last day, in the order of the tree.
///
/// # Errors
/// When the store fails.
pub async fn zone_views(state: &AppState) -> Result<Vec<ZoneView>, WebError> {
    let now = state.now();
    let topology = state.store.topology(now).await?;
    let to = state.status().processed_through.unwrap_or(now);
    let mut views = Vec::new();
    for (zone, depth) in in_tree_order(&topology).into_iter().take(ZONES_MAX) {
        let balances = state.store.balances(zone.zone, to.plus(-DAY_SECONDS), to).await?;
        views.push(ZoneView {
            zone: zone.clone(),
            depth,
            last: balances.last().and_then(|last| Totals::of([last])),
            day: Totals::of(&balances),
            spark: spark(&balances, to),
        });
    }
    Ok(views)
}

/// Zones with their depth, children behind their parent.
pub fn in_tree_order(topology: &Topology) -> Vec<(&TopologyZone, usize)> {
    let mut children: BTreeMap<Option<ZoneId>, Vec<&TopologyZone>> = BTreeMap::new();
    for zone in &topology.zones {
        children.entry(zone.parent).or_default().push(zone);
    }
    let mut stack: Vec<(&TopologyZone, usize)> =
        children.get(&None).into_iter().flatten().rev().map(|zone| (*zone, 0)).collect();
    let mut ordered = Vec::with_capacity(topology.zones.len());
    while let Some((zone, depth)) = stack.pop() {
        ordered.push((zone, depth));
        if ordered.len() > topology.zones.len() {
            break;
        }
        stack.extend(children.get(&Some(zone.zone)).into_iter().flatten().rev().map(|child| (*child, depth + 1)));
    }
    ordered
}

fn spark(balances: &[EnergyBalance], to: Timestamp) -> Vec<Option<f64>> {
    let Some(seconds) = balances.last().map(|b| i64::from(b.minutes.max(1)) * 60) else { return Vec::new() };
    let by_end: BTreeMap<Timestamp, f64> = balances.iter().map(|b| (b.end, b.unaccounted_wh)).collect();
    let steps = DAY_SECONDS / seconds;
    (0..steps).map(|i| by_end.get(&to.plus(-(steps - 1 - i) * seconds)).copied()).collect()
}

/// The server's time and progress, as sent in every stream.
pub fn status_values(state: &AppState) -> Values {
    let status = state.status();
    let mut values = Values::default();
    if let Some(through) = status.processed_through {
        values.text("last-data", format::clock(through));
    }
    values.text("now", format::date_time(status.now));
    values.text("connected", format::count(u64::try_from(status.meters_connected).unwrap_or(u64::MAX)));
    values
}

/// What changes on the overview with every slot.
///
/// # Errors
/// When the store fails.
pub async fn live_values(state: &AppState) -> Result<Values, WebError> {
    Ok(values_of(&zone_views(state).await?))
}

fn values_of(views: &[ZoneView]) -> Values {
    let mut values = Values::default();
    for view in views {
        put_zone(&mut values, view);
    }
    if let Some(now) = network(views, |view| view.last) {
        values.text("all:supplied", format::number(now.kw(now.supplied_wh), 1));
        values.text("all:metered", format::number(now.kw(now.metered_wh), 1));
        values.text("all:technical", format::number(now.kw(now.technical_wh), 2));
        values.text("all:gap", format::number(now.kw(now.unaccounted_wh), 2));
        values.text("all:pm", format::number(now.kw(now.plus_minus_wh()), 2));
    }
    if let Some(day) = network(views, |view| view.day) {
        values.text("all:supplied-day", format::kwh(day.supplied_wh));
        values.text("all:metered-day", format::kwh(day.metered_wh));
        values.text("all:technical-day", format::kwh(day.technical_wh));
        values.text("all:gap-day", format::kwh(day.unaccounted_wh));
        values.text("all:pm-day", format::kwh(day.plus_minus_wh()));
    }
    values
}

/// The whole network: what enters at the feeders, less what is lost in any zone. A zone counts its child zones by their observers,
/// so losses of parents and children do not overlap.
fn network(views: &[ZoneView], of: impl Fn(&ZoneView) -> Option<Totals>) -> Option<Totals> {
    let roots = Totals::across(views.iter().filter(|view| view.zone.parent.is_none()).filter_map(&of))?;
    let every = Totals::across(views.iter().filter_map(&of))?;
    let metered_wh = roots.supplied_wh - every.technical_wh - every.unaccounted_wh;
    Some(Totals { supplied_wh: roots.supplied_wh, metered_wh, ..every })
}

fn put_zone(values: &mut Values, view: &ZoneView) {
    let zone = view.zone.zone;
    if let Some(last) = &view.last {
        values.text(format!("{zone}:supplied"), format::number(last.kw(last.supplied_wh), 2));
        values.text(format!("{zone}:metered"), format::number(last.kw(last.metered_wh), 2));
        values.text(format!("{zone}:technical"), format::number(last.kw(last.technical_wh), 2));
        values.text(format!("{zone}:gap"), format::number(last.kw(last.unaccounted_wh), 2));
        values.text(format!("{zone}:pm"), format::number(last.kw(last.plus_minus_wh()), 2));
    }
    if let Some(day) = &view.day {
        values.text(format!("{zone}:gap-day"), format::kwh(day.unaccounted_wh));
        values.text(format!("{zone}:pm-day"), format::kwh(day.plus_minus_wh()));
        values.text(format!("{zone}:share-day"), format::maybe(day.share().map(|s| s * 100.0), 1));
        values.text(format!("{zone}:coverage"), format::number(day.coverage * 100.0, 1));
        one_line::put_bar(values, zone, day);
    }
}

/// Counts of meters by what they do.
#[derive(Debug, Default)]
struct Fleet {
    reporting: usize,
    silent: usize,
    cells: Vec<FleetCell>,
}

async fn fleet(state: &AppState, now: Timestamp) -> Result<Fleet, WebError> {
    let tampered: BTreeSet<MeterId> = state
        .store
        .events(EventFilter {
            after: Some(now.plus(-DAY_SECONDS)),
            tamper_only: true,
            limit: 1_000,
            ..EventFilter::default()
        })
        .await?
        .into_iter()
        .map(|event| event.meter)
        .collect();
    let mut fleet = Fleet::default();
    for row in state.store.meters(now).await? {
        let (class, word, reporting) = cell(state, &row, now, tampered.contains(&row.meter));
        if reporting {
            fleet.reporting += 1;
        } else {
            fleet.silent += 1;
        }
        if fleet.cells.len() < CELLS_MAX {
            fleet.cells.push(FleetCell { meter: row.meter.to_string(), class, word });
        }
    }
    Ok(fleet)
}

fn cell(state: &AppState, row: &MeterRow, now: Timestamp, tampered: bool) -> (&'static str, &'static str, bool) {
    let latest = state.store.latest(row.meter);
    let heard = latest.as_ref().is_some_and(|latest| now.seconds_since(latest.received) <= SILENT_SECONDS);
    let relay = latest.and_then(|latest| latest.relay);
    match relay {
        _ if tampered => ("c-tamper", "tamper reported within 24 h", heard),
        Some(relay) if relay != metering::frame::RelayState::Closed => ("c-open", "supply off", heard),
        _ if heard => ("c-on", "reporting", true),
        _ => ("c-off", "silent for more than an hour", false),
    }
}

/// `GET /`. A consumer is led to the own page.
///
/// # Errors
/// When nobody is signed in or the store fails.
pub async fn page(
    State(state): State<AppState>,
    SignedIn(caller): SignedIn,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    if !caller.is_staff() {
        return Ok(Redirect::to("/my").into_response());
    }
    let frame = Frame::load(&state, caller, &headers).await?;
    let now = frame.now();
    let views = zone_views(&state).await?;
    let values = values_of(&views);
    let fleet = fleet(&state, now).await?;
    let filter = CaseFilter { open_only: true, ..CaseFilter::default() };
    let all_open = state.store.count_cases(&filter).await?;
    let open = state.store.cases(CaseFilter { limit: ALARMED_MAX, ..filter }).await?;
    let topology = state.store.topology(now).await?;
    let alarmed = alarmed(&open, &topology);
    let strip = match state.store.is_simulation() {
        true => Some(story::strip(&state, &topology, now).await?),
        false => None,
    };
    let body = html! {
        div.head {
            div {
                h1 { "Overview" }
                div.sub { "Newest interval and the last 24 hours. ± is two standard deviations. Server time " span data-k="now" { (format::date_time(now)) } " UTC." }
            }
        }
        @if views.is_empty() { (nothing_yet(frame.caller().is_operator())) }
        @if let Some(strip) = strip { (layout::refreshed("story-strip", "cases controls overview", "/", strip)) }
        (layout::refreshed("overview-body", "overview cases controls", "/", html! {
            (key_figures(&values, &fleet, network(&views, |view| view.last).as_ref()))
            div.cols.two {
                section.card aria-labelledby="diagram" {
                    header { h2 #diagram { "One-line diagram" } (one_line::legend()) }
                    (one_line::draw(&views, &values, &alarmed))
                }
                section.card aria-labelledby="inbox" {
                    header { h2 #inbox { "Open cases" } a.more href="/suspects" { "Suspects by value" } a href="/cases" class="small" { "All cases" } }
                    (inbox(&open, all_open, now))
                }
            }
            (zone_table(&views, &values, &alarmed))
            (fleet_card(&fleet))
        }))
    };
    let topics = "overview,cases,controls";
    Ok(frame.page(Page { title: "Overview", section: Section::Overview, topics, charts: false, body }).into_response())
}

fn nothing_yet(is_operator: bool) -> Markup {
    html! {
        div.banner {
            h2 { "No zones yet" }
            p { "Gridtally balances zones: a piece of network whose inflow an observer meter measures, with the meters inside." }
            @if is_operator {
                ol {
                    li { a href="/enrolment" { "Import the topology" } ": a CSV of zones, observer meters, usage points and meters, such as" pre.mono { (super::enrolment::EXAMPLE) } }
                    li { a href="/enrolment" { "Enrol the meters" } " and put each secret into its meter." }
                    li { "The first balance appears one interval after the first readings." }
                }
            } @else { p { "An operator imports the topology and enrols the meters." } }
        }
    }
}

/// Open cases by zone, each counted in all zones above as well: a feeder is not balanced while one of its transformers is not.
fn alarmed(open: &[Case], topology: &Topology) -> BTreeMap<ZoneId, usize> {
    let mut alarmed: BTreeMap<ZoneId, usize> = BTreeMap::new();
    for case in open {
        let mut at = Some(case.zone);
        // As many steps as there are zones: a tree has no more.
        for _ in 0..=topology.zones.len() {
            let Some(zone) = at else { break };
            *alarmed.entry(zone).or_default() += 1;
            at = topology.zone(zone).and_then(|zone| zone.parent);
        }
    }
    alarmed
}

fn key_figures(values: &Values, fleet: &Fleet, now: Option<&Totals>) -> Markup {
    let figure = |key: &str, class: &str, label: &str| {
        html! {
            div.kpi {
                div.label { span class={ "key " (class) } aria-hidden="true" {} (label) }
                div.value { span data-k={ "all:" (key) } { (values.of(&format!("all:{key}"))) } " " span.unit { "kW" } }
                div.note { "24 h: " span data-k={ "all:" (key) "-day" } { (values.of(&format!("all:{key}-day"))) } " kWh" }
            }
        }
    };
    html! {
        div.kpis {
            (figure("supplied", "supplied", "Supplied"))
            (figure("metered", "metered", "Metered"))
            (figure("technical", "technical", "Technical loss"))
            div class=(if now.is_some_and(Totals::stands_out) { "kpi alert" } else { "kpi" }) title="Supplied, but on nobody's meter" {
                div.label { span.key.gap aria-hidden="true" {} "Unaccounted" }
                div.value { span data-k="all:gap" { (values.of("all:gap")) } span.unit { " ± " span data-k="all:pm" { (values.of("all:pm")) } " kW" } }
                div.note { "24 h: " span data-k="all:gap-day" { (values.of("all:gap-day")) } " ± " span data-k="all:pm-day" { (values.of("all:pm-day")) } " kWh" }
            }
            div.kpi {
                div.label { "Meters reporting" }
                div.value { (format::count(wide(fleet.reporting))) span.unit { " of " (format::count(wide(fleet.reporting + fleet.silent))) } }
                div.note { (format::count(wide(fleet.silent))) " silent for more than an hour" }
            }
        }
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn inbox(open: &[Case], all_open: u64, now: Timestamp) -> Markup {
    if open.is_empty() {
        return layout::empty(
            "Nothing to do",
            "When energy goes missing or a meter reports tampering, a case appears here.",
        );
    }
    html! {
        ul.inbox data-rows {
            @for case in open.iter().take(INBOX_MAX) {
                li { a href={ "/cases/" (case.id) } {
                    span.row { span.what { (cases::title(case)) } (cases::state_badge(case.state)) }
                    span.row.small.dim {
                        span { "zone " (case.zone) @if let Some(owner) = &case.owner { " · " (owner) } }
                        span.nowrap { (layout::age(case.opened_at, now)) }
                    }
                } }
            }
        }
        @if all_open > wide(INBOX_MAX) { p.small.dim { (format::count(all_open - wide(INBOX_MAX))) " more in " a href="/cases" { "all cases" } "." } }
    }
}

fn zone_table(views: &[ZoneView], values: &Values, alarmed: &BTreeMap<ZoneId, usize>) -> Markup {
    let cases = |view: &ZoneView| alarmed.get(&view.zone.zone).copied().unwrap_or(0);
    let mut rows: Vec<&ZoneView> = views.iter().collect();
    // A network that fits one look is read as a tree; a larger one from its worst zone on.
    let worst_first = views.len() > one_line::ZONES_MAX;
    if worst_first {
        let sigmas =
            |view: &ZoneView| view.day.map_or(0.0, |day| day.unaccounted_wh.abs() / day.plus_minus_wh().max(1.0));
        rows.sort_by(|a, b| (cases(b) > 0).cmp(&(cases(a) > 0)).then(sigmas(b).total_cmp(&sigmas(a))));
    }
    html! {
        section.card aria-labelledby="zones" {
            header { h2 #zones { "Zones" } span.small.dim { "kW of the newest interval; kWh and the line over the last 24 h" @if worst_first { "; worst first" } } }
            div.scroll tabindex="0" role="group" aria-labelledby="zones" {
                table.cards {
                    thead { tr {
                        th scope="col" { "Zone" } th scope="col" { "State" }
                        th.num scope="col" { "Supplied kW" } th.num scope="col" { "Metered kW" } th.num scope="col" { "Technical kW" }
                        th.num scope="col" { "Unaccounted kW" } th.num scope="col" { "24 h kWh" } th.num scope="col" { "24 h %" }
                        th scope="col" { "Unaccounted, 24 h" } th.num scope="col" { "Measured %" }
                    } }
                    tbody data-rows {
                        @for view in &rows { (zone_row(view, values, cases(view))) }
                        @if views.is_empty() { tr { td colspan="10" { (layout::empty("No zones", "Import the topology first.")) } } }
                    }
                }
            }
            @if views.len() == ZONES_MAX { p.small.dim { "The first " (ZONES_MAX) " zones; the search finds the others." } }
        }
    }
}

fn zone_row(view: &ZoneView, values: &Values, cases: usize) -> Markup {
    let zone = view.zone.zone;
    let cell = |part: &str| {
        let key = format!("{zone}:{part}");
        html! { span data-k=(key) { (values.of(&key)) } }
    };
    let gap_class = |total: Option<&Totals>| if total.is_some_and(Totals::stands_out) { "num gap" } else { "num" };
    html! {
        tr {
            th scope="row" class=(match view.depth { 0 => "", 1 => "indent1", 2 => "indent2", _ => "indent3" }) {
                a href={ "/zones/" (zone) } { (zone) } " " span.dim { (view.zone.kind.word()) }
            }
            td data-label="State" { (zone_state(view, cases)) }
            td.num data-label="Supplied kW" { (cell("supplied")) } td.num data-label="Metered kW" { (cell("metered")) } td.num data-label="Technical kW" { (cell("technical")) }
            td class=(gap_class(view.last.as_ref())) data-label="Unaccounted kW" { (cell("gap")) span.unit { " ± " (cell("pm")) } }
            td class=(gap_class(view.day.as_ref())) data-label="24 h kWh" { (cell("gap-day")) span.unit { " ± " (cell("pm-day")) } }
            td.num data-label="24 h %" { (cell("share-day")) }
            td data-label="24 h" { (drawing::sparkline(&view.spark, view.last.map_or(0.0, |last| last.plus_minus_wh()), &format!("unaccounted energy of {zone} over 24 hours"))) }
            td.num data-label="Measured %" { (cell("coverage")) }
        }
    }
}

/// The state of a zone in a word. `cases`: open ones in it and in the zones inside it.
pub fn zone_state(view: &ZoneView, cases: usize) -> Markup {
    match (&view.day, cases) {
        (_, 1) => html! { span.badge.warn { "open case" } },
        (_, 2..) => html! { span.badge.warn { (cases) " open cases" } },
        (None, _) => html! { span.badge { "no data" } },
        (Some(day), _) if day.is_partial() => {
            html! { span.badge title="Part of the energy was estimated, not measured" { "partly estimated" } }
        }
        (Some(day), _) if day.stands_out() => html! { span.badge.info { "beyond its ±" } },
        _ => html! { span.badge.good { "balanced" } },
    }
}

fn fleet_card(fleet: &Fleet) -> Markup {
    let total = fleet.reporting + fleet.silent;
    html! {
        section.card aria-labelledby="fleet" {
            header {
                h2 #fleet { "Meters" }
                span.small.dim { (format::count(wide(total))) " meters, one cell each: filled = reporting, dashed = silent, red = supply off, hatched = tamper reported" }
                a.more href="/meters" { "List" }
            }
            @if fleet.cells.is_empty() { (layout::empty("No meters", "Enrol meters to see them here.")) }
            @else { (drawing::fleet(&fleet.cells)) }
            @if total > fleet.cells.len() { p.small.dim { "The first " (fleet.cells.len()) " of " (total) " are drawn." } }
        }
    }
}
