//! Every page of a running demo in a real browser, looked at by axe-core (npm, MPL-2.0, never part of the product): on a desk and on a
//! phone, light and dark. Nothing may be found, nothing may be wider than its window; and eight windows in view stay alive, although
//! a browser opens six connections.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    browser::{Browser, Demo, demo},
    run, tools,
};

/// The version whose rules the pages are held to.
const AXE: &str = "axe-core@4.14.1";
/// Windows in view at the same time.
const WINDOWS: usize = 8;
/// A case with a name, on the overview.
const SUSPICION: &str = "//ul[contains(@class, 'inbox')]//a[contains(., 'theft')]";

const PAGES: [&str; 22] = [
    "/",
    "/suspects",
    "/findings",
    "/cases",
    "/cases?state=all&sort=weight",
    "/cases/1",
    "/cases/2",
    "/zones/F1",
    "/zones/F1-T2?hours=72",
    "/meters",
    "/meters/M-1-01",
    "/meters/M-2-01?hours=168",
    "/meters/M-1-01/quality",
    "/meters/M-2-01/control?kind=disconnect",
    "/controls",
    "/controls/1",
    "/enrolment",
    "/policy",
    "/people",
    "/audit",
    "/find?q=UP-1",
    "/nothing-here",
];

/// Runs it.
pub fn run(_: &[&str]) -> Result<(), String> {
    if !tools::present("npm") || !tools::present("chromedriver") {
        println!("   left out: npm or chromedriver is not installed");
        return Ok(());
    }
    let folder = std::env::temp_dir().join(format!("gridtally-axe-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let outcome = fetched(&folder).and_then(|axe| look(&folder, &axe));
    let _ = fs::remove_dir_all(folder);
    outcome
}

/// The script of axe-core, from npm.
fn fetched(folder: &Path) -> Result<String, String> {
    let place = folder.to_string_lossy().into_owned();
    let said = run::output("npm", &["pack", AXE, "--silent", "--pack-destination", &place])?;
    let archive = folder.join(said.lines().last().unwrap_or_default().trim());
    run::output("tar", &["-xzf", &archive.to_string_lossy(), "-C", &place, "package/axe.min.js"])?;
    fs::read_to_string(folder.join("package/axe.min.js")).map_err(|e| format!("axe-core: {e}"))
}

fn look(folder: &Path, axe: &str) -> Result<(), String> {
    let Demo { running: _running, link, lines } = demo(&["--speed", "2000"])?;
    let console = link[..link.find("/sign-in").unwrap_or(link.len())].to_owned();
    let password = lines.iter().find_map(|line| {
        line.trim()
            .strip_prefix("anna")?
            .split_once("password ")
            .and_then(|(_, rest)| rest.split(' ').next())
            .map(str::to_owned)
    });
    let browser = Browser::start(&folder.join("profile"))?;
    browser.goto(&link)?;
    browser.shown(SUSPICION)?;
    let mut complaints = Vec::new();
    for (width, height, theme) in [(1_440, 900, "light"), (390, 844, "dark"), (390, 844, "light"), (1_440, 900, "dark")]
    {
        browser.size(width, height)?;
        browser.script(&format!("document.cookie = 'gt_theme={theme}; path=/'"))?;
        for path in PAGES {
            browser.goto(&format!("{console}{path}"))?;
            complaints.extend(seen(&browser, axe, &format!("{path} at {width} px, {theme}"))?);
        }
    }
    windows(&browser, &console)?;
    consumer(&browser, &console, &password.ok_or("the demo printed no password for anna")?)?;
    for width in [390, 1_440] {
        browser.size(width, 844)?;
        complaints.extend(seen(&browser, axe, &format!("/my at {width} px"))?);
    }
    println!("   {} looks, {} complaints", PAGES.len() * 4 + 2, complaints.len());
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
}

/// What axe-core finds on the page in view, and whether the page is wider than its window.
fn seen(browser: &Browser, axe: &str, place: &str) -> Result<Vec<String>, String> {
    let found = browser.script_until_done(&format!(
        "const done = arguments[arguments.length - 1];\n{axe}\n\
         axe.run(document, {{ resultTypes: ['violations'] }}).then(\
           r => done(r.violations.map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.target.join(' ')).join(' | '))),\
           e => done(['axe failed: ' + e]));"
    ))?;
    let mut complaints: Vec<String> = found
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|words| format!("{place}: {words}"))
        .collect();
    let wide = browser.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")?;
    if wide.as_i64().is_some_and(|pixels| pixels > 0) {
        complaints.push(format!("{place}: {wide} pixels wider than the window"));
    }
    Ok(complaints)
}

/// Every window loads and becomes live, however many there are.
fn windows(browser: &Browser, console: &str) -> Result<(), String> {
    for number in 1..=WINDOWS {
        browser.new_window()?;
        browser.goto(console)?;
        browser
            .shown("//span[contains(@class, 'live') and contains(@class, ' on')]")
            .map_err(|_| format!("window {number} is not live"))?;
    }
    println!("   {WINDOWS} windows in view are live");
    Ok(())
}

/// Signs in as a consumer with a name and a password.
fn consumer(browser: &Browser, console: &str, password: &str) -> Result<(), String> {
    browser.script(
        "document.cookie = 'gt_theme=auto; path=/'; document.querySelector(\"form[action='/sign-out']\").submit()",
    )?;
    browser.goto(&format!("{console}/sign-in"))?;
    browser.script(&format!(
        "document.querySelector('[name=name]').value = 'anna'; document.querySelector('[name=password]').value = '{password}';\
         document.querySelector('[name=password]').form.submit()"
    ))?;
    browser.shown("//h1[.='My meter']").map(drop)
}
