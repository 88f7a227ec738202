//! PID 1 of a guest.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pod_abi::exit::OURS)
}
