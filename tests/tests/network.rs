//! Networks of pods in namespaces: many at once, killed ones, plugins of CNI, and somebody else's
//! namespace. Who reaches whom is promised behind both walls: `tests::parity::groups::network`.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::fixtures::Fixture;
use tests::pods::Pod;
use tests::random::Random;
use tests::require;
use tests::said::Running;
use tests::sandbox::Sandbox;

/// How many pods come and go, and how many of them at once.
const PODS: u16 = 200;
const AT_ONCE: u16 = 8;
/// How many processes are killed.
const KILLS: u16 = 24;

fn sandbox() -> Option<Sandbox> {
    require::root("a pod takes namespaces").then(Sandbox::new)
}

/// Starts a pod with a port of its own, which tells its addresses and waits a moment.
fn start(sandbox: &Sandbox, image: &str, number: u16) -> Running {
    let port = format!("{}:80", 10_000 + number);
    let flags = ["run", "--rm", "-q", "--net", "default", "-p", &port, image];
    let tells = ["sh", "-c", "ip -4 -o addr show eth0; sleep 0.2"];
    sandbox.call().args(flags).args(tells).start()
}

#[test]
fn two_hundred_pods_come_and_go_and_none_has_an_address_of_another() {
    let Some(sandbox) = sandbox() else { return };
    let image = sandbox.fixture(Fixture::App);
    let mut given = BTreeSet::new();
    for batch in 0..PODS / AT_ONCE {
        let numbers = batch * AT_ONCE..(batch + 1) * AT_ONCE;
        let pods: Vec<_> = numbers.map(|number| start(&sandbox, &image, number)).collect();
        for pod in pods {
            let said = pod.wait().success();
            let address = said.split(' ').find(|word| word.ends_with("/32"));
            let address = address.unwrap_or_else(|| panic!("no address: {said}")).to_owned();
            // One that is free again rests before anybody has it next.
            assert!(given.insert(address), "{said}");
        }
    }
    // The sandbox looks for links, entries and records; rules are in a table it does not know.
    let rules = sandbox.program("nft").args(["-j", "list", "ruleset"]).run().success();
    assert!(!rules.contains("10100") && !rules.contains("10199"), "{rules}");
}

#[test]
fn a_kill_while_a_pod_joins_its_network_leaves_nothing_that_gc_does_not_undo() {
    let Some(sandbox) = sandbox() else { return };
    sandbox.expect_debris();
    let image = sandbox.fixture(Fixture::App);
    let mut random = Random::of_the_environment();
    for number in 0..KILLS {
        let running = start(&sandbox, &image, number);
        let _ = sandbox.cgroup().is_none_or(|cgroup| cgroup.fills(1_000));
        thread::sleep(Duration::from_millis(random.below(60)));
        let processes = sandbox.cgroup().map(|cgroup| cgroup.processes()).unwrap_or_default();
        if !processes.is_empty() {
            // It may have ended just now.
            let _ = kill(Pid::from_raw(*random.one_of(&processes)), Signal::SIGKILL);
        }
        let _ = running.wait();
    }
    sandbox.pod(["gc", "--grace", "0"]).success();
    let rules = sandbox.program("nft").args(["-j", "list", "ruleset"]).run().success();
    let ports = (0..KILLS).map(|number| (10_000 + number).to_string());
    ports.for_each(|port| assert!(!rules.contains(&port), "{port} is in {rules}"));
    // Whoever comes next finds everything free.
    start(&sandbox, &image, 0).wait().success();
}

/// Does something while the administrator of the sandbox has configured a network.
fn with_network<T>(sandbox: &Sandbox, list: &str, work: impl FnOnce() -> T) -> T {
    let (upper, side) = (sandbox.path("etc"), sandbox.path("etc-work"));
    let networks = upper.join("cni/net.d");
    fs::create_dir_all(&networks).expect("the sandbox can be written");
    fs::create_dir_all(&side).expect("the sandbox can be written");
    fs::write(networks.join("lan.conflist"), list).expect("the sandbox can be written");
    let options = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), side.display());
    let mounted = ["-t", "overlay", "overlay", "-o", &options, "/etc"];
    sandbox.program("mount").args(mounted).run().success();
    let done = work();
    sandbox.program("umount").args(["/etc"]).run().success();
    done
}

