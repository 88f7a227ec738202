//! `cargo xtask bench vm`: from the `execve` of a monitor to the first byte of init, ours beside
//! QEMU's `microvm`, in a machine whose processor can have guests.
//!
//! Both boot the same kernel and the same initramfs with the same command line, memory and
//! processor, in interleaved rounds. Neither is asked when it was ready: the kernel of the machine
//! traces the `execve`, and the byte at the guest's serial port as KVM hands it out. Then ours boots
//! a pod's own guest up to its first word, and tells what it has counted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::build::{self, Profile};
use crate::error::Error;
use crate::machine::{self, tier::Tier};
use crate::say;

use self::monitors::{Guest, Monitor};
use self::trace::Trace;

mod archive;
mod monitors;
mod trace;

/// The word that makes this program measure where it is.
pub(super) const INSIDE: &str = "vm-inside";
/// What the machine has beside what it has for tests.
const PEERS: &[&str] = &["qemu-system-x86"];
/// Rounds unless a number is given.
const ROUNDS: usize = 5;
/// How much of QEMU's time ours may take at most.
const GOAL: f64 = 0.4;
/// The program that makes a kernel ready for guests.
const SETUP: &str = "/usr/lib/pod/stage1/kvm/stage1-kvm";

/// Builds for release, boots a machine with QEMU in it, and measures there.
pub(super) fn vm(rounds: Option<usize>) -> Result<(), Error> {
    let programs = build::programs(Profile::Release)?;
    let rounds = rounds.unwrap_or(ROUNDS).to_string();
    machine::run_ourselves(Tier::Qemu, &programs, PEERS, &["bench", INSIDE, &rounds])
}

/// Measures, in the machine.
pub(super) fn inside(rounds: Option<usize>) -> Result<(), Error> {
    let rounds = rounds.unwrap_or(ROUNDS);
    let failed = |error: io::Error| Error::of("cannot lay out the guest", &error);
    let prepared = set_up()?;
    let place = tempfile::tempdir().map_err(failed)?;
    let initramfs = place.path().join("initramfs");
    let busybox = fs::read("/bin/busybox").map_err(failed)?;
    fs::write(&initramfs, archive::of(&busybox)).map_err(failed)?;
    let kernel = prepared.join("vmlinux");
    let guest = Guest { kernel: &kernel, initramfs: &initramfs, arguments: archive::ARGUMENTS };

    let trace = Trace::start().map_err(|error| Error::of("cannot trace the kernel", &error))?;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for (monitor, times) in [Monitor::Ours, Monitor::Qemu].into_iter().zip(&mut times) {
            let time = first_byte(&trace, monitor, &guest, place.path())?;
            // The first round only warms up.
            if round > 0 {
                times.push(time);
            }
        }
    }
    say::heading(&format!("execve of the monitor to the first byte of init, {rounds} rounds"));
    let [ours, qemus] = times.map(|times| show(&times));
    for (monitor, (median, all)) in [(Monitor::Ours, &ours), (Monitor::Qemu, &qemus)] {
        say::plain(&format!("{:<14}{:>8} ms   {all}", monitor.name(), median.as_millis()));
    }
    let ratio = ours.0.as_secs_f64() / qemus.0.as_secs_f64();
    say::plain(&format!("ours / QEMU's   {ratio:.3}, at most {GOAL} wanted"));
    drop(trace);
    count(&prepared)
}

/// Has the kernel made ready, and returns the directory of it.
fn set_up() -> Result<PathBuf, Error> {
    let said = Command::new(SETUP)
        .arg("setup")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::of(&format!("cannot run `{SETUP}`"), &error))?;
    let place = PathBuf::from(String::from_utf8_lossy(&said.stdout).trim());
    match said.status.success() && place.join("vmlinux").is_file() {
        true => Ok(place),
        false => Err(Error::new(format!("`{SETUP} setup` ended with {}", said.status))),
    }
}

fn first_byte(
    trace: &Trace,
    monitor: Monitor,
    guest: &Guest<'_>,
    place: &Path,
) -> Result<Duration, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::of(&format!("{} has not booted the guest", monitor.name()), error)
    };
    trace.clear().map_err(|error| failed(&error))?;
    monitor.boot(guest, place).map_err(|error| failed(&error))?;
    let seen = trace.read().map_err(|error| failed(&error))?;
    let time = trace::between(&seen, monitor.program(), archive::BYTE);
    time.ok_or_else(|| failed(&format!("the trace does not show it:\n{seen}")))
}

/// Returns the median, and a text of all.
fn show(times: &[Duration]) -> (Duration, String) {
    let all: Vec<String> = times.iter().map(|time| time.as_millis().to_string()).collect();
    let mut sorted = times.to_owned();
    sorted.sort();
    (sorted.get(sorted.len() / 2).copied().unwrap_or_default(), all.join(" "))
}

/// Boots a pod's own guest up to its first word and shows what ours has counted, and its memory.
fn count(prepared: &Path) -> Result<(), Error> {
    let (kernel, initramfs) = (prepared.join("vmlinux"), prepared.join("initramfs"));
    let guest = Guest { kernel: &kernel, initramfs: &initramfs, arguments: "" };
    let (counted, memory) = monitors::up_to_hello(&guest)
        .map_err(|error| Error::of("cannot count what ours does", &error))?;
    say::heading("up to the first word of a pod's guest");
    for name in [
        "helloUs",
        "exitsBeforeHello",
        "portExits",
        "mmioExits",
        "unclaimed",
        "strangers",
        "violations",
        "diskRequests",
    ] {
        say::plain(&format!("{name:<20}{}", counted[name]));
    }
    let beyond = memory.whole.saturating_sub(memory.guest);
    say::plain(&format!("{:<20}{beyond} KiB of {} KiB (PSS)", "beyond the guest's", memory.whole));
    Ok(())
}
