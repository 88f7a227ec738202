//! Words of the FUSE protocol, as far as this server speaks it.
//!
//! Source: `include/uapi/linux/fuse.h`, protocol 7.33.

/// The protocol's version.
pub const MAJOR: u32 = 7;
/// What is spoken of it: the newest whose words are used here (`FUSE_HANDLE_KILLPRIV_V2`).
pub const MINOR: u32 = 33;

/// The node of the share itself.
pub const ROOT: u64 = 1;

/// What a request asks for.
pub mod opcode {
    #![allow(missing_docs, reason = "names of the protocol")]
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const ACCESS: u32 = 34;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
}

/// What both sides can do, `FUSE_*` of `FUSE_INIT`.
pub mod ability {
    /// Reads of one file may be under way at the same time.
    pub const ASYNC_READ: u32 = 1 << 0;
    /// Writes may be longer than a page.
    pub const BIG_WRITES: u32 = 1 << 5;
    /// The server applies the umask: only it knows whether a directory has a default ACL.
    pub const DONT_MASK: u32 = 1 << 6;
    /// The guest drops what it has cached of a file whose time of change has moved.
    pub const AUTO_INVAL_DATA: u32 = 1 << 12;
    /// Directories may be read with the attributes of what is in them.
    pub const DO_READDIRPLUS: u32 = 1 << 13;
    /// The guest decides when to.
    pub const READDIRPLUS_AUTO: u32 = 1 << 14;
    /// Lookups and readings of one directory may be under way at the same time.
    pub const PARALLEL_DIROPS: u32 = 1 << 18;
    /// The reply says how many pages a request may have.
    pub const MAX_PAGES: u32 = 1 << 22;
    /// The guest says when set-user-id and set-group-id go, the server takes them away.
    pub const HANDLE_KILLPRIV_V2: u32 = 1 << 28;
}

/// Which attributes are to be set, `FATTR_*`.
pub mod set {
    #![allow(missing_docs, reason = "names of the protocol")]
    pub const MODE: u32 = 1 << 0;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const FH: u32 = 1 << 6;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
    pub const KILL_SUIDGID: u32 = 1 << 11;
}

/// `FUSE_GETATTR_FH`: the attributes of an open file.
pub const GETATTR_FH: u32 = 1;
/// `FUSE_WRITE_CACHE`: pages of a mapping, not a call of an app; never appended.
pub const WRITE_CACHE: u32 = 1 << 0;
/// `FUSE_WRITE_KILL_SUIDGID`.
pub const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// `FUSE_OPEN_KILL_SUIDGID`.
pub const OPEN_KILL_SUIDGID: u32 = 1 << 0;
/// `FUSE_FSYNC_FDATASYNC`.
pub const FSYNC_FDATASYNC: u32 = 1;
