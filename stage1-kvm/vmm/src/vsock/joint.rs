//! Where a connection meets its descriptor: what is read and written there, what waits in between,
//! and what has ended.

use super::buffer::Buffer;
use super::packet::shutdown;
use super::{BUFFER, HostStream, Id, Moved};
use crate::helm::Direction;

/// The host's half of a connection.
#[derive(Debug)]
pub(super) struct Joint<H> {
    /// None once both directions have ended: then the descriptor is closed.
    stream: Option<H>,
    direction: Direction,
    input: Input,
    output: Output,
    backlog: Buffer,
    /// Bytes taken from the guest, ever.
    accepted: u64,
    /// Bytes written, ever.
    written: u64,
    /// INNER waits until so many are written.
    awaited: u64,
    /// INNER has waited for it in vain, and does not wait again before nothing is buffered.
    late: bool,
    readable: bool,
    writable: bool,
}

/// From the descriptor to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// There is none: the stream goes out only.
    Absent,
    Open,
    Ended,
}

/// From the guest to the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Open,
    /// Nothing more comes; it ends with the last byte that is buffered.
    Ending,
    /// Nobody reads it.
    Broken,
    Ended,
}

/// What a guest is told of what was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    Bytes(usize),
    Later,
    End,
}

impl<H: HostStream> Joint<H> {
    /// Joins a stream, whose readiness is reported under `id` from now on.
    pub(super) fn new(mut stream: H, direction: Direction, id: Id) -> Self {
        stream.watch(id);
        let (input, output) = match direction {
            Direction::In => (Input::Open, Output::Ended),
            Direction::Out => (Input::Absent, Output::Open),
            Direction::Both => (Input::Open, Output::Open),
        };
        Self {
            stream: Some(stream),
            direction,
            input,
            output,
            backlog: Buffer::default(),
            accepted: 0,
            written: 0,
            awaited: 0,
            late: false,
            // Found out by trying.
            readable: true,
            writable: true,
        }
    }

    /// Whether bytes of the guest have a place to go to, were it the void behind a broken pipe.
    pub(super) fn takes(&self) -> bool {
        matches!(self.output, Output::Open | Output::Broken)
    }

    /// Whether bytes might be read.
    pub(super) fn may_pull(&self) -> bool {
        self.input == Input::Open && self.readable
    }

    /// Has it read once more; no if there is nothing to read from.
    pub(super) fn look_again(&mut self) -> bool {
        self.readable = true;
        self.input == Input::Open
    }

