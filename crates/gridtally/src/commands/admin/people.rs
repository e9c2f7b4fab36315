//! Programs' tokens and people from the command line: also the way back in when nobody can sign in any more.

use std::process::ExitCode;

use argon2::{Argon2, password_hash::PasswordHasher};
use serde_json::json;
use store::{NewToken, NewUser, Role, Store};

use super::{
    BY, hex,
    place::{Place, PlaceArguments},
};
use crate::{clock::Clock, commands::CommandError, data_directory::DataDirectory};

/// A token as asked for.
pub(super) struct NewTokenWords {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) days: Option<u32>,
}

/// Makes a token and prints it. A directory that is not there is made, so that the very first token needs no server.
pub(super) async fn token(
    new: NewTokenWords,
    simulation: bool,
    place: PlaceArguments,
) -> Result<ExitCode, CommandError> {
    let opened = match place.directory_to_make() {
        Some(data) => Place::Directory(Box::new(DataDirectory::open(&data, simulation).await?)),
        None => place.open().await?,
    };
    match opened {
        Place::Directory(directory) => {
            let now = Clock::Real.now();
            let expires = new.days.map(|days| now.plus(i64::from(days) * 86_400));
            let new = NewToken { name: new.name, role: new.role, expires };
            println!("{}", directory.store.issue_api_token(new, BY, now).await?);
            directory.store.close().await?;
        }
        Place::Server(server) => {
            let body = json!({ "name": new.name, "role": new.role.word(), "days": new.days });
            let made = server.ask_json("POST", "/api/v1/tokens", &body).await?;
            println!("{}", made["token"].as_str().ok_or("the server gave no token")?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes a token back.
pub(super) async fn revoke_token(name: &str, place: PlaceArguments) -> Result<ExitCode, CommandError> {
    match place.open().await? {
        Place::Directory(directory) => {
            directory.store.revoke_api_token(name, BY, Clock::Real.now()).await?;
            directory.store.close().await?;
        }
        Place::Server(server) => {
            let path = format!("/api/v1/tokens/{}", name.replace(' ', "%20"));
            server.ask("DELETE", &path, "application/json", String::new()).await?;
        }
    }
    println!("the token of {name} opens nothing any more");
    Ok(ExitCode::SUCCESS)
}

/// Makes a person, or lets one in again, with a random first password that is printed and must be changed.
pub(super) async fn person(name: &str, role: String, place: PlaceArguments) -> Result<ExitCode, CommandError> {
    let role = Role::from_word(&role).filter(|role| *role != Role::Consumer).ok_or("a role is operator or engineer")?;
    let password = random_password()?;
    let is_new = match place.open().await? {
        Place::Directory(directory) => {
            let is_new = in_directory(&directory.store, name, role, &password).await?;
            directory.store.close().await?;
            is_new
        }
        Place::Server(server) => {
            let people = server.ask("GET", "/api/v1/people", "application/json", String::new()).await?;
            let is_new = !people.as_array().into_iter().flatten().any(|person| person["name"] == name);
            if is_new {
                let body = json!({ "name": name, "role": role.word(), "password": password });
                server.ask_json("POST", "/api/v1/people", &body).await?;
            } else {
                let path = format!("/api/v1/people/{}", name.replace(' ', "%20"));
                server.ask_json("PUT", &format!("{path}/password"), &json!({ "password": password })).await?;
                server.ask_json("PUT", &format!("{path}/disabled"), &json!({ "disabled": false })).await?;
            }
            is_new
        }
    };
    println!(
        "{} {name}; first password, to be changed at the first sign-in:",
        if is_new { "made" } else { "let in again" }
    );
    println!("{password}");
    Ok(ExitCode::SUCCESS)
}

async fn in_directory(store: &Store, name: &str, role: Role, password: &str) -> Result<bool, CommandError> {
    let now = Clock::Real.now();
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt).map_err(|e| format!("the operating system gave no random bytes: {e}"))?;
    let hash = Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|e| format!("the password cannot be hashed: {e}"))?
        .to_string();
    if store.user_by_name(name).await?.is_some() {
        store.set_first_password(name, &hash, BY, now).await?;
        store.enable_user(name, BY, now).await?;
        return Ok(false);
    }
    let new = NewUser { name: name.to_owned(), role, usage_point: None, password_hash: hash };
    store.create_user_with_first_password(new, BY, now).await?;
    Ok(true)
}

/// 80 random bits.
fn random_password() -> Result<String, CommandError> {
    let mut bytes = [0_u8; 10];
    getrandom::fill(&mut bytes).map_err(|e| format!("the operating system gave no random bytes: {e}"))?;
    Ok(hex(&bytes))
}
