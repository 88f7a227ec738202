//! `cargo xtask bench units`: what it costs that a pod is a unit of systemd, in a booted machine.
//!
//! The same pod runs in place and as a unit, beside what systemd itself takes for a unit of `true`,
//! and beside podman. This program goes into the machine and measures there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::bench::measure::{Contender, medians, run, words};
use crate::build::{self, Profile};
use crate::error::Error;
use crate::machine::{self, tier::Tier};
use crate::say;

/// The word that makes this program measure where it is.
pub(super) const INSIDE: &str = "units-inside";
/// What the machine has beside what it has for tests.
const PEERS: &[&str] = &["crun", "podman"];
/// Rounds unless a number is given.
const ROUNDS: usize = 30;
/// The image of every machine.
const IMAGE: &str = "oci:/fixtures/bb:latest";
/// The same for podman, as a tree.
const ROOT: &str = "/tmp/bench-root";
/// The contenders whose medians are compared in the last line.
const IN_PLACE: &str = "pod --in-place";
const UNIT: &str = "pod";
const YARDSTICK: &str = "systemd-run";
/// Waits until no pod and no unit of one is left.
const ALL_GONE: &str = "while [ -n \"$(pod list --quiet)$(systemctl list-units --all --plain \
    --no-legend 'pod-*.service')\" ]; do sleep 0.01; done";

/// Builds for release, boots a machine with the peers, and measures in it.
pub(super) fn units(rounds: Option<usize>) -> Result<(), Error> {
    let programs = build::programs(Profile::Release)?;
    let rounds = rounds.unwrap_or(ROUNDS).to_string();
    machine::run_ourselves(Tier::Booted, &programs, PEERS, &["bench", INSIDE, &rounds])
}

/// Measures, in the machine.
pub(super) fn inside(rounds: Option<usize>) -> Result<(), Error> {
    let rounds = rounds.unwrap_or(ROUNDS);
    run(Command::new("pod").args(["fetch", IMAGE]))?;
    lay_out_root().map_err(|error| Error::of(&format!("cannot make `{ROOT}`"), &error))?;
    let contenders = contenders();
    let medians = medians(&contenders, rounds)?;
    let of = |name: &str| {
        let at = contenders.iter().position(|contender| contender.name == name);
        at.map(|at| medians[at].as_secs_f64() * 1e3)
            .ok_or_else(|| Error::new(format!("`{name}` was not measured")))
    };
    let yardstick = of(YARDSTICK)?;
    say::heading(&format!("start of `true` under systemd, {rounds} rounds"));
    say::plain(&format!("{:<16}{:>12}{:>15}  remark", "", "median", "/ systemd-run"));
    for Contender { name, remark, .. } in &contenders {
        let millis = of(name)?;
        let ratio = millis / yardstick;
        say::plain(&format!("{name:<16}{millis:>9.2} ms{ratio:>15.2}  {remark}"));
    }
    let (unit, in_place) = (of(UNIT)?, of(IN_PLACE)?);
    say::plain(&format!(
        "as a unit: {:.2} times as long as in place; {:.2} ms more, {:.2} times a unit of `true`",
        unit / in_place,
        unit - in_place,
        (unit - in_place) / yardstick,
    ));
    Ok(())
}

fn lay_out_root() -> std::io::Result<()> {
    let root = Path::new(ROOT);
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    symlink("busybox", root.join("bin/true"))
}

fn contenders() -> Vec<Contender> {
    let pod = |flags: &[&str]| {
        words(&[&["pod", "run", "--rm", "--net", "none"], flags, &[IMAGE, "true"]].concat())
    };
    let systemd_run =
        |flags: &[&str]| words(&[&["systemd-run", "--quiet"], flags, &["true"]].concat());
    vec![
        Contender {
            name: IN_PLACE,
            remark: "until the exit code is back; no unit",
            command: pod(&["--in-place"]),
            after: None,
        },
        Contender {
            name: UNIT,
            remark: "the same, as a transient service",
            command: pod(&[]),
            after: Some(words(&["sh", "-c", ALL_GONE])),
        },
        Contender {
            name: "pod -d",
            remark: "until it is ready; its end is not measured",
            command: pod(&["-d"]),
            after: Some(words(&["sh", "-c", ALL_GONE])),
        },
        Contender {
            name: YARDSTICK,
            remark: "--wait, a transient service of `true`, without isolation",
            command: systemd_run(&["--wait", "--collect"]),
            after: None,
        },
        Contender {
            name: "  --scope",
            remark: "nobody waits for the end of a scope",
            command: systemd_run(&["--scope", "--collect"]),
            after: None,
        },
        Contender {
            name: "podman",
            remark: "--rootfs, no network, no cgroup, for there are no controllers",
            command: words(&[
                "podman",
                "--runtime=crun",
                "--cgroup-manager=cgroupfs",
                "run",
                "--rm",
                "--network=none",
                "--cgroups=disabled",
                "--ulimit=nproc=1000:1000",
                "--ulimit=nofile=1000:1000",
                "--rootfs",
                ROOT,
                "true",
            ]),
            after: None,
        },
    ]
}
