//! What the types of single fields cannot hold: what must be true of a whole pod, or a whole app.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::app::{
    AppSpec, MAX_ID, MAX_LOG_FILES, MIN_LOG_BYTES, MountSource, PidMode, Restart, Role,
};
use crate::credential::{
    CREDENTIALS_DIRECTORY, CredentialName, MAX_CREDENTIALS, MAX_SOCKETS, SocketName,
};
use crate::isolators::Capability;
use crate::manifest::{Dns, ExitPolicy, Ipc, Network, PodSpec, Sandbox, Userns};
use crate::name::{AppName, VolumeName};
use crate::network::{Attachment, MAX_NETWORKS, MAX_PORTS, NetworkName, Protocol, Publication};
use crate::path::PodPath;
use crate::readiness::{Check, Readiness};
use crate::version;
use crate::volume::{Volume, VolumeSource};

/// The most apps one pod may have: a bound for everything that grows with them.
pub const MAX_APPS: usize = 64;
/// The most layers an image may have: overlayfs takes 500, less those of ours.
pub const MAX_LAYERS: usize = 400;

/// What is wrong with a pod's specification although every field of it parses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what its variant means")]
pub enum SpecError {
    #[error("version {0} of the manifest is not understood; this program understands {oldest} to {newest}", oldest = version::OLDEST_MANIFEST, newest = version::MANIFEST)]
    Version(u32),
    #[error("the pod has no app")]
    NoApp,
    #[error("the pod has {0} apps; at most {MAX_APPS} are possible")]
    TooManyApps(usize),
    #[error("app name `{0}` is given twice; `--name` behind an image names its app")]
    DuplicateApp(AppName),
    #[error("`sandbox.apps` and `apps` do not list the same names in the same order")]
    AppOrder,
    #[error("volume name `{0}` is given twice")]
    DuplicateVolume(VolumeName),
    #[error("app `{app}` mounts volume `{volume}`, which the pod does not have")]
    UnknownVolume { app: AppName, volume: VolumeName },
    #[error("app `{app}` has two mounts at `{path}`")]
    DuplicateMount { app: AppName, path: String },
    #[error("app `{app}` mounts something over `{path}`, which belongs to the runtime")]
    ReservedMount { app: AppName, path: String },
    #[error("app `{0}` has no program to execute")]
    NoProgram(AppName),
    #[error("an argument of app `{0}` holds a NUL byte")]
    NulByte(AppName),
    #[error("app `{0}` has an id beyond {MAX_ID}")]
    IdTooLarge(AppName),
    #[error("app `{app}` has {layers} layers; 1 to {MAX_LAYERS} are possible")]
    Layers { app: AppName, layers: usize },
    #[error("app `{app}` is to be stopped by signal {signal}, which is none of 1 to 64")]
    StopSignal { app: AppName, signal: u8 },
    #[error(
        "the log of app `{0}` takes 1 to {MAX_LOG_FILES} files of {MIN_LOG_BYTES} bytes or more"
    )]
    Log(AppName),
    #[error("the exit policy waits for app `{0}`, which the pod does not have")]
    UnknownMainApp(AppName),
    #[error("volume `{volume}` names `{path}`, which is no absolute path")]
    RelativeVolume { volume: VolumeName, path: String },
    #[error("volume `{volume}` is filled from app `{app}`, which the pod does not have")]
    UnknownFill { volume: VolumeName, app: AppName },
    #[error("volume `{volume}` has an owner beyond {MAX_ID}")]
    VolumeOwner { volume: VolumeName },
    #[error("app `{app}` starts after app `{after}`, which the pod does not have")]
    UnknownAfter { app: AppName, after: AppName },
    #[error("app `{0}` waits for itself: the apps it starts after start after it")]
    AfterCycle(AppName),
    #[error("init app `{0}` cannot start after a main app: those start after all init apps")]
    InitAfterMain(AppName),
    #[error("init app `{0}` runs once: it takes no restart policy and no readiness of its own")]
    InitRuns(AppName),
    #[error("app `{0}` shares its process numbers, so nothing can be process 1 in its stead")]
    Reaper(AppName),
    #[error(
        "app `{0}` has `--pid pod` and `CAP_SYS_PTRACE`: it could trace PID 1 of its pod, which with `--userns host` is root of the host"
    )]
    Tracer(AppName),
    #[error("the readiness of app `{0}` cannot be asked for")]
    Readiness(AppName),
    #[error(
        "a limit of app `{0}` is none: sizes, counts and rates take 1 or more, weights 1 to 10000, CPU 1 ms or more of a period of 1 ms to 1 s, processors and nodes a list such as `0-3,5`"
    )]
    Limit(AppName),
    #[error("app `{app}` has a device of `{path}`, which is no absolute path of the host")]
    RelativeDevice { app: AppName, path: String },
    #[error(
        "setting `{0}` is none of a pod's own: `net.…`, `kernel.shm…`, `kernel.msg…`, `kernel.sem` and `fs.mqueue.…` are"
    )]
    ForeignSysctl(String),
    #[error("setting `{0}` belongs to the host, whose namespace the pod shares")]
    SharedSysctl(String),
    #[error("the pod joins {0} networks; at most {MAX_NETWORKS} are possible")]
    TooManyNetworks(usize),
    #[error("the pod joins network `{0}` twice")]
    DuplicateNetwork(NetworkName),
    #[error("the pod asks for two addresses of one family in network `{0}`")]
    TwoAddresses(NetworkName),
    #[error("`{0}` is no absolute path of a network namespace")]
    RelativeNetwork(String),
    #[error("ports are published, and the pod joins no network that they could lead into")]
    NowhereToPublish,
    #[error("more than {MAX_PORTS} ports are published")]
    TooManyPorts,
    #[error("port 0 is published, or one beyond 65535")]
    NoPort,
    #[error("port {port}/{protocol} of the host is published twice")]
    DuplicatePort { port: u16, protocol: Protocol },
    #[error("`{0}` is no word of `resolv.conf` or `hosts`")]
    Resolver(String),
    #[error(
        "a limit of the pod is none: sizes, counts and rates take 1 or more, weights 1 to 10000, CPU 1 ms or more of a period of 1 ms to 1 s, processors and nodes a list such as `0-3,5`"
    )]
    PodLimit,
    #[error("`{0}` is no property of a unit: it takes NAME=VALUE, as in a unit file")]
    UnitProperty(String),
    #[error("app `{app}` is given credential `{name}` twice")]
    DuplicateCredential { app: AppName, name: CredentialName },
    #[error("credential `{name}` of app `{app}` names `{path}`, which is no absolute path")]
    RelativeCredential { app: AppName, name: CredentialName, path: String },
    #[error("credential `{0}` is read from two places")]
    TwoCredentials(CredentialName),
    #[error("the pod has {0} credentials; at most {MAX_CREDENTIALS} are possible")]
    TooManyCredentials(usize),
    #[error("app `{app}` asks for socket `{name}` twice")]
    DuplicateSocket { app: AppName, name: SocketName },
    #[error("app `{app}` has something at `{path}`, where its credentials are")]
    CredentialMount { app: AppName, path: String },
    #[error("app `{app}` takes {sockets} sockets; at most {MAX_SOCKETS} are possible")]
    TooManySockets { app: AppName, sockets: usize },
}

