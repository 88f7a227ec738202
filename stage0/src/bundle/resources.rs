//! `linux.resources` of a bundle, but for devices: limits, in OCI's words where it has one and else
//! as files of cgroup v2 (`unified`).
//!
//! OCI counts swap together with memory, as docker does; we count it apart.

use std::collections::HashMap;

use oci_spec::runtime as oci;
use pod_abi::isolators::{BlockDevice, CpuQuota, IoLimit, Resources, UNLIMITED};

use super::{BundleError, Result, absent, unsupported};
use crate::weights;

/// Where in the document this is.
const AT: &str = "linux.resources";

/// The files of cgroup v2 for which OCI has no word, or none as fine.
const CPU_WEIGHT: &str = "cpu.weight";
const IO_WEIGHT: &str = "io.weight";
const MEMORY_HIGH: &str = "memory.high";
const SWAP_MAX: &str = "memory.swap.max";

/// Writes limits into `written`.
pub(super) fn write(limits: &Resources, written: &mut oci::LinuxResources) -> Result<()> {
    let limits = limits.clone().settled();
    let number = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
    let mut unified = HashMap::new();
    let mut file = |name: &str, value: Option<u64>| {
        unified.extend(value.map(|value| (name.to_owned(), value.to_string())));
    };
    file(CPU_WEIGHT, limits.cpu_weight.map(u64::from));
    file(IO_WEIGHT, limits.io_weight.map(u64::from));
    file(MEMORY_HIGH, limits.memory_high);
    let total = match (limits.memory, limits.swap) {
        (None, swap) => {
            file(SWAP_MAX, swap);
            None
        }
        (Some(_), None) => None,
        (Some(_), Some(UNLIMITED)) => Some(-1),
        (Some(memory), Some(swap)) => Some(number(memory.saturating_add(swap))),
    };
    let mut memory = oci::LinuxMemoryBuilder::default().build()?;
    memory
        .set_limit(limits.memory.map(number))
        .set_reservation(limits.memory_low.map(number))
        .set_swap(total);
    written.set_memory((memory != oci::LinuxMemoryBuilder::default().build()?).then_some(memory));
    let mut cpu = oci::LinuxCpuBuilder::default().build()?;
    cpu.set_quota(limits.cpu.map(|cpu| number(cpu.quota_us)))
        .set_period(limits.cpu.map(|cpu| cpu.period_us))
        .set_cpus(limits.cpuset_cpus.clone())
        .set_mems(limits.cpuset_mems.clone());
    written.set_cpu((cpu != oci::LinuxCpuBuilder::default().build()?).then_some(cpu));
    if let Some(count) = limits.pids {
        let built = oci::LinuxPidsBuilder::default().limit(number(count)).build()?;
        written.set_pids(Some(built));
    }
    if !limits.io.is_empty() {
        written.set_block_io(Some(rates(&limits.io)?));
    }
    written.set_unified((!unified.is_empty()).then_some(unified));
    Ok(())
}

fn rates(limits: &[IoLimit]) -> Result<oci::LinuxBlockIo> {
    let list = |rate: fn(&IoLimit) -> Option<u64>| -> Result<Option<Vec<_>>> {
        let given = limits.iter().filter_map(|limit| Some((limit.device, rate(limit)?)));
        let written = given.map(|(device, rate)| {
            oci::LinuxThrottleDeviceBuilder::default()
                .major(i64::from(device.major))
                .minor(i64::from(device.minor))
                .rate(rate)
                .build()
        });
        let written = written.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok((!written.is_empty()).then_some(written))
    };
    let mut written = oci::LinuxBlockIo::default();
    written
        .set_throttle_read_bps_device(list(|limit| limit.read_bytes)?)
        .set_throttle_write_bps_device(list(|limit| limit.write_bytes)?)
        .set_throttle_read_iops_device(list(|limit| limit.reads)?)
        .set_throttle_write_iops_device(list(|limit| limit.writes)?);
    Ok(written)
}

/// Reads limits.
pub(super) fn read(from: &oci::LinuxResources) -> Result<Resources> {
    absent(from.hugepage_limits(), "linux.resources.hugepageLimits")?;
    absent(from.network(), "linux.resources.network")?;
    absent(from.rdma(), "linux.resources.rdma")?;
    let mut limits = Resources::default();
    if let Some(memory) = from.memory() {
        read_memory(memory, &mut limits)?;
    }
    if let Some(cpu) = from.cpu() {
        read_cpu(cpu, &mut limits)?;
    }
    if let Some(pids) = from.pids() {
        limits.pids = Some(number(pids.limit(), "linux.resources.pids.limit")?);
    }
    if let Some(block) = from.block_io() {
        read_block(block, &mut limits)?;
    }
    for (file, value) in from.unified().iter().flatten() {
        read_file(file, value, &mut limits)?;
    }
    let limits = limits.settled();
    match limits.is_sound() {
        true => Ok(limits),
        false => Err(unsupported(AT, "holds a limit that is none, or two that exclude each other")),
    }
}

/// Reads a number; -1 is no limit, as everywhere in OCI.
fn number(limit: i64, property: &str) -> Result<u64> {
    match limit {
        -1 => Ok(UNLIMITED),
        _ => u64::try_from(limit).map_err(|_| unsupported(property, "is negative; leave it out")),
    }
}

