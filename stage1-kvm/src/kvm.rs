//! The KVM of this host: opened, and only if it runs a stock kernel.
//!
//! Whether it does is tried by a process of its own ([`tell`]): should it never come back, it can be
//! killed. That it does is written down beside the kernels of guests, with the boot it was true in
//! (`/proc/sys/kernel/random/boot_id`); that it does not is looked at again each time.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::time::Duration;

use pod_abi::finding::{Finding, State};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use supervisor::{During as _, Failure};

use crate::errand::{self, Errand};
use crate::kernel::Places;
use crate::probe::{Findings, probe};

/// What is opened.
const DEVICE: &str = "/dev/kvm";
/// Where it is written down that it works, beside the kernels of guests.
const VERDICT: &str = "kvm-works";
/// What tells one boot from another.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The fewest instructions a second with which a stock kernel boots within the patience of a start:
/// it takes some thousand million. KVM of a processor has thousands of millions, one in a machine
/// that is emulated has tens, one that reads instructions itself not one.
const LEAST_PACE: u64 = 5_000_000;
/// How long KVM may take to be looked at; it takes a third of a second at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// What can be done instead.
const INSTEAD: &str = "`pod doctor --stage1 kvm` says more; `--stage1 ns` needs no virtual machine";

/// Opens `/dev/kvm`, if stock kernels run on it. If that is to be found out, it ends by `signals`,
/// too.
///
/// # Errors
///
/// `vm.no-kvm`, `vm.kvm-unusable`, and that of an interruption.
pub(crate) fn open(places: &Places, signals: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Failure> {
    let device = open_device().map_err(|error| {
        Failure::of(format!("cannot open `{DEVICE}`"), error).code("vm.no-kvm").hint(INSTEAD)
    })?;
    let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let verdict = places.cache.join(VERDICT);
    if !boot.is_empty() && fs::read(&verdict).is_ok_and(|known| known == boot.as_bytes()) {
        return Ok(device);
    }
    let findings = examine(device.try_clone().during(|| "cannot copy a descriptor")?, signals)?;
    if let Some(lack) = lacks(&findings).into_iter().find(|lack| lack.state == State::Missing) {
        return Err(Failure::new(format!("KVM of this host runs no guest: {}", lack.found))
            .code("vm.kvm-unusable")
            .hint(INSTEAD));
    }
    // Half a line, or none, is no boot's: then it is looked at again the next time.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(&places.cache);
    let _ = fs::write(verdict, boot);
    Ok(device)
}

/// Tells what there is to say of this host's KVM.
pub(crate) fn findings() -> Vec<Finding> {
    match open_device() {
        Ok(device) => {
            let mut findings = vec![Finding::ok(DEVICE, "it can be opened")];
            let examined = examine(device, None);
            findings.extend(lacks(
                &examined.unwrap_or_else(|failure| untried(failure.report().message.to_string())),
            ));
            findings
        }
        Err(error) => {
            let (found, fix) = match error {
                Errno::NOENT | Errno::NODEV | Errno::NXIO => (
                    "it is not there".to_owned(),
                    "`modprobe kvm_intel` or `modprobe kvm_amd`; virtualization may have to be \
                     switched on in the firmware, or for this machine if it is a virtual one",
                ),
                error => (
                    format!("it cannot be opened: {error}"),
                    "run `pod` as root, and let it use the device if it runs in a container",
                ),
            };
            vec![Finding::lacking(DEVICE, State::Missing, found, fix)]
        }
    }
}

fn open_device() -> Result<OwnedFd, Errno> {
    openat(CWD, DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Tries KVM, which is the standard input, and returns what was found as JSON, for [`open`].
///
/// # Errors
///
/// If there is no standard input.
pub(crate) fn tell() -> Result<String, Failure> {
    let device = io::stdin().as_fd().try_clone_to_owned();
    let findings = probe(device.during(|| "cannot copy a descriptor")?);
    serde_json::to_string(&findings)
        .map_err(|error| Failure::of("cannot write what was found", error))
}

/// Has KVM tried by a process.
fn examine(device: OwnedFd, signals: Option<BorrowedFd<'_>>) -> Result<Findings, Failure> {
    Ok(match errand::run("probe", Some(device), signals, Some(PATIENCE))? {
        Errand::Done(said) => serde_json::from_slice(&said)
            .unwrap_or_else(|_| untried("whoever tried it died without a word".to_owned())),
        Errand::Late => {
            untried(format!("a processor did not come back within {} s", PATIENCE.as_secs()))
        }
        Errand::Interrupted => return Err(errand::interrupted()),
    })
}

fn untried(why: String) -> Findings {
    Findings { missing: Vec::new(), pace: Err(why) }
}

/// Tells what was found as lines of `pod doctor`.
fn lacks(findings: &Findings) -> Vec<Finding> {
    let capabilities = "capabilities of KVM";
    let first = match &findings.missing[..] {
        [] => Finding::ok(capabilities, "all that a machine needs"),
        missing => Finding::lacking(
            capabilities,
            State::Missing,
            format!("there is no {}", missing.join(", ")),
            "a kernel of 6.1 or newer on the host, and on its host if it is a machine itself",
        ),
    };
    let speed = "speed of guests";
    let second = match &findings.pace {
        Ok(pace) if *pace >= LEAST_PACE => Finding::ok(speed, per_second(*pace)),
        Ok(pace) => Finding::lacking(
            speed,
            State::Missing,
            format!(
                "{}: instructions are emulated one by one, a stock kernel would take many minutes \
                 to boot",
                per_second(*pace)
            ),
            "a host whose processor is a real one, or a virtual machine with nested \
             virtualization switched on",
        ),
        Err(why) => Finding::lacking(
            speed,
            State::Missing,
            format!("no processor of a guest runs: {why}"),
            "look at `dmesg` for what KVM says",
        ),
    };
    vec![first, second]
}

fn per_second(pace: u64) -> String {
    format!("{}.{} million instructions a second", pace / 1_000_000, pace / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(missing: &[&str], pace: Result<u64, String>) -> Vec<State> {
        let missing = missing.iter().map(|what| (*what).to_owned()).collect();
        lacks(&Findings { missing, pace }).iter().map(|finding| finding.state).collect()
    }

    #[test]
    fn a_kvm_that_emulates_or_lacks_something_runs_no_guest() {
        use State::{Missing, Ok as Fine};
        assert_eq!(states(&[], Ok(1_000_000_000)), [Fine, Fine]);
        assert_eq!(states(&[], Ok(LEAST_PACE)), [Fine, Fine]);
        assert_eq!(states(&[], Ok(800_000)), [Fine, Missing]);
        assert_eq!(states(&[], Err("it shut down".to_owned())), [Fine, Missing]);
        assert_eq!(states(&["no clock"], Ok(1_000_000_000)), [Missing, Fine]);
        assert_eq!(per_second(819_266), "0.8 million instructions a second");
    }
}