/// Where nothing may be mounted by a user: what the runtime itself mounts there would be
/// hidden or redirected (CVE-2019-19921 and its kin). `/dev/shm` beneath may be replaced.
pub const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

impl PodSpec {
    /// Checks everything the types of single fields cannot hold.
    ///
    /// # Errors
    ///
    /// The first [`SpecError`] met.
    pub fn check(&self) -> Result<(), SpecError> {
        check_version(self.version)?;
        if self.apps.is_empty() && self.sandbox.exit_policy != ExitPolicy::Never {
            return Err(SpecError::NoApp);
        }
        if self.apps.len() > MAX_APPS {
            return Err(SpecError::TooManyApps(self.apps.len()));
        }
        let mut names = BTreeSet::new();
        for app in &self.apps {
            if !names.insert(&app.name) {
                return Err(SpecError::DuplicateApp(app.name.clone()));
            }
        }
        if !self.sandbox.apps.iter().eq(self.apps.iter().map(|app| &app.name)) {
            return Err(SpecError::AppOrder);
        }
        if let ExitPolicy::Main(main) = &self.sandbox.exit_policy
            && !names.contains(main)
        {
            return Err(SpecError::UnknownMainApp(main.clone()));
        }
        self.sandbox.check()?;
        let all = self.sandbox.volumes.iter().chain(self.apps.iter().flat_map(|app| &app.volumes));
        let volumes = check_volumes(all, &names)?;
        self.apps.iter().try_for_each(|app| app.check(&volumes))?;
        if self.sandbox.userns == Userns::Host
            && let Some(app) = self.apps.iter().find(|app| app.can_trace_init())
        {
            return Err(SpecError::Tracer(app.name.clone()));
        }
        check_credentials(&self.apps)?;
        check_order(&self.apps)
    }
}

