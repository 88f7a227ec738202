//! `cargo xtask machine`: a machine with systemd as process 1, to try things and to test in.
//!
//! ```text
//! machine run [--tier booted|qemu] [--release] [--no-build] -- COMMAND…    runs one command in a fresh machine
//! machine shell [--tier booted|qemu] [--release] [--no-build]              a prompt in it
//! ```
//!
//! Standard output is the command's alone; what there is to say about the machine is said on
//! standard error. `--no-build` takes the programs as they lie in the target directory.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use harness::programs::Programs;

use crate::build::{self, Profile};
use crate::count::Count;
use crate::error::Error;
use crate::say;

use self::booted::Booted;
use self::keeper::Parts;
use self::qemu::Qemu;
use self::tier::{Machine, Streams, Tier};

mod booted;
mod keeper;
mod payload;
mod qemu;
mod root;
pub(crate) mod tier;
mod trial;

/// How it is called.
const USAGE: &str = "usage: cargo xtask machine run [--tier booted|qemu] [--release] [--no-build] \
    -- COMMAND… | machine shell [--tier booted|qemu] [--release] [--no-build]";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    tier: Tier,
    profile: Profile,
    build: bool,
    command: Vec<&'a str>,
}

/// Carries out the words behind `machine`.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode, Error> {
    if let [verb, root, payload, place] = words
        && *verb == booted::KEEP
    {
        let [root, payload, place] = [root, payload, place].map(Path::new);
        return keeper::keep(&Parts { root, payload, place }).map(|()| ExitCode::SUCCESS);
    }
    say::aside();
    let request = read(words)?;
    let programs = if request.build {
        build::programs(request.profile)?
    } else {
        build::built(request.profile)
    };
    let mut machine = boot(request.tier, &programs, None)?;
    machine.run(&request.command, Streams::Ours, None).map(ExitCode::from)
}

fn read<'a>(words: &[&'a str]) -> Result<Request<'a>, Error> {
    let (verb, mut rest) = words.split_first().ok_or_else(|| Error::new(USAGE))?;
    let mut request =
        Request { tier: Tier::Booted, profile: Profile::Debug, build: true, command: Vec::new() };
    loop {
        rest = match rest {
            ["--tier", tier, rest @ ..] => {
                request.tier = tier.parse()?;
                rest
            }
            ["--release", rest @ ..] => {
                request.profile = Profile::Release;
                rest
            }
            ["--no-build", rest @ ..] => {
                request.build = false;
                rest
            }
            _ => break,
        }
    }
    request.command = match (*verb, rest) {
        ("run", ["--", command @ ..]) if !command.is_empty() => command.to_owned(),
        ("shell", []) => vec!["bash", "-l"],
        _ => return Err(Error::new(USAGE)),
    };
    Ok(request)
}

/// Runs the tests of `tier` whose names hold a word of `filter`, or all, on `programs`.
pub(crate) fn test(tier: Tier, programs: &Programs, filter: &[&str]) -> Result<Count, Error> {
    let program = trial::program()?;
    let mut machine = boot(tier, programs, Some(&program))?;
    trial::run(machine.as_mut(), tier, &trial::steps(tier, filter), tier.budget())
}

/// Returns the directory that holds what was brought back from the machine of `tier`.
pub(crate) fn results(tier: Tier) -> PathBuf {
    trial::results(tier)
}

/// Boots a fresh machine with `programs` installed and the test program `tests`, if there is one.
fn boot(tier: Tier, programs: &Programs, tests: Option<&Path>) -> Result<Box<dyn Machine>, Error> {
    let root = root::root(&[])?;
    let payload = payload::of(programs, tests)?;
    start(tier, &root, payload.path())
}

/// Boots a machine of `root` with the tree `payload` laid over it.
fn start(tier: Tier, root: &Path, payload: &Path) -> Result<Box<dyn Machine>, Error> {
    let began = Instant::now();
    let machine: Box<dyn Machine> = match tier {
        Tier::Booted => Box::new(Booted::boot(root, payload)?),
        Tier::Qemu => Box::new(Qemu::boot(root, payload)?),
    };
    say::note(&format!("{tier} machine up in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(machine)
}

/// Runs this very program with `words` in a machine of `tier` that has the packages `more`, too, and
/// `programs` installed.
pub(crate) fn run_ourselves(
    tier: Tier,
    programs: &Programs,
    more: &[&str],
    words: &[&str],
) -> Result<(), Error> {
    const OURS: &str = "usr/lib/pod-tests/xtask";
    let failed = |error: io::Error| Error::of("cannot take this program into a machine", &error);
    let payload = payload::of(programs, None)?;
    fs::copy(env::current_exe().map_err(failed)?, payload.path().join(OURS)).map_err(failed)?;
    let mut machine = start(tier, &root::root(more)?, payload.path())?;
    let program = format!("/{OURS}");
    match machine.run(&[&[program.as_str()], words].concat(), Streams::Ours, None)? {
        0 => Ok(()),
        code => Err(Error::new(format!("it ended with {code} in the machine"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_meant() {
        let read = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            read(&words).map(|request| format!("{request:?}")).map_err(|error| error.to_string())
        };
        let plain = read("run -- pod --version").expect("it is right");
        assert!(plain.contains(
            r#"tier: Booted, profile: Debug, build: true, command: ["pod", "--version"]"#
        ));
        let qemu = read("shell --tier qemu --no-build --release").expect("it is right");
        assert!(qemu.contains("tier: Qemu, profile: Release, build: false"));
        for wrong in ["run", "run --", "run pod", "shell -- pod", "run --tier vm -- pod", "stop"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
