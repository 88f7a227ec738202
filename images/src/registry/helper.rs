//! Programs that know credentials: `docker-credential-NAME get`.
//!
//! The registry goes to standard input, a document with user and secret comes back. A helper is the
//! user's own program, named in the user's own file; its name is one word, so that it is looked for
//! in `$PATH` and nowhere else. Source: docker-credential-helpers, "Development".

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::credentials::Secret;
use super::error::Error;

/// The longest answer, in bytes.
const MAX_ANSWER: u64 = 64 << 10;
/// The user a helper names where the secret is a refresh token.
const TOKEN_USER: &str = "<token>";

/// A program, and what it has said.
pub(super) struct Helper {
    program: String,
    /// The file that names it, for messages.
    file: PathBuf,
    /// By registry; asking again would ask the person behind it again.
    known: Mutex<Vec<(String, Option<Secret>)>>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl Helper {
    /// Names the helper `name`; `None` if it is no single word.
    pub(super) fn named(name: &str, file: &Path) -> Option<Self> {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let good = (1..=64).contains(&name.len()) && name.bytes().all(letter);
        good.then(|| Self {
            program: format!("docker-credential-{name}"),
            file: file.to_owned(),
            known: Mutex::default(),
        })
    }

    /// Asks what to say to `host`.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] if it cannot be run or answers in no form we know. That it knows nothing
    /// is no error.
    pub(super) fn ask(&self, host: &str) -> Result<Option<Secret>, Error> {
        // The list is whole after every statement, whatever thread died.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, secret)) = known.iter().find(|(other, _)| other == host) {
            return Ok(secret.clone());
        }
        let said = self.run(host).map_err(|error| self.unusable(&error.to_string()))?;
        let secret = match said {
            None => None,
            // The parser's own words may quote the secret.
            Some(bytes) => match serde_json::from_slice(&bytes) {
                Ok(Answer { user, secret }) if user == TOKEN_USER => Some(Secret::Refresh(secret)),
                Ok(Answer { user, secret }) => Some(Secret::Password { user, password: secret }),
                Err(_) => {
                    return Err(self.unusable("its answer is no document of the kind expected"));
                }
            },
        };
        known.push((host.to_owned(), secret.clone()));
        Ok(secret)
    }

    /// Returns what the program says; `None` if it says that it knows nothing, which it does by its
    /// status.
    fn run(&self, host: &str) -> io::Result<Option<Vec<u8>>> {
        // Docker keeps its own registry under an address of old.
        let server = if host == "docker.io" { "https://index.docker.io/v1/" } else { host };
        let mut child = Command::new(&self.program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(server.as_bytes()); // one that does not listen will not know
        }
        let mut bytes = Vec::new();
        let read = match child.stdout.take() {
            Some(output) => output.take(MAX_ANSWER).read_to_end(&mut bytes).map(drop),
            None => Ok(()),
        };
        let status = child.wait()?;
        read?;
        Ok(status.success().then_some(bytes))
    }

    fn unusable(&self, why: &str) -> Error {
        Error::Settings { path: self.file.clone(), why: format!("`{}`: {why}", self.program) }
    }
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper").field("program", &self.program).finish_non_exhaustive()
    }
}
