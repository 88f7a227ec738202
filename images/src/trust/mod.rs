//! Which images may run: what the administrator asks of them, and whether they have it.
//!
//! ```text
//! policy.json ──▶ Policy ──▶ for this image, the requirements of the narrowest scope
//!                                       │
//! keys, signatures ─────────────────────┴──▶ judge ──▶ Verified, or why not
//! ```
//!
//! The file is that of `containers-policy.json(5)`, which podman, skopeo and CRI-O read, too. It is
//! read strictly: an unknown key, the same key twice or an empty list of requirements refuses the
//! whole file, as a typing error must not make a policy laxer. What it asks for and we cannot check
//! is refused, never passed over.
//!
//! Nothing here opens a connection: signatures are brought by whoever fetches.

mod claim;
mod cosign;
mod error;
mod identity;
mod judge;
mod key_file;
mod keys;
mod named;
mod openpgp;
mod policy;
mod scope;
mod sign;

pub use claim::{Claim, Kind};
pub use cosign::{
    Attachment, BUNDLE, SIMPLE_SIGNING, attachments, bundle_of, bundled, bundles_among,
    referrers_tag_of, tag_of,
};
pub use error::TrustError;
pub use identity::Identity;
pub use judge::{Evidence, Refusal, Signed, Verified, judge};
pub use key_file::{KeyFacts, KeyFile, KeyPlace};
pub use keys::{KeySource, PublicKey};
pub use named::Named;
pub use openpgp::{Keyring, Opened};
pub use policy::{
    Beyond, MAX_POLICY, Policy, Requirement, Requirements, SignedBy, Sigstore, Where,
};
pub(crate) use scope::FileKind;
pub use scope::Subject;
pub use sign::{SignatureDocuments, SigningKey, signed};
