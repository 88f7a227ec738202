//! What PID 1 lays out around itself before any app: an empty root with a procfs, the hostname,
//! the loopback interface.
//!
//! After this nothing of the host's files can be reached from PID 1, whatever it may be made to
//! do: the supervisor hands in by descriptor what an app needs.

use std::io;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, mkdir, pivot_root, sethostname};
use pod_abi::inner::Setup;
use pod_abi::version;
use rustix::process::{DumpableBehavior, getpid, set_child_subreaper, set_dumpable_behavior};

/// Why PID 1 cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A step failed.
    #[error("cannot {0}")]
    Step(&'static str, #[source] io::Error),
    /// The supervisor speaks another version.
    #[error("the supervisor speaks version {0} of the inner protocol, PID 1 version {ours}", ours = version::INNER)]
    Version(u32),
}

/// Names the step an error belongs to.
fn step<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> SetupError {
    move |error| SetupError::Step(what, error.into())
}

/// Leaves the host's files behind.
///
/// 1. Not dumpable: an app that shares the pid namespace cannot trace this process, nor the copies
///    of it that become apps.
/// 2. No mount event gets out of this namespace, or in.
/// 3. A tmpfs on `/proc`, the one directory every machine has; in it a procfs for this pid
///    namespace. In a user namespace the kernel asks for a fully visible procfs in the same mount
///    namespace first: the covered one still counts.
/// 4. Into it, and the old root away. Inherited mounts are locked to each other in a user
///    namespace; all of them at once may go.
/// 5. Read-only.
/// 6. No signal ignored, and no keyring of the caller's: apps would inherit both.
///
/// # Errors
///
/// [`SetupError::Step`]; the process is of no use afterwards.
pub fn leave_host() -> Result<(), SetupError> {
    let none = None::<&str>;
    let inert = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("become untraceable"))?;
    umask(Mode::from_bits_truncate(0o022));
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(step("make `/` private"))?;
    mount(Some("tmpfs"), "/proc", Some("tmpfs"), inert, Some("mode=0555,size=4k,nr_inodes=4"))
        .map_err(step("mount a root for PID 1"))?;
    chdir("/proc").map_err(step("enter the root of PID 1"))?;
    mkdir("proc", Mode::from_bits_truncate(0o555)).map_err(step("make `/proc`"))?;
    mount(Some("proc"), "proc", Some("proc"), inert, none).map_err(step("mount `/proc`"))?;
    pivot_root(".", ".").map_err(step("pivot into the root of PID 1"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(step("detach the host's root"))?;
    chdir("/").map_err(step("enter the root of PID 1"))?;
    let read_only = inert | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(none, "/", none, read_only, none).map_err(step("make the root of PID 1 read-only"))?;
    pod_sys::unignore_signals().map_err(step("reset ignored signals"))?;
    pod_sys::join_new_session_keyring().map_err(step("leave the caller's keyring"))
}

/// Lays out what the supervisor asks for.
///
/// # Errors
///
/// [`SetupError`]; the pod is of no use afterwards.
pub fn set_up(setup: &Setup) -> Result<(), SetupError> {
    if setup.version != version::INNER {
        return Err(SetupError::Version(setup.version));
    }
    if setup.shares_processes {
        // Whatever an app leaves behind comes to this process, which ends it with the pod. The
        // hostname is the host's.
        set_child_subreaper(Some(getpid())).map_err(step("collect orphans"))?;
    } else {
        sethostname(&setup.hostname).map_err(step("set the hostname"))?;
    }
    if setup.own_network {
        pod_sys::bring_loopback_up().map_err(step("bring up the loopback interface"))?;
    }
    Ok(())
}
