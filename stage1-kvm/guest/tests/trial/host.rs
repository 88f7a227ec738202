//! The host of a trial: asks, tells, and holds the far ends of streams. Whatever takes longer than
//! [`PATIENCE`] fails the trial.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as Inherit};
use std::thread;
use std::time::{Duration, Instant};

use pod_abi::app::Stdio;
use pod_abi::control::WindowSize;
use pod_abi::frame::{Decoder, encode};
use pod_abi::guest::{
    Addition, Answer, AppStreams, Carried, Configure, ExecStreams, Extent, FromGuest, Link,
    Scratch, Secret, Share, TerminalStreams, TerminalWord, ToGuest, Token, port,
};
use pod_abi::inner::{AppFds, FromInit, Setup, ToInit};
use pod_abi::manifest::ExitPolicy;
use pod_abi::stage::{AppOrder, Order};
use pod_abi::{Timestamp, layout, version};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::order::LAYER;

/// How long anything may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// The size of terminals.
pub(crate) const SIZE: WindowSize = WindowSize { rows: 7, columns: 9 };

/// Programs of a trial.
pub(crate) struct Programs {
    /// PID 1 of the pod.
    pub(crate) stage2_init: PathBuf,
    /// An EROFS image with this program in it.
    pub(crate) image: PathBuf,
}

/// One end of a stream of frames.
pub(crate) struct Wire {
    pub(crate) stream: UnixStream,
    decoder: Decoder,
}

impl Wire {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, decoder: Decoder::new() }
    }

    /// Hears the next message; `None` at the end.
    pub(crate) fn hear<M: DeserializeOwned>(&mut self) -> Option<M> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.decoder.take().unwrap() {
                return Some(message);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.decoder.feed(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the guest says nothing: {error}"),
            }
        }
    }
}

/// A guest and its host.
pub(crate) struct Host {
    pub(crate) place: TempDir,
    pub(crate) child: Child,
    pub(crate) wall: Wire,
    pub(crate) inner: Option<Wire>,
    listeners: BTreeMap<u32, UnixListener>,
    streams: BTreeMap<[u8; 16], UnixStream>,
    next: u8,
    order: Order,
    /// The tokens of each app, in the order of [`AppStreams`].
    pub(crate) tokens: BTreeMap<String, Vec<Token>>,
}

impl Host {
    /// Starts a guest for an order; nothing is raised yet.
    pub(crate) fn start(programs: &Programs, order: Order, shares: Vec<Share>) -> Self {
        Self::start_on(programs, order, (shares, Vec::new()))
    }

