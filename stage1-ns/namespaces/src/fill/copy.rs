//! Copying a hostile tree, name by name, beneath two descriptors.
//!
//! Depth, and memory for hard links, are bounded; nothing else grows with the tree. Data is copied
//! as it lies, holes included. Kept are owners, modes, times, symbolic and hard links, and the
//! extended attributes programs use; `trusted.…` is overlayfs's own.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, linkat,
    mkdirat, mknodat, openat, openat2, readlinkat, seek, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use supervisor::{During, Failure};

/// The deepest directory copied. Each level holds three descriptors while it is walked.
pub(super) const MAX_DEPTH: usize = 128;

/// The most bytes that names of hard-linked files may take together.
const MAX_LINKS: usize = 16 << 20;

/// The longest list of attributes, and the longest value: the kernel's own bounds.
const MAX_ATTRIBUTE: usize = 64 << 10;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A copy in progress.
pub(super) struct Copier<'a> {
    top: &'a OwnedFd,
    /// Where the first name of a file with several was copied to, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    linked_bytes: usize,
    /// The directory being copied, from `top`, with a slash at its end.
    path: Vec<u8>,
}

impl<'a> Copier<'a> {
    /// Copies into `top`, a directory nobody else writes to.
    pub(super) fn new(top: &'a OwnedFd) -> Self {
        Self { top, linked: HashMap::new(), linked_bytes: 0, path: Vec::new() }
    }

    /// Copies everything in `from`.
    ///
    /// # Errors
    ///
    /// What could not be copied; some of it has been.
    pub(super) fn copy(&mut self, from: &OwnedFd) -> Result<(), Failure> {
        let top = self.top;
        self.directory(from, top, MAX_DEPTH)
    }

    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<(), Failure> {
        let reading = |path: &[u8]| format!("cannot read {}", quoted(path));
        for entry in Dir::read_from(from).during(|| reading(&self.path))? {
            let entry = entry.during(|| reading(&self.path))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let length = self.path.len();
            self.path.extend_from_slice(name.to_bytes());
            self.entry(from, to, name, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        depth: usize,
    ) -> Result<(), Failure> {
        let path = self.path.clone();
        let copying = || format!("cannot copy {}", quoted(&path));
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).during(copying)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let Some(deeper) = depth.checked_sub(1) else {
                    let what = format!("{} is deeper than {MAX_DEPTH} directories", quoted(&path));
                    return Err(Failure::new(what));
                };
                mkdirat(to, name, Mode::from_raw_mode(0o700)).during(copying)?;
                let inner = openat(from, name, DIRECTORY, Mode::empty()).during(copying)?;
                let made = openat(to, name, DIRECTORY, Mode::empty()).during(copying)?;
                self.path.push(b'/');
                self.directory(&inner, &made, deeper)?;
                metadata(&inner, &made).during(copying)
            }
            FileType::RegularFile => self.file(from, to, name, &stat),
            FileType::Symlink => symbolic_link(from, to, name, &stat).during(copying),
            FileType::Fifo => fifo(from, to, name).during(copying),
            _ => Ok(()),
        }
    }

    fn file(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        stat: &Stat,
    ) -> Result<(), Failure> {
        let path = self.path.clone();
        let copying = || format!("cannot copy {}", quoted(&path));
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                return hard_link(self.top, first, to, name).during(copying);
            }
            self.linked_bytes += path.len();
            if self.linked_bytes > MAX_LINKS {
                let what = format!("{} is one of too many hard-linked files", quoted(&path));
                return Err(Failure::new(what));
            }
            self.linked.insert((stat.st_dev, stat.st_ino), path.clone());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = openat(from, name, flags, Mode::empty()).during(copying)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = openat(to, name, flags, Mode::from_raw_mode(0o600)).during(copying)?;
        let (mut source, mut made) = (File::from(source), File::from(made));
        data(&mut source, &mut made).during(copying)?;
        metadata(&source, &made).during(copying)
    }
}

/// Shows a path of an image: what is no plain text is escaped.
fn quoted(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    format!("`{shown}`")
}

/// Copies the content of a file, from one run of data to the next.
fn data(from: &mut File, to: &mut File) -> std::io::Result<()> {
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut at = 0;
    while at < size {
        let start = match seek(&*from, rustix::fs::SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            start => start?,
        };
        let end = seek(&*from, rustix::fs::SeekFrom::Hole(start))?;
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        let copied = std::io::copy(&mut std::io::Read::take(&mut *from, end - start), to)?;
        if copied == 0 {
            break;
        }
        at = start + copied;
    }
    Ok(())
}

/// Gives a file or directory the owner, mode, attributes and times of another.
pub(super) fn metadata(from: impl AsFd, to: impl AsFd) -> rustix::io::Result<()> {
    let stat = fstat(&from)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(&to, Some(uid), Some(gid))?;
    // After the owner, whose change takes set-user-id bits and file capabilities away.
    fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    attributes(&from, &to)?;
    futimens(&to, &times(&stat))
}

/// Gives a file or directory the times of another.
pub(super) fn date(from: impl AsFd, to: impl AsFd) -> rustix::io::Result<()> {
    futimens(to, &times(&fstat(from)?))
}

