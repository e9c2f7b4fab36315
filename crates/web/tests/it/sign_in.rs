//! Signing in under attack, passwords and tokens over their life, what is written down of it.

use axum::http::StatusCode;
use metering::Timestamp;
use serde_json::json;
use store::{NewUser, OneTime, Role};

use crate::{
    app::App,
    world::{NOW, point},
};

const TRY: &str = "name=gita&password=not+the+right+one&next=/";
const RIGHT: &str = "name=gita&password=quiet+river+stones&next=";

/// A person with a real password, made through the API and changed once.
async fn gita(app: &App) {
    let anna = app.person("anna").await;
    let body = json!({ "name": "gita", "role": "operator", "password": "long enough 1" });
    let made = anna.json("POST", "/api/v1/people", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert_eq!(made.json()["first_password"], true);
    let own = json!({ "old": "long enough 1", "new": "quiet river stones" });
    let changed = app.person("gita").await.json("PUT", "/api/v1/my/password", &own).await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT, "{}", changed.body);
}

#[tokio::test]
async fn tries_at_the_same_time_are_counted_and_made_up_names_do_not_help() {
    let app = App::new().await;
    gita(&app).await;
    let nobody = app.nobody();
    let mut answers = Vec::new();
    for _ in 0..30 {
        answers.push(nobody.form("/sign-in", TRY));
    }
    let mut checked = 0;
    let mut told_to_wait = 0;
    for answer in futures(answers).await {
        match answer.status {
            StatusCode::UNPROCESSABLE_ENTITY => checked += 1,
            StatusCode::TOO_MANY_REQUESTS => told_to_wait += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((checked, told_to_wait), (5, 25));
    let long = format!("name=someone&password={}", "x".repeat(300));
    assert_eq!(nobody.form("/sign-in", &long).await.status, StatusCode::BAD_REQUEST);
    let long = format!("name={}&password=x", "x".repeat(300));
    assert_eq!(nobody.form("/sign-in", &long).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(nobody.form("/sign-in", RIGHT).await.status, StatusCode::TOO_MANY_REQUESTS, "also the right one waits");
    let audit = app.store.audit(100).await.expect("read");
    let failed = audit.iter().filter(|row| row.action == "sign_in.failed" && row.subject == "person:gita").count();
    assert_eq!(failed, 5);
}

/// Polls all of them together.
async fn futures<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        waiting.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

#[tokio::test]
async fn nobody_is_sent_elsewhere_after_signing_in() {
    let app = App::new().await;
    gita(&app).await;
    for next in
        ["%2F%09%2Fevil.example", "%2F%2Fevil.example", "%2F%5Cevil.example", "%2F%00", "https%3A%2F%2Fevil.example"]
    {
        let answer = app.nobody().form("/sign-in", &format!("{RIGHT}{next}")).await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/"), "{next}");
    }
    let answer = app.nobody().form("/sign-in", &format!("{RIGHT}%2Fcases%3Fstate%3Dnew")).await;
    assert_eq!(answer.header("location"), "/cases?state=new");
}

#[tokio::test]
async fn a_first_password_opens_one_page_only() {
    let app = App::new().await;
    let anna = app.person("anna").await;
    for weak in ["aaaaaaaaaa", "1234567890", "hugohugohugo", "short"] {
        let body = json!({ "name": "hugo", "role": "engineer", "password": weak });
        assert_eq!(anna.json("POST", "/api/v1/people", &body).await.status, StatusCode::BAD_REQUEST, "{weak}");
    }
    let body = json!({ "name": "hugo", "role": "engineer", "password": "long enough 1" });
    assert_eq!(anna.json("POST", "/api/v1/people", &body).await.status, StatusCode::CREATED);
    let hugo = app.person("hugo").await;
    for path in ["/", "/cases", "/live?topics=cases"] {
        assert!(matches!(hugo.get(path).await.status, StatusCode::SEE_OTHER | StatusCode::FORBIDDEN), "{path}");
    }
    assert_eq!(hugo.get("/password").await.status, StatusCode::OK);
    let wrong = hugo.form("/password", "old=wrong+one+here&new=quiet+river+stones&again=quiet+river+stones").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let two = hugo.form("/password", "old=long+enough+1&new=quiet+river+stones&again=quiet+river+stone").await;
    assert_eq!(two.status, StatusCode::UNPROCESSABLE_ENTITY);
    let changed = hugo.form("/password", "old=long+enough+1&new=quiet+river+stones&again=quiet+river+stones").await;
    assert_eq!(changed.status, StatusCode::SEE_OTHER, "{}", changed.body);
    assert_eq!(hugo.get("/password").await.status, StatusCode::SEE_OTHER, "the sessions before have ended");
    let hugo = app.person("hugo").await;
    assert_eq!(hugo.get("/cases").await.status, StatusCode::OK);
    let reset = anna.json("PUT", "/api/v1/people/hugo/password", &json!({ "password": "another first 1" })).await;
    assert_eq!(reset.status, StatusCode::NO_CONTENT, "{}", reset.body);
    assert_eq!(hugo.get("/cases").await.status, StatusCode::SEE_OTHER, "a reset ends the sessions");
    let own = anna.json("PUT", "/api/v1/people/anna/password", &json!({ "password": "another first 1" })).await;
    assert_eq!(own.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn tokens_are_listed_end_and_are_taken_back() {
    let app = App::new().await;
    let anna = app.person("anna").await;
    let made = anna.json("POST", "/api/v1/tokens", &json!({ "name": "billing", "role": "engineer", "days": 30 })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let token = made.json()["token"].as_str().expect("a token").to_owned();
    let program = app.nobody().with("authorization", &format!("Bearer {token}"));
    assert_eq!(program.get("/api/v1/zones").await.status, StatusCode::OK);
    assert_eq!(program.get("/api/v1/tokens").await.status, StatusCode::FORBIDDEN, "an engineer's token");
    let page = anna.get("/tokens").await.body;
    assert!(page.contains("billing") && page.contains("2026-02-14") && !page.contains(&token), "{page}");
    for bad in [json!({ "name": "x", "role": "consumer" }), json!({ "name": "x", "role": "engineer", "days": 0 })] {
        assert_eq!(anna.json("POST", "/api/v1/tokens", &bad).await.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(anna.send("DELETE", "/api/v1/tokens/billing", None, String::new()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(program.get("/api/v1/zones").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(anna.send("DELETE", "/api/v1/tokens/billing", None, String::new()).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_last_operator_stays() {
    let app = App::new().await;
    let program = app.program(Role::Operator).await;
    let answer = program.json("PUT", "/api/v1/people/anna/disabled", &json!({ "disabled": true })).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
    assert!(answer.body.contains("last operator"), "{}", answer.body);
}

#[tokio::test]
async fn a_meters_secret_is_taken_back_and_no_meter_is_named_twice() {
    let app = App::new().await;
    let anna = app.person("anna").await;
    let twice = anna.json("POST", "/api/v1/meters", &json!({ "meters": ["M-900", "M-900"] })).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST, "{}", twice.body);
    assert_eq!(anna.json("POST", "/api/v1/meters", &json!({ "meters": ["M-900"] })).await.status, StatusCode::OK);
    let gone = anna.send("DELETE", "/api/v1/meters/M-900/secret", None, String::new()).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.body);
    let left = app.store.credentials().await.expect("read");
    assert!(!left.iter().any(|(meter, _)| meter.as_str() == "M-900"));
    let gone = anna.send("DELETE", "/api/v1/meters/M-900/secret", None, String::new()).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn only_its_own_names_are_served() {
    let app = App::new().await;
    for host in ["evil.example", "evil.example:8090", "127.0.0.1.evil.example", "[::2]", ""] {
        let answer = app.at_host(host, "/sign-in").await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
        assert!(answer.header("content-security-policy").contains("default-src"), "{host}");
    }
    for host in ["127.0.0.1", "127.0.0.1:9"] {
        assert_eq!(app.at_host(host, "/sign-in").await.status, StatusCode::OK, "{host}");
    }
    assert_eq!(app.at_host("probe.example", "/health").await.status, StatusCode::OK);
}

#[tokio::test]
async fn two_cookies_of_one_name_are_none() {
    let app = App::new().await;
    let token = app.store.create_session("anna", NOW.plus(3_600), NOW).await.expect("session");
    let with = async |cookies: String| app.nobody().with("cookie", &cookies).get("/cases").await.status;
    assert_eq!(with(format!("gridtally={token}")).await, StatusCode::OK);
    assert_eq!(with(format!("gridtally=planted; gridtally={token}")).await, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn what_is_read_and_refused_is_written_down_once() {
    let app = App::new().await;
    let (ben, carla) = (app.person("ben").await, app.person("carla").await);
    for _ in 0..3 {
        assert_eq!(ben.get("/api/v1/meters/M-101/profile").await.status, StatusCode::OK);
        assert_eq!(ben.get("/people").await.status, StatusCode::FORBIDDEN);
        assert_eq!(carla.get("/cases").await.status, StatusCode::NOT_FOUND);
        assert_eq!(carla.get("/api/v1/my/profile").await.status, StatusCode::OK);
    }
    ben.form("/sign-out", "").await;
    let audit = app.store.audit(1_000).await.expect("read");
    let count = |by: &str, action: &str, subject: &str| {
        audit
            .iter()
            .filter(|row| (row.by.as_str(), row.action.as_str(), row.subject.as_str()) == (by, action, subject))
            .count()
    };
    assert_eq!(count("ben", "profile.read", "meter:M-101"), 1);
    assert_eq!(count("ben", "access.refused", "place:/people"), 1);
    assert_eq!(count("carla", "access.refused", "place:/cases"), 1);
    assert_eq!(count("ben", "session.end", "person:ben"), 1);
    assert!(!audit.iter().any(|row| row.by == "carla" && row.action.ends_with(".read")), "what is one's own");
}

#[tokio::test]
async fn one_person_holds_few_live_streams() {
    let app = App::new().await;
    let (anna, ben) = (app.person("anna").await, app.person("ben").await);
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        match anna.stream("/live?topics=cases").await {
            (StatusCode::OK, body) => open.push(body),
            (StatusCode::TOO_MANY_REQUESTS, _) => refused += 1,
            (other, _) => panic!("{other}"),
        }
    }
    assert_eq!((open.len(), refused), (32, 8));
    assert_eq!(ben.stream("/live?topics=cases").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_consumer_sees_a_meter_while_it_hung_at_the_own_place() {
    let app = App::new().await;
    // M-101 goes from carla's place to a new one an hour ago; there erik moves in.
    let moved = NOW.plus(-3_600);
    let csv = format!(
        "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\nT1,F1,,{},M-950,1,B,{moved}\nT1,F1,,UP-NEW,M-101,1,B,{moved}\n",
        point(1, 1)
    );
    let report = app.store.import_topology(&csv, "anna", NOW).await.expect("imported");
    assert!(report.rejected.is_empty(), "{report:?}");
    let place = metering::UsagePointId::new("UP-NEW").expect("id");
    let erik =
        NewUser { name: "erik".into(), role: Role::Consumer, usage_point: Some(place), password_hash: "-".into() };
    app.store.create_user(erik, "anna", NOW).await.expect("made");
    let (erik, carla) = (app.person("erik").await, app.person("carla").await);
    let ends = |answer: crate::app::Answer| -> Vec<i64> {
        let json = answer.json();
        json["rows"].as_array().into_iter().flatten().filter_map(|row| row["end"].as_i64()).collect()
    };
    let his = ends(erik.get("/api/v1/meters/M-101/profile?hours=48").await);
    assert!(!his.is_empty() && his.iter().all(|end| Timestamp(*end) > moved), "{his:?}");
    let hers = ends(carla.get("/api/v1/meters/M-101/profile?hours=48").await);
    assert!(!hers.is_empty() && hers.iter().all(|end| Timestamp(*end) <= moved), "{hers:?}");
    let csv = erik.get("/my/profile.csv?hours=48").await.body;
    assert_eq!(csv.lines().count(), his.len() + 1, "{csv}");
    assert_eq!(
        carla.get("/api/v1/meters/M-101").await.status,
        StatusCode::NOT_FOUND,
        "where it is now is not hers to know"
    );
    assert_eq!(erik.get("/api/v1/meters/M-102/profile").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_set_up_link_is_for_an_empty_house() {
    let app = App::new().await;
    let token = app.store.create_one_time(&OneTime::SetUp, NOW.plus(60)).await.expect("token");
    let answer = app.nobody().form("/setup", &format!("token={token}&name=late&password=quiet+river+stones")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_the_api_as_by_the_pages() {
    let app = App::new().await;
    let program = app.program(Role::Operator).await;
    let control = |kind: serde_json::Value| json!({ "meter": "M-101", "kind": kind, "reason": "a test" });
    for watts in [0, -5, i32::MIN] {
        let answer =
            program.json("POST", "/api/v1/controls", &control(json!({ "load_limit": { "limit_w": watts } }))).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{watts} W: {}", answer.body);
    }
    let unknown = json!({ "meter": "M-9999", "kind": "reconnect", "reason": "typing error" });
    assert_eq!(program.json("POST", "/api/v1/controls", &unknown).await.status, StatusCode::NOT_FOUND);
    for (owner, due) in [("nobody", 1_769_000_000_i64), ("carla", 1_769_000_000), ("ben", i64::MAX), ("ben", 0)] {
        let action = json!({ "action": "assign", "owner": owner, "due": due });
        let answer = program.json("POST", "/api/v1/cases/3/actions", &action).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{owner} {due}: {}", answer.body);
    }
    let action = json!({ "action": "assign", "owner": "ben", "due": 1_769_000_000 });
    assert_eq!(program.json("POST", "/api/v1/cases/3/actions", &action).await.status, StatusCode::OK);
}

#[tokio::test]
async fn all_refused_rows_are_counted() {
    let app = App::new().await;
    let rows: String = (0..2_000).map(|n| format!("Z-{n},F1,O-{n},,,1:5,,2026-01-01\n")).collect();
    let csv = format!("zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n{rows}");
    let report = app.store.import_topology(&csv, "anna", NOW).await.expect("read");
    assert_eq!((report.accepted, report.rejected_count), (0, 2_000));
    assert!(report.rejected.len() < 2_000, "the list is bounded, the count is not");
}