    /// The same, with network interfaces.
    pub(crate) fn start_on(
        programs: &Programs,
        order: Order,
        (shares, links): (Vec<Share>, Vec<Link>),
    ) -> Self {
        let place = TempDir::new().unwrap();
        let listeners: BTreeMap<u32, UnixListener> = [port::WALL, port::INNER, port::STREAM]
            .into_iter()
            .map(|port| (port, UnixListener::bind(place.path().join(port.to_string())).unwrap()))
            .collect();
        for at in [0, 1] {
            fs::hard_link(&programs.image, place.path().join(format!("image-{at}")))
                .or_else(|_| {
                    fs::copy(&programs.image, place.path().join(format!("image-{at}"))).map(drop)
                })
                .unwrap();
        }
        for share in &shares {
            fs::create_dir(place.path().join(&share.tag)).unwrap();
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .env("GUEST", "outside")
            .env("PLACE", place.path())
            .env("STAGE2_INIT", &programs.stage2_init)
            .stdin(Inherit::null())
            .spawn()
            .unwrap();
        let wall = Wire::new(accept(&listeners[&port::WALL]));
        let (streams, tokens) = (BTreeMap::new(), BTreeMap::new());
        let mut host =
            Self { place, child, wall, inner: None, listeners, streams, next: 1, order, tokens };
        let Some(FromGuest::Hello(hello)) = host.wall.hear() else { panic!("no hello") };
        assert_eq!(hello.version, version::GUEST);
        assert!(hello.uptime_us > 0 && !hello.kernel.is_empty());
        for app in host.order.apps.clone() {
            assert_eq!(host.ask(ToGuest::App(Box::new(app))), Answer::Done);
        }
        let configure = Configure {
            version: version::GUEST,
            now: Timestamp(0),
            entropy: "5a".repeat(64),
            order: Box::new(Order { apps: Vec::new(), ..host.order.clone() }),
            layers: [(LAYER.to_owned(), Extent { offset: 0, length: 4096 })].into(),
            shares,
            scratch: Scratch::Memory,
            links,
        };
        assert_eq!(host.ask(ToGuest::Configure(Box::new(configure))), Answer::Done);
        host
    }

    /// Raises the wall and lays all apps out.
    pub(crate) fn raise(&mut self) {
        assert_eq!(self.ask(ToGuest::Raise), Answer::Done);
        let stream = accept(&self.listeners[&port::INNER]);
        self.inner = Some(Wire::new(stream));
        self.tell(ToInit::Setup(Setup {
            version: version::INNER,
            hostname: "shop".to_owned(),
            own_network: true,
            exit_policy: ExitPolicy::All,
            shares_processes: false,
        }));
        let apps = self.order.apps.clone();
        let streams: Vec<_> = apps.iter().map(|app| self.app_streams(app)).collect();
        let Answer::Added(fds) = self.ask(ToGuest::AddApps(streams)) else { panic!("no apps") };
        for (app, fds) in apps.iter().zip(fds) {
            self.add(app, fds);
        }
        self.accept_all();
        assert_eq!(self.ask(ToGuest::Settle), Answer::Done);
        assert_eq!(self.word(), FromInit::Ready);
    }

    /// Starts a guest whose apps run.
    pub(crate) fn run(programs: &Programs, order: Order) -> Self {
        let mut host = Self::start(programs, order, Vec::new());
        host.raise();
        host.tell(ToInit::Run);
        host
    }

    fn add(&mut self, app: &AppOrder, fds: AppFds) {
        assert!(fds.mount_namespace && fds.stdio, "{fds:?}");
        self.tell(ToInit::AddApp { spec: Box::new(app.spec.clone()), fds });
    }

    /// Lays out one more app, whose layer lies elsewhere.
    pub(crate) fn add_later(&mut self, mut app: AppOrder, layer: &str) {
        app.layers = vec![layer.to_owned()];
        let streams = self.app_streams(&app);
        let layers = [(layer.to_owned(), Extent { offset: 1, length: 4096 })].into();
        let addition = Addition { app: app.clone(), layers, streams };
        let answer = self.ask(ToGuest::AddApp(Box::new(addition)));
        let Answer::Added(fds) = answer else { panic!("no app") };
        self.add(&app, fds[0]);
        self.accept_all();
    }

    fn app_streams(&mut self, app: &AppOrder) -> AppStreams {
        let mut token = || self.token();
        let (streams, tokens) = match app.spec.stdio {
            Stdio::Terminal => {
                let (data, control) = (token(), token());
                (
                    AppStreams::Terminal(TerminalStreams { data, control, size: SIZE }),
                    vec![data, control],
                )
            }
            stdio => {
                let input = (stdio == Stdio::Open).then(&mut token);
                let (stdout, stderr) = (token(), token());
                let tokens = input.into_iter().chain([stdout, stderr]).collect();
                (AppStreams::Pipes { input, stdout, stderr }, tokens)
            }
        };
        self.tokens.insert(app.spec.name.to_string(), tokens);
        streams
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next += 1;
        Token([self.next; 16])
    }

    /// Asks, and returns the answer; what else is said meanwhile is a mistake.
    pub(crate) fn ask(&mut self, question: ToGuest) -> Answer {
        match self.asked(question) {
            FromGuest::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// Asks, and returns whatever is said next.
    pub(crate) fn asked(&mut self, question: ToGuest) -> FromGuest {
        self.wall.stream.write_all(&encode(&question).unwrap()).unwrap();
        self.wall.hear().expect("the guest is gone")
    }

    pub(crate) fn credential(&mut self, name: &str, part: &str) {
        let name = pod_abi::credential::CredentialName::parse(name).unwrap();
        let secret = Secret { name, part: part.to_owned() };
        assert_eq!(self.ask(ToGuest::Credential(secret)), Answer::Done);
    }

    /// Tells stage2-init something.
    pub(crate) fn tell(&mut self, message: ToInit) {
        self.tell_with(message, None);
    }

    pub(crate) fn tell_with(&mut self, message: ToInit, streams: Option<ExecStreams>) {
        let frame = encode(&Carried { message, streams }).unwrap();
        self.inner.as_mut().unwrap().stream.write_all(&frame).unwrap();
    }

    /// Hears the next word of stage2-init.
    pub(crate) fn word(&mut self) -> FromInit {
        self.inner.as_mut().unwrap().hear().expect("stage2-init is gone")
    }

    /// Hears words until one that fits.
    pub(crate) fn word_of<T>(&mut self, fits: impl Fn(FromInit) -> Option<T>) -> T {
        loop {
            if let Some(found) = fits(self.word()) {
                return found;
            }
        }
    }

    /// Takes the streams of all tokens that were given out.
    fn accept_all(&mut self) {
        let tokens: Vec<Token> = self.tokens.values().flatten().copied().collect();
        tokens.iter().for_each(|token| self.accept(*token));
    }

    fn accept(&mut self, token: Token) {
        while !self.streams.contains_key(&token.0) {
            let mut stream = accept(&self.listeners[&port::STREAM]);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut told = [0; 16];
            stream.read_exact(&mut told).unwrap();
            assert!(self.streams.insert(told, stream).is_none(), "a token is told once");
        }
    }

    /// Returns the stream of a token.
    pub(crate) fn stream(&mut self, token: Token) -> &mut UnixStream {
        self.accept(token);
        self.streams.get_mut(&token.0).unwrap()
    }

    /// Closes the stream of a token.
    pub(crate) fn close(&mut self, token: Token) {
        self.accept(token);
        self.streams.insert(token.0, UnixStream::pair().unwrap().0);
    }

    /// Reads all of a stream that has come by now, without waiting for more.
    pub(crate) fn said_by_now(&mut self, token: Token) -> Vec<u8> {
        let stream = self.stream(token);
        stream.set_nonblocking(true).unwrap();
        let mut text = Vec::new();
        // That there is nothing more now is no mistake.
        let _ = stream.read_to_end(&mut text);
        stream.set_nonblocking(false).unwrap();
        text
    }

    /// Reads a stream to its end.
    pub(crate) fn all_said(&mut self, token: Token) -> Vec<u8> {
        let mut text = Vec::new();
        self.stream(token).read_to_end(&mut text).unwrap();
        text
    }

    pub(crate) fn end_input(&mut self, token: Token) {
        self.stream(token).shutdown(Shutdown::Write).unwrap();
    }

    pub(crate) fn control(&mut self, token: Token, word: TerminalWord) {
        let frame = encode(&word).unwrap();
        self.stream(token).write_all(&frame).unwrap();
    }

    /// Waits for the guest's end, and returns what it has to say of that.
    pub(crate) fn end(&mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let failure = fs::read_to_string(self.path("failure")).unwrap_or_default();
        (code, failure)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Tells whether a file is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        Path::new(&self.path(name)).exists()
    }
}

fn accept(listener: &UnixListener) -> UnixStream {
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    assert_eq!(poll(&mut polled, Some(&patience)), Ok(1), "nobody connects");
    listener.accept().unwrap().0
}

impl Drop for Host {
    fn drop(&mut self) {
        // It has ended, but for a trial that has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.remove_cgroup();
    }
}

impl Host {
    /// Removes what a guest that was left alone has left behind; in a machine it goes with that.
    fn remove_cgroup(&self) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let points = mounts.lines().filter(|line| line.starts_with("cgroup2 "));
        for point in points.filter_map(|line| line.split(' ').nth(1)) {
            let own = Path::new(point).join(layout::cgroup(&self.order.pod.uuid));
            // The last processes of a pod end a moment after it.
            let _ = fs::write(own.join("cgroup.kill"), "1");
            let deadline = Instant::now() + PATIENCE;
            while !is_removed(&own) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Removes the cgroup of a pod, innermost directories first; tells whether it is gone.
fn is_removed(own: &Path) -> bool {
    for leaf in fs::read_dir(own.join("pod")).into_iter().flatten().flatten() {
        let _ = fs::remove_dir(leaf.path());
    }
    let _ = fs::remove_dir(own.join("pod"));
    match fs::remove_dir(own) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}
