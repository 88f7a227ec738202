//! A directory that no look-up leaves, whatever symbolic links lie in it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, XattrFlags, fsetxattr, openat, openat2};
use rustix::io::Errno;

/// `openat2` gives up when it meets `..` while something is renamed anywhere on the system. A
/// hundred misses in a row do not happen by chance.
const ATTEMPTS: usize = 128;

/// The root of a layer's tree.
#[derive(Debug)]
pub(in crate::layer) struct Root(OwnedFd);

impl Root {
    /// Takes an open directory as root.
    pub(in crate::layer) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Takes the current directory as root.
    pub(in crate::layer) fn current() -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, c".", flags, Mode::empty()).map(Self)
    }

    /// Opens the directory `path` as a process whose root this is would see it, only to look
    /// further from there.
    pub(super) fn pass(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Opens the directory `path` itself, not what a link of that name points to.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
    }

    /// Marks the directory `path` as hiding what lower layers have, as overlayfs understands it.
    /// This takes `CAP_SYS_ADMIN`.
    pub(in crate::layer) fn mark_opaque(&self, path: &[u8]) -> Result<(), Errno> {
        let directory = self.directory(path)?;
        fsetxattr(directory, c"trusted.overlay.opaque", b"y", XattrFlags::empty())
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = flags | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut result = Err(Errno::AGAIN);
        for _ in 0..ATTEMPTS {
            result = openat2(&self.0, path, flags, Mode::empty(), within);
            if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        result
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
