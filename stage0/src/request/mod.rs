//! What the user meant, checked: nothing in it can contradict itself.
//!
//! From the words of a line to typed values; what depends on images is left to
//! [`crate::compose`]. The environment of the caller comes in as an argument, so that all of this
//! is pure.

mod app;
mod capabilities;
mod environment;
mod fly;
mod insecure;
mod joining;
mod kvm;
mod limits;
mod mounts;
mod network;
mod privileges;
mod resources;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use pod_abi::PodName;
use pod_abi::app::{PidMode, Restart, Stdio as AppStdio};
use pod_abi::isolators::Resources;
use pod_abi::manifest::{
    Dns, ExitPolicy, HostEntry, Insecure, Ipc, Journal, Layers, Network, OomPolicy, Sandbox, Userns,
};
use pod_abi::network::Publication;

use crate::caller::Caller;
use crate::error::{CommandError, Result};
use crate::flags::{FetchFlags, PodFlags};
use crate::grammar::{AppLine, Line};
use crate::networks;
use crate::policy_file::{OURS, THEIRS};
use crate::systemd;
use crate::ui::Telling;

use insecure::{check_only_fetches, read_insecure};
use joining::read_joining;
use network::{read_dns, read_host};
use words::{choice, contradiction, pairs, size, word};

pub(crate) use app::{AppRequest, ProcessRequest, read_app, read_process};
pub(crate) use fly::FLY;
pub(crate) use mounts::{MountFrom, MountRequest};
pub(crate) use privileges::Paths;
pub(crate) use resources::{ResourceRequest, read_resources};

/// A pod, as asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Where its apps come from.
    pub(crate) source: Source,
    /// How its images are come by.
    pub(crate) fetch: FetchRequest,
    /// What becomes of its output, and of the command line.
    pub(crate) stdio: Stdio,
    /// Whether it goes when it ends.
    pub(crate) remove: bool,
    /// Whether it is printed rather than run.
    pub(crate) dry_run: bool,
    /// Whether the pod that bears its name is started again if it is the same.
    pub(crate) reuse: bool,
    /// Its name, if given.
    pub(crate) name: Option<PodName>,
    /// The file its id is written to.
    pub(crate) id_file: Option<PathBuf>,
    /// The keys that leave a terminal, as typed.
    pub(crate) detach_keys: Option<String>,
    /// Whether this process is to become the pod's supervisor.
    pub(crate) in_place: bool,
}

/// Where the apps of a pod come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// From the line.
    Line(Box<PodRequest>),
    /// From a file that `--dry-run` has printed.
    Spec(PathBuf),
}

/// Who the apps' output belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdio {
    /// Nobody; the id is printed, and the command returns once the pod is ready.
    Detached,
    /// The caller.
    Attached,
}

/// When images are fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pull {
    /// When they are not in the store.
    #[default]
    Missing,
    /// When they are not in the store, or their source has others by now.
    Newer,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a line says of the whole pod.
#[derive(Clone, Debug)]
pub(crate) struct PodRequest {
    pub(crate) hostname: Option<PodName>,
    /// What the stage1 gives, if not given; so it is with all that may be `None`.
    pub(crate) network: Option<Network>,
    pub(crate) ports: Vec<Publication>,
    pub(crate) userns: Option<Userns>,
    pub(crate) exit_policy: ExitPolicy,
    pub(crate) journal: Journal,
    pub(crate) stage1: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) ipc: Option<Ipc>,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) dns: Option<Dns>,
    pub(crate) hosts: Vec<HostEntry>,
    /// The protections it gives up.
    pub(crate) insecure: BTreeSet<Insecure>,
    /// Properties of its unit, as typed; each was checked.
    pub(crate) unit_properties: Vec<String>,
    /// What all apps may use together.
    pub(crate) resources: Resources,
    pub(crate) oom_policy: OomPolicy,
    /// Bytes of its own disk.
    pub(crate) scratch: Option<u64>,
    /// How layers are given to it.
    pub(crate) layers: Layers,
    pub(crate) apps: Vec<AppRequest>,
}

/// How images are come by.
#[derive(Clone, Debug, Default)]
pub(crate) struct FetchRequest {
    pub(crate) pull: Pull,
    pub(crate) platform: Option<String>,
    pub(crate) insecure_http: bool,
    /// Where the signature policy may lie; nowhere if it was given up.
    pub(crate) policies: Vec<PathBuf>,
    pub(crate) telling: Telling,
}

