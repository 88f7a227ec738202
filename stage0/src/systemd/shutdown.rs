//! Whether the host is about to stop.
//!
//! The program `systemctl` is asked rather than the bus, which is stopped at the same time as pods
//! are; only ends of pods that were asked for ever ask.

use std::process::{Command, Stdio};

/// Tells whether the host is being shut down or rebooted; `false` where nobody can tell.
pub(crate) fn is_under_way() -> bool {
    let mut command = Command::new("systemctl");
    command.arg("is-system-running").stdin(Stdio::null()).stderr(Stdio::null());
    command.output().is_ok_and(|said| said.stdout.trim_ascii() == b"stopping")
}
