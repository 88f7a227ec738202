//! Where the apps' output goes: from their pipes and terminals into their logs, onto the screen,
//! and to whoever is attached; and where their input comes from.
//!
//! Each app has two streams of output, or a terminal, which is one; so has each process that a
//! client has started on a terminal. What has streams has a [place](App). A stream is read when the
//! kernel says so and all who look at it take more; it is closed when the last process that holds
//! it has gone, or the pod is over.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::app::AppSpec;
use pod_abi::control::{Reply, WindowSize};
use pod_abi::stage::Output;
use pod_abi::{AppName, Timestamp};
use rustix::io::{Errno, read};

use crate::attached::{Attached, Fed};
use crate::events::{Interest, Token};
use crate::journal::{Journal, Writer};
use crate::log::Log;
use crate::screen::{Screen, under_name};
use crate::sink::Sink;
use crate::stream::{Lines, Source};
use crate::terminal::{Fresh, Master};
use crate::wall::AppStdio;

/// The most read at once, in bytes.
const AT_ONCE: usize = 16 << 10;

/// The most read from one stream after its app is over, in bytes: what a pipe can hold, as far as
/// an administrator may raise it for root. Somebody outside the pod may hold the other end.
const REST: usize = 16 << 20;

/// The streams of all apps, and those who look at them.
#[derive(Debug)]
pub(crate) struct Outputs {
    apps: BTreeMap<u32, App>,
    next: u32,
    screen: Option<Screen>,
    attached: BTreeMap<u32, Attached>,
    journal: Option<Journal>,
    buffer: Vec<u8>,
    /// Whether [`Outputs::wanted`] may have changed.
    stale: bool,
    /// Whether the pod is over, so that what is left is read whoever stalls.
    over: bool,
}

/// What has streams: an app, or a process on a terminal of its own, which has no log.
#[derive(Debug)]
struct App {
    name: AppName,
    log: Option<Log>,
    /// As whom it writes to the journal, if it does.
    writer: Option<Writer>,
    stdout: Stream,
    stderr: Stream,
    input: Option<Sink<OwnedFd>>,
    terminal: Option<(Master, Fresh)>,
    /// Whether it is not known yet to have run.
    unheard: bool,
}

#[derive(Debug)]
struct Stream {
    pipe: Option<OwnedFd>,
    lines: Lines,
    /// How much more is read of it, in bytes, once its pod is over.
    rest: usize,
}

impl Stream {
    fn of(pipe: Option<OwnedFd>) -> Self {
        Self { pipe, lines: Lines::default(), rest: REST }
    }
}

impl App {
    fn new(name: AppName, log: Option<Log>, stdio: AppStdio) -> rustix::io::Result<Self> {
        let (stdout, stderr, input, terminal) = match stdio {
            AppStdio::Streams { input, stdout, stderr } => {
                (stdout, Some(stderr), input.map(Sink::new), None)
            }
            AppStdio::Terminal { master } => {
                let copy = || rustix::io::fcntl_dupfd_cloexec(master.data(), 3);
                let (output, input) = (copy()?, Sink::new(copy()?));
                let fresh = Fresh::of(&master);
                (output, None, Some(input), Some((master, fresh)))
            }
        };
        let (stdout, stderr) = (Stream::of(Some(stdout)), Stream::of(stderr));
        let unheard = log.is_some();
        Ok(Self { name, log, writer: None, stdout, stderr, input, terminal, unheard })
    }

