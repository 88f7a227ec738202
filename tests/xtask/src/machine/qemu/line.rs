//! The conversation with the program `agent` in a machine: one command at a time, its streams and
//! how it ends. The frames are in `harness::guest`.

use std::fs::File;
use std::io::{self, IsTerminal, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use harness::guest::{self, FromGuest, PIECE, Size, Start, ToGuest};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::termios::{self, OptionalActions, Termios};

use crate::machine::tier::Streams;

/// How often to look whether the terminal has another size, in milliseconds.
const LOOK: u16 = 250;
/// How long a command may be silent until the machine is asked whether it lives, and how long it
/// may take to answer, busy as it and its host may be.
const SILENCE: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(60);
/// How long a killed command may take to end, and the rest of a frame to come.
const LAST_BREATH: Duration = Duration::from_secs(20);

/// Our end of the line.
#[derive(Debug)]
pub(super) struct Line(UnixStream);

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It ended, with this exit code.
    Code(u8),
    /// It could not be run.
    Refused(String),
    /// It took longer than its limit and was killed.
    TooLong,
    /// The machine does not answer: it hangs.
    Silent,
    /// The machine is no more.
    Gone,
}

impl Line {
    /// Makes a line whose other end is returned.
    pub(super) fn new() -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        // Frames come at once: one that does not is the last of a machine that hangs.
        ours.set_read_timeout(Some(LAST_BREATH))?;
        Ok((Self(ours), theirs))
    }

    /// Waits until the machine has booted far enough to take orders; false if it did not in time.
    pub(super) fn await_greeting(&mut self, limit: Duration) -> io::Result<bool> {
        let end = Instant::now() + limit;
        let line = &mut Until { line: &self.0, end };
        match guest::await_greeting(line) {
            Err(error) if is_timeout(&error) => Ok(false),
            heard => heard,
        }
    }

    /// Waits until there is nobody at the other end; false if there still is in the end.
    pub(super) fn await_end(&mut self, limit: Duration) -> io::Result<bool> {
        let end = Instant::now() + limit;
        match io::copy(&mut Until { line: &self.0, end }, &mut io::sink()) {
            Err(error) if is_timeout(&error) => Ok(false),
            // What was not read by it when it went.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(true),
            read => read.map(|_| true),
        }
    }

    /// Asks for a command whose end nobody waits for.
    pub(super) fn order(&mut self, words: Vec<String>) -> io::Result<()> {
        ToGuest::Start(Start { words, terminal: None }).write(&mut self.0)
    }

    /// Runs a command to its end. A machine that does not answer meanwhile is heard once more after
    /// `shake`; only on a terminal of ours it is left to the person there to lose patience.
    pub(super) fn run(
        &mut self,
        words: Vec<String>,
        streams: Streams,
        limit: Option<Duration>,
        shake: &dyn Fn(),
    ) -> io::Result<End> {
        let end = limit.map(|limit| Instant::now() + limit);
        match streams {
            Streams::Into { output, errors } => {
                self.order(words)?;
                ToGuest::EndOfInput.write(&mut self.0)?;
                let watch = Watch { end, shake: Some(shake) };
                self.follow(&mut File::from(output), &mut File::from(errors), watch, || ())
            }
            Streams::Ours => self.run_on_ours(words, end),
        }
    }

    fn run_on_ours(&mut self, words: Vec<String>, end: Option<Instant>) -> io::Result<End> {
        let at_terminal = is_at_a_terminal();
        let size = if at_terminal { size() } else { None };
        let name = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
        let terminal = size.map(|size| (name, size));
        let _raw = terminal.as_ref().and_then(|_| Raw::set());
        ToGuest::Start(Start { words, terminal }).write(&mut self.0)?;
        let (taken, credit) = mpsc::channel();
        let (stop, stopping) = io::pipe()?;
        let mut sending = self.0.try_clone()?;
        thread::scope(|scope| {
            scope.spawn(move || send_input(&mut sending, &credit, &stop, size));
            let watch = Watch { end, shake: None };
            let ended = self.follow(&mut io::stdout(), &mut io::stderr(), watch, || {
                // The thread has ended with the input.
                let _ = taken.send(());
            });
            drop(taken);
            drop(stopping);
            ended
        })
    }

    /// Reads what the command says until it has ended.
    fn follow(
        &mut self,
        output: &mut dyn Write,
        errors: &mut dyn Write,
        watch: Watch<'_>,
        taken: impl Fn(),
    ) -> io::Result<End> {
        let Watch { mut end, shake } = watch;
        let mut killed = false;
        let mut heard = Hearing::Well;
        loop {
            let next = shake.filter(|_| !killed).map(|_| Instant::now() + heard.patience());
            if !await_something(&self.0, end.into_iter().chain(next).min())? {
                if killed {
                    return Ok(End::Silent);
                }
                if end.is_some_and(|end| end <= Instant::now()) {
                    ToGuest::Kill.write(&mut self.0)?;
                    end = Some(Instant::now() + LAST_BREATH);
                    killed = true;
                    continue;
                }
                heard = match heard {
                    Hearing::Well => Hearing::Asked,
                    Hearing::Asked => {
                        shake.inspect(|shake| shake());
                        Hearing::Shaken
                    }
                    Hearing::Shaken => return Ok(End::Silent),
                };
                ToGuest::Ping.write(&mut self.0)?;
                continue;
            }
            heard = Hearing::Well;
            match FromGuest::read(&mut self.0) {
                Ok(Some(FromGuest::Output(bytes))) => pass_on(output, &bytes),
                Ok(Some(FromGuest::Errors(bytes))) => pass_on(errors, &bytes),
                Ok(Some(FromGuest::Taken)) => taken(),
                // To what was asked before it was heard again.
                Ok(Some(FromGuest::Pong)) => {}
                Ok(Some(_)) if killed => return Ok(End::TooLong),
                Ok(Some(FromGuest::Ended(code))) => return Ok(End::Code(code)),
                Ok(Some(FromGuest::Refused(why))) => return Ok(End::Refused(why)),
                Ok(None) => return Ok(End::Gone),
                Err(error) if is_timeout(&error) => return Ok(End::Silent),
                Err(error) => return Err(error),
            }
        }
    }
}

