//! stage1 of pods in virtual machines.
//!
//! | argument | what it does |
//! |---|---|
//! | `run` | runs a pod as `pod_abi::stage` says, and becomes `pod reap` |
//! | `plan` | reads an order from standard input and prints the machine |
//! | `features` | prints what this stage1 understands, as JSON |
//! | `setup [--kernel FILE --modules DIR]` | prepares the kernel of guests |
//! | `doctor` | tells what of this host is in the way, as JSON |

#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use pod_abi::exit;
use supervisor::Failure;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let (verb, rest) = match arguments.split_first() {
        Some((verb, rest)) => (verb.to_str().unwrap_or_default(), rest),
        None => ("", &[][..]),
    };
    let done: Result<ExitCode, Failure> = match (verb, rest) {
        ("run" | "plan" | "features", []) => Err(not_yet(verb)),
        ("setup", _) => Err(not_yet(verb)),
        ("doctor", []) => Err(not_yet(verb)),
        _ => Err(Failure::new("usage: stage1-kvm run|plan|features|setup|doctor")),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            say(&failure);
            ExitCode::from(exit::OURS)
        }
    }
}

fn not_yet(verb: &str) -> Failure {
    Failure::new(format!("this stage1 cannot `{verb}` yet")).code("stage1.not-given")
}

/// Says what went wrong where nobody else can: before there is a status, and after the last.
fn say(failure: &Failure) {
    let report = failure.report();
    let mut text = format!("error: {}\n", report.message);
    for cause in report.causes {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    for hint in report.hints {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    // There is nowhere else to say it.
    let _ = io::stderr().write_all(text.as_bytes());
}
