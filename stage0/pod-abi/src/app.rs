//! One app of a pod: `app.N.json`.
//!
//! The vocabulary is the OCI runtime-spec's (process, mounts, masked paths, …), in types that
//! cannot contradict themselves, plus what OCI has no word for: restart, stop, readiness, order.
//! Everything is resolved: no name is left to look up, no image configuration to merge.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::credential::{Credential, SocketName};
use crate::digest::Digest;
use crate::fields::is_default;
use crate::isolators::{Capabilities, Device, Resources, Rlimit, Seccomp};
use crate::name::{AppName, VolumeName};
use crate::path::PodPath;
use crate::readiness::Readiness;
use crate::volume::Volume;

/// One app: an image, a process to start from it, and what surrounds that process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppSpec {
    /// [`crate::version::MANIFEST`] of the writer.
    pub version: u32,
    /// The app's name, unique in its pod.
    pub name: AppName,
    /// Where its root comes from.
    pub image: ImagePin,
    /// What is started.
    pub process: Process,
    /// Whether the root is read-only; volumes are not meant.
    #[serde(default)]
    pub read_only_root: bool,
    /// What is mounted over the root, in any order; outer mounts come before inner ones.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Paths that read as empty.
    #[serde(default)]
    pub masked_paths: Vec<PodPath>,
    /// Paths that cannot be written.
    #[serde(default)]
    pub read_only_paths: Vec<PodPath>,
    /// Whose processes it sees.
    #[serde(default)]
    pub pid: PidMode,
    /// When it is started again.
    #[serde(default)]
    pub restart: Restart,
    /// How it is asked to end, and for how long.
    #[serde(default)]
    pub stop: Stop,
    /// When it counts as ready.
    #[serde(default)]
    pub readiness: Readiness,
    /// What is kept of its output.
    #[serde(default)]
    pub log: LogOptions,
    /// Free words of the user.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Free words of programs.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// What it is to its pod. Since version 2, like all that follows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub role: Role,
    /// The apps that must be ready, or have ended well if they are init apps, before it starts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub after: Vec<AppName>,
    /// How it is spoken to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stdio: Stdio,
    /// Whether a process of ours is process 1 in its stead and reaps what it leaves. Only with
    /// [`PidMode::App`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub reaper: bool,
    /// Whether `/sys` can be written, as far as its user namespace allows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub writable_sys: bool,
    /// Devices of the host beside those every app has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub devices: Vec<Device>,
    /// The most it may use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Volumes that came with this app after the sandbox was made; their names are the pod's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub volumes: Vec<Volume>,
    /// Secrets it is given, each name once. Since version 3, like all that follows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub credentials: Vec<Credential>,
    /// Sockets of the service manager it is given, by name, in the order of its descriptors from
    /// 3 on (`sd_listen_fds(3)`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub sockets: Vec<SocketName>,
}

/// What an app is to its pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The pod runs for it.
    #[default]
    Main,
    /// It prepares: it runs to its end, and must end well, before any main app starts. Init apps
    /// run one after the other, in the order of the manifest.
    Init,
}

/// How an app is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stdio {
    /// Its input is empty; its output goes to its log and to whoever is attached.
    #[default]
    Logged,
    /// Its input comes from whoever is attached, too.
    Open,
    /// Input and output are one terminal.
    Terminal,
}

/// An image, pinned to content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImagePin {
    /// The reference it was asked for by.
    pub reference: String,
    /// The manifest of the chosen platform.
    pub manifest: Digest,
    /// The image configuration.
    pub config: Digest,
    /// The uncompressed layers, lowest first; at most 400, for overlayfs takes 500.
    pub layers: Vec<Digest>,
    /// What vouched for it.
    pub verified: Verified,
}

/// What vouched for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verified {
    /// Every byte matched its digest; the first digest came over TLS or was given by the user.
    Digest,
    /// Every byte matched its digest; the first digest came over plain HTTP.
    DigestOverHttp,
    /// Every byte matched its digest; the first digest came from a local file.
    LocalFile,
    /// Every byte matched its digest, and a key the policy trusts has signed the first one.
    Signature,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Process {
    /// Program and arguments; at least the program. Without a slash it is looked up in `PATH` of
    /// `env`, inside the app's root.
    pub args: Vec<String>,
    /// The whole environment.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// The working directory; made if it is missing.
    pub cwd: PodPath,
    /// Who it runs as.
    pub user: User,
    /// The most it may ever hold.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Whether executing a file can never grant more.
    pub no_new_privileges: bool,
    /// Which system calls it may make.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// Limits of resources; what is not named is inherited from the pod.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// Its `oom_score_adj`, if it is to differ from the pod's.
    #[serde(default)]
    pub oom_score_adj: Option<i16>,
}

/// One variable of an environment, in the form `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvVar {
    text: String,
    equals: usize,
}

/// Why a word is no variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no environment variable: it takes NAME=VALUE without NUL bytes")]
pub struct EnvVarError(String);

impl EnvVar {
    /// Parses `NAME=VALUE`. The value may be empty, the name may not (CVE-2026-57231: a malformed
    /// entry must never become a look-up in the host's environment).
    ///
    /// # Errors
    ///
    /// [`EnvVarError`] for everything else.
    pub fn parse(text: &str) -> Result<Self, EnvVarError> {
        match text.find('=') {
            Some(equals) if equals > 0 && !text.contains('\0') => {
                Ok(Self { text: text.to_owned(), equals })
            }
            _ => Err(EnvVarError(text.chars().take(80).collect())),
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.text[..self.equals]
    }

    /// Returns the value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.text[self.equals + 1..]
    }

    /// Returns `NAME=VALUE`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for EnvVar {
    type Error = EnvVarError;

