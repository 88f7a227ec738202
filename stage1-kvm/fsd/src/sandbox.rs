//! What the server gives up before it reads the first request.
//!
//! It runs as root over files, for they are to have any owner. What is left of that: one tree of
//! mounts, the capabilities to make files for anyone in it, the calls of [`CALLS`]. Landlock is best
//! effort, for kernels are built without it; all the rest is demanded.

mod calls;
mod confinement;
mod place;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use pod_abi::share::fd;
use pod_sys::close_from;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::umask;

pub use calls::{CALLS, OnViolation, Use};

/// What a server works with once it is confined.
#[derive(Debug)]
pub struct Confined {
    /// The directory it serves.
    pub root: OwnedFd,
    /// How many descriptors it may have.
    pub limit: usize,
}

/// What is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// A directory.
    Directory,
    /// A single file.
    File,
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
    close_from(fd::OWN + 1).during("close_range()")
}

/// Confines this process, which has one thread, to what is shared. `own` is its `/proc/self/fd`.
///
/// It is in a cage already: whoever started it has put it into namespaces of its own, with an empty
/// file system, no network, and ids that rule over files alone.
///
/// 1. a single file is put into a directory ([`place`]);
/// 2. limits; no groups, no way to gain anything, Landlock, capabilities ([`confinement`]);
/// 3. the filter of system calls ([`calls`]).
///
/// # Errors
///
/// [`Fault`]; some steps have been taken, and the process should end.
pub fn enter(
    share: OwnedFd,
    shared: Shared,
    own: &OwnedFd,
    on: OnViolation,
) -> Result<Confined, Fault> {
    enter_with(share, shared, own, on, |_| true)
}

/// As [`enter`], with those calls of [`CALLS`] alone that `wanted` is true for: by it tests show
/// that each is needed.
///
/// # Errors
///
/// [`Fault`].
pub fn enter_with(
    share: OwnedFd,
    shared: Shared,
    own: &OwnedFd,
    on: OnViolation,
    wanted: impl Fn(&str) -> bool,
) -> Result<Confined, Fault> {
    umask(Mode::empty());
    let root = match shared {
        Shared::Directory => share,
        Shared::File => place::directory_of(&share)?,
    };
    let limit = confinement::limits()?;
    confinement::give_up(&root)?;
    calls::filter(own.as_raw_fd(), on, wanted)?;
    Ok(Confined { root, limit })
}
