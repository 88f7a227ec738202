//! Work of this program in a process of its own: what may take minutes, or never come to an end.
//!
//! A thread would not do. One that hangs in the kernel cannot be ended, and beside any no child can
//! be cloned (`pod_sys::clone3`); the kernel wakes who joins a thread before that thread is gone.

use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Failure, INTERRUPTED};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The most bytes of what it says that are read: less than a pipe holds, for nobody reads earlier.
const MAX_SAID: u64 = 32 << 10;
/// How long it may take to be gone after it was killed. What hangs in the kernel longer is left.
const LAST: Duration = Duration::from_secs(1);

/// How an errand ended.
#[derive(Debug)]
pub enum Errand {
    /// By itself, and this is what it has said.
    Done(Vec<u8>),
    /// It was killed, for it took too long.
    Late,
    /// It was killed, for `signals` was readable.
    Interrupted,
}

/// Executes `command`, whose standard output is read, and waits for its end: for `patience` at
/// most, and only as long as no signal comes.
///
/// # Errors
///
/// If it cannot be started or waited for; how it ends is no error.
pub fn attend(
    mut command: Command,
    signals: Option<BorrowedFd<'_>>,
    patience: Option<Duration>,
) -> io::Result<Errand> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let ended = wait(&child, signals, patience);
    if !matches!(ended, Ok(None)) {
        let _ = child.kill(); // it may have ended just now
        let gone = wait(&child, None, Some(LAST));
        if matches!(gone, Ok(None)) {
            let _ = child.wait(); // at once, for it has ended
        }
    }
    if let Some(instead) = ended? {
        return Ok(instead);
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_SAID).read_to_end(&mut said)?;
    }
    child.wait()?;
    Ok(Errand::Done(said))
}

/// Tells that something was left undone because the pod is to end.
#[must_use]
pub fn interrupted() -> Failure {
    Failure::new("the pod was asked to end meanwhile").code(INTERRUPTED)
}

/// Waits for the end of a child; returns what has come instead.
fn wait(
    child: &Child,
    signals: Option<BorrowedFd<'_>>,
    patience: Option<Duration>,
) -> rustix::io::Result<Option<Errand>> {
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = patience.map(|patience| Instant::now() + patience);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut polled = vec![PollFd::new(&pidfd, PollFlags::IN)];
        polled.extend(signals.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut polled, left.as_ref()) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
            Ok(0) => return Ok(Some(Errand::Late)),
            Ok(_) if polled[0].revents().is_empty() => return Ok(Some(Errand::Interrupted)),
            Ok(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn an_errand_ends_by_itself_or_is_ended() {
        let errand = |words: &[&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            command
        };
        let done = attend(errand(&["echo", "done"]), None, None).unwrap();
        assert!(matches!(&done, Errand::Done(said) if said == b"done\n"), "{done:?}");
        let endless = ["sleep", "1000"];
        let late = attend(errand(&endless), None, Some(Duration::from_millis(1))).unwrap();
        assert!(matches!(late, Errand::Late), "{late:?}");
        let (reader, _) = rustix::pipe::pipe().unwrap();
        let interrupted = attend(errand(&endless), Some(reader.as_fd()), None).unwrap();
        assert!(matches!(interrupted, Errand::Interrupted), "{interrupted:?}");
    }
}
