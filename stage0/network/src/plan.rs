//! How one link of a pod is made: names, addresses and routes as lists of requests. Pure.
//!
//! A pair of links and two routes, no bridge: every packet is routed, so a pod can speak for its own
//! address only, pods see no frames of each other, nothing has to be learned, and no switch all pods
//! share can be filled. Each side is told the other's hardware address, so nobody asks for it either.
//!
//! ```text
//!   pod                                      host
//!   eth0  10.187.0.2/32                      pod-1a2b3c4d  10.187.0.1/32, fe80::1
//!     10.187.0.1 on the link                   10.187.0.2 on the link
//!     everything via 10.187.0.1
//! ```
//!
//! The host's address is the same on every pod's link; only the pod's side decides where it leads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use pod_abi::network::Publication;

use crate::attachment::{Leg, Network, Owner, Request};
use crate::ledger::Entry;
use crate::subnet::Subnet;
use netlink::namespace::Setting;
use netlink::{
    self, Kind, Link, LinkId, Mac, Prefix, Request as Ask, Route, Veth, VethEnd, add_address,
    add_neighbour, add_route, receive_at, set_alias, set_up,
};

/// The hardware address of every host's end. Each is alone on its link.
const HOST_MAC: Mac = Mac([0x02, 0x70, 0x6f, 0x64, 0x00, 0x01]);
/// The link-local address of every host's end.
const HOST_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// One link, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) veth: Veth,
    pub(crate) alias: String,
    pub(crate) v4: Leg<Ipv4Addr>,
    pub(crate) v6: Option<Leg<Ipv6Addr>>,
    pub(crate) has_default_route: bool,
    /// Whether a port at the host's loopback leads to the pod, by family.
    loopback: (bool, bool),
}

impl Plan {
    /// Decides; `with_ipv6` is whether both sides have it.
    pub(crate) fn new(request: &Request, entry: &Entry, subnet: Subnet, with_ipv6: bool) -> Self {
        let owner = &request.owner;
        let near = VethEnd { name: link_name(owner), mac: HOST_MAC };
        let mac = request.mac.unwrap_or_else(|| mac(owner));
        let far = VethEnd { name: owner.interface.clone(), mac };
        let v6 = Leg { address: entry.v6, gateway: subnet.v6.gateway() };
        Self {
            veth: Veth { near, far, mtu: request.mtu },
            alias: owner.pod.as_str().to_owned(),
            v4: Leg { address: entry.v4, gateway: subnet.v4.gateway() },
            v6: with_ipv6.then_some(v6),
            has_default_route: request.network == Network::Default,
            loopback: loopback(&request.ports),
        }
    }

    /// What makes the pair, and the question for what its ends are numbered.
    pub(crate) fn birth(&self, netns: BorrowedFd<'_>) -> Vec<Ask> {
        vec![netlink::add_veth(&self.veth, netns), netlink::by_name(&self.veth.near.name)]
    }

    /// What the pod's namespace is told before a link is born there.
    pub(crate) fn settings_inside(&self) -> Vec<Setting> {
        // The addresses are known to be nobody else's; asking takes a second. And nobody but us
        // tells a pod where its way out is.
        let setting = |name| Setting::new(format!("ipv6/conf/default/{name}"), "0");
        self.v6.iter().flat_map(|_| [setting("accept_dad"), setting("accept_ra")]).collect()
    }

    /// What is done in the pod, whose end has this number.
    pub(crate) fn inside(&self, index: u32) -> Vec<Ask> {
        let mut batch = vec![set_up(&LinkId::Index(index))];
        for (address, gateway) in self.legs() {
            batch.extend(own_address(index, address));
            batch.push(add_neighbour(index, gateway, HOST_MAC));
            batch.push(add_route(&on_link(gateway, index)));
            if self.has_default_route {
                let to = Prefix::everything(gateway);
                batch.push(add_route(&Route { to, link: Some(index), via: Some(gateway) }));
            }
        }
        batch
    }

    /// What is done on the host, whose end has this number.
    pub(crate) fn outside(&self, index: u32) -> Vec<Ask> {
        let link = LinkId::Index(index);
        let mut batch = vec![set_alias(&link, &self.alias)];
        if self.v6.is_some() {
            batch.push(netlink::fix_ipv6(&link));
        }
        batch.push(set_up(&link));
        for (address, gateway) in self.legs() {
            batch.extend(own_address(index, gateway));
            batch.push(add_neighbour(index, address, self.veth.far.mac));
            batch.push(add_route(&on_link(address, index)));
        }
        if self.v6.is_some() {
            let address = IpAddr::V6(HOST_LINK_LOCAL);
            batch.push(add_address(index, Prefix { address, length: 64 }));
            if self.loopback.1 {
                batch.push(receive_at(index, Ipv6Addr::LOCALHOST));
            }
        }
        batch
    }

