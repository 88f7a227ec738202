//! Wires in namespaces of the tests' own. The guest is a namespace behind a second tap, and the
//! monitor a loop that carries frames as they are, with their headers, between the two: so what is
//! left undone of checksums and segments crosses as it does with a machine.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use netlink::{Mac, Veth, VethEnd};
use pod_sys::{TapOffload, offload_tap};
use rustix::event::{PollFd, PollFlags, poll};

use super::*;

const POD: Mac = Mac([2, 0, 0, 0, 0, 1]);
const HOST: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// The longest frame with its header.
const LONGEST: usize = 12 + 18 + 65_535;
/// Bytes of a transfer: many segments, of which a tap takes forty at once.
const MUCH: usize = 8 << 20;

/// Runs a test in a network namespace of its own; says so and returns if there can be none.
fn on_a_host(test: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/net/tun").exists() {
        println!("skipped: it takes root and /dev/net/tun");
        return;
    }
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            let host = Namespace::make().unwrap();
            namespace::visit(host.as_fd(), test).unwrap();
        });
        if let Err(panicked) = host.join() {
            std::panic::resume_unwind(panicked);
        }
    });
}

fn ask(socket: &mut Socket, batch: &[Request]) {
    socket.perform(batch).unwrap();
}

fn index(socket: &mut Socket, name: &str) -> u32 {
    let answers = socket.perform(&[netlink::by_name(name)]).unwrap();
    answers.iter().find_map(Link::read).unwrap().index
}

fn address(index: u32, text: &str) -> Request {
    netlink::add_address(index, Prefix::parse(text).unwrap())
}

fn route(index: u32, to: &str, via: Option<&str>) -> Request {
    let via = via.map(|text| text.parse().unwrap());
    netlink::add_route(&Route { to: Prefix::parse(to).unwrap(), link: Some(index), via })
}

/// What a plugin does: a pair of links from the host of the calling thread, routed.
fn plug_in(pod: &Namespace, name: &str) {
    let end = |name: &str, mac| VethEnd { name: name.to_owned(), mac };
    let pair = Veth { near: end("near0", HOST), far: end(name, POD), mtu: Some(1400) };
    let mut host = Socket::open().unwrap();
    ask(&mut host, &[netlink::add_veth(&pair, pod.as_fd())]);
    let near = index(&mut host, "near0");
    let own = [
        netlink::set_up(&near.into()),
        address(near, "10.11.0.1/32"),
        address(near, "fd11::1/128"),
    ];
    ask(&mut host, &own);
    let ways = [route(near, "10.11.0.2/32", None), route(near, "fd11::2/128", None)];
    let mut inside = Socket::open_in(pod.as_fd()).unwrap();
    let far = index(&mut inside, name);
    let batch = [
        netlink::set_up(&far.into()),
        address(far, "10.11.0.2/32"),
        address(far, "fd11::2/128"),
        route(far, "10.11.0.1/32", None),
        route(far, "fd11::1/128", None),
        route(far, "0.0.0.0/0", Some("10.11.0.1")),
        route(far, "::/0", Some("fd11::1")),
    ];
    ask(&mut inside, &batch);
    ask(&mut host, &ways);
}

/// A host behind the host of the calling thread, which passes packets on.
fn world() -> Namespace {
    let world = Namespace::make().unwrap();
    let end = |name: &str, mac| VethEnd { name: name.to_owned(), mac };
    let (uplink, up) = (end("uplink", Mac([2, 0, 0, 0, 1, 1])), end("up", Mac([2, 0, 0, 0, 1, 2])));
    let mut host = Socket::open().unwrap();
    ask(&mut host, &[netlink::add_veth(&Veth { near: uplink, far: up, mtu: None }, world.as_fd())]);
    let near = index(&mut host, "uplink");
    let ways = [
        netlink::set_up(&near.into()),
        address(near, "10.12.0.1/32"),
        address(near, "fd12::1/128"),
        route(near, "10.12.0.2/32", None),
        route(near, "fd12::2/128", None),
    ];
    let mut inside = Socket::open_in(world.as_fd()).unwrap();
    let far = index(&mut inside, "up");
    let batch = [
        netlink::set_up(&far.into()),
        address(far, "10.12.0.2/32"),
        address(far, "fd12::2/128"),
        route(far, "10.12.0.1/32", None),
        route(far, "fd12::1/128", None),
        route(far, "0.0.0.0/0", Some("10.12.0.1")),
        route(far, "::/0", Some("fd12::1")),
    ];
    ask(&mut inside, &batch);
    ask(&mut host, &ways);
    let on = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
    namespace::write_settings(&on.map(|name| namespace::Setting::new(name, "1"))).unwrap();
    world
}

