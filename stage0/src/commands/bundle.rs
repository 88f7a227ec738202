//! `pod bundle`: writes an app out as an OCI bundle that runc, crun and their kin run.
//!
//! ```text
//!   DIR/config.json    written last: a bundle without it is none
//!   DIR/rootfs/        the image's tree as plain files, owned by the app's ids
//!   DIR/etc/           resolv.conf, hosts, hostname
//!   DIR/volumes/NAME/  volumes that are the pod's own, as they are before its first start
//! ```
//!
//! What the app has written since lies in the pod and stays there. Nothing is mounted, nothing of
//! the pod is touched; what fails leaves nothing behind.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use pod_abi::app::MountSource;
use pod_abi::manifest::{PodManifest, Userns};
use pod_abi::volume::{Volume, VolumeSource};
use pod_abi::{AppName, layout};
use rustix::fs::{Mode, OFlags, ResolveFlags, major, minor};
use serde_json::Value;

use super::Session;
use super::subject::choose;
use crate::bundle::{self, BundleError, Node, Origin, ROOTFS, Surrounded};
use crate::cli::BundleArgs;
use crate::error::{CommandError, Context as _, Result};
use crate::pods::{Pod, Query};
use crate::request::FLY;
use crate::{fetch, host, ids, ui};

/// Writes an app out as a bundle, or prints what would be its `config.json`.
///
/// # Errors
///
/// `bundle.unsupported` for an app that OCI cannot describe, `bundle.exists`, `pod.not-found`, or
/// `storage`.
pub(crate) fn bundle(session: &Session, args: &BundleArgs) -> Result<u8> {
    let pod = session.pods.find(&Query(&args.pod))?;
    let manifest = pod.manifest()?;
    let what = surrounded(&pod, &manifest, args.app.as_deref())?;
    let document = document(&what)?;
    let Some(directory) = &args.directory else {
        return ui::json(&document).map(|()| 0);
    };
    let directory = Path::new(directory);
    make(directory, 0o755).map_err(|error| {
        let taken = error.kind() == std::io::ErrorKind::AlreadyExists;
        let code = if taken { "bundle.exists" } else { "storage" };
        let what = format!("cannot make `{}`", directory.display());
        let made = CommandError::new(code, what).because(&error);
        if taken { made.hint("name a directory that is not there yet") } else { made }
    })?;
    let written = Draft { session, manifest: &manifest, what: &what, directory }.write(&document);
    if written.is_err() {
        let _ = fs::remove_dir_all(directory); // made above, so ours; the first error counts
    }
    written.map(|()| 0)
}

/// Collects what a bundle says of an app.
fn surrounded(pod: &Pod, manifest: &PodManifest, word: Option<&str>) -> Result<Surrounded> {
    if manifest.sandbox.stage1 == FLY {
        let what =
            format!("pod `{}` has no walls, and a bundle is nothing but walls", pod.called());
        return Err(CommandError::new("bundle.unsupported", what));
    }
    let app = choose(pod, word, "--app")?;
    let sandbox = &manifest.sandbox;
    let mounts = |volume: &Volume| {
        app.mounts.iter().any(|mount| mount.source == MountSource::Volume(volume.name.clone()))
    };
    let ids = match sandbox.userns {
        Userns::Host => None,
        Userns::Auto => Some(ids::first_choice(&pod.id, &host::subordinate())?),
    };
    let nodes = app.devices.iter().map(|device| {
        let node = node(&device.source).context(|| format!("cannot look at `{}`", device.source));
        Ok((device.destination.clone(), node?))
    });
    Ok(Surrounded {
        hostname: sandbox.hostname.as_ref().unwrap_or(&manifest.name).to_string(),
        ids,
        network: sandbox.network.clone(),
        ipc: sandbox.ipc,
        sysctls: sandbox.sysctls.clone(),
        volumes: sandbox.volumes.iter().filter(|volume| mounts(volume)).cloned().collect(),
        nodes: nodes.collect::<Result<_>>()?,
        app,
    })
}

fn node(path: &str) -> std::io::Result<Node> {
    use std::os::unix::fs::FileTypeExt as _;

    let about = fs::metadata(path)?;
    let kind = about.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return Err(std::io::Error::other("it is no device node"));
    }
    let (major, minor) = (major(about.rdev()), minor(about.rdev()));
    Ok(Node { block: kind.is_block_device(), major, minor })
}

