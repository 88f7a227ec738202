//! Routes, in the main table unless one was read from another.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use crate::Request;

/// The table of what is the host's own (`linux/rtnetlink.h`).
const RT_TABLE_LOCAL: u8 = 255;

/// The metric of a route that must never be preferred; the kernel's own local routes have 0, others
/// 1024 unless said.
const BEHIND_ITS_OWN: u32 = 4096;

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// How many bits count, at most 32 or 128.
    pub length: u8,
}

impl Prefix {
    /// Makes the prefix that means this address alone.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Returns the prefix that means every address of the family.
    #[must_use]
    pub fn everything(like: IpAddr) -> Self {
        let address = match like {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self { address, length: 0 }
    }
}

impl Prefix {
    /// Parses `ADDRESS/LENGTH`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length = length.parse().ok().filter(|length| *length <= Self::host(address).length)?;
        Some(Self { address, length })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub to: Prefix,
    /// Through which link; a route read from the kernel may have none.
    pub link: Option<u32>,
    /// Through whom; nobody if the destination is on the link itself.
    pub via: Option<IpAddr>,
}

impl Route {
    /// Reads an answer; `None` if it is not about a route.
    #[must_use]
    pub fn read(answer: &RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
        let like = match message.header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let length = message.header.destination_prefix_length;
        let mut route = Self { to: Prefix { address: like, length }, link: None, via: None };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => route.to.address = ip(address)?,
                RouteAttribute::Gateway(address) => route.via = ip(address),
                RouteAttribute::Oif(index) => route.link = Some(*index),
                _ => {}
            }
        }
        Some(route)
    }

    /// Reads an answer as [`read`](Self::read) does; `None` also if it is not a way to others that
    /// every packet may take.
    #[must_use]
    pub fn read_main(answer: &RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
        let header = &message.header;
        let is_main =
            header.table == RouteHeader::RT_TABLE_MAIN && header.kind == RouteType::Unicast;
        Self::read(answer).filter(|_| is_main)
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(self.to.address);
        message.header.destination_prefix_length = self.to.length;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope =
            if self.via.is_none() { RouteScope::Link } else { RouteScope::Universe };
        if self.to.length > 0 {
            message.attributes.push(RouteAttribute::Destination(self.to.address.into()));
        }
        message.attributes.extend(self.link.map(RouteAttribute::Oif));
        message.attributes.extend(self.via.map(|via| RouteAttribute::Gateway(via.into())));
        message
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        self.link.map_or(Ok(()), |link| write!(f, " through the link number {link}"))
    }
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Adds a route; one that leads to the same place goes.
#[must_use]
pub fn add(route: &Route) -> Request {
    let message = RouteNetlinkMessage::NewRoute(route.message());
    Request::new(message, "RTM_NEWROUTE", format!("add the route to {route}")).replacing().hinting(
        &[
            (Errno::ENETUNREACH, "nothing leads to its gateway"),
            (Errno::ENETDOWN, "the link is down"),
        ],
    )
}

/// Has packets for an IPv6 address of one's own, that come in at this link, be received.
///
/// The kernel does so by itself, but for an address just given only once a work queue has come to
/// it, and for `::1` only at the loopback link. Where it has a route of its own, that one comes first.
#[must_use]
pub fn receive_at(index: u32, address: Ipv6Addr) -> Request {
    let route = Route { to: Prefix::host(address.into()), link: Some(index), via: None };
    let mut message = route.message();
    message.header.table = RT_TABLE_LOCAL;
    message.header.kind = RouteType::Local;
    message.attributes.push(RouteAttribute::Priority(BEHIND_ITS_OWN));
    let deed = format!("take packets for {address} from the link number {index}");
    Request::new(RouteNetlinkMessage::NewRoute(message), "RTM_NEWROUTE(local)", deed).adding()
}

/// Removes a route.
#[must_use]
pub fn delete(route: &Route) -> Request {
    let message = RouteNetlinkMessage::DelRoute(route.message());
    Request::new(message, "RTM_DELROUTE", format!("remove the route to {route}"))
}

/// Asks for all routes of a family, in all tables.
#[must_use]
pub fn list(like: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(like);
    Request::new(RouteNetlinkMessage::GetRoute(message), "RTM_GETROUTE(all)", "list routes")
        .listing()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_as_they_are_written() {
        for text in ["10.1.2.3/24", "0.0.0.0/0", "fd00::1/128", "::/0"] {
            assert_eq!(Prefix::parse(text).unwrap().to_string(), text);
        }
        for wrong in ["", "10.1.2.3", "10.1.2.3/33", "fd00::1/129", "10.1.2/8", "10.1.2.3/-1"] {
            assert_eq!(Prefix::parse(wrong), None, "{wrong}");
        }
    }
}
