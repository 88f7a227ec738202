//! What there is in a tree: every inode once, every directory by name, no content.
//!
//! Directories are opened beneath the root by their path, without links, so that any depth takes
//! one descriptor; every directory of a layer has a path that fits, as our unpacker makes sure.
//! The order is the one everything else follows: directory for directory, nearest to the root
//! first, in each by the bytes of names. What is kept is some hundred bytes a name, each attributes
//! once, and of those no more than [`MOST_ATTRIBUTES`].

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::fault::Fault;
use super::format::{self, Attribute, PREFIXES, Time, device_number};

/// An inode.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Type and permissions.
    pub(super) mode: u16,
    pub(super) owner: u32,
    pub(super) group: u32,
    pub(super) time: Time,
    /// How many names it has in the tree; of a directory, as is usual, two and its directories.
    pub(super) links: u32,
    /// Its attributes, in [`Tree::attributes`].
    pub(super) attributes: usize,
}

/// What an inode is.
#[derive(Debug)]
pub(super) enum Kind {
    /// A directory, in [`Tree::directories`].
    Directory(usize),
    /// A file of this many bytes.
    File { size: u64 },
    /// A symbolic link to this.
    Link(Box<[u8]>),
    /// A device, a pipe, a socket, or a whiteout: a device of number 0.
    Special { device: u32 },
}

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Box<[u8]>,
    /// In [`Tree::nodes`].
    pub(super) node: usize,
    /// Whether it is the first name of its node, which is the one the node is read by.
    pub(super) first: bool,
}

/// A directory.
#[derive(Debug)]
pub(super) struct Directory {
    /// Its own node.
    node: usize,
    /// The directory above; the root's is itself.
    parent: usize,
    /// Its own name there; empty for the root.
    name: Box<[u8]>,
    /// Sorted by name, with `.` and `..`.
    pub(super) entries: Vec<Entry>,
}

/// A tree without its contents.
#[derive(Debug)]
pub(super) struct Tree {
    /// The root is the first. The others in the order of directories and first names in them.
    pub(super) nodes: Vec<Node>,
    /// The root is the first, and whatever is above another stands before it.
    pub(super) directories: Vec<Directory>,
    /// Attributes as bytes, each once; the first are none.
    pub(super) attributes: Vec<Rc<[u8]>>,
}

impl Tree {
    /// Lists everything beneath `root`.
    pub(super) fn scan(root: BorrowedFd<'_>) -> Result<Self, Fault> {
        let mut scan = Scan::default();
        scan.attributes(Vec::new(), b"")?;
        let dir = open_dir(root, b"")?;
        let stat = rustix::fs::fstat(&dir).map_err(Fault::reading("look at", b""))?;
        scan.add(&dir, c".", &stat, (0, b""))?;
        let mut next = 0;
        while next < scan.tree.directories.len() {
            scan.list(root, next)?;
            next += 1;
        }
        Ok(scan.tree)
    }

    /// Returns the path of a directory beneath the root; of the root it is empty.
    pub(super) fn path(&self, mut directory: usize) -> Vec<u8> {
        let mut names = Vec::new();
        while directory != 0 {
            let Directory { parent, name, .. } = &self.directories[directory];
            names.push(name);
            directory = *parent;
        }
        join(names.into_iter().rev().map(AsRef::as_ref))
    }

    /// Returns how many bytes of content a node has.
    pub(super) fn size(&self, node: &Node) -> u64 {
        match &node.kind {
            Kind::Directory(directory) => {
                super::dirents::size(&self.directories[*directory].entries)
            }
            Kind::File { size } => *size,
            Kind::Link(target) => target.len() as u64,
            Kind::Special { .. } => 0,
        }
    }
}

fn join<'n>(names: impl Iterator<Item = &'n [u8]>) -> Vec<u8> {
    let mut path = Vec::new();
    for name in names {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name);
    }
    path
}

