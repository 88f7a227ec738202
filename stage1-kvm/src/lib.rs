//! stage1 of pods in virtual machines: becomes a pod's supervisor, or tells what it would do.
//!
//! | argument | what it does |
//! |---|---|
//! | `run` | runs a pod as `pod_abi::stage` says, and becomes `pod reap` |
//! | `plan` | reads an order from standard input and prints the machine it takes |
//! | `features` | prints what this stage1 understands, and what it does not give, as JSON |
//! | `setup [--kernel FILE --modules DIR]` | prepares the kernel of guests |
//! | `doctor` | tells what of this host is in the way, as JSON |
//! | `probe`, `prepare` | are errands of the others: try the KVM that is standard input, make the kernel ready |

#![forbid(unsafe_code)]

mod alarm;
mod child;
mod disk;
mod doctor;
mod ending;
mod errand;
mod helm;
mod host;
#[cfg(any(test, feature = "hostile"))]
pub mod hostile;
mod kernel;
mod kvm;
mod machine;
mod network;
mod plan;
mod probe;
mod scratch;
mod setup;
mod share;
mod talk;
mod token;
mod watch;

use std::env;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use pod_abi::exit;
use pod_abi::stage::{Order, Overhead};
use pod_abi::version::{AbiRange, GUEST, STAGE_ABI};
use rustix::fs::Mode;
use rustix::process::umask;
use supervisor::{During, Failure, Handover, supervise};

pub use crate::host::Ready;
pub use crate::machine::{Ground, Machine, Patience};
pub use crate::plan::Host;
use crate::plan::Refusal;

/// The versions of the stage ABI this program understands; `stage1.json` says the same.
const ABI: AbiRange = AbiRange { oldest: 4, newest: STAGE_ABI };

/// What a machine takes beside its apps; `stage1.json` says the same. Memory: the guest's kernel
/// ([`plan::OVERHEAD`]), and 80 MiB for the monitor, the servers of eight volumes and the tables
/// the host keeps; two hundredths are the guest's table of pages and the host's second one.
const OVERHEAD: Overhead = Overhead { memory: 208 << 20, memory_percent: 2, tasks: 128 };

/// The longest order `plan` reads, in bytes.
const MAX_ORDER: u64 = 64 << 20;

/// Does what the arguments of this process ask for, and returns its exit status.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let (verb, rest) = match arguments.split_first() {
        Some((verb, rest)) => (verb.to_str().unwrap_or_default(), rest),
        None => ("", &[][..]),
    };
    let done: Result<ExitCode, Failure> = match (verb, rest) {
        ("run", []) => run(),
        ("plan", []) => print_plan(),
        ("features", []) => print_features(),
        ("setup", arguments) => match setup::setup(arguments) {
            Err(failure) => {
                failure.say();
                let usage = failure.report().code == setup::USAGE_CODE;
                Ok(ExitCode::from(if usage { exit::USAGE } else { exit::REFUSED }))
            }
            done => done,
        },
        ("probe", []) => kvm::tell().and_then(|text| print(&text)),
        ("prepare", []) => kernel::prepare_and_tell().and_then(|text| print(&text)),
        ("doctor", []) => doctor::doctor().and_then(|text| print(&text)),
        _ => Err(Failure::new("usage: stage1-kvm run|plan|features|setup|doctor")),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            failure.say();
            ExitCode::from(exit::OURS)
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    // Modes of what is made are those that are written here, whoever called.
    umask(Mode::from_raw_mode(0o022));
    let Handover { order, inherited, layers, credentials } = Handover::adopt(ABI)?;
    let code = {
        let ground = Ground { pod: &inherited.pod, layers: &layers };
        let mut machine = Machine::new(&order, ground, credentials, host::look(), host::ready);
        supervise(&order, &inherited, &mut machine)
    };
    inherited.become_reaper(&order, code).say();
    Ok(ExitCode::from(code))
}

fn print_plan() -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    io::stdin()
        .take(MAX_ORDER)
        .read_to_end(&mut text)
        .during(|| "cannot read the order from standard input")?;
    let order: Order = serde_json::from_slice(&text)
        .map_err(|error| Failure::of("the order is not understood", error))?;
    print(&plan::of(&order, host::look())?.to_string())
}

fn print_features() -> Result<ExitCode, Failure> {
    let refused: Vec<_> = Refusal::ALL.into_iter().map(Refusal::row).collect();
    let features = serde_json::json!({
        "name": "kvm", "abi": ABI, "guest": GUEST, "overhead": OVERHEAD, "notGiven": refused,
    });
    print(&format!("{features}\n"))
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    io::stdout().write_all(text.as_bytes()).during(|| "cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_abi::stage::Stage1Manifest;

    #[test]
    fn the_manifest_beside_the_program_says_the_same() {
        let text = include_str!("../stage1.json");
        let manifest: Stage1Manifest = serde_json::from_str(text).unwrap();
        assert_eq!((manifest.abi, manifest.overhead), (ABI, OVERHEAD));
        assert_eq!(manifest.name, "kvm");
    }
}
