//! `cargo xtask test`: everything CI runs, and an honest count at the end.
//!
//! Plain `cargo test` does the work; this builds what the tests run, passes its output through,
//! adds up what it says, and looks at the whole machine before and after. A skipped test is no
//! passed test: those that could not run are named with their reason. The last line is always
//! `N passed, N failed, N skipped`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use harness::fixtures::{self, Fixture};
use harness::require;

use crate::build::{self, Profile};
use crate::error::Error;
use crate::leftovers::Machine;
use crate::{demo, packages, say};

/// What `cargo test` counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
}

/// Runs all tests, or with `filter`, what `cargo test` makes of these words.
pub(crate) fn run(filter: &[&str]) -> Result<(), Error> {
    packages::need(packages::FIXTURES)?;
    packages::need(packages::TESTS)?;
    say::heading("Programs and images");
    let programs = build::programs(Profile::Debug)?;
    build::programs(Profile::Release)?;
    for fixture in [Fixture::App, Fixture::Scratch] {
        let layout = fixtures::layout(&programs, fixture)
            .map_err(|error| Error::of(&format!("cannot make `{}`", fixture.name()), &error))?;
        say::fact(fixture.name(), &layout.display().to_string());
    }

    say::heading("Tests");
    let record = tempfile::NamedTempFile::new_in(build::target())
        .map_err(|error| Error::of("cannot record skipped tests", &error))?;
    let before = Machine::now();
    let mut count = cargo_test(filter, record.path())?;
    if filter.is_empty() {
        count = count.plus(demonstrated());
    }
    let left = before.left_behind();

    let skipped = fs::read_to_string(record.path())
        .map_err(|error| Error::of("cannot read the record of skipped tests", &error))?;
    report(count, &skipped, &left)
}

/// The demo is a promise of the README like any other, so it counts as a test.
fn demonstrated() -> Count {
    match demo::run() {
        Ok(()) => Count { passed: 1, failed: 0 },
        Err(error) => {
            say::error(&error);
            Count { passed: 0, failed: 1 }
        }
    }
}

fn report(count: Count, skipped: &str, left: &[String]) -> Result<(), Error> {
    let skips = u32::try_from(skipped.lines().count()).unwrap_or(u32::MAX);
    if skips > 0 {
        say::heading("Skipped");
        skipped.lines().for_each(say::plain);
    }
    if !left.is_empty() {
        say::heading("Left behind on this machine by all tests together");
        left.iter().for_each(|line| say::plain(line));
    }
    let global = u32::from(!left.is_empty());
    let failed = count.failed + global;
    let passed = count.passed.saturating_sub(skips) + (1 - global);
    say::plain("");
    say::plain(&format!("{passed} passed, {failed} failed, {skips} skipped"));
    if failed == 0 { Ok(()) } else { Err(Error::new(format!("{failed} tests failed"))) }
}

fn cargo_test(filter: &[&str], record: &std::path::Path) -> Result<Count, Error> {
    let mut cargo = Command::new("cargo")
        .current_dir(build::top())
        .args(["test", "--workspace", "--no-fail-fast", "--quiet"])
        .args(filter)
        .env(require::RECORD, record)
        .env("INSTA_UPDATE", "no")
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::of("cannot run `cargo test`", &error))?;
    let mut count = Count::default();
    if let Some(out) = cargo.stdout.take() {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            say::plain(&line);
            count = count.plus(counted(&line));
        }
    }
    let status = cargo.wait().map_err(|error| Error::of("cannot wait for `cargo test`", &error))?;
    // A test program that does not build, or dies, reports no result of its own.
    if !status.success() && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

/// Reads the counts out of a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
fn counted(line: &str) -> Count {
    let Some(result) = line.strip_prefix("test result: ") else { return Count::default() };
    let number = |word: &str| {
        let part = result.split([';', '.']).find(|part| part.trim_end().ends_with(word));
        part.and_then(|part| part.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Count { passed: number(" passed"), failed: number(" failed") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_cargo_test_are_counted() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out";
        assert_eq!(counted(line), Count { passed: 12, failed: 3 });
        assert_eq!(counted("running 3 tests"), Count::default());
    }
}
