//! What machine is wanted: the document a monitor reads, and the descriptors it comes with.
//!
//! | descriptor | what |
//! |---|---|
//! | [`fd::DESCRIPTION`] | a [`Description`], JSON |
//! | [`fd::HELM`] | a socket of sequenced packets: [`crate::helm`] |
//! | [`fd::KVM`] | `/dev/kvm` |
//! | [`fd::KERNEL`] | the kernel, an ELF file nobody writes to |
//! | [`fd::INITRAMFS`] | a `cpio` archive |
//! | [`fd::WALL`], [`fd::INNER`] | the host's ends of these ports of `pod_abi::guest`, streams |
//! | from [`fd::FIRST`] on | a file for each of [`Description::images`]; then the file of [`Description::scratch`]; then a tap for each of [`Description::nics`]; then a stream to the server of each of [`Description::shares`] |
//!
//! There is no path in it: whoever describes a machine has opened what it may touch.

use pod_abi::guest::Extent;
use serde::{Deserialize, Serialize};

/// Numbers of inherited descriptors.
pub mod fd {
    /// The description.
    pub const DESCRIPTION: i32 = 3;
    /// The socket to whoever started the monitor.
    pub const HELM: i32 = 4;
    /// `/dev/kvm`.
    pub const KVM: i32 = 5;
    /// The kernel.
    pub const KERNEL: i32 = 6;
    /// The initramfs.
    pub const INITRAMFS: i32 = 7;
    /// The host's end of `pod_abi::guest::port::WALL`.
    pub const WALL: i32 = 8;
    /// The host's end of `pod_abi::guest::port::INNER`.
    pub const INNER: i32 = 9;
    /// The first of a row without a fixed length.
    pub const FIRST: i32 = 16;
}

/// The machine of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Description {
    /// Bytes of memory; a multiple of 2 MiB.
    pub memory: u64,
    /// Virtual processors, 1…[`MAX_VCPUS`].
    pub vcpus: u8,
    /// The kernel's command line.
    pub command_line: String,
    /// Where on the disk of images each file lies, in the order of the descriptors; all of each is
    /// there. What lies between them cannot be read.
    pub images: Vec<Extent>,
    /// Whether there is a second disk, which can be written.
    pub scratch: bool,
    /// Its network interfaces, in the order of the descriptors.
    pub nics: Vec<Nic>,
    /// The tags of its shared directories, in the order of the descriptors.
    pub shares: Vec<String>,
}

/// A network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nic {
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The longest packet, in bytes.
    pub mtu: u16,
}

/// The most virtual processors of a machine.
pub const MAX_VCPUS: u8 = 32;

/// The most shared directories of a machine: each takes a line of interrupts.
pub const MAX_SHARES: usize = 8;

/// The most network interfaces of a machine, for the same reason.
pub const MAX_NICS: usize = pod_abi::guest::MAX_LINKS;

/// Bytes of the disk of images, whatever lies there: images can be added later.
pub const IMAGES_CAPACITY: u64 = 1 << 44;
