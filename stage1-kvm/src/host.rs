//! What this host has, as far as the size of a machine depends on it.

use std::thread;

use nix::sys::sysinfo::sysinfo;

use crate::plan::Host;

/// Looks at the host.
pub(crate) fn look() -> Host {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Host {
        processors: u32::try_from(processors).unwrap_or(u32::MAX),
        // A host that cannot tell has enough.
        memory: sysinfo().map_or(u64::MAX, |info| info.ram_total()),
    }
}
