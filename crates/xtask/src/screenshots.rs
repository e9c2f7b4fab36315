//! The pictures of the README, taken from the running demo in a real browser, so that they never show what is not there.

use std::{fs, path::Path};

use crate::{
    browser::{Browser, Demo, demo},
    run,
};

/// A theft that the balance showed, with a name, as the overview lists it.
const SUSPICION: &str = "//ul[contains(@class, 'inbox')]//a[contains(., 'theft')]";
/// A chart that has been drawn.
const CHARTS: &str = "//div[contains(@class, 'chart')]//canvas";

/// A cycle of voltage and current that has been drawn.
const CYCLE: &str = "//section[@aria-labelledby='waveform']//*[name()='svg']";
/// A home that the demo drives at sample level, so that its meter measures power quality.
const SAMPLED: &str = "/meters/M-1-01/quality";

/// Takes `overview.png`, `case.png`, `meter.png` and `quality.png` into `docs/images`.
pub fn take() -> Result<(), String> {
    let folder = run::root().join("docs/images");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let Demo { running: _running, link: address, .. } = demo(&[])?;
    let profile = std::env::temp_dir().join(format!("gridtally-screenshots-{}", std::process::id()));
    let browser = Browser::start(&profile)?;
    let outcome = walk(&browser, &address, &folder);
    drop(browser);
    let _ = fs::remove_dir_all(profile);
    outcome
}

fn walk(browser: &Browser, address: &str, folder: &Path) -> Result<(), String> {
    browser.goto(address)?;
    browser.shown(SUSPICION)?;
    // Loaded afresh, so that the figures and the list are of one moment.
    let console = &address[..address.find("/sign-in").unwrap_or(address.len())];
    browser.goto(console)?;
    let suspicion = browser.shown(SUSPICION)?;
    browser.picture(&folder.join("overview.png"))?;
    browser.click(&suspicion)?;
    browser.shown("//section[@aria-label='Evidence for']//li")?;
    browser.picture(&folder.join("case.png"))?;
    let meter = browser.shown("//section[@aria-label='Supply']//a[starts-with(@href, '/meters/')]")?;
    browser.click(&meter)?;
    browser.shown(CHARTS)?;
    browser.picture(&folder.join("meter.png"))?;
    browser.goto(&format!("{console}{SAMPLED}"))?;
    browser.shown(CYCLE)?;
    browser.picture(&folder.join("quality.png"))
}
