//! The monitor as a program: reads its [`vmm::description::Description`], builds the machine, runs
//! it to its end.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pod_abi::exit::OURS)
}