/// Reads what a line means.
///
/// # Errors
///
/// A usage error that names the word at fault, or the two that contradict each other; `storage`
/// for a file of the caller's that cannot be read.
pub(crate) fn read(line: Line, caller: &Caller<'_>) -> Result<Request> {
    let Line { pod, apps } = line;
    if let (true, Some(path)) = (pod.dry_run, &pod.id_file) {
        return Err(contradiction("--dry-run", &format!("--id-file {}", path.display())));
    }
    let mut request = Request {
        source: Source::Spec(PathBuf::new()),
        fetch: read_fetch_of_pod(&pod.fetch)?,
        stdio: if pod.detach { Stdio::Detached } else { Stdio::Attached },
        remove: pod.rm,
        dry_run: pod.dry_run,
        reuse: pod.reuse,
        name: pod.name.as_deref().map(word::<PodName>).transpose()?,
        id_file: pod.id_file.clone(),
        detach_keys: pod.detach_keys.clone(),
        in_place: pod.in_place,
    };
    if pod.reuse {
        check_reuse(&pod)?;
    }
    if let Some(path) = &pod.spec {
        check_beside_spec(&pod)?;
        request.source = Source::Spec(path.clone());
        return Ok(request);
    }
    let given_up = read_insecure(&pod.fetch)?;
    let apps = apps
        .into_iter()
        .map(|app| read_app(app, &given_up, caller))
        .collect::<Result<Vec<AppRequest>>>()?;
    check_together(&pod, &apps)?;
    let mut pod = read_pod(pod, apps, caller)?;
    fly::settle(&mut pod, caller)?;
    kvm::check(&pod)?;
    if pod.userns == Some(Userns::Host) {
        for app in &pod.apps {
            privileges::check_tracing(&app.privileges, app.life.pid)?;
            privileges::check_held(&app.privileges, caller)?;
        }
    }
    request.source = Source::Line(Box::new(pod));
    Ok(request)
}

/// Reads what a line says of an app for a pod that is there.
///
/// # Errors
///
/// As [`read_app`], and what contradicts the pod.
pub(crate) fn read_added(
    line: AppLine,
    sandbox: &Sandbox,
    caller: &Caller<'_>,
) -> Result<AppRequest> {
    let mut app = read_app(line, &sandbox.insecure, caller)?;
    if sandbox.stage1 == FLY {
        fly::settle_app(&mut app, caller)?;
    }
    if sandbox.stage1 == kvm::KVM {
        kvm::check_app(&app)?;
    }
    if sandbox.userns == Userns::Host {
        privileges::check_tracing(&app.privileges, app.life.pid)?;
    }
    Ok(app)
}

/// Refuses what the pod and one of its apps cannot both have.
fn check_together(pod: &PodFlags, apps: &[AppRequest]) -> Result<()> {
    if let (true, Some(keys)) = (pod.detach, &pod.detach_keys) {
        return Err(contradiction("--detach", &format!("--detach-keys {keys}"))
            .hint("`pod attach` takes the keys that leave the terminal it connects"));
    }
    let restarting = apps.iter().find(|app| app.life.restart != Restart::No);
    if let (true, Some(app)) = (pod.rm, restarting) {
        return Err(contradiction("--rm", &format!("--restart {}", app.life.restart))
            .hint("leave `--rm` away; `pod rm` and `pod gc` remove pods that have ended"));
    }
    let revived = pod
        .unit_property
        .iter()
        .find(|text| text.strip_prefix("Restart=").is_some_and(|policy| policy.trim() != "no"));
    if let (true, Some(text)) = (pod.rm, revived) {
        return Err(contradiction("--rm", &format!("--unit-property {text}"))
            .hint("leave `--rm` away; `pod rm` and `pod gc` remove pods that have ended"));
    }
    let spoken_to = apps.iter().any(|app| app.process.stdio != AppStdio::Logged);
    if let (Some(keys), false) = (&pod.detach_keys, spoken_to) {
        return Err(CommandError::usage(format!(
            "`--detach-keys {keys}` is typed at an app, and none takes input"
        ))
        .hint("`-t` behind the image gives an app a terminal"));
    }
    let walled = pod.stage1.as_deref().is_none_or(|stage1| stage1 == "ns");
    if walled && apps.iter().any(|app| app.life.pid == Some(PidMode::Host)) {
        return Err(contradiction("--pid host", "--stage1 ns")
            .hint("`--stage1 fly` runs a pod without walls; `--pid pod` shares within one"));
    }
    Ok(())
}

