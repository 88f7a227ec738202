//! `pod internal-register`: tells machined of a pod. A short-lived child of the pod's supervisor,
//! which has no bus library and no threads; what goes wrong it writes into the journal.

use pod_abi::{PodId, PodName};

use crate::cli::RegisterArgs;
use crate::error::{CommandError, Result};
use crate::systemd::machined::{Machine, register as tell};

/// Tells machined of a pod.
///
/// # Errors
///
/// A usage error for what is no name or id; those of machined.
pub(crate) fn register(args: &RegisterArgs) -> Result<u8> {
    let usage = |error: String| CommandError::usage(error);
    let name = PodName::parse(&args.name).map_err(|error| usage(error.to_string()))?;
    let id = PodId::parse(&args.id).map_err(|error| usage(error.to_string()))?;
    tell(&Machine { name: &name, id: &id, leader: args.leader }).map(|()| 0)
}
