//! The built-in networks on a host of the test's own: who reaches whom, under which address, and
//! what is left afterwards.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "test code outside of `#[test]`")]

mod hosts;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use hosts::{
    Netns, World, ask, link_names, on_a_host, run, said, seen_by, seen_by_udp, serve, serve_udp,
};
use netlink::{self, Mac};
use network::{
    Attached, ErrorKind, Host, Namespace, Network, Protocol, Publication, Request, Work, prepare,
};
use pod_abi::PodId;

fn pod(number: u32) -> PodId {
    PodId::parse(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap()
}

fn everybody(_: &PodId) -> bool {
    true
}

/// A pod that is attached.
struct Pod {
    netns: Netns,
    attached: Attached,
}

impl Pod {
    fn new(host: &Host<'_>, request: &Request) -> Self {
        let netns = Netns::new();
        prepare(netns.fd()).unwrap();
        let attached = host.attach(netns.fd(), request).unwrap_or_else(|error| {
            panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string))
        });
        Self { netns, attached }
    }

    fn v4(&self) -> IpAddr {
        self.attached.v4.address.into()
    }

    fn v6(&self) -> IpAddr {
        self.attached.v6.unwrap().address.into()
    }

    fn gateways(&self) -> [IpAddr; 2] {
        [self.attached.v4.gateway.into(), self.attached.v6.unwrap().gateway.into()]
    }

    /// Serves at a port, over both protocols and families.
    fn serve(&self, port: u16) {
        self.netns.within(|| {
            for address in [self.v4(), self.v6()] {
                serve((address, port).into());
                serve_udp((address, port).into());
            }
        });
    }

    fn sees(&self, server: SocketAddr) -> Option<IpAddr> {
        self.netns.within(|| seen_by(server))
    }
}

fn plain(number: u32) -> Request {
    Request::new(pod(number), "eth0", Network::Default)
}

fn restricted(number: u32) -> Request {
    Request::new(pod(number), "eth0", Network::DefaultRestricted)
}

fn port(host_address: Option<&str>, host_port: u16, pod_port: u16) -> Publication {
    let host_address = host_address.map(|address| address.parse().unwrap());
    Publication { host_address, host_port, pod_port, count: 1, protocol: Protocol::Tcp }
}

fn publishing(number: u32, ports: &[Publication]) -> Request {
    Request { ports: ports.to_vec(), ..plain(number) }
}