fn read_memory(from: &oci::LinuxMemory, limits: &mut Resources) -> Result<()> {
    const MEMORY: &str = "linux.resources.memory";
    let mut rest = *from;
    rest.set_limit(None).set_reservation(None).set_swap(None);
    if rest != oci::LinuxMemoryBuilder::default().build()? {
        return Err(unsupported(MEMORY, "has more than `limit`, `reservation` and `swap`"));
    }
    let read = |limit: Option<i64>, at: &str| limit.map(|limit| number(limit, at)).transpose();
    limits.memory = read(from.limit(), "linux.resources.memory.limit")?;
    let low = read(from.reservation(), "linux.resources.memory.reservation")?;
    limits.memory_low = low.filter(|low| *low != UNLIMITED);
    let total = read(from.swap(), "linux.resources.memory.swap")?;
    limits.swap = match (total, limits.memory) {
        (None, _) => None,
        (Some(UNLIMITED), _) => Some(UNLIMITED),
        (Some(total), Some(memory)) if memory <= total => Some(total - memory),
        _ => return Err(unsupported(MEMORY, "has less `swap`, which counts both, than `limit`")),
    };
    Ok(())
}

fn read_cpu(from: &oci::LinuxCpu, limits: &mut Resources) -> Result<()> {
    /// The kernel's, where none is given.
    const PERIOD_US: u64 = 100_000;
    const CPU: &str = "linux.resources.cpu";
    let mut rest = from.clone();
    rest.set_quota(None).set_period(None).set_shares(None).set_cpus(None).set_mems(None);
    if rest != oci::LinuxCpuBuilder::default().build()? {
        let what = "has more than `quota`, `period`, `shares`, `cpus` and `mems`";
        return Err(unsupported(CPU, what));
    }
    let quota = from.quota().map(|quota| number(quota, CPU)).transpose()?;
    let period_us = from.period().unwrap_or(PERIOD_US);
    limits.cpu = quota.map(|quota_us| CpuQuota { quota_us, period_us });
    // 0 is what docker writes for none.
    let shares = from.shares().filter(|shares| *shares > 0);
    limits.cpu_weight = shares.map(weights::of_cpu_shares);
    let list = |list: &Option<String>| list.clone().filter(|list| !list.is_empty());
    limits.cpuset_cpus = list(from.cpus());
    limits.cpuset_mems = list(from.mems());
    Ok(())
}

fn read_block(from: &oci::LinuxBlockIo, limits: &mut Resources) -> Result<()> {
    const BLOCK: &str = "linux.resources.blockIO";
    absent(&from.leaf_weight(), "linux.resources.blockIO.leafWeight")?;
    if from.weight_device().as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(unsupported(BLOCK, "has weights of single devices"));
    }
    let weight = from.weight().filter(|weight| *weight > 0);
    limits.io_weight = weight.map(|weight| weights::of_blkio_weight(u64::from(weight)));
    type Rate = fn(&mut IoLimit) -> &mut Option<u64>;
    let lists: [(&Option<Vec<oci::LinuxThrottleDevice>>, Rate); 4] = [
        (from.throttle_read_bps_device(), |io| &mut io.read_bytes),
        (from.throttle_write_bps_device(), |io| &mut io.write_bytes),
        (from.throttle_read_iops_device(), |io| &mut io.reads),
        (from.throttle_write_iops_device(), |io| &mut io.writes),
    ];
    for (list, rate) in lists {
        for limit in list.iter().flatten() {
            let number = |number: i64| {
                u32::try_from(number).map_err(|_| unsupported(BLOCK, "has a number below 0"))
            };
            let device =
                BlockDevice { major: number(limit.major())?, minor: number(limit.minor())? };
            let at = limits.io.iter().position(|io| io.device == device).unwrap_or_else(|| {
                limits.io.push(IoLimit::of(device));
                limits.io.len() - 1
            });
            // 0 is no limit to runc.
            *rate(&mut limits.io[at]) = Some(limit.rate()).filter(|rate| *rate > 0);
        }
    }
    limits.io.retain(|io| *io != IoLimit::of(io.device));
    Ok(())
}

/// Reads a file of cgroup v2, which counts before OCI's own word for the same.
fn read_file(file: &str, value: &str, limits: &mut Resources) -> Result<()> {
    let refused = |what: &str| -> BundleError {
        unsupported(format!("linux.resources.unified of `{file}`"), what.to_owned())
    };
    let number = || -> Result<u64> {
        match value.trim() {
            "max" => Ok(UNLIMITED),
            value => value.parse().map_err(|_| refused("is no number")),
        }
    };
    let weight = || -> Result<Option<u32>> {
        let weight = number()?;
        u32::try_from(weight).map(Some).map_err(|_| refused("is no weight"))
    };
    match file {
        CPU_WEIGHT => limits.cpu_weight = weight()?,
        IO_WEIGHT => limits.io_weight = weight()?,
        MEMORY_HIGH => limits.memory_high = Some(number()?),
        SWAP_MAX => limits.swap = Some(number()?),
        _ => {
            return Err(refused(
                "cannot be set: `cpu.weight`, `io.weight`, `memory.high` and `memory.swap.max` can",
            ));
        }
    }
    Ok(())
}