/// Returns `config.json`, which must mean the same app when it is read.
fn document(what: &Surrounded) -> Result<Value> {
    let unsupported = |error: BundleError| CommandError::of("bundle.unsupported", &error);
    let spec = bundle::write(what).map_err(unsupported)?;
    let origin = Origin { name: what.app.name.clone(), image: what.app.image.clone() };
    if bundle::read(&spec, &origin).map_err(unsupported)? != *what {
        let name = &what.app.name;
        return Err(CommandError::new(
            "bundle.unsupported",
            format!("app `{name}` would not be itself when read back from a bundle"),
        ));
    }
    bundle::json(&spec).map_err(unsupported)
}

/// A bundle being written.
struct Draft<'d> {
    session: &'d Session,
    manifest: &'d PodManifest,
    what: &'d Surrounded,
    directory: &'d Path,
}

impl Draft<'_> {
    fn write(&self, document: &Value) -> Result<()> {
        let rootfs = self.tree()?;
        let tell = || format!("cannot write to `{}`", self.directory.display());
        self.files().context(tell)?;
        let mut volumes = self.what.volumes.iter().chain(&self.what.app.volumes);
        volumes.try_for_each(|volume| self.volume(volume, &rootfs))?;
        let mut text = serde_json::to_vec_pretty(document).context(tell)?;
        text.push(b'\n');
        fs::write(self.directory.join("config.json"), text).context(tell)
    }

    fn first_id(&self) -> u32 {
        self.what.ids.map_or(0, |ids| ids.base)
    }

    /// Writes the image's tree.
    fn tree(&self) -> Result<OwnedFd> {
        let path = self.directory.join(ROOTFS);
        let tell = || format!("cannot make `{}`", path.display());
        make(&path, 0o755).context(tell)?;
        let rootfs = open(&path).context(tell)?;
        let store = self.session.store()?;
        let layers = &self.what.app.image.layers;
        let written = store.write_tree(layers, rootfs.as_fd(), self.first_id());
        written.map_err(|error| fetch::failed(&error))?;
        Ok(rootfs)
    }

    /// Writes the files every app is given.
    fn files(&self) -> std::io::Result<()> {
        let etc = self.directory.join("etc");
        make(&etc, 0o755)?;
        let files = [
            ("resolv.conf", host::resolv_conf(self.manifest)),
            ("hosts", host::hosts(self.manifest)),
            ("hostname", format!("{}\n", self.what.hostname)),
        ];
        for (name, text) in files {
            let path = etc.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
            chown(&path, Some(self.first_id()), Some(self.first_id()))?;
        }
        Ok(())
    }

    /// Makes a volume that is the pod's own as its first start would.
    fn volume(&self, volume: &Volume, rootfs: &OwnedFd) -> Result<()> {
        let VolumeSource::Empty { mode, uid, gid } = &volume.source else { return Ok(()) };
        let path = self.directory.join(layout::volume(&volume.name));
        let tell = || format!("cannot make volume `{}`", volume.name);
        let made = || -> std::io::Result<()> {
            fs::create_dir_all(self.directory.join(layout::VOLUMES))?;
            make(&path, *mode)?;
            let moved = |id: &u32| Some(images::id_in_range(*id, self.first_id()));
            chown(&path, moved(uid), moved(gid))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode))
        };
        made().context(tell)?;
        let Some(fill) = &volume.fill else { return Ok(()) };
        self.check_fill(&volume.name.to_string(), &fill.app)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let from = rustix::fs::openat2(rootfs, fill.path.relative(), flags, Mode::empty(), within);
        match from {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(()),
            Err(error) => Err(error).context(tell),
            Ok(from) => {
                let to = open(&path).context(tell)?;
                images::copy_tree(from, to.as_fd()).context(tell)
            }
        }
    }

    fn check_fill(&self, volume: &str, app: &AppName) -> Result<()> {
        if *app == self.what.app.name {
            return Ok(());
        }
        Err(CommandError::new(
            "bundle.unsupported",
            format!("volume `{volume}` is filled from app `{app}`, which is not in this bundle"),
        ))
    }
}

/// Makes a directory that is not there yet.
fn make(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_told_by_its_numbers() {
        let null = node("/dev/null").unwrap();
        assert_eq!(null, Node { block: false, major: 1, minor: 3 });
        assert!(node("/").is_err());
    }
}
