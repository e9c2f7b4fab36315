//! The strip on the overview of a simulation: what just happened, in words for somebody from outside the field, and where to look.
//! It is told from what the server found and did; what the neighbourhood does next comes from the programme, if there is one.

use losses::case::Case;
use maud::{Markup, html};
use metering::{ControlState, Timestamp};
use registry::Topology;
use store::CaseFilter;

use super::cases;
use crate::{
    account::{self, Account, Sources},
    error::WebError,
    format, layout,
    programme::{self, Entry},
    state::AppState,
};

/// Cases told.
const TOLD_MAX: usize = 3;
/// Newest open cases among which those told are chosen.
const CASES_MAX: u32 = 12;
/// The states a command passes when all goes well.
const STATES: [&str; 4] = ["Approved", "Sent", "Acknowledged", "Verified"];

/// The strip.
///
/// # Errors
/// When the store fails.
pub async fn strip(state: &AppState, topology: &Topology, now: Timestamp) -> Result<Markup, WebError> {
    let filter = CaseFilter { open_only: true, limit: CASES_MAX, ..CaseFilter::default() };
    let sources = Sources { store: &state.store, topology, now };
    let mut told = Vec::new();
    for case in state.store.cases(filter).await? {
        let account = Account::read(&sources, &case).await?;
        told.push((changed(&case, &account), case, account));
    }
    // The newest case comes first, unless something is being done about another one.
    told.sort_by_key(|(at, case, account)| {
        (std::cmp::Reverse(is_under_way(account)), std::cmp::Reverse((*at, case.id)))
    });
    told.truncate(TOLD_MAX);
    let entries: Vec<Entry> = state.store.setting(programme::SETTING).await?.unwrap_or_default();
    let (on_stage, next) = programme::around(&entries, now);
    Ok(html! {
        section.card.story aria-labelledby="story" {
            header {
                h2 #story { "What just happened" }
                span.small.dim { "a simulated neighbourhood; everything else on the pages comes through real meters' frames" }
            }
            @if told.is_empty() { p { "Nothing is missing: in every zone, what flows in is what the meters count, within ±." } }
            ol.told { @for (at, case, account) in &told { (item(*at, case, account)) } }
            @if let Some(entry) = on_stage { p.small { strong { "Since " (format::day_minute(entry.at)) ": " } (entry.what) ". " span.dim { "Look at " (entry.look) "." } } }
            @if let Some(entry) = next { p.small.dim { "Next, " (format::day_minute(entry.at)) ": " (entry.what) "." } }
        }
    })
}

fn is_under_way(account: &Account) -> bool {
    account.done.as_ref().is_some_and(|done| !done.control.state.is_final())
}

/// When something about a case happened last.
fn changed(case: &Case, account: &Account) -> Timestamp {
    let history = case.history.last().map_or(case.opened_at, |entry| entry.at);
    let control = account.done.as_ref().and_then(|done| done.control.history.last()).map_or(history, |step| step.at);
    history.max(control)
}

fn item(at: Timestamp, case: &Case, account: &Account) -> Markup {
    html! { li {
        div {
            span.dim.small { (layout::time(at, &format::day_minute(at))) " · " }
            strong { a href={ "/cases/" (case.id) } { (cases::title(case)) } }
            @if let Some(fused) = account.chance { " · chance " strong { (account::percent(fused.probability)) " %" } }
            " · " (account::state_words(case.state))
        }
        div { (account.sentence) }
        @if let Some(done) = &account.done {
            div { strong { (done.words) } }
            (progress(&done.control.state))
        }
        a.small href={ "/cases/" (case.id) } { "▸ look at the evidence and decide" span.visually-hidden { " about C-" (case.id) } }
    } }
}

/// Where a command stands on its way.
fn progress(state: &ControlState) -> Markup {
    let reached = STATES.iter().position(|word| *word == state.word());
    html! { ol.steps aria-label="Steps of the command" {
        @for (index, word) in STATES.iter().enumerate() {
            @let class = match reached { Some(at) if index == at => "now", Some(at) if index < at => "done", _ => "" };
            @if reached.is_some() { li class=(class) aria-current=[(reached == Some(index)).then_some("step")] { (word) } }
        }
        @if reached.is_none() { li.now { (state.word()) } }
    } }
}
