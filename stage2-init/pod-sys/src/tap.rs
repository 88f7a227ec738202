//! A tap: an Ethernet interface of the kernel whose other end is a descriptor (`Documentation/
//! networking/tuntap.rst`).
//!
//! A frame is read and written whole, behind a header of [`TAP_HEADER`] bytes that says what is
//! left to do for it (`struct virtio_net_hdr_v1`).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Bytes of the header before each frame.
pub const TAP_HEADER: u16 = 12;

/// What whoever reads a tap can do for a frame himself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapOffload {
    /// Fill in a checksum, or do without.
    pub checksum: bool,
    /// Take TCP over IPv4 in one piece that is longer than the interface's packets; needs
    /// `checksum`.
    pub tcp4: bool,
    /// The same over IPv6.
    pub tcp6: bool,
}

/// Makes a tap of this name in the current network namespace, or takes one that nobody holds.
///
/// It is down, does not wait, and lasts as long as its descriptor.
///
/// # Errors
///
/// `ENOENT` without `/dev/net/tun`, `EPERM` without `CAP_NET_ADMIN` over the namespace, `EBUSY` if
/// somebody holds it, `EINVAL` for a name that is none. There is no tap.
pub fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let kind = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let kind = libc::c_short::try_from(kind).map_err(io::Error::other)?;
    let tap = OwnedFd::from(options.open("/dev/net/tun")?);
    let mut request = libc::ifreq {
        ifr_name: interface_name(name)?,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: kind },
    };
    // SAFETY: TUNSETIFF reads the name and the flags of an ifreq, and writes the name; `request` is
    // one, and lives through the call.
    if unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let length = libc::c_int::from(TAP_HEADER);
    // SAFETY: TUNSETVNETHDRSZ reads an int, which `length` is.
    if unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(tap)
}

/// Says what whoever reads a tap can do himself; the kernel does the rest before he gets a frame.
///
/// # Errors
///
/// `EINVAL` for `tcp4` or `tcp6` without `checksum`, or for a descriptor that is no tap. All is as
/// it was.
pub fn offload_tap(tap: BorrowedFd<'_>, offload: TapOffload) -> io::Result<()> {
    let bits = [
        (offload.checksum, libc::TUN_F_CSUM),
        (offload.tcp4, libc::TUN_F_TSO4),
        (offload.tcp6, libc::TUN_F_TSO6),
    ];
    let flags = bits.iter().filter(|bit| bit.0).fold(0, |flags, bit| flags | bit.1);
    // SAFETY: TUNSETOFFLOAD takes its flags by value, as a long, and no pointer.
    if unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) } < 0
    {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Puts the name of an interface into the form of an ifreq.
pub(crate) fn interface_name(name: &str) -> io::Result<[libc::c_char; libc::IFNAMSIZ]> {
    let mut bytes = [0; libc::IFNAMSIZ];
    // The last byte stays the zero that ends it.
    if name.is_empty() || name.len() >= bytes.len() || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_ends() {
        assert_eq!(interface_name("tap0").unwrap()[..5], b"tap0\0".map(u8::cast_signed));
        for wrong in ["", "a\0b", "sixteen-letters-"] {
            assert!(interface_name(wrong).is_err(), "{wrong:?}");
        }
        assert!(interface_name("fifteen-letters").is_ok());
    }
}
