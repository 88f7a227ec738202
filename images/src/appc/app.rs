//! What the manifest of an image proposes to run, and in which surroundings.
//!
//! Checked in full when it is read, so that whoever translates it has nothing left to refuse but
//! what OCI cannot say. Isolators are kept as they are: what they mean is for the pod to know.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::AppcError;
use super::word::{self, Pair, or_default, refuse};

/// The most ports of one image, those of ranges counted singly: every one of tcp and of udp.
const MAX_PORTS: u32 = 2 * 65535;

/// What to run.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct App {
    /// The program, an absolute path, and its arguments.
    pub(crate) exec: Vec<String>,
    /// As whom: a number or a name; a path is not refused before it is translated.
    pub(crate) user: String,
    /// See `user`.
    pub(crate) group: String,
    /// The groups besides.
    #[serde(default, rename = "supplementaryGIDs", deserialize_with = "or_default")]
    pub(crate) supplementary_gids: Vec<u32>,
    /// Where, if not at the root.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) working_directory: String,
    #[serde(default, deserialize_with = "or_default")]
    environment: Vec<Pair>,
    /// What to run before and after.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) event_handlers: Vec<EventHandler>,
    /// Walls and limits.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) isolators: Vec<Isolator>,
    /// Where something is expected to be mounted.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) mount_points: Vec<MountPoint>,
    /// Where it listens.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) ports: Vec<Port>,
    /// Free text of the image's maker.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) user_annotations: BTreeMap<String, String>,
    /// Free words of the image's maker.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) user_labels: BTreeMap<String, String>,
}

/// A program for a moment in the life of the app.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct EventHandler {
    /// `pre-start` or `post-stop`.
    pub(crate) name: String,
    /// The program and its arguments.
    pub(crate) exec: Vec<String>,
}

/// A wall or a limit, verbatim.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Isolator {
    /// Such as `resource/memory`.
    pub(crate) name: String,
    /// Whatever belongs to that name.
    pub(crate) value: Value,
}

/// A place for a volume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MountPoint {
    /// What pods call it.
    pub(crate) name: String,
    /// Where it is, absolute.
    pub(crate) path: String,
    /// Whether the app only reads.
    #[serde(default)]
    pub(crate) read_only: bool,
}

/// A port, or several in a row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Port {
    /// What pods call it.
    pub(crate) name: String,
    /// `tcp` or `udp`.
    pub(crate) protocol: String,
    /// The first.
    pub(crate) port: u16,
    /// How many; 0 is what Go writes for one.
    #[serde(default)]
    pub(crate) count: u16,
    /// Whether it is to be handed over open.
    #[serde(default)]
    pub(crate) socket_activated: bool,
}

impl Port {
    /// Returns the last port of the row, if it is one.
    pub(super) fn last(&self) -> Option<u16> {
        self.port.checked_add(self.count.saturating_sub(1))
    }
}

impl App {
    /// Returns the variables, each with its name, in the order of the manifest.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|pair| (pair.name.as_str(), pair.value.as_str()))
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    ///
    /// [`AppcError::Manifest`], with the part and what it says.
    pub(super) fn check(&self) -> Result<(), AppcError> {
        check_exec("exec", &self.exec)?;
        for (what, who) in [("user", &self.user), ("group", &self.group)] {
            check_identity(what, who)?;
        }
        if !self.working_directory.is_empty() {
            word::absolute("workingDirectory", &self.working_directory)?;
        }
        self.check_environment()?;
        self.check_handlers()?;
        for isolator in &self.isolators {
            word::identifier("isolator", &isolator.name)?;
        }
        for point in &self.mount_points {
            word::name("mount point", &point.name)?;
            word::absolute("path of a mount point", &point.path)?;
        }
        self.check_ports()
    }

    fn check_environment(&self) -> Result<(), AppcError> {
        let mut seen = BTreeSet::new();
        for Pair { name, value } in &self.environment {
            let part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            let digit = name.starts_with(|first: char| first.is_ascii_digit());
            if name.is_empty() || digit || !name.bytes().all(part) {
                return Err(refuse("environment variable", name, "is no name of a variable"));
            }
            if !seen.insert(name) {
                return Err(refuse("environment variable", name, "is there twice"));
            }
            word::plain("environment value", value)?;
        }
        Ok(())
    }

    fn check_handlers(&self) -> Result<(), AppcError> {
        let mut seen = BTreeSet::new();
        for EventHandler { name, exec } in &self.event_handlers {
            if !["pre-start", "post-stop"].contains(&name.as_str()) {
                return Err(refuse("event handler", name, "is for no event"));
            }
            if !seen.insert(name) {
                return Err(refuse("event handler", name, "is there twice"));
            }
            check_exec("exec of an event handler", exec)?;
        }
        Ok(())
    }

    fn check_ports(&self) -> Result<(), AppcError> {
        let mut all: u32 = 0;
        for port in &self.ports {
            word::name("port", &port.name)?;
            if !["tcp", "udp"].contains(&port.protocol.as_str()) {
                return Err(refuse("protocol", &port.protocol, "is neither tcp nor udp"));
            }
            if port.port == 0 || port.last().is_none() {
                return Err(refuse("port", &port.name, "is not within 1 to 65535"));
            }
            all = all.saturating_add(port.count.max(1).into());
        }
        if all > MAX_PORTS {
            return Err(AppcError::Manifest("it has more ports than there are".into()));
        }
        Ok(())
    }
}

fn check_exec(what: &str, exec: &[String]) -> Result<(), AppcError> {
    let Some(program) = exec.first() else {
        return Err(AppcError::Manifest(format!("{what} is empty")));
    };
    word::absolute(what, program)?;
    exec.iter().try_for_each(|argument| word::plain(what, argument))
}

/// Checks a user or a group. A colon would end it in the notation of OCI.
fn check_identity(what: &str, who: &str) -> Result<(), AppcError> {
    if who.is_empty() {
        return Err(AppcError::Manifest(format!("{what} is empty")));
    }
    if who.starts_with('/') {
        return word::absolute(what, who);
    }
    if who.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control()) {
        return Err(refuse(what, who, "is neither a name nor a number"));
    }
    // -1 means "do not change" to setresuid(2).
    let number = who.bytes().all(|byte| byte.is_ascii_digit());
    if number && who.parse::<u32>().map_or(true, |id| id == u32::MAX) {
        return Err(refuse(what, who, "is no number the kernel takes"));
    }
    Ok(())
}
