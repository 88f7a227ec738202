//! Which ports of the host are free: among pods, by the ledger; among everybody else, by trying.

mod holder;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use pod_abi::network::{Protocol, Publication};

use crate::attachment::Owner;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::leases::Living;
use crate::ledger::{Entry, Ledger};

/// The families in which a publication listens at a host address that means all of them, and the one
/// address it listens at otherwise.
fn listens(publication: &Publication) -> Vec<IpAddr> {
    match publication.host_address {
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        Some(address) => vec![address],
    }
}

/// Tells whether two publications want one port.
fn collide(one: &Publication, other: &Publication) -> bool {
    let ports = one.host_port <= other.last_host_port() && other.host_port <= one.last_host_port();
    let meet = |a: &IpAddr, b: &IpAddr| {
        a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
    };
    let (ones, others) = (listens(one), listens(other));
    one.protocol == other.protocol
        && ports
        && ones.iter().any(|a| others.iter().any(|b| meet(a, b)))
}

/// Gives an owner, who is in the ledger, ports of the host that no living pod has. Returns the
/// entries that had to go, because their pods do not live.
///
/// # Errors
///
/// [`ErrorKind::PortTaken`], [`ErrorKind::Invalid`] for ports that collide with each other.
pub(crate) fn assign(
    ledger: &mut Ledger,
    owner: &Owner,
    ports: &[Publication],
    living: &Living<'_>,
) -> Result<Vec<Entry>> {
    for (at, port) in ports.iter().enumerate() {
        if let Some(other) = ports[..at].iter().find(|other| collide(port, other)) {
            let message = format!("port {port} of the host is published twice: {other}");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    let claims = |entry: &Entry, port: &Publication| {
        entry.owner != *owner && entry.ports.iter().any(|other| collide(port, other))
    };
    for port in ports {
        let rival = |entry: &&Entry| claims(entry, port) && living(&entry.owner.pod);
        if let Some(rival) = ledger.entries.iter().find(rival) {
            let message = format!("port {port} of the host belongs to {}", rival.owner);
            return Err(Error::new(ErrorKind::PortTaken, message)
                .hint("publish another port, or the same at another address of the host"));
        }
    }
    let void = |entry: &mut Entry| ports.iter().any(|port| claims(entry, port));
    let gone = ledger.entries.extract_if(.., void).collect();
    if let Some(entry) = ledger.entries.iter_mut().find(|entry| entry.owner == *owner) {
        entry.ports = ports.to_vec();
    }
    Ok(gone)
}

/// Makes sure that no process of the host, which is where the calling thread is, has one of these
/// ports: behind our rules it would never hear of anybody again.
///
/// # Errors
///
/// [`ErrorKind::PortTaken`], which names the process if it can be found; [`ErrorKind::Invalid`] for
/// an address that is none of this host.
pub(crate) fn probe(ports: &[Publication]) -> Result<()> {
    for publication in ports {
        for address in listens(publication) {
            for (port, _) in publication.pairs() {
                try_port(address, port, publication.protocol)?;
            }
        }
    }
    Ok(())
}

fn try_port(address: IpAddr, port: u16, protocol: Protocol) -> Result<()> {
    let at = SocketAddr::new(address, port);
    let told = || format!("cannot try port {at}/{protocol} of the host");
    match bind_once(at, protocol) {
        Ok(()) => Ok(()),
        Err(Errno::ADDRINUSE) => Err(in_use(at, protocol)),
        Err(Errno::ADDRNOTAVAIL) => {
            let message = format!("{address} is no address of this host, {at}/{protocol}");
            Err(Error::new(ErrorKind::Invalid, message).hint("`ip address` shows which are"))
        }
        // A host without IPv6 has nobody there.
        Err(Errno::AFNOSUPPORT) if address.is_ipv6() && address.is_unspecified() => Ok(()),
        Err(errno) => Err(errno).context(ErrorKind::Kernel, told),
    }
}

fn bind_once(at: SocketAddr, protocol: Protocol) -> std::result::Result<(), Errno> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let fd = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if protocol == Protocol::Tcp {
        // Connections that have ended linger on a port; only listeners count. Of UDP, where there
        // are no listeners, the same option would let everybody pass.
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    bind(&fd, &at)
}

fn in_use(at: SocketAddr, protocol: Protocol) -> Error {
    let by = holder::of(at, protocol).map(|holder| format!(" by {holder}")).unwrap_or_default();
    Error::new(ErrorKind::PortTaken, format!("port {at}/{protocol} of the host is in use{by}"))
        .hint("publish another port, or stop what listens there")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pod_abi::PodId;

    use super::*;
    use crate::attachment::Network;

    fn publication(text: &str) -> Publication {
        let (address, ports) = text.rsplit_once(' ').unwrap_or(("", text));
        let (ports, protocol) = ports.split_once('/').unwrap();
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last): (u16, u16) = (first.parse().unwrap(), last.parse().unwrap());
        Publication {
            host_address: address.parse().ok(),
            host_port: first,
            pod_port: first,
            count: last - first + 1,
            protocol: if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp },
        }
    }

    #[test]
    fn ports_collide_where_a_packet_could_mean_both() {
        for (one, other, expected) in [
            ("80/tcp", "80/tcp", true),
            ("80/tcp", "80/udp", false),
            ("80/tcp", "81/tcp", false),
            ("80-90/tcp", "90-99/tcp", true),
            ("80-90/tcp", "91-99/tcp", false),
            ("127.0.0.1 80/tcp", "80/tcp", true),
            ("127.0.0.1 80/tcp", "127.0.0.2 80/tcp", false),
            ("127.0.0.1 80/tcp", "0.0.0.0 80/tcp", true),
            ("127.0.0.1 80/tcp", ":: 80/tcp", false),
            ("::1 80/tcp", ":: 80/tcp", true),
            ("::1 80/tcp", "80/tcp", true),
        ] {
            assert_eq!(collide(&publication(one), &publication(other)), expected, "{one} {other}");
            assert_eq!(collide(&publication(other), &publication(one)), expected, "{other} {one}");
        }
    }

    fn owner(number: u8) -> Owner {
        let pod = PodId::parse(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap();
        Owner { pod, interface: "eth0".to_owned() }
    }

    fn ledger(owners: &[u8]) -> Ledger {
        let mut ledger = Ledger::default();
        for number in owners {
            ledger.entries.push(Entry {
                owner: owner(*number),
                network: Network::Default,
                v4: [10, 0, 0, *number].into(),
                v6: Ipv6Addr::LOCALHOST,
                ports: Vec::new(),
            });
        }
        ledger
    }

    #[test]
    fn a_port_of_a_living_pod_is_refused_and_of_an_ended_one_is_taken_over() {
        let mut ledger = ledger(&[1, 2]);
        let ports = [publication("80/tcp")];
        assign(&mut ledger, &owner(1), &ports, &|_| true).unwrap();
        let error = assign(&mut ledger, &owner(2), &ports, &|_| true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "port 80/tcp of the host belongs to pod 00000001-0000-4000-8000-000000000000 (`eth0`)"
        );
        let gone = assign(&mut ledger, &owner(2), &ports, &|_| false).unwrap();
        assert_eq!(gone.len(), 1);
        let left: BTreeSet<&Owner> = ledger.entries.iter().map(|entry| &entry.owner).collect();
        assert_eq!(left, [&owner(2)].into());
        assert_eq!(ledger.entries[0].ports, ports);
    }

    #[test]
    fn a_port_that_is_published_twice_is_refused() {
        let ports = [publication("80-90/tcp"), publication("127.0.0.1 85/tcp")];
        let error = assign(&mut ledger(&[1]), &owner(1), &ports, &|_| true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
