//! The tree of an image as plain files, for whoever cannot mount its layers.
//!
//! Layers are laid over one another as overlayfs would show them, lowest first, everything beneath
//! two descriptors and through no symbolic link. Owners may be moved to another range of ids, and
//! with them what names ids in extended attributes. Not durable: whoever needs that syncs.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pod_abi::Digest;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::files::beneath as directory;
use super::handle::Store;
use super::merged::{is_opaque, is_whiteout};
use crate::content::copy_content;
use crate::error::Error;
use crate::room;

/// The longest list of names, or value, of extended attributes the kernel gives (`xattr(7)`).
const MAX_XATTR: usize = 1 << 16;
/// How many ids a range has, and which of them is nobody.
const RANGE: u32 = 65_536;
const NOBODY: u32 = 65_534;
/// What steers overlayfs, and means nothing in a plain tree.
const OVERLAY: &[u8] = b"trusted.overlay.";

impl Store {
    /// Writes what an app made of `layers`, lowest first, would find at its root into the empty
    /// directory `into`, whose own attributes become the root's. `first_id` is added to every
    /// owner; who is not in the 65,536 ids from there on is nobody there. Holes stay holes.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::NotFound`] if a layer is missing, [`crate::ErrorKind::Storage`] if
    /// something cannot be read or written; a part of the tree may be there.
    pub fn write_tree(
        &self,
        layers: &[Digest],
        into: BorrowedFd<'_>,
        first_id: u32,
    ) -> Result<(), Error> {
        let all = self.layers_dir()?;
        for path in self.layer_paths(layers)? {
            let failed = |source| self.failed(&format!("write out layer `{path}`"), source);
            let from = super::files::open_dir(&all, &path).map_err(failed)?;
            let mut copy = Copy { from, to: into, first_id, links: HashMap::new() };
            copy.everything().map_err(failed)?;
        }
        Ok(())
    }
}

/// Copies what is in a directory, and its own attributes, over what is in another.
///
/// # Errors
///
/// What the file system says; a part may be there.
pub fn copy_tree(from: OwnedFd, into: BorrowedFd<'_>) -> io::Result<()> {
    Copy { from, to: into, first_id: 0, links: HashMap::new() }.everything()
}

/// One layer on its way over what is there.
struct Copy<'t> {
    from: OwnedFd,
    to: BorrowedFd<'t>,
    first_id: u32,
    /// Where files with several names were written first, by their number.
    links: HashMap<u64, Vec<u8>>,
}

/// What is to be done with a directory.
enum Visit {
    Enter(Vec<u8>),
    /// All in it is written; its times may be set.
    Leave(Vec<u8>),
}

