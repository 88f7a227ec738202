//! A supervisor and a PID 1 that says what it likes.
//!
//! The wall of these tests is a thread that plays PID 1 by a script; everything else - records,
//! logs, control socket - is real. What must hold: whatever the other side says, the supervisor
//! ends, with a status that tells what happened.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use pod_abi::control::{Hello, Reply, Request, WindowSize};
use pod_abi::exit::Ended;
use pod_abi::frame::{Decoder, encode};
use pod_abi::inner::{AppFds, FromInit, Target, ToInit};
use pod_abi::manifest::OomPolicy;
use pod_abi::stage::{AppOrder, Order, Service};
use pod_abi::status::{AppState, PodStatus};
use pod_abi::{AppName, Report, version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use supervisor::{
    Added, AppStdio, Born, Failure, Inherited, Master, Networks, Terminal, Wall, supervise,
};

/// PID 1's end of things.
struct Init {
    channel: UnixStream,
    stdout: File,
    stdin: File,
    decoder: Decoder,
    /// Closed by dropping it: everything behind the wall has ended.
    _end: File,
}

impl Init {
    fn say(&mut self, word: &FromInit) {
        self.channel.write_all(&encode(word).unwrap()).unwrap();
    }

    fn hear(&mut self) -> Option<ToInit> {
        hear(&mut self.channel, &mut self.decoder)
    }

    /// Hears everything up to `Run` and answers as an honest one does.
    fn begin(&mut self) {
        self.say(&FromInit::Ready);
        while self.hear() != Some(ToInit::Run) {}
    }
}

fn hear<M: DeserializeOwned>(stream: &mut UnixStream, decoder: &mut Decoder) -> Option<M> {
    loop {
        if let Some(message) = decoder.take().unwrap() {
            return Some(message);
        }
        let mut bytes = [0; 256];
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return None,
            Ok(count) => decoder.feed(&bytes[..count]),
        }
    }
}

type Script = Box<dyn FnOnce(Init) + Send>;

struct Stage {
    script: Option<Script>,
    channel: Option<UnixStream>,
    stdout: Option<OwnedFd>,
    input: Option<OwnedFd>,
    init: Option<thread::JoinHandle<()>>,
    /// Where memory runs out, told once.
    out_of_memory: Vec<AppName>,
}

impl Wall for Stage {
    fn out_of_memory(&mut self) -> Vec<AppName> {
        std::mem::take(&mut self.out_of_memory)
    }

    fn add_app(
        &mut self,
        _: &AppOrder,
        _: BorrowedFd<'_>,
        _: Vec<OwnedFd>,
    ) -> Result<Added, Failure> {
        Err(Failure::new("this wall takes no app"))
    }

    fn remove_app(&mut self, _: &AppName) {}

    fn cgroup(&self) -> Option<String> {
        None
    }

    fn raise(&mut self, _: &dyn Networks) -> Result<Born, Failure> {
        let (ours, its) = UnixStream::pair().unwrap();
        let (end, its_end) = rustix::pipe::pipe().unwrap();
        let (stdout, its_stdout) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&stdout, true).unwrap();
        let (its_stdin, input) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&input, true).unwrap();
        self.stdout = Some(stdout);
        self.input = Some(input);
        self.channel = Some(its.try_clone().unwrap());
        let init = Init {
            channel: its,
            stdout: its_stdout.into(),
            stdin: its_stdin.into(),
            decoder: Decoder::new(),
            _end: its_end.into(),
        };
        let script = self.script.take().unwrap();
        self.init = Some(thread::spawn(move || script(init)));
        Ok(Born { channel: ours.into(), end, pid: Some(1), joined: None })
    }

    fn add_apps(&mut self, apps: &[AppOrder]) -> Result<Vec<Added>, Failure> {
        assert_eq!(apps.len(), 1);
        let fds = AppFds { mount_namespace: false, cgroup: false, stdio: false, sockets: 0 };
        let stderr = rustix::pipe::pipe().unwrap().0;
        let stdout = self.stdout.take().unwrap();
        let stdio = AppStdio::Streams { input: self.input.take(), stdout, stderr };
        Ok(vec![Added { fds, descriptors: Vec::new(), stdio }])
    }

    fn settle(&mut self) {}

    fn host_pid(&self, _app: &AppName, _pid: u32) -> Option<u32> {
        None
    }

    fn terminal(&self, _: &AppName, _: u32, _: WindowSize) -> Result<Terminal, Failure> {
        let pair = nix::pty::openpty(None, None).unwrap();
        rustix::io::ioctl_fionbio(&pair.master, true).unwrap();
        Ok(Terminal { master: Master::Here(pair.master), slave: vec![pair.slave] })
    }

    fn kill(&mut self) {
        if let Some(channel) = &self.channel {
            let _ = channel.shutdown(std::net::Shutdown::Both);
        }
    }

    fn take_down(&mut self) {
        if let Some(init) = self.init.take() {
            init.join().unwrap();
        }
    }
}

