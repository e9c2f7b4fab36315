//! A newcomer who knows nothing but the printed link: a script signs in, reads the overview and the pages it leads to, and must learn
//! within three minutes of the start who stole, how sure that is, and what was done. What it learns is then held against what
//! the demo says was true.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::browser::{self, Demo};

/// From the start of the demo.
const WITHIN: Duration = Duration::from_secs(180);
/// Between two looks at the pages, as of somebody who reads.
const LOOK_AGAIN: Duration = Duration::from_millis(700);
/// Least chance, percent, at which a newcomer would say "that one".
const SURE_PERCENT: f64 = 50.0;

/// What the reader has learnt from one case's page.
#[derive(Clone, Debug, Default)]
struct Learnt {
    kind: String,
    who: Option<String>,
    percent: Option<f64>,
    kwh: Option<String>,
    done: Option<String>,
}

/// What the reader has learnt in all.
#[derive(Debug, Default)]
struct Notes {
    cases: BTreeMap<String, Learnt>,
    /// When each part of the story was first understood, seconds from the start.
    at: BTreeMap<&'static str, f64>,
    steps: BTreeSet<String>,
}

/// Runs it; `--seed N` and other arguments are passed on.
pub fn run(arguments: &[&str]) -> Result<(), String> {
    let started = Instant::now();
    let Demo { running, link, lines } = browser::demo(arguments)?;
    let mut reader = Reader::sign_in(&link)?;
    let mut notes = Notes::default();
    while started.elapsed() < WITHIN && !notes.is_complete() {
        notes.read(&mut reader, started)?;
        std::thread::sleep(LOOK_AGAIN);
    }
    drop(running);
    let truth: Vec<String> = lines.iter().filter(|line| line.contains(" truth ")).collect();
    notes.tell();
    notes.judge(&truth)
}

impl Notes {
    fn read(&mut self, reader: &mut Reader, started: Instant) -> Result<(), String> {
        let overview = reader.page("/")?;
        self.steps.extend(current_steps(&overview));
        for path in links(&overview, "/cases/") {
            let page = reader.page(&path)?;
            self.cases.insert(path, learn(&text(&page)));
        }
        let seconds = started.elapsed().as_secs_f64();
        let parts = [
            ("energy is missing", self.cases.values().any(|case| case.kind == "missing" || case.kind == "theft")),
            ("who stole, and how sure that is", self.named().is_some()),
            ("cut off, and verified", self.was_done("verified by reading back")),
            ("cut that failed, and why", self.was_done("supply still present")),
        ];
        for (part, _) in parts.into_iter().filter(|(_, seen)| *seen) {
            self.at.entry(part).or_insert(seconds);
        }
        Ok(())
    }

    /// The home that the balance points at, once the page is sure enough.
    fn named(&self) -> Option<&Learnt> {
        self.cases.values().find(|case| {
            case.kind == "theft" && case.who.is_some() && case.percent.is_some_and(|percent| percent >= SURE_PERCENT)
        })
    }

    fn was_done(&self, words: &str) -> bool {
        self.cases
            .values()
            .any(|case| case.who.is_some() && case.done.as_ref().is_some_and(|done| done.contains(words)))
    }

    fn is_complete(&self) -> bool {
        self.at.len() == 4
    }

    fn tell(&self) {
        for (part, seconds) in &self.at {
            println!("   {seconds:5.1} s  {part}");
        }
        for (path, case) in &self.cases {
            println!(
                "   {path}: {} {}, chance {}, {} kWh; {}",
                case.kind,
                case.who.as_deref().unwrap_or("nobody named"),
                case.percent.map_or("–".to_owned(), |percent| format!("{percent} %")),
                case.kwh.as_deref().unwrap_or("–"),
                case.done.as_deref().unwrap_or("nothing done yet")
            );
        }
        println!("   steps of a command seen on the overview: {:?}", self.steps);
    }

    fn judge(&self, truth: &[String]) -> Result<(), String> {
        if !self.is_complete() {
            return Err(format!("within {} s only this was learnt: {:?}", WITHIN.as_secs(), self.at));
        }
        for case in self.cases.values() {
            let sure = case.percent.is_some_and(|percent| percent >= SURE_PERCENT);
            if let Some(who) = case.who.as_ref().filter(|_| sure)
                && !truth.iter().any(|line| line.contains("begins") && line.ends_with(&format!("at {who}")))
            {
                return Err(format!("the pages accuse {who}, who did not steal: {truth:#?}"));
            }
        }
        if self.steps.len() < 3 {
            return Err(format!("the disconnection could not be watched: only {:?} were seen", self.steps));
        }
        Ok(())
    }
}

