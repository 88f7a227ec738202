//! The tests in a machine: one boot for all of them, their results counted and brought back.
//!
//! ```text
//! target/machine/results/TIER/
//!   tests.log    what the test program said
//!   journal.txt  the journal of all boots
//!   console.txt  what was said on the console
//!   cores.tar    core files, if there are any
//!   parity/      what was found of each promise, if that was looked at
//! ```
//!
//! What the test program says is passed through; when something failed, the ends of journal and
//! console are shown below it. A machine that hangs is booted again from its disk, once, and the
//! tests that have not passed yet are run there; the one it hung in is run from its beginning. Where
//! processors are emulated, a few tests with guests that failed are run once more, and counted beside
//! the result: such an emulation loses interrupts, and of some thousand boots one ends in a processor
//! that resets itself.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::parity::{Found, MOST_BOOTS, RESULTS, Wall};
use harness::programs::IN_MACHINE;
use harness::random::SEED;
use harness::said::SLOWNESS;
use tempfile::NamedTempFile;

use crate::build;
use crate::count::Count;
use crate::error::Error;
use crate::machine::payload::{CORES, PROGRAM};
use crate::machine::root;
use crate::machine::tier::{Machine, Reboot, Streams, Tier};
use crate::say;

use heard::{Heard, Listener};

mod heard;

/// How often a machine may hang: the emulation of a computer that has guests of its own is itself
/// not without fault. A test that hangs it twice has failed.
const MOST_HANGS: u32 = 1;

/// How many tests with guests may fail and be tried again. More are no accident.
const MOST_AGAIN: usize = 2;
/// How often the power fails while a store works; `tests/machine/resets.rs` counts them, too.
const RESETS: usize = 10;
/// How many lines of the journal and of the console are shown after a failure.
const SHOWN: usize = 60;
/// How long a machine has to hand over what it recorded.
const FETCH: Duration = Duration::from_secs(60);

/// What is done in a machine, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The test program runs with these arguments.
    Tests(Vec<String>),
    /// The machine is rebooted.
    Reboot(Reboot),
}

/// Decides what is done in a machine of `tier` for the tests whose names hold a word of `filter`,
/// of which `before_reboot` means all about reboots, and `resets` all about resets. The table is in
/// `tests/machine/main.rs`.
pub(crate) fn steps(tier: Tier, filter: &[&str]) -> Vec<Step> {
    let tests = |args: &[&str]| Step::Tests(args.iter().map(|arg| (*arg).to_owned()).collect());
    let reboots = [
        tests(&["before_reboot::"]),
        Step::Reboot(Reboot::Orderly),
        tests(&["after_reboot::", "before_reset::"]),
        Step::Reboot(Reboot::Sudden),
        tests(&["after_reset::"]),
    ];
    let mut resets = Vec::new();
    for _ in 0..RESETS {
        resets.push(tests(&["resets::a_store_works"]));
        resets.push(Step::Reboot(Reboot::Cut));
    }
    resets.push(tests(&["resets::nothing_is_lost_and_nothing_is_half"]));
    let late = ["before_reboot::", "after_reboot::", "before_reset::", "after_reset::", "resets::"];
    let late = late.map(|module| ["--skip", module]).concat();
    let of_qemu = ["--skip", "controllers::", "--skip", "vm::"];
    match tier {
        Tier::Booted if filter == ["before_reboot"] => reboots.to_vec(),
        Tier::Booted if filter.is_empty() => {
            let rest = tests(&[&of_qemu[..], &late].concat());
            [&[rest], &reboots[..]].concat()
        }
        Tier::Qemu if filter.is_empty() => {
            let rest = tests(&["controllers::", "everywhere::", "vm::"]);
            [&[rest], &resets[..]].concat()
        }
        Tier::Qemu if filter == ["resets"] => resets,
        Tier::Booted => vec![tests(&[&of_qemu[..], &late, filter].concat())],
        Tier::Qemu => vec![tests(&[&late[..], filter].concat())],
    }
}

