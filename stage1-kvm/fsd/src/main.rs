//! See [`fsd::program`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    fsd::program::main()
}
