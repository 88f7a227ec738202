//! The network of a pod on the host: a namespace in which plugins work as for any pod, and from there
//! a wire to the machine for each interface they have made.
//!
//! ```text
//!   the pod's namespace on the host                    monitor          guest
//!   eth0, of a plugin ◀═ all that comes in leaves ═▶ tap ══ vmm ══ eth0: its name, hardware
//!                        by the other (mirred)                           address, addresses, routes
//! ```
//!
//! What the machine is told is read from the namespace, not from the words of plugins. They find
//! there what they have made, for as long as the pod lives: addresses stay on their interfaces, whose
//! packets are gone before the host's kernel looks at one of them.
//!
//! The namespace lives as long as somebody holds it: this process and nobody else. So it ends with
//! the pod, however that ends, and what is in it and leads to it.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink::{Kind, Link, LinkId, Prefix, Request, Route, RouteNetlinkMessage, Socket, namespace};
use pod_abi::guest::{self, MAX_LINKS};
use pod_sys::open_tap;
use supervisor::{During, Failure};
use vmm::description::Nic;

use crate::plan::Refusal;

/// The code of what goes wrong here.
const CODE: &str = "network.kernel";

/// A pod's network namespace on the host.
#[derive(Debug)]
pub(crate) struct Namespace(OwnedFd);

/// An interface of a pod, and the wire from it to its machine.
#[derive(Debug)]
pub(crate) struct Wire {
    /// What the guest is told of it.
    pub(crate) link: guest::Link,
    /// What the monitor reads and writes.
    pub(crate) tap: OwnedFd,
}

/// An interface that is to be the machine's.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// Its number in the namespace.
    index: u32,
    link: guest::Link,
}

impl Wire {
    /// Returns the interface as the monitor makes it.
    pub(crate) fn nic(&self) -> Nic {
        Nic { mac: self.link.mac, mtu: self.link.mtu }
    }
}

impl Namespace {
    /// Makes one, with nothing in it but a loopback interface that is down.
    pub(crate) fn make() -> Result<Self, Failure> {
        namespace::make().map(Self).map_err(refused)
    }

    /// Runs a wire to the machine from each interface that is there.
    ///
    /// # Errors
    ///
    /// Above all if this host has no taps, or its kernel nothing to connect one with.
    pub(crate) fn wire(&self) -> Result<Vec<Wire>, Failure> {
        namespace::visit(self.0.as_fd(), wire_here).map_err(refused)?
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn wire_here() -> Result<Vec<Wire>, Failure> {
    let mut socket = Socket::open().map_err(refused)?;
    let found = find(&mut socket)?;
    if found.len() > MAX_LINKS {
        return Err(Refusal::ManyLinks.failure("the pod"));
    }
    let wires = found.into_iter().zip(0..);
    wires.map(|(Found { index, link }, number)| lay(&mut socket, index, link, number)).collect()
}

/// Makes a tap, and has it and an interface pass on to the other what comes in at either.
fn lay(
    socket: &mut Socket,
    interface: u32,
    link: guest::Link,
    number: usize,
) -> Result<Wire, Failure> {
    let name = format!("pod-tap{number}");
    let tap = open_tap(&name)
        .during(|| "cannot make a tap for the machine, `/dev/net/tun`")
        .map_err(|failure| failure.code(CODE).hint("the host's kernel needs it: `modprobe tun`"))?;
    let answers = socket.perform(&[netlink::by_name(&name)]).map_err(refused)?;
    let other = answers.iter().find_map(Link::read);
    let other = other.ok_or_else(|| Failure::new("the kernel describes no tap").code(CODE))?.index;
    let this = LinkId::Index(other);
    let batch: [Request; 7] = [
        // It would speak up at the wire by itself.
        netlink::fix_ipv6(&this),
        netlink::set_mtu(&this, u32::from(link.mtu)),
        netlink::set_up(&this),
        netlink::add_ingress(other),
        netlink::redirect_to(other, interface),
        netlink::add_ingress(interface),
        netlink::redirect_to(interface, other),
    ];
    socket.perform(&batch).map_err(refused)?;
    Ok(Wire { link, tap })
}

/// Reads what there is in the namespace of the calling thread.
fn find(socket: &mut Socket) -> Result<Vec<Found>, Failure> {
    let mut ask = |request: Request| socket.perform(&[request]).map_err(refused);
    let links = ask(netlink::list_links())?;
    let addresses = ask(netlink::list_addresses())?;
    let mut routes = ask(netlink::list_routes(IpAddr::from([0; 4])))?;
    routes.append(&mut ask(netlink::list_routes(IpAddr::from([0; 16])))?);
    let links = links.iter().filter_map(Link::read).filter(is_of_a_plugin);
    Ok(links.map(|link| describe(&link, &addresses, &routes)).collect())
}

/// Whether an interface is one that a plugin has made, not one that every namespace has.
fn is_of_a_plugin(link: &Link) -> bool {
    link.up && link.kind != Kind::Tun && link.mac.is_some_and(netlink::Mac::is_of_one)
}

/// Says what an interface is to a guest.
fn describe(
    link: &Link,
    addresses: &[RouteNetlinkMessage],
    routes: &[RouteNetlinkMessage],
) -> Found {
    let addresses: Vec<Prefix> =
        addresses.iter().filter_map(|answer| link.address(answer)).collect();
    let through = |route: &Route| route.link == Some(link.index) && !is_made_by_every_kernel(route);
    let mut routes: Vec<Route> =
        routes.iter().filter_map(Route::read_main).filter(through).collect();
    // A router must be there before what leads through it.
    routes.sort_by_key(|route| route.via.is_some());
    let told = |route: Route| guest::Route { to: route.to.to_string(), via: route.via };
    Found {
        index: link.index,
        link: guest::Link {
            name: link.name.clone(),
            mac: link.mac.map(|mac| mac.0).unwrap_or_default(),
            mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
            addresses: addresses.iter().map(Prefix::to_string).collect(),
            routes: routes.into_iter().map(told).collect(),
        },
    }
}

/// Whether it is a route that comes with an address of the link itself.
fn is_made_by_every_kernel(route: &Route) -> bool {
    match route.to.address {
        IpAddr::V4(_) => false,
        IpAddr::V6(to) => to.is_unicast_link_local() || to.is_multicast(),
    }
}

fn refused(error: netlink::Error) -> Failure {
    let (what, hint) = (error.to_string(), error.way_out());
    let failure = match error.into_source() {
        Some(source) => Failure::of(what, source),
        None => Failure::new(what),
    };
    let failure = failure.code(CODE);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests;
