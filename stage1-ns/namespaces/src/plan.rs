//! From an order to the steps that isolate a pod: data, decided before anything is done.
//!
//! ```text
//!   Order ──▶ of() ──▶ Plan ──▶ staging, tree: each step a few system calls
//! ```
//!
//! `stage1-ns plan` prints the steps. What must hold of their order is tested here: outer mounts
//! before inner ones, the root read-only after the last mount, nothing after the old root is gone.

use std::fmt;
use std::path::PathBuf;

use pod_abi::AppName;
use pod_abi::app::AppSpec;
use pod_abi::isolators::Device;
use pod_abi::manifest::{Ipc, Network};
use pod_abi::network::Joined;
use pod_abi::stage::{AppOrder, IdRange, Names, Order};
use supervisor::Failure;

use crate::device_rules;
use crate::images::of_apps;

mod addition;
mod flavour;
mod fly;
pub(crate) mod quotas;
mod steps;
mod volumes;

pub(crate) use self::addition::addition;
pub use self::flavour::{Flavour, of};
pub(crate) use self::quotas::{Need, Quota};
pub(crate) use self::steps::{
    EmptyVolume, EtcFile, Filling, HostVolume, Limits, Lowers, Memory, Namespace, Shared, Staged,
    StagingStep, TreeStep, VolumeMount, Writing,
};

/// Bytes the pod's shared memory may hold: docker's figure, which programs are used to.
const SHM_SIZE: u64 = 64 << 20;

/// All that is to be done for one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The cgroup's directories, outer ones first, beneath the unit's or one of the pod's own.
    pub(crate) cgroups: Vec<String>,
    /// The most all of it may use, as files of its cgroup.
    pub(crate) quotas: Vec<Quota>,
    /// The same for what its apps have in common.
    pub(crate) passed_on: Vec<Quota>,
    /// The namespaces PID 1 is born into.
    pub(crate) namespaces: Vec<Namespace>,
    /// Whose network namespace it is born into, if somebody else has made it.
    pub(crate) network_of: Option<PathBuf>,
    /// The ids of the pod, if it has its own.
    pub(crate) ids: Option<IdRange>,
    /// Kernel settings of the pod's namespaces, by their dotted names.
    pub(crate) sysctls: Vec<(String, String)>,
    /// What apps share, laid out once.
    pub(crate) staging: Vec<StagingStep>,
    /// The tree of each app.
    pub(crate) apps: Vec<AppPlan>,
}

impl Plan {
    /// Has the apps of an order know by which names and addresses the pod can be reached.
    pub(crate) fn tell(&mut self, order: &Order, joined: &Joined) {
        let Names { resolv_conf, hosts } = order.names(joined);
        for step in &mut self.staging {
            match step {
                StagingStep::File(EtcFile::ResolvConf, text) => text.clone_from(&resolv_conf),
                StagingStep::File(EtcFile::Hosts, text) => text.clone_from(&hosts),
                _ => {}
            }
        }
    }
}

/// The tree of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppPlan {
    /// Whose.
    pub(crate) name: AppName,
    /// The user and group its output pipes belong to, as the host counts.
    pub(crate) owner: (u32, u32),
    /// The most it may use, as files of its cgroup.
    pub(crate) quotas: Vec<Quota>,
    /// The devices beside those of every app it is held to by its cgroup, if it must be.
    pub(crate) held_to: Option<Vec<Device>>,
    /// What is done, in this order, by a process of its own.
    pub(crate) steps: Vec<TreeStep>,
}

/// Decides what is to be done for a pod behind its walls.
///
/// # Errors
///
/// [`Failure`] if the order asks for what no pod in namespaces can be.
fn plan(order: &Order) -> Result<Plan, Failure> {
    let mut namespaces: Vec<_> = order.ids.map(|_| Namespace::User).into_iter().collect();
    namespaces.push(Namespace::Pid);
    let network_of = match &order.pod.sandbox.network {
        Network::Path(path) => Some(path.clone()),
        _ => None,
    };
    let is_there = |one: &Namespace| *one == Namespace::Network && network_of.is_some();
    namespaces.extend(shared(order).into_iter().filter(|one| !is_there(one)));
    namespaces.push(Namespace::Mount);
    let apps = order.apps.iter().map(|app| app_plan(order, app)).collect::<Result<_, _>>()?;
    let (staging, cgroups) = (staging(order)?, cgroups(order));
    let settings = order.pod.sandbox.sysctls.iter();
    let sysctls = settings.map(|(name, value)| (name.clone(), value.clone())).collect();
    let quotas = quotas::of(&order.pod.sandbox.resources);
    let limits = order.apps.iter().map(|app| &app.spec.resources);
    let passed_on = quotas::passing_on(limits).collect();
    Ok(Plan {
        cgroups,
        quotas,
        passed_on,
        namespaces,
        network_of,
        ids: order.ids,
        sysctls,
        staging,
        apps,
    })
}

/// Returns the pod's namespaces that all its processes share.
fn shared(order: &Order) -> Vec<Namespace> {
    let sandbox = &order.pod.sandbox;
    let mut shared = Vec::new();
    if sandbox.ipc == Ipc::Pod {
        shared.push(Namespace::Ipc);
    }
    shared.push(Namespace::Uts);
    if sandbox.network != Network::Host {
        shared.push(Namespace::Network);
    }
    shared
}

fn cgroups(order: &Order) -> Vec<String> {
    let apps = order.apps.iter().map(|app| format!("pod/app-{}", app.spec.name));
    ["pod", "pod/init"].map(str::to_owned).into_iter().chain(apps).collect()
}

