//! Speaking to registries: the distribution protocol over blocking HTTP.
//!
//! ```text
//! Client ── manifest / head ──▶ exchange ──▶ wire ──▶ ureq + rustls
//!    └──── blob ──▶ BlobReader ──┘  │  └─ retry      (redirects, plain-HTTP rule)
//!                                 auth ── credentials (auth.json), token
//! ```
//!
//! A `Client` belongs to one registry, keeps its connections and tokens, and is shared by threads.
//! It knows no policy and no store: it hands out bytes and says what they are. Everything a
//! registry says is hostile: sizes are bounded, digests are compared, and an `Authorization` never
//! reaches another origin than the one it was made for.
//!
//! Source: OCI distribution-spec 1.1; Docker "Token Authentication Specification".

mod auth;
mod auth_file;
mod blob;
mod challenge;
mod client;
mod credentials;
mod document;
mod error;
mod exchange;
mod helper;
mod host;
mod login;
mod manifest;
mod retry;
mod tls;
mod upload;
mod wire;

pub use auth_file::AuthFile;
pub use blob::BlobReader;
pub use client::{Client, ClientOptions, TagOrDigest};
pub(crate) use document::{
    NotTaken, Sink, copy as copy_document, fetch as fetch_document, read as read_document,
};
pub use error::{Error, Kind, Place};
pub use host::{RegistryHost, RegistryHostError, Transport};
pub use login::Checked;
pub use manifest::{Fetched, MAX_MANIFEST};
pub use retry::Patience;
pub use upload::{Given, NotGiven, Upload};
