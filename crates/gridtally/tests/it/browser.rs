//! The console in a real browser: sign-in, overview, a tamper case that appears by itself, the disconnection that a person orders,
//! and the page that shows it verified. Server and neighbourhood run in this process, Chromium is Debian's.
//!
//! Everything is waited for by looking at the page until a deadline. Where chromedriver is not installed, the test says so and ends.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fantoccini::{Client, ClientBuilder, Locator};
use gridtally::{
    config::Config,
    server::{Server, ServerOptions},
};
use hyper_util::client::legacy::connect::HttpConnector;
use metering::{ControlState, Timestamp};
use serde_json::{Value, json};
use sim::{Pace, SimConfig, Target, TheftKind, TheftPlan, World};
use store::{ControlFilter, NewUser, OneTime, Role, Store};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncBufReader},
    net::TcpStream,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long the page may take to show what is waited for; generous, because test machines are busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The thief's home and meter, as the simulated neighbourhood names them.
const USAGE_POINT: &str = "UP-1-03";
const METER: &str = "M-1-03";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_signs_in_sees_tampering_and_cuts_the_supply() {
    let profile = tempfile::tempdir().expect("a folder for the browser");
    let Some(driver) = Driver::start() else {
        // Written past the capture of the test harness, so that it is seen.
        let _ = writeln!(
            std::io::stderr(),
            "browser test left out: chromedriver is not installed (Debian: chromium-driver)"
        );
        return;
    };
    let browser = driver.open(profile.path()).await.expect("Chromium starts");
    let outcome = in_neighbourhood(&driver, &browser).await;
    let page = if outcome.is_err() { browser.source().await.unwrap_or_default() } else { String::new() };
    let _ = browser.close().await;
    if let Err(why) = outcome {
        panic!("{why}\nthe page was:\n{page}");
    }
}

/// Starts the server, lets a small neighbourhood live at 300 × real time, and walks through the console meanwhile.
async fn in_neighbourhood(driver: &Driver, browser: &Client) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let options = ServerOptions {
        data: folder.path().join("data"),
        config: Config::default(),
        simulated_clock: true,
        any_port: true,
    };
    let server = Server::start(options).await.map_err(|e| e.to_string())?;
    let (by, now, never) = ("test", Timestamp(0), Timestamp(i64::MAX / 2));
    let person = NewUser { name: "ada".into(), role: Role::Operator, usage_point: None, password_hash: "!".into() };
    server.store.create_user(person, by, now).await?;
    let token = server.store.create_one_time(&OneTime::SignIn("ada".into()), never).await?;

    let config = neighbourhood(server.verifying_key);
    let until = config.start.plus(365 * 86_400);
    let target = Target {
        mqtt: server.mqtt.to_string(),
        http: server.http.to_string(),
        admin_token: server.store.create_api_token("simulator", Role::Operator, by, now).await?,
        patience: PATIENCE,
    };
    let base = format!("http://{}", server.http);
    let drive = sim::drive(World::new(&config)?, target, Pace::Times(300.0), until, |_| {});
    let walked = tokio::select! {
        ended = drive => Err(format!("the neighbourhood ended first: {:?}", ended.err()).into()),
        walked = walk(browser, &base, &token, &server.store) => walked,
    };
    let quiet = driver.complaints(browser).await?;
    server.stop().await;
    walked?;
    if quiet.is_empty() { Ok(()) } else { Err(format!("the browser complained: {quiet:#?}").into()) }
}

/// Six homes; in the third the cover is opened and the sensor shunted half an hour after the history. No policy trips by itself.
fn neighbourhood(verifying_key: [u8; 32]) -> SimConfig {
    let mut config = SimConfig::honest(7, 1);
    config.transformers = 1;
    config.homes_per_transformer = 6;
    config.link_losses_per_month = 0.0;
    config.verifying_key = Some(verifying_key);
    config.thefts = vec![TheftPlan {
        kind: TheftKind::Shunt { kept: 0.08 },
        transformer: 0,
        home: Some(2),
        start: config.history_end().plus(1_800),
        end: None,
        zone_share: Some(0.25),
    }];
    config
}

