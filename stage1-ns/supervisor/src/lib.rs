//! The outside half of a living pod, the same for every wall.
//!
//! ```text
//!   pod exec, pod stop, …          this library                     behind the wall
//!   ─────────────────────▶ control ─▶ pod ─▶ link ───────────────▶ stage2-init (PID 1)
//!        status.json    ◀─ records ◀──┘  ▲                             │
//!        app.log        ◀─ logs ◀────────┼── pipes ◀────────────────── apps
//!        stdout, stderr ◀─ screen ◀──────┘
//! ```
//!
//! A stage1 takes over with [`Handover::adopt`], builds whatever isolates the pod as a [`Wall`],
//! and calls [`supervise`], which returns when the pod has ended and all that was said is written
//! down. [`Inherited::become_reaper`] is the last deed.
//!
//! One thread, one epoll. What comes from behind the wall is hostile: it is bounded, checked, and
//! a word that no honest PID 1 would say ends the pod.

#![forbid(unsafe_code)]

mod apps;
mod attached;
mod client;
mod control;
pub mod errand;
mod error;
mod events;
mod handover;
#[cfg(any(test, feature = "hostile"))]
pub mod hostile;
mod journal;
mod limits;
mod link;
mod living;
mod log;
mod networks;
mod notify;
mod outputs;
mod pod;
mod records;
mod registrar;
mod requests;
mod roster;
mod screen;
mod signals;
mod sink;
mod stream;
mod summary;
mod telling;
mod terminal;
mod wall;
mod watchdog;
mod whole;

pub use error::{During, Failure, INTERRUPTED};
pub use handover::{Handover, Inherited};
pub use living::supervise;
pub use networks::Networks;
pub use terminal::{Fresh, Master, Terminal, UNSEEN};
pub use wall::{Added, AppStdio, Born, Parcel, Wall};