/// The namespace of a guest whose interface is all that it was said to be.
fn guest(wire: &Wire) -> (Namespace, OwnedFd) {
    let guest = Namespace::make().unwrap();
    let tap = namespace::visit(guest.as_fd(), || open_tap("eth0").unwrap()).unwrap();
    let mut socket = Socket::open_in(guest.as_fd()).unwrap();
    let eth0 = index(&mut socket, "eth0");
    let id = LinkId::Index(eth0);
    let mut batch = vec![
        netlink::set_mac(&id, Mac(wire.link.mac)),
        netlink::set_mtu(&id, u32::from(wire.link.mtu)),
        netlink::set_up(&"lo".into()),
        netlink::set_up(&id),
    ];
    batch.extend(wire.link.addresses.iter().map(|text| address(eth0, text)));
    let told = |one: &guest::Route| Route {
        to: Prefix::parse(&one.to).unwrap(),
        link: Some(eth0),
        via: one.via,
    };
    batch.extend(wire.link.routes.iter().map(|one| netlink::add_route(&told(one))));
    ask(&mut socket, &batch);
    (guest, tap)
}

/// Carries frames between two taps until one of them is gone, and counts those that were longer
/// than any packet.
fn carry(one: &OwnedFd, other: &OwnedFd) -> usize {
    let all = TapOffload { checksum: true, tcp4: true, tcp6: true };
    offload_tap(one.as_fd(), all).unwrap();
    offload_tap(other.as_fd(), all).unwrap();
    let mut room = vec![0; LONGEST];
    let mut long = 0;
    loop {
        let mut polled = [PollFd::new(one, PollFlags::IN), PollFd::new(other, PollFlags::IN)];
        let patience = rustix::event::Timespec { tv_sec: 2, tv_nsec: 0 };
        if poll(&mut polled, Some(&patience)).unwrap() == 0 {
            return long;
        }
        for (from, to) in [(one, other), (other, one)] {
            while let Ok(length) = rustix::io::read(from, &mut room[..]) {
                long += usize::from(length > 2000);
                // One that is not taken is lost, as on any wire.
                let _ = rustix::io::write(to, &room[..length]);
            }
        }
    }
}

/// Sends much from one end of a connection to the other, in both directions, and checks it.
fn exchange(listener: &TcpListener, client: &Namespace) {
    let to = listener.local_addr().unwrap();
    let pattern = |at: usize| u8::try_from((at / 251 + at) % 256).unwrap();
    let text: Vec<u8> = (0..MUCH).map(pattern).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let text = &text;
            namespace::visit(client.as_fd(), || {
                let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap();
                stream.write_all(text).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut back = Vec::new();
                stream.read_to_end(&mut back).unwrap();
                assert!(back == *text, "{} bytes of {MUCH} came back", back.len());
            })
            .unwrap();
        });
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert!(heard == text, "{} bytes of {MUCH} came", heard.len());
        stream.write_all(&text).unwrap();
    });
}