/// Runs a test with the network of a fresh host.
fn with_network(test: impl FnOnce(&Host<'_>) + Send) {
    on_a_host(|| {
        let (_kept, state) = hosts::state_directory();
        test(&Host { state: &state, table: "pod", living: &everybody });
    });
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn pods_reach_each_other_and_the_host_under_their_own_addresses() {
    with_network(|host| {
        let (one, other) = (Pod::new(host, &plain(1)), Pod::new(host, &plain(2)));
        one.serve(80);
        for (server, client) in [(one.v4(), other.v4()), (one.v6(), other.v6())] {
            assert_eq!(other.sees(at(server, 80)), Some(client));
            assert_eq!(other.netns.within(|| seen_by_udp(at(server, 80))), Some(client));
        }
        for (gateway, client) in one.gateways().into_iter().zip([one.v4(), one.v6()]) {
            serve(at(gateway, 81));
            assert_eq!(one.sees(at(gateway, 81)), Some(client));
            assert_eq!(seen_by(at(client, 80)), Some(gateway));
        }
        host.check(one.netns.fd(), &one.attached.owner).unwrap();
    });
}

/// A first packet that is lost costs a second, not the milliseconds a test would overlook.
#[test]
fn the_first_packet_of_a_pod_and_to_a_pod_is_not_lost() {
    with_network(|host| {
        serve(at(ip("0.0.0.0"), 81));
        serve(at(ip("::"), 82));
        for number in 1..=25 {
            let pod = Pod::new(host, &plain(number));
            let [v4, v6] = pod.gateways();
            let servers =
                if number % 2 == 0 { [at(v4, 81), at(v6, 82)] } else { [at(v6, 82), at(v4, 81)] };
            for server in servers {
                assert!(pod.sees(server).is_some(), "pod {number} reaches {server}");
            }
            let pod = Pod::new(host, &plain(100 + number));
            pod.serve(80);
            for address in [pod.v6(), pod.v4()] {
                assert!(seen_by(at(address, 80)).is_some(), "{address} of pod {number}");
            }
        }
    });
}

#[test]
fn the_world_sees_the_host_and_answers_the_pod() {
    with_network(|host| {
        let world = World::beyond_this_host();
        let pod = Pod::new(host, &plain(1));
        for (server, expected) in world.servers.into_iter().zip(world.host_addresses) {
            assert_eq!(pod.sees(at(server, 80)), Some(expected));
        }
    });
}

#[test]
fn the_world_reaches_what_was_published_and_nothing_else() {
    with_network(|host| {
        let world = World::beyond_this_host();
        let pod = Pod::new(host, &publishing(1, &[port(None, 8080, 80)]));
        pod.serve(80);
        for (host_address, own) in world.host_addresses.into_iter().zip(world.servers) {
            assert_eq!(world.sees(at(host_address, 8080)), Some(own), "the pod sees who calls it");
            assert_eq!(world.sees(at(host_address, 80)), None);
        }
        // The world knows the way to pods, and still must not come in.
        for pod in [pod.v4(), pod.v6()] {
            assert_eq!(world.sees(at(pod, 80)), None);
        }
    });
}

#[test]
fn a_published_port_is_reached_from_the_host_from_pods_and_from_the_pod_itself() {
    with_network(|host| {
        let _world = World::beyond_this_host();
        let ports = [port(None, 8080, 80), port(Some("::1"), 8081, 80)];
        let server = Pod::new(host, &publishing(1, &ports));
        let client = Pod::new(host, &plain(2));
        server.serve(80);
        for address in ["127.0.0.1", "127.1.2.3", "192.0.2.1", "2001:db8::1"] {
            assert!(seen_by(at(ip(address), 8080)).is_some(), "from the host at {address}");
        }
        assert!(seen_by(at(ip("::1"), 8081)).is_some(), "from the host at ::1");
        assert_eq!(seen_by(at(ip("::1"), 8080)), None, "`::1` has to be asked for");
        for address in ["192.0.2.1", "2001:db8::1"].map(ip).into_iter().chain(server.gateways()) {
            let own = if address.is_ipv4() { client.v4() } else { client.v6() };
            assert_eq!(client.sees(at(address, 8080)), Some(own), "from a pod at {address}");
            assert!(server.sees(at(address, 8080)).is_some(), "from itself at {address}");
        }
        assert_eq!(client.sees(at(ip("127.0.0.1"), 8080)), None, "a pod's loopback is its own");
    });
}

#[test]
fn loopback_of_the_host_stays_its_own_beside_published_ports() {
    with_network(|host| {
        let ports =
            |number: u16| [port(None, 8080 + number, 80), port(Some("::1"), 9080 + number, 80)];
        let one = Pod::new(host, &publishing(1, &ports(1)));
        let two = Pod::new(host, &publishing(2, &ports(2)));
        one.serve(80);
        two.serve(80);
        for own in ["127.0.0.1", "::1"] {
            serve(at(ip(own), 7000));
            assert_eq!(seen_by(at(ip(own), 7000)), Some(ip(own)));
        }
        for port in [9081, 9082] {
            assert!(seen_by(at(ip("::1"), port)).is_some(), "[::1]:{port}");
        }
        // What a pod sends to the host's loopback is dropped, whatever route it makes itself.
        let gateway = one.gateways()[0].to_string();
        one.netns.within(|| {
            said("ip", &["route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local"]);
            said("ip", &["route", "del", "local", "127.0.0.1", "dev", "lo", "table", "local"]);
            said("ip", &["route", "add", "127.0.0.0/8", "via", &gateway]);
            said("sysctl", &["-qw", "net.ipv4.conf.all.route_localnet=1"]);
        });
        assert_eq!(one.sees(at(ip("127.0.0.1"), 7000)), None);
    });
}

#[test]
fn ports_of_one_protocol_address_or_range_lead_where_they_were_said_to() {
    with_network(|host| {
        let _world = World::beyond_this_host();
        let udp = Publication { protocol: Protocol::Udp, ..port(None, 53, 5353) };
        let range = Publication { count: 3, ..port(Some("192.0.2.1"), 9000, 80) };
        let pod = Pod::new(host, &publishing(1, &[udp, range]));
        for inner in [80, 81, 82, 5353] {
            pod.serve(inner);
        }
        assert!(seen_by_udp(at(ip("192.0.2.1"), 53)).is_some());
        assert!(seen_by_udp(at(ip("2001:db8::1"), 53)).is_some());
        assert_eq!(seen_by(at(ip("192.0.2.1"), 53)), None);
        for outer in [9000, 9001, 9002] {
            assert!(seen_by(at(ip("192.0.2.1"), outer)).is_some(), "{outer}");
        }
        assert_eq!(seen_by(at(ip("192.0.2.1"), 9003)), None);
        assert_eq!(seen_by(at(ip("127.0.0.1"), 9000)), None);
    });
}

#[test]
fn a_restricted_pod_reaches_the_host_and_nobody_else() {
    with_network(|host| {
        let world = World::beyond_this_host();
        let request = Request { ports: vec![port(None, 8080, 80)], ..restricted(1) };
        let (locked, free) = (Pod::new(host, &request), Pod::new(host, &plain(2)));
        locked.serve(80);
        free.serve(80);
        for gateway in locked.gateways() {
            serve(at(gateway, 81));
            assert!(locked.sees(at(gateway, 81)).is_some());
        }
        // Not even with a route it made itself.
        for attempt in ["it has no route", "its own route is no use"] {
            for server in world.servers {
                assert_eq!(locked.sees(at(server, 80)), None, "{server}: {attempt}");
            }
            for server in [free.v4(), free.v6()] {
                assert_eq!(locked.sees(at(server, 80)), None, "{server}: {attempt}");
            }
            if attempt == "it has no route" {
                let [v4, v6] = locked.gateways().map(|gateway| gateway.to_string());
                locked.netns.within(|| {
                    said("ip", &["route", "add", "default", "via", &v4]);
                    said("ip", &["-6", "route", "add", "default", "via", &v6]);
                });
            }
        }
        for server in [locked.v4(), locked.v6()] {
            assert_eq!(free.sees(at(server, 80)), None);
        }
        // What it publishes is reached, from under the host's address.
        for (host_address, gateway) in world.host_addresses.into_iter().zip(locked.gateways()) {
            assert_eq!(world.sees(at(host_address, 8080)), Some(gateway));
        }
    });
}

#[test]
fn a_pod_cannot_speak_for_another() {
    with_network(|host| {
        let (liar, victim) = (Pod::new(host, &plain(1)), Pod::new(host, &plain(2)));
        for (gateway, stolen) in liar.gateways().into_iter().zip([victim.v4(), victim.v6()]) {
            serve_udp(at(gateway, 81));
            let prefix = format!("{stolen}/{}", if stolen.is_ipv4() { 32 } else { 128 });
            let answer = liar.netns.within(|| {
                said("ip", &["address", "add", &prefix, "dev", "eth0"]);
                std::thread::sleep(std::time::Duration::from_millis(10));
                hosts::heard_from(stolen, at(gateway, 81))
            });
            assert_eq!(answer, None, "{stolen}");
        }
    });
}

#[test]
fn a_start_takes_five_exchanges_and_no_nft_where_nothing_is_published() {
    with_network(|host| {
        let first = Pod::new(host, &plain(1)).attached;
        assert_eq!(first.work.nft_runs, 1, "the table is made once");
        assert_eq!(first.notices.len(), 2, "{:?}", first.notices);
        // One question for the table, three batches - the pair, its end in the pod, its end here -
        // and the question whether the ends are connected.
        let second = Pod::new(host, &plain(2)).attached;
        assert_eq!(second.work, Work { exchanges: 5, nft_runs: 0 });
        assert!(second.notices.is_empty());
        let third = Pod::new(host, &publishing(3, &[port(None, 8080, 80)])).attached;
        assert_eq!(third.work, Work { exchanges: 5, nft_runs: 1 });
    });
}

#[test]
fn what_was_asked_for_is_what_comes() {
    with_network(|host| {
        let subnets = {
            Pod::new(host, &plain(1));
            host.subnets().unwrap().unwrap()
        };
        let subnet = subnets.of(Network::Default);
        let mac = Mac([0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]);
        let request = Request {
            v4: Some(subnet.v4.at(77)),
            v6: Some(subnet.v6.at(0xffff)),
            mac: Some(mac),
            mtu: Some(1400),
            ..Request::new(pod(2), "lan0", Network::Default)
        };
        let pod = Pod::new(host, &request);
        let shown = pod.netns.within(|| said("ip", &["address", "show", "dev", "lan0"]));
        for expected in [
            "mtu 1400".to_owned(),
            format!("link/ether {mac}"),
            format!("inet {}/32", subnet.v4.at(77)),
            format!("inet6 {}/128", subnet.v6.at(0xffff)),
        ] {
            assert!(shown.contains(&expected), "{expected}: {shown}");
        }
        assert!(!shown.contains("tentative"), "{shown}");

        let taken = Request { v4: Some(subnet.v4.at(77)), ..plain(3) };
        let error = host.attach(Netns::new().fd(), &taken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressTaken);
        assert!(error.to_string().contains(self::pod(2).as_str()), "{error}");
        assert_eq!(host.entries().unwrap().len(), 2);
    });
}

#[test]
fn a_pod_may_have_several_links() {
    with_network(|host| {
        let netns = Netns::new();
        let first = host.attach(netns.fd(), &plain(1)).unwrap();
        let second = Request::new(pod(1), "eth1", Network::DefaultRestricted);
        let second = host.attach(netns.fd(), &second).unwrap();
        assert_eq!(
            (first.host_link.as_str(), second.host_link.as_str()),
            ("pod-00000001", "pod-00000001-1")
        );
        for attached in [&first, &second] {
            host.check(netns.fd(), &attached.owner).unwrap();
            let gateway = at(attached.v4.gateway.into(), 81);
            serve(gateway);
            assert_eq!(netns.within(|| seen_by(gateway)), Some(attached.v4.address.into()));
        }
    });
}

#[test]
fn a_port_that_somebody_has_is_refused_before_anything_is_done() {
    with_network(|host| {
        serve(at(ip("127.0.0.1"), 8080));
        let error =
            host.attach(Netns::new().fd(), &publishing(1, &[port(None, 8080, 80)])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PortTaken);
        let own = format!("(process {})", std::process::id());
        let text = error.to_string();
        assert!(text.starts_with("port 0.0.0.0:8080/tcp of the host is in use by `"), "{text}");
        assert!(text.ends_with(&own), "{text}");

        let _pod = Pod::new(host, &publishing(2, &[port(None, 9090, 80)]));
        let rival = publishing(3, &[port(Some("127.0.0.1"), 9090, 80)]);
        let error = host.attach(Netns::new().fd(), &rival).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "port 127.0.0.1:9090/tcp of the host belongs to pod {} (`eth0`)",
                pod(2).as_str()
            )
        );

        let strange = publishing(4, &[port(Some("203.0.113.9"), 80, 80)]);
        let error = host.attach(Netns::new().fd(), &strange).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(host.entries().unwrap().len(), 1, "refusals leave nothing");
        assert_eq!(link_names(), ["lo", "pod-00000002"]);
    });
}

