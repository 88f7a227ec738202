//! A pod of these tests: a directory, and a process that supervises it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod_abi::control::{Hello, Reply, Request};
use pod_abi::frame::{Decoder, encode};
use pod_abi::stage::Order;
use pod_abi::status::PodStatus;
use pod_abi::{Report, version};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use stage1_kvm::{Ground, Host, Machine, Patience, Ready};
use supervisor::{Failure, INTERRUPTED, Inherited};
use tempfile::TempDir;

use crate::fakes::WAITED_FOR;

/// How long anything of these tests may take. It is a bound, not a pace.
const LONG: Duration = Duration::from_secs(60);

/// The script of a machine for which the host is never ready.
pub(crate) const NEVER_READY: &str = "never-ready";

/// The scripts of those who do not answer.
pub(crate) const SILENT: [&str; 3] = ["no-greeting", "no-answer", "drip"];

/// A pod that is not started.
pub(crate) struct Pod {
    place: TempDir,
    order: Value,
}

/// One that is.
pub(crate) struct Running {
    place: TempDir,
    supervisor: Child,
}

/// What is known of one that has ended.
#[derive(Debug)]
pub(crate) struct Said {
    place: TempDir,
    pub(crate) code: i32,
    pub(crate) error: Option<Report>,
}

impl Pod {
    /// Makes one whose machine follows `script`: the content of its layer.
    pub(crate) fn new(script: &str) -> Self {
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for directory in ["pod/apps/web", "run", "layers/a", "programs"] {
            fs::create_dir_all(place.path().join(directory)).unwrap();
        }
        let own = fs::read_link("/proc/self/exe").unwrap();
        for name in ["stage1-kvm", "vmm", "fsd"] {
            fs::hard_link(&own, place.path().join("programs").join(name)).unwrap();
        }
        let mut layer = script.as_bytes().to_vec();
        layer.resize(4096, 0);
        fs::write(place.path().join("layers/a/layer.erofs"), layer).unwrap();
        Self { place, order: order() }
    }

    /// Makes one whose app has no layers, and whose machine has no script.
    pub(crate) fn without_layers() -> Self {
        let mut pod = Self::new("");
        pod.order["apps"][0]["layers"] = json!([]);
        pod.order["apps"][0]["spec"]["image"]["layers"] = json!([]);
        pod
    }

    /// Adds to what its sandbox is.
    pub(crate) fn with(mut self, name: &str, value: &Value) -> Self {
        self.order["pod"]["sandbox"][name] = value.clone();
        self
    }

    /// Mounts `path` of the host in its app.
    pub(crate) fn with_volume(mut self, path: &str, read_only: bool) -> Self {
        self.order["apps"][0]["spec"]["mounts"] = json!([{
            "destination": "/data", "source": { "volume": "data" }, "readOnly": read_only,
        }]);
        self.with("volumes", &json!([{ "name": "data", "source": { "host": { "path": path } } }]))
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.place.path().join(path)
    }

    pub(crate) fn start(self) -> Running {
        let place = self.place;
        fs::write(place.path().join("order.json"), self.order.to_string()).unwrap();
        let program = place.path().join("programs/stage1-kvm");
        let supervisor =
            Command::new(program).arg("--supervise").arg(place.path()).spawn().unwrap();
        Running { place, supervisor }
    }

    pub(crate) fn run(self) -> Said {
        self.start().end()
    }
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.supervisor.id().cast_signed()), signal).unwrap();
    }

    /// Asks its supervisor; `None` if that hangs up.
    pub(crate) fn ask(&self, request: &Request) -> Option<Reply> {
        reply(self.tell(request))
    }

    /// Asks its supervisor for what [`reply`] waits for.
    pub(crate) fn tell(&self, request: &Request) -> UnixStream {
        let path = self.place.path().join("run/control.sock");
        let mut stream = UnixStream::connect(path).unwrap();
        let hello = Hello { version: version::CONTROL };
        stream.write_all(&encode(&hello).unwrap()).unwrap();
        stream.write_all(&encode(request).unwrap()).unwrap();
        stream
    }

    /// Waits until its supervisor waits for its monitor.
    pub(crate) fn await_wait(&self) {
        let name = WAITED_FOR.to_str().unwrap();
        let waits = |child: &u32| {
            fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == name)
        };
        until(|| self.children().iter().any(waits));
    }

    pub(crate) fn status(&self) -> PodStatus {
        serde_json::from_slice(&fs::read(self.place.path().join("pod/status.json")).unwrap())
            .unwrap()
    }

    /// Returns the processes it has started and not reaped.
    pub(crate) fn children(&self) -> Vec<u32> {
        let supervisor = self.supervisor.id();
        let path = format!("/proc/{supervisor}/task/{supervisor}/children");
        let children = fs::read_to_string(path).unwrap();
        children.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    pub(crate) fn await_file(&self, path: &str) {
        until(|| self.place.path().join(path).exists());
    }

    pub(crate) fn await_log(&self, app: &str, text: &str) {
        until(|| log(self.place.path(), app) == text);
    }

    pub(crate) fn end(mut self) -> Said {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.supervisor.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > LONG {
                self.supervisor.kill().unwrap();
                panic!("the supervisor does not end: {:?}", self.status());
            }
            thread::yield_now();
        };
        let error = self.status().error;
        Said { place: self.place, code: status.code().unwrap_or(-1), error }
    }
}

