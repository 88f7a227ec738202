//! The records of a pod's run: `status.json`, replaced as a whole, and `events.jsonl`, appended.
//!
//! Written through the descriptor of the pod's directory, which may be renamed at any time. The
//! supervisor is the only writer. A full disk must not end a pod: after the first status, which
//! says what there is to clean up, failures are forgotten and the next change tries again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use pod_abi::Timestamp;
use pod_abi::layout;
use pod_abi::status::{Event, EventRecord, PodStatus};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, fstat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::{Errno, read};
use rustix::time::{ClockId, clock_gettime};

use crate::error::{During, Failure};

/// The name a status has until it is whole.
const STATUS_TEMPORARY: &str = ".status.json.tmp";

/// The size of the history at which only the pod's own events, and what somebody has asked for,
/// are still added, in bytes: an app that is restarted for ever must not fill the disk.
const MAX_EVENTS: u64 = 4 << 20;

/// The open history.
#[derive(Debug)]
pub(crate) struct Records {
    events: Option<File>,
    size: u64,
    attempt: u32,
    /// What has happened since it was last asked for.
    fresh: Vec<Event>,
}

impl Records {
    /// Opens the history of a pod.
    pub(crate) fn open(pod: BorrowedFd<'_>, attempt: u32) -> Result<Self, Failure> {
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let events = openat(pod, layout::EVENTS, flags, Mode::from_raw_mode(0o600))
            .during(|| format!("cannot open `{}`", layout::EVENTS))?;
        let size = fstat(&events).ok().and_then(|stat| u64::try_from(stat.st_size).ok());
        Ok(Self {
            events: Some(File::from(events)),
            size: size.unwrap_or(0),
            attempt,
            fresh: Vec::new(),
        })
    }

    /// Gives out what has happened since this was last asked.
    pub(crate) fn fresh(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.fresh)
    }

    /// Appends an event.
    pub(crate) fn event(&mut self, time: Timestamp, event: Event) {
        self.fresh.push(event.clone());
        let of_pod = matches!(
            event,
            Event::PodStarted
                | Event::PodReady
                | Event::PodStopping
                | Event::PodEnded { .. }
                | Event::PodPaused
                | Event::PodResumed
                | Event::LimitsChanged { .. }
        );
        if self.size > MAX_EVENTS && !of_pod {
            return;
        }
        let record = EventRecord { time, attempt: self.attempt, event };
        let Ok(mut line) = serde_json::to_vec(&record) else { return };
        line.push(b'\n');
        if let Some(file) = &mut self.events
            && file.write_all(&line).is_ok()
        {
            self.size += line.len() as u64;
        }
    }
}

/// Replaces `status.json`; a reader sees the old one or the new.
///
/// The two are exchanged and the old one is unlinked, rather than renamed over: ext4 takes a rename
/// over a file for a wish to have the new content on the disk at once, which may cost half a
/// millisecond. After a power cut a pod is exited whatever its last status said, or did not.
///
/// # Errors
///
/// What could not be done; the old status is still there, whole.
pub(crate) fn write_status(pod: BorrowedFd<'_>, status: &PodStatus) -> Result<(), Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let writing = || format!("cannot write `{}`", layout::STATUS);
    let text = serde_json::to_vec(status).map_err(io::Error::other).during(writing)?;
    let mode = Mode::from_raw_mode(0o600);
    let file = openat(pod, STATUS_TEMPORARY, flags | OFlags::NOFOLLOW, mode).during(writing)?;
    File::from(file).write_all(&text).during(writing)?;
    match renameat_with(pod, STATUS_TEMPORARY, pod, layout::STATUS, RenameFlags::EXCHANGE) {
        // What cannot be unlinked is written over next time.
        Ok(()) => drop(unlinkat(pod, STATUS_TEMPORARY, AtFlags::empty())),
        // The first status, or a file system that cannot exchange.
        Err(Errno::NOENT | Errno::INVAL) => {
            renameat(pod, STATUS_TEMPORARY, pod, layout::STATUS).during(writing)?;
        }
        Err(error) => return Err(Failure::of(writing(), error)),
    }
    Ok(())
}

/// Returns the time of day.
pub(crate) fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Timestamp(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Returns the id of this boot, or nothing where the kernel does not tell.
pub(crate) fn boot_id() -> String {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = [0; 64];
    let count = openat(CWD, "/proc/sys/kernel/random/boot_id", flags, Mode::empty())
        .and_then(|file| read(&file, &mut text[..]))
        .unwrap_or(0);
    String::from_utf8_lossy(&text[..count]).trim().to_owned()
}
