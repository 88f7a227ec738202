//! The birth of the pod's PID 1.
//!
//! 1. it is cloned into all namespaces of the pod and into its cgroup, and waits;
//! 2. the supervisor writes its id maps, then sends the first frame;
//! 3. the frame's arrival is the go: it becomes root of the pod and executes stage2-init from a
//!    read-only mount of the one file, so that nothing can be written through `/proc/1/exe`.

use std::ffi::{CStr, CString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Uid, execveat, setgroups, setresgid, setresuid, setsid};
use pod_abi::frame;
use pod_abi::inner::{CHANNEL_FD, FromInit};
use pod_abi::stage::IdRange;
use pod_sys::{CloneFlags, Forked, MountAttr, MountFlags, Recursive, clone3, mount_setattr, place};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use supervisor::{Born, During, Failure};

use crate::plan::{Namespace, Plan};

/// The living PID 1.
#[derive(Debug)]
pub(crate) struct Init {
    /// Itself.
    pub(crate) pidfd: OwnedFd,
    /// Its process id on the host.
    pub(crate) pid: u32,
}

/// Starts PID 1, which waits for the first frame. It is in `living` as soon as it lives, whatever
/// fails afterwards.
pub(crate) fn start(
    plan: &Plan,
    cgroup: Option<&OwnedFd>,
    living: &mut Option<Init>,
) -> Result<Born, Failure> {
    let program = open_program("stage2-init")?;
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .during(|| "cannot open `/dev/null`")?;
    let (ours, its) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .during(|| "cannot make a channel to PID 1, socketpair()")?;
    let flags = plan.namespaces.iter().fold(CloneFlags::NONE, |flags, one| flags | flag(*one));
    let own = match &plan.network_of {
        Some(path) => Some(enter(path)?),
        None => None,
    };
    let born = clone3(flags, cgroup.map(AsFd::as_fd)).map_err(|error| refused(plan, error));
    if let (Some(own), Ok(Forked::Parent { .. }) | Err(_)) = (&own, &born) {
        join(own).during(|| "cannot go back to the host's network")?;
    }
    let born = born?;
    let Forked::Parent { pid, pidfd } = born else {
        // The end of ours must be held by the supervisor alone, or its death goes unnoticed.
        drop(ours);
        become_init(plan, &program, &null, &its)
    };
    let pid = pid.as_raw().unsigned_abs();
    let init = living.insert(Init { pidfd, pid });
    if let Some(ids) = plan.ids {
        init.write_maps(ids)?;
    }
    let end = init.pidfd.try_clone().during(|| "cannot copy a descriptor")?;
    Ok(Born { channel: ours, end, pid: Some(pid), joined: None })
}

/// Enters the network namespace at `path`, for a child to be born there; returns that left behind.
fn enter(path: &Path) -> Result<OwnedFd, Failure> {
    let open = |path: &Path| openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let refused = || format!("cannot have the network namespace `{}`", path.display());
    let hint = "`ip netns add NAME` makes one, at `/run/netns/NAME`";
    let own = open(Path::new("/proc/self/ns/net")).during(|| "cannot open `/proc/self/ns/net`")?;
    let entered = open(path).and_then(|namespace| join(&namespace));
    entered.during(refused).map_err(|failure| failure.code("network.namespace").hint(hint))?;
    Ok(own)
}

fn join(namespace: &OwnedFd) -> rustix::io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
}

fn flag(namespace: Namespace) -> CloneFlags {
    match namespace {
        Namespace::User => CloneFlags::NEWUSER,
        Namespace::Pid => CloneFlags::NEWPID,
        Namespace::Ipc => CloneFlags::NEWIPC,
        Namespace::Uts => CloneFlags::NEWUTS,
        Namespace::Mount => CloneFlags::NEWNS,
        Namespace::Network => CloneFlags::NEWNET,
    }
}

fn refused(plan: &Plan, error: io::Error) -> Failure {
    let failure = Failure::of("cannot start the pod's PID 1, clone3()", error);
    if plan.ids.is_some() {
        failure.hint("if user namespaces are switched off here (sysctl user.max_user_namespaces), use `--userns host`")
    } else {
        failure
    }
}

