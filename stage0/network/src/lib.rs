//! The built-in networks of pods, `default` and `default-restricted`: a pair of links for each pod,
//! addresses, ports, and no daemon. In the shape of CNI's verbs, and in process, so that a pod has a
//! network with nothing installed but `nft`.
//!
//! ```text
//!   Request ──▶ leases, ports ──▶ Entry ──▶ Plan ──▶ netlink ──▶ Attached
//!   (meaning)   (pure)            (on disk) (pure)   (kernel)
//!                                   └─────▶ script ──▶ nft
//!                                           (pure)     (kernel)
//! ```
//!
//! [`Host`] has the deeds; a [`Request`] becomes an [`Attached`]. [`plugin`] says the same in the words
//! of CNI, for the executor that attaches pods to everybody's networks. All of it is about the network
//! namespace of the calling thread, "the host", which the thread never leaves.
#![forbid(unsafe_code)]

mod attachment;
mod error;
mod firewalls;
mod forwarding;
mod host;
mod leases;
mod ledger;
mod names;
mod nft;
mod plan;
pub mod plugin;
mod ports;
mod subnet;

pub use attachment::{Attached, Leg, Network, Owner, Request, Work};
pub use error::{Error, ErrorKind, Result};
pub use firewalls::Firewall;
pub use host::{Health, Host, Namespace, Reloaded, Swept, prepare};
pub use ledger::Entry;
pub use nft::PATH;
pub use pod_abi::network::{MAX_PORTS, Protocol, Publication};
pub use subnet::{Subnet, Subnet4, Subnet6, Subnets};
