//! The volumes of a pod, collected from what its apps mount: one for each source, however many
//! apps mount it.

use std::path::Path;

use pod_abi::app::{Mount, MountSource};
use pod_abi::layout;
use pod_abi::volume::{Fill, Volume, VolumeSource};
use pod_abi::{AppName, PodPath, VolumeName};

use super::{AppImage, ComposeError};
use crate::request::{MountFrom, MountRequest};

/// The most volumes an image may ask for: each is a directory and a mount.
pub(super) const MAX_OF_IMAGE: usize = 128;

/// The permission bits of a volume that is filled from an image that has nothing there.
const MODE: u32 = 0o755;

/// Collects the volumes of a pod.
pub(super) struct Volumes<'r> {
    root: &'r Path,
    list: Vec<Volume>,
    /// What is in `list` by a name that apps share, by that name.
    shared: Vec<(VolumeName, VolumeName)>,
}

impl<'r> Volumes<'r> {
    /// Begins with none. Named volumes lie beneath `root`.
    pub(super) const fn beneath(root: &'r Path) -> Self {
        Self { root, list: Vec::new(), shared: Vec::new() }
    }

    /// Begins with the volumes of a pod that is there; those its apps share go by their names.
    pub(super) fn of(root: &'r Path, list: Vec<Volume>) -> Self {
        let is_shared = |volume: &&Volume| {
            let of_pod =
                matches!(volume.source, VolumeSource::Empty { .. } | VolumeSource::Tmpfs { .. });
            of_pod && volume.fill.is_none()
        };
        let names = list.iter().filter(is_shared).map(|volume| volume.name.clone());
        let shared = names.map(|name| (name.clone(), name)).collect();
        Self { root, list, shared }
    }

    /// Returns what was collected.
    pub(super) fn into_list(self) -> Vec<Volume> {
        self.list
    }

    /// Makes the mounts of an app: those asked for, then the image's where nothing else is
    /// mounted.
    pub(super) fn mount_all(
        &mut self,
        app: &AppName,
        requests: &[MountRequest],
        image: &AppImage,
    ) -> Result<Vec<Mount>, ComposeError> {
        let mut mounts = Vec::new();
        for request in requests {
            mounts.push(self.mount(app, request)?);
        }
        for destination in of_image(image)? {
            if !mounts.iter().any(|mount| mount.destination == destination) {
                let source = self.anonymous(app, &destination, true);
                mounts.push(Mount { destination, source, read_only: false, no_exec: false });
            }
        }
        Ok(mounts)
    }

    fn mount(&mut self, app: &AppName, request: &MountRequest) -> Result<Mount, ComposeError> {
        let destination = &request.destination;
        let fill =
            |wanted: bool| wanted.then(|| Fill { app: app.clone(), path: destination.clone() });
        let source = match &request.source {
            MountFrom::Tmpfs { name: None, size, mode } => {
                MountSource::Tmpfs { size: *size, mode: *mode }
            }
            MountFrom::Tmpfs { name: Some(name), size, mode } => {
                self.shared(name, VolumeSource::Tmpfs { size: *size, mode: *mode })?
            }
            MountFrom::Empty { name, mode, owner: (uid, gid) } => {
                let source = VolumeSource::Empty { mode: *mode, uid: *uid, gid: *gid };
                match name {
                    Some(name) => self.shared(name, source)?,
                    None => MountSource::Volume(self.add(None, "empty", source, None)),
                }
            }
            MountFrom::Anonymous { fill } => self.anonymous(app, destination, *fill),
            MountFrom::Host { path, without_submounts } => {
                let (path, without_submounts) = (path.clone(), *without_submounts);
                self.of_host(None, VolumeSource::Host { path, without_submounts }, None)
            }
            MountFrom::Named { name, fill: wanted } => {
                let path = self.root.join(layout::VOLUMES).join(name.as_str());
                let path = path.display().to_string();
                let source = VolumeSource::Host { path, without_submounts: false };
                self.of_host(Some(name), source, fill(*wanted))
            }
        };
        Ok(Mount {
            destination: destination.clone(),
            source,
            read_only: request.read_only,
            no_exec: request.no_exec,
        })
    }

    fn anonymous(&mut self, app: &AppName, destination: &PodPath, fill: bool) -> MountSource {
        let fill = fill.then(|| Fill { app: app.clone(), path: destination.clone() });
        let source = VolumeSource::Empty { mode: MODE, uid: 0, gid: 0 };
        MountSource::Volume(self.add(None, "volume", source, fill))
    }

    /// Returns the volume at a path of the host; the first app that would fill it does.
    fn of_host(
        &mut self,
        name: Option<&VolumeName>,
        source: VolumeSource,
        fill: Option<Fill>,
    ) -> MountSource {
        if let Some(volume) = self.list.iter_mut().find(|volume| volume.source == source) {
            volume.fill = volume.fill.take().or(fill);
            return MountSource::Volume(volume.name.clone());
        }
        MountSource::Volume(self.add(name, "host", source, fill))
    }

    /// Returns the volume of this pod that apps call `name`.
    fn shared(
        &mut self,
        name: &VolumeName,
        source: VolumeSource,
    ) -> Result<MountSource, ComposeError> {
        if let Some((_, known)) = self.shared.iter().find(|(shared, _)| shared == name) {
            let same = |volume: &Volume| volume.name == *known && volume.source == source;
            return match self.list.iter().any(same) {
                true => Ok(MountSource::Volume(known.clone())),
                false => Err(ComposeError::VolumeTwice(name.clone())),
            };
        }
        let made = self.add(Some(name), "empty", source, None);
        self.shared.push((name.clone(), made.clone()));
        Ok(MountSource::Volume(made))
    }

    /// Adds a volume by `name` if that is free, else by a name made of `stem`.
    fn add(
        &mut self,
        name: Option<&VolumeName>,
        stem: &str,
        source: VolumeSource,
        fill: Option<Fill>,
    ) -> VolumeName {
        let taken = |name: &VolumeName| self.list.iter().any(|volume| volume.name == *name);
        let made_up = || {
            (0..)
                .map(|n| VolumeName::parse(&format!("{stem}-{n}")).expect("a label"))
                .find(|n| !taken(n))
        };
        let name = name.filter(|name| !taken(name)).cloned().or_else(made_up);
        let name = name.expect("there are more numbers than volumes");
        self.list.push(Volume { name: name.clone(), source, fill });
        name
    }
}

/// Reads where an image wants volumes. The image-spec wants absolute paths; docker takes others
/// relative to the root.
fn of_image(image: &AppImage) -> Result<Vec<PodPath>, ComposeError> {
    let words = &image.settings.volumes;
    let named = || image.pin.reference.clone();
    if words.len() > MAX_OF_IMAGE {
        return Err(ComposeError::ImageVolumes { image: named(), count: words.len() });
    }
    let mut paths: Vec<PodPath> = Vec::new();
    for word in words {
        let path = PodPath::parse(&format!("/{word}"))
            .map_err(|source| ComposeError::ImageVolume { image: named(), source })?;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    Ok(paths)
}
