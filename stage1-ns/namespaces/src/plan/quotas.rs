//! Limits as files of a cgroup (`Documentation/admin-guide/cgroup-v2.rst`): which controller has
//! which file, and what is written to it. Pure; nothing is written here.

use std::fmt;

use pod_abi::isolators::{BlockDevice, CpuQuota, IoLimit, Resources, UNLIMITED};
use pod_abi::manifest::OomPolicy;

/// One value of a file of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// The controller whose file it is.
    pub(crate) controller: &'static str,
    /// The file.
    pub(crate) file: &'static str,
    /// What is written.
    pub(crate) value: String,
    /// What it means that the kernel lacks the file.
    pub(crate) need: Need,
    /// The device it is about, if the file has a line for each.
    pub(crate) device: Option<BlockDevice>,
}

/// What it means that the kernel lacks a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The limit cannot be had.
    Must,
    /// There is nothing to be limited.
    May,
    /// This file takes its place, with this value.
    Or(&'static str, String),
}

/// What a limit without an end is called.
const MAX: &str = "max";

/// Weights of the BFQ scheduler end here, and not at 10 000.
const MAX_BFQ_WEIGHT: u32 = 1_000;

/// Returns what limits an app or a pod.
///
/// With a limit of memory there is no swap unless some is given: what may be used is what was said,
/// behind any wall, and not twice that, as with docker.
pub(crate) fn of(resources: &Resources) -> Vec<Quota> {
    let Resources {
        memory,
        cpu,
        pids,
        memory_high,
        memory_low,
        swap,
        cpu_weight,
        cpuset_cpus,
        cpuset_mems,
        io_weight,
        io,
    } = resources;
    let mut quotas = Vec::new();
    quotas.extend(memory.map(|bytes| must("memory", "memory.max", number(bytes))));
    quotas.extend(memory_high.map(|bytes| must("memory", "memory.high", number(bytes))));
    quotas.extend(memory_low.map(|bytes| must("memory", "memory.low", number(bytes))));
    match (swap, memory) {
        (Some(bytes), _) => quotas.push(must("memory", "memory.swap.max", number(*bytes))),
        (None, Some(bytes)) => {
            let swap = if *bytes == UNLIMITED { MAX } else { "0" };
            let quota = must("memory", "memory.swap.max", swap.to_owned());
            quotas.push(Quota { need: Need::May, ..quota });
        }
        (None, None) => {}
    }
    if let Some(CpuQuota { quota_us, period_us }) = cpu {
        quotas.push(must("cpu", "cpu.max", format!("{} {period_us}", number(*quota_us))));
    }
    quotas.extend(cpu_weight.map(|weight| must("cpu", "cpu.weight", weight.to_string())));
    quotas.extend(cpuset_mems.clone().map(|list| must("cpuset", "cpuset.mems", list)));
    quotas.extend(cpuset_cpus.clone().map(|list| must("cpuset", "cpuset.cpus", list)));
    quotas.extend(pids.map(|most| must("pids", "pids.max", number(most))));
    quotas.extend(io_weight.map(|weight| {
        let need = Need::Or("io.bfq.weight", weight.min(MAX_BFQ_WEIGHT).to_string());
        Quota { need, ..must("io", "io.weight", format!("default {weight}")) }
    }));
    quotas.extend(
        io.iter().map(|limit| Quota {
            device: Some(limit.device),
            ..must("io", "io.max", rates(limit))
        }),
    );
    quotas
}

/// Returns what makes the policy of a pod come true in the leaf of an app. A pod that is to stop
/// needs nothing but to be told, and it is told of by the same controller.
pub(crate) fn of_policy(policy: OomPolicy) -> Option<Quota> {
    let group = match policy {
        OomPolicy::Continue => return None,
        OomPolicy::Kill => "1",
        OomPolicy::Stop => "0",
    };
    Some(must("memory", "memory.oom.group", group.to_owned()))
}

/// Returns what lets the memory an app of the pod keeps be kept: the kernel gives it no more than
/// what stands above it.
pub(crate) fn passing_on<'r>(
    mut apps: impl Iterator<Item = &'r Resources>,
) -> impl Iterator<Item = Quota> {
    let wanted = apps.any(|app| app.memory_low.is_some());
    wanted.then(pass_on).into_iter()
}

/// Returns what passes on whatever is kept.
pub(crate) fn pass_on() -> Quota {
    must("memory", "memory.low", MAX.to_owned())
}

impl Quota {
    /// Returns what is written to undo it, where there was nothing before.
    pub(crate) fn nothing(&self) -> String {
        match self.device {
            Some(BlockDevice { major, minor }) => {
                format!("{major}:{minor} rbps=max wbps=max riops=max wiops=max")
            }
            None => MAX.to_owned(),
        }
    }

