//! What is known of the directories of a tree until all their content is there.
//!
//! Times and extended attributes of a directory can only be set at the end: a new file changes the
//! one, a default access control list the new file. They are kept by inode, with the path the
//! directory was made at, and applied only where that path still leads to that inode; so a
//! directory that was replaced meanwhile takes nothing with it.

use std::collections::HashMap;
use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fsetxattr, fstat, futimens};
use rustix::io::Errno;

use super::root::Root;
use crate::layer::entry::{Attributes, Moment, Xattr};
use crate::layer::fault::Fault;

/// The most memory for paths that have to be remembered: a million directories of the usual kind.
const MAX_REMEMBERED: usize = 128 << 20;

/// The most directories in one another: as many as a path names, so that every directory can be
/// reached by one. Symbolic links would let an archive go deeper, round by round.
const MAX_DEPTH: usize = 2048;

/// The directories made so far.
#[derive(Debug, Default)]
pub(super) struct Directories {
    by_inode: HashMap<u64, Directory>,
    /// How many were ever made opaque; none is the usual case and saves all look-ups.
    opaque: usize,
    remembered: usize,
}

#[derive(Debug)]
struct Directory {
    /// How many directories are above it.
    depth: usize,
    path: Vec<u8>,
    explicit: bool,
    opaque: bool,
    modified: Moment,
    xattrs: Vec<Xattr>,
}

/// What the directories turned out to be.
#[derive(Debug, Default)]
pub(super) struct DirectoryFacts {
    /// Those without an entry of their own.
    pub(super) implicit: Vec<Vec<u8>>,
    /// Those that hide what lower layers have.
    pub(super) opaque: Vec<Vec<u8>>,
}

impl Directories {
    /// Notes that the directory `inode` was made at `path`, in the directory `parent`, so far
    /// without an entry of its own.
    pub(super) fn made(&mut self, inode: u64, parent: u64, path: &[u8]) -> Result<(), Fault> {
        self.remember(path.len())?;
        let depth = self.by_inode.get(&parent).map_or(0, |parent| parent.depth + 1);
        if depth > MAX_DEPTH {
            return Err(Fault::Limit {
                what: "directories in one another",
                limit: MAX_DEPTH as u64,
            });
        }
        let directory = Directory {
            depth,
            path: path.to_vec(),
            explicit: false,
            opaque: false,
            modified: Moment::default(),
            xattrs: Vec::new(),
        };
        self.by_inode.insert(inode, directory);
        Ok(())
    }

    /// Notes an entry for the directory `inode`; the last one counts.
    pub(super) fn described(
        &mut self,
        inode: u64,
        path: &[u8],
        attributes: Attributes,
    ) -> Result<(), Fault> {
        let Attributes { modified, xattrs, .. } = attributes;
        let xattrs_size = xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
        self.remember(xattrs_size)?;
        if let Some(directory) = self.by_inode.get_mut(&inode) {
            // The name it was made by may lead elsewhere by now; this one leads here.
            directory.path = path.to_vec();
            (directory.explicit, directory.modified, directory.xattrs) = (true, modified, xattrs);
        }
        Ok(())
    }

    /// Notes that the directory `inode` hides what lower layers have.
    pub(super) fn make_opaque(&mut self, inode: u64) {
        if let Some(directory) = self.by_inode.get_mut(&inode) {
            directory.opaque = true;
            self.opaque += 1;
        }
    }

    /// Tells whether any directory hides what lower layers have.
    pub(super) fn any_opaque(&self) -> bool {
        self.opaque > 0
    }

    /// Tells whether this one does.
    pub(super) fn is_opaque(&self, inode: u64) -> bool {
        self.by_inode.get(&inode).is_some_and(|directory| directory.opaque)
    }

    fn remember(&mut self, bytes: usize) -> Result<(), Fault> {
        self.remembered += bytes + size_of::<Directory>();
        if self.remembered > MAX_REMEMBERED {
            let limit = MAX_REMEMBERED as u64;
            return Err(Fault::Limit { what: "bytes of directory names", limit });
        }
        Ok(())
    }

    /// Applies what had to wait, deepest directories first.
    ///
    /// # Errors
    ///
    /// [`Fault::Storage`]; some directories have their final times and others not.
    pub(super) fn finish(self, root: &Root) -> Result<DirectoryFacts, Fault> {
        let mut all: Vec<(u64, Directory)> = self.by_inode.into_iter().collect();
        all.sort_by(|(_, a), (_, b)| b.path.cmp(&a.path));
        let mut facts = DirectoryFacts::default();
        for (inode, directory) in all {
            let Directory { path, explicit, opaque, modified, xattrs, .. } = directory;
            let opened = match root.directory(&path) {
                Ok(opened) => opened,
                // It was removed or replaced.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(Fault::storage(&path, "openat2")(errno)),
            };
            let stat = fstat(&opened).map_err(Fault::storage(&path, "fstat"))?;
            if stat.st_ino != inode {
                continue;
            }
            set_xattrs(&opened, &path, &xattrs)?;
            set_times(&opened, &path, modified)?;
            if !explicit {
                facts.implicit.push(path.clone());
            }
            if opaque {
                facts.opaque.push(path);
            }
        }
        Ok(facts)
    }
}

/// Sets extended attributes that were allowed before.
///
/// A file system without room for `user.*` or access control lists (tmpfs on older kernels) goes
/// without, as with other engines; file capabilities are never lost silently.
pub(super) fn set_xattrs(file: impl AsFd, path: &[u8], xattrs: &[Xattr]) -> Result<(), Fault> {
    for Xattr { name, value } in xattrs {
        match fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) if !name.starts_with(b"security.") => {}
            Err(errno) => return Err(Fault::storage(path, "fsetxattr")(errno)),
        }
    }
    Ok(())
}

/// Sets both times of an open file to when it was modified.
pub(super) fn set_times(file: impl AsFd, path: &[u8], modified: Moment) -> Result<(), Fault> {
    futimens(file, &timestamps(modified)).map_err(Fault::storage(path, "futimens"))
}

/// Makes the times of a file: access is modification, for nobody has accessed it.
pub(super) fn timestamps(modified: Moment) -> rustix::fs::Timestamps {
    let time =
        rustix::fs::Timespec { tv_sec: modified.seconds, tv_nsec: i64::from(modified.nanos) };
    rustix::fs::Timestamps { last_access: time, last_modification: time }
}