/// Reads a hostname: what a name of a pod may be, which is that of a host without its domain.
fn read_hostname(text: &str) -> Result<PodName> {
    PodName::parse(text).map_err(|_| {
        let rule = "it takes 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end";
        let error = CommandError::usage(format!("`{text}` is no hostname: {rule}"));
        match text.contains('.') {
            true => error.hint("a domain is for the resolver: `--dns-search DOMAIN`"),
            false => error,
        }
    })
}

fn read_pod(pod: PodFlags, apps: Vec<AppRequest>, caller: &Caller<'_>) -> Result<PodRequest> {
    let dns = read_dns(&pod)?;
    let joining = read_joining(&pod.joining)?;
    if let Some(network) = &joining.network {
        networks::check(network, &joining.ports)?;
    }
    let insecure = read_insecure(&pod.fetch)?;
    let resources = read_resources(&pod.resources.0, caller)?.beside(&Resources::default())?;
    let stage1 = pod.stage1.unwrap_or_else(|| "ns".to_owned());
    if stage1.contains('/') && !stage1.starts_with('/') {
        return Err(CommandError::usage(format!(
            "`{stage1}` is no stage1: it takes a name or an absolute directory"
        )));
    }
    let scratch = read_scratch(pod.scratch.as_deref(), &stage1)?;
    Ok(PodRequest {
        hostname: pod.hostname.as_deref().map(read_hostname).transpose()?,
        network: joining.network,
        ports: joining.ports,
        userns: choice("--userns", pod.userns.as_deref(), USERNS)?,
        exit_policy: pod.exit_policy.as_deref().map(word).transpose()?.unwrap_or_default(),
        journal: choice("--journal", pod.journal.as_deref(), JOURNALS)?.unwrap_or_default(),
        stage1,
        labels: pairs("label", &pod.label)?,
        annotations: pairs("annotation", &pod.annotation)?,
        ipc: choice("--ipc", pod.ipc.as_deref(), IPCS)?,
        sysctls: pairs("setting", &pod.sysctl)?,
        dns,
        hosts: pod.add_host.iter().map(|word| read_host(word)).collect::<Result<_>>()?,
        insecure,
        unit_properties: read_unit_properties(pod.unit_property)?,
        resources: resources.settled(),
        oom_policy: choice("--oom-policy", pod.oom_policy.as_deref(), OOM_POLICIES)?
            .unwrap_or_default(),
        scratch,
        layers: choice("--layers", pod.layers.as_deref(), &Layers::ALL)?.unwrap_or_default(),
        apps,
    })
}

/// Reads the size of a pod's own disk. Those of our stage1s that have none are known here; others
/// tell in their manifests.
fn read_scratch(word: Option<&str>, stage1: &str) -> Result<Option<u64>> {
    let Some(word) = word else { return Ok(None) };
    let size = size(word).ok_or_else(|| {
        CommandError::usage(format!("`{word}` is no size of a disk"))
            .hint("`--scratch 10g` makes one of 10 GiB")
    })?;
    if matches!(stage1, "ns" | FLY) {
        return Err(contradiction("--scratch", &format!("--stage1 {stage1}"))
            .hint("its apps write to the host's disk; `--stage1 kvm` takes a disk of its own"));
    }
    Ok(Some(size))
}

/// Checks properties of a unit.
fn read_unit_properties(asked: Vec<String>) -> Result<Vec<String>> {
    for text in &asked {
        systemd::read_property(text)?;
    }
    Ok(asked)
}

/// Reads how images are to be come by, where no pod is made of them.
///
/// # Errors
///
/// A usage error for an unknown policy or protection.
pub(crate) fn read_fetch(flags: &FetchFlags) -> Result<FetchRequest> {
    check_only_fetches(&read_insecure(flags)?)?;
    read_fetch_of_pod(flags)
}

fn read_fetch_of_pod(flags: &FetchFlags) -> Result<FetchRequest> {
    let given_up = read_insecure(flags)?;
    Ok(FetchRequest {
        pull: choice("--pull", flags.pull.as_deref(), PULLS)?.unwrap_or_default(),
        platform: flags.platform.clone(),
        insecure_http: given_up.contains(&Insecure::Http),
        policies: policies(flags, &given_up)?,
        telling: if flags.quiet { Telling::Quiet } else { Telling::default() },
    })
}

