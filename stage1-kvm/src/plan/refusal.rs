//! What no pod in a machine can be: one table, each row with its reason and the way out.
//!
//! `stage1-kvm features` prints it, and the table of parity in the documents is made of it. An
//! order that asks for one of these is refused also where stage0 has let it pass: what was asked
//! for and is not there would be taken for what is.

use pod_abi::AppName;
use pod_abi::app::{AppSpec, PidMode};
use pod_abi::isolators::Resources;
use pod_abi::manifest::{Ipc, Network};
use pod_abi::stage::{AppOrder, Order};
use pod_abi::volume::VolumeSource;
use serde::Serialize;
use supervisor::Failure;

/// The most layers of a pod: each is a partition of one disk, of which Linux knows so many
/// (`DISK_MAX_PARTS`, less the whole disk).
pub(crate) const MAX_LAYERS: usize = 255;

/// Something no pod in a machine can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `--net host`, `--net ns:PATH`
    OthersNetwork,
    /// `--ipc host`
    HostIpc,
    /// `--pid host`
    HostProcesses,
    /// `--pid pod` and `CAP_SYS_PTRACE`
    Tracing,
    /// `--device`
    Devices,
    /// `--socket`
    Sockets,
    /// A volume that is a device, socket or pipe of the host.
    SpecialVolume,
    /// A volume of the host, in `pod app add`.
    LateVolume,
    /// Writing a volume of the host that no app could write so far, in `pod app add`.
    LateWriting,
    /// Too many volumes of the host.
    ManyShares,
    /// Too many network interfaces.
    ManyLinks,
    /// Too many layers.
    ManyLayers,
    /// Too many layers in the life of a machine, in `pod app add`.
    LateLayers,
    /// Layers that are too large.
    LargeLayers,
    /// `--cpuset-cpus` or `--cpuset-mems` of an app.
    AppPlacement,
    /// `--device-read-bps` and its kin, and `--blkio-weight`, of an app.
    AppDisks,
    /// More memory than the machine has, in `pod update` or `pod app add`.
    LateMemory,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    /// What is asked for, as a sentence has it.
    pub(crate) what: &'static str,
    /// Why it is not given.
    pub(crate) why: &'static str,
    /// What to do instead.
    pub(crate) way_out: &'static str,
}

impl Refusal {
    /// All of them.
    pub(crate) const ALL: [Self; 17] = [
        Self::OthersNetwork,
        Self::HostIpc,
        Self::HostProcesses,
        Self::Tracing,
        Self::Devices,
        Self::Sockets,
        Self::SpecialVolume,
        Self::LateVolume,
        Self::LateWriting,
        Self::ManyShares,
        Self::ManyLinks,
        Self::ManyLayers,
        Self::LateLayers,
        Self::LargeLayers,
        Self::AppPlacement,
        Self::AppDisks,
        Self::LateMemory,
    ];

    /// Returns its row.
    pub(crate) const fn row(self) -> Row {
        let (what, why, way_out) = match self {
            Self::OthersNetwork => (
                "the host's network, or that of a namespace",
                "a guest's kernel has network interfaces of its own",
                "name networks with `--net`, or use `--stage1 ns`",
            ),
            Self::HostIpc => (
                "the host's IPC",
                "shared memory and message queues are the guest's kernel's",
                "leave `--ipc host` away, or use `--stage1 ns`",
            ),
            Self::HostProcesses => (
                "the host's processes",
                "they are another kernel's",
                "use `--pid pod`, or `--stage1 fly` if it shall have no wall at all",
            ),
            Self::Tracing => (
                "`--pid pod` and `CAP_SYS_PTRACE`",
                "an app that traces the pod's PID 1 has every right in the guest's kernel, in which a pod has no user namespace",
                "leave one of the two away, or use `--stage1 ns`",
            ),
            Self::Devices => (
                "devices of the host",
                "a guest has no device but those of its machine",
                "leave `--device` away, or use `--stage1 ns`",
            ),
            Self::Sockets => (
                "sockets of the service manager",
                "a listening socket is an object of the host's kernel",
                "leave `--socket` away, or use `--stage1 ns`",
            ),
            Self::SpecialVolume => (
                "a volume that is neither a directory nor a regular file",
                "what a device, socket or pipe leads to is the host's kernel's",
                "share the directory around it for its other files, or use `--stage1 ns`",
            ),
            Self::LateVolume => (
                "a volume of the host for an app that comes to a running pod",
                "a machine gets its shared directories before it boots",
                "stop the pod, add the app, and start it again",
            ),
            Self::LateWriting => (
                "writing a volume of the host that was shared read-only",
                "a machine gets its shared directories before it boots",
                "stop the pod, add the app, and start it again",
            ),
            Self::ManyShares => (
                "more than 8 volumes of the host",
                "each is a device of the machine with an interrupt of its own",
                "share a directory around several, or use `--stage1 ns`",
            ),
            Self::ManyLinks => (
                "more than 8 network interfaces",
                "each is a device of the machine with an interrupt of its own",
                "join fewer networks, or use `--stage1 ns`",
            ),
            Self::ManyLayers => (
                "more than 255 layers",
                "each is a partition of one disk, and Linux knows 256 of a disk",
                "squash the images, or use `--stage1 ns`",
            ),
            Self::LateLayers => (
                "more than 255 layers in the life of its machine",
                "each stays a partition of one disk, also when its app is gone",
                "stop the pod, add the app, and start it again",
            ),
            Self::LargeLayers => (
                "layers of more than 16 TiB in all",
                "they lie on one disk, whose addresses end there",
                "run the apps in several pods, or use `--stage1 ns`",
            ),
            Self::AppPlacement => (
                "processors or memory nodes by number for an app",
                "the machine has processors and memory of its own, with other numbers",
                "give them to the whole pod, whose machine stays on them, or use `--stage1 ns`",
            ),
            Self::AppDisks => (
                "limits of the host's disks for an app",
                "the guest does not see these disks",
                "limit the whole pod, or use `--stage1 ns`",
            ),
            Self::LateMemory => (
                "more memory than its machine has",
                "a machine gets its memory before it boots",
                "stop the pod, change the limit, and start it again",
            ),
        };
        Row { what, why, way_out }
    }

