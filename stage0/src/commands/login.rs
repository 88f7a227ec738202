//! `pod login` and `pod logout`: credentials for registries.
//!
//! They are tried before they are kept, kept where podman keeps them, and never shown: a password
//! is read from standard input or from the terminal without echo.

use std::io::{self, Read as _};

use images::registry::{AuthFile, Checked, Client, ClientOptions, Error, Kind, RegistryHost};
use images::{Patience, Transport};

use crate::cli::{AuthFileArgs, LoginArgs, LogoutArgs};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::prompt;
use crate::ui::{self, Format};

/// The longest password or token that is read, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// Tries credentials and keeps them.
///
/// # Errors
///
/// `registry.…` if they are refused or cannot be tried, and nothing is kept then; `terminal` if
/// there is nobody to ask.
pub(crate) fn login(context: &Context, args: &LoginArgs) -> Result<u8> {
    let (key, host) = registry(&args.registry)?;
    let user = match &args.username {
        Some(user) => user.clone(),
        None => prompt::ask(&format!("User for {key}: "))?,
    };
    if user.is_empty() || user.contains(':') || user.chars().any(char::is_control) {
        return Err(CommandError::usage("a user has a name, without colons"));
    }
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => from_stdin()?,
        None => prompt::ask_hidden(&format!("Password of {user} for {key}: "))?,
    };
    let mut options = ClientOptions { patience: Patience::default(), ..ClientOptions::default() };
    if args.insecure_http {
        options.transport = Transport::InsecureHttp;
    }
    let client = Client::with_password(&host, options, &user, &password);
    let checked = client.and_then(|client| client.check()).map_err(|error| told(&error))?;
    let file = file(&args.place);
    file.keep(&key, &user, &password).map_err(|error| told(&error))?;
    if context.format == Format::Json {
        let tried = checked == Checked::Accepted;
        let path = file.path();
        return ui::json(&serde_json::json!({ "registry": key, "file": path, "accepted": tried }))
            .map(|()| 0);
    }
    if checked == Checked::NotAsked {
        ui::note(&format!("`{key}` asks nobody for a password: this one is not tried"));
    }
    ui::out(&format!("logged in to {key}\n")).map(|()| 0)
}

/// Forgets what is kept for a registry, or for all.
///
/// # Errors
///
/// `registry.not-logged-in` if nothing is kept.
pub(crate) fn logout(context: &Context, args: &LogoutArgs) -> Result<u8> {
    let file = file(&args.place);
    let gone = match &args.registry {
        None => file.forget_all().map_err(|error| told(&error))?,
        Some(word) => {
            let (key, _) = registry(word)?;
            if !file.forget(&key).map_err(|error| told(&error))? {
                return Err(not_kept(&key, &file));
            }
            vec![key]
        }
    };
    for key in &gone {
        if let Some(other) = keeper(key, &file) {
            ui::note(&format!("`{}` still has credentials for {key}", other.path().display()));
        }
    }
    match context.format {
        Format::Json => ui::json(&gone),
        Format::Table => {
            ui::out(&gone.iter().map(|key| format!("logged out of {key}\n")).collect::<String>())
        }
    }
    .map(|()| 0)
}

fn not_kept(key: &str, file: &AuthFile) -> CommandError {
    let path = file.path().display();
    let error = CommandError::new(
        "registry.not-logged-in",
        format!("`{path}` has no credentials for `{key}`"),
    );
    match keeper(key, file) {
        Some(other) => {
            let other = other.path().display();
            error.hint(format!("`pod logout --authfile {other} {key}` changes the file that has"))
        }
        None => error,
    }
}

/// Finds another file with credentials for `key`; one that cannot be read has none to offer.
fn keeper(key: &str, file: &AuthFile) -> Option<AuthFile> {
    file.others().into_iter().find(|other| other.has(key).unwrap_or(false))
}

fn file(place: &AuthFileArgs) -> AuthFile {
    place.authfile.clone().map_or_else(AuthFile::of_environment, AuthFile::at)
}

/// Reads a registry, with a namespace if one follows; returns what to keep it as, too.
fn registry(word: &str) -> Result<(String, RegistryHost)> {
    let (host, namespace) = match word.split_once('/') {
        Some((host, namespace)) => (host, Some(namespace)),
        None => (word, None),
    };
    let refused = || {
        CommandError::usage(format!("`{word}` names no registry"))
            .hint("a registry is `HOST[:PORT]`, without `https://`")
    };
    let host = RegistryHost::parse(host).map_err(|_| refused())?;
    let name = match host.to_string().as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    };
    let component = |part: &str| {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        !part.is_empty()
            && part.bytes().all(letter)
            && part.bytes().any(|b| b.is_ascii_alphanumeric())
    };
    let key = match namespace {
        None => name,
        Some(namespace) if namespace.split('/').all(component) => format!("{name}/{namespace}"),
        Some(_) => return Err(refused()),
    };
    Ok((key, host))
}

fn from_stdin() -> Result<String> {
    let mut text = String::new();
    let read = io::stdin().lock().take(MAX_SECRET).read_to_string(&mut text);
    read.map_err(|error| {
        CommandError::new("storage", "cannot read a password from standard input").because(&error)
    })?;
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(CommandError::usage("standard input has no password"));
    }
    Ok(password.to_owned())
}

fn told(error: &Error) -> CommandError {
    let code = match error.kind() {
        Kind::Denied => "registry.denied",
        Kind::Unreachable | Kind::RateLimited => "registry.unreachable",
        Kind::Settings => "registry.settings",
        Kind::RefusedPlainHttp => "registry.plain-http",
        _ => "registry.invalid",
    };
    let made = CommandError::of(code, error);
    match error.kind() {
        Kind::RefusedPlainHttp => made.hint("plain HTTP beyond loopback takes `--insecure-http`"),
        Kind::Denied => made.hint("nothing has been kept: type user and password again"),
        _ => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_kept_as_references_call_it() {
        let key = |word: &str| registry(word).ok().map(|(key, _)| key);
        assert_eq!(key("Quay.io").as_deref(), Some("quay.io"));
        assert_eq!(key("index.docker.io").as_deref(), Some("docker.io"));
        assert_eq!(key("127.0.0.1:5000/team/a").as_deref(), Some("127.0.0.1:5000/team/a"));
        for bad in ["", "https://r.io", "r.io/", "r.io/A", "r.io/../x", "r io"] {
            assert_eq!(key(bad), None, "{bad}");
        }
    }
}
