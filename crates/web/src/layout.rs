//! The frame of every page: top bar, live state, search, keys; and the few pieces that many pages share.

use axum::http::HeaderMap;
use maud::{DOCTYPE, Markup, html};
use metering::Timestamp;

use crate::{
    assets,
    auth::{self, Caller},
    drawing,
    error::WebError,
    format,
    state::AppState,
};

/// The entries of the top bar; a page says which one it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Overview and zones.
    Overview,
    /// Meters.
    Meters,
    /// Suspects.
    Suspects,
    /// Cases.
    Cases,
    /// Controls.
    Controls,
    /// Enrolment.
    Enrolment,
    /// People.
    People,
    /// Policy.
    Policy,
    /// Audit.
    Audit,
    /// None of them.
    Other,
}

impl Section {
    /// The entry's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Meters => "Meters",
            Self::Suspects => "Suspects",
            Self::Cases => "Cases",
            Self::Controls => "Commands",
            Self::Enrolment => "Enrolment",
            Self::People => "People",
            Self::Policy => "Policy",
            Self::Audit => "Audit",
            Self::Other => "Menu",
        }
    }
}

/// What a page is made of.
#[derive(Debug)]
pub struct Page<'a> {
    /// The title, without the product's name.
    pub title: &'a str,
    /// The entry of the top bar.
    pub section: Section,
    /// Topics of the live stream, comma-separated.
    pub topics: &'a str,
    /// Whether the page draws time charts.
    pub charts: bool,
    /// The content of `main`.
    pub body: Markup,
}

/// What the frame shows, read once a page.
#[derive(Debug)]
pub struct Frame {
    caller: Caller,
    theme: &'static str,
    simulation: bool,
    now: Timestamp,
    processed_through: Option<Timestamp>,
    open_cases: usize,
}

impl Frame {
    /// Reads what the frame shows.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(state: &AppState, caller: Caller, headers: &HeaderMap) -> Result<Self, WebError> {
        let status = state.status();
        let open_cases = if caller.is_staff() { crate::pages::cases::open_count(state).await? } else { 0 };
        Ok(Self {
            caller,
            theme: theme(headers),
            simulation: state.store.is_simulation(),
            now: status.now,
            processed_through: status.processed_through,
            open_cases,
        })
    }

    /// Who looks at the page.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The page's time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Renders a page.
    pub fn page(&self, page: Page<'_>) -> Markup {
        document(
            page.title,
            self.theme,
            Some(page.topics),
            page.charts,
            html! {
                (drawing::hatch())
                (self.top(page.section))
                main #main .mine[self.caller.usage_point.is_some()] { (page.body) }
                (keys())
            },
        )
    }

    fn top(&self, section: Section) -> Markup {
        let here = section.word();
        html! {
            a.skip href="#main" { "To the content" }
            header.top {
                a.brand href="/" aria-label="Gridtally" { (mark()) span.brand-word { "Gridtally" } }
                @if self.caller.is_staff() {
                    nav.wide aria-label="Main" { (self.entries(section)) }
                    // The same entries where there is no room for a row of them; never both are shown.
                    details.menu {
                        summary { span { (here) } " ▾" }
                        div.sheet {
                            nav aria-label="Sections" { (self.entries(section)) }
                        }
                    }
                }
                div.right {
                    @if self.simulation { span.sim title="All meters, loads and thieves on this server are simulated" { "Sim" span.wide-word { "ulation" } } }
                    @if self.caller.is_staff() {
                        form.search role="search" action="/find" {
                            label.visually-hidden for="q" { "Find a meter, usage point, zone or case" }
                            input #q type="search" name="q" placeholder="Find …  /" maxlength="64";
                        }
                        a.find-link href="/find" { span aria-hidden="true" { "⌕" } span.visually-hidden { "Find" } }
                    }
                    span.clock.live {
                        span.dot aria-hidden="true" {}
                        span { span.on-word { "live" } span.off-word { "not live" span data-stale {} } span.wide-word { " · last data " } " " time data-k="last-data" { (self.processed_through.map_or_else(|| "none yet".to_owned(), format::clock)) } span.wide-word { " UTC" } }
                        span.visually-hidden data-k="now" { (format::date_time(self.now)) }
                    }
                    details.menu.me {
                        summary { span aria-hidden="true" { "☰" } span.visually-hidden { "You and this device" } }
                        div.sheet { (self.me()) }
                    }
                    div.who-wide { (self.me()) }
                }
            }
        }
    }

    fn entries(&self, section: Section) -> Markup {
        let entry = |which: Section, href: &str| {
            html! { a href=(href) aria-current=[(section == which).then_some("page")] { (which.word()) } }
        };
        html! {
            (entry(Section::Overview, "/"))
            (entry(Section::Suspects, "/suspects"))
            a href="/cases" aria-current=[(section == Section::Cases).then_some("page")] {
                (Section::Cases.word()) span.count data-k="open-cases" data-zero=[(self.open_cases == 0).then_some("")] { (self.open_cases) }
            }
            (entry(Section::Meters, "/meters"))
            (entry(Section::Controls, "/controls"))
            @if self.caller.is_operator() {
                (entry(Section::Enrolment, "/enrolment"))
                (entry(Section::Policy, "/policy"))
                (entry(Section::People, "/people"))
            }
            (entry(Section::Audit, "/audit"))
        }
    }

    /// Who looks, the colours, and the way out.
    fn me(&self) -> Markup {
        html! {
            button.plain data-theme-next type="button" { "◐ " span { (self.theme) } span.visually-hidden { " colours: change" } }
            form.who method="post" action="/sign-out" {
                a.name href="/password" { (self.caller.name) " · " (self.caller.role.word()) }
                button.plain { "sign out" }
            }
        }
    }
}

