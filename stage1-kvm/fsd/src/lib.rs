//! The server of one shared directory or file.
//!
//! ```text
//!   frame ─▶ channel ─▶ request ─▶ server ─▶ share ─┬▶ nodes, handles (bounded tables)
//!           (lengths)   (shape)   (which deed)      └▶ the kernel, by descriptors alone
//!   frame ◀──────────── reply ◀───────┘
//! ```
//!
//! It is a process of its own, because it does with a host's files what a hostile guest asks it to.
//! It is told everything by descriptors (`pod_abi::share`), never sees the guest's memory, and can
//! reach nothing but the share. One thread serves one request after the other: who acts for a
//! caller changes the thread's ids.

#![forbid(unsafe_code)]

pub mod channel;
pub mod handles;
pub mod identity;
pub mod nodes;
pub mod program;
pub mod reply;
pub mod request;
pub mod sandbox;
pub mod server;
pub mod share;
pub mod wire;
