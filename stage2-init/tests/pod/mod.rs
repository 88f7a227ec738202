//! A supervisor of a few lines, and a root of busybox made in memory.
//!
//! As stage1 does it: PID 1 in namespaces of its own, ids mapped from outside; a helper lays out
//! an app's mounts in the host's user namespace, locks them to the pod's, and hands the mount
//! namespace over. Nothing is written to any disk.

use std::fs::{self, File};
use std::io::{IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags as NsFlags, setns};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Pid, Uid, pipe2, pivot_root, setgroups, setresgid, setresuid};
use pod_abi::app::{
    AppSpec, EnvVar, ImagePin, LogOptions, PidMode, Process, Restart, Stop, User, Verified,
};
use pod_abi::digest::Digest;
use pod_abi::frame::{Decoder, encode};
use pod_abi::inner::{AppFds, FromInit, Setup, ToInit};
use pod_abi::isolators::{Capabilities, Seccomp};
use pod_abi::manifest::ExitPolicy;
use pod_abi::name::AppName;
use pod_abi::path::PodPath;
use pod_abi::readiness::Readiness;
use pod_abi::version;
use pod_sys::{CloneFlags, Forked, clone3, place, send_signal, unshare, wait_pidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// The first id of the pod on the host.
const BASE: u32 = 1_000_000;

/// Returns an app that runs a line of shell.
pub(crate) fn shell(name: &str, script: &str) -> AppSpec {
    let digest = Digest::parse(&format!("sha256:{}", "0".repeat(64))).unwrap();
    AppSpec {
        version: version::MANIFEST,
        name: AppName::parse(name).unwrap(),
        image: ImagePin {
            reference: "test".to_owned(),
            manifest: digest.clone(),
            config: digest.clone(),
            layers: vec![digest],
            verified: Verified::Digest,
        },
        process: Process {
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: ["PATH=/bin", "HOME=/"].map(|var| EnvVar::parse(var).unwrap()).to_vec(),
            cwd: PodPath::parse("/").unwrap(),
            user: User::default(),
            capabilities: Capabilities::default_set(),
            no_new_privileges: true,
            seccomp: Seccomp::Default,
            rlimits: vec![],
            oom_score_adj: None,
        },
        read_only_root: false,
        mounts: vec![],
        masked_paths: vec![],
        read_only_paths: vec![],
        pid: PidMode::App,
        restart: Restart::No,
        stop: Stop::default(),
        readiness: Readiness::Started,
        log: LogOptions::default(),
        labels: Default::default(),
        annotations: Default::default(),
        role: Default::default(),
        after: vec![],
        stdio: Default::default(),
        reaper: false,
        writable_sys: false,
        devices: vec![],
        resources: Default::default(),
        volumes: vec![],
        credentials: vec![],
        sockets: vec![],
    }
}

/// Whose user namespace a pod lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// Its own, as by default.
    Own,
    /// The host's, as with `--userns host`.
    Host,
}

impl Ids {
    const fn base(self) -> u32 {
        match self {
            Self::Own => BASE,
            Self::Host => 0,
        }
    }
}

/// A pod with its PID 1.
pub(crate) struct Pod {
    channel: Option<UnixStream>,
    decoder: Decoder,
    init: OwnedFd,
    pid: Pid,
    ids: Ids,
    cgroups: Option<Cgroups>,
}

/// The cgroups of a pod, where there is a cgroup2 file system: as stage1 makes them.
struct Cgroups {
    root: PathBuf,
    base: u32,
}

impl Cgroups {
    fn make(ids: Ids) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let path = words.next()?;
            (words.next() == Some("cgroup2")).then_some(path)
        })?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pod-test-{}-{count}", std::process::id());
        let root = Path::new(mount).join(name);
        fs::create_dir(&root).ok()?;
        fs::create_dir(root.join("init")).unwrap();
        let base = Some(ids.base());
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            chown(root.join(file), base, base).unwrap();
        }
        Some(Self { root, base: ids.base() })
    }

    fn leaf(&self, name: &str) -> File {
        let path = self.root.join(name);
        let _ = fs::create_dir(&path); // there already, if it is the one of PID 1
        chown(path.join("cgroup.procs"), Some(self.base), Some(self.base)).unwrap();
        File::open(path).unwrap()
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let leaves = fs::read_dir(&self.root).into_iter().flatten().flatten();
        for leaf in leaves.filter(|leaf| leaf.path().is_dir()) {
            let _ = fs::remove_dir(leaf.path());
        }
        let _ = fs::remove_dir(&self.root);
    }
}

