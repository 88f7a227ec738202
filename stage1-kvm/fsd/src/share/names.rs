//! Names in directories: looking up, making, moving, taking away.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, linkat, mkdirat, mknodat, openat, readlinkat,
    renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::umask;

use crate::handles::Use;
use crate::nodes::attributes;
use crate::reply::Reply;
use crate::request::{Caller, Creation, Name};
use crate::wire::OPEN_KILL_SUIDGID;

use super::files::{opened, usable};
use super::{Share, find, open_beneath};

/// Permissions and the bits beside them.
const PERMISSIONS: u32 = 0o7777;

impl Share {
    /// Looks a name up and replies with its node.
    ///
    /// # Errors
    ///
    /// Those of `openat2(2)`; `ENFILE` with too many nodes.
    pub fn look_up(&mut self, parent: u64, name: Name<'_>, reply: &mut Reply) -> Result<(), Errno> {
        let file = find(self.directory(parent)?, name)?;
        self.enter(file, reply).map(drop)
    }

    /// Counts a lookup of `file`, writes it to the reply, and returns its number.
    pub(super) fn enter(&mut self, file: OwnedFd, reply: &mut Reply) -> Result<u64, Errno> {
        let found = attributes(&file)?;
        let number = self.nodes.look_up(file, &found)?;
        reply.entry(number, &found);
        Ok(number)
    }

