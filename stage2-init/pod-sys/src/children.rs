//! Ending all child processes, and whatever comes to their reaper in their stead.
//!
//! A pid namespace ends with its first process; where a pod has none, somebody must see to it that
//! nothing outlives it. A child that was not waited for keeps its number, so no other process can
//! be hit.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getpid};

/// Returns the children of this process, which must have no threads.
///
/// # Errors
///
/// Those of reading `/proc/PID/task/PID/children`; the kernel offers it if it is built with
/// `CONFIG_PROC_CHILDREN`, as distributions do.
pub fn children() -> io::Result<Vec<Pid>> {
    let own = getpid();
    let list = fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
    Ok(list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect())
}

/// Kills all children of this process but those of `spared`, and waits for them, until there are
/// no more. Of a child subreaper (`prctl(PR_SET_CHILD_SUBREAPER)`) these are all descendants.
///
/// # Errors
///
/// As [`children`]; some may live.
pub fn kill_children(spared: &[Pid]) -> io::Result<()> {
    loop {
        let doomed: Vec<Pid> =
            children()?.into_iter().filter(|child| !spared.contains(child)).collect();
        if doomed.is_empty() {
            return Ok(());
        }
        for child in &doomed {
            // One that has ended is waited for all the same.
            let _ = kill(*child, Signal::SIGKILL);
        }
        for child in doomed {
            while waitpid(child, None) == Err(Errno::EINTR) {}
        }
    }
}
