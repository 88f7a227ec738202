//! EROFS images: the tree of a layer as one read-only file system in one file.
//!
//! A virtual machine is handed files, not directories, so each layer can be had as a file of the
//! same content. It depends on nothing but the tree: no clock, no random number, no order in which
//! a directory happens to be listed, so that one tree makes one image, byte for byte, anywhere.
//!
//! ```text
//! block 0        block 1 …                             …                      last
//! ├ superblock ┤ ├ inode [attributes] [tail] ─ inode … ┤ ├ whole blocks of files, directories ┤
//! ```
//!
//! [`scan`] lists the tree, [`layout`] gives everything its place (pure), [`write`](mod@write)
//! carries it out in one pass with two cursors. Nothing is compressed; what is a hole in a file is
//! one in the image. An image is only ever parsed by the kernel of a guest, never here; a hole in
//! that guest is its own.

mod checksum;
mod dirents;
mod fault;
mod format;
mod layout;
mod scan;
mod write;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

pub(crate) use fault::Fault;
pub(crate) use write::Image;

use crate::error::{Error, ErrorKind, is_full};

/// Writes the tree `tree` as an EROFS file system into `image`, an empty file opened for writing;
/// `uuid` becomes its name. The length is a multiple of 4096 bytes; nothing is synced.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] if something in the tree has no form in such a file system, or
/// the error of a file system; `image` holds a part then.
pub fn write_erofs(tree: impl AsFd, image: &File, uuid: [u8; 16]) -> Result<(), Error> {
    Image::of(tree.as_fd())
        .and_then(|plan| plan.write(image, uuid, &mut |_| {}))
        .map_err(|fault| refused("cannot write an image", fault))
}

/// Puts a sentence and a kind to what went wrong with an image.
pub(crate) fn refused(sentence: impl Into<String>, fault: Fault) -> Error {
    let kind = match fault {
        _ if is_full(&fault) => ErrorKind::NoSpace,
        Fault::Unfit { .. } | Fault::TooLarge => ErrorKind::Invalid,
        _ => ErrorKind::Storage,
    };
    Error::caused(kind, sentence, fault)
}

/// Checks what an image says of itself: that it is one of ours, its checksum, and its length.
/// `Some` is what is wrong, as a sentence. The rest is not looked at: only kernels parse images.
pub(crate) fn problem(image: &File) -> io::Result<Option<String>> {
    let mut block = vec![0; format::BLOCK_BYTES];
    let length = image.metadata()?.len();
    if length < format::BLOCK {
        return Ok(Some("its image is cut off".to_owned()));
    }
    image.read_exact_at(&mut block, 0)?;
    Ok(match format::Superblock::check(&block) {
        Err(problem) => Some(problem.to_owned()),
        Ok(blocks) if u64::from(blocks) * format::BLOCK != length => {
            Some(format!("its image has {length} bytes and says it has {blocks} blocks"))
        }
        Ok(_) => None,
    })
}
