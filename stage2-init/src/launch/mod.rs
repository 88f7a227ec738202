//! The launcher: the one function by which every process in an app comes to life.
//!
//! Start, restart and exec differ only in how the namespaces are entered ([`Place`]); from there
//! on they run the same code. There is no other `execve` in a pod: rkt had two paths, and got
//! three CVEs for the weaker one. Everything is parsed and allocated before the process exists;
//! the process tells over a pipe what it could not do, and nothing if it could.

mod child;
mod copy;
mod cwd;
mod diagnosis;
mod elf;
mod execute;
mod failure;
mod identity;
mod libraries;
mod masks;
mod prepared;
mod reaper;
mod sockets;
mod streams;
mod surround;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags as NsFlags, setns};
use nix::unistd::Pid;
use pod_abi::app::{PidMode, Process};
use pod_abi::control::Direction;
use pod_abi::path::PodPath;
use pod_sys::{CloneFlags, Forked, clone3};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use self::failure::{At, MAX_MESSAGE, Phase};
use self::prepared::Prepared;

pub use self::child::is_child;
pub use self::failure::Failure;
pub use self::sockets::Sockets;

/// Where a process is to live, and how it gets there.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In namespaces of its own, copied from what the supervisor has laid out: a start.
    Fresh {
        /// The mount namespace that holds the app's root.
        mounts: BorrowedFd<'a>,
        /// Paths that read as empty.
        masked: &'a [PodPath],
        /// Paths that cannot be written.
        read_only: &'a [PodPath],
        /// Whether a process of ours is process 1, and the app a child of it. Only with
        /// [`PidMode::App`].
        reaper: bool,
    },
    /// In those of a process that lives: an exec.
    Joined {
        /// The app's main process.
        main: BorrowedFd<'a>,
    },
}

/// What a process does once it is what it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed<'a> {
    /// It executes its program.
    Execute,
    /// It finds out why its program could not run although it was executed, and ends: the
    /// [`Verdict`] tells what it has found, if anything. It has a second.
    Explain,
    /// It copies files between an archive, its standard input or output, and this path. The
    /// [`Verdict`] comes when it has done so.
    Copy(Direction, &'a PodPath),
}

/// What a process reads from and writes to.
#[derive(Clone, Copy, Debug)]
pub enum Streams<'a> {
    /// Standard input, output and error.
    Given([BorrowedFd<'a>; 3]),
    /// The same, and they are a terminal, which is to be the process's own.
    Terminal([BorrowedFd<'a>; 3]),
    /// Nothing: `/dev/null` of the app.
    Null,
}

/// What is to be launched, and where.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The process.
    pub process: &'a Process,
    /// What it does.
    pub deed: Deed<'a>,
    /// The namespaces.
    pub place: Place<'a>,
    /// Whose processes the app sees.
    pub pid: PidMode,
    /// The app's cgroup, in which the process is born; with one, the app has a cgroup namespace,
    /// unless it sees the host's processes.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Standard input, output and error.
    pub streams: Streams<'a>,
    /// What it finds behind those.
    pub sockets: Sockets<'a>,
}

impl Launch<'_> {
    /// Tells whether the app has a cgroup namespace.
    fn has_cgroup_namespace(&self) -> bool {
        self.cgroup.is_some() && self.pid != PidMode::Host
    }
}

/// A process that has been made; whether it executes its program is still to come.
#[derive(Debug)]
pub struct Launched {
    /// Its id in the caller's pid namespace.
    pub pid: Pid,
    /// Its descriptor.
    pub pidfd: OwnedFd,
    /// Where the news come from.
    pub verdict: Verdict,
}

/// Why nothing was launched.
#[derive(Debug)]
pub enum LaunchError {
    /// The process could not be made, or its specification not be understood.
    NotLaunched(Failure),
    /// The launcher is stuck in a pid namespace that is not its own. Nothing may be launched any
    /// more: it would be born in the wrong place.
    Lost(io::Error),
}

impl From<Failure> for LaunchError {
    fn from(failure: Failure) -> Self {
        Self::NotLaunched(failure)
    }
}

/// The reading end of the pipe a launched process holds until it executes its program.
#[derive(Debug)]
pub struct Verdict(OwnedFd);

/// What is known of a launched process.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Pending,
    /// It executes its program, or was killed before it could.
    Executed,
    /// It could not, and ends.
    Failed(Failure),
}

impl Verdict {
    /// Asks for the outcome, without waiting.
    #[must_use]
    pub fn ask(&self) -> Outcome {
        let mut message = [0; MAX_MESSAGE];
        loop {
            match rustix::io::read(&self.0, &mut message) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Outcome::Pending,
                // A child writes its one message in one piece, shorter than any pipe's buffer.
                Ok(length) => {
                    return Failure::decode(&message[..length])
                        .map_or(Outcome::Executed, Outcome::Failed);
                }
                Err(_) => return Outcome::Executed,
            }
        }
    }
}

impl AsFd for Verdict {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What every launch needs.
#[derive(Debug)]
pub struct Launcher {
    pid_namespace: File,
}

impl Launcher {
    /// Makes the launcher of this process, which must have no threads.
    ///
    /// # Errors
    ///
    /// Those of opening `/proc/self/ns/pid`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { pid_namespace: File::open("/proc/self/ns/pid")? })
    }

    /// Makes a process, which goes on to execute its program.
    ///
    /// # Errors
    ///
    /// [`LaunchError`]; there is no process. What goes wrong later is told by the [`Verdict`].
    pub fn launch(&self, launch: &Launch<'_>) -> Result<Launched, LaunchError> {
        let mut prepared = Prepared::new(launch.process, launch.sockets)?;
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (verdict, report) = pipe_with(flags).at(Phase::Clone, "a pipe to a process")?;
        match self.make(launch)? {
            Forked::Child => child::go(launch, &mut prepared, report.as_fd()),
            Forked::Parent { pid, pidfd } => Ok(Launched { pid, pidfd, verdict: Verdict(verdict) }),
        }
    }

    /// Makes the bare process, in the pid namespace it is to live in.
    ///
    /// To be born in the namespace of a living process, this one points its future children there
    /// and back again: no process in between, and the new one is ours to wait for.
    fn make(&self, launch: &Launch<'_>) -> Result<Forked, LaunchError> {
        let made = match (launch.place, launch.pid) {
            (Place::Fresh { .. }, PidMode::App) => clone3(CloneFlags::NEWPID, launch.cgroup),
            (_, PidMode::Pod | PidMode::Host) => clone3(CloneFlags::NONE, launch.cgroup),
            (Place::Joined { main }, PidMode::App) => {
                setns(main, NsFlags::CLONE_NEWPID).at(Phase::Join, "the pid namespace")?;
                let made = clone3(CloneFlags::NONE, launch.cgroup);
                if !matches!(made, Ok(Forked::Child)) {
                    setns(&self.pid_namespace, NsFlags::CLONE_NEWPID)
                        .map_err(|errno| LaunchError::Lost(errno.into()))?;
                }
                made
            }
        };
        Ok(made.at(Phase::Clone, "a cgroup and a pid namespace")?)
    }
}