/// Opens the directory `path` beneath `root`; the root itself if it is empty.
pub(super) fn open_dir(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Fault> {
    let at: &[u8] = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(root, at, flags, Mode::empty(), resolve)
        .map_err(Fault::reading("open", path))
}

/// What is kept while a tree is listed.
#[derive(Debug)]
struct Scan {
    tree: Tree,
    /// Nodes of several names that were met, by device and inode.
    linked: HashMap<(u64, u64), usize>,
    /// Where in the tree's list attributes are that were met.
    known: HashMap<Rc<[u8]>, usize>,
    /// What they take, in bytes.
    attribute_bytes: usize,
}

/// The most bytes that all attributes of a layer may take, each counted once. Layers of the field
/// have some hundred bytes; a hostile one has as many as its files on the disk, and they are kept in
/// memory.
const MOST_ATTRIBUTES: usize = 64 << 20;
/// What keeping attributes takes beside their bytes.
const KEEPING: usize = 64;

impl Default for Scan {
    fn default() -> Self {
        let tree = Tree { nodes: Vec::new(), directories: Vec::new(), attributes: Vec::new() };
        Self { tree, linked: HashMap::new(), known: HashMap::new(), attribute_bytes: 0 }
    }
}

impl Scan {
    /// Lists the directory of that number, adding nodes for what is in it.
    fn list(&mut self, root: BorrowedFd<'_>, number: usize) -> Result<(), Fault> {
        let path = self.tree.path(number);
        let dir = open_dir(root, &path)?;
        let mut names = names(&dir, &path)?;
        names.extend([c".".to_owned(), c"..".to_owned()]);
        names.sort_unstable();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let entry = self.entry(&dir, &name, (number, &path))?;
            entries.push(entry);
        }
        self.tree.directories[number].entries = entries;
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        name: &CStr,
        (above, path): (usize, &[u8]),
    ) -> Result<Entry, Fault> {
        let bytes = name.to_bytes();
        let known = |node| Ok(Entry { name: bytes.into(), node, first: false });
        let Directory { node: own, parent, .. } = self.tree.directories[above];
        match bytes {
            b"." => return known(own),
            b".." => return known(self.tree.directories[parent].node),
            _ => {}
        }
        let whole = join([path, bytes].into_iter().filter(|part| !part.is_empty()));
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Fault::reading("look at", &whole))?;
        let linked = (stat.st_dev, stat.st_ino);
        let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        if let Some(node) = self.linked.get(&linked) {
            let links = &mut self.tree.nodes[*node].links;
            *links = links.saturating_add(1);
            return known(*node);
        }
        let node = self.add(dir, name, &stat, (above, &whole))?;
        if stat.st_nlink > 1 && !is_dir {
            self.linked.insert(linked, node);
        }
        if is_dir {
            let links = &mut self.tree.nodes[own].links;
            *links = links.saturating_add(1);
        }
        Ok(Entry { name: bytes.into(), node, first: true })
    }

    /// Adds a node for the entry `name` of `dir`, which is at `path` beneath the root.
    fn add(
        &mut self,
        dir: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        (above, path): (usize, &[u8]),
    ) -> Result<usize, Fault> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let own = if path.is_empty() { b"" } else { name.to_bytes() };
                let (node, directories) = (self.tree.nodes.len(), &mut self.tree.directories);
                let entries = Vec::new();
                directories.push(Directory { node, parent: above, name: own.into(), entries });
                Kind::Directory(directories.len() - 1)
            }
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                Kind::File { size }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())
                    .map_err(Fault::reading("read link", path))?;
                Kind::Link(target.into_bytes().into())
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let (major, minor) =
                    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                if major >= 1 << 12 || minor >= 1 << 20 {
                    return Err(Fault::unfit(path, "is a device of a number no kernel has"));
                }
                Kind::Special { device: device_number(major, minor) }
            }
            FileType::Fifo | FileType::Socket => Kind::Special { device: 0 },
            FileType::Unknown => return Err(Fault::unfit(path, "is of an unknown type")),
        };
        let attributes = attributes_of(dir, name, path)?;
        let attributes =
            format::attributes(&attributes).ok_or_else(|| Fault::unfit(path, TOO_LONG))?;
        let attributes = self.attributes(attributes, path)?;
        self.tree.nodes.push(Node {
            links: if matches!(kind, Kind::Directory(_)) { 2 } else { 1 },
            kind,
            mode: u16::try_from(stat.st_mode & 0xffff).unwrap_or(0),
            owner: stat.st_uid,
            group: stat.st_gid,
            time: Time {
                seconds: stat.st_mtime,
                nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            attributes,
        });
        Ok(self.tree.nodes.len() - 1)
    }

    /// Returns where these attributes, of `path`, are in the tree's list.
    fn attributes(&mut self, bytes: Vec<u8>, path: &[u8]) -> Result<usize, Fault> {
        if let Some(known) = self.known.get(bytes.as_slice()) {
            return Ok(*known);
        }
        self.attribute_bytes += bytes.len() + KEEPING;
        if self.attribute_bytes > MOST_ATTRIBUTES {
            let what = "is one too many: all attributes together are longer than 64 MiB";
            return Err(Fault::unfit(path, what));
        }
        let (list, bytes) = (&mut self.tree.attributes, Rc::from(bytes));
        list.push(Rc::clone(&bytes));
        self.known.insert(bytes, list.len() - 1);
        Ok(list.len() - 1)
    }
}

