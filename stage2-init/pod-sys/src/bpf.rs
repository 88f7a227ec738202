//! Programs that decide about devices of a cgroup: `bpf(2)`.
//!
//! Takes instructions that are already made; what they allow is the caller's business. The kernel
//! verifies every program before it is attached, so a wrong one is refused, never run.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// One instruction of eBPF, `struct bpf_insn` of `linux/bpf.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BpfInstruction {
    /// The operation.
    pub code: u8,
    /// The destination register in the low four bits, the source register in the high four.
    pub registers: u8,
    /// An offset of memory, or how many instructions to skip.
    pub offset: i16,
    /// The operand.
    pub immediate: i32,
}

const _: () = assert!(size_of::<BpfInstruction>() == 8);

/// `BPF_PROG_LOAD`.
const PROG_LOAD: libc::c_long = 5;
/// `BPF_PROG_ATTACH`.
const PROG_ATTACH: libc::c_long = 8;
/// `BPF_PROG_TYPE_CGROUP_DEVICE` (4.15).
const CGROUP_DEVICE_PROGRAM: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: programs of outer cgroups go on deciding, too; all must allow.
const ALLOW_MULTI: u32 = 2;

/// The beginning of `union bpf_attr` as `BPF_PROG_LOAD` reads it, up to and with the verifier's
/// log, which is not asked for.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The beginning of `union bpf_attr` as `BPF_PROG_ATTACH` reads it.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

const _: () = assert!(size_of::<LoadAttr>() == 48);
const _: () = assert!(size_of::<AttachAttr>() == 16);

/// Loads a program that decides about devices.
///
/// # Errors
///
/// `EACCES` or `EINVAL` for a program the verifier refuses, `EPERM` without `CAP_BPF` and
/// `CAP_NET_ADMIN` or `CAP_SYS_ADMIN`, `ENOSYS` or `EINVAL` where the kernel has none.
///
/// Source: `bpf(2)`, `BPF_PROG_LOAD`, since Linux 4.15 for this type.
pub fn load_device_program(instructions: &[BpfInstruction]) -> io::Result<OwnedFd> {
    let count = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    let attr = LoadAttr {
        program_type: CGROUP_DEVICE_PROGRAM,
        count,
        instructions: instructions.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        ..LoadAttr::default()
    };
    // SAFETY: `attr` is the beginning of a bpf_attr of the size given; the kernel takes what
    // follows for zero. It points to `count` instructions of the kernel's layout (asserted above)
    // and a static C string, all of which are only read, and only during the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attr, size_of::<LoadAttr>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call has made a new descriptor, CLOEXEC, that nobody else knows of.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a cgroup, a directory of cgroup2, for as long as the cgroup is there. It
/// decides for all beneath, beside the programs of outer cgroups.
///
/// # Errors
///
/// `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN` or `CAP_SYS_ADMIN`, or where an outer cgroup's
/// program allows no other; `E2BIG` beyond 64 programs.
///
/// Source: `bpf(2)`, `BPF_PROG_ATTACH`, since Linux 4.15 for this type.
pub fn attach_device_program(program: &OwnedFd, cgroup: BorrowedFd<'_>) -> io::Result<()> {
    let attr = AttachAttr {
        target: cgroup.as_raw_fd().unsigned_abs(),
        program: program.as_raw_fd().unsigned_abs(),
        attach_type: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: `attr` is the beginning of a bpf_attr of the size given, only read during the call.
    let done = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attr, size_of::<AttachAttr>())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_program_is_refused() {
        assert!(load_device_program(&[]).is_err());
    }
}
