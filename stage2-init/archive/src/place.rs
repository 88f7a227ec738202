//! Where something goes beneath a directory: found by descriptors, directories made on the way.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;

use crate::error::Error;

/// What becomes of links on the way to where something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Nothing goes through a link, nor out of the directory: for archives nobody trusts.
    Refused,
    /// They lead where they lead: for a process that can reach nothing but what the owner of the
    /// links may reach, too.
    Followed,
}

/// A directory everything is placed beneath.
#[derive(Debug)]
pub(crate) struct Ground<'g> {
    top: BorrowedFd<'g>,
    links: Links,
    /// The directory that was found last: entries come in the order of their directories.
    last: Option<(PathBuf, OwnedFd)>,
}

impl<'g> Ground<'g> {
    pub(crate) fn new(top: BorrowedFd<'g>, links: Links) -> Self {
        Self { top, links, last: None }
    }

    /// Opens a directory that is there.
    pub(crate) fn open(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let resolve = match self.links {
            Links::Refused => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            Links::Followed => ResolveFlags::NO_MAGICLINKS,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(self.top, path, flags, Mode::empty(), resolve)
    }

    /// Returns the directory an entry goes into and its name there; directories that are missing
    /// are made, mode 0755.
    pub(crate) fn parent<'p>(
        &mut self,
        path: &'p Path,
    ) -> Result<(BorrowedFd<'_>, &'p OsStr), Error> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::refused(path, "which has no name"));
        };
        if self.last.as_ref().is_none_or(|(known, _)| known != parent) {
            let found = match self.open(parent) {
                Err(Errno::NOENT) => self.make(parent),
                other => other,
            };
            let found = found.map_err(|error| Error::file(parent, error))?;
            self.last = Some((parent.to_owned(), found));
        }
        match &self.last {
            Some((_, directory)) => Ok((directory.as_fd(), name)),
            None => Err(Error::refused(path, "which has no place")),
        }
    }

    fn make(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let mut reached = PathBuf::new();
        let mut directory = self.open(&reached)?;
        for part in path.components() {
            reached.push(part);
            directory = match self.open(&reached) {
                Err(Errno::NOENT) => {
                    match mkdirat(&directory, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error),
                    }
                    self.open(&reached)?
                }
                other => other?,
            };
        }
        Ok(directory)
    }

    /// Forgets what was found: something was put in its place.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }
}
