//! `cargo xtask bench network`: what a network adds to the life of a pod that runs `true`, and how
//! fast bytes go between a pod and its host; beside podman with netavark, and beside the plugins of
//! CNI that both would call otherwise.
//!
//! What is added is the difference of two medians, with the network and without, from start to end:
//! who makes something must take it away. All of it happens in a network namespace of its own.

use std::fs;
use std::iter;
use std::path::Path;
use std::process::Command;

use harness::programs::IN_MACHINE;
use serde_json::Value;

use crate::bench::measure::{Contender, medians, run, words};
use crate::bench::place::{self, Scratch};
use crate::build::{self, Profile};
use crate::error::Error;
use crate::machine::{self, tier::Tier};
use crate::packages;
use crate::say;

use self::flow::Side;

mod flow;
pub(super) mod plugins;

/// The word that makes this program measure in the machine where it is.
pub(super) const MACHINES: &str = "network-machines-inside";
/// The word that makes this program call plugins of CNI.
pub(super) const PLUGINS: &str = "network-plugins";
/// Rounds unless a number is given.
const ROUNDS: usize = 20;
/// Where podman's containers reach their host.
const PODMANS_GATEWAY: &str = "10.88.0.1";
/// How much of what others add ours may add at most.
const GOAL: f64 = 0.2;

/// Builds for release, installs the peers, and runs the benchmark; `rounds` overrides [`ROUNDS`].
pub(super) fn network(rounds: Option<usize>) -> Result<(), Error> {
    let Some(programs) = place::programs() else {
        packages::need(packages::BENCH)?;
        packages::need(packages::NETWORKS)?;
        let programs = build::programs(Profile::Release)?;
        let rounds = rounds.map(|rounds| rounds.to_string());
        let words = iter::once("network".to_owned()).chain(rounds);
        return place::enter(programs.directory(), &["--net"], words);
    };
    let rounds = rounds.unwrap_or(ROUNDS);
    let scratch = Scratch::new()?;
    let root = place::lay_out(&scratch.0, Some(&programs.join("probe")))?;
    let image = format!("oci:{}", root.image);
    let pod = pod(&programs, &scratch.0);
    let podman = podman(&scratch.0)?;
    let tree = root.tree.display().to_string();
    run(Command::new(&pod[0]).args(&pod[1..]).args(["fetch", "-q", &image]))?;
    let leases = scratch.0.join("leases").display().to_string();
    added(&pod, &podman, &image, &tree, &leases, rounds)?;
    let gateway = gateway(&pod)?;
    let ours = [pod.clone(), words(&["run", "--rm", "-q", "--net", "default"])].concat();
    let theirs = [podman.clone(), words(&["run", "--rm", "--network=podman"])].concat();
    let behind = [words(&CONFINED), words(&["--rootfs", &tree])].concat();
    let side = |name, gateway, line, behind| Side { name, gateway, line, behind, probe: "/probe" };
    let sides = [
        side("pod", gateway, ours, vec![image]),
        side("podman's bridge", PODMANS_GATEWAY.to_owned(), theirs, behind),
    ];
    flow::show(&sides, &programs.join("probe"))
}

/// Builds for release, boots a machine, and measures there how fast bytes go between the host and a
/// pod in a virtual machine, beside one in namespaces.
pub(super) fn machines() -> Result<(), Error> {
    let programs = build::programs(Profile::Release)?;
    machine::run_ourselves(Tier::Qemu, &programs, &[], &["bench", MACHINES])
}

/// Measures, in the machine.
pub(super) fn machines_inside() -> Result<(), Error> {
    const IMAGE: &str = "oci:/fixtures/bb:latest";
    let pod = words(&["pod"]);
    run(Command::new("pod").args(["fetch", "-q", IMAGE]))?;
    run(Command::new("pod").args(["run", "--rm", "-q", "--net", "default", IMAGE, "true"]))?;
    let gateway = gateway(&pod)?;
    let programs = format!("{IN_MACHINE}:/programs:ro");
    let side = |name: &'static str, stage1: &str| Side {
        name,
        gateway: gateway.clone(),
        line: words(&["pod", "run", "--rm", "-q", "--stage1", stage1, "--net", "default"]),
        behind: words(&["-v", &programs, IMAGE]),
        probe: "/programs/probe",
    };
    let sides = [side("in a machine", "kvm"), side("in namespaces", "ns")];
    flow::show(&sides, &Path::new(IN_MACHINE).join("probe"))
}

