//! The guest's kernel and its first files, prepared before.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use supervisor::Failure;

/// Where they are.
const CURRENT: &str = "/var/lib/pod/guest/current";

/// What a guest boots from.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The kernel, an ELF file.
    pub(crate) vmlinux: OwnedFd,
    /// The archive of its first files.
    pub(crate) initramfs: OwnedFd,
}

/// Opens what a guest boots from.
///
/// # Errors
///
/// `vm.no-kernel` if it was not prepared.
pub(crate) fn ensure() -> Result<Kernel, Failure> {
    Ok(Kernel { vmlinux: open("vmlinux")?, initramfs: open("initramfs")? })
}

fn open(name: &str) -> Result<OwnedFd, Failure> {
    let path = format!("{CURRENT}/{name}");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(CWD, &path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => Failure::new("there is no kernel for guests: it was not prepared")
            .code("vm.no-kernel")
            .hint("`stage1-kvm setup` prepares it"),
        error => Failure::of(format!("cannot open `{path}`"), error).code("vm.no-kernel"),
    })
}
