//! The processes PID 1 has launched and not reaped yet, and what each of them is.
//!
//! Only these are its business; whatever else ends as a child of PID 1 is an orphan of some app
//! and is reaped without a word.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pod_abi::name::AppName;

use crate::disposition::is_spared;
use crate::launch::{Failure, Launched, Outcome, Verdict};

/// What a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The main process of an app.
    Main(AppName),
    /// A process the supervisor asked for, in an app.
    Exec {
        /// The supervisor's number.
        id: u32,
        /// The app.
        app: AppName,
    },
    /// One of ours that finds out why the main process of an app, which has ended, could not run.
    /// The news of that end wait for this one's.
    Explainer(AppName),
    /// A question whether an app is ready.
    Probe {
        /// The app.
        app: AppName,
        /// Which question of this app's.
        round: u32,
    },
}

/// A process that lives, or waits to be reaped.
#[derive(Debug)]
pub struct Living {
    /// What it is.
    pub role: Role,
    /// Its id in this pid namespace.
    pub pid: Pid,
    pidfd: OwnedFd,
    /// When it was launched.
    pub since: Instant,
    /// Until it is known whether it executes its program.
    verdict: Option<Verdict>,
    /// Why it does not.
    pub failure: Option<Failure>,
    /// The signal in whose stead SIGKILL was sent.
    pub carried_out: Option<u8>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Processes {
    living: Vec<Living>,
}

impl Processes {
    /// Takes in a launched process.
    pub fn insert(&mut self, role: Role, launched: Launched) {
        let Launched { pid, pidfd, verdict } = launched;
        let verdict = Some(verdict);
        let since = Instant::now();
        let living = Living { role, pid, pidfd, since, verdict, failure: None, carried_out: None };
        self.living.push(living);
    }

    /// Takes out the process of this id.
    pub fn remove(&mut self, pid: Pid) -> Option<Living> {
        let index = self.living.iter().position(|living| living.pid == pid)?;
        Some(self.living.swap_remove(index))
    }

    /// Returns the process of this id.
    pub fn by_pid(&mut self, pid: Pid) -> Option<&mut Living> {
        self.living.iter_mut().find(|living| living.pid == pid)
    }

    /// Returns the main process of an app.
    #[must_use]
    pub fn main_of(&self, name: &AppName) -> Option<&Living> {
        self.living.iter().find(|living| living.is_main_of(name))
    }

    /// Returns the main process of an app, to be changed.
    pub fn main_of_mut(&mut self, name: &AppName) -> Option<&mut Living> {
        self.living.iter_mut().find(|living| living.is_main_of(name))
    }

    /// Returns the process of an exec.
    #[must_use]
    pub fn exec(&self, number: u32) -> Option<&Living> {
        self.living
            .iter()
            .find(|living| matches!(&living.role, Role::Exec { id, .. } if *id == number))
    }

    /// Returns the processes of all execs and probes in an app.
    pub fn others_in(&self, name: &AppName) -> impl Iterator<Item = &Living> {
        self.living.iter().filter(move |living| match &living.role {
            Role::Exec { app, .. } | Role::Probe { app, .. } => app == name,
            Role::Main(_) | Role::Explainer(_) => false,
        })
    }

    /// Returns the processes of all probes in an app.
    pub fn probes_in(&self, name: &AppName) -> impl Iterator<Item = &Living> {
        self.living
            .iter()
            .filter(move |living| matches!(&living.role, Role::Probe { app, .. } if app == name))
    }
}

impl Living {
    fn is_main_of(&self, name: &AppName) -> bool {
        matches!(&self.role, Role::Main(app) if app == name)
    }

    /// Returns its descriptor.
    #[must_use]
    pub const fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Tells whether its program is being executed, as far as is known.
    #[must_use]
    pub const fn is_executed(&self) -> bool {
        self.verdict.is_none() && self.failure.is_none()
    }

    /// Asks for its verdict; gives it out once, with what it came through.
    pub fn settle(&mut self) -> Option<(Verdict, Outcome)> {
        let outcome = match self.verdict.as_ref()?.ask() {
            Outcome::Pending => return None,
            outcome => outcome,
        };
        if let Outcome::Failed(failure) = &outcome {
            self.failure = Some(failure.clone());
        }
        Some((self.verdict.take()?, outcome))
    }

    /// Asks it to end by `signal`; where the kernel would drop that, carries it out.
    ///
    /// # Errors
    ///
    /// As [`Living::signal`].
    pub fn stop(&mut self, signal: u8) -> std::io::Result<()> {
        if is_spared(self.pid, signal) {
            self.carried_out = Some(signal);
            return self.signal(Signal::SIGKILL as u8);
        }
        self.signal(signal)
    }

    /// Kills it, and with it what it has started and left in its process group, which it leads.
    ///
    /// # Errors
    ///
    /// Those of `kill(2)` but `ESRCH`.
    pub fn kill_group(&self) -> std::io::Result<()> {
        self.signal(Signal::SIGKILL as u8)?;
        // Its number is that of no other group until it is reaped, which takes it out of the list.
        match killpg(self.pid, Signal::SIGKILL) {
            Err(nix::errno::Errno::ESRCH) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Sends it a signal; one that has ended meanwhile has no need of it.
    ///
    /// # Errors
    ///
    /// Those of `pidfd_send_signal(2)` but `ESRCH`.
    pub fn signal(&self, signal: u8) -> std::io::Result<()> {
        match pod_sys::send_signal(self.pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => Ok(()),
            other => other,
        }
    }
}
