//! Networks: who reaches whom, and under which address. The host of the sandbox has a neighbour in a
//! network namespace of its own, which plays the rest of the world.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nix::sys::signal::Signal;
use pod_abi::network::Interface;

use crate::parity::{Group, Place, World, so};
use crate::pods::Pod;
use crate::said::Running;
use crate::sandbox::{Call, Sandbox};

pub(super) const GROUP: Group = Group {
    name: "network",
    place: Place::Anywhere,
    boots: 7,
    promises: &[
        so("net-own-address", "A pod of a network has addresses, which stand for its own name"),
        so("net-pods", "Pods reach each other, under their own addresses, over IPv4 and IPv6"),
        so("net-host", "A pod reaches the host, and the host the pod"),
        so(
            "net-published-host",
            "A published port leads into the pod from the host and its loopback",
        ),
        so("net-published-world", "It does so from elsewhere, and the pod sees who asks"),
        so("net-out", "A pod reaches the rest of the world, under the host's address"),
        so("net-names", "Names of pods are found where `pod dns` answers, and pods ask it"),
        so("net-forward", "`pod port-forward` leads to a port of a pod"),
        so("net-restricted", "A restricted one reaches the host, and nobody else"),
        so("net-several", "A pod of several networks has an interface in each"),
        so("net-static", "Addresses that were asked for are those it has"),
        so("net-duplicate", "An address somebody has is refused, and so is a port"),
    ],
    run: networks,
};

/// The host's address at its neighbour's, and that one's own.
const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const NEIGHBOUR: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// The neighbour of the host, and two servers: one there, one on the host.
struct Outside<'s> {
    sandbox: &'s Sandbox,
    neighbour: Running,
    servers: Vec<Running>,
}

impl<'s> Outside<'s> {
    fn new(sandbox: &'s Sandbox) -> Self {
        let probe = sandbox.programs().path("probe").display().to_string();
        let neighbour = sandbox.program("unshare").args(["--net", &probe, "stay"]).start();
        neighbour.wait_for("ready");
        let pid = neighbour.pid().to_string();
        let mut outside = Self { sandbox, neighbour, servers: Vec::new() };
        let made =
            ["ip", "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", &pid];
        let on_host = |words: &[&str]| sandbox.program(words[0]).args(&words[1..]).run().success();
        on_host(&made);
        for (side, link, addresses) in [(false, "out", HOST), (true, "in", NEIGHBOUR)] {
            let [v4, v6] = addresses;
            let commands = format!(
                "ip addr add {v4}/24 dev {link}; ip addr add {v6}/64 dev {link} nodad; \
                 ip link set {link} up; ip link set lo up"
            );
            outside.program(side, "sh").args(["-ec", &commands]).run().success();
        }
        for side in [false, true] {
            let server = outside.program(side, &probe).args(["tell", "81"]).start();
            server.wait_for("ready");
            outside.servers.push(server);
        }
        outside
    }

    /// Begins a call of a program at the neighbour's, or on the host.
    fn program(&self, at_neighbour: bool, program: &str) -> Call<'s> {
        if !at_neighbour {
            return self.sandbox.program(program);
        }
        let pid = self.neighbour.pid().to_string();
        self.sandbox.program("nsenter").args(["--net", "--target", &pid, "--", program])
    }

    /// Returns what address each server sees the neighbour under, or the host.
    fn ask(&self, at_neighbour: bool, servers: &[String]) -> Answers {
        let probe = self.sandbox.programs().path("probe").display().to_string();
        self.program(at_neighbour, &probe).args(["ask"]).args(servers).run().json()
    }
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        for process in self.servers.iter().chain([&self.neighbour]) {
            process.signal(Signal::SIGKILL);
        }
        // At once: the kernel would take it away in its own time.
        let _ = self.sandbox.program("ip").args(["link", "del", "out"]).run();
    }
}

type Answers = BTreeMap<String, Option<String>>;