async fn walk(browser: &Client, base: &str, token: &str, store: &Store) -> Result<(), Failure> {
    browser.goto(&format!("{base}/sign-in?token={token}")).await?;
    shown(browser, "//h1[.='Overview']").await?;
    shown(browser, "//div[@class='who-wide']//a[contains(., 'ada')]").await?;
    browser.goto(&format!("{base}/sign-in?token={token}")).await?;
    shown(browser, "//*[@role='alert'][contains(., 'has been used')]").await?;

    // The overview is opened once; the case comes onto it by itself.
    browser.goto(base).await?;
    shown(browser, "//table//a[@href='/zones/F1-T1']").await?;
    click(browser, &format!("//ul[contains(@class, 'inbox')]//a[contains(., '{USAGE_POINT}')]")).await?;

    shown(browser, &format!("//h1[contains(., '{USAGE_POINT}')]")).await?;
    shown(browser, "//section[@aria-label='Evidence for']//li[contains(., 'cover')]").await?;
    if !store.controls(ControlFilter::default()).await?.is_empty() {
        return Err("something was switched off without a person or a policy".into());
    }
    click(browser, "//a[contains(., 'Disconnect')]").await?;

    shown(browser, &format!("//h1[contains(., '{METER}')]")).await?;
    shown(browser, "//button[@data-guarded and @disabled]").await?;
    let confirm = shown(browser, "//input[@name='confirm']").await?;
    confirm.send_keys("M-1-0").await?;
    shown(browser, "//button[@data-guarded and @disabled]").await?;
    confirm.send_keys("3").await?;
    shown(browser, "//button[@data-guarded and not(@disabled)]").await?;
    shown(browser, "//textarea[@name='reason']").await?.send_keys("cover opened, seen in the console").await?;
    click(browser, "//button[@data-guarded]").await?;

    // The page of the control moves on by itself until the meter was read back.
    shown(browser, "//ol[contains(@class, 'timeline')]//strong[.='Verified']").await?;
    shown(browser, "//span[contains(@class, 'badge good')][.='Verified']").await?;
    let controls = store.controls(ControlFilter::default()).await?;
    if !matches!(controls.as_slice(), [only] if only.state == ControlState::Verified) {
        return Err(format!("the page says verified, the store says {controls:?}").into());
    }

    click(browser, "//dl//a[starts-with(@href, '/cases/')]").await?;
    shown(browser, "//section[@aria-label='Commands of this case']//*[.='Verified']").await?;
    // The rule moved the case on, and the supply card follows the relay.
    shown(browser, "//li[@aria-current='step'][.='review']").await?;
    shown(browser, "//section[@aria-label='Supply']//a[contains(., 'Reconnect')]").await?;

    click(browser, "//nav//a[@href='/suspects']").await?;
    shown(browser, "//h1[.='Suspects']").await?;
    shown(browser, &format!("//table//th/a[.='{USAGE_POINT}']")).await?;
    Ok(())
}

/// The first element that fits, as soon as there is one.
async fn shown(browser: &Client, xpath: &str) -> Result<fantoccini::elements::Element, Failure> {
    let found = browser.wait().at_most(PATIENCE).every(LOOK_AGAIN).for_element(Locator::XPath(xpath)).await;
    found.map_err(|why| format!("not seen on the page: {xpath}: {why}").into())
}

/// Clicks; looks again when the page was just redrawn under the pointer.
async fn click(browser: &Client, xpath: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match shown(browser, xpath).await?.click().await {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() > deadline => return Err(format!("cannot click {xpath}: {why}").into()),
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// A chromedriver of our own on a free port.
struct Driver {
    child: Child,
    address: String,
}

impl Driver {
    /// `None` when it is not installed.
    fn start() -> Option<Self> {
        let mut child =
            Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let said = BufReader::new(child.stdout.take()?).lines().map_while(Result::ok);
        let port = said.into_iter().find_map(|line| {
            line.rsplit_once("successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        let address = format!("127.0.0.1:{}", port.expect("chromedriver says its port"));
        Some(Self { child, address })
    }

    async fn open(&self, profile: &Path) -> Result<Client, Failure> {
        let profile = format!("--user-data-dir={}", profile.display());
        let quiet =
            ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"];
        let mut arguments =
            vec!["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1280,800"];
        arguments.extend(quiet);
        arguments.push(&profile);
        let wanted = json!({"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}});
        let wanted = wanted.as_object().cloned().unwrap_or_default();
        let connector = HttpConnector::new();
        Ok(ClientBuilder::new(connector).capabilities(wanted).connect(&format!("http://{}", self.address)).await?)
    }

    /// Warnings and errors of the browser's console since the session began: broken scripts, violations of the content security
    /// policy, resources that could not be had. Chromium's own command for it; WebDriver's standard has none.
    async fn complaints(&self, browser: &Client) -> Result<Vec<String>, Failure> {
        let session = browser.session_id().await?.ok_or("no session")?;
        let (body, address) = (r#"{"type":"browser"}"#, &self.address);
        let mut stream = TcpStream::connect(address).await?;
        let request = format!(
            "POST /session/{session}/se/log HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        // The driver keeps the connection open: the length says where its answer ends.
        let mut stream = AsyncBufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse()?,
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        let json: Value = serde_json::from_slice(&answer)?;
        let entries = json["value"].as_array().ok_or_else(|| format!("chromedriver has no log: {json}"))?;
        let bad = |entry: &&Value| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING"));
        Ok(entries.iter().filter(bad).map(Value::to_string).collect())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
