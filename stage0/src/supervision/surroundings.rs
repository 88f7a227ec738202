//! What service manager this process lives under: read off its environment, its cgroup and its standard
//! output, never asked for over a bus.
//!
//! Sources: `systemd.exec(5)` (`SYSTEMD_EXEC_PID`, `JOURNAL_STREAM`), `sd_watchdog_enabled(3)`.

use std::env;
use std::io::stdout;
use std::process;

use pod_abi::stage::Service;
use rustix::fs::fstat;

use crate::host;

/// Returns the unit this process is the main process of, if it is one's.
///
/// A child of a unit's main process inherits its environment, but not its process id.
pub(crate) fn service() -> Option<Service> {
    let mine = process::id();
    if number(&env::var("SYSTEMD_EXEC_PID").ok()?)? != u64::from(mine) {
        return None;
    }
    let unit = unit()?;
    let watchdog_us = watchdog(
        env::var("WATCHDOG_USEC").ok().as_deref(),
        env::var("WATCHDOG_PID").ok().as_deref(),
        mine,
    );
    Some(Service { unit, watchdog_us })
}

/// Returns the service this process belongs to, as its main process or as any other.
pub(super) fn unit() -> Option<String> {
    unit_of(&host::text("/proc/self/cgroup")).map(str::to_owned)
}

/// Tells whether standard output goes to the journal already.
pub(crate) fn shows_in_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    fstat(stdout()).is_ok_and(|stat| is_stream(&stream, stat.st_dev, stat.st_ino))
}

fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    let numbers = stream.split_once(':').map(|(device, inode)| (number(device), number(inode)));
    numbers == Some((Some(device), Some(inode)))
}

/// What names of services end with.
const SUFFIX: &str = ".service";

/// Returns the service that a process with this `/proc/PID/cgroup` belongs to: the innermost
/// directory that is called like one.
fn unit_of(cgroups: &str) -> Option<&str> {
    // A host of both hierarchies has units in both, but not if another systemd made the older one.
    let unified = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    let named = cgroups.lines().find_map(|line| line.split_once(":name=systemd:"));
    unified.and_then(innermost).or_else(|| named.and_then(|(_, path)| innermost(path)))
}

fn innermost(path: &str) -> Option<&str> {
    let is_service = |part: &&str| part.len() > SUFFIX.len() && part.ends_with(SUFFIX);
    path.split('/').rev().find(is_service)
}

fn watchdog(interval: Option<&str>, whose: Option<&str>, mine: u32) -> Option<u64> {
    let is_mine = whose.is_none_or(|pid| number(pid) == Some(u64::from(mine)));
    interval.filter(|_| is_mine).and_then(number).filter(|interval| *interval > 0)
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_innermost_service_of_our_cgroup() {
        let table = [
            ("0::/system.slice/web.service\n", Some("web.service")),
            ("0::/system.slice/web.service/supervisor\n", Some("web.service")),
            (
                "0::/user.slice/user-0.slice/user@0.service/app.slice/x@1.service\n",
                Some("x@1.service"),
            ),
            ("0::/user.slice/user-0.slice/session-1.scope\n", None),
            ("0::/\n", None),
            ("1:name=systemd:/system.slice/a.service\n0::/\n", Some("a.service")),
            ("1:name=systemd:/\n0::/system.slice/a.service\n", Some("a.service")),
            ("0::/system.slice/.service\n", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(unit_of(text), expected, "{text}");
        }
    }

    #[test]
    fn the_watchdog_is_ours_only_if_it_is_said_so() {
        assert_eq!(watchdog(Some("3000"), Some("7"), 7), Some(3000));
        assert_eq!(watchdog(Some("3000"), None, 7), Some(3000));
        for (interval, whose) in
            [(Some("3000"), Some("8")), (Some("0"), None), (Some("x"), None), (None, Some("7"))]
        {
            assert_eq!(watchdog(interval, whose, 7), None, "{interval:?} {whose:?}");
        }
    }

    #[test]
    fn the_journal_is_known_by_the_stream_it_made() {
        assert!(is_stream("8:1234", 8, 1234));
        assert!(!is_stream("8:1234", 8, 1235));
        assert!(!is_stream("8", 8, 8));
    }
}
