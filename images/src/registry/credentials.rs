//! What this host knows to say when a registry asks who we are.
//!
//! Files in the form of `containers-auth.json(5)` and Docker's `config.json`: `auths` maps a
//! registry, or a namespace in one, to `base64(user:password)`; the longest key that covers the
//! repository answers, in the first file that has one. A file may also name programs that know more
//! (`helper`).
//!
//! Never: a secret in a `Debug` or an error text.

use std::collections::HashMap;
use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::error::Error;
use super::helper::Helper;

/// Larger files hold no credentials.
const MAX_FILE: u64 = 1 << 20;

/// What is known to all users of the host: any file of a user's own comes first.
const OF_HOST: &str = "/etc/pod/auth.json";

/// What answers a registry's question.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Secret {
    /// A name and a password.
    Password { user: String, password: String },
    /// A refresh token, to be traded for others (`identitytoken`).
    Refresh(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user:?}, …)"),
            Self::Refresh(_) => f.write_str("Refresh(…)"),
        }
    }
}

/// The entries of all files, in the files' order.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    files: Vec<Entries>,
}

/// What one file says.
#[derive(Debug, Default)]
struct Entries {
    secrets: HashMap<String, Secret>,
    /// The programs that know, by registry, and the one that knows of all others.
    helpers: HashMap<String, Helper>,
    store: Option<Helper>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: HashMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: HashMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// Lists where credentials may be, in the order of podman: `$REGISTRY_AUTH_FILE` and nothing else,
/// or the runtime directory, then the user's containers' and Docker's files; last the host's own.
pub(super) fn files_of_environment() -> Vec<PathBuf> {
    let dir = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(only) = dir("REGISTRY_AUTH_FILE") {
        return vec![only];
    }
    let runtime = dir("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from(format!("/run/containers/{}/auth.json", nix::unistd::Uid::effective())),
        |runtime| runtime.join("containers/auth.json"),
    );
    let home = dir("HOME");
    let config = dir("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let docker = dir("DOCKER_CONFIG").or_else(|| home.map(|home| home.join(".docker")));
    let mut files = vec![runtime];
    files.extend(config.map(|config| config.join("containers/auth.json")));
    files.extend(docker.map(|docker| docker.join("config.json")));
    files.push(PathBuf::from(OF_HOST));
    files
}

impl Credentials {
    /// Reads `paths`; a file that does not exist says nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] for a file that cannot be read or understood: going on without it would
    /// blame the registry.
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut files = Vec::new();
        for path in paths {
            match read(path) {
                Ok(bytes) => files.push(parse(path, &bytes)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unusable(path, error.to_string())),
            }
        }
        Ok(Self { files })
    }

    /// Knows one user of the registry `host` and nothing else.
    pub(super) fn only(host: &str, user: &str, password: &str) -> Self {
        let (user, password) = (user.to_owned(), password.to_owned());
        let secret = Secret::Password { user, password };
        let secrets = HashMap::from([(host.to_owned(), secret)]);
        Self { files: vec![Entries { secrets, ..Entries::default() }] }
    }

    /// Finds what to say for `repo` of the registry `host`. A helper is asked once.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] if a helper that is named for this very registry cannot be asked.
    pub(super) fn find(&self, host: &str, repo: &str) -> Result<Option<Secret>, Error> {
        for file in &self.files {
            if let Some(secret) = file.of_helper(host)? {
                return Ok(Some(secret));
            }
            if let Some(secret) = file.written(host, repo) {
                return Ok(Some(secret.clone()));
            }
        }
        Ok(None)
    }
}

impl Entries {
    fn written(&self, host: &str, repo: &str) -> Option<&Secret> {
        let mut key = format!("{host}/{repo}");
        loop {
            if let Some(secret) = self.secrets.get(&key) {
                return Some(secret);
            }
            key.truncate(key.rfind('/')?);
        }
    }

