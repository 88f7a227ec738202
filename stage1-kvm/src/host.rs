//! What of this host a machine depends on: what every one needs, and what its size does.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread;

use nix::sys::sysinfo::sysinfo;
use supervisor::Failure;

use crate::kernel::{self, Places};
use crate::kvm;
use crate::plan::Host;

/// What every machine needs, opened.
#[derive(Debug)]
pub struct Ready {
    /// `/dev/kvm`.
    pub kvm: OwnedFd,
    /// The guest's kernel, an ELF file.
    pub vmlinux: OwnedFd,
    /// The archive of its first files.
    pub initramfs: OwnedFd,
}

/// Opens what every machine needs. The kernel of guests is made ready if it is not yet, which takes
/// its time: it ends by `signals`, too.
///
/// # Errors
///
/// `vm.…`: what is missing on this host, and what helps; and that of an interruption.
pub(crate) fn ready(signals: Option<BorrowedFd<'_>>) -> Result<Ready, Failure> {
    let places = Places::of_host()?;
    let kvm = kvm::open(&places, signals)?;
    let kernel = match kernel::look(&places)? {
        (_, Some(ready)) => ready,
        (source, None) => kernel::have_prepared(&places, &source, signals)?,
    };
    Ok(Ready { kvm, vmlinux: kernel.vmlinux.into(), initramfs: kernel.initramfs.into() })
}

/// Looks at the host.
pub(crate) fn look() -> Host {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Host {
        processors: u32::try_from(processors).unwrap_or(u32::MAX),
        // A host that cannot tell has enough.
        memory: sysinfo().map_or(u64::MAX, |info| info.ram_total()),
    }
}