impl Copy<'_> {
    fn everything(&mut self) -> io::Result<()> {
        let mut visits = vec![Visit::Enter(b".".to_vec())];
        while let Some(visit) = visits.pop() {
            match visit {
                Visit::Leave(path) => {
                    let from = directory(self.from.as_fd(), &path)?;
                    let to = directory(self.to, &path)?;
                    self.attributes(from.as_fd(), to.as_fd())?;
                }
                Visit::Enter(path) => {
                    visits.push(Visit::Leave(path.clone()));
                    let inner = self.directory(&path)?;
                    visits.extend(inner.into_iter().map(Visit::Enter));
                }
            }
        }
        Ok(())
    }

    /// Writes what is in a directory but for the directories in it, which are made and returned.
    fn directory(&mut self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let from = directory(self.from.as_fd(), path)?;
        let to = directory(self.to, path)?;
        let mut inner = Vec::new();
        for entry in Dir::read_from(&from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let below = [path, b"/", name.to_bytes()].concat();
            let stat = rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                make_directory(&from, &to, name)?;
                inner.push(below);
            } else {
                remove(&to, name)?;
                if !is_whiteout(&stat) {
                    self.leaf(&from, &to, name, (&stat, below))?;
                }
            }
        }
        Ok(inner)
    }

    /// Writes something that is no directory.
    fn leaf(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        (stat, path): (&Stat, Vec<u8>),
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                let (above, last) = split(first);
                let first = directory(self.to, above)?;
                return Ok(rustix::fs::linkat(&first, last, to, name, AtFlags::empty())?);
            }
            self.links.insert(stat.st_ino, path);
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match kind {
            FileType::RegularFile => {
                room::fits(to, stat)?;
                let source = File::from(rustix::fs::openat(
                    from,
                    name,
                    flags | OFlags::RDONLY,
                    Mode::empty(),
                )?);
                let new = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let file =
                    File::from(rustix::fs::openat(to, name, new, Mode::from_raw_mode(0o600))?);
                copy_content(&source, &file)?;
                self.attributes(source.as_fd(), file.as_fd())
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, name)?;
                self.owner_and_times(to, name, stat)
            }
            kind => {
                let mode = Mode::from_raw_mode(stat.st_mode);
                rustix::fs::mknodat(to, name, kind, Mode::empty(), stat.st_rdev)?;
                self.owner_and_times(to, name, stat)?;
                Ok(rustix::fs::chmodat(to, name, mode, AtFlags::empty())?)
            }
        }
    }

    fn owner_and_times(&self, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
        let (uid, gid) = self.owner(stat);
        rustix::fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn owner(&self, stat: &Stat) -> (Option<Uid>, Option<Gid>) {
        let (uid, gid) =
            (id_in_range(stat.st_uid, self.first_id), id_in_range(stat.st_gid, self.first_id));
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    /// Gives a file or directory the attributes of another. The mode after the owner, whose change
    /// takes setuid bits and capabilities away.
    fn attributes(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        let stat = rustix::fs::fstat(from)?;
        let (uid, gid) = self.owner(&stat);
        rustix::fs::fchown(to, uid, gid)?;
        rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
        let mut names = vec![0; MAX_XATTR];
        let length = match rustix::fs::flistxattr(from, &mut names[..]) {
            Err(Errno::NOTSUP) => 0,
            other => other?,
        };
        for name in names[..length].split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            if name.to_bytes().starts_with(OVERLAY) {
                continue;
            }
            let mut value = vec![0; MAX_XATTR];
            let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
            value.truncate(length);
            let value = moved(name.to_bytes(), value, self.first_id);
            rustix::fs::fsetxattr(to, name, &value, XattrFlags::empty())?;
        }
        Ok(rustix::fs::futimens(to, &times(&stat))?)
    }
}

/// Returns who an id is in a range that begins with `first`. An image may name any id; one that is
/// not in the range is nobody there, as in a pod, and never somebody outside of it.
#[must_use]
pub const fn id_in_range(id: u32, first: u32) -> u32 {
    match (first, id) {
        (0, id) => id,
        (_, 0..RANGE) => first.saturating_add(id),
        _ => first.saturating_add(NOBODY),
    }
}

/// Adds `first_id` to the ids that a value names: in access control lists, and as the root that
/// file capabilities are for.
fn moved(name: &[u8], mut value: Vec<u8>, first_id: u32) -> Vec<u8> {
    /// `VFS_CAP_REVISION_2` and `_3` of linux/capability.h; the latter names its root.
    const REVISIONS: (u8, u8) = (2, 3);
    /// `ACL_USER` and `ACL_GROUP` of linux/posix_acl.h: entries that name somebody.
    const NAMED: [u16; 2] = [2, 8];
    match name {
        _ if first_id == 0 => {}
        b"security.capability" if value.len() == 20 && value[3] == REVISIONS.0 => {
            value[3] = REVISIONS.1;
            value.extend(first_id.to_le_bytes());
        }
        b"system.posix_acl_access" | b"system.posix_acl_default" if value.len() >= 4 => {
            for entry in value[4..].chunks_exact_mut(8) {
                let named = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
                if NAMED.contains(&u16::from_le_bytes([entry[0], entry[1]])) {
                    entry[4..].copy_from_slice(&id_in_range(named, first_id).to_le_bytes());
                }
            }
        }
        _ => {}
    }
    value
}

fn times(stat: &Stat) -> Timestamps {
    let time =
        |sec, nsec: u64| Timespec { tv_sec: sec, tv_nsec: i64::try_from(nsec).unwrap_or_default() };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    (&path[..slash], path.get(slash + 1..).unwrap_or_default())
}

