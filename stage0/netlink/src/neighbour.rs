//! Who has which hardware address, said instead of asked around for.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use crate::route::family;
use crate::{Mac, Request};

/// Says for good who has an address on a link.
///
/// So the first packet waits for no answer, and nobody on the link can claim the address.
#[must_use]
pub fn add(index: u32, address: IpAddr, mac: Mac) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    let destination = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    let deed = format!("say that {address} is {mac} on the link number {index}");
    Request::new(RouteNetlinkMessage::NewNeighbour(message), "RTM_NEWNEIGH", deed).replacing()
}
