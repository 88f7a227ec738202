//! The server by its messages alone: what it makes of those no kernel would send, and which system
//! calls serving takes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that fails says so, and one that cannot run says why"
)]

mod confined;
mod talk;
mod wild;
