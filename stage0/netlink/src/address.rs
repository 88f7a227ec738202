//! Addresses of links.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};

use crate::route::{Prefix, family};
use crate::{Link, Request};

/// Gives a link an address.
///
/// It brings no route along, but one of a link itself; routes are said. An IPv6 address counts at once, for whoever leases
/// addresses knows that nobody else has it, and asking around takes a second.
#[must_use]
pub fn add(index: u32, address: Prefix) -> Request {
    let Prefix { address: ip, length } = address;
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = length;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(ip));
    message.attributes.push(AddressAttribute::Address(ip));
    let of_link = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let mut flags = if of_link { AddressFlags::empty() } else { AddressFlags::Noprefixroute };
    if ip.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        flags |= AddressFlags::Nodad;
    }
    message.attributes.push(AddressAttribute::Flags(flags));
    let deed = format!("give the link number {index} the address {address}");
    Request::new(RouteNetlinkMessage::NewAddress(message), "RTM_NEWADDR", deed).replacing()
}

/// Asks for all addresses of the namespace; [`Link::address`] reads the answers.
#[must_use]
pub fn list() -> Request {
    let message = AddressMessage::default();
    Request::new(RouteNetlinkMessage::GetAddress(message), "RTM_GETADDR(all)", "list addresses")
        .listing()
}

impl Link {
    /// Reads the address an answer gives to this link; `None` if it is about something else.
    #[must_use]
    pub fn address(&self, answer: &RouteNetlinkMessage) -> Option<Prefix> {
        let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
        // Between two ends the other one's stands beside it.
        let own = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        };
        let any = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        };
        let said = &message.attributes;
        let ip: IpAddr = said.iter().find_map(own).or_else(|| said.iter().find_map(any))?;
        let prefix = Prefix { address: ip, length: message.header.prefix_len };
        (message.header.index == self.index).then_some(prefix)
    }
}
