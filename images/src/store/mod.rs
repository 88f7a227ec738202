//! The store: images on disk, without a database and without a daemon.
//!
//! ```text
//! ROOT/images/            0700, one file system
//!   version               the format; a newer one is refused
//!   lock                  shared while "it exists, I will use it" is written down; exclusive in gc
//!   blobs/ALGORITHM/HEX   manifests, indexes, configurations, layers as they came
//!   layers/HEX/           meta.json, tree/: an overlay lower directory, by the layer's diffID
//!   layers/c-HEX/         the same where it depends on the layers below, by its chain id
//!   layers/…/layer.erofs  the tree once more as a file, once a virtual machine wanted it
//!   refs/HEX.json         what a name means; its mtime is the last use
//!   leases/NAME           digests in use by a living process: it holds the lock
//!   tmp/                  *.part: downloads that can be resumed; u-*: trees being unpacked;
//!                         image-*: files of trees being made
//!   trash/                where everything goes to be deleted
//! ```
//!
//! One invariant: a name in `blobs/`, `layers/` or `refs/` exists only if what it names reached the
//! disk and its digest was checked. Objects are immutable; what changes is one small file, replaced
//! by rename. A crash leaves residue in `tmp/` and `trash/`, nothing to repair.

mod blobs;
mod disk_images;
mod export;
mod files;
mod fsck;
mod gc;
mod handle;
mod layers;
mod lease;
mod merged;
mod outgoing;
mod queries;
mod quota;
mod refs;
mod staging;
mod trash;
mod write_out;

pub(crate) use blobs::{Incoming, Part};
pub use export::ExportFormat;
pub(crate) use files::beneath as open_beneath;
pub use fsck::{Finding, FsckReport};
pub use gc::{GcMode, GcOptions, GcReport};
pub use handle::Store;
pub(crate) use layers::{LayerMeta, LayerOnDisk, LayerSize};
pub use lease::Lease;
pub(crate) use merged::{Found, Merged};
pub(crate) use outgoing::{Outgoing, unsent};
pub(crate) use refs::{ImageParts, RefRecord};
pub(crate) use staging::Staging;
pub use write_out::{copy_tree, id_in_range};
