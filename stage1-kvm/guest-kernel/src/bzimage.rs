//! The packed kernel in a `bzImage` (`Documentation/arch/x86/boot.rst`, "the real-mode kernel
//! header").
//!
//! ```text
//!   0x000            0x1f1              (setup_sects + 1) * 512
//!   │ boot sector …  │ setup header …   │ stub │ payload (packed ELF, its size in 4 bytes) │ …
//!                                       └─ payload_offset ─┘
//! ```

use crate::bytes::{piece, text_at, u16_at, u32_at};
use crate::error::{Error, ErrorKind};

const SETUP_SECTS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const HEADER: usize = 0x202;
const VERSION: usize = 0x206;
const KERNEL_VERSION: usize = 0x20e;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// Bytes of a sector, in which the header counts.
const SECTOR: u64 = 512;
/// The first version of the protocol that tells where the payload is (2.6.26).
const WITH_PAYLOAD: u16 = 0x0208;
/// The longest text about its version that is looked at, in bytes.
const MAX_BANNER: usize = 512;

/// What a `bzImage` carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload<'k> {
    /// The packed kernel, the four bytes with its size included.
    pub(crate) packed: &'k [u8],
    /// Its release, if the header tells one.
    pub(crate) release: Option<&'k str>,
}

/// Tells whether `file` claims to be one.
pub(crate) fn is_bzimage(file: &[u8]) -> bool {
    u16_at(file, BOOT_FLAG) == Some(0xaa55) && file.get(HEADER..HEADER + 4) == Some(b"HdrS")
}

/// Finds the payload of a `bzImage`.
pub(crate) fn payload(file: &[u8]) -> Result<Payload<'_>, Error> {
    let short = || Error::damaged("the header of the kernel is cut short");
    let version = u16_at(file, VERSION).ok_or_else(short)?;
    if version < WITH_PAYLOAD {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the kernel speaks version {}.{} of the boot protocol, at least 2.8 is needed",
                version >> 8,
                version & 0xff
            ),
        ));
    }
    let sectors = match file.get(SETUP_SECTS).ok_or_else(short)? {
        0 => 4, // as the protocol says
        sectors => u64::from(*sectors),
    };
    let offset = u64::from(u32_at(file, PAYLOAD_OFFSET).ok_or_else(short)?);
    let length = u64::from(u32_at(file, PAYLOAD_LENGTH).ok_or_else(short)?);
    let packed = piece(file, (sectors + 1) * SECTOR + offset, length)
        .filter(|packed| packed.len() > 8)
        .ok_or_else(|| Error::damaged("the kernel ends before what is packed in it"))?;
    let banner = u16_at(file, KERNEL_VERSION).filter(|at| *at != 0);
    let release = banner
        .and_then(|at| text_at(file, usize::from(at) + 0x200, MAX_BANNER))
        .and_then(|banner| banner.split(' ').next());
    Ok(Payload { packed, release })
}
