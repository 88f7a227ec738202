//! The most an app may use, as files of its cgroup (`Documentation/admin-guide/cgroup-v2.rst`).

use std::fmt;

use pod_abi::app::AppSpec;
use pod_abi::isolators::{CpuQuota, Resources};

/// One file of an app's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// The controller whose file it is.
    pub(crate) controller: &'static str,
    /// The file.
    pub(crate) file: &'static str,
    /// What is written.
    pub(crate) value: String,
    /// Whether a kernel may lack the file.
    pub(crate) need: Need,
}

/// Whether something must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It must.
    Must,
    /// Where it is not, there is nothing to be limited.
    May,
}

/// Returns what limits an app.
///
/// With a limit of memory an app has no swap: what it may use is what was said, behind any wall,
/// and not twice that, as with docker.
pub(super) fn of(spec: &AppSpec) -> Vec<Quota> {
    let Resources { memory, cpu, pids, .. } = &spec.resources;
    let quota = |controller, file, value, need| Quota { controller, file, value, need };
    let mut quotas = Vec::new();
    if let Some(bytes) = memory {
        quotas.push(quota("memory", "memory.max", bytes.to_string(), Need::Must));
        quotas.push(quota("memory", "memory.swap.max", "0".to_owned(), Need::May));
    }
    if let Some(CpuQuota { quota_us, period_us }) = cpu {
        quotas.push(quota("cpu", "cpu.max", format!("{quota_us} {period_us}"), Need::Must));
    }
    quotas.extend(pids.map(|most| quota("pids", "pids.max", most.to_string(), Need::Must)));
    quotas
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` to `{}`", self.value, self.file)
    }
}