impl Said {
    pub(crate) fn status(&self) -> PodStatus {
        serde_json::from_str(&self.file("pod/status.json")).unwrap()
    }

    pub(crate) fn file(&self, path: &str) -> String {
        fs::read_to_string(self.place.path().join(path)).unwrap_or_default()
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.place.path().join(path)
    }

    pub(crate) fn log(&self, app: &str) -> String {
        log(self.place.path(), app)
    }

    pub(crate) fn code(&self) -> &str {
        self.error.as_ref().map_or("", |error| error.code.as_str())
    }

    pub(crate) fn causes(&self) -> String {
        self.error.iter().flat_map(|error| &error.causes).cloned().collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn hints(&self) -> String {
        self.error.iter().flat_map(|error| &error.hints).cloned().collect::<Vec<_>>().join("\n")
    }
}

/// Waits for a reply of a supervisor; `None` if it hangs up.
pub(crate) fn reply(mut stream: UnixStream) -> Option<Reply> {
    let (mut decoder, mut bytes) = (Decoder::new(), [0; 4096]);
    loop {
        if let Some(reply) = decoder.take().unwrap() {
            return Some(reply);
        }
        match stream.read(&mut bytes).unwrap() {
            0 => return None,
            count => decoder.feed(&bytes[..count]),
        }
    }
}

/// Returns what an app has written, without what its log says of each line.
fn log(place: &Path, app: &str) -> String {
    let text = fs::read_to_string(place.join(format!("pod/apps/{app}/log/app.log")));
    let text = text.or_else(|_| fs::read_to_string(place.join(format!("pod/apps/{app}/app.log"))));
    let text = text.unwrap_or_default();
    text.lines()
        .filter_map(|line| line.splitn(4, ' ').nth(3))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Waits until a process is gone.
pub(crate) fn await_gone(process: u32) {
    until(|| kill(Pid::from_raw(process.cast_signed()), None).is_err());
}

fn until(true_at_last: impl Fn() -> bool) {
    let begun = Instant::now();
    while !true_at_last() {
        assert!(begun.elapsed() < LONG, "what is waited for does not come");
        thread::yield_now();
    }
}

fn order() -> Value {
    // Tests that run beside these have cgroups of their own.
    let uuid = format!("abababab-abab-4bab-abab-{:012x}", std::process::id());
    let digest = format!("sha256:{}", "a".repeat(64));
    json!({
        "abi": 4,
        "pod": {
            "version": 4, "uuid": uuid, "name": "shop",
            "created": "2026-01-01T00:00:00Z", "remove": false,
            "sandbox": { "stage1": "kvm", "apps": ["web"] },
        },
        "apps": [{ "layers": ["a/layer.erofs"], "spec": {
            "version": 4, "name": "web",
            "image": { "reference": "x", "manifest": digest, "config": digest,
                       "layers": [digest], "verified": "digest" },
            "process": { "args": ["x"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
                         "noNewPrivileges": true },
        }}],
        "attempt": 1, "ids": { "base": 200_000, "count": 65536 }, "output": "logged",
        "resolvConf": "", "hosts": "",
    })
}

/// Supervises the pod in directory `place`, as the program does.
pub(crate) fn supervise(place: &str) -> ExitCode {
    let place = Path::new(place);
    let open = |path: &str| OwnedFd::from(File::open(place.join(path)).unwrap());
    let order: Order =
        serde_json::from_slice(&fs::read(place.join("order.json")).unwrap()).unwrap();
    let inherited = Inherited {
        pod: open("pod"),
        program: open("order.json"),
        run: open("run"),
        ids: None,
        sockets: Vec::new(),
    };
    let layers = open("layers");
    let ground = Ground { pod: &inherited.pod, layers: &layers };
    let host = Host { processors: 2, memory: 1 << 30 };
    // Only one who is silent is not waited for: a busy host makes honest ones slow.
    let script = fs::read(place.join("layers/a/layer.erofs")).unwrap_or_default();
    let is_silent = SILENT.iter().any(|silent| script.starts_with(silent.as_bytes()));
    let long = if is_silent { Duration::from_millis(500) } else { LONG };
    let counting = Duration::from_secs(1);
    let patience = Patience { boot: long, answer: long, laying_out: long, counting };
    let ready = if script.starts_with(NEVER_READY.as_bytes()) { never } else { nothing };
    let mut machine = Machine::new(&order, ground, Vec::new(), host, ready).with_patience(patience);
    ExitCode::from(supervisor::supervise(&order, &inherited, &mut machine))
}

/// Takes for ever, as a kernel for guests may whose preparation somebody has stopped.
fn never(signals: Option<BorrowedFd<'_>>) -> Result<Ready, Failure> {
    poll(&mut [PollFd::from_borrowed_fd(signals.unwrap(), PollFlags::IN)], None).unwrap();
    Err(Failure::new("interrupted").code(INTERRUPTED))
}

/// What a machine needs that is none.
fn nothing(_: Option<BorrowedFd<'_>>) -> Result<Ready, Failure> {
    let null =
        || File::open("/dev/null").map(OwnedFd::from).map_err(|error| Failure::of("", error));
    Ok(Ready { kvm: null()?, vmlinux: null()?, initramfs: null()? })
}
