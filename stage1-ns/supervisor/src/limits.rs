//! The records of limits that were changed: a new generation of an app's specification, and the
//! list of the pod's own.
//!
//! A start reads the newest, so what was changed holds until it is changed again. Generations are
//! never written over; of the old ones a few are kept, for readers that have just looked which is
//! the newest.

use std::os::fd::BorrowedFd;

use pod_abi::app::AppSpec;
use pod_abi::isolators::Resources;
use pod_abi::manifest::PodLimits;
use pod_abi::{AppName, layout, version};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};

use crate::error::{During, Failure};
use crate::whole;

/// The name the pod's limits have until they are whole.
const LIMITS_TEMPORARY: &str = ".limits.json.tmp";

/// How many generations of an app are kept: an update a second for all of a reader's time to open
/// what it has just found.
const KEPT: u32 = 8;

/// Writes down what an app is from now on.
///
/// # Errors
///
/// What could not be done; the old generation is still the newest.
pub(crate) fn write_app(pod: BorrowedFd<'_>, spec: &AppSpec) -> Result<(), Failure> {
    let name = &spec.name;
    let generations = generations(pod, name)?;
    let newest = generations.iter().max().copied().unwrap_or(0);
    let next = newest.checked_add(1).ok_or_else(|| {
        Failure::new(format!("app `{name}` was changed too often")).code("limit.invalid")
    })?;
    // The document may have been one of an older program, which had no word for what it now says.
    let spec = AppSpec { version: version::MANIFEST, ..spec.clone() };
    let temporary = format!("{}/.app.json.tmp", layout::app(name));
    whole::write(pod, &temporary, &layout::app_spec(name, next), &spec)?;
    for old in generations.into_iter().filter(|old| old.saturating_add(KEPT) <= next) {
        // What stays is read by nobody.
        let _ = unlinkat(pod, layout::app_spec(name, old), AtFlags::empty());
    }
    Ok(())
}

/// Writes down what the pod is limited to from now on.
///
/// # Errors
///
/// What could not be done; the old limits are still there, whole.
pub(crate) fn write_pod(pod: BorrowedFd<'_>, resources: &Resources) -> Result<(), Failure> {
    let limits = PodLimits { version: version::MANIFEST, resources: resources.clone() };
    whole::write(pod, LIMITS_TEMPORARY, layout::LIMITS, &limits)
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
    fn each_change_is_a_generation_of_its_own_and_few_are_kept() {
        let directory = std::env::temp_dir().join(format!("pod-limits-{}", std::process::id()));
        let app = directory.join("apps/web");
        fs::create_dir_all(&app).unwrap();
        fs::write(app.join("app.0.json"), "{}").unwrap();
        fs::write(app.join("app.03.json"), "not one of ours").unwrap();
        let pod = File::open(&directory).unwrap();
        let mut spec = order().apps.remove(0).spec;
        for change in 1..=20 {
            spec.resources.pids = Some(change);
            write_app(pod.as_fd(), &spec).unwrap();
        }
        let text = fs::read_to_string(app.join("app.20.json")).unwrap();
        let read: AppSpec = serde_json::from_str(&text).unwrap();
        assert_eq!((read.resources.pids, read.version), (Some(20), version::MANIFEST));
        let mut kept = generations(pod.as_fd(), &spec.name).unwrap();
        kept.sort_unstable();
        assert_eq!(kept, (13..=20).collect::<Vec<_>>());
        assert!(app.join("app.03.json").exists());
        write_pod(pod.as_fd(), &spec.resources).unwrap();
        let text = fs::read_to_string(directory.join("limits.json")).unwrap();
        assert_eq!(text, r#"{"version":3,"resources":{"pids":20}}"#);
        fs::remove_dir_all(&directory).unwrap();
    }
}
