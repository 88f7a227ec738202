//! Opening the store, its version, and its one lock.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use pod_abi::layout;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::files;
use crate::error::{Error, ErrorKind};

/// The format of what lies in the store.
const FORMAT: u32 = 1;

/// All directories of a store; made before its version is written.
const DIRECTORIES: [&str; 8] =
    ["blobs", "blobs/sha256", "blobs/sha512", "layers", "refs", "leases", "tmp", "trash"];

/// `f_type` of NFS, where locks of other hosts are not seen (`statfs(2)`).
const NFS_SUPER_MAGIC: u64 = 0x6969;

/// The images beneath one root. Cheap to open; any number of processes may have it open.
#[derive(Debug)]
pub struct Store {
    dir: OwnedFd,
    path: PathBuf,
}

/// While it lives, gc deletes nothing that is written into a lease meanwhile (shared), or nobody
/// decides that something exists (exclusive).
#[derive(Debug)]
pub(super) struct StoreLock {
    _file: File,
}

impl Store {
    /// Opens the store beneath `root`, making what is missing, with access for its owner only:
    /// trees hold setuid files (CVE-2021-41091).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`] if it cannot be made or read, or its format is newer than this
    /// program; it has not been changed then.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let path = root.join(layout::IMAGES);
        let failed =
            |source| Error::storage(format!("cannot open store `{}`", path.display()), source);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let store = Self { dir, path };
        match files::read(&store.dir, "version", 64) {
            Ok(text) => store.check_version(&text)?,
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                store.lay_out().map_err(|source| {
                    Error::storage(format!("cannot make store `{}`", store.path.display()), source)
                })?;
            }
            Err(error) => return Err(store.failed("read the version", error)),
        }
        Ok(store)
    }

    fn check_version(&self, text: &[u8]) -> Result<(), Error> {
        let version =
            std::str::from_utf8(text).ok().and_then(|text| text.trim().parse::<u32>().ok());
        match version {
            Some(FORMAT) => Ok(()),
            Some(newer) if newer > FORMAT => Err(Error::new(
                ErrorKind::Storage,
                format!(
                    "store `{}` has format {newer}, this program knows {FORMAT} and older",
                    self.path.display()
                ),
            )),
            _ => Err(Error::new(
                ErrorKind::Storage,
                format!("`{}` is no store of images", self.path.display()),
            )),
        }
    }

    /// Makes the directories, then the version; others may be doing the same.
    fn lay_out(&self) -> std::io::Result<()> {
        let filesystem = rustix::fs::fstatfs(&self.dir)?;
        if u64::try_from(filesystem.f_type).is_ok_and(|kind| kind == NFS_SUPER_MAGIC) {
            return Err(std::io::Error::other("locks do not hold on NFS"));
        }
        for directory in DIRECTORIES {
            match rustix::fs::mkdirat(&self.dir, directory, Mode::from(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(other) => return Err(other.into()),
            }
        }
        let aside = files::unique("tmp/version-");
        files::replace(&self.dir, &aside, "version", ".", format!("{FORMAT}\n").as_bytes())
    }

    /// Returns the directory beneath which all layers lie, as an `O_PATH` descriptor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`] if it cannot be opened.
    pub fn layers_dir(&self) -> Result<OwnedFd, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dir, "layers", flags, Mode::empty())
            .map_err(|source| self.failed("open `layers`", source))
    }

    /// Returns the store's directory.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Wraps what the file system said while we tried to `verb`.
    pub(crate) fn failed(&self, verb: &str, source: impl Into<std::io::Error>) -> Error {
        Error::storage(format!("cannot {verb} in store `{}`", self.path.display()), source)
    }

    pub(super) fn lock_shared(&self) -> Result<StoreLock, Error> {
        self.lock(FlockOperation::LockShared)
    }

    pub(super) fn lock_exclusive(&self) -> Result<StoreLock, Error> {
        self.lock(FlockOperation::LockExclusive)
    }

    fn lock(&self, operation: FlockOperation) -> Result<StoreLock, Error> {
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.dir, "lock", flags, Mode::from(0o600))
            .map_err(|source| self.failed("open `lock`", source))?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(StoreLock { _file: file.into() }),
                Err(Errno::INTR) => {}
                Err(source) => return Err(self.failed("lock `lock`", source)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_made_once_and_a_newer_one_is_refused() {
        let root = tempfile::tempdir().unwrap();
        Store::open(root.path()).unwrap();
        Store::open(root.path()).unwrap();
        let version = root.path().join("images/version");
        std::fs::write(&version, "2\n").unwrap();
        assert_eq!(Store::open(root.path()).unwrap_err().kind(), ErrorKind::Storage);
        std::fs::write(&version, "rubbish").unwrap();
        assert!(Store::open(root.path()).is_err());
    }

    #[test]
    fn the_lock_is_shared_by_many_or_held_by_one() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let first = store.lock_shared().unwrap();
        let second = store.lock_shared().unwrap();
        let file = files::open(store.dir(), "lock").unwrap();
        assert!(!files::try_lock(&file).unwrap());
        drop((first, second));
        assert!(files::try_lock(&file).unwrap());
    }
}
