//! Kernel settings of a pod's namespaces, written before any app is there.
//!
//! What is behind `/proc/sys` depends on the namespaces of whoever opens it, and for IPC also on
//! its user. So a child joins the pod's, becomes its root, and writes through the host's own
//! `/proc`: nothing a pod could have mounted is between.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags as Namespaces, setns};
use nix::unistd::{Gid, Uid, setegid, seteuid};
use pod_abi::Report;
use pod_abi::stage::IdRange;
use pod_sys::{CloneFlags, Forked, clone3, wait_pidfd};
use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, openat, openat2};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::thread::{capabilities, set_capabilities};
use supervisor::{During, Failure};

use crate::plan::{Namespace, Plan};

/// The longest report the child sends, in bytes.
const MAX_REPORT: usize = 8 << 10;

/// Writes the settings of a plan; `init` is the pidfd of the pod's PID 1.
///
/// # Errors
///
/// [`Failure`] that names the setting and its value.
pub(crate) fn set(plan: &Plan, init: &OwnedFd) -> Result<(), Failure> {
    if plan.sysctls.is_empty() {
        return Ok(());
    }
    let (ours, its) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .during(|| "socketpair()")?;
    let forked = clone3(CloneFlags::NONE, None).during(|| "cannot start a helper, clone3()")?;
    let Forked::Parent { pidfd, .. } = forked else {
        drop(ours);
        in_child(plan, init, &its)
    };
    drop(its);
    let mut text = [0; MAX_REPORT];
    let heard = recv(&ours, &mut text[..], RecvFlags::empty());
    // That it is gone is all that counts.
    let _ = wait_pidfd(pidfd.as_fd());
    match heard.during(|| "cannot hear from a helper, recv()")?.0 {
        1 => Ok(()),
        count => Err(serde_json::from_slice::<Report>(&text[..count])
            .map_or_else(|_| Failure::new("a helper died without a word"), Failure::from)),
    }
}

#[expect(clippy::exit, reason = "a child of clone3 must not return into the supervisor's code")]
fn in_child(plan: &Plan, init: &OwnedFd, socket: &OwnedFd) -> ! {
    let word = match join(plan, init).and_then(|()| plan.sysctls.iter().try_for_each(write)) {
        Ok(()) => b"+".to_vec(),
        Err(failure) => serde_json::to_vec(&failure.report()).unwrap_or_default(),
    };
    // If nobody hears it, there is nobody left to tell.
    let _ = send(socket, &word, SendFlags::NOSIGNAL);
    std::process::exit(0);
}

fn join(plan: &Plan, init: &OwnedFd) -> Result<(), Failure> {
    let mut flags = Namespaces::empty();
    for namespace in &plan.namespaces {
        flags |= match namespace {
            Namespace::Ipc => Namespaces::CLONE_NEWIPC,
            Namespace::Network => Namespaces::CLONE_NEWNET,
            _ => Namespaces::empty(),
        };
    }
    setns(init, flags).during(|| "cannot join the pod's namespaces, setns()")?;
    let Some(IdRange { base, .. }) = plan.ids else { return Ok(()) };
    let becoming = || "cannot become root of the pod, seteuid()";
    setegid(Gid::from_raw(base)).during(becoming)?;
    let mut sets = capabilities(None).during(|| "capget()")?;
    seteuid(Uid::from_raw(base)).during(becoming)?;
    // Settings of IPC are for the owner, those of the network for whoever has the capability.
    sets.effective = sets.permitted;
    set_capabilities(None, sets).during(|| "cannot keep capabilities, capset()")
}

fn write((name, value): &(String, String)) -> Result<(), Failure> {
    let setting = || format!("cannot set `{name}` to `{value}`");
    let done = open(name).and_then(|file| file.during(setting)).and_then(|mut file| {
        // Its end is written, too: of an empty value nothing else would be, which sets nothing.
        file.write_all(format!("{value}\n").as_bytes())
            .map_err(|error| Failure::of(setting(), error))
    });
    done.map_err(|failure| failure.code("pod.sysctl"))
}

fn open(name: &str) -> Result<io::Result<File>, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let settings =
        openat(CWD, "/proc/sys", flags, Mode::empty()).during(|| "cannot open `/proc/sys`")?;
    let kind = fstatfs(&settings).during(|| "cannot look at `/proc/sys`")?.f_type;
    if kind != PROC_SUPER_MAGIC {
        return Err(Failure::new("`/proc/sys` of this host is no procfs"));
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = openat2(&settings, name.replace('.', "/"), flags, Mode::empty(), resolve);
    Ok(match file {
        Err(Errno::NOENT) => {
            return Err(Failure::new(format!("there is no setting `{name}` in this kernel")));
        }
        file => file.map(File::from).map_err(io::Error::from),
    })
}
