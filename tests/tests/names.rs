//! Names of pods, and ports of pods that are reached from the host for as long as somebody looks.

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::fixtures::Fixture;
use tests::require;
use tests::sandbox::Sandbox;

/// Makes the sandbox of a test, or returns from it.
macro_rules! sandbox {
    () => {{
        if !require::root("a pod takes namespaces") {
            return;
        }
        Sandbox::new()
    }};
}

#[test]
fn a_port_of_a_pod_without_a_network_is_reached_as_long_as_somebody_forwards_it() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::Busybox);
    // Without `-f` it puts itself into the background once it listens.
    let serve = "echo page >/tmp/page; httpd -p 80 -h /tmp; echo serving; exec sleep 1000";
    let pod = sandbox.detached("web", [&image, "sh", "-c", serve]);
    pod.logs_until("serving");
    let forwarding = sandbox.call().args(["port-forward", "web", "8080:80", "8081:81"]).start();
    forwarding
        .wait_for("Forwarding from 127.0.0.1:8080 -> 80\nForwarding from 127.0.0.1:8081 -> 81\n");
    let fetch = |port: &str| {
        let page = format!("http://127.0.0.1:{port}/page");
        sandbox.program("busybox").args(["wget", "-q", "-O", "-", &page]).run()
    };
    assert_eq!(fetch("8080").success(), "page\n");
    assert_eq!(fetch("8080").success(), "page\n");
    assert_eq!(fetch("8081").code, 1);
    let again = sandbox.pod(["port-forward", "web", "8080:80"]);
    again.refuses(1, &["cannot listen at `127.0.0.1:8080`", "hint: `:PORT` takes a port"]);
    sandbox.pod(["port-forward", "web", "x"]).refuses(2, &["`LOCAL:REMOTE`"]);
    pod.stop(&[]).success();
    let said = forwarding.wait();
    assert!(said.stderr.contains("port 81 of pod `web`: "), "{said}");
    said.refuses(1, &["pod `web` has ended"]);
}

#[test]
fn a_pod_is_found_by_its_name_as_long_as_it_runs() {
    let sandbox = sandbox!();
    let image = sandbox.fixture(Fixture::Busybox);
    let flags = ["--net", "default"];
    let serve = [&flags[..], &[&image, "sh", "-c", "echo serving; while :; do sleep 1; done"]];
    let shop = sandbox.detached("shop", serve.concat());
    shop.logs_until("serving");
    let addresses = shop.status().joined.expect("it has joined a network").interfaces;
    let addresses: Vec<String> = addresses[0].addresses.iter().map(ToString::to_string).collect();
    let network: Value = sandbox.pod(["network", "inspect", "default"]).json();
    let gateway = network["gateways"][0].as_str().expect("the network is in use").to_owned();

    // Its only upstream is itself, so that nobody is asked, and the asker told at once.
    let line = ["dns", "--listen", &gateway, "--listen", "127.0.0.1:5353"];
    let server = sandbox.call().args(line).args(["--upstream", "127.0.0.1:5353"]).start();
    server.wait_for(&format!("Listening on {gateway}:53\nListening on 127.0.0.1:5353\n"));
    let asks = "cat /etc/resolv.conf; nslookup shop.pod; nslookup shop; nslookup guest.pod";
    let guest = [&["run", "--rm", "--name", "guest"], &flags[..], &[&image, "sh", "-c", asks]];
    let said = sandbox.pod(guest.concat()).stdout;
    assert!(said.starts_with(&format!("nameserver {gateway}\n")), "{said}");
    for address in &addresses {
        assert_eq!(said.matches(&format!(": {address}\n")).count(), 2, "{said}");
    }
    assert!(said.contains("guest.pod"), "{said}");

    let ask =
        |name: &str| sandbox.program("busybox").args(["nslookup", name, "127.0.0.1:5353"]).run();
    assert!(ask(&addresses[0]).stdout.contains("shop.pod"));
    assert!(ask("nobody.pod").stdout.contains("NXDOMAIN"));
    assert!(ask("example.com").stdout.contains("SERVFAIL"));
    shop.stop(&["-t", "0"]).success();
    assert!(ask("shop.pod").stdout.contains("NXDOMAIN"), "it has ended");
    server.signal(Signal::SIGTERM);
    let _ = server.wait(); // by the signal
}
