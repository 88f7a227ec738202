//! Removes what a later entry replaces, however deep it is.
//!
//! Links let an archive nest directories deeper than any path is long, so nothing here recurses or
//! holds a descriptor per level: directories are moved to the root, under names no entry can have,
//! and emptied one by one.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::inode::{is_whiteout, look};
use super::root::Root;

/// Removes `name` in `parent`, and everything in it if it is a directory.
///
/// # Errors
///
/// Those of the system; a part of it may be left, in the root, under a name beginning `.wh.`.
pub(super) fn remove(root: &Root, parent: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    match unlinkat(&parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return result,
    }
    match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        result => return result,
    }
    let mut doomed = Doomed { root, pending: Vec::new(), next: 0 };
    doomed.take(parent, name)?;
    while let Some(name) = doomed.pending.pop() {
        doomed.empty(&name)?;
        unlinkat(root, name.as_slice(), AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

struct Doomed<'a> {
    root: &'a Root,
    pending: Vec<Vec<u8>>,
    next: u64,
}

impl Doomed<'_> {
    /// Moves a directory to the root.
    fn take(&mut self, parent: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        let to = format!(".wh..removed.{}", self.next).into_bytes();
        self.next += 1;
        renameat(parent, name, self.root, to.as_slice())?;
        self.pending.push(to);
        Ok(())
    }

    /// Empties a directory of the root. Nothing is listed in advance, for a directory may hold
    /// millions of names.
    fn empty(&mut self, name: &[u8]) -> Result<(), Errno> {
        let directory = self.root.directory(name)?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if is_dots(name) {
                continue;
            }
            match unlinkat(&directory, name, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => {}
                result => {
                    result?;
                    continue;
                }
            }
            match unlinkat(&directory, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => self.take(&directory, name)?,
                result => result?,
            }
        }
        Ok(())
    }
}

fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

/// Removes the whiteouts in the directory `path` and below: it hides everything already, and
/// `readdir` of overlayfs would show them as devices.
///
/// # Errors
///
/// Those of the system, `ENAMETOOLONG` among them for a tree deeper than a path is long.
pub(super) fn remove_whiteouts(root: &Root, path: &[u8]) -> Result<(), Errno> {
    let mut pending = vec![path.to_vec()];
    while let Some(path) = pending.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(root.pass(&path)?, c".", flags, Mode::empty())?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if is_dots(name) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => kind_of(&directory, name)?,
                known => known,
            };
            match kind {
                FileType::Directory => pending.push(join(&path, name)),
                FileType::CharacterDevice if is_whiteout_at(&directory, name)? => {
                    unlinkat(&directory, name, AtFlags::empty())?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn kind_of(directory: &OwnedFd, name: &[u8]) -> Result<FileType, Errno> {
    let stat = look(directory, name)?;
    Ok(stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)))
}

fn is_whiteout_at(directory: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    Ok(look(directory, name)?.as_ref().is_some_and(is_whiteout))
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}
