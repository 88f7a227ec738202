//! `stage1-kvm doctor`: what of this host is in the way of virtual machines, for `pod doctor`.

use std::path::Path;

use pod_abi::finding::{Finding, State};
use supervisor::Failure;

use crate::kernel::{self, Places};
use crate::kvm;

/// The programs beside this one that a machine takes.
const PROGRAMS: [&str; 4] = ["vmm", "fsd", "guest", "stage2-init"];
/// Where the program that makes file systems may be.
const MKE2FS: [&str; 4] = ["/usr/sbin/mke2fs", "/sbin/mke2fs", "/usr/bin/mke2fs", "/bin/mke2fs"];

/// Returns what was found, as JSON.
///
/// # Errors
///
/// If this program has no place of its own.
pub(crate) fn doctor() -> Result<String, Failure> {
    let places = Places::of_host()?;
    let mut findings = kvm::findings();
    findings.extend([kernel(&places), programs(&places), scratch()]);
    serde_json::to_string(&findings)
        .map(|text| text + "\n")
        .map_err(|error| Failure::of("cannot write what was found", error))
}

fn kernel(places: &Places) -> Finding {
    let need = "kernel of guests";
    match kernel::look(places) {
        Ok((_, Some(ready))) => Finding::ok(
            need,
            format!("{}, ready in `{}`", ready.release, ready.directory.display()),
        ),
        Ok((source, None)) => Finding::ok(
            need,
            format!("`{}`, made ready when a pod needs it", source.kernel.display()),
        ),
        Err(failure) => {
            let report = failure.report();
            let fix = report.hints.first().map(ToString::to_string).unwrap_or_default();
            Finding::lacking(need, State::Missing, report.message.to_string(), fix)
        }
    }
}

fn programs(places: &Places) -> Finding {
    let need = "programs of a machine";
    let gone = PROGRAMS.into_iter().filter(|name| !places.programs.join(name).is_file());
    let gone: Vec<&str> = gone.collect();
    match &gone[..] {
        [] => Finding::ok(need, "all there"),
        gone => Finding::lacking(
            need,
            State::Missing,
            format!("{} not in `{}`", gone.join(", "), places.programs.display()),
            "install all of one release",
        ),
    }
}

fn scratch() -> Finding {
    let need = "scratch disks";
    match MKE2FS.iter().find(|path| Path::new(path).is_file()) {
        Some(path) => Finding::ok(need, format!("by `{path}`")),
        None => Finding::lacking(
            need,
            State::Limited,
            "there is no `mke2fs`",
            "install e2fsprogs; `--scratch` needs it",
        ),
    }
}