/// Makes sure that there is a directory, an empty one if the layer's hides what is below it.
fn make_directory(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
    let hides = is_opaque(&directory(from.as_fd(), name.to_bytes())?)?;
    let there = match rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        Err(Errno::NOENT) => false,
        Err(other) => return Err(other.into()),
    };
    if there && !hides {
        return Ok(());
    }
    remove(to, name)?;
    Ok(rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?)
}

/// Removes whatever bears this name, if something does.
fn remove(from: &OwnedFd, name: &CStr) -> io::Result<()> {
    match rustix::fs::unlinkat(from, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => {
            // By descriptor all the same: the link leads to the directory that is open.
            let parent = format!("/proc/self/fd/{}", from.as_raw_fd());
            std::fs::remove_dir_all(Path::new(&parent).join(OsStr::from_bytes(name.to_bytes())))
        }
        Err(other) => Err(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn layers_become_one_plain_tree() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for dir in ["low/a/deep", "low/gone", "low/hidden", "top/a", "top/hidden", "out"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        fs::write(at("low/a/deep/file"), "low").unwrap();
        fs::write(at("low/gone/file"), "low").unwrap();
        fs::write(at("low/hidden/file"), "low").unwrap();
        fs::hard_link(at("low/a/deep/file"), at("low/a/twin")).unwrap();
        fs::write(at("top/gone"), "a file over a directory").unwrap();
        symlink("/etc", at("top/a/link")).unwrap();
        fs::set_permissions(at("top/a"), fs::Permissions::from_mode(0o1750)).unwrap();
        let opaque = "trusted.overlay.opaque";
        let marked = rustix::fs::setxattr(at("top/hidden"), opaque, b"y", XattrFlags::empty());
        if marked.is_err() {
            println!("skipped: this process may not make overlay marks here");
            return;
        }
        let open = |path: &str| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(at(path), flags, Mode::empty()).unwrap()
        };
        let out = open("out");
        for layer in ["low", "top"] {
            let links = HashMap::new();
            let mut copy = Copy { from: open(layer), to: out.as_fd(), first_id: 1000, links };
            copy.everything().unwrap();
        }
        assert_eq!(fs::read_to_string(at("out/a/deep/file")).unwrap(), "low");
        assert_eq!(fs::read_to_string(at("out/gone")).unwrap(), "a file over a directory");
        assert_eq!(fs::read_dir(at("out/hidden")).unwrap().count(), 0);
        let (file, twin) = (at("out/a/deep/file").metadata(), at("out/a/twin").metadata());
        assert_eq!(file.unwrap().ino(), twin.unwrap().ino());
        assert_eq!(fs::read_link(at("out/a/link")).unwrap(), Path::new("/etc"));
        let about = at("out/a").metadata().unwrap();
        assert_eq!((about.mode() & 0o7777, about.uid(), about.gid()), (0o1750, 1000, 1000));
        assert_eq!(about.mtime_nsec(), at("top/a").metadata().unwrap().mtime_nsec());
    }

    #[test]
    fn nobody_outside_a_range_owns_what_is_written_into_it() {
        assert_eq!((id_in_range(0, 0), id_in_range(u32::MAX - 1, 0)), (0, u32::MAX - 1));
        assert_eq!((id_in_range(0, 1000), id_in_range(65_535, 1000)), (1000, 66_535));
        for outside in [65_536, u32::MAX - 1000, u32::MAX - 1] {
            assert_eq!(id_in_range(outside, 524_288), 524_288 + 65_534);
        }
    }

    #[test]
    fn ids_in_attributes_move_with_the_owners() {
        let capability = [&[1, 0, 0, 2][..], &[7; 16]].concat();
        let capability_moved = [&[1, 0, 0, 3][..], &[7; 16], &[0, 0, 8, 0]].concat();
        let name = b"security.capability";
        assert_eq!(moved(name, capability.clone(), 0x0008_0000), capability_moved);
        assert_eq!(moved(name, capability.clone(), 0), capability);
        let list = [2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 5, 0, 0, 0];
        let list_moved = [2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 5, 1, 0, 0];
        assert_eq!(moved(b"system.posix_acl_access", list.to_vec(), 256), list_moved);
        assert_eq!(moved(b"user.note", list.to_vec(), 256), list);
    }
}