fn order() -> Order {
    serde_json::from_str(include_str!("order.json")).unwrap()
}

/// Runs a pod whose PID 1 follows `script`; `beside` is called with the run directory.
fn run(
    script: impl FnOnce(Init) + Send + 'static,
    beside: impl FnOnce(&Path) + Send + 'static,
) -> (u8, PodStatus, String) {
    run_as(&order(), script, beside)
}

/// As [`run`], for a pod that was ordered otherwise.
fn run_as(
    order: &Order,
    script: impl FnOnce(Init) + Send + 'static,
    beside: impl FnOnce(&Path) + Send + 'static,
) -> (u8, PodStatus, String) {
    let root = tempfile::tempdir().unwrap();
    let (pod, run) = (root.path().join("pod"), root.path().join("run"));
    fs::create_dir_all(pod.join("apps/web")).unwrap();
    fs::create_dir(&run).unwrap();
    let open = |path: &Path| OwnedFd::from(File::open(path).unwrap());
    let inherited = Inherited {
        pod: open(&pod),
        program: open(&pod),
        run: open(&run),
        ids: None,
        sockets: Vec::new(),
    };
    let init = None;
    let script: Option<Script> = Some(Box::new(script));
    let out_of_memory = vec![web()];
    let mut wall = Stage { script, channel: None, stdout: None, input: None, init, out_of_memory };
    let client = thread::spawn(move || beside(&run));
    let code = supervise(order, &inherited, &mut wall);
    client.join().unwrap();
    let status = serde_json::from_slice(&fs::read(pod.join("status.json")).unwrap()).unwrap();
    let log = fs::read_to_string(pod.join("apps/web/log/app.log")).unwrap_or_default();
    assert!(!root.path().join("run/control.sock").exists());
    (code, status, log)
}

fn alone(_: &Path) {}

fn web() -> AppName {
    AppName::parse("web").unwrap()
}

fn started() -> FromInit {
    FromInit::AppStarted { app: web(), restarts: 0, pid: 2 }
}

fn ended(exit: Ended) -> FromInit {
    FromInit::AppEnded { app: web(), exit, error: None, restart_in_ms: None }
}

#[test]
fn an_honest_life_is_recorded_and_its_output_logged() {
    let (code, status, log) = run(
        |mut init| {
            init.begin();
            init.say(&started());
            init.say(&FromInit::PodReady);
            init.stdout.write_all(b"hello\nrest").unwrap();
            init.say(&ended(Ended::Exited { code: 3 }));
            init.say(&FromInit::PodEnded { code: 3 });
        },
        alone,
    );
    assert_eq!((code, status.code, &status.error), (3, Some(3), &None));
    assert_eq!(status.apps[0].state, AppState::Exited);
    assert!(status.ready.is_some());
    let texts: Vec<_> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(texts, ["stdout F hello", "stdout P rest"]);
}

