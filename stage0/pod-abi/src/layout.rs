//! Every path of the store of pods, as constants and small functions.
//!
//! ```text
//! ROOT/                          RUN-ROOT/
//!   images/                        UUID/control.sock
//!   pods/HOME/UUID/                UUID/notify.sock
//!     pod.json                     userns/BASE   (locked while a pod uses the range)
//!     status.json
//!     events.jsonl
//!     pins
//!     apps.json                    (only once apps were added or removed)
//!     limits.json                  (only once limits of the pod were changed)
//!     start-error.json             (only after a start that never had a supervisor)
//!     client                       (locked while whoever has started the pod waits for it)
//!     apps/NAME/app.N.json
//!     apps/NAME/{upper,work,log}/
//!     volumes/NAME/
//!     filled/NAME/                 (once volume NAME was looked at, if it is one to be filled)
//!   names/NAME -> UUID
//!   volumes/NAME/
//! ```
//!
//! Paths are relative: to the root, or to a pod's directory, which moves between homes and is
//! therefore always held by descriptor.

use crate::name::{AppName, PodId, VolumeName};
use crate::phase::Home;

/// The default of `--root` and `$POD_ROOT`.
pub const ROOT: &str = "/var/lib/pod";
/// The default of `--run-root` and `$POD_RUN_ROOT`; volatile.
pub const RUN_ROOT: &str = "/run/pod";

/// The image store, beneath the root.
pub const IMAGES: &str = "images";
/// The homes of pods, beneath the root.
pub const PODS: &str = "pods";
/// Symbolic links from names to ids, beneath the root.
pub const NAMES: &str = "names";
/// Locked while a name changes hands, beneath [`NAMES`]; no label starts with a dot.
pub const NAMES_LOCK: &str = ".lock";

/// The sandbox's manifest, beneath a pod's directory.
pub const MANIFEST: &str = "pod.json";
/// The supervisor's record, beneath a pod's directory.
pub const STATUS: &str = "status.json";
/// The history, one JSON object a line, beneath a pod's directory.
pub const EVENTS: &str = "events.jsonl";
/// Digests the image store must keep, one a line, beneath a pod's directory.
pub const PINS: &str = "pins";
/// The list of apps, beneath a pod's directory, once it is no longer the manifest's.
pub const APP_LIST: &str = "apps.json";
/// Limits of the pod, beneath a pod's directory, once they are no longer the manifest's. Since
/// version 3.
pub const LIMITS: &str = "limits.json";
/// Why the last start failed before there was a supervisor to record it: a
/// [`crate::Report`], beneath a pod's directory. Since version 3.
pub const START_ERROR: &str = "start-error.json";
/// What whoever has started the pod waits for, beneath a pod's directory; it counts as long as
/// its writer holds the lock of this file. Since version 3.
pub const CLIENT: &str = "client";
/// The apps, beneath a pod's directory.
pub const APPS: &str = "apps";
/// What the names of directories beneath [`APPS`] begin with that are no app's any more and wait to be
/// removed; no name of an app starts with a dot.
pub const ASIDE: &str = ".removed-";
/// The pod's `empty` volumes, beneath a pod's directory.
pub const VOLUMES: &str = "volumes";

/// The names of volumes that need not be filled any more, beneath a pod's directory. Since
/// version 2.
pub const FILLED: &str = "filled";

/// The writable layer, beneath an app's directory.
pub const UPPER: &str = "upper";
/// The work directory of overlayfs, beneath an app's directory.
pub const WORK: &str = "work";
/// The logs, beneath an app's directory.
pub const LOG: &str = "log";
/// The current log file, beneath [`LOG`]; older ones are `app.log.1`, `.2`, ….
pub const LOG_FILE: &str = "app.log";

/// The supervisor's socket, beneath a pod's run directory.
pub const CONTROL_SOCKET: &str = "control.sock";
/// Where a detached start waits for readiness, beneath a pod's run directory.
pub const NOTIFY_SOCKET: &str = "notify.sock";
/// Locked files, one for each range of user ids in use, beneath the run root.
pub const USERNS_LEASES: &str = "userns";

/// Returns the directory of pod `id` in `home`, beneath the root.
#[must_use]
pub fn pod(home: Home, id: &PodId) -> String {
    format!("{PODS}/{}/{id}", home.directory())
}

/// Returns the directory of app `name`, beneath a pod's directory.
#[must_use]
pub fn app(name: &AppName) -> String {
    format!("{APPS}/{name}")
}

/// Returns the file of generation `generation` of app `name`, beneath a pod's directory.
#[must_use]
pub fn app_spec(name: &AppName, generation: u32) -> String {
    format!("{APPS}/{name}/app.{generation}.json")
}

/// Returns the generation that file name `file` holds, if it is one of [`app_spec`]'s.
#[must_use]
pub fn generation(file: &str) -> Option<u32> {
    let digits = file.strip_prefix("app.")?.strip_suffix(".json")?;
    let number: u32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// Returns the directory of the pod's `empty` volume `name`, beneath a pod's directory.
#[must_use]
pub fn volume(name: &VolumeName) -> String {
    format!("{VOLUMES}/{name}")
}

/// Returns the mark that volume `name` need not be filled any more, beneath a pod's directory.
#[must_use]
pub fn filled(name: &VolumeName) -> String {
    format!("{FILLED}/{name}")
}

/// The extended attribute of a cgroup in the directory of a unit that tells which pod's it is: its
/// id. Since version 3.
pub const CGROUP_MARK: &str = "user.pod.uuid";

/// Returns the name of a pod's cgroup: one directory beneath the supervisor's own,
/// unless it has the directory of its unit.
#[must_use]
pub fn cgroup(id: &PodId) -> String {
    format!("pod-{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_file_names_are_generations() {
        let name = AppName::parse("web").unwrap();
        assert_eq!(app_spec(&name, 3), "apps/web/app.3.json");
        assert_eq!(generation("app.3.json"), Some(3));
        for other in ["app.json", "app.03.json", "app.+3.json", "app.3.json.tmp", "app.-1.json"] {
            assert_eq!(generation(other), None, "{other}");
        }
    }
}
