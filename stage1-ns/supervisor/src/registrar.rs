//! The child that tells machined of the pod: `pod internal-register`.
//!
//! Nobody waits for it: the pod runs whether or not machined knows it, and why it does not is
//! written into the journal. It ends with the pod at the latest.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use pod_abi::manifest::PodManifest;
use pod_abi::stage;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The most of its words that are read, in bytes.
const MAX_WORDS: u64 = 2048;

/// The child.
#[derive(Debug)]
pub(crate) struct Registrar {
    child: Child,
    end: OwnedFd,
}

impl Registrar {
    /// Starts it through a descriptor of `pod`, for the pod whose PID 1 is `leader`.
    pub(crate) fn start(
        program: BorrowedFd<'_>,
        pod: &PodManifest,
        leader: u32,
    ) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        let child = Command::new(path)
            .arg0("pod")
            .args(stage::register_arguments(&pod.name, &pod.uuid, leader))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self { child, end })
    }

    /// Collects it, once it has ended; returns what it had to say, if it failed.
    pub(crate) fn collect(mut self) -> Option<String> {
        let status = self.child.wait().ok()?;
        let mut words = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            // What was read counts.
            let _ = stderr.take(MAX_WORDS).read_to_end(&mut words);
        }
        (!status.success()).then(|| joined(&String::from_utf8_lossy(&words)))
    }

    /// Ends it without an answer.
    pub(crate) fn end(mut self) {
        // It may have ended; either way it is collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl AsFd for Registrar {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

/// Makes one line of an error as `pod` prints it.
fn joined(words: &str) -> String {
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text = lines.join("; ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    if text.is_empty() {
        "its registration ended without a word".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let printed = "error: machined refused the pod\ncaused by: no\n  hint: x\n";
        assert_eq!(joined(printed), "machined refused the pod; caused by: no; hint: x");
        assert_eq!(joined("\n"), "its registration ended without a word");
    }
}
