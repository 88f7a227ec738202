//! From the upper directory of an overlay to a layer: what an app has changed, as one archive.
//!
//! The counterpart of unpacking: what is written here unpacks to the same directory. The same tree
//! gives the same bytes - names in order, no time of the packing, nothing of the file system it lay
//! on. The app may still run and change what is being read; so everything is opened beneath one
//! descriptor, through no link, and a file that has become another thing is an error, never a guess.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

/// The longest list of names, or value, of extended attributes the kernel gives (`xattr(7)`).
const MAX_XATTR: usize = 1 << 16;
/// What begins the name of an entry that takes something of a lower layer away, and what hides all
/// of a lower directory (image-spec `layer.md`, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// How the two forms of overlayfs mark what they do not show (`Documentation/filesystems/overlayfs`).
const MARKS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Why a tree cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    #[error("cannot read `{0}`")]
    Read(String, #[source] io::Error),
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    #[error("`{0}` has changed while it was read")]
    Changed(String),
    #[error("`{0}` begins with `.wh.`, which in a layer means that something is gone")]
    Name(String),
    #[error("`{0}` was moved in a way that only overlayfs knows (`{1}`), which no layer can say")]
    Mark(String, String),
}

/// Writes what is in the directory `upper` to `to`, as a layer.
///
/// Sockets are left out: nobody listens to one that was unpacked.
///
/// # Errors
///
/// [`PackError`]; what has been written is no archive then.
pub(crate) fn pack(upper: BorrowedFd<'_>, to: &mut dyn Write) -> Result<(), PackError> {
    let mut packing = Packing { upper, archive: Builder::new(to), links: HashMap::new() };
    // Last in, first out: what comes first by name is put down last.
    let mut left = vec![Vec::new()];
    while let Some(path) = left.pop() {
        left.extend(packing.entry(&path)?.into_iter().rev());
    }
    packing.archive.into_inner().and_then(Write::flush).map_err(PackError::Write)
}

/// A record of pax: its key and its value.
type Record = (String, Vec<u8>);

struct Packing<'p> {
    upper: BorrowedFd<'p>,
    archive: Builder<&'p mut dyn Write>,
    /// The first path of a file with several names, by device and number.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Packing<'_> {
    /// Writes one entry, and returns the paths of what is in it. The root's path is empty.
    fn entry(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>, PackError> {
        let (parent, name) = split(path);
        let unread = |error: Errno| PackError::Read(shown(path), error.into());
        let above = open(self.upper, parent, OFlags::DIRECTORY).map_err(unread)?;
        let named = CString::new(if name.is_empty() { b"." } else { name });
        let named = named.map_err(|_| unread(Errno::INVAL))?;
        let stat = rustix::fs::statat(&above, &named, AtFlags::SYMLINK_NOFOLLOW).map_err(unread)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            self.marker(parent, &[WHITEOUT, name].concat(), &stat)?;
            return Ok(Vec::new());
        }
        if name.starts_with(WHITEOUT) {
            return Err(PackError::Name(shown(path)));
        }
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let number = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&number) {
                let first = first.clone();
                let header = header(&stat, EntryType::Link, 0);
                self.append(path, header, Some(&first), &[], &mut io::empty())?;
                return Ok(Vec::new());
            }
            self.links.insert(number, path.to_vec());
        }
        match kind {
            FileType::Directory => return self.directory(path, &stat),
            FileType::RegularFile => self.file(path, (&above, &named))?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&above, &named, Vec::new()).map_err(unread)?;
                let header = header(&stat, EntryType::Symlink, 0);
                self.append(path, header, Some(target.to_bytes()), &[], &mut io::empty())?;
            }
            FileType::Fifo => self.bare(path, &stat, EntryType::Fifo)?,
            FileType::CharacterDevice => self.bare(path, &stat, EntryType::Char)?,
            FileType::BlockDevice => self.bare(path, &stat, EntryType::Block)?,
            FileType::Socket | FileType::Unknown => {}
        }
        Ok(Vec::new())
    }

    /// Writes an entry that is all header.
    fn bare(&mut self, path: &[u8], stat: &Stat, kind: EntryType) -> Result<(), PackError> {
        self.append(path, header(stat, kind, 0), None, &[], &mut io::empty())
    }

    fn file(&mut self, path: &[u8], (above, name): (&OwnedFd, &CStr)) -> Result<(), PackError> {
        let unread = |error: io::Error| PackError::Read(shown(path), error);
        // What has become a pipe would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(above, name, flags, Mode::empty());
        let file = file.map_err(|error| unread(error.into()))?;
        let stat = rustix::fs::fstat(&file).map_err(|error| unread(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(PackError::Changed(shown(path)));
        }
        let (xattrs, _) = attributes(file.as_fd(), path)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut content = Exactly { file: File::from(file).take(size), left: size };
        let header = header(&stat, EntryType::Regular, size);
        match self.append(path, header, None, &xattrs, &mut content) {
            Err(PackError::Write(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(PackError::Changed(shown(path)))
            }
            written => written,
        }
    }

    /// Writes a directory, and returns the paths of what is in it, in order.
    fn directory(&mut self, path: &[u8], stat: &Stat) -> Result<Vec<Vec<u8>>, PackError> {
        let unread = |error: Errno| PackError::Read(shown(path), error.into());
        let directory = open(self.upper, path, OFlags::DIRECTORY).map_err(unread)?;
        let (xattrs, opaque) = attributes(directory.as_fd(), path)?;
        let header = header(stat, EntryType::Directory, 0);
        let named = if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() };
        self.append(&named, header, None, &xattrs, &mut io::empty())?;
        if opaque {
            self.marker(path, OPAQUE, stat)?;
        }
        let mut inner = Vec::new();
        for entry in Dir::read_from(&directory).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                inner.push(join(path, name));
            }
        }
        inner.sort_unstable();
        Ok(inner)
    }

    /// Writes an empty file that stands for what is gone.
    fn marker(&mut self, parent: &[u8], name: &[u8], stat: &Stat) -> Result<(), PackError> {
        let mut header = header(stat, EntryType::Regular, 0);
        header.set_mode(0o600);
        self.append(&join(parent, name), header, None, &[], &mut io::empty())
    }

    /// Writes an entry; what its header has no room for stands before it (`pax(1)`).
    fn append(
        &mut self,
        path: &[u8],
        mut header: Header,
        target: Option<&[u8]>,
        xattrs: &[Record],
        content: &mut dyn Read,
    ) -> Result<(), PackError> {
        let mut extended: Vec<(&str, &[u8])> = Vec::new();
        let old = header.as_old_mut();
        if !fits(&mut old.name, path) {
            extended.push(("path", path));
        }
        if target.is_some_and(|target| !fits(&mut old.linkname, target)) {
            extended.extend(target.map(|target| ("linkpath", target)));
        }
        extended.extend(xattrs.iter().map(|(key, value)| (key.as_str(), value.as_slice())));
        header.set_cksum();
        let written = self.archive.append_pax_extensions(extended);
        written.and_then(|()| self.archive.append(&header, content)).map_err(PackError::Write)
    }
}

