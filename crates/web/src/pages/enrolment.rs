//! `GET /enrolment`: import of the topology with the rows that were not taken, and new secrets for meters, shown once.

use axum::{
    Form,
    extract::{DefaultBodyLimit, State},
    http::HeaderMap,
};
use maud::{Markup, PreEscaped, html};
use metering::{MeterId, Topic, topic::UpKind};
use qrcode::{EcLevel, QrCode, render::svg};
use serde::Deserialize;
use store::{Enrolment, ImportReport};

use crate::{
    assets::hex,
    auth::Operator,
    error::{WebError, sentence},
    layout::{Frame, Page, Section},
    state::AppState,
};

/// A feeder, a transformer, two homes: a topology to begin with.
pub const EXAMPLE: &str = include_str!("../../../../docs/howto/zones.csv");
/// Largest topology taken in one go, bytes.
pub const TOPOLOGY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most meters enrolled from the page at once: each gets its own QR code.
const ENROL_MAX: usize = 100;
/// Rejected rows shown.
const REJECTED_MAX: usize = 200;

/// The body limit of the topology form: percent-encoding may triple it.
pub fn body_limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(3 * TOPOLOGY_BYTES_MAX)
}

/// `GET /enrolment`.
///
/// # Errors
/// When the caller is no operator or the store fails.
pub async fn page(
    State(state): State<AppState>,
    Operator(caller): Operator,
    headers: HeaderMap,
) -> Result<Markup, WebError> {
    let frame = Frame::load(&state, caller, &headers).await?;
    render(&state, &frame, html! {}).await
}

