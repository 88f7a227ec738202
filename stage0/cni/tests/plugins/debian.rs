//! Debian's `containernetworking-plugins`, the real counterpart, in a world of each test's own.
//!
//! The host is a network namespace of the test's thread, with a mount namespace in which `/run` and
//! `/var/lib/cni` are empty; the pod is a second network namespace that nothing but a descriptor
//! holds. So whatever plugins leave goes with the test, and nothing of the machine is touched.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, process, thread};

use cni::{
    AddResult, Asked, Attachment, Bandwidth, Caller, Detached, ErrorKind, Executor, Network, Owner,
    PluginError, PluginPath, PortMapping, Protocol, Request,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use crate::bench::{attachment, chain, network_of, request};

/// Where Debian has them; tests must not find others.
const PLUGINS: &str = "/usr/lib/cni";
/// The variable that names the file skipped tests are recorded in.
const RECORD: &str = "POD_TESTS_SKIPPED";

/// A host of the test's own.
struct Host {
    directory: tempfile::TempDir,
    executor: Executor<'static>,
}

/// Whether what a pod sends out bears the host's address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Masquerade {
    Yes,
    No,
}

/// A network namespace for a pod, as long as this lives.
struct Pod(File);

/// Runs `test` on a host of its own, or records why it cannot.
fn on_a_host(test: fn(&Host)) {
    let name = thread::current().name().unwrap_or("unknown").to_owned();
    for (there, what) in [
        (rustix::process::geteuid().is_root(), "root: namespaces"),
        (
            Path::new(PLUGINS).join("bridge").is_file(),
            "/usr/lib/cni/bridge: `apt-get install containernetworking-plugins`",
        ),
        (Path::new("/usr/sbin/iptables").exists(), "iptables: `apt-get install iptables`"),
        (Path::new("/usr/sbin/ip").exists(), "ip: `apt-get install iproute2`"),
    ] {
        if !there {
            println!("{name}: skipped, it needs {what}");
            let file = env::var_os(RECORD).map(|path| File::options().append(true).open(path));
            if let Some(Ok(mut file)) = file {
                let _ = writeln!(file, "{name}: needs {what}"); // for people
            }
            return;
        }
    }
    // A thread of its own: it never comes back from these namespaces.
    let outcome = thread::spawn(move || test(&Host::new())).join();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

impl Host {
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        for empty in ["/run", "/var/lib"] {
            // Both are there on every Debian; what is in them is the machine's.
            mount(Some("tmpfs"), empty, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        }
        say("ip", &["link", "set", "lo", "up"]);
        let directory = tempfile::tempdir().unwrap();
        let caller = Caller {
            plugin_path: PluginPath::parse(PLUGINS).unwrap(),
            built_in: Vec::new(),
            environment: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())],
            time: Duration::from_secs(60),
            log: None,
        };
        let records = directory.path().join("net");
        let executor = Executor::new(caller, records, Duration::from_secs(60)).unwrap();
        Self { directory, executor }
    }

    /// Where `host-local` keeps its leases.
    fn leases(&self) -> PathBuf {
        self.directory.path().join("leases")
    }

    /// The addresses that are leased on network "web".
    fn leased(&self) -> Vec<String> {
        let entries = fs::read_dir(self.leases().join("web")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<String> = names.filter(|name| name.contains(['.', ':'])).collect();
        found.retain(|name| !name.starts_with("last_reserved"));
        found
    }

    /// `host-local` over `subnets`, with a default route for each.
    fn ipam(&self, subnets: &[&str]) -> Value {
        let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
        json!({"type": "host-local", "dataDir": self.leases(), "ranges": ranges})
    }

    fn network(&self, version: &str, plugins: &[Value]) -> Network {
        let _ = self;
        network_of(&json!({"cniVersion": version, "name": "web", "plugins": plugins}))
    }

    /// Bridge, addresses, ports, firewall and tuning: what most hosts have.
    fn usual(&self, version: &str, masquerade: Masquerade) -> Network {
        self.network(
            version,
            &[
                json!({"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": masquerade == Masquerade::Yes,
                "ipam": self.ipam(&["10.9.0.0/24", "fd00:9::/64"])}),
                json!({"type": "portmap", "capabilities": {"portMappings": true}}),
                json!({"type": "firewall", "backend": "iptables"}),
                json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"},
                "capabilities": {"mac": true}}),
            ],
        )
    }

    /// Waits until the kernel has removed links to namespaces that are no more, which it does by
    /// and by.
    fn settle(&self) {
        let _ = self;
        let end = Instant::now() + Duration::from_secs(20);
        while link_names().iter().any(|name| name.starts_with("veth")) && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Nothing of a pod's is left: links, addresses, rules, records.
    fn is_clean(&self, links: &[&str]) {
        assert_eq!(self.leased(), Vec::<String>::new());
        assert!(self.executor.attachments().unwrap().is_empty());
        let found = link_names();
        let expected: Vec<&str> = std::iter::once("lo").chain(links.iter().copied()).collect();
        assert_eq!(found, expected);
        for tables in ["iptables-save", "ip6tables-save"] {
            let rules = say(tables, &[]);
            let of_pod = |line: &&str| {
                line.contains("10.9.0.") || line.contains("fd00:9:") || line.contains("pod-1")
            };
            assert_eq!(rules.lines().filter(of_pod).collect::<Vec<_>>(), Vec::<&str>::new());
        }
    }
}

