//! The journal: whether there is one, and the last lines of a unit's, for an error to end with.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where it takes entries (`systemd-journald(8)`).
const SOCKET: &str = "/run/systemd/journal/socket";

/// Tells whether this host has a journal.
pub(crate) fn is_there() -> bool {
    Path::new(SOCKET).exists()
}

/// The most bytes of the journal that are read.
const MOST: u64 = 64 << 10;

/// Returns the last `count` lines the journal has of `unit`. None where there is no journal or nobody
/// to ask for it: they are shown beside an error that stands without them.
pub(crate) fn last_lines(unit: &str, count: usize) -> Vec<String> {
    let child = Command::new("journalctl")
        .args(["--no-pager", "--quiet", "--output=cat", "--boot"])
        .arg(format!("--unit={unit}"))
        .arg(format!("--lines={count}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return Vec::new() };
    let mut bytes = Vec::new();
    if let Some(output) = child.stdout.take() {
        let _ = output.take(MOST).read_to_end(&mut bytes); // what was read so far is shown
    }
    let _ = child.wait(); // its pipe is closed by now, so it ends
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(str::to_owned).collect()
}
