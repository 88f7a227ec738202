//! The worker that unpacks a layer, as a program of its own, for the tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    images::worker::run()
}
