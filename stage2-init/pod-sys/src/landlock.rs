//! Asking the kernel for Landlock: `landlock_create_ruleset(2)`.
//!
//! Only the question; rules are made by who needs them.

use std::ptr;

/// The flag that asks for the version instead of making a ruleset.
const CREATE_RULESET_VERSION: u32 = 1;

/// Returns the version of Landlock this kernel offers, or `None` if it does not or has it switched
/// off.
///
/// Asked of the kernel itself: the list in `/sys/kernel/security/lsm` is only there where securityfs
/// is mounted. Source: `landlock_create_ruleset(2)`, `LANDLOCK_CREATE_RULESET_VERSION`.
#[must_use]
pub fn landlock_version() -> Option<u32> {
    // SAFETY: with this flag the kernel demands a null pointer and a size of zero, and reads and
    // writes no memory of ours; nothing is created.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).ok().filter(|version| *version > 0)
}