    fn try_from(text: String) -> Result<Self, EnvVarError> {
        Self::parse(&text)
    }
}

impl From<EnvVar> for String {
    fn from(var: EnvVar) -> Self {
        var.text
    }
}

/// The largest id a user or group may have: `u32::MAX` means "no change" to the kernel, and ids
/// above `i32::MAX` have been taken for negative ones (CVE-2024-40635).
pub const MAX_ID: u32 = 0x7fff_ffff;

/// Who a process runs as, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// The user, at most [`MAX_ID`].
    pub uid: u32,
    /// The group, at most [`MAX_ID`].
    pub gid: u32,
    /// All supplementary groups; none is ever inherited.
    #[serde(default)]
    pub additional_gids: Vec<u32>,
    /// The file mode creation mask; 0o022 if not given.
    #[serde(default)]
    pub umask: Option<u32>,
}

/// Something mounted into an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// Where.
    pub destination: PodPath,
    /// What.
    pub source: MountSource,
    /// Whether it cannot be written through this mount.
    #[serde(default)]
    pub read_only: bool,
    /// Whether nothing on it can be executed. Since version 2.
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_exec: bool,
}

/// What can be mounted into an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MountSource {
    /// A volume of the pod.
    Volume(VolumeName),
    /// A file system in memory, this app's alone.
    Tmpfs {
        /// The most it holds, in bytes; half of the memory if not given, as the kernel says.
        #[serde(default)]
        size: Option<u64>,
        /// Its permission bits.
        mode: u32,
    },
}

/// Whose processes an app sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PidMode {
    /// Its own; it is process 1.
    #[default]
    App,
    /// The whole pod's.
    Pod,
    /// The host's; only without a wall, in a pod of `fly`. Since version 2.
    Host,
}

/// When an app that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When it failed, and not more often than this, if given.
    OnFailure {
        /// The most restarts.
        #[serde(default)]
        max: Option<u32>,
    },
    /// Always.
    Always,
}

/// Why a word is no restart policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no restart policy: it takes `no`, `on-failure`, `on-failure:N` or `always`")]
pub struct RestartError(String);

impl FromStr for Restart {
    type Err = RestartError;

    fn from_str(word: &str) -> Result<Self, RestartError> {
        match word.split_once(':') {
            None if word == "no" => Ok(Self::No),
            None if word == "always" => Ok(Self::Always),
            None if word == "on-failure" => Ok(Self::OnFailure { max: None }),
            Some(("on-failure", max)) => max
                .parse()
                .map(|max| Self::OnFailure { max: Some(max) })
                .map_err(|_| RestartError(word.to_owned())),
            _ => Err(RestartError(word.to_owned())),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure { max: None } => f.write_str("on-failure"),
            Self::OnFailure { max: Some(max) } => write!(f, "on-failure:{max}"),
            Self::Always => f.write_str("always"),
        }
    }
}

/// How an app is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stop {
    /// The number of the signal sent first, 1…64.
    pub signal: u8,
    /// Milliseconds until SIGKILL follows.
    pub grace_ms: u64,
}

/// How long an app has between the stop signal and SIGKILL, in milliseconds.
///
/// Long enough for a database to flush, short enough that `pod stop` ends before the 30 s after
/// which service managers lose patience. docker's figure.
pub const STOP_GRACE_MS: u64 = 10_000;

/// SIGTERM, what an app is asked to end with unless its image says otherwise.
pub const SIGTERM: u8 = 15;

impl Default for Stop {
    fn default() -> Self {
        Self { signal: SIGTERM, grace_ms: STOP_GRACE_MS }
    }
}

/// What is kept of an app's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogOptions {
    /// Bytes of one log file before it is rotated.
    pub max_bytes: u64,
    /// Files kept, the current one included.
    pub files: u32,
}

/// The fewest bytes of one log file: less would be rotated with every line.
pub const MIN_LOG_BYTES: u64 = 4096;
/// The most log files of one app. Each is renamed with every rotation, and nothing else is done
/// meanwhile.
pub const MAX_LOG_FILES: u32 = 100;

impl LogOptions {
    /// Tells whether the supervisor can keep such a log.
    #[must_use]
    pub fn is_sound(self) -> bool {
        self.max_bytes >= MIN_LOG_BYTES && (1..=MAX_LOG_FILES).contains(&self.files)
    }
}

impl Default for LogOptions {
    /// Two files of 16 MiB: a bound for every app, enough to look back on a bad night.
    fn default() -> Self {
        Self { max_bytes: 16 << 20, files: 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_before_its_first_equals_sign() {
        let var = EnvVar::parse("A=b=c").unwrap();
        assert_eq!((var.name(), var.value()), ("A", "b=c"));
        assert_eq!(EnvVar::parse("A=").unwrap().value(), "");
        for bad in ["", "A", "=b", "PATH*", "A=\0"] {
            assert!(EnvVar::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_log_has_a_bounded_number_of_files_of_some_size() {
        let sound = |max_bytes, files| LogOptions { max_bytes, files }.is_sound();
        assert!(LogOptions::default().is_sound() && sound(MIN_LOG_BYTES, 1));
        for (max_bytes, files) in [(0, 2), (1 << 20, 0), (1 << 20, u32::MAX)] {
            assert!(!sound(max_bytes, files), "{max_bytes} {files}");
        }
    }

    #[test]
    fn restart_policies_survive_their_text_form() {
        for word in ["no", "on-failure", "on-failure:3", "always"] {
            assert_eq!(word.parse::<Restart>().unwrap().to_string(), word);
        }
        for bad in ["", "never", "on-failure:", "on-failure:x", "always:3"] {
            assert!(bad.parse::<Restart>().is_err(), "{bad}");
        }
    }
}
