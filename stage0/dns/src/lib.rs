//! Names of pods for pods: a small server that answers for the pods of this host, and passes every
//! other question on to the resolvers of the host.
//!
//! ```text
//!   bytes ──▶ Query ──▶ answer ──▶ Verdict::Reply ──────────────▶ bytes
//!   (wire)    (message)  (pure)  └▶ Verdict::Forward ─▶ upstream ─▶ bytes
//! ```
//!
//! Everything that arrives is a stranger's: clients are pods, and resolvers are somebody else's
//! machines. So messages are bounded and parsed by hand into borrowed slices, an answer counts only
//! if it repeats the question and comes from whom was asked, and no client can hold more than its
//! share of what is under way (`flight`). Who is called what is told by a [`Directory`]; this crate
//! does not know what a pod is.
#![forbid(unsafe_code)]

pub mod answer;
mod flight;
pub mod message;
pub mod resolvers;
mod server;
mod upstream;

pub use answer::{DOMAIN, Directory, Named};
pub use resolvers::Resolvers;
pub use server::{Listener, Server};
