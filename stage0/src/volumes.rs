//! The volumes of the host that a pod is to mount: making named ones, refusing those not there.

use std::fs;
use std::path::Path;

use pod_abi::layout;
use pod_abi::volume::{Volume, VolumeSource};

use crate::error::{CommandError, Result};
use crate::named_volumes::{Hold, NamedVolumes};

/// Makes the named ones of a pod's volumes, and refuses those of the host that are not there.
/// Returns what keeps named ones from being removed until the pod itself does, by its manifest.
///
/// # Errors
///
/// `volume.not-found`, or `storage`.
pub(crate) fn check(volumes: &[Volume], root: &Path) -> Result<Option<NamedVolumes>> {
    let named = root.join(layout::VOLUMES);
    let mut held = None;
    for volume in volumes {
        let VolumeSource::Host { path, .. } = &volume.source else { continue };
        let path = Path::new(path);
        if path.parent() == Some(&named) {
            let all = match held.take() {
                Some(all) => all,
                None => NamedVolumes::hold(root, Hold::Use)?,
            };
            if let Some(name) = all.name_of(path) {
                all.make(&name)?;
            }
            held = Some(all);
        }
        if let Err(error) = fs::metadata(path) {
            return Err(CommandError::new(
                "volume.not-found",
                format!("there is nothing to mount at `{}` of this host", path.display()),
            )
            .because(&error)
            .hint(format!("`mkdir -p {}` makes an empty directory", path.display())));
        }
    }
    Ok(held)
}