/// Lists the names in a directory but `.` and `..`.
fn names(dir: &OwnedFd, path: &[u8]) -> Result<Vec<CString>, Fault> {
    let failed = || Fault::reading::<Errno>("list", path);
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// What is said of an inode with more attributes than [`format::MAX_ATTRIBUTES`] bytes.
const TOO_LONG: &str = "has longer attributes than an image can hold";

/// Returns the attributes of `name` in `dir` that belong to the layer, sorted. What a host's own
/// rules put on files (labels, hashes) or its file system (compression) is not the layer's.
fn attributes_of(dir: &OwnedFd, name: &CStr, path: &[u8]) -> Result<Vec<Attribute>, Fault> {
    // There is no call that takes a directory and a name before Linux 6.13; the last component is
    // not followed, and the one before is the descriptor.
    let at: PathBuf = Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(OsStr::from_bytes(name.to_bytes()));
    let (mut list, mut bytes) = (Vec::new(), 0);
    for name in attribute_names(&at).map_err(Fault::reading("list the attributes of", path))? {
        let Some((prefix, rest)) = belonging(name.to_bytes()) else { continue };
        let value = attribute(&at, &name).map_err(Fault::reading("read an attribute of", path))?;
        bytes += rest.len() + value.len();
        if bytes > format::MAX_ATTRIBUTES {
            return Err(Fault::unfit(path, TOO_LONG));
        }
        list.push(Attribute { prefix, name: rest.into(), value });
    }
    list.sort_unstable();
    Ok(list)
}

/// Tells which attributes are a layer's, as the number of their prefix and the rest of their name.
fn belonging(name: &[u8]) -> Option<(u8, &[u8])> {
    if name.starts_with(b"security.") && name != b"security.capability" {
        return None;
    }
    PREFIXES.iter().find_map(|(prefix, number)| {
        let rest = name.strip_prefix(*prefix)?;
        (prefix.ends_with(b".") != rest.is_empty()).then_some((*number, rest))
    })
}

/// Room for nearly all names and values; if it is too small, there is room for all.
const USUAL_XATTR: usize = 1024;
/// The most bytes of names or of a value a kernel gives (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MAX_XATTR: usize = 65_536;

fn attribute_names(at: &Path) -> Result<Vec<CString>, Errno> {
    let bytes = match all_of(|buffer| rustix::fs::llistxattr(at, buffer)) {
        Ok(bytes) => bytes,
        // A file system that has none.
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = bytes.split_inclusive(|byte| *byte == 0);
    Ok(names.filter_map(|name| CStr::from_bytes_with_nul(name).ok()).map(CStr::to_owned).collect())
}

fn attribute(at: &Path, name: &CStr) -> Result<Vec<u8>, Errno> {
    all_of(|buffer| rustix::fs::lgetxattr(at, name, buffer))
}

/// Returns all that `read` gives into a buffer that is large enough.
fn all_of(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut usual = [0; USUAL_XATTR];
    match read(&mut usual) {
        Ok(length) => return Ok(usual[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    let mut large = vec![0; MAX_XATTR];
    let length = read(&mut large)?;
    Ok(large[..length].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_kept_once_and_not_without_end() {
        let mut scan = Scan::default();
        let long = |at: usize| [&at.to_le_bytes()[..], &vec![7; 1 << 20]].concat();
        for _ in 0..2 {
            for at in 0..63 {
                assert_eq!(scan.attributes(long(at), b"f").unwrap(), at);
            }
        }
        let error = scan.attributes(long(63), b"dir/last").unwrap_err();
        assert!(matches!(&error, Fault::Unfit { path, .. } if path == "dir/last"), "{error}");
        assert_eq!(scan.attributes(long(62), b"f").unwrap(), 62);
    }
}
