//! What a pod without walls has where nothing was said: the host's.
//!
//! `--stage1 fly` gives an app the files of its image and nothing between it and the host. So what
//! is not asked for is the host's and the caller's, and what is asked for and takes a wall is a contradiction, said
//! here in the words of the command line; stage1 refuses the rest. Naming capabilities or a seccomp
//! profile is asking for that much, and can be held.

use pod_abi::app::PidMode;
use pod_abi::isolators::Seccomp;
use pod_abi::manifest::{Ipc, Network, Userns};

use super::PodRequest;
use super::app::AppRequest;
use super::privileges::Paths;
use super::words::contradiction;
use crate::caller::Caller;
use crate::error::Result;

/// The stage1 this is about.
pub(crate) const FLY: &str = "fly";

/// Fills in what is not given, if the pod is one without walls.
///
/// # Errors
///
/// A usage error that names what takes a wall.
pub(super) fn settle(pod: &mut PodRequest, caller: &Caller<'_>) -> Result<()> {
    if pod.stage1 != FLY {
        return Ok(());
    }
    let asked = [
        (matches!(pod.network, Some(Network::None)), "--net none"),
        (matches!(pod.network, Some(Network::Joined(_))), "--net NAME"),
        (matches!(pod.network, Some(Network::Path(_))), "--net ns:PATH"),
        (pod.userns == Some(Userns::Auto), "--userns auto"),
        (pod.ipc == Some(Ipc::Pod), "--ipc pod"),
        (pod.hostname.is_some(), "--hostname"),
        (!pod.sysctls.is_empty(), "--sysctl"),
    ];
    refuse(&asked)?;
    (pod.network, pod.userns, pod.ipc) = (Some(Network::Host), Some(Userns::Host), Some(Ipc::Host));
    pod.apps.iter_mut().try_for_each(|app| settle_app(app, caller))
}

/// Fills in what is not given of an app of a pod without walls.
///
/// # Errors
///
/// As [`settle`].
pub(super) fn settle_app(app: &mut AppRequest, caller: &Caller<'_>) -> Result<()> {
    let asked = [
        (app.life.pid == Some(PidMode::App), "--pid app"),
        (app.life.pid == Some(PidMode::Pod), "--pid pod"),
        (app.life.reaper, "--init"),
        (!app.privileges.devices.is_empty(), "--device"),
    ];
    refuse(&asked)?;
    app.life.pid = Some(PidMode::Host);
    let privileges = &mut app.privileges;
    privileges.capabilities.get_or_insert_with(|| (caller.held)());
    privileges.seccomp.get_or_insert(Seccomp::Unconfined);
    privileges.no_new_privileges.get_or_insert(false);
    privileges.paths = Paths::Open;
    Ok(())
}

fn refuse(asked: &[(bool, &str)]) -> Result<()> {
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, flag)) => Err(contradiction(flag, "--stage1 fly")
            .hint("a pod of `fly` has no walls; `--stage1 ns` gives it this one")),
        None => Ok(()),
    }
}
