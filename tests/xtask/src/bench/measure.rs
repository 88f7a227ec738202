//! How contenders are measured: in interleaved rounds, so that whatever else the machine does hits
//! everybody alike, and by medians, which are compared as ratios: absolute times on a shared machine
//! mean little.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Error;

/// One way to start `true`.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) remark: &'static str,
    pub(super) command: Vec<String>,
    /// What waits for all that goes on behind the command, so that the next is measured alone.
    pub(super) after: Option<Vec<String>>,
}

/// Measures every contender once a round, after one round that only warms up.
pub(super) fn medians(contenders: &[Contender], rounds: usize) -> Result<Vec<Duration>, Error> {
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..=rounds {
        for (contender, times) in contenders.iter().zip(&mut times) {
            let mut start = command(&contender.command)?;
            let began = Instant::now();
            run(&mut start)?;
            if round > 0 {
                times.push(began.elapsed());
            }
            if let Some(after) = &contender.after {
                run(&mut command(after)?)?;
            }
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    Ok(times.into_iter().map(median).collect())
}

fn command(words: &[String]) -> Result<Command, Error> {
    let (program, arguments) = words.split_first().ok_or_else(|| Error::new("no program"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// Runs a command that must succeed, and shows what it said if it does not.
pub(super) fn run(command: &mut Command) -> Result<(), Error> {
    let output =
        command.output().map_err(|error| Error::of(&format!("cannot run {command:?}"), &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("{command:?} ended with {}:\n{said}", output.status)))
}

/// Makes words of words.
pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
