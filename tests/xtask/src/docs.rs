//! `cargo xtask docs`: writes what is made of the definition of the command line.
//!
//! ```text
//! docs/commands.md                 every command, checked in; a test fails when it is stale
//! DIR/man/man1/pod*.1              pages for man
//! DIR/completions/{pod.bash,_pod,pod.fish}
//! ```

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::manual;
use harness::programs::Programs;

use crate::build::{self, Profile};
use crate::error::Error;
use crate::say;

/// The shells, and what their completions are called.
const SHELLS: [(&str, &str); 3] = [("bash", "pod.bash"), ("zsh", "_pod"), ("fish", "pod.fish")];

/// Writes `docs/commands.md`, and with `directory` what is to be installed.
pub(crate) fn write(directory: Option<&Path>) -> Result<(), Error> {
    let programs = build::programs(Profile::Debug)?;
    let grammar = said(&programs, &["internal-grammar"])?;
    let grammar: manual::Command = serde_json::from_slice(&grammar)
        .map_err(|error| Error::of("`pod internal-grammar` cannot be read", &error))?;
    let commands = build::top().join("docs/commands.md");
    put(&commands, manual::markdown(&grammar).as_bytes())?;
    let Some(directory) = directory else { return Ok(()) };
    for (name, page) in manual::pages(&grammar) {
        put(&directory.join("man/man1").join(name), page.as_bytes())?;
    }
    for (shell, name) in SHELLS {
        let script = said(&programs, &["completion", shell])?;
        put(&directory.join("completions").join(name), &script)?;
    }
    Ok(())
}

fn said(programs: &Programs, args: &[&str]) -> Result<Vec<u8>, Error> {
    let what = format!("`pod {}` failed", args.join(" "));
    let output = Command::new(programs.path("pod")).args(args).output();
    let output = output.map_err(|error| Error::of(&what, &error))?;
    if !output.status.success() {
        return Err(Error::of(&what, &String::from_utf8_lossy(&output.stderr)));
    }
    Ok(output.stdout)
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |error| Error::of(&format!("cannot write `{}`", path.display()), &error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(path, bytes).map_err(failed)?;
    say::fact("written", &path.display().to_string());
    Ok(())
}
