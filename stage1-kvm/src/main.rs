//! The program `stage1-kvm`: everything is in the library beside it, so that it can be tested.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    stage1_kvm::main()
}
