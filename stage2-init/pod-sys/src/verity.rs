//! Files that cannot change any more, and whose every byte the kernel checks as it is read:
//! `Documentation/filesystems/fsverity.rst`, with SHA-256 over blocks of 4096 bytes and no salt.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `FS_IOC_ENABLE_VERITY` and `FS_IOC_MEASURE_VERITY`.
const ENABLE: libc::Ioctl = 0x4080_6685;
const MEASURE: libc::Ioctl = 0xC004_6686;
/// `FS_VERITY_HASH_ALG_SHA256`.
const SHA256: u16 = 1;
/// Bytes of a SHA-256.
const DIGEST_BYTES: usize = 32;
/// The same, as the kernel is told.
const ROOM: u16 = 32;

/// `struct fsverity_enable_arg`.
#[repr(C)]
struct Enable {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    reserved_too: [u64; 11],
}

/// `struct fsverity_digest`, with room for a SHA-256.
#[repr(C)]
struct Measured {
    algorithm: u16,
    size: u16,
    digest: [u8; DIGEST_BYTES],
}

/// Seals a file, opened for reading: nobody can write to it from now on, and a byte that the disk
/// gives back changed is `EIO` to whoever reads it.
///
/// # Errors
///
/// `ETXTBSY` if somebody has it open for writing, `EEXIST` if it is sealed already, `EOPNOTSUPP`
/// or `ENOTTY` if its file system or this kernel seals no files.
pub fn seal_file(file: BorrowedFd<'_>) -> io::Result<()> {
    let argument = Enable {
        version: 1,
        hash_algorithm: SHA256.into(),
        block_size: 4096,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved: 0,
        signature: 0,
        reserved_too: [0; 11],
    };
    // SAFETY: FS_IOC_ENABLE_VERITY reads an fsverity_enable_arg, which `argument` is laid out as,
    // and follows no pointer of it, as both of their sizes are 0.
    if unsafe { libc::ioctl(file.as_raw_fd(), ENABLE, &raw const argument) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Returns the digest a file is sealed with: of its length and of all it holds, as
/// `fsverity digest` computes it. `None` if it is not sealed, or by another algorithm.
///
/// # Errors
///
/// That of the ioctl, where it means something else.
pub fn seal_of(file: BorrowedFd<'_>) -> io::Result<Option<[u8; DIGEST_BYTES]>> {
    let mut measured = Measured { algorithm: 0, size: ROOM, digest: [0; DIGEST_BYTES] };
    // SAFETY: FS_IOC_MEASURE_VERITY writes an fsverity_digest with at most as many bytes of digest
    // as `size` says, for which `measured` has room.
    if unsafe { libc::ioctl(file.as_raw_fd(), MEASURE, &raw mut measured) } < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENODATA | libc::ENOTTY | libc::EOPNOTSUPP | libc::EOVERFLOW) => Ok(None),
            _ => Err(error),
        };
    }
    let ours = measured.algorithm == SHA256 && usize::from(measured.size) == DIGEST_BYTES;
    Ok(ours.then_some(measured.digest))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        // _IOW('f', 133, 128 bytes) and _IOWR('f', 134, 4 bytes).
        assert_eq!(size_of::<Enable>(), 128);
        assert_eq!(ENABLE, 1 << 30 | 128 << 16 | 0x66 << 8 | 133);
        assert_eq!(MEASURE, 3 << 30 | 4 << 16 | 0x66 << 8 | 134);
    }

    #[test]
    fn what_cannot_be_sealed_is_not() {
        let zeros = File::open("/dev/zero").unwrap();
        assert_eq!(seal_of(zeros.as_fd()).unwrap(), None);
        seal_file(zeros.as_fd()).unwrap_err();
    }
}
