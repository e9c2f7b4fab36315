//! What somebody with bad intentions tries, on the running binary: forged answers, guessed passwords, sockets that never speak, secrets
//! that were replaced. Every attempt that a review called critical, high or medium must fail, and while sockets are held open, honest
//! meters must be acknowledged about as quickly as without.

mod admission;
mod commands;
mod crowd;
mod mqtt;
mod people;
mod server;

/// One attempt: what it is, and how it is made; an error says how it got through.
type Attempt = (&'static str, fn(&std::path::Path) -> Result<String, String>);

const ATTEMPTS: &[Attempt] = &[
    ("C1 a meter answers another meter's command", commands::forged_answers),
    ("H1 protection after the approval", commands::protected_after_approval),
    ("H2 no listening off loopback without https", admission::plain_off_loopback),
    ("H2 readings by plain http from elsewhere, through a proxy", admission::plain_through_a_proxy),
    ("H2 a certificate renewed, and SIGHUP", admission::hang_up),
    ("H3 tries to sign in at the same time, and made-up names", people::guessing),
    ("H4 idle, dribbled and half requests", admission::unfinished_requests),
    ("H5 one person lifts every brake", commands::one_person_lifts_the_brakes),
    ("H7 secrets, tokens, passwords, people taken back", people::taken_back),
    ("H8 who else may look into the data directory", admission::data_directory),
    ("M1 the history of the customer before", people::former_customer),
    ("M2 one meter makes the server write", commands::power_quality_flood),
    ("M3 a flood of events hides an alarm", commands::event_flood),
    ("M4 requests that go away while their password is checked", people::cancelled_sign_ins),
    ("M5 the abort switch during an import", commands::abort_during_import),
    ("M6 a thousand open commands", commands::many_commands),
    ("M7 many come with the set-up link", people::set_up_link),
    ("M8 sent elsewhere after signing in", people::open_redirect),
    ("M10 the audit says who was refused, and is signed", people::audit),
    ("a lost server key is not replaced", admission::lost_key),
    ("honest meters under 2,000 connections", crowd::run),
];

/// Runs all of them, or those whose name holds one of the words given.
pub fn run(words: &[&str]) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("gridtally-abuse-{}", std::process::id()));
    let mut fallen = Vec::new();
    let chosen = ATTEMPTS.iter().filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word)));
    for (number, (name, attempt)) in chosen.enumerate() {
        let own = folder.join(number.to_string());
        std::fs::create_dir_all(&own).map_err(|e| e.to_string())?;
        match attempt(&own) {
            Ok(how) => println!("   held   {name}: {how}"),
            Err(why) => {
                println!("   FALLEN {name}: {why}");
                fallen.push(*name);
            }
        }
        let _ = std::fs::remove_dir_all(&own);
    }
    let _ = std::fs::remove_dir_all(&folder);
    if fallen.is_empty() { Ok(()) } else { Err(format!("{} got through: {}", fallen.len(), fallen.join("; "))) }
}

/// An error unless it holds.
fn must(holds: bool, else_why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(else_why()) }
}
