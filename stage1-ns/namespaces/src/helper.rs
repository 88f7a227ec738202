//! The process that builds one app's tree and hands over its mount namespace.
//!
//! It is born in the pod's pid namespace, because `/proc` belongs to the pid namespace of whoever
//! mounts it, but stays in the host's user namespace until the tree is done. It is not dumpable,
//! so that no process of the pod can look into it, and dies with the supervisor.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags as Namespaces, setns};
use pod_abi::Report;
use pod_sys::{CloneFlags, Forked, clone3, wait_pidfd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal, umask,
};
use supervisor::{During, Failure};

use crate::credentials::Secrets;
use crate::plan::AppPlan;
use crate::tree::{self, MOUNT_NAMESPACE};

/// The longest report a helper sends, in bytes; what is longer is cut off and not understood.
const MAX_REPORT: usize = 8 << 10;

/// A helper at work.
#[derive(Debug)]
pub(crate) struct Helper {
    pidfd: OwnedFd,
    socket: OwnedFd,
}

/// What a helper makes.
#[derive(Debug)]
pub(crate) struct Built {
    /// The mount namespace that holds the tree.
    pub(crate) mount_namespace: OwnedFd,
    /// `/dev/null` of the tree, for an app's standard input: nothing of the host's goes in.
    pub(crate) null: OwnedFd,
    /// `/dev/pts/ptmx` of the tree, named but not opened: where terminals of the app come from. A
    /// tree without one has no terminals.
    pub(crate) multiplexer: Option<OwnedFd>,
}

impl Helper {
    /// Starts a helper for one app. `init` is the pidfd of the pod's PID 1, `own_pids` the pid
    /// namespace of this process; `secrets` has the contents of its credentials.
    pub(crate) fn start(
        plan: &AppPlan,
        init: &OwnedFd,
        own_pids: &OwnedFd,
        secrets: &Secrets,
    ) -> Result<Self, Failure> {
        let (socket, its) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .during(|| "socketpair()")?;
        setns(init, Namespaces::CLONE_NEWPID)
            .during(|| "cannot reach the pod's processes, setns(CLONE_NEWPID)")?;
        let forked = clone3(CloneFlags::NEWNS, None);
        if let Ok(Forked::Child) = forked {
            drop(socket);
            work(plan, init, secrets, &its);
        }
        setns(own_pids, Namespaces::CLONE_NEWPID)
            .during(|| "cannot go back to our own processes, setns(CLONE_NEWPID)")?;
        match forked
            .during(|| format!("cannot start a helper for app `{}`, clone3()", plan.name))?
        {
            Forked::Parent { pidfd, .. } => Ok(Self { pidfd, socket }),
            Forked::Child => Err(Failure::new("a helper came back")),
        }
    }

    /// Waits for what the helper makes.
    pub(crate) fn answer(&self) -> Result<Built, Failure> {
        receive(&self.socket)
    }

    /// Waits for the helper's end, which follows its answer. Taking its own mount namespace down
    /// takes it as long as many a step before, so nobody should wait for this meanwhile.
    pub(crate) fn reap(self) {
        // That it is gone is all that counts.
        let _ = wait_pidfd(self.pidfd.as_fd());
    }
}

fn receive(socket: &OwnedFd) -> Result<Built, Failure> {
    let mut text = [0; MAX_REPORT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut text)];
    let message = recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC)
        .during(|| "cannot hear from a helper, recvmsg()")?;
    let built = control.drain().find_map(|ancillary| match ancillary {
        RecvAncillaryMessage::ScmRights(mut descriptors) => Some(Built {
            mount_namespace: descriptors.next()?,
            null: descriptors.next()?,
            multiplexer: descriptors.next(),
        }),
        _ => None,
    });
    match (message.bytes, built) {
        (1, Some(built)) => Ok(built),
        (count, _) => Err(serde_json::from_slice::<Report>(&text[..count])
            .map_or_else(|_| Failure::new("a helper died without a word"), Failure::from)),
    }
}

/// In the child: builds the tree, sends the namespace or a report, and exits.
#[expect(clippy::exit, reason = "a child of clone3 must not return into the supervisor's code")]
fn work(plan: &AppPlan, init: &OwnedFd, secrets: &Secrets, socket: &OwnedFd) -> ! {
    let sent = prepare(socket)
        .and_then(|()| tree::build(plan, init, secrets))
        .and_then(|()| hand_over(socket));
    if let Err(failure) = sent
        && let Ok(text) = serde_json::to_vec(&failure.report())
    {
        // If nobody hears it, there is nobody left to tell.
        let _ = rustix::net::send(socket, &text, SendFlags::NOSIGNAL);
    }
    std::process::exit(0);
}

fn prepare(socket: &OwnedFd) -> Result<(), Failure> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).during(|| "prctl(PR_SET_DUMPABLE)")?;
    set_parent_process_death_signal(Some(Signal::KILL)).during(|| "prctl(PR_SET_PDEATHSIG)")?;
    umask(Mode::empty());
    // Had the supervisor died before the signal was set, its end of the socket would be closed.
    let mut byte = [0; 1];
    match recv(socket, &mut byte[..], RecvFlags::DONTWAIT) {
        Ok(_) => Err(Failure::new("the supervisor is gone")),
        Err(_) => Ok(()),
    }
}

fn hand_over(socket: &OwnedFd) -> Result<(), Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = openat(CWD, MOUNT_NAMESPACE, flags, Mode::empty())
        .during(|| format!("cannot open `{MOUNT_NAMESPACE}`"))?;
    let null = openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .during(|| "cannot open `/dev/null` of the app")?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let multiplexer = openat(CWD, "/dev/pts/ptmx", flags, Mode::empty()).ok();
    let mut descriptors = vec![namespace.as_fd(), null.as_fd()];
    descriptors.extend(multiplexer.as_ref().map(AsFd::as_fd));
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Failure::new("no room for a descriptor"));
    }
    sendmsg(socket, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL)
        .during(|| "cannot hand over the mount namespace, sendmsg()")?;
    Ok(())
}
