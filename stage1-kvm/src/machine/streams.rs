//! Standard streams and terminals: made here, their far ends handed to the monitor under names the
//! guest is told.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

use pod_abi::app::{AppSpec, Stdio};
use pod_abi::control::WindowSize;
use pod_abi::frame;
use pod_abi::guest::{AppStreams, Carried, ExecStreams, TerminalStreams, Token};
use pod_abi::inner::ToInit;
use rustix::fs::{CWD, Mode, OFlags, fcntl_setfl, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::isatty;
use supervisor::{AppStdio, During, Failure, Master, Parcel, Terminal, UNSEEN};
use vmm::helm::Direction;

use super::Machine;

/// The most processes for which something is kept plugged: more than a guest has streams for.
const MAX_PROMISED: usize = 512;

/// What was plugged for processes in apps, until they have ended.
#[derive(Debug, Default)]
pub(super) struct Promised {
    processes: BTreeMap<u32, Vec<Token>>,
}

impl Promised {
    /// Notes what was plugged for a process; returns what is given up for it, of the oldest.
    fn note(&mut self, id: u32, tokens: Vec<Token>) -> Vec<Token> {
        self.processes.insert(id, tokens);
        let oldest =
            if self.processes.len() > MAX_PROMISED { self.processes.pop_first() } else { None };
        oldest.map(|(_, tokens)| tokens).unwrap_or_default()
    }

    /// Returns what was plugged for a process that has ended.
    pub(super) fn end(&mut self, id: u32) -> Vec<Token> {
        self.processes.remove(&id).unwrap_or_default()
    }
}

/// Returns the names of an app's streams.
pub(super) fn of_an_app(streams: &AppStreams) -> Vec<Token> {
    match streams {
        AppStreams::Pipes { input, stdout, stderr } => {
            input.iter().chain([stdout, stderr]).copied().collect()
        }
        AppStreams::Terminal(streams) => vec![streams.data, streams.control],
    }
}

fn of_a_process(streams: Option<&ExecStreams>) -> Vec<Token> {
    match streams {
        Some(ExecStreams::Pipes(tokens)) => tokens.to_vec(),
        Some(ExecStreams::Terminal(streams)) => vec![streams.data, streams.control],
        None => Vec::new(),
    }
}

impl Machine<'_> {
    fn plug(&self, end: &OwnedFd, direction: Direction) -> Result<Token, Failure> {
        match self.line.borrow().as_ref() {
            Some(line) => line.helm.plug(end, direction),
            None => Err(Failure::new("the pod has no machine")),
        }
    }

    /// Takes back what the guest has not claimed by now: whoever reads the other end sees that
    /// nothing comes.
    pub(super) fn unplug(&self, tokens: &[Token]) {
        if let Some(line) = self.line.borrow().as_ref() {
            for token in tokens {
                // A monitor that cannot be told ends, and holds nothing any more.
                let _ = line.helm.unplug(*token);
            }
        }
    }

    /// Hands the far ends of a terminal over that is made in this size.
    fn plug_terminal(
        &self,
        slave: &[OwnedFd],
        size: WindowSize,
    ) -> Result<TerminalStreams, Failure> {
        let [data, control] = slave else { return Err(Failure::new("no terminal has such ends")) };
        Ok(TerminalStreams {
            data: self.plug(data, Direction::Both)?,
            control: self.plug(control, Direction::In)?,
            size,
        })
    }

    /// Makes the standard streams of an app: what the guest is told of its ends, and ours.
    pub(super) fn stdio(&self, spec: &AppSpec) -> Result<(AppStreams, AppStdio), Failure> {
        if spec.stdio == Stdio::Terminal {
            let Terminal { master, slave } = terminal()?;
            let streams = AppStreams::Terminal(self.plug_terminal(&slave, UNSEEN)?);
            return Ok((streams, AppStdio::Terminal { master }));
        }
        let (stdout, told_stdout) = self.output()?;
        let (stderr, told_stderr) = self.output()?;
        let (told_input, input) = match spec.stdio {
            Stdio::Open => {
                let (its, ours) = pipe()?;
                nonblocking(&ours)?;
                (Some(self.plug(&its, Direction::In)?), Some(ours))
            }
            Stdio::Logged | Stdio::Terminal => (None, None),
        };
        let streams =
            AppStreams::Pipes { input: told_input, stdout: told_stdout, stderr: told_stderr };
        Ok((streams, AppStdio::Streams { input, stdout, stderr }))
    }

    fn output(&self) -> Result<(OwnedFd, Token), Failure> {
        let (ours, its) = pipe()?;
        nonblocking(&ours)?;
        let token = self.plug(&its, Direction::Out)?;
        Ok((ours, token))
    }

    /// Puts a frame for stage2-init into the form that passes the machine: what goes along with it
    /// is handed to the monitor, its names go with the frame.
    pub(super) fn carry(
        &self,
        message: &ToInit,
        descriptors: &[OwnedFd],
    ) -> Result<Parcel, Failure> {
        let streams = match (message, descriptors) {
            (ToInit::Exec { terminal: true, .. }, slave) => {
                Some(ExecStreams::Terminal(self.plug_terminal(slave, self.terminal_size.get())?))
            }
            (ToInit::Exec { .. } | ToInit::Copy { .. }, [input, output, error]) => {
                Some(ExecStreams::Pipes([
                    self.plug(&own_opening(input)?, Direction::In)?,
                    self.plug(&own_opening(output)?, Direction::Out)?,
                    self.plug(&own_opening(error)?, Direction::Out)?,
                ]))
            }
            (_, []) => None,
            _ => return Err(Failure::new("no descriptor passes the wall of a machine")),
        };
        let carried = Carried { message: message.clone(), streams };
        let bytes = frame::encode(&carried).map_err(|error| {
            self.unplug(&of_a_process(carried.streams.as_ref()));
            Failure::of("a frame for the pod's PID 1 is none", error)
        })?;
        if let ToInit::Exec { id, .. } | ToInit::Copy { id, .. } = message {
            let tokens = of_a_process(carried.streams.as_ref());
            let given_up = self.promised.borrow_mut().note(*id, tokens);
            self.unplug(&given_up);
        }
        Ok(Parcel { bytes, descriptors: Vec::new() })
    }
}

