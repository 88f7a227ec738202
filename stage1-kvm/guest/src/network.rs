//! The network interfaces of the pod: found by their hardware addresses, and put where its apps are.
//!
//! ```text
//!   guest: virtio-net ──▶ the namespace of stage2-init: name, size of packets, addresses, routes
//! ```
//!
//! Nothing is decided here and nobody is asked: no DHCP, no router's advertisement, and an address
//! counts at once, for whoever leased it knows that nobody else has it.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink::namespace::{self, Setting};
use netlink::{LinkId, Mac, Prefix, Request, Route, Socket};
use pod_abi::guest::{Link, MAX_LINKS};
use pod_abi::network::Joined;
use supervisor::{During, Failure, Networks};

/// What an order of nonsense is called.
const NONSENSE: &str = "stage1.order";

/// The networks there are in a machine: none. Its pod has joined them on the host.
#[derive(Debug)]
pub(crate) struct NoNetworks;

impl Networks for NoNetworks {
    fn join(&self, _: BorrowedFd<'_>) -> Result<Joined, Failure> {
        Err(Failure::new("a machine has no networks to join").code(NONSENSE))
    }
}

/// Puts interfaces into the network namespace of a process.
///
/// # Errors
///
/// Which interface is not there, and what the kernel has against the rest. Some of it may be done.
pub(crate) fn attach(links: &[Link], process: u32) -> Result<(), Failure> {
    if links.is_empty() {
        return Ok(());
    }
    if links.len() > MAX_LINKS {
        return Err(Failure::new("there are too many network interfaces").code(NONSENSE));
    }
    let path = format!("/proc/{process}/ns/net");
    let place = File::open(&path).during(|| format!("cannot open `{path}`"))?;
    let prepared = namespace::visit(place.as_fd(), || {
        // Before a link is born there, which takes them over.
        namespace::write_settings(&settings()?)?;
        Socket::open()
    });
    let mut inside = prepared.and_then(|inside| inside).map_err(refused)?;
    let mut own = Socket::open().map_err(refused)?;
    let there = own.perform(&[netlink::list_links()]).map_err(refused)?;
    let there: Vec<_> = there.iter().filter_map(netlink::Link::read).collect();
    for link in links {
        let mac = Mac(link.mac);
        let found = there
            .iter()
            .find(|one| one.mac == Some(mac))
            .ok_or_else(|| Failure::new(format!("the machine has no network interface `{mac}`")))?;
        own.perform(&[netlink::move_to(found.index, place.as_fd(), &link.name)])
            .map_err(refused)?;
        let answers = inside.perform(&[netlink::by_name(&link.name)]).map_err(refused)?;
        let moved = answers.iter().find_map(netlink::Link::read);
        let moved = moved.ok_or_else(|| Failure::new("the kernel describes no interface"))?;
        inside.perform(&batch(link, moved.index)?).map_err(refused)?;
    }
    Ok(())
}

/// What the namespace is told of links to come: what a host tells it where there is no machine.
fn settings() -> netlink::Result<Vec<Setting>> {
    let mut settings = vec![
        Setting::new("ipv4/ip_unprivileged_port_start", "0"),
        Setting::new("ipv4/ping_group_range", "0 2147483647"),
    ];
    if namespace::has_ipv6()? {
        settings.push(Setting::new("ipv6/conf/default/accept_dad", "0"));
        settings.push(Setting::new("ipv6/conf/default/accept_ra", "0"));
    }
    Ok(settings)
}

/// Returns all that is asked of the interface that has this number.
fn batch(link: &Link, index: u32) -> Result<Vec<Request>, Failure> {
    let this = LinkId::Index(index);
    let mut batch = vec![netlink::set_mtu(&this, u32::from(link.mtu)), netlink::set_up(&this)];
    for text in &link.addresses {
        let prefix = parse(text)?;
        batch.push(netlink::add_address(index, prefix));
        if let IpAddr::V6(address) = prefix.address
            && !address.is_unicast_link_local()
        {
            batch.push(netlink::receive_at(index, address));
        }
    }
    for route in &link.routes {
        let route = Route { to: parse(&route.to)?, link: Some(index), via: route.via };
        batch.push(netlink::add_route(&route));
    }
    Ok(batch)
}

fn parse(text: &str) -> Result<Prefix, Failure> {
    Prefix::parse(text)
        .ok_or_else(|| Failure::new(format!("`{text}` is no address with a length")).code(NONSENSE))
}

fn refused(error: netlink::Error) -> Failure {
    let what = error.to_string();
    match error.into_source() {
        Some(source) => Failure::of(what, source),
        None => Failure::new(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused() {
        let link = |address: &str, to: &str| Link {
            name: "eth0".to_owned(),
            mac: [2; 6],
            mtu: 1500,
            addresses: vec![address.to_owned()],
            routes: vec![pod_abi::guest::Route { to: to.to_owned(), via: None }],
        };
        assert_eq!(batch(&link("10.0.0.2/24", "10.0.0.0/24"), 2).unwrap().len(), 4);
        assert_eq!(batch(&link("fd00::2/64", "::/0"), 2).unwrap().len(), 5);
        for (address, to) in [("10.0.0.2", "::/0"), ("10.0.0.2/24", "10.0.0.0/99"), ("", "")] {
            assert_eq!(batch(&link(address, to), 2).unwrap_err().report().code, NONSENSE);
        }
    }
}