#[test]
fn a_pid_1_that_breaks_the_protocol_ends_its_pod_alone() {
    let scripts: [(&str, Script); 7] = [
        ("pod.init-died", Box::new(|_| {})),
        ("pod.init-died", Box::new(|mut init| init.begin())),
        ("pod.init-broke-protocol", Box::new(|mut init| init.say(&started()))),
        (
            "pod.init-broke-protocol",
            Box::new(|mut init| {
                init.begin();
                let app = AppName::parse("other").unwrap();
                init.say(&FromInit::AppStarted { app, restarts: 0, pid: 2 });
                while init.hear().is_some() {}
            }),
        ),
        (
            "pod.failed",
            Box::new(|mut init| {
                init.channel.write_all(&u32::MAX.to_le_bytes()).unwrap();
                while init.hear().is_some() {}
            }),
        ),
        (
            "pod.failed",
            Box::new(|mut init| {
                init.channel.write_all(b"\x04\0\0\0junk").unwrap();
                while init.hear().is_some() {}
            }),
        ),
        (
            "pod.failed",
            Box::new(|mut init| {
                // The parser quotes a word it does not know.
                let word = "\u{1b}[2J".repeat(10_000);
                init.channel.write_all(&encode(&word).unwrap()).unwrap();
                while init.hear().is_some() {}
            }),
        ),
    ];
    for (expected, script) in scripts {
        let (code, status, _) = run(script, alone);
        assert_eq!(code, 125);
        let error = status.error.unwrap();
        assert_eq!(error.code, expected);
        assert_eq!(error.clone().tamed(), error);
    }
}

#[test]
fn the_last_words_of_pid_1_are_heard() {
    let (code, status, _) = run(
        |mut init| {
            let report = Report::new("init.panicked", "PID 1 \x1b[31mpanicked");
            init.say(&FromInit::Failed(Box::new(report)));
        },
        alone,
    );
    let error = status.error.unwrap();
    assert_eq!((code, error.code.as_str()), (125, "init.panicked"));
    assert!(!error.message.contains('\x1b'));
}

struct Client {
    stream: UnixStream,
    decoder: Decoder,
}

impl Client {
    fn connect(run: &Path) -> Self {
        let path = run.join("control.sock");
        let stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(_) => thread::yield_now(),
            }
        };
        let mut client = Self { stream, decoder: Decoder::new() };
        client.send(&Hello { version: version::CONTROL });
        client
    }

    fn send<M: Serialize>(&mut self, message: &M) {
        self.stream.write_all(&encode(message).unwrap()).unwrap();
    }

    fn send_with_standard_streams<M: Serialize>(&mut self, message: &M) {
        let null = File::open("/dev/null").unwrap();
        self.send_with(message, [null.as_fd(); 3]);
    }

    fn send_with<M: Serialize>(&mut self, message: &M, descriptors: [BorrowedFd<'_>; 3]) {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let bytes = encode(message).unwrap();
        let slices = [std::io::IoSlice::new(&bytes)];
        let sent = sendmsg(&self.stream, &slices, &mut control, SendFlags::empty()).unwrap();
        assert_eq!(sent, bytes.len());
    }

    fn hear(&mut self) -> Option<Reply> {
        hear(&mut self.stream, &mut self.decoder)
    }

    /// Asks until the app runs.
    fn await_running(&mut self) {
        loop {
            self.send(&Request::Ps);
            let Some(Reply::Status(status)) = self.hear() else { panic!("no status") };
            if status.apps[0].state == AppState::Running {
                return;
            }
        }
    }
}

fn exec() -> Request {
    let process = order().apps.remove(0).spec.process;
    Request::Exec { app: web(), process: Box::new(process), terminal: None }
}