    /// Makes something called `name` by `make`, in the name of `caller`, and replies with its node.
    fn make(
        &mut self,
        (parent, name): (u64, Name<'_>),
        caller: Caller,
        reply: &mut Reply,
        make: impl FnOnce(BorrowedFd<'_>, &CStr) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        self.writable()?;
        self.nodes.room()?;
        let directory = self.directory(parent)?;
        self.own.acting_as(caller, || make(directory, name.as_c_str()))?;
        let made = find(directory, name)?;
        self.enter(made, reply).map(drop)
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// Those of `mkdirat(2)`.
    pub fn make_directory(
        &mut self,
        place: (u64, Name<'_>),
        creation: Creation,
        caller: Caller,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let mode = permissions(creation.mode);
        self.make(place, caller, reply, |directory, name| {
            under_umask(creation.umask, || mkdirat(directory, name, mode))
        })
    }

    /// Makes a pipe, a socket or an empty file.
    ///
    /// # Errors
    ///
    /// `EPERM` for a device: its number would mean the host's. Those of `mknodat(2)`.
    pub fn make_node(
        &mut self,
        place: (u64, Name<'_>),
        creation: Creation,
        caller: Caller,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let kind = FileType::from_raw_mode(creation.mode);
        if !matches!(kind, FileType::Fifo | FileType::Socket | FileType::RegularFile) {
            return Err(Errno::PERM);
        }
        let mode = permissions(creation.mode);
        self.make(place, caller, reply, |directory, name| {
            under_umask(creation.umask, || mknodat(directory, name, kind, mode, 0))
        })
    }

    /// Makes a link that says `target`.
    ///
    /// # Errors
    ///
    /// Those of `symlinkat(2)`.
    pub fn make_link(
        &mut self,
        place: (u64, Name<'_>),
        target: &CStr,
        caller: Caller,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        self.make(place, caller, reply, |directory, name| symlinkat(target, directory, name))
    }

    /// Gives a node one more name.
    ///
    /// # Errors
    ///
    /// `EPERM` for a device, `ENFILE`; those of `linkat(2)`.
    pub fn link(
        &mut self,
        node: u64,
        (parent, name): (u64, Name<'_>),
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        self.writable()?;
        self.no_device(node)?;
        self.nodes.room()?;
        let directory = self.directory(parent)?;
        self.through_number(self.node(node)?, |number| {
            let flags = AtFlags::SYMLINK_FOLLOW;
            linkat(&self.descriptors, number, directory, name.as_c_str(), flags)
        })?;
        let made = find(directory, name)?;
        self.enter(made, reply).map(drop)
    }

    /// Makes a regular file and opens it, or opens the one that is there.
    ///
    /// # Errors
    ///
    /// Those of `openat2(2)`; `ENXIO` if something is there that cannot be opened, `ENFILE`.
    pub fn create(
        &mut self,
        place: (u64, Name<'_>),
        (flags, fuse_flags): (u32, u32),
        creation: Creation,
        caller: Caller,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        self.writable()?;
        self.handles.room()?;
        self.nodes.room()?;
        let asked = OFlags::from_bits_retain(flags);
        let file = match self.make_or_find(place, asked, creation, caller)? {
            Made::New(file) => {
                // By the name, not by the open file: a node is open with `O_PATH`.
                let node = self.through_number(file.as_fd(), |number| {
                    let flags = OFlags::PATH | OFlags::CLOEXEC;
                    openat(&self.descriptors, number, flags, Mode::empty())
                })?;
                self.enter(node, reply)?;
                file
            }
            Made::Before(found) => {
                let node = self.enter(found, reply)?;
                let existing = self.open_existing(node, asked, fuse_flags & OPEN_KILL_SUIDGID != 0);
                existing.inspect_err(|_| self.nodes.forget(node, 1))?
            }
        };
        let handle = self.handles.keep(file, use_of(asked))?;
        opened(handle, reply);
        Ok(())
    }

    /// Makes a regular file, or finds what is called so already, if that is to be opened.
    fn make_or_find(
        &self,
        (parent, name): (u64, Name<'_>),
        asked: OFlags,
        creation: Creation,
        caller: Caller,
    ) -> Result<Made, Errno> {
        let directory = self.directory(parent)?;
        let making = usable(asked)? | OFlags::CREATE | OFlags::EXCL | OFlags::NOCTTY;
        let make = || {
            let mode = permissions(creation.mode);
            let open = || open_beneath(directory, name.as_c_str(), making, mode);
            self.own.acting_as(caller, || under_umask(creation.umask, open))
        };
        match make() {
            Err(Errno::EXIST) if !asked.contains(OFlags::EXCL) => match find(directory, name) {
                // Somebody of the host has taken it away meanwhile.
                Err(Errno::NOENT) => make().map(Made::New),
                found => found.map(Made::Before),
            },
            made => made.map(Made::New),
        }
    }

    /// Replies with what a link says.
    ///
    /// # Errors
    ///
    /// Those of `readlinkat(2)`.
    pub fn read_link(&self, node: u64, reply: &mut Reply) -> Result<(), Errno> {
        let target = readlinkat(self.node(node)?, c"", Vec::new())?;
        reply.bytes(target.as_bytes());
        Ok(())
    }

    /// Takes a name away that is no directory's.
    ///
    /// # Errors
    ///
    /// Those of `unlinkat(2)`.
    pub fn unlink(&self, parent: u64, name: Name<'_>) -> Result<(), Errno> {
        self.writable()?;
        unlinkat(self.directory(parent)?, name.as_c_str(), AtFlags::empty())
    }

    /// Takes an empty directory away.
    ///
    /// # Errors
    ///
    /// Those of `unlinkat(2)`.
    pub fn remove_directory(&self, parent: u64, name: Name<'_>) -> Result<(), Errno> {
        self.writable()?;
        unlinkat(self.directory(parent)?, name.as_c_str(), AtFlags::REMOVEDIR)
    }

    /// Moves a name.
    ///
    /// # Errors
    ///
    /// `EINVAL` for flags other than those that exchange two names or take no name away; those of
    /// `renameat2(2)`.
    pub fn rename(
        &self,
        (parent, name): (u64, Name<'_>),
        (new_parent, new_name): (u64, Name<'_>),
        flags: u32,
    ) -> Result<(), Errno> {
        self.writable()?;
        let flags = RenameFlags::from_bits_retain(flags);
        // A whiteout is a device.
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL);
        }
        let (from, to) = (self.directory(parent)?, self.directory(new_parent)?);
        renameat_with(from, name.as_c_str(), to, new_name.as_c_str(), flags)
    }
}

/// What is called as something is to be that is made.
enum Made {
    /// It was made, and is open for use.
    New(OwnedFd),
    /// It was there before, and is open with `O_PATH`.
    Before(OwnedFd),
}

/// What a file opened with these flags is for.
pub(super) fn use_of(flags: OFlags) -> Use {
    if flags.contains(OFlags::APPEND) { Use::Appending } else { Use::Anywhere }
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & PERMISSIONS)
}

/// Does `deed` under the caller's umask: the kernel leaves it aside where a directory has a
/// default ACL.
fn under_umask<T>(mask: u32, deed: impl FnOnce() -> T) -> T {
    umask(permissions(mask & 0o777));
    let done = deed();
    umask(Mode::empty());
    done
}
