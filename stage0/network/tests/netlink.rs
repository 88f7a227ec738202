//! What the kernel makes of what is asked: links, addresses, routes and filters, in namespaces of
//! the test's own.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "test code outside of `#[test]`")]

mod hosts;

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use hosts::{Netns, ask, link_names, on_a_host, said, seen_by, serve, until_running};
use netlink::{
    self, ErrorKind, Kind, Link, LinkId, Mac, Prefix, Route, Socket, Veth, VethEnd, add_address,
    add_bridge, add_ingress, add_neighbour, add_route, add_veth, by_name, redirect_to, set_up,
};

const NEAR: Mac = Mac([2, 0, 0, 0, 0, 1]);
const FAR: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn pair(near: &str, far: &str) -> Veth {
    let end = |name: &str, mac| VethEnd { name: name.to_owned(), mac };
    Veth { near: end(near, NEAR), far: end(far, FAR), mtu: Some(1400) }
}

fn link(socket: &mut Socket, name: &str) -> Link {
    let answers = socket.perform(&[by_name(name)]).unwrap();
    answers.iter().find_map(Link::read).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Gives both ends of a pair an address, so that they reach each other.
fn connect(near: (&mut Socket, u32, IpAddr), far: (&mut Socket, u32, IpAddr)) {
    let others = [(far.2, FAR), (near.2, NEAR)];
    for ((socket, index, own), (other, mac)) in [near, far].into_iter().zip(others) {
        let to = Route { to: Prefix::host(other), link: Some(index), via: None };
        let batch = [
            set_up(&LinkId::Index(index)),
            add_address(index, Prefix::host(own)),
            add_neighbour(index, other, mac),
            add_route(&to),
        ];
        if let IpAddr::V6(own) = own {
            socket.perform(&[netlink::receive_at(index, own)]).unwrap();
        }
        socket.perform(&batch).unwrap();
    }
}

#[test]
fn a_pair_joins_two_namespaces_and_one_batch_tells_both_ends() {
    on_a_host(|| {
        let pod = Netns::new();
        let mut host = Socket::open().unwrap();
        let batch = [add_veth(&pair("near0", "eth0"), pod.fd()), by_name("near0")];
        let answers = host.perform(&batch).unwrap();
        assert_eq!(host.exchanges(), 1);

        let near = answers.iter().find_map(Link::read).unwrap();
        assert_eq!((near.kind.clone(), near.mac, near.mtu), (Kind::Veth, Some(NEAR), 1400));
        let mut inside = Socket::open_in(pod.fd()).unwrap();
        let far = link(&mut inside, "eth0");
        assert_eq!((near.peer, far.mac, far.mtu), (Some(far.index), Some(FAR), 1400));
        assert!(!near.up && !far.up);

        for (here, there) in [("10.11.0.1", "10.11.0.2"), ("fd00::1", "fd00::2")] {
            let (here, there) = (ip(here), ip(there));
            connect((&mut host, near.index, here), (&mut inside, far.index, there));
            until_running(&mut host, "near0");
            until_running(&mut inside, "eth0");
            pod.within(|| serve((there, 80).into()));
            assert_eq!(seen_by((there, 80).into()), Some(here), "{there}");
        }
        let addresses = inside.perform(&[netlink::list_addresses()]).unwrap();
        let ours: Vec<Prefix> = addresses.iter().filter_map(|answer| far.address(answer)).collect();
        assert!(ours.contains(&Prefix::host(ip("10.11.0.2"))), "{ours:?}");
        assert!(ours.contains(&Prefix::host(ip("fd00::2"))), "{ours:?}");
    });
}

#[test]
fn a_neighbour_that_was_said_is_not_asked_for() {
    on_a_host(|| {
        let pod = Netns::new();
        let mut host = Socket::open().unwrap();
        let batch = [add_veth(&pair("near0", "eth0"), pod.fd()), by_name("near0")];
        let near = host.perform(&batch).unwrap().iter().find_map(Link::read).unwrap();
        host.perform(&[
            add_neighbour(near.index, ip("10.11.0.2"), FAR),
            add_neighbour(near.index, ip("fd00::2"), FAR),
        ])
        .unwrap();
        let table = said("ip", &["neighbour", "show", "dev", "near0"]);
        for address in ["10.11.0.2", "fd00::2"] {
            let line = format!("{address} lladdr {FAR} PERMANENT");
            assert!(table.contains(&line), "{table}");
        }
    });
}

#[test]
fn links_are_changed_and_removed() {
    on_a_host(|| {
        let pod = Netns::new();
        ask(&[add_bridge("br0"), add_veth(&pair("near0", "eth0"), pod.fd())]);
        let mut host = Socket::open().unwrap();
        let bridge = link(&mut host, "br0");
        let near = link(&mut host, "near0");
        assert_eq!(bridge.kind, Kind::Bridge);
        let id = LinkId::Name("near1".to_owned());
        ask(&[
            netlink::rename(near.index, "near1"),
            netlink::set_alias(&id, "somebody's"),
            netlink::set_mtu(&id, 1300),
            netlink::set_mac(&id, Mac([2, 0, 0, 0, 0, 9])),
            netlink::set_master(&id, bridge.index),
            netlink::fix_ipv6(&id),
            set_up(&id),
        ]);
        let near = link(&mut host, "near1");
        assert_eq!(near.alias.as_deref(), Some("somebody's"));
        assert_eq!((near.mtu, near.mac), (1300, Some(Mac([2, 0, 0, 0, 0, 9]))));
        assert_eq!((near.master, near.up), (Some(bridge.index), true));

        ask(&[netlink::delete(&id), netlink::delete(&LinkId::Index(bridge.index))]);
        assert_eq!(link_names(), ["lo"]);
        assert_eq!(pod.within(link_names), ["lo"]);
    });
}

#[test]
fn a_refusal_names_the_object_the_call_and_a_way_out() {
    on_a_host(|| {
        let pod = Netns::new();
        ask(&[add_bridge("taken0")]);
        let mut host = Socket::open().unwrap();
        // What stands behind the refused request in its batch is done all the same.
        let batch =
            [add_veth(&pair("taken0", "eth0"), pod.fd()), add_bridge("br1"), by_name("gone")];
        let error = host.perform(&batch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Kernel);
        assert_eq!(
            error.to_string(),
            "cannot add the links `taken0` and `eth0`, RTM_NEWLINK(veth)"
        );
        assert_eq!(error.errno(), Some(nix::libc::EEXIST));
        assert_eq!(error.way_out(), Some("a link of that name is there: `ip link` shows it"));
        assert_eq!(link(&mut host, "br1").kind, Kind::Bridge);
    });
}

#[test]
fn a_namespace_that_is_none_is_refused() {
    on_a_host(|| {
        let file = File::open("/dev/null").unwrap();
        let error = Socket::open_in(file.as_fd()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Namespace);
    });
}

#[test]
fn routes_are_listed_with_their_gateways() {
    on_a_host(|| {
        ask(&[add_bridge("br0"), set_up(&"br0".into())]);
        let mut host = Socket::open().unwrap();
        let index = link(&mut host, "br0").index;
        let near = Route { to: Prefix::host(ip("10.11.0.1")), link: Some(index), via: None };
        let far = Route {
            to: Prefix { address: ip("10.12.0.0"), length: 16 },
            link: Some(index),
            via: Some(ip("10.11.0.1")),
        };
        host.perform(&[
            add_address(index, Prefix::host(ip("10.11.0.9"))),
            add_route(&near),
            add_route(&far),
        ])
        .unwrap();
        let listed = |host: &mut Socket| {
            let answers = host.perform(&[netlink::list_routes(ip("0.0.0.0"))]).unwrap();
            answers.iter().filter_map(Route::read).collect::<Vec<_>>()
        };
        let routes = listed(&mut host);
        assert!(routes.contains(&near) && routes.contains(&far), "{routes:?}");
        host.perform(&[netlink::delete_route(&far)]).unwrap();
        assert!(!listed(&mut host).contains(&far));
    });
}

/// The tap of a virtual machine is played by one end of a second pair, its guest by a namespace.
#[test]
fn a_guest_behind_two_redirects_is_the_pod_to_everybody_else() {
    on_a_host(|| {
        let (pod, guest) = (Netns::new(), Netns::new());
        ask(&[add_veth(&pair("near0", "eth0"), pod.fd())]);
        let mut host = Socket::open().unwrap();
        let near = link(&mut host, "near0").index;
        let mut inside = Socket::open_in(pod.fd()).unwrap();
        inside.perform(&[add_veth(&pair("tap0", "eth0"), guest.fd())]).unwrap();
        let (wire, tap) = (link(&mut inside, "eth0").index, link(&mut inside, "tap0").index);
        inside
            .perform(&[
                set_up(&LinkId::Index(wire)),
                set_up(&LinkId::Index(tap)),
                add_ingress(wire),
                add_ingress(tap),
                redirect_to(wire, tap),
                redirect_to(tap, wire),
            ])
            .unwrap();

        let mut machine = Socket::open_in(guest.fd()).unwrap();
        let far = link(&mut machine, "eth0").index;
        let (here, there) = (ip("10.11.0.1"), ip("10.11.0.2"));
        connect((&mut host, near, here), (&mut machine, far, there));
        until_running(&mut host, "near0");
        until_running(&mut inside, "eth0");
        until_running(&mut inside, "tap0");
        until_running(&mut machine, "eth0");
        guest.within(|| serve((there, 80).into()));
        assert_eq!(seen_by((there, 80).into()), Some(here));
    });
}

#[test]
fn a_tap_is_known_as_one() {
    if !Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: there is no /dev/net/tun");
        return;
    }
    on_a_host(|| {
        said("ip", &["tuntap", "add", "dev", "tap0", "mode", "tap"]);
        let mut host = Socket::open().unwrap();
        assert_eq!(link(&mut host, "tap0").kind, Kind::Tun);
    });
}
