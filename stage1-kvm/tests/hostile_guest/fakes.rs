//! A program in the cage: a monitor and a guest in one, that follow a script.
//!
//! It is started as the real one is: with descriptors, and nothing else.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::sys::signal::SigSet;
use pod_abi::exit::Ended;
use pod_abi::frame::{Decoder, encode};
use pod_abi::guest::{Answer, AppStreams, Carried, FromGuest, Hello, ToGuest, Token};
use pod_abi::inner::{AppFds, FromInit, ToInit};
use pod_abi::processes::{Listed, Listing};
use pod_abi::{AppName, Report, version};
use pod_sys::inherited;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::pread;
use rustix::net::netdevice::index_to_name;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketType,
    recvmsg, send, socket,
};
use rustix::thread::set_name;
use rustix::time::Timespec;
use serde::Serialize;
use vmm::description::fd;
use vmm::helm::{Counters, End, EndClass, FromVmm, ToVmm};

/// What a monitor is called that is waited for.
pub(crate) const WAITED_FOR: &CStr = c"waited-for";

/// A monitor, and the guest in it.
struct Fake {
    script: String,
    helm: OwnedFd,
    wall: UnixStream,
    inner: UnixStream,
    streams: BTreeMap<Token, OwnedFd>,
    stdout: Option<File>,
}

/// Plays a monitor.
pub(crate) fn monitor() -> ExitCode {
    // Without a layer there is nothing to follow, and it looks what else it was given.
    let first = inherited(fd::FIRST);
    let script = first.as_ref().map_or_else(|_| "look-around".to_owned(), read_script);
    drop(first.map(forget));
    let found = match script.as_str() {
        "look-around" => look_around(),
        "read-volume" => read_volume(),
        _ => String::new(),
    };
    let mut fake = Fake {
        script,
        helm: inherited(fd::HELM).unwrap(),
        wall: inherited(fd::WALL).unwrap().into(),
        inner: inherited(fd::INNER).unwrap().into(),
        streams: BTreeMap::new(),
        stdout: None,
    };
    fake.play(&found)
}

fn read_script(layer: &OwnedFd) -> String {
    let mut text = [0; 4096];
    pread(layer, &mut text, 0).unwrap();
    let end = text.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(text[..end].to_vec()).unwrap()
}

