//! The bundle for people: facts, evidence with its readings, history, commands, and how to compute every number again.

use losses::{
    case::{Case, Verdict},
    evidence::Direction,
};

use super::{
    Bundle, Content,
    layout::{BODY, CODE, HEADING, INDENTED, Paper, STRONG, TITLE},
};
use crate::{
    format,
    pages::{case::history_words, cases, controls::kind_words},
};

/// Steps of one command that are printed.
const STEPS_MAX: usize = 20;

/// The bundle as a PDF.
pub fn pdf(bundle: &Bundle) -> Vec<u8> {
    let content = &bundle.content;
    let title = cases::title(&content.case);
    let mut paper = Paper::new();
    paper.text(TITLE, &title);
    paper.text(BODY, "A case is a reason to look, never an accusation. All times are UTC.");
    facts(&mut paper, content);
    for direction in [Direction::For, Direction::Against] {
        evidence(&mut paper, content, direction);
    }
    controls(&mut paper, content);
    history(&mut paper, &content.case);
    attachments(&mut paper, content);
    paper.text(HEADING, "How to check this");
    paper.text(BODY, "Every number above is computed again from the stored readings, and compared, by:");
    paper.text(CODE, &content.recompute);
    paper.text(BODY, "The same content with all register values is in the JSON of this case. Its SHA-256 is:");
    paper.text(CODE, &bundle.sha256);
    let short = bundle.sha256.get(..16).unwrap_or_default();
    paper.finish(&title, &format!("Gridtally · case C-{} · JSON {short}…", content.case.id))
}

fn facts(paper: &mut Paper, content: &Content) {
    let case = &content.case;
    paper.text(HEADING, "Facts");
    let point = case.usage_point.map_or_else(|| "not localised: the zone only".to_owned(), |point| point.to_string());
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| format::UNKNOWN.to_owned());
    let probability = content.probability;
    let mut rows = vec![
        ("Kind", case.kind.word().to_owned()),
        ("State", case.state.word().to_owned()),
        ("Zone", case.zone.to_string()),
        ("Usage point", point),
        ("Opened", format::date_minute(case.opened_at)),
        ("Began, by estimate", or_dash(case.onset.map(format::date_minute))),
        ("Owner", or_dash(case.owner.clone())),
        ("Due", or_dash(case.due.map(format::date))),
    ];
    if case.usage_point.is_some() {
        let percent = |p: f64| format::number(100.0 * p, 0);
        let text = format!(
            "{} % ({} to {} %, fused from the evidence)",
            percent(probability.probability),
            percent(probability.low),
            percent(probability.high)
        );
        rows.push(("Probability", text));
    }
    if let Some(outcome) = &case.outcome {
        let verdict = if outcome.verdict == Verdict::Confirmed { "confirmed" } else { "cleared" };
        rows.push((
            "Outcome",
            format!(
                "{verdict}: {}; {} kWh found, {} kWh recovered",
                outcome.reason,
                format::number(outcome.kwh, 1),
                format::number(outcome.recovered_kwh, 1)
            ),
        ));
    }
    rows.into_iter().for_each(|(name, value)| paper.text(BODY, &format!("{name}: {value}")));
}

fn evidence(paper: &mut Paper, content: &Content, direction: Direction) {
    let pieces = content.evidence(direction);
    paper.text(HEADING, &format!("Evidence {} ({})", direction.word(), pieces.len()));
    if pieces.is_empty() {
        paper.text(BODY, "None was found. That is not proof.");
    }
    for piece in pieces {
        let weight = format::number(piece.weight, 1);
        paper.text(STRONG, &format!("{} – {} ({weight} nats)", piece.kind.word(), piece.strength()));
        paper.text(BODY, &piece.words);
        for range in &piece.readings {
            let known = content.counted(range);
            let registers = known.and_then(|k| k.records.first().zip(k.records.last())).map_or_else(
                || "no stored readings".to_owned(),
                |(first, last)| {
                    format!(
                        "import register {} kWh at {} and {} kWh at {}",
                        format::register_kwh(first.record.import_wh.0),
                        format::date_minute(first.record.end),
                        format::register_kwh(last.record.import_wh.0),
                        format::date_minute(last.record.end)
                    )
                },
            );
            let count = known.map_or(0, |k| k.records.len());
            paper.text(
                INDENTED,
                &format!(
                    "Readings of {} from {} to {}: {registers}; {count} readings in the JSON",
                    range.meter,
                    format::date_minute(range.from),
                    format::date_minute(range.to)
                ),
            );
        }
    }
}

fn controls(paper: &mut Paper, content: &Content) {
    if content.controls.is_empty() {
        return;
    }
    paper.text(HEADING, "Commands");
    for control in &content.controls {
        let state = control.state.word();
        paper.text(STRONG, &format!("{} {} – {state}", kind_words(&control.kind), control.meter));
        paper.text(BODY, &control.reason);
        for step in control.history.iter().take(STEPS_MAX) {
            paper.text(INDENTED, &format!("{} {}: {}", format::date_time(step.at), step.state.word(), step.note));
        }
    }
}

fn history(paper: &mut Paper, case: &Case) {
    paper.text(HEADING, "History");
    for entry in &case.history {
        paper.text(INDENTED, &format!("{} {}: {}", format::date_minute(entry.at), entry.by, history_words(entry)));
    }
}

fn attachments(paper: &mut Paper, content: &Content) {
    if content.attachments.is_empty() {
        return;
    }
    paper.text(HEADING, "Attached files");
    for file in &content.attachments {
        let line = format!("{} ({}, {} bytes), SHA-256 {}", file.name, file.content_type, file.bytes, file.sha256);
        paper.text(INDENTED, &line);
    }
}