fn times(stat: &Stat) -> Timestamps {
    let spec = |tv_sec, nanoseconds: u64| Timespec {
        tv_sec,
        tv_nsec: nanoseconds.try_into().unwrap_or_default(),
    };
    Timestamps {
        last_access: spec(stat.st_atime, stat.st_atime_nsec),
        last_modification: spec(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Tells whether an attribute belongs to the file rather than to the file system or the host.
fn is_kept(name: &[u8]) -> bool {
    let kept: [&[u8]; 3] =
        [b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"];
    name.starts_with(b"user.") || kept.contains(&name)
}

fn attributes(from: impl AsFd, to: impl AsFd) -> rustix::io::Result<()> {
    let mut names = vec![0_u8; MAX_ATTRIBUTE];
    let length = match flistxattr(&from, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        length => length?,
    };
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if is_kept(name.to_bytes()) {
            let mut value = vec![0_u8; MAX_ATTRIBUTE];
            let length = fgetxattr(&from, name, &mut value[..])?;
            fsetxattr(&to, name, &value[..length], XattrFlags::empty())?;
        }
    }
    Ok(())
}

fn symbolic_link(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// A pipe opens for reading at once, so its mode can be set by descriptor.
fn fifo(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> rustix::io::Result<()> {
    mknodat(to, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = openat(from, name, flags, Mode::empty())?;
    metadata(&source, openat(to, name, flags, Mode::empty())?)
}

/// Links `name` in `to` to what was copied to `first`.
///
/// SECURITY: the first name is looked up without following links, and the link is made to what was
/// found. By path, a link swapped in by a pod that shares the volume would lead to a file of the
/// host, which would then lie in the volume.
fn hard_link(top: &OwnedFd, first: &[u8], to: &OwnedFd, name: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let found = openat2(top, first, flags, Mode::empty(), resolve)?;
    linkat(found, c"", to, name, AtFlags::EMPTY_PATH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    fn directory(path: &Path) -> OwnedFd {
        openat(CWD, path, DIRECTORY, Mode::empty()).unwrap()
    }

    fn copied(fill: impl FnOnce(&Path)) -> (tempfile::TempDir, Result<(), Failure>) {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        fill(&from);
        let done = Copier::new(&directory(&to)).copy(&directory(&from));
        (place, done)
    }

    #[test]
    fn what_a_program_can_see_of_a_tree_is_copied() {
        let (place, done) = copied(|from| {
            fs::create_dir_all(from.join("a/b")).unwrap();
            fs::set_permissions(from.join("a"), fs::Permissions::from_mode(0o2750)).unwrap();
            let mut holes = File::create(from.join("a/holes")).unwrap();
            holes.set_len(64 << 20).unwrap();
            holes.seek(SeekFrom::Start(32 << 20)).unwrap();
            holes.write_all(b"middle").unwrap();
            fs::write(from.join("a/b/one"), "same").unwrap();
            fs::hard_link(from.join("a/b/one"), from.join("two")).unwrap();
            symlink("/nowhere/../at all", from.join("link")).unwrap();
            mknodat(CWD, from.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            UnixListener::bind(from.join("socket")).unwrap();
        });
        done.unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        for name in ["a", "a/b", "a/holes", "a/b/one", "two", "link", "pipe"] {
            let seen = |path: &Path| fs::symlink_metadata(path.join(name)).unwrap();
            let (was, is) = (seen(&from), seen(&to));
            assert_eq!((was.mode(), was.mtime_nsec()), (is.mode(), is.mtime_nsec()), "{name}");
            assert_eq!((was.mtime(), was.nlink()), (is.mtime(), is.nlink()), "{name}");
        }
        let seen = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
        assert_eq!(seen("two").ino(), seen("a/b/one").ino());
        assert!(seen("a/holes").blocks() * 512 < 1 << 20, "holes were filled");
        assert_eq!(fs::read(to.join("a/holes")).unwrap()[32 << 20..][..6], *b"middle");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere/../at all"));
        assert!(seen("pipe").file_type().is_fifo());
        assert!(!to.join("socket").exists());
    }

    #[test]
    fn a_tree_too_deep_is_refused_before_descriptors_run_out() {
        let nested = |levels: usize| {
            copied(|from| fs::create_dir_all(from.join("d/".repeat(levels))).unwrap()).1
        };
        assert!(nested(MAX_DEPTH).is_ok());
        let refused = nested(MAX_DEPTH + 1).unwrap_err().to_string();
        assert!(refused.contains("deeper than 128 directories"), "{refused}");
    }

    #[test]
    fn a_hard_link_never_leads_through_a_symbolic_one() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("secret"), "host").unwrap();
        fs::create_dir(place.path().join("top")).unwrap();
        symlink("..", place.path().join("top/swapped")).unwrap();
        let top = directory(&place.path().join("top"));
        for first in ["swapped/secret", "../secret"] {
            assert!(hard_link(&top, first.as_bytes(), &top, c"stolen").is_err(), "{first}");
        }
        assert!(!place.path().join("top/stolen").exists());
    }
}