    /// What is shut down on this side, as `packet::shutdown`. A stream without input has nothing
    /// to send from the start; a guest is told of that together with the end of its output.
    pub(super) fn is_shut_down(&self) -> u32 {
        match (self.input, self.output) {
            (Input::Open, Output::Broken) => shutdown::RECEIVE,
            (Input::Ended | Input::Absent, Output::Broken) => shutdown::BOTH,
            (Input::Open, _) | (Input::Absent, Output::Open) => 0,
            (Input::Ended, _) | (Input::Absent, Output::Ending | Output::Ended) => shutdown::SEND,
        }
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    #[cfg(any(test, feature = "rig"))]
    pub(super) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Notes what is reported of the descriptor. One whose other end is gone takes nothing more;
    /// what it still holds can be read.
    pub(super) fn report(&mut self, readiness: Readiness) -> usize {
        self.readable |= readiness.readable || readiness.gone;
        self.writable |= readiness.writable;
        if readiness.gone && matches!(self.output, Output::Open | Output::Ending) {
            return self.break_output();
        }
        0
    }

    /// Takes bytes of the guest: writes what it can, and keeps the rest. Returns how many are
    /// disposed of.
    pub(super) fn push(&mut self, bytes: &[u8], way: Way) -> usize {
        if self.output != Output::Open {
            return bytes.len();
        }
        self.accepted += bytes.len() as u64;
        let mut rest = bytes;
        if way == Way::Through && self.backlog.is_empty() {
            while let Some(stream) = self.stream.as_mut().filter(|_| self.writable)
                && !rest.is_empty()
            {
                match stream.send(rest) {
                    Moved::Some(count) => {
                        self.written += count as u64;
                        rest = &rest[count.min(rest.len())..];
                    }
                    Moved::Later => self.writable = false,
                    Moved::Ended => {
                        self.break_output();
                        return bytes.len();
                    }
                }
            }
        }
        let kept = self.backlog.push(rest, BUFFER as usize);
        debug_assert_eq!(kept, rest.len(), "credit bounds what is kept");
        bytes.len() - rest.len()
    }

    /// Writes what is kept, as far as the descriptor takes it. Returns how many bytes are disposed
    /// of.
    pub(super) fn flush(&mut self) -> usize {
        let mut gone = 0;
        while let Some(stream) = self.stream.as_mut().filter(|_| self.writable)
            && !self.backlog.is_empty()
        {
            match stream.send(self.backlog.front()) {
                Moved::Some(count) => {
                    self.backlog.consume(count);
                    self.written += count as u64;
                    gone += count;
                }
                Moved::Later => self.writable = false,
                Moved::Ended => gone += self.break_output(),
            }
        }
        if self.backlog.is_empty() {
            self.late = false;
            if self.output == Output::Ending {
                self.end_output();
            }
        }
        gone
    }

    /// Reads bytes for the guest.
    pub(super) fn pull(&mut self, room: &mut [u8]) -> Pulled {
        let Some(stream) = self.stream.as_mut().filter(|_| self.input == Input::Open) else {
            return Pulled::Later;
        };
        match stream.receive(room) {
            Moved::Some(count) => Pulled::Bytes(count),
            Moved::Later => {
                self.readable = false;
                Pulled::Later
            }
            Moved::Ended => {
                self.input = Input::Ended;
                self.close_if_over();
                Pulled::End
            }
        }
    }

    /// The guest sends nothing more.
    pub(super) fn guest_sends_no_more(&mut self) {
        match self.output {
            Output::Open if self.backlog.is_empty() => self.end_output(),
            Output::Open => self.output = Output::Ending,
            Output::Broken => self.end_output(),
            Output::Ending | Output::Ended => {}
        }
    }

    /// The guest receives nothing more.
    pub(super) fn guest_receives_no_more(&mut self) {
        if self.input == Input::Open {
            self.input = Input::Ended;
            if let Some(stream) = self.own() {
                stream.end_receiving();
            }
            self.close_if_over();
        }
    }

    /// Lets INNER wait for what is kept; no if there is nothing to wait for.
    pub(super) fn await_backlog(&mut self) -> bool {
        if self.has_backlog() && !self.late {
            self.awaited = self.accepted;
        }
        self.is_awaited()
    }

    /// Whether INNER still waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.has_backlog() && !self.late && self.written < self.awaited
    }

    /// INNER waits for it no longer.
    pub(super) fn give_up(&mut self) {
        self.late |= self.is_awaited();
    }

    fn break_output(&mut self) -> usize {
        let lost = self.backlog.len();
        self.backlog.clear();
        self.late = false;
        if self.output == Output::Ending {
            self.end_output();
        } else {
            self.output = Output::Broken;
            self.close_if_over();
        }
        lost
    }

    fn end_output(&mut self) {
        self.output = Output::Ended;
        if let Some(stream) = self.own() {
            stream.end_sending();
        }
        self.close_if_over();
    }

    /// The stream, if it was made for this: only those flow both ways. One way flows what a client
    /// has, which may be one socket for many processes: to shut it down would end the streams of
    /// these, too. Closing our descriptor is all the end it needs.
    fn own(&mut self) -> Option<&mut H> {
        self.stream.as_mut().filter(|_| self.direction == Direction::Both)
    }

    fn close_if_over(&mut self) {
        if self.input != Input::Open && matches!(self.output, Output::Ended | Output::Broken) {
            self.stream = None;
        }
    }
}

/// How bytes of a guest go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the descriptor at once, if it takes them.
    Through,
    /// Into the buffer, until they are flushed.
    Held,
}

/// What is reported of a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// It can be read, or has ended.
    pub readable: bool,
    /// It can be written.
    pub writable: bool,
    /// Its other end is gone (`EPOLLHUP`, `EPOLLERR`).
    pub gone: bool,
}
