//! Talking to systemd: what a unit is, as data, and the manager that makes units of it.
//!
//! ```text
//! PodManifest ── service::of ──▶ TransientUnit ── Manager::start_transient ──▶ Job ──▶ Outcome
//!                 (pure)          (data)     └─── unit_file::text ──▶ `pod generate systemd`
//! ```
//!
//! It speaks to the manager over the system bus, never to its private socket. It knows nothing of
//! pods on disk or of commands, and only a client of a pod uses it, never a supervisor: the bus
//! library has threads, which must not be there where namespaces are made.

mod asked;
mod bus;
mod job;
pub(crate) mod journal;
pub(crate) mod machined;
mod manager;
mod refusal;
pub(crate) mod service;
pub(crate) mod shutdown;
mod state;
pub(crate) mod unit_file;
mod value;
mod vocabulary;
mod waiting;

use std::path::Path;

use pod_abi::PodName;

pub(crate) use asked::read as read_property;
pub(crate) use job::{Job, Outcome};
pub(crate) use manager::{Lasting, Manager, Whom};
pub(crate) use state::{ActiveState, UnitState};
pub(crate) use value::{Property, TransientUnit, Value};

/// Where pods' units live unless they say otherwise: one slice to limit and to look at all of them.
pub(crate) const SLICE: &str = "machine-pods.slice";

/// Tells whether systemd runs this host (`sd_booted(3)`).
pub(crate) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Returns the name of the unit of a pod called `pod`. The label needs no escaping, and every drop-in
/// in `pod-.service.d` holds for it (`systemd.unit(5)`).
pub(crate) fn unit_name(pod: &PodName) -> String {
    format!("pod-{pod}.service")
}
