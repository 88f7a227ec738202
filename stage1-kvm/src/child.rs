//! Programs of ours that serve a guest, each in a cage: `vmm`, and an `fsd` for each volume.
//!
//! A child is born in namespaces of its own and in the pod's cgroup, and executes its program with
//! the descriptors it was given and nothing else: no environment, no file system but an empty one,
//! no network, no process but itself.
//!
//! 1. it is cloned, and waits;
//! 2. the supervisor writes its id maps and gives the go;
//! 3. it becomes root of its cage, empties its root, places its descriptors, and executes. What
//!    goes wrong until then it says itself.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::AtFlags;
use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Uid, execveat, pivot_root, setgroups, setresgid, setresuid, setsid};
use pod_abi::report::MAX_TEXT;
use pod_abi::{Report, text};
use pod_sys::{
    CloneFlags, Exit, Forked, MountAttr, MountFlags, Recursive, clone3, close_on_exec_from,
    mount_setattr, place, wait_pidfd,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, fchdir, pidfd_send_signal, set_parent_process_death_signal};
use supervisor::{During, Failure};

/// How long a child may take from its birth until it executes. It does a dozen calls.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a child is to be.
#[derive(Debug)]
pub(crate) struct Cage<'c> {
    /// What it is called in errors, and its `argv[0]`.
    pub(crate) name: &'static str,
    /// Its program, static.
    pub(crate) program: BorrowedFd<'c>,
    /// Its arguments.
    pub(crate) arguments: &'c [&'static CStr],
    /// Its descriptors from 3 on, and their numbers.
    pub(crate) descriptors: Vec<(i32, BorrowedFd<'c>)>,
    /// The number its own directory of descriptors takes, if it needs one to open files anew.
    pub(crate) own_descriptors: Option<i32>,
    /// Whom it is to the host.
    pub(crate) ids: Ids,
    /// The cgroup it is born in.
    pub(crate) cgroup: Option<BorrowedFd<'c>>,
}

impl Cage<'_> {
    /// Returns the first number above those its descriptors take.
    fn above(&self) -> i32 {
        let numbers = self.descriptors.iter().map(|(number, _)| *number);
        numbers.chain(self.own_descriptors).map(|number| number + 1).max().unwrap_or(0).max(3)
    }
}

/// Whom a child is to the host. Either way its power ends at its user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// This user and group, and there are no others.
    One(u32),
    /// Root, as far as files go: every id is what it is outside.
    All,
}

/// A child that was started.
#[derive(Debug)]
pub(crate) struct Child {
    name: &'static str,
    pidfd: OwnedFd,
    pid: u32,
    /// What it writes to its standard error.
    words: OwnedFd,
    exit: Option<Exit>,
}

impl Child {
    /// Starts a child, and returns once it executes its program, or was killed before: that is told
    /// by its end.
    pub(crate) fn start(cage: &Cage<'_>) -> Result<Self, Failure> {
        let Cage { name, .. } = *cage;
        let starting = || starting(name);
        let (words, its_words) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .during(|| format!("cannot make a pipe for `{name}`"))?;
        let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .during(|| "cannot open `/dev/null`")?;
        let (ours, its) = socket_above(cage.above()).during(starting)?;
        let namespaces = CloneFlags::NEWUSER
            | CloneFlags::NEWPID
            | CloneFlags::NEWNS
            | CloneFlags::NEWNET
            | CloneFlags::NEWIPC
            | CloneFlags::NEWUTS;
        let born = clone3(namespaces, cage.cgroup).map_err(|error| {
            Failure::of(format!("{}, clone3()", starting()), error).hint(
                "if user namespaces are switched off here, `sysctl user.max_user_namespaces` tells",
            )
        })?;
        let Forked::Parent { pid, pidfd } = born else {
            drop(ours);
            become_program(cage, &null, &its_words, &its)
        };
        drop((its, its_words));
        let pid = pid.as_raw().unsigned_abs();
        let mut child = Self { name, pidfd, pid, words, exit: None };
        match child.let_go(cage.ids, &ours) {
            Ok(()) => Ok(child),
            Err(failure) => {
                child.kill();
                child.reap();
                Err(failure)
            }
        }
    }

