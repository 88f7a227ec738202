//! The order as a guest is to see it: what is the host's is gone or has another name. Pure.

use std::collections::BTreeSet;

use pod_abi::VolumeName;
use pod_abi::guest::{SHARED_FILE, SHARES};
use pod_abi::isolators::Resources;
use pod_abi::manifest::{Layers, Network, Userns};
use pod_abi::stage::{AppOrder, Order, Output};
use pod_abi::volume::{Volume, VolumeSource};

/// Returns the order of a guest; `files` are the volumes of the host that are single files.
///
/// No ids, for the machine is the boundary to the host and its root is nobody there; no unit, no
/// sockets, no journal, no seals: these are the supervisor's. Volumes of the host are where they are shared.
pub(crate) fn order(order: &Order, files: &BTreeSet<VolumeName>) -> Order {
    let mut guest = order.clone();
    let sandbox = &mut guest.pod.sandbox;
    sandbox.userns = Userns::Auto;
    // What interfaces it has beside the loopback is said beside the order.
    sandbox.network = Network::None;
    sandbox.resources = resources(&sandbox.resources);
    sandbox.unit_properties.clear();
    // It finds them mounted, whatever they are here.
    sandbox.layers = Layers::Plain;
    sandbox.volumes.iter_mut().for_each(|volume| relocate(volume, files));
    for AppOrder { spec, seals, .. } in &mut guest.apps {
        seals.clear();
        spec.volumes.iter_mut().for_each(|volume| relocate(volume, files));
    }
    Order {
        ids: None,
        output: Output::Logged,
        hold: false,
        service: None,
        sockets: Vec::new(),
        journal: false,
        register: false,
        ..guest
    }
}

/// Returns the limits of a pod that its guest holds it to. Numbers of processors, memory nodes and
/// disks are the host's, and a share is a share among what else the host has: those hold for the
/// machine as a whole.
pub(crate) fn resources(of_pod: &Resources) -> Resources {
    let Resources { memory, memory_high, swap, cpu, pids, .. } = of_pod.clone();
    Resources { memory, memory_high, swap, cpu, pids, ..Resources::default() }
}

fn relocate(volume: &mut Volume, files: &BTreeSet<VolumeName>) {
    if let VolumeSource::Host { path, without_submounts } = &mut volume.source {
        *path = format!("{SHARES}/{}", volume.name);
        if files.contains(&volume.name) {
            path.push('/');
            path.push_str(SHARED_FILE);
        }
        // What there was is left out already.
        *without_submounts = false;
    }
}
