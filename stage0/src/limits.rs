//! Limits as people read them: a sentence for `pod status`.

use pod_abi::isolators::{CpuQuota, IoLimit, Resources, UNLIMITED};

use crate::ui;

/// Lists limits, docker's words first, then what one reads; nothing if there are none.
pub(crate) fn sentence(limits: &Resources) -> String {
    let Resources { memory, cpu, pids, memory_high, memory_low, swap, cpu_weight, .. } = limits;
    let bytes = |name: &str, bytes: &Option<u64>| bytes.map(|it| format!("{name} {}", size(it)));
    let number = |name: &str, number: Option<u64>| number.map(|it| format!("{name} {it}"));
    let list = |name: &str, list: &Option<String>| list.as_ref().map(|it| format!("{name} {it}"));
    let parts = [
        bytes("memory", memory),
        bytes("reservation", memory_low),
        bytes("high", memory_high),
        bytes("swap", swap),
        cpu.map(|cpu| format!("cpus {}", cpus(cpu))),
        number("cpu weight", cpu_weight.map(u64::from)),
        list("processors", &limits.cpuset_cpus),
        list("memory nodes", &limits.cpuset_mems),
        number("pids", *pids),
        number("io weight", limits.io_weight.map(u64::from)),
    ];
    let io = limits.io.iter().map(rates);
    parts.into_iter().flatten().chain(io).collect::<Vec<_>>().join(", ")
}

fn size(bytes: u64) -> String {
    if bytes == UNLIMITED { "unlimited".to_owned() } else { ui::size(bytes) }
}

/// Writes a quota as a number of processors, hundredths at most.
fn cpus(cpu: CpuQuota) -> String {
    let hundredths = cpu.quota_us.saturating_mul(100) / cpu.period_us.max(1);
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn rates(io: &IoLimit) -> String {
    let rate = |rate: Option<u64>, what: &str, bytes: bool| {
        let rate = rate?;
        Some(format!("{what} {}/s", if bytes { ui::size(rate) } else { rate.to_string() }))
    };
    let rates = [
        rate(io.read_bytes, "reads", true),
        rate(io.write_bytes, "writes", true),
        rate(io.reads, "reads", false),
        rate(io.writes, "writes", false),
    ];
    let rates: Vec<String> = rates.into_iter().flatten().collect();
    format!("device {}:{} {}", io.device.major, io.device.minor, rates.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_abi::isolators::BlockDevice;

    #[test]
    fn limits_are_a_sentence() {
        assert_eq!(sentence(&Resources::default()), "");
        let device = BlockDevice { major: 8, minor: 0 };
        let limits = Resources {
            memory: Some(512 << 20),
            swap: Some(UNLIMITED),
            cpu: Some(CpuQuota { quota_us: 150_000, period_us: 100_000 }),
            cpuset_cpus: Some("0-1".to_owned()),
            pids: Some(9),
            io: vec![IoLimit { read_bytes: Some(1 << 20), writes: Some(5), ..IoLimit::of(device) }],
            ..Resources::default()
        };
        assert_eq!(
            sentence(&limits),
            "memory 512.0 MiB, swap unlimited, cpus 1.5, processors 0-1, pids 9, device 8:0 reads 1.0 MiB/s writes 5/s"
        );
        let cpu = |quota_us| CpuQuota { quota_us, period_us: 100_000 };
        assert_eq!([cpu(200_000), cpu(1_000), cpu(33_333)].map(cpus), ["2", "0.01", "0.33"]);
    }
}