/// Opens the program `name`, which lies beside this one, to be executed: through a mount of its own
/// that cannot be written, so that nothing can be written through the `exe` of who executes it.
///
/// # Errors
///
/// Those of the calls, above all if it is not there.
pub fn open_program(name: &str) -> Result<OwnedFd, Failure> {
    let own = fs::read_link("/proc/self/exe").during(|| "cannot read `/proc/self/exe`")?;
    let path = own.with_file_name(name);
    let opening = || format!("cannot open `{}`", path.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = open_tree(CWD, &path, flags).during(opening)?;
    let attr = MountAttr {
        set: MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
        ..MountAttr::default()
    };
    mount_setattr(program.as_fd(), &attr, Recursive::No).during(opening)?;
    Ok(program)
}

impl Init {
    fn write_maps(&self, ids: IdRange) -> Result<(), Failure> {
        let line = format!("0 {} {}\n", ids.base, ids.count);
        for map in ["uid_map", "gid_map"] {
            let path = format!("/proc/{}/{map}", self.pid);
            let mut file = OpenOptions::new()
                .write(true)
                .open(&path)
                .during(|| format!("cannot open `{path}`"))?;
            file.write_all(line.as_bytes()).during(|| format!("cannot write `{path}`"))?;
        }
        Ok(())
    }

    /// Opens the namespace of this kind that it is in, as `/proc` calls kinds.
    pub(crate) fn namespace(&self, kind: &str) -> Result<OwnedFd, Failure> {
        let path = format!("/proc/{}/ns/{kind}", self.pid);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        openat(CWD, &path, flags, Mode::empty()).during(|| format!("cannot open `{path}`"))
    }
}

/// In the child: waits for the go, becomes root of the pod and executes stage2-init. An error is
/// told in PID 1's own words.
#[expect(clippy::exit, reason = "a child of clone3 must not return into the supervisor's code")]
fn become_init(plan: &Plan, program: &OwnedFd, null: &OwnedFd, channel: &OwnedFd) -> ! {
    let failure = match execute(plan, program, null, channel) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let word = FromInit::Failed(Box::new(failure.report()));
    if let Ok(frame) = frame::encode(&word) {
        // If nobody hears it, there is nobody left to tell.
        let _ = send(channel, &frame, SendFlags::NOSIGNAL);
    }
    std::process::exit(i32::from(pod_abi::exit::OURS));
}

fn execute(
    plan: &Plan,
    program: &OwnedFd,
    null: &OwnedFd,
    channel: &OwnedFd,
) -> Result<std::convert::Infallible, Failure> {
    let mut byte = [0; 1];
    let (count, _) = recv(channel, &mut byte[..], RecvFlags::PEEK)
        .during(|| "cannot wait for the supervisor, recv(MSG_PEEK)")?;
    if count == 0 {
        return Err(Failure::new("the supervisor is gone"));
    }
    // SECURITY: in the caller's session its terminal would be PID 1's own, to be typed into.
    setsid().during(|| "cannot leave the caller's session, setsid()")?;
    setgroups(&[]).during(|| "cannot drop groups, setgroups()")?;
    if plan.ids.is_some() {
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        setresgid(gid, gid, gid).during(|| "cannot become root of the pod, setresgid(0, 0, 0)")?;
        setresuid(uid, uid, uid).during(|| "cannot become root of the pod, setresuid(0, 0, 0)")?;
    }
    // After the change of ids, which clears it. Should the supervisor have died before, the
    // channel is closed, and stage2-init ends by itself. Where no pid namespace ends with it, it
    // must always do so, and take the apps along.
    if plan.namespaces.contains(&Namespace::Pid) {
        set_parent_process_death_signal(Some(Signal::KILL)).during(|| "prctl(PR_SET_PDEATHSIG)")?;
    }
    rustix::process::chdir("/").during(|| "cannot enter `/`")?;
    for number in 0..3 {
        place(null.as_fd(), number).during(|| "cannot place `/dev/null`")?;
    }
    place(channel.as_fd(), CHANNEL_FD).during(|| "cannot place the channel")?;
    SigSet::empty().thread_set_mask().during(|| "cannot empty the signal mask")?;
    let argv = [CString::from(c"stage2-init")];
    let environment: [&CStr; 0] = [];
    execveat(program, c"", &argv, &environment, AtFlags::AT_EMPTY_PATH)
        .during(|| "cannot execute `stage2-init`, execveat()")
}
