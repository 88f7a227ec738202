//! Request + images → [`PodSpec`]: the one place where a user's words, an image's configuration
//! and our defaults meet.
//!
//! Pure: what must be read from images (their settings, `passwd` and `group`) comes in with
//! [`AppImage`], and nothing is looked up on the host. The rules are docker's, because images are
//! written for them; what an image says never reaches beyond its own app.

mod defaults;
mod user;
mod volumes;

use std::path::Path;

use images::ImageSettings;
use pod_abi::app::{AppSpec, EnvVar, EnvVarError, ImagePin, Process, Stdio, Stop, User};
use pod_abi::check::SpecError;
use pod_abi::isolators::Capabilities;
use pod_abi::manifest::{PodManifest, PodSpec, Sandbox};
use pod_abi::path::PodPathError;
use pod_abi::version;
use pod_abi::volume::Volume;
use pod_abi::{AppName, PodName, PodPath, VolumeName};

use crate::request::{AppRequest, FLY, Paths, PodRequest};
use crate::signal;

use volumes::Volumes;

pub(crate) use user::{Accounts, UserError, resolve_group, resolve_user};

/// An image, with everything of it that decides how its app runs.
#[derive(Clone, Debug)]
pub(crate) struct AppImage {
    /// What is pinned.
    pub(crate) pin: ImagePin,
    /// The name of its repository, to call an app after.
    pub(crate) repository: String,
    /// Its configuration.
    pub(crate) settings: ImageSettings,
    /// Its `passwd` and `group`.
    pub(crate) accounts: Accounts,
}

/// Why request and images do not make a pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComposeError {
    #[error("image `{0}` has a name no app can be called after")]
    Unnameable(String),
    #[error("image `{image}` has an unusable environment")]
    ImageEnv { image: String, source: EnvVarError },
    #[error("image `{image}` has an unusable working directory")]
    ImageWorkdir { image: String, source: PodPathError },
    #[error("image `{image}` asks for an unknown stop signal `{signal}`")]
    ImageSignal { image: String, signal: String },
    #[error("image `{0}` has no command of its own, and none is given")]
    NoCommand(String),
    #[error("app `{app}` cannot run as `{user}`")]
    User { app: AppName, user: String, source: UserError },
    #[error("app `{app}` cannot have group `{group}`")]
    Group { app: AppName, group: String, source: UserError },
    #[error("image `{image}` has an unusable volume")]
    ImageVolume { image: String, source: PodPathError },
    #[error("image `{image}` has {count} volumes; at most {most} are possible", most = volumes::MAX_OF_IMAGE)]
    ImageVolumes { image: String, count: usize },
    #[error("volume `{0}` is described in two ways; give each its own name")]
    VolumeTwice(VolumeName),
    #[error(transparent)]
    Check(SpecError),
}

/// Composes the pod that `request` and `images`, one for each of its apps, mean. Named volumes
/// lie in `root`.
///
/// # Errors
///
/// [`ComposeError`], naming app or image.
pub(crate) fn compose(
    name: Option<&PodName>,
    request: &PodRequest,
    images: &[AppImage],
    root: &Path,
) -> Result<PodSpec, ComposeError> {
    let mut volumes = Volumes::beneath(root);
    let hostname = own_hostname(&request.stage1, request.hostname.as_ref().or(name));
    let apps = request
        .apps
        .iter()
        .zip(images)
        .map(|(app, image)| compose_app(app, image, hostname, &mut volumes))
        .collect::<Result<Vec<AppSpec>, ComposeError>>()?;
    let spec = PodSpec {
        version: version::MANIFEST,
        name: name.cloned(),
        sandbox: Sandbox {
            hostname: request.hostname.clone(),
            stage1: request.stage1.clone(),
            userns: request.userns.unwrap_or_default(),
            network: request.network.clone().unwrap_or_default(),
            volumes: volumes.into_list(),
            apps: apps.iter().map(|app| app.name.clone()).collect(),
            exit_policy: request.exit_policy.clone(),
            labels: request.labels.clone(),
            annotations: request.annotations.clone(),
            ipc: request.ipc.unwrap_or_default(),
            sysctls: request.sysctls.clone(),
            dns: request.dns.clone(),
            hosts: request.hosts.clone(),
            insecure: request.insecure.clone(),
            unit_properties: request.unit_properties.clone(),
            resources: request.resources.clone(),
            oom_policy: request.oom_policy,
            journal: request.journal,
            scratch: request.scratch,
            layers: request.layers,
            ports: request.ports.clone(),
        },
        apps,
    };
    spec.check().map_err(ComposeError::Check)?;
    Ok(spec)
}