/// Tells whether documents of this version are understood.
///
/// # Errors
///
/// [`SpecError::Version`].
pub fn check_version(version: u32) -> Result<(), SpecError> {
    match version {
        version::OLDEST_MANIFEST..=version::MANIFEST => Ok(()),
        _ => Err(SpecError::Version(version)),
    }
}

fn check_volumes<'v>(
    all: impl Iterator<Item = &'v Volume>,
    apps: &BTreeSet<&AppName>,
) -> Result<BTreeSet<&'v VolumeName>, SpecError> {
    let mut names = BTreeSet::new();
    for volume in all {
        let name = || volume.name.clone();
        if !names.insert(&volume.name) {
            return Err(SpecError::DuplicateVolume(name()));
        }
        match &volume.source {
            VolumeSource::Host { path, .. } if !path.starts_with('/') => {
                return Err(SpecError::RelativeVolume { volume: name(), path: path.clone() });
            }
            VolumeSource::Empty { uid, gid, .. } if [uid, gid].iter().any(|id| **id > MAX_ID) => {
                return Err(SpecError::VolumeOwner { volume: name() });
            }
            _ => {}
        }
        if let Some(fill) = &volume.fill
            && !apps.contains(&fill.app)
        {
            return Err(SpecError::UnknownFill { volume: name(), app: fill.app.clone() });
        }
    }
    Ok(names)
}

/// Checks that a name means the same secret in all apps.
fn check_credentials(apps: &[AppSpec]) -> Result<(), SpecError> {
    let mut known = BTreeMap::new();
    for credential in apps.iter().flat_map(|app| &app.credentials) {
        if *known.entry(&credential.name).or_insert(&credential.path) != &credential.path {
            return Err(SpecError::TwoCredentials(credential.name.clone()));
        }
    }
    match known.len() {
        0..=MAX_CREDENTIALS => Ok(()),
        many => Err(SpecError::TooManyCredentials(many)),
    }
}

/// Checks that no app waits for itself, nor for one that is not there.
fn check_order(apps: &[AppSpec]) -> Result<(), SpecError> {
    let by_name: BTreeMap<&AppName, &AppSpec> = apps.iter().map(|app| (&app.name, app)).collect();
    for app in apps {
        for after in &app.after {
            let Some(other) = by_name.get(after) else {
                let (app, after) = (app.name.clone(), after.clone());
                return Err(SpecError::UnknownAfter { app, after });
            };
            if app.role == Role::Init && other.role == Role::Main {
                return Err(SpecError::InitAfterMain(app.name.clone()));
            }
        }
    }
    // Whatever can start is taken away, until nothing is left or nothing can.
    let mut left: Vec<&AppSpec> = apps.iter().collect();
    while let Some(first) = left.first() {
        let stuck = SpecError::AfterCycle(first.name.clone());
        let names: BTreeSet<&AppName> = left.iter().map(|app| &app.name).collect();
        let before = left.len();
        left.retain(|app| app.after.iter().any(|after| names.contains(after)));
        if left.len() == before {
            return Err(stuck);
        }
    }
    Ok(())
}

impl Sandbox {
    fn check(&self) -> Result<(), SpecError> {
        for (name, value) in &self.sysctls {
            let plain = |word: &str| !word.is_empty() && !word.contains(['/', '\0', '\n']);
            let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
            let of_ipc = ipc.iter().any(|prefix| name.starts_with(prefix));
            let of_net = name.starts_with("net.");
            let dots = name.split('.').all(plain) && !value.contains(['\0', '\n']);
            if !dots || !(of_ipc || of_net) {
                return Err(SpecError::ForeignSysctl(name.chars().take(80).collect()));
            }
            let shared =
                (of_net && self.network == Network::Host) || (of_ipc && self.ipc == Ipc::Host);
            if shared {
                return Err(SpecError::SharedSysctl(name.clone()));
            }
        }
        self.check_network()?;
        if !self.resources.is_sound() {
            return Err(SpecError::PodLimit);
        }
        for property in &self.unit_properties {
            let name = property.split_once('=').map_or("", |(name, _)| name);
            let plain = |byte: u8| byte.is_ascii_alphanumeric();
            let sound = !name.is_empty() && name.bytes().all(plain) && property.len() <= 4096;
            if !sound || property.contains(['\0', '\n']) {
                return Err(SpecError::UnitProperty(property.chars().take(80).collect()));
            }
        }
        let words = self.hosts.iter().map(|entry| &entry.name);
        let none = Dns::default();
        let dns = self.dns.as_ref().unwrap_or(&none);
        for word in words.chain(&dns.search).chain(&dns.options) {
            let plain = |c: char| c.is_ascii_graphic() && c != '#' && c != ';';
            if word.is_empty() || word.len() > 255 || !word.chars().all(plain) {
                return Err(SpecError::Resolver(word.chars().take(80).collect()));
            }
        }
        Ok(())
    }
}

