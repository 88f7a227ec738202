//! Pods without a wall: `fly` gives an app the files of its image and a mount namespace, and the
//! host's processes, network, users, IPC and devices.
//!
//! A plan is data, so this one is made of that of a walled pod by taking the walls out: whatever
//! else is planned for an app - its layers, its volumes - holds for both.

use super::{EtcFile, Namespace, Plan, Shared, StagingStep, TreeStep};

/// Takes the walls out of a plan.
pub(super) fn without_walls(mut plan: Plan) -> Plan {
    plan.namespaces.retain(|namespace| *namespace == Namespace::Mount);
    plan.staging = plan.staging.into_iter().filter(is_staged).collect();
    for app in &mut plan.apps {
        app.held_to = None;
        app.steps = std::mem::take(&mut app.steps).into_iter().filter_map(unwalled).collect();
    }
    plan
}

fn is_staged(step: &StagingStep) -> bool {
    match step {
        StagingStep::Memory(memory) => memory.what != Shared::Shm,
        StagingStep::HostShm | StagingStep::File(EtcFile::Hostname, _) => false,
        _ => true,
    }
}

/// Returns what is done for an app in place of a step.
fn unwalled(step: TreeStep) -> Option<TreeStep> {
    match step {
        TreeStep::JoinNamespaces(_) | TreeStep::Shm | TreeStep::File(EtcFile::Hostname) => None,
        TreeStep::Proc => Some(TreeStep::HostTree("proc")),
        TreeStep::Sys(_) => Some(TreeStep::HostTree("sys")),
        TreeStep::Dev => Some(TreeStep::HostTree("dev")),
        step => Some(step),
    }
}
