//! Networks of a pod: what is asked for, and what came of it.
//!
//! A network is a configuration of CNI that somebody gave a name, or one of those `pod` has itself,
//! `default` and `default-restricted`. A pod that joins several has an interface in each.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::fields::is_default;
use crate::report::Report;
use crate::word::word;

/// The most networks a pod may join: a machine has as many interfaces.
pub const MAX_NETWORKS: usize = 8;
/// The most ports a pod may publish. Each is an element of a map, in the kernel and on disk; whoever
/// needs more wants the host's network.
pub const MAX_PORTS: usize = 4096;
/// The longest name of a network.
const MAX_NAME: usize = 128;

/// Why a word is no name of a network, or no hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no {what}")]
pub struct NetworkWordError {
    what: &'static str,
    word: String,
}

word! {
    /// The name of a network (CNI `SPEC.md`, "Network configuration format"): letters, digits, `_`,
    /// `.` and `-`, beginning with a letter or digit.
    NetworkName, "name of a network", is_network_name, NetworkWordError
}
word! {
    /// A hardware address of one interface, `02:00:5e:10:00:01`; in small letters.
    HardwareAddress, "hardware address such as `02:00:5e:10:00:01`", is_hardware_address, NetworkWordError
}

fn is_network_name(word: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    word.len() <= MAX_NAME
        && word.starts_with(|first: char| first.is_ascii_alphanumeric())
        && word.bytes().all(inner)
}

fn is_hardware_address(word: &str) -> bool {
    let parts: Vec<&str> = word.split(':').collect();
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_pair = |part: &&str| part.len() == 2 && part.bytes().all(digit);
    // One that begins with an odd number is that of a group.
    let is_of_one = |first: &str| u8::from_str_radix(first, 16).is_ok_and(|byte| byte & 1 == 0);
    parts.len() == 6
        && parts.iter().all(is_pair)
        && is_of_one(parts[0])
        && word != "00:00:00:00:00:00"
}

/// A network that a pod is to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachment {
    /// Which.
    pub network: NetworkName,
    /// What is said to its plugins (`CNI_ARGS`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub args: BTreeMap<String, String>,
    /// The addresses the pod is to have there, at most one of each family; any if not said.
    #[serde(default, skip_serializing_if = "is_default")]
    pub addresses: Vec<IpAddr>,
    /// The hardware address the pod is to have there; any if not said.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mac: Option<HardwareAddress>,
}

impl Attachment {
    /// Asks for a network and nothing in particular.
    #[must_use]
    pub fn to(network: NetworkName) -> Self {
        Self { network, args: BTreeMap::new(), addresses: Vec::new(), mac: None }
    }
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Ports of the host that lead to ports of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Publication {
    /// At which address of the host. None is every address of both families; `0.0.0.0` and `::`
    /// are every address of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_address: Option<IpAddr>,
    /// The first port of the host.
    pub host_port: u16,
    /// The first port of the pod.
    pub pod_port: u16,
    /// How many ports, each leading to the one at its place.
    pub count: u16,
    /// What they speak.
    pub protocol: Protocol,
}

impl Publication {
    /// Returns the pairs of host's and pod's port.
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u16)> {
        let (host, pod) = (self.host_port, self.pod_port);
        (0..self.count).map(move |step| (host.saturating_add(step), pod.saturating_add(step)))
    }

    /// Says where it leads: `8080->80/tcp`, and `192.0.2.1:8080-8082->80-82/tcp`.
    #[must_use]
    pub fn lead(&self) -> String {
        let shown = self.to_string();
        let host = shown.rsplit_once('/').map_or("", |(host, _)| host);
        let last = self.pod_port.saturating_add(self.count.saturating_sub(1));
        let range = if self.count > 1 { format!("-{last}") } else { String::new() };
        format!("{host}->{}{range}/{}", self.pod_port, self.protocol)
    }

    /// Returns the last port of the host.
    #[must_use]
    pub fn last_host_port(&self) -> u16 {
        self.host_port.saturating_add(self.count.saturating_sub(1))
    }
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        write!(f, "{}", self.host_port)?;
        if self.count > 1 {
            write!(f, "-{}", self.last_host_port())?;
        }
        write!(f, "/{}", self.protocol)
    }
}

/// What came of asking `pod` to join the networks of a pod that is about to run, as its supervisor
/// reads it ([`attach_argv`](crate::stage::attach_argv)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It has joined all.
    Joined(Joined),
    /// It has joined none.
    Refused(Report),
}

/// What came of joining networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Joined {
    /// The interfaces, in the order the networks were asked for.
    pub interfaces: Vec<Interface>,
    /// Name servers the networks know of; empty if none says anything.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name_servers: Vec<IpAddr>,
}

/// An interface of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// Of which network.
    pub network: NetworkName,
    /// What it is called in the pod, such as `eth0`.
    pub name: String,
    /// Its hardware address, as its network says it; may be empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mac: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Joined {
    /// Returns all addresses, those of the first network first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.interfaces.iter().flat_map(|interface| interface.addresses.iter().copied())
    }

    /// Returns `/etc/hosts` of a pod whose own name stands for the loopback there: it stands for the
    /// addresses others know it by.
    pub(crate) fn hosts(&self, text: &str, hostname: &str) -> String {
        let own: String =
            self.addresses().map(|address| format!("{address} {hostname}\n")).collect();
        if own.is_empty() {
            return text.to_owned();
        }
        let loopback = format!("127.0.1.1 {hostname}\n");
        text.replacen(&loopback, &own, 1)
    }

    /// Returns `/etc/resolv.conf` of a pod that would use the host's servers: it uses those its
    /// networks have, if there are any.
    pub(crate) fn resolv_conf(&self, text: &str) -> String {
        if self.name_servers.is_empty() {
            return text.to_owned();
        }
        let is_server = |line: &&str| line.split_ascii_whitespace().next() == Some("nameserver");
        let rest = text.lines().filter(|line| !is_server(line)).map(|line| format!("{line}\n"));
        let servers = self.name_servers.iter().map(|server| format!("nameserver {server}\n"));
        servers.chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_they_must_be() {
        for word in ["default", "0", "my_net.1-x"] {
            assert!(NetworkName::parse(word).is_ok(), "{word}");
        }
        for word in ["", "-x", ".x", "a/b", "a b", "a:b"] {
            assert!(NetworkName::parse(word).is_err(), "{word}");
        }
        assert!(NetworkName::parse(&"a".repeat(MAX_NAME + 1)).is_err());
        assert!(HardwareAddress::parse("02:00:5e:10:00:01").is_ok());
        for word in
            ["", "02:00:5e:10:00", "01:00:5e:10:00:01", "02:00:5E:10:00:01", "00:00:00:00:00:00"]
        {
            assert!(HardwareAddress::parse(word).is_err(), "{word}");
        }
    }

    #[test]
    fn publications_read_as_people_write_them() {
        let of = |host_address, count| Publication {
            host_address,
            host_port: 8080,
            pod_port: 80,
            count,
            protocol: Protocol::Tcp,
        };
        assert_eq!(of(None, 1).to_string(), "8080/tcp");
        assert_eq!(of(Some("::1".parse().unwrap()), 3).to_string(), "[::1]:8080-8082/tcp");
        assert_eq!(of(None, 1).lead(), "8080->80/tcp");
        assert_eq!(of(Some("::1".parse().unwrap()), 3).lead(), "[::1]:8080-8082->80-82/tcp");
        assert_eq!(of(None, 2).pairs().collect::<Vec<_>>(), [(8080, 80), (8081, 81)]);
    }
}
