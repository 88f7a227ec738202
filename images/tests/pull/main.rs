//! Pulling end to end, from a registry that fails as told into a real store with real workers.
//!
//! A pull starts a program that unpacks, and some tests kill a whole pull; both programs are this
//! one, told apart by the first argument. That is why it has a `main` of its own, which otherwise
//! runs the table of tests as `cargo test` would: names as filters, a result line at the end.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]
#![expect(clippy::print_stdout, reason = "it says what `cargo test` would say")]

mod bench;
mod child;
mod discovery;
mod faults;
mod image;
mod injected;
mod kills;
mod pushes;
mod rivals;
mod site;
mod storms;
mod trusted;

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::thread;

use images::worker;

/// Every test, by name.
type Table = &'static [(&'static str, fn())];

/// The variable that names the file skipped tests are recorded in.
const RECORD: &str = "POD_TESTS_SKIPPED";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(child::UNPACK) => return worker::run(),
        Some(child::DO) => return child::act(&arguments[1..]),
        _ => {}
    }
    let filters: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|word| name.contains(*word));
    let tests: Vec<_> = [
        discovery::TESTS,
        faults::TESTS,
        injected::TESTS,
        kills::TESTS,
        pushes::TESTS,
        rivals::TESTS,
        storms::TESTS,
        trusted::TESTS,
    ]
    .into_iter()
    .flatten()
    .filter(|(name, _)| chosen(name))
    .collect();
    println!("\nrunning {} tests", tests.len());
    let failed: Vec<&str> =
        tests.iter().filter(|(name, test)| !passes(name, *test)).map(|(name, _)| *name).collect();
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    let passed = tests.len() - failed.len();
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out\n",
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes(name: &str, test: fn()) -> bool {
    if !nix::unistd::geteuid().is_root() {
        record_skipped(name);
        return true;
    }
    let thread = thread::Builder::new().name(name.to_owned()).spawn(test).unwrap();
    let passed = thread.join().is_ok();
    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    passed
}

fn record_skipped(name: &str) {
    let file = env::var_os(RECORD).map(|path| OpenOptions::new().append(true).open(path));
    if let Some(Ok(mut file)) = file {
        // The record is for people; a test must not fail for want of it.
        let _ = writeln!(file, "{name}: needs root: layers have owners and device nodes");
    }
    println!("test {name} ... skipped, it needs root");
}
