//! The devices of a pod's machine, each over queues and memory only.

pub mod disk;
pub mod fs;
pub mod images;
pub mod net;
pub mod scratch;
pub mod vsock;

#[cfg(test)]
mod disk_tests;
