//! One more app for a living pod: the plan of a pod that has this app alone, and of the volumes
//! that are there already those it mounts.

use std::collections::BTreeSet;

use pod_abi::app::MountSource;
use pod_abi::stage::{AppOrder, Order};
use pod_abi::volume::Volume;
use supervisor::Failure;

use super::{Flavour, Plan, of};

/// Decides what is to be done for an app that comes to a living pod. `there` are the volumes of
/// the pod and of the apps that came before.
///
/// # Errors
///
/// As [`of`].
pub(crate) fn addition<'v>(
    order: &Order,
    app: &AppOrder,
    there: impl Iterator<Item = &'v Volume>,
    flavour: Flavour,
) -> Result<Plan, Failure> {
    let mounted: BTreeSet<_> = app
        .spec
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Volume(name) => Some(name),
            MountSource::Tmpfs { .. } => None,
        })
        .collect();
    let mut order = order.clone();
    // What is there has been filled, or was meant to be empty.
    order.pod.sandbox.volumes = there
        .filter(|volume| mounted.contains(&volume.name))
        .map(|volume| Volume { fill: None, ..volume.clone() })
        .collect();
    order.credentials = app.spec.credentials.iter().map(|one| one.name.clone()).collect();
    order.apps = vec![app.clone()];
    // Limits of the pod are in force, and may have changed.
    Ok(Plan { quotas: Vec::new(), ..of(&order, flavour)? })
}