    /// Tells whether it is a share, which counts only against those beside it.
    pub(crate) fn is_share(&self) -> bool {
        matches!(self.file, "cpu.weight" | "io.weight" | "memory.low")
    }
}

fn must(controller: &'static str, file: &'static str, value: String) -> Quota {
    Quota { controller, file, value, need: Need::Must, device: None }
}

fn number(most: u64) -> String {
    if most == UNLIMITED { MAX.to_owned() } else { most.to_string() }
}

fn rates(limit: &IoLimit) -> String {
    let IoLimit { device: BlockDevice { major, minor }, .. } = limit;
    let mut line = format!("{major}:{minor}");
    let rates = [
        ("rbps", limit.read_bytes),
        ("wbps", limit.write_bytes),
        ("riops", limit.reads),
        ("wiops", limit.writes),
    ];
    for (word, rate) in rates {
        if let Some(rate) = rate {
            line.push_str(&format!(" {word}={}", number(rate)));
        }
    }
    line
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` to `{}`", self.value, self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(resources: &Resources) -> Vec<String> {
        of(resources)
            .iter()
            .map(|one| format!("{} {}={}", one.controller, one.file, one.value))
            .collect()
    }

    #[test]
    fn every_limit_is_a_file() {
        let io = IoLimit {
            device: BlockDevice { major: 259, minor: 0 },
            read_bytes: Some(1 << 20),
            write_bytes: None,
            reads: None,
            writes: Some(UNLIMITED),
        };
        let resources = Resources {
            memory: Some(64 << 20),
            cpu: Some(CpuQuota { quota_us: 150_000, period_us: 100_000 }),
            pids: Some(9),
            memory_high: Some(32 << 20),
            memory_low: Some(16 << 20),
            swap: Some(UNLIMITED),
            cpu_weight: Some(200),
            cpuset_cpus: Some("0-1".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            io_weight: Some(5_000),
            io: vec![io],
        };
        let expected = [
            "memory memory.max=67108864",
            "memory memory.high=33554432",
            "memory memory.low=16777216",
            "memory memory.swap.max=max",
            "cpu cpu.max=150000 100000",
            "cpu cpu.weight=200",
            "cpuset cpuset.mems=0",
            "cpuset cpuset.cpus=0-1",
            "pids pids.max=9",
            "io io.weight=default 5000",
            "io io.max=259:0 rbps=1048576 wiops=max",
        ];
        assert_eq!(lines(&resources), expected);
        let weight = of(&resources).into_iter().find(|one| one.file == "io.weight").unwrap();
        assert_eq!(weight.need, Need::Or("io.bfq.weight", "1000".to_owned()));
    }

    #[test]
    fn what_was_not_asked_for_is_not_written() {
        assert_eq!(of(&Resources::default()), []);
        let only = |resources| lines(&resources);
        let swap = Resources { swap: Some(0), ..Resources::default() };
        assert_eq!(only(swap), ["memory memory.swap.max=0"]);
        let memory = Resources { memory: Some(4096), ..Resources::default() };
        let both = of(&memory);
        assert_eq!(lines(&memory), ["memory memory.max=4096", "memory memory.swap.max=0"]);
        assert_eq!((&both[0].need, &both[1].need), (&Need::Must, &Need::May));
        let cpu = Some(CpuQuota { quota_us: UNLIMITED, period_us: 100_000 });
        let free = Resources { memory: Some(UNLIMITED), cpu, ..Resources::default() };
        let expected =
            ["memory memory.max=max", "memory memory.swap.max=max", "cpu cpu.max=max 100000"];
        assert_eq!(only(free), expected);
    }

    #[test]
    fn a_policy_needs_the_controller_that_tells() {
        assert_eq!(of_policy(OomPolicy::Continue), None);
        for (policy, group) in [(OomPolicy::Kill, "1"), (OomPolicy::Stop, "0")] {
            let quota = of_policy(policy).unwrap();
            assert_eq!((quota.controller, quota.value.as_str()), ("memory", group));
        }
    }

    #[test]
    fn what_an_app_keeps_its_pod_passes_on() {
        let (none, some) =
            (Resources::default(), Resources { memory_low: Some(1), ..Resources::default() });
        assert_eq!(passing_on([&none, &none].into_iter()).count(), 0);
        let passed: Vec<_> = passing_on([&none, &some].into_iter()).collect();
        assert_eq!(passed[0].to_string(), "`max` to `memory.low`");
    }
}
