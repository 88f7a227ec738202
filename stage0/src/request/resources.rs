//! The most that apps may use, as typed: docker's words, in the kernel's measures.
//!
//! What is typed about swap is a total, so its meaning depends on the memory beside it, which an
//! update may leave as it is: a line becomes a [`ResourceRequest`], and that becomes limits only
//! [beside](ResourceRequest::beside) those in force.

use std::path::Path;

use pod_abi::isolators::{BlockDevice, CpuQuota, IoLimit, Resources, UNLIMITED};

use super::words::{contradiction, number, size};
use crate::caller::Caller;
use crate::error::{CommandError, Result};
use crate::flags::ResourceWords;
use crate::weights;

/// The period of a quota, in microseconds: the kernel's own default, and docker's.
const PERIOD_US: u64 = 100_000;

/// What a line says of limits.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResourceRequest {
    words: ResourceWords,
    /// All but swap.
    limits: Resources,
    /// Bytes of memory and swap together.
    total: Option<u64>,
}

/// Reads the limits of an app, or of a pod.
///
/// # Errors
///
/// A usage error that names the word, or the two that contradict each other.
pub(crate) fn read_resources(
    words: &ResourceWords,
    caller: &Caller<'_>,
) -> Result<ResourceRequest> {
    let bytes = |name| read(words, name, limit_of(size), "it takes bytes, such as `512m`");
    let share = |name, range: std::ops::RangeInclusive<u64>| {
        let rule = format!("it takes {} to {}", range.start(), range.end());
        read(words, name, |word| number(word).filter(|share| range.contains(share)), &rule)
    };
    let list = |name, what: &str| {
        let rule = format!("it takes a list of {what}, such as `0-3,5`");
        let text = words.one(name).map(str::to_owned);
        let sound = Resources { cpuset_cpus: text.clone(), ..Resources::default() }.is_sound();
        if sound { Ok(text) } else { Err(refused(words, name, &text.unwrap_or_default(), &rule)) }
    };
    let cpu = read(words, "cpus", limit_of(quota), "it takes 0.01 or more, such as `1.5`")?;
    let cpu_weight = of_two(words, ["cpu-weight", "cpu-shares"], [1..=10_000, 2..=262_144], share)?;
    let io_weight = of_two(words, ["io-weight", "blkio-weight"], [1..=10_000, 10..=1_000], share)?;
    let limits = Resources {
        memory: bytes("memory")?,
        memory_low: bytes("memory-reservation")?,
        memory_high: bytes("memory-high")?,
        swap: None,
        cpu: cpu.map(|quota_us| CpuQuota { quota_us, period_us: PERIOD_US }),
        pids: read(
            words,
            "pids-limit",
            limit_of(|word| number(word).filter(|count| *count > 0)),
            "it takes a number of processes, 1 or more",
        )?,
        cpu_weight: cpu_weight.map(|(weight, shares)| match shares {
            false => u32::try_from(weight).unwrap_or(10_000),
            true => weights::of_cpu_shares(weight),
        }),
        cpuset_cpus: list("cpuset-cpus", "processors")?,
        cpuset_mems: list("cpuset-mems", "memory nodes")?,
        io_weight: io_weight.map(|(weight, blkio)| match blkio {
            false => u32::try_from(weight).unwrap_or(10_000),
            true => weights::of_blkio_weight(weight),
        }),
        io: read_rates(words, caller)?,
    };
    let total = bytes("memory-swap")?;
    let request = ResourceRequest { words: words.clone(), limits, total };
    request.check_line()?;
    Ok(request)
}

impl ResourceRequest {
    /// Tells whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.given().is_none()
    }

    /// Returns the limits a line names, given those in force.
    ///
    /// # Errors
    ///
    /// A usage error for swap without memory, or less of both than of memory; and for what
    /// contradicts the limits in force.
    pub(crate) fn beside(&self, in_force: &Resources) -> Result<Resources> {
        let mut limits = self.limits.clone();
        if let Some(total) = self.total {
            limits.swap = Some(self.swap(total, limits.memory.or(in_force.memory))?);
        }
        if let Some((one, other)) = in_force.clone().overridden_by(&limits).contradiction() {
            let flag = |field| self.words.flag(flag_of(field));
            let message = format!("`{}` would be above `{}`", flag(other), flag(one));
            return Err(CommandError::usage(message).hint("give both, the one no larger"));
        }
        Ok(limits)
    }

    fn swap(&self, total: u64, memory: Option<u64>) -> Result<u64> {
        let flag = |name| self.words.flag(name);
        let typed = self.words.one("memory-swap").unwrap_or_default();
        let memory = memory.filter(|memory| *memory != UNLIMITED);
        match (total, memory) {
            (UNLIMITED, _) => Ok(UNLIMITED),
            (_, None) => Err(CommandError::usage(format!(
                "`{} {typed}` is a total of memory and swap, and memory has no limit",
                flag("memory-swap")
            ))
            .hint(format!("`{}` limits it", flag("memory")))),
            (total, Some(memory)) => total.checked_sub(memory).ok_or_else(|| {
                CommandError::usage(format!(
                    "`{} {typed}` is a total of memory and swap, and less than the memory",
                    flag("memory-swap")
                ))
                .hint("the same as the memory is no swap, `-1` all there is")
            }),
        }
    }

    /// Refuses two words of this line of which one makes the other impossible.
    fn check_line(&self) -> Result<()> {
        let Some((one, other)) = self.limits.contradiction() else { return Ok(()) };
        let typed = |field| {
            let name = flag_of(field);
            format!("{} {}", self.words.flag(name), self.words.one(name).unwrap_or_default())
        };
        Err(contradiction(&typed(one), &typed(other))
            .hint(format!("the second may be no larger than the first: `{}`", typed(one))))
    }
}

