//! When an app counts as ready: what those that start after it, and whoever waits for the pod,
//! wait for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// When an app counts as ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Readiness {
    /// As soon as its program has been executed.
    #[default]
    Started,
    /// When it says `READY=1` to the socket its `NOTIFY_SOCKET` names (`sd_notify(3)`). Since
    /// version 2.
    Notify,
    /// When a probe has succeeded. Since version 2.
    Probe(Probe),
}

/// A question asked again and again until the answer is yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// What is asked.
    pub check: Check,
    /// Milliseconds from one question's end to the next.
    pub interval_ms: u64,
    /// Milliseconds after which no answer is a no.
    pub timeout_ms: u64,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Check {
    /// Whether this command, run in the app as the app is, exits with 0.
    Exec {
        /// Program and arguments.
        args: Vec<String>,
    },
    /// Whether a connection to this port of the pod's loopback is taken.
    Tcp {
        /// The port.
        port: u16,
    },
    /// Whether `GET path` to this port of the pod's loopback is answered by a status of 200 to
    /// 399.
    Http {
        /// The port.
        port: u16,
        /// The path, `/` first.
        path: String,
    },
}

/// How long a probe waits between questions if nothing else was said, in milliseconds: what a
/// person does not notice and a machine does not mind.
pub const PROBE_INTERVAL_MS: u64 = 200;
/// How long a probe waits for an answer if nothing else was said, in milliseconds.
pub const PROBE_TIMEOUT_MS: u64 = 1_000;
/// The longest word a probe is made of, in bytes.
pub const MAX_PROBE: usize = 4096;

/// Why a word is no readiness.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no readiness: it takes `started`, `notify`, `exec:COMMAND`, `tcp:PORT` or \
     `http:PORT[/PATH]`"
)]
pub struct ReadinessError(String);

impl FromStr for Readiness {
    type Err = ReadinessError;

    /// Reads the form a command line has. The command of `exec:` is cut at blanks; there is no
    /// shell.
    fn from_str(word: &str) -> Result<Self, ReadinessError> {
        let refused = || ReadinessError(word.chars().take(80).collect());
        if word.len() > MAX_PROBE || word.contains('\0') {
            return Err(refused());
        }
        let port = |digits: &str| digits.parse::<u16>().ok().filter(|port| *port > 0);
        let check = match word.split_once(':') {
            None if word == "started" => return Ok(Self::Started),
            None if word == "notify" => return Ok(Self::Notify),
            Some(("exec", command)) if !command.trim().is_empty() => {
                Check::Exec { args: command.split_whitespace().map(str::to_owned).collect() }
            }
            Some(("tcp", digits)) => Check::Tcp { port: port(digits).ok_or_else(refused)? },
            Some(("http", rest)) => {
                let (digits, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let path = if path.is_empty() { "/" } else { path };
                if path.chars().any(|c| c.is_ascii_control() || c == ' ') {
                    return Err(refused());
                }
                Check::Http { port: port(digits).ok_or_else(refused)?, path: path.to_owned() }
            }
            _ => return Err(refused()),
        };
        let (interval_ms, timeout_ms) = (PROBE_INTERVAL_MS, PROBE_TIMEOUT_MS);
        Ok(Self::Probe(Probe { check, interval_ms, timeout_ms }))
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Notify => f.write_str("notify"),
            Self::Probe(Probe { check, .. }) => match check {
                Check::Exec { args } => write!(f, "exec:{}", args.join(" ")),
                Check::Tcp { port } => write!(f, "tcp:{port}"),
                Check::Http { port, path } => write!(f, "http:{port}{path}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_survives_its_text_form() {
        for word in ["started", "notify", "exec:pg_isready -q", "tcp:5432", "http:80/health?x=1"] {
            assert_eq!(word.parse::<Readiness>().unwrap().to_string(), word);
        }
        for bad in ["", "ready", "exec:", "exec: ", "tcp:0", "tcp:99999", "http:x/", "http:80/a b"]
        {
            assert!(bad.parse::<Readiness>().is_err(), "{bad}");
        }
    }
}
