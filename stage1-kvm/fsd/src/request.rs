//! Requests as they come from a guest: every byte of them may be a lie.
//!
//! A request that is understood is borrowed from its bytes. What is checked here is shape alone -
//! lengths, that names are names; whether a node or a handle exists is for others to say.

use std::ffi::CStr;

use pod_abi::share::REQUEST_HEADER;
use rustix::io::Errno;

use crate::wire::{GETATTR_FH, opcode, set};

/// The longest name of anything in a directory, in bytes. Source: `linux/limits.h`, `NAME_MAX`.
const NAME_MAX: usize = 255;

/// Who asks, in numbers of the guest, which are those on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What stands in front of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What is asked for, of [`opcode`].
    pub opcode: u32,
    /// The number the reply bears, too.
    pub unique: u64,
    /// What it is about.
    pub node: u64,
    /// Who asks.
    pub caller: Caller,
}

/// One component of a path: not empty, at most 255 bytes, neither `.` nor `..`, without a slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a CStr);

impl<'a> Name<'a> {
    /// The name, for a system call.
    #[must_use]
    pub fn as_c_str(self) -> &'a CStr {
        self.0
    }
}

impl<'a> TryFrom<&'a CStr> for Name<'a> {
    type Error = Errno;

    fn try_from(text: &'a CStr) -> Result<Self, Errno> {
        let bytes = text.to_bytes();
        match bytes {
            b"" | b"." | b".." => Err(Errno::INVAL),
            _ if bytes.contains(&b'/') => Err(Errno::INVAL),
            _ if bytes.len() > NAME_MAX => Err(Errno::NAMETOOLONG),
            _ => Ok(Self(text)),
        }
    }
}

/// New attributes; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewAttributes {
    /// The open file it is done through.
    pub handle: Option<u64>,
    /// Permissions, with whatever type a guest writes beside them.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The length in bytes.
    pub size: Option<u64>,
    /// When it was read.
    pub atime: Option<NewTime>,
    /// When it was written.
    pub mtime: Option<NewTime>,
    /// Whether set-user-id and set-group-id go with a new length.
    pub kill_suid: bool,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewTime {
    /// The host's present.
    Now,
    /// Seconds since 1970 and nanoseconds.
    At(i64, u32),
}

/// How something new comes into being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Type and permissions, before the umask.
    pub mode: u32,
    /// The umask of whoever asks.
    pub umask: u32,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in the protocol, and so are the fields")]
