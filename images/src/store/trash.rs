//! Deleting: by rename first, then at leisure, and never outside.
//!
//! Trees hold whatever an archive held. They are taken down through descriptors, following no
//! link and leaving no file system, with a bounded number of descriptors however deep they are.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::files;
use super::handle::Store;
use crate::error::Error;

/// How many directories are held open on the way down; what lies deeper is moved up first.
const MAX_DEPTH: usize = 32;

/// How often a directory is gone through; once is enough unless its file system lists it oddly
/// while it shrinks.
const MAX_ROUNDS: usize = 4;

/// Moves what is at `path` into the trash; `None` if it is gone already.
pub(super) fn move_away(store: &Store, path: &str) -> io::Result<Option<String>> {
    let to = files::unique("trash/");
    match rustix::fs::renameat(store.dir(), path, store.dir(), &to) {
        Ok(()) => Ok(Some(to)),
        Err(Errno::NOENT) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Deletes what is at `path`.
pub(super) fn discard(store: &Store, path: &str) -> io::Result<()> {
    match move_away(store, path)? {
        Some(trash) => empty_one(store, trash.trim_start_matches("trash/")),
        None => Ok(()),
    }
}

/// Deletes everything in the trash. Others may be at it too.
pub(super) fn empty(store: &Store) -> Result<(), Error> {
    let failed = |source| store.failed("empty the trash", source);
    // Deep trees are moved up while the list is worked off, so look again until nothing is left.
    for _ in 0..MAX_DEPTH * 8 {
        let names = files::list(store.dir(), "trash").map_err(failed)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            empty_one(store, &name).map_err(failed)?;
        }
    }
    Ok(())
}

fn empty_one(store: &Store, name: &str) -> io::Result<()> {
    let trash = files::open_dir(store.dir(), "trash")?;
    let device = rustix::fs::fstat(&trash)?.st_dev;
    let name = std::ffi::CString::new(name)?;
    Removal { trash: trash.as_fd(), device }.remove(trash.as_fd(), &name, 0)
}

struct Removal<'t> {
    trash: BorrowedFd<'t>,
    device: u64,
}

impl Removal<'_> {
    /// Removes the entry `name` of `parent`; what is gone already is as good.
    fn remove(&self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(other) => return Err(other.into()),
        }
        if let Some(done) = self.remove_empty(parent, name) {
            return done;
        }
        if depth >= MAX_DEPTH {
            return match rustix::fs::renameat(parent, name, self.trash, files::unique("")) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(other) => Err(other.into()),
            };
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
        let dir = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(()),
            Err(other) => return Err(other.into()),
        };
        for _ in 0..MAX_ROUNDS {
            self.clear(&dir, depth)?;
            if let Some(done) = self.remove_empty(parent, name) {
                return done;
            }
        }
        Err(Errno::NOTEMPTY.into())
    }

    /// Removes a directory; `None` if there is something in it.
    fn remove_empty(&self, parent: BorrowedFd<'_>, name: &CStr) -> Option<io::Result<()>> {
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Some(Ok(())),
            Err(Errno::NOTEMPTY | Errno::EXIST) => None,
            Err(other) => Some(Err(other.into())),
        }
    }

    fn clear(&self, dir: &OwnedFd, depth: usize) -> io::Result<()> {
        if rustix::fs::fstat(dir)?.st_dev != self.device {
            return Err(Errno::XDEV.into());
        }
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                self.remove(dir.as_fd(), name, depth + 1)?;
            } else {
                match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(Errno::ISDIR) => self.remove(dir.as_fd(), name, depth + 1)?,
                    Err(other) => return Err(other.into()),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_goes_whole_and_nothing_outside_is_touched() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let canary = root.path().join("canary");
        std::fs::create_dir(&canary).unwrap();
        std::fs::write(canary.join("file"), "alive").unwrap();
        let tree = root.path().join("images/tmp/u-1");
        let deep: std::path::PathBuf = std::iter::repeat_n("d", 3 * MAX_DEPTH).collect();
        std::fs::create_dir_all(tree.join(&deep)).unwrap();
        std::fs::write(tree.join(&deep).join("file"), "x").unwrap();
        symlink(&canary, tree.join("link")).unwrap();
        symlink(&canary, tree.join(&deep).join("link")).unwrap();
        discard(&store, "tmp/u-1").unwrap();
        empty(&store).unwrap();
        assert!(!tree.exists());
        assert_eq!(files::list(store.dir(), "trash").unwrap(), Vec::<String>::new());
        assert_eq!(std::fs::read_to_string(canary.join("file")).unwrap(), "alive");
    }

    #[test]
    fn what_is_gone_already_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        discard(&store, "tmp/nothing").unwrap();
    }
}
