//! Whether whoever has started a pod waits for it: a note in the pod's directory, which counts as
//! long as its writer holds the note's lock. So it needs no tidying, however its writer ends.
//!
//! A pod started through a service manager has no other tie to its starter. The note tells its
//! supervisor to hold the apps until that one has attached, and whoever removes a pod that was
//! started with `--rm` to leave what is to be read of it to the one that waits.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd as _;

use pod_abi::layout;
use pod_abi::phase::Home;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, ftruncate, openat};
use serde::{Deserialize, Serialize};

use super::Pod;
use super::lock::{self, Lock};
use crate::error::{CommandError, Context as _, Result};

/// The longest note read, in bytes; one is a few dozen.
const MAX_NOTE: u64 = 4096;

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    /// Which start of the pod.
    pub(crate) attempt: u32,
    /// Whether the apps are to wait until a client has attached.
    pub(crate) hold: bool,
    /// Whether the pod was laid out for this start alone.
    pub(crate) fresh: bool,
}

/// The right to wait for a pod; given up when dropped.
#[derive(Debug)]
pub(crate) struct Waiting(#[expect(dead_code, reason = "its lock is what counts")] File);

impl Pod {
    /// Notes that this process waits for the pod.
    ///
    /// # Errors
    ///
    /// `pod.busy` if somebody else has started it and waits; `storage`.
    pub(crate) fn await_as(&self, note: Note) -> Result<Waiting> {
        let tell = || format!("cannot write `{}` of pod `{}`", layout::CLIENT, self.id);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.dir(), layout::CLIENT, flags, Mode::from_raw_mode(0o600));
        let file = file.context(tell)?;
        if lock::take(file.as_fd()) == Lock::Theirs {
            let sentence = format!("pod `{}` is being started", self.called());
            return Err(CommandError::new("pod.busy", sentence)
                .hint("somebody waits for it; `pod ps -a` tells what has become of it"));
        }
        ftruncate(&file, 0).context(tell)?;
        let mut file = File::from(file);
        let bytes =
            serde_json::to_vec(&note).map_err(|error| CommandError::of("internal.json", &error))?;
        file.write_all(&bytes).context(tell)?;
        Ok(Waiting(file))
    }

    /// Returns what somebody waits for, if anybody waits.
    pub(crate) fn awaited(&self) -> Option<Note> {
        self.note().filter(|(_, waits)| *waits).map(|(note, _)| note)
    }

    /// Tells whether this pod was laid out for a start that its starter died before.
    pub(crate) fn was_given_up(&self) -> bool {
        self.home == Home::Prepared && self.note().is_some_and(|(note, waits)| note.fresh && !waits)
    }

    /// Reads the note, and tells whether its writer waits.
    fn note(&self) -> Option<(Note, bool)> {
        let file = self.open(layout::CLIENT, OFlags::RDONLY | OFlags::NOFOLLOW).ok()?;
        let waits = flock(&file, FlockOperation::NonBlockingLockShared).is_err();
        let mut bytes = Vec::new();
        File::from(file).take(MAX_NOTE).read_to_end(&mut bytes).ok()?;
        Some((serde_json::from_slice(&bytes).ok()?, waits))
    }
}
