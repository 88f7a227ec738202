//! What OCI has no word for: annotations `org.pod.*`, each the JSON of one field.
//!
//! One structure, so that a field more is one line more; a field that says nothing new is left out.

use std::collections::{BTreeMap, HashMap};

use pod_abi::app::{
    AppSpec, ImagePin, LogOptions, MountSource, PidMode, Process, Restart, Role, Stdio, Stop,
};
use pod_abi::credential::{Credential, SocketName};
use pod_abi::readiness::Readiness;
use pod_abi::volume::Volume;
use pod_abi::{AppName, PodPath, VolumeName, version};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{BundleError, Origin, Result, Surrounded, unsupported};

/// What every annotation of ours begins with.
const PREFIX: &str = "org.pod.";

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The fields of an app, and of what surrounds it, that OCI has no word for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Unspoken {
    /// The version of the app's own document.
    version: u32,
    name: AppName,
    image: ImagePin,
    #[serde(default, skip_serializing_if = "is_default")]
    pid: Shared,
    #[serde(default, skip_serializing_if = "is_default")]
    restart: Restart,
    #[serde(default, skip_serializing_if = "is_default")]
    stop: Stop,
    #[serde(default, skip_serializing_if = "is_default")]
    readiness: Readiness,
    #[serde(default, skip_serializing_if = "is_default")]
    log: LogOptions,
    #[serde(default, skip_serializing_if = "is_default")]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_default")]
    role: Role,
    #[serde(default, skip_serializing_if = "is_default")]
    after: Vec<AppName>,
    /// Whether somebody may speak to it, without a terminal.
    #[serde(default, skip_serializing_if = "is_default")]
    open_input: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    reaper: bool,
    /// Names and origins of its secrets; never what they hold.
    #[serde(default, skip_serializing_if = "is_default")]
    credentials: Vec<Credential>,
    #[serde(default, skip_serializing_if = "is_default")]
    sockets: Vec<SocketName>,
    /// Volumes that came with the app.
    #[serde(default, skip_serializing_if = "is_default")]
    app_volumes: Vec<Volume>,
    /// The pod's volumes that it mounts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) volumes: Vec<Volume>,
    /// The user's mounts in the manifest's order, with the volume mounted there, if it is one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) mounts: Vec<(PodPath, Option<VolumeName>)>,
    /// Where on the host its devices are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) devices: Vec<(PodPath, String)>,
}

/// Whether an app in a new pid namespace shares it with its pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Shared {
    #[default]
    App,
    Pod,
}

impl Unspoken {
    /// Collects them.
    pub(super) fn of(what: &Surrounded) -> Self {
        let app = &what.app;
        let mount = |mount: &pod_abi::app::Mount| {
            let volume = match &mount.source {
                MountSource::Volume(volume) => Some(volume.clone()),
                MountSource::Tmpfs { .. } => None,
            };
            (mount.destination.clone(), volume)
        };
        Self {
            version: app.version,
            name: app.name.clone(),
            image: app.image.clone(),
            pid: if app.pid == PidMode::Pod { Shared::Pod } else { Shared::App },
            restart: app.restart,
            stop: app.stop,
            readiness: app.readiness.clone(),
            log: app.log,
            labels: app.labels.clone(),
            role: app.role,
            after: app.after.clone(),
            open_input: app.stdio == Stdio::Open,
            reaper: app.reaper,
            credentials: app.credentials.clone(),
            sockets: app.sockets.clone(),
            app_volumes: app.volumes.clone(),
            volumes: what.volumes.clone(),
            mounts: app.mounts.iter().map(mount).collect(),
            devices: app
                .devices
                .iter()
                .map(|device| (device.destination.clone(), device.source.clone()))
                .collect(),
        }
    }

    /// Returns them, and the app's own annotations.
    pub(super) fn annotations(&self, app: &AppSpec) -> Result<HashMap<String, String>> {
        let unwritable =
            |problem: String| BundleError::Unwritable { app: app.name.clone(), problem };
        if let Some(ours) = app.annotations.keys().find(|key| key.starts_with(PREFIX)) {
            return Err(unwritable(format!("has an annotation `{ours}`, which is the runtime's")));
        }
        let fields = serde_json::to_value(self).map_err(|error| unwritable(error.to_string()))?;
        let fields = fields.as_object().cloned().unwrap_or_default();
        let ours = fields.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value));
        let ours = ours.map(|(name, value)| (name, value.to_string()));
        Ok(app.annotations.clone().into_iter().chain(ours).collect())
    }

    /// Reads them, and returns the other annotations beside.
    pub(super) fn read(
        annotations: &HashMap<String, String>,
        origin: &Origin,
    ) -> Result<(Self, BTreeMap<String, String>)> {
        let mut fields = Map::new();
        let mut others = BTreeMap::new();
        for (key, text) in annotations {
            let Some(name) = key.strip_prefix(PREFIX) else {
                others.insert(key.clone(), text.clone());
                continue;
            };
            let value: Value = serde_json::from_str(text)
                .map_err(|_| unsupported(format!("annotations.{key}"), "is no JSON"))?;
            fields.insert(name.to_owned(), value);
        }
        let json = |value: std::result::Result<Value, _>| value.unwrap_or(Value::Null);
        fields.entry("version").or_insert_with(|| version::MANIFEST.into());
        fields.entry("name").or_insert_with(|| json(serde_json::to_value(&origin.name)));
        fields.entry("image").or_insert_with(|| json(serde_json::to_value(&origin.image)));
        let read = serde_json::from_value(Value::Object(fields));
        let read = read.map_err(|error| {
            unsupported(format!("annotations.{PREFIX}*"), format!("cannot be read: {error}"))
        })?;
        Ok((read, others))
    }

    /// Returns an app of these fields and `process`, with nothing around it.
    pub(super) fn app(&self, process: Process) -> AppSpec {
        AppSpec {
            version: self.version,
            name: self.name.clone(),
            image: self.image.clone(),
            process,
            read_only_root: false,
            mounts: Vec::new(),
            masked_paths: Vec::new(),
            read_only_paths: Vec::new(),
            pid: if self.pid == Shared::Pod { PidMode::Pod } else { PidMode::App },
            restart: self.restart,
            stop: self.stop,
            readiness: self.readiness.clone(),
            log: self.log,
            labels: self.labels.clone(),
            annotations: BTreeMap::new(),
            role: self.role,
            after: self.after.clone(),
            stdio: Stdio::default(),
            reaper: self.reaper,
            writable_sys: false,
            devices: Vec::new(),
            resources: pod_abi::isolators::Resources::default(),
            volumes: self.app_volumes.clone(),
            credentials: self.credentials.clone(),
            sockets: self.sockets.clone(),
        }
    }

    /// Returns how the app is spoken to.
    pub(super) fn stdio(&self, terminal: bool) -> Result<Stdio> {
        match (terminal, self.open_input) {
            (true, true) => Err(unsupported(
                format!("annotations.{PREFIX}open-input"),
                "contradicts `process.terminal`",
            )),
            (true, false) => Ok(Stdio::Terminal),
            (false, true) => Ok(Stdio::Open),
            (false, false) => Ok(Stdio::Logged),
        }
    }
}
