//! The sink that writes a layer as a directory tree, ready to be a lower directory of overlayfs.
//!
//! Every path is resolved anew beneath the root's descriptor, and the last component is always
//! acted on by name without following links. No resolved path is remembered (CVE-2025-47290 was
//! such a memory), no existing file is ever opened for writing, and what is learnt late is applied
//! only to the inode it was learnt about.

mod absence;
mod directories;
mod inode;
mod links;
mod parents;
mod remove;
mod root;
mod sink;

pub(super) use root::Root;
pub(super) use sink::{TreeFacts, TreeSink};
