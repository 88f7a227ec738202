//! What an app gets unless something says otherwise.
//!
//! The lists are moby's (`oci/defaults.go`), which images are tested against; the runtime-spec has
//! the words, not the lists.

use pod_abi::PodPath;

/// Where programs are looked for.
pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How systemd and others tell that they run in one of ours (systemd's container interface).
pub(super) const CONTAINER: &str = "container=pod";

/// What a terminal is unless somebody says otherwise: what every emulator of today can play.
pub(super) const TERM: &str = "TERM=xterm";

/// What tells of, or reaches into, the host, and reads as empty.
pub(super) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What steers the host, and cannot be written.
pub(super) const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Reads one of the lists above.
pub(super) fn paths(list: &[&str]) -> Vec<PodPath> {
    list.iter().map(|path| PodPath::parse(path).expect("a constant, read in a test")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_paths_in_order() {
        assert_eq!(paths(MASKED).len(), MASKED.len());
        assert!(MASKED.is_sorted() && READ_ONLY.is_sorted());
        assert_eq!(paths(READ_ONLY)[0].as_str(), "/proc/bus");
    }
}
