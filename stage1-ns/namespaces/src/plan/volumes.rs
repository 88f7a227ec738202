//! What volumes are made of, and what is mounted where in an app.

use std::slice;

use pod_abi::app::MountSource;
use pod_abi::stage::{AppOrder, Order};
use pod_abi::volume::{Fill, Volume, VolumeSource};
use pod_abi::{PodPath, VolumeName};
use supervisor::Failure;

use super::lowers;
use super::steps::{
    EmptyVolume, EtcFile, Filling, HostVolume, Limits, Memory, Shared, Staged, StagingStep,
    TreeStep, VolumeMount,
};
use crate::mounts::Depth;

const SMALLER: &str = "give it smaller ids, or run the pod with `--userns host`";

/// Returns the volumes an app can mount: the pod's and those that came with apps.
fn all(order: &Order) -> impl Iterator<Item = &Volume> {
    let of_apps = order.apps.iter().flat_map(|app| &app.spec.volumes);
    order.pod.sandbox.volumes.iter().chain(of_apps)
}

/// Returns what is to be done for volumes before any app is laid out.
///
/// # Errors
///
/// [`Failure`] if a volume is to be filled that cannot be, or from what is not there.
pub(super) fn staging(order: &Order) -> Result<Vec<StagingStep>, Failure> {
    let (mut steps, mut empty, mut fills) = (Vec::new(), Vec::new(), Vec::new());
    for volume in all(order) {
        let name = volume.name.clone();
        let mut host = None;
        match &volume.source {
            VolumeSource::Empty { mode, uid, gid } => {
                if let Some(count) = order.ids.map(|ids| ids.count).filter(|n| uid.max(gid) >= n) {
                    let owner = format!("{uid}:{gid}, and the pod has ids 0 to {}", count - 1);
                    let what = format!("volume `{name}` belongs to {owner}");
                    return Err(Failure::new(what).code("volume.owner").hint(SMALLER));
                }
                empty.push(EmptyVolume { name, mode: mode & 0o7777, owner: (*uid, *gid) });
            }
            VolumeSource::Tmpfs { size, mode } => {
                if volume.fill.is_some() {
                    let what = format!("volume `{name}` is memory, which is never filled");
                    let hint = "use a volume of the kind `empty`, or one with a name";
                    return Err(Failure::new(what).code("volume.fill").hint(hint));
                }
                let what = Shared::Volume(name);
                steps.push(StagingStep::Memory(Memory { what, size: *size, mode: mode & 0o7777 }));
            }
            VolumeSource::Host { path, without_submounts } => {
                let depth = if *without_submounts { Depth::One } else { Depth::All };
                host = Some(path.clone());
                steps.push(StagingStep::HostVolume(HostVolume { name, path: path.clone(), depth }));
            }
        }
        if let Some(fill) = &volume.fill {
            fills.push(StagingStep::Fill(filling(order, &volume.name, host, fill)?));
        }
    }
    if !empty.is_empty() {
        steps.push(StagingStep::EmptyVolumes(empty));
    }
    steps.append(&mut fills);
    Ok(steps)
}

fn filling(
    order: &Order,
    volume: &VolumeName,
    host: Option<String>,
    fill: &Fill,
) -> Result<Filling, Failure> {
    let Some(app) = order.apps.iter().find(|app| app.spec.name == fill.app) else {
        let what =
            format!("volume `{volume}` is filled from app `{}`, which is not there", fill.app);
        return Err(Failure::new(what).code("stage1.order"));
    };
    let (volume, layers, path) = (volume.clone(), app.layers.clone(), fill.path.clone());
    let lowers = lowers(order, slice::from_ref(app))?;
    Ok(Filling { volume, host, layers, lowers, path })
}

/// Returns everything mounted into an app, outer mounts first.
pub(super) fn mounts(order: &Order, app: &AppOrder) -> Result<Vec<TreeStep>, Failure> {
    let mut placed: Vec<(PodPath, TreeStep)> = Vec::new();
    let path = |text: &str| {
        PodPath::parse(text).map_err(|error| Failure::of("cannot place a file of ours", error))
    };
    placed.push((path("/dev/shm")?, TreeStep::Shm));
    for file in EtcFile::ALL {
        placed.push((path(&format!("/etc/{}", file.as_str()))?, TreeStep::File(file)));
    }
    // What the user mounts at a place of ours, or around it, replaces ours: in `-v /etc:/etc` a
    // mount point for ours would be made on the host.
    let over =
        |place: &PodPath| app.spec.mounts.iter().any(|mount| place.is_beneath(&mount.destination));
    placed.retain(|(place, _)| !over(place));
    for mount in &app.spec.mounts {
        let destination = mount.destination.clone();
        let limits = Limits { read_only: mount.read_only, no_exec: mount.no_exec };
        let step = match &mount.source {
            MountSource::Tmpfs { size, mode } => {
                let destination = destination.clone();
                TreeStep::Tmpfs { destination, size: *size, mode: *mode, limits }
            }
            MountSource::Volume(volume) => {
                let Some(known) = all(order).find(|known| known.name == *volume) else {
                    let what = format!("the pod has no volume `{volume}`");
                    return Err(Failure::new(what).code("stage1.order"));
                };
                let (destination, volume) = (destination.clone(), volume.clone());
                let staged = staged(known);
                TreeStep::Volume(VolumeMount { destination, volume, staged, limits })
            }
        };
        placed.push((destination, step));
    }
    let devices = app.spec.devices.iter();
    placed.extend(devices.map(|one| (one.destination.clone(), TreeStep::Device(one.clone()))));
    placed.sort_by_key(|(place, _)| (place.components().count(), place.clone()));
    Ok(placed.into_iter().map(|(_, step)| step).collect())
}

fn staged(volume: &Volume) -> Staged {
    match volume.source {
        VolumeSource::Empty { .. } => Staged::Empty,
        VolumeSource::Host { .. } => Staged::Host,
        VolumeSource::Tmpfs { .. } => Staged::Memory,
    }
}
