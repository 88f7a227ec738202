//! The program `pod`: everything is in the library beside it, so that it can be tested.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    stage0::main(std::env::args_os())
}
