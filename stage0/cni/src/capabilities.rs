//! What a runtime can ask of a network beyond being attached: ports, limits, names, addresses.
//!
//! A plugin declares in its configuration which of these it takes (`capabilities`), and gets those
//! that are asked for as `runtimeConfig`. Source: CNI `CONVENTIONS.md`, "Dynamic Plugin specific
//! fields".

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use crate::address::Cidr;

/// Everything that is asked for; what is empty is not asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capabilities {
    /// `portMappings`: ports of the host that lead into the container.
    pub port_mappings: Vec<PortMapping>,
    /// `bandwidth`: limits of the attachment.
    pub bandwidth: Option<Bandwidth>,
    /// `dns`: how names are to be resolved.
    pub dns: Option<DnsRequest>,
    /// `ips`: addresses the interface is to have. A full prefix leaves it to the plugin.
    pub ips: Vec<Cidr>,
    /// `mac`: the hardware address the interface is to have.
    pub mac: Option<String>,
    /// `aliases`: further names of the container on this network.
    pub aliases: Vec<String>,
    /// `ipRanges`: sets of ranges; one address is taken of each set.
    pub ip_ranges: Vec<Vec<IpRange>>,
    /// Capabilities without a type of ours, such as `cgroupPath` and `deviceID`.
    pub others: BTreeMap<String, Value>,
}

/// A port of the host that leads into the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The port on the host.
    pub host_port: u16,
    /// The port in the container.
    pub container_port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The address of the host; `None` is every address.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Limits of an attachment. Rates are bits a second, bursts are bits; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Into the container.
    pub ingress_rate: u64,
    /// Into the container.
    pub ingress_burst: u64,
    /// Out of the container.
    pub egress_rate: u64,
    /// Out of the container.
    pub egress_burst: u64,
}

/// How names are to be resolved in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DnsRequest {
    /// Addresses of servers.
    pub servers: Vec<IpAddr>,
    /// Domains that are tried behind a name.
    pub searches: Vec<String>,
    /// Words of `resolv.conf(5)`'s `options`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IpRange {
    /// The network it lies in.
    pub subnet: Cidr,
    /// Its first address; `None` is the network's first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_start: Option<IpAddr>,
    /// Its last address; `None` is the network's last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_end: Option<IpAddr>,
    /// The way out; `None` is the network's first address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

impl Capabilities {
    /// Returns what is asked for as plugins get it, by the names they declare.
    #[must_use]
    pub fn to_runtime_config(&self) -> BTreeMap<String, Value> {
        let mut all = self.others.clone();
        let mut ask = |name: &str, value: Value| {
            let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            if !empty {
                all.insert(name.to_owned(), value);
            }
        };
        ask("portMappings", value_of(&self.port_mappings));
        ask("bandwidth", value_of(&self.bandwidth));
        ask("dns", value_of(&self.dns));
        ask("ips", self.ips.iter().map(wanted).collect());
        ask("mac", value_of(&self.mac));
        ask("aliases", value_of(&self.aliases));
        ask("ipRanges", value_of(&self.ip_ranges));
        all
    }
}

/// An address as `ips` has it: the prefix is left out where it is the plugin's to know.
fn wanted(cidr: &Cidr) -> Value {
    let whole = cidr.prefix == Cidr::full_prefix(cidr.address);
    Value::String(if whole { cidr.address.to_string() } else { cidr.to_string() })
}

fn value_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("these types are numbers, texts and lists of them")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_asked_for_has_the_names_and_shapes_of_the_conventions() {
        let all = Capabilities {
            port_mappings: vec![
                PortMapping {
                    host_port: 8080,
                    container_port: 80,
                    protocol: Protocol::Tcp,
                    host_ip: Some("127.0.0.1".parse().unwrap()),
                },
                PortMapping {
                    host_port: 53,
                    container_port: 53,
                    protocol: Protocol::Udp,
                    host_ip: None,
                },
            ],
            bandwidth: Some(Bandwidth {
                ingress_rate: 1,
                ingress_burst: 2,
                egress_rate: 3,
                egress_burst: u64::MAX,
            }),
            dns: Some(DnsRequest {
                servers: vec!["10.0.0.1".parse().unwrap()],
                searches: vec!["example.org".to_owned()],
                options: vec![],
            }),
            ips: vec!["10.1.2.3".parse().unwrap(), "fd00::3/64".parse().unwrap()],
            mac: Some("c2:11:22:33:44:55".to_owned()),
            aliases: vec!["db".to_owned()],
            ip_ranges: vec![vec![IpRange {
                subnet: "10.1.2.0/24".parse().unwrap(),
                range_start: Some("10.1.2.10".parse().unwrap()),
                range_end: None,
                gateway: None,
            }]],
            others: [("cgroupPath".to_owned(), json!("/a"))].into(),
        };
        let expected = json!({
            "aliases": ["db"],
            "bandwidth": {
                "ingressRate": 1, "ingressBurst": 2,
                "egressRate": 3, "egressBurst": 18_446_744_073_709_551_615_u64,
            },
            "cgroupPath": "/a",
            "dns": {"servers": ["10.0.0.1"], "searches": ["example.org"]},
            "ipRanges": [[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.10"}]],
            "ips": ["10.1.2.3", "fd00::3/64"],
            "mac": "c2:11:22:33:44:55",
            "portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"},
                {"hostPort": 53, "containerPort": 53, "protocol": "udp"},
            ],
        });
        assert_eq!(json!(all.to_runtime_config()), expected);
    }

    #[test]
    fn what_is_empty_is_not_asked_for() {
        assert!(Capabilities::default().to_runtime_config().is_empty());
    }
}
