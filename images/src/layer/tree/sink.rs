//! Entry by entry into the tree.
//!
//! The order for each new inode: made exclusively, written, owner, mode (a change of owner clears
//! set-id bits), extended attributes (a change of owner clears capabilities), times. A file is made
//! with the permissions it is to have; what it turns out to have is looked at, for a directory, an
//! access list or an option of the mount may have meant otherwise, and only what differs is changed:
//! a look is cheap, and each change goes through a journal.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, fstat, ftruncate,
    mknodat, openat, symlinkat, utimensat,
};
use rustix::io::{Errno, pwrite};

use super::directories::{Directories, set_times, set_xattrs, timestamps};
use super::inode::{entry_fault, look};
use super::remove::remove;
use super::root::Root;
use crate::layer::entry::{Attributes, Entry, Kind, Sink};
use crate::layer::fault::Fault;
use crate::layer::whiteout::split;
use crate::room::Room;

/// A hard link and its target.
pub(super) type LowerLink = (Vec<u8>, Vec<u8>);

/// Bytes that the names of left out devices may take together; a full `/dev` has some thousands.
const MAX_DEVICES: usize = 4 << 20;

/// What a tree turned out to be. Opaque directories are named, not marked: that takes
/// `CAP_SYS_ADMIN`, which nothing that reads archives has.
#[derive(Debug, Default)]
pub(in crate::layer) struct TreeFacts {
    /// Bytes of content written.
    pub(in crate::layer) bytes: u64,
    /// Device nodes left out.
    pub(in crate::layer) skipped_devices: u64,
    /// Directories made without an entry of their own.
    pub(in crate::layer) implicit_dirs: Vec<Vec<u8>>,
    /// Directories that have yet to be marked opaque.
    pub(in crate::layer) opaque_dirs: Vec<Vec<u8>>,
    /// Hard links, with their targets in lower layers.
    pub(in crate::layer) lower_links: Vec<LowerLink>,
}

/// Writes a tree into an empty directory.
#[derive(Debug)]
pub(in crate::layer) struct TreeSink {
    pub(super) root: Root,
    room: Room,
    pub(super) directories: Directories,
    file: Option<OpenFile>,
    bytes: u64,
    skipped_devices: u64,
    /// Whether any whiteout was made.
    pub(super) whiteouts: bool,
    pub(super) devices: HashSet<Vec<u8>>,
    devices_bytes: usize,
    pub(super) lower_links: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) lower_links_bytes: usize,
}

/// The regular file that content goes to.
#[derive(Debug)]
struct OpenFile {
    file: OwnedFd,
    path: Vec<u8>,
    attributes: Attributes,
    position: u64,
    /// Whether the file ends in a hole that has not been made yet.
    short: bool,
}

impl TreeSink {
    /// Makes a sink for the empty directory `root`, in which `reserve` bytes shall stay free.
    ///
    /// # Errors
    ///
    /// [`Fault::Storage`].
    pub(in crate::layer) fn new(root: Root, reserve: u64) -> Result<Self, Fault> {
        let mut sink = Self {
            root,
            room: Room::new(reserve),
            directories: Directories::default(),
            file: None,
            bytes: 0,
            skipped_devices: 0,
            whiteouts: false,
            devices: HashSet::new(),
            devices_bytes: 0,
            lower_links: BTreeMap::new(),
            lower_links_bytes: 0,
        };
        sink.room.look(&sink.root).map_err(Fault::full)?;
        let root = fstat(&sink.root).map_err(Fault::storage(b"", "fstat"))?.st_ino;
        sink.directories.made(root, root, b"")?;
        sink.root_entry(Attributes { mode: 0o755, ..Attributes::default() })?;
        Ok(sink)
    }

    fn root_entry(&mut self, attributes: Attributes) -> Result<(), Fault> {
        let root = self.root.directory(b"").map_err(Fault::storage(b"", "openat2"))?;
        self.own_directory(&root, b"", attributes)
    }