fn staging(order: &Order) -> Result<Vec<StagingStep>, Failure> {
    let sandbox = &order.pod.sandbox;
    let mut steps = vec![StagingStep::Layers(lowers(order, &order.apps)?)];
    steps.extend(order.apps.iter().map(|app| StagingStep::AppDirectory(app.spec.name.clone())));
    steps.append(&mut volumes::staging(order)?);
    steps.push(match sandbox.ipc {
        Ipc::Host => StagingStep::HostShm,
        Ipc::Pod => {
            StagingStep::Memory(Memory { what: Shared::Shm, size: Some(SHM_SIZE), mode: 0o1777 })
        }
    });
    let hostname = sandbox.hostname.as_ref().unwrap_or(&order.pod.name);
    for file in EtcFile::ALL {
        let text = match file {
            EtcFile::ResolvConf => order.resolv_conf.clone(),
            EtcFile::Hosts => order.hosts.clone(),
            EtcFile::Hostname => format!("{hostname}\n"),
        };
        steps.push(StagingStep::File(file, text));
    }
    Ok(steps)
}

/// Tells what the layers of `apps` are.
fn lowers(order: &Order, apps: &[AppOrder]) -> Result<Lowers, Failure> {
    let layers = order.pod.sandbox.layers;
    if layers.are_images() { of_apps(layers, apps).map(Lowers::Images) } else { Ok(Lowers::Trees) }
}

fn app_plan(order: &Order, app: &AppOrder) -> Result<AppPlan, Failure> {
    let spec = &app.spec;
    for layer in &app.layers {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !layer.split('/').all(plain) || layer.contains('\0') {
            return Err(Failure::new(format!("`{layer}` is no layer")).code("stage1.order"));
        }
    }
    let mut steps = vec![TreeStep::JoinNamespaces(shared(order))];
    steps.extend(order.ids.map(TreeStep::ActAsPodRoot));
    steps.push(TreeStep::Overlay { layers: app.layers.clone(), volatile: order.pod.remove });
    let sys = if spec.writable_sys { Writing::Allowed } else { Writing::Denied };
    steps.extend([TreeStep::Mtab, TreeStep::Proc, TreeStep::Sys(sys), TreeStep::Dev]);
    steps.extend(volumes::mounts(order, app)?);
    let owner = owner(order.ids, app)?;
    steps.extend(credentials(spec, owner));
    if spec.read_only_root {
        steps.push(TreeStep::ReadOnlyRoot);
    }
    steps.push(TreeStep::Pivot);
    if order.ids.is_some() {
        steps.push(TreeStep::Lock);
    }
    let held_to = device_rules::are_needed(order, app).then(|| spec.devices.clone());
    let mut quotas = quotas::of(&spec.resources);
    quotas.extend(quotas::of_policy(order.pod.sandbox.oom_policy));
    let name = spec.name.clone();
    Ok(AppPlan { name, owner, quotas, held_to, steps })
}

/// Returns what gives an app its credentials, if it has any.
fn credentials(spec: &AppSpec, owner: (u32, u32)) -> Option<TreeStep> {
    let names: Vec<_> = spec.credentials.iter().map(|one| one.name.clone()).collect();
    (!names.is_empty()).then_some(TreeStep::Credentials { names, owner })
}

/// Returns the ids the app's process has on the host.
fn owner(ids: Option<IdRange>, app: &AppOrder) -> Result<(u32, u32), Failure> {
    let user = &app.spec.process.user;
    let Some(IdRange { base, count }) = ids else { return Ok((user.uid, user.gid)) };
    let host = |id: u32| {
        base.checked_add(id).filter(|_| id < count).ok_or_else(|| {
            let name = &app.spec.name;
            Failure::new(format!(
                "app `{name}` runs as id {id}, and the pod has ids 0 to {}",
                count - 1
            ))
            .code("app.user-range")
            .hint("give the app a smaller id by `--user`, or run the pod with `--userns host`")
        })
    };
    Ok((host(user.uid)?, host(user.gid)?))
}

impl fmt::Display for Plan {
    /// Writes the steps, numbered, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        lines.extend(self.cgroups.iter().map(|path| format!("pod: make cgroup `{path}`")));
        lines.extend(self.quotas.iter().map(|quota| format!("pod: write {quota} in its cgroup")));
        let passed_on = self.passed_on.iter();
        lines.extend(passed_on.map(|quota| format!("pod: write {quota} in cgroup `pod`")));
        let ids = self.ids.map(|ids| format!("; ids from {}", ids.base)).unwrap_or_default();
        lines.push(format!(
            "pod: start PID 1 in new namespaces: {}{ids}",
            steps::words(&self.namespaces)
        ));
        let setting = |(name, value): &_| format!("pod: set `{name}` to `{value}`");
        lines.extend(self.sysctls.iter().map(setting));
        lines.extend(self.staging.iter().map(|step| format!("pod: {step}")));
        for app in &self.apps {
            let limited = |quota| format!("app `{}`: write {quota} in its cgroup", app.name);
            lines.extend(app.quotas.iter().map(limited));
            if let Some(devices) = &app.held_to {
                let count = devices.len();
                let what = format!("hold it to the devices of every app and {count} more");
                lines.push(format!("app `{}`: {what}", app.name));
            }
            lines.extend(app.steps.iter().map(|step| format!("app `{}`: {step}", app.name)));
        }
        (1..).zip(lines).try_for_each(|(number, line)| writeln!(f, "{number:3} {line}"))
    }
}

#[cfg(test)]
mod tests;
