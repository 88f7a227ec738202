//! What the administrator says of registries: where images really lie, what is blocked, what a short
//! name stands for, and where signatures are kept beside a registry.
//!
//! ```text
//! registries.conf, registries.conf.d/*.conf ──▶ Registries ──▶ places of a repository | Blocked
//! short-name-aliases.conf ─────────────────▶               ──▶ Meaning of a word: its candidates
//! registries.d/*.yaml ───────────────────────▶ Lookasides ──▶ base URL ──▶ signature_url
//! ```
//!
//! The files are those of `containers-registries.conf(5)`, version 2, and `containers-registries.d(5)`,
//! which podman, skopeo and CRI-O read, too. They are read strictly: an unknown key or a name that
//! could never match refuses the whole file, as a typing error must not unblock a registry.
//!
//! Nothing here opens a connection or asks anybody; beside the functions that load, nothing
//! touches a file.

mod aliases;
mod conf;
mod document;
mod entry;
mod error;
mod files;
mod lookaside;
mod meaning;
mod prefix;
mod sections;
mod table;

pub use aliases::{ShortName, ShortNameMode};
pub use conf::Registries;
pub use entry::{Blocked, By, Place};
pub use error::RegistriesError;
pub use files::MAX_FILE;
pub use lookaside::{Lookasides, signature_url};
pub use meaning::Meaning;
