//! Streams between a guest and descriptors of the host: virtio-vsock, without a host's vsock.
//!
//! ```text
//!   device (queues) ── Header + bytes ──▶ Muxer ──▶ Connection ──▶ HostStream (a descriptor)
//!                   ◀── Header + bytes ──
//! ```
//!
//! Everything here but [`descriptor`] is a state machine without a system call or a clock, so that a
//! test can be the guest, the host and the time. Only guests connect, and only to the ports of
//! [`pod_abi::guest::port`]; whatever else they say is answered by RST.
//!
//! What a guest can make the host keep is bounded, and not by the guest: [`MAX_CONNECTIONS`]
//! connections, of which only those that end in a plugged descriptor, or in WALL or INNER, have a
//! buffer, of [`BUFFER`] bytes, and that only once their descriptor is full; INNER has a second one,
//! for what was read before it is its turn.
//!
//! # What the order of packets promises
//!
//! Packets are taken in the order in which the guest sent them. Bytes for a stream that came before
//! bytes for INNER are written to their descriptor before those, so that who hears of an exit by
//! INNER has the output. If a descriptor is full, INNER waits for what is buffered for it; but never
//! longer than [`PATIENCE`], after which that stream is not waited for again until it has caught up.
//!
//! The other way, what was written to a descriptor before something was written to INNER is on its
//! way to the guest before that: see [`muxer::Muxer::give`].

pub mod buffer;
pub mod connection;
pub mod credit;
pub mod descriptor;
#[cfg(any(test, feature = "rig"))]
pub mod fake;
pub mod joint;
pub mod muxer;
pub mod packet;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// Bytes kept for a descriptor that is full; what a guest is told as `buf_alloc`.
///
/// The length of the longest packet of Linux, so that no write of a guest is cut up for it.
pub const BUFFER: u32 = 64 << 10;

/// The most bytes in a packet, either way: `VIRTIO_VSOCK_MAX_PKT_BUF_SIZE` of Linux.
pub const MAX_PAYLOAD: u32 = 64 << 10;

/// The most connections at a time, those counted that are no more but have bytes to be written.
pub const MAX_CONNECTIONS: usize = 1024;

/// The most connections that have not told their token yet. One more closes the oldest, so that an
/// app that keeps connecting cannot keep PID 1 from it.
pub const MAX_NAMELESS: usize = 64;

/// The most RSTs on their way to nobody's connections; more are dropped.
pub const MAX_RESETS: usize = 256;

/// How long INNER waits for the descriptors of other streams.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// The context id of the host (`VMADDR_CID_HOST`).
pub const HOST_CID: u64 = 2;

/// The context id of the guest, the first that is not reserved; each machine has its own world.
pub const GUEST_CID: u64 = 3;

/// Names a connection for the one who watches descriptors: below [`TOKENS`](crate::watch::TOKENS),
/// and used again only after all others were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u32);

/// The host's end of a stream. No deed of it ever waits.
pub trait HostStream {
    /// Begins to report readiness under a name, first of all that there is some.
    fn watch(&mut self, id: Id);
    /// Reads.
    fn receive(&mut self, buffer: &mut [u8]) -> Moved;
    /// Writes.
    fn send(&mut self, bytes: &[u8]) -> Moved;
    /// Lets the other side know that nothing more is sent, as far as it can: to be asked of streams
    /// that are nobody else's.
    fn end_sending(&mut self);
    /// Lets the other side know that nothing more is received, as above.
    fn end_receiving(&mut self);
}

/// What came of a read or a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes went, at least one.
    Some(usize),
    /// Nothing now; readiness is reported when that changes.
    Later,
    /// Nothing ever again: an end of file, a broken pipe, an error.
    Ended,
}
