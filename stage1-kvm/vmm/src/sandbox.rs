//! What the monitor gives up once it has all it needs: what is left of it serves a guest, and can
//! do nothing else.
//!
//! It starts in a cage (namespaces of its own, an empty file system, no network), so this is the
//! second fence. The process gives up rights; each thread allows itself the calls its role makes
//! ([`calls`]).

pub mod calls;

use confine::{
    Files, OnViolation, allow, give_up, limit_core_dumps, outlive_file_sizes, raise_descriptors,
};
use rustix::thread::CapabilitySet;

use crate::machine::{Confine, Role};
use crate::virtio::Fault;

/// The most descriptors: a thousand streams with a pipe each, and as many files of layers.
const MOST_DESCRIPTORS: u64 = 8192;

/// The monitor's confinement.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox {
    /// What a call does that is not among those of a thread's role.
    pub on: OnViolation,
}

impl Confine for Sandbox {
    fn process(&self) -> Result<(), Fault> {
        raise_descriptors(MOST_DESCRIPTORS).map_err(fault)?;
        limit_core_dumps().map_err(fault)?;
        outlive_file_sizes().map_err(fault)?;
        give_up(Files::Open, CapabilitySet::empty()).map_err(fault)
    }

    fn thread(&self, role: Role) -> Result<(), Fault> {
        allow(calls::of(role), self.on).map_err(fault)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is called with errors that nobody keeps")]
fn fault(fault: confine::Fault) -> Fault {
    let mut text = fault.to_string();
    if let Some(source) = std::error::Error::source(&fault) {
        text = format!("{text}: {source}");
    }
    Fault(text)
}
