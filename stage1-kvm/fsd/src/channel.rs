//! Frames on the stream to the monitor.

use std::io::{self, ErrorKind, Read};

use pod_abi::share::{LENGTH_SIZE, MAX_MESSAGE};

/// Reads one request into `request`. `false` at the end of the stream.
///
/// # Errors
///
/// Those of `read(2)`; `InvalidData` for a frame that is too long, `UnexpectedEof` for one that
/// breaks off. There is no next frame to find after that.
pub fn next_request(stream: &mut impl Read, request: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; LENGTH_SIZE];
    match stream.read(&mut length)? {
        0 => return Ok(false),
        read => stream.read_exact(length.get_mut(read..).unwrap_or_default())?,
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        return Err(ErrorKind::InvalidData.into());
    }
    request.resize(length, 0);
    stream.read_exact(request)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut stream = bytes;
        let (mut all, mut one) = (Vec::new(), Vec::new());
        while next_request(&mut stream, &mut one)? {
            all.push(one.clone());
        }
        Ok(all)
    }

    #[test]
    fn frames_are_read_whole_or_not_at_all() {
        assert_eq!(read(b"").unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(read(b"\x02\0\0\0hi\0\0\0\0").unwrap(), vec![b"hi".to_vec(), vec![]]);
        assert_eq!(read(b"\x02\0").unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(read(b"\x02\0\0\0h").unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(read(b"\xff\xff\xff\xff").unwrap_err().kind(), ErrorKind::InvalidData);
        let length = u32::try_from(MAX_MESSAGE + 1).unwrap().to_le_bytes();
        assert_eq!(read(&length).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