    fn stream(&mut self, source: Source) -> &mut Stream {
        match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        }
    }
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
    /// Makes the outputs of a pod, no app of which is added yet.
    pub(crate) fn new(output: Output, journal: Option<Journal>) -> Self {
        let screen = match output {
            Output::Shown => Some(Screen::new()),
            Output::Logged => None,
        };
        Self {
            apps: BTreeMap::new(),
            next: 0,
            screen,
            attached: BTreeMap::new(),
            journal,
            buffer: vec![0; AT_ONCE],
            stale: true,
            over: false,
        }
    }

    /// Adds an app's streams, none of which may block; without a log, those of a process that is
    /// no app. Returns the place.
    ///
    /// # Errors
    ///
    /// If descriptors run out.
    pub(crate) fn add(
        &mut self,
        name: AppName,
        log: Option<Log>,
        stdio: AppStdio,
    ) -> rustix::io::Result<u32> {
        let place = self.next;
        self.apps.insert(place, App::new(name, log, stdio)?);
        self.next = self.next.wrapping_add(1);
        self.stale = true;
        Ok(place)
    }

    /// Has what app `spec`, which was added, writes go to the journal, if there is one.
    pub(crate) fn introduce(&mut self, spec: &AppSpec) {
        let Some(place) = self.place_of(&spec.name) else { return };
        if let (Some(journal), Some(app)) = (&self.journal, self.apps.get_mut(&place)) {
            app.writer = Some(journal.writer(spec));
        }
    }

    /// Returns the journal, if there is one.
    pub(crate) fn journal(&mut self) -> Option<&mut Journal> {
        self.journal.as_mut()
    }

    /// Reads what is left of an app that is no more, and closes its streams.
    pub(crate) fn remove(&mut self, name: &AppName, now: Timestamp) {
        let Some(place) = self.place_of(name) else { return };
        self.drain_at(place, now);
        self.apps.remove(&place);
        self.stale = true;
    }

    /// Returns the place of an app.
    pub(crate) fn place_of(&self, name: &AppName) -> Option<u32> {
        let of_app = |app: &&App| app.log.is_some() && app.name == *name;
        self.apps.iter().find(|(_, app)| of_app(app)).map(|(place, _)| *place)
    }

    /// Tells whether what is at `place` takes input.
    pub(crate) fn takes_input(&self, place: u32) -> bool {
        self.apps.get(&place).is_some_and(|app| app.input.is_some())
    }

    /// Connects client `number`.
    pub(crate) fn attach(&mut self, number: u32, attached: Attached) {
        self.attached.insert(number, attached);
        self.stale = true;
    }

    /// Lets a client go, and with it the terminal made for it.
    pub(crate) fn detach(&mut self, number: u32) {
        let Some(attached) = self.attached.remove(&number) else { return };
        let place = attached.place.filter(|place| self.is_for_one(*place));
        place.and_then(|place| self.apps.remove(&place));
        self.stale = true;
    }

    fn is_for_one(&self, place: u32) -> bool {
        self.apps.get(&place).is_some_and(|app| app.log.is_none())
    }

    /// Tells whether client `number` is attached to anything.
    pub(crate) fn is_attached(&self, number: u32) -> bool {
        self.attached.contains_key(&number)
    }

    /// Tells whether the pod was held for client `number`.
    pub(crate) fn runs_the_pod(&self, number: u32) -> bool {
        self.attached.get(&number).is_some_and(|attached| attached.runs_the_pod)
    }

    /// Returns who is attached to `place`.
    pub(crate) fn clients_at(&self, place: u32) -> Vec<u32> {
        let at = |attached: &Attached| attached.place == Some(place);
        self.attached.iter().filter(|(_, one)| at(one)).map(|(number, _)| *number).collect()
    }

    /// Changes the size of the terminal client `number` looks at; `false` if it is none.
    pub(crate) fn resize(&mut self, number: u32, size: WindowSize) -> bool {
        let place = self.attached.get(&number).and_then(|attached| attached.place);
        let app = place.and_then(|place| self.apps.get(&place));
        let terminal =
            app.filter(|app| app.stdout.pipe.is_some()).and_then(|app| app.terminal.as_ref());
        terminal.is_some_and(|(master, _)| master.resize(size).is_ok())
    }

    /// Lets an app be heard, whose start or end is on record by now. Whoever has heard it may then
    /// ask for what only a running app can do.
    pub(crate) fn hear(&mut self, name: &AppName) {
        let app = self.place_of(name).and_then(|place| self.apps.get_mut(&place));
        if app.is_some_and(|app| std::mem::take(&mut app.unheard)) {
            self.stale = true;
        }
    }

    /// Makes an app's terminal, if it has one, ready for its next start.
    pub(crate) fn refresh(&self, name: &AppName) {
        let app = self.place_of(name).and_then(|place| self.apps.get(&place));
        if let Some((master, fresh)) = app.and_then(|app| app.terminal.as_ref()) {
            fresh.restore(master);
        }
    }

    /// Returns the screen, if there is one.
    pub(crate) fn screen(&mut self) -> Option<&mut Screen> {
        self.stale = true;
        self.screen.as_mut()
    }

    /// Tells whether [`Outputs::wanted`] may have changed since this was last asked.
    pub(crate) fn is_stale(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }

    /// Returns every open stream, and what it is to be waited for now, if for anything.
    pub(crate) fn wanted(&self) -> Vec<(Token, BorrowedFd<'_>, Option<Interest>)> {
        let mut wanted = Vec::new();
        let when = |condition: bool, interest| condition.then_some(interest);
        for (&place, app) in &self.apps {
            for (source, stream) in [(Source::Stdout, &app.stdout), (Source::Stderr, &app.stderr)] {
                if let Some(pipe) = &stream.pipe {
                    let token = Token::Stream(place, source);
                    let flows = self.flows(place, stream) && !app.unheard;
                    wanted.push((token, pipe.as_fd(), when(flows, Interest::Read)));
                }
            }
            if let Some(input) = &app.input {
                let interest = when(input.is_clogged(), Interest::Write);
                wanted.push((Token::Input(place), input.as_fd(), interest));
            }
        }
        for (&number, attached) in &self.attached {
            if let Some(feed) = attached.feed() {
                let interest = when(self.is_hungry(attached), Interest::Read);
                wanted.push((Token::Feed(number), feed, interest));
            }
            for (source, pipe, clogged) in attached.both() {
                let interest = when(clogged, Interest::Write);
                wanted.push((Token::Outlet(number, source), pipe, interest));
            }
        }
        for (source, stream, clogged) in self.screen.iter().flat_map(Screen::both) {
            wanted.push((Token::Screen(source), stream, when(clogged, Interest::Write)));
        }
        wanted
    }

    /// Returns the streams that something is held for: those of the screen and of clients.
    pub(crate) fn held_up(&self) -> Vec<(Token, BorrowedFd<'_>)> {
        let mut held_up = Vec::new();
        for (&number, attached) in &self.attached {
            let both = attached.both().into_iter().filter(|(_, _, clogged)| *clogged);
            held_up.extend(both.map(|(source, pipe, _)| (Token::Outlet(number, source), pipe)));
        }
        let screens = self.screen.iter().flat_map(Screen::both);
        let clogged = screens.filter(|(_, _, clogged)| *clogged);
        held_up.extend(clogged.map(|(source, stream, _)| (Token::Screen(source), stream)));
        held_up
    }

    /// Returns who is attached to anything.
    pub(crate) fn clients(&self) -> Vec<u32> {
        self.attached.keys().copied().collect()
    }

    /// Tells whether what `attached` feeds takes more.
    fn is_hungry(&self, attached: &Attached) -> bool {
        let app = attached.place.and_then(|place| self.apps.get(&place));
        app.is_some_and(|app| app.input.as_ref().is_none_or(|input| !input.is_clogged()))
    }

    /// Tells whether the streams at `place` are not to be read until somebody takes more.
    pub(crate) fn is_clogged(&self, place: u32) -> bool {
        let shown = !self.is_for_one(place);
        let looks = |one: &Attached| one.place == Some(place) || (one.place.is_none() && shown);
        (shown && self.screen.as_ref().is_some_and(Screen::is_clogged))
            || self.attached.values().any(|one| looks(one) && one.is_clogged())
    }

    /// Has what is left of a pod that is over read whoever stalls: a wall that carries what apps
    /// say stands until all of it has come through.
    pub(crate) fn let_all_flow(&mut self) {
        self.over = true;
        self.stale = true;
    }

    fn flows(&self, place: u32, stream: &Stream) -> bool {
        !self.is_clogged(place) || (self.over && stream.rest > 0)
    }

    /// Reads from a stream that is readable, unless nothing more is read of it now.
    pub(crate) fn turn(&mut self, place: u32, source: Source, now: Timestamp) {
        let stream = self.apps.get(&place).map(|app| match source {
            Source::Stdout => &app.stdout,
            Source::Stderr => &app.stderr,
        });
        if stream.is_some_and(|stream| self.flows(place, stream)) {
            let _: Outcome = self.pump(place, source, now);
        }
    }

    /// Reads once from a stream, logs and shows what came. A stream that ended is closed.
    pub(crate) fn pump(&mut self, place: u32, source: Source, now: Timestamp) -> Outcome {
        let Some(app) = self.apps.get_mut(&place) else { return Outcome::Closed };
        let Some(pipe) = &app.stream(source).pipe else { return Outcome::Closed };
        let count = match read(pipe, &mut self.buffer[..]) {
            Err(Errno::AGAIN) => return Outcome::Empty,
            Err(Errno::INTR) => return Outcome::Open,
            // A terminal whose other end is closed says EIO.
            Err(_) => 0,
            Ok(count) => count,
        };
        if count == 0 {
            self.close(place, source, now);
            return Outcome::Closed;
        }
        if self.over {
            let stream = app.stream(source);
            stream.rest = stream.rest.saturating_sub(count);
            self.stale |= stream.rest == 0;
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.show(place, source, &buffer[..count]);
        self.record(place, source, Some(&buffer[..count]), now);
        self.buffer = buffer;
        self.stale |= self.is_clogged(place);
        Outcome::Open
    }

    fn prefixes(&self) -> bool {
        self.apps.values().filter(|app| app.log.is_some()).nth(1).is_some()
    }

    /// Shows bytes to all who want them as they are.
    fn show(&mut self, place: u32, source: Source, bytes: &[u8]) {
        let all = !self.is_for_one(place) && !self.prefixes();
        for attached in self.attached.values_mut() {
            if attached.place == Some(place) || (all && attached.place.is_none()) {
                attached.show(source, bytes);
            }
        }
        if all && let Some(screen) = &mut self.screen {
            screen.show(source, bytes);
        }
    }

    /// Logs bytes line by line, and shows lines under the app's name where there are several
    /// apps. `None` is the end of the stream.
    fn record(&mut self, place: u32, source: Source, bytes: Option<&[u8]>, now: Timestamp) {
        let prefixes = self.prefixes();
        let Some(app) = self.apps.get_mut(&place) else { return };
        let App { name, log: Some(log), writer, stdout, stderr, .. } = app else { return };
        let stream = match source {
            Source::Stdout => stdout,
            Source::Stderr => stderr,
        };
        let (screen, attached) = (&mut self.screen, &mut self.attached);
        let journal = &mut self.journal;
        let give = |text: &[u8], end| {
            log.add(now, source, text, end);
            if let (Some(journal), Some(writer)) = (&mut *journal, &*writer) {
                journal.line(writer, now, source, text, end);
            }
            if !prefixes {
                return;
            }
            if let Some(screen) = screen {
                screen.show_line(source, name.as_str(), text);
            }
            for one in attached.values_mut().filter(|one| one.place.is_none()) {
                one.show(source, &under_name(name.as_str(), text));
            }
        };
        match bytes {
            Some(bytes) => stream.lines.feed(bytes, give),
            None => stream.lines.finish(give),
        }
        log.flush();
    }

    /// Reads once what client `number` has to say to what it is attached to.
    pub(crate) fn feed(&mut self, number: u32) {
        let Some(attached) = self.attached.get_mut(&number) else { return };
        let Some(app) = attached.place.and_then(|place| self.apps.get_mut(&place)) else { return };
        if app.input.as_ref().is_some_and(Sink::is_clogged) {
            return;
        }
        match attached.read(&mut self.buffer) {
            Fed::Nothing => {}
            Fed::Bytes(count) => {
                if let Some(input) = &mut app.input {
                    input.push(&self.buffer[..count]);
                    self.stale |= input.is_clogged();
                }
            }
            Fed::Ended => {
                self.stale = true;
                self.settle_input(number);
            }
        }
    }

    /// Ends the input that client `number` feeds, once all it has said is passed on.
    pub(crate) fn end_input(&mut self, number: u32) {
        if let Some(attached) = self.attached.get_mut(&number) {
            attached.ending = true;
        }
        self.settle_input(number);
    }

    /// Closes an app's input if its client has ended its own and has said so.
    fn settle_input(&mut self, number: u32) {
        let Some(attached) = self.attached.get(&number) else { return };
        let over = attached.ends_input && attached.ending && attached.feed().is_none();
        let Some(app) = attached.place.and_then(|place| self.apps.get_mut(&place)) else { return };
        // A terminal has no end of input but the one that is typed.
        if over && app.terminal.is_none() && !app.input.as_ref().is_some_and(Sink::is_clogged) {
            app.input = None;
        }
        self.stale = true;
    }

    /// Writes what is held for an app's input, as far as it is taken.
    pub(crate) fn flush_input(&mut self, place: u32) {
        if let Some(input) = self.apps.get_mut(&place).and_then(|app| app.input.as_mut()) {
            input.flush();
        }
        for number in self.clients_at(place) {
            self.settle_input(number);
        }
        self.stale = true;
    }

    /// Writes what is held for a client, as far as it is taken.
    pub(crate) fn flush_client(&mut self, number: u32) {
        if let Some(attached) = self.attached.get_mut(&number) {
            attached.flush();
        }
        self.stale = true;
    }

    /// Notes what client `number` is told once all is said.
    pub(crate) fn conclude(&mut self, number: u32, finale: Reply) {
        if let Some(attached) = self.attached.get_mut(&number) {
            attached.finale.get_or_insert(finale);
        }
    }

    /// Reads what is left for the clients that wait for the last word, and returns those that
    /// have it, each with what it is to be told.
    pub(crate) fn concluded(&mut self, now: Timestamp) -> Vec<(u32, Reply)> {
        let waiting =
            |(number, one): (&u32, &Attached)| one.finale.as_ref().map(|_| (*number, one.place));
        let waiting: Vec<_> = self.attached.iter().filter_map(waiting).collect();
        let mut concluded = Vec::new();
        for (number, place) in waiting {
            if place.is_none_or(|place| self.is_emptied(place, now))
                && let Some(attached) = self.attached.get_mut(&number)
                && !attached.is_clogged()
                && let Some(finale) = attached.finale.take()
            {
                concluded.push((number, finale));
                self.detach(number);
            }
        }
        concluded
    }

    /// Reads what is left at `place`; `false` if somebody has to take more first.
    fn is_emptied(&mut self, place: u32, now: Timestamp) -> bool {
        for source in [Source::Stdout, Source::Stderr] {
            for _ in 0..REST / AT_ONCE {
                if self.is_clogged(place) {
                    return false;
                }
                if self.pump(place, source, now) != Outcome::Open {
                    break;
                }
            }
        }
        !self.is_clogged(place)
    }

    /// Closes the apps' streams whose common reader has hung up, so that they learn of it.
    pub(crate) fn pass_on_hang_up(&mut self, now: Timestamp) {
        for source in [Source::Stdout, Source::Stderr] {
            if self.screen.as_ref().is_some_and(|screen| screen.is_hung_up(source)) {
                let apps = self.apps.iter().filter(|(_, app)| app.log.is_some());
                let places: Vec<u32> = apps.map(|(place, _)| *place).collect();
                for place in places {
                    self.close(place, source, now);
                }
            }
        }
    }

    /// Reads what is left in the streams of a pod that is over, and closes them.
    pub(crate) fn drain(&mut self, now: Timestamp) {
        let places: Vec<u32> = self.apps.keys().copied().collect();
        for place in places {
            self.drain_at(place, now);
        }
    }

    fn drain_at(&mut self, place: u32, now: Timestamp) {
        for source in [Source::Stdout, Source::Stderr] {
            for _ in 0..REST / AT_ONCE {
                if self.pump(place, source, now) != Outcome::Open {
                    break;
                }
            }
            self.close(place, source, now);
        }
    }

    fn close(&mut self, place: u32, source: Source, now: Timestamp) {
        self.stale = true;
        self.record(place, source, None, now);
        let Some(app) = self.apps.get_mut(&place) else { return };
        app.stream(source).pipe = None;
        if app.terminal.is_some() && source == Source::Stdout {
            app.input = None;
        }
    }
}
