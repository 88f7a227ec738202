//! How large a machine is. Pure.
//!
//! A machine is sized once, before it boots. Its memory is what its apps may use and what its
//! kernel needs beside them, so that a limit means the same as in namespaces: the apps reach theirs
//! before the machine reaches its own.

use pod_abi::isolators::{CpuQuota, Resources, UNLIMITED};
use pod_abi::stage::Order;

/// Bytes that Debian's kernel, its tables and PID 1 of the guest need beside the apps; a
/// sixty-fourth of the memory, which the kernel's table of pages takes, comes on top.
const OVERHEAD: u64 = 128 << 20;
/// Bytes for the apps of a pod nobody limits, and for those of its apps nobody limits: with
/// [`OVERHEAD`] a machine of 512 MiB.
const UNSAID: u64 = 384 << 20;
/// The memory of a machine is a multiple of this, in bytes: a large page.
const STEP: u64 = 2 << 20;
/// The most virtual processors of a pod nobody limits.
const UNSAID_VCPUS: u32 = 4;

/// What a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Processors this process may run on.
    pub processors: u32,
    /// Bytes of memory.
    pub memory: u64,
}

/// Returns the bytes of memory of the machine of an order: the pod's limit or, without one, the sum
/// of its apps', and the overhead. What the host does not have is not given.
pub(super) fn memory(order: &Order, host: Host) -> u64 {
    let apps = || {
        let limits = order.apps.iter().map(|app| limit(&app.spec.resources));
        let unlimited = order.apps.iter().any(|app| limit(&app.spec.resources).is_none());
        let rest = if unlimited || order.apps.is_empty() { UNSAID } else { 0 };
        limits.flatten().fold(rest, u64::saturating_add)
    };
    let wanted = limit(&order.pod.sandbox.resources).unwrap_or_else(apps);
    memory_of(wanted.min(host.memory))
}

/// Returns the bytes of memory of a machine whose apps may use so many.
pub(super) fn memory_of(apps: u64) -> u64 {
    let whole = apps.saturating_add(apps / 64).saturating_add(OVERHEAD);
    whole.div_ceil(STEP).saturating_mul(STEP)
}

/// Returns the most bytes apps may use in a machine of so many: the other way round.
pub(crate) fn room_for_apps(memory: u64) -> u64 {
    let left = memory.saturating_sub(OVERHEAD);
    left / 65 * 64 + left % 65 * 64 / 65
}

/// Returns the bytes resources are limited to.
fn limit(resources: &Resources) -> Option<u64> {
    resources.memory.filter(|bytes| *bytes != UNLIMITED)
}

/// Returns the virtual processors of the machine of an order: as many as its limits can keep busy,
/// at most those of the host.
pub(super) fn vcpus(order: &Order, host: Host) -> u8 {
    let of_pod = order.pod.sandbox.resources.cpu.and_then(processors);
    let of_apps = || {
        let limits = order.apps.iter().map(|app| app.spec.resources.cpu.and_then(processors));
        // One nobody limits may use what is there.
        limits.collect::<Option<Vec<_>>>().filter(|all| !all.is_empty()).map(|all| all.iter().sum())
    };
    let thousandths: Option<u64> = of_pod.or_else(of_apps);
    let wanted = thousandths.map_or(u64::from(UNSAID_VCPUS), |sum| sum.div_ceil(1000));
    let there = u64::from(host.processors.max(1));
    u8::try_from(wanted.clamp(1, there)).unwrap_or(u8::MAX)
}

/// Returns the thousandths of a processor a quota gives, if it is one.
fn processors(cpu: CpuQuota) -> Option<u64> {
    let quota = Some(cpu.quota_us).filter(|quota| *quota != UNLIMITED)?;
    Some(quota.saturating_mul(1000).div_ceil(cpu.period_us.max(1)))
}