/// Reads the file `file` of a volume and tries to make one called `new`, as a guest of user 1000, and
/// says what comes of it.
fn read_volume() -> String {
    const LOOKUP: u32 = 1;
    const OPEN: u32 = 14;
    const READ: u32 = 15;
    const CREATE: u32 = 35;
    let mut server = UnixStream::from(inherited(fd::FIRST + 1).unwrap());
    let mut ask = |opcode: u32, node: u64, body: &[u8]| {
        let length = u32::try_from(40 + body.len()).unwrap();
        let mut frame = [length, length, opcode, 1, 0].map(u32::to_le_bytes).concat();
        frame.extend(node.to_le_bytes());
        frame.extend([1000, 1000, 0, 0].map(u32::to_le_bytes).concat());
        frame.extend(body);
        server.write_all(&frame).unwrap();
        let mut length = [0; 4];
        server.read_exact(&mut length).unwrap();
        let mut reply = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
        server.read_exact(&mut reply).unwrap();
        let body = reply.split_off(16);
        (-i32::from_le_bytes(reply[4..8].try_into().unwrap()), body)
    };
    let number = |body: &[u8]| u64::from_le_bytes(body[..8].try_into().unwrap());
    let node = number(&ask(LOOKUP, 1, b"file\0").1);
    let handle = number(&ask(OPEN, node, &[0; 8]).1);
    let mut read = handle.to_le_bytes().to_vec();
    read.extend([0, 0, 99, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat());
    let text = ask(READ, node, &read).1;
    let mut create = [0o101, 0o100_644, 0o22, 0].map(u32::to_le_bytes).concat();
    create.extend(b"new\0");
    let made = ask(CREATE, 1, &create).0;
    std::mem::forget(server);
    format!("file: {}\nnew: {made}\n", String::from_utf8_lossy(&text))
}

/// Says what the world is like from here.
fn look_around() -> String {
    let open = (0..64).filter(|number| inherited(*number).is_ok_and(forget));
    let open: Vec<String> = open.map(|number| number.to_string()).collect();
    let root = fs::read_dir("/").unwrap().count();
    let read_only = File::create("/x").is_err();
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    // The loopback is the first there is.
    let interfaces = index_to_name(any, 2);
    let blocked = SigSet::thread_get_mask().unwrap();
    let blocked = if blocked.iter().next().is_none() { "none" } else { "some" };
    format!(
        "pid {}\nuid {}\nenvironment {}\nroot {}, read-only {read_only}\ndescriptors {}\n\
         network interfaces {}\nblocked signals {blocked}\n",
        std::process::id(),
        nix::unistd::getuid(),
        std::env::vars_os().count(),
        if root == 0 { "empty" } else { "full" },
        open.join(" "),
        1 + u8::from(interfaces.is_ok()),
    )
}

/// Leaves a descriptor open.
fn forget(descriptor: OwnedFd) -> bool {
    std::mem::forget(descriptor);
    true
}

/// Lists what no pod has: processes of nobody's app, more than any list holds, with long commands
/// that drive terminals.
fn too_much() -> Vec<Listed> {
    let process = |pid| Listed {
        pid,
        pid_inside: 0,
        app: Some(AppName::parse(if pid < 9 { "other" } else { "web" }).unwrap()),
        uid: u32::MAX,
        state: '\u{1b}',
        seconds: u64::MAX,
        command: "\u{1b}[2J\u{202e}".repeat(20),
    };
    (0..2000).map(process).collect()
}

impl Fake {
    fn say(&mut self, word: &FromGuest) {
        let _ = self.wall.write_all(&encode(word).unwrap()); // nobody may listen any more
    }

    fn tell(&mut self, word: &FromInit) {
        let _ = self.inner.write_all(&encode(word).unwrap());
    }

    fn say_ended(&self, class: EndClass, console: &str) {
        let message = "so it ended\u{1b}[2J".to_owned();
        let end =
            End { class, message, console: console.to_owned(), counters: Counters::default() };
        self.say_on_helm(&FromVmm::Ended(end));
    }

    fn say_on_helm(&self, word: &impl Serialize) {
        let _ = send(&self.helm, &serde_json::to_vec(word).unwrap(), SendFlags::NOSIGNAL);
    }

    fn play(&mut self, found: &str) -> ExitCode {
        match self.script.as_str() {
            "no-frame" => drop(self.wall.write_all(b"\x04\0\0\0oops")),
            "long-frame" => drop(self.wall.write_all(&[0xff; 4])),
            "answer-first" => self.say(&FromGuest::Answer(Answer::Done)),
            "no-greeting" | "never-boots" => {
                self.drain_helm_to_its_end();
                self.say_ended(EndClass::Failed, "a line\nlast line of a console\n");
                return ExitCode::SUCCESS;
            }
            "die" => {
                let _ = std::io::stderr().write_all(b"one\noh dear\n");
                return ExitCode::from(3);
            }
            "server-dies-early" => self.upset_server(),
            "other-version" => {
                let hello = Hello { version: 99, kernel: "x".to_owned(), uptime_us: 1 };
                self.say(&FromGuest::Hello(hello));
            }
            _ => {
                let version = version::GUEST;
                let hello = Hello { version, kernel: "6.1".to_owned(), uptime_us: 1 };
                self.say(&FromGuest::Hello(hello));
            }
        }
        self.answer_all(found)
    }

    /// Reads what is told on the helm until nothing will be told any more.
    fn drain_helm_to_its_end(&mut self) {
        while self.take_from_helm(RecvFlags::empty()) {}
    }

    /// Takes one packet from the helm; `false` if there is none.
    fn take_from_helm(&mut self, flags: RecvFlags) -> bool {
        let mut packet = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(&mut packet)];
        let Ok(message) = recvmsg(&self.helm, slices, &mut control, flags) else { return false };
        if message.bytes == 0 {
            return false;
        }
        let word: ToVmm = serde_json::from_slice(&packet[..message.bytes]).unwrap();
        let along = control.drain().find_map(|ancillary| match ancillary {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        if let (ToVmm::Plug(token, _), Some(along)) = (word, along) {
            self.streams.insert(token, along);
        }
        true
    }

    /// Closes the stream to the host, and lives on.
    fn hang_up(&self) -> ! {
        let _ = self.wall.shutdown(Shutdown::Both);
        loop {
            let _ = poll(&mut [], None);
        }
    }

    fn upset_server(&self) {
        let server = inherited(fd::FIRST + 1).unwrap();
        let mut server = UnixStream::from(server);
        server.write_all(&u32::MAX.to_le_bytes()).unwrap();
        std::mem::forget(server);
    }

    /// Answers questions and carries frames, as the script wants, until the end.
    fn answer_all(&mut self, found: &str) -> ExitCode {
        let (mut questions, mut frames) = (Decoder::new(), Decoder::new());
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.wall.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.inner.as_fd(), PollFlags::IN),
            ];
            poll(&mut fds, None).unwrap();
            let ready = fds.map(|fd| !fd.revents().is_empty());
            let mut bytes = [0; 4096];
            if ready[0] {
                match self.wall.read(&mut bytes) {
                    Ok(0) | Err(_) => return ExitCode::SUCCESS,
                    Ok(count) => questions.feed(&bytes[..count]),
                }
                while let Some(question) = questions.take().unwrap() {
                    if let Some(code) = self.answer(&question) {
                        return code;
                    }
                }
            }
            if ready[1] {
                match self.inner.read(&mut bytes) {
                    Ok(0) | Err(_) => return ExitCode::SUCCESS,
                    Ok(count) => frames.feed(&bytes[..count]),
                }
                while let Some(carried) = frames.take::<Carried>().unwrap() {
                    if let Some(code) = self.carry(&carried.message, found) {
                        return code;
                    }
                }
            }
        }
    }

    fn answer(&mut self, question: &ToGuest) -> Option<ExitCode> {
        let done = FromGuest::Answer(Answer::Done);
        let report = || Box::new(Report::new("vm.killed", "\u{1b}[2Jno").hint("run this"));
        let script = self.script.clone();
        match (question, script.as_str()) {
            (ToGuest::Configure(_), "greet-twice") => {
                let hello = Hello { version: 1, kernel: "x".to_owned(), uptime_us: 1 };
                self.say(&FromGuest::Hello(hello));
            }
            (ToGuest::Configure(_), "wrong-answer") => {
                self.say(&FromGuest::Answer(Answer::Usage(Box::new(None))));
            }
            (ToGuest::Configure(_), "no-answer") => {}
            (ToGuest::Configure(_), "never-configures")
            | (ToGuest::AddApps(_), "never-lays-out")
            | (ToGuest::Pause, "never-pauses") => set_name(WAITED_FOR).unwrap(),
            (ToGuest::Usage(_), "counts-late") => {
                // Longer than counts are waited for.
                let _ = poll(&mut [], Some(&Timespec { tv_sec: 1, tv_nsec: 500_000_000 }));
                self.say(&FromGuest::Answer(Answer::Usage(Box::default())));
            }
            (ToGuest::Configure(_), "drip") => {
                // A frame that is never whole, a byte at a time.
                let _ = self.wall.write_all(&[0, 0, 1, 0]);
                let pause = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
                while self.wall.write_all(b" ").is_ok() {
                    let _ = poll(&mut [], Some(&pause));
                }
                return Some(ExitCode::SUCCESS);
            }
            (ToGuest::Configure(_), "fail") => self.say(&FromGuest::Failed(report())),
            (ToGuest::Configure(_), "die-booted") => return Some(ExitCode::from(3)),
            (ToGuest::Configure(_), "hang-up") => self.hang_up(),
            (ToGuest::Configure(_), "flood-the-helm") => {
                let _ = self.wall.shutdown(Shutdown::Both);
                // Whole packets, of which none is about the end.
                while send(&self.helm, b"{}", SendFlags::NOSIGNAL).is_ok() {}
                return Some(ExitCode::SUCCESS);
            }
            (ToGuest::Settle, "hang-up-late") => {
                self.say(&done);
                self.hang_up();
            }
            (ToGuest::AddApps(_), "refuse") => self.say(&FromGuest::Refused(report())),
            (ToGuest::AddApps(streams), script) => {
                self.drain_plugs();
                self.take_stdout(streams);
                let sockets = u32::from(script == "a-socket");
                let fds = AppFds { mount_namespace: true, cgroup: true, stdio: true, sockets };
                let count = if script == "two-trees" { 2 } else { 1 };
                self.say(&FromGuest::Answer(Answer::Added(vec![fds; count])));
            }
            (ToGuest::Processes(_), "lists-too-much") => {
                let listing = Listing { processes: too_much(), left_out: u32::MAX };
                self.say(&FromGuest::Answer(Answer::Processes(Box::new(listing))));
            }
            _ => self.say(&done),
        }
        None
    }

    /// Takes all that was plugged before the question.
    fn drain_plugs(&mut self) {
        while self.take_from_helm(RecvFlags::DONTWAIT) {}
    }

    fn take_stdout(&mut self, streams: &[AppStreams]) {
        if let Some(AppStreams::Pipes { stdout, .. }) = streams.first() {
            self.stdout = self.streams.remove(stdout).map(File::from);
        }
    }

    fn carry(&mut self, message: &ToInit, found: &str) -> Option<ExitCode> {
        let web = || AppName::parse("web").unwrap();
        match message {
            ToInit::Setup(_) => self.tell(&FromInit::Ready),
            ToInit::Shutdown { .. } => return self.end(),
            ToInit::Run => {
                self.tell(&FromInit::AppStarted { app: web(), restarts: 0, pid: 2 });
                return self.run(found);
            }
            _ => {}
        }
        None
    }

    /// What follows once the app runs.
    fn run(&mut self, found: &str) -> Option<ExitCode> {
        let end = |class, console: &str| Some((class, console.to_owned()));
        let ending = match self.script.as_str() {
            "end-powered-off" => end(EndClass::PoweredOff, "all is well\u{1b}[2J\n"),
            "end-reset" => end(EndClass::Reset, ""),
            "end-crashed" => end(EndClass::Crashed, ""),
            "end-failed" => end(EndClass::Failed, ""),
            "end-panic" => end(EndClass::Reset, "Kernel panic - not syncing: no init\u{1b}[2J\n"),
            "end-long" => {
                // Longer than any packet may be: not understood, so it is no word.
                let _ = send(&self.helm, &vec![b'x'; 150 << 10], SendFlags::NOSIGNAL);
                return Some(ExitCode::SUCCESS);
            }
            _ => None,
        };
        if let Some((class, console)) = ending {
            self.say_ended(class, &console);
            return Some(ExitCode::SUCCESS);
        }
        match self.script.as_str() {
            "flood" => {
                let word = FromGuest::MemoryRanOut(vec![AppName::parse("web").unwrap()]);
                let frame = encode(&word).unwrap();
                while self.wall.write_all(&frame).is_ok() {}
                return Some(ExitCode::SUCCESS);
            }
            "unasked-answer" => {
                self.say(&FromGuest::Answer(Answer::Done));
                return None;
            }
            "server-dies-late" => {
                self.upset_server();
                return None;
            }
            "die-in-a-request" => {
                // Half of a frame to the server of a volume.
                let server = inherited(fd::FIRST + 1).unwrap();
                UnixStream::from(server).write_all(&[40, 0, 0, 0, 1]).unwrap();
                return Some(ExitCode::from(3));
            }
            "memory-ran-out" => {
                let apps = ["web", "other"].map(|name| AppName::parse(name).unwrap());
                self.say(&FromGuest::MemoryRanOut(apps.to_vec()));
            }
            "hang-up-late" => return None,
            "lives" | "counts-late" | "never-pauses" | "lists-too-much" | "lists-nothing" => {
                let stdout = self.stdout.as_mut()?;
                stdout.write_all(b"alive\n").unwrap();
                return None;
            }
            _ => {}
        }
        let said = if found.is_empty() { "hello from a guest\n" } else { found };
        if let Some(mut stdout) = self.stdout.take() {
            stdout.write_all(said.as_bytes()).unwrap();
        }
        self.end()
    }

    /// Ends in order.
    fn end(&mut self) -> Option<ExitCode> {
        let (app, exit) = (AppName::parse("web").unwrap(), Ended::Exited { code: 0 });
        self.tell(&FromInit::AppEnded { app, exit, error: None, restart_in_ms: None });
        self.tell(&FromInit::PodEnded { code: 0 });
        self.say_ended(EndClass::PoweredOff, "");
        Some(ExitCode::SUCCESS)
    }
}