/// Returns an opening of a client's stream that cannot make the monitor wait. Only a terminal can:
/// whether it does belongs to the opening, which the client and its shell use, too.
fn own_opening(stream: &OwnedFd) -> Result<OwnedFd, Failure> {
    if isatty(stream) {
        let path = format!("/proc/self/fd/{}", stream.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if let Ok(opened) = openat(CWD, path, flags, Mode::empty()) {
            return Ok(opened);
        }
    }
    stream.try_clone().during(|| "cannot copy a descriptor")
}

/// Makes both ends of a terminal that will be made behind the wall.
pub(super) fn terminal() -> Result<Terminal, Failure> {
    let (data, its_data) = pair()?;
    let (control, its_control) = pair()?;
    let master = Master::Behind { data, control };
    Ok(Terminal { master, slave: vec![its_data, its_control] })
}

/// Makes a stream of which our end, the first, does not block.
fn pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    let (ours, its) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .during(|| "cannot make a stream for a terminal, socketpair()")?;
    nonblocking(&ours)?;
    Ok((ours, its))
}

/// Makes a pipe: the end to read, and the end to write.
fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    pipe_with(PipeFlags::CLOEXEC).during(|| "cannot make a pipe for an app")
}

fn nonblocking(end: &OwnedFd) -> Result<(), Failure> {
    fcntl_setfl(end, OFlags::NONBLOCK).during(|| "cannot change a descriptor, fcntl()")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_never_claims_is_given_up_the_oldest_first() {
        let (mut promised, token) =
            (Promised::default(), |id: u32| Token([id.to_le_bytes()[0]; 16]));
        let most = u32::try_from(MAX_PROMISED).unwrap();
        for id in 0..most {
            assert!(promised.note(id, vec![token(id)]).is_empty());
        }
        assert_eq!(promised.note(most, vec![token(most)]), [token(0)]);
        assert_eq!(promised.end(1), [token(1)]);
        assert!(promised.end(1).is_empty() && promised.end(0).is_empty());
        assert!(promised.note(most + 1, Vec::new()).is_empty());
    }
}