/// What is watched while a command runs.
#[derive(Clone, Copy)]
struct Watch<'a> {
    /// When it is killed.
    end: Option<Instant>,
    /// What may bring a machine back that does not answer. Without it, it is not asked.
    shake: Option<&'a dyn Fn()>,
}

/// How a machine was last heard.
#[derive(Clone, Copy)]
enum Hearing {
    /// It says something now and then.
    Well,
    /// It was silent and was asked whether it lives.
    Asked,
    /// It did not answer, and was shaken.
    Shaken,
}

impl Hearing {
    /// How long to wait for the next word.
    const fn patience(self) -> Duration {
        match self {
            Self::Well => SILENCE,
            Self::Asked | Self::Shaken => ANSWER,
        }
    }
}

/// Reads from the line until a point in time.
struct Until<'a> {
    line: &'a UnixStream,
    end: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !await_something(self.line, Some(self.end))? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.line.read(into)
    }
}

/// Waits until there is something to read, or the line has ended; false at the time `end`.
fn await_something(line: &UnixStream, end: Option<Instant>) -> io::Result<bool> {
    let timeout = match end {
        None => PollTimeout::NONE,
        Some(end) => {
            let left = end.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        }
    };
    let mut asked = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut asked, timeout)? > 0)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn pass_on(to: &mut dyn Write, bytes: &[u8]) {
    // Nobody reads any more if this fails; the command runs on, as it would behind `| head`.
    let _ = to.write_all(bytes).and_then(|()| to.flush());
}

/// Sends our input piece by piece, and every new size of our terminal, until `stop` ends.
fn send_input(
    line: &mut UnixStream,
    credit: &Receiver<()>,
    stop: &PipeReader,
    mut last: Option<Size>,
) {
    let mut input = Some(io::stdin());
    loop {
        let timeout = if last.is_some() { PollTimeout::from(LOOK) } else { PollTimeout::NONE };
        let fds = [Some(stop.as_fd()), input.as_ref().map(AsFd::as_fd)];
        let Ok([stopped, readable]) = readable(fds, timeout) else { return };
        if stopped {
            return;
        }
        let now = last.and_then(|_| size());
        if let Some(size) = now.filter(|size| Some(*size) != last) {
            last = now;
            if ToGuest::Size(size).write(line).is_err() {
                return;
            }
        }
        if readable && let Some(stdin) = &input {
            // Not through the buffer of `stdin`: what it keeps back, `poll` does not show.
            let mut piece = vec![0; PIECE];
            let length = rustix::io::read(stdin, &mut piece).unwrap_or(0);
            piece.truncate(length);
            let sent = if length == 0 { ToGuest::EndOfInput } else { ToGuest::Input(piece) };
            if length == 0 {
                input = None;
            }
            if sent.write(line).is_err() || (length > 0 && credit.recv().is_err()) {
                return;
            }
        }
    }
}

fn readable(fds: [Option<BorrowedFd<'_>>; 2], timeout: PollTimeout) -> io::Result<[bool; 2]> {
    let mut asked: Vec<PollFd<'_>> =
        fds.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    poll(&mut asked, timeout)?;
    let mut answers = asked.iter().map(|fd| fd.any().unwrap_or(true));
    Ok(fds.map(|fd| fd.is_some() && answers.next().unwrap_or(false)))
}

fn is_at_a_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal()
}

fn size() -> Option<Size> {
    let size = termios::tcgetwinsize(io::stdin()).ok()?;
    Some(Size { rows: size.ws_row, columns: size.ws_col })
}

/// Our terminal while all it does is to pass on bytes.
struct Raw(Termios);

impl Raw {
    fn set() -> Option<Self> {
        let before = termios::tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // If it is gone, nobody misses how it was.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
