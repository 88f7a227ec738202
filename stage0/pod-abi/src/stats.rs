//! What a pod uses, as its supervisor counts it (`Documentation/admin-guide/cgroup-v2.rst`).
//!
//! Every count is optional: without its controller the kernel does not count, and a reader must not
//! take that for nothing.

use serde::{Deserialize, Serialize};

use crate::fields::is_default;
use crate::name::AppName;
use crate::time::Timestamp;

/// What a pod and its apps use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodStats {
    /// When this was read.
    pub time: Timestamp,
    /// All of it, PID 1 and the supervisor included where they are counted.
    pub pod: Usage,
    /// The apps that have a cgroup, in the order of the manifest.
    pub apps: Vec<AppUsage>,
}

/// What one app uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppUsage {
    /// Which.
    pub app: AppName,
    /// What.
    pub usage: Usage,
}

/// What a group of processes uses; what is not counted is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Usage {
    /// Microseconds on processors since it began (`cpu.stat`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu_us: Option<u64>,
    /// Microseconds it was kept from running by its quota.
    #[serde(default, skip_serializing_if = "is_default")]
    pub throttled_us: Option<u64>,
    /// Bytes of memory now (`memory.current`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory: Option<u64>,
    /// The most bytes it may have (`memory.max`); none without a limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory_max: Option<u64>,
    /// Bytes of swap now (`memory.swap.current`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub swap: Option<u64>,
    /// Processes killed because memory ran out (`memory.events`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub oom_kills: Option<u64>,
    /// Processes and threads now (`pids.current`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub pids: Option<u64>,
    /// The most it may have (`pids.max`); none without a limit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pids_max: Option<u64>,
    /// Bytes read from block devices (`io.stat`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_bytes: Option<u64>,
    /// Bytes written to block devices.
    #[serde(default, skip_serializing_if = "is_default")]
    pub write_bytes: Option<u64>,
}
