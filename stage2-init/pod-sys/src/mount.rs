//! Properties of mounts: `mount_setattr(2)`.
//!
//! The only call that makes a whole tree of mounts read-only, private or mapped to other ids at
//! once, and the only one that can map ids at all.

use std::io;
use std::ops::BitOr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Properties of a mount that are set or cleared (`mount_setattr(2)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountFlags(u64);

impl MountFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Cannot be written through.
    pub const RDONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-id bits and file capabilities have no effect.
    pub const NOSUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Nothing can be executed from it.
    pub const NOEXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);
}

impl BitOr for MountFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a [`mount_setattr`] changes; the default changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountAttr<'fd> {
    /// What is switched on.
    pub set: MountFlags,
    /// What is switched off.
    pub clear: MountFlags,
    /// How mount events propagate from now on; `None` leaves it.
    pub propagation: Option<Propagation>,
    /// Maps ids through this user namespace. The mount must be detached and not yet mapped.
    pub idmap: Option<BorrowedFd<'fd>>,
}

/// How mount events propagate (`mount_namespaces(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Neither in nor out.
    Private,
    /// In, from the peers it had.
    Slave,
}

/// Whether mounts beneath are meant too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recursive {
    /// This mount only.
    No,
    /// This mount and all beneath it, or none if one refuses.
    Yes,
}

/// Changes properties of the mount `tree` is the root of.
///
/// # Errors
///
/// Those of `mount_setattr(2)`: `EINVAL` for a file system that cannot map ids or a mount that is
/// mapped already, `EPERM` for flags another user namespace has locked. Nothing has changed.
///
/// Source: `mount_setattr(2)`, since Linux 5.12.
pub fn mount_setattr(
    tree: BorrowedFd<'_>,
    attr: &MountAttr<'_>,
    recursive: Recursive,
) -> io::Result<()> {
    let mut raw = libc::mount_attr {
        attr_set: attr.set.0,
        attr_clr: attr.clear.0,
        propagation: match attr.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Slave) => libc::MS_SLAVE,
        },
        userns_fd: 0,
    };
    if let Some(userns) = attr.idmap {
        raw.attr_set |= libc::MOUNT_ATTR_IDMAP;
        raw.userns_fd = u64::from(userns.as_raw_fd().unsigned_abs());
    }
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive == Recursive::Yes {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a static C string; `raw` is a mount_attr of the size given. Both are
    // only read, and only during the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