/// What podman needs on a host without controllers.
const CONFINED: [&str; 3] =
    ["--cgroups=disabled", "--ulimit=nproc=1000:1000", "--ulimit=nofile=1000:1000"];

/// Measures and prints what networks add.
fn added(
    pod: &[String],
    podman: &[String],
    image: &str,
    tree: &str,
    leases: &str,
    rounds: usize,
) -> Result<(), Error> {
    let this =
        std::env::current_exe().map_err(|error| Error::of("cannot find this program", &error))?;
    let this = this.display().to_string();
    let of_pod = |flags: &[&str]| {
        [pod.to_vec(), words(&["run", "--rm", "-q"]), words(flags), words(&[image, "true"])]
            .concat()
    };
    let of_podman = |flags: &[&str]| {
        [
            podman.to_vec(),
            words(&["run", "--rm"]),
            words(flags),
            words(&CONFINED),
            words(&["--rootfs", tree, "true"]),
        ]
        .concat()
    };
    let of_plugins = |what: &str| words(&[&this, "bench", PLUGINS, what, leases]);
    let contender = |name, command| Contender { name, remark: "", command, after: None };
    let contenders = [
        contender("pod", of_pod(&["--net", "none"])),
        contender("pod", of_pod(&["--net", "default"])),
        contender("pod -p", of_pod(&["--net", "default", "-p", "8080:80"])),
        contender("plugins", of_plugins("without")),
        contender("plugins", of_plugins("with")),
        contender("plugins -p", of_plugins("with-port")),
        contender("podman", of_podman(&["--network=none"])),
        contender("podman", of_podman(&["--network=podman"])),
        contender("podman -p", of_podman(&["--network=podman", "-p", "8090:80"])),
    ];
    let medians = medians(&contenders, rounds)?;
    say::heading(&format!("what a network adds to the life of a pod, {rounds} rounds"));
    say::plain(&format!("{:<12}{:>12}{:>12}{:>12}", "", "without", "adds", "pod's part"));
    let millis = |at: usize| medians[at].as_secs_f64() * 1e3;
    let adds = |with: usize| millis(with) - millis(with / 3 * 3);
    for with in [1, 2, 4, 5, 7, 8] {
        let part = adds(with % 3) / adds(with);
        let (name, without) = (contenders[with].name, millis(with / 3 * 3));
        let part = if with < 3 { String::new() } else { format!("{part:.2}") };
        say::plain(&format!("{name:<12}{without:>9.2} ms{:>9.2} ms{part:>12}", adds(with)));
    }
    say::plain(&format!("aim: at most {GOAL} of what others add"));
    Ok(())
}

/// How `pod` is called, with everything it keeps in memory.
fn pod(programs: &Path, scratch: &Path) -> Vec<String> {
    vec![
        programs.join("pod").display().to_string(),
        format!("--root={}/root", scratch.display()),
        format!("--run-root={}/pod", scratch.display()),
    ]
}

/// How podman is called, with everything it keeps in memory, and networks by netavark.
fn podman(scratch: &Path) -> Result<Vec<String>, Error> {
    let configuration = scratch.join("containers.conf");
    let networks = scratch.join("podman-networks");
    let text = format!(
        "[network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{}\"\n",
        networks.display()
    );
    fs::write(&configuration, text).map_err(|error| {
        Error::of(&format!("cannot write `{}`", configuration.display()), &error)
    })?;
    let mut line = words(&["env"]);
    line.push(format!("CONTAINERS_CONF={}", configuration.display()));
    line.push("podman".to_owned());
    line.push(format!("--root={}/podman", scratch.display()));
    line.push(format!("--runroot={}/podman-run", scratch.display()));
    line.extend(words(&["--runtime=crun", "--cgroup-manager=cgroupfs"]));
    Ok(line)
}

/// Asks where pods reach their host.
fn gateway(pod: &[String]) -> Result<String, Error> {
    let failed = || Error::new("`pod network inspect default` names no gateway");
    let output =
        Command::new(&pod[0]).args(&pod[1..]).args(["network", "inspect", "default"]).output();
    let output = output.map_err(|error| Error::of("cannot run `pod`", &error))?;
    let network: Value = serde_json::from_slice(&output.stdout).map_err(|_| failed())?;
    network["gateways"][0].as_str().map(str::to_owned).ok_or_else(failed)
}