/// All of our table that pods are elements of, in the order of the text.
fn elements() -> String {
    let table = said("nft", &["list", "table", "inet", "pod"]);
    table.lines().filter(|line| line.contains(" . ") && !line.contains("type")).collect()
}

#[test]
fn detaching_leaves_nothing_and_may_be_repeated() {
    with_network(|host| {
        let ports = [port(None, 8080, 80), port(Some("::1"), 8081, 80)];
        let staying = Pod::new(host, &publishing(1, &[port(None, 7070, 70)]));
        let (links, before) = (link_names(), elements());
        for namespace in [Namespace::Stays, Namespace::Ends] {
            let pod = Pod::new(host, &publishing(2, &ports));
            assert_ne!(elements(), before);
            let owner = pod.attached.owner.clone();
            if namespace == Namespace::Ends {
                drop(pod);
            }
            for _ in 0..2 {
                host.detach(&owner, namespace).unwrap();
            }
            assert_eq!(elements(), before);
            hosts::until("the link has gone", || link_names() == links);
            let owners: Vec<_> =
                host.entries().unwrap().into_iter().map(|entry| entry.owner).collect();
            assert_eq!(owners, std::slice::from_ref(&staying.attached.owner));
        }
        let routes = said("ip", &["route", "show", "table", "all"]);
        assert!(!routes.contains("pod-00000002"), "{routes}");
        staying.serve(70);
        assert!(seen_by(at(ip("127.0.0.1"), 7070)).is_some());
    });
}