impl Pod {
    fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(made.join().unwrap())
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd()).into()
    }

    fn request(&self) -> Request {
        Request { netns: self.path(), ..request("pod-1") }
    }

    fn run(&self, words: &[&str]) -> String {
        let netns = format!("--net={}", self.path().display());
        say("nsenter", &[&[netns.as_str()], words].concat())
    }

    fn addresses(&self, interface: &str) -> Vec<String> {
        let text = self.run(&["ip", "-j", "address", "show", "dev", interface]);
        let links: Value = serde_json::from_str(&text).unwrap();
        let each = links[0]["addr_info"].as_array().unwrap().iter();
        let each = each.filter(|info| info["scope"] == "global");
        each.map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"]))
            .collect()
    }

    /// Answers `hello` to whoever comes to `port` first.
    fn serve(&self, port: u16) -> thread::JoinHandle<()> {
        let netns = self.0.try_clone().unwrap();
        let (tell, told) = mpsc::channel();
        let server = thread::spawn(move || {
            setns(&netns, CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind(("::", port)).unwrap();
            tell.send(()).unwrap();
            listener.accept().unwrap().0.write_all(b"hello").unwrap();
        });
        told.recv().unwrap();
        server
    }
}

/// Runs a program of the machine, here; it must succeed.
fn say(program: &str, words: &[&str]) -> String {
    let output = Process::new(program).args(words).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The links of this host, sorted, `lo` first.
fn link_names() -> Vec<String> {
    let links: Value = serde_json::from_str(&say("ip", &["-j", "link"])).unwrap();
    let names = links.as_array().unwrap().iter();
    names.map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
}

fn hello_from(address: &str) -> String {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn ips(result: &AddResult) -> Vec<String> {
    result.container_ips().map(|ip| ip.address.to_string()).collect()
}

fn at() -> Attachment {
    attachment("pod-1")
}

#[test]
fn the_usual_chain_is_made_and_undone() {
    on_a_host(|host| {
        let pod = Pod::new();
        let network = host.usual("1.0.0", Masquerade::Yes);
        let mut request = pod.request();
        request.capabilities.mac = Some("c2:11:22:33:44:55".to_owned());
        request.capabilities.port_mappings = vec![PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
        }];
        assert!(network.lacks(&request.capabilities).is_empty());
        let result = host.executor.attach(&network, &request).unwrap();
        assert_eq!(ips(&result), ["10.9.0.2/24", "fd00:9::2/64"]);
        assert_eq!(pod.addresses("eth0"), ["10.9.0.2/24", "fd00:9::2/64"]);
        assert_eq!(result.ips[0].gateway, Some("10.9.0.1".parse().unwrap()));
        let inside = result.interfaces.iter().find(|each| each.is_inside()).unwrap();
        assert_eq!((inside.name.as_str(), inside.mac.as_str()), ("eth0", "c2:11:22:33:44:55"));
        assert_eq!(pod.run(&["cat", "/proc/sys/net/ipv4/conf/eth0/arp_filter"]), "1\n");
        assert_eq!(host.executor.result(&at()).unwrap().unwrap(), result);
        let server = pod.serve(80);
        assert_eq!(hello_from("10.9.0.1:8080"), "hello");
        server.join().unwrap();

        let detached = host.executor.detach(&at(), Some(&pod.path()), None).unwrap();
        assert_eq!(detached, Detached::ByRecord);
        host.is_clean(&["br0"]);
        let again = host.executor.detach(&at(), Some(&pod.path()), Some(&network)).unwrap();
        assert_eq!(again, Detached::ByConfiguration);
        host.is_clean(&["br0"]);
    });
}

#[test]
fn what_was_made_is_found_or_missed() {
    on_a_host(|host| {
        let pod = Pod::new();
        // No ports: Debian's `portmap` 1.1.1 looks for the rules of IPv4 among those of IPv6, too.
        host.executor.attach(&host.usual("0.4.0", Masquerade::No), &pod.request()).unwrap();
        let sound = Asked::Yes { unsupported: vec![] };
        assert_eq!(host.executor.check(&at(), &pod.path()).unwrap(), sound);
        pod.run(&["ip", "address", "del", "10.9.0.2/24", "dev", "eth0"]);
        let error = host.executor.check(&at(), &pod.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Plugin);

        assert!(chain(&error).contains("plugin `bridge` refused CHECK"), "{}", chain(&error));
        host.executor.detach(&at(), Some(&pod.path()), None).unwrap();
        host.is_clean(&["br0"]);
    });
}

#[test]
fn a_pod_whose_namespace_is_gone_is_undone_all_the_same() {
    on_a_host(|host| {
        for version in ["0.4.0", "1.0.0"] {
            let pod = Pod::new();
            let mut request = pod.request();
            request.capabilities.port_mappings = vec![PortMapping {
                host_port: 8080,
                container_port: 80,
                protocol: Protocol::Udp,
                host_ip: Some("10.9.0.1".parse().unwrap()),
            }];
            // Debian's `bridge` 1.1.1 removes the rules of `ipMasq` only where it finds the link.
            let network = host.usual(version, Masquerade::No);
            host.executor.attach(&network, &request).unwrap();
            assert_eq!(host.leased().len(), 2);
            drop(pod);
            let swept = host.executor.sweep(&|_| false).unwrap();
            assert_eq!(swept.detached, [at()], "{:?}", swept.failed);
            host.settle();
            host.is_clean(&["br0"]);
        }
    });
}

#[test]
fn a_failure_at_the_end_of_a_chain_undoes_its_beginning() {
    on_a_host(|host| {
        let pod = Pod::new();
        let network = host.network(
            "1.0.0",
            &[
                json!({"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true,
                "ipam": host.ipam(&["10.9.0.0/24"])}),
                json!({"type": "firewall", "backend": "iptables"}),
                json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.no_such_thing": "1"}}),
            ],
        );
        let error = host.executor.attach(&network, &pod.request()).unwrap_err();
        let text = chain(&error);
        assert!(text.contains("plugin `tuning` refused ADD"), "{text}");
        assert!(!text.contains("undoing"), "{text}");
        host.is_clean(&["br0"]);
        let links = pod.run(&["ip", "-o", "link"]);
        assert_eq!(links.lines().count(), 1, "{links}");
    });
}

#[test]
fn an_address_that_is_taken_is_refused_and_so_is_a_second_attachment() {
    on_a_host(|host| {
        let (one, two) = (Pod::new(), Pod::new());
        let network = host.network(
            "1.0.0",
            &[json!({"type": "bridge", "bridge": "br0",
            "ipam": host.ipam(&["10.9.0.0/24"])})],
        );
        let mut request = one.request();
        request.args.push("IP", "10.9.0.7").unwrap();
        host.executor.attach(&network, &request).unwrap();
        assert_eq!(one.addresses("eth0"), ["10.9.0.7/24"]);
        let again = host.executor.attach(&network, &request).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Attached);
        let other =
            Request { container: "pod-2".parse().unwrap(), netns: two.path(), ..request.clone() };
        let error = host.executor.attach(&network, &other).unwrap_err();
        assert!(chain(&error).contains("10.9.0.7"), "{}", chain(&error));
        assert_eq!(host.leased(), ["10.9.0.7"], "the first one keeps it");
        host.executor.detach(&at(), Some(&one.path()), None).unwrap();
        host.is_clean(&["br0"]);
    });
}