    /// What the host is told about its end.
    pub(crate) fn settings_outside(&self) -> Vec<Setting> {
        let name = format!("ipv4/conf/{}/route_localnet", self.veth.near.name);
        self.loopback.0.then(|| Setting::new(name, "1")).into_iter().collect()
    }

    /// The pod's and the host's address, by family.
    fn legs(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let v4 = (self.v4.address.into(), self.v4.gateway.into());
        let v6 = self.v6.map(|leg| (leg.address.into(), leg.gateway.into()));
        [v4].into_iter().chain(v6)
    }
}

/// Gives a link an address that counts from this moment on.
fn own_address(index: u32, address: IpAddr) -> impl Iterator<Item = Ask> {
    let received = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(receive_at(index, address)),
    };
    [add_address(index, Prefix::host(address))].into_iter().chain(received)
}

fn on_link(address: IpAddr, index: u32) -> Route {
    Route { to: Prefix::host(address), link: Some(index), via: None }
}

/// Whether ports at the host's loopback addresses are among these. "Every address" includes
/// 127.0.0.1, where people try first; not `::1`, which they fall back from.
fn loopback(ports: &[Publication]) -> (bool, bool) {
    let is4 = |port: &Publication| match port.host_address {
        None => true,
        Some(IpAddr::V4(address)) => address.is_unspecified() || address.is_loopback(),
        Some(IpAddr::V6(_)) => false,
    };
    let is6 = |port: &Publication| port.host_address == Some(Ipv6Addr::LOCALHOST.into());
    (ports.iter().any(is4), ports.iter().any(is6))
}

/// The name of the host's end: of a first link the pod's short id, of others its number behind.
pub(crate) fn link_name(owner: &Owner) -> String {
    let number = owner.interface.strip_prefix("eth").and_then(|number| number.parse::<u8>().ok());
    match number {
        Some(0) => format!("pod-{}", owner.pod.short()),
        Some(number @ 1..=99) => format!("pod-{}-{number}", owner.pod.short()),
        // Fifteen letters are what a name can have.
        _ => format!("pod-{:011x}", digest(owner) >> 20),
    }
}

/// Tells whether a link that bears the name of a pod's is that pod's: it says so, or was made by us
/// and cut off before it could.
pub(crate) fn is_of(link: &Link, alias: &str) -> bool {
    let says_nothing = link.alias.is_none() && link.mac == Some(HOST_MAC);
    link.kind == Kind::Veth && (link.alias.as_deref() == Some(alias) || says_nothing)
}

/// The hardware address of the pod's end: its own for as long as the pod is itself.
fn mac(owner: &Owner) -> Mac {
    let [a, b, c, d, e, ..] = digest(owner).to_be_bytes();
    Mac([0x02, a, b, c, d, e])
}

/// FNV-1a over who owns a link.
fn digest(owner: &Owner) -> u64 {
    let bytes = owner.pod.as_str().bytes().chain([b'/']).chain(owner.interface.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use pod_abi::PodId;

    use super::*;
    use pod_abi::network::Protocol;

    fn owner(interface: &str) -> Owner {
        let pod = PodId::parse("1a2b3c4d-0000-4000-8000-000000000000").unwrap();
        Owner { pod, interface: interface.to_owned() }
    }

    #[test]
    fn every_link_of_a_pod_has_a_name_of_its_own_on_the_host() {
        assert_eq!(link_name(&owner("eth0")), "pod-1a2b3c4d");
        assert_eq!(link_name(&owner("eth1")), "pod-1a2b3c4d-1");
        assert_eq!(link_name(&owner("eth99")), "pod-1a2b3c4d-99");
        let interfaces = ["eth0", "eth1", "eth99", "eth100", "eth256", "wan", "internal"];
        let names: HashSet<String> =
            interfaces.iter().map(|interface| link_name(&owner(interface))).collect();
        assert_eq!(names.len(), interfaces.len());
        assert!(names.iter().all(|name| name.len() <= 15 && name.starts_with("pod-")), "{names:?}");
    }

    #[test]
    fn a_hardware_address_belongs_to_one_link_and_stays_its_own() {
        assert_eq!(mac(&owner("eth0")), mac(&owner("eth0")));
        assert_ne!(mac(&owner("eth0")), mac(&owner("eth1")));
        assert!(mac(&owner("eth0")).is_of_one());
    }

    #[test]
    fn loopback_leads_to_a_pod_only_if_a_port_was_published_there() {
        let port = |address: Option<&str>| Publication {
            host_address: address.map(|address| address.parse().unwrap()),
            host_port: 80,
            pod_port: 80,
            count: 1,
            protocol: Protocol::Tcp,
        };
        for (address, expected) in [
            (None, (true, false)),
            (Some("0.0.0.0"), (true, false)),
            (Some("127.0.0.2"), (true, false)),
            (Some("192.0.2.1"), (false, false)),
            (Some("::"), (false, false)),
            (Some("::1"), (false, true)),
        ] {
            assert_eq!(loopback(&[port(address)]), expected, "{address:?}");
        }
        assert_eq!(loopback(&[]), (false, false));
    }
}
