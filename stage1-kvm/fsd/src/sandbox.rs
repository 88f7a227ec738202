//! What the server gives up before it reads the first request.
//!
//! It is root over files, for they are to have any owner. What is left of that: one tree of mounts,
//! the capabilities to make files for anyone in it, the calls of [`CALLS`].

mod calls;
mod place;

use std::os::fd::{AsFd, OwnedFd};

use confine::{
    During, Fault, Files, OnViolation, allow, give_up, limit_core_dumps, outlive_file_sizes,
    raise_descriptors,
};
use pod_abi::share::fd;
use pod_sys::close_from;
use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::CapabilitySet;

pub use calls::CALLS;

/// The most descriptors: each node of a guest is one, and a guest that looks at more files of a
/// share is told `ENFILE`. Each takes about two kilobytes of the kernel's memory with the inode it
/// keeps: 400 MB for a guest that wants all of them, charged to its pod, and as much again for each
/// further share.
const MOST_DESCRIPTORS: u64 = 1 << 18;

/// What making files for anyone takes: any owner, whatever the permissions, set-group-id kept when
/// the guest says so, and acting as a guest's user.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

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

/// Closes whatever was inherited besides the standard streams and the descriptors of
/// [`pod_abi::share::fd`]. First thing.
///
/// # Errors
///
/// [`Fault`].
pub fn forget_others() -> Result<(), Fault> {
    close_from(fd::OWN + 1).during("close_range()")
}

/// Confines this process, which has one thread and is in a cage already, to what is shared.
///
/// 1. a single file is put into a directory;
/// 2. limits; groups, for with one of ours a file in a directory with set-group-id would keep that
///    bit for a caller who is not in the group (CVE-2022-0358); rights;
/// 3. system calls.
///
/// # Errors
///
/// [`Fault`]; some steps have been taken, and the process should end.
pub fn enter(share: OwnedFd, shared: Shared, on: OnViolation) -> Result<Confined, Fault> {
    enter_with(share, shared, on, |_| true)
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
    on: OnViolation,
    wanted: impl Fn(&str) -> bool,
) -> Result<Confined, Fault> {
    umask(Mode::empty());
    let root = match shared {
        Shared::Directory => share,
        Shared::File => place::directory_of(&share)?,
    };
    let limit = raise_descriptors(MOST_DESCRIPTORS)?;
    limit_core_dumps()?;
    outlive_file_sizes()?;
    give_up(Files::Beneath(root.as_fd()), KEPT)?;
    allow(CALLS.iter().filter(|call| wanted(call.name)), on)?;
    Ok(Confined { root, limit })
}