async fn render(state: &AppState, frame: &Frame, result: Markup) -> Result<Markup, WebError> {
    let topology = state.store.topology(frame.now()).await?;
    let meters = state.store.meters(frame.now()).await?;
    let without = meters.iter().filter(|row| row.enrolled_at.is_none()).map(|row| row.meter.as_str());
    let waiting: Vec<&str> = without.take(ENROL_MAX).collect();
    let body = html! {
        div.head { div { h1 { "Enrolment" } div.sub {
            (topology.zones.len()) " zones, " (topology.usage_points.len()) " usage points, " (meters.len()) " meters · version " (topology.version) " of the topology"
        } } }
        (result)
        div.cols.even {
            section.card { form.form method="post" action="/enrolment/topology" data-upload {
                h2 { "Import the topology" }
                p.dim { "One row a zone or usage point. Rows that say what is known change nothing; rows that cannot be right are listed with their reason and not taken." }
                details { summary { "An example: a feeder, a transformer, two homes" } pre.mono { (EXAMPLE) }
                    p.small.dim { "A row with an observer meter makes a zone, a row with a usage point puts a home into it. ct_ratio is the ratio of the observer's current transformers. Optional columns: kind, never_disconnect, rating_w." } }
                div.field { label for="csv" { "CSV, pasted or from a file" } textarea #csv name="csv" rows="8" required spellcheck="false" placeholder=(EXAMPLE) {} }
                div.field { label for="file" { "File" } input #file type="file" accept=".csv,text/csv" data-into="csv"; span.hint { "Read by the browser into the field above. Without scripts: paste, or POST it to /api/v1/topology." } }
                button.primary { "Import" }
            } }
            section.card { form.form method="post" action="/enrolment/meters" {
                h2 { "Enrol meters" }
                p.dim { "Each meter gets a new secret of 256 bits, shown once. An earlier secret of the same meter stops working." }
                div.field { label for="meters" { "Names of meters, one a line, at most " (ENROL_MAX) } textarea #meters name="meters" rows="8" required spellcheck="false" { (waiting.join("\n")) } }
                @if !waiting.is_empty() { span.hint { "Filled with meters of the topology that have no secret yet." } }
                button.primary { "Make secrets" }
            } }
            section.card { form.form method="post" action="/enrolment/withdraw" {
                h2 { "Take a secret back" }
                p.dim { "For a meter that was lost, stolen or scrapped: its connections end, and it is let in no more until it is enrolled again. What it has reported stays." }
                div.field { label for="gone" { "Name of the meter" } input #gone name="meter" maxlength="32" autocomplete="off" required; }
                button { "Take back" }
            } }
        }
    };
    Ok(frame.page(Page { title: "Enrolment", section: Section::Enrolment, topics: "cases", charts: false, body }))
}

/// Body of the import form.
#[derive(Debug, Deserialize)]
pub struct TopologyForm {
    csv: String,
}

/// `POST /enrolment/topology`.
///
/// # Errors
/// When the caller is no operator or the CSV has no usable header.
pub async fn import(
    State(state): State<AppState>,
    Operator(caller): Operator,
    headers: HeaderMap,
    Form(form): Form<TopologyForm>,
) -> Result<Markup, WebError> {
    let outcome = state.store.import_topology(&form.csv, &caller.name, state.now()).await.map_err(WebError::from);
    let frame = Frame::load(&state, caller, &headers).await?;
    let result = match outcome {
        Ok(report) => report_view(&report),
        Err(WebError::Invalid(why) | WebError::Conflict(why)) => {
            html! { div.banner.bad role="alert" { p { strong { "Nothing was imported. " } (sentence(&why)) } } }
        }
        Err(error) => return Err(error),
    };
    render(&state, &frame, result).await
}

fn report_view(report: &ImportReport) -> Markup {
    let class = if report.rejected.is_empty() { "banner good" } else { "banner warn" };
    html! {
        div class=(class) role="status" { p { strong { (report.accepted) " rows taken, " (report.unchanged) " already known, " (report.rejected_count) " not taken." } } }
        @if !report.rejected.is_empty() { section.card {
            header { h2 { "Rows not taken" } }
            table {
                thead { tr { th.num scope="col" { "Line" } th scope="col" { "Reason" } } }
                tbody { @for row in report.rejected.iter().take(REJECTED_MAX) { tr { td.num { (row.line) } td { (row.reason) } } } }
            }
            @if report.rejected.len() > REJECTED_MAX { p.dim { "The first " (REJECTED_MAX) " are shown." } }
        } }
    }
}

/// Body of the enrolment form.
#[derive(Debug, Deserialize)]
pub struct MetersForm {
    meters: String,
}

/// `POST /enrolment/meters`: the secrets are in this answer and nowhere else.
///
/// # Errors
/// When the caller is no operator or a name is not usable.
pub async fn enrol(
    State(state): State<AppState>,
    Operator(caller): Operator,
    headers: HeaderMap,
    Form(form): Form<MetersForm>,
) -> Result<Markup, WebError> {
    let mut meters = Vec::new();
    for name in form.meters.split([' ', ',', ';', '\n', '\r', '\t']).filter(|name| !name.is_empty()) {
        let meter = MeterId::new(name).map_err(|why| WebError::Invalid(format!("{}: {why}", name.escape_debug())))?;
        if !meters.contains(&meter) {
            meters.push(meter);
        }
    }
    if meters.is_empty() || meters.len() > ENROL_MAX {
        return Err(WebError::Invalid(format!(
            "enrol 1 to {ENROL_MAX} meters at once here; more by POST /api/v1/meters"
        )));
    }
    let made = state.enrol(&meters, &caller.name).await?;
    let frame = Frame::load(&state, caller, &headers).await?;
    let broker = Broker::of(&state, &headers);
    render(&state, &frame, html! {
        section.card aria-labelledby="secrets" {
            header { h2 #secrets { "New secrets" } }
            div.banner.warn role="status" { p { strong { "They are shown this once. " } "Only a hash is stored: note them or scan them now." } }
            @for enrolment in &made { (secret(enrolment, &broker)?) }
        }
    }).await
}

/// The text in the QR code: what a meter needs, as JSON.
pub fn provisioning_text(enrolment: &Enrolment) -> String {
    serde_json::json!({ "gridtally": 1, "meter": enrolment.meter, "secret": hex(&enrolment.secret) }).to_string()
}

/// Where meters publish, as seen from whoever reads the page.
struct Broker {
    host: String,
    port: Option<u16>,
}

impl Broker {
    fn of(state: &AppState, headers: &HeaderMap) -> Self {
        let host = headers.get(axum::http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        // The port of the pages is behind the last colon, unless that belongs to an IPv6 address.
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let host = host.trim_matches(['[', ']']).chars().filter(|c| c.is_ascii_alphanumeric() || ".-:".contains(*c));
        Self { host: host.collect(), port: state.config.mqtt.map(|address| address.port()) }
    }

    /// A line that sends a first reading; the meter's page shows it at once.
    fn first_reading(&self, enrolment: &Enrolment, secret: &str) -> String {
        let meter = enrolment.meter;
        let port = self.port.map_or_else(String::new, |port| format!("-p {port} "));
        let frame = format!(
            r#"{{\"v\":1,\"meter\":\"{meter}\",\"boot\":$(date +%s),\"seq\":1,\"now\":{{\"at\":$(date +%s),\"import_wh\":1000,\"power_w\":250,\"relay\":\"closed\"}}}}"#
        );
        let topic = Topic::Up(meter, UpKind::Now).name();
        format!("mosquitto_pub -h {} {port}-u {meter} -P {secret} -q 1 -t {topic} -m \"{frame}\"", self.host)
    }
}

fn secret(enrolment: &Enrolment, broker: &Broker) -> Result<Markup, WebError> {
    let text = hex(&enrolment.secret);
    let line = broker.first_reading(enrolment, &text);
    let code = QrCode::with_error_correction_level(provisioning_text(enrolment), EcLevel::M)
        .map_err(|_| WebError::Internal)?;
    let drawn = code.render::<svg::Color<'_>>().min_dimensions(172, 172).quiet_zone(false).build();
    let drawn = drawn.split_once("?>").map_or(drawn.as_str(), |(_, svg)| svg);
    let up = Topic::Up(enrolment.meter, UpKind::Profile).name();
    Ok(html! { div.secret {
        div.qr role="img" aria-label={ "QR code with the secret of " (enrolment.meter) } { (PreEscaped(drawn)) }
        dl.facts {
            dt { "Meter, user name" } dd { code { (enrolment.meter) } }
            dt { "Secret, password" } dd { code { (text) } " " button.plain type="button" data-copy=(text) { "copy" } }
            dt { "Server" } dd { code { (broker.host) } @match broker.port { Some(port) => { ", MQTT port " code { (port) } }, None => { ", MQTT as configured" } } }
            dt { "Publishes" } dd { code { (up.trim_end_matches("profile")) "{hello,profile,now,event,reply,quality,snapshot}" } }
            dt { "Subscribes" } dd { code { (Topic::down_filter(enrolment.meter)) } }
            dt { "QR code" } dd { "name and secret as JSON, for a provisioning tool" }
            dt { "Try it" } dd { code { (line) } " " button.plain type="button" data-copy=(line) { "copy" } div.small.dim { "From this machine, or a network that the configuration lets in. " a href={ "/meters/" (enrolment.meter) } { "Its page" } " shows the values at once." } }
        }
    } })
}

/// Body of the form that takes a secret back.
#[derive(Debug, Deserialize)]
pub struct WithdrawForm {
    meter: String,
}

/// `POST /enrolment/withdraw`.
///
/// # Errors
/// When the caller is no operator or the store fails; that the meter is not enrolled is said on the page.
pub async fn withdraw(
    State(state): State<AppState>,
    Operator(caller): Operator,
    headers: HeaderMap,
    Form(form): Form<WithdrawForm>,
) -> Result<Markup, WebError> {
    let withdrawn = match MeterId::new(form.meter.trim()) {
        Ok(meter) => state.store.withdraw(meter, &caller.name, state.now()).await.map_err(WebError::from),
        Err(why) => Err(WebError::Invalid(why.to_string())),
    };
    let frame = Frame::load(&state, caller, &headers).await?;
    let result = match withdrawn {
        Ok(()) => {
            html! { div.banner.good role="status" { p { strong { (form.meter.trim()) " is let in no more." } } } }
        }
        Err(WebError::NotFound) => {
            html! { div.banner.bad role="alert" { p { "There is no enrolled meter of that name." } } }
        }
        Err(WebError::Invalid(why)) => html! { div.banner.bad role="alert" { p { (sentence(&why)) } } },
        Err(error) => return Err(error),
    };
    render(&state, &frame, result).await
}
