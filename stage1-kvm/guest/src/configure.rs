//! Laying out what a pod stands on, as the host tells.
//!
//! ```text
//!   /layers/NAME     a layer: an EROFS file system on the disk of images, read-only
//!   /pod             writable layers and volumes of the pod's own: memory, or the second disk
//!   /shares/VOLUME   a directory of the host, or one that holds a file of it
//!   /run/pod         where trees are laid out
//! ```
//!
//! All of it is of this process's root, which no app ever sees: `namespaces` clones from it what an
//! app is to have.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::OwnedFd;

use pod_abi::guest::{Configure, Extent, SHARES, Scratch, Share};
use pod_abi::{AppName, layout, version};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use supervisor::{During, Failure};

use crate::leftovers;
use crate::machine::{Group, Machine};
use crate::secrets::bytes_of;

const LAYERS: &str = "/layers";
/// Where writable layers lie.
pub(crate) const POD: &str = "/pod";
const RUN: &str = "/run/pod";
/// What apps have written that are no more, until it is removed.
const GONE: &str = "/pod/gone";

/// How much of the memory writable layers and volumes of the pod's own may take where there is no
/// second disk: what tmpfs has by itself, said here so that it is a promise. The rest is for what
/// runs; a write beyond it fails with ENOSPC, as on a disk that is full.
const OF_MEMORY: &str = "size=50%,mode=0755";

/// What has been laid out and may change while the pod lives.
#[derive(Debug, Default)]
pub(crate) struct Laid {
    layers: BTreeMap<String, Extent>,
}

/// The directories a pod stands on.
#[derive(Debug)]
pub(crate) struct Directories {
    /// Writable layers and volumes of the pod's own.
    pub(crate) pod: OwnedFd,
    /// Over which trees are laid out.
    pub(crate) run: OwnedFd,
    /// Beneath which layers are mounted.
    pub(crate) layers: OwnedFd,
}

/// Lays out what the order needs.
///
/// # Errors
///
/// What could not be done; the guest is good for nothing then.
pub(crate) fn lay_out(
    machine: &impl Machine,
    configure: &Configure,
) -> Result<(Laid, Directories), Failure> {
    if configure.version != version::GUEST {
        let what = format!(
            "the host speaks version {} of the guest protocol, this guest version {}",
            configure.version,
            version::GUEST
        );
        return Err(Failure::new(what).hint("run `stage1-kvm setup`"));
    }
    let entropy = bytes_of(&configure.entropy);
    let entropy = entropy.ok_or_else(|| Failure::new("the entropy is no row of digits"))?;
    machine.begin(configure.now, &entropy)?;
    if !configure.links.is_empty() {
        machine.load(Group::Network)?;
    }
    for place in [LAYERS, POD, RUN, SHARES] {
        make_directories(place)?;
    }
    match configure.scratch {
        Scratch::Memory => mount_memory()?,
        Scratch::Disk => {
            machine.load(Group::Scratch)?;
            mount_disk(&machine.scratch()?)?;
            leftovers::resume(GONE)?;
        }
    }
    let mut laid = Laid::default();
    laid.mount_layers(machine, &configure.layers)?;
    if !configure.shares.is_empty() {
        machine.load(Group::Shares)?;
    }
    for Share { volume, tag, read_only } in &configure.shares {
        let place = format!("{SHARES}/{volume}");
        make_directories(&place)?;
        machine.share(tag, &place, *read_only)?;
    }
    for app in &configure.order.apps {
        make_app_directory(&app.spec.name)?;
    }
    Ok((laid, Directories { pod: open(POD)?, run: open(RUN)?, layers: open(LAYERS)? }))
}