/// Composes an app for a pod that is there, `there` with its apps. What is new among its volumes
/// comes with it.
///
/// # Errors
///
/// [`ComposeError`], naming app or image.
pub(crate) fn compose_added(
    request: &AppRequest,
    image: &AppImage,
    there: (&PodManifest, &[AppSpec]),
    root: &Path,
) -> Result<AppSpec, ComposeError> {
    let (manifest, apps) = there;
    let PodManifest { name, sandbox, .. } = manifest;
    let of_apps = apps.iter().flat_map(|app| &app.volumes);
    let known: Vec<Volume> = sandbox.volumes.iter().chain(of_apps).cloned().collect();
    let count = known.len();
    let mut volumes = Volumes::of(root, known);
    let hostname = own_hostname(&sandbox.stage1, sandbox.hostname.as_ref().or(Some(name)));
    let mut spec = compose_app(request, image, hostname, &mut volumes)?;
    spec.volumes = volumes.into_list().split_off(count);
    let all: Vec<AppSpec> = apps.iter().chain([&spec]).cloned().collect();
    let names = all.iter().map(|app| app.name.clone()).collect();
    let sandbox = Sandbox { apps: names, ..sandbox.clone() };
    let whole = PodSpec { version: version::MANIFEST, name: None, sandbox, apps: all };
    whole.check().map_err(ComposeError::Check)?;
    Ok(spec)
}

fn compose_app(
    request: &AppRequest,
    image: &AppImage,
    hostname: Option<&PodName>,
    volumes: &mut Volumes<'_>,
) -> Result<AppSpec, ComposeError> {
    let name = match &request.name {
        Some(name) => name.clone(),
        None => AppName::from_repository(&image.repository)
            .ok_or_else(|| ComposeError::Unnameable(image.pin.reference.clone()))?,
    };
    let process = process(request, image, &name, hostname)?;
    let guarded = |list| match request.privileges.paths {
        Paths::Guarded => defaults::paths(list),
        Paths::Open => Vec::new(),
    };
    let (life, privileges) = (&request.life, &request.privileges);
    Ok(AppSpec {
        version: version::MANIFEST,
        image: image.pin.clone(),
        process,
        read_only_root: request.read_only,
        mounts: volumes.mount_all(&name, &request.mounts, image)?,
        masked_paths: guarded(defaults::MASKED),
        read_only_paths: guarded(defaults::READ_ONLY),
        pid: life.pid.unwrap_or_default(),
        restart: life.restart,
        stop: stop(request, image)?,
        readiness: life.readiness.clone(),
        log: life.log,
        labels: request.labels.clone(),
        annotations: request.annotations.clone(),
        role: life.role,
        after: life.after.clone(),
        stdio: request.process.stdio,
        reaper: life.reaper,
        writable_sys: privileges.writable_sys,
        devices: privileges.devices.clone(),
        resources: request.limits.resources.clone(),
        volumes: Vec::new(),
        credentials: request.credentials.clone(),
        sockets: request.sockets.clone(),
        name,
    })
}

fn process(
    request: &AppRequest,
    image: &AppImage,
    app: &AppName,
    hostname: Option<&PodName>,
) -> Result<Process, ComposeError> {
    let wanted = request.process.user.as_deref().or(image.settings.user.as_deref()).unwrap_or("");
    let who = resolve_user(wanted, &image.accounts).map_err(|source| ComposeError::User {
        app: app.clone(),
        user: wanted.to_owned(),
        source,
    })?;
    let mut user = who.user;
    let privileges = &request.privileges;
    for group in &privileges.groups {
        let gid = resolve_group(group, &image.accounts).map_err(|source| ComposeError::Group {
            app: app.clone(),
            group: group.clone(),
            source,
        })?;
        if !user.additional_gids.contains(&gid) {
            user.additional_gids.push(gid);
        }
    }
    user.umask = privileges.umask;
    let args = args(request, &image.settings)
        .ok_or_else(|| ComposeError::NoCommand(image.pin.reference.clone()))?;
    Ok(Process {
        args,
        env: environment(request, image, &who.home, hostname)?,
        cwd: workdir(request, image)?,
        no_new_privileges: privileges.no_new_privileges.unwrap_or(user.uid != 0),
        user,
        capabilities: privileges.capabilities.clone().unwrap_or_else(Capabilities::default_set),
        seccomp: privileges.seccomp.clone().unwrap_or_default(),
        rlimits: request.limits.rlimits.clone(),
        oom_score_adj: request.limits.oom_score_adj,
    })
}

/// docker's rule: an entrypoint given replaces the image's and silences its command; a command
/// given replaces the image's command.
fn args(request: &AppRequest, settings: &ImageSettings) -> Option<Vec<String>> {
    let (mut args, image_command) = match request.entrypoint.as_deref() {
        Some("") => (Vec::new(), false),
        Some(program) => (vec![program.to_owned()], false),
        None => (settings.entrypoint.clone(), true),
    };
    if !request.command.is_empty() {
        args.extend(request.command.iter().cloned());
    } else if image_command {
        args.extend(settings.cmd.iter().cloned());
    }
    args.first().is_some_and(|program| !program.is_empty()).then_some(args)
}

