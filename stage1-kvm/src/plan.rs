//! From an order to the machine it takes: data, decided before anything is opened.
//!
//! ```text
//!   Order, Host ──▶ of() ──▶ Plan ──▶ machine: files opened, programs started
//! ```
//!
//! `stage1-kvm plan` prints it. What no pod in a machine can be is refused here.

use std::fmt;

use pod_abi::VolumeName;
use pod_abi::app::MountSource;
use pod_abi::manifest::Network;
use pod_abi::stage::Order;
use pod_abi::volume::{Volume, VolumeSource};
use supervisor::Failure;
use vmm::description::{MAX_SHARES, MAX_VCPUS};

mod guest;
mod refusal;
mod size;

pub(crate) use self::guest::{order as guest_order, resources as guest_resources};
pub(crate) use self::refusal::{MAX_LAYERS, Refusal, check_app, check_limits, check_order};
pub use self::size::Host;
pub(crate) use self::size::room_for_apps;

/// What is on the command line of every guest's kernel.
///
/// A console that says what is wrong and nothing else, and that processors stand still before
/// [`Patience::answer`](crate::machine::Patience) is over; a crash that ends the machine at once, an
/// oops among them, after which a guest would live on wounded; no probing for what the machine does
/// not have; no waiting for entropy that the host has given.
pub(crate) const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic reboot=acpi \
    rcupdate.rcu_cpu_stall_timeout=8 tsc=nowatchdog random.trust_cpu=on cryptomgr.notests pci=off no_timer_check 8250.nr_uarts=1";

/// The machine of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// Virtual processors.
    pub(crate) vcpus: u8,
    /// The layers, each once, beneath the directory of layers.
    pub(crate) layers: Vec<String>,
    /// What is shared with it.
    pub(crate) shares: Vec<Sharing>,
    /// Whom the monitor is to the host: never its root.
    pub(crate) user: u32,
    /// Whether it joins networks.
    pub(crate) networked: bool,
    /// Bytes of the disk that is kept, if there is one.
    pub(crate) scratch: Option<u64>,
}

/// A volume of the host that is shared with a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sharing {
    /// Which.
    pub(crate) volume: VolumeName,
    /// Where it is on the host.
    pub(crate) path: String,
    /// Whether what is mounted beneath it there is left out.
    pub(crate) without_submounts: bool,
    /// Whether nothing of it can be written.
    pub(crate) read_only: bool,
}

/// Decides what machine an order takes on this host.
///
/// # Errors
///
/// `stage1.not-given` for what no pod in a machine can be.
pub(crate) fn of(order: &Order, host: Host) -> Result<Plan, Failure> {
    check_order(order)?;
    let mut layers: Vec<String> = Vec::new();
    for layer in order.apps.iter().flat_map(|app| &app.layers) {
        if !layers.contains(layer) {
            layers.push(layer.clone());
        }
    }
    let shares: Vec<Sharing> = volumes(order).filter_map(|volume| sharing(order, volume)).collect();
    if shares.len() > MAX_SHARES {
        return Err(Refusal::ManyShares.failure("the pod"));
    }
    if layers.len() > MAX_LAYERS {
        return Err(Refusal::ManyLayers.failure("the pod"));
    }
    Ok(Plan {
        memory: size::memory(order, host),
        vcpus: size::vcpus(order, host).min(MAX_VCPUS),
        layers,
        shares,
        user: user(order)?,
        networked: matches!(order.pod.sandbox.network, Network::Joined(_)),
        scratch: order.pod.sandbox.scratch,
    })
}

/// Returns the user and group the monitor is to the host.
///
/// SECURITY: whoever breaks out of a machine is this user then.
fn user(order: &Order) -> Result<u32, Failure> {
    match order.ids.map(|ids| ids.base) {
        None | Some(0) => {
            let what = "the order leases no user ids to the virtual machine monitor";
            Err(Failure::new(what).code("stage1.order").hint("use the `pod` of the same release"))
        }
        Some(user) => Ok(user),
    }
}

/// Returns the volumes an app can mount: the pod's and those that came with apps.
fn volumes(order: &Order) -> impl Iterator<Item = &Volume> {
    let of_apps = order.apps.iter().flat_map(|app| &app.spec.volumes);
    order.pod.sandbox.volumes.iter().chain(of_apps)
}

/// Returns how a volume is shared, if it is the host's.
fn sharing(order: &Order, volume: &Volume) -> Option<Sharing> {
    let VolumeSource::Host { path, without_submounts } = &volume.source else { return None };
    let mounts = order.apps.iter().flat_map(|app| &app.spec.mounts);
    let mut its = mounts.filter(|mount| mount.source == MountSource::Volume(volume.name.clone()));
    Some(Sharing {
        volume: volume.name.clone(),
        path: path.clone(),
        without_submounts: *without_submounts,
        // What fills it writes it.
        read_only: volume.fill.is_none() && its.all(|mount| mount.read_only),
    })
}

impl fmt::Display for Plan {
    /// Writes what the machine is made of, one thing a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "memory: {} MiB", self.memory >> 20)?;
        writeln!(f, "virtual processors: {}", self.vcpus)?;
        writeln!(f, "monitor: user {} of the host", self.user)?;
        writeln!(f, "kernel: {COMMAND_LINE}")?;
        self.layers.iter().try_for_each(|layer| writeln!(f, "disk of images: `{layer}`"))?;
        if let Some(scratch) = self.scratch {
            writeln!(f, "scratch disk: {scratch} bytes")?;
        }
        self.shares.iter().try_for_each(|share| {
            let how = if share.read_only { "read-only" } else { "to be written" };
            let rest =
                if share.without_submounts { " without what is mounted beneath" } else { "" };
            writeln!(f, "share: volume `{}`, `{}`{rest}, {how}", share.volume, share.path)
        })
    }
}

#[cfg(test)]
mod tests;
