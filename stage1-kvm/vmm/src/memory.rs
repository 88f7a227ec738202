//! The memory of a guest, and the only way between it and a file.
//!
//! Everything else in the monitor reads and writes it through `vm-memory`, by copies: what a guest
//! may change at any moment is never seen as a Rust slice. A file is read into it, or written from
//! it, by the kernel itself: the functions here are all the `unsafe` there is in this crate, but for
//! two claims of [`crate::kvm`] and one of [`crate::bell`], about who closes a descriptor and whose
//! memory it is.
//!
//! ```text
//!   0          LOW_END = 3 GiB        4 GiB
//!   ├── memory ──┤ … devices … ├── the rest of the memory ──┤
//! ```

#![allow(unsafe_code, reason = "what a guest writes is never seen as a Rust slice")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;
use std::sync::Arc;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use vm_memory::{
    GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestRegionMmap, MmapRegion,
    VolatileSlice,
};

/// Where devices begin: no memory lies between here and [`HIGH_START`].
pub const LOW_END: u64 = 3 << 30;

/// Where the memory goes on that did not fit below [`LOW_END`].
pub const HIGH_START: u64 = 4 << 30;

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;

/// The memory of a guest, by addresses of the guest.
pub type Memory = Arc<GuestMemoryMmap>;

/// The most parts one call of the kernel takes (`IOV_MAX`, `readv(2)`).
const MAX_PARTS: usize = 1024;

/// Where memory of so many bytes lies, as addresses and lengths.
#[must_use]
pub fn layout(bytes: u64) -> Vec<(u64, u64)> {
    if bytes <= LOW_END {
        vec![(0, bytes)]
    } else {
        vec![(0, LOW_END), (HIGH_START, bytes - LOW_END)]
    }
}

/// Maps memory for a guest: anonymous, private, zero, not reserved before it is used. It stays
/// mapped until the process ends, whose only machine it is for.
///
/// It begins where a huge page does, for only there the pages of host and guest have the same
/// edges, and KVM maps huge ones: a guest's kernel starts in a third less time for it (nested).
///
/// # Errors
///
/// What the kernel says: there is no room for it among our addresses.
pub fn map(bytes: u64) -> io::Result<Memory> {
    let mut regions = Vec::new();
    for (start, length) in layout(bytes) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let region = map_aligned(length).and_then(|region| {
            GuestRegionMmap::new(region, GuestAddress(start))
                .ok_or(io::ErrorKind::InvalidInput.into())
        });
        regions.push(region?);
    }
    Ok(Arc::new(GuestMemoryMmap::from_regions(regions).map_err(io::Error::other)?))
}

/// Maps so many bytes from the edge of a huge page on.
fn map_aligned(length: usize) -> io::Result<MmapRegion> {
    let (prot, flags) =
        (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
    // What lies before and behind the region is never touched: it costs addresses only.
    let room = length.checked_add(HUGE).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: the kernel chooses the address, so that nothing else is there.
    let found = unsafe { mmap_anonymous(ptr::null_mut(), room, prot, flags) }?.cast::<u8>();
    let region = found.wrapping_add(found.align_offset(HUGE));
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    // SAFETY: the region is within what was mapped so, for the edge comes before `HUGE` bytes are
    // over; nobody else knows of it, and nobody unmaps it.
    unsafe { MmapRegion::build_raw(region, length, prot, flags) }.map_err(io::Error::other)
}

/// Reads `length` bytes of a file, from `offset` on, to an address of the guest.
///
/// They are copied. To map the file's pages instead was tried: a kernel took twice as long to start
/// (14.0 s to 7.5 s in a nested machine), for such pages reach a guest one by one, each by a fault
/// of its own, where copied ones lie in huge pages.
///
/// # Errors
///
/// The range is not within memory (`InvalidInput`), the file ends before, or the kernel fails.
pub fn place(
    memory: &Memory,
    file: BorrowedFd<'_>,
    offset: u64,
    length: u64,
    address: u64,
) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let length = usize::try_from(length).map_err(|_| invalid())?;
    let room = memory.get_slice(GuestAddress(address), length).map_err(|_| invalid())?;
    let mut done = 0;
    while done < length {
        let rest = room.offset(done).map_err(|_| invalid())?;
        match read_into(file, offset + done as u64, &[rest]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Where in a file bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this offset; the file's own position stays.
    At(u64),
    /// Wherever the file is: a tap has no offsets.
    Next,
}

/// Reads from a file, from `offset` on, into parts of a guest's memory, as many as one call takes;
/// the file's own position stays (`preadv(2)`).
///
/// # Errors
///
/// The kernel's; nothing or part of it has been read.
pub fn read_into(
    file: BorrowedFd<'_>,
    offset: u64,
    parts: &[VolatileSlice<'_>],
) -> io::Result<usize> {
    let vectors = vectors(parts);
    let count = i32::try_from(vectors.len()).unwrap_or(0);
    let (fd, offset) = (file.as_raw_fd(), file_offset(offset)?);
    // SAFETY: each vector is a `VolatileSlice` that outlives the call: mapped, writable memory of
    // that length in which no Rust reference exists. The kernel keeps none of them.
    let read = unsafe { libc::preadv(fd, vectors.as_ptr(), count, offset) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Writes parts of a guest's memory to a file, as many as one call takes.
///
/// # Errors
///
/// The kernel's; nothing or part of it has been written.
pub fn write_from(
    file: BorrowedFd<'_>,
    place: Place,
    parts: &[VolatileSlice<'_>],
) -> io::Result<usize> {
    let vectors = vectors(parts);
    let count = i32::try_from(vectors.len()).unwrap_or(0);
    let offset = match place {
        Place::At(offset) => file_offset(offset)?,
        // The file's own position (`pwritev2(2)`).
        Place::Next => -1,
    };
    let fd = file.as_raw_fd();
    // SAFETY: each vector is a `VolatileSlice` that outlives the call: mapped, readable memory of
    // that length. The kernel copies from it whatever the guest makes of it meanwhile, and keeps
    // none of them.
    let written = unsafe { libc::pwritev2(fd, vectors.as_ptr(), count, offset, 0) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

fn vectors(parts: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    parts
        .iter()
        .take(MAX_PARTS)
        .map(|part| libc::iovec {
            iov_base: part.ptr_guard_mut().as_ptr().cast(),
            iov_len: part.len(),
        })
        .collect()
}

fn file_offset(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}
