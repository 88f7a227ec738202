//! Blobs: bytes under their digest, and downloads that are not blobs yet.
//!
//! A part file is locked by whoever writes it, so that two processes never fetch the same blob at
//! once: the second waits and then finds the result. It outlives its process, so that a download
//! goes on where a killed one stopped.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use pod_abi::Digest;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::handle::Store;
use super::{files, trash};
use crate::error::{Error, ErrorKind};
use crate::hash;

/// Returns the place of a blob beneath the store.
pub(super) fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

fn part_path(digest: &Digest) -> String {
    format!("tmp/{}-{}.part", digest.algorithm().as_str(), digest.hex())
}

/// A download in progress, locked. Dropping it keeps what has arrived.
#[derive(Debug)]
pub(crate) struct Part {
    digest: Digest,
    path: String,
    file: File,
}

/// Bytes being taken in, locked, under no digest yet.
#[derive(Debug)]
pub(crate) struct Incoming {
    path: String,
    file: File,
}

impl Incoming {
    /// Says what the bytes turned out to be.
    pub(crate) fn named(self, digest: Digest) -> Part {
        Part { digest, path: self.path, file: self.file }
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Store {
    /// Reads the small blob `digest` and checks that it is what its name says.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if it is not there, [`ErrorKind::Invalid`] if it is something else.
    pub(crate) fn read_blob(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>, Error> {
        let bytes = match files::read(self.dir(), &path(digest), limit) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let sentence = format!("blob `{digest}` is not in the store");
                return Err(Error::new(ErrorKind::NotFound, sentence));
            }
            Err(error) => return Err(self.failed(&format!("read blob `{digest}`"), error)),
        };
        if hash::of(digest.algorithm(), &bytes) == *digest {
            Ok(bytes)
        } else {
            Err(Error::invalid(format!("blob `{digest}` in the store has other content")))
        }
    }

    /// Opens the blob `digest` if it is there.
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<Option<File>, Error> {
        match files::open(self.dir(), &path(digest)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&format!("open blob `{digest}`"), error)),
        }
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        files::exists(self.dir(), &path(digest))
            .map_err(|source| self.failed(&format!("find blob `{digest}`"), source))
    }

    /// Puts a small blob into the store, durably. Its bytes were checked against `digest`; what
    /// damage has made of it is replaced.
    pub(crate) fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        if self.read_blob(digest, bytes.len()).is_ok() {
            return Ok(());
        }
        let aside = files::unique("tmp/blob-");
        let parent = format!("blobs/{}", digest.algorithm().as_str());
        files::replace(self.dir(), &aside, &path(digest), &parent, bytes)
            .map_err(|source| self.failed(&format!("write blob `{digest}`"), source))
    }

    /// Opens the download of `digest`, with what an earlier one left; `None` if somebody else is
    /// at it now.
    pub(crate) fn part(&self, digest: &Digest) -> Result<Option<Part>, Error> {
        let failed = |source| self.failed(&format!("open the download of `{digest}`"), source);
        let path = part_path(digest);
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rustix::fs::openat(self.dir(), &path, flags, Mode::from(0o600))
                .map_err(|source| failed(source.into()))?;
            if !files::try_lock(&file).map_err(failed)? {
                return Ok(None);
            }
            // Whoever held the lock may have made it a blob, or gc removed it.
            if files::is_still(self.dir(), &path, &file).map_err(failed)? {
                return Ok(Some(Part { digest: digest.clone(), path, file: file.into() }));
            }
        }
    }

    /// Begins to take bytes whose digest only their end will tell.
    pub(crate) fn incoming(&self) -> Result<Incoming, Error> {
        let path = files::unique("tmp/incoming-");
        match files::write_new(self.dir(), &path, b"") {
            Ok(file) => Ok(Incoming { path, file }),
            Err(source) => Err(self.failed("take something in", source)),
        }
    }

    /// Gives up what was taken in.
    pub(crate) fn drop_incoming(&self, incoming: &Incoming) {
        // What stays is residue that gc sweeps.
        let _ = rustix::fs::unlinkat(self.dir(), &incoming.path, AtFlags::empty());
    }

    /// Copies all of `from` into a file without a name beneath the store, which has the room for
    /// it, and returns it at its beginning.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`] or [`ErrorKind::NoSpace`]; nothing is left.
    pub fn spool(&self, from: &mut dyn io::Read) -> Result<File, Error> {
        let failed = |source| self.failed("keep what is read", source);
        let (mut writer, reader) = self.unnamed()?;
        io::copy(from, &mut writer).map_err(failed)?;
        Ok(reader)
    }

    /// Makes a file without a name beneath the store: what is written to the one is read from the
    /// other.
    pub(crate) fn unnamed(&self) -> Result<(File, File), Error> {
        let incoming = self.incoming()?;
        let reader = files::open(self.dir(), &incoming.path);
        self.drop_incoming(&incoming);
        let reader = reader.map_err(|source| self.failed("keep what is read", source))?;
        Ok((incoming.file, reader))
    }

    /// Makes a complete download a blob. It must have been synced; the directory is not yet.
    pub(crate) fn keep_part(&self, part: &Part) -> Result<(), Error> {
        let to = path(&part.digest);
        let moved = rustix::fs::renameat_with(
            self.dir(),
            &part.path,
            self.dir(),
            &to,
            RenameFlags::NOREPLACE,
        );
        match moved {
            Ok(()) => Ok(()),
            // The same content came in another way.
            Err(Errno::EXIST) => self.drop_part(part),
            Err(source) => Err(self.failed(&format!("keep blob `{}`", part.digest), source)),
        }
    }

    /// Gives up a download and what has arrived of it.
    pub(crate) fn drop_part(&self, part: &Part) -> Result<(), Error> {
        match rustix::fs::unlinkat(self.dir(), &part.path, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(source) => {
                Err(self.failed(&format!("drop the download of `{}`", part.digest), source))
            }
        }
    }

    /// Takes a blob away whose content is not what its name says.
    pub(crate) fn drop_blob(&self, digest: &Digest) -> Result<(), Error> {
        trash::discard(self, &path(digest))
            .map_err(|source| self.failed(&format!("drop blob `{digest}`"), source))
    }

    /// Makes the names of blobs durable.
    pub(crate) fn sync_blobs(&self) -> Result<(), Error> {
        ["blobs/sha256", "blobs/sha512"]
            .iter()
            .try_for_each(|dir| files::sync_dir(self.dir(), dir))
            .map_err(|source| self.failed("sync `blobs`", source))
    }
}

