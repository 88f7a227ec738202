//! The wall: everything that differs between a pod in namespaces and one in a virtual machine.
//!
//! The supervisor calls these in the order of the methods; nothing else in this crate knows what
//! isolates the pod. A wall holds what it needs to come down again, and comes down in
//! [`Wall::take_down`] whether or not it ever stood.

use std::os::fd::{BorrowedFd, OwnedFd};

use pod_abi::AppName;
use pod_abi::control::WindowSize;
use pod_abi::frame;
use pod_abi::inner::{AppFds, FromInit, ToInit};
use pod_abi::isolators::Resources;
use pod_abi::network::Joined;
use pod_abi::processes::Listing;
use pod_abi::stage::AppOrder;
use pod_abi::stats::{AppUsage, Usage};

use crate::error::Failure;
use crate::networks::Networks;
use crate::terminal::{Master, Terminal};

/// What isolates one pod.
pub trait Wall {
    /// Returns the pod's cgroup as the status is to tell it, known before it is made, so that
    /// whatever is made can be found by the record alone.
    fn cgroup(&self) -> Option<String>;

    /// Tells whether what is behind the wall lives among the host's processes, under the host's
    /// name, so that PID 1 is not process 1.
    fn shares_processes(&self) -> bool {
        false
    }

    /// Starts PID 1, which waits for the first frame on its channel. `networks` are those the pod is
    /// to join, if its order says so.
    ///
    /// # Errors
    ///
    /// What could not be done; [`Wall::take_down`] is still to be called.
    fn raise(&mut self, networks: &dyn Networks) -> Result<Born, Failure>;

    /// Lays out the apps, in the order given; nothing of them runs yet. Called after
    /// [`Wall::raise`] and after the first frame has been sent.
    ///
    /// # Errors
    ///
    /// What could not be done for which app.
    fn add_apps(&mut self, apps: &[AppOrder]) -> Result<Vec<Added>, Failure>;

    /// Lays out one more app of a living pod, whose layers lie beneath `layers`, with as many
    /// `credentials` as it asks for; holds nothing that was needed only for that. Called after
    /// [`Wall::settle`].
    ///
    /// # Errors
    ///
    /// What could not be done; [`Wall::remove_app`] is still to be called.
    fn add_app(
        &mut self,
        app: &AppOrder,
        layers: BorrowedFd<'_>,
        credentials: Vec<OwnedFd>,
    ) -> Result<Added, Failure>;

    /// Takes away what an app that does not run was made of, as far as that goes at once.
    fn remove_app(&mut self, app: &AppName);

    /// Lets go of whatever was needed only to lay the apps out. Called once they have been told to
    /// run, so that nobody waits for it.
    fn settle(&mut self);

    /// Translates a process id of app `app` as PID 1 told it to that of the host, if there is one.
    /// The number is not to be believed: the answer names a process of this app or none.
    fn host_pid(&self, app: &AppName, pid: u32) -> Option<u32>;

    /// Makes a terminal for a process of user `uid`, as the app counts, in an app that is laid out.
    ///
    /// # Errors
    ///
    /// What could not be done; `app.no-terminals` if there can be none.
    fn terminal(&self, app: &AppName, uid: u32, size: WindowSize) -> Result<Terminal, Failure>;

    /// Changes limits of a living pod, or of one of its apps: all that `limits` names or, if one
    /// of them cannot be had, none. What it does not name stays. Those of a pod that has a unit of
    /// ours are the unit's: its client has changed them there before.
    ///
    /// # Errors
    ///
    /// What could not be limited; everything is as it was.
    fn limit(&mut self, app: Option<&AppName>, limits: &Resources) -> Result<(), Failure> {
        let _ = (app, limits);
        Err(Failure::new("this pod has no cgroup whose limits could be changed")
            .code("limit.no-cgroup")
            .hint("stop it and start it where there is cgroup v2; `pod info` tells"))
    }

    /// Counts what the pod uses, or one of its apps; `None` if nobody counts it. What is not
    /// counted is not there.
    fn usage(&self, app: Option<&AppName>) -> Option<Usage> {
        let _ = app;
        None
    }

    /// Counts what the pod uses, and each of `apps` that is counted. Nobody is waited for longer than
    /// the pod's streams can be left alone.
    fn usages(&self, apps: Vec<AppName>) -> (Usage, Vec<AppUsage>) {
        let counted = apps.into_iter().filter_map(|app| Some((self.usage(Some(&app))?, app)));
        let counted = counted.map(|(usage, app)| AppUsage { app, usage }).collect();
        (self.usage(None).unwrap_or_default(), counted)
    }

