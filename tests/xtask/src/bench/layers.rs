//! `cargo xtask bench layers`: what each way of giving layers to a pod costs, on an image of a
//! gigabyte in 34,000 files in one layer: starts, and reading all of it, cold and warm.
//!
//! The store lies on ext4 on a file in memory, so that cold means what the file systems do, and
//! nothing of a disk. Ways this kernel has not are left out, and said.

use std::env;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use harness::fixtures::{self, Fixture};

use crate::bench::images::{Disk, LARGE};
use crate::bench::measure::run;
use crate::bench::place::{self, Scratch};
use crate::build::{self, Profile};
use crate::error::Error;
use crate::packages;
use crate::say;

/// Rounds unless a number is given.
const ROUNDS: usize = 3;
/// Set to where the layout of the image it is made of is, for the second life of this program.
const FIXTURE: &str = "POD_BENCH_FIXTURE";
/// The ways, each with its flags.
const WAYS: [&str; 4] = ["plain", "checked", "erofs", "sealed"];
/// What is measured of each, and what the app does for it.
const MEASURES: [(&str, &str, bool); 4] = [
    ("start, cold", "true", true),
    ("start, warm", "true", false),
    ("read all, cold", READ, true),
    ("read all, warm", READ, false),
];
const READ: &str = "cd /; busybox find 1 2 3 4 one two -type f -exec busybox cat {} + >/dev/null";
/// Makes an image of the tree that `bench images` calls large, with a shell.
const MAKE: &str = r#"
mkdir root/bin && cp /bin/busybox root/bin && ln -s busybox root/bin/sh && ln -s busybox root/bin/true
umoci init --layout l && umoci new --image l:1
tar --sort=name -C root -cf t . && rm -r root debian
umoci raw add-layer --image l:1 t && rm t
"#;

/// Builds for release and runs the benchmark; `rounds` overrides [`ROUNDS`].
pub(super) fn layers(rounds: Option<usize>) -> Result<(), Error> {
    let Some(programs) = place::programs() else {
        packages::need(packages::BENCH)?;
        packages::need(packages::FIXTURES)?;
        let programs = build::programs(Profile::Release)?;
        let layout = fixtures::layout(&programs, Fixture::Debian)
            .map_err(|error| Error::of("cannot make a fixture", &error))?;
        let rounds = rounds.map(|rounds| rounds.to_string());
        let words = iter::once("layers".to_owned()).chain(rounds);
        let also = [(FIXTURE, layout.into_os_string())];
        return place::enter_with(programs.directory(), &["--net"], words, also);
    };
    let rounds = rounds.unwrap_or(ROUNDS);
    let scratch = Scratch::new()?;
    let disk = Disk::new(&scratch.0)?;
    let store = Store { program: programs.join("pod"), disk, scratch: &scratch.0 };
    store.make_image()?;
    show(&store, rounds)
}

/// A store that has the image.
struct Store<'s> {
    program: PathBuf,
    disk: Disk,
    scratch: &'s Path,
}

impl Store<'_> {
    fn make_image(&self) -> Result<(), Error> {
        let debian = env::var_os(FIXTURE).unwrap_or_default();
        let debian = format!("{}:debian", Path::new(&debian).display());
        let made = self.scratch.join("made");
        fs::create_dir(&made).map_err(|error| Error::of("cannot make a directory", &error))?;
        for script in [LARGE, MAKE] {
            run(Command::new("sh").args(["-ec", script, "sh", &debian]).current_dir(&made))?;
        }
        run(&mut self.pod(&["fetch", "-q", &self.reference()]))
    }

    fn reference(&self) -> String {
        format!("oci:{}:1", self.scratch.join("made/l").display())
    }

    fn pod(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(format!("--root={}", self.disk.0.join("root").display()));
        command.arg(format!("--run-root={}", self.scratch.join("pod").display())).args(args);
        command
    }

    /// Runs a pod that is given its layers in one way, and returns how long that took in seconds.
    fn run(&self, way: &str, script: &str, cold: bool) -> Result<f64, Error> {
        if cold {
            run(&mut Command::new("sync"))?;
            fs::write("/proc/sys/vm/drop_caches", "3")
                .map_err(|error| Error::of("cannot drop caches", &error))?;
        }
        let image = self.reference();
        let args =
            ["run", "--rm", "-q", "--net", "none", "--layers", way, &image, "sh", "-c", script];
        let began = Instant::now();
        run(&mut self.pod(&args))?;
        Ok(began.elapsed().as_secs_f64())
    }
}

/// Measures every way in interleaved rounds, and prints medians.
fn show(store: &Store<'_>, rounds: usize) -> Result<(), Error> {
    let mut there = Vec::new();
    for way in WAYS {
        match store.run(way, "true", false) {
            Ok(first) => there.push((way, first, vec![Vec::new(); MEASURES.len()])),
            Err(error) => say::note(&format!("`{way}` cannot be had here: {error}")),
        }
    }
    for _ in 0..rounds {
        for (at, (_, script, cold)) in MEASURES.into_iter().enumerate() {
            for (way, _, taken) in &mut there {
                taken[at].push(store.run(way, script, cold)?);
            }
        }
    }
    say::heading(&format!("1 GB in 34,000 files by the way layers are given, {rounds} rounds"));
    let names = MEASURES.map(|(name, ..)| format!("{name:>16}")).concat();
    say::plain(&format!("{:<9}{:>16}{names}", "", "first of all"));
    for (way, first, taken) in there {
        let medians = taken.into_iter().map(|mut taken| {
            taken.sort_by(f64::total_cmp);
            taken.get(taken.len() / 2).copied().unwrap_or(f64::NAN)
        });
        let line: String = iter::once(first)
            .chain(medians)
            .map(|taken| format!("{:>13.1} ms", taken * 1e3))
            .collect();
        say::plain(&format!("{way:<9}{line}"));
    }
    Ok(())
}
