//! Copying one file or the attributes of one directory from a lower layer, as overlayfs would.
//!
//! What is copied is named by a hostile archive: holes stay holes, nothing is copied that would fill
//! the file system, and no link is followed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::content::copy_content;
use crate::room;
use crate::store::Found;

/// The longest list of names of extended attributes, and the longest value (`xattr(7)`).
const MAX_XATTR: usize = 64 << 10;

/// Copies what was found to `name` in `parent`, unless it is there.
pub(super) fn copy_up(found: &Found, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => return Ok(()),
        Err(Errno::NOENT) => {}
        Err(other) => return Err(other.into()),
    }
    let stat = &found.stat;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let from =
                rustix::fs::openat(&found.parent, found.name.as_slice(), flags, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            room::fits(parent, stat)?;
            let to = rustix::fs::openat(parent, name, flags, Mode::from(0o600))?;
            let (from, to) = (File::from(from), File::from(to));
            copy_content(&from, &to)?;
            copy_attributes(&from.into(), &to.into(), stat)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&found.parent, found.name.as_slice(), Vec::new())?;
            rustix::fs::symlinkat(target, parent, name)?;
            copy_named(parent, name, stat)
        }
        _ => {
            let device = rustix::fs::makedev(0, 0);
            rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::from(0o600), device)?;
            copy_named(parent, name, stat)?;
            // NOFOLLOW by construction: the name was made a moment ago in a tree that is ours.
            Ok(rustix::fs::chmodat(parent, name, mode(stat), AtFlags::empty())?)
        }
    }
}

/// Gives what cannot be opened its owner and times.
fn copy_named(parent: &OwnedFd, name: &[u8], stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::utimensat(parent, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

/// Owner before mode, for a change of owner clears setuid; attributes after both; times last.
pub(super) fn copy_attributes(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    rustix::fs::fchmod(to, mode(stat))?;
    copy_xattrs(from, to)?;
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

/// Copies all attributes but overlayfs' own marks, which speak of the layer they are in.
fn copy_xattrs(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut names = vec![0_u8; MAX_XATTR];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(other) => return Err(other.into()),
    };
    let mut value = vec![0_u8; MAX_XATTR];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

pub(super) fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanos: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanos).unwrap_or(0),
    };
    let modified = time(stat.st_mtime, stat.st_mtime_nsec);
    Timestamps { last_access: modified, last_modification: modified }
}