    /// Lists the processes behind the wall, or those of one app; `None` where they are processes of
    /// the host, which anybody there can look at.
    ///
    /// # Errors
    ///
    /// Why they cannot be seen.
    fn processes(&self, app: Option<&AppName>) -> Result<Option<Listing>, Failure> {
        let _ = app;
        Ok(None)
    }

    /// Freezes everything behind the wall, PID 1 included; returns once it stands still.
    ///
    /// # Errors
    ///
    /// What could not be done; everything goes on.
    fn pause(&mut self) -> Result<(), Failure> {
        Err(Failure::new("this pod has no cgroup that could be frozen")
            .code("pause.no-cgroup")
            .hint("start it where there is cgroup v2; `pod info` tells"))
    }

    /// Thaws everything behind the wall; nothing happens if it is not frozen.
    ///
    /// # Errors
    ///
    /// What could not be done; it is frozen still, and can be killed.
    fn resume(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Returns what becomes readable when memory may have run out in an app, if anything does.
    /// Asked for once the apps are laid out, and whenever an app has come or limits have changed.
    fn memory_alarm(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Tells in which apps memory has run out, so that the kernel killed, since this was last
    /// asked. Never waits.
    fn out_of_memory(&mut self) -> Vec<AppName> {
        Vec::new()
    }

    /// Puts a frame for PID 1, and the descriptors that go along with it, into the form in which
    /// they pass this wall. The process of a terminal ([`Wall::terminal`]) comes with what that has
    /// for a slave.
    ///
    /// # Errors
    ///
    /// What cannot pass.
    fn pack(&mut self, message: &ToInit, descriptors: Vec<OwnedFd>) -> Result<Parcel, Failure> {
        Parcel::plain(message, descriptors)
    }

    /// Takes a word of PID 1, as far as it is to be believed behind this wall.
    fn believed(&self, word: FromInit) -> FromInit {
        word
    }

    /// Tells why everything behind the wall has ended without a word of PID 1, if that is known.
    /// Asked once, after [`Born::end`] has become readable.
    fn why_it_ended(&mut self) -> Option<Failure> {
        None
    }

    /// Ends everything behind the wall at once, be it frozen or not; returns without waiting.
    fn kill(&mut self);

    /// Waits for PID 1, which has ended or was killed, and takes away all the wall was made of.
    /// What cannot be taken away is left to `pod reap`.
    fn take_down(&mut self);
}

/// A frame on its way to PID 1.
#[derive(Debug)]
pub struct Parcel {
    /// What is written into the channel.
    pub bytes: Vec<u8>,
    /// What travels beside the first of them.
    pub descriptors: Vec<OwnedFd>,
}

impl Parcel {
    /// Packs a frame for a channel that takes descriptors.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it is longer than any frame may be.
    pub fn plain(message: &ToInit, descriptors: Vec<OwnedFd>) -> Result<Self, Failure> {
        let bytes = frame::encode(message)
            .map_err(|error| Failure::of("a frame for the pod's PID 1 is none", error))?;
        Ok(Self { bytes, descriptors })
    }
}

/// PID 1 as it was born.
#[derive(Debug)]
pub struct Born {
    /// The stream to it.
    pub channel: OwnedFd,
    /// Becomes readable once it and everything behind the wall has ended.
    pub end: OwnedFd,
    /// Its process id on the host, where it has one.
    pub pid: Option<u32>,
    /// What came of joining networks, if it has joined any.
    pub joined: Option<Joined>,
}

/// An app that was laid out.
#[derive(Debug)]
pub struct Added {
    /// Which descriptors there are in `descriptors`.
    pub fds: AppFds,
    /// What is sent along with the app's specification.
    pub descriptors: Vec<OwnedFd>,
    /// Our ends of its standard streams.
    pub stdio: AppStdio,
}

/// Our ends of an app's standard streams; none of them blocks.
#[derive(Debug)]
pub enum AppStdio {
    /// Pipes.
    Streams {
        /// Where its standard input comes from; none if it is empty.
        input: Option<OwnedFd>,
        /// Where its standard output arrives.
        stdout: OwnedFd,
        /// Where its standard error arrives.
        stderr: OwnedFd,
    },
    /// A terminal, which the app keeps across restarts.
    Terminal {
        /// Our end of it.
        master: Master,
    },
}