    /// Gives an open directory its owner and mode, and notes the rest for the end.
    pub(super) fn own_directory(
        &mut self,
        directory: &OwnedFd,
        path: &[u8],
        attributes: Attributes,
    ) -> Result<(), Fault> {
        let stat = fstat(directory).map_err(Fault::storage(path, "fstat"))?;
        own(directory, &stat, path, &attributes)?;
        self.directories.described(stat.st_ino, path, attributes)
    }

    /// Forgets what was noted of an entry at `path`, because another takes its place.
    pub(super) fn forget(&mut self, path: &[u8]) {
        if !self.devices.is_empty() {
            self.devices.remove(path);
        }
        if !self.lower_links.is_empty() {
            self.lower_links.remove(path);
        }
    }

    fn directory(&mut self, entry: Entry) -> Result<(), Fault> {
        let Entry { path, attributes, .. } = entry;
        if path.is_empty() {
            return self.root_entry(attributes);
        }
        let (above, name) = split(&path);
        let parent = self.parent(above)?;
        let existing = look(&parent, name).map_err(Fault::storage(&path, "fstatat"))?;
        match existing {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = openat(&parent, name, flags, Mode::empty())
                    .map_err(Fault::storage(&path, "openat"))?;
                self.own_directory(&directory, &path, attributes)
            }
            existing => self
                .new_directory(&parent, name, &path, existing.as_ref(), Some(attributes))
                .map(drop),
        }
    }

    /// Makes something that is no directory by `make`, in place of whatever is there.
    fn place<T>(
        &mut self,
        path: &[u8],
        call: &'static str,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<(OwnedFd, T), Fault> {
        let (above, name) = split(path);
        let parent = self.parent(above)?;
        self.forget(path);
        let made = match make(&parent, name) {
            Err(Errno::EXIST) => {
                remove(&self.root, &parent, name).map_err(Fault::storage(path, "unlinkat"))?;
                make(&parent, name)
            }
            result => result,
        };
        Ok((parent, made.map_err(Fault::storage(path, call))?))
    }

    fn open_file(&mut self, entry: Entry) -> Result<(), Fault> {
        let Entry { path, attributes, .. } = entry;
        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
        let (_, file) = self.place(&path, "openat", |parent, name| {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(parent, name, flags, mode)
        })?;
        self.file = Some(OpenFile { file, path, attributes, position: 0, short: false });
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, target: &[u8]) -> Result<(), Fault> {
        let (parent, ()) =
            self.place(&entry.path, "symlinkat", |parent, name| symlinkat(target, parent, name))?;
        own_by_name(&parent, entry)
    }

    fn fifo(&mut self, entry: &Entry) -> Result<(), Fault> {
        let mode = Mode::from_raw_mode(entry.attributes.mode);
        let (parent, ()) = self.place(&entry.path, "mknodat", |parent, name| {
            mknodat(parent, name, FileType::Fifo, mode, 0)
        })?;
        own_by_name(&parent, entry)
    }

    /// Leaves out a device node; the runtime supplies `/dev`.
    pub(super) fn device(&mut self, path: Vec<u8>) -> Result<(), Fault> {
        if path.is_empty() {
            return Err(entry_fault(&path, "is the root, but no directory"));
        }
        self.clear(&path)?;
        self.skipped_devices += 1;
        self.devices_bytes += path.len();
        if self.devices_bytes > MAX_DEVICES {
            let limit = MAX_DEVICES as u64;
            return Err(Fault::Limit { what: "bytes of names of devices", limit });
        }
        self.devices.insert(path);
        Ok(())
    }

    /// Removes whatever this layer has at `path`.
    pub(super) fn clear(&mut self, path: &[u8]) -> Result<(), Fault> {
        let (above, name) = split(path);
        self.forget(path);
        let parent = match self.root.pass(above) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            result => result.map_err(Fault::storage(path, "openat2"))?,
        };
        match remove(&self.root, &parent, name) {
            Err(Errno::NOENT) => Ok(()),
            result => result.map_err(Fault::storage(path, "unlinkat")),
        }
    }
}