/// Builds the test program and returns where it lies.
pub(crate) fn program() -> Result<PathBuf, Error> {
    let output = Command::new("cargo")
        .current_dir(build::top())
        .args(["test", "--package", "tests", "--test", PROGRAM, "--no-run", "--quiet"])
        .args(["--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::of("cannot run `cargo test`", &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let ours = message["target"]["name"] == PROGRAM;
        message["executable"].as_str().filter(|_| ours).map(PathBuf::from)
    });
    match found {
        Some(program) if output.status.success() => Ok(program),
        _ => Err(Error::new("the tests of the machine do not build")),
    }
}

/// Runs the tests of `steps` in `machine`, at most for `budget`, and brings back what they left.
pub(crate) fn run(
    machine: &mut dyn Machine,
    tier: Tier,
    steps: &[Step],
    budget: Duration,
) -> Result<Count, Error> {
    let results = results(tier);
    let failed = |error: io::Error| Error::of("cannot keep the results of a machine", &error);
    match fs::remove_dir_all(&results) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => fs::create_dir_all(&results).map_err(failed)?,
    }
    let log = File::create(results.join("tests.log")).map_err(failed)?;
    let mut count = Count::default();
    let end = Instant::now() + budget;
    let mut trial = Trial { machine, tier, log, end, hangs: 0, again: 0 };
    for step in steps {
        let done = match step {
            Step::Reboot(how) => trial.machine.reboot(*how).map(|()| Count::default()),
            Step::Tests(args) => trial.test_to_the_end(args),
        };
        match done {
            Ok(more) => count = count.plus(more),
            Err(error) => {
                // What comes behind has nothing to stand on.
                say::error(&error);
                count = count.plus(Count::FAILED);
                break;
            }
        }
    }
    bring_back(trial.machine, &results);
    if trial.hangs > 0 {
        say::fact("machines that hung", &format!("{}, of at most {MOST_HANGS}", trial.hangs));
    }
    if trial.again > 0 {
        say::fact("tests run once more", &format!("{}, of at most {MOST_AGAIN}", trial.again));
    }
    if let Some(boots) = boots(&results.join("parity")) {
        say::fact("virtual machines booted", &format!("{boots}, of at most {MOST_BOOTS}"));
        if boots > MOST_BOOTS {
            count = count.plus(Count::FAILED);
        }
    }
    if count.failed > 0 {
        for name in ["journal.txt", "console.txt"] {
            show_end_of(&results.join(name));
        }
    }
    Ok(count)
}

/// Returns the directory that holds what was brought back from the machine of `tier`.
pub(crate) fn results(tier: Tier) -> PathBuf {
    root::directory().join("results").join(tier.to_string())
}

/// Tests that run in a machine.
struct Trial<'a> {
    machine: &'a mut dyn Machine,
    tier: Tier,
    log: File,
    end: Instant,
    /// How often the machine was lost and booted again.
    hangs: u32,
    /// How many tests with guests were run once more.
    again: usize,
}

/// How a run of the test program ended.
enum Run {
    /// As it should; this is what it had said, and what it counted.
    Ended(Heard, Count),
    /// Not at all: what it had said by then, and why.
    Cut(Heard, Error),
}