pub enum Operation<'a> {
    Lookup(Name<'a>),
    Forget { count: u64 },
    BatchForget(&'a [u8]),
    Getattr { handle: Option<u64> },
    Setattr(NewAttributes),
    Readlink,
    Symlink { name: Name<'a>, target: &'a CStr },
    Mknod { name: Name<'a>, creation: Creation },
    Mkdir { name: Name<'a>, creation: Creation },
    Unlink(Name<'a>),
    Rmdir(Name<'a>),
    Rename { name: Name<'a>, new_parent: u64, new_name: Name<'a>, flags: u32 },
    Link { node: u64, name: Name<'a> },
    Open { flags: u32 },
    Create { name: Name<'a>, flags: u32, creation: Creation, fuse_flags: u32 },
    Read { handle: u64, offset: u64, size: u32 },
    Write { handle: u64, offset: u64, data: &'a [u8], fuse_flags: u32 },
    Statfs,
    Release { handle: u64 },
    Fsync { handle: u64, flags: u32 },
    Setxattr { name: &'a CStr, value: &'a [u8], flags: u32 },
    Getxattr { name: &'a CStr, size: u32 },
    Listxattr { size: u32 },
    Removexattr(&'a CStr),
    Init { major: u32, minor: u32, max_readahead: u32, flags: u32 },
    Opendir,
    Readdir { handle: u64, offset: u64, size: u32 },
    Readdirplus { handle: u64, offset: u64, size: u32 },
    Access { mask: u32 },
    Fallocate { handle: u64, offset: u64, length: u64, mode: u32 },
    Lseek { handle: u64, offset: u64, whence: u32 },
    Interrupt,
    Destroy,
}

impl Header {
    /// Reads the header of a request and returns it with what follows. `None` for bytes that have
    /// none, or one that tells another length than theirs.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, body) = bytes.split_at_checked(REQUEST_HEADER)?;
        let mut words = Words(head);
        let length = words.u32().ok()?;
        let header = Self {
            opcode: words.u32().ok()?,
            unique: words.u64().ok()?,
            node: words.u64().ok()?,
            caller: Caller { uid: words.u32().ok()?, gid: words.u32().ok()? },
        };
        (usize::try_from(length) == Ok(bytes.len())).then_some((header, body))
    }
}

impl<'a> Operation<'a> {
    /// Reads what follows a request's header.
    ///
    /// # Errors
    ///
    /// `ENOSYS` for what this server does not do, `EINVAL` for what is too short or no name,
    /// `ENAMETOOLONG`.
    pub fn parse(code: u32, body: &'a [u8]) -> Result<Self, Errno> {
        let mut words = Words(body);
        let operation = match code {
            opcode::LOOKUP => Self::Lookup(words.name()?),
            opcode::FORGET => Self::Forget { count: words.u64()? },
            opcode::BATCH_FORGET => {
                let count = usize::try_from(words.u32()?).map_err(|_| Errno::INVAL)?;
                words.u32()?;
                let bytes = count.checked_mul(FORGET_ONE).ok_or(Errno::INVAL)?;
                Self::BatchForget(words.bytes(bytes)?)
            }
            opcode::GETATTR => {
                let flags = words.u32()?;
                words.u32()?;
                let handle = words.u64()?;
                let of_handle = flags & GETATTR_FH != 0;
                Self::Getattr { handle: of_handle.then_some(handle) }
            }
            opcode::SETATTR => Self::Setattr(words.new_attributes()?),
            opcode::READLINK => Self::Readlink,
            opcode::SYMLINK => Self::Symlink { name: words.name()?, target: words.text()? },
            opcode::MKNOD => {
                let mode = words.u32()?;
                words.u32()?; // the device's number: there are none
                let creation = Creation { mode, umask: words.u32()? };
                words.u32()?;
                Self::Mknod { name: words.name()?, creation }
            }
            opcode::MKDIR => {
                let creation = Creation { mode: words.u32()?, umask: words.u32()? };
                Self::Mkdir { name: words.name()?, creation }
            }
            opcode::UNLINK => Self::Unlink(words.name()?),
            opcode::RMDIR => Self::Rmdir(words.name()?),
            opcode::RENAME | opcode::RENAME2 => {
                let new_parent = words.u64()?;
                let mut flags = 0;
                if code == opcode::RENAME2 {
                    flags = words.u32()?;
                    words.u32()?;
                }
                let (name, new_name) = (words.name()?, words.name()?);
                Self::Rename { name, new_parent, new_name, flags }
            }
            opcode::LINK => Self::Link { node: words.u64()?, name: words.name()? },
            opcode::OPEN => Self::Open { flags: words.u32()? },
            opcode::CREATE => {
                let flags = words.u32()?;
                let creation = Creation { mode: words.u32()?, umask: words.u32()? };
                let fuse_flags = words.u32()?;
                Self::Create { name: words.name()?, flags, creation, fuse_flags }
            }
            opcode::READ | opcode::READDIR | opcode::READDIRPLUS => {
                let (handle, offset, size) = (words.u64()?, words.u64()?, words.u32()?);
                match code {
                    opcode::READ => Self::Read { handle, offset, size },
                    opcode::READDIR => Self::Readdir { handle, offset, size },
                    _ => Self::Readdirplus { handle, offset, size },
                }
            }
            opcode::WRITE => {
                let (handle, offset, size) = (words.u64()?, words.u64()?, words.u32()?);
                let fuse_flags = words.u32()?;
                words.u64()?; // the owner of locks
                words.u64()?; // flags of the open file, and nothing
                let size = usize::try_from(size).map_err(|_| Errno::INVAL)?;
                Self::Write { handle, offset, data: words.bytes(size)?, fuse_flags }
            }
            opcode::STATFS => Self::Statfs,
            opcode::RELEASE | opcode::RELEASEDIR => Self::Release { handle: words.u64()? },
            opcode::FSYNC | opcode::FSYNCDIR => {
                Self::Fsync { handle: words.u64()?, flags: words.u32()? }
            }
            opcode::SETXATTR => {
                let size = usize::try_from(words.u32()?).map_err(|_| Errno::INVAL)?;
                let flags = words.u32()?;
                let name = words.text()?;
                Self::Setxattr { name, value: words.bytes(size)?, flags }
            }
            opcode::GETXATTR => {
                let size = words.u32()?;
                words.u32()?;
                Self::Getxattr { name: words.text()?, size }
            }
            opcode::LISTXATTR => Self::Listxattr { size: words.u32()? },
            opcode::REMOVEXATTR => Self::Removexattr(words.text()?),
            opcode::INIT => Self::Init {
                major: words.u32()?,
                minor: words.u32()?,
                max_readahead: words.u32()?,
                flags: words.u32()?,
            },
            opcode::OPENDIR => Self::Opendir,
            opcode::ACCESS => Self::Access { mask: words.u32()? },
            opcode::FALLOCATE => Self::Fallocate {
                handle: words.u64()?,
                offset: words.u64()?,
                length: words.u64()?,
                mode: words.u32()?,
            },
            opcode::LSEEK => {
                Self::Lseek { handle: words.u64()?, offset: words.u64()?, whence: words.u32()? }
            }
            opcode::INTERRUPT => Self::Interrupt,
            opcode::DESTROY => Self::Destroy,
            _ => return Err(Errno::NOSYS),
        };
        Ok(operation)
    }
}

/// Bytes of one of many that are forgotten: a node, and how often.
const FORGET_ONE: usize = 16;

/// Each node that is forgotten, and how often it was looked up.
pub fn forgotten(list: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    list.chunks_exact(FORGET_ONE).filter_map(|one| {
        let mut words = Words(one);
        Some((words.u64().ok()?, words.u64().ok()?))
    })
}

/// What is not read yet.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Errno> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*taken))
    }

    fn u64(&mut self) -> Result<u64, Errno> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*taken))
    }

    /// Bytes up to a zero, which must come.
    fn text(&mut self) -> Result<&'a CStr, Errno> {
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| Errno::INVAL)?;
        self.0 = self.0.get(text.count_bytes() + 1..).unwrap_or_default();
        Ok(text)
    }

    fn name(&mut self) -> Result<Name<'a>, Errno> {
        Name::try_from(self.text()?)
    }

    /// `struct fuse_setattr_in`.
    fn new_attributes(&mut self) -> Result<NewAttributes, Errno> {
        let valid = self.u32()?;
        self.u32()?;
        let (handle, size) = (self.u64()?, self.u64()?);
        self.u64()?; // the owner of locks
        let (atime, mtime) = (self.u64()?.cast_signed(), self.u64()?.cast_signed());
        self.u64()?; // the time of change, which is the host's to set
        let (atime_ns, mtime_ns) = (self.u32()?, self.u32()?);
        self.u32()?;
        let mode = self.u32()?;
        self.u32()?;
        let (uid, gid) = (self.u32()?, self.u32()?);
        let has = |bit: u32| valid & bit != 0;
        let time = |given: u32, now: u32, seconds, nanoseconds| match (has(given), has(now)) {
            (_, true) => Some(NewTime::Now),
            (true, false) => Some(NewTime::At(seconds, nanoseconds)),
            (false, false) => None,
        };
        Ok(NewAttributes {
            handle: has(set::FH).then_some(handle),
            mode: has(set::MODE).then_some(mode),
            uid: has(set::UID).then_some(uid),
            gid: has(set::GID).then_some(gid),
            size: has(set::SIZE).then_some(size),
            atime: time(set::ATIME, set::ATIME_NOW, atime, atime_ns),
            mtime: time(set::MTIME, set::MTIME_NOW, mtime, mtime_ns),
            kill_suid: has(set::KILL_SUIDGID),
        })
    }
}