/// Reads the words of a case's page.
fn learn(words: &str) -> Learnt {
    let kind = match words {
        words if words.contains("· Suspected theft ·") => "theft",
        words if words.contains("· Tamper suspected ·") => "tamper",
        words if words.contains("· Surplus energy ·") => "surplus",
        _ => "missing",
    };
    let after = |label: &str| words.split_once(label).map(|(_, rest)| rest.trim_start());
    let word = |label: &str| after(label).and_then(|rest| rest.split(' ').next()).map(str::to_owned);
    let number = |text: String| text.replace(',', "").parse::<f64>().ok();
    Learnt {
        kind: kind.to_owned(),
        who: word(" Who ").filter(|who| who.starts_with("UP-")),
        percent: after(" Chance ").and_then(|rest| {
            let rest = rest.strip_prefix("over ").unwrap_or(rest);
            rest.split_once(" %").and_then(|(percent, _)| number(percent.to_owned()))
        }),
        kwh: word(" Energy to date ").filter(|kwh| kwh != "–"),
        done: after(" What was done: ")
            .and_then(|rest| rest.split_once(" Command "))
            .map(|(done, _)| done.trim().to_owned()),
    }
}

/// A page without its marks, with single spaces.
fn text(page: &str) -> String {
    let mut out = String::with_capacity(page.len() / 2);
    let mut inside = false;
    for character in page.chars() {
        match character {
            '<' => {
                inside = true;
                out.push(' ');
            }
            '>' => inside = false,
            _ if inside => {}
            character => out.push(character),
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ").replace(" .", ".")
}

/// Addresses of links that begin so, each once.
fn links(page: &str, begin: &str) -> BTreeSet<String> {
    page.split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .filter(|path| path.strip_prefix(begin).is_some_and(|id| id.bytes().all(|b| b.is_ascii_digit())))
        .map(str::to_owned)
        .collect()
}

/// The current step of each command that the strip shows.
fn current_steps(page: &str) -> Vec<String> {
    page.split("aria-current=\"step\">").skip(1).filter_map(|rest| rest.split('<').next()).map(str::to_owned).collect()
}

/// Somebody with a browser's cookie and nothing else.
struct Reader {
    host: String,
    cookie: String,
}

impl Reader {
    fn sign_in(link: &str) -> Result<Self, String> {
        let rest = link.strip_prefix("http://").ok_or("the link is no address")?;
        let (host, path) = rest.split_once('/').ok_or("the link has no path")?;
        let mut reader = Self { host: host.to_owned(), cookie: String::new() };
        let (head, _) = reader.get(&format!("/{path}"))?;
        let cookie = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("set-cookie")
                .then(|| value.split(';').next().unwrap_or_default().trim().to_owned())
        });
        reader.cookie = cookie.ok_or_else(|| format!("the link did not sign in: {head}"))?;
        Ok(reader)
    }

    fn page(&mut self, path: &str) -> Result<String, String> {
        let (head, body) = self.get(path)?;
        if head.starts_with("HTTP/1.1 200") { Ok(body) } else { Err(format!("{path}: {head}")) }
    }

    fn get(&self, path: &str) -> Result<(String, String), String> {
        let mut stream = TcpStream::connect(&self.host).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(|e| e.to_string())?;
        let cookie = if self.cookie.is_empty() { String::new() } else { format!("Cookie: {}\r\n", self.cookie) };
        // HTTP/1.0: the body comes whole and the end of the connection is its end.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: text/html\r\n{cookie}\r\n", self.host);
        stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(|e| e.to_string())?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        Ok((head.replacen("HTTP/1.0", "HTTP/1.1", 1), body.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<h1>C-2 · Suspected theft · UP-2-20</h1><div>Who</div><div>UP-2-20</div><div>in <a href=\"/zones/T2\">T2</a></div>\
        <div>Chance</div><div>91 <span>%</span></div><div>Energy to date</div><div>1,022 kWh</div>\
        <p><strong>What was done: </strong>Switched off, verified by reading back: contact open.<a href=\"/controls/3\">Command 3</a></p>";

    #[test]
    fn a_page_is_read_as_a_person_reads_it() {
        let learnt = learn(&text(PAGE));
        assert_eq!((learnt.kind.as_str(), learnt.who.as_deref()), ("theft", Some("UP-2-20")));
        assert_eq!((learnt.percent, learnt.kwh.as_deref()), (Some(91.0), Some("1,022")));
        assert!(learnt.done.is_some_and(|done| done.contains("verified by reading back")));
        assert_eq!(
            links("<a href=\"/cases/2\"><a href=\"/cases/2/evidence.pdf\"><a href=\"/cases\">", "/cases/").len(),
            1
        );
        assert_eq!(current_steps("<li class=\"now\" aria-current=\"step\">Sent</li>"), ["Sent"]);
    }
}
