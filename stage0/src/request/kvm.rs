//! What a pod in a virtual machine cannot be given, in the words of the command line.
//!
//! A guest's kernel has no network, processes, devices or sockets of the host. stage1 refuses these,
//! too, and what the command line does not know.

use pod_abi::app::PidMode;
use pod_abi::manifest::{Ipc, Network};

use super::PodRequest;
use super::app::AppRequest;
use super::words::contradiction;
use crate::error::Result;

/// The stage1 this is about.
pub(super) const KVM: &str = "kvm";

/// Refuses what no pod in a virtual machine can be.
///
/// # Errors
///
/// A usage error that names what is the host's.
pub(super) fn check(pod: &PodRequest) -> Result<()> {
    if pod.stage1 != KVM {
        return Ok(());
    }
    refuse(&[
        (matches!(pod.network, Some(Network::Host)), "--net host"),
        (matches!(pod.network, Some(Network::Path(_))), "--net ns:PATH"),
        (pod.ipc == Some(Ipc::Host), "--ipc host"),
    ])?;
    pod.apps.iter().try_for_each(check_app)
}

/// Refuses what no app in a virtual machine can have.
///
/// # Errors
///
/// As [`check`].
pub(super) fn check_app(app: &AppRequest) -> Result<()> {
    let resources = &app.limits.resources;
    refuse(&[
        (app.life.pid == Some(PidMode::Host), "--pid host"),
        (!app.privileges.devices.is_empty(), "--device"),
        (!app.sockets.is_empty(), "--socket"),
        (resources.cpuset_cpus.is_some(), "--cpuset-cpus"),
        (resources.cpuset_mems.is_some(), "--cpuset-mems"),
    ])
}

fn refuse(asked: &[(bool, &str)]) -> Result<()> {
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, flag)) => Err(contradiction(flag, "--stage1 kvm")
            .hint("a machine has its own; `--stage1 ns` gives the host's")),
        None => Ok(()),
    }
}
