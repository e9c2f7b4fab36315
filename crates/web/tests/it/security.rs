//! Headers, foreign requests, cookies, assets, exports.

use axum::http::StatusCode;

use crate::{app::App, world::NOW};

#[tokio::test]
async fn every_answer_carries_the_headers() {
    let app = App::new().await;
    let anna = app.person("anna").await;
    for path in ["/", "/sign-in", "/nothing", "/api/v1/zones", "/health", "/cases.csv"] {
        let answer = anna.get(path).await;
        assert_eq!(answer.header("content-security-policy"), web::CONTENT_SECURITY_POLICY, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("strict-transport-security"), "", "plain HTTP promises nothing");
    }
    assert!(!web::CONTENT_SECURITY_POLICY.contains("unsafe"));
}

#[tokio::test]
async fn pages_hold_no_inline_script_or_style() {
    let app = App::new().await;
    let anna = app.person("anna").await;
    for path in [
        "/",
        "/zones/T3",
        "/meters/M-103",
        "/cases",
        "/cases/2",
        "/controls",
        "/enrolment",
        "/policy",
        "/people",
        "/audit",
    ] {
        let body = anna.get(path).await.body;
        for banned in ["<style", " style=", "onclick", "onload", "javascript:", "hx-on", "<script>"] {
            assert!(!body.contains(banned), "{path} holds {banned}");
        }
        let scripts = body.matches("<script").count();
        assert_eq!(scripts, body.matches("<script defer src=\"/assets/").count(), "{path}");
        let mut ids = std::collections::BTreeSet::new();
        for id in body.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(ids.insert(id.to_owned()), "{path}: the id {id} stands twice");
        }
    }
    let qr = anna.form("/enrolment/meters", "meters=M-777").await.body;
    assert!(!qr.contains(" style=") && qr.contains("<path"));
}

#[tokio::test]
async fn foreign_requests_are_refused() {
    let app = App::new().await;
    let body = "on=true";
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        let anna = app.person("anna").await.with(name, value);
        assert_eq!(anna.form("/policy/abort", body).await.status, StatusCode::FORBIDDEN, "{name}: {value}");
        assert_eq!(anna.get("/policy").await.status, StatusCode::OK);
    }
    assert_eq!(app.store.setting::<bool>("abort_switch").await.expect("read"), None);
    for (name, value) in [("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:8090")] {
        let anna = app.person("anna").await.with(name, value);
        assert_eq!(anna.form("/policy/abort", body).await.status, StatusCode::SEE_OTHER, "{name}: {value}");
    }
}

#[tokio::test]
async fn over_tls_cookies_are_bound_to_the_host() {
    let app = App::at("https://gridtally.example").await;
    let token =
        app.store.create_one_time(&store::OneTime::SignIn("anna".to_owned()), NOW.plus(60)).await.expect("token");
    let answer = app.nobody().get(&format!("/sign-in?token={token}")).await;
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("__Host-gridtally=") && cookie.ends_with("; Secure"), "{cookie}");
    assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
    assert_eq!(app.person("anna").await.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn assets_are_kept_for_ever_under_their_hash() {
    let app = App::new().await;
    let page = app.person("anna").await.get("/zones/T3").await.body;
    let mut seen = 0;
    for path in page.split('"').filter(|part| part.starts_with("/assets/")) {
        let answer = app.nobody().get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(answer.header("cache-control").contains("immutable"));
        let tag = answer.header("etag").to_owned();
        let again = app.nobody().with("if-none-match", &tag).get(path).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED);
        seen += 1;
    }
    assert!(seen >= 7, "{seen}");
    assert_eq!(app.nobody().get("/assets/0000000000000000/app.js").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn exports_hold_no_formulas_and_pages_no_markup_from_people() {
    let app = App::new().await;
    let ben = app.person("ben").await;
    assert_eq!(ben.form("/cases/3", "action=move&to=review").await.status, StatusCode::SEE_OTHER);
    let reason = "%3DHYPERLINK(%22http%3A%2F%2Fevil%22)%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    let answer = ben.form("/cases/3", &format!("action=conclude&verdict=cleared&reason={reason}&kwh=0")).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let csv = ben.get("/cases.csv?state=all").await.body;
    assert!(csv.contains("\"'=HYPERLINK(") && !csv.contains(",=") && !csv.contains(",\"="), "{csv}");
    let page = ben.get("/cases/3").await.body;
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>"));
    let found = ben.get("/find?q=%3Cimg%20src%3Dx%3E").await.body;
    assert!(found.contains("&lt;img src=x&gt;"));
}
