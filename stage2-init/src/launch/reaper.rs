//! `--init`: process 1 of an app is ours, reaps what the app leaves, and passes signals on.
//!
//! A copy of PID 1 that never executes anything: it shares the app's namespaces, so that it is
//! where an exec joins, but holds none of its files, no descriptor of PID 1, and no right but that
//! to send signals. Like PID 1 it cannot be traced by the app, unless that was given
//! `CAP_SYS_PTRACE`; so where the app has a filter it has one, too, and nothing is won.

use std::io;
use std::os::fd::OwnedFd;
use std::process;

use nix::sys::signal::SigSet;
use nix::unistd::{Pid, setsid};
use pod_abi::exit::{OURS, by_signal};
use pod_sys::{
    CloneFlags, Exit, Forked, clone3, forsake_descriptors, send_signal_to_child,
    set_seccomp_filter, wait_any, wait_signal,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};

use super::failure::{At, Failure, Phase};
use super::identity::bound;
use crate::seccomp;

/// The signal that tells of an ended child.
const SIGCHLD: u8 = 17;

/// Puts a process of ours before the app: returns in the new one, which is to become the app, with
/// a session of its own. This one stays behind, behind a filter if `filtered`, and never returns.
///
/// Signals are blocked before there is a child, so that none is lost; the child unblocks them.
pub(super) fn split(filtered: bool) -> Result<(), Failure> {
    SigSet::all().thread_block().at(Phase::Inherit, "the signal mask")?;
    match clone3(CloneFlags::NONE, None).at(Phase::Clone, "its reaper")? {
        Forked::Parent { pid, pidfd } => stay(pid, pidfd, filtered),
        Forked::Child => {
            SigSet::empty().thread_set_mask().at(Phase::Inherit, "the signal mask")?;
            setsid().at(Phase::Inherit, "the session")?;
            Ok(())
        }
    }
}

/// Gives up every right but one, closes everything, and serves the app to its end.
fn stay(app: Pid, pidfd: OwnedFd, filtered: bool) -> ! {
    if give_up_rights(filtered).is_err() {
        // With this process ends its pid namespace, and with that the app.
        #[expect(clippy::exit, reason = "the process has no caller to return to")]
        process::exit(OURS.into())
    }
    drop(pidfd);
    forsake_descriptors(serve, app)
}

fn give_up_rights(filtered: bool) -> io::Result<()> {
    bound(CapabilitySet::KILL)?;
    let sets = CapabilitySets {
        effective: CapabilitySet::KILL,
        permitted: CapabilitySet::KILL,
        inheritable: CapabilitySet::empty(),
    };
    clear_ambient_capability_set()?;
    set_capabilities(None, sets)?;
    set_no_new_privs(true)?;
    // Not the app's own: that may allow it less than is done here, or more.
    if filtered { set_seccomp_filter(seccomp::default_filter()) } else { Ok(()) }
}

/// Passes signals on and reaps, until the app has ended; returns its status, as shells count.
fn serve(app: Pid) -> u8 {
    loop {
        // The app may have ended before its signal was waited for: one look without being asked.
        while let Ok(Some(waited)) = wait_any() {
            if waited.pid == app {
                return match waited.exit {
                    Exit::Code(code) => code,
                    Exit::Signal(signal) => by_signal(signal),
                };
            }
        }
        match wait_signal() {
            // One that has ended needs no signal, and is met at the next look.
            Ok(signal) if signal != SIGCHLD => drop(send_signal_to_child(app, signal)),
            _ => {}
        }
    }
}
