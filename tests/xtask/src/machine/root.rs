//! The root file system of all machines: a Debian by `mmdebstrap`, kept in `target/machine/` by
//! the digest of its recipe.
//!
//! Kernel, modules and initramfs come from one package of the security suite, so that they fit each
//! other. It is the same for every tier and never written to: what is of a tier, or of a build, is
//! laid over it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use harness::image::digest;
use tempfile::TempDir;

use crate::build;
use crate::error::Error;
use crate::packages;
use crate::say;

const SUITE: &str = "bookworm";

/// What the machine has beside the smallest Debian.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "dbus",
    "e2fsprogs",
    "erofs-utils",
    "iproute2",
    "kmod",
    "libpam-systemd",
    "linux-image-cloud-amd64",
    "nftables",
    "polkitd",
    "procps",
    "systemd",
    "systemd-container",
    "systemd-sysv",
    "udev",
];

/// Files of packages that nobody reads in a machine of a test.
const LEFT_OUT: &[&str] = &["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*"];

/// Units that cost time at every boot, or would do something in the middle of a test.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-repart.service",
    "systemd-tmpfiles-clean.timer",
];

/// What is done in the new root, which is `$1`; `$MASKED` are the units.
const CUSTOMISE: &str = r#"#!/bin/sh
set -eu
chroot "$1" systemctl --quiet mask $MASKED
chroot "$1" passwd --quiet --delete root
echo machine >"$1/etc/hostname"
printf '127.0.0.1 localhost machine\n::1 localhost\n' >"$1/etc/hosts"
: >"$1/etc/resolv.conf"
: >"$1/etc/machine-id"
mkdir -p "$1/var/log/journal"
"#;

/// Returns the directory everything of machines is kept in.
pub(crate) fn directory() -> PathBuf {
    build::target().join("machine")
}

/// Returns the root with the packages `more` in it, which is made if it is not there yet.
pub(crate) fn root(more: &[&str]) -> Result<PathBuf, Error> {
    let packages = [PACKAGES, more].concat();
    let recipe = format!("{SUITE}\n{packages:?}\n{LEFT_OUT:?}\n{MASKED:?}\n{CUSTOMISE}");
    let name = digest(recipe.as_bytes());
    let short = name.trim_start_matches("sha256:").get(..16).unwrap_or(&name);
    let place = directory().join(format!("root-{short}"));
    if place.is_dir() {
        return Ok(place);
    }
    packages::need(packages::ROOT)?;
    let failed = |error: &dyn std::fmt::Display| {
        Error::of(&format!("cannot make the machine's root `{}`", place.display()), error)
    };
    fs::create_dir_all(directory()).map_err(|error| failed(&error))?;
    say::note("making the machine's root, once: a minute");
    let began = Instant::now();
    let staging = TempDir::new_in(directory()).map_err(|error| failed(&error))?;
    let made = staging.path().join("root");
    let hook = staging.path().join("customise");
    fs::write(&hook, CUSTOMISE).map_err(|error| failed(&error))?;
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&hook, mode).map_err(|error| failed(&error))?;
    bootstrap(&packages, &made, &hook)?;
    match fs::rename(&made, &place) {
        // Somebody else was faster.
        Err(_) if place.is_dir() => {}
        renamed => renamed.map_err(|error| failed(&error))?,
    }
    say::note(&format!("made in {} s", began.elapsed().as_secs()));
    Ok(place)
}

fn bootstrap(packages: &[&str], place: &Path, hook: &Path) -> Result<(), Error> {
    // What it mounts for its while is seen by nobody else, and is gone even if it is killed.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "mmdebstrap"]);
    command.args(["--quiet", "--mode=root", "--variant=minbase"]);
    command.arg(format!("--include={}", packages.join(",")));
    command.args(LEFT_OUT.iter().map(|left| format!("--dpkgopt=path-exclude={left}")));
    command.arg(format!("--customize-hook={}", hook.display()));
    command.arg(SUITE).arg(place).env("MASKED", MASKED.join(" "));
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    let status = command.status().map_err(|error| Error::of("cannot run `mmdebstrap`", &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new(format!("`mmdebstrap` ended with {status}")))
    }
}
