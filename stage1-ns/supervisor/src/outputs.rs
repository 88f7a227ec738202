//! Where the apps' output goes: from their pipes into their logs and onto the screen.
//!
//! Each app has two streams. A stream is read when the kernel says so and the screen takes more;
//! it is closed when the app's last process that holds it has gone, or the pod is over.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::stage::Output;
use pod_abi::{AppName, Timestamp};
use rustix::io::{Errno, read};

use crate::log::Log;
use crate::screen::Screen;
use crate::stream::{Lines, Source};

/// The most read at once, in bytes.
const AT_ONCE: usize = 16 << 10;

/// The most read from one stream after the pod is over, in bytes: what a pipe can hold, as far as
/// an administrator may raise it for root. Somebody outside the pod may hold the other end.
const REST: usize = 16 << 20;

/// The output of all apps.
#[derive(Debug)]
pub(crate) struct Outputs {
    apps: Vec<App>,
    screen: Option<Screen>,
    prefixed: bool,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct App {
    name: AppName,
    log: Log,
    stdout: Stream,
    stderr: Stream,
}

#[derive(Debug)]
struct Stream {
    pipe: Option<OwnedFd>,
    lines: Lines,
}

/// What reading a stream has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There may be more.
    Open,
    /// There is nothing more now.
    Empty,
    /// There will be nothing more.
    Closed,
}

impl Outputs {
    /// Makes the outputs of a pod of `apps` apps, none of them added yet.
    pub(crate) fn new(output: Output, apps: usize) -> Self {
        let screen = match output {
            Output::Shown => Some(Screen::new()),
            Output::Logged => None,
        };
        Self { apps: Vec::new(), screen, prefixed: apps > 1, buffer: vec![0; AT_ONCE] }
    }

    /// Adds an app's streams; the pipes must not block. Returns the app's place.
    pub(crate) fn add(&mut self, name: AppName, log: Log, stdout: OwnedFd, stderr: OwnedFd) {
        let stream = |pipe| Stream { pipe: Some(pipe), lines: Lines::default() };
        self.apps.push(App { name, log, stdout: stream(stdout), stderr: stream(stderr) });
    }

    /// Returns the open streams.
    pub(crate) fn open(&self) -> impl Iterator<Item = (u32, Source, BorrowedFd<'_>)> {
        (0..).zip(&self.apps).flat_map(|(place, app)| {
            let stdout = app.stdout.pipe.as_ref().map(|pipe| (place, Source::Stdout, pipe.as_fd()));
            let stderr = app.stderr.pipe.as_ref().map(|pipe| (place, Source::Stderr, pipe.as_fd()));
            stdout.into_iter().chain(stderr)
        })
    }

    /// Returns the screen, if there is one.
    pub(crate) fn screen(&mut self) -> Option<&mut Screen> {
        self.screen.as_mut()
    }

    /// Tells whether no stream is to be read until the screen takes more.
    pub(crate) fn is_clogged(&self) -> bool {
        self.screen.as_ref().is_some_and(Screen::is_clogged)
    }

    /// Reads once from a stream, logs and shows what came. A stream that ended is dropped.
    pub(crate) fn pump(&mut self, place: u32, source: Source, now: Timestamp) -> Outcome {
        let Some(app) = self.apps.get_mut(place as usize) else { return Outcome::Closed };
        let stream = match source {
            Source::Stdout => &mut app.stdout,
            Source::Stderr => &mut app.stderr,
        };
        let Some(pipe) = &stream.pipe else { return Outcome::Closed };
        let count = match read(pipe, &mut self.buffer[..]) {
            Err(Errno::AGAIN) => return Outcome::Empty,
            Err(Errno::INTR) => return Outcome::Open,
            Err(_) => 0,
            Ok(count) => count,
        };
        let (log, name) = (&mut app.log, app.name.as_str());
        let mut lined = if self.prefixed { self.screen.as_mut() } else { None };
        let mut give = |text: &[u8], end| {
            log.add(now, source, text, end);
            if let Some(screen) = &mut lined {
                screen.show_line(source, name, text);
            }
        };
        if count == 0 {
            stream.lines.finish(give);
            stream.pipe = None;
        } else {
            stream.lines.feed(&self.buffer[..count], &mut give);
        }
        app.log.flush();
        if !self.prefixed
            && let Some(screen) = &mut self.screen
        {
            screen.show(source, &self.buffer[..count]);
        }
        if count == 0 { Outcome::Closed } else { Outcome::Open }
    }

    /// Closes the apps' streams whose common reader has hung up, so that they learn of it.
    pub(crate) fn pass_on_hang_up(&mut self, now: Timestamp) {
        for source in [Source::Stdout, Source::Stderr] {
            if self.screen.as_ref().is_some_and(|screen| screen.is_hung_up(source)) {
                for place in (0..).take(self.apps.len()) {
                    self.close(place, source, now);
                }
            }
        }
    }

    /// Reads what is left in the pipes of a pod that is over, and closes them.
    pub(crate) fn drain(&mut self, now: Timestamp) {
        for place in (0..).take(self.apps.len()) {
            for source in [Source::Stdout, Source::Stderr] {
                for _ in 0..REST / AT_ONCE {
                    if self.pump(place, source, now) != Outcome::Open {
                        break;
                    }
                }
                self.close(place, source, now);
            }
        }
    }

    fn close(&mut self, place: u32, source: Source, now: Timestamp) {
        let Some(app) = self.apps.get_mut(place as usize) else { return };
        let stream = match source {
            Source::Stdout => &mut app.stdout,
            Source::Stderr => &mut app.stderr,
        };
        stream.pipe = None;
        let mut lined = if self.prefixed { self.screen.as_mut() } else { None };
        stream.lines.finish(|text, end| {
            app.log.add(now, source, text, end);
            if let Some(screen) = &mut lined {
                screen.show_line(source, app.name.as_str(), text);
            }
        });
        app.log.flush();
    }
}
