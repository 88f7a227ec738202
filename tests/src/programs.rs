//! Where cargo put the programs.
//!
//! Tests and `xtask` run from the same target directory that holds `pod`; nothing is searched in
//! `PATH`, so that an installed `pod` is never tested by mistake.

use std::env;
use std::path::{Path, PathBuf};

/// The directory of the programs of one build.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
    place: Place,
}

/// What a directory of programs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where cargo builds.
    Build,
    /// Where the tests of a machine lie; `pod` is installed.
    Machine,
}

/// Where the programs of the tests lie in a machine.
pub const IN_MACHINE: &str = "/usr/lib/pod-tests";

impl Programs {
    /// Finds the build this very program belongs to: test programs lie in `deps/` beneath it.
    ///
    /// # Panics
    ///
    /// When the programs are not there: `cargo xtask build` makes them.
    #[must_use]
    pub fn of_this_build() -> Self {
        let own = env::current_exe().expect("/proc/self/exe can be read");
        let beside = own.ancestors().skip(1).take(2).find(|dir| dir.join("stage1").is_dir());
        let directory = beside.expect("programs are missing; `cargo xtask build` makes them");
        Self { directory: directory.to_owned(), place: Place::Build }
    }

    /// The build in `directory`, such as `target/x86_64-unknown-linux-gnu/release`.
    #[must_use]
    pub fn beneath(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), place: Place::Build }
    }

    /// The programs in a machine made for tests: `pod` as a package installs it.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self { directory: PathBuf::from(IN_MACHINE), place: Place::Machine }
    }

    /// Returns the path of the program `name`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        match self.place {
            Place::Machine if name == "pod" => PathBuf::from("/usr/bin/pod"),
            _ => self.directory.join(name),
        }
    }

    /// Tells whether these are the programs in a machine, where nothing is built.
    #[must_use]
    pub fn are_installed(&self) -> bool {
        self.place == Place::Machine
    }

    /// Returns the directory that holds the programs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the `target` directory, where caches may be kept.
    ///
    /// # Panics
    ///
    /// When the programs do not lie two levels beneath a target directory, as cargo puts them.
    #[must_use]
    pub fn target(&self) -> &Path {
        self.directory.ancestors().nth(2).expect("cargo's layout is target/TRIPLE/PROFILE")
    }
}
