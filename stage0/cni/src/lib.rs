//! Runs CNI networks: reads what the administrator configured, calls plugins in chains, remembers
//! what must be undone, and undoes it.
//!
//! ```text
//! directory ──▶ Network ──┐
//!                         ├─▶ plan::Chain ──▶ Invocation ──▶ call ──▶ a program, or code of ours
//! Request, Capabilities ──┘   (pure)          (data)                        │
//!                                                                           ▼
//!        Executor: attach, detach, check, status, sweep, collect_garbage ◀─ AddResult
//!                └─▶ records: what DEL needs, written before ADD
//! ```
//!
//! This side of CNI is the runtime's. What a network does, with links, addresses and rules, is the
//! plugins' alone: a plugin is a program in `CNI_PATH`, or implements [`BuiltIn`] and is called in
//! process by the same plan. Nothing here knows what a pod is.
//!
//! CNI 0.3.1 to 1.1.0. Beyond the specification:
//!
//! - A record is written before the first plugin runs, so that a kill in the middle can be undone.
//! - DEL goes on past a plugin that refuses, and is told the last result there is: after a failure
//!   in the middle of ADD, that of the last plugin that succeeded.
//! - Plugins get a clean environment, and hold the container's lock while they run.
//! - With several `cniVersions` plugins are asked what they speak.
//!
//! Source: <https://www.cni.dev/docs/spec/>, and what libcni does where that is silent.

#![forbid(unsafe_code)]

mod address;
mod call;
mod capabilities;
mod config;
mod directory;
mod error;
mod exec;
mod executor;
mod invocation;
mod json;
mod name;
pub mod plan;
mod records;
mod result;
mod search;
mod version;

pub use address::{Cidr, CidrError};
pub use call::{Caller, Log, Logged};
pub use capabilities::{Bandwidth, Capabilities, DnsRequest, IpRange, PortMapping, Protocol};
pub use config::{MAX_CONFIGURATION, MAX_PLUGINS, Network, Plugin};
pub use directory::{DIRECTORY, Found, default_network, network_named, networks};
pub use error::{Error, ErrorKind, PluginError};
pub use executor::{Asked, Detached, Executor, Owner, Request, Swept, Unasked};
pub use invocation::{Args, BuiltIn, Command, Invocation, Subject};
pub use json::Object;
pub use name::{Attachment, ContainerId, IfName, NetworkName, PluginType};
pub use result::{AddResult, Dns, Interface, Ip, MAX_ITEMS, ResultError, Route};
pub use search::{DIRECTORIES, PluginPath};
pub use version::Version;