    /// Writes the id maps of the child, gives it the go, and waits until it executes.
    fn let_go(&self, ids: Ids, socket: &OwnedFd) -> Result<(), Failure> {
        let line = match ids {
            Ids::One(id) => format!("0 {id} 1\n"),
            Ids::All => format!("0 0 {}\n", u32::MAX),
        };
        for map in ["uid_map", "gid_map"] {
            let path = format!("/proc/{}/{map}", self.pid);
            let mut file = OpenOptions::new()
                .write(true)
                .open(&path)
                .during(|| format!("cannot open `{path}`"))?;
            file.write_all(line.as_bytes()).during(|| format!("cannot write `{path}`"))?;
        }
        let name = self.name;
        send(socket, b"+", SendFlags::NOSIGNAL)
            .during(|| format!("cannot give `{name}` the go, send()"))?;
        let patience = Timespec::try_from(PATIENCE).ok();
        let told = poll(&mut [PollFd::new(socket, PollFlags::IN)], patience.as_ref());
        if told == Ok(0) {
            let seconds = PATIENCE.as_secs();
            return Err(Failure::new(format!("`{name}` does not run after {seconds} s")));
        }
        let mut text = vec![0; 2 * MAX_TEXT];
        let (count, _) = recv(socket, &mut text[..], RecvFlags::empty())
            .during(|| format!("cannot hear from `{name}`, recv()"))?;
        match text.get(..count) {
            // Its end of the socket is closed by executing, or by its end.
            None | Some([]) => Ok(()),
            Some(text) => Err(serde_json::from_slice::<Report>(text)
                .map_or_else(|error| Failure::of(starting(name), error), Failure::from)),
        }
    }

    /// Returns the process as a descriptor, which becomes readable when it ends.
    pub(crate) const fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Returns the process id.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it; nothing happens if it has ended.
    pub(crate) fn kill(&self) {
        if self.exit.is_none() {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL); // it may have ended just now
        }
    }

    /// Tells whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Waits this long for its end, and tells whether it came.
    pub(crate) fn ends_within(&self, patience: Duration) -> bool {
        self.exit.is_some() || {
            let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
            let patience = Timespec::try_from(patience).ok();
            matches!(poll(&mut polled, patience.as_ref()), Ok(1))
        }
    }

    /// Waits for its end, and tells how it ended.
    pub(crate) fn reap(&mut self) -> Option<Exit> {
        if self.exit.is_none() {
            self.exit = wait_pidfd(self.pidfd.as_fd()).ok().map(|waited| waited.exit);
        }
        self.exit
    }

    /// Returns the last line it has written to its standard error, with nothing a terminal could
    /// take for a command.
    pub(crate) fn last_words(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let mut last = Vec::new();
        // As much as a pipe holds; whoever writes does not wait for us.
        for _ in 0..16 {
            match rustix::io::read(&self.words, &mut bytes[..]) {
                Ok(0) | Err(_) => break,
                Ok(count) => last = bytes[..count].to_vec(),
            }
        }
        let text = String::from_utf8_lossy(&last);
        let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
        Some(text::tame(line, 200))
    }
}

/// In the child: waits for the go, builds the cage and executes the program. What cannot be done is
/// said in a report.
#[expect(clippy::exit, reason = "a child of clone3 must not return into the supervisor's code")]
fn become_program(cage: &Cage<'_>, null: &OwnedFd, words: &OwnedFd, socket: &OwnedFd) -> ! {
    let failure = match execute(cage, null, words, socket) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    if let Ok(text) = serde_json::to_vec(&failure.report()) {
        // If nobody hears it, there is nobody left to tell.
        let _ = send(socket, &text, SendFlags::NOSIGNAL);
    }
    std::process::exit(i32::from(pod_abi::exit::OURS));
}

