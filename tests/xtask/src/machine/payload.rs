//! What goes into a machine beside its root: the build, installed, and an image to run.
//!
//! ```text
//! usr/bin/pod  usr/lib/…                       as `cargo xtask install` puts them
//! usr/lib/pod-tests/                           the programs of the tests
//! usr/lib/pod-tests/documents/                 the documents, if there are tests
//! fixtures/bb/                                 an OCI layout, busybox, tag `latest`
//! fixtures/DIGEST/{app,scratch}/               the images of the tests, if there are tests
//! ```
//!
//! A tree in a temporary directory, to be laid over the root.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::document;
use harness::fixtures::{self, Fixture};
use harness::programs::{IN_MACHINE, Programs};
use tempfile::TempDir;

use crate::build;
use crate::error::Error;
use crate::install;
use crate::machine::root;
use crate::packages;

/// Makes the tree of what `programs` are, with the test program `tests` if there is one.
pub(crate) fn of(programs: &Programs, tests: Option<&Path>) -> Result<TempDir, Error> {
    packages::need(packages::FIXTURES)?;
    let failed = |error: io::Error| Error::of("cannot lay out what goes into the machine", &error);
    fs::create_dir_all(root::directory()).map_err(failed)?;
    let tree = TempDir::new_in(root::directory()).map_err(failed)?;
    install::into(programs, tree.path())?;
    lay_out(programs, tree.path()).map_err(failed)?;
    if let Some(program) = tests {
        lay_out_tests(programs, program, tree.path()).map_err(failed)?;
    }
    Ok(tree)
}

fn lay_out(programs: &Programs, tree: &Path) -> io::Result<()> {
    // A temporary directory is private; this one becomes `/`.
    fs::set_permissions(tree, fs::Permissions::from_mode(0o755))?;
    let tests = beneath(tree, IN_MACHINE);
    for directory in [&tests, &beneath(tree, fixtures::IN_MACHINE)] {
        fs::create_dir_all(directory)?;
    }
    for name in ["activate", "agent", "probe", "sandbox"] {
        fs::copy(programs.path(name), tests.join(name))?;
    }
    let layout = tree.join("fixtures/bb");
    copy(&fixtures::layout(programs, Fixture::Busybox)?, &layout)?;
    tag(&layout, Fixture::Busybox.name(), "latest")
}

fn lay_out_tests(programs: &Programs, program: &Path, tree: &Path) -> io::Result<()> {
    fs::copy(program, beneath(tree, IN_MACHINE).join(PROGRAM))?;
    let settings = beneath(tree, "/etc/sysctl.d");
    fs::create_dir_all(&settings)?;
    fs::write(settings.join("50-cores.conf"), format!("kernel.core_pattern={CORES}/core.%e.%p\n"))?;
    let documents = beneath(tree, &document::in_machine().display().to_string());
    fs::create_dir_all(documents.join("docs"))?;
    for document in document::all(&build::top())? {
        let name = document.strip_prefix(build::top()).map_err(io::Error::other)?;
        fs::copy(&document, documents.join(name))?;
    }
    for fixture in [Fixture::App, Fixture::Scratch] {
        let layout = fixtures::layout(programs, fixture)?;
        let made = fixtures::directory(programs);
        let name = layout.strip_prefix(made).map_err(io::Error::other)?;
        let place = beneath(tree, fixtures::IN_MACHINE).join(name);
        place.parent().map_or(Ok(()), fs::create_dir_all)?;
        copy(&layout, &place)?;
    }
    Ok(())
}

/// Returns where `path` of the machine lies in the tree.
fn beneath(tree: &Path, path: &str) -> PathBuf {
    tree.join(path.trim_start_matches('/'))
}

/// The name of the program of the tests.
pub(crate) const PROGRAM: &str = "machine";

/// Where core files lie in a machine whose kernel is its own.
pub(crate) const CORES: &str = "/var/tmp/cores";

/// Gives the image that is tagged `old` in `layout` the tag `new`.
fn tag(layout: &Path, old: &str, new: &str) -> io::Result<()> {
    let index = layout.join("index.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&index)?)?;
    let name = "org.opencontainers.image.ref.name";
    for manifest in value["manifests"].as_array_mut().into_iter().flatten() {
        if manifest["annotations"][name] == old {
            manifest["annotations"][name] = new.into();
        }
    }
    fs::write(index, value.to_string())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let status = Command::new("cp").arg("-aT").arg(from).arg(to).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("cp ended with {status}"))) }
}
