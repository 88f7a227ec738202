//! The life of a process between `clone3` and `execve`.
//!
//! One straight sequence; the order is a security property and each step says why it stands where
//! it does. No logging, no reading of anything foreign but paths resolved beneath the app's root.
//! The process cannot be traced by the app meanwhile: PID 1 is not dumpable, and neither is this
//! copy of it until `execve`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sched::{CloneFlags as NsFlags, setns};
use nix::sys::resource::setrlimit;
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{alarm, setsid};
use pod_abi::exit::OURS;
use pod_sys::{close_on_exec_from, set_seccomp_filter};
use rustix::process::ioctl_tiocsctty;
use rustix::thread::set_no_new_privs;

use super::cwd::Missing;
use super::execute::execute;
use super::failure::{At, Failure, Phase};
use super::identity::become_user;
use super::prepared::Prepared;
use super::{Deed, Launch, Place, Streams, copy, cwd, libraries, reaper, streams, surround};

/// Whether this process is a child on its way to `execve`, for the panic hook.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Tells whether this process is a launcher's child: not PID 1, although a copy of it.
#[must_use]
pub fn is_child() -> bool {
    IS_CHILD.load(Ordering::Relaxed)
}

/// Goes the way to `execve`, or says why not and ends.
#[expect(clippy::exit, reason = "the process has no caller to return to")]
pub(super) fn go(launch: &Launch<'_>, prepared: &mut Prepared<'_>, report: BorrowedFd<'_>) -> ! {
    IS_CHILD.store(true, Ordering::Relaxed);
    // Sockets will take numbers that this may have.
    let moved = launch.sockets.beyond(report);
    let report = moved.as_ref().map_or(report, |moved| moved.as_ref().map_or(report, AsFd::as_fd));
    let failure = match walk(launch, prepared) {
        Ok(()) => act(launch.deed, prepared, report),
        Err(failure) => Some(failure),
    };
    let Some(failure) = failure else { process::exit(0) };
    let _ = rustix::io::write(report, &failure.encode()); // PID 1 reads it, or is gone and we with it
    process::exit(OURS.into())
}

/// Does what the process is there for; returns, if at all, what is to be told.
fn act(deed: Deed<'_>, prepared: &Prepared<'_>, report: BorrowedFd<'_>) -> Option<Failure> {
    match deed {
        Deed::Execute => Some(execute(prepared)),
        Deed::Explain => {
            // What it reads is the app's, and need not come to an end.
            alarm::set(EXPLANATION_S);
            libraries::explain(prepared)
        }
        Deed::Copy(direction, path) => copy::go(direction, path, report),
    }
}

/// How long an explanation may take, in seconds: it reads a few files, and an end waits for it.
const EXPLANATION_S: u32 = 1;

/// The way to where only the [deed](act) is left, in order:
///
/// 1. The signal mask back to empty, a session of its own: no terminal is shared with anybody.
/// 2. `oom_score_adj`, through PID 1's own procfs, before any of the app's is in reach.
/// 3. The namespaces, and what is mounted for them (see [`surround`]); or those of the app's main
///    process. From here on only the app's root can be reached. With a reaper, what goes on is a
///    child of it (see [`reaper`]).
/// 4. Standard input, output and error. If they are a terminal, it becomes that of the session:
///    nothing of the app has run, so nothing can have taken it or another before.
/// 5. The working directory, while still root: it may have to be made.
/// 6. The umask; the sockets, which are told as those of whoever this process is by now; and
///    everything else CLOEXEC: no descriptor of PID 1 reaches the app.
/// 7. Resource limits: late enough that they do not hinder the steps before, early enough that
///    raising one is still allowed where it is at all.
/// 8. If file capabilities shall work, the filter now: later the right to install one is gone.
/// 9. The identity.
/// 10. Else no_new_privs and the filter, last: it has least to allow.
fn walk(launch: &Launch<'_>, prepared: &mut Prepared<'_>) -> Result<(), Failure> {
    SigSet::empty().thread_set_mask().at(Phase::Inherit, "the signal mask")?;
    setsid().at(Phase::Inherit, "the session")?;
    set_oom_score(prepared)?;
    let missing = match launch.place {
        Place::Fresh { mounts, masked, read_only, reaper } => {
            setns(mounts, NsFlags::CLONE_NEWNS).at(Phase::Join, "the mount namespace")?;
            surround::surround(launch.pid, launch.has_cgroup_namespace())?;
            super::masks::apply(masked, read_only)?;
            if reaper && launch.deed == Deed::Execute {
                reaper::split(prepared.filter.is_some())?;
            }
            Missing::Made
        }
        Place::Joined { main } => {
            let mut namespaces = NsFlags::CLONE_NEWNS;
            namespaces.set(NsFlags::CLONE_NEWCGROUP, launch.has_cgroup_namespace());
            setns(main, namespaces).at(Phase::Join, "the namespaces")?;
            Missing::Refused
        }
    };
    streams::set(launch.streams).at(Phase::Stdio, "standard input, output and error")?;
    if let Streams::Terminal(_) = launch.streams {
        ioctl_tiocsctty(io::stdin()).at(Phase::Terminal, "the terminal as that of its session")?;
    }
    cwd::enter(prepared.cwd, missing)?;
    umask(Mode::from_bits_truncate(prepared.umask));
    launch.sockets.place().at(Phase::Sockets, "the sockets it was given")?;
    prepared.environment.extend(launch.sockets.owner().at(Phase::Sockets, "their owner")?);
    close_on_exec_from(launch.sockets.end()).at(Phase::Descriptors, "the descriptors of PID 1")?;
    for (resource, soft, hard) in &prepared.limits {
        setrlimit(*resource, *soft, *hard)
            .at(Phase::Limit, &format!("{resource:?} to {soft}:{hard}"))?;
    }
    if !prepared.no_new_privileges {
        install_filter(prepared)?;
    }
    become_user(prepared)?;
    if prepared.no_new_privileges {
        set_no_new_privs(true).at(Phase::Filter, "no_new_privs")?;
        install_filter(prepared)?;
    }
    Ok(())
}

fn set_oom_score(prepared: &Prepared<'_>) -> Result<(), Failure> {
    let Some(score) = prepared.oom_score_adj else { return Ok(()) };
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open("/proc/self/oom_score_adj")?;
        file.write_all(score.to_string().as_bytes())
    };
    write().at(Phase::OomScore, &format!("oom_score_adj to {score}"))
}

fn install_filter(prepared: &Prepared<'_>) -> Result<(), Failure> {
    match &prepared.filter {
        Some(filter) => set_seccomp_filter(filter).at(Phase::Filter, "the seccomp filter"),
        None => Ok(()),
    }
}