impl Sandbox {
    fn check_network(&self) -> Result<(), SpecError> {
        match &self.network {
            Network::Joined(networks) => check_attachments(networks)?,
            _ if !self.ports.is_empty() => return Err(SpecError::NowhereToPublish),
            Network::None | Network::Host => {}
            Network::Path(path) => {
                let text = path.to_string_lossy();
                if !path.is_absolute() || text.contains('\0') {
                    return Err(SpecError::RelativeNetwork(text.chars().take(80).collect()));
                }
            }
        }
        check_ports(&self.ports)
    }
}

fn check_attachments(networks: &[Attachment]) -> Result<(), SpecError> {
    if networks.is_empty() || networks.len() > MAX_NETWORKS {
        return Err(SpecError::TooManyNetworks(networks.len()));
    }
    let mut names = BTreeSet::new();
    for one in networks {
        if !names.insert(&one.network) {
            return Err(SpecError::DuplicateNetwork(one.network.clone()));
        }
        let v4 = one.addresses.iter().filter(|address| address.is_ipv4()).count();
        if v4 > 1 || one.addresses.len() - v4 > 1 {
            return Err(SpecError::TwoAddresses(one.network.clone()));
        }
    }
    Ok(())
}

fn check_ports(ports: &[Publication]) -> Result<(), SpecError> {
    if ports.iter().map(|ports| usize::from(ports.count)).sum::<usize>() > MAX_PORTS {
        return Err(SpecError::TooManyPorts);
    }
    let mut held: BTreeMap<(Protocol, u16), Vec<Option<IpAddr>>> = BTreeMap::new();
    for ports in ports {
        let last = |first: u16| u32::from(first) + u32::from(ports.count.saturating_sub(1));
        let ends = [last(ports.host_port), last(ports.pod_port)];
        let begins = [ports.host_port, ports.pod_port, ports.count];
        if begins.contains(&0) || ends.iter().any(|end| *end > u32::from(u16::MAX)) {
            return Err(SpecError::NoPort);
        }
        for (port, _) in ports.pairs() {
            let others = held.entry((ports.protocol, port)).or_default();
            if others.iter().any(|other| meet(*other, ports.host_address)) {
                return Err(SpecError::DuplicatePort { port, protocol: ports.protocol });
            }
            others.push(ports.host_address);
        }
    }
    Ok(())
}

/// Tells whether two addresses of the host to listen at have one in common.
fn meet(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    match (one, other) {
        (None, _) | (_, None) => true,
        (Some(one), Some(other)) => {
            one == other
                || (one.is_ipv4() == other.is_ipv4()
                    && (one.is_unspecified() || other.is_unspecified()))
        }
    }
}

impl AppSpec {
    /// Tells whether the app can come to trace the pod's PID 1, which has every right in the pod's
    /// user namespace.
    #[must_use]
    pub fn can_trace_init(&self) -> bool {
        self.pid == PidMode::Pod && self.process.capabilities.0.contains(&Capability::SysPtrace)
    }

    /// Checks everything the types of single fields cannot hold, given the pod's volumes.
    ///
    /// # Errors
    ///
    /// The first [`SpecError`] met.
    pub fn check(&self, volumes: &BTreeSet<&VolumeName>) -> Result<(), SpecError> {
        let name = || self.name.clone();
        check_version(self.version)?;
        match self.process.args.first() {
            None => return Err(SpecError::NoProgram(name())),
            Some(program) if program.is_empty() => return Err(SpecError::NoProgram(name())),
            Some(_) => {}
        }
        if self.process.args.iter().any(|arg| arg.contains('\0')) {
            return Err(SpecError::NulByte(name()));
        }
        let user = &self.process.user;
        if [user.uid, user.gid].iter().chain(&user.additional_gids).any(|id| *id > MAX_ID) {
            return Err(SpecError::IdTooLarge(name()));
        }
        if !(1..=MAX_LAYERS).contains(&self.image.layers.len()) {
            return Err(SpecError::Layers { app: name(), layers: self.image.layers.len() });
        }
        if !(1..=64).contains(&self.stop.signal) {
            return Err(SpecError::StopSignal { app: name(), signal: self.stop.signal });
        }
        if !self.log.is_sound() {
            return Err(SpecError::Log(name()));
        }
        self.check_life()?;
        if !self.resources.is_sound() {
            return Err(SpecError::Limit(name()));
        }
        self.check_handed()?;
        self.check_mounts(volumes)
    }

