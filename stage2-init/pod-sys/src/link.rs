//! Bringing up an interface in a network namespace of one's own.
//!
//! Two ioctls instead of a netlink conversation: the kernel gives `lo` its addresses by itself as
//! soon as it is up.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::tap::interface_name;

/// Brings up the loopback interface of the current network namespace, with its addresses.
///
/// # Errors
///
/// `EPERM` without `CAP_NET_ADMIN` over the namespace. The interface is as it was.
///
/// Source: `netdevice(7)`.
pub fn bring_loopback_up() -> io::Result<()> {
    bring_link_up("lo")
}

/// Brings up an interface of the current network namespace.
///
/// # Errors
///
/// `EPERM` without `CAP_NET_ADMIN` over the namespace, `ENODEV` if there is none of that name. All
/// is as it was.
pub fn bring_link_up(name: &str) -> io::Result<()> {
    let name = interface_name(name)?;
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes no pointer.
    let number = unsafe { libc::socket(libc::AF_INET, kind, 0) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call before has made this descriptor, and nobody else knows of it.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 } };
    // SAFETY: SIOCGIFFLAGS reads the name of an ifreq and writes its flags; `request` is one, and
    // lives through the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the flags are the member of the union the call before has written.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | UP;
    // SAFETY: SIOCSIFFLAGS only reads the name and the flags of an ifreq; both are set.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `IFF_UP`, in the width of `ifr_flags`.
const UP: libc::c_short = 1;
