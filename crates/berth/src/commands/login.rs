//! `login` and `logout`.

use std::io::{BufRead, Read};

use engine::image::registry;
use errdefs::{ErrnoStep, Error, Kind, Result, Step};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::cli::flag::Given;
use crate::output::{note, say};
use crate::{settings, terminal};

/// Passwords are no longer.
const SECRET_LIMIT: u64 = 64 * 1024;

/// Asks a registry whether it takes the credentials, and keeps them.
pub fn login(given: &Given) -> Result<u8> {
    let server = server(given);
    let (user, secret) = credentials(given)?;
    settings::registry()?.check_credentials(&server, &user, &secret)?;
    let path = settings::docker_config().ok_or_else(no_place)?;
    if registry::keep(&path, &server, &user, &secret)?.is_none() {
        note(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.\n",
            path.display()
        ));
    }
    say("Login Succeeded\n");
    Ok(0)
}

/// Forgets credentials.
pub fn logout(given: &Given) -> Result<u8> {
    let server = server(given);
    let path = settings::docker_config().ok_or_else(no_place)?;
    match registry::forget(&path, &server)? {
        true => say(&format!("Removing login credentials for {server}\n")),
        false => say(&format!("Not logged in to {server}\n")),
    }
    Ok(0)
}

fn no_place() -> Error {
    Error::invalid("there is no place for credentials: neither DOCKER_CONFIG nor HOME is set")
}

/// Without scheme and path; Docker's own unless given.
fn server(given: &Given) -> String {
    let name = given.words.first().map_or("docker.io", String::as_str);
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    match name.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        host => host.into(),
    }
}

fn credentials(given: &Given) -> Result<(String, String)> {
    let usage = |message: &str| Err(Error::new(Kind::Usage, message));
    let user = given.one("username").filter(|u| !u.is_empty()).map(String::from);
    if given.on("password-stdin") {
        if given.has("password") {
            return usage("--password and --password-stdin are mutually exclusive");
        }
        let Some(user) = user else {
            return usage("Must provide --username with --password-stdin");
        };
        let mut secret = String::new();
        let read = std::io::stdin().take(SECRET_LIMIT).read_to_string(&mut secret);
        read.step("read the password")?;
        return Ok((user, secret.trim_end_matches(['\n', '\r']).to_owned()));
    }
    if given.has("password") {
        note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let terminal = terminal::stdin_is();
    if !terminal && (user.is_none() || !given.has("password")) {
        return usage("Cannot perform an interactive login from a non TTY device");
    }
    let user = match user {
        Some(user) => user,
        None => ask("Username: ", true)?,
    };
    let secret = match given.one("password") {
        Some(secret) => secret.to_owned(),
        None => ask("Password: ", false)?,
    };
    match user.is_empty() || secret.is_empty() {
        true => usage("username and password are required"),
        false => Ok((user, secret)),
    }
}

/// A line from the terminal.
fn ask(what: &str, shown: bool) -> Result<String> {
    say(what);
    let input = rustix::stdio::stdin();
    let before = tcgetattr(input).errno_step("ask at the terminal")?;
    if !shown {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(input, OptionalActions::Flush, &silent).errno_step("ask at the terminal")?;
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().take(SECRET_LIMIT).read_line(&mut line);
    if !shown {
        let _ = tcsetattr(input, OptionalActions::Flush, &before);
        say("\n");
    }
    read.step("read from the terminal")?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
