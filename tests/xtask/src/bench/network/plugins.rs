//! Plugins of CNI as any runtime calls them, and nothing else: `bridge` with `host-local`, and
//! `portmap` where a port is published.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::Error;

/// Where Debian has them.
const DIRECTORY: &str = "/usr/lib/cni";
/// How often a new process is asked whether it has its namespace.
const STEP: Duration = Duration::from_micros(200);

/// Connects a namespace of its own and undoes it; `what` says whether, and whether with a port.
/// Addresses are leased in the directory `leases`.
pub(in crate::bench) fn cycle(what: &str, leases: &str) -> Result<(), Error> {
    let mut namespace = Command::new("unshare");
    namespace.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut namespace =
        namespace.spawn().map_err(|error| Error::of("cannot make a namespace", &error))?;
    let done =
        if what == "without" { Ok(()) } else { connect(&namespace, what == "with-port", leases) };
    drop(namespace.stdin.take()); // so it ends
    namespace.wait().map_err(|error| Error::of("cannot wait for a namespace", &error))?;
    done
}

fn connect(namespace: &Child, with_port: bool, leases: &str) -> Result<(), Error> {
    let path = format!("/proc/{}/ns/net", namespace.id());
    let own = fs::read_link("/proc/self/ns/net");
    let own = own.map_err(|error| Error::of("cannot tell namespaces apart", &error))?;
    while fs::read_link(&path).is_ok_and(|its| its == own) {
        thread::sleep(STEP);
    }
    let ipam = json!({
        "type": "host-local", "ranges": [[{ "subnet": "10.91.0.0/16" }]],
        "dataDir": leases, "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let mut bridge = json!({
        "cniVersion": "1.0.0", "name": "bench", "type": "bridge", "bridge": "bench0",
        "isGateway": true, "ipMasq": true, "ipam": ipam,
    });
    let mapping = json!({ "hostPort": 8070, "containerPort": 80, "protocol": "tcp" });
    let mut portmap = json!({
        "cniVersion": "1.0.0", "name": "bench", "type": "portmap",
        "capabilities": { "portMappings": true }, "runtimeConfig": { "portMappings": [mapping] },
    });
    let container = format!("bench-{}", namespace.id());
    let call = |command: &str, plugin: &Value| plugin_call(command, plugin, &container, &path);
    let mut result = call("ADD", &bridge)?;
    if with_port {
        portmap["prevResult"] = result;
        result = call("ADD", &portmap)?;
        portmap["prevResult"] = result.clone();
        call("DEL", &portmap)?;
    }
    bridge["prevResult"] = result;
    call("DEL", &bridge).map(drop)
}

fn plugin_call(command: &str, plugin: &Value, container: &str, path: &str) -> Result<Value, Error> {
    let kind = plugin["type"].as_str().unwrap_or_default();
    let failed = |error: std::io::Error| Error::of(&format!("cannot call plugin `{kind}`"), &error);
    let mut child = Command::new(format!("{DIRECTORY}/{kind}"))
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", path)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", DIRECTORY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(plugin.to_string().as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(Error::new(format!("plugin `{kind}` refused {command}: {said}")));
    }
    Ok(serde_json::from_str(&said).unwrap_or_default())
}
