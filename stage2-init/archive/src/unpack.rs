//! Unpacking: an archive as files beneath a directory.
//!
//! What is there gives way to what comes, but a directory never to anything else and nothing to a
//! directory; what comes is made anew, so that no link that is there leads elsewhere. Directories
//! that are made get their rights last, when nothing more comes into them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, fchmod, fchown,
    futimens, linkat, mkdirat, openat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::Error;
use crate::place::{Ground, Links};
use crate::read::{About, Kind, entries};

/// What becomes of the first component of every name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Top {
    /// It stays.
    Kept,
    /// It becomes this name.
    Renamed(PathBuf),
    /// It falls away: what is beneath it goes to the top.
    Stripped,
}

/// Whether files may grant more than their caller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// Set-user-id and set-group-id bits are kept.
    Kept,
    /// They are dropped.
    Dropped,
}

/// How an archive is unpacked.
#[derive(Clone, Debug)]
pub struct Unpacking {
    /// The first component of names.
    pub top: Top,
    /// Links on the way.
    pub links: Links,
    /// Whom files belong to: whom the archive says, or this process's user whatever is given here.
    pub owner: Owned,
    /// Bits that grant something.
    pub privileges: Privileges,
}

/// Whom unpacked files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// Whom the archive says.
    AsPacked,
    /// Whoever unpacks.
    ByUnpacker,
}

/// Unpacks an archive beneath `into`. Returns how many entries it had.
///
/// # Errors
///
/// The first [`Error`]; what was unpacked before stays.
pub fn unpack(archive: impl Read, into: BorrowedFd<'_>, how: &Unpacking) -> Result<u64, Error> {
    let ground = Ground::new(into, how.links);
    let mut at_work =
        AtWork { ground, how, files: BTreeSet::new(), made: Vec::new(), taken: (0, 0), count: 0 };
    entries(archive, |about, content| at_work.entry(about, content))?;
    at_work.finish()
}

/// The most bytes the names of files take that are remembered for hard links, and as many again
/// for directories: an archive nobody trusts may consist of nothing but the longest names.
const MAX_NAMES: usize = 256 << 20;
/// What a name takes beside its bytes.
const NAME: usize = 96;

struct AtWork<'u> {
    ground: Ground<'u>,
    how: &'u Unpacking,
    /// The files that were unpacked, the only ones a hard link may mean.
    files: BTreeSet<PathBuf>,
    /// The directories that were made, with what they are to be.
    made: Vec<(PathBuf, About)>,
    /// How many bytes both take.
    taken: (usize, usize),
    count: u64,
}

