//! What a command takes: time, processor time of all it starts, and memory.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde_json::{Value, json};

use crate::bench::measure::run;
use crate::error::Error;
use crate::say;

/// The word that makes this program run a command and print what it took.
pub(in crate::bench) const MEASURED: &str = "images-measured";

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// In seconds.
    pub(super) wall: f64,
    /// In seconds.
    pub(super) cpu: f64,
    /// Its largest process, in KiB.
    pub(super) resident: u64,
}

/// Returns the one in the middle, by time.
pub(super) fn median(mut taken: Vec<Taken>) -> Taken {
    taken.sort_by(|one, other| one.wall.total_cmp(&other.wall));
    taken[taken.len() / 2]
}

/// Has a process of its own run `line` in `directory`, so that what it took is nobody else's.
pub(super) fn measured(line: &[String], directory: &Path) -> Result<Taken, Error> {
    let this = env::current_exe().map_err(|error| Error::of("cannot find this program", &error))?;
    let output = Command::new(this)
        .args(["bench", MEASURED])
        .args(line)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::of("cannot measure", &error))?;
    let told: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| Error::new(format!("{line:?} was not measured")))?;
    let field = |name: &str| told[name].as_f64().unwrap_or(f64::NAN);
    let resident = told["resident"].as_u64().unwrap_or(0);
    Ok(Taken { wall: field("wall"), cpu: field("cpu"), resident })
}

/// Runs a command and prints what it took.
pub(in crate::bench) fn measure(line: &[&str]) -> Result<(), Error> {
    let (program, arguments) = line.split_first().ok_or_else(|| Error::new("no program"))?;
    let began = Instant::now();
    run(Command::new(program).args(arguments).stdin(Stdio::null()))?;
    let wall = began.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_err(|error| Error::of("cannot ask what was used", &error))?;
    let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
    let told = json!({ "wall": wall, "cpu": cpu, "resident": usage.max_rss() });
    say::plain(&told.to_string());
    Ok(())
}

fn seconds(time: TimeVal) -> f64 {
    let whole = u64::try_from(time.tv_sec()).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
    (Duration::from_secs(whole) + Duration::from_micros(micros)).as_secs_f64()
}
