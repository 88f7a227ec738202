//! What pods are told of the host: its resolvers, and its time.

use std::fs;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use pod_abi::manifest::{Dns, HostEntry, Network, PodManifest};
use pod_abi::status::PodStatus;
use pod_abi::{PodName, Timestamp};

/// The longest file of the host handed on, in bytes; resolvers read far less.
const MAX_FILE: u64 = 1 << 16;

/// Returns the time.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Reads a text file, at most 64 KiB of it; empty if it cannot be read.
pub(crate) fn text(path: &str) -> String {
    let mut bytes = Vec::with_capacity(4096); // room for nearly every file, so that one read takes it
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(MAX_FILE).read_to_end(&mut bytes); // what was read counts
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Returns what tells this boot of the host from all others.
pub(crate) fn boot_id() -> String {
    text("/proc/sys/kernel/random/boot_id").trim().to_owned()
}

/// Tells whether the host has been booted since the run of a pod that `status` is about, and that run
/// ended with it: as the host stopped, or without anybody left to record how.
pub(crate) fn restarted_since(status: &PodStatus) -> bool {
    (status.host_stopped || status.ended.is_none()) && status.boot_id != boot_id()
}

/// Returns to whom ids of this host are promised: `/etc/subuid` and `/etc/subgid` together.
pub(crate) fn subordinate() -> String {
    text("/etc/subuid") + "\n" + &text("/etc/subgid")
}

/// Returns `/etc/hosts` for the apps of a pod.
pub(crate) fn hosts(manifest: &PodManifest) -> String {
    let name: &PodName = manifest.sandbox.hostname.as_ref().unwrap_or(&manifest.name);
    let mut text = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {name}\n"
    );
    for HostEntry { address, name } in &manifest.sandbox.hosts {
        text.push_str(&format!("{address} {name}\n"));
    }
    text
}

/// Returns `/etc/resolv.conf` for the apps of a pod: what it has said, and otherwise the host's. Where
/// that leads to systemd-resolved on a loopback which is not the pod's, whom that asks is asked.
pub(crate) fn resolv_conf(manifest: &PodManifest) -> String {
    let mut host = text("/etc/resolv.conf");
    if manifest.sandbox.network != Network::Host && asks_resolved_alone(&host) {
        let behind = text("/run/systemd/resolve/resolv.conf");
        host = if behind.is_empty() { host } else { behind };
    }
    with_host(manifest.sandbox.dns.as_ref(), &host)
}

/// Tells whether systemd-resolved at its own addresses is all that is asked
/// (systemd-resolved.service(8), "/etc/resolv.conf").
fn asks_resolved_alone(text: &str) -> bool {
    let servers = lines_of(text, &["nameserver"]);
    let mut servers = servers.lines().filter_map(|line| line.split_ascii_whitespace().nth(1));
    let is_stub = |server: &str| ["127.0.0.53", "127.0.0.54"].contains(&server);
    servers.next().is_some_and(is_stub) && servers.all(is_stub)
}

/// Puts a pod's `resolv.conf(5)` and `host`'s together: that byte for byte, if the pod has none
/// of its own; empty if it has one that says nothing. What the pod's does not name is the host's:
/// its servers, or its domains and options, as the keywords of `resolv.conf(5)`.
fn with_host(dns: Option<&Dns>, host: &str) -> String {
    let Some(dns) = dns else { return host.to_owned() };
    if *dns == Dns::default() {
        return String::new();
    }
    let mut text = String::new();
    if dns.servers.is_empty() {
        text.push_str(&lines_of(host, &["nameserver"]));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    match &dns.search[..] {
        [] => text.push_str(&lines_of(host, &["search", "domain"])),
        search => text.push_str(&format!("search {}\n", search.join(" "))),
    }
    match &dns.options[..] {
        [] => text.push_str(&lines_of(host, &["options"])),
        options => text.push_str(&format!("options {}\n", options.join(" "))),
    }
    text
}

/// Picks the lines that begin with one of these keywords.
fn lines_of(text: &str, keywords: &[&str]) -> String {
    let begins = |line: &&str| {
        line.split_ascii_whitespace().next().is_some_and(|word| keywords.contains(&word))
    };
    text.lines().filter(begins).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# of the host\nnameserver 9.9.9.9\ndomain home\noptions edns0\n";

    fn dns(servers: &[&str], search: &[&str], options: &[&str]) -> Dns {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let servers = servers.iter().map(|word| word.parse().unwrap()).collect();
        Dns { servers, search: owned(search), options: owned(options) }
    }

    #[test]
    fn resolved_is_told_from_servers_a_pod_can_reach() {
        assert!(asks_resolved_alone("# stub\nnameserver 127.0.0.53\noptions edns0\n"));
        for other in ["", "nameserver 127.0.0.53\nnameserver 9.9.9.9\n", HOST] {
            assert!(!asks_resolved_alone(other), "{other}");
        }
    }

    #[test]
    fn resolvers_are_the_hosts_the_pods_or_both() {
        let table = [
            (None, HOST),
            (Some(Dns::default()), ""),
            (
                Some(dns(&["1.1.1.1", "::1"], &[], &[])),
                "nameserver 1.1.1.1\nnameserver ::1\ndomain home\noptions edns0\n",
            ),
            (
                Some(dns(&[], &["a.b", "c"], &["ndots:2"])),
                "nameserver 9.9.9.9\nsearch a.b c\noptions ndots:2\n",
            ),
        ];
        for (dns, expected) in table {
            assert_eq!(with_host(dns.as_ref(), HOST), expected, "{dns:?}");
        }
    }
}
