//! Receiving a datagram together with who has sent it: `SCM_CREDENTIALS` of `unix(7)`.
//!
//! rustix keeps the sender's process id in a type that is never 0; the kernel says 0 of a sender
//! whom the receiver's pid namespace does not hold. nix takes control data that did not fit for an
//! error, and leaves received descriptors open.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Pid;

/// The room for control data: that of credentials, which the kernel puts first.
const ROOM: usize = HEADER + 16;
/// The length of a `struct cmsghdr`, and what its parts are aligned to.
const HEADER: usize = 16;
const ALIGNMENT: usize = 8;

/// What one datagram was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// How many bytes of it were taken.
    pub length: usize,
    /// Whether these are all it has.
    pub whole: bool,
    /// The sender's process; `None` if it is not known, or not in this pid namespace.
    pub pid: Option<Pid>,
    /// The sender's user; `None` if it is not known.
    pub uid: Option<u32>,
}

/// Takes one datagram into `bytes`. Who has sent it is known if the socket has `SO_PASSCRED`;
/// descriptors that came along are closed.
///
/// # Errors
///
/// Those of `recvmsg(2)`: `EAGAIN` if none is there and the socket does not block.
pub fn receive_datagram(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Datagram> {
    /// Control data, aligned as the kernel writes it.
    #[repr(align(8))]
    struct Control([u8; ROOM]);
    let mut control = Control([0; ROOM]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr is pointers and numbers, of which all zeroes are null and 0.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = ROOM as _;
    // SAFETY: `message` describes `bytes` and `control` by their own lengths. Both are borrowed
    // mutably here, live through the call, and hold plain bytes, of which any value is valid; the
    // kernel writes no further than these lengths.
    let length =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut datagram = Datagram {
        length: length.min(bytes.len()),
        whole: message.msg_flags & libc::MSG_TRUNC == 0,
        pid: None,
        uid: None,
    };
    #[allow(clippy::unnecessary_cast, reason = "C libraries differ in the type of this length")]
    let filled = (message.msg_controllen as usize).min(ROOM);
    for (kind, data) in parts(&control.0[..filled]) {
        match kind {
            libc::SCM_CREDENTIALS => {
                (datagram.pid, datagram.uid) = sender(data);
            }
            libc::SCM_RIGHTS => data.chunks_exact(4).filter_map(number).for_each(|fd| {
                // SAFETY: the kernel has just made this descriptor for this process, and nobody
                // else here knows of it; it is listed once, and closed at once.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }),
            _ => {}
        }
    }
    Ok(datagram)
}

/// Returns the parts of control data that are about sockets, each with its kind. What was cut off
/// is as long as it is there.
fn parts(mut control: &[u8]) -> Vec<(libc::c_int, &[u8])> {
    let mut parts = Vec::new();
    while let Some((header, _)) = control.split_at_checked(HEADER) {
        let (length, about) = header.split_at(8);
        let length = length.try_into().map_or(0, usize::from_ne_bytes).min(control.len());
        let (level, kind) = about.split_at(4);
        let Some(data) = control.get(HEADER..length) else { break };
        if let (Some(libc::SOL_SOCKET), Some(kind)) = (number(level), number(kind)) {
            parts.push((kind, data));
        }
        control = control.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    parts
}

/// Reads a `struct ucred`: process, user, group.
fn sender(ucred: &[u8]) -> (Option<Pid>, Option<u32>) {
    let pid = ucred.get(..4).and_then(number).filter(|pid| *pid > 0).and_then(Pid::from_raw);
    let uid = ucred.get(4..8).and_then(number).map(i32::cast_unsigned);
    (pid, uid)
}

fn number(bytes: &[u8]) -> Option<i32> {
    bytes.try_into().ok().map(i32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{IoSlice, Read};
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use rustix::net::sockopt::set_socket_passcred;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    /// Sends a message with the writing end of a pipe; returns the reading end.
    fn send_pipe(socket: &UnixDatagram) -> File {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let fds = [writer.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(socket, &[IoSlice::new(b"fd")], &mut control, SendFlags::empty()).unwrap();
        reader.into()
    }

    #[test]
    fn a_sender_is_known_or_not() {
        let (from, to) = UnixDatagram::pair().unwrap();
        let mut bytes = [0; 4];
        from.send(b"abc").unwrap();
        let unknown = Datagram { length: 3, whole: true, pid: None, uid: None };
        assert_eq!(receive_datagram(to.as_fd(), &mut bytes).unwrap(), unknown);
        // Whoever was not asked when sending is process 0 to the kernel, as is one out of sight.
        from.send(b"abc").unwrap();
        set_socket_passcred(&to, true).unwrap();
        let nobody = receive_datagram(to.as_fd(), &mut bytes).unwrap();
        assert_eq!((nobody.pid, nobody.uid.is_some()), (None, true));
        from.send(b"abcde").unwrap();
        let known = receive_datagram(to.as_fd(), &mut bytes).unwrap();
        let uid = Some(rustix::process::getuid().as_raw());
        let me = Some(rustix::process::getpid());
        assert_eq!(known, Datagram { length: 4, whole: false, pid: me, uid });
        assert_eq!(&bytes, b"abcd");
        to.set_nonblocking(true).unwrap();
        let none = receive_datagram(to.as_fd(), &mut bytes).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn descriptors_that_come_along_are_closed() {
        let (from, to) = UnixDatagram::pair().unwrap();
        for asked in [false, true] {
            set_socket_passcred(&to, asked).unwrap();
            let mut reader = send_pipe(&from);
            let got = receive_datagram(to.as_fd(), &mut [0; 8]).unwrap();
            assert_eq!((got.length, got.pid.is_some()), (2, asked));
            // The end of the pipe comes once nobody can write to it.
            assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
        }
    }

    #[test]
    fn control_data_is_read_as_far_as_it_goes() {
        let part = |length: usize, data: &[u8]| {
            let kind = libc::SCM_CREDENTIALS.to_ne_bytes();
            let about = [libc::SOL_SOCKET.to_ne_bytes(), kind].concat();
            [&length.to_ne_bytes()[..], &about, data].concat()
        };
        let sixteen = [7; 16];
        for (control, lengths) in [
            (Vec::new(), vec![]),
            (vec![0; 15], vec![]),
            (vec![0; 32], vec![]),
            (part(15, &sixteen), vec![]),
            (part(28, &sixteen), vec![12]),
            (part(usize::MAX, &sixteen), vec![16]),
            ([part(17, &sixteen[..8]), part(16, &[])].concat(), vec![1, 0]),
        ] {
            let found: Vec<usize> = parts(&control).iter().map(|(_, data)| data.len()).collect();
            assert_eq!(found, lengths, "{control:?}");
        }
        assert_eq!(sender(&[]), (None, None));
        assert_eq!(sender(&[0; 12]), (None, Some(0)));
        assert_eq!(sender(&[0xff; 12]), (None, Some(u32::MAX)));
    }
}