    /// Makes the failure of `whose` order.
    pub(crate) fn failure(self, whose: &str) -> Failure {
        let Row { what, way_out, .. } = self.row();
        Failure::new(format!("{whose} asks for {what}, which stage1 `kvm` does not give"))
            .code("stage1.not-given")
            .hint(way_out)
    }
}

/// Refuses an order that asks for what no pod in a machine can be.
pub(crate) fn check_order(order: &Order) -> Result<(), Failure> {
    let sandbox = &order.pod.sandbox;
    let of_pod = [
        (matches!(sandbox.network, Network::Host | Network::Path(_)), Refusal::OthersNetwork),
        (sandbox.ipc == Ipc::Host, Refusal::HostIpc),
    ];
    if let Some((_, refusal)) = of_pod.into_iter().find(|(asked, _)| *asked) {
        return Err(refusal.failure("the pod"));
    }
    order.apps.iter().try_for_each(check)
}

/// Refuses an app that comes to a running pod if it asks for what cannot come later, either.
pub(crate) fn check_app(app: &AppOrder) -> Result<(), Failure> {
    let is_hosts = |source: &VolumeSource| matches!(source, VolumeSource::Host { .. });
    if app.spec.volumes.iter().any(|volume| is_hosts(&volume.source)) {
        return Err(Refusal::LateVolume.failure(&whose(&app.spec.name)));
    }
    check(app)
}

/// Refuses limits of an app that are about the host.
pub(crate) fn check_limits(app: &AppName, limits: &Resources) -> Result<(), Failure> {
    let Resources { cpuset_cpus, cpuset_mems, io, io_weight, .. } = limits;
    let asked = [
        (cpuset_cpus.is_some() || cpuset_mems.is_some(), Refusal::AppPlacement),
        (!io.is_empty() || io_weight.is_some(), Refusal::AppDisks),
    ];
    refuse(app, &asked)
}

fn check(app: &AppOrder) -> Result<(), Failure> {
    let AppSpec { name, pid, devices, sockets, resources, .. } = &app.spec;
    let asked = [
        (*pid == PidMode::Host, Refusal::HostProcesses),
        (app.spec.can_trace_init(), Refusal::Tracing),
        (!devices.is_empty(), Refusal::Devices),
        (!sockets.is_empty(), Refusal::Sockets),
    ];
    refuse(name, &asked)?;
    check_limits(name, resources)?;
    check_layers(app)
}

/// Refuses the first of what is asked for.
fn refuse(app: &AppName, asked: &[(bool, Refusal)]) -> Result<(), Failure> {
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, refusal)) => Err(refusal.failure(&whose(app))),
        None => Ok(()),
    }
}

fn whose(app: &AppName) -> String {
    format!("app `{app}`")
}

/// Refuses names of layers that could lead elsewhere.
fn check_layers(app: &AppOrder) -> Result<(), Failure> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let sound = |layer: &String| layer.split('/').all(plain) && !layer.contains('\0');
    match app.layers.iter().find(|layer| !sound(layer)) {
        Some(layer) => Err(Failure::new(format!("`{layer}` is no layer")).code("stage1.order")),
        None => Ok(()),
    }
}
