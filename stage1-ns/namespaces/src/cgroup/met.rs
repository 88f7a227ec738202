//! Whether a file of a cgroup already says what was asked for, or more strictly. Pure.

use std::collections::BTreeSet;

use crate::plan::Quota;

/// The kernel rounds sizes down to whole pages, the largest of which are this large, in bytes.
const PAGE: u128 = 64 << 10;

/// Tells whether a file with this text limits no less than a quota asks.
pub(super) fn is_met(quota: &Quota, text: &str) -> bool {
    let text = text.trim();
    match quota.file {
        "cpu.max" if quota.value.starts_with("max") => true,
        "cpu.max" => match (share(text), share(&quota.value)) {
            // In fractions: one period need not be the other.
            (Some((quota, period)), Some((most, of))) => quota * of <= most * period,
            _ => false,
        },
        "cpuset.cpus" | "cpuset.mems" => match (members(text), members(&quota.value)) {
            (Some(there), Some(asked)) => !there.is_empty() && there.is_subset(&asked),
            _ => false,
        },
        "io.max" => {
            let device = quota.value.split(' ').next();
            let line = text.lines().find(|line| line.split(' ').next() == device);
            let there = |word: &str| rate(line?, word);
            ["rbps", "wbps", "riops", "wiops"].iter().all(|word| match rate(&quota.value, word) {
                Some(asked) => there(word).is_some_and(|there| there <= asked),
                None => true,
            })
        }
        "memory.low" => number(text) + PAGE > number(&quota.value),
        "io.weight" => text.lines().any(|line| line == quota.value),
        "cpu.weight" => text == quota.value,
        _ => number(text) <= number(&quota.value),
    }
}

/// Returns a size or count; what is no number is without an end.
fn number(text: &str) -> u128 {
    text.parse().unwrap_or(u128::from(u64::MAX))
}

/// Returns the numbers of `cpu.max`, if there is a quota.
fn share(text: &str) -> Option<(u128, u128)> {
    let (quota, period) = text.split_once(' ')?;
    Some((quota.parse().ok()?, period.parse().ok()?))
}

/// Returns the rate behind a word of a line of `io.max`.
fn rate(line: &str, word: &str) -> Option<u128> {
    let mut words = line.split(' ').filter_map(|pair| pair.split_once('='));
    words.find(|(name, _)| *name == word).map(|(_, rate)| number(rate))
}

/// Returns the members of a list such as `0-3,5` (`cpuset(7)`).
pub(super) fn members(list: &str) -> Option<BTreeSet<u16>> {
    let mut members = BTreeSet::new();
    for range in list.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        members.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::quotas;
    use pod_abi::isolators::{BlockDevice, CpuQuota, IoLimit, Resources};

    fn quota(file: &str, resources: &Resources) -> Quota {
        quotas::of(resources).into_iter().find(|quota| quota.file == file).unwrap()
    }

    #[test]
    fn what_the_unit_says_is_compared_by_its_meaning() {
        let resources = Resources {
            memory: Some(100 << 20),
            memory_low: Some((10 << 20) + 1),
            cpu: Some(CpuQuota { quota_us: 150_000, period_us: 100_000 }),
            cpu_weight: Some(200),
            cpuset_cpus: Some("0-2".to_owned()),
            pids: Some(9),
            io_weight: Some(50),
            io: vec![IoLimit {
                device: BlockDevice { major: 8, minor: 0 },
                read_bytes: Some(1000),
                write_bytes: None,
                reads: None,
                writes: Some(7),
            }],
            ..Resources::default()
        };
        let table = [
            ("memory.max", "104857600", true),
            ("memory.max", "4096", true),
            ("memory.max", "104861696", false),
            ("memory.max", "max", false),
            ("memory.low", "10485760", true),
            ("memory.low", "0", false),
            ("memory.low", "max", true),
            ("cpu.max", "150000 100000", true),
            ("cpu.max", "15000 10000", true),
            ("cpu.max", "200000 100000", false),
            ("cpu.max", "max 100000", false),
            ("cpu.weight", "200", true),
            ("cpu.weight", "100", false),
            ("cpuset.cpus", "0-2", true),
            ("cpuset.cpus", "1", true),
            ("cpuset.cpus", "", false),
            ("cpuset.cpus", "0-3", false),
            ("pids.max", "9", true),
            ("pids.max", "max", false),
            ("io.weight", "default 50", true),
            ("io.weight", "default 100\n8:0 50", false),
            ("io.max", "8:16 rbps=1\n8:0 rbps=1000 wbps=max riops=max wiops=7", true),
            ("io.max", "8:0 rbps=1001 wbps=max riops=max wiops=7", false),
            ("io.max", "8:0 rbps=10 wbps=max riops=max wiops=max", false),
            ("io.max", "", false),
        ];
        for (file, text, met) in table {
            let text = format!("{text}\n");
            assert_eq!(is_met(&quota(file, &resources), &text), met, "{file}: {text}");
        }
    }

    #[test]
    fn lists_have_members() {
        let of = |list| members(list).map(|members| members.into_iter().collect::<Vec<_>>());
        assert_eq!(of("0-2,7\n"), Some(vec![0, 1, 2, 7]));
        assert_eq!(of("\n"), Some(Vec::new()));
        assert_eq!(of("x"), None);
        assert_eq!(of("0-70000"), None);
    }
}
