//! Bytes from one descriptor to another, in order and with bounded memory.
//!
//! What a sink does not take is held, at most one read of it; nothing more is read until it is
//! gone, so a sink that stands still holds up its source and nobody else. Neither descriptor
//! blocks.

use std::os::fd::BorrowedFd;

use rustix::io::{Errno, read, write};

/// Bytes of one read, which are also the most that is held for one sink.
pub(crate) const CHUNK: usize = 64 << 10;

/// One direction of a stream.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    held: Vec<u8>,
    /// How many of the bytes held are written.
    written: usize,
    /// Whether the source has said all.
    ended: bool,
}

/// Where a flow stands after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// The source has nothing now, and nothing is held.
    Dry,
    /// The sink takes nothing now, and something is held.
    Full,
    /// There may be more than this turn had room for.
    Unfinished,
    /// All that the source ever said is written.
    Ended,
    /// The sink takes nothing any more.
    Broken,
}

impl Flow {
    /// Makes a flow that begins with bytes of ours.
    pub(crate) fn beginning(bytes: &[u8]) -> Self {
        Self { held: bytes.to_vec(), ..Self::default() }
    }

    /// Carries up to `most` bytes through `buffer`, which has no bytes of anybody between turns.
    pub(crate) fn carry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        buffer: &mut [u8],
        most: usize,
    ) -> Stand {
        let mut left = most;
        loop {
            match self.flush(to) {
                Stand::Dry => {}
                stand => return stand,
            }
            if self.ended {
                return Stand::Ended;
            }
            let room = buffer.len().min(left);
            if room == 0 {
                return Stand::Unfinished;
            }
            match read(from, &mut buffer[..room]) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    left -= count;
                    let written = written_at_once(to, &buffer[..count]);
                    self.held.extend_from_slice(&buffer[written..count]);
                }
                Err(Errno::AGAIN) => return Stand::Dry,
                Err(Errno::INTR) => {}
                // A terminal whose other end is closed says EIO, a stream that was reset its own.
                Err(_) => self.ended = true,
            }
        }
    }

    /// Writes what is held: [`Stand::Dry`] if that is all of it.
    pub(crate) fn flush(&mut self, to: BorrowedFd<'_>) -> Stand {
        while self.written < self.held.len() {
            match write(to, &self.held[self.written..]) {
                Ok(0) | Err(Errno::AGAIN) => return Stand::Full,
                Ok(count) => self.written += count,
                Err(Errno::INTR) => {}
                Err(_) => return Stand::Broken,
            }
        }
        if !self.held.is_empty() {
            // A quiet stream costs no memory.
            (self.held, self.written) = (Vec::new(), 0);
        }
        Stand::Dry
    }
}

/// Writes what a sink takes at once; whatever is in the way is met again with what is left.
fn written_at_once(to: BorrowedFd<'_>, bytes: &[u8]) -> usize {
    write(to, bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};

    use proptest::prelude::*;
    use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
    }

    #[test]
    fn a_sink_that_is_gone_breaks_a_flow_and_a_source_that_is_gone_ends_it() {
        let ((read_end, write_end), mut buffer) = (pipe(), [0; 64]);
        let (sink_end, sink) = pipe();
        let mut flow = Flow::default();
        write(&write_end, b"last words").unwrap();
        drop(write_end);
        assert_eq!(flow.carry(read_end.as_fd(), sink.as_fd(), &mut buffer, 1 << 20), Stand::Ended);
        let mut got = [0; 64];
        assert_eq!(read(&sink_end, &mut got).unwrap(), 10);
        drop(sink_end);
        let mut flow = Flow::beginning(b"x");
        assert_eq!(flow.carry(read_end.as_fd(), sink.as_fd(), &mut buffer, 1 << 20), Stand::Broken);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_byte_arrives_once_and_in_order_however_the_ends_take_turns(
            bytes in proptest::collection::vec(any::<u8>(), 0..200_000),
            begin in proptest::collection::vec(any::<u8>(), 0..20),
            turns in proptest::collection::vec((1_usize..70_000, 1_usize..70_000, 1_usize..70_000), 1..12),
        ) {
            let (source, feed) = pipe();
            let (end, sink) = pipe();
            fcntl_setpipe_size(&sink, 4096).unwrap();
            let mut flow = Flow::beginning(&begin);
            let (mut fed, mut got, mut buffer) = (0, Vec::new(), vec![0; CHUNK]);
            let mut feed = Some(feed);
            let mut ended = false;
            for &(feeding, carrying, taking) in turns.iter().cycle() {
                if let Some(open) = &feed {
                    let upto = bytes.len().min(fed + feeding);
                    fed += write(open, &bytes[fed..upto]).unwrap_or(0);
                    if fed == bytes.len() {
                        feed = None;
                    }
                }
                let stand = flow.carry(source.as_fd(), sink.as_fd(), &mut buffer, carrying);
                prop_assert!(stand != Stand::Broken);
                prop_assert!(flow.held.len() <= CHUNK.max(begin.len()));
                ended |= stand == Stand::Ended;
                let mut taken = vec![0; taking];
                let count = read(&end, &mut taken).unwrap_or(0);
                got.extend_from_slice(&taken[..count]);
                if ended && count == 0 {
                    break;
                }
            }
            prop_assert_eq!(got, [begin, bytes].concat());
        }
    }
}
