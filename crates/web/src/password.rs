//! Passwords of people, by argon2id (19 MiB, two passes: OWASP's first choice). At most two are checked at the same time, a few wait,
//! and whoever comes then is told to come again: neither memory nor waiting grows with the number of those who ask.

use std::sync::{Arc, LazyLock};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::WebError;

/// Fewest characters of a password.
pub const CHARACTERS_MIN: usize = 10;
/// Longest password taken, bytes: more would be work for nothing.
pub const BYTES_MAX: usize = 256;
/// Fewest different characters.
const DIFFERENT_MIN: usize = 5;
/// Checked at the same time.
const AT_ONCE: usize = 2;
/// Checked or waiting.
const WAITING_MAX: usize = 32;
/// The commonest passwords of ten and more characters in published lists of leaked ones, lower case.
const COMMON: &str = include_str!("common_passwords.txt");
/// Runs of keys and digits; a password that is a piece of one of them is a common one too.
const RUNS: [&str; 5] = [
    "01234567890123456789",
    "09876543210987654321",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
];

/// Checked in place of a hash when there is no such person, so that the time of the answer tells nothing.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash_now("nobody has this password").unwrap_or_default());

/// Room for checks of passwords.
#[derive(Debug)]
pub struct Checks {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Checks {
    fn default() -> Self {
        Self { running: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::new(Semaphore::new(WAITING_MAX)) }
    }
}

impl Checks {
    /// A place; it belongs to the work itself, so that a caller who goes away frees nothing while the work goes on.
    async fn place(&self) -> Result<[OwnedSemaphorePermit; 2], WebError> {
        let waiting = self.waiting.clone().try_acquire_owned().map_err(|_| WebError::Unavailable)?;
        let running = self.running.clone().acquire_owned().await.map_err(|_| WebError::Unavailable)?;
        Ok([waiting, running])
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, WebError> {
        let place = self.place().await?;
        let work = move || {
            let done = work();
            drop(place);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| WebError::Internal)
    }
}

/// Hashes a password that a person chose into a PHC string.
///
/// # Errors
/// When it is too short, too long or too common, with what to do.
pub async fn hash(name: &str, password: String, checks: &Checks) -> Result<String, WebError> {
    acceptable(name, &password)?;
    checks.run(move || hash_now(&password)).await?.ok_or(WebError::Internal)
}

/// Whether a password is the one of the hash; takes as long when there is no hash.
///
/// # Errors
/// When too many passwords are being checked already.
pub async fn verify(password: String, hash: Option<String>, checks: &Checks) -> Result<bool, WebError> {
    checks
        .run(move || {
            let known = hash.is_some();
            let text = hash.unwrap_or_else(|| NOBODY.clone());
            let matches = PasswordHash::new(&text)
                .is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok());
            known && matches
        })
        .await
}

/// Refuses what is guessed first.
fn acceptable(name: &str, password: &str) -> Result<(), WebError> {
    let refused = |why: String| Err(WebError::Invalid(why));
    if password.chars().count() < CHARACTERS_MIN {
        return refused(format!("choose a password of at least {CHARACTERS_MIN} characters"));
    }
    if password.len() > BYTES_MAX {
        return refused(format!("choose a password of at most {BYTES_MAX} bytes"));
    }
    let lower = password.to_lowercase();
    let mut characters: Vec<char> = lower.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    let is_common = characters.len() < DIFFERENT_MIN
        || COMMON.lines().any(|common| common == lower)
        || RUNS.iter().any(|run| run.contains(&lower));
    if is_common {
        return refused(
            "this password is among the first that are guessed: choose another, for instance four words".to_owned(),
        );
    }
    // The name with a few characters around it, or twice, is the next that is tried.
    let name = name.to_lowercase();
    let rest = lower.replace(&name, "");
    if !name.is_empty() && rest.len() < lower.len() && rest.chars().count() < CHARACTERS_MIN / 2 {
        return refused("the password must not be the name: choose another, for instance four words".to_owned());
    }
    Ok(())
}

fn hash_now(password: &str) -> Option<String> {
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt).ok()?;
    Argon2::default().hash_password_with_salt(password.as_bytes(), &salt).ok().map(|hash| hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_opens() {
        let checks = Checks::default();
        let hashed = hash("anna", "correct horse".to_owned(), &checks).await.expect("long enough");
        assert!(hashed.starts_with("$argon2id$"));
        assert_eq!(verify("correct horse".to_owned(), Some(hashed.clone()), &checks).await, Ok(true));
        assert_eq!(verify("correct hors".to_owned(), Some(hashed), &checks).await, Ok(false));
        assert_eq!(verify("nobody has this password".to_owned(), None, &checks).await, Ok(false));
    }

    #[test]
    fn what_is_guessed_first_is_refused() {
        let long = "x1y2z".repeat(60);
        for bad in [
            "short",
            "aaaaaaaaaa",
            "1234567890",
            "0987654321",
            "Password123",
            "qwertyuiop",
            "QWERTZUIOPA",
            "abcabcabcabc",
            "Marguerite",
            "marguerite2026",
            "margueritemarguerite",
            &long,
        ] {
            assert!(acceptable("marguerite", bad).is_err(), "{bad}");
        }
        for good in ["correct horse", "Zähler ablesen im März", "marguerite likes long walks"] {
            assert_eq!(acceptable("marguerite", good), Ok(()), "{good}");
        }
    }

    #[tokio::test]
    async fn who_goes_away_frees_nothing_and_who_comes_too_late_is_told() {
        let checks = Arc::new(Checks::default());
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let finished = Arc::new(std::sync::Mutex::new(finished));
        let ask = || {
            let (checks, finished) = (checks.clone(), finished.clone());
            tokio::spawn(async move { checks.run(move || drop(finished.lock().map(|finished| finished.recv()))).await })
        };
        let first = ask();
        while checks.running.available_permits() == AT_ONCE {
            tokio::task::yield_now().await;
        }
        first.abort();
        let _ = first.await;
        assert_eq!(checks.running.available_permits(), AT_ONCE - 1, "its work goes on");
        let others: Vec<_> = (1..WAITING_MAX).map(|_| ask()).collect();
        while checks.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(checks.run(|| ()).await, Err(WebError::Unavailable));
        drop(finish);
        for other in others {
            assert_eq!(other.await.expect("ran"), Ok(()));
        }
        assert_eq!(checks.run(|| ()).await, Ok(()));
    }
}
