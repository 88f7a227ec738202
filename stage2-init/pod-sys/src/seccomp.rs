//! Installing a seccomp filter: `seccomp(2)`.
//!
//! Takes instructions that are already compiled. What they allow is the caller's business.

use std::io;

/// One instruction of classic BPF, `struct sock_filter` of `linux/filter.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    /// The operation.
    pub code: u16,
    /// How many instructions to skip if the comparison holds.
    pub jt: u8,
    /// How many instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

const _: () = assert!(size_of::<SockFilter>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<SockFilter>() == align_of::<libc::sock_filter>());

/// The longest filter the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Installs a filter on this process for good; what it executes inherits it.
///
/// Needs either no_new_privs or `CAP_SYS_ADMIN` in the process's user namespace.
///
/// # Errors
///
/// `EINVAL` for an empty or too long program, or one the kernel's checker refuses; `EACCES`
/// without the right to install one. No filter was added.
///
/// Source: `seccomp(2)`, `SECCOMP_SET_MODE_FILTER`.
pub fn set_seccomp_filter(program: &[SockFilter]) -> io::Result<()> {
    let len = u16::try_from(program.len())
        .ok()
        .filter(|len| usize::from(*len) <= MAX_INSTRUCTIONS)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let fprog =
        libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `fprog` points to `len` instructions whose layout is the kernel's (asserted above);
    // the kernel copies them during the call and, despite the pointer's type, writes to none.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const fprog)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_program_is_refused() {
        let error = set_seccomp_filter(&[]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
