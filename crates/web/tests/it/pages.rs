//! Every page: who gets it, and that it says what it should.

use axum::http::StatusCode;
use serde_json::json;
use store::{OneTime, Role};

use crate::{
    app::App,
    world::{NOW, point},
};

/// Path, and texts that must be in it for staff.
const STAFF_PAGES: [(&str, &[&str]); 21] = [
    (
        "/",
        &[
            "Unaccounted",
            "T3",
            "C-2 · Suspected theft · UP-302",
            "± ",
            "data-topics=\"overview,cases,controls\"",
            "class=\"oneline\"",
            "tamper reported within 24 h",
        ],
    ),
    (
        "/zones/T3",
        &[
            "Zone T3",
            "data-chart=\"balance\"",
            "/api/v1/zones/T3/balances?step_minutes=15",
            "C-2 · Suspected theft",
            "M-302",
            "OBS-T3",
            "beyond its uncertainty",
        ],
    ),
    ("/zones/F1?hours=720", &["Zone F1", "T1", "step_minutes=30"]),
    ("/zones/T3/balances.csv?hours=24", &["supplied_wh", "T3,2026-01-15T12:00:00Z,15,"]),
    ("/meters", &["M-101", "observer", "silent"]),
    ("/meters/M-103", &["cover opened", "display: 000", "1.8.0", ">off<", "C-3 · Tamper suspected", "GT-1P"]),
    ("/meters/M-201?from=1768305600&to=1768392000", &["Meter M-201", "2026-01-13 12:00"]),
    (
        "/meters/M-101/quality?to=1768478400",
        &[
            "Power quality of M-101",
            "provisional",
            "harmonic 5, 95 % value",
            "not measured",
            "one cycle: voltage to 326 V",
            "momentary sag",
            "may stop",
            "from 40 %",
            "strictest row",
        ],
    ),
    ("/meters/M-102/quality", &["Power quality of M-102", "No power-quality values"]),
    ("/meters/M-101/profile.csv", &["import_wh", "M-101,2026-01-15T12:00:00Z,15,"]),
    ("/cases", &["C-2 · Suspected theft · UP-302", "C-3 · Tamper suspected · UP-103", "Export CSV"]),
    ("/cases?state=all&sort=weight&kind=&zone=&owner=", &["C-1 · Missing energy · zone T2", "cleared"]),
    ("/cases.csv?state=all", &["suspected theft", "UP-302", "cleared"]),
    (
        "/cases/2",
        &[
            "Evidence for",
            "1.68 ± 0.12 kW are missing",
            "Evidence against",
            "UP-305 explains the residual",
            "/meters/M-302?from=",
            "Send a visit",
            "data-key=\"v\"",
            "The curve",
            "New heat pump",
        ],
    ),
    (
        "/suspects",
        &["Whom to check", "UP-302", "Chance %", "Visits before the next night", "Test thefts found (canaries)", "INR"],
    ),
    ("/findings", &["Nothing to decide", "nobody it is about is named"]),
    (
        "/cases/2/evidence.json",
        &["gridtally evidence 1", "1.68 ± 0.12 kW are missing", "import_wh", "losses explain 2"],
    ),
    ("/controls", &["Disconnect", "Verified", "M-103"]),
    ("/controls/1", &["handed to the connection", "inflow fell by 0.5 kW", "cover opened; contact sensor"]),
    ("/audit?verify=1", &["The chain is whole", "control.request", "anna"]),
    ("/find?q=M-10", &["meter M-101", "hits"]),
];

const OPERATOR_PAGES: [(&str, &[&str]); 5] = [
    ("/enrolment", &["Import the topology", "zone,parent,observer_meter", "Make secrets"]),
    ("/policy", &["Abort switch: off", "cover opened", "Never disconnect"]),
    ("/people", &["carla", "UP-101", "consumer"]),
    ("/meters/M-101/control?kind=disconnect", &["Type the meter", "data-expect=\"M-101\"", "UP-101"]),
    ("/meters/OBS-T1", &["observer of zone"]),
];