#[test]
fn a_flush_of_all_rules_is_noticed_and_healed() {
    with_network(|host| {
        let world = World::beyond_this_host();
        said("nft", &["add", "table", "inet", "others"]);
        let server = Pod::new(host, &publishing(1, &[port(None, 8080, 80)]));
        server.serve(80);
        said("nft", &["flush", "ruleset"]);
        assert_eq!(world.sees(at(world.host_addresses[0], 8080)), None);
        let error = host.check(server.netns.fd(), &server.attached.owner).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broken);
        assert_eq!(error.way_out(), Some("`pod network reload` restores it"));

        assert_eq!(host.reload().unwrap().links, 1);
        assert!(world.sees(at(world.host_addresses[0], 8080)).is_some());
        assert_eq!(server.sees(at(world.servers[0], 80)), Some(world.host_addresses[0]));

        // The next start heals as well, and so does the end.
        said("nft", &["flush", "ruleset"]);
        let next = Pod::new(host, &plain(2));
        assert_eq!(next.attached.work.nft_runs, 1);
        assert!(world.sees(at(world.host_addresses[0], 8080)).is_some());
        said("nft", &["flush", "ruleset"]);
        host.detach(&server.attached.owner, Namespace::Stays).unwrap();
        assert_eq!(said("nft", &["list", "ruleset"]), "");
    });
}