impl Sink for TreeSink {
    type Facts = TreeFacts;

    fn begin(&mut self, entry: Entry) -> Result<(), Fault> {
        self.room.spend(&self.root, 1, 0).map_err(Fault::full)?;
        if entry.path.is_empty() && !matches!(entry.kind, Kind::Directory | Kind::Opaque) {
            return Err(entry_fault(&entry.path, "is the root, but no directory"));
        }
        match &entry.kind {
            Kind::Directory => self.directory(entry),
            Kind::File { .. } => self.open_file(entry),
            Kind::Symlink(target) => self.symlink(&entry, target),
            Kind::HardLink(target) => self.hard_link(&entry.path, target),
            Kind::Fifo => self.fifo(&entry),
            Kind::Device => self.device(entry.path),
            Kind::Whiteout => self.whiteout(&entry.path),
            Kind::Opaque => self.opaque(&entry.path),
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Some(open) = &mut self.file else { return Ok(()) };
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = match pwrite(&open.file, rest, open.position) {
                Ok(0) => Err(Errno::IO),
                Err(Errno::INTR) => Ok(0),
                result => result,
            };
            let length = length.map_err(Fault::storage(&open.path, "pwrite"))?;
            rest = &rest[length..];
            open.position += length as u64;
        }
        open.short &= bytes.is_empty();
        self.bytes += bytes.len() as u64;
        self.room.spend(&self.root, 0, bytes.len() as u64).map_err(Fault::full)
    }

    fn hole(&mut self, length: u64) -> Result<(), Fault> {
        if let Some(open) = &mut self.file {
            open.position = open.position.saturating_add(length);
            open.short |= length > 0;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(open) = self.file.take() else { return Ok(()) };
        let OpenFile { file, path, attributes, position, short } = open;
        if short {
            ftruncate(&file, position).map_err(Fault::storage(&path, "ftruncate"))?;
        }
        let stat = fstat(&file).map_err(Fault::storage(&path, "fstat"))?;
        own(&file, &stat, &path, &attributes)?;
        set_xattrs(&file, &path, &attributes.xattrs)?;
        set_times(&file, &path, attributes.modified)
    }

    fn finish(self) -> Result<TreeFacts, Fault> {
        let lower_links = self.settle_lower_links()?;
        let directories = self.directories.finish(&self.root)?;
        Ok(TreeFacts {
            bytes: self.bytes,
            skipped_devices: self.skipped_devices,
            implicit_dirs: directories.implicit,
            opaque_dirs: directories.opaque,
            lower_links,
        })
    }
}

fn ids(attributes: &Attributes) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))
}

/// Gives an open inode, which is as `stat` says, the owner and mode it is to have.
fn own(inode: &OwnedFd, stat: &Stat, path: &[u8], attributes: &Attributes) -> Result<(), Fault> {
    if (stat.st_uid, stat.st_gid) != (attributes.uid, attributes.gid) {
        let (owner, group) = ids(attributes);
        fchown(inode, owner, group).map_err(Fault::storage(path, "fchown"))?;
    }
    // The old bits hold only without set-id bits, which a new owner does not keep.
    let old = stat.st_mode & 0o7777;
    if old == attributes.mode && old & 0o6000 == 0 {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(attributes.mode);
    fchmod(inode, mode).map_err(Fault::storage(path, "fchmod"))
}

/// Gives owner and times to what cannot be opened: links and pipes.
fn own_by_name(parent: &OwnedFd, entry: &Entry) -> Result<(), Fault> {
    let (_, name) = split(&entry.path);
    let (owner, group) = ids(&entry.attributes);
    chownat(parent, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Fault::storage(&entry.path, "fchownat"))?;
    let times = timestamps(entry.attributes.modified);
    utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Fault::storage(&entry.path, "utimensat"))
}
