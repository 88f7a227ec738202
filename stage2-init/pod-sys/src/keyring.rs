//! Leaving the keyrings one was born with: `keyctl(2)`.
//!
//! A session keyring is inherited by every child, and who possesses one may use the keys in it,
//! whatever ids he has.

use std::io;

/// `KEYCTL_JOIN_SESSION_KEYRING`.
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Gives this process, and all its future children, a new and empty session keyring.
///
/// Nothing is done on a kernel without keyrings.
///
/// # Errors
///
/// `EDQUOT` if the user has too many keys; the old keyring is still there.
pub fn join_new_session_keyring() -> io::Result<()> {
    let anonymous: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for a new anonymous keyring; nothing is read through it.
    let id = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, anonymous) };
    if id >= 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        error => Err(error),
    }
}
