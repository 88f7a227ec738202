//! The text of our table, and of what pods add to it. Pure.
//!
//! Who may do what, in the order of a packet's way:
//!
//! - `guard`: a pod speaks for itself alone. What claims to come from another address, or is for the
//!   host's loopback, is dropped before anybody remembers it. That makes it safe to let the kernel
//!   route loopback addresses to a pod's link, which a port at `127.0.0.1` needs.
//! - `publish`: ports, by look-ups. First those at one address of the host, then those at all. Not at
//!   `::1` unless asked for: a pod is then given a route for it (`plan`).
//! - `forward`: from outside only what was published; from restricted pods nothing.
//! - `postrouting`: who must appear under the host's address. A pod that calls itself through the
//!   host must, or it would answer itself directly; so must the host's loopback; so must whoever
//!   calls a restricted pod, which knows the way to its gateway only; and so must pods in the world.

use std::fmt::Write as _;
use std::net::IpAddr;

use pod_abi::network::{Protocol, Publication};

use crate::attachment::Network;
use crate::ledger::Entry;
use crate::subnet::Subnets;

/// The maps and sets that pods are elements of, and their types.
const PLACES: &str = "
\tmap host4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
\tmap host6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
\tmap any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
\tmap any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
\tset hairpin4 { type ipv4_addr . ipv4_addr; }
\tset hairpin6 { type ipv6_addr . ipv6_addr; }
";

/// The rules, which no pod changes.
const RULES: &str = "
\tchain guard {
\t\ttype filter hook prerouting priority raw; policy accept;
\t\tiifname != \"pod-*\" accept
\t\tip daddr 127.0.0.0/8 drop
\t\tip6 daddr ::1 drop
\t\tip6 saddr { ::, fe80::/10 } accept
\t\tfib saddr . iif oif missing drop
\t}
\tchain publish {
\t\tdnat ip to ip daddr . meta l4proto . th dport map @host4
\t\tdnat ip6 to ip6 daddr . meta l4proto . th dport map @host6
\t\tip6 daddr ::1 return
\t\tfib daddr type local dnat ip to meta l4proto . th dport map @any4
\t\tfib daddr type local dnat ip6 to meta l4proto . th dport map @any6
\t}
\tchain prerouting {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tjump publish
\t}
\tchain output {
\t\ttype nat hook output priority -100; policy accept;
\t\tjump publish
\t}
\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t\tct state established,related accept
\t\toifname \"pod-*\" ct status dnat accept
\t\tiifname \"pod-*\" ip saddr @restricted4 drop
\t\tiifname \"pod-*\" ip6 saddr @restricted6 drop
\t\toifname \"pod-*\" ip daddr @restricted4 drop
\t\toifname \"pod-*\" ip6 daddr @restricted6 drop
\t\toifname \"pod-*\" iifname != \"pod-*\" drop
\t}
\tchain postrouting {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\toifname \"pod-*\" ct status dnat jump published
\t\toifname \"pod-*\" accept
\t\tip saddr @open4 masquerade
\t\tip6 saddr @open6 masquerade
\t}
\tchain published {
\t\tip saddr . ip daddr @hairpin4 masquerade
\t\tip6 saddr . ip6 daddr @hairpin6 masquerade
\t\tip saddr 127.0.0.0/8 masquerade
\t\tip6 saddr ::1 masquerade
\t\tip daddr @restricted4 masquerade
\t\tip6 daddr @restricted6 masquerade
\t}
";

/// The part that depends on the subnets alone.
fn body(subnets: &Subnets) -> String {
    let (open, restricted) = (subnets.of(Network::Default), subnets.of(Network::DefaultRestricted));
    let set = |name: &str, family: &str, element: String| {
        format!("\tset {name} {{ type {family}; flags interval; elements = {{ {element} }}; }}\n")
    };
    let sets = [
        set("open4", "ipv4_addr", open.v4.to_string()),
        set("open6", "ipv6_addr", open.v6.to_string()),
        set("restricted4", "ipv4_addr", restricted.v4.to_string()),
        set("restricted6", "ipv6_addr", restricted.v6.to_string()),
    ];
    format!("{}{PLACES}{RULES}", sets.concat())
}

/// The name of the set that says which rules these are.
pub(super) fn mark(subnets: &Subnets) -> String {
    // FNV-1a: the mark tells versions apart, it keeps nobody out.
    let digest = body(subnets).bytes().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("mark_{digest:016x}")
}

/// Writes the table anew, whatever was in its place.
pub(super) fn whole<'e>(
    table: &str,
    subnets: &Subnets,
    entries: impl IntoIterator<Item = &'e Entry>,
) -> String {
    let mark = mark(subnets);
    let body = body(subnets);
    let mut script = format!(
        "add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n\
         \tset {mark} {{ type ipv4_addr; }}\n{body}}}\n"
    );
    for entry in entries {
        script += &elements("add", table, entry);
    }
    script
}

