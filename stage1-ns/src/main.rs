//! stage1 of pods in namespaces: becomes a pod's supervisor, or tells what it would do. Called
//! `stage1-fly`, it is that of pods without a wall.
//!
//! | argument | what it does |
//! |---|---|
//! | `run` | runs a pod as `pod_abi::stage` says, and becomes `pod reap` |
//! | `plan` | reads an order from standard input and prints the steps |
//! | `features` | prints what this stage1 understands, as JSON |

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use namespaces::{Flavour, Ground, Namespaces, plan};
use pod_abi::exit;
use pod_abi::stage::Order;
use pod_abi::version::{AbiRange, STAGE_ABI};
use rustix::fs::Mode;
use rustix::process::umask;
use supervisor::{During, Failure, Handover, supervise};

/// The versions of the stage ABI this program understands; `stage1.json` says the same.
const ABI: AbiRange = AbiRange { oldest: STAGE_ABI, newest: STAGE_ABI };

/// The longest order `plan` reads, in bytes.
const MAX_ORDER: u64 = 64 << 20;

fn main() -> ExitCode {
    let argument = env::args().nth(1);
    let done = match argument.as_deref() {
        Some("run") => run(),
        Some("plan") => print_plan(),
        Some("features") => print_features(),
        _ => Err(Failure::new("usage: stage1-ns run|plan|features")),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            failure.say();
            ExitCode::from(exit::OURS)
        }
    }
}

/// Returns what this program is for, by the name it was called by.
fn flavour() -> Flavour {
    let program = env::args_os().next().unwrap_or_default();
    Flavour::of_program(&program.to_string_lossy())
}

fn run() -> Result<ExitCode, Failure> {
    // Modes of what is made are those that are written here, whoever called.
    umask(Mode::from_raw_mode(0o022));
    let Handover { order, inherited, layers, credentials } = Handover::adopt(ABI)?;
    let code = {
        let flavour = flavour();
        let ground = Ground {
            pod: &inherited.pod,
            run: &inherited.run,
            layers: &layers,
            sockets: &inherited.sockets,
        };
        let mut wall = Namespaces::new(&order, ground, credentials, flavour);
        if flavour == Flavour::Fly {
            wall.hold_all_descendants();
        }
        supervise(&order, &inherited, &mut wall)
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
    print(&plan(&order, flavour())?.to_string())
}

fn print_features() -> Result<ExitCode, Failure> {
    let features = serde_json::json!({
        "name": flavour().name(), "abi": ABI, "userns": flavour() == Flavour::Ns,
    });
    print(&format!("{features}\n"))
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    io::stdout().write_all(text.as_bytes()).during(|| "cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}
