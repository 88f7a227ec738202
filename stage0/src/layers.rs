//! Layers in the form a stage1 takes: directories, or disk images, which are made when the first
//! pod wants them.
//!
//! What takes long is done where somebody sees it: `run`, `prepare` and `app add` make images before
//! anything of the pod is made; a start finds them, and makes what was lost meanwhile.

use images::Store;
use pod_abi::app::ImagePin;
use pod_abi::manifest::PodSpec;

use crate::error::{CommandError, Result};
use crate::stage1::{self, Stage1};
use crate::ui::Telling;
use crate::{fetch, pulling};

/// Names the layers of an image beneath the store's directory of layers, lowest first, as `stage1`
/// takes them; the caller keeps them from gc.
///
/// # Errors
///
/// `image.…`
pub(crate) fn of(
    store: &Store,
    stage1: &Stage1,
    pin: &ImagePin,
    telling: Telling,
) -> Result<Vec<String>> {
    let named = if stage1.takes_images() {
        store.layer_images(&pin.layers, &pulling::Progress::new(telling))
    } else {
        store.layer_paths(&pin.layers)
    };
    named.map_err(|error| fetch::failed(&error))
}

/// Sees to it that the stage1 of a pod is there, takes what the pod asks for, and finds its layers
/// as it takes them.
///
/// # Errors
///
/// `stage1.…` or `image.…`; nothing of the pod has been made.
pub(crate) fn ready(store: &Store, spec: &PodSpec, telling: Telling) -> Result<()> {
    let stage1 = stage1::find(&spec.sandbox.stage1)?;
    check(&stage1, spec.sandbox.scratch)?;
    if stage1.takes_images() {
        for app in &spec.apps {
            of(store, &stage1, &app.image, telling)?;
        }
    }
    Ok(())
}

/// Refuses a scratch disk where there is nothing to attach it to: what takes layers as directories
/// is no machine.
///
/// # Errors
///
/// `stage1.scratch`
pub(crate) fn check(stage1: &Stage1, scratch: Option<u64>) -> Result<()> {
    if scratch.is_none() || stage1.takes_images() {
        return Ok(());
    }
    let sentence = format!("stage1 `{}` gives no pod a disk of its own", stage1.name);
    Err(CommandError::new("stage1.scratch", sentence)
        .hint("`--scratch` is for pods in a virtual machine: `--stage1 kvm`"))
}