impl AtWork<'_> {
    fn entry(&mut self, about: About, content: &mut dyn Read) -> Result<(), Error> {
        self.count += 1;
        let path = self.placed(&about.path);
        if path.as_os_str().is_empty() {
            return match about.kind {
                Kind::Directory => Ok(()),
                _ => Err(Error::refused(&about.path, "which takes the place of the directory")),
            };
        }
        match &about.kind {
            Kind::Directory => self.directory(path, about),
            Kind::File => self.file(path, &about, content),
            Kind::Symlink(target) => self.symlink(&path, &about, target),
            Kind::HardLink(target) => self.hard_link(path, &self.placed(target)),
        }
    }

    /// Returns where an entry goes.
    fn placed(&self, path: &Path) -> PathBuf {
        let beneath = || path.components().skip(1).collect::<PathBuf>();
        match &self.how.top {
            Top::Kept => path.to_owned(),
            Top::Stripped => beneath(),
            Top::Renamed(_) if path.as_os_str().is_empty() => PathBuf::new(),
            // By components: joining nothing would end in a slash.
            Top::Renamed(name) => name.iter().chain(beneath().iter()).collect(),
        }
    }

    fn directory(&mut self, path: PathBuf, about: About) -> Result<(), Error> {
        let failed = |error| Error::file(&path, error);
        let (parent, name) = self.ground.parent(&path)?;
        match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            // One that is there keeps what it is.
            Err(Errno::EXIST) => {
                return self.ground.open(&path).map(drop).map_err(failed);
            }
            Err(error) => return Err(failed(error)),
        }
        if !has_room(&mut self.taken.1, &path) {
            return Err(Error::refused(&path, "for the archive has too many directories"));
        }
        // The name in the archive is not needed again.
        self.made.push((path, About { path: PathBuf::new(), ..about }));
        Ok(())
    }

    fn file(&mut self, path: PathBuf, about: &About, content: &mut dyn Read) -> Result<(), Error> {
        let failed = |error: Errno| Error::file(&path, error);
        let (parent, name) = self.ground.parent(&path)?;
        make_room(parent, name).map_err(failed)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let file = openat(parent, name, flags | OFlags::CLOEXEC, mode).map_err(failed)?;
        let mut file = File::from(file);
        let copied = match io::copy(content, &mut file) {
            Ok(bytes) if bytes < about.size => Err(io::ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        if let Err(error) = copied {
            // Half a file is worse than none.
            let _ = unlinkat(parent, name, AtFlags::empty());
            return Err(match error.kind() {
                io::ErrorKind::UnexpectedEof => Error::archive(error),
                _ => Error::file(&path, error),
            });
        }
        self.describe(&OwnedFd::from(file), about).map_err(failed)?;
        self.remember(path);
        Ok(())
    }

    fn symlink(&mut self, path: &Path, about: &About, target: &[u8]) -> Result<(), Error> {
        let failed = |error| Error::file(path, error);
        let owner = self.how.owner;
        let (parent, name) = self.ground.parent(path)?;
        make_room(parent, name).map_err(failed)?;
        symlinkat(OsStr::from_bytes(target), parent, name).map_err(failed)?;
        if owner == Owned::AsPacked {
            let (uid, gid) = ids(about);
            chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed)?;
        }
        utimensat(parent, name, &times(about), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        self.ground.forget();
        Ok(())
    }

    fn hard_link(&mut self, path: PathBuf, target: &Path) -> Result<(), Error> {
        if !self.files.contains(target) {
            return Err(Error::refused(&path, "which is a second name of no file of the archive"));
        }
        let failed = |error| Error::file(&path, error);
        let (Some(from), Some(old)) = (target.parent(), target.file_name()) else {
            return Err(Error::refused(&path, "which has no name"));
        };
        let from = self.ground.open(from).map_err(failed)?;
        let (parent, name) = self.ground.parent(&path)?;
        make_room(parent, name).map_err(failed)?;
        linkat(&from, old, parent, name, AtFlags::empty()).map_err(failed)?;
        self.remember(path);
        Ok(())
    }

    /// Remembers a file for hard links, unless there are too many already.
    fn remember(&mut self, path: PathBuf) {
        if has_room(&mut self.taken.0, &path) {
            self.files.insert(path);
        }
    }

    /// Gives a file that was made what the archive says of it. The owner comes first: a change of
    /// it takes bits away that grant something.
    fn describe(&self, file: &OwnedFd, about: &About) -> rustix::io::Result<()> {
        if self.how.owner == Owned::AsPacked {
            let (uid, gid) = ids(about);
            fchown(file, Some(uid), Some(gid))?;
        }
        let kept = match self.how.privileges {
            Privileges::Kept => 0o7777,
            Privileges::Dropped => 0o1777,
        };
        fchmod(file, Mode::from_raw_mode(about.mode & kept))?;
        futimens(file, &times(about))
    }

    fn finish(mut self) -> Result<u64, Error> {
        for (path, about) in std::mem::take(&mut self.made).into_iter().rev() {
            let failed = |error| Error::file(&path, error);
            let (parent, name) = self.ground.parent(&path)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = openat(parent, name, flags, Mode::empty()).map_err(failed)?;
            self.describe(&directory, &about).map_err(failed)?;
        }
        Ok(self.count)
    }
}

/// Tells whether one more name may be remembered, and counts it.
fn has_room(taken: &mut usize, path: &Path) -> bool {
    let more = taken.saturating_add(path.as_os_str().len() + NAME);
    let fits = more <= MAX_NAMES;
    if fits {
        *taken = more;
    }
    fits
}

/// Takes away what has a name, unless it is a directory.
fn make_room(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn ids(about: &About) -> (Uid, Gid) {
    let (uid, gid) = about.owner;
    (Uid::from_raw(uid), Gid::from_raw(gid))
}

fn times(about: &About) -> Timestamps {
    let seconds = i64::try_from(about.mtime).unwrap_or(0);
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    }
}
