//! Runs a plugin that is a program, and lets it neither hang, nor talk without end, nor stay.
//!
//! It runs in the network namespace of the thread that calls, which is the host's, in a process
//! group of its own, with `/` as its directory and no variables but those it is given: DEL may be
//! called by a unit, a timer or a person, and must not differ by who calls.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::invocation::Invocation;

/// The most bytes of an answer. Real ones have a few hundred.
pub(crate) const MAX_ANSWER: usize = 1 << 20;
/// What is kept of a plugin's log, in bytes: the end, where the reason stands.
const KEPT_LOG: usize = 16 << 10;
/// How much is read at once, in bytes.
const CHUNK: usize = 8 << 10;
/// What is still read of a plugin that has ended, in bytes at most and each stream: more than a
/// pipe holds, so that nothing it said is lost, and no end that a child of it might push away.
const LAST_WORDS: usize = 2 << 20;

/// What a plugin did.
#[derive(Debug)]
pub(crate) struct Said {
    /// How it ended.
    pub(crate) end: End,
    /// What it wrote to standard output.
    pub(crate) answer: Vec<u8>,
    /// The end of what it wrote to standard error.
    pub(crate) log: String,
}

/// How a plugin ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Status(ExitStatus),
    /// It took too long and was killed, with everything in its process group.
    TimedOut,
    /// It said more than [`MAX_ANSWER`] and was killed likewise.
    TooMuch,
}

/// Runs `program` as `invocation` says, for at most `time`.
///
/// What it reads from standard input is written into `input`, a file of ours, and taken out again.
/// A file cannot block us as a pipe could, and if it is locked, the plugin holds the lock as well:
/// should we be killed, nobody works on the same container before the plugin has ended, too.
///
/// # Errors
///
/// That of a system call, with its name; the plugin has been killed then.
pub(crate) fn run(
    program: &Path,
    invocation: &Invocation,
    environment: &[(OsString, OsString)],
    input: &File,
    time: Duration,
) -> io::Result<Said> {
    let deadline = Instant::now() + time;
    fill(input, &invocation.stdin.to_string())?;
    let mut running = Running::start(program, invocation, environment, input)?;
    let said = running.listen(deadline);
    drop(running);
    input.set_len(0)?;
    said
}

/// Makes `text` the content of `input`, to be read from its beginning.
fn fill(mut input: &File, text: &str) -> io::Result<()> {
    input.set_len(0)?;
    input.write_all_at(text.as_bytes(), 0)?;
    input.rewind()
}

/// A plugin that runs; it is killed and collected when this is dropped.
struct Running {
    child: Child,
    pidfd: OwnedFd,
    ended: Option<ExitStatus>,
}

impl Running {
    fn start(
        program: &Path,
        invocation: &Invocation,
        environment: &[(OsString, OsString)],
        input: &File,
    ) -> io::Result<Self> {
        let mut child = Command::new(program)
            .current_dir("/")
            .env_clear()
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .envs(invocation.environment())
            .stdin(Stdio::from(input.try_clone()?))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        match rustix::process::pidfd_open(pid_of(&child), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { child, pidfd, ended: None }),
            Err(errno) => {
                let _ = child.kill(); // it has not been waited for, so it is still itself
                let _ = child.wait();
                Err(errno.into())
            }
        }
    }

    /// Reads both streams until the program has ended, whoever else may still hold them.
    fn listen(&mut self, deadline: Instant) -> io::Result<Said> {
        let mut answer = Stream::of(self.child.stdout.take(), Keep::Beginning)?;
        let mut log = Stream::of(self.child.stderr.take(), Keep::End)?;
        let end = loop {
            if answer.overflowed {
                break End::TooMuch;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break End::TimedOut;
            };
            if self.wait(&[&answer, &log], left)? {
                let status = self.child.wait()?;
                self.ended = Some(status);
                answer.read(LAST_WORDS)?;
                log.read(LAST_WORDS)?;
                break if answer.overflowed { End::TooMuch } else { End::Status(status) };
            }
            answer.read(CHUNK)?;
            log.read(CHUNK)?;
        };
        let log = String::from_utf8_lossy(&log.kept).into_owned();
        Ok(Said { end, answer: answer.kept, log })
    }

    /// Waits until there is something to read, the program has ended or `left` is over; tells
    /// whether it has ended.
    fn wait(&self, streams: &[&Stream], left: Duration) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        let open = streams.iter().filter_map(|stream| stream.from.as_ref());
        fds.extend(open.map(|from| PollFd::new(from, PollFlags::IN)));
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(!fds[0].revents().is_empty()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Not yet waited for, so the number is still the group's.
            let _ = rustix::process::kill_process_group(pid_of(&self.child), Signal::KILL);
            let _ = self.child.wait(); // nothing outlives SIGKILL for long
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Which part of a stream is kept.
enum Keep {
    /// The first [`MAX_ANSWER`] bytes.
    Beginning,
    /// The last [`KEPT_LOG`] bytes.
    End,
}

/// The reading end of a pipe.
struct Stream {
    /// `None` at its end.
    from: Option<File>,
    keep: Keep,
    kept: Vec<u8>,
    overflowed: bool,
}

impl Stream {
    fn of(pipe: Option<impl Into<OwnedFd>>, keep: Keep) -> io::Result<Self> {
        let from = pipe.map(|pipe| File::from(pipe.into()));
        if let Some(file) = &from {
            // The writer's end is another description and stays as it is.
            rustix::fs::fcntl_setfl(file.as_fd(), OFlags::NONBLOCK)?;
        }
        Ok(Self { from, keep, kept: Vec::new(), overflowed: false })
    }

    /// Reads what is there, at most about `limit` bytes.
    fn read(&mut self, limit: usize) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        let mut total = 0;
        while let Some(from) = self.from.as_mut().filter(|_| total < limit && !self.overflowed) {
            match from.read(&mut chunk) {
                Ok(0) => self.from = None,
                Ok(count) => {
                    total += count;
                    self.take(&chunk[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        match self.keep {
            Keep::Beginning => self.overflowed = self.kept.len() > MAX_ANSWER,
            Keep::End => {
                let surplus = self.kept.len().saturating_sub(KEPT_LOG);
                self.kept.drain(..surplus);
            }
        }
    }
}
