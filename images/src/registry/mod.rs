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

mod client;
mod error;
#[allow(dead_code, reason = "used by the wire, which comes next")]
mod host;
#[allow(dead_code, reason = "used by the wire, which comes next")]
mod retry;

pub use client::{BlobReader, Client, ClientOptions, Fetched, TagOrDigest};
pub use error::{Error, Kind, Place};
pub use host::{RegistryHost, RegistryHostError, Transport};
pub use retry::Patience;