/// A page without the top bar: sign-in, set-up, errors.
pub fn bare(title: &str, body: Markup) -> Markup {
    document(title, "auto", None, false, html! { main #main { a.brand href="/" { (mark()) "Gridtally" } (body) } })
}

fn document(title: &str, theme: &str, topics: Option<&str>, charts: bool, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-theme=(theme) {
            head {
                meta charset="utf-8";
                title { (title) " · Gridtally" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="description" content="Gridtally finds missing electricity and runs the meters around it.";
                meta name="htmx-config" content=r#"{"history":false,"mode":"same-origin"}"#;
                link rel="icon" type="image/svg+xml" href=(assets::url("icon.svg"));
                link rel="stylesheet" href=(assets::url("app.css"));
                @if charts { link rel="stylesheet" href=(assets::url("uPlot.min.css")); }
                @if topics.is_some() { script defer src=(assets::url("htmx.min.js")) {} }
                @if charts { script defer src=(assets::url("uPlot.iife.min.js")) {} }
                script defer src=(assets::url("app.js")) {}
                @if charts { script defer src=(assets::url("charts.js")) {} }
            }
            body data-topics=[topics] { (body) }
        }
    }
}

fn theme(headers: &HeaderMap) -> &'static str {
    match auth::cookie(headers, "gt_theme") {
        Some("light") => "light",
        Some("dark") => "dark",
        _ => "auto",
    }
}

fn mark() -> Markup {
    html! { img src=(assets::url("icon.svg")) alt="" width="24" height="24"; }
}

fn keys() -> Markup {
    html! {
        dialog #keys aria-labelledby="keys-title" {
            h2 #keys-title { "Keys" }
            dl.facts {
                dt { kbd { "/" } } dd { "find a meter, usage point, zone or case" }
                dt { kbd { "j" } " " kbd { "k" } } dd { "next, previous row of a list" }
                dt { kbd { "Enter" } } dd { "open the row" }
                dt { kbd { "r" } " " kbd { "v" } " " kbd { "d" } } dd { "on a case: review, send a visit, dismiss" }
                dt { kbd { "Esc" } } dd { "leave the search" }
                dt { kbd { "?" } } dd { "this help" }
            }
            p.dim.small { "In charts: drag to zoom all charts of the page, double-click to go back." }
            button type="button" data-close { "Close" }
        }
    }
}

/// A time, in full for machines and as wished for people.
pub fn time(at: Timestamp, text: &str) -> Markup {
    html! { time datetime=(at.to_string()) { (text) } }
}

/// How long ago a time is; scripts let it go on with the server's time.
pub fn age(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(at.to_string()) data-age { (format::ago(at, now)) } }
}

/// A part of a page that reads itself again when one of the topics changes. `id` must be unique in the page at `path`.
pub fn refreshed(id: &str, topics: &str, path: &str, body: Markup) -> Markup {
    html! {
        div.stack id=(id) data-refresh=(topics) hx-get=(path) hx-select={ "#" (id) } hx-target="this" hx-swap="outerMorph"
            hx-trigger="gt-refresh throttle:1s" { (body) }
    }
}

/// What a list shows when it holds nothing.
pub fn empty(title: &str, text: &str) -> Markup {
    html! { div.empty { strong { (title) } (text) } }
}

/// A text as a value in a query, percent-encoded.
pub fn query_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
