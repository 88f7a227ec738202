//! `pod reap`: what a supervisor becomes when its pod has ended.
//!
//! Takes back what the pod held on the host, removes the pod itself if it was started with
//! `--rm`, prints what went wrong, and exits with the pod's status. Called without inherited
//! descriptors it does the same for a pod whose supervisor was killed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use pod_abi::PodId;
use pod_abi::phase::Home;
use pod_abi::stage::fd;
use pod_abi::status::{Event, EventRecord, PodStatus};
use rustix::fs::{Mode, OFlags, openat, readlinkat};

use super::Session;
use crate::cgroup;
use crate::cli::ReapArgs;
use crate::context::Context;
use crate::error::{CommandError, Context as _, Result};
use crate::history::History;
use crate::networks::{self, Networks};
use crate::pods::{Lock, Pod, Pods, Query};
use crate::ui::{self, Format};
use crate::{failure, ids, leftovers, rundir, systemd};

/// Descriptors of the stage ABI, adopted. To be made before anything else opens one.
#[derive(Debug)]
pub(crate) struct Inherited {
    pod: OwnedFd,
    run: OwnedFd,
    ids: Option<OwnedFd>,
}

impl Inherited {
    fn adopt() -> Result<Self> {
        let adopt = |number: i32| {
            pod_sys::inherited(number)
                .context(|| format!("cannot adopt descriptor {number} of the stage ABI"))
        };
        drop(adopt(fd::SELF));
        Ok(Self { pod: adopt(fd::POD)?, run: adopt(fd::RUN)?, ids: adopt(fd::IDS).ok() })
    }
}

/// Reaps a pod. Returns the status to exit with.
///
/// # Errors
///
/// Only without inherited descriptors; with them all errors are printed, because the status is
/// the pod's.
pub(crate) fn reap(context: &Context, args: &ReapArgs) -> Result<u8> {
    if !args.inherited {
        return reap_ended(context, args);
    }
    let id = PodId::parse(&args.pod).map_err(|error| CommandError::usage(error.to_string()))?;
    let reaped = Inherited::adopt().and_then(|held| reap_inherited(held, args, id));
    if let Err(error) = reaped {
        ui::error(&error, context.format);
    }
    Ok(args.code)
}

fn reap_inherited(held: Inherited, args: &ReapArgs, id: PodId) -> Result<()> {
    let root = parent(held.pod.as_fd(), "../../..")?;
    let run_root = parent(held.run.as_fd(), "..")?;
    let mut pod = Pod::adopt(id, Home::Run, held.pod);
    let mut problems = Vec::new();
    let status = pod.status().ok().flatten();
    if let Some(recorded) = status.as_ref().and_then(|status| status.cgroup.as_deref()) {
        problems.extend(cgroup::remove_recorded(recorded, &pod.id).err());
    } else if status.is_none() {
        problems.extend(cgroup::remove_everywhere(&BTreeSet::from([pod.id.clone()])).err());
    }
    if networks::has_joined(&pod) {
        let pods = parent(pod.dir(), "../../..").and_then(Pods::open);
        problems.extend(pods.and_then(|pods| Networks::of(&pods)?.leave(&pod.id)).err());
    }
    if let Some(lease) = &held.ids
        && let Some(base) = base_of(lease)
    {
        ids::release(run_root.as_fd(), base, lease.as_fd());
    }
    let json = rundir::asks_for_json(held.run.as_fd());
    let format = if json { Format::Json } else { Format::Table };
    problems.extend(rundir::remove(run_root.as_fd(), &pod.id).err());
    let remove = pod.manifest().is_ok_and(|manifest| manifest.remove);
    if let Some(status) = status.as_ref().filter(|_| !remove) {
        problems.extend(note_host_stop(&pod, status).err());
    }
    let never_ready = status.as_ref().is_some_and(|status| status.ready.is_none());
    match status.filter(|status| status.unit.is_some()) {
        // The journal of the unit has what its apps have written.
        Some(status) => {
            failure::tell(&status, format);
        }
        // Of a pod that is about to go, nobody could read the error later.
        None if args.show_error || (remove && never_ready) => {
            failure::show(&pod, format);
        }
        None => {}
    }
    if remove {
        let pods = Pods::open(root)?;
        problems.extend(leftovers::remove_if_asked(&pods, &mut pod).err());
    }
    // The lock goes with the process: whoever waits for it takes our exit status for told then.
    mem::forget(pod);
    problems.into_iter().next_back().map_or(Ok(()), Err)
}

/// Records that a pod of a unit has ended because the host is about to stop, if that is so.
fn note_host_stop(pod: &Pod, status: &PodStatus) -> Result<()> {
    let asked = |record: &EventRecord| {
        record.attempt == status.attempt && record.event == Event::PodStopping
    };
    let was_asked = || History::open(pod).is_some_and(|mut it| it.news().iter().any(asked));
    if status.unit.is_some() && was_asked() && systemd::shutdown::is_under_way() {
        pod.replace_status(&PodStatus { host_stopped: true, ..status.clone() })?;
    }
    Ok(())
}

/// Does what is left to do of a pod whose supervisor has ended, if anything: service managers call
/// this after every end.
fn reap_ended(context: &Context, args: &ReapArgs) -> Result<u8> {
    let session = Session::open(context.clone(), "reap")?;
    let mut pod = match session.pods.find(&Query(&args.pod)) {
        Err(error) if error.code() == "pod.not-found" => return Ok(args.code),
        found => found?,
    };
    if pod.home != Home::Run || pod.lock() == Lock::Theirs {
        return Ok(args.code);
    }
    leftovers::take_back(&pod, session.run_root())?;
    if networks::has_joined(&pod) {
        Networks::of(&session.pods)?.leave(&pod.id)?;
    }
    if args.show_error {
        failure::show(&pod, context.format);
    }
    leftovers::remove_if_asked(&session.pods, &mut pod)?;
    Ok(args.code)
}

fn parent(dir: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(dir, path, flags, Mode::empty()).context(|| format!("cannot open `{path}` of a pod"))
}

/// Reads off the path of the lease which range it is for; whoever releases it compares the file.
fn base_of(lease: &OwnedFd) -> Option<u32> {
    let link = format!("/proc/self/fd/{}", lease.as_raw_fd());
    let target = readlinkat(rustix::fs::CWD, link, Vec::new()).ok()?;
    Path::new(target.to_str().ok()?).file_name().and_then(OsStr::to_str)?.parse().ok()
}
