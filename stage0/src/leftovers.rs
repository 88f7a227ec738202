//! What a pod holds on the host beside its directory, and how it is taken back once it is dead.
//!
//! A pod that ends in order has `pod reap` run in the place of its supervisor. For one whose
//! supervisor was killed, every `run`, `start` and `gc` does the same first: a run directory whose
//! pod nobody holds is the sign.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pod_abi::PodId;
use pod_abi::phase::Home;

use crate::cgroup;
use crate::error::Result;
use crate::ids;
use crate::networks::Networks;
use crate::pods::{Lock, Pod, Pods};
use crate::rundir::{self, Marked};

/// Takes back what the dead pods of this root have left. Returns their ids.
///
/// Living pods are not disturbed beyond a look at their lock.
///
/// # Errors
///
/// `storage` or `cgroup.busy`; what is left is tried again next time.
pub(crate) fn sweep(pods: &Pods, run_root: BorrowedFd<'_>) -> Result<Vec<PodId>> {
    let mark = rundir::mark_of(pods.root())?;
    let mut dead = Vec::new();
    for (id, marked) in rundir::list(run_root, &mark)? {
        match pods.open_id(&id)? {
            Some(mut pod) if pod.try_lock() == Lock::Ours => {
                take_back(&pod, run_root)?;
                remove_if_asked(pods, &mut pod)?;
            }
            Some(_) => continue,
            // Nobody knows the pod. If the directory is ours the pod has been removed.
            None if marked == Marked::Unmarked => continue,
            None => {
                cgroup::remove_everywhere(&BTreeSet::from([id.clone()]))?;
                rundir::remove(run_root, &id)?;
            }
        }
        if marked == Marked::Half {
            rundir::remove_half(run_root, &id, &mark)?;
        }
        dead.push(id);
    }
    Networks::of(pods)?.sweep()?;
    Ok(dead)
}

/// Takes back what a pod holds. Its lock must be ours.
///
/// # Errors
///
/// `storage` or `cgroup.busy`.
pub(crate) fn take_back(pod: &Pod, run_root: BorrowedFd<'_>) -> Result<()> {
    // A record that cannot be read is no reason to leave a run directory behind.
    let status = pod.status().ok().flatten();
    match status.as_ref().and_then(|status| status.cgroup.as_deref()) {
        Some(recorded) => cgroup::remove_recorded(recorded, &pod.id)?,
        // The supervisor may have died between making its cgroup and recording it.
        None if rundir::open(run_root, &pod.id).is_some() => {
            cgroup::remove_everywhere(&BTreeSet::from([pod.id.clone()]))?;
        }
        None => {}
    }
    if let Some(ids) = status.and_then(|status| status.ids) {
        ids::release_if_free(run_root, ids.base)?;
    }
    rundir::remove(run_root, &pod.id)
}

/// Removes a dead pod that was started with `--rm`. Its lock must be ours.
///
/// # Errors
///
/// `storage`.
pub(crate) fn remove_if_asked(pods: &Pods, pod: &mut Pod) -> Result<()> {
    if pod.home == Home::Run && pod.manifest().is_ok_and(|manifest| manifest.remove) {
        discard(pods, pod)?;
    }
    Ok(())
}

/// Removes a pod nobody wants any more. Its lock must be ours. If whoever has started it still
/// waits, what there is to be read of it is left to that one.
///
/// # Errors
///
/// `storage`.
pub(crate) fn discard(pods: &Pods, pod: &mut Pod) -> Result<()> {
    pods.rename(pod, Home::Garbage)?;
    // Looked at after the move: who stops waiting looks for the pod afterwards, so one of us
    // removes it.
    if pod.awaited().is_some() { Ok(()) } else { pods.sweep(pod) }
}

/// Takes back what the pod of a dropped [`Claim`] was given and never used.
#[derive(Debug)]
pub(crate) struct Claim<'r> {
    run_root: BorrowedFd<'r>,
    id: PodId,
    ids: Option<ids::Lease>,
    run: OwnedFd,
}

impl<'r> Claim<'r> {
    /// Makes the run directory of a pod that is about to start.
    ///
    /// # Errors
    ///
    /// `storage`.
    pub(crate) fn new(run_root: BorrowedFd<'r>, id: &PodId, mark: &str) -> Result<Self> {
        let run = rundir::make(run_root, id, mark)?;
        Ok(Self { run_root, id: id.clone(), ids: None, run })
    }

    /// Adds a range of ids.
    pub(crate) fn add_ids(&mut self, lease: ids::Lease) {
        self.ids = Some(lease);
    }

    /// Returns the run directory.
    pub(crate) fn run(&self) -> BorrowedFd<'_> {
        self.run.as_fd()
    }

    /// Returns the range of ids.
    pub(crate) fn ids(&self) -> Option<&ids::Lease> {
        self.ids.as_ref()
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(lease) = &self.ids {
            ids::release(self.run_root, lease.range.base, lease.file.as_fd());
        }
        let _ = rundir::remove(self.run_root, &self.id); // the next sweep finds it
    }
}
