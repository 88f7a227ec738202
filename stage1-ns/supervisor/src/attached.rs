//! The streams of a client that is attached to an app, or has started a process on a terminal.
//!
//! A client makes pipes of its own for this and sends our ends. Each is opened once more, so that
//! whether it blocks is nobody's business but ours: a client that stalls stalls the app it is
//! attached to, as a pipe would, and never the supervisor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pod_abi::Report;
use pod_abi::control::Reply;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::{Errno, read};

use crate::sink::Sink;
use crate::stream::Source;

/// One attached client.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The place of the app, or terminal, it is attached to; `None` for the output of all apps.
    pub(crate) place: Option<u32>,
    /// What it is told when all that was said to it is written.
    pub(crate) finale: Option<Reply>,
    /// Whether the app's input ends when the client's does.
    pub(crate) ends_input: bool,
    /// Whether the client has said that its input ends.
    pub(crate) ending: bool,
    /// Whether the pod was held for this client: it is the one that runs it.
    pub(crate) runs_the_pod: bool,
    feed: Option<OwnedFd>,
    stdout: Sink<OwnedFd>,
    stderr: Sink<OwnedFd>,
}

/// What has come of a client's input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// This many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// It has ended.
    Ended,
}

impl Attached {
    /// Takes the three streams of a client; its input only if `input`.
    ///
    /// # Errors
    ///
    /// A report for the client if they are no pipes.
    pub(crate) fn new(
        place: Option<u32>,
        descriptors: &[OwnedFd],
        input: bool,
    ) -> Result<Self, Box<Report>> {
        let refused = || {
            let what = "standard streams to attach are pipes of the client's own";
            Box::new(Report::new("attach.streams", what))
        };
        let [stdin, stdout, stderr] = descriptors else { return Err(refused()) };
        let open = |pipe: &OwnedFd, flags| reopen(pipe, flags).map_err(|_| refused());
        Ok(Self {
            place,
            finale: None,
            ends_input: false,
            ending: false,
            runs_the_pod: false,
            feed: if input { Some(open(stdin, OFlags::RDONLY)?) } else { None },
            stdout: Sink::new(open(stdout, OFlags::WRONLY)?),
            stderr: Sink::new(open(stderr, OFlags::WRONLY)?),
        })
    }

    /// Shows bytes.
    pub(crate) fn show(&mut self, source: Source, bytes: &[u8]) {
        match source {
            Source::Stdout => self.stdout.push(bytes),
            Source::Stderr => self.stderr.push(bytes),
        }
    }

    /// Writes what is held, as far as it is taken.
    pub(crate) fn flush(&mut self) {
        self.stdout.flush();
        self.stderr.flush();
    }

    /// Tells whether something is held.
    pub(crate) fn is_clogged(&self) -> bool {
        self.stdout.is_clogged() || self.stderr.is_clogged()
    }

    /// Returns its streams of output, each with whether something is held for it.
    pub(crate) fn both(&self) -> [(Source, BorrowedFd<'_>, bool); 2] {
        [
            (Source::Stdout, self.stdout.as_fd(), self.stdout.is_clogged()),
            (Source::Stderr, self.stderr.as_fd(), self.stderr.is_clogged()),
        ]
    }

    /// Returns its input, as long as it has not ended.
    pub(crate) fn feed(&self) -> Option<BorrowedFd<'_>> {
        self.feed.as_ref().map(AsFd::as_fd)
    }

    /// Reads once of its input.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Fed {
        let Some(feed) = &self.feed else { return Fed::Nothing };
        match read(feed, buffer) {
            Err(Errno::AGAIN | Errno::INTR) => Fed::Nothing,
            Ok(count) if count > 0 => Fed::Bytes(count),
            Ok(_) | Err(_) => {
                self.feed = None;
                Fed::Ended
            }
        }
    }
}

/// Opens a pipe once more, as a file of our own that does not block.
fn reopen(pipe: &OwnedFd, access: OFlags) -> rustix::io::Result<OwnedFd> {
    if FileType::from_raw_mode(fstat(pipe)?.st_mode) != FileType::Fifo {
        return Err(Errno::INVAL);
    }
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    openat(CWD, path, access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    use rustix::fs::fcntl_getfl;
    use rustix::pipe::pipe;

    #[test]
    fn whether_the_clients_own_ends_block_is_not_touched() {
        let ((stdin, mut feeder), (reader, stdout), (_other, stderr)) =
            (pipe().unwrap(), pipe().unwrap(), pipe().unwrap());
        let ours = [stdin, stdout, stderr];
        let mut attached = Attached::new(None, &ours, true).unwrap();
        attached.show(Source::Stdout, &[b'x'; 200_000]);
        assert!(attached.is_clogged());
        let mut buffer = [0; 16];
        assert_eq!(attached.read(&mut buffer), Fed::Nothing);
        rustix::io::write(&mut feeder, b"abc").unwrap();
        assert_eq!(attached.read(&mut buffer), Fed::Bytes(3));
        drop(feeder);
        assert_eq!(attached.read(&mut buffer), Fed::Ended);
        for end in ours.iter().chain([&reader]) {
            assert!(!fcntl_getfl(end).unwrap().contains(OFlags::NONBLOCK));
        }
    }

    #[test]
    fn only_pipes_are_taken() {
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        assert!(Attached::new(None, &[file(), file(), file()], false).is_err());
        assert!(Attached::new(None, &[], false).is_err());
        let mut file = File::from(file());
        file.write_all(b"x").unwrap();
    }
}