impl Laid {
    /// Mounts the layers that are not mounted yet.
    pub(crate) fn mount_layers(
        &mut self,
        machine: &impl Machine,
        layers: &BTreeMap<String, Extent>,
    ) -> Result<(), Failure> {
        for (name, extent) in layers {
            match self.layers.get(name) {
                Some(there) if there == extent => continue,
                Some(_) => return Err(Failure::new(format!("layer `{name}` has moved"))),
                None => {}
            }
            let place = layer_path(name)?;
            make_directories(&place)?;
            let image = machine.image(*extent)?;
            let flags = MountFlags::RDONLY | MountFlags::NODEV;
            mount(image.as_str(), place.as_str(), "erofs", flags, None)
                .during(|| format!("cannot mount layer `{name}`, mount(erofs)"))
                .map_err(|failure| failure.code("image.layer"))?;
            self.layers.insert(name.clone(), *extent);
        }
        Ok(())
    }

    /// Lets go of the layers that are not among `used`, as far as nobody else holds them.
    pub(crate) fn keep_layers(&mut self, machine: &impl Machine, used: &BTreeSet<String>) {
        let gone = self.layers.extract_if(.., |name, _| !used.contains(name));
        for (name, extent) in gone {
            // A tree that is still being taken down has a mount of its own.
            if let Ok(place) = layer_path(&name) {
                let _ = unmount(place.as_str(), UnmountFlags::DETACH);
            }
            machine.forget_image(extent);
        }
    }
}

/// Makes the directory that an app's writable layer lies in.
pub(crate) fn make_app_directory(app: &AppName) -> Result<(), Failure> {
    make_directories(&format!("{POD}/{}", layout::app(app)))
}

/// Takes what an app that is no more has written out of the way: one that comes later under its
/// name has none of it. It is removed while everything else goes on.
///
/// # Errors
///
/// If it is there still.
pub(crate) fn forsake_app_directory(app: &AppName) -> Result<(), Failure> {
    leftovers::set_aside(&format!("{POD}/{}", layout::app(app)), GONE)
}

/// Takes what was written to the second disk there, if there is one, and lets go of it. Whoever
/// holds [`Directories`] holds it, too.
pub(crate) fn let_go() {
    // What still removes files holds it, too.
    let _ = pod_sys::kill_children(&[]);
    if unmount(POD, UnmountFlags::empty()).is_err() {
        // A tree that is still being taken down holds it. Nothing is lost but the mark that it was
        // let go in order, which its next mount makes good.
        rustix::fs::sync();
    }
}

fn layer_path(name: &str) -> Result<String, Failure> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !name.split('/').all(plain) || name.contains('\0') {
        return Err(Failure::new(format!("`{name}` is no layer")).code("stage1.order"));
    }
    Ok(format!("{LAYERS}/{name}"))
}

fn mount_memory() -> Result<(), Failure> {
    let options = CString::new(OF_MEMORY);
    let options = options.map_err(|error| Failure::of("no options", error))?;
    mount("tmpfs", POD, "tmpfs", MountFlags::NODEV, options.as_c_str())
        .during(|| "cannot mount memory for writable layers, mount(tmpfs)")
}

fn mount_disk(disk: &str) -> Result<(), Failure> {
    mount(disk, POD, "ext4", MountFlags::NODEV | MountFlags::NOATIME, None)
        .during(|| "cannot mount the disk for writable layers, mount(ext4)")
        .map_err(|failure| failure.code("pod.scratch"))
}

/// Makes a directory and those above it, unless they are there.
fn make_directories(path: &str) -> Result<(), Failure> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    for end in ends {
        match mkdirat(CWD, &path[..end], Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).during(|| format!("cannot make `{path}`")),
        }
    }
    Ok(())
}

fn open(path: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).during(|| format!("cannot open `{path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_layer_leads_nowhere_else() {
        assert_eq!(layer_path("ab/layer.erofs").unwrap(), "/layers/ab/layer.erofs");
        for name in ["", "/", "..", "a/../b", "a//b", "./a", "/a", "a\0"] {
            assert!(layer_path(name).is_err(), "{name:?}");
        }
    }
}