#[test]
fn a_machine_is_told_what_the_plugins_have_made() {
    on_a_host(|| {
        let pod = Namespace::make().unwrap();
        assert_eq!(pod.wire().unwrap().len(), 0);
        plug_in(&pod, "eth0");
        let wires = pod.wire().unwrap();
        let [Wire { link, .. }] = &wires[..] else { panic!("{wires:?}") };
        assert_eq!((link.name.as_str(), link.mac, link.mtu), ("eth0", POD.0, 1400));
        assert_eq!(wires[0].nic(), Nic { mac: POD.0, mtu: 1400 });
        for address in ["10.11.0.2/32", "fd11::2/128"] {
            assert!(link.addresses.iter().any(|one| one == address), "{:?}", link.addresses);
        }
        let mut routes: Vec<String> = link
            .routes
            .iter()
            .map(|route| format!("{} {:?}", route.to, route.via.map(|ip| ip.to_string())))
            .collect();
        let first: Vec<bool> = link.routes.iter().map(|route| route.via.is_some()).collect();
        assert!(first.is_sorted(), "routers first: {routes:?}");
        routes.sort();
        routes.retain(|route| !route.starts_with("fd11::2/128"));
        let told = [
            "0.0.0.0/0 Some(\"10.11.0.1\")",
            "10.11.0.1/32 None",
            "::/0 Some(\"fd11::1\")",
            "fd11::1/128 None",
        ];
        assert_eq!(routes, told);
    });
}

#[test]
fn a_machine_and_the_host_and_a_world_behind_it_exchange_every_byte() {
    on_a_host(|| {
        let pod = Namespace::make().unwrap();
        plug_in(&pod, "eth0");
        let world = world();
        let mut wires = pod.wire().unwrap();
        let wire = wires.pop().unwrap();
        let (guest, its_tap) = guest(&wire);
        thread::scope(|scope| {
            let carried = scope.spawn(|| carry(&wire.tap, &its_tap));
            let bind = |ip: &str| TcpListener::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
            for ip in ["10.11.0.1", "fd11::1"] {
                exchange(&bind(ip), &guest);
            }
            for ip in ["10.12.0.2", "fd12::2"] {
                exchange(&namespace::visit(world.as_fd(), || bind(ip)).unwrap(), &guest);
            }
            let long = carried.join().unwrap();
            assert!(long > 100, "{long} frames crossed in pieces longer than a packet");
        });
    });
}

#[test]
fn what_a_namespace_holds_ends_with_its_last_holder() {
    on_a_host(|| {
        let pod = Namespace::make().unwrap();
        plug_in(&pod, "eth0");
        let wires = pod.wire().unwrap();
        let mut host = Socket::open().unwrap();
        assert!(host.perform(&[netlink::by_name("near0")]).is_ok());
        drop((pod, wires));
        let gone = (0..500).any(|_| {
            thread::sleep(Duration::from_millis(10));
            host.perform(&[netlink::by_name("near0")]).is_err()
        });
        assert!(gone, "the link of a pod that has ended is still there");
    });
}

#[test]
fn a_machine_has_eight_interfaces_and_no_more() {
    on_a_host(|| {
        let pod = Namespace::make().unwrap();
        let mut inside = Socket::open_in(pod.as_fd()).unwrap();
        // Both ends of each pair are interfaces of the pod.
        for (number, named) in (0_u8..).zip(["a", "b", "c", "d"]) {
            let end = |which: u8| VethEnd {
                name: format!("{named}{which}"),
                mac: Mac([2, 0, 0, 0, number, which]),
            };
            let pair = Veth { near: end(1), far: end(2), mtu: None };
            ask(&mut inside, &[netlink::add_veth(&pair, pod.as_fd())]);
            ask(
                &mut inside,
                &[pair.near.name, pair.far.name].map(|name| netlink::set_up(&name.as_str().into())),
            );
        }
        let wires = pod.wire().unwrap();
        assert_eq!(wires.len(), MAX_LINKS);
        drop(wires);
        ask(&mut inside, &[netlink::add_bridge("one-more"), netlink::set_up(&"one-more".into())]);
        let report = pod.wire().unwrap_err().report();
        assert_eq!(report.code, "stage1.not-given");
        assert!(report.message.contains("more than 8 network interfaces"), "{report:?}");
    });
}
