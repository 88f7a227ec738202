//! The contract between the stages: everything that crosses from one program to another, or from a
//! program to the disk and back.
//!
//! ```text
//!            pod.json, app.N.json, order            frames (inner)
//!   stage0 ───────────────────────────▶ stage1 ◀───────────────────▶ stage2-init
//!      │        status.json, events       ▲
//!      └──────────────────────────────────┘
//!               frames (control)
//! ```
//!
//! Only data and the rules that make it valid live here. Nothing in this crate opens a file, reads
//! the clock, logs, or needs `unsafe`; whoever does those things decides when and where.
//!
//! | document | written by | read by | version |
//! |---|---|---|---|
//! | [`manifest::PodManifest`] | stage0 | every stage | [`version::MANIFEST`] |
//! | [`app::AppSpec`] | stage0 | every stage | [`version::MANIFEST`] |
//! | [`stage::Order`] | stage0 | stage1 | [`version::STAGE_ABI`] |
//! | [`finding::Finding`]s | a stage1 | stage0 | [`version::STAGE_ABI`] |
//! | [`status::PodStatus`] | the supervisor | stage0 | [`version::STATUS`] |
//! | [`control`] frames | stage0, supervisor | each other | [`version::CONTROL`] |
//! | [`inner`] frames | supervisor, stage2-init | each other | [`version::INNER`] |
//! | [`guest`] frames | stage1-kvm, PID 1 of its guest | each other | [`version::GUEST`] |

#![forbid(unsafe_code)]

pub mod app;
pub mod check;
pub mod control;
pub mod credential;
pub mod digest;
pub mod exit;
mod fields;
pub mod finding;
pub mod frame;
pub mod guest;
pub mod inner;
pub mod isolators;
pub mod layout;
pub mod manifest;
pub mod name;
pub mod network;
pub mod path;
pub mod phase;
pub mod processes;
pub mod readiness;
pub mod report;
pub mod seccomp;
pub mod share;
pub mod stage;
pub mod stats;
pub mod status;
pub mod syscalls;
pub mod text;
pub mod time;
pub mod version;
pub mod volume;
mod word;

pub use digest::Digest;
pub use name::{AppName, PodId, PodName, VolumeName};
pub use path::PodPath;
pub use report::Report;
pub use time::Timestamp;
