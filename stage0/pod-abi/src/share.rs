//! Between a monitor, the server of a shared directory, and whoever starts both.
//!
//! ```text
//!   guest ── virtio-fs ──▶ monitor ── frames ──▶ server ──▶ the share
//! ```
//!
//! A frame is a length, [`LENGTH_SIZE`] bytes of little-endian, and as many bytes: on the way to the
//! server one FUSE request as the guest wrote it, on the way back the reply to it, as the guest is
//! to read it. Each request has one reply, in the order of the requests; a request that FUSE has no
//! reply for has an empty one. Neither end understands more of the other: the monitor reads no
//! request, the server sees no memory of the guest.

/// Numbers of the descriptors a server inherits.
pub mod fd {
    /// What is shared: a directory or a file, the root of a mount that is nowhere else, so that no
    /// way leads up from it.
    pub const SHARE: i32 = 3;
    /// A stream to the monitor.
    pub const STREAM: i32 = 4;
    /// The server's own `/proc/self/fd`, in a proc that is mounted nowhere else, by which it opens
    /// anew what it has found.
    pub const OWN: i32 = 5;
}

/// The argument of a server that lets nothing be written.
pub const READ_ONLY: &str = "--read-only";

/// The argument of a server that shares a single file: its root is a directory with that file in
/// it, called `pod_abi::guest::SHARED_FILE`.
pub const FILE: &str = "--file";

/// Bytes of a frame's length.
pub const LENGTH_SIZE: usize = 4;

/// The most bytes of a file that one request reads or writes: what Linux asks for at most.
pub const MAX_DATA: usize = 1 << 20;

/// The longest request or reply: the data, and room for headers and two names.
pub const MAX_MESSAGE: usize = MAX_DATA + 4096;

/// Bytes in front of every request: length and opcode, a number of the request's own, the node it
/// is about, who asks. Source: `linux/fuse.h`, `struct fuse_in_header`.
pub const REQUEST_HEADER: usize = 40;

/// Bytes in front of every reply: length, error, the request's number. Source: `linux/fuse.h`,
/// `struct fuse_out_header`.
pub const REPLY_HEADER: usize = 16;
