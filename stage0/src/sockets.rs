//! Sockets that a service manager has handed to this process (`sd_listen_fds(3)`), and which app
//! of a pod gets which.
//!
//! They sit at descriptors from 3 on, where a stage1 finds other things: so they are adopted before
//! anything else is opened, and handed over by name. Nothing here reads from one, or changes
//! whether it blocks.

use std::env;
use std::os::fd::OwnedFd;

use pod_abi::AppName;
use pod_abi::app::{AppSpec, Role};
use pod_abi::credential::{MAX_SOCKETS, MAX_SOCKETS_GIVEN, SocketName, taken};
use rustix::fs::{FileType, fstat};

use crate::error::{CommandError, Context as _, Result};

/// The number of the first, `SD_LISTEN_FDS_START`.
const FIRST: i32 = 3;
/// What a descriptor is called that was not given a name (`sd_listen_fds_with_names(3)`).
const UNKNOWN: &str = "unknown";

/// The sockets of this process.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// The name of each; several may have the same.
    pub(crate) names: Vec<SocketName>,
    /// The sockets.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Sockets {
    /// Adopts those that were handed to this process, if any. To be called once, before anything
    /// else opens a descriptor.
    ///
    /// # Errors
    ///
    /// `socket.names` if what is said of them makes no sense, `socket.none` for a descriptor that
    /// is not open, or of a kind that would lead an app out of its pod.
    pub(crate) fn adopt() -> Result<Self> {
        let variable = |name| env::var(name).ok();
        let said = Said {
            pid: variable("LISTEN_PID"),
            count: variable("LISTEN_FDS"),
            names: variable("LISTEN_FDNAMES"),
        };
        let names = named(&said, std::process::id())?;
        let adopt = |(name, number): (&SocketName, i32)| adopt(name, number);
        let descriptors = names.iter().zip(FIRST..).map(adopt).collect::<Result<_>>()?;
        Ok(Self { names, descriptors })
    }

    /// Refuses to have a pod run by another process than this one, where these cannot follow.
    ///
    /// # Errors
    ///
    /// `socket.elsewhere` if there are any.
    pub(crate) fn check_stay(&self) -> Result<()> {
        let Some(name) = self.names.first() else { return Ok(()) };
        let sentence =
            format!("socket `{name}` was handed to this process, which is to run no pod itself");
        Err(CommandError::new("socket.elsewhere", sentence)
            .hint("leave `--detach`, `--interactive` and `--tty` away: a unit takes sockets from a `.socket` unit of its own"))
    }
}

/// The environment of the protocol.
#[derive(Clone, Debug, Default)]
struct Said {
    pid: Option<String>,
    count: Option<String>,
    names: Option<String>,
}

/// Returns the names of the sockets that process `own` was handed; none if they are not for it.
fn named(said: &Said, own: u32) -> Result<Vec<SocketName>> {
    let (Some(pid), Some(count)) = (&said.pid, &said.count) else { return Ok(Vec::new()) };
    if pid.parse() != Ok(own) {
        return Ok(Vec::new());
    }
    let wrong = |what: String| Err(CommandError::new("socket.names", what));
    let Some(count) = count.parse::<usize>().ok().filter(|count| *count <= MAX_SOCKETS) else {
        return wrong(format!("`LISTEN_FDS={count}` is no number of sockets up to {MAX_SOCKETS}"));
    };
    let Some(names) = &said.names else {
        let unknown = SocketName::parse(UNKNOWN).expect("letters are a name");
        return Ok(vec![unknown; count]);
    };
    let words: Vec<&str> = names.split(':').filter(|_| count > 0).collect();
    if words.len() != count {
        return wrong(format!(
            "`LISTEN_FDNAMES` names {} sockets, and `LISTEN_FDS` tells {count}",
            words.len()
        ));
    }
    let parse = |word: &&str| {
        SocketName::parse(word).map_err(|error| {
            CommandError::of("socket.names", &error)
                .hint("`FileDescriptorName=` in the socket unit gives it another")
        })
    };
    words.iter().map(parse).collect()
}

