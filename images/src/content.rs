//! The bytes of files: read as far as they reach, copied with the holes between them.

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Fills `buffer` as far as the stream reaches.
pub(crate) fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Copies what is data and leaves holes holes: some bytes of an archive make a terabyte of them.
pub(crate) fn copy_content(mut from: &File, mut to: &File) -> io::Result<()> {
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(other) => return Err(other.into()),
        };
        at = rustix::fs::seek(from, SeekFrom::Hole(start))?;
        rustix::fs::seek(from, SeekFrom::Start(start))?;
        rustix::fs::seek(to, SeekFrom::Start(start))?;
        io::copy(&mut Read::take(&mut from, at - start), &mut to)?;
    }
    to.set_len(from.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_copy_has_the_holes_of_its_original() {
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(b"begin").unwrap();
        from.seek(io::SeekFrom::Start(1 << 30)).unwrap();
        from.write_all(b"middle").unwrap();
        from.set_len(1 << 40).unwrap();
        let mut to = tempfile::tempfile().unwrap();
        copy_content(&from, &to).unwrap();
        let all = to.metadata().unwrap();
        assert_eq!(all.len(), 1 << 40);
        assert!(all.blocks() * 512 < 1 << 20, "{} blocks", all.blocks());
        let mut read = [0; 6];
        to.rewind().unwrap();
        to.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"begin\0");
        to.seek(io::SeekFrom::Start(1 << 30)).unwrap();
        to.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"middle");
    }
}
