//! Giving the kernel bytes nobody knows: `random(4)`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The most bytes given at once.
const MOST: usize = 256;

/// `RNDADDENTROPY` and `RNDRESEEDCRNG` (`linux/random.h`).
const ADD: libc::c_ulong = 0x4008_5203;
const RESEED: libc::c_ulong = 0x5207;

/// `struct rand_pool_info`.
#[repr(C)]
struct Pool {
    bits: libc::c_int,
    size: libc::c_int,
    bytes: [u8; MOST],
}

/// Adds bytes to the kernel's entropy, each of which counts in full, and has the generator use
/// them at once.
///
/// # Errors
///
/// `EINVAL` for more than 256 bytes, `EPERM` without `CAP_SYS_ADMIN`; else those of opening
/// `/dev/random`.
pub fn add_entropy(bytes: &[u8]) -> io::Result<()> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let mut pool = Pool { bits: 0, size: 0, bytes: [0; MOST] };
    pool.bytes.get_mut(..bytes.len()).ok_or_else(invalid)?.copy_from_slice(bytes);
    pool.size = libc::c_int::try_from(bytes.len()).map_err(|_| invalid())?;
    pool.bits = pool.size * 8;
    let device = File::options().write(true).open("/dev/random")?;
    // SAFETY: RNDADDENTROPY reads a rand_pool_info, which `pool` is laid out as, and as many bytes
    // behind its head as that says, which all lie within `pool`; it writes nothing.
    if unsafe { libc::ioctl(device.as_raw_fd(), ADD, &raw const pool) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: RNDRESEEDCRNG takes no argument.
    if unsafe { libc::ioctl(device.as_raw_fd(), RESEED) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_fits_is_refused() {
        assert_eq!(add_entropy(&[0; MOST + 1]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