#[tokio::test]
async fn staff_see_their_pages_and_nobody_else_does() {
    let app = App::new().await;
    let (anna, ben, carla) = (app.person("anna").await, app.person("ben").await, app.person("carla").await);
    for (path, texts) in STAFF_PAGES {
        for caller in [&anna, &ben] {
            let answer = caller.get(path).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
            for text in texts.iter().filter(|text| **text != "Disconnect" || path == "/controls") {
                assert!(answer.body.contains(text), "{path} lacks {text:?}:\n{}", answer.body);
            }
        }
        let answer = app.nobody().get(path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert!(answer.header("location").starts_with("/sign-in?next="), "{path}");
        if path != "/" {
            assert_eq!(carla.get(path).await.status, StatusCode::NOT_FOUND, "{path} for a consumer");
        }
    }
    for (path, texts) in OPERATOR_PAGES {
        let answer = anna.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        for text in texts {
            assert!(answer.body.contains(text), "{path} lacks {text:?}");
        }
        let expected = if path == "/meters/OBS-T1" { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(ben.get(path).await.status, expected, "{path} for an engineer");
        assert_eq!(carla.get(path).await.status, StatusCode::NOT_FOUND, "{path} for a consumer");
    }
    for path in ["/zones/NOWHERE", "/zones/%20", "/meters/M-999", "/cases/99", "/controls/99", "/nothing"] {
        let answer = anna.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.body.contains("There is nothing at this address."), "{path}: {}", answer.body);
    }
    let off = anna.get("/meters/M-103").await.body;
    assert!(off.contains("/meters/M-103/control?kind=reconnect") && !off.contains("kind=disconnect"), "it is off");
    assert!(anna.get("/meters/M-101").await.body.contains("/meters/M-101/control?kind=disconnect"));
    assert!(!ben.get("/meters/M-103").await.body.contains("/control?kind="));
    assert!(!anna.get("/meters/OBS-T1").await.body.contains("kind=disconnect"), "an observer cuts a whole zone");
}

#[tokio::test]
async fn a_consumer_sees_the_own_meter_and_nothing_else() {
    let app = App::new().await;
    let (carla, dora) = (app.person("carla").await, app.person("dora").await);
    assert_eq!(carla.get("/").await.header("location"), "/my");
    let page = carla.get("/my").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("M-101") && page.body.contains("UP-101") && !page.body.contains("M-102"));
    assert!(page.body.contains("data-topics=\"meter:M-101\""));
    assert!(!page.body.contains("Cases"));
    assert!(dora.get("/my").await.body.contains("M-102"));
    assert!(carla.get("/my/profile.csv").await.body.contains("M-101,2026-01-15T12:00:00Z"));
    for own in ["", "/profile", "/events"] {
        assert_eq!(carla.get(&format!("/api/v1/meters/M-101{own}")).await.status, StatusCode::OK);
        assert_eq!(carla.get(&format!("/api/v1/meters/M-102{own}")).await.status, StatusCode::NOT_FOUND);
        assert_eq!(carla.get(&format!("/api/v1/my{own}")).await.status, StatusCode::OK);
    }
    assert_eq!(app.person("anna").await.get("/my").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn missing_is_never_shown_as_zero() {
    let app = App::new().await;
    let anna = app.person("anna").await;
    let csv = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\nT9,F1,OBS-T9,,,,,2026-01-01\nT9,F1,,UP-901,M-901,1,A,2026-01-01\n";
    let body = format!("csv={}", csv.replace('\n', "%0A"));
    let answer = anna.form("/enrolment/topology", &body).await;
    assert!(answer.body.contains("2 rows taken"), "{}", answer.body);
    let zone = anna.get("/zones/T9").await;
    assert!(zone.body.contains("No balance in this period"));
    let overview = anna.get("/").await.body;
    assert!(overview.contains("<span data-k=\"T9:supplied\">–</span>"), "{overview}");
    let meter = anna.get("/meters/M-901").await.body;
    assert!(meter.contains("<span data-k=\"power\">–</span>") && meter.contains("display: no reading yet"));
    let rejected = anna.form("/enrolment/topology", &format!("{body}T9,NOPE%2FX,,UP-1,,,,yesterday")).await;
    assert!(rejected.body.contains("Rows not taken"), "{}", rejected.body);
}

#[tokio::test]
async fn a_case_goes_its_way_by_forms() {
    let app = App::new().await;
    let ben = app.person("ben").await;
    let done = ben.form("/cases/3", "action=move&to=review").await;
    assert_eq!((done.status, done.header("location")), (StatusCode::SEE_OTHER, "/cases/3"));
    assert_eq!(ben.form("/cases/3", "action=assign&owner=ben&due=2026-02-01").await.status, StatusCode::SEE_OTHER);
    assert_eq!(ben.form("/cases/3", "action=assign&owner=carla&due=").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(ben.form("/cases/3", "action=comment&text=seal+broken").await.status, StatusCode::SEE_OTHER);
    let concluded = "action=conclude&verdict=confirmed&reason=wire+around+the+meter&kwh=41.5";
    assert_eq!(ben.form("/cases/3", concluded).await.status, StatusCode::SEE_OTHER);
    let again = ben.form("/cases/3", concluded).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.body);
    assert!(again.body.contains("closed"), "{}", again.body);
    let page = ben.get("/cases/3").await.body;
    assert!(page.contains("Confirmed · 41.5 kWh") && page.contains("seal broken") && page.contains("2026-02-01"));
}

#[tokio::test]
async fn a_command_needs_the_typed_name_a_reason_and_a_permission() {
    let app = App::new().await;
    let (anna, ben) = (app.person("anna").await, app.person("ben").await);
    let form = |kind: &str, confirm: &str, reason: &str| {
        format!("kind={kind}&limit_w=&minutes=60&reason={reason}&confirm={confirm}")
    };
    let path = "/meters/M-101/control";
    assert_eq!(ben.form(path, &form("disconnect", "M-101", "x")).await.status, StatusCode::FORBIDDEN);
    let wrong = anna.form(path, &form("disconnect", "M-102", "x")).await;
    assert!(wrong.status == StatusCode::BAD_REQUEST && wrong.body.contains("nothing was sent"));
    assert_eq!(anna.form(path, &form("disconnect", "M-101", "+")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(app.store.open_controls().await.expect("controls").len(), 0);
    let sent = anna.form(path, &form("disconnect", "M-101", "tariff")).await;
    assert_eq!((sent.status, sent.header("location")), (StatusCode::SEE_OTHER, "/controls/2"), "{}", sent.body);
    assert!(anna.get("/controls/2").await.body.contains("Approved"));
    assert_eq!(
        anna.form("/policy/never-disconnect", "usage_point=UP-102&never=true").await.status,
        StatusCode::SEE_OTHER
    );
    let refused = anna.form("/meters/M-102/control", &form("disconnect", "M-102", "x")).await;
    assert!(
        refused.status == StatusCode::CONFLICT && refused.body.contains("never to be disconnected"),
        "{}",
        refused.body
    );
    assert_eq!(anna.form("/policy/abort", "on=true").await.status, StatusCode::SEE_OTHER);
    assert!(anna.get("/controls").await.body.contains("The abort switch is on"));
    assert_eq!(
        anna.form("/meters/M-104/control", &form("disconnect", "M-104", "x")).await.status,
        StatusCode::CONFLICT
    );
    assert_eq!(
        anna.form("/meters/M-104/control", &form("reconnect", "M-104", "x")).await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn rules_are_saved_from_the_form() {
    let app = App::new().await;
    let anna = app.person("anna").await;
    let body = "kind-251=on&per_hour_max=2&per_feeder_hour_max=1&per_day_per_mille=3&per_day_min=4";
    assert_eq!(anna.form("/policy", body).await.status, StatusCode::SEE_OTHER);
    let saved: store::SupplyPolicy = app.store.setting("policy").await.expect("read").expect("set");
    assert_eq!(saved.automatic_kinds, [metering::EventKind::CoverOpen]);
    assert_eq!((saved.per_hour_max, saved.per_day_min), (2, 4));
    assert_eq!(anna.form("/policy", "per_hour_max=many").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn secrets_are_shown_once() {
    let app = App::new().await;
    let anna = app.person("anna").await;
    let page = anna.form("/enrolment/meters", "meters=M-777%0AM-778").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let secrets = page.body.matches("data-copy=\"").count();
    assert!(page.body.contains("mosquitto_pub -h ") && page.body.contains("gt/1/M-777/up/now"), "{}", page.body);
    assert!(secrets == 4 && page.body.contains("<svg") && page.body.contains("gt/1/M-777/down/#"));
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(anna.form("/enrolment/meters", "meters=a%2Fb").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn set_up_and_sign_in_tokens_work_once() {
    let app = App::empty().await;
    let token = app.store.create_one_time(&OneTime::SetUp, NOW.plus(60)).await.expect("token");
    let nobody = app.nobody();
    assert_eq!(nobody.get("/setup?token=wrong").await.status, StatusCode::FORBIDDEN);
    assert!(nobody.get(&format!("/setup?token={token}")).await.body.contains("The first operator"));
    let short = nobody.form("/setup", &format!("token={token}&name=eve&password=short")).await;
    assert!(short.status == StatusCode::UNPROCESSABLE_ENTITY && short.body.contains("at least 10 characters"));
    let made = nobody.form("/setup", &format!("token={token}&name=eve&password=long+enough+1")).await;
    assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.body);
    assert!(made.header("set-cookie").contains("HttpOnly; SameSite=Lax"));
    let again = nobody.form("/setup", &format!("token={token}&name=eva&password=long+enough+1")).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    let entered = nobody.form("/sign-in", "name=eve&password=long+enough+1&next=%2Fcases").await;
    assert_eq!((entered.status, entered.header("location")), (StatusCode::SEE_OTHER, "/cases"));
    let away = nobody.form("/sign-in", "name=eve&password=long+enough+1&next=%2F%2Fevil.example").await;
    assert_eq!(away.header("location"), "/");
    for _ in 0..5 {
        let wrong = nobody.form("/sign-in", "name=eve&password=wrong+password").await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let waits = nobody.form("/sign-in", "name=eve&password=long+enough+1").await;
    assert_eq!(waits.status, StatusCode::TOO_MANY_REQUESTS);

    let token = app.store.create_one_time(&OneTime::SignIn("eve".to_owned()), NOW.plus(60)).await.expect("token");
    let path = format!("/sign-in?token={token}");
    assert_eq!(nobody.get(&path).await.status, StatusCode::SEE_OTHER);
    assert!(nobody.get(&path).await.body.contains("has been used or has expired"));
}

#[tokio::test]
async fn signing_out_ends_the_session_and_barring_ends_all() {
    let app = App::new().await;
    let (anna, ben) = (app.person("anna").await, app.person("ben").await);
    assert_eq!(ben.form("/sign-out", "").await.status, StatusCode::SEE_OTHER);
    assert_eq!(ben.get("/cases").await.status, StatusCode::SEE_OTHER);
    let ben = app.person("ben").await;
    assert_eq!(ben.get("/cases").await.status, StatusCode::OK);
    assert_eq!(anna.form("/people/ben", "disabled=true").await.status, StatusCode::SEE_OTHER);
    assert_eq!(ben.get("/cases").await.status, StatusCode::SEE_OTHER);
    assert_eq!(anna.form("/people/anna", "disabled=true").await.status, StatusCode::CONFLICT);
    let body = format!("name=frida&role=consumer&usage_point={}&password=long+enough+1", point(1, 4));
    assert_eq!(anna.form("/people", &body).await.status, StatusCode::SEE_OTHER);
    let frida = app.person("frida").await;
    let gate = frida.get("/my").await;
    assert_eq!(
        (gate.status, gate.header("location")),
        (StatusCode::SEE_OTHER, "/password"),
        "the first password is changed first"
    );
    assert_eq!(frida.get("/api/v1/my").await.status, StatusCode::FORBIDDEN);
    let changed = frida.form("/password", "old=long+enough+1&new=only+frida+knows&again=only+frida+knows").await;
    assert_eq!((changed.status, changed.header("location")), (StatusCode::SEE_OTHER, "/"), "{}", changed.body);
    assert!(app.person("frida").await.get("/my").await.body.contains("M-104"));
    let unknown = anna.form("/people", "name=g&role=consumer&usage_point=UP-9&password=long+enough+1").await;
    assert!(
        unknown.status == StatusCode::UNPROCESSABLE_ENTITY && unknown.body.contains("There is no usage point UP-9.")
    );
    let program = app.program(Role::Engineer).await;
    assert_eq!(program.get("/api/v1/people").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn files_are_attached_by_a_form_and_only_ever_downloaded() {
    let app = App::new().await;
    let ben = app.person("ben").await;
    let form = |content: &str| {
        format!(
            "--b0\r\nContent-Disposition: form-data; name=\"file\"; filename=\"seal <1>.txt\"\r\n\
             Content-Type: text/html\r\n\r\n{content}\r\n--b0--\r\n"
        )
    };
    let kind = "multipart/form-data; boundary=b0";
    let done = ben.send("POST", "/cases/3/files", Some(kind), form("<b>seal broken</b>")).await;
    assert_eq!((done.status, done.header("location")), (StatusCode::SEE_OTHER, "/cases/3"), "{}", done.body);
    let page = ben.get("/cases/3").await.body;
    assert!(page.contains("seal _1_.txt") && page.contains("/cases/3/files/1"), "{page}");
    let file = ben.get("/cases/3/files/1").await;
    assert_eq!((file.status, file.body.as_str()), (StatusCode::OK, "<b>seal broken</b>"));
    assert_eq!(file.header("content-type"), "text/plain; charset=utf-8");
    assert!(file.header("content-disposition").starts_with("attachment; filename=\"seal _1_.txt\""));
    assert_eq!(file.header("x-content-type-options"), "nosniff");
    assert_eq!(ben.get("/cases/2/files/1").await.status, StatusCode::NOT_FOUND);
    let large = ben.send("POST", "/cases/3/files", Some(kind), form(&"x".repeat(6 * 1024 * 1024))).await;
    assert!(large.status.is_client_error(), "{}", large.status);
    let empty = ben.send("POST", "/cases/3/files", Some(kind), String::new()).await;
    assert_eq!(empty.status, StatusCode::BAD_REQUEST);
    let json = ben.get("/cases/2/evidence.json").await;
    assert!(json.header("content-disposition").contains("case-2-evidence.json"));
    assert_eq!(json.body, ben.get("/cases/2/evidence.json").await.body, "nothing of the moment is in it");
}

#[tokio::test]
async fn what_a_visit_is_worth_is_a_setting() {
    let app = App::new().await;
    let (anna, ben) = (app.person("anna").await, app.person("ben").await);
    let body = "currency=EUR&tariff=0.32&visit_cost=90.5&visits=3&random_percent=5&back_days=365&ahead_days=30";
    assert_eq!(ben.form("/suspects/settings", body).await.status, StatusCode::FORBIDDEN);
    assert_eq!(anna.form("/suspects/settings", body).await.status, StatusCode::SEE_OTHER);
    let saved: losses::ranking::RecoverySettings =
        app.store.setting(web::ranking::SETTING).await.expect("read").expect("set");
    assert_eq!((saved.tariff_minor_per_kwh, saved.visit_cost_minor, saved.visits_per_night), (32, 9_050, 3));
    assert!(anna.get("/suspects").await.body.contains("EUR"));
    assert_eq!(anna.form("/suspects/settings", &body.replace("0.32", "-1")).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_takes_a_brake_off_waits_for_another_operator() {
    let app = App::new().await;
    crate::world::user(&app.store, "emma", Role::Operator, None).await;
    let (anna, emma) = (app.person("anna").await, app.person("emma").await);
    let rules = json!({ "automatic_kinds": [], "per_hour_max": 50, "per_feeder_hour_max": 3, "per_day_per_mille": 1, "per_day_min": 10 });
    let asked = anna.json("PUT", "/api/v1/policy", &rules).await;
    assert_eq!((asked.status, &asked.json()["pending"]), (StatusCode::ACCEPTED, &json!(1)));
    assert_eq!(anna.json("PUT", "/api/v1/abort-switch", &json!({ "on": true })).await.status, StatusCode::NO_CONTENT);
    assert_eq!(anna.form("/policy/abort", "on=false").await.status, StatusCode::SEE_OTHER);
    let page = emma.get("/policy").await.body;
    assert!(
        page.contains("Waiting for another operator") && page.contains("abort switch off") && page.contains("anna")
    );
    assert!(anna.get("/policy").await.body.contains("Abort switch: on"), "it waits");
    assert_eq!(anna.json("POST", "/api/v1/pending/1/confirm", &json!({})).await.status, StatusCode::CONFLICT);
    assert_eq!(anna.form("/policy/pending/2", "confirm=true").await.status, StatusCode::CONFLICT);
    assert_eq!(emma.get("/api/v1/pending").await.json().as_array().map(Vec::len), Some(2));
    assert_eq!(emma.json("POST", "/api/v1/pending/1/confirm", &json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(emma.form("/policy/pending/2", "confirm=true").await.status, StatusCode::SEE_OTHER);
    let held = emma.get("/api/v1/policy").await.json();
    assert_eq!((&held["policy"]["per_hour_max"], &held["abort_switch"]), (&json!(50), &json!(false)));
    for bad in [json!({}), json!([]), json!({ "per_hour_max": 1 })] {
        assert_eq!(anna.json("PUT", "/api/v1/policy", &bad).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    let mut high = rules.clone();
    high["per_hour_max"] = json!(1_000_000);
    assert_eq!(anna.json("PUT", "/api/v1/policy", &high).await.status, StatusCode::BAD_REQUEST, "above the ceiling");
}