fn environment(
    request: &AppRequest,
    image: &AppImage,
    home: &str,
    hostname: Option<&PodName>,
) -> Result<Vec<EnvVar>, ComposeError> {
    let refused = |source| ComposeError::ImageEnv { image: image.pin.reference.clone(), source };
    let mut vars = Vec::new();
    for text in [defaults::PATH, defaults::CONTAINER, &format!("HOME={home}")] {
        set(&mut vars, EnvVar::parse(text).map_err(refused)?);
    }
    if request.process.stdio == Stdio::Terminal {
        set(&mut vars, EnvVar::parse(defaults::TERM).map_err(refused)?);
    }
    if let Some(hostname) = hostname {
        set(&mut vars, hostname_var(hostname));
    }
    for text in &image.settings.env {
        set(&mut vars, EnvVar::parse(text).map_err(refused)?);
    }
    for var in &request.process.env {
        set(&mut vars, var.clone());
    }
    Ok(vars)
}

/// Returns the hostname of a pod, unless that is the host's: a pod without walls has none.
fn own_hostname<'n>(stage1: &str, hostname: Option<&'n PodName>) -> Option<&'n PodName> {
    hostname.filter(|_| stage1 != FLY)
}

/// Returns the variable that tells programs the name of their host, as docker does.
fn hostname_var(hostname: &PodName) -> EnvVar {
    EnvVar::parse(&format!("HOSTNAME={hostname}")).expect("a name holds no NUL byte")
}

/// Tells the apps of a pod its hostname, where they have not been told: the name of a pod may be
/// made up only when the pod is laid out.
pub(crate) fn tell_hostname(apps: &mut [AppSpec], name: &PodName, sandbox: &Sandbox) {
    let hostname = sandbox.hostname.as_ref().or(Some(name));
    let Some(var) = own_hostname(&sandbox.stage1, hostname).map(hostname_var) else { return };
    for app in apps {
        if !app.process.env.iter().any(|other| other.name() == var.name()) {
            app.process.env.push(var.clone());
        }
    }
}

/// Sets a variable in place of one of the same name.
pub(crate) fn set(vars: &mut Vec<EnvVar>, var: EnvVar) {
    match vars.iter_mut().find(|old| old.name() == var.name()) {
        Some(old) => *old = var,
        None => vars.push(var),
    }
}

fn workdir(request: &AppRequest, image: &AppImage) -> Result<PodPath, ComposeError> {
    if let Some(path) = &request.process.workdir {
        return Ok(path.clone());
    }
    // The image-spec wants it absolute; docker takes it relative to the root.
    let word = format!("/{}", image.settings.working_dir.as_deref().unwrap_or(""));
    PodPath::parse(&word)
        .map_err(|source| ComposeError::ImageWorkdir { image: image.pin.reference.clone(), source })
}

fn stop(request: &AppRequest, image: &AppImage) -> Result<Stop, ComposeError> {
    let default = Stop::default();
    let grace_ms = request.life.grace_ms.unwrap_or(default.grace_ms);
    let word = image.settings.stop_signal.as_deref().filter(|word| !word.is_empty());
    let signal = match (request.life.stop_signal, word) {
        (Some(signal), _) => signal,
        (None, None) => default.signal,
        (None, Some(word)) => signal::number(word).ok_or_else(|| ComposeError::ImageSignal {
            image: image.pin.reference.clone(),
            signal: word.chars().take(40).collect(),
        })?,
    };
    Ok(Stop { signal, grace_ms })
}

/// What a process run in an app by `pod exec` has of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExecRequest {
    /// Program and arguments.
    pub(crate) args: Vec<String>,
    /// Variables beside the app's.
    pub(crate) env: Vec<EnvVar>,
    /// Its working directory, if other than the app's.
    pub(crate) workdir: Option<PodPath>,
    /// Who it runs as, if other than the app.
    pub(crate) user: Option<(User, String)>,
    /// Whether it has a terminal.
    pub(crate) terminal: bool,
}

/// Composes a process to run in `app`: the app's own, but for what is asked otherwise.
pub(crate) fn compose_exec(request: ExecRequest, app: &AppSpec) -> Process {
    let mut process = app.process.clone();
    process.args = request.args;
    if let Some((user, home)) = request.user {
        // An app of another user than root that may gain privileges was given that by a word.
        let given = process.user.uid != 0 && !process.no_new_privileges;
        process.no_new_privileges = !given && (process.no_new_privileges || user.uid != 0);
        process.user = user;
        if let Ok(home) = EnvVar::parse(&format!("HOME={home}")) {
            set(&mut process.env, home);
        }
    }
    if request.terminal
        && !process.env.iter().any(|var| var.name() == "TERM")
        && let Ok(term) = EnvVar::parse(defaults::TERM)
    {
        set(&mut process.env, term);
    }
    for var in request.env {
        set(&mut process.env, var);
    }
    if let Some(workdir) = request.workdir {
        process.cwd = workdir;
    }
    process
}

#[cfg(test)]
mod tests;
