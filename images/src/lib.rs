//! Images: names, registries, verification, the store and its layers.
//!
//! ```text
//! Reference ──▶ Store::resolve ──▶ Image                       no network
//!           ├─▶ Store::pull: registry | layout ─▶ document ─▶ layer (jailed worker) ─▶ store
//!           └─▶ Store::push: store ─▶ registry
//! ```
//!
//! Knows what an image is and nothing of pods or stages; prints nothing and asks nobody. All that
//! comes from outside - registries, layouts, archives - is hostile: bounded, checked by digest,
//! refused where it could be read two ways. Whoever calls gets [`Error`] with a kind to act on.

#![forbid(unsafe_code)]

mod appc;
mod archive;
mod audit;
mod content;
mod document;
mod erofs;
mod error;
mod hash;
mod image;
pub(crate) mod layer;
mod platform;
mod progress;
mod pull;
mod push;
mod reference;
pub mod registries;
pub mod registry;
mod room;
mod store;
pub mod trust;
mod verity;
pub mod worker;

pub use appc::{AppcName, AppcNameError};
pub use erofs::write_erofs;
pub use error::{Error, ErrorKind};
pub use image::{Image, ImageDetails, ImageRecord, ImageSettings};
pub use layer::WorkerProgram;
pub use platform::{Platform, PlatformError};
pub use progress::{Event, Progress, Silent};
pub use pull::{
    Commit, Decision, Discovered, Discovery, Import, Imported, ImportedFrom, PullOptions,
    PullPolicy, SignatureWanted, decide,
};
pub use push::PushOptions;
pub use reference::{Reference, ReferenceError};
pub use registry::{Patience, Transport};
pub use store::{
    ExportFormat, Finding, FsckReport, GcMode, GcOptions, GcReport, Lease, Store, copy_tree,
    id_in_range,
};
