//! The wall of namespaces and cgroups: what a pod's apps see, and what they may use.
//!
//! A library because it is needed twice. `stage1-ns` puts it between a pod and its host; the guest
//! of `stage1-kvm` puts it between the apps and the virtual machine they are in, so that an image,
//! a volume, a limit or a capability means the same behind either wall.
//!
//! ```text
//!   Order ──▶ plan::of ──▶ Plan ──▶ Namespaces: staging, helpers, cgroups
//!   (data)    (pure)       (data)   (implements supervisor::Wall)
//! ```
//!
//! It never talks to PID 1 and never keeps records: that is the supervisor's.

#![forbid(unsafe_code)]

mod cgroup;
mod credentials;
mod device_rules;
mod devices;
mod enclosure;
mod fill;
mod helper;
mod images;
mod init;
mod mounts;
mod overlay;
mod plan;
mod root;
mod staging;
mod submounts;
mod sysctl;
mod tree;
mod wall;

pub use self::enclosure::Enclosure;
pub use self::images::{LayerImage, of_apps as layer_images, open_image};
pub use self::init::open_program;
pub use self::plan::{Flavour, Plan, of as plan};
pub use self::wall::{Ground, Namespaces};
