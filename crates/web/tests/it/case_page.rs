//! The page of a case and the list of cases: who, how sure, how much, since when; nothing that only a statistician reads; filters that
//! see every case.

use axum::http::StatusCode;
use losses::{
    case::{Case, CaseKind},
    evidence::{Direction, Evidence, EvidenceKind},
};
use metering::Timestamp;
use store::{CaseChange, SlotCommit};

use crate::{
    app::App,
    world::{NOW, zone},
};

async fn open(app: &App, cases: Vec<Case>) -> Vec<u64> {
    let cases = cases.into_iter().map(|case| CaseChange::Open(Box::new(case))).collect();
    let commit = SlotCommit { at: NOW.plus(900), position: Some(NOW.plus(900)), cases, ..SlotCommit::default() };
    app.store.commit_slot(commit).await.expect("committed").case_ids
}

fn case(kind: CaseKind, t: usize, onset: Timestamp, evidence: Vec<Evidence>) -> Case {
    let mut case = Case::open(kind, zone(t), None, NOW, "pipeline", evidence).expect("consistent");
    case.onset = Some(onset);
    case
}

#[tokio::test]
async fn a_case_says_who_how_sure_since_when_and_shows_the_curve() {
    let app = App::new().await;
    let page = app.person("ben").await.get("/cases/2").await.body;
    for words in [
        "UP-302",
        "/meters/M-302",
        "Chance",
        "nine times in ten",
        "Why not more",
        "Since ",
        "Energy to date",
        "What to do",
        "M-302 counts, kW",
        "T3 misses, kW",
        "began, about",
        "case opened",
    ] {
        assert!(page.contains(words), "the page lacks {words:?}:\n{page}");
    }
    assert!(!page.contains("nats"), "an inspector does not know nats");
    assert!(!page.contains("(t = "), "nor test statistics");
}

#[tokio::test]
async fn a_case_is_dismissed_in_one_go_and_its_history_says_how() {
    let app = App::new().await;
    let ben = app.person("ben").await;
    assert_eq!(ben.form("/cases/3", "action=dismiss&reason=").await.status, StatusCode::BAD_REQUEST, "no reason");
    let done = ben.form("/cases/3", "action=dismiss&reason=our+own+fitter+opened+it").await;
    assert_eq!((done.status, done.header("location")), (StatusCode::SEE_OTHER, "/cases/3"), "{}", done.body);
    let page = ben.get("/cases/3").await.body;
    assert!(page.contains("our own fitter opened it") && page.contains("Cleared") && page.contains("moved to review"));
    assert!(!page.contains("data-key=\"v\""), "nothing can be done with it any more");
}

#[tokio::test]
async fn an_old_case_is_found_by_its_filter_however_many_are_newer() {
    let app = App::new().await;
    let many = (0..510).map(|_| case(CaseKind::MissingEnergy, 1, NOW, vec![])).collect();
    assert_eq!(open(&app, many).await.len(), 510);
    let ben = app.person("ben").await;
    let found = ben.get("/cases?zone=T3&state=open&kind=&owner=").await.body;
    assert!(found.contains("C-2 · Suspected theft · UP-302"), "{found}");
    let own = ben.get("/cases?owner=ben&state=all&kind=&zone=").await.body;
    assert!(own.contains("C-2 · Suspected theft · UP-302"), "{own}");
    let all = ben.get("/cases").await.body;
    assert!(all.contains("The newest 500 of 512 that fit"), "a limit is said");
    assert!(all.contains(">512</span>"), "the count in the top bar is of all of them");
    let nothing = ben.get("/cases?zone=%20&state=all&kind=&owner=").await.body;
    assert!(nothing.contains("No case matches this filter"));
}

#[tokio::test]
async fn a_surplus_and_a_missing_energy_with_one_cause_are_said_once_on_both_pages() {
    let app = App::new().await;
    let words =
        "the zone above misses 98 % of this surplus at the same times: the observer meter between them reads low";
    let disagrees = Evidence::new(EvidenceKind::ObserverDisagrees, Direction::For, 7.0, words, zone(1), vec![]);
    let surplus = case(CaseKind::SurplusEnergy, 1, NOW.plus(-7_200), vec![disagrees]);
    let mut missing = case(CaseKind::MissingEnergy, 1, NOW.plus(-7_200), vec![]);
    missing.zone = metering::ZoneId::new("F1").expect("id");
    let ids = open(&app, vec![surplus, missing]).await;
    let ben = app.person("ben").await;
    for id in &ids {
        let page = ben.get(&format!("/cases/{id}")).await.body;
        assert!(page.contains("the observer meter of T1 reads"), "{page}");
        assert!(page.contains("One cause, two cases"), "{page}");
        assert!(ids.iter().all(|other| page.contains(&format!("/cases/{other}\""))), "both are linked");
    }
}

#[tokio::test]
async fn a_simulation_says_on_its_overview_what_just_happened() {
    let app = App::new().await;
    let programme = [web::programme::Entry {
        at: NOW.plus(3_600),
        what: "a home opens its meter".to_owned(),
        look: "its case".to_owned(),
    }];
    app.store.set_setting(web::programme::SETTING, &programme, "demo", NOW).await.expect("set");
    let page = app.person("anna").await.get("/").await.body;
    for words in [
        "What just happened",
        "C-2 · Suspected theft · UP-302",
        "chance ",
        "look at the evidence",
        "a home opens its meter.",
    ] {
        assert!(page.contains(words), "the strip lacks {words:?}:\n{page}");
    }
    assert!(page.contains("UP-103 in T1 reported"), "what a meter said, in words");
}

#[tokio::test]
async fn what_scrolls_is_no_landmark_and_a_label_holds_what_is_seen() {
    let app = App::new().await;
    let anna = app.person("anna").await;
    for path in ["/", "/cases", "/cases/2", "/zones/T3", "/meters", "/meters/M-101", "/audit", "/people", "/controls"] {
        let page = anna.get(path).await.body;
        assert!(!page.contains("role=\"region\""), "{path}: what scrolls is no landmark");
        assert!(!page.contains("aria-label=\"Change the colours\"") && !page.contains("aria-label=\"zone "), "{path}");
    }
}