/// Reads a number of bytes that `flag` asks for.
///
/// # Errors
///
/// A usage error.
pub(crate) fn bytes(flag: &str, word: &str) -> Result<u64> {
    size(word).ok_or_else(|| {
        CommandError::usage(format!("`{flag} {word}` is no size")).hint("a size is such as `20g`")
    })
}

/// Where the host's signature policy lies.
const POLICIES: [&str; 2] = [OURS, THEIRS];

/// Returns where the signature policy may lie: a file that was named must be there.
fn policies(flags: &FetchFlags, given_up: &BTreeSet<Insecure>) -> Result<Vec<PathBuf>> {
    match (&flags.signature_policy, given_up.contains(&Insecure::Image)) {
        (Some(_), true) => Err(contradiction("--signature-policy", "--insecure-options image")),
        (Some(path), false) if !path.exists() => Err(CommandError::new(
            "storage",
            format!("there is no signature policy `{}`", path.display()),
        )),
        (Some(path), false) => Ok(vec![path.clone()]),
        (None, true) => Ok(Vec::new()),
        (None, false) => Ok(POLICIES.map(PathBuf::from).into()),
    }
}

const USERNS: &[(&str, Userns)] = &[("auto", Userns::Auto), ("host", Userns::Host)];
const IPCS: &[(&str, Ipc)] = &[("pod", Ipc::Pod), ("host", Ipc::Host)];
const JOURNALS: &[(&str, Journal)] = &[("auto", Journal::Auto), ("off", Journal::Off)];
const OOM_POLICIES: &[(&str, OomPolicy)] =
    &[("continue", OomPolicy::Continue), ("kill", OomPolicy::Kill), ("stop", OomPolicy::Stop)];
const PULLS: &[(&str, Pull)] = &[
    ("missing", Pull::Missing),
    ("newer", Pull::Newer),
    ("always", Pull::Always),
    ("never", Pull::Never),
];

/// Refuses what makes no sense of a pod that may be there already.
fn check_reuse(pod: &PodFlags) -> Result<()> {
    if pod.spec.is_none() {
        return Err(CommandError::usage("`--reuse` is about a pod that `--spec` describes").hint(
            "`pod run --dry-run` prints what `--spec` takes; `pod start` starts any pod again",
        ));
    }
    let given =
        [("--rm", pod.rm), ("--dry-run", pod.dry_run), ("--id-file", pod.id_file.is_some())];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(contradiction("--reuse", flag)),
        None => Ok(()),
    }
}

fn check_beside_spec(pod: &PodFlags) -> Result<()> {
    let given = [
        ("--hostname", pod.hostname.is_some()),
        ("--net", !pod.joining.net.is_empty()),
        ("--publish", !pod.joining.publish.is_empty()),
        ("--ip", !pod.joining.ip.is_empty()),
        ("--mac-address", pod.joining.mac_address.is_some()),
        ("--userns", pod.userns.is_some()),
        ("--exit-policy", pod.exit_policy.is_some()),
        ("--journal", pod.journal.is_some()),
        ("--stage1", pod.stage1.is_some()),
        ("--scratch", pod.scratch.is_some()),
        ("--layers", pod.layers.is_some()),
        ("--platform", pod.fetch.platform.is_some()),
        ("--label", !pod.label.is_empty()),
        ("--annotation", !pod.annotation.is_empty()),
        ("--ipc", pod.ipc.is_some()),
        ("--sysctl", !pod.sysctl.is_empty()),
        ("--dns", !pod.dns.is_empty()),
        ("--dns-search", !pod.dns_search.is_empty()),
        ("--dns-opt", !pod.dns_opt.is_empty()),
        ("--add-host", !pod.add_host.is_empty()),
        ("--unit-property", !pod.unit_property.is_empty()),
        ("--oom-policy", pod.oom_policy.is_some()),
        (
            "--insecure-options",
            read_insecure(&pod.fetch)?
                .iter()
                .any(|it| !matches!(it, Insecure::Http | Insecure::Image)),
        ),
    ];
    let given = given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag.to_owned());
    match given.or_else(|| pod.resources.0.given()) {
        Some(flag) => Err(CommandError::usage(format!(
            "`{flag}` stands beside `--spec`, which holds that already"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