    fn of_helper(&self, host: &str) -> Result<Option<Secret>, Error> {
        match (self.helpers.get(host), &self.store) {
            (Some(helper), _) => helper.ask(host),
            // A desktop's general store that is not there on a server knows nothing.
            (None, Some(store)) => Ok(store.ask(host).unwrap_or(None)),
            (None, None) => Ok(None),
        }
    }
}

pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Entries, Error> {
    // The parser's own words may quote the file, secrets included; only the place is told.
    let document: Document = serde_json::from_slice(bytes).map_err(|error| {
        unusable(path, format!("no auth.json at line {} column {}", error.line(), error.column()))
    })?;
    let helper = |name: &str| {
        Helper::named(name, path)
            .ok_or_else(|| unusable(path, "a helper's name is none".to_owned()))
    };
    let mut secrets = HashMap::new();
    for (key, entry) in document.auths {
        if let Some(secret) =
            secret(entry).map_err(|why| unusable(path, format!("`{key}`: {why}")))?
        {
            secrets.insert(canonical(&key), secret);
        }
    }
    let helpers = document.helpers.iter().map(|(key, name)| Ok((canonical(key), helper(name)?)));
    let store = document.store.filter(|name| !name.is_empty());
    Ok(Entries {
        secrets,
        helpers: helpers.collect::<Result<_, Error>>()?,
        store: store.map(|name| helper(&name)).transpose()?,
    })
}

fn secret(entry: Entry) -> Result<Option<Secret>, &'static str> {
    if let Some(token) = entry.identitytoken.filter(|token| !token.is_empty()) {
        return Ok(Some(Secret::Refresh(token)));
    }
    if let Some(auth) = entry.auth.filter(|auth| !auth.is_empty()) {
        let bytes = STANDARD.decode(auth.trim()).map_err(|_| "`auth` is not base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "`auth` is not text")?;
        let (user, password) = text.split_once(':').ok_or("`auth` has no colon")?;
        let password = password.trim_end_matches('\0').to_owned();
        return Ok(Some(Secret::Password { user: user.to_owned(), password }));
    }
    Ok(match (entry.username, entry.password) {
        (Some(user), Some(password)) => Some(Secret::Password { user, password }),
        _ => None,
    })
}

/// Docker writes old keys as URLs (`https://index.docker.io/v1/`); a reference says `docker.io`.
pub(super) fn canonical(key: &str) -> String {
    let url = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let bare = url.map_or(key, |rest| rest.split('/').next().unwrap_or(rest)).trim_end_matches('/');
    match bare {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => bare.to_owned(),
    }
}

fn unusable(path: &Path, why: String) -> Error {
    Error::Settings { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(found: Result<Option<Secret>, Error>) -> Option<String> {
        match found.unwrap()? {
            Secret::Password { user, .. } => Some(user),
            Secret::Refresh(token) => Some(token),
        }
    }

    fn document(pairs: &[(&str, &str)]) -> Vec<u8> {
        let auths: HashMap<&str, serde_json::Value> = pairs
            .iter()
            .map(|(key, user)| {
                (*key, serde_json::json!({"auth": STANDARD.encode(format!("{user}:p:w"))}))
            })
            .collect();
        serde_json::to_vec(&serde_json::json!({ "auths": auths })).unwrap()
    }

    #[test]
    fn the_longest_key_answers_and_components_are_whole() {
        let bytes = document(&[
            ("r.org", "host"),
            ("r.org/team", "team"),
            ("r.org/team/app", "app"),
            ("https://index.docker.io/v1/", "hub"),
            ("localhost:5000", "local"),
        ]);
        let file = parse(Path::new("f"), &bytes).unwrap();
        let credentials = Credentials { files: vec![Entries::default(), file] };
        for (host, repo, who) in [
            ("r.org", "team/app", Some("app")),
            ("r.org", "team/app2", Some("team")),
            ("r.org", "teams/app", Some("host")),
            ("docker.io", "library/busybox", Some("hub")),
            ("localhost:5000", "x", Some("local")),
            ("localhost", "x", None),
            ("evil.r.org", "team/app", None),
        ] {
            assert_eq!(user(credentials.find(host, repo)).as_deref(), who, "{host}/{repo}");
        }
    }

    #[test]
    fn a_password_may_hold_colons_and_is_never_shown() {
        let file = parse(Path::new("f"), &document(&[("h", "u")])).unwrap();
        let secret = &file.secrets["h"];
        assert_eq!(*secret, Secret::Password { user: "u".into(), password: "p:w".into() });
        assert!(!format!("{secret:?}").contains("p:w"));
    }

    #[test]
    fn a_spoilt_file_is_named_without_what_it_says() {
        for text in [
            r#"{"auths":{"h":{"auth":"&&secret"}}}"#,
            r#"{"auths":"secret"}"#,
            r#"{"auths":{"h":{"auth":"c2VjcmV0"}}}"#,
        ] {
            let error = parse(Path::new("/x/auth.json"), text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("/x/auth.json") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn entries_of_helpers_hold_no_secret() {
        let text = br#"{"auths":{"h":{}},"credsStore":"desktop","credHelpers":{"x":"y"}}"#;
        let file = parse(Path::new("f"), text).unwrap();
        assert!(file.secrets.is_empty() && file.store.is_some());
        let text = br#"{"credHelpers":{"x":"../../bin/sh"}}"#;
        assert!(parse(Path::new("f"), text).is_err());
    }

    #[test]
    fn a_store_that_is_not_there_knows_nothing_and_a_helper_that_is_not_is_missed() {
        let text = br#"{"auths":{"h":{"auth":"bWU6cHc="}},"credsStore":"no-such-store",
            "credHelpers":{"x":"no-such-helper"}}"#;
        let credentials = Credentials { files: vec![parse(Path::new("f"), text).unwrap()] };
        assert_eq!(user(credentials.find("h", "a")).as_deref(), Some("me"));
        let error = credentials.find("x", "a").unwrap_err().to_string();
        assert!(error.contains("docker-credential-no-such-helper"), "{error}");
    }
}
