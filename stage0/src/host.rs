//! What pods are told of the host: its resolvers, and its time.

use std::fs;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use pod_abi::manifest::PodManifest;
use pod_abi::{PodName, Timestamp};

/// The longest file of the host handed on, in bytes; resolvers read far less.
const MAX_FILE: u64 = 1 << 16;

/// Returns the time.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Reads a text file, at most 64 KiB of it; empty if it cannot be read.
pub(crate) fn text(path: &str) -> String {
    let mut bytes = Vec::with_capacity(4096); // room for nearly every file, so that one read takes it
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(MAX_FILE).read_to_end(&mut bytes); // what was read counts
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Returns `/etc/hosts` for the apps of a pod.
pub(crate) fn hosts(manifest: &PodManifest) -> String {
    let name: &PodName = manifest.sandbox.hostname.as_ref().unwrap_or(&manifest.name);
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {name}\n")
}
