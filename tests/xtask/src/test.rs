//! `cargo xtask test`: everything CI runs, and an honest count at the end.
//!
//! Plain `cargo test` does the work on the host, and the program `machine` in the machines that are
//! booted for it; this builds what the tests run, passes their output through, adds up what they
//! say, and looks at the whole host before and after. A skipped test is no
//! passed test: those that could not run are named with their reason. The last line is always
//! `N passed, N failed, N skipped`.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::fixtures::{self, Fixture};
use harness::require;

use crate::build::{self, Profile};
use crate::count::Count;
use crate::error::Error;
use crate::leftovers::Machine;
use crate::machine::tier::Tier;
use crate::{demo, machine, packages, say};

/// How long the host's tests may take: what CI can spare on two cores.
const HOST_BUDGET: Duration = Duration::from_secs(20 * 60);

/// Where tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On this machine, each in namespaces of its own.
    Host,
    /// In a machine made for tests.
    Machine(Tier),
}

/// Every place, in the order in which they are run.
const PLACES: [Place; 3] = [Place::Host, Place::Machine(Tier::Booted), Place::Machine(Tier::Qemu)];

/// What came of the tests of one place.
#[derive(Debug)]
struct Row {
    place: Place,
    count: Count,
    time: Duration,
}

/// Carries out the words behind `test`: everything, or the tests of a tier, or with a filter, what
/// `cargo test` makes of these words, on the host unless a tier is named.
pub(crate) fn run(words: &[&str]) -> Result<(), Error> {
    let (places, filter) = read(words)?;
    packages::need(packages::FIXTURES)?;
    packages::need(packages::TESTS)?;
    say::heading("Programs and images");
    let programs = build::programs(Profile::Debug)?;
    // The tests of the host look at both.
    if places.iter().any(|place| *place != Place::Machine(Tier::Booted)) {
        build::programs(Profile::Release)?;
    }
    for fixture in [Fixture::App, Fixture::Scratch] {
        let layout = fixtures::layout(&programs, fixture)
            .map_err(|error| Error::of(&format!("cannot make `{}`", fixture.name()), &error))?;
        say::fact(fixture.name(), &layout.display().to_string());
    }

    let record = tempfile::NamedTempFile::new_in(build::target())
        .map_err(|error| Error::of("cannot record skipped tests", &error))?;
    let before = Machine::now();
    let mut rows = Vec::new();
    for place in places {
        say::heading(&format!("Tests: {place}"));
        let began = Instant::now();
        let count = match place {
            Place::Host => on_host(filter, record.path())?,
            Place::Machine(tier) => {
                let programs = build::built(profile_in(tier));
                // Whatever keeps a machine from being tested in has failed, and is no reason to
                // keep silent about the others.
                machine::test(tier, &programs, filter).unwrap_or_else(|error| {
                    say::error(&error);
                    Count::FAILED
                })
            }
        };
        rows.push(Row { place, count, time: began.elapsed() });
    }
    let left = before.left_behind();

    let skipped = fs::read_to_string(record.path())
        .map_err(|error| Error::of("cannot read the record of skipped tests", &error))?;
    table(&rows);
    let count = rows.iter().fold(Count::default(), |sum, row| sum.plus(row.count));
    report(count, &skipped, &left)
}

/// Tells what is run where: the places, and the words of the filter.
fn read<'a, 'b>(words: &'b [&'a str]) -> Result<(Vec<Place>, &'b [&'a str]), Error> {
    match words {
        [] => Ok((PLACES.to_vec(), words)),
        ["--tier", "host", filter @ ..] => Ok((vec![Place::Host], filter)),
        ["--tier", tier, filter @ ..] => Ok((vec![Place::Machine(tier.parse()?)], filter)),
        ["--tier"] => Err(Error::new("`--tier` is followed by `host`, `booted` or `qemu`")),
        filter => Ok((vec![Place::Host], filter)),
    }
}

/// Returns how the programs for a machine are built: where everything is slow, not for debugging.
const fn profile_in(tier: Tier) -> Profile {
    match tier {
        Tier::Booted => Profile::Debug,
        Tier::Qemu => Profile::Release,
    }
}

impl Place {
    const fn budget(self) -> Duration {
        match self {
            Self::Host => HOST_BUDGET,
            Self::Machine(tier) => tier.budget(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Machine(tier) => tier.fmt(f),
        }
    }
}

/// Shows what took how long.
fn table(rows: &[Row]) {
    say::heading("Tiers");
    say::plain(&format!("{:<8}{:>7}{:>10}{:>10}", "tier", "tests", "time", "budget"));
    for Row { place, count, time } in rows {
        let (tests, budget) = (count.passed + count.failed, place.budget());
        let over = if *time > budget { "  over" } else { "" };
        let minutes =
            |time: Duration| format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60);
        let (name, time, budget) = (place.to_string(), minutes(*time), minutes(budget));
        say::plain(&format!("{name:<8}{tests:>7}{time:>10}{budget:>10}{over}"));
    }
}

fn on_host(filter: &[&str], record: &Path) -> Result<Count, Error> {
    let count = cargo_test(filter, record)?;
    Ok(if filter.is_empty() { count.plus(demonstrated()) } else { count })
}

/// The demo is a promise of the README like any other, so it counts as a test.
fn demonstrated() -> Count {
    match demo::run() {
        Ok(()) => Count::PASSED,
        Err(error) => {
            say::error(&error);
            Count::FAILED
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

fn cargo_test(filter: &[&str], record: &Path) -> Result<Count, Error> {
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
            count = count.plus(Count::of_line(&line));
        }
    }
    let status = cargo.wait().map_err(|error| Error::of("cannot wait for `cargo test`", &error))?;
    // A test program that does not build, or dies, reports no result of its own.
    if !status.success() && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_means_the_host_unless_a_tier_is_named() {
        let places = |words: &[&str]| read(words).map(|(places, _)| places).ok();
        assert_eq!(places(&[]), Some(PLACES.to_vec()));
        assert_eq!(places(&["kills"]), Some(vec![Place::Host]));
        let booted = Some(vec![Place::Machine(Tier::Booted)]);
        assert_eq!(places(&["--tier", "booted", "units::"]), booted);
        assert_eq!(places(&["--tier", "moon"]), None);
        assert_eq!(places(&["--tier"]), None);
    }
}