/// A file's content that must be as long as its header says.
struct Exactly {
    file: io::Take<File>,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        if length == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        Ok(length)
    }
}

/// Makes the header of an entry, but for its name.
fn header(stat: &Stat, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    // Whole seconds, which every reader knows; a time before 1970 has no digits in a header.
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    if matches!(kind, EntryType::Char | EntryType::Block) {
        // Both fields are there in this kind of header.
        let _ = header.set_device_major(rustix::fs::major(stat.st_rdev));
        let _ = header.set_device_minor(rustix::fs::minor(stat.st_rdev));
    }
    header
}

/// Puts bytes into a field of a header, if they fit whole; a path of the archive's root is `./`.
fn fits(field: &mut [u8], bytes: &[u8]) -> bool {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
    length == bytes.len()
}

/// Opens something beneath a descriptor, through no link.
fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"." } else { path };
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// Reads the attributes a layer may have, as records of pax, and whether the directory is opaque.
fn attributes(of: BorrowedFd<'_>, path: &[u8]) -> Result<(Vec<Record>, bool), PackError> {
    let unread = |error: Errno| PackError::Read(shown(path), error.into());
    let mut names = vec![0; MAX_XATTR];
    let length = match rustix::fs::flistxattr(of, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other.map_err(unread)?,
    };
    let (mut found, mut opaque) = (Vec::new(), false);
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let mark = MARKS.iter().find_map(|mark| name.to_bytes().strip_prefix(*mark));
        let mut value = vec![0; MAX_XATTR];
        let length = match rustix::fs::fgetxattr(of, name, &mut value[..]) {
            Err(Errno::NODATA) => continue, // gone since
            other => other.map_err(unread)?,
        };
        value.truncate(length);
        match mark {
            Some(b"opaque") => opaque = value == b"y",
            Some(b"redirect" | b"metacopy") => {
                let name = String::from_utf8_lossy(name.to_bytes()).into_owned();
                return Err(PackError::Mark(shown(path), name));
            }
            // What else overlayfs notes is for itself.
            Some(_) => {}
            None => {
                let Ok(name) = name.to_str() else { continue };
                found.push((format!("SCHILY.xattr.{name}"), value));
            }
        }
    }
    found.sort_unstable();
    Ok((found, opaque))
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], path.get(slash + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
