//! Links: veth pairs, bridges, and what can be changed about any link.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, State,
};
use nix::errno::Errno;

use crate::Request;

/// The hardware address of a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Parses six octets in hexadecimal with colons between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut octets = [0; 6];
        let mut words = text.split(':');
        for octet in &mut octets {
            let word = words.next().filter(|word| word.len() == 2)?;
            *octet = u8::from_str_radix(word, 16).ok()?;
        }
        words.next().is_none().then_some(Self(octets))
    }

    /// Tells whether one link alone can have it: a group's address and all zeros cannot.
    #[must_use]
    pub fn is_of_one(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which link of a namespace is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkId {
    /// By its number.
    Index(u32),
    /// By its name.
    Name(String),
}

impl LinkId {
    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        match self {
            Self::Index(index) => message.header.index = *index,
            Self::Name(name) => message.attributes.push(LinkAttribute::IfName(name.clone())),
        }
        message
    }
}

impl From<&str> for LinkId {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<u32> for LinkId {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "number {index}"),
            Self::Name(name) => write!(f, "`{name}`"),
        }
    }
}

/// What a link is made of, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One end of a pair.
    Veth,
    /// A switch.
    Bridge,
    /// A tap or tun.
    Tun,
    /// Anything else.
    Other,
}

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its second name, which nothing but people and we read.
    pub alias: Option<String>,
    /// What it is made of.
    pub kind: Kind,
    /// Whether it is up.
    pub up: bool,
    /// Whether it passes packets on: it is up, what it is connected to is up, and the kernel has
    /// taken note. Until then what is sent is lost.
    pub running: bool,
    /// Its hardware address, if it is one of Ethernet.
    pub mac: Option<Mac>,
    /// The largest packet it takes, in bytes.
    pub mtu: u32,
    /// The number of its other end in that one's namespace, of a pair.
    pub peer: Option<u32>,
    /// The number of the bridge it is a port of.
    pub master: Option<u32>,
}

impl Link {
    /// Reads an answer; `None` if it is not about a link.
    #[must_use]
    pub fn read(answer: &RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewLink(message) = answer else { return None };
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            alias: None,
            kind: Kind::Other,
            up: message.header.flags.contains(LinkFlags::Up),
            running: false,
            mac: None,
            mtu: 0,
            peer: None,
            master: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::Address(octets) => {
                    link.mac = octets.as_slice().try_into().ok().map(Mac);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                // Not `IFF_RUNNING`, which also means that the kernel does not know yet.
                LinkAttribute::OperState(state) => link.running = *state == State::Up,
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                LinkAttribute::Controller(master) => link.master = Some(*master),
                LinkAttribute::LinkInfo(infos) => link.kind = kind(infos),
                _ => {}
            }
        }
        Some(link)
    }
}

fn kind(infos: &[LinkInfo]) -> Kind {
    for info in infos {
        match info {
            LinkInfo::Kind(InfoKind::Veth) => return Kind::Veth,
            LinkInfo::Kind(InfoKind::Bridge) => return Kind::Bridge,
            LinkInfo::Kind(InfoKind::Tun) => return Kind::Tun,
            _ => {}
        }
    }
    Kind::Other
}

/// One end of a pair that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethEnd {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: Mac,
}

/// A pair that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veth {
    /// The end in the namespace of the socket.
    pub near: VethEnd,
    /// The end in the other namespace.
    pub far: VethEnd,
    /// The largest packet both take, in bytes; the kernel's choice if not said.
    pub mtu: Option<u32>,
}

/// Makes a pair whose far end is born in another namespace; both ends are down.
#[must_use]
pub fn add_veth(veth: &Veth, far_namespace: BorrowedFd<'_>) -> Request {
    let end = |end: &VethEnd| {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(end.name.clone()));
        message.attributes.push(LinkAttribute::Address(end.mac.0.to_vec()));
        message.attributes.extend(veth.mtu.map(LinkAttribute::Mtu));
        message
    };
    let mut far = end(&veth.far);
    far.attributes.push(LinkAttribute::NetNsFd(far_namespace.as_raw_fd()));
    let mut near = end(&veth.near);
    near.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
    ]));
    let deed = format!("add the links `{}` and `{}`", veth.near.name, veth.far.name);
    Request::new(RouteNetlinkMessage::NewLink(near), "RTM_NEWLINK(veth)", deed).creating().hinting(
        &[
            (Errno::EEXIST, "a link of that name is there: `ip link` shows it"),
            (Errno::EOPNOTSUPP, "the kernel has no virtual links: `modprobe veth`"),
            (Errno::EINVAL, "the size of packets (MTU) is one these links cannot have"),
        ],
    )
}

