//! Which addresses the built-in networks give out: chosen once for a host, at first use, so that
//! they collide with nothing the host can reach.
//!
//! ```text
//! STATE/default.json   {"version": 1,
//!                       "default":            {"v4": "10.187.0.0/17",   "v6": "fd5e:…:0::/64"},
//!                       "default-restricted": {"v4": "10.187.128.0/17", "v6": "fd5e:…:1::/64"}}
//! ```
//!
//! The administrator may write the file first. A choice is never changed by us, because pods, rules
//! and other people's firewalls know it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::attachment::Network;
use crate::error::{Error, ErrorKind, Result};
use netlink::Prefix;

/// The version of the file.
const VERSION: u32 = 1;

/// What is tried, in order: large ones, then small ones.
///
/// They keep clear of what others take by default: 10.88/16 and 10.89/16 (podman), 172.17/16 up to
/// 172.31/16 and 192.168/16 from its beginning (Docker), 192.168.122/24 (libvirt), 10.42/16, 10.43/16,
/// 10.96/12 and 10.244/16 (Kubernetes), 100.64/10 (Tailscale).
const CANDIDATES: [(Ipv4Addr, u8); 8] = [
    (Ipv4Addr::new(10, 187, 0, 0), 16),
    (Ipv4Addr::new(10, 211, 0, 0), 16),
    (Ipv4Addr::new(10, 173, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 16),
    (Ipv4Addr::new(10, 229, 187, 0), 24),
    (Ipv4Addr::new(172, 16, 28, 0), 24),
    (Ipv4Addr::new(192, 168, 229, 0), 24),
    (Ipv4Addr::new(198, 18, 187, 0), 24),
];

/// The IPv4 addresses of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet4 {
    first: Ipv4Addr,
    length: u8,
}

impl Subnet4 {
    /// Makes a subnet; none if it is too small for a gateway and two pods, or its address has bits
    /// behind its length.
    #[must_use]
    pub fn new(first: Ipv4Addr, length: u8) -> Option<Self> {
        let fits = (8..=29).contains(&length) && u32::from(first) & (u32::MAX >> length) == 0;
        fits.then_some(Self { first, length })
    }

    /// Returns the host's address: the first.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        self.at(1)
    }

    /// Returns the numbers that pods may have: all but the network's, the gateway's and the last.
    #[must_use]
    pub fn numbers(self) -> std::ops::Range<u32> {
        2..(u32::MAX >> self.length)
    }

    /// Returns the address of a number.
    #[must_use]
    pub fn at(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first).wrapping_add(number))
    }

    /// Returns the number of an address, if a pod may have it.
    #[must_use]
    pub fn number(self, address: Ipv4Addr) -> Option<u32> {
        let number = u32::from(address).wrapping_sub(u32::from(self.first));
        self.numbers().contains(&number).then_some(number)
    }

    fn overlaps(self, other: Ipv4Addr, length: u8) -> bool {
        let shift = 32 - u32::from(self.length.min(length));
        let shared = u32::from(self.first) ^ u32::from(other);
        shared.checked_shr(shift).unwrap_or(0) == 0
    }
}

impl fmt::Display for Subnet4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

impl From<Subnet4> for String {
    fn from(subnet: Subnet4) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet4 {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let parts = text.split_once('/');
        let parsed =
            parts.and_then(|(first, length)| Self::new(first.parse().ok()?, length.parse().ok()?));
        parsed.ok_or_else(|| format!("`{text}` is no subnet between /8 and /29"))
    }
}

/// The IPv6 addresses of one network, always a /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet6 {
    first: Ipv6Addr,
}

impl Subnet6 {
    /// Makes a subnet; none if there are bits behind the 64th.
    #[must_use]
    pub fn new(first: Ipv6Addr) -> Option<Self> {
        (u128::from(first) & u128::from(u64::MAX) == 0).then_some(Self { first })
    }

    /// Returns the host's address: the first.
    #[must_use]
    pub fn gateway(self) -> Ipv6Addr {
        self.at(1)
    }

    /// Returns the address of a number.
    #[must_use]
    pub fn at(self, number: u32) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.first) + u128::from(number))
    }

    /// Tells whether a pod may have this address.
    #[must_use]
    pub fn holds(self, address: Ipv6Addr) -> bool {
        let inside = (u128::from(address) ^ u128::from(self.first)) >> 64 == 0;
        inside && address != self.first && address != self.gateway()
    }
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/64", self.first)
    }
}

impl From<Subnet6> for String {
    fn from(subnet: Subnet6) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet6 {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let first = text.strip_suffix("/64").and_then(|first| first.parse().ok());
        first.and_then(Self::new).ok_or_else(|| format!("`{text}` is no subnet of /64"))
    }
}

/// The addresses of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// IPv4.
    pub v4: Subnet4,
    /// IPv6, unique-local (RFC 4193).
    pub v6: Subnet6,
}

/// What a host has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnets {
    version: u32,
    default: Subnet,
    #[serde(rename = "default-restricted")]
    restricted: Subnet,
}

