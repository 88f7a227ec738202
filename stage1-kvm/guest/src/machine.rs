//! What a guest stands on: the seam between its work and the machine it is done in.
//!
//! [`crate::hardware`] is the one for a virtual machine. Tests put another in its place, to run the
//! guest's work on a host: streams are sockets of a directory there, and disks are files.

use std::os::fd::OwnedFd;

use pod_abi::guest::Extent;
use pod_abi::time::Timestamp;
use supervisor::Failure;

/// A group of kernel modules, which is loaded as soon as something needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What every guest needs.
    Always,
    /// Shared directories.
    Shares,
    /// Network interfaces.
    Network,
    /// The second disk.
    Scratch,
}

/// The machine.
pub trait Machine {
    /// Opens a stream to `port` of the host. It does not block, and may not be connected yet.
    ///
    /// # Errors
    ///
    /// What is in the way; a refusal may come later.
    fn connect(&self, port: u32) -> Result<OwnedFd, Failure>;

    /// Makes the kernel able to do something.
    ///
    /// # Errors
    ///
    /// Which module cannot be loaded.
    fn load(&self, group: Group) -> Result<(), Failure>;

    /// Sets the clock, and adds bytes nobody knows to the kernel's entropy.
    ///
    /// # Errors
    ///
    /// What the kernel has against it.
    fn begin(&self, now: Timestamp, entropy: &[u8]) -> Result<(), Failure>;

    /// Makes a row of bytes on the disk of images something that can be mounted, and returns its
    /// path. The same row has the same path.
    ///
    /// # Errors
    ///
    /// If the disk is not there or has no room for more.
    fn image(&self, extent: Extent) -> Result<String, Failure>;

    /// Lets go of a row of bytes that is mounted nowhere any more, as far as that goes at once.
    fn forget_image(&self, extent: Extent);

    /// Returns the path of the second disk.
    ///
    /// # Errors
    ///
    /// If there is none.
    fn scratch(&self) -> Result<String, Failure>;

    /// Mounts the shared directory `tag` at `place`, a directory.
    ///
    /// # Errors
    ///
    /// What the kernel has against it.
    fn share(&self, tag: &str, place: &str, read_only: bool) -> Result<(), Failure>;

    /// Returns once everything that was sent to the host before has arrived there, or it is too
    /// late to wait for that.
    fn settle(&self);
}
