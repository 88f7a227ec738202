//! From a request's bytes to its reply's.

use std::io::{self, ErrorKind, Read, Write};

use pod_abi::share::MAX_DATA;
use rustix::io::Errno;

use crate::channel::next_request;
use crate::reply::Reply;
use crate::request::{Header, Operation, forgotten};
use crate::share::{Detail, Share};
use crate::wire::{MAJOR, MINOR, ability};

/// Bytes of a page, in which requests are counted.
const PAGE: usize = 4096;

/// What this server can do, of what guests may ask for.
///
/// Not among it: a cache of writes, for the host's processes are to see them; locks between guest
/// and host, for the guest keeps its own.
const ABILITIES: u32 = ability::ASYNC_READ
    | ability::BIG_WRITES
    | ability::DONT_MASK
    | ability::AUTO_INVAL_DATA
    | ability::DO_READDIRPLUS
    | ability::READDIRPLUS_AUTO
    | ability::PARALLEL_DIROPS
    | ability::MAX_PAGES
    | ability::HANDLE_KILLPRIV_V2;

/// Requests that a guest may have waiting in the background (reads ahead), and from how many on it
/// takes the share for busy.
const BACKGROUND: u16 = 64;
/// See [`BACKGROUND`].
const BUSY: u16 = 48;

/// Serves requests until the monitor is gone, be it in the midst of one.
///
/// # Errors
///
/// Those of the stream, and frames that are none; no request of a guest is one.
pub fn serve(share: &mut Share, stream: impl Read + Write) -> io::Result<()> {
    match serve_all(share, stream) {
        // How it ended is told by its own end.
        Err(error) if is_of_the_gone(error.kind()) => Ok(()),
        served => served,
    }
}

fn serve_all(share: &mut Share, mut stream: impl Read + Write) -> io::Result<()> {
    let (mut request, mut reply) = (Vec::new(), Reply::new());
    while next_request(&mut stream, &mut request)? {
        stream.write_all(answer(share, &request, &mut reply))?;
    }
    Ok(())
}

/// Tells whether an error is that of a stream whose other end is closed.
const fn is_of_the_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Does what one request asks for and returns the frame of its reply.
pub fn answer<'a>(share: &mut Share, request: &[u8], reply: &'a mut Reply) -> &'a [u8] {
    /// The frame of a reply that is none.
    const NOTHING: &[u8] = &[0; pod_abi::share::LENGTH_SIZE];
    reply.clear();
    let Some((header, body)) = Header::parse(request) else { return NOTHING };
    let operation = Operation::parse(header.opcode, body);
    match operation {
        Ok(Operation::Forget { count }) => share.forget(header.node, count),
        Ok(Operation::BatchForget(list)) => {
            forgotten(list).for_each(|(node, count)| share.forget(node, count));
        }
        // Nothing that is served waits for anything a signal could break off.
        Ok(Operation::Interrupt) => {}
        operation => {
            let done = operation.and_then(|operation| perform(share, &header, operation, reply));
            return reply.finish(header.unique, done);
        }
    }
    NOTHING
}

fn perform(
    share: &mut Share,
    header: &Header,
    operation: Operation<'_>,
    reply: &mut Reply,
) -> Result<(), Errno> {
    let Header { node, caller, .. } = *header;
    match operation {
        Operation::Lookup(name) => share.look_up(node, name, reply),
        Operation::Getattr { handle } => share.attributes(node, handle, reply),
        Operation::Setattr(new) => share.set_attributes(node, &new, reply),
        Operation::Readlink => share.read_link(node, reply),
        Operation::Symlink { name, target } => share.make_link((node, name), target, caller, reply),
        Operation::Mknod { name, creation } => {
            share.make_node((node, name), creation, caller, reply)
        }
        Operation::Mkdir { name, creation } => {
            share.make_directory((node, name), creation, caller, reply)
        }
        Operation::Unlink(name) => share.unlink(node, name),
        Operation::Rmdir(name) => share.remove_directory(node, name),
        Operation::Rename { name, new_parent, new_name, flags } => {
            share.rename((node, name), (new_parent, new_name), flags)
        }
        Operation::Link { node: old, name } => share.link(old, (node, name), reply),
        Operation::Open { flags } => share.open(node, flags, reply),
        Operation::Create { name, flags, creation, fuse_flags } => {
            share.create((node, name), (flags, fuse_flags), creation, caller, reply)
        }
        Operation::Read { handle, offset, size } => share.read(handle, offset, size, reply),
        Operation::Write { handle, offset, data, fuse_flags } => {
            share.write(handle, offset, data, fuse_flags, reply)
        }
        Operation::Statfs => share.room_on_disk(node, reply),
        Operation::Release { handle } => {
            share.release(handle);
            Ok(())
        }
        Operation::Fsync { handle, flags } => share.sync(handle, flags),
        Operation::Setxattr { name, value, flags } => share.set_xattr(node, name, value, flags),
        Operation::Getxattr { name, size } => share.xattr(node, name, size, reply),
        Operation::Listxattr { size } => share.xattr_names(node, size, reply),
        Operation::Removexattr(name) => share.remove_xattr(node, name),
        Operation::Init { major, minor: _, max_readahead, flags } => {
            introduce(share, major, max_readahead, flags, reply);
            Ok(())
        }
        Operation::Opendir => share.open_directory(node, reply),
        Operation::Readdir { handle, offset, size } => {
            share.read_directory(handle, offset, size, Detail::Names, reply)
        }
        Operation::Readdirplus { handle, offset, size } => {
            share.read_directory(handle, offset, size, Detail::Attributes, reply)
        }
        Operation::Access { mask } => share.check_access(node, mask),
        Operation::Fallocate { handle, offset, length, mode } => {
            share.allocate(handle, offset, length, mode)
        }
        Operation::Lseek { handle, offset, whence } => share.seek(handle, offset, whence, reply),
        Operation::Destroy => {
            share.start_over();
            Ok(())
        }
        // Have no reply and are done with before.
        Operation::Forget { .. } | Operation::BatchForget(_) | Operation::Interrupt => Ok(()),
    }
}

/// Replies with what both sides can do: `struct fuse_init_out`.
fn introduce(share: &mut Share, major: u32, max_readahead: u32, flags: u32, reply: &mut Reply) {
    // Who mounts anew knows nothing of before.
    share.start_over();
    reply.u32(MAJOR);
    reply.u32(MINOR);
    if major > MAJOR {
        // The guest is to ask again in our version: all else is not read.
        reply.filled(56, |rest| Ok(rest.len())).unwrap_or_default();
        return;
    }
    reply.u32(max_readahead);
    reply.u32(flags & ABILITIES);
    reply.u16(BACKGROUND);
    reply.u16(BUSY);
    reply.u32(u32::try_from(MAX_DATA).unwrap_or(u32::MAX));
    reply.u32(1); // times are true to the nanosecond
    reply.u16(u16::try_from(MAX_DATA / PAGE).unwrap_or(u16::MAX));
    reply.u16(0);
    for _ in 0..8 {
        reply.u32(0);
    }
}
