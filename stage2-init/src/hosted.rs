//! An app as the supervisor has handed it in: its specification and the descriptors that are kept
//! for its restarts.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod_abi::app::{AppSpec, EnvVar, PidMode, Process, Stdio, User};
use pod_abi::credential::{CREDENTIALS_DIRECTORY, CREDENTIALS_VARIABLE, Credential};
use pod_abi::inner::AppFds;
use pod_abi::path::PodPath;
use rustix::fs::{Mode, OFlags, openat};

use crate::channel::{Channel, ChannelError};
use crate::launch::{Deed, Launch, Place, Sockets, Streams};

/// An app the supervisor has handed in.
#[derive(Debug)]
pub struct Hosted {
    /// What it is.
    pub spec: Box<AppSpec>,
    mounts: Option<OwnedFd>,
    cgroup: Option<OwnedFd>,
    stdio: Option<[OwnedFd; 3]>,
    sockets: Vec<OwnedFd>,
    oom_kills: u64,
}

impl Hosted {
    /// Takes the descriptors an app comes with from the channel.
    ///
    /// # Errors
    ///
    /// [`ChannelError::MissingDescriptors`].
    pub fn take(
        mut spec: Box<AppSpec>,
        fds: AppFds,
        channel: &mut Channel,
    ) -> Result<Self, ChannelError> {
        let mounts = if fds.mount_namespace { Some(channel.descriptor()?) } else { None };
        let cgroup = if fds.cgroup { Some(channel.descriptor()?) } else { None };
        let stdio = if fds.stdio { Some(take_stdio(channel)?) } else { None };
        let sockets = (0..fds.sockets).map(|_| channel.descriptor()).collect::<Result<_, _>>()?;
        point_to_credentials(&spec.credentials, &mut spec.process.env);
        Ok(Self { spec, mounts, cgroup, stdio, sockets, oom_kills: 0 })
    }

    /// Returns how to start it, or `None` if it came without what a start needs.
    #[must_use]
    pub fn start(&self) -> Option<Launch<'_>> {
        let place = Place::Fresh {
            mounts: self.mounts.as_ref()?.as_fd(),
            masked: &self.spec.masked_paths,
            read_only: &self.spec.read_only_paths,
            reaper: self.spec.reaper,
        };
        let stdio = self.stdio.as_ref()?.each_ref().map(AsFd::as_fd);
        Some(Launch {
            process: &self.spec.process,
            deed: Deed::Execute,
            place,
            pid: self.spec.pid,
            cgroup: self.cgroup(),
            streams: match self.spec.stdio {
                Stdio::Terminal => Streams::Terminal(stdio),
                Stdio::Logged | Stdio::Open => Streams::Given(stdio),
            },
            sockets: Sockets { names: &self.spec.sockets, descriptors: &self.sockets },
        })
    }

    /// Returns the process that copies files for it: root of the app, with no more rights than the
    /// app may hold.
    #[must_use]
    pub fn copier(&self) -> Process {
        let user = User { uid: 0, gid: 0, additional_gids: Vec::new(), umask: Some(0o022) };
        let args = vec!["pod-cp".to_owned()];
        let (env, cwd) = (Vec::new(), PodPath::root());
        Process { args, env, cwd, user, no_new_privileges: true, ..self.spec.process.clone() }
    }

    /// Tells a further process of the app where its credentials are. Of its sockets that learns
    /// nothing: they are its main process's.
    pub fn lend_credentials(&self, env: &mut Vec<EnvVar>) {
        point_to_credentials(&self.spec.credentials, env);
    }

    /// Returns its cgroup.
    #[must_use]
    pub fn cgroup(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup.as_ref().map(AsFd::as_fd)
    }

    /// Kills what is left in the app's cgroup after its main process.
    ///
    /// Only an app that shares the pod's pid namespace can leave anything; without a cgroup it
    /// cannot be told from what other apps have left, and lives until the pod ends.
    pub fn kill_rest(&self) {
        if self.spec.pid == PidMode::App {
            return;
        }
        let Some(cgroup) = self.cgroup() else { return };
        for _ in 0..KILL_ROUNDS {
            let pids = read(cgroup, "cgroup.procs").unwrap_or_default();
            let pids = pids.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw);
            let killed = pids.filter(|pid| kill(*pid, Signal::SIGKILL).is_ok()).count();
            if killed == 0 {
                return;
            }
        }
    }

    /// Tells whether the OOM killer was in its cgroup since the last time this was asked.
    ///
    /// A guess where the cgroup has no memory controller: then nobody was there.
    pub fn was_oom_killed(&mut self) -> bool {
        let before = self.oom_kills;
        self.oom_kills = self.cgroup().and_then(|cgroup| oom_kills(cgroup).ok()).unwrap_or(before);
        self.oom_kills > before
    }
}

/// Puts the directory of an app's credentials, if it has any, into an environment, in the place of
/// any that is there.
fn point_to_credentials(credentials: &[Credential], env: &mut Vec<EnvVar>) {
    if credentials.is_empty() {
        return;
    }
    env.retain(|var| var.name() != CREDENTIALS_VARIABLE);
    // A name and a path without NUL bytes, so that this is always a variable.
    env.extend(EnvVar::parse(&format!("{CREDENTIALS_VARIABLE}={CREDENTIALS_DIRECTORY}")));
}

/// Takes standard input, output and error from the channel.
///
/// # Errors
///
/// [`ChannelError::MissingDescriptors`].
pub fn take_stdio(channel: &mut Channel) -> Result<[OwnedFd; 3], ChannelError> {
    Ok([channel.descriptor()?, channel.descriptor()?, channel.descriptor()?])
}

/// How often an app's cgroup is searched for processes that were born since the last time. Killed
/// ones are found again until they are reaped; what forks faster is stopped with the pod.
const KILL_ROUNDS: usize = 8;

/// The longest file of a cgroup that is read, in bytes.
const MAX_FILE: u64 = 1 << 16;

fn oom_kills(cgroup: BorrowedFd<'_>) -> io::Result<u64> {
    let events = read(cgroup, "memory.events")?;
    let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    Ok(count.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
}

fn read(cgroup: BorrowedFd<'_>, file: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = String::new();
    File::from(openat(cgroup, file, flags, Mode::empty())?)
        .take(MAX_FILE)
        .read_to_string(&mut text)?;
    Ok(text)
}
