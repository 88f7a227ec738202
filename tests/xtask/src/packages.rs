//! What jobs need of the machine, and how it gets there: Debian packages, by apt-get.
//!
//! What is missing is said before it is installed; what is there is not touched. On other systems
//! the error names the programs.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::say;

/// A program a job needs, and the Debian package that holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    program: &'static str,
    package: &'static str,
}

const fn need_of(program: &'static str, package: &'static str) -> Need {
    Need { program, package }
}

/// For the fixture images and the registry.
pub(crate) const FIXTURES: &[Need] = &[
    need_of("/bin/busybox", "busybox-static"),
    need_of("docker-registry", "docker-registry"),
    need_of("mmdebstrap", "mmdebstrap"),
    need_of("skopeo", "skopeo"),
];

/// For the root of machines.
pub(crate) const ROOT: &[Need] = &[need_of("mmdebstrap", "mmdebstrap")];

/// For a machine of QEMU.
pub(crate) const QEMU: &[Need] = &[
    need_of("mke2fs", "e2fsprogs"),
    need_of("qemu-img", "qemu-utils"),
    need_of("qemu-system-x86_64", "qemu-system-x86"),
    need_of("setpriv", "util-linux"),
];

/// Beside those, for the tests.
pub(crate) const TESTS: &[Need] = &[
    need_of("/usr/lib/cni/bridge", "containernetworking-plugins"),
    // Bundles run under the runtimes of others, too.
    need_of("crun", "crun"),
    need_of("fsck.erofs", "erofs-utils"),
    // It says what the kernel would compute of a sealed file.
    need_of("fsverity", "fsverity"),
    // It signs as podman and skopeo have it sign.
    need_of("gpg", "gnupg"),
    need_of("gpg-agent", "gnupg"),
    need_of("ip", "iproute2"),
    // Those plugins write their rules with it.
    need_of("iptables", "iptables"),
    need_of("nft", "nftables"),
    need_of("openssl", "openssl"),
    // Images go to and come from the tools of others.
    need_of("podman", "podman"),
    need_of("buildah", "buildah"),
    need_of("umoci", "umoci"),
    need_of("runc", "runc"),
    need_of("strace", "strace"),
    need_of("systemd-analyze", "systemd"),
];

/// For `bench start`: the peers, and what counts.
pub(crate) const BENCH: &[Need] = &[
    need_of("/bin/busybox", "busybox-static"),
    need_of("crun", "crun"),
    need_of("runc", "runc"),
    need_of("bwrap", "bubblewrap"),
    need_of("podman", "podman"),
    need_of("strace", "strace"),
    need_of("umoci", "umoci"),
];

/// For `bench images`, beside those.
pub(crate) const PULLS: &[Need] = &[
    need_of("containerd", "containerd"),
    need_of("mke2fs", "e2fsprogs"),
    need_of("skopeo", "skopeo"),
];

/// For `bench network`, beside those.
pub(crate) const NETWORKS: &[Need] = &[
    need_of("/usr/lib/cni/bridge", "containernetworking-plugins"),
    need_of("/usr/lib/podman/netavark", "netavark"),
    need_of("iptables", "iptables"),
    need_of("nft", "nftables"),
];

/// Where programs lie; `PATH` of a user need not hold the last two.
const PLACES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

fn is_there(need: &Need) -> bool {
    if need.package == "busybox-static" {
        // The package `busybox` has a program of that name, too, which no scratch image can run.
        return Path::new("/usr/share/doc/busybox-static").is_dir();
    }
    PLACES.iter().any(|place| Path::new(place).join(need.program).is_file())
}

/// How often apt-get is asked for what is missing: what it installs may push out what was there,
/// where that came from elsewhere (a `qemu-utils` of backports goes as `qemu-system-x86` comes).
const ROUNDS: usize = 2;

/// Installs what is missing of `needs`.
pub(crate) fn need(needs: &[Need]) -> Result<(), Error> {
    for _ in 0..ROUNDS {
        let missing: Vec<&str> =
            needs.iter().filter(|need| !is_there(need)).map(|need| need.package).collect();
        if missing.is_empty() {
            return Ok(());
        }
        say::heading("Missing Debian packages");
        say::note(&format!("installing with apt-get: {}", missing.join(" ")));
        apt_get(&["update", "-qq"])?;
        let install = ["install", "-y", "-qq", "--no-install-recommends"];
        apt_get(&[&install[..], &missing[..]].concat())?;
    }
    match needs.iter().find(|need| !is_there(need)) {
        None => Ok(()),
        Some(need) => Err(Error::new(format!(
            "`{}` is still missing after installing `{}`",
            need.program, need.package
        ))),
    }
}

fn apt_get(args: &[&str]) -> Result<(), Error> {
    say::command(&format!("apt-get {}", args.join(" ")));
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .map_err(|error| Error::of("cannot run `apt-get`; install the packages by hand", &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new(format!("`apt-get {}` ended with {status}", args.join(" "))))
    }
}
