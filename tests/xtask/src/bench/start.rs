//! `cargo xtask bench start`: how long it takes until the exit code of `true` is back, for `pod`
//! and its peers from Debian's packages, on the same root file system, in one run.
//!
//! System calls of everything a start takes are counted beside, for those do not depend on the
//! hour. Each side has a cgroup where it knows how to have one (not bwrap; not podman on a host
//! without controllers).

use std::fmt;
use std::fs;
use std::iter;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bench::measure::{Contender, medians, run, words};
use crate::bench::place::{self, Root, Scratch};
use crate::build::{self, Profile};
use crate::error::Error;
use crate::packages;
use crate::say;

/// Rounds unless a number is given: enough for a steady median in under a minute.
const ROUNDS: usize = 30;

/// Builds for release, installs the peers, and runs the benchmark; `rounds` overrides [`ROUNDS`].
pub(crate) fn start(rounds: Option<usize>) -> Result<(), Error> {
    let Some(programs) = place::programs() else {
        packages::need(packages::BENCH)?;
        let programs = build::programs(Profile::Release)?;
        let rounds = rounds.map(|rounds| rounds.to_string());
        let words = iter::once("start".to_owned()).chain(rounds);
        return place::enter(programs.directory(), &[], words);
    };
    let rounds = rounds.unwrap_or(ROUNDS);
    let scratch = Scratch::new()?;
    let contenders = contenders(&programs, &scratch.0)?;
    let medians = medians(&contenders, rounds)?;
    let crun = contenders.iter().position(|contender| contender.name == "crun");
    let yardstick =
        crun.map(|at| medians[at]).ok_or_else(|| Error::new("crun was not measured"))?;
    say::heading(&format!("start of `true` until its exit code is back, {rounds} rounds"));
    say::plain(&format!("{:<8}{:>12}{:>9}{:>10}  remark", "", "median", "/ crun", "syscalls"));
    for (contender, median) in contenders.iter().zip(&medians) {
        let ratio = median.as_secs_f64() / yardstick.as_secs_f64();
        let calls = syscalls(contender, &scratch.0)?;
        let millis = median.as_secs_f64() * 1e3;
        let Contender { name, remark, .. } = contender;
        say::plain(&format!("{name:<8}{millis:>9.2} ms{ratio:>9.2}{calls:>10}  {remark}"));
    }
    Ok(())
}

/// Lays out one root file system, an image and a bundle of it, and how everybody starts it.
fn contenders(programs: &Path, scratch: &Path) -> Result<Vec<Contender>, Error> {
    let Root { image, bundle, tree } = place::lay_out(scratch, None)?;

    let bundle_path = bundle.display().to_string();
    make_config(&bundle)?;

    let pod = programs.join("pod").display().to_string();
    let stored = format!("oci:{image}");
    let roots = [
        format!("--root={}/root", scratch.display()),
        format!("--run-root={}/pod", scratch.display()),
    ];
    run(Command::new(&pod).args(&roots).args(["fetch", &stored]))?;

    let root = tree.display().to_string();
    let state = format!("--root={}/oci", scratch.display());
    let podman_root = format!("--root={}/podman", scratch.display());
    let podman_run = format!("--runroot={}/podman-run", scratch.display());
    let run_true = ["run", "--rm", "--net", "none", &stored, "true"];
    Ok(vec![
        Contender {
            name: "pod",
            remark: "stored image, records, user namespace, seccomp",
            command: [vec![pod], roots.to_vec(), words(&run_true)].concat(),
            after: None,
        },
        Contender {
            name: "crun",
            remark: "ready bundle",
            command: words(&["crun", &state, "run", "--bundle", &bundle_path, "bench-crun"]),
            after: None,
        },
        Contender {
            name: "runc",
            remark: "ready bundle",
            command: words(&["runc", &state, "run", "--bundle", &bundle_path, "bench-runc"]),
            after: None,
        },
        Contender {
            name: "bwrap",
            remark: "no cgroup, no records",
            command: words(&[
                "bwrap",
                "--unshare-all",
                "--bind",
                &root,
                "/",
                "--proc",
                "/proc",
                "--dev",
                "/dev",
                "true",
            ]),
            after: None,
        },
        Contender {
            name: "podman",
            remark: "--rootfs, no network",
            command: words(&[
                "podman",
                &podman_root,
                &podman_run,
                "--runtime=crun",
                "--cgroup-manager=cgroupfs",
                "run",
                "--rm",
                "--network=none",
                "--cgroups=disabled",
                "--ulimit=nproc=1000:1000",
                "--ulimit=nofile=1000:1000",
                "--rootfs",
                &root,
                "true",
            ]),
            after: None,
        },
    ])
}

/// Replaces umoci's `config.json` by crun's own, which then runs `true` without a terminal, and
/// without limits, for which a host may lack controllers or the right.
fn make_config(bundle: &Path) -> Result<(), Error> {
    let path = bundle.join("config.json");
    let failed =
        |error: &dyn fmt::Display| Error::of(&format!("cannot write `{}`", path.display()), error);
    fs::remove_file(&path).map_err(|error| failed(&error))?;
    run(Command::new("crun").arg("spec").current_dir(bundle))?;
    let text = fs::read(&path).map_err(|error| failed(&error))?;
    let mut config: Value = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    config["process"]["args"] = json!(["true"]);
    config["process"]["terminal"] = json!(false);
    config["process"]["rlimits"] = json!([]);
    config["root"]["readonly"] = json!(false);
    config["linux"]["resources"] = json!({});
    fs::write(&path, config.to_string()).map_err(|error| failed(&error))
}

/// Counts the system calls of a start and of everything it starts.
fn syscalls(contender: &Contender, scratch: &Path) -> Result<u64, Error> {
    let summary = scratch.join("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&summary).arg("--").args(&contender.command);
    run(command.stdin(Stdio::null()))?;
    let text = fs::read_to_string(&summary)
        .map_err(|error| Error::of("cannot read the count of strace", &error))?;
    let total = text.lines().rev().find(|line| line.trim_end().ends_with("total"));
    let calls =
        total.and_then(|line| line.split_whitespace().nth(3)).and_then(|word| word.parse().ok());
    calls.ok_or_else(|| Error::new(format!("strace counted nothing for `{}`", contender.name)))
}