#[test]
fn point_to_point_with_both_families_and_limits() {
    on_a_host(|host| {
        let pod = Pod::new();
        let network = host.network("0.3.1", &[
            json!({"type": "ptp", "ipMasq": true, "mtu": 1400, "dns": {"nameservers": ["10.9.0.1"]},
                "ipam": host.ipam(&["10.9.0.0/24", "fd00:9::/64"])}),
            json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
        ]);
        let mut request = pod.request();
        request.capabilities.bandwidth = Some(Bandwidth {
            ingress_rate: 8_000_000,
            ingress_burst: 80_000,
            egress_rate: 8_000_000,
            egress_burst: 80_000,
        });
        let result = host.executor.attach(&network, &request).unwrap();
        assert!(say("tc", &["qdisc"]).contains("tbf"));
        assert_eq!(ips(&result), pod.addresses("eth0"));
        assert_eq!(result.ips.len(), 2);
        assert_eq!(result.dns.nameservers, ["10.9.0.1"]);
        let server = pod.serve(80);
        assert_eq!(hello_from(&format!("{}:80", result.ips[0].address.address)), "hello");
        server.join().unwrap();
        host.executor.detach(&at(), Some(&pod.path()), None).unwrap();
        host.is_clean(&[]);
    });
}

#[test]
fn macvlan_on_a_link_of_the_host() {
    on_a_host(|host| {
        say("ip", &["link", "add", "m0", "type", "veth", "peer", "m1"]);
        say("ip", &["link", "set", "m0", "up"]);
        let pod = Pod::new();
        let network = host.network(
            "1.0.0",
            &[json!({"type": "macvlan", "master": "m0",
            "ipam": host.ipam(&["10.9.0.0/24"])})],
        );
        let result = host.executor.attach(&network, &pod.request()).unwrap();
        assert_eq!(ips(&result), ["10.9.0.2/24"]);
        assert!(pod.run(&["ip", "-d", "link", "show", "eth0"]).contains("macvlan"));
        host.executor.check(&at(), &pod.path()).unwrap();
        drop(pod);
        host.executor.detach(&at(), None, None).unwrap();
        host.is_clean(&["m1", "m0"]);
    });
}

