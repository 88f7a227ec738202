//! Bytes from a pod to its host and back, counted by whom they come to.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::error::Error;
use crate::say;

/// How often each direction is measured, and for how long, in seconds.
const ROUNDS: usize = 7;
const SECONDS: &str = "2";
const PORT: &str = "5201";

/// One way to run a program in a network.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) name: &'static str,
    /// Where it reaches its host.
    pub(super) gateway: String,
    /// The line up to what asks for an address and a name, and what stands behind that.
    pub(super) line: Vec<String>,
    pub(super) behind: Vec<String>,
    /// Where the probe is in it.
    pub(super) probe: &'static str,
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    ToHost,
    ToPod,
}

/// Measures and shows both directions; the last side is the yardstick.
pub(super) fn show(sides: &[Side], probe: &Path) -> Result<(), Error> {
    say::heading(&format!(
        "bytes between a pod and its host, one connection of TCP, {ROUNDS} rounds"
    ));
    say::plain(&format!("{:<18}{:>16}{:>16}", "", "to the host", "to the pod"));
    let (out, back) =
        (medians(sides, Direction::ToHost, probe)?, medians(sides, Direction::ToPod, probe)?);
    let (Some(last_out), Some(last_back)) = (out.last(), back.last()) else { return Ok(()) };
    for ((side, out), back) in sides.iter().zip(&out).zip(&back) {
        say::plain(&format!("{:<18}{out:>11.0} MB/s{back:>11.0} MB/s", side.name));
        if out != last_out {
            let (out, back) = (out / last_out, back / last_back);
            say::plain(&format!("{:<18}{out:>16.2}{back:>16.2}", "  of the last"));
        }
    }
    Ok(())
}

/// The address a pod is given in the network of a gateway.
fn beside(gateway: &str) -> String {
    let gateway: Ipv4Addr = gateway.parse().unwrap_or(Ipv4Addr::UNSPECIFIED);
    Ipv4Addr::from(gateway.to_bits() + 76).to_string()
}

/// Measures all sides in interleaved rounds; in MB/s.
fn medians(sides: &[Side], direction: Direction, probe: &Path) -> Result<Vec<f64>, Error> {
    let mut found = vec![Vec::new(); sides.len()];
    for round in 0..ROUNDS {
        for (side, found) in sides.iter().zip(&mut found) {
            found.push(once(side, direction, probe, &format!("bench-{round}"))?);
        }
    }
    let median = |mut found: Vec<f64>| {
        found.sort_by(f64::total_cmp);
        found[found.len() / 2]
    };
    Ok(found.into_iter().map(median).collect())
}

fn once(side: &Side, direction: Direction, probe: &Path, name: &str) -> Result<f64, Error> {
    let address = beside(&side.gateway);
    let inside = |words: &[&str]| {
        let mut command = Command::new(&side.line[0]);
        command.args(&side.line[1..]).args(["--ip", &address, "--name", name]);
        command.args(&side.behind).arg(side.probe).args(words);
        command
    };
    let outside = |words: &[&str]| {
        let mut command = Command::new(probe);
        command.args(words);
        command
    };
    let (drain, pour) = match direction {
        Direction::ToHost => (
            outside(&["drain", PORT]),
            inside(&["pour", &format!("{}:{PORT}", side.gateway), SECONDS]),
        ),
        Direction::ToPod => {
            let pod = format!("{address}:{PORT}");
            (inside(&["drain", PORT]), outside(&["pour", &pod, SECONDS]))
        }
    };
    let (drain, pour) = (start(drain, side)?, start(pour, side)?);
    end(pour, side)?;
    let said = end(drain, side)?;
    said.trim().parse().map_err(|_| Error::new(format!("{}: `{said}` is no rate", side.name)))
}

fn start(mut command: Command, side: &Side) -> Result<Child, Error> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| Error::of(&format!("cannot run {}", side.name), &error))
}

fn end(child: Child, side: &Side) -> Result<String, Error> {
    let output = child.wait_with_output();
    let output = output.map_err(|error| Error::of(&format!("cannot run {}", side.name), &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("{} ended with {}: {said}", side.name, output.status)))
}
