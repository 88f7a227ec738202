//! `cargo xtask install DESTDIR`: everything of a release, where a package would put it.
//!
//! ```text
//! usr/bin/pod
//! usr/lib/pod/stage1/{ns,fly,kvm}/
//! usr/lib/systemd/system/{pod@.service,pod-gc.{service,timer},pod-dns.{service,socket},
//!     pod-network-reload.service,machine-pods.slice}
//! usr/lib/tmpfiles.d/pod.conf
//! usr/share/man/man1/pod*.1
//! usr/share/bash-completion/completions/pod
//! usr/share/zsh/site-functions/_pod
//! usr/share/fish/vendor_completions.d/pod.fish
//! usr/share/doc/pod/…
//! ```
//!
//! Places are those of the File Hierarchy Standard and of systemd's `file-hierarchy(7)`. Nothing is
//! enabled or started. There is no file for `sysusers.d(5)`: no user of ours exists, ranges of ids
//! are leased while a pod runs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use harness::programs::Programs;

use crate::build::{self, Profile};
use crate::docs;
use crate::error::Error;
use crate::say;

/// The files of the source tree that are installed as they are, and where.
const FILES: [(&str, &str); 12] = [
    ("stage0/systemd/pod@.service", "usr/lib/systemd/system/pod@.service"),
    ("stage0/systemd/pod-gc.service", "usr/lib/systemd/system/pod-gc.service"),
    ("stage0/systemd/pod-gc.timer", "usr/lib/systemd/system/pod-gc.timer"),
    ("stage0/systemd/pod-dns.service", "usr/lib/systemd/system/pod-dns.service"),
    ("stage0/systemd/pod-dns.socket", "usr/lib/systemd/system/pod-dns.socket"),
    (
        "stage0/systemd/pod-network-reload.service",
        "usr/lib/systemd/system/pod-network-reload.service",
    ),
    ("stage0/systemd/machine-pods.slice", "usr/lib/systemd/system/machine-pods.slice"),
    ("stage0/systemd/tmpfiles.conf", "usr/lib/tmpfiles.d/pod.conf"),
    ("README.md", "usr/share/doc/pod/README.md"),
    ("CHANGELOG.md", "usr/share/doc/pod/CHANGELOG.md"),
    ("docs/systemd.md", "usr/share/doc/pod/systemd.md"),
    ("LICENSE", "usr/share/doc/pod/copyright"),
];

/// The programs of the build that are installed, and where.
const PROGRAMS: [(&str, &str); 13] = [
    ("pod", "usr/bin/pod"),
    ("stage1/ns/stage1-ns", "usr/lib/pod/stage1/ns/stage1-ns"),
    ("stage1/ns/stage2-init", "usr/lib/pod/stage1/ns/stage2-init"),
    ("stage1/ns/stage1.json", "usr/lib/pod/stage1/ns/stage1.json"),
    ("stage1/fly/stage1-fly", "usr/lib/pod/stage1/fly/stage1-fly"),
    ("stage1/fly/stage2-init", "usr/lib/pod/stage1/fly/stage2-init"),
    ("stage1/fly/stage1.json", "usr/lib/pod/stage1/fly/stage1.json"),
    ("stage1/kvm/stage1-kvm", "usr/lib/pod/stage1/kvm/stage1-kvm"),
    ("stage1/kvm/vmm", "usr/lib/pod/stage1/kvm/vmm"),
    ("stage1/kvm/fsd", "usr/lib/pod/stage1/kvm/fsd"),
    ("stage1/kvm/guest", "usr/lib/pod/stage1/kvm/guest"),
    ("stage1/kvm/stage2-init", "usr/lib/pod/stage1/kvm/stage2-init"),
    ("stage1/kvm/stage1.json", "usr/lib/pod/stage1/kvm/stage1.json"),
];

/// Builds a release and installs it beneath `destination`.
pub(crate) fn run(destination: &Path) -> Result<(), Error> {
    let programs = build::programs(Profile::Release)?;
    into(&programs, destination)?;
    say::fact("installed", &destination.display().to_string());
    Ok(())
}

