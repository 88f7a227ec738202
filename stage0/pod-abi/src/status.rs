//! What is known of a pod's run: `status.json`, and the lines of `events.jsonl`.
//!
//! The supervisor is the only writer; it replaces the file as a whole. `pod status -o json` and
//! `pod inspect` show these documents as they are, so their field names are an interface.

use serde::{Deserialize, Serialize};

use crate::exit::Ended;
use crate::fields::is_default;
use crate::name::AppName;
use crate::network::Joined;
use crate::report::Report;
use crate::stage::IdRange;
use crate::time::Timestamp;

/// `status.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodStatus {
    /// [`crate::version::STATUS`] of the writer.
    pub version: u32,
    /// The boot this was written in (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// How often the pod has been started.
    pub attempt: u32,
    /// The supervisor's process id on the host.
    pub supervisor: u32,
    /// The process id, on the host, of the pod's PID 1; `None` before it is born or in a VM.
    pub init: Option<u32>,
    /// The pod's cgroup, as an absolute path in the cgroup v2 hierarchy; `None` without one.
    pub cgroup: Option<String>,
    /// The range of user ids it runs in.
    pub ids: Option<IdRange>,
    /// When this attempt began.
    pub started: Timestamp,
    /// When every app was ready for the first time.
    pub ready: Option<Timestamp>,
    /// When the pod ended.
    pub ended: Option<Timestamp>,
    /// The pod's exit status.
    pub code: Option<u8>,
    /// What went wrong, where it was not an app's doing.
    pub error: Option<Report>,
    /// The apps, in the order of the manifest.
    pub apps: Vec<AppStatus>,
    /// The unit whose main process the supervisor is. Since version 3, like the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether it is paused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub paused: bool,
    /// Whether it was ended because the host was about to stop. `pod reap` writes this, in the place
    /// of the supervisor.
    #[serde(default, skip_serializing_if = "is_default")]
    pub host_stopped: bool,
    /// What came of joining networks, if it joins any. Since version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Joined>,
}

/// What is known of one app's run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppStatus {
    /// Its name.
    pub name: AppName,
    /// What it does.
    pub state: AppState,
    /// How often it was started again.
    pub restarts: u32,
    /// Its process id on the host, while it runs and where it has one.
    pub pid: Option<u32>,
    /// When it was last started.
    pub started: Option<Timestamp>,
    /// When it last ended.
    pub ended: Option<Timestamp>,
    /// How it last ended.
    pub exit: Option<Ended>,
    /// Why it could not be executed.
    pub error: Option<Report>,
    /// When it was last ready. Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Timestamp>,
    /// What it last said of itself (`STATUS=`, `sd_notify(3)`), tamed. Since version 3, like the
    /// next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// When it will be started again, while it backs off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts_at: Option<Timestamp>,
}

/// What an app does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppState {
    /// It has not been started yet.
    Waiting,
    /// It runs.
    Running,
    /// It ended and will be started again after a pause.
    BackingOff,
    /// It ended and stays so.
    Exited,
}

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventRecord {
    /// When.
    pub time: Timestamp,
    /// Which start of the pod.
    pub attempt: u32,
    /// What.
    pub event: Event,
}

/// What can happen to a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Event {
    /// Its supervisor began.
    PodStarted,
    /// Every app is ready.
    PodReady,
    /// Somebody asked it to end.
    PodStopping,
    /// It ended.
    PodEnded {
        /// With this status.
        code: u8,
    },
    /// An app was executed.
    AppStarted {
        /// Which.
        app: AppName,
    },
    /// An app ended or could not be executed.
    AppEnded {
        /// Which.
        app: AppName,
        /// How.
        exit: Ended,
    },
    /// An app will be started again.
    AppBackingOff {
        /// Which.
        app: AppName,
        /// After so many milliseconds.
        delay_ms: u64,
    },
    /// An app became ready. Since version 2, like all that follows.
    AppReady {
        /// Which.
        app: AppName,
    },
    /// An app was added to the living pod.
    AppAdded {
        /// Which.
        app: AppName,
    },
    /// An app was removed from the living pod.
    AppRemoved {
        /// Which.
        app: AppName,
    },
    /// It was paused. Since version 3, like all that follows.
    PodPaused,
    /// It goes on.
    PodResumed,
    /// Its limits, or those of an app, were changed.
    LimitsChanged {
        /// Of which app; without one, of the pod.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<AppName>,
    },
    /// Memory ran out in an app, and the kernel killed processes of it.
    AppOutOfMemory {
        /// Which.
        app: AppName,
    },
}
