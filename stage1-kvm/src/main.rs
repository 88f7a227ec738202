//! stage1 of pods in virtual machines.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pod_abi::exit::OURS)
}