fn at(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The interfaces of a pod.
fn interfaces(pod: &Pod<'_>) -> Vec<Interface> {
    pod.status().joined.expect("it has joined a network").interfaces
}

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// The address of the host in a network: the first of IPv4, of a /17.
fn gateway(interface: &Interface) -> String {
    let address = interface.addresses[0].to_string();
    let mut parts: Vec<&str> = address.split('.').collect();
    let is_upper = parts[2].parse::<u8>().is_ok_and(|part| part > 127);
    (parts[2], parts[3]) = (if is_upper { "128" } else { "0" }, "1");
    parts.join(".")
}

/// Names of pods, and ports that lead to them for a while; `host` is the host's address in the network
/// where the pod `web` has `addresses`.
fn names(world: &World<'_>, outside: &mut Outside<'_>, host: &str, addresses: &[String]) {
    let call = |args: &[&str]| world.sandbox.call().args(args).start();
    let dns = call(&["dns", "--listen", host, "--upstream", &at(NEIGHBOUR[0], 53)]);
    dns.wait_for("Listening");
    let forward = call(&["port-forward", "web", "8082:80"]);
    forward.wait_for("Forwarding");
    let asks = ["sh", "-c", "cat /etc/resolv.conf; nslookup web.pod; nslookup web"];
    let said = world
        .run(&["--rm", "--name", "asks", "--net", "default"])
        .args(world.app("asks", &[], &asks))
        .run();
    world.holds("net-names", || {
        let said = said.stdout;
        assert!(said.starts_with(&format!("nameserver {host}\n")), "{said}");
        for address in addresses {
            assert_eq!(said.matches(&format!(": {address}\n")).count(), 2, "{said}");
        }
    });
    world.holds("net-forward", || {
        let answers = outside.ask(false, &[at("127.0.0.1", 8082)]);
        assert!(answers.values().all(Option::is_some), "{answers:?}");
    });
    outside.servers.extend([dns, forward]);
}

fn networks(world: &World<'_>) {
    let mut outside = Outside::new(world.sandbox);
    let published =
        ["--net", "default", "-p", "8080:80", "-p", "8080:80/udp", "-p", "[::1]:8081:80"];
    let server = world.app("web", &[], &["/probe", "tell", "80"]);
    let web = world.detached("web", &[&published[..], &server].concat());
    web.logs_until("ready");
    let its = interfaces(&web);
    let addresses = texts(&its[0].addresses);
    world.holds("net-own-address", || {
        assert_eq!((its.len(), addresses.len()), (1, 2), "{its:?}");
        let hosts = web.exec(&[], &["cat", "/etc/hosts"]).success();
        for address in &addresses {
            assert!(hosts.contains(&format!("{address} web\n")), "{hosts}");
        }
    });
    world.holds("net-host", || {
        let answers = outside.ask(false, &[at(&addresses[0], 80), at(&addresses[1], 80)]);
        assert!(answers.values().all(Option::is_some), "{answers:?}");
    });
    world.holds("net-published-host", || {
        let mut servers: Vec<String> =
            ["127.0.0.1"].iter().chain(&HOST).map(|a| at(a, 8080)).collect();
        servers.extend([at("::1", 8081), format!("udp:{}", at("127.0.0.1", 8080))]);
        let answers = outside.ask(false, &servers);
        assert!(answers.values().all(Option::is_some), "{answers:?}");
    });
    world.holds("net-published-world", || {
        let answers = outside.ask(true, &HOST.map(|host| at(host, 8080)));
        for (host, own) in HOST.into_iter().zip(NEIGHBOUR) {
            assert_eq!(answers[&at(host, 8080)].as_deref(), Some(own), "{answers:?}");
        }
    });
    let host = gateway(&its[0]);
    let asked = |servers: Vec<String>| [vec!["/probe".into(), "ask".into()], servers].concat();
    let client = |name: &str, flags: &[&str], servers: Vec<String>| {
        let command = asked(servers);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        world.run(&["--name", name, "--rm"]).args(flags).args(world.app("ask", &[], &command)).run()
    };
    let wanted: IpAddr = match its[0].addresses[0] {
        IpAddr::V4(address) => std::net::Ipv4Addr::from(address.to_bits() + 9).into(),
        address @ IpAddr::V6(_) => address,
    };
    let wanted = wanted.to_string();
    let mut servers: Vec<String> = addresses.iter().map(|address| at(address, 80)).collect();
    servers.push(format!("udp:{}", at(&addresses[0], 80)));
    servers.extend(NEIGHBOUR.map(|address| at(address, 81)));
    servers.push(at(&host, 81));
    let flags = ["--net", "default", "--ip", &wanted, "--mac-address", "02:00:5e:10:00:01"];
    let said = client("client", &flags, servers);
    let answers = || said.clone().json::<Answers>();
    world.holds("net-pods", || {
        let answers = answers();
        assert_eq!(answers[&at(&addresses[0], 80)].as_deref(), Some(wanted.as_str()));
        assert!(answers[&at(&addresses[1], 80)].is_some(), "{answers:?}");
        assert!(answers[&format!("udp:{}", at(&addresses[0], 80))].is_some(), "{answers:?}");
    });
    world.holds("net-host", || assert_eq!(answers()[&at(&host, 81)].as_deref(), Some(&*wanted)));
    world.holds("net-out", || {
        for (neighbour, own) in NEIGHBOUR.into_iter().zip(HOST) {
            assert_eq!(answers()[&at(neighbour, 81)].as_deref(), Some(own));
        }
    });
    names(world, &mut outside, &host, &addresses);
    let waits = world.app("waits", &[], &["/probe", "wait"]);
    let both = ["--net", "default,default-restricted"];
    let two = world.detached("two", &[&both[..], &waits].concat());
    world.holds("net-several", || {
        let names: Vec<_> = interfaces(&two)
            .iter()
            .map(|one| (one.name.clone(), one.network.to_string()))
            .collect();
        let both = [("eth0", "default"), ("eth1", "default-restricted")];
        assert_eq!(names, both.map(|(name, network)| (name.to_owned(), network.to_owned())));
        let devices = two.exec(&[], &["cat", "/proc/net/dev"]).success();
        assert!(devices.contains("eth0:") && devices.contains("eth1:"), "{devices}");
    });
    let mut servers = vec![at(&addresses[0], 80), at(NEIGHBOUR[0], 81), at(NEIGHBOUR[1], 81)];
    let host = gateway(&interfaces(&two)[1]);
    servers.push(at(&host, 81));
    let said = client("confined", &["--net", "default-restricted"], servers);
    world.holds("net-restricted", || {
        let answers = said.json::<Answers>();
        let reached: Vec<_> = answers.iter().filter(|(_, seen)| seen.is_some()).collect();
        assert_eq!(reached.len(), 1, "{answers:?}");
        assert!(answers[&at(&host, 81)].is_some(), "{answers:?}");
    });
    world.holds("net-static", || {
        let mac = ["--net", "default", "--mac-address", "02:00:5e:10:00:02"];
        let said = world
            .run(&["--rm"])
            .args(mac)
            .args(world.app("mac", &[], &["cat", "/sys/class/net/eth0/address"]))
            .run();
        assert_eq!(said.success(), "02:00:5e:10:00:02\n");
    });
    world.holds("net-duplicate", || {
        let taken = |flags: &[&str], words: &[&str]| {
            let all = [&["--name", "late", "--net", "default"], flags].concat();
            // It is refused before anything is booted.
            let wall = ["--stage1", world.wall.stage1()];
            let call = world.sandbox.call().args(["run", "--rm"]).args(wall).args(all);
            call.args(world.app("late", &[], &["true"])).run().refuses(125, words);
        };
        taken(&["--ip", &addresses[0]], &[&addresses[0], "web"]);
        taken(&["-p", "8080:80"], &["8080", "web"]);
    });
    two.stop(&[]).success();
    web.stop(&[]).success();
}
