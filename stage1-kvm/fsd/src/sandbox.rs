//! What the server gives up before it reads the first request.
//!
//! It runs as root, for files are to have any owner. What is left of that: one tree of mounts, the
//! capabilities to make files for anyone in it, the calls of [`calls::CALLS`]. Landlock is best
//! effort, for kernels are built without it; all the rest is demanded.

mod calls;
mod confinement;
mod place;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use pod_abi::share::fd;
use pod_sys::close_from;
use rustix::io::Errno;

use crate::share::Access;

pub use calls::{CALLS, OnViolation, Use};

/// What a server works with once it is confined.
#[derive(Debug)]
pub struct Confined {
    /// The directory it serves: the root of its file system.
    pub root: OwnedFd,
    /// `/proc/self/fd`, of a proc that is mounted nowhere.
    pub descriptors: OwnedFd,
    /// How many descriptors it may have.
    pub limit: usize,
}

/// What could not be given up.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine the server of a volume, {call}")]
pub struct Fault {
    call: &'static str,
    source: io::Error,
}

/// Gives an error of the system the call it came from.
trait During<T> {
    fn during(self, call: &'static str) -> Result<T, Fault>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, call: &'static str) -> Result<T, Fault> {
        self.map_err(|errno| Fault { call, source: errno.into() })
    }
}

impl<T> During<T> for io::Result<T> {
    fn during(self, call: &'static str) -> Result<T, Fault> {
        self.map_err(|source| Fault { call, source })
    }
}

/// Closes whatever was inherited besides the standard streams and the descriptors of
/// [`pod_abi::share::fd`]. First thing.
///
/// # Errors
///
/// [`Fault`].
pub fn forget_others() -> Result<(), Fault> {
    close_from(fd::SOCKET + 1).during("close_range()")
}

/// Confines this process, which has one thread, to what is shared.
///
/// 1. the share is all that is mounted, cut off from the host's table of mounts, and there is
///    neither network nor IPC ([`place`]);
/// 2. limits; no groups, no way to gain anything, Landlock, capabilities ([`confinement`]);
/// 3. the filter of system calls ([`calls`]).
///
/// # Errors
///
/// [`Fault`]; some steps have been taken, and the process should end.
pub fn enter(share: OwnedFd, access: Access, on: OnViolation) -> Result<Confined, Fault> {
    let confined = prepare(share, access)?;
    calls::filter(confined.descriptors.as_raw_fd(), on)?;
    Ok(confined)
}

/// As [`enter`], without the filter of system calls.
///
/// # Errors
///
/// [`Fault`].
fn prepare(share: OwnedFd, access: Access) -> Result<Confined, Fault> {
    let (root, descriptors) = place::move_into(share, access)?;
    let limit = confinement::limits()?;
    confinement::give_up(&root)?;
    Ok(Confined { root, descriptors, limit })
}

/// As [`enter`], but without one call of [`CALLS`]: what tests use to show that each is needed.
///
/// # Errors
///
/// [`Fault`].
#[doc(hidden)]
pub fn enter_without(share: OwnedFd, access: Access, name: &str) -> Result<Confined, Fault> {
    let confined = prepare(share, access)?;
    calls::filter_without(name, confined.descriptors.as_raw_fd(), OnViolation::Kill)?;
    Ok(confined)
}