impl Trial<'_> {
    /// Runs the tests that `args` choose, and in a machine that hung and was booted again those
    /// that have not passed yet.
    fn test_to_the_end(&mut self, args: &[String]) -> Result<Count, Error> {
        let (heard, error) = match self.test(args)? {
            Run::Ended(heard, count) => return self.with_guests_again(&heard, count),
            Run::Cut(heard, error) => (heard, error),
        };
        if !self.machine.is_lost() || self.hangs == MOST_HANGS {
            return Err(error);
        }
        self.hangs += 1;
        say::error(&error);
        self.machine.revive()?;
        let left = self.tests(args)?.into_iter().filter(|test| !heard.has_passed(test));
        let left: Vec<String> = left.collect();
        say::note(&format!("the machine has been booted again for {} tests", left.len()));
        if left.is_empty() {
            return Ok(heard.passed());
        }
        let more = self.test_to_the_end(&[&["--exact".to_owned()], &left[..]].concat())?;
        Ok(heard.passed().plus(more))
    }

    /// Runs failed tests with guests once more; what is found then counts.
    fn with_guests_again(&mut self, heard: &Heard, count: Count) -> Result<Count, Error> {
        let failed = heard.failed_with_guests();
        let accident = (1..=MOST_AGAIN.saturating_sub(self.again)).contains(&failed.len());
        if !accident || !self.machine.is_emulated() {
            return Ok(count);
        }
        self.again += failed.len();
        say::note(&format!("{} failed beside an emulated guest: once more", failed.join(", ")));
        let more = match self.test(&[&["--exact".to_owned()], &failed[..]].concat())? {
            Run::Ended(_, more) => more,
            Run::Cut(_, error) => return Err(error),
        };
        let left = count.failed.saturating_sub(u32::try_from(failed.len()).unwrap_or(u32::MAX));
        Ok(Count { failed: left, ..count }.plus(more))
    }

    /// Names the tests that `args` choose.
    fn tests(&mut self, args: &[String]) -> Result<Vec<String>, Error> {
        let failed = |error: io::Error| Error::of("cannot list the tests of a machine", &error);
        let list = NamedTempFile::new().map_err(failed)?;
        let program = format!("{IN_MACHINE}/{PROGRAM}");
        let mut words = vec![program.as_str(), "--list", "--format=terse"];
        words.extend(args.iter().map(String::as_str));
        fetch(self.machine, &words, list.path())?;
        let text = fs::read_to_string(list.path()).map_err(failed)?;
        Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    /// Runs the test program once.
    fn test(&mut self, args: &[String]) -> Result<Run, Error> {
        let failed = |error: io::Error| Error::of("cannot hear the tests of a machine", &error);
        let (read, write) = io::pipe().map_err(failed)?;
        let errors = write.try_clone().map_err(failed)?;
        let listener = Listener::to(read, self.log.try_clone().map_err(failed)?);

        let program = format!("{IN_MACHINE}/{PROGRAM}");
        let slowness = format!("{SLOWNESS}={}", if self.tier == Tier::Qemu { 10 } else { 1 });
        let core_files =
            format!("mkdir -p {CORES} && cd {CORES} && ulimit -c unlimited && exec \"$@\"");
        let mut words = vec!["sh", "-c", &core_files, "sh", "env", &slowness, "RUST_BACKTRACE=1"];
        words.extend(["INSTA_WORKSPACE_ROOT=/", "INSTA_UPDATE=no"]);
        let seed = env::var(SEED).map(|seed| format!("{SEED}={seed}"));
        words.extend(seed.as_deref());
        words.extend([program.as_str(), "--test-threads=1"]);
        words.extend(args.iter().map(String::as_str));
        let streams = Streams::Into { output: write.into(), errors: errors.into() };
        let left = self.end.saturating_duration_since(Instant::now());
        let code = match self.machine.run(&words, streams, Some(left)) {
            Ok(code) => code,
            Err(error) => {
                let heard = listener.so_far();
                let what = format!("the tests did not end: `{}`", heard.begun());
                return Ok(Run::Cut(heard, Error::of(&what, &error)));
            }
        };
        let heard = listener.all();
        let count = heard.counted();
        // A test program that died reports no result; and where nothing may be skipped, ignoring is.
        let silent = code != 0 && count.failed == 0;
        let ignored = Count { failed: count.ignored, ..Count::default() };
        let count = Count { ignored: 0, ..count }.plus(ignored);
        Ok(Run::Ended(heard, if silent { count.plus(Count::FAILED) } else { count }))
    }
}

