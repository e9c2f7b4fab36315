//! Passwords of people, by argon2id (19 MiB, two passes: OWASP's first choice). At most two are checked at the same time.

use std::sync::LazyLock;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;

use crate::error::WebError;

/// Fewest characters of a password.
pub const CHARACTERS_MIN: usize = 10;
/// Longest password taken, bytes: more would be work for nothing.
const BYTES_MAX: usize = 256;

/// Checked in place of a hash when there is no such person, so that the time of the answer tells nothing.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash_now("nobody has this password").unwrap_or_default());

/// Hashes a password into a PHC string.
///
/// # Errors
/// When it is too short or too long, with what to do.
pub async fn hash(password: String, slots: &Semaphore) -> Result<String, WebError> {
    if password.chars().count() < CHARACTERS_MIN {
        return Err(WebError::Invalid(format!("choose a password of at least {CHARACTERS_MIN} characters")));
    }
    if password.len() > BYTES_MAX {
        return Err(WebError::Invalid(format!("choose a password of at most {BYTES_MAX} bytes")));
    }
    let _slot = slots.acquire().await.map_err(|_| WebError::Unavailable)?;
    tokio::task::spawn_blocking(move || hash_now(&password)).await.ok().flatten().ok_or(WebError::Internal)
}

/// Whether a password is the one of the hash; takes as long when there is no hash.
pub async fn verify(password: String, hash: Option<String>, slots: &Semaphore) -> Result<bool, WebError> {
    if password.len() > BYTES_MAX {
        return Ok(false);
    }
    let _slot = slots.acquire().await.map_err(|_| WebError::Unavailable)?;
    let check = move || {
        let known = hash.is_some();
        let text = hash.unwrap_or_else(|| NOBODY.clone());
        let matches = PasswordHash::new(&text)
            .is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok());
        known && matches
    };
    tokio::task::spawn_blocking(check).await.map_err(|_| WebError::Internal)
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
        let slots = Semaphore::new(1);
        let hashed = hash("correct horse".to_owned(), &slots).await.expect("long enough");
        assert!(hashed.starts_with("$argon2id$"));
        assert_eq!(verify("correct horse".to_owned(), Some(hashed.clone()), &slots).await, Ok(true));
        assert_eq!(verify("correct hors".to_owned(), Some(hashed), &slots).await, Ok(false));
        assert_eq!(verify("nobody has this password".to_owned(), None, &slots).await, Ok(false));
        assert!(hash("short".to_owned(), &slots).await.is_err());
    }
}
