//! The server as it is run, in its sandbox, behind the kernel's own FUSE: `/dev/fuse` carries the
//! same messages as virtio-fs, so what holds here holds for a guest's kernel.
//!
//! Needs root, to confine the server and to mount; without, each test says so and passes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that fails says so, and one that cannot run says why"
)]

mod bridge;
mod contents;
mod hostile;
mod owners;

use bridge::{Kind, with_share};
