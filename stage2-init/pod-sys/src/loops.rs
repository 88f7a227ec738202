//! Files as block devices: `loop(4)`, for kernels that mount no file system of a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `LOOP_CONFIGURE` and `LOOP_CTL_GET_FREE`.
const CONFIGURE: libc::Ioctl = 0x4C0A;
const GET_FREE: libc::Ioctl = 0x4C82;
/// `LO_FLAGS_READ_ONLY` and `LO_FLAGS_AUTOCLEAR`.
const FLAGS: u32 = 1 | 4;
/// How often somebody else may take the number we were told before us.
const TRIES: usize = 64;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    real_device: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: u32,
    key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    file: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A block device that shows a file, read-only. It goes by itself with the last who uses it: this
/// value, and whoever has mounted it.
#[derive(Debug)]
pub struct LoopDevice {
    _device: File,
    path: String,
}

impl LoopDevice {
    /// Makes one of `file`.
    ///
    /// # Errors
    ///
    /// Those of `open(2)` for `/dev/loop-control` and the device, and of the ioctls; `EBUSY` if
    /// others have taken each number first.
    pub fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..TRIES {
            // SAFETY: LOOP_CTL_GET_FREE takes no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            let path = format!("/dev/loop{number}");
            let device = File::open(&path)?;
            match configure(&device, file) {
                Ok(()) => return Ok(Self { _device: device, path }),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// Returns its path in `/dev`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

fn configure(device: &File, file: BorrowedFd<'_>) -> io::Result<()> {
    let invalid = |_| io::Error::from_raw_os_error(libc::EBADF);
    let info = Info {
        device: 0,
        inode: 0,
        real_device: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encryption: 0,
        key_size: 0,
        flags: FLAGS,
        file_name: [0; 64],
        crypt_name: [0; 64],
        key: [0; 32],
        init: [0; 2],
    };
    let file = u32::try_from(file.as_raw_fd()).map_err(invalid)?;
    let config = Config { file, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads a loop_config, which `config` is laid out as.
    if unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &raw const config) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_kernel() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }
}
