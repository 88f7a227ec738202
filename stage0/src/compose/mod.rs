//! Request + images → [`PodSpec`]: the one place where a user's words, an image's configuration
//! and our defaults meet.
//!
//! Pure: what must be read from images (their settings, `passwd` and `group`) comes in with
//! [`AppImage`], and nothing is looked up on the host. The rules are docker's, because images are
//! written for them; what an image says never reaches beyond its own app.

mod defaults;
mod signal;
mod user;

use std::path::Path;

use images::ImageSettings;
use pod_abi::app::{
    AppSpec, EnvVar, EnvVarError, ImagePin, Mount, MountSource, PidMode, Process, Stop, User,
};
use pod_abi::check::SpecError;
use pod_abi::isolators::Seccomp;
use pod_abi::layout;
use pod_abi::manifest::{PodSpec, Sandbox};
use pod_abi::path::PodPathError;
use pod_abi::readiness::Readiness;
use pod_abi::version;
use pod_abi::volume::{Volume, VolumeSource};
use pod_abi::{AppName, PodName, PodPath, VolumeName};

use crate::request::{AppRequest, MountFrom, MountRequest, PodRequest};

pub(crate) use user::{Accounts, UserError, resolve_user};

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
    let mut volumes = Volumes { root, list: Vec::new() };
    let apps = request
        .apps
        .iter()
        .zip(images)
        .map(|(app, image)| compose_app(app, image, &mut volumes))
        .collect::<Result<Vec<AppSpec>, ComposeError>>()?;
    let spec = PodSpec {
        version: version::MANIFEST,
        name: name.cloned(),
        sandbox: Sandbox {
            hostname: request.hostname.clone(),
            stage1: request.stage1.clone(),
            userns: request.userns,
            network: request.network,
            volumes: volumes.list,
            apps: apps.iter().map(|app| app.name.clone()).collect(),
            exit_policy: request.exit_policy.clone(),
            labels: request.labels.clone(),
            annotations: [].into(),
            ipc: Default::default(),
            sysctls: [].into(),
            dns: None,
            hosts: Vec::new(),
            insecure: [].into(),
        },
        apps,
    };
    spec.check().map_err(ComposeError::Check)?;
    Ok(spec)
}

