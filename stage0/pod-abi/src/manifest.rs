//! The sandbox of a pod: `pod.json`, and the file `pod run --spec` takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::app::{AppSpec, MAX_ID, MAX_LOG_FILES, MIN_LOG_BYTES, MountSource};
use crate::name::{AppName, PodId, PodName, VolumeName};
use crate::time::Timestamp;
use crate::version;

/// `pod.json`: a sandbox that has an id, a name and a birthday. Never changed once written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodManifest {
    /// [`version::MANIFEST`] of the writer.
    pub version: u32,
    /// The pod's id.
    pub uuid: PodId,
    /// The pod's name.
    pub name: PodName,
    /// When it was prepared.
    pub created: Timestamp,
    /// Whether the pod is removed as soon as it ends.
    pub remove: bool,
    /// What the pod is.
    pub sandbox: Sandbox,
}

/// What apps of a pod share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sandbox {
    /// The hostname; the pod's name if not given.
    #[serde(default)]
    pub hostname: Option<PodName>,
    /// The stage1 that isolates it: a name such as `ns`, or an absolute directory.
    pub stage1: String,
    /// Whether it has user ids of its own.
    #[serde(default)]
    pub userns: Userns,
    /// What network it has.
    #[serde(default)]
    pub network: Network,
    /// Volumes its apps can mount.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Its apps, in the order they are started.
    pub apps: Vec<AppName>,
    /// What ends the pod.
    #[serde(default)]
    pub exit_policy: ExitPolicy,
    /// Free words of the user.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Free words of programs.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// A whole pod before it has an id: what `pod run --dry-run` prints and `--spec` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// [`version::MANIFEST`] of the writer.
    pub version: u32,
    /// The pod's name; one is made up if not given.
    #[serde(default)]
    pub name: Option<PodName>,
    /// What apps share.
    pub sandbox: Sandbox,
    /// The apps, in the order of [`Sandbox::apps`].
    pub apps: Vec<AppSpec>,
}

/// Whether a pod has user ids of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Userns {
    /// It has: root of the pod is nobody on the host.
    #[default]
    Auto,
    /// It has not: root of the pod is root of the host, less capabilities.
    Host,
}

/// What network a pod has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A loopback interface of its own and nothing else.
    #[default]
    None,
    /// The host's.
    Host,
}

/// Something apps of a pod can mount by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// Its name in this pod.
    pub name: VolumeName,
    /// Where its content is.
    pub source: VolumeSource,
}

/// Where the content of a volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum VolumeSource {
    /// A file or directory of the host, mounts beneath it included.
    Host {
        /// Its absolute path on the host.
        path: String,
    },
    /// A directory made for this pod, which goes when the pod is removed.
    Empty {
        /// Its permission bits.
        mode: u32,
    },
}

/// What ends a pod, and with which status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ExitPolicy {
    /// The first app that fails ends it, with that app's status; otherwise it ends, with 0, when
    /// all have ended.
    #[default]
    AnyFailure,
    /// It ends when all apps have ended, with the status of the first that failed, else 0.
    All,
    /// It ends when this app has ended, with its status.
    Main(AppName),
}

/// Why a word is no exit policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no exit policy: it takes `any-failure`, `all` or `main=APP`")]
pub struct ExitPolicyError(String);

impl FromStr for ExitPolicy {
    type Err = ExitPolicyError;

    fn from_str(word: &str) -> Result<Self, ExitPolicyError> {
        let refused = || ExitPolicyError(word.chars().take(80).collect());
        match word {
            "any-failure" => Ok(Self::AnyFailure),
            "all" => Ok(Self::All),
            _ => {
                let name = word.strip_prefix("main=").ok_or_else(refused)?;
                AppName::parse(name).map(Self::Main).map_err(|_| refused())
            }
        }
    }
}

impl TryFrom<String> for ExitPolicy {
    type Error = ExitPolicyError;

    fn try_from(word: String) -> Result<Self, ExitPolicyError> {
        word.parse()
    }
}

impl From<ExitPolicy> for String {
    fn from(policy: ExitPolicy) -> Self {
        policy.to_string()
    }
}

impl fmt::Display for ExitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyFailure => f.write_str("any-failure"),
            Self::All => f.write_str("all"),
            Self::Main(app) => write!(f, "main={app}"),
        }
    }
}

/// The most apps one pod may have: a bound for everything that grows with them.
pub const MAX_APPS: usize = 64;
/// The most layers an image may have: overlayfs takes 500, less those of ours.
pub const MAX_LAYERS: usize = 400;

/// What is wrong with a pod's specification although every field of it parses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what its variant means")]
pub enum SpecError {
    #[error("version {0} of the manifest is not understood; this program understands {understood}", understood = version::MANIFEST)]
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
        if self.version != version::MANIFEST {
            return Err(SpecError::Version(self.version));
        }
        if self.apps.is_empty() {
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
        let volumes = self.sandbox.check_volumes()?;
        self.apps.iter().try_for_each(|app| app.check(&volumes))
    }
}

impl Sandbox {
    fn check_volumes(&self) -> Result<BTreeSet<&VolumeName>, SpecError> {
        let mut names = BTreeSet::new();
        for volume in &self.volumes {
            if !names.insert(&volume.name) {
                return Err(SpecError::DuplicateVolume(volume.name.clone()));
            }
            if let VolumeSource::Host { path } = &volume.source
                && !path.starts_with('/')
            {
                return Err(SpecError::RelativeVolume {
                    volume: volume.name.clone(),
                    path: path.clone(),
                });
            }
        }
        Ok(names)
    }
}

impl AppSpec {
    /// Checks everything the types of single fields cannot hold, given the pod's volumes.
    ///
    /// # Errors
    ///
    /// The first [`SpecError`] met.
    pub fn check(&self, volumes: &BTreeSet<&VolumeName>) -> Result<(), SpecError> {
        let name = || self.name.clone();
        if self.version != version::MANIFEST {
            return Err(SpecError::Version(self.version));
        }
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
        self.check_mounts(volumes)
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
        Ok(())
    }
}
