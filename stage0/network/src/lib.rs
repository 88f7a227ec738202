//! The built-in network of pods: a pair of links for each pod, addresses, ports, and no daemon.
#![forbid(unsafe_code)]

mod error;
pub mod namespace;
pub mod netlink;

pub use error::{Error, ErrorKind, Result};