fn compose_app(
    request: &AppRequest,
    image: &AppImage,
    volumes: &mut Volumes<'_>,
) -> Result<AppSpec, ComposeError> {
    let named = || image.pin.reference.clone();
    let name = match &request.name {
        Some(name) => name.clone(),
        None => AppName::from_repository(&image.repository)
            .ok_or_else(|| ComposeError::Unnameable(named()))?,
    };
    let wanted = request.user.as_deref().or(image.settings.user.as_deref()).unwrap_or("");
    let who = resolve_user(wanted, &image.accounts).map_err(|source| ComposeError::User {
        app: name.clone(),
        user: wanted.to_owned(),
        source,
    })?;
    let process = Process {
        args: args(request, &image.settings).ok_or_else(|| ComposeError::NoCommand(named()))?,
        env: environment(request, image, &who.home)?,
        cwd: workdir(request, image)?,
        no_new_privileges: who.user.uid != 0,
        user: who.user,
        capabilities: request.capabilities.clone(),
        seccomp: Seccomp::Default,
        rlimits: Vec::new(),
        oom_score_adj: None,
    };
    Ok(AppSpec {
        version: version::MANIFEST,
        name,
        image: image.pin.clone(),
        process,
        read_only_root: request.read_only,
        mounts: request.mounts.iter().map(|mount| volumes.mount(mount)).collect(),
        masked_paths: defaults::paths(defaults::MASKED),
        read_only_paths: defaults::paths(defaults::READ_ONLY),
        pid: PidMode::App,
        restart: request.restart,
        stop: stop(image)?,
        readiness: Readiness::Started,
        log: Default::default(),
        labels: [].into(),
        annotations: [].into(),
        role: Default::default(),
        after: Vec::new(),
        stdio: Default::default(),
        reaper: false,
        writable_sys: false,
        devices: Vec::new(),
        resources: Default::default(),
        volumes: Vec::new(),
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
) -> Result<Vec<EnvVar>, ComposeError> {
    let refused = |source| ComposeError::ImageEnv { image: image.pin.reference.clone(), source };
    let mut vars = Vec::new();
    for text in [defaults::PATH, defaults::CONTAINER, &format!("HOME={home}")] {
        set(&mut vars, EnvVar::parse(text).map_err(refused)?);
    }
    for text in &image.settings.env {
        set(&mut vars, EnvVar::parse(text).map_err(refused)?);
    }
    for var in &request.env {
        set(&mut vars, var.clone());
    }
    Ok(vars)
}

/// Sets a variable in place of one of the same name.
pub(crate) fn set(vars: &mut Vec<EnvVar>, var: EnvVar) {
    match vars.iter_mut().find(|old| old.name() == var.name()) {
        Some(old) => *old = var,
        None => vars.push(var),
    }
}

fn workdir(request: &AppRequest, image: &AppImage) -> Result<PodPath, ComposeError> {
    if let Some(path) = &request.workdir {
        return Ok(path.clone());
    }
    // The image-spec wants it absolute; docker takes it relative to the root.
    let word = format!("/{}", image.settings.working_dir.as_deref().unwrap_or(""));
    PodPath::parse(&word)
        .map_err(|source| ComposeError::ImageWorkdir { image: image.pin.reference.clone(), source })
}

fn stop(image: &AppImage) -> Result<Stop, ComposeError> {
    let Some(word) = image.settings.stop_signal.as_deref().filter(|word| !word.is_empty()) else {
        return Ok(Stop::default());
    };
    let signal = signal::number(word).ok_or_else(|| ComposeError::ImageSignal {
        image: image.pin.reference.clone(),
        signal: word.chars().take(40).collect(),
    })?;
    Ok(Stop { signal, ..Stop::default() })
}

/// Collects the volumes of a pod: one for each source, however many apps mount it.
struct Volumes<'r> {
    root: &'r Path,
    list: Vec<Volume>,
}

impl Volumes<'_> {
    fn mount(&mut self, request: &MountRequest) -> Mount {
        let source = match &request.source {
            MountFrom::Tmpfs(size) => MountSource::Tmpfs { size: *size, mode: 0o1777 },
            MountFrom::Host(path) => MountSource::Volume(self.of(path.clone(), None)),
            MountFrom::Named(name) => {
                let path = self.root.join(layout::VOLUMES).join(name.as_str());
                MountSource::Volume(self.of(path.display().to_string(), Some(name)))
            }
        };
        let destination = request.destination.clone();
        Mount { destination, source, read_only: request.read_only, no_exec: false }
    }

    fn of(&mut self, path: String, name: Option<&VolumeName>) -> VolumeName {
        let source = VolumeSource::Host { path, without_submounts: false };
        if let Some(volume) = self.list.iter().find(|volume| volume.source == source) {
            return volume.name.clone();
        }
        let taken = |name: &VolumeName| self.list.iter().any(|volume| volume.name == *name);
        let made_up = || {
            (0..)
                .map(|n| VolumeName::parse(&format!("host-{n}")).expect("a label"))
                .find(|n| !taken(n))
        };
        let name = name.filter(|name| !taken(name)).cloned().or_else(made_up);
        let name = name.expect("there are more numbers than volumes");
        self.list.push(Volume { name: name.clone(), source, fill: None });
        name
    }
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
}

/// Composes a process to run in `app`: the app's own, but for what is asked otherwise.
pub(crate) fn compose_exec(request: ExecRequest, app: &AppSpec) -> Process {
    let mut process = app.process.clone();
    process.args = request.args;
    if let Some((user, home)) = request.user {
        process.no_new_privileges = process.no_new_privileges || user.uid != 0;
        process.user = user;
        if let Ok(home) = EnvVar::parse(&format!("HOME={home}")) {
            set(&mut process.env, home);
        }
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