#[test]
fn loopback_is_a_network_like_any_other() {
    on_a_host(|host| {
        let pod = Pod::new();
        let single = json!({"cniVersion": "1.0.0", "name": "web", "type": "loopback"});
        let mut request = pod.request();
        request.if_name = "lo".parse().unwrap();
        let result = host.executor.attach(&network_of(&single), &request).unwrap();
        assert_eq!(result.ips[0].address, "127.0.0.1/8".parse().unwrap());
        assert!(pod.run(&["ip", "link", "show", "lo"]).contains("LOWER_UP"));
        let attachment = Attachment { if_name: request.if_name, ..at() };
        host.executor.detach(&attachment, Some(&pod.path()), None).unwrap();
        host.is_clean(&[]);
    });
}

#[test]
fn what_debians_plugins_do_not_speak_is_agreed_on_or_told() {
    on_a_host(|host| {
        let pod = Pod::new();
        let plugins = [json!({"type": "ptp", "ipam": host.ipam(&["10.9.0.0/24"])})];
        let new = host.network("1.1.0", &plugins);
        let unsupported = vec!["ptp".parse().unwrap()];
        let unsupported = Asked::Yes { unsupported };
        assert_eq!(host.executor.status(&new).unwrap(), unsupported);
        let collected = host.executor.collect_garbage(&new, Owner::Ours, &|_| true).unwrap();
        assert_eq!(collected, unsupported);
        let error = host.executor.attach(&new, &pod.request()).unwrap_err();
        assert_eq!(error.plugin().unwrap().code, PluginError::INCOMPATIBLE_VERSION);
        assert_eq!(error.hints()[0], "set `cniVersion` of the network to one the plugin speaks");

        let both = json!({"cniVersion": "1.0.0", "cniVersions": ["1.1.0"], "name": "web",
            "plugins": plugins});
        host.executor.attach(&network_of(&both), &pod.request()).unwrap();
        host.executor.detach(&at(), Some(&pod.path()), None).unwrap();
        host.is_clean(&[]);
    });
}