/// Brings back what a machine recorded, as far as it still answers.
fn bring_back(machine: &mut dyn Machine, results: &Path) {
    let console = fs::copy(machine.console(), results.join("console.txt"));
    if let Err(error) = console {
        say::note(&format!("the console is lost: {error}"));
    }
    let journal = results.join("journal.txt");
    let cores = results.join("cores.tar");
    let pack = format!("cd {CORES} && set -- core* && test -e \"$1\" && tar -c \"$@\"");
    let of_journal = &["journalctl", "--no-pager", "--output=short-precise"][..];
    for (words, file) in [(of_journal, &journal), (&["sh", "-c", &pack], &cores)] {
        if let Err(error) = fetch(machine, words, file) {
            say::note(&format!("`{}` is lost: {error}", file.display()));
            return;
        }
    }
    if fs::metadata(&cores).is_ok_and(|metadata| metadata.len() == 0) {
        // There were none.
        let _ = fs::remove_file(&cores);
    }
    let parity = results.join("parity.tar");
    let pack = format!("test ! -d {RESULTS} || tar -C {RESULTS} -c .");
    let place = results.join("parity");
    let fetched = fetch(machine, &["sh", "-c", &pack], &parity);
    if fetched.is_ok() && fs::metadata(&parity).is_ok_and(|metadata| metadata.len() > 0) {
        let unpacked = fs::create_dir_all(&place).and_then(|()| {
            Command::new("tar").arg("-xC").arg(&place).arg("-f").arg(&parity).status()
        });
        if let Err(error) = unpacked {
            say::note(&format!("`{}` cannot be unpacked: {error}", parity.display()));
        }
    }
    // What was in it lies beside it.
    let _ = fs::remove_file(&parity);
}

/// Adds up how many virtual machines the groups of promises have booted, if any ran.
fn boots(parity: &Path) -> Option<u32> {
    let entries = fs::read_dir(parity.join(Wall::Machine.stage1())).ok()?;
    let found = entries.flatten().filter_map(|entry| fs::read(entry.path()).ok());
    let found = found.filter_map(|text| serde_json::from_slice::<Found>(&text).ok());
    Some(found.map(|found| found.boots).sum())
}

fn fetch(machine: &mut dyn Machine, words: &[&str], file: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| Error::of("cannot write it", &error);
    let output = File::create(file).map_err(failed)?;
    let errors = File::options().write(true).open("/dev/null").map_err(failed)?;
    let streams = Streams::Into { output: output.into(), errors: errors.into() };
    machine.run(words, streams, Some(FETCH)).map(drop)
}

fn show_end_of(file: &Path) {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    say::heading(&format!("The end of {}", file.display()));
    lines[lines.len().saturating_sub(SHOWN)..].iter().for_each(|line| say::plain(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(tier: Tier, filter: &[&str]) -> Vec<String> {
        let line = |step: Step| match step {
            Step::Tests(args) => args.join(" "),
            Step::Reboot(how) => format!("{how:?}"),
        };
        steps(tier, filter).into_iter().map(line).collect()
    }

    #[test]
    fn modules_decide_what_runs_where() {
        let late = "--skip before_reboot:: --skip after_reboot:: --skip before_reset:: --skip after_reset:: --skip resets::";
        let reboots = [
            "before_reboot::",
            "Orderly",
            "after_reboot:: before_reset::",
            "Sudden",
            "after_reset::",
        ];
        let all = format!("--skip controllers:: --skip vm:: {late}");
        assert_eq!(lines(Tier::Booted, &[]), [&[all.as_str()], &reboots[..]].concat());
        assert_eq!(lines(Tier::Booted, &["units::"]), [format!("{all} units::")]);
        assert_eq!(lines(Tier::Booted, &["before_reboot"]), reboots);

        let all = "controllers:: everywhere:: vm::";
        let steps = lines(Tier::Qemu, &[]);
        assert_eq!(steps[..3], [all, "resets::a_store_works", "Cut"]);
        assert_eq!(steps[1..], lines(Tier::Qemu, &["resets"]));
        assert_eq!(steps.len(), 2 + 2 * RESETS);
        assert_eq!(lines(Tier::Qemu, &["oom"]), [format!("{late} oom")]);
    }
}
