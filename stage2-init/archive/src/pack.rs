//! Packing: a file or a tree as an archive.
//!
//! Whoever owns the files may change them meanwhile: directories are walked by descriptors and
//! without following a link, a file is what its descriptor says, and one that shrinks is filled up
//! with zeroes, because its size stands in the archive already.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use tar::{Builder, EntryType, Header};

use crate::error::Error;

/// How deep a tree may be: each directory on the way holds a descriptor.
const MAX_DEPTH: usize = 200;
/// How many files with several names are remembered; beyond, each name is a file of its own.
const MAX_LINKED: usize = 100_000;

/// What is packed.
#[derive(Clone, Copy, Debug)]
pub enum Source<'s> {
    /// What has this name in a directory; a link is packed as a link.
    Named(BorrowedFd<'s>, &'s OsStr),
    /// An open file or directory.
    Open(BorrowedFd<'s>),
}

/// Whom files belong to in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whom they belong to.
    Kept,
    /// This user and this group; bits that let others act as who it was before are dropped.
    Is(u32, u32),
}

/// Packs `source` under the name `name`, and ends the archive. With an empty name, a directory's
/// content stands at the top.
///
/// # Errors
///
/// [`Error`]; the archive has no end then. Devices, sockets and pipes are refused.
pub fn pack(source: Source<'_>, name: &OsStr, owner: Owner, out: impl Write) -> Result<(), Error> {
    let mut builder = Builder::new(out);
    builder.sparse(false);
    let mut packing = Packing { builder, owner, linked: BTreeMap::new() };
    let path = Path::new(name);
    match source {
        Source::Named(directory, file) => packing.named(directory, file, path, 0)?,
        Source::Open(file) => {
            let about = fstat(file).map_err(|error| Error::file(path, error))?;
            let own = file.try_clone_to_owned().map_err(|error| Error::file(path, error))?;
            packing.opened(own, &about, path, 0)?;
        }
    }
    let mut out = packing.builder.into_inner().map_err(Error::Output)?;
    out.flush().map_err(Error::Output)
}

struct Packing<W: Write> {
    builder: Builder<W>,
    owner: Owner,
    /// Files with several names, by device and number, and the name they were packed under.
    linked: BTreeMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packing<W> {
    fn named(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        depth: usize,
    ) -> Result<(), Error> {
        let failed = |error| Error::file(path, error);
        let about = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let kind = FileType::from_raw_mode(about.st_mode);
        let flags = match kind {
            FileType::Symlink => {
                let target = readlinkat(directory, name, Vec::new()).map_err(failed)?;
                return self.link(&about, path, EntryType::Symlink, target.as_c_str());
            }
            FileType::Directory => OFlags::DIRECTORY,
            FileType::RegularFile => OFlags::NONBLOCK,
            _ => return Err(Error::refused(path, "which is a device, a socket or a pipe")),
        };
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(directory, name, flags, Mode::empty()).map_err(failed)?;
        // Another one may bear the name by now.
        let about = fstat(&file).map_err(failed)?;
        self.opened(file, &about, path, depth)
    }

    fn opened(
        &mut self,
        file: OwnedFd,
        about: &Stat,
        path: &Path,
        depth: usize,
    ) -> Result<(), Error> {
        match FileType::from_raw_mode(about.st_mode) {
            FileType::Directory => self.directory(&file, about, path, depth),
            FileType::RegularFile => self.file(file, about, path),
            _ => Err(Error::refused(path, "which is a device, a socket or a pipe")),
        }
    }

    fn directory(
        &mut self,
        directory: &OwnedFd,
        about: &Stat,
        path: &Path,
        depth: usize,
    ) -> Result<(), Error> {
        if depth >= MAX_DEPTH {
            return Err(Error::refused(path, "which lies too deep"));
        }
        if !path.as_os_str().is_empty() {
            let mut header = self.header(about, EntryType::Directory, 0);
            self.builder.append_data(&mut header, path, io::empty()).map_err(Error::Output)?;
        }
        let failed = |error| Error::file(path, error);
        // Read through a descriptor of its own, so that its place in the list is its own, too.
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        names.sort_unstable();
        for name in names {
            let name = OsStr::from_bytes(name.to_bytes());
            self.named(directory.as_fd(), name, &path.join(name), depth + 1)?;
        }
        Ok(())
    }

    fn file(&mut self, file: OwnedFd, about: &Stat, path: &Path) -> Result<(), Error> {
        if about.st_nlink > 1 {
            let identity = (about.st_dev, about.st_ino);
            if let Some(first) = self.linked.get(&identity) {
                let mut header = self.header(about, EntryType::Link, 0);
                let first = first.clone();
                return self.builder.append_link(&mut header, path, first).map_err(Error::Output);
            }
            if self.linked.len() < MAX_LINKED {
                self.linked.insert(identity, path.to_owned());
            }
        }
        let size = u64::try_from(about.st_size).unwrap_or(0);
        let mut header = self.header(about, EntryType::Regular, size);
        let mut content = Exactly { file: File::from(file), left: size, trouble: None };
        let appended = self.builder.append_data(&mut header, path, &mut content);
        match content.trouble {
            Some(error) => Err(Error::file(path, error)),
            None => appended.map_err(Error::Output),
        }
    }

    fn link(
        &mut self,
        about: &Stat,
        path: &Path,
        kind: EntryType,
        target: &CStr,
    ) -> Result<(), Error> {
        let mut header = self.header(about, kind, 0);
        // As it stands, where it fits: the other way makes it anew of its components.
        if header.set_link_name_literal(target.to_bytes()).is_ok() {
            return self.builder.append_data(&mut header, path, io::empty()).map_err(Error::Output);
        }
        let target = OsStr::from_bytes(target.to_bytes());
        self.builder.append_link(&mut header, path, target).map_err(Error::Output)
    }

    fn header(&self, about: &Stat, kind: EntryType, size: u64) -> Header {
        let (uid, gid) = match self.owner {
            Owner::Kept => (about.st_uid, about.st_gid),
            Owner::Is(uid, gid) => (uid, gid),
        };
        // What a file grants is granted by its owner; a new one has granted nothing.
        let foreign = |bit, is_foreign| if is_foreign { bit } else { 0 };
        let lost = foreign(0o4000, uid != about.st_uid) | foreign(0o2000, gid != about.st_gid);
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(about.st_mode & 0o7777 & !lost);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mtime(u64::try_from(about.st_mtime).unwrap_or(0));
        header.set_size(size);
        header
    }
}

/// Reads exactly as much of a file as was promised, whatever becomes of it.
struct Exactly {
    file: File,
    left: u64,
    /// What kept it from being read: to the archive's writer it looks like the writer's trouble.
    trouble: Option<io::Error>,
}

impl Read for Exactly {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let room = &mut bytes[..most];
        if room.is_empty() {
            return Ok(0);
        }
        let count = match self.file.read(room) {
            Ok(0) => {
                room.fill(0);
                room.len()
            }
            Ok(count) => count,
            Err(error) => {
                let kind = error.kind();
                if kind != io::ErrorKind::Interrupted {
                    self.trouble = Some(error);
                }
                return Err(kind.into());
            }
        };
        self.left -= count as u64;
        Ok(count)
    }
}