impl Subnets {
    /// Reads what was chosen.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`] for what is no choice, or one of a later version.
    pub fn parse(text: &str) -> Result<Self> {
        let broken = |why: String| {
            Error::new(ErrorKind::Storage, format!("cannot read `default.json`: {why}"))
                .hint("correct it, or remove it while no pod runs: another is chosen")
        };
        let subnets: Self =
            serde_json::from_str(text).map_err(|error| broken(error.to_string()))?;
        if subnets.version == VERSION {
            Ok(subnets)
        } else {
            Err(broken(format!("version {} is not known here", subnets.version)))
        }
    }

    /// Returns the text to keep.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Returns the addresses of a network.
    #[must_use]
    pub fn of(&self, network: Network) -> Subnet {
        match network {
            Network::Default => self.default,
            Network::DefaultRestricted => self.restricted,
        }
    }

    /// Chooses what no route of the host leads to. `random` makes the IPv6 prefix one that nobody
    /// else has (RFC 4193 §3.2).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoSubnet`].
    pub fn choose(routes: &[Prefix], random: [u8; 5]) -> Result<Self> {
        let taken: Vec<(Ipv4Addr, u8)> = routes
            .iter()
            .filter(|route| route.length > 0)
            .filter_map(|route| match route.address {
                IpAddr::V4(address) => Some((address, route.length)),
                IpAddr::V6(_) => None,
            })
            .collect();
        let halves = |(first, length): (Ipv4Addr, u8)| {
            let whole = Subnet4::new(first, length)?;
            let upper = whole.at(1 << (31 - u32::from(length)));
            let is_free = !taken.iter().any(|(to, length)| whole.overlaps(*to, *length));
            is_free.then_some(())?;
            Subnet4::new(first, length + 1).zip(Subnet4::new(upper, length + 1))
        };
        let (lower, upper) = CANDIDATES.into_iter().find_map(halves).ok_or_else(|| {
            Error::new(ErrorKind::NoSubnet, "every subnet for pods is routed on this host already")
                .hint("write one that is free into `default.json` in the state directory")
        })?;
        let [a, b, c, d, e] = random.map(u16::from);
        let v6 = |number| Ipv6Addr::new(0xfd00 | a, b << 8 | c, d << 8 | e, number, 0, 0, 0, 0);
        Ok(Self {
            version: VERSION,
            default: Subnet { v4: lower, v6: Subnet6 { first: v6(0) } },
            restricted: Subnet { v4: upper, v6: Subnet6 { first: v6(1) } },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
    }

    fn chosen(routes: &[&str]) -> String {
        let routes: Vec<Prefix> = routes.iter().map(|text| route(text)).collect();
        Subnets::choose(&routes, [1, 2, 3, 4, 5])
            .map_or_else(|error| error.to_string(), |subnets| subnets.default.v4.to_string())
    }

    #[test]
    fn a_subnet_overlaps_no_route_of_the_host() {
        for (routes, expected) in [
            (&["0.0.0.0/0", "::/0", "192.168.1.0/24"][..], "10.187.0.0/17"),
            (&["10.187.200.7/32"], "10.211.0.0/17"),
            (&["10.128.0.0/9"], "172.16.0.0/17"),
            (&["10.0.0.0/8"], "172.16.0.0/17"),
            (&["10.0.0.0/8", "172.16.5.0/24"], "172.16.28.0/25"),
            (&["10.0.0.0/8", "172.16.0.0/12"], "192.168.229.0/25"),
            (
                &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15"],
                "every subnet for pods is routed on this host already",
            ),
        ] {
            assert_eq!(chosen(routes), expected, "{routes:?}");
        }
    }

    #[test]
    fn the_two_networks_share_no_address() {
        let subnets = Subnets::choose(&[], [0xab, 2, 3, 4, 5]).unwrap();
        let (default, restricted) =
            (subnets.of(Network::Default), subnets.of(Network::DefaultRestricted));
        assert_eq!(default.v4.to_string(), "10.187.0.0/17");
        assert_eq!(restricted.v4.to_string(), "10.187.128.0/17");
        assert_eq!(default.v6.to_string(), "fdab:203:405::/64");
        assert_eq!(restricted.v6.to_string(), "fdab:203:405:1::/64");
        assert!(!default.v4.overlaps(restricted.v4.first, 17));
        assert_eq!(Subnets::parse(&subnets.text()).unwrap(), subnets);
    }

    #[test]
    fn gateway_network_and_last_address_are_nobodys() {
        let subnet = Subnet4::new(Ipv4Addr::new(10, 1, 0, 0), 24).unwrap();
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 1, 0, 1));
        assert_eq!(subnet.numbers(), 2..255);
        for (last, number) in [(0, None), (1, None), (2, Some(2)), (254, Some(254)), (255, None)] {
            assert_eq!(subnet.number(Ipv4Addr::new(10, 1, 0, last)), number, "{last}");
        }
        assert_eq!(subnet.number(Ipv4Addr::new(10, 1, 1, 2)), None);
    }

    #[test]
    fn a_choice_that_is_none_is_refused_with_a_way_out() {
        let text = Subnets::choose(&[], [0; 5]).unwrap().text();
        for (from, to) in [
            ("10.187.0.0/17", "10.187.0.1/17"),
            ("/64", "/48"),
            ("\"version\": 1", "\"version\": 2"),
        ] {
            let error = Subnets::parse(&text.replace(from, to)).unwrap_err();
            assert!(error.to_string().starts_with("cannot read `default.json`: "), "{error}");
            assert!(error.way_out().is_some());
        }
    }
}