/// Adds or deletes what an entry publishes; nothing if it publishes nothing.
pub(super) fn elements(verb: &str, table: &str, entry: &Entry) -> String {
    let mut places: [(&str, String); 4] = [
        ("host4", String::new()),
        ("host6", String::new()),
        ("any4", String::new()),
        ("any6", String::new()),
    ];
    for publication in &entry.ports {
        for (at, key) in keys(publication) {
            let target = if at % 2 == 0 { IpAddr::V4(entry.v4) } else { IpAddr::V6(entry.v6) };
            for (host_port, pod_port) in publication.pairs() {
                let protocol = number(publication.protocol);
                let text = &mut places[at].1;
                // Writing to a string cannot fail.
                let _ = write!(text, "{key}{protocol} . {host_port} : {target} . {pod_port}, ");
            }
        }
    }
    let mut script = String::new();
    for (place, elements) in places.iter().filter(|(_, elements)| !elements.is_empty()) {
        let _ = writeln!(script, "{verb} element inet {table} {place} {{ {elements}}}");
    }
    if !script.is_empty() {
        let (v4, v6) = (entry.v4, entry.v6);
        let _ = writeln!(script, "{verb} element inet {table} hairpin4 {{ {v4} . {v4} }}");
        let _ = writeln!(script, "{verb} element inet {table} hairpin6 {{ {v6} . {v6} }}");
    }
    script
}

/// The places a publication goes to, even ones for IPv4, and what its keys there begin with.
fn keys(publication: &Publication) -> Vec<(usize, String)> {
    match publication.host_address {
        None => vec![(2, String::new()), (3, String::new())],
        Some(address) if address.is_unspecified() => {
            vec![(2 + usize::from(address.is_ipv6()), String::new())]
        }
        Some(address) => vec![(usize::from(address.is_ipv6()), format!("{address} . "))],
    }
}

/// The number, for names are looked up in `/etc/protocols`, which hosts need not have.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

#[cfg(test)]
mod tests {
    use pod_abi::PodId;

    use super::*;
    use crate::attachment::Owner;

    fn entry(ports: Vec<Publication>) -> Entry {
        let pod = PodId::parse("00000001-0000-4000-8000-000000000000").unwrap();
        Entry {
            owner: Owner { pod, interface: "eth0".to_owned() },
            network: Network::Default,
            v4: [10, 187, 0, 2].into(),
            v6: "fd00::2".parse().unwrap(),
            ports,
        }
    }

    fn port(host_address: Option<&str>, protocol: Protocol) -> Publication {
        let host_address = host_address.map(|address| address.parse().unwrap());
        Publication { host_address, host_port: 8080, pod_port: 80, count: 2, protocol }
    }

    #[test]
    fn a_port_at_every_address_is_looked_up_in_both_families() {
        let script = elements("add", "pod", &entry(vec![port(None, Protocol::Udp)]));
        assert_eq!(
            script,
            "add element inet pod any4 { 17 . 8080 : 10.187.0.2 . 80, 17 . 8081 : 10.187.0.2 . 81, }\n\
             add element inet pod any6 { 17 . 8080 : fd00::2 . 80, 17 . 8081 : fd00::2 . 81, }\n\
             add element inet pod hairpin4 { 10.187.0.2 . 10.187.0.2 }\n\
             add element inet pod hairpin6 { fd00::2 . fd00::2 }\n"
        );
        assert_eq!(
            script.replace("add ", "delete "),
            elements("delete", "pod", &entry(vec![port(None, Protocol::Udp)]))
        );
    }

    #[test]
    fn a_port_at_one_address_is_looked_up_by_it() {
        for (address, place, key) in [
            ("127.0.0.1", "host4", "127.0.0.1 . 6 . 8080 : 10.187.0.2 . 80,"),
            ("::1", "host6", "::1 . 6 . 8080 : fd00::2 . 80,"),
            ("0.0.0.0", "any4", " 6 . 8080 : 10.187.0.2 . 80,"),
            ("::", "any6", " 6 . 8080 : fd00::2 . 80,"),
        ] {
            let script = elements("add", "pod", &entry(vec![port(Some(address), Protocol::Tcp)]));
            let first = script.lines().next().unwrap();
            assert!(first.contains(&format!(" {place} ")) && first.contains(key), "{script}");
        }
    }

    #[test]
    fn who_publishes_nothing_costs_nothing() {
        assert_eq!(elements("add", "pod", &entry(Vec::new())), "");
    }

    #[test]
    fn other_subnets_are_other_rules() {
        let subnets = Subnets::choose(&[], [0; 5]).unwrap();
        let others = Subnets::choose(&[], [1; 5]).unwrap();
        assert_ne!(mark(&subnets), mark(&others));
        assert!(whole("pod", &subnets, []).contains(&mark(&subnets)));
    }
}