/// Installs `programs` and what belongs to them beneath `destination`.
pub(crate) fn into(programs: &Programs, destination: &Path) -> Result<(), Error> {
    for (name, place) in PROGRAMS {
        let mode = if name.ends_with(".json") { 0o644 } else { 0o755 };
        install(&programs.path(name), &destination.join(place), mode)?;
    }
    for (name, place) in FILES {
        install(&build::top().join(name), &destination.join(place), 0o644)?;
    }
    for (place, text) in docs::installed(programs)? {
        let path = destination.join("usr/share").join(place);
        directory_of(&path)?;
        fs::write(&path, text).map_err(|error| failed(&path, &error))?;
        permit(&path, 0o644)?;
    }
    Ok(())
}

/// Copies a file; directories above it are made, and nothing of the source's owner or mode stays.
fn install(from: &Path, to: &Path, mode: u32) -> Result<(), Error> {
    directory_of(to)?;
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(to, &error)),
        _ => {}
    }
    let bytes = fs::read(from)
        .map_err(|error| Error::of(&format!("cannot read `{}`", from.display()), &error))?;
    fs::write(to, bytes).map_err(|error| failed(to, &error))?;
    permit(to, mode)
}

fn permit(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| failed(path, &error))
}

/// Makes the directories above a file, for everybody to enter.
fn directory_of(path: &Path) -> Result<(), Error> {
    let Some(parent) = path.parent() else { return Ok(()) };
    if parent.is_dir() {
        return Ok(());
    }
    directory_of(parent)?;
    fs::create_dir(parent).map_err(|error| failed(parent, &error))?;
    permit(parent, 0o755)
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::of(&format!("cannot install `{}`", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::process::Command;

    /// Everything beneath `top`: places, and the bits of their modes.
    fn tree(top: &Path) -> BTreeMap<String, u32> {
        let mut found = BTreeMap::new();
        let mut left = vec![top.to_owned()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let meta = fs::symlink_metadata(&path).unwrap();
                let place = path.strip_prefix(top).unwrap().display().to_string();
                found.insert(place, meta.permissions().mode() & 0o7777);
                if meta.is_dir() {
                    left.push(path);
                }
            }
        }
        found
    }

    #[test]
    fn a_release_is_installed_as_a_package_would_be() {
        let programs = Programs::of_this_build();
        let place = tempfile::tempdir().unwrap();
        into(&programs, place.path()).unwrap();
        into(&programs, place.path()).unwrap(); // over an older one
        let tree = tree(place.path());
        for (path, mode) in &tree {
            let program = PROGRAMS.iter().any(|(_, to)| to == path) && !path.ends_with(".json");
            let directory = place.path().join(path).is_dir();
            assert_eq!(*mode, if program || directory { 0o755 } else { 0o644 }, "{path}");
            assert!(path == "usr" || path.starts_with("usr/"), "{path} is not for packages");
        }
        let more = [
            "usr/share/man/man1/pod.1",
            "usr/share/man/man1/pod-run.1",
            "usr/share/man/man1/pod-gc.1",
            "usr/share/bash-completion/completions/pod",
            "usr/share/zsh/site-functions/_pod",
            "usr/share/fish/vendor_completions.d/pod.fish",
        ];
        let places = PROGRAMS.iter().chain(&FILES).map(|(_, to)| *to).chain(more);
        for path in places {
            assert!(tree.contains_key(path), "{path} is missing");
        }
        verify(place.path());
    }

    /// Has systemd read the units; what it does not know or cannot find is an error. The units of
    /// systemd itself that ours name are stood in for.
    fn verify(root: &Path) {
        const TARGETS: [&str; 8] = [
            "basic",
            "multi-user",
            "network",
            "shutdown",
            "slices",
            "sysinit",
            "time-sync",
            "timers",
        ];
        for target in TARGETS {
            let unit = root.join("usr/lib/systemd/system").join(format!("{target}.target"));
            fs::write(unit, "[Unit]\nDescription=stands in\n").unwrap();
        }
        let mut named = Vec::new();
        for (_, place) in FILES {
            if let Some(unit) = place.strip_prefix("usr/lib/systemd/system/") {
                named.push(unit.replace('@', "@web"));
            }
        }
        let said = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(format!("--root={}", root.display()))
            .args(&named)
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success() && words.is_empty(), "{}: {words}", said.status);
    }
}