#[test]
fn rules_of_others_are_left_alone() {
    with_network(|host| {
        let theirs = "table ip nat {\n\tchain theirs {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n\t}\n}\n";
        said("nft", &[theirs]);
        let pod = Pod::new(host, &publishing(1, &[port(None, 8080, 80)]));
        host.reload().unwrap();
        host.detach(&pod.attached.owner, Namespace::Stays).unwrap();
        assert_eq!(said("nft", &["list", "table", "ip", "nat"]), theirs);
    });
}

#[test]
fn what_dead_pods_held_is_thrown_out_and_nothing_else() {
    on_a_host(|| {
        let (_kept, state) = hosts::state_directory();
        let lives = |id: &PodId| *id == pod(1);
        let full = Host { state: &state, table: "pod", living: &everybody };
        let (one, two) = (
            Pod::new(&full, &publishing(1, &[port(None, 8080, 80)])),
            Pod::new(&full, &publishing(2, &[port(None, 8081, 80)])),
        );
        said("ip", &["link", "add", "pod-stranger", "type", "bridge"]);
        one.serve(80);
        let host = Host { living: &lives, ..full };
        assert_eq!(host.collect().unwrap().owners, [two.attached.owner]);
        assert!(host.collect().unwrap().owners.is_empty());
        assert!(!elements().contains("8081"));
        let links: BTreeSet<String> = link_names().into_iter().collect();
        assert_eq!(links, ["lo", "pod-00000001", "pod-stranger"].map(str::to_owned).into());
        assert!(seen_by(at(ip("127.0.0.1"), 8080)).is_some());
    });
}

