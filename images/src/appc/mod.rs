//! App Container Images (appc 0.8.11, rkt's `.aci`): what they hold, as OCI says it.
//!
//! ```text
//! file ─▶ decompressed ─▶ reroot ─▶ layer (a plain tar)
//!                            └────▶ manifest ─▶ Manifest::parse ─▶ oci_config
//! ```
//!
//! The format is frozen and its images are old, so nothing here grows: what OCI has a word for is
//! translated, the rest is kept as annotations `appc.*`, and what cannot be kept is refused. All of
//! it is hostile. Nothing here opens a file, asks a network, or runs what an image brings.

mod app;
mod compression;
mod discovery;
mod error;
mod manifest;
mod member;
mod members;
mod name;
mod oci;
mod reroot;
mod whitelist;
mod word;

pub(crate) use compression::decompressed;
pub use discovery::{AppcName, AppcNameError};
pub(crate) use discovery::{Endpoint, MAX_PAGE, PlainHttp, Said, places};
pub(crate) use error::AppcError;
pub(crate) use manifest::{Dependency, Manifest};
pub(crate) use oci::{OciConfig, oci_config};
pub(crate) use reroot::reroot;
