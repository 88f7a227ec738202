//! Where a benchmark measures: a directory in memory, namespaces in which nothing else goes on, and
//! one root file system for everybody.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::measure::run;
use crate::error::Error;
use crate::say;

/// Set to the directory of the programs for the second life of this one.
const INSIDE: &str = "POD_BENCH_INSIDE";

/// Returns the directory of the programs if this is the second life of this program.
pub(super) fn programs() -> Option<PathBuf> {
    env::var_os(INSIDE).map(PathBuf::from)
}

/// Runs `bench WORDS` of this program again where `/sys/fs/cgroup` is cgroup v2 and nothing else, as
/// crun and runc want it, in a mount namespace of its own and what else `namespaces` names.
pub(super) fn enter(
    programs: &Path,
    namespaces: &[&str],
    words: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<(), Error> {
    enter_with(programs, namespaces, words, [])
}

/// Does the same with these variables in its environment.
pub(super) fn enter_with<const N: usize>(
    programs: &Path,
    namespaces: &[&str],
    words: impl IntoIterator<Item = impl AsRef<OsStr>>,
    variables: [(&str, OsString); N],
) -> Result<(), Error> {
    let prelude = "set -e; mount --make-rprivate /; \
        if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; fi; \
        ip link set lo up 2>/dev/null || true; exec \"$@\"";
    let this = env::current_exe().map_err(|error| Error::of("cannot find this program", &error))?;
    let mut command = Command::new("unshare");
    command.arg("--mount").args(namespaces).args(["sh", "-c", prelude, "sh"]).arg(this);
    command.arg("bench").args(words).env(INSIDE, programs).envs(variables);
    let status = command.status().map_err(|error| Error::of("cannot make namespaces", &error))?;
    if status.success() { Ok(()) } else { Err(Error::new("nothing was measured")) }
}

/// A directory for one run, in memory and removed at its end: what making a file costs differs by
/// a factor of forty between the disks of test machines, and is not what is compared here.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self, Error> {
        let path = env::temp_dir().join(format!("pod-bench-{}", std::process::id()));
        fs::create_dir_all(&path)
            .map_err(|error| Error::of(&format!("cannot make `{}`", path.display()), &error))?;
        let scratch = Self(path);
        run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&scratch.0))?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If this fails, so does the removal, which is told.
        let _ = run(Command::new("umount").arg(&self.0));
        if let Err(error) = fs::remove_dir_all(&self.0) {
            say::note(&format!("cannot remove `{}`: {error}", self.0.display()));
        }
    }
}

/// One root file system, in the forms its users want.
#[derive(Debug)]
pub(super) struct Root {
    /// The image, as skopeo names it.
    pub(super) image: String,
    /// A directory that is to become a bundle.
    pub(super) bundle: PathBuf,
    /// The tree.
    pub(super) tree: PathBuf,
}

/// Lays out a root file system of busybox and of the program `also` beneath `scratch`.
pub(super) fn lay_out(scratch: &Path, also: Option<&Path>) -> Result<Root, Error> {
    let layout = scratch.join("layout");
    let image = format!("{}:latest", layout.display());
    let bundle = scratch.join("bundle");
    let tree = bundle.join("rootfs");
    run(Command::new("umoci").args(["init", "--layout"]).arg(&layout))?;
    run(Command::new("umoci").args(["new", "--image", &image]))?;
    run(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle))?;
    let make_root = "cd \"$1\" && mkdir bin dev etc proc root sys tmp usr var && cp /bin/busybox \"$1/bin/\" && for a in true sh ls; do ln -s busybox \"$1/bin/$a\"; done";
    run(Command::new("sh").args(["-c", make_root, "sh"]).arg(&tree))?;
    if let Some(program) = also {
        run(Command::new("cp").arg(program).arg(&tree))?;
    }
    run(Command::new("umoci").args(["repack", "--image", &image]).arg(&bundle))?;
    Ok(Root { image, bundle, tree })
}
