//! One share: what is open of it, and what each kind of request does with it.
//!
//! Everything is reached from the descriptor of the root, one component at a time, by `openat2`,
//! and by nothing else: no path of more than one name exists in this program. What is found is
//! opened with `O_PATH`, so that no device is touched and no link followed, and opened again for
//! use only if it is a regular file or a directory.

mod attributes;
mod directories;
mod files;
mod names;
mod xattrs;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::handles::Handles;
use crate::identity::Own;
use crate::nodes::Nodes;
use crate::request::Name;

pub use directories::Detail;

/// How often a lookup is tried that the kernel breaks off because something was renamed meanwhile.
const TRIES: usize = 128;

/// Descriptors that are neither nodes nor handles: the stream, the root, the process's own, and
/// those that are open during one request.
const OTHERS: usize = 32;

/// What may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// Nothing.
    ReadOnly,
}

/// A shared directory.
#[derive(Debug)]
pub struct Share {
    nodes: Nodes,
    handles: Handles,
    /// `/proc/self/fd`: the way from an `O_PATH` descriptor to the same file, open for use.
    descriptors: OwnedFd,
    own: Own,
    access: Access,
    /// For entries of directories as the kernel gives them.
    scratch: Vec<u8>,
}

impl Share {
    /// Serves the directory `root`. `descriptors` is `/proc/self/fd`, `limit` how many descriptors
    /// the process may have: three quarters of them are for nodes.
    ///
    /// # Errors
    ///
    /// Those of `statx(2)` and `capget(2)`.
    pub fn new(
        root: OwnedFd,
        descriptors: OwnedFd,
        access: Access,
        limit: usize,
    ) -> Result<Self, Errno> {
        let free = limit.saturating_sub(OTHERS);
        let nodes = free / 4 * 3;
        Ok(Self {
            nodes: Nodes::new(root, nodes)?,
            handles: Handles::new(free - nodes),
            descriptors,
            own: Own::remember()?,
            access,
            scratch: Vec::new(),
        })
    }

    /// How many nodes and handles there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.nodes.count(), self.handles.count())
    }

    /// Takes `count` lookups of a node back.
    pub fn forget(&mut self, node: u64, count: u64) {
        self.nodes.forget(node, count);
    }

    /// Forgets all nodes and closes all handles: the guest has unmounted the share.
    pub fn start_over(&mut self) {
        self.handles.close_all();
        self.nodes.forget_all();
    }

    /// Refuses where nothing may be written.
    fn writable(&self) -> Result<(), Errno> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Errno::ROFS),
        }
    }

    /// The file of a node.
    fn node(&self, number: u64) -> Result<BorrowedFd<'_>, Errno> {
        self.nodes.find(number).map(|(file, _)| file)
    }

    /// Refuses a device: what is changed of it, or where it is found, would be so on the host, for
    /// whoever may open it there.
    fn no_device(&self, node: u64) -> Result<(), Errno> {
        match self.nodes.find(node)?.1 {
            FileType::CharacterDevice | FileType::BlockDevice => Err(Errno::PERM),
            _ => Ok(()),
        }
    }

    /// The file of a node that is a directory.
    fn directory(&self, number: u64) -> Result<BorrowedFd<'_>, Errno> {
        match self.nodes.find(number)? {
            (file, FileType::Directory) => Ok(file),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Opens a regular file or a directory that is open with `O_PATH` for use.
    ///
    /// # Errors
    ///
    /// `ELOOP` for a link, `ENXIO` for a device, a socket or a pipe: opening one would reach what
    /// is not in the share.
    fn reopen(&self, node: u64, flags: OFlags) -> Result<OwnedFd, Errno> {
        let (file, kind) = self.nodes.find(node)?;
        match kind {
            FileType::RegularFile | FileType::Directory => {
                let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
                self.through_number(file, |number| {
                    openat(&self.descriptors, number, flags, Mode::empty())
                })
            }
            FileType::Symlink => Err(Errno::LOOP),
            _ => Err(Errno::NXIO),
        }
    }

    /// Calls `deed` with the name an open file has in `/proc/self/fd`.
    fn through_number<T>(
        &self,
        file: BorrowedFd<'_>,
        deed: impl FnOnce(&str) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        deed(&file.as_raw_fd().to_string())
    }
}

/// Opens what is called `name` in `directory` with `O_PATH`, be it a link.
fn find(directory: impl AsFd, name: Name<'_>) -> Result<OwnedFd, Errno> {
    open_beneath(directory, name.as_c_str(), OFlags::PATH, Mode::empty())
}

/// Opens one component beneath `directory`: never a link's target, never above.
fn open_beneath(
    directory: impl AsFd,
    name: &CStr,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let mut opened = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        opened = openat2(&directory, name, flags, mode, resolve);
        if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    opened
}
