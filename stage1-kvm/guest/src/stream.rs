//! One stream to the host, and the pipe or terminal of an app it belongs to.
//!
//! ```text
//!   host ═══ socket ──▶ standard input, or what is typed      (inward)
//!        ═══ socket ◀── standard output, or what is shown     (outward)
//!        ═══ control ─▶ sizes of the terminal
//! ```
//!
//! | what ends | what follows |
//! |---|---|
//! | the host's input | the app reads all of it, then the end |
//! | the app's reading | the host hears that nobody reads |
//! | the app's output | the host reads all of it, then the end |
//! | the host's reading | the app gets SIGPIPE |
//! | the host's end of a terminal | the terminal hangs up |

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::guest::{TerminalWord, Token};
use rustix::net::{Shutdown, shutdown};
use supervisor::{Fresh, Master};

use crate::flow::{Flow, Stand};
use crate::reach::{Reach, reach};
use crate::wire::Wire;

/// Which way a pipe leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the host to the app.
    In,
    /// From the app to the host.
    Out,
}

/// Our end of what an app has.
#[derive(Debug)]
enum Local {
    Pipe(OwnedFd),
    Terminal { master: Master, fresh: Fresh, control: Option<Wire> },
}

/// A stream to the host.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: OwnedFd,
    local: Local,
    /// Whether the host has not taken it yet.
    connecting: bool,
    /// Its token, as far as it is not sent yet, where nothing flows outward.
    greeting: Option<Flow>,
    inward: Option<Flow>,
    outward: Option<Flow>,
    /// Where the outward flow stood last.
    stand: Stand,
    /// Whether the reader of the pipe we write to has gone, which is told once.
    reader_gone: bool,
}

/// What is left to do for a stream after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing until something happens.
    Wait,
    /// More, without waiting.
    More,
    /// Nothing ever again.
    Over,
    /// Nothing ever again: the host has refused it.
    Refused,
}

impl Stream {
    /// Makes a stream for a pipe, of which we have one end.
    pub(crate) fn of_pipe(socket: OwnedFd, token: Token, pipe: OwnedFd, way: Way) -> Self {
        let greeting = Flow::beginning(&token.0);
        let (greeting, inward, outward) = match way {
            Way::In => (Some(greeting), Some(Flow::default()), None),
            Way::Out => (None, None, Some(greeting)),
        };
        Self {
            socket,
            local: Local::Pipe(pipe),
            connecting: true,
            greeting,
            inward,
            outward,
            stand: Stand::Full,
            reader_gone: false,
        }
    }

    /// Makes a stream for a terminal; `control` begins with its own token.
    pub(crate) fn of_terminal(
        socket: OwnedFd,
        token: Token,
        master: Master,
        control: Wire,
    ) -> Self {
        let fresh = Fresh::of(&master);
        Self {
            socket,
            local: Local::Terminal { master, fresh, control: Some(control) },
            connecting: true,
            greeting: None,
            inward: Some(Flow::default()),
            outward: Some(Flow::beginning(&token.0)),
            stand: Stand::Full,
            reader_gone: false,
        }
    }

    /// Returns the socket.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns our end of the pipe or terminal.
    pub(crate) fn local(&self) -> BorrowedFd<'_> {
        match &self.local {
            Local::Pipe(pipe) => pipe.as_fd(),
            Local::Terminal { master, .. } => master.data().as_fd(),
        }
    }

    /// Returns the stream of words to a terminal, if it is one's.
    pub(crate) fn control(&self) -> Option<BorrowedFd<'_>> {
        match &self.local {
            Local::Terminal { control: Some(control), .. } => Some(control.as_fd()),
            _ => None,
        }
    }

    /// Tells whether all that the app has said is with the host's kernel, or never will be.
    pub(crate) fn is_dry(&self) -> bool {
        self.outward.is_none() || self.stand == Stand::Dry
    }

    /// Notes that nobody reads the pipe we write to any more.
    pub(crate) fn lose_reader(&mut self) {
        self.reader_gone = true;
    }

    /// Carries up to `most` bytes each way.
    pub(crate) fn turn(&mut self, buffer: &mut [u8], most: usize) -> Left {
        self.heed_control();
        if self.connecting {
            match reach(&self.socket) {
                Reach::There => self.connecting = false,
                Reach::Asking => return Left::Wait,
                Reach::Refused => return Left::Refused,
            }
        }
        if let Some(greeting) = &mut self.greeting {
            match greeting.flush(self.socket.as_fd()) {
                Stand::Dry => self.greeting = None,
                Stand::Broken => return Left::Over,
                _ => return Left::Wait,
            }
        }
        let inward = self.turn_inward(buffer, most);
        let outward = self.turn_outward(buffer, most);
        match (&self.inward, &self.outward, &self.local) {
            (None, None, _) => Left::Over,
            // SECURITY: nobody looks at the terminal any more, as when a line is dropped; what
            // runs in front of it hears so.
            (None, _, Local::Terminal { .. }) | (_, None, Local::Terminal { .. }) => Left::Over,
            _ if inward || outward => Left::More,
            _ => Left::Wait,
        }
    }

    fn turn_inward(&mut self, buffer: &mut [u8], most: usize) -> bool {
        let Some(mut flow) = self.inward.take() else { return false };
        let stand = if self.reader_gone {
            Stand::Broken
        } else {
            flow.carry(self.socket.as_fd(), self.local(), buffer, most)
        };
        match stand {
            Stand::Dry | Stand::Full | Stand::Unfinished => self.inward = Some(flow),
            Stand::Ended => {}
            Stand::Broken => {
                // If it is closed already, the host knows.
                let _ = shutdown(&self.socket, Shutdown::Read);
            }
        }
        stand == Stand::Unfinished
    }

    fn turn_outward(&mut self, buffer: &mut [u8], most: usize) -> bool {
        let Some(mut flow) = self.outward.take() else { return false };
        self.stand = flow.carry(self.local(), self.socket.as_fd(), buffer, most);
        match self.stand {
            Stand::Dry | Stand::Full | Stand::Unfinished => self.outward = Some(flow),
            Stand::Ended => {
                // If it is closed already, nobody waits for an end.
                let _ = shutdown(&self.socket, Shutdown::Write);
            }
            Stand::Broken => {}
        }
        self.stand == Stand::Unfinished
    }

    /// Does what the host tells the terminal.
    pub(crate) fn heed_control(&mut self) {
        let Local::Terminal { master, fresh, control } = &mut self.local else { return };
        let Some(wire) = control else { return };
        let more = wire.flush().and_then(|()| wire.read());
        while let Ok(Some(word)) = wire.take() {
            match word {
                // A terminal that hangs up has no size any more.
                TerminalWord::Size(size) => drop(master.resize(size)),
                TerminalWord::Fresh => fresh.restore(master),
            }
        }
        if more.is_err() || wire.is_closed() {
            *control = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
    use std::time::{Duration, Instant};

    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn a_stream_that_the_host_refuses_is_not_one_that_has_ended() {
        // A port that was free a moment ago, and a socket that asks for it without waiting.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        let asked = connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        assert_eq!(asked, Err(rustix::io::Errno::INPROGRESS));
        let (pipe, _its) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let mut stream = Stream::of_pipe(socket, Token([1; 16]), pipe, Way::Out);
        let deadline = Instant::now() + Duration::from_secs(10);
        let left = loop {
            match stream.turn(&mut [0; 64], 64) {
                Left::Wait if Instant::now() < deadline => std::thread::yield_now(),
                left => break left,
            }
        };
        assert_eq!(left, Left::Refused);
    }
}
