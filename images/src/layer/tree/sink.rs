//! Entry by entry into the tree.
//!
//! The order for each new inode: made exclusively, written, owner, mode (a change of owner clears
//! set-id bits), extended attributes (a change of owner clears capabilities), times.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, fstat, ftruncate,
    linkat, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::{Errno, pwrite};

use super::budget::Budget;
use super::directories::{Directories, set_times, set_xattrs, timestamps};
use super::remove::{is_whiteout, remove, remove_whiteouts};
use super::root::Root;
use crate::layer::entry::{Attributes, Entry, Kind, Moment, Sink};
use crate::layer::fault::{Fault, Shown};
use crate::layer::whiteout::split;

/// The most symbolic links followed for one path, as in the kernel.
const MAX_LINKS: usize = 40;

/// Bytes that hard links into lower layers may take together.
const MAX_LOWER_LINKS: usize = 1 << 20;

/// A hard link and its target.
type LowerLink = (Vec<u8>, Vec<u8>);

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
    root: Root,
    budget: Budget,
    directories: Directories,
    file: Option<OpenFile>,
    bytes: u64,
    skipped_devices: u64,
    /// Whether any whiteout was made.
    whiteouts: bool,
    devices: HashSet<Vec<u8>>,
    devices_bytes: usize,
    lower_links: BTreeMap<Vec<u8>, Vec<u8>>,
    lower_links_bytes: usize,
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
            budget: Budget::new(reserve),
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
        sink.budget.look(&sink.root)?;
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
    fn own_directory(
        &mut self,
        directory: &OwnedFd,
        path: &[u8],
        attributes: Attributes,
    ) -> Result<(), Fault> {
        let stat = fstat(directory).map_err(Fault::storage(path, "fstat"))?;
        let (owner, group) = ids(&attributes);
        fchown(directory, owner, group).map_err(Fault::storage(path, "fchown"))?;
        fchmod(directory, Mode::from_raw_mode(attributes.mode))
            .map_err(Fault::storage(path, "fchmod"))?;
        self.directories.described(stat.st_ino, path, attributes)
    }

    /// Opens the directory `path`, following links beneath the root; makes what is missing.
    fn parent(&mut self, path: &[u8]) -> Result<OwnedFd, Fault> {
        match self.root.pass(path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.make_parents(path),
            result => result.map_err(Fault::storage(path, "openat2")),
        }
    }

    /// Walks to `path` component by component, following links by hand, so that directories are
    /// made where a dangling link points; replaces what is no directory.
    fn make_parents(&mut self, path: &[u8]) -> Result<OwnedFd, Fault> {
        let shown = path;
        let mut walk = Walk::new(path);
        let mut directory = self.root.pass(b"").map_err(Fault::storage(shown, "openat2"))?;
        while let Some(step) = walk.next() {
            let Some(name) = step else {
                directory = self.root.pass(&walk.path).map_err(Fault::storage(shown, "openat2"))?;
                continue;
            };
            let kind = match look(&directory, &name).map_err(Fault::storage(shown, "fstatat"))? {
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    let target = readlinkat(&directory, name.as_slice(), Vec::new())
                        .map_err(Fault::storage(shown, "readlinkat"))?;
                    walk.follow(target.as_bytes()).map_err(|what| entry_fault(shown, what))?;
                    directory =
                        self.root.pass(&walk.path).map_err(Fault::storage(shown, "openat2"))?;
                    continue;
                }
                other => other,
            };
            walk.enter(&name).map_err(|what| entry_fault(shown, what))?;
            directory = match kind {
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    let flags =
                        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    openat(&directory, name.as_slice(), flags, Mode::empty())
                        .map_err(Fault::storage(shown, "openat"))?
                }
                existing => {
                    self.new_directory(&directory, &name, &walk.path, existing.as_ref(), None)?
                }
            };
        }
        Ok(directory)
    }

    /// Makes a directory where there is none, in place of `existing`.
    fn new_directory(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        existing: Option<&Stat>,
        attributes: Option<Attributes>,
    ) -> Result<OwnedFd, Fault> {
        if existing.is_some() {
            remove(&self.root, parent, name).map_err(Fault::storage(path, "unlinkat"))?;
        }
        self.forget(path);
        mkdirat(parent, name, Mode::RWXU).map_err(Fault::storage(path, "mkdirat"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            openat(parent, name, flags, Mode::empty()).map_err(Fault::storage(path, "openat"))?;
        let inode = fstat(&directory).map_err(Fault::storage(path, "fstat"))?.st_ino;
        let above = fstat(parent).map_err(Fault::storage(path, "fstat"))?.st_ino;
        self.directories.made(inode, above, path)?;
        match attributes {
            Some(attributes) => self.own_directory(&directory, path, attributes)?,
            None => {
                let mode = Mode::from_raw_mode(0o755);
                fchmod(&directory, mode).map_err(Fault::storage(path, "fchmod"))?;
            }
        }
        // Lower layers have something here that a whiteout of this layer hid.
        if existing.is_some_and(is_whiteout) {
            self.directories.make_opaque(inode);
        }
        Ok(directory)
    }

    /// Forgets what was noted of an entry at `path`, because another takes its place.
    fn forget(&mut self, path: &[u8]) {
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
        let (_, file) = self.place(&path, "openat", |parent, name| {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
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
    fn device(&mut self, path: Vec<u8>) -> Result<(), Fault> {
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
    fn clear(&mut self, path: &[u8]) -> Result<(), Fault> {
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

    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Fault> {
        let (above, target_name) = split(target);
        let found = match self.root.pass(above) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            result => {
                let holder = result.map_err(Fault::storage(target, "openat2"))?;
                let stat = look(&holder, target_name).map_err(Fault::storage(target, "fstatat"))?;
                stat.filter(|stat| !is_whiteout(stat)).map(|stat| (holder, stat))
            }
        };
        let Some((holder, stat)) = found else { return self.missing_link(path, target) };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(entry_fault(path, "is a hard link to a directory"));
        }
        let (above, name) = split(path);
        let parent = self.parent(above)?;
        let existing = look(&parent, name).map_err(Fault::storage(path, "fstatat"))?;
        if let Some(existing) = existing {
            if (existing.st_dev, existing.st_ino) == (stat.st_dev, stat.st_ino) {
                return Ok(());
            }
            remove(&self.root, &parent, name).map_err(Fault::storage(path, "unlinkat"))?;
        }
        self.forget(path);
        match linkat(&holder, target_name, &parent, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Err(entry_fault(path, "is a hard link to what it replaces")),
            result => result.map_err(Fault::storage(path, "linkat")),
        }
    }

    /// Notes a link whose target this layer does not have.
    fn missing_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Fault> {
        if self.devices.contains(target) {
            return self.device(path.to_vec());
        }
        if path == target {
            return Err(entry_fault(path, "is a hard link to itself"));
        }
        let target = self.lower_links.get(target).cloned().unwrap_or_else(|| target.to_vec());
        // The link needs its parents; so does everything else that may come to them.
        self.parent(split(path).0)?;
        self.clear(path)?;
        self.lower_links_bytes += path.len() + target.len();
        if self.lower_links_bytes > MAX_LOWER_LINKS {
            let limit = MAX_LOWER_LINKS as u64;
            return Err(Fault::Limit { what: "bytes of hard links to lower layers", limit });
        }
        self.lower_links.insert(path.to_vec(), target);
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), Fault> {
        let (above, name) = split(path);
        if self.lower_links.contains_key(path) || self.hides_everything(above)? {
            return Ok(());
        }
        let parent = self.parent(above)?;
        match mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                self.whiteouts = true;
                let epoch = timestamps(Moment::default());
                utimensat(&parent, name, &epoch, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(Fault::storage(path, "utimensat"))
            }
            // It hides what lower layers have; what this layer has stays, and if that is a
            // directory, the two do not merge.
            Err(Errno::EXIST) => match self.root.directory(path) {
                Ok(directory) => self.make_opaque(&directory, path),
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Ok(()),
                Err(errno) => Err(Fault::storage(path, "openat2")(errno)),
            },
            Err(errno) => Err(Fault::storage(path, "mknodat")(errno)),
        }
    }

    /// Tells whether the directory `path` or one above it is opaque already.
    fn hides_everything(&self, path: &[u8]) -> Result<bool, Fault> {
        if !self.directories.any_opaque() {
            return Ok(false);
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in std::iter::once(0).chain(ends).chain([path.len()]) {
            let directory = match self.root.pass(&path[..end]) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
                result => result.map_err(Fault::storage(path, "openat2"))?,
            };
            let stat = fstat(&directory).map_err(Fault::storage(path, "fstat"))?;
            if self.directories.is_opaque(stat.st_ino) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), Fault> {
        let directory = self.parent(path)?;
        self.make_opaque(&directory, path)
    }

    fn make_opaque(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<(), Fault> {
        let stat = fstat(directory).map_err(Fault::storage(path, "fstat"))?;
        // Beneath an opaque directory no whiteouts are made.
        let clean = !self.whiteouts || self.hides_everything(path)?;
        self.directories.make_opaque(stat.st_ino);
        if !clean {
            remove_whiteouts(&self.root, path).map_err(Fault::storage(path, "unlinkat"))?;
        }
        Ok(())
    }

    /// Returns the links whose targets lower layers must have. One whose target came later in
    /// this layer is an error: no two unpackers agree on it.
    fn settle_lower_links(&self) -> Result<Vec<LowerLink>, Fault> {
        let mut settled = Vec::new();
        for (path, target) in &self.lower_links {
            if self.has(target)? {
                return Err(entry_fault(path, "is a hard link that stands before its target"));
            }
            // Something took its place by another name for it.
            if !self.has(path)? {
                settled.push((path.clone(), target.clone()));
            }
        }
        Ok(settled)
    }

    fn has(&self, path: &[u8]) -> Result<bool, Fault> {
        let (above, name) = split(path);
        match self.root.pass(above) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            result => {
                let parent = result.map_err(Fault::storage(path, "openat2"))?;
                let stat = look(&parent, name).map_err(Fault::storage(path, "fstatat"))?;
                Ok(stat.is_some_and(|stat| !is_whiteout(&stat)))
            }
        }
    }
}

impl Sink for TreeSink {
    type Facts = TreeFacts;

    fn begin(&mut self, entry: Entry) -> Result<(), Fault> {
        self.budget.spend(&self.root, 1, 0)?;
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
        self.budget.spend(&self.root, 0, bytes.len() as u64)
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
        let (owner, group) = ids(&attributes);
        fchown(&file, owner, group).map_err(Fault::storage(&path, "fchown"))?;
        fchmod(&file, Mode::from_raw_mode(attributes.mode))
            .map_err(Fault::storage(&path, "fchmod"))?;
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

fn entry_fault(path: &[u8], what: &'static str) -> Fault {
    Fault::Entry { entry: Shown::of(path), what }
}

/// Looks at `name` in `parent` without following it.
fn look(parent: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
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

/// A walk from the root that follows links by hand.
struct Walk {
    /// Where it is: directories only, no links.
    path: Vec<u8>,
    /// What is still ahead, nearest last.
    ahead: Vec<Vec<u8>>,
    links: usize,
}

impl Walk {
    fn new(path: &[u8]) -> Self {
        let mut walk = Self { path: Vec::new(), ahead: Vec::new(), links: 0 };
        walk.push(path);
        walk
    }

    fn push(&mut self, path: &[u8]) {
        let components = path.split(|byte| *byte == b'/');
        let real = components.filter(|component| !matches!(*component, b"" | b"."));
        self.ahead.extend(real.rev().map(<[u8]>::to_vec));
    }

    /// Returns the next component, or `Some(None)` when the walk has gone up instead.
    #[expect(clippy::option_option, reason = "the end, a step up and a step down are three things")]
    fn next(&mut self) -> Option<Option<Vec<u8>>> {
        let name = self.ahead.pop()?;
        if name != b".." {
            return Some(Some(name));
        }
        let end = self.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.path.truncate(end);
        Some(None)
    }

    /// Goes down into a directory. Paths too long to be opened again are refused.
    fn enter(&mut self, name: &[u8]) -> Result<(), &'static str> {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        if self.path.len() > 4095 { Err("leads deeper than a path can name") } else { Ok(()) }
    }

    /// Goes where a link points.
    fn follow(&mut self, target: &[u8]) -> Result<(), &'static str> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err("leads through too many symbolic links");
        }
        if target.starts_with(b"/") {
            self.path.clear();
        }
        self.push(target);
        Ok(())
    }
}
