//! The volumes of the host that a pod is to mount: making named ones, refusing those not there.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use pod_abi::layout;
use pod_abi::manifest::Sandbox;
use pod_abi::volume::VolumeSource;

use crate::error::{CommandError, Context as _, Result};

/// Makes the named volumes of a pod, and refuses those of the host that are not there.
///
/// # Errors
///
/// `volume.not-found`, or `storage`.
pub(crate) fn check(sandbox: &Sandbox, root: &Path) -> Result<()> {
    let named = root.join(layout::VOLUMES);
    for volume in &sandbox.volumes {
        let VolumeSource::Host { path, .. } = &volume.source else { continue };
        let path = Path::new(path);
        if path.parent() == Some(&named) {
            make_named_volume(&named, path)
                .context(|| format!("cannot make volume `{}`", path.display()))?;
        }
        match fs::metadata(path) {
            Ok(_) => {}
            Err(error) => {
                return Err(CommandError::new(
                    "volume.not-found",
                    format!("there is nothing to mount at `{}` of this host", path.display()),
                )
                .because(&error)
                .hint(format!("`mkdir -p {}` makes an empty directory", path.display())));
            }
        }
    }
    Ok(())
}

/// Makes the directory of a named volume, for every user of a pod to pass, whatever our mask.
fn make_named_volume(all: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(all)?;
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
