//! Runs commands in a machine of QEMU for `cargo xtask`, which sits at the other end of a
//! virtio-serial port. What is said there is in `harness::guest`.
//!
//! systemd starts it anew when it ends: it holds nothing that outlives a command.

#![forbid(unsafe_code)]

use std::env;
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use rustix::termios::{self, tcsetwinsize};
use tests::guest::{self, FromGuest, PIECE, Size, Start, ToGuest};

/// Ports appear when their driver has looked at them.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// What all threads write to.
type Host = Arc<Mutex<File>>;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let port = File::options().read(true).write(true).open(port()?)?;
    let mut orders = port.try_clone()?;
    let host = Arc::new(Mutex::new(port));
    guest::greet(&mut *host.lock().unwrap_or_else(PoisonError::into_inner))?;
    let mut now: Option<Running> = None;
    while let Some(order) = ToGuest::read(&mut orders)? {
        match (order, &mut now) {
            (ToGuest::Start(start), now) => match Running::start(&start, &host) {
                Ok(running) => *now = Some(running),
                Err(error) => {
                    let what = start.words.first().map_or("", String::as_str);
                    tell(&host, &FromGuest::Refused(format!("cannot run `{what}`: {error}")))?;
                }
            },
            (ToGuest::Input(bytes), Some(running)) => running.feed(bytes, &host)?,
            (ToGuest::Input(_), None) => tell(&host, &FromGuest::Taken)?,
            (ToGuest::EndOfInput, Some(running)) => running.input = None,
            (ToGuest::Size(size), Some(running)) => running.resize(size),
            (ToGuest::Kill, Some(running)) => running.kill(),
            (ToGuest::Ping, _) => tell(&host, &FromGuest::Pong)?,
            (ToGuest::EndOfInput | ToGuest::Size(_) | ToGuest::Kill, None) => {}
        }
    }
    Ok(())
}

