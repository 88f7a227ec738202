//! The other programs this one can be: the unpack worker, and a pull that can be killed.

use std::env;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use images::{Reference, Silent, Store, WorkerProgram};

use crate::bench;

/// First argument of the unpack worker.
pub(crate) const UNPACK: &str = "internal-unpack";

/// First argument of a pull; the root and the reference follow.
pub(crate) const PULL: &str = "internal-pull";

/// Returns how to start the unpack worker.
pub(crate) fn worker() -> WorkerProgram {
    WorkerProgram { exe: env::current_exe().unwrap(), args: vec![UNPACK.into()] }
}

/// Starts a pull in a process of its own.
pub(crate) fn start_pull(root: &Path, reference: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .arg(PULL)
        .arg(root)
        .arg(reference)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Is a pull.
pub(crate) fn pull(arguments: &[String]) -> ExitCode {
    let [root, reference] = arguments else { return ExitCode::FAILURE };
    let store = Store::open(Path::new(root)).unwrap();
    let reference = Reference::parse(reference).unwrap();
    let lease = store.lease().unwrap();
    store.pull(&reference, &bench::options(), &lease, &Silent).unwrap();
    ExitCode::SUCCESS
}