/// Starts the app and then obeys: ends what it is told to end.
fn obedient(mut init: Init) {
    init.begin();
    init.say(&started());
    init.say(&FromInit::PodReady);
    let mut killed = BTreeMap::new();
    while let Some(word) = init.hear() {
        match word {
            ToInit::Exec { id, .. } => {
                init.say(&FromInit::ExecStarted { id });
                killed.insert(id, false);
            }
            ToInit::Signal { target: Target::Exec(id), signal } => {
                killed.insert(id, signal == 9);
                let exit = Ended::Signaled { signal, oom: false };
                init.say(&FromInit::ExecEnded { id, exit, error: None });
                if signal == 9 {
                    init.say(&ended(Ended::Exited { code: 0 }));
                    init.say(&FromInit::PodEnded { code: 99 });
                    return;
                }
            }
            ToInit::Shutdown { .. } => {
                init.say(&ended(Ended::Exited { code: 0 }));
                init.say(&FromInit::PodEnded { code: 0 });
                return;
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
}

#[test]
fn a_client_execs_signals_and_shuts_down() {
    let (code, _, _) = run(obedient, |run| {
        let mut client = Client::connect(run);
        client.await_running();
        client.send_with_standard_streams(&exec());
        assert_eq!(client.hear(), Some(Reply::ExecStarted));
        let target = pod_abi::control::SignalTarget::Exec;
        client.send(&Request::Signal { target, signal: 15 });
        let replies = [client.hear(), client.hear()];
        let exit = Ended::Signaled { signal: 15, oom: false };
        assert!(replies.contains(&Some(Reply::Done)));
        assert!(replies.contains(&Some(Reply::ExecEnded { exit })));
        client.send(&Request::Shutdown { grace_ms: None });
        assert_eq!(client.hear(), Some(Reply::Done));
    });
    assert_eq!(code, 0);
}

/// The same pod, in a unit and with the policy to end when memory runs out.
fn order_of_a_unit() -> Order {
    let mut order = order();
    order.service = Some(Service { unit: "pod-shop.service".to_owned(), watchdog_us: None });
    order.pod.sandbox.oom_policy = OomPolicy::Stop;
    order
}

#[test]
fn a_service_that_was_asked_to_end_has_not_failed() {
    let (code, status, _) = run_as(
        &order_of_a_unit(),
        |mut init| {
            init.begin();
            init.say(&started());
            while !matches!(init.hear(), Some(ToInit::Shutdown { .. })) {}
            init.say(&ended(Ended::Signaled { signal: 15, oom: false }));
            init.say(&FromInit::PodEnded { code: 143 });
        },
        |run| {
            let mut client = Client::connect(run);
            client.await_running();
            client.send(&Request::Shutdown { grace_ms: None });
            assert_eq!(client.hear(), Some(Reply::Done));
        },
    );
    assert_eq!((code, status.code), (0, Some(143)));
}

#[test]
fn a_service_that_ends_for_lack_of_memory_has_failed() {
    let (code, status, _) = run_as(
        &order_of_a_unit(),
        |mut init| {
            init.begin();
            init.say(&started());
            init.say(&ended(Ended::Signaled { signal: 9, oom: true }));
            while !matches!(init.hear(), Some(ToInit::Shutdown { .. })) {}
            init.say(&FromInit::PodEnded { code: 0 });
        },
        alone,
    );
    assert_eq!((code, status.code), (137, Some(137)));
}

#[test]
fn a_client_that_goes_away_takes_its_process_along() {
    let (code, _, _) = run(obedient, |run| {
        let mut client = Client::connect(run);
        client.await_running();
        client.send_with_standard_streams(&exec());
        assert_eq!(client.hear(), Some(Reply::ExecStarted));
    });
    // What the script ends with once its process was killed.
    assert_eq!(code, 99);
}

#[test]
fn a_client_that_breaks_the_rules_is_cut_off_and_the_pod_lives_on() {
    let (code, _, _) = run(obedient, |run| {
        let mut bad = Client::connect(run);
        bad.stream.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(bad.hear(), None);
        // An exec without its descriptors.
        let mut bad = Client::connect(run);
        bad.send(&exec());
        assert_eq!(bad.hear(), None);
        // Two things at a time.
        let mut bad = Client::connect(run);
        bad.send_with_standard_streams(&Request::Ps);
        assert_eq!(bad.hear(), None);
        let mut good = Client::connect(run);
        good.await_running();
        let app = AppName::parse("other").unwrap();
        good.send(&Request::Start { app });
        assert!(matches!(good.hear(), Some(Reply::Refused(_))));
        good.send(&Request::Shutdown { grace_ms: Some(1) });
        assert_eq!(good.hear(), Some(Reply::Done));
    });
    assert_eq!(code, 0);
}

/// A client's own ends of what it is attached with.
struct Ends {
    stdin: File,
    stdout: File,
}

impl Client {
    /// Attaches to the app, and feeds it if `input`.
    fn attach(&mut self, input: bool) -> Ends {
        let ((stdin, feeder), (reader, stdout)) =
            (rustix::pipe::pipe().unwrap(), rustix::pipe::pipe().unwrap());
        let request = Request::Attach { app: Some(web()), input, ends_input: true, size: None };
        self.send_with(&request, [stdin.as_fd(), stdout.as_fd(), stdout.as_fd()]);
        assert_eq!(self.hear(), Some(Reply::Attached));
        Ends { stdin: feeder.into(), stdout: reader.into() }
    }
}

/// Lines enough to fill every pipe on their way several times.
const LINES: usize = 100_000;

/// Starts the app, says a lot and ends.
fn talkative(mut init: Init) {
    init.begin();
    init.say(&started());
    init.say(&FromInit::PodReady);
    init.stdout.write_all(&b"0123456789\n".repeat(LINES)).unwrap();
    init.say(&ended(Ended::Exited { code: 3 }));
    init.say(&FromInit::PodEnded { code: 3 });
}

#[test]
fn a_client_that_stalls_holds_up_the_app_and_nothing_else() {
    let order = Order { hold: true, ..order() };
    let (code, _, log) = run_as(&order, talkative, |run| {
        let mut stalled = Client::connect(run);
        let ends = stalled.attach(false);
        // Others are served, and the app cannot get to its end.
        let mut other = Client::connect(run);
        other.await_running();
        for _ in 0..100 {
            other.await_running();
        }
        drop((stalled, ends));
        while other.hear().is_some() {}
    });
    assert_eq!((code, log.lines().count()), (3, LINES));
}

#[test]
fn an_app_that_is_held_says_nothing_before_its_client_hears_and_all_before_its_end() {
    let order = Order { hold: true, ..order() };
    let (code, _, _) = run_as(&order, talkative, |run| {
        let mut client = Client::connect(run);
        let mut ends = client.attach(false);
        let reader = thread::spawn(move || {
            let mut text = Vec::new();
            ends.stdout.read_to_end(&mut text).unwrap();
            text.len()
        });
        assert_eq!(client.hear(), Some(Reply::AppEnded { exit: Ended::Exited { code: 3 } }));
        assert_eq!(reader.join().unwrap(), 11 * LINES);
    });
    assert_eq!(code, 3);
}

#[test]
fn input_ends_when_that_is_said_and_not_when_a_client_is_killed() {
    let listening = |mut init: Init| {
        init.begin();
        init.say(&started());
        let mut byte = [0; 1];
        for expected in *b"ab" {
            init.stdin.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], expected);
            init.stdout.write_all(&byte).unwrap();
        }
        assert_eq!(init.stdin.read(&mut byte).unwrap(), 0);
        init.say(&ended(Ended::Exited { code: 0 }));
        init.say(&FromInit::PodEnded { code: 0 });
    };
    let (code, _, _) = run(listening, |run| {
        for byte in *b"ab" {
            let mut client = Client::connect(run);
            let mut ends = client.attach(true);
            ends.stdin.write_all(&[byte]).unwrap();
            let mut back = [0; 1];
            ends.stdout.read_exact(&mut back).unwrap();
            assert_eq!(back[0], byte);
            drop(ends.stdin);
            if byte == b'b' {
                client.send(&Request::EndInput);
                let exit = Ended::Exited { code: 0 };
                assert_eq!(client.hear(), Some(Reply::Done));
                assert_eq!(client.hear(), Some(Reply::AppEnded { exit }));
            }
        }
    });
    assert_eq!(code, 0);
}

#[test]
fn what_is_attached_is_pipes_and_a_size_is_a_terminals() {
    let (code, _, _) = run(obedient, |run| {
        let mut client = Client::connect(run);
        client.await_running();
        let refused = |client: &mut Client| match client.hear() {
            Some(Reply::Refused(report)) => report.code,
            other => panic!("{other:?}"),
        };
        let attach = |input, app| Request::Attach { app, input, ends_input: false, size: None };
        client.send_with_standard_streams(&attach(false, Some(web())));
        assert_eq!(refused(&mut client), "attach.streams");
        client.send_with_standard_streams(&attach(true, None));
        assert_eq!(refused(&mut client), "attach.input");
        let size = WindowSize { rows: 1, columns: 1 };
        client.send(&Request::Resize { size });
        assert_eq!(refused(&mut client), "terminal.none");
        client.send(&Request::Shutdown { grace_ms: None });
        assert_eq!(client.hear(), Some(Reply::Done));
    });
    assert_eq!(code, 0);
}
