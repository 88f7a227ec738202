//! Layers that are files: an EROFS file system each, opened, held against its seal, and mounted.
//!
//! Only kernels parse them. What is mounted is the file whose seal was looked at, by its
//! descriptor, whatever its name means by then; a kernel before 6.12, which mounts no file, is
//! given a loop device over it that goes with its mount.

use std::iter;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pod_abi::Digest;
use pod_abi::manifest::Layers;
use pod_abi::stage::AppOrder;
use pod_sys::{LoopDevice, seal_of};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use supervisor::{During, Failure};

use crate::mounts;

/// The kind of file system, as `fsopen(2)` knows it.
const KIND: &str = "erofs";

/// A layer that is a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerImage {
    /// Its path beneath the directory of layers.
    pub path: String,
    /// The digest it must be sealed with, if it must be sealed.
    pub seal: Option<Digest>,
}

/// Lists the layers of `apps`, which are files, each once, in the order of the apps.
///
/// # Errors
///
/// `stage1.order` if they must be sealed and it is not said with what.
pub fn of_apps(layers: Layers, apps: &[AppOrder]) -> Result<Vec<LayerImage>, Failure> {
    let mut images: Vec<LayerImage> = Vec::new();
    for app in apps {
        if layers == Layers::Sealed && app.seals.len() != app.layers.len() {
            let what = format!("app `{}` has layers without a seal", app.spec.name);
            return Err(Failure::new(what).code("stage1.order"));
        }
        let seals = app.seals.iter().cloned().map(Some).chain(iter::repeat(None));
        for (path, seal) in app.layers.iter().zip(seals) {
            if !images.iter().any(|image| image.path == *path) {
                images.push(LayerImage { path: path.clone(), seal });
            }
        }
    }
    Ok(images)
}

/// Opens the image of a layer beneath the directory of layers, and returns it with its length in
/// bytes. With a `seal` it is one the kernel keeps from changing, and has that digest.
///
/// # Errors
///
/// `image.file` if it is no file, `image.seal` if it is sealed otherwise or not at all.
pub fn open_image(
    directory: BorrowedFd<'_>,
    image: &LayerImage,
) -> Result<(OwnedFd, u64), Failure> {
    let LayerImage { path: layer, seal } = image;
    let opening = || format!("cannot open layer `{layer}`");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(directory, layer.as_str(), flags, Mode::empty(), beneath).during(opening)?;
    let stat = fstat(&file).during(opening)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        // SECURITY: never anything else, least of all a device of the host (CVE-2026-24054).
        return Err(Failure::new(format!("layer `{layer}` is no file")).code("image.file"));
    }
    if let Some(seal) = seal {
        let found = seal_of(file.as_fd()).during(opening)?;
        let found = found.and_then(|hash| Digest::from_hash(&hash).ok());
        if found.as_ref() != Some(seal) {
            let is =
                found.map_or("not sealed".to_owned(), |found| format!("sealed with `{found}`"));
            return Err(Failure::new(format!(
                "layer `{layer}` is {is}, and `{seal}` was promised"
            ))
            .code("image.seal")
            .hint("the next start makes it anew"));
        }
    }
    Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
}

/// Mounts an image, detached and read-only.
pub(crate) fn mount(directory: BorrowedFd<'_>, image: &LayerImage) -> Result<OwnedFd, Failure> {
    let (file, _) = open_image(directory, image)?;
    let layer = &image.path;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mounted = match mounts::of_source(KIND, &path) {
        Err(Errno::NOTBLK) => {
            let device = LoopDevice::of(file.as_fd())
                .during(|| format!("cannot make layer `{layer}` a block device, loop(4)"))?;
            mounts::of_source(KIND, device.path())
        }
        mounted => mounted,
    };
    mounted.during(|| format!("cannot mount layer `{layer}`, fsmount({KIND})")).map_err(|failure| {
        failure.code("image.mount").hint(
            "the kernel needs `erofs`, which `modprobe erofs` may bring; without `--layers` no pod in namespaces needs it",
        )
    })
}
