//! What is said of a stream between a virtual machine and its host (`vsock(7)`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// `SO_VM_SOCKETS_CONNECT_TIMEOUT` (`linux/vm_sockets.h`), with a time of the machine's words.
const CONNECT_TIMEOUT: libc::c_int = 6;

/// Sets how long `socket`, which is of `AF_VSOCK`, asks for a connection before it gives up: two
/// seconds unless this is called, and for a time of zero. It holds for a connection that is waited
/// for elsewhere, too.
///
/// # Errors
///
/// What another kind of socket has against it; `ERANGE` for a time longer than clocks count.
pub fn set_vsock_connect_timeout(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let invalid = |_| io::Error::from_raw_os_error(libc::ERANGE);
    let time = libc::timeval {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).map_err(invalid)?,
        tv_usec: timeout.subsec_micros().into(),
    };
    let length = libc::socklen_t::try_from(size_of_val(&time)).map_err(invalid)?;
    // SAFETY: the kernel reads `length` bytes of `time`, which are all of it and live through the
    // call, and writes nothing.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::AF_VSOCK,
            CONNECT_TIMEOUT,
            (&raw const time).cast(),
            length,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

    #[test]
    fn a_stream_to_a_host_takes_the_time_and_another_socket_does_not() {
        let (other, _) = UnixStream::pair().unwrap();
        let minute = Duration::from_secs(60);
        assert!(set_vsock_connect_timeout(other.as_fd(), minute).is_err());
        // Not every kernel has them.
        let flags = SockFlag::SOCK_CLOEXEC;
        if let Ok(stream) = socket(AddressFamily::Vsock, SockType::Stream, flags, None) {
            set_vsock_connect_timeout(stream.as_fd(), minute).unwrap();
            let ever = set_vsock_connect_timeout(stream.as_fd(), Duration::MAX).unwrap_err();
            assert_eq!(ever.raw_os_error(), Some(libc::ERANGE));
        }
    }
}
