//! Standard streams and terminals: made here, their far ends handed to the monitor under names the
//! guest is told.

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

impl Machine<'_> {
    fn plug(&self, end: &OwnedFd, direction: Direction) -> Result<Token, Failure> {
        match self.line.borrow().as_ref() {
            Some(line) => line.helm.plug(end, direction),
            None => Err(Failure::new("the pod has no machine")),
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
        let bytes = frame::encode(&carried)
            .map_err(|error| Failure::of("a frame for the pod's PID 1 is none", error))?;
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
