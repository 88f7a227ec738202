//! `cargo xtask bench images`: from a registry to a root that can be run, for `pod` and its peers
//! from Debian's packages, on the same images, in one run; and beside them our own pipeline that
//! writes nothing.
//!
//! Everybody begins with an empty store on ext4, on a file in memory: the disks of test machines
//! differ by a factor of ten. `pod` makes its layers durable before it ends; nobody else does.

use std::env;
use std::fs;
use std::iter;
use std::path::Path;

use harness::fixtures::{self, Fixture};
use harness::registry::Registry;

use crate::bench::place::{self, Scratch};
use crate::build::{self, Profile};
use crate::error::Error;
use crate::packages;
use crate::say;

use self::contend::contenders;
pub(super) use self::disk::Disk;
pub(super) use self::source::LARGE;
use self::taken::Taken;

mod contend;
mod disk;
mod source;
pub(super) mod taken;

/// Rounds unless a number is given.
const ROUNDS: usize = 3;
/// What the large image should take at most: of the fastest peer, and of our own pipeline that
/// writes nothing.
const GOALS: (f64, f64) = (0.4, 2.2);

/// An image of the registry.
struct Image {
    /// `HOST:PORT`.
    host: String,
    /// Its repository, which is also what it is called here; its tag is `1`.
    repository: &'static str,
}

/// Builds for release, installs the peers, and runs the benchmark; `rounds` overrides [`ROUNDS`].
pub(super) fn images(rounds: Option<usize>) -> Result<(), Error> {
    let Some(programs) = place::programs() else {
        packages::need(packages::BENCH)?;
        packages::need(packages::FIXTURES)?;
        packages::need(packages::PULLS)?;
        let programs = build::programs(Profile::Release)?;
        build::example(Profile::Release, "images", "read-through")?;
        let mut layouts = Vec::new();
        for fixture in [Fixture::Busybox, Fixture::Debian] {
            let layout = fixtures::layout(&programs, fixture);
            layouts.push(layout.map_err(|error| Error::of("cannot make a fixture", &error))?);
        }
        let joined = env::join_paths(layouts)
            .map_err(|error| Error::of("a fixture has no usable path", &error))?;
        let rounds = rounds.map(|rounds| rounds.to_string());
        let words = iter::once("images".to_owned()).chain(rounds);
        let also = [(source::FIXTURES, joined)];
        return place::enter_with(programs.directory(), &["--net"], words, also);
    };
    let rounds = rounds.unwrap_or(ROUNDS);
    let scratch = Scratch::new()?;
    let registry = Registry::start(&scratch.0)
        .map_err(|error| Error::of("cannot start the registry", &error))?;
    let images = source::images(&scratch.0, &registry)?;
    let disk = Disk::new(&scratch.0)?;
    for image in &images {
        show(image, &programs, &disk, rounds)?;
    }
    let (peer, floor) = GOALS;
    say::plain(&format!(
        "aims for `large`: at most {peer} of the fastest peer, at most {floor} of the floor"
    ));
    Ok(())
}

/// Measures everybody with one image, in interleaved rounds after one that only warms up, and
/// prints medians.
fn show(image: &Image, programs: &Path, disk: &Disk, rounds: usize) -> Result<(), Error> {
    let contenders = contenders(image, programs);
    let mut taken: Vec<Vec<Taken>> = vec![Vec::new(); contenders.len()];
    for round in 0..=rounds {
        for (contender, taken) in contenders.iter().zip(&mut taken) {
            disk.empty()?;
            let one = contender.measure(&disk.0)?;
            if round > 0 {
                taken.push(one);
            }
        }
    }
    disk.empty()?;
    let medians: Vec<Taken> = taken.into_iter().map(taken::median).collect();
    let peers = contenders.iter().zip(&medians).filter(|(contender, _)| contender.is_peer);
    let fastest = peers.map(|(_, taken)| taken.wall).fold(f64::INFINITY, f64::min);
    let floor = medians.first().map_or(f64::NAN, |taken| taken.wall);
    let Image { repository, .. } = image;
    say::heading(&format!("`{repository}` from a registry until it can be run, {rounds} rounds"));
    say::plain(&format!(
        "{:<15}{:>10}{:>9}{:>9}{:>10}{:>12}",
        "", "wall", "/ peer", "/ floor", "cpu", "resident"
    ));
    for (contender, Taken { wall, cpu, resident }) in contenders.iter().zip(medians) {
        let (name, mib) = (contender.name, resident / 1024);
        let (peer, over) = (wall / fastest, wall / floor);
        say::plain(&format!(
            "{name:<15}{wall:>8.3} s{peer:>9.2}{over:>9.2}{cpu:>8.3} s{mib:>8} MiB"
        ));
    }
    Ok(())
}

/// Removes what a step has left for the next one.
fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_dir_all(path)
        .map_err(|error| Error::of(&format!("cannot remove `{}`", path.display()), &error))
}
