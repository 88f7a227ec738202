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
    let grammar = read(&grammar)?;
    let commands = build::top().join("docs/commands.md");
    put(&commands, manual::markdown(&grammar).as_bytes())?;
    let Some(directory) = directory else { return Ok(()) };
    for (place, text) in made(&programs, &grammar)? {
        put(&directory.join(place), &text)?;
    }
    Ok(())
}

/// Returns what is installed beneath `usr/share`: each file's place and its text.
pub(crate) fn installed(programs: &Programs) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let grammar = said(programs, &["internal-grammar"])?;
    let files = made(programs, &read(&grammar)?)?;
    let place = |place: String| match place.as_str() {
        "completions/pod.bash" => "bash-completion/completions/pod".to_owned(),
        "completions/_pod" => "zsh/site-functions/_pod".to_owned(),
        "completions/pod.fish" => "fish/vendor_completions.d/pod.fish".to_owned(),
        _ => place,
    };
    Ok(files.into_iter().map(|(name, text)| (place(name), text)).collect())
}

/// Returns manual pages and completions.
fn made(programs: &Programs, grammar: &manual::Command) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let pages = manual::pages(grammar).into_iter();
    let mut files: Vec<(String, Vec<u8>)> =
        pages.map(|(name, page)| (format!("man/man1/{name}"), page.into_bytes())).collect();
    for (shell, name) in SHELLS {
        files.push((format!("completions/{name}"), said(programs, &["completion", shell])?));
    }
    Ok(files)
}

fn read(grammar: &[u8]) -> Result<manual::Command, Error> {
    serde_json::from_slice(grammar)
        .map_err(|error| Error::of("`pod internal-grammar` cannot be read", &error))
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