/// Returns the name of the flag that sets a field of [`Resources`].
fn flag_of(field: &str) -> &'static str {
    match field {
        "memoryLow" => "memory-reservation",
        "memoryHigh" => "memory-high",
        _ => "memory",
    }
}

fn refused(words: &ResourceWords, name: &str, word: &str, rule: &str) -> CommandError {
    CommandError::usage(format!("`{word}` is no value of `{}`: {rule}", words.flag(name)))
}

/// Reads the value of a flag, if it is given.
fn read(
    words: &ResourceWords,
    name: &str,
    parse: impl Fn(&str) -> Option<u64>,
    rule: &str,
) -> Result<Option<u64>> {
    let read = |word: &str| parse(word).ok_or_else(|| refused(words, name, word, rule));
    words.one(name).map(read).transpose()
}

/// Takes the words for no limit beside what `parse` takes.
fn limit_of(parse: impl Fn(&str) -> Option<u64>) -> impl Fn(&str) -> Option<u64> {
    move |word| match word {
        "-1" | "unlimited" => Some(UNLIMITED),
        _ => parse(word).filter(|limit| *limit != UNLIMITED),
    }
}

/// Reads one of two flags that say the same in different measures; `true` if it is the second.
fn of_two(
    words: &ResourceWords,
    names: [&'static str; 2],
    ranges: [std::ops::RangeInclusive<u64>; 2],
    read: impl Fn(&'static str, std::ops::RangeInclusive<u64>) -> Result<Option<u64>>,
) -> Result<Option<(u64, bool)>> {
    let [ours, theirs] = names;
    let [range, range_of_theirs] = ranges;
    match (read(ours, range)?, read(theirs, range_of_theirs)?) {
        (Some(_), Some(_)) => Err(contradiction(&words.flag(ours), &words.flag(theirs))),
        (ours, theirs) => {
            Ok(ours.map(|share| (share, false)).or(theirs.map(|share| (share, true))))
        }
    }
}

/// Reads a decimal number of processors as microseconds of a period; what is finer does not count.
fn quota(word: &str) -> Option<u64> {
    let (whole, fraction) = word.split_once('.').unwrap_or((word, "0"));
    let whole = if whole.is_empty() { Some(0) } else { number(whole) };
    let fraction = fraction.get(..5).unwrap_or(fraction);
    let parts = number(&format!("{fraction:0<5}")); // hundred-thousandths: microseconds of a period
    let plain = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    whole
        .and_then(|whole| whole.checked_mul(PERIOD_US)?.checked_add(parts?))
        .filter(|quota| plain && *quota >= 1_000)
}

/// How one rate of a device is read.
type Parse = fn(&str) -> Option<u64>;

/// What it is written into.
type Rate = fn(&mut IoLimit) -> &mut Option<u64>;

/// Reads `DEVICE:RATE` words; of several for one rate of one device the last counts.
fn read_rates(words: &ResourceWords, caller: &Caller<'_>) -> Result<Vec<IoLimit>> {
    let count = |word: &str| number(word).filter(|count| *count > 0);
    let rates: [(&str, Parse, &str, Rate); 4] = [
        ("device-read-bps", size, "/dev/sda:1m", |io| &mut io.read_bytes),
        ("device-write-bps", size, "/dev/sda:1m", |io| &mut io.write_bytes),
        ("device-read-iops", count, "/dev/sda:100", |io| &mut io.reads),
        ("device-write-iops", count, "/dev/sda:100", |io| &mut io.writes),
    ];
    let mut limits: Vec<IoLimit> = Vec::new();
    for (name, parse, example, rate) in rates {
        for word in words.all(name) {
            let rule = format!("it takes a block device and a rate a second, such as `{example}`");
            let refused = || refused(words, name, word, &rule);
            let (path, most) = word.rsplit_once(':').ok_or_else(refused)?;
            let most = limit_of(parse)(most).ok_or_else(refused)?;
            if !path.starts_with('/') || path.contains('\0') {
                return Err(refused());
            }
            let device = (caller.disk)(Path::new(path))?;
            *rate(limit_of_device(&mut limits, device)) = Some(most);
        }
    }
    Ok(limits)
}

fn limit_of_device(limits: &mut Vec<IoLimit>, device: BlockDevice) -> &mut IoLimit {
    let at = limits.iter().position(|limit| limit.device == device).unwrap_or_else(|| {
        limits.push(IoLimit::of(device));
        limits.len() - 1
    });
    &mut limits[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_become_a_quota() {
        let table = [
            ("1.5", Some(150_000)),
            ("2", Some(200_000)),
            (".25", Some(25_000)),
            ("0.01", Some(1_000)),
            ("1.000009", Some(100_000)),
            ("0.001", None),
            ("0", None),
            ("", None),
            (".", None),
            ("-2", None),
            ("1.-5", None),
            ("1e3", None),
            ("1.5.5", None),
            ("99999999999999999999", None),
        ];
        for (word, expected) in table {
            assert_eq!(quota(word), expected, "{word}");
        }
    }
}
