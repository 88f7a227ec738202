//! Layers in the form a stage1 takes and a pod asks for: directories, or disk images, which are
//! made when the first pod wants them.
//!
//! | `--layers` | in namespaces | in a machine |
//! |---|---|---|
//! | `plain` | directories | images |
//! | `checked` | directories, compared at each start | images, hashed at each start |
//! | `erofs` | images | images |
//! | `sealed` | images the kernel checks | images the kernel checks |
//!
//! What takes long is done where somebody sees it: `run`, `prepare` and `app add` make images before
//! anything of the pod is made; a start finds them, and makes what was lost meanwhile. Only a start
//! checks, as only what is known then counts.

use images::Store;
use pod_abi::Digest;
use pod_abi::app::{AppSpec, ImagePin};
use pod_abi::manifest::{Layers, PodSpec, Sandbox};
use pod_abi::stage::AppOrder;

use crate::error::{CommandError, Result};
use crate::stage1::{self, Stage1};
use crate::ui::Telling;
use crate::{fetch, pulling};

/// What is done to an app's layers before its stage1 is given them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    Trees,
    CheckedTrees,
    Images,
    CheckedImages,
    SealedImages,
}

impl Care {
    fn of(stage1: &Stage1, layers: Layers) -> Self {
        match (layers, stage1.takes_images()) {
            (Layers::Plain, false) => Self::Trees,
            (Layers::Checked, false) => Self::CheckedTrees,
            (Layers::Plain, true) | (Layers::Erofs, _) => Self::Images,
            (Layers::Checked, true) => Self::CheckedImages,
            (Layers::Sealed, _) => Self::SealedImages,
        }
    }
}

/// Gives an app its layers, as `stage1` and the pod want them; the caller keeps them from gc.
///
/// # Errors
///
/// `image.…`: one is not there, or not what it came as.
pub(crate) fn order(
    store: &Store,
    stage1: &Stage1,
    layers: Layers,
    spec: AppSpec,
    telling: Telling,
) -> Result<AppOrder> {
    let (layers, seals) = of(store, Care::of(stage1, layers), &spec.image, telling)?;
    Ok(AppOrder { spec, layers, seals })
}

/// Names the layers of an image beneath the store's directory of layers, lowest first, and the
/// digests they are sealed with.
fn of(
    store: &Store,
    care: Care,
    pin: &ImagePin,
    telling: Telling,
) -> Result<(Vec<String>, Vec<Digest>)> {
    let (layers, worker) = (&pin.layers, fetch::worker());
    let progress = &pulling::Progress::new(telling);
    let vouched = |sealed| store.vouched_layer_images(layers, sealed, &worker, progress);
    let named = match care {
        Care::Trees => store.layer_paths(layers).map(|paths| (paths, Vec::new())),
        Care::CheckedTrees => {
            store.checked_layer_paths(layers, &worker, progress).map(|paths| (paths, Vec::new()))
        }
        Care::Images => store.layer_images(layers, progress).map(|paths| (paths, Vec::new())),
        Care::CheckedImages => vouched(false)
            .map(|images| (images.into_iter().map(|(path, _)| path).collect(), Vec::new())),
        Care::SealedImages => vouched(true).map(|images| images.into_iter().unzip()),
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
    check(&stage1, &spec.sandbox)?;
    let care = match Care::of(&stage1, spec.sandbox.layers) {
        Care::Trees | Care::CheckedTrees => return Ok(()),
        Care::CheckedImages => Care::Images,
        images => images,
    };
    spec.apps.iter().try_for_each(|app| of(store, care, &app.image, telling).map(drop))
}

/// Refuses what a stage1 does not take: a scratch disk where there is nothing to attach it to, as
/// what takes layers as directories is no machine; and images where it takes none.
///
/// # Errors
///
/// `stage1.scratch` and `stage1.layers`
pub(crate) fn check(stage1: &Stage1, sandbox: &Sandbox) -> Result<()> {
    if sandbox.scratch.is_some() && !stage1.takes_images() {
        let sentence = format!("stage1 `{}` gives no pod a disk of its own", stage1.name);
        return Err(CommandError::new("stage1.scratch", sentence)
            .hint("`--scratch` is for pods in a virtual machine: `--stage1 kvm`"));
    }
    if sandbox.layers.are_images() && !stage1.can_take_images() {
        let sentence = format!("stage1 `{}` takes layers as directories only", stage1.name);
        return Err(CommandError::new("stage1.layers", sentence)
            .hint("leave `--layers` away, or compare them at each start: `--layers checked`"));
    }
    Ok(())
}