fn execute(
    cage: &Cage<'_>,
    null: &OwnedFd,
    words: &OwnedFd,
    socket: &OwnedFd,
) -> Result<Infallible, Failure> {
    let Cage { name, .. } = *cage;
    let (heard, _) = recv(socket, &mut [0; 1][..], RecvFlags::empty())
        .during(|| "cannot wait for the supervisor, recv()")?;
    if heard == 0 {
        return Err(Failure::new("the supervisor is gone"));
    }
    setsid().during(|| "cannot leave the caller's session, setsid()")?;
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).during(|| "cannot drop groups, setgroups()")?;
    setresgid(gid, gid, gid).during(|| "setresgid(0, 0, 0)")?;
    setresuid(uid, uid, uid).during(|| "setresuid(0, 0, 0)")?;
    // After the change of ids, which clears it.
    set_parent_process_death_signal(Some(Signal::KILL)).during(|| "prctl(PR_SET_PDEATHSIG)")?;
    let own = match cage.own_descriptors {
        Some(number) => Some((number, open_own_descriptors()?)),
        None => None,
    };
    empty_the_root()?;
    let mut table: Vec<(i32, BorrowedFd<'_>)> =
        vec![(0, null.as_fd()), (1, null.as_fd()), (2, words.as_fd())];
    table.extend(cage.descriptors.iter().copied());
    table.extend(own.as_ref().map(|(number, directory)| (*number, directory.as_fd())));
    // All are copied above the table first, so that placing one cannot overwrite another.
    let copying = || format!("cannot copy a descriptor of `{name}`");
    let copy = |fd: BorrowedFd<'_>| fcntl_dupfd_cloexec(fd, cage.above()).during(copying);
    let program = copy(cage.program)?;
    let copies: Vec<_> =
        table.iter().map(|(at, fd)| Ok((*at, copy(*fd)?))).collect::<Result<_, Failure>>()?;
    // SECURITY: whatever a caller of ours has left open is not the guest's.
    close_on_exec_from(3).during(|| "cannot mark descriptors, close_range(3, ~0, CLOEXEC)")?;
    SigSet::empty().thread_set_mask().during(|| "cannot empty the signal mask")?;
    for (at, copy) in &copies {
        place(copy.as_fd(), *at).during(|| format!("cannot place descriptor {at} of `{name}`"))?;
    }
    let own_name = CString::new(name).map_err(|error| Failure::of("a name with a NUL", error))?;
    let argv: Vec<&CStr> =
        [own_name.as_c_str()].into_iter().chain(cage.arguments.iter().copied()).collect();
    let environment: [&CStr; 0] = [];
    execveat(&program, c"", &argv, &environment, AtFlags::AT_EMPTY_PATH)
        .during(|| format!("cannot execute `{name}`, execveat()"))
}

/// Makes a socket to a child. What goes wrong is said through it to the last, so the child's end, the
/// second, has a number that its table of descriptors does not take over.
fn socket_above(above: i32) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (ours, its) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((ours, fcntl_dupfd_cloexec(its, above)?))
}

fn starting(name: &str) -> String {
    format!("cannot start `{name}`")
}

/// Opens this process's own directory of descriptors, which stays its own when it executes.
///
/// It is in a proc that is mounted nowhere. From the host's a way would lead up to the host's root,
/// also once that is let go: mounts of more powerful namespaces stay connected to each other.
fn open_own_descriptors() -> Result<OwnedFd, Failure> {
    let mounting = |call: &'static str| move || format!("cannot mount a proc, {call}");
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).during(mounting("fsopen()"))?;
    fsconfig_set_string(&context, "subset", "pid").during(mounting("fsconfig(subset=pid)"))?;
    fsconfig_create(&context).during(mounting("fsconfig()"))?;
    let bans = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let proc =
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, bans).during(mounting("fsmount()"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(&proc, "self/fd", flags, Mode::empty()).during(|| "cannot open `self/fd` of a proc")
}

/// Makes an empty file system the root, read-only, and lets go of the host's.
fn empty_the_root() -> Result<(), Failure> {
    let emptying = |call: &'static str| move || format!("cannot empty the root, {call}");
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .during(emptying("mount(MS_PRIVATE)"))?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).during(emptying("fsopen(tmpfs)"))?;
    fsconfig_create(&context).during(emptying("fsconfig()"))?;
    let bans = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, bans)
        .during(emptying("fsmount(tmpfs)"))?;
    // A directory every host has, for this process has looked into it.
    move_mount(&root, "", CWD, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .during(emptying("move_mount()"))?;
    fchdir(&root).during(emptying("fchdir()"))?;
    pivot_root(".", ".").during(emptying("pivot_root()"))?;
    unmount(".", UnmountFlags::DETACH).during(emptying("umount2(MNT_DETACH)"))?;
    rustix::process::chdir("/").during(emptying("chdir()"))?;
    let read_only = MountAttr { set: MountFlags::RDONLY, ..MountAttr::default() };
    mount_setattr(root.as_fd(), &read_only, Recursive::No).during(emptying("mount_setattr()"))
}

/// Says how a process has ended, for a person.
pub(crate) fn manner(exit: Option<Exit>) -> String {
    match exit {
        Some(Exit::Code(code)) => format!("it exited with status {code}"),
        Some(Exit::Signal(signal)) => format!("it was killed by signal {signal}"),
        None => "nobody knows how it ended".to_owned(),
    }
}
