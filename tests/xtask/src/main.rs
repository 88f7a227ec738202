//! Jobs of more than one step, for people and for CI.
//!
//! ```text
//! cargo xtask build [--release]    builds the programs and lays them out as they are installed
//! cargo xtask images               makes the fixture images
//! cargo xtask images DIR           writes an image of busybox to DIR: `oci:DIR:busybox`
//! cargo xtask demo                 shows a pod of two apps from a real registry
//! cargo xtask parity               looks at every promise behind both walls; writes `docs/parity.md`
//! cargo xtask machine run -- …     runs a command in a machine with systemd as process 1
//! cargo xtask machine shell        a prompt in one
//! cargo xtask test [FILTER…]       everything CI runs; `--tier host|booted|qemu` a part of it
//! cargo xtask install DIR          builds a release and installs it beneath DIR
//! cargo xtask docs [DIR]           writes `docs/commands.md`; to DIR, manual pages and completions
//! cargo xtask bench start [ROUNDS] compares the start of a pod with its peers
//! cargo xtask bench units [ROUNDS] the same with systemd, in a booted machine: what a unit costs
//! cargo xtask bench vm [ROUNDS]    the boot of a guest, beside QEMU's `microvm`, in a machine
//! ```
//!
//! Nothing is decided here that the product decides; what a job needs from the machine is named
//! before it is installed.

#![forbid(unsafe_code)]

use std::env;
use std::fmt;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::error::Error;

mod bench;
mod build;
mod count;
mod demo;
mod docs;
mod error;
mod install;
mod leftovers;
mod machine;
mod packages;
mod parity;
mod say;
mod test;

/// What there is to say to who asks, or asks for what there is not.
const USAGE: &str = "usage: cargo xtask build [--release] | images | demo | docs | install DIR | machine | parity | test | bench";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["help" | "--help" | "-h", ..] | [_, "--help" | "-h", ..] => {
            say::plain(USAGE);
            Ok(())
        }
        ["build"] => build::programs(build::Profile::Debug).map(drop),
        ["build", "--release"] => build::programs(build::Profile::Release).map(drop),
        ["images"] => images(),
        ["images", directory] => image_into(directory),
        ["demo"] => demo::run(),
        ["docs"] => docs::write(None),
        ["docs", directory] => docs::write(Some(Path::new(directory))),
        ["bench", words @ ..] => bench::run(words),
        ["install", directory] => install::run(Path::new(directory)),
        ["machine", words @ ..] => return exit(machine::run(words)),
        ["parity", words @ ..] => parity::run(words),
        ["test", filter @ ..] => test::run(filter),
        _ => Err(Error::new(USAGE)),
    };
    exit(done.map(|()| ExitCode::SUCCESS))
}

fn exit(done: Result<ExitCode, Error>) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(error) => {
            say::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn image_into(directory: &str) -> Result<(), Error> {
    use harness::fixtures::{self, Fixture};

    packages::need(packages::FIXTURES)?;
    let programs = build::programs(build::Profile::Debug)?;
    let failed =
        |error: &dyn fmt::Display| Error::of(&format!("cannot write `{directory}`"), error);
    let layout = fixtures::layout(&programs, Fixture::Busybox).map_err(|error| failed(&error))?;
    let copied = Command::new("cp").arg("-aT").arg(layout).arg(directory).status();
    match copied {
        Ok(status) if status.success() => {
            say::fact("image", &format!("oci:{directory}:{}", Fixture::Busybox.name()));
            Ok(())
        }
        Ok(status) => Err(failed(&status)),
        Err(error) => Err(failed(&error)),
    }
}

fn images() -> Result<(), Error> {
    use harness::fixtures::{self, Fixture};

    packages::need(packages::FIXTURES)?;
    let programs = build::programs(build::Profile::Debug)?;
    for fixture in [Fixture::Busybox, Fixture::App, Fixture::Scratch, Fixture::Debian] {
        let layout = fixtures::layout(&programs, fixture)
            .map_err(|error| Error::of(&format!("cannot make `{}`", fixture.name()), &error))?;
        say::fact(fixture.name(), &layout.display().to_string());
    }
    Ok(())
}
