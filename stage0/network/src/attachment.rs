//! What is asked for and what comes of it: one link of one pod in one of the built-in networks.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use pod_abi::PodId;
use pod_abi::network::{MAX_PORTS, Publication};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use netlink::Mac;

/// A network that needs no configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Out through the host, under the host's address.
    Default,
    /// To the host and no further.
    DefaultRestricted,
}

impl Network {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Default, Self::DefaultRestricted];

    /// Returns the name it is asked for by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::DefaultRestricted => "default-restricted",
        }
    }

    /// Returns the network of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|network| network.name() == name)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose link: the key of everything that is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// The pod.
    pub pod: PodId,
    /// The link's name inside it, such as `eth0`.
    pub interface: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {} (`{}`)", self.pod.as_str(), self.interface)
    }
}

/// A link that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whose.
    pub owner: Owner,
    /// In which network.
    pub network: Network,
    /// The IPv4 address it must have; any if not said.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address it must have; any if not said.
    pub v6: Option<Ipv6Addr>,
    /// The hardware address it must have; one that belongs to its owner if not said.
    pub mac: Option<Mac>,
    /// The largest packet, in bytes; the kernel's choice, 1500, if not said. Routers tell senders
    /// of smaller ones, and this host is the first of them.
    pub mtu: Option<u32>,
    /// What the host passes on to it.
    pub ports: Vec<Publication>,
}

impl Request {
    /// Makes the plainest request.
    #[must_use]
    pub fn new(pod: PodId, interface: &str, network: Network) -> Self {
        let owner = Owner { pod, interface: interface.to_owned() };
        Self { owner, network, v4: None, v6: None, mac: None, mtu: None, ports: Vec::new() }
    }

    /// Refuses what no host could do.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`].
    pub fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, message));
        let name = &self.owner.interface;
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(odd) {
            return invalid(format!("no link can be called `{name}`"));
        }
        if let Some(mac) = self.mac.filter(|mac| !mac.is_of_one()) {
            return invalid(format!("{mac} is no hardware address of one link"));
        }
        for ports in &self.ports {
            let last = u32::from(ports.host_port.max(ports.pod_port)) + u32::from(ports.count);
            if ports.count == 0 || ports.host_port == 0 || ports.pod_port == 0 || last > 65_536 {
                return invalid(format!("there are no such ports: {ports} to {}", ports.pod_port));
            }
        }
        if self.ports.iter().map(|ports| usize::from(ports.count)).sum::<usize>() > MAX_PORTS {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("more than {MAX_PORTS} ports are published"),
            )
            .hint("`--net host` publishes all of them"));
        }
        Ok(())
    }
}

/// An address of a pod, and the host's beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Leg<T> {
    /// The pod's. It is the only one on its side, a /32 or /128.
    pub address: T,
    /// The host's, where the pod sends all it has for others.
    pub gateway: T,
}

/// A link that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Whose.
    pub owner: Owner,
    /// In which network.
    pub network: Network,
    /// The name of its end on the host.
    pub host_link: String,
    /// The hardware address of the host's end.
    pub host_mac: Mac,
    /// The hardware address of the pod's end.
    pub mac: Mac,
    /// Its IPv4 addresses.
    pub v4: Leg<Ipv4Addr>,
    /// Its IPv6 addresses; none where the host or the pod has no IPv6.
    pub v6: Option<Leg<Ipv6Addr>>,
    /// Who answers for names there, if anybody does.
    pub name_server: Option<Ipv4Addr>,
    /// Whether everything leads through the gateway, or the gateway alone can be reached.
    pub has_default_route: bool,
    /// What was changed about the host, for the user to hear once.
    pub notices: Vec<String>,
    /// What it took.
    pub work: Work,
}

/// What something took: the calls a start waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// How often the kernel was asked over netlink; a batch is one time, and so is a question that
    /// is repeated until its answer changes.
    pub exchanges: u32,
    /// How often `nft` was run.
    pub nft_runs: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_abi::network::Protocol;

    fn request() -> Request {
        let pod = PodId::parse("00000000-0000-4000-8000-000000000001").unwrap();
        Request::new(pod, "eth0", Network::Default)
    }

    fn ports(host_port: u16, pod_port: u16, count: u16) -> Publication {
        Publication { host_address: None, host_port, pod_port, count, protocol: Protocol::Tcp }
    }

    #[test]
    fn what_no_host_could_do_is_refused() {
        assert!(request().check().is_ok());
        for name in ["", "a/b", "a b", "..", "sixteen-letters-"] {
            let mut request = request();
            request.owner.interface = name.to_owned();
            assert!(request.check().is_err(), "{name}");
        }
        let wrong = [
            ports(0, 80, 1),
            ports(80, 0, 1),
            ports(80, 80, 0),
            ports(65_535, 1, 2),
            ports(1, 65_535, 2),
            ports(1, 1, 5000),
        ];
        for ports in wrong {
            let request = Request { ports: vec![ports.clone()], ..request() };
            assert!(request.check().is_err(), "{ports:?}");
        }
        let request = Request { ports: vec![ports(65_534, 1, 2)], ..request() };
        assert!(request.check().is_ok());
    }

    #[test]
    fn publications_read_as_they_are_typed() {
        assert_eq!(ports(8080, 80, 1).to_string(), "8080/tcp");
        let mut range = ports(8080, 80, 3);
        range.host_address = Some("::1".parse().unwrap());
        assert_eq!(range.to_string(), "[::1]:8080-8082/tcp");
        assert_eq!(range.pairs().collect::<Vec<_>>(), [(8080, 80), (8081, 81), (8082, 82)]);
    }
}