/// Waits for the port and returns its device.
fn port() -> io::Result<PathBuf> {
    loop {
        for entry in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim_end() == guest::PORT {
                return Ok(PathBuf::from("/dev").join(entry.file_name()));
            }
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

fn tell(host: &Host, report: &FromGuest) -> io::Result<()> {
    report.write(&mut *host.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The command that runs, as the thread that reads orders sees it.
#[derive(Debug)]
struct Running {
    /// To the thread that writes its input; dropped at the end of the input.
    input: Option<Sender<Vec<u8>>>,
    group: Pid,
    /// Our end of its terminal.
    terminal: Option<File>,
}

impl Running {
    fn start(start: &Start, host: &Host) -> io::Result<Self> {
        let (program, arguments) =
            start.words.split_first().ok_or_else(|| io::Error::other("no program"))?;
        let mut command = Command::new(if start.terminal.is_some() { "setsid" } else { program });
        if start.terminal.is_some() {
            command.args(["--ctty", "--wait", program]);
        } else {
            command.process_group(0);
        }
        command.args(arguments).current_dir("/root");
        as_after_login(&mut command, start.terminal.as_ref().map(|(name, _)| name.as_str()));
        match &start.terminal {
            Some((_, size)) => Self::on_a_terminal(command, *size, host),
            None => Self::on_pipes(command, host),
        }
    }

    fn on_pipes(mut command: Command, host: &Host) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let group = group_of(&child)?;
        let input = child.stdin.take().map(|input| writer(File::from(OwnedFd::from(input)), host));
        let output = child.stdout.take().map(|output| File::from(OwnedFd::from(output)));
        let errors = child.stderr.take().map(|errors| File::from(OwnedFd::from(errors)));
        follow(child, output, errors, host)?;
        Ok(Self { input, group, terminal: None })
    }

    fn on_a_terminal(mut command: Command, size: Size, host: &Host) -> io::Result<Self> {
        let pty = openpty(Some(&winsize(size)), None)?;
        command.stdin(pty.slave.try_clone()?).stdout(pty.slave.try_clone()?).stderr(pty.slave);
        let child = command.spawn()?;
        drop(command);
        let group = group_of(&child)?;
        let master = File::from(pty.master);
        let input = writer(master.try_clone()?, host);
        follow(child, Some(master.try_clone()?), None, host)?;
        Ok(Self { input: Some(input), group, terminal: Some(master) })
    }

    fn feed(&self, bytes: Vec<u8>, host: &Host) -> io::Result<()> {
        match &self.input {
            Some(input) if input.send(bytes).is_ok() => Ok(()),
            _ => tell(host, &FromGuest::Taken),
        }
    }

    fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal {
            // A terminal that nobody has open any more needs no size.
            let size = termios::Winsize {
                ws_row: size.rows,
                ws_col: size.columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let _ = tcsetwinsize(terminal, size);
        }
    }

    fn kill(&self) {
        // It may have ended meanwhile.
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}

fn group_of(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)
}

fn winsize(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Gives `command` what a login gives, and nothing of what systemd gave us.
fn as_after_login(command: &mut Command, terminal: Option<&str>) {
    let path = env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", "/root").env("USER", "root");
    command.env("LOGNAME", "root").env("SHELL", "/bin/bash").env("LANG", "C.UTF-8");
    if let Some(name) = terminal {
        command.env("TERM", name);
    }
}

/// Starts a thread that writes what it is sent to `input`, which is closed with the sender.
fn writer(mut input: File, host: &Host) -> Sender<Vec<u8>> {
    let (sender, pieces): (Sender<Vec<u8>>, Receiver<Vec<u8>>) = mpsc::channel();
    let host = Arc::clone(host);
    thread::spawn(move || {
        for piece in pieces {
            // A command that has closed its input is no error; the rest is taken and dropped.
            let _ = input.write_all(&piece);
            if tell(&host, &FromGuest::Taken).is_err() {
                return;
            }
        }
    });
    sender
}

/// Starts the threads that pass on what the command writes, and in the end how it ended.
fn follow(
    mut child: Child,
    output: Option<File>,
    errors: Option<File>,
    host: &Host,
) -> io::Result<()> {
    let (ended, end): (PipeReader, PipeWriter) = io::pipe()?;
    let host = Arc::clone(host);
    let waiting = thread::spawn(move || {
        let status = child.wait();
        drop(end);
        status
    });
    thread::spawn(move || {
        let passed_on = pass_on(output, errors, &ended, &host);
        let status = waiting.join().unwrap_or_else(|_| Err(io::Error::other("a thread died")));
        let report = match passed_on.and(status) {
            Ok(status) => FromGuest::Ended(code(status)),
            Err(error) => FromGuest::Refused(format!("cannot follow the command: {error}")),
        };
        // If the host does not listen any more, the next read ends this program.
        let _ = tell(&host, &report);
    });
    Ok(())
}

/// Passes on what is written until the command has ended and nothing is left to read; what a
/// process that it left behind writes later is nobody's.
fn pass_on(
    mut output: Option<File>,
    mut errors: Option<File>,
    ended: &PipeReader,
    host: &Host,
) -> io::Result<()> {
    let mut has_ended = false;
    loop {
        let [out, err, end] = {
            let fds = [output.as_ref(), errors.as_ref()].map(|stream| stream.map(AsFd::as_fd));
            let last = (!has_ended).then(|| ended.as_fd());
            readable(
                [fds[0], fds[1], last],
                if has_ended { PollTimeout::ZERO } else { PollTimeout::NONE },
            )?
        };
        if out && !pass(&mut output, FromGuest::Output, host)? {
            output = None;
        }
        if err && !pass(&mut errors, FromGuest::Errors, host)? {
            errors = None;
        }
        if has_ended && !out && !err {
            return Ok(());
        }
        has_ended |= end;
    }
}

/// Waits until one of `streams` has something to read or has ended, and tells which.
fn readable(streams: [Option<BorrowedFd<'_>>; 3], timeout: PollTimeout) -> io::Result<[bool; 3]> {
    let mut asked: Vec<PollFd<'_>> =
        streams.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    poll(&mut asked, timeout)?;
    let mut answers = asked.iter().map(|fd| fd.any().unwrap_or(true));
    Ok(streams.map(|stream| stream.is_some() && answers.next().unwrap_or(false)))
}

/// Passes on what can be read at once; false at the end of the stream.
fn pass(
    stream: &mut Option<File>,
    what: fn(Vec<u8>) -> FromGuest,
    host: &Host,
) -> io::Result<bool> {
    let Some(file) = stream else { return Ok(false) };
    let mut piece = vec![0; PIECE];
    match file.read(&mut piece) {
        // The other end of a terminal that everybody has closed.
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(false),
        Err(error) => Err(error),
        Ok(0) => Ok(false),
        Ok(length) => {
            piece.truncate(length);
            tell(host, &what(piece))?;
            Ok(true)
        }
    }
}

/// What a shell would make of it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
