//! The records of limits that were changed: a new generation of an app's specification, and the
//! list of the pod's own.
//!
//! A start reads the newest, so what was changed holds until it is changed again. Generations are
//! never written over; of the old ones a few are kept, for readers that have just looked which is
//! the newest, and the first, which tells what the pod was made from: without it `pod run --reuse`
//! would take the pod for another, and remove it.

use std::os::fd::BorrowedFd;

use pod_abi::app::AppSpec;
use pod_abi::isolators::Resources;
use pod_abi::manifest::PodLimits;
use pod_abi::{AppName, layout, version};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};

use crate::error::{During, Failure};
use crate::whole::Prepared;

/// The name the pod's limits have until they are whole.
const LIMITS_TEMPORARY: &str = ".limits.json.tmp";

/// How many generations of an app are kept: an update a second for all of a reader's time to open
/// what it has just found.
const KEPT: u32 = 8;

/// Writes down what an app is to be from now on, as a generation that does not count yet.
///
/// # Errors
///
/// What could not be done.
pub(crate) fn of_app<'p>(pod: BorrowedFd<'p>, spec: &AppSpec) -> Result<Prepared<'p>, Failure> {
    let name = &spec.name;
    let generations = generations(pod, name)?;
    let newest = generations.iter().max().copied().unwrap_or(0);
    let next = newest.checked_add(1).ok_or_else(|| {
        Failure::new(format!("app `{name}` was changed too often")).code("limit.invalid")
    })?;
    // The document may have been one of an older program, which had no word for what it now says.
    let spec = AppSpec { version: version::MANIFEST, ..spec.clone() };
    let is_old = |it: &u32| *it > 0 && it.saturating_add(KEPT) <= next;
    for old in generations.into_iter().filter(is_old) {
        // What stays is read by nobody.
        let _ = unlinkat(pod, layout::app_spec(name, old), AtFlags::empty());
    }
    let temporary = format!("{}/.app.json.tmp", layout::app(name));
    Prepared::write(pod, temporary, layout::app_spec(name, next), &spec)
}

/// Writes down what the pod is to be limited to from now on, so that it does not count yet.
///
/// # Errors
///
/// What could not be done.
pub(crate) fn of_pod<'p>(
    pod: BorrowedFd<'p>,
    resources: &Resources,
) -> Result<Prepared<'p>, Failure> {
    let limits = PodLimits { version: version::MANIFEST, resources: resources.clone() };
    Prepared::write(pod, LIMITS_TEMPORARY.to_owned(), layout::LIMITS.to_owned(), &limits)
}

fn generations(pod: BorrowedFd<'_>, name: &AppName) -> Result<Vec<u32>, Failure> {
    let path = layout::app(name);
    let reading = || format!("cannot read `{path}` of the pod");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(pod, &path, flags, Mode::empty()).during(reading)?;
    let mut found = Vec::new();
    for entry in Dir::new(directory).during(reading)? {
        let entry = entry.during(reading)?;
        found.extend(entry.file_name().to_str().ok().and_then(layout::generation));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::tests::order;
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    #[test]
    fn each_change_is_a_generation_of_its_own_and_the_first_and_a_few_are_kept() {
        let directory = std::env::temp_dir().join(format!("pod-limits-{}", std::process::id()));
        let app = directory.join("apps/web");
        fs::create_dir_all(&app).unwrap();
        fs::write(app.join("app.0.json"), "{}").unwrap();
        fs::write(app.join("app.03.json"), "not one of ours").unwrap();
        let pod = File::open(&directory).unwrap();
        let mut spec = order().apps.remove(0).spec;
        for change in 1..=20 {
            spec.resources.pids = Some(change);
            of_app(pod.as_fd(), &spec).unwrap().commit().unwrap();
        }
        let text = fs::read_to_string(app.join("app.20.json")).unwrap();
        let read: AppSpec = serde_json::from_str(&text).unwrap();
        assert_eq!((read.resources.pids, read.version), (Some(20), version::MANIFEST));
        let mut kept = generations(pod.as_fd(), &spec.name).unwrap();
        kept.sort_unstable();
        assert_eq!(kept, [0].into_iter().chain(13..=20).collect::<Vec<_>>());
        assert!(app.join("app.03.json").exists());
        drop(of_app(pod.as_fd(), &spec).unwrap());
        assert!(!app.join("app.21.json").exists() && !app.join(".app.json.tmp").exists());
        of_pod(pod.as_fd(), &spec.resources).unwrap().commit().unwrap();
        let text = fs::read_to_string(directory.join("limits.json")).unwrap();
        assert_eq!(text, r#"{"version":6,"resources":{"pids":20}}"#);
        fs::remove_dir_all(&directory).unwrap();
    }
}
