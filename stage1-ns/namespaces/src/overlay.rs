//! One tree from the layers of an image: overlayfs over short links.
//!
//! All options of `mount(2)` share one page, in which a few dozen paths of layers fit; so the
//! layers are linked by number in a directory of the staging area, and the mount is made from
//! there. Only names beneath the staged layers are linked, never a path of an image.

use std::ffi::CString;

use rustix::fs::{CWD, Mode, mkdirat, symlinkat};
use rustix::mount::{MountFlags, mount};
use rustix::process::chdir;
use supervisor::{During, Failure};

/// The layers of one image, and where they are linked.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    /// Whose image it is, for messages.
    pub(crate) whose: &'a str,
    /// A directory that is made in the working directory, for the links.
    pub(crate) links: &'a str,
    /// The staged layers, in the working directory.
    pub(crate) beneath: &'a str,
    /// The layers beneath that, lowest first.
    pub(crate) names: &'a [String],
}

/// Mounts the layers over `target` in the working directory. `options` follow the list of layers,
/// and name what is in the working directory from within the directory of links: as `../NAME`.
pub(crate) fn mount_layers(
    layers: &Layers<'_>,
    target: &str,
    options: &str,
    flags: MountFlags,
) -> Result<(), Failure> {
    let whose = layers.whose;
    let linking = || format!("cannot link the layers of {whose}");
    mkdirat(CWD, layers.links, Mode::from_raw_mode(0o700)).during(linking)?;
    chdir(layers.links).during(linking)?;
    let mut lower = Vec::new();
    for (number, layer) in layers.names.iter().rev().enumerate() {
        let name = number.to_string();
        let link = format!("../{}/{layer}", layers.beneath);
        symlinkat(link, CWD, &name).during(linking)?;
        lower.push(name);
    }
    let options = format!("lowerdir={}{options}", lower.join(":"));
    let options = CString::new(options)
        .map_err(|error| Failure::of(format!("a layer of {whose} holds a NUL byte"), error))?;
    let target = format!("../{target}");
    mount("overlay", &target, "overlay", flags, options.as_c_str())
        .during(|| format!("cannot mount the layers of {whose}, mount(overlay)"))?;
    chdir("..").during(linking)
}
