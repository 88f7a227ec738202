//! The directories above an entry: found, or made where the archive left them out.
//!
//! The kernel resolves what exists. Only what does not is walked by hand, because `openat2` cannot
//! say how far it got and a dangling link tells where directories are to be made.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;

use super::inode::{entry_fault, is_whiteout, look};
use super::remove::remove;
use super::sink::TreeSink;
use crate::layer::entry::Attributes;
use crate::layer::fault::Fault;

/// The most symbolic links followed for one path, as in the kernel.
const MAX_LINKS: usize = 40;

impl TreeSink {
    /// Opens the directory `path`, following links beneath the root; makes what is missing.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<OwnedFd, Fault> {
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
    pub(super) fn new_directory(
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