impl Part {
    /// Returns how many bytes have arrived.
    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Forgets what has arrived.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0)).map(drop)
    }

    /// Goes to the beginning, to read what has arrived; writing goes on where reading ends.
    pub(crate) fn rewind(&mut self) -> io::Result<&mut File> {
        self.file.rewind()?;
        Ok(&mut self.file)
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pod_abi::digest::Algorithm;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        (root, store)
    }

    #[test]
    fn a_blob_that_is_not_its_digest_is_not_read() {
        let (root, store) = store();
        let digest = hash::of(Algorithm::Sha256, b"good");
        assert_eq!(store.read_blob(&digest, 9).unwrap_err().kind(), ErrorKind::NotFound);
        store.write_blob(&digest, b"good").unwrap();
        assert_eq!(store.read_blob(&digest, 9).unwrap(), b"good");
        std::fs::write(root.path().join("images").join(path(&digest)), "evil").unwrap();
        assert_eq!(store.read_blob(&digest, 9).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(store.read_blob(&digest, 3).unwrap_err().kind(), ErrorKind::Storage);
    }

    #[test]
    fn a_download_has_one_writer_and_outlives_it() {
        let (_root, store) = store();
        let digest = hash::of(Algorithm::Sha256, b"whole");
        let mut part = store.part(&digest).unwrap().unwrap();
        part.write_all(b"who").unwrap();
        assert!(store.part(&digest).unwrap().is_none());
        drop(part);
        let mut part = store.part(&digest).unwrap().unwrap();
        assert_eq!(part.len().unwrap(), 3);
        io::copy(part.rewind().unwrap(), &mut io::sink()).unwrap();
        part.write_all(b"le").unwrap();
        store.keep_part(&part).unwrap();
        assert_eq!(store.read_blob(&digest, 9).unwrap(), b"whole");
        assert_eq!(store.part(&digest).unwrap().unwrap().len().unwrap(), 0);
    }
}
