//! System calls that nix and rustix lack, each a safe function.
//!
//! The only crate of the project with `unsafe` besides the mapping of guest memory. A function is
//! here because no wrapper exists, or because the wrapper that exists is unsafe to call and a
//! check at run time makes it safe: [`clone3`] and [`unshare`] refuse in a process that has
//! threads. Nothing here decides anything; policy lives with the callers.

#![allow(unsafe_code, reason = "this crate is where raw system calls become safe functions")]

mod bpf;
mod children;
mod clone;
mod datagram;
mod entropy;
mod fds;
mod keyring;
mod landlock;
mod link;
mod lookup;
mod loops;
mod mount;
mod partition;
mod process;
mod seccomp;
mod signal;
mod tap;
mod verity;
mod vsock;
mod wait;

pub use bpf::{BpfInstruction, attach_device_program, load_device_program};
pub use children::{children, kill_children};
pub use clone::{CloneFlags, Forked, clone3, unshare};
pub use datagram::{Datagram, receive_datagram};
pub use entropy::add_entropy;
pub use fds::{
    close_from, close_on_exec_from, forsake_all_but, forsake_descriptors, inherited, place,
};
pub use keyring::join_new_session_keyring;
pub use landlock::landlock_version;
pub use link::{bring_link_up, bring_loopback_up};
pub use lookup::open_in_root;
pub use loops::LoopDevice;
pub use mount::{MountAttr, MountFlags, Propagation, Recursive, mount_setattr};
pub use partition::{add_partition, delete_partition};
pub use process::{Process, look_at, parent_of};
pub use seccomp::{MAX_INSTRUCTIONS, SockFilter, set_seccomp_filter};
pub use signal::{send_signal, send_signal_to_child, unignore_signals, wait_signal};
pub use tap::{TAP_HEADER, TapOffload, offload_tap, open_tap};
pub use verity::{seal_file, seal_of};
pub use vsock::set_vsock_connect_timeout;
pub use wait::{Exit, Waited, wait_any, wait_pidfd};