#[test]
fn what_a_dead_pod_held_is_taken_over_by_who_wants_it() {
    on_a_host(|| {
        let (_kept, state) = hosts::state_directory();
        let lives = |id: &PodId| *id != pod(1);
        let host = Host { state: &state, table: "pod", living: &lives };
        let dead = Pod::new(&host, &publishing(1, &[port(None, 8080, 80)]));
        let request = Request {
            v4: Some(dead.attached.v4.address),
            ..publishing(2, &[port(None, 8080, 8000)])
        };
        // Its link is still there, and is no hindrance.
        let heir = Pod::new(&host, &request);
        heir.serve(8000);
        assert!(seen_by(at(ip("127.0.0.1"), 8080)).is_some());
        assert_eq!(host.entries().unwrap().len(), 1);
    });
}

#[test]
fn a_start_that_was_cut_off_is_repeated() {
    with_network(|host| {
        let request = publishing(1, &[port(None, 8080, 80)]);
        let cut_off = Pod::new(host, &request);
        let again = Pod::new(host, &request);
        assert_eq!(again.attached.v4, cut_off.attached.v4);
        again.serve(80);
        assert!(seen_by(at(ip("127.0.0.1"), 8080)).is_some());
        assert_eq!(link_names(), ["lo", "pod-00000001"]);
        assert_eq!(cut_off.netns.within(link_names), ["lo"]);
    });
}

#[test]
fn a_link_of_somebody_else_in_the_way_is_not_touched() {
    with_network(|host| {
        ask(&[netlink::add_bridge("pod-00000001")]);
        let error = host.attach(Netns::new().fd(), &plain(1)).unwrap_err();
        assert!(error.to_string().contains("`pod-00000001`"), "{error}");
        assert_eq!(link_names(), ["lo", "pod-00000001"]);
        assert!(host.entries().unwrap().is_empty());
    });
}

#[test]
fn without_ipv6_there_is_ipv4() {
    with_network(|host| {
        said("sysctl", &["-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
        let pod = Pod::new(host, &plain(1));
        assert_eq!(pod.attached.v6, None);
        pod.netns.within(|| serve(at(pod.v4(), 80)));
        assert!(seen_by(at(pod.v4(), 80)).is_some());
        let error = host.attach(Netns::new().fd(), &publishing(2, &[port(Some("::"), 80, 80)]));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
    });
}

#[test]
fn the_host_goes_on_hearing_routers() {
    with_network(|host| {
        ask(&[netlink::add_bridge("uplink0")]);
        let setting = "/proc/sys/net/ipv6/conf/uplink0/accept_ra";
        assert_eq!(std::fs::read_to_string(setting).unwrap().trim(), "1");
        Pod::new(host, &plain(1));
        assert_eq!(std::fs::read_to_string(setting).unwrap().trim(), "2");
    });
}

#[test]
fn a_host_whose_subnets_are_taken_gets_another() {
    with_network(|host| {
        ask(&[netlink::add_bridge("lan0"), netlink::set_up(&"lan0".into())]);
        said("ip", &["address", "add", "10.187.3.4/24", "dev", "lan0"]);
        let pod = Pod::new(host, &plain(1));
        assert_eq!(pod.attached.v4.address.octets()[..2], [10, 211]);
    });
}

#[test]
fn nft_that_is_missing_is_told_with_a_way_out() {
    with_network(|host| {
        let table = Host { table: "no table; flush", ..*host };
        let error = table.attach(Netns::new().fd(), &plain(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Firewall);
        assert!(run("nft", &["list", "ruleset"]).stdout.is_empty());
        assert_eq!(link_names(), ["lo"]);
        assert!(table.entries().unwrap().is_empty());
    });
}
