//! Telling the kernel of partitions no table tells of: `linux/blkpg.h`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BLKPG`.
const BLKPG: libc::c_ulong = 0x1269;
/// `BLKPG_ADD_PARTITION` and `BLKPG_DEL_PARTITION`.
const ADD: libc::c_int = 1;
const DELETE: libc::c_int = 2;

/// `struct blkpg_partition`; lengths in bytes. The kernel ignores both names.
#[repr(C)]
struct Partition {
    start: libc::c_longlong,
    length: libc::c_longlong,
    number: libc::c_int,
    device: [u8; 64],
    volume: [u8; 64],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Argument {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    data: *mut Partition,
}

/// Makes `length` bytes of a disk from `start` on its partition `number`.
///
/// # Errors
///
/// `EBUSY` if the number is taken or the rows overlap, `EINVAL` if they do not lie on the disk, or
/// on its sectors.
pub fn add_partition(disk: BorrowedFd<'_>, number: u16, start: u64, length: u64) -> io::Result<()> {
    change(disk, ADD, number, start, length)
}

/// Takes partition `number` of a disk away.
///
/// # Errors
///
/// `EBUSY` if somebody uses it, `ENXIO` if there is none.
pub fn delete_partition(disk: BorrowedFd<'_>, number: u16) -> io::Result<()> {
    change(disk, DELETE, number, 0, 0)
}

fn change(
    disk: BorrowedFd<'_>,
    operation: libc::c_int,
    number: u16,
    start: u64,
    length: u64,
) -> io::Result<()> {
    let signed =
        |number: u64| i64::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
    let mut partition = Partition {
        start: signed(start)?,
        length: signed(length)?,
        number: number.into(),
        device: [0; 64],
        volume: [0; 64],
    };
    let argument = Argument {
        operation,
        flags: 0,
        length: libc::c_int::try_from(size_of::<Partition>()).unwrap_or_default(),
        data: &raw mut partition,
    };
    // SAFETY: BLKPG reads a blkpg_ioctl_arg, which `argument` is laid out as, and the
    // blkpg_partition it points to, which lives through the call; it writes neither.
    if unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG, &raw const argument) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
