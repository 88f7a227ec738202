//! The files of a layout, wherever they lie: in a directory, or in an archive.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::archive::Archive;
use crate::error::{Error, ErrorKind};

/// Files by name; what they hold is hostile.
#[derive(Debug)]
pub(super) enum Files {
    /// Beneath a directory: nothing outside is read, and only regular files are.
    Directory { dir: OwnedFd, path: PathBuf },
    /// Members of an archive.
    Archive(Archive),
}

impl Files {
    /// Opens the directory `path`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none.
    pub(super) fn in_directory(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|source| {
            let kind = match source {
                Errno::NOENT | Errno::NOTDIR => ErrorKind::NotFound,
                _ => ErrorKind::Storage,
            };
            let sentence = format!("cannot open layout `{}`", path.display());
            Error::caused(kind, sentence, io::Error::from(source))
        })?;
        Ok(Self::Directory { dir, path: path.to_owned() })
    }

    /// Returns where the files lie, for messages.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Directory { path, .. } => path,
            Self::Archive(archive) => archive.path(),
        }
    }

    /// Tells whether there is a file `name`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`] if that cannot be known.
    pub(super) fn has(&self, name: &str) -> Result<bool, Error> {
        match self {
            Self::Archive(archive) => Ok(archive.has(name)),
            Self::Directory { dir, path } => {
                match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Ok(true),
                    Err(Errno::NOENT) => Ok(false),
                    Err(source) => Err(unread(path, name, source.into())),
                }
            }
        }
    }

    /// Opens the file `name` from byte `offset` on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if there is no such file, [`ErrorKind::Storage`] if it cannot be read.
    pub(super) fn open(&self, name: &str, offset: u64) -> Result<Box<dyn Read + '_>, Error> {
        match self {
            Self::Archive(archive) => Ok(Box::new(archive.content(name, offset)?)),
            Self::Directory { dir, path } => {
                let mut file = beneath(dir, path, name)?;
                file.seek(SeekFrom::Start(offset)).map_err(|source| unread(path, name, source))?;
                Ok(Box::new(file))
            }
        }
    }

    /// Reads the whole file `name` of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`ErrorKind::Invalid`] for a larger one.
    pub(super) fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = self.open(name, 0)?.take(bound).read_to_end(&mut bytes);
        read.map_err(|source| unread(self.path(), name, source))?;
        if bytes.len() > limit {
            let path = self.path().display();
            return Err(Error::invalid(format!("`{path}/{name}` is larger than {limit} bytes")));
        }
        Ok(bytes)
    }
}

fn unread(path: &Path, name: &str, source: io::Error) -> Error {
    Error::storage(format!("cannot read `{}/{name}`", path.display()), source)
}

/// Opens a regular file of a directory; links may not lead out of it.
fn beneath(dir: &OwnedFd, path: &Path, name: &str) -> Result<File, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve);
    let sentence = || format!("cannot open `{}/{name}`", path.display());
    let file = match opened {
        Ok(file) => File::from(file),
        Err(source @ (Errno::NOENT | Errno::XDEV)) => {
            return Err(Error::caused(ErrorKind::Invalid, sentence(), io::Error::from(source)));
        }
        Err(source) => return Err(Error::storage(sentence(), source)),
    };
    match file.metadata() {
        Ok(all) if all.is_file() => Ok(file),
        Ok(_) => {
            let path = path.display();
            Err(Error::invalid(format!("`{path}` is no OCI layout: `{name}` is no regular file")))
        }
        Err(source) => Err(Error::storage(sentence(), source)),
    }
}