#[test]
fn plugins_of_cni_connect_a_pod_and_are_asked_to_undo_it() {
    let Some(sandbox) = sandbox() else { return };
    let (image, leases) = (sandbox.fixture(Fixture::App), sandbox.path("leases"));
    let ipam = json!({
        "type": "host-local", "dataDir": leases,
        "ranges": [[{ "subnet": "10.9.0.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let list = json!({
        "cniVersion": "1.0.0", "name": "lan", "plugins": [
            {
                "type": "bridge", "bridge": "lan0", "isGateway": true, "ipam": ipam,
                "dns": { "nameservers": ["10.9.9.9"] },
            },
            { "type": "tuning", "capabilities": { "mac": true } },
        ],
    });
    let list = list.to_string();
    let run = |flags: &[&str], command: &[&str]| {
        with_network(&sandbox, &list, || {
            let call = sandbox.call().args(["run", "--rm"]).args(flags);
            call.args([&image]).args(command).run()
        })
    };
    let look = "cat /sys/class/net/eth1/address; ip -4 -o addr; ip route; cat /etc/hosts";
    let said = run(&["--name", "both", "--net", "default,lan"], &["sh", "-c", look]).success();
    assert!(said.contains("10.9.0.2/24") && said.contains("10.9.0.2 both\n"), "{said}");
    let mac = ["--net", "lan", "--mac-address", "02:00:5e:00:00:09"];
    let said = run(&mac, &["cat", "/sys/class/net/eth0/address"]).success();
    assert_eq!(said, "02:00:5e:00:00:09\n");
    let said = run(&["--net", "lan:IP=10.9.0.77"], &["sh", "-c", "ip -4 -o addr"]).success();
    assert!(said.contains("10.9.0.77/24"), "{said}");
    // What a network's plugins say of names counts, unless the pod says something itself.
    for (flags, expected) in [
        (&[][..], "nameserver 10.9.9.9\n"),
        (&["--dns", "10.8.8.8"], "nameserver 10.8.8.8\n"),
        (&["--dns", "none"], ""),
    ] {
        let flags = [&["--net", "lan"], flags].concat();
        let said = run(&flags, &["cat", "/etc/resolv.conf"]).success();
        let servers = said.lines().filter(|line| line.starts_with("nameserver"));
        assert_eq!(servers.map(|line| format!("{line}\n")).collect::<String>(), expected);
    }
    // What host-local has leased is free again; the rest of its directory is its own.
    let held = fs::read_dir(leases.join("lan")).expect("it has leased something").flatten();
    let held: Vec<_> = held.map(|entry| entry.file_name()).collect();
    assert!(!held.iter().any(|name| name.to_string_lossy().starts_with("10.9.")), "{held:?}");
    run(&["--net", "lan", "-p", "80:80"], &["true"]).refuses(125, &["`lan`", "portmap"]);
    let broken = list.replace("\"tuning\"", "\"no-such-plugin\"");
    let said = with_network(&sandbox, &broken, || sandbox.run_app(&["--net", "lan"], &["true"]));
    said.refuses(125, &["no-such-plugin"]);
    // The bridge stays, as it is for the pods of others, too.
    sandbox.program("ip").args(["link", "del", "lan0"]).run().success();
}

#[test]
fn a_pod_runs_in_a_network_namespace_of_somebody_else() {
    let Some(sandbox) = sandbox() else { return };
    let probe = sandbox.programs().path("probe").display().to_string();
    let other = sandbox.program("unshare").args(["--net", &probe, "stay"]).start();
    other.wait_for("ready");
    let path = format!("ns:/proc/{}/ns/net", other.pid());
    let its = fs::read_link(format!("/proc/{}/ns/net", other.pid())).expect("it lives");
    let said = sandbox.run_app(&["--net", &path], &["readlink", "/proc/self/ns/net"]).success();
    assert_eq!(said.trim_end(), its.display().to_string());
    other.signal(Signal::SIGKILL);
    let said = sandbox.run_app(&["--net", "ns:/run/netns/nobody"], &["true"]);
    said.refuses(125, &["/run/netns/nobody", "ip netns add"]);
}

/// Starts a pod that answers at its port 80.
fn serving<'s>(sandbox: &'s Sandbox, name: &str, flags: &[&str]) -> Pod<'s> {
    let image = sandbox.fixture(Fixture::App);
    let pod = sandbox.detached(name, [flags, &[&image, "/probe", "tell", "80"]].concat());
    pod.logs_until("ready");
    pod
}

/// Tells whether somebody answers at a port of the host's loopback.
fn answers(sandbox: &Sandbox, port: u16) -> bool {
    let server = format!("127.0.0.1:{port}");
    let probe = sandbox.programs().path("probe").display().to_string();
    let said: Value = sandbox.program(&probe).args(["ask", &server]).run().json();
    !said[&server].is_null()
}

#[test]
fn networks_and_ports_are_told_in_the_words_of_docker() {
    let Some(sandbox) = sandbox() else { return };
    let ask = |verb: &str, rest: &[&str]| sandbox.pod(verb.split(' ').chain(rest.iter().copied()));
    let listed = |verb: &str, rest: &[&str]| ask(verb, rest).success();
    // The administrator of the host may have more.
    assert!(listed("network ls", &["-q"]).starts_with("default\ndefault-restricted\n"));
    let published = ["--net", "default", "-p", "8080:80", "-p", "127.0.0.1:5300-5301:53-54/udp"];
    let pod = serving(&sandbox, "web", &published);
    assert_eq!(
        listed("port", &["web"]),
        "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n\
         53/udp -> 127.0.0.1:5300\n54/udp -> 127.0.0.1:5301\n"
    );
    assert_eq!(listed("port", &["web", "54/udp"]), "127.0.0.1:5301\n");
    sandbox.pod(["port", "web", "53"]).refuses(1, &["publish port 53/tcp", "pod port web"]);
    let shown = "{{.Name}} {{.Address}} {{.Ports}}";
    let address = pod.status().joined.expect("it has").interfaces[0].addresses[0].to_string();
    let ports = "8080->80/tcp,127.0.0.1:5300-5301->53-54/udp";
    assert_eq!(listed("ps", &["--format", shown]), format!("web {address} {ports}\n"));
    let status = listed("status", &["web"]);
    assert!(status.contains(&format!("address: {address}, ")), "{status}");
    assert!(status.contains("(eth0 in default)"), "{status}");
    let network: Value = ask("network inspect", &["default"]).json();
    assert_eq!(network["pods"][0]["interfaces"][0]["addresses"][0], json!(address));
    let list = json!({ "cniVersion": "1.0.0", "name": "lan", "plugins": [{ "type": "bridge" }] });
    let said = with_network(&sandbox, &list.to_string(), || listed("network ls", &[]));
    assert!(said.contains("lan") && said.contains("bridge") && said.contains("web"), "{said}");
    sandbox.pod(["network", "inspect", "x"]).refuses(1, &["`x`", "pod network ls"]);
    for (flags, words) in [
        (["--net=default", "--ip=10.1.1.1"], ["cannot join network `default`: ", "gives out"]),
        (["-q", "-p=192.0.2.9:80:80"], ["192.0.2.9 is no address of this host", "ip address"]),
        (["-q", "--net=container:web"], ["a pod's network is its own", "run A --- B"]),
    ] {
        sandbox.run_app(&flags, &["true"]).refuses(125, &words);
    }
    pod.stop(&["-t", "0"]).success();
    sandbox.pod(["port", "web"]).refuses(1, &["does not run"]);
}

#[test]
fn rules_that_were_flushed_are_missed_and_put_back() {
    let Some(sandbox) = sandbox() else { return };
    let pod = serving(&sandbox, "web", &["-p", "8080:80"]);
    assert!(answers(&sandbox, 8080));
    let health = || {
        let said = sandbox.pod(["doctor"]).stdout;
        let line = said.lines().find(|line| line.contains("rules of networks"));
        line.unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    assert!(health().starts_with("ok"), "{}", health());
    sandbox.program("nft").args(["flush", "ruleset"]).run().success();
    assert!(!answers(&sandbox, 8080));
    assert!(health().ends_with("somebody has flushed them"), "{}", health());
    sandbox.pod(["network", "reload"]).success();
    assert!(answers(&sandbox, 8080));
    // Docker's firewall lets through what its own rules know, and leaves a chain to others.
    let docker = "iptables -P FORWARD DROP; iptables -N DOCKER-USER; \
                  iptables -A FORWARD -j DOCKER-USER; iptables -A DOCKER-USER -j RETURN";
    sandbox.program("sh").args(["-ec", docker]).run().success();
    assert!(health().contains("Docker's table `ip filter` drops"), "{}", health());
    let said = sandbox.pod(["network", "reload"]);
    assert!(said.stderr.contains("Docker's table `ip filter` lets pods through now"), "{said}");
    assert!(health().starts_with("ok"), "{}", health());
    let shown = sandbox.program("iptables").args(["-S", "DOCKER-USER"]).run().success();
    sandbox.pod(["network", "reload"]).success();
    let again = sandbox.program("iptables").args(["-S", "DOCKER-USER"]).run().success();
    assert_eq!(shown, again, "it knows pods already");
    // Somebody's own has no such place.
    let own = "iptables -F; iptables -X; iptables -P FORWARD DROP";
    sandbox.program("sh").args(["-ec", own]).run().success();
    let said = sandbox.pod(["network", "reload"]);
    said.refuses(1, &["`ip filter` of nftables drops", "links `pod-*`"]);
    pod.stop(&["-t", "0"]).success();
    sandbox.program("nft").args(["flush", "ruleset"]).run().success();
}

#[test]
fn ports_published_by_portmap_and_addresses_of_ptp_and_macvlan_work_and_are_undone() {
    let Some(sandbox) = sandbox() else { return };
    let leases = sandbox.path("leases");
    let ipam = |subnet: &str| {
        json!({
            "type": "host-local", "dataDir": leases,
            "ranges": [[{ "subnet": subnet }]], "routes": [{ "dst": "0.0.0.0/0" }],
        })
    };
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    let ptp = json!({ "type": "ptp", "ipMasq": true, "ipam": ipam("10.9.1.0/24") });
    let list = json!({ "cniVersion": "1.0.0", "name": "lan", "plugins": [ptp, portmap] });
    with_network(&sandbox, &list.to_string(), || {
        let pod = serving(&sandbox, "web", &["--net", "lan", "-p", "8088:80"]);
        assert!(answers(&sandbox, 8088));
        let rules = || sandbox.program("iptables-save").run().success();
        assert!(rules().contains("8088"), "{}", rules());
        // What others have in the kernel is none of ours to undo, and what is ours none of theirs.
        let own = serving(&sandbox, "own", &["-p", "8089:80"]);
        own.stop(&["-t", "0"]).success();
        assert!(answers(&sandbox, 8088));
        sandbox.pod(["gc", "--grace", "0"]).success();
        assert!(answers(&sandbox, 8088));
        pod.stop(&["-t", "0"]).success();
        assert!(!rules().contains("8088"), "{}", rules());
    });
    sandbox
        .program("ip")
        .args(["link", "add", "up0", "type", "veth", "peer", "up1"])
        .run()
        .success();
    sandbox.program("ip").args(["link", "set", "up0", "up"]).run().success();
    let macvlan = json!({ "type": "macvlan", "master": "up0", "ipam": ipam("10.9.2.0/24") });
    let list = json!({ "cniVersion": "1.0.0", "name": "lan", "plugins": [macvlan] });
    let image = sandbox.fixture(Fixture::App);
    let said = with_network(&sandbox, &list.to_string(), || {
        let look = ["sh", "-c", "ip -4 -o addr show eth0"];
        sandbox.call().args(["run", "--rm", "--net", "lan", &image]).args(look).run()
    });
    assert!(said.success().contains("10.9.2.2/24"));
    sandbox.program("ip").args(["link", "del", "up0"]).run().success();
    sandbox.program("nft").args(["flush", "ruleset"]).run().success();
}

#[test]
fn what_another_runtime_has_attached_to_the_same_network_stays() {
    let Some(sandbox) = sandbox() else { return };
    let leases = sandbox.path("leases");
    let bridge = json!({
        "type": "bridge", "bridge": "lan0", "isGateway": true, "ipMasq": true,
        "ipam": { "type": "host-local", "dataDir": leases, "ranges": [[{ "subnet": "10.9.3.0/24" }]] },
    });
    let list = json!({ "cniVersion": "1.0.0", "name": "lan", "plugins": [bridge] });
    let mut own = bridge;
    own["cniVersion"] = json!("1.0.0");
    own["name"] = json!("lan");
    let probe = sandbox.programs().path("probe").display().to_string();
    let theirs = sandbox.program("unshare").args(["--net", &probe, "stay"]).start();
    theirs.wait_for("ready");
    let namespace = format!("/proc/{}/ns/net", theirs.pid());
    let theirs_by = |command: &str| {
        let call = sandbox.program("/usr/lib/cni/bridge").env("CNI_COMMAND", command);
        let call = call.env("CNI_CONTAINERID", "theirs").env("CNI_NETNS", &namespace);
        let call = call.env("CNI_IFNAME", "eth0").env("CNI_PATH", "/usr/lib/cni");
        call.input(own.to_string().as_bytes()).run().success()
    };
    theirs_by("ADD");
    let lease = leases.join("lan/10.9.3.2");
    assert!(lease.exists());
    let rules = || sandbox.program("iptables-save").run().success();
    let before = rules().lines().filter(|line| line.contains("10.9.3.2")).count();
    assert!(before > 0, "{}", rules());
    with_network(&sandbox, &list.to_string(), || {
        sandbox.run_app(&["--net", "lan"], &["true"]).success();
        let pod = serving(&sandbox, "web", &["--net", "default,lan"]);
        sandbox.pod(["kill", pod.name()]).success();
        sandbox.pod(["gc", "--grace", "0"]).success();
        sandbox.pod(["network", "reload"]).success();
    });
    assert!(lease.exists());
    assert!(!leases.join("lan/10.9.3.3").exists() && !leases.join("lan/10.9.3.4").exists());
    assert_eq!(rules().lines().filter(|line| line.contains("10.9.3.2")).count(), before);
    theirs_by("DEL");
    theirs.signal(Signal::SIGKILL);
    sandbox.program("ip").args(["link", "del", "lan0"]).run().success();
    sandbox.program("nft").args(["flush", "ruleset"]).run().success();
}
