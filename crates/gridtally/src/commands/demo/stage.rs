//! What a person needs to watch the demo: somebody of each role to sign in as, and what will be seen when.

use metering::{Timestamp, UsagePointId};
use sim::Story;
use store::{NewUser, Role, Store};
use web::{password, programme};

use super::narrate::Narrator;
use crate::commands::CommandError;

/// Letters and digits that nobody takes for another when typing them on a phone.
const READABLE: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Characters of a password.
const PASSWORD_CHARACTERS: usize = 12;
/// The home whose consumer may sign in: one of those that are sampled, so that its page has everything.
const HOME: &str = "UP-1-01";

/// Who may sign in besides by the printed link.
const PEOPLE: [(&str, Role, &str); 3] = [
    (super::PERSON, Role::Operator, "decides: cases, visits, disconnections, settings"),
    ("erin", Role::Engineer, "reads everything and works on cases"),
    ("anna", Role::Consumer, "the page of one home, made for a phone"),
];

/// Somebody who may sign in.
pub struct Player {
    name: &'static str,
    about: &'static str,
    password: String,
}

/// Makes one person of each role, or gives those of an earlier run a new password.
pub async fn people(store: &Store, now: Timestamp) -> Result<Vec<Player>, CommandError> {
    let by = super::PERSON;
    let checks = password::Checks::default();
    let mut players = Vec::with_capacity(PEOPLE.len());
    for (name, role, about) in PEOPLE {
        let player = Player { name, about, password: new_password()? };
        let password_hash = password::hash(name, player.password.clone(), &checks).await.map_err(|e| e.to_string())?;
        if store.user_by_name(name).await?.is_some() {
            store.set_password(name, &password_hash, by, now).await?;
        } else {
            let usage_point = if role == Role::Consumer { Some(UsagePointId::new(HOME)?) } else { None };
            store.create_user(NewUser { name: name.into(), role, usage_point, password_hash }, by, now).await?;
        }
        players.push(player);
    }
    Ok(players)
}

fn new_password() -> Result<String, CommandError> {
    let mut bytes = [0_u8; PASSWORD_CHARACTERS];
    getrandom::fill(&mut bytes).map_err(|e| format!("the system has no random numbers: {e}"))?;
    Ok(bytes.iter().map(|byte| char::from(READABLE[usize::from(byte % 32)])).collect())
}

/// Leaves what happens when for the overview.
pub async fn announce(store: &Store, story: &Story, now: Timestamp) -> Result<(), CommandError> {
    let entries = story.acts.iter().map(|act| programme::Entry {
        at: act.at,
        what: act.what.to_owned(),
        look: act.look.to_owned(),
    });
    let entries: Vec<programme::Entry> = entries.collect();
    Ok(store.set_setting(programme::SETTING, &entries, super::PERSON, now).await?)
}

/// Says whom one may sign in as, and what will be seen when.
pub fn tell(say: &Narrator, console: &str, link: &str, players: &[Player], story: Option<&Story>) {
    say.line("Open this in a browser; the link signs in as demo and works once:");
    say.line(&format!("  {link}"));
    say.line(&format!("Later, on a phone or for another role, sign in at {console}/sign-in as"));
    for player in players {
        say.line(&format!("  {:5} with the password {}   {}", player.name, player.password, player.about));
    }
    let Some(story) = story else { return };
    say.line("What will be seen, in minutes after the history has been replayed (a few seconds):");
    for act in &story.acts {
        let seconds = story.seconds_until(act.at);
        say.line(&format!("  {:>5}  {}\n         look at {}", minutes(seconds), act.what, act.look));
    }
    say.line("  Ctrl-C ends it.");
}

/// `1:05`.
fn minutes(seconds: f64) -> String {
    // A demo of more than 136 years shows the longest time.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let seconds = seconds.round() as u32;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_passwords_can_be_read() {
        assert_eq!(minutes(64.6), "1:05");
        let (one, two) = (new_password().expect("random"), new_password().expect("random"));
        assert!(one != two && one.len() == PASSWORD_CHARACTERS && one.len() >= password::CHARACTERS_MIN);
    }
}
