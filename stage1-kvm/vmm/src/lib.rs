//! The virtual machine monitor of a pod: one machine, the devices a pod needs, and nothing else.
//!
//! ```text
//!   Description ──▶ boot (pure: bytes and addresses) ──▶ machine: memory, vCPUs, bus, devices
//!   (data, fd 3)                                          │ one thread for each vCPU
//!   helm (fd 4) ◀── End, Counters ── loop ◀───────────────┤ one for the disks
//!               ──▶ Plug, Map                             │ one loop for all the rest
//! ```
//!
//! It is a process of its own, the sandboxed child of a pod's supervisor: it is told everything by
//! descriptors, opens nothing, and keeps no capability. What it serves is hostile from its first
//! instruction on; all it can break is the pod it is for.

pub mod bell;
pub mod board;
pub mod boot;
pub mod bus;
pub mod console;
pub mod counters;
pub mod description;
pub mod devices;
pub mod ending;
pub mod helm;
pub mod host;
#[cfg(any(test, feature = "rig"))]
pub mod hostile;
pub mod kvm;
pub mod machine;
pub mod memory;
pub mod outfit;
#[cfg(any(test, feature = "rig"))]
pub mod rig;
pub mod sandbox;
pub mod service;
pub mod virtio;
pub mod vsock;
pub mod watch;
