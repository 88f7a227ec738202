//! A distribution's kernel made ready for guests: pure, bytes in and bytes out.
//!
//! ```text
//!   vmlinuz ──bzimage──▶ payload ──packing──▶ ELF ──vmlinux──▶ what a monitor loads
//!   *.ko(.xz|.zst) ──packing──▶ ELF ──module──▶ depends ──closure──▶ Modules, in load order
//!   guest, stage2-init, Modules ──initramfs──▶ cpio
//!   config-RELEASE ──config──▶ what would be missing at boot
//! ```
//!
//! # What is in the initramfs
//!
//! | path | what |
//! |---|---|
//! | `/init` | PID 1 of the guest, the program `guest` |
//! | `/stage2-init` | PID 1 of the pod |
//! | `/modules` | a line for each module to load: `GROUP PATH`, such as `always lib/modules/erofs.ko` |
//! | `/lib/modules/NAME.ko` | the modules, not compressed |
//! | `/dev/console`, `/dev/null` | what is needed before there is a devtmpfs |
//! | `/dev`, `/proc`, `/sys`, `/run`, `/tmp` | empty directories |
//!
//! `GROUP` is a word of [`Group`]: `always` is loaded at boot, the others when the pod needs them.
//! Lines of one group stand in the order they must be loaded. A module that two groups need stands
//! in both, unless it is in `always`: what is loaded already (`EEXIST`) is no failure.
//!
//! What is read here comes from the distribution's packages, as root; it is nevertheless read as
//! if from an enemy, for a kernel may be anybody's: every size is bounded, every offset checked.

#![forbid(unsafe_code)]

mod bytes;
mod bzimage;
mod closure;
mod config;
mod cpio;
mod elf;
mod error;
mod initramfs;
mod module;
mod packing;
mod vmlinux;

pub use closure::{Group, ModuleSource, Modules, modules};
pub use config::check_config;
pub use error::{Error, ErrorKind};
pub use initramfs::{Programs, initramfs};
pub use module::{Module, module_file, module_name};
pub use vmlinux::{Kernel, kernel};

/// The version of what is made here: another one and it is made anew.
pub const FORMAT: u32 = 1;
/// The longest file of a kernel that is read, in bytes; Debian's are 7 to 14 MB, and an ELF file
/// that was not stripped can have hundreds.
pub const MAX_KERNEL: u64 = 256 << 20;
/// The longest file of a module that is read, in bytes, and the longest it may unpack to.
pub const MAX_MODULE: u64 = 32 << 20;
