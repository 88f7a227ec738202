//! `pod gc`: marks what is dead, then sweeps it.
//!
//! Marking is a rename to a garbage home, under the pod's lock; sweeping removes what lies there.
//! Safe at any time beside anything: what is alive is locked, and what another root owns is not
//! looked at.

use std::path::Path;

use pod_abi::phase::{Home, Phase};
use pod_abi::{PodId, Timestamp, layout};
use serde::Serialize;

use super::Session;
use crate::cli::PodGcArgs;
use crate::error::Result;
use crate::pods::{Entry, Lock, Pod};
use crate::ui::{self, Format};
use crate::{fetch, host, ids, leftovers, named_volumes, specification};

/// What was removed; `pod gc -o json` prints it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    dry_run: bool,
    pods: Vec<PodId>,
    names: usize,
    leases: usize,
    kept: Vec<String>,
}

/// Removes what is dead.
///
/// # Errors
///
/// The last thing's that could not be removed; everything else has been.
pub(crate) fn gc(session: &Session, args: &PodGcArgs) -> Result<u8> {
    let mut report = Report { dry_run: args.gc.dry_run, ..Report::default() };
    let mut problems = Vec::new();
    if !args.gc.dry_run {
        problems.extend(leftovers::sweep(&session.pods, session.run_root()).err());
    }
    for home in Home::ALL {
        for entry in session.pods.list(home)? {
            match entry {
                Err(error) => problems.push(error),
                Ok(Entry::Alien(home, name)) => {
                    report.kept.push(format!("{}/{name}", home.directory()));
                }
                Ok(Entry::Pod(mut pod)) => match collect(session, &mut pod, args) {
                    Ok(Fate::Removed) => report.pods.push(pod.id),
                    Ok(Fate::Kept) => {}
                    Err(error) => problems.push(error),
                },
            }
        }
    }
    if !args.gc.dry_run {
        report.names = session.pods.sweep_names()?;
        report.leases = ids::sweep(session.run_root())?;
        let tidied = session.store()?.tidy().map_err(|error| fetch::failed(&error));
        problems.extend(tidied.err());
        problems.extend(named_volumes::tidy(&session.context.root).err());
    }
    show(session, &report)?;
    let Some(last) = problems.pop() else { return Ok(0) };
    for problem in &problems {
        ui::error(problem, session.context.format);
    }
    Err(last)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Removed,
    Kept,
}

/// Tells whether a pod that ended belongs to the host: what its apps have written is there for its
/// next start, however long the host was down.
fn is_of_host(session: &Session, pod: &Pod) -> bool {
    let Ok(manifest) = pod.manifest() else { return false };
    let of_host = session.context.root == Path::new(layout::ROOT)
        && specification::of_host(&manifest.name).exists();
    of_host
        && Phase::of(pod.home, false) == Phase::Exited
        && session.pods.named(&manifest.name).ok().flatten().as_ref() == Some(&pod.id)
}

fn collect(session: &Session, pod: &mut Pod, args: &PodGcArgs) -> Result<Fate> {
    if pod.home == Home::Run && pod.phase() == Phase::Running && !args.gc.dry_run {
        let _ = pod.sweep_removed(); // a command may be at it, too
    }
    if pod.try_lock() == Lock::Theirs {
        return Ok(Fate::Kept);
    }
    let grace = match Phase::of(pod.home, false) {
        Phase::Prepared if pod.was_given_up() => 0,
        Phase::Prepared => args.expire_prepared,
        Phase::Exited => args.gc.grace,
        _ => 0,
    };
    if !is_older(pod, grace) || is_of_host(session, pod) {
        return Ok(Fate::Kept);
    }
    if args.gc.dry_run {
        return Ok(Fate::Removed);
    }
    if pod.home == Home::Garbage && pod.awaited().is_some() {
        return Ok(Fate::Kept); // whoever reads it removes it
    }
    match session.supervision().forget(pod) {
        Err(error) if error.code() == "pod.running" => return Ok(Fate::Kept),
        forgotten => forgotten?,
    }
    leftovers::take_back(pod, session.run_root())?;
    let garbage = match pod.home {
        Home::Run => Some(Home::ExitedGarbage),
        Home::Embryo | Home::Prepare | Home::Prepared => Some(Home::Garbage),
        _ => None,
    };
    let moved = garbage.map_or(Ok(()), |home| session.pods.rename(pod, home));
    match moved.and_then(|()| session.pods.sweep(pod)) {
        Ok(()) => Ok(Fate::Removed),
        Err(error) if error.code() == "pod.vanished" => Ok(Fate::Kept),
        Err(error) => Err(error),
    }
}

/// Tells whether a pod that has ended did so at least `grace` seconds ago. One whose end nobody
/// recorded counts from its start, one that never ran from its making.
fn is_older(pod: &Pod, grace: u64) -> bool {
    if grace == 0 {
        return true;
    }
    let status = pod.status().ok().flatten();
    let since = match status {
        Some(status) => Some(status.ended.unwrap_or(status.started)),
        None => pod.manifest().ok().map(|manifest| manifest.created),
    };
    let age = |since: Timestamp| host::now().seconds().saturating_sub(since.seconds());
    since.is_none_or(|since| age(since) >= grace)
}

fn show(session: &Session, report: &Report) -> Result<()> {
    if session.context.format == Format::Json {
        return ui::json(report);
    }
    let word = if report.dry_run { "would remove" } else { "removed" };
    let mut text: String = report.pods.iter().map(|id| format!("{word} pod {id}\n")).collect();
    if report.names > 0 {
        text.push_str(&format!("{word} {} stale names\n", report.names));
    }
    for kept in &report.kept {
        ui::note(&format!("note: `{kept}` is no pod and was left alone"));
    }
    ui::out(&text)
}