/// Makes a bridge; it is down.
#[must_use]
pub fn add_bridge(name: &str) -> Request {
    let mut message = LinkId::from(name).message();
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    let deed = format!("add the bridge `{name}`");
    Request::new(RouteNetlinkMessage::NewLink(message), "RTM_NEWLINK(bridge)", deed)
        .creating()
        .hinting(&[
            (Errno::EEXIST, "a link of that name is there: `ip link` shows it"),
            (Errno::EOPNOTSUPP, "the kernel has no bridges: `modprobe bridge`"),
        ])
}

/// Asks for one link by its name.
#[must_use]
pub fn by_name(name: &str) -> Request {
    let mut message = LinkId::from(name).message();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let deed = format!("find the link `{name}`");
    Request::new(RouteNetlinkMessage::GetLink(message), "RTM_GETLINK", deed)
}

/// Asks for all links of the namespace.
#[must_use]
pub fn list() -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    Request::new(RouteNetlinkMessage::GetLink(message), "RTM_GETLINK(all)", "list links").listing()
}

/// Removes a link, of a pair both ends.
#[must_use]
pub fn delete(link: &LinkId) -> Request {
    let deed = format!("remove the link {link}");
    Request::new(RouteNetlinkMessage::DelLink(link.message()), "RTM_DELLINK", deed)
}

fn change(link: &LinkId, what: &str, call: &'static str, attribute: LinkAttribute) -> Request {
    let mut message = link.message();
    message.attributes.push(attribute);
    let deed = format!("change {what} of the link {link}");
    Request::new(RouteNetlinkMessage::SetLink(message), call, deed)
}

/// Gives a link, which must be down, another name.
#[must_use]
pub fn rename(index: u32, name: &str) -> Request {
    let attribute = LinkAttribute::IfName(name.to_owned());
    change(&LinkId::Index(index), "the name", "RTM_SETLINK(IFLA_IFNAME)", attribute)
}

/// Moves a link, which must be down, into another namespace, where it has this name.
#[must_use]
pub fn move_to(index: u32, namespace: BorrowedFd<'_>, name: &str) -> Request {
    let mut message = LinkId::Index(index).message();
    message.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let deed = format!("move the link number {index} into another namespace as `{name}`");
    Request::new(RouteNetlinkMessage::SetLink(message), "RTM_SETLINK(IFLA_NET_NS_FD)", deed)
}

/// Gives a link its second name.
#[must_use]
pub fn set_alias(link: &LinkId, alias: &str) -> Request {
    let attribute = LinkAttribute::IfAlias(alias.to_owned());
    change(link, "the alias", "RTM_SETLINK(IFLA_IFALIAS)", attribute)
}

/// Sets the largest packet a link takes, in bytes.
#[must_use]
pub fn set_mtu(link: &LinkId, mtu: u32) -> Request {
    change(link, "the MTU", "RTM_SETLINK(IFLA_MTU)", LinkAttribute::Mtu(mtu))
}

/// Sets the hardware address of a link.
#[must_use]
pub fn set_mac(link: &LinkId, mac: Mac) -> Request {
    let attribute = LinkAttribute::Address(mac.0.to_vec());
    change(link, "the hardware address", "RTM_SETLINK(IFLA_ADDRESS)", attribute)
}

/// Makes a link a port of a bridge.
#[must_use]
pub fn set_master(link: &LinkId, bridge: u32) -> Request {
    change(link, "the bridge", "RTM_SETLINK(IFLA_MASTER)", LinkAttribute::Controller(bridge))
}

/// Has the kernel give a link no IPv6 address of its own making.
#[must_use]
pub fn fix_ipv6(link: &LinkId) -> Request {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let attribute = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
    change(link, "IPv6 addresses", "RTM_SETLINK(IFLA_INET6_ADDR_GEN_MODE)", attribute)
}

/// Starts a link.
#[must_use]
pub fn set_up(link: &LinkId) -> Request {
    let mut message = link.message();
    message.header.interface_family = AddressFamily::Unspec;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    let deed = format!("start the link {link}");
    Request::new(RouteNetlinkMessage::SetLink(message), "RTM_SETLINK(IFF_UP)", deed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_as_they_are_written() {
        let mac = Mac::parse("02:00:5e:10:00:Ff").unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        assert!(mac.is_of_one());
        assert!(!Mac::parse("01:00:5e:00:00:01").unwrap().is_of_one());
        for wrong in ["", "02:00", "02:00:5e:10:00:ff:00", "2:0:5e:10:0:ff", "02-00-5e-10-00-ff"] {
            assert_eq!(Mac::parse(wrong), None, "{wrong}");
        }
    }
}
