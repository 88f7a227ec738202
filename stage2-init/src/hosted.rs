//! An app as the supervisor has handed it in: its specification and the descriptors that are kept
//! for its restarts.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::app::AppSpec;
use pod_abi::inner::AppFds;
use rustix::fs::{Mode, OFlags, openat};

use crate::channel::{Channel, ChannelError};
use crate::launch::{Launch, Place};

/// An app the supervisor has handed in.
#[derive(Debug)]
pub struct Hosted {
    /// What it is.
    pub spec: Box<AppSpec>,
    mounts: Option<OwnedFd>,
    cgroup: Option<OwnedFd>,
    stdio: Option<[OwnedFd; 3]>,
    oom_kills: u64,
}

impl Hosted {
    /// Takes the descriptors an app comes with from the channel.
    ///
    /// # Errors
    ///
    /// [`ChannelError::MissingDescriptors`].
    pub fn take(
        spec: Box<AppSpec>,
        fds: AppFds,
        channel: &mut Channel,
    ) -> Result<Self, ChannelError> {
        let mounts = if fds.mount_namespace { Some(channel.descriptor()?) } else { None };
        let cgroup = if fds.cgroup { Some(channel.descriptor()?) } else { None };
        let stdio = if fds.stdio { Some(take_stdio(channel)?) } else { None };
        Ok(Self { spec, mounts, cgroup, stdio, oom_kills: 0 })
    }

    /// Returns how to start it, or `None` if it came without what a start needs.
    #[must_use]
    pub fn start(&self) -> Option<Launch<'_>> {
        let place = Place::Fresh {
            mounts: self.mounts.as_ref()?.as_fd(),
            masked: &self.spec.masked_paths,
            read_only: &self.spec.read_only_paths,
        };
        let stdio = self.stdio.as_ref()?.each_ref().map(AsFd::as_fd);
        let process = &self.spec.process;
        Some(Launch { process, place, pid: self.spec.pid, cgroup: self.cgroup(), stdio })
    }

    /// Returns its cgroup.
    #[must_use]
    pub fn cgroup(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup.as_ref().map(AsFd::as_fd)
    }

    /// Tells whether the OOM killer was in its cgroup since the last time this was asked.
    ///
    /// A guess where the cgroup has no memory controller: then nobody was there.
    pub fn was_oom_killed(&mut self) -> bool {
        let before = self.oom_kills;
        self.oom_kills = self.cgroup().and_then(|cgroup| oom_kills(cgroup).ok()).unwrap_or(before);
        self.oom_kills > before
    }
}

/// Takes standard input, output and error from the channel.
///
/// # Errors
///
/// [`ChannelError::MissingDescriptors`].
pub fn take_stdio(channel: &mut Channel) -> Result<[OwnedFd; 3], ChannelError> {
    Ok([channel.descriptor()?, channel.descriptor()?, channel.descriptor()?])
}

fn oom_kills(cgroup: BorrowedFd<'_>) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = String::new();
    File::from(openat(cgroup, "memory.events", flags, Mode::empty())?)
        .take(4096)
        .read_to_string(&mut text)?;
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    Ok(count.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
}