    /// Checks what it is given by name.
    fn check_handed(&self) -> Result<(), SpecError> {
        let app = || self.name.clone();
        let mut names = BTreeSet::new();
        for credential in &self.credentials {
            let name = credential.name.clone();
            if !names.insert(&credential.name) {
                return Err(SpecError::DuplicateCredential { app: app(), name });
            }
            if let Some(path) = credential.path.as_ref().filter(|path| !path.starts_with('/')) {
                let path = path.chars().take(80).collect();
                return Err(SpecError::RelativeCredential { app: app(), name, path });
            }
        }
        let place = PodPath::parse(CREDENTIALS_DIRECTORY).ok();
        let destinations = self.mounts.iter().map(|mount| &mount.destination);
        let destinations = destinations.chain(self.devices.iter().map(|one| &one.destination));
        let hides = |path: &&PodPath| place.as_ref().is_some_and(|place| path.is_beneath(place));
        if !names.is_empty()
            && let Some(path) = destinations.into_iter().find(hides)
        {
            let path = path.to_string();
            return Err(SpecError::CredentialMount { app: app(), path });
        }
        if self.sockets.len() > MAX_SOCKETS {
            return Err(SpecError::TooManySockets { app: app(), sockets: self.sockets.len() });
        }
        let mut names = BTreeSet::new();
        match self.sockets.iter().find(|name| !names.insert(*name)) {
            Some(name) => Err(SpecError::DuplicateSocket { app: app(), name: name.clone() }),
            None => Ok(()),
        }
    }

    fn check_life(&self) -> Result<(), SpecError> {
        let name = || self.name.clone();
        if self.reaper && self.pid != PidMode::App {
            return Err(SpecError::Reaper(name()));
        }
        let plain = self.restart == Restart::No && self.readiness == Readiness::Started;
        if self.role == Role::Init && !plain {
            return Err(SpecError::InitRuns(name()));
        }
        if let Readiness::Probe(probe) = &self.readiness {
            let sound = match &probe.check {
                Check::Exec { args } => {
                    args.first().is_some_and(|program| !program.is_empty())
                        && !args.iter().any(|arg| arg.contains('\0'))
                }
                Check::Tcp { port } => *port > 0,
                Check::Http { port, path } => {
                    let plain = |c: char| !c.is_ascii_control() && c != ' ';
                    *port > 0 && path.starts_with('/') && path.chars().all(plain)
                }
            };
            if !sound || probe.interval_ms == 0 || probe.timeout_ms == 0 {
                return Err(SpecError::Readiness(name()));
            }
        }
        Ok(())
    }

    fn check_mounts(&self, volumes: &BTreeSet<&VolumeName>) -> Result<(), SpecError> {
        let mut places = BTreeSet::new();
        for mount in &self.mounts {
            let path = || mount.destination.to_string();
            let first = mount.destination.components().next().map(|part| format!("/{part}"));
            let reserved = first.is_none_or(|first| RESERVED.contains(&first.as_str()));
            if reserved && mount.destination.as_str() != "/dev/shm" {
                return Err(SpecError::ReservedMount { app: self.name.clone(), path: path() });
            }
            if !places.insert(&mount.destination) {
                return Err(SpecError::DuplicateMount { app: self.name.clone(), path: path() });
            }
            if let MountSource::Volume(volume) = &mount.source
                && !volumes.contains(volume)
            {
                return Err(SpecError::UnknownVolume {
                    app: self.name.clone(),
                    volume: volume.clone(),
                });
            }
        }
        for device in &self.devices {
            let (app, path) = (self.name.clone(), device.destination.to_string());
            let first = device.destination.components().next();
            if first.is_none_or(|first| first == "proc" || first == "sys") {
                return Err(SpecError::ReservedMount { app, path });
            }
            if !places.insert(&device.destination) {
                return Err(SpecError::DuplicateMount { app, path });
            }
            if !device.source.starts_with('/') {
                return Err(SpecError::RelativeDevice { app, path: device.source.clone() });
            }
        }
        Ok(())
    }
}
