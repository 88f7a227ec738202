//! Builds the programs and lays them out as they are installed.
//!
//! ```text
//! target/TRIPLE/PROFILE/
//!   pod  probe  sandbox
//!   stage1/ns/{stage1.json,stage1-ns,stage2-init}
//!   stage1/fly/{stage1.json,stage1-fly,stage2-init}
//!   stage1/kvm/{stage1.json,stage1-kvm,vmm,fsd,guest,stage2-init}
//! ```
//!
//! `pod` finds its stage1 beside itself, so that a build tree runs without being installed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::programs::Programs;

use crate::error::Error;

/// The target that `.cargo/config.toml` names.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// The packages whose programs are laid out.
const PACKAGES: [&str; 9] =
    ["stage0", "stage1-ns", "stage1-kvm", "vmm", "guest", "fsd", "stage2-init", "probe", "tests"];
/// Programs as they are built, and what they are called where they go.
type Renamed = &'static [(&'static str, &'static str)];
/// Every stage1: its name, where its manifest lies, and its programs: what is built, and what that
/// is called there. The program of `fly` is that of `ns`, which looks at its name.
const STAGES: [(&str, &str, Renamed); 3] = [
    ("ns", "stage1-ns/stage1.json", &[("stage1-ns", "stage1-ns"), ("stage2-init", "stage2-init")]),
    ("fly", "stage1-ns/fly.json", &[("stage1-ns", "stage1-fly"), ("stage2-init", "stage2-init")]),
    (
        "kvm",
        "stage1-kvm/stage1.json",
        &[
            ("stage1-kvm", "stage1-kvm"),
            ("vmm", "vmm"),
            ("fsd", "fsd"),
            ("guest", "guest"),
            ("stage2-init", "stage2-init"),
        ],
    ),
];

/// How the programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Fast to build, with debug assertions.
    Debug,
    /// As they are installed.
    Release,
}

/// Returns the top of the source tree.
pub(crate) fn top() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// Builds an example of a package, which then lies in `examples` beside the programs.
pub(crate) fn example(profile: Profile, package: &str, name: &str) -> Result<(), Error> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(top()).args(["build", "--package", package, "--example", name]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    let status = cargo.status().map_err(|error| Error::of("cannot run `cargo`", &error))?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("`{name}` does not build"))) }
}

/// Builds the programs and lays them out; returns where they are.
pub(crate) fn programs(profile: Profile) -> Result<Programs, Error> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(top()).args(["build", "--bins"]);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    let status = cargo.status().map_err(|error| Error::of("cannot run `cargo`", &error))?;
    if !status.success() {
        return Err(Error::new("the programs do not build"));
    }
    let programs = built(profile);
    let directory = programs.directory();
    for (stage, manifest, programs) in STAGES {
        lay_out(directory, stage, manifest, programs).map_err(|error| {
            Error::of(
                &format!("cannot lay out stage1 `{stage}` in `{}`", directory.display()),
                &error,
            )
        })?;
    }
    Ok(programs)
}

/// Returns where the programs are, built or not.
pub(crate) fn built(profile: Profile) -> Programs {
    let name = if profile == Profile::Release { "release" } else { "debug" };
    Programs::beneath(&target().join(TRIPLE).join(name))
}

/// Returns cargo's target directory.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top().join("target"), PathBuf::from)
}

fn lay_out(directory: &Path, stage: &str, manifest: &str, programs: Renamed) -> io::Result<()> {
    let place = directory.join("stage1").join(stage);
    fs::create_dir_all(&place)?;
    fs::copy(top().join(manifest), place.join("stage1.json"))?;
    for (built, name) in programs {
        let link = place.join(name);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::hard_link(directory.join(built), link)?,
        }
    }
    Ok(())
}
