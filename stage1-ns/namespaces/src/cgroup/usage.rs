//! What an app or the pod uses, as its cgroup counts it (`Documentation/admin-guide/cgroup-v2.rst`).
//! What the kernel does not count is absent, never nothing.

use pod_abi::AppName;
use pod_abi::stats::Usage;

use super::Cgroup;
use super::memory::kills;
use super::place::Place;

impl Cgroup {
    /// Counts what an app or, without one, the pod uses; `None` if the app has no leaf.
    pub(crate) fn usage(&self, app: Option<&AppName>) -> Option<Usage> {
        let directory = match app {
            Some(app) => self.leaf(app),
            None => self.whole().to_owned(),
        };
        let own = self.directories.contains(&directory);
        if !own && app.is_some() {
            return None;
        }
        let read = |file: &str| self.get(&format!("{directory}/{file}")).ok();
        let mut usage = usage(read);
        if app.is_none() && matches!(self.place, Place::Unit { .. }) {
            // What the unit does not limit may be limited beneath it.
            let pod = self.pod();
            let most = |file: &str| most(&self.get(&format!("{pod}/{file}")).ok()?);
            usage.memory_max = lower(usage.memory_max, most("memory.max"));
            usage.pids_max = lower(usage.pids_max, most("pids.max"));
        }
        Some(usage)
    }
}

fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// Reads what is counted, file by file.
fn usage(read: impl Fn(&str) -> Option<String>) -> Usage {
    let number = |file: &str| read(file)?.trim().parse().ok();
    let processors = read("cpu.stat");
    let of_processors = |word: &str| field(processors.as_deref()?, word);
    let disks = read("io.stat");
    let of_disks = |word: &str| Some(sum(disks.as_deref()?, word));
    Usage {
        cpu_us: of_processors("usage_usec"),
        throttled_us: of_processors("throttled_usec"),
        memory: number("memory.current"),
        memory_max: read("memory.max").as_deref().and_then(most),
        swap: number("memory.swap.current"),
        oom_kills: read("memory.events").as_deref().and_then(kills),
        pids: number("pids.current"),
        pids_max: read("pids.max").as_deref().and_then(most),
        read_bytes: of_disks("rbytes"),
        write_bytes: of_disks("wbytes"),
    }
}

/// Returns the number of a limit, if it is one.
fn most(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Returns the number behind a word, one a line.
fn field(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Returns the sum of what all disks have behind `WORD=`.
fn sum(text: &str, word: &str) -> u64 {
    let words = text.split_whitespace().filter_map(|pair| pair.split_once('='));
    let of_word = words.filter(|(name, _)| *name == word);
    of_word.filter_map(|(_, value)| value.parse::<u64>().ok()).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_counted_is_absent() {
        assert_eq!(usage(|_| None), Usage::default());
        let stat = |file: &str| (file == "cpu.stat").then(|| "usage_usec 7\nuser_usec 3\n".into());
        assert_eq!(usage(stat), Usage { cpu_us: Some(7), ..Usage::default() });
    }

    #[test]
    fn every_count_is_read_from_its_file() {
        let files = [
            ("cpu.stat", "usage_usec 1200\nnr_throttled 3\nthrottled_usec 45\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "0\n"),
            ("memory.events", "oom 9\noom_kill 2\n"),
            ("pids.current", "5\n"),
            ("pids.max", "20\n"),
            ("io.stat", "259:0 rbytes=10 wbytes=1 rios=1\n8:16 rbytes=5 wbytes=2 rios=1\n"),
        ];
        let read = |file: &str| {
            files.iter().find(|(name, _)| *name == file).map(|(_, text)| (*text).to_owned())
        };
        let expected = Usage {
            cpu_us: Some(1200),
            throttled_us: Some(45),
            memory: Some(4096),
            memory_max: None,
            swap: Some(0),
            oom_kills: Some(2),
            pids: Some(5),
            pids_max: Some(20),
            read_bytes: Some(15),
            write_bytes: Some(3),
        };
        assert_eq!(usage(read), expected);
    }

    #[test]
    fn a_disk_that_was_not_used_yet_counts_as_none() {
        let empty = |file: &str| (file == "io.stat").then(String::new);
        let expected = Usage { read_bytes: Some(0), write_bytes: Some(0), ..Usage::default() };
        assert_eq!(usage(empty), expected);
    }
}