/// Adopts one descriptor.
///
/// SECURITY: only what can be read from, written to and accepted on. A directory of the host would
/// lead the app out of its root, and a device or file would be beyond what it is held to.
fn adopt(name: &SocketName, number: i32) -> Result<OwnedFd> {
    let descriptor = pod_sys::inherited(number)
        .context(|| format!("socket `{name}` is not open at descriptor {number}"))?;
    let stat = fstat(&descriptor).context(|| format!("cannot look at socket `{name}`"))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket | FileType::Fifo => Ok(descriptor),
        _ => Err(CommandError::new("socket.none", format!("`{name}`, at descriptor {number}, is no socket"))
            .hint("a pod takes what `ListenStream=`, `ListenDatagram=`, `ListenSequentialPacket=` and `ListenFIFO=` make")),
    }
}

/// Why apps and sockets do not match.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    #[error("app `{app}` asks for socket `{name}`, and none of that name was handed over")]
    Missing { app: AppName, name: SocketName },
    #[error("socket `{0}` was handed over, and no app asks for it")]
    LeftOver(SocketName),
    #[error(
        "the apps of the pod are given {0} sockets together; at most {MAX_SOCKETS_GIVEN} are possible"
    )]
    TooMany(usize),
}

impl Mismatch {
    fn refusal(&self, handed: &[SocketName]) -> CommandError {
        let (code, hint) = match self {
            Self::Missing { name, .. } if handed.is_empty() => (
                "socket.missing",
                format!(
                    "a socket unit with `FileDescriptorName={name}`, beside the service that runs the pod, hands it over"
                ),
            ),
            Self::Missing { .. } => {
                let names: Vec<String> = handed.iter().map(|name| format!("`{name}`")).collect();
                ("socket.missing", format!("these were: {}", names.join(", ")))
            }
            Self::LeftOver(name) => (
                "socket.left-over",
                format!("`--socket {name}` behind an image gives it to that app"),
            ),
            Self::TooMany(_) => ("socket.too-many", "give a socket to fewer apps".to_owned()),
        };
        CommandError::of(code, self).hint(hint)
    }
}

/// Settles which app gets which of the sockets `handed` over.
///
/// # Errors
///
/// `socket.missing`, `socket.left-over` or `socket.too-many`.
pub(crate) fn settle(apps: &mut [AppSpec], handed: &[SocketName]) -> Result<()> {
    assign(apps, handed).map_err(|mismatch| mismatch.refusal(handed))
}

/// As [`settle`]; pure. If no app asks for any, and one app alone is there to stay, it gets all. A
/// pod without apps holds them for apps to come.
fn assign(apps: &mut [AppSpec], handed: &[SocketName]) -> std::result::Result<(), Mismatch> {
    let asked = apps.iter().any(|app| !app.sockets.is_empty());
    let mut mains = apps.iter_mut().filter(|app| app.role == Role::Main);
    if let (false, Some(only), None) = (asked, mains.next(), mains.next()) {
        for name in handed {
            if !only.sockets.contains(name) {
                only.sockets.push(name.clone());
            }
        }
    }
    for app in &*apps {
        if let Some(name) = app.sockets.iter().find(|name| !handed.contains(name)) {
            return Err(Mismatch::Missing { app: app.name.clone(), name: name.clone() });
        }
    }
    let wanted = |name: &&SocketName| apps.iter().any(|app| app.sockets.contains(name));
    if let Some(name) = handed.iter().find(|name| !apps.is_empty() && !wanted(name)) {
        return Err(Mismatch::LeftOver(name.clone()));
    }
    match apps.iter().map(|app| taken(&app.sockets, handed).len()).sum() {
        0..=MAX_SOCKETS_GIVEN => Ok(()),
        given => Err(Mismatch::TooMany(given)),
    }
}

#[cfg(test)]
mod tests;
