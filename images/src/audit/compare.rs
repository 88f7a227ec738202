//! Two trees, entry by entry: the first difference that is none a layer may have.
//!
//! A directory the archive never described has what the layers below gave it. A hard link into a
//! lower layer is there only once that layer was known, with its target and what is above that. What
//! the worker tells of both is left out.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::layer::LayerFacts;
use crate::store::open_beneath;

/// The longest list of names, or value, of extended attributes the kernel gives (`xattr(7)`).
const MAX_XATTR: usize = 1 << 16;
/// How much of a file is read at once.
const CHUNK: usize = 256 << 10;

/// Compares `tree` with `fresh`, which was just unpacked with these facts, and tells the first
/// difference.
///
/// # Errors
///
/// What the file system says.
pub(super) fn compare(
    tree: impl AsFd,
    fresh: impl AsFd,
    facts: &LayerFacts,
) -> io::Result<Option<String>> {
    let (tree, fresh) = (tree.as_fd(), fresh.as_fd());
    let implicit = facts.implicit_dirs.iter().map(Vec::as_slice).collect();
    let linked = facts.lower_links.iter().flat_map(|(path, target)| [path, target]);
    let lower = linked.flat_map(|path| with_all_above(path)).collect();
    Comparison { tree, fresh, implicit, lower }.everything()
}

struct Comparison<'t> {
    tree: BorrowedFd<'t>,
    fresh: BorrowedFd<'t>,
    /// Directories whose attributes are those of lower layers.
    implicit: BTreeSet<&'t [u8]>,
    /// Hard links that only the finished layer has, their targets, and what is above them.
    lower: BTreeSet<&'t [u8]>,
}

/// One of the two, and what is there.
struct Side<'d> {
    directory: &'d OwnedFd,
    stat: Stat,
}

impl Comparison<'_> {
    fn everything(&self) -> io::Result<Option<String>> {
        let mut pending = vec![Vec::new()];
        while let Some(path) = pending.pop() {
            let ours = open_beneath(self.tree, &path)?;
            let theirs = open_beneath(self.fresh, &path)?;
            if !self.implicit.contains(path.as_slice()) {
                let (one, other) = (rustix::fs::fstat(&ours)?, rustix::fs::fstat(&theirs)?);
                let what = attributes(&one, &other).or(other_xattrs(&ours, &theirs)?);
                if let Some(what) = what {
                    return Ok(Some(told(&path, what)));
                }
            }
            if let Some(problem) = self.directory(&path, (&ours, &theirs), &mut pending)? {
                return Ok(Some(problem));
            }
        }
        Ok(None)
    }

    fn directory(
        &self,
        path: &[u8],
        (ours, theirs): (&OwnedFd, &OwnedFd),
        pending: &mut Vec<Vec<u8>>,
    ) -> io::Result<Option<String>> {
        let (there, expected) = (names(ours)?, names(theirs)?);
        let below = |name: &[u8]| match path {
            [] => name.to_vec(),
            path => [path, b"/", name].concat(),
        };
        for name in there.difference(&expected) {
            let path = below(name);
            if !self.lower.contains(path.as_slice()) {
                return Ok(Some(told(&path, "is not of the layer")));
            }
        }
        for name in &expected {
            let path = below(name);
            if !there.contains(name) {
                return Ok(Some(told(&path, "is missing")));
            }
            let side = |directory| {
                let stat =
                    rustix::fs::statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
                Ok::<_, Errno>(Side { directory, stat })
            };
            let (one, other) = (side(ours)?, side(theirs)?);
            if kind(&one.stat) != kind(&other.stat) {
                return Ok(Some(told(&path, "is something else")));
            }
            if kind(&one.stat) == FileType::Directory {
                pending.push(path);
            } else if let Some(what) = leaf(name, &one, &other)? {
                return Ok(Some(told(&path, what)));
            }
        }
        Ok(None)
    }
}

/// Returns a path and those of all directories above it but the root.
fn with_all_above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).map(|end| &path[..end])
}

/// Compares two entries of one kind that are no directories.
fn leaf(name: &[u8], one: &Side<'_>, other: &Side<'_>) -> io::Result<Option<&'static str>> {
    if let Some(what) = attributes(&one.stat, &other.stat) {
        return Ok(Some(what));
    }
    match kind(&one.stat) {
        FileType::RegularFile => {
            let open = |side: &Side<'_>| {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::openat(side.directory, name, flags, Mode::empty()).map(File::from)
            };
            let (one, other) = (open(one)?, open(other)?);
            match other_xattrs(&one, &other)? {
                None if !same_content(one, other)? => Ok(Some("has other content")),
                what => Ok(what),
            }
        }
        FileType::Symlink => {
            let target = |side: &Side<'_>| rustix::fs::readlinkat(side.directory, name, Vec::new());
            let same = target(one)? == target(other)?;
            Ok(if same { None } else { Some("leads elsewhere") })
        }
        _ if one.stat.st_rdev != other.stat.st_rdev => Ok(Some("is another device")),
        _ => Ok(None),
    }
}

fn attributes(one: &Stat, other: &Stat) -> Option<&'static str> {
    let is_file = kind(one) == FileType::RegularFile;
    if one.st_mode != other.st_mode {
        Some("has another mode")
    } else if (one.st_uid, one.st_gid) != (other.st_uid, other.st_gid) {
        Some("has another owner")
    } else if is_file && one.st_size != other.st_size {
        Some("has another length")
    } else if (one.st_mtime, one.st_mtime_nsec) != (other.st_mtime, other.st_mtime_nsec) {
        Some("has another time")
    } else {
        None
    }
}

fn other_xattrs(one: impl AsFd, other: impl AsFd) -> io::Result<Option<&'static str>> {
    let same = xattrs(one)? == xattrs(other)?;
    Ok(if same { None } else { Some("has other extended attributes") })
}

fn xattrs(inode: impl AsFd) -> io::Result<BTreeSet<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; MAX_XATTR];
    let length = match rustix::fs::flistxattr(&inode, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    let mut all = BTreeSet::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; MAX_XATTR];
        let length = rustix::fs::fgetxattr(&inode, name, &mut value[..])?;
        value.truncate(length);
        all.insert((name.to_vec(), value));
    }
    Ok(all)
}

fn same_content(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let length = one.read(&mut left)?;
        if length == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        match other.read_exact(&mut right[..length]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
    }
}

fn names(directory: &OwnedFd) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.insert(name);
        }
    }
    Ok(names)
}

const fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Makes the sentence about a path; names are of whoever made the image.
fn told(path: &[u8], what: &str) -> String {
    let path = if path.is_empty() { b"/" } else { path };
    format!("`{}` {what}", path.escape_ascii())
}
