//! Looking at single inodes, and what is said when an entry cannot be one.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Stat, statat};
use rustix::io::Errno;

use crate::layer::fault::{Fault, Shown};

/// Makes the fault of an entry that no tree can have; `what` is the rest of the sentence.
pub(super) fn entry_fault(path: &[u8], what: &'static str) -> Fault {
    Fault::Entry { entry: Shown::of(path), what }
}

/// Looks at `name` in `parent` without following it.
pub(super) fn look(parent: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Tells whether an inode is a whiteout of overlayfs: the character device 0/0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
