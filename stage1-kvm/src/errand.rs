//! Errands of this program: itself, executed anew for what may take minutes.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use supervisor::errand::attend;
pub(crate) use supervisor::errand::{Errand, interrupted};
use supervisor::{During, Failure};

/// Executes this program anew as `verb`, with `input` as its standard input, and waits for its end:
/// for `patience` at most, and only as long as no signal comes. It can write to our standard error.
///
/// # Errors
///
/// If it cannot be started or waited for; how it ends is no error.
pub(crate) fn run(
    verb: &str,
    input: Option<OwnedFd>,
    signals: Option<BorrowedFd<'_>>,
    patience: Option<Duration>,
) -> Result<Errand, Failure> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("stage1-kvm").arg(verb).stdin(input.map_or_else(Stdio::null, Stdio::from));
    attend(command, signals, patience).during(|| format!("cannot run `stage1-kvm {verb}`"))
}