/// What an app or exec has written.
pub(crate) struct Output(File);

impl Output {
    /// Reads to the end, which comes when nobody holds the writing end any more.
    pub(crate) fn read(mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        text
    }

    /// Reads until a line has come; returns all that came until then.
    pub(crate) fn wait_for(&self, wanted: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(&format!("{wanted}\n")) {
            let mut byte = [0];
            assert_eq!((&self.0).read(&mut byte).unwrap(), 1, "ended after {text:?}");
            text.push(char::from(byte[0]));
        }
        text
    }
}

impl Pod {
    /// Starts PID 1 in a user namespace of its own and waits until it is ready.
    pub(crate) fn new(policy: ExitPolicy) -> Self {
        Self::with(policy, Ids::Own)
    }

    /// Starts PID 1 and waits until it is ready.
    pub(crate) fn with(policy: ExitPolicy, ids: Ids) -> Self {
        let cgroups = Cgroups::make(ids);
        let leaf = cgroups.as_ref().map(|cgroups| cgroups.leaf("init"));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (go_read, go_write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let user = if ids == Ids::Own { CloneFlags::NEWUSER } else { CloneFlags::NONE };
        let namespaces = user
            | CloneFlags::NEWPID
            | CloneFlags::NEWIPC
            | CloneFlags::NEWUTS
            | CloneFlags::NEWNS
            | CloneFlags::NEWNET;
        match clone3(namespaces, leaf.as_ref().map(AsFd::as_fd)).unwrap() {
            Forked::Child => {
                drop((ours, go_write));
                become_init(File::from(go_read), &theirs)
            }
            Forked::Parent { pid, pidfd } => {
                if ids == Ids::Own {
                    let map = format!("0 {BASE} 65536");
                    fs::write(format!("/proc/{pid}/uid_map"), &map).unwrap();
                    fs::write(format!("/proc/{pid}/gid_map"), &map).unwrap();
                }
                drop(go_write);
                ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let channel = Some(ours);
                let decoder = Decoder::new();
                let mut pod = Self { channel, decoder, init: pidfd, pid, ids, cgroups };
                pod.tell(&ToInit::Setup(Setup {
                    version: version::INNER,
                    hostname: "host-of-pod".to_owned(),
                    own_network: true,
                    exit_policy: policy,
                    shares_processes: false,
                }));
                pod.until(|news| matches!(news, FromInit::Ready).then_some(()));
                pod
            }
        }
    }

    fn stream(&self) -> &UnixStream {
        self.channel.as_ref().unwrap()
    }

    /// Sends an order without descriptors.
    pub(crate) fn tell(&self, order: &ToInit) {
        self.tell_with(order, &[]);
    }

    fn tell_with(&self, order: &ToInit, descriptors: &[BorrowedFd<'_>]) {
        let bytes = encode(order).unwrap();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let flags = SendFlags::NOSIGNAL;
        let sent = sendmsg(self.stream(), &[IoSlice::new(&bytes)], &mut control, flags).unwrap();
        self.stream().write_all(&bytes[sent..]).unwrap();
    }

    /// Reads news until one is what is waited for.
    pub(crate) fn until<T>(&mut self, mut wanted: impl FnMut(&FromInit) -> Option<T>) -> T {
        loop {
            while let Some(news) = self.decoder.take::<FromInit>().unwrap() {
                if let FromInit::Failed(report) = &news {
                    panic!("{report:?}");
                }
                if std::env::var_os("POD_TEST_TALK").is_some() {
                    println!("  {news:?}");
                }
                if let Some(found) = wanted(&news) {
                    return found;
                }
            }
            let mut bytes = [0; 4096];
            let length = self.stream().read(&mut bytes).expect("news in time");
            assert_ne!(length, 0, "PID 1 is gone");
            self.decoder.feed(&bytes[..length]);
        }
    }

    /// Lays out an app and hands it in.
    pub(crate) fn add(&self, spec: AppSpec) -> Output {
        let mounts = self.lay_out();
        let (output, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let owner = Uid::from_raw(self.ids.base() + spec.process.user.uid);
        nix::unistd::fchown(&writer, Some(owner), None).unwrap();
        let leaf = self.cgroups.as_ref().map(|cgroups| cgroups.leaf(&format!("app-{}", spec.name)));
        let null = File::open("/dev/null").unwrap();
        let fds = AppFds { mount_namespace: true, cgroup: leaf.is_some(), stdio: true, sockets: 0 };
        let order = ToInit::AddApp { spec: Box::new(spec), fds };
        let mut descriptors = vec![mounts.as_fd()];
        descriptors.extend(leaf.as_ref().map(AsFd::as_fd));
        descriptors.extend([null.as_fd(), writer.as_fd(), writer.as_fd()]);
        self.tell_with(&order, &descriptors);
        Output(File::from(output))
    }

    /// Asks for a process in an app.
    pub(crate) fn exec(&self, id: u32, app: &str, process: Process) -> Output {
        let (output, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let null = File::open("/dev/null").unwrap();
        let app = AppName::parse(app).unwrap();
        let order = ToInit::Exec { id, app, process: Box::new(process), terminal: false };
        self.tell_with(&order, &[null.as_fd(), writer.as_fd(), writer.as_fd()]);
        Output(File::from(output))
    }

    /// Waits until no process of an app lives, where there are cgroups to tell.
    pub(crate) fn wait_until_empty(&self, app: &str) {
        let Some(cgroups) = &self.cgroups else { return };
        let path = cgroups.root.join(format!("app-{app}")).join("cgroup.events");
        let mut events = File::open(path).unwrap();
        loop {
            let mut text = String::new();
            events.seek(SeekFrom::Start(0)).unwrap();
            events.read_to_string(&mut text).unwrap();
            if text.contains("populated 0") {
                return;
            }
            let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
            let changed = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&limit)).unwrap();
            assert_eq!(changed, 1, "processes are left: {text}");
        }
    }

    /// Closes the channel.
    pub(crate) fn hang_up(&mut self) {
        self.channel = None;
    }

    /// Waits until PID 1 has ended.
    pub(crate) fn gone(&self) {
        wait_pidfd(self.init.as_fd()).unwrap();
    }

    /// Returns what PID 1 has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }

    /// Sends a datagram to an abstract address, from a process of the pod.
    pub(crate) fn say_from_inside(&self, address: &str, text: &str) {
        let own = File::open("/proc/self/ns/pid").unwrap();
        setns(&self.init, NsFlags::CLONE_NEWPID).unwrap();
        self.say_from_child(address, text);
        setns(&own, NsFlags::CLONE_NEWPID).unwrap();
    }

    /// Sends a datagram to an abstract address, from a process of the host in the pod's network.
    pub(crate) fn say_from_outside(&self, address: &str, text: &str) {
        self.say_from_child(address, text);
    }

    fn say_from_child(&self, address: &str, text: &str) {
        let forked = clone3(CloneFlags::NONE, None);
        match forked.unwrap() {
            Forked::Child => {
                let sent = setns(&self.init, NsFlags::CLONE_NEWNET).is_ok() && say(address, text);
                std::process::exit(i32::from(!sent))
            }
            Forked::Parent { pidfd, .. } => {
                let exit = wait_pidfd(pidfd.as_fd()).unwrap().exit;
                assert_eq!(exit, pod_sys::Exit::Code(0), "nothing was said");
            }
        }
    }

    /// Makes the mount namespace of an app, as stage1's helper does.
    fn lay_out(&self) -> File {
        let own = File::open("/proc/self/ns/pid").unwrap();
        let (mut ready, tell) = UnixStream::pair().unwrap();
        setns(&self.init, NsFlags::CLONE_NEWPID).unwrap();
        let forked = clone3(CloneFlags::NEWNS, None);
        match forked.unwrap() {
            Forked::Child => {
                let done = std::panic::catch_unwind(|| build_tree(self.init.as_fd(), self.ids));
                (&tell).write_all(&[u8::from(done.is_ok())]).unwrap();
                loop {
                    nix::unistd::pause();
                }
            }
            Forked::Parent { pid, pidfd } => {
                setns(&own, NsFlags::CLONE_NEWPID).unwrap();
                drop(tell);
                let mut done = [0];
                ready.read_exact(&mut done).unwrap();
                assert_eq!(done, [1], "the tree was not laid out");
                let mounts = File::open(format!("/proc/{pid}/ns/mnt")).unwrap();
                send_signal(pidfd.as_fd(), 9).unwrap();
                wait_pidfd(pidfd.as_fd()).unwrap();
                mounts
            }
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = send_signal(self.init.as_fd(), 9);
        let _ = wait_pidfd(self.init.as_fd());
    }
}

fn say(address: &str, text: &str) -> bool {
    let Some(name) = address.strip_prefix('@') else { return false };
    let address = SocketAddr::from_abstract_name(name).unwrap();
    UnixDatagram::unbound().unwrap().send_to_addr(text.as_bytes(), &address).is_ok()
}

/// Becomes stage2-init once the ids are mapped.
fn become_init(mut go: File, channel: &UnixStream) -> ! {
    let mut nothing = [0];
    let _ = go.read(&mut nothing);
    let zero = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).unwrap();
    setresgid(zero.1, zero.1, zero.1).unwrap();
    setresuid(zero.0, zero.0, zero.0).unwrap();
    place(channel.as_fd(), pod_abi::inner::CHANNEL_FD).unwrap();
    pod_sys::close_on_exec_from(pod_abi::inner::CHANNEL_FD + 1).unwrap();
    let program = std::ffi::CString::new(env!("CARGO_BIN_EXE_stage2-init")).unwrap();
    let environment: [std::ffi::CString; 0] = [];
    let Err(errno) = nix::unistd::execve(&program, &[c"stage2-init"], &environment);
    panic!("{errno}");
}

/// Builds the root of an app in the current mount namespace, and locks it to the pod's.
fn build_tree(init: BorrowedFd<'_>, ids: Ids) {
    let busybox = fs::read("/bin/busybox").unwrap();
    let none = None::<&str>;
    setns(init, NsFlags::CLONE_NEWNET | NsFlags::CLONE_NEWIPC | NsFlags::CLONE_NEWUTS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).unwrap();
    let root = Path::new("/mnt");
    let folders = ["bin", "proc", "sys", "dev", "tmp", "etc", "etc/secret", "etc/frozen"];
    for folder in folders {
        fs::create_dir(root.join(folder)).unwrap();
    }
    for (name, text, mode) in [
        ("bin/busybox", &busybox[..], 0o755),
        ("bin/orphan-script", b"#!/bin/no-such-shell -e\n", 0o755),
        ("etc/plain", b"text", 0o644),
        ("etc/garbage", b"\x00garbage", 0o755),
        ("etc/secret/password", b"secret", 0o644),
    ] {
        fs::write(root.join(name), text).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let applets = "sh cat ls env sort tr cut hostname sleep grep sed stat touch mkdir id pwd";
    for applet in applets.split(' ') {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    symlink("/tmp", root.join("link")).unwrap();
    for path in std::iter::once("").chain(folders) {
        chown(root.join(path), Some(ids.base()), Some(ids.base())).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let inert = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/mnt/proc", Some("proc"), inert, none).unwrap();
    let read_only = inert | MsFlags::MS_RDONLY;
    mount(Some("sysfs"), "/mnt/sys", Some("sysfs"), read_only, none).unwrap();
    let device = SFlag::S_IFCHR;
    mount(Some("tmpfs"), "/mnt/dev", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=0755")).unwrap();
    mknod("/mnt/dev/null", device, Mode::from_bits_truncate(0o666), makedev(1, 3)).unwrap();
    fs::set_permissions("/mnt/dev/null", fs::Permissions::from_mode(0o666)).unwrap();
    nix::unistd::chdir("/mnt").unwrap();
    pivot_root(".", ".").unwrap();
    umount2(".", MntFlags::MNT_DETACH).unwrap();
    nix::unistd::chdir("/").unwrap();
    if ids == Ids::Own {
        setns(init, NsFlags::CLONE_NEWUSER).unwrap();
    }
    unshare(CloneFlags::NEWNS).unwrap();
}
