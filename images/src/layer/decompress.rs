//! Compressed layers to plain ones, by what the bytes are and not by what they are called.
//!
//! gzip with any number of members and zero padding behind them, zstd with any number of frames,
//! or nothing. Anything behind the end, and anything cut short, is an error. No external program
//! is ever asked.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::GzDecoder;

/// The largest window of a zstd frame, as a power of two: 128 MiB, what `zstd --ultra` writes and
/// every decoder takes without being asked.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Compressed bytes are read in pieces of this size; pipes give no more than 64 KiB at once.
const BUFFER: usize = 256 << 10;

/// Wraps a stream of one layer so that it reads uncompressed.
///
/// # Errors
///
/// Those of reading the first bytes, and `InvalidData` for formats we do not read.
pub(crate) fn open<R: Read + Send + 'static>(mut input: R) -> io::Result<Box<dyn Read + Send>> {
    let mut magic = Vec::with_capacity(6);
    input.by_ref().take(6).read_to_end(&mut magic)?;
    let format = sniff(&magic);
    let input = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(input));
    match format {
        Format::Plain => Ok(Box::new(input)),
        Format::Gzip => Ok(Box::new(Gzip::new(input))),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Ok(Box::new(decoder))
        }
        Format::Unsupported(name) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("layers compressed by {name} are not supported"),
        )),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Format {
    Plain,
    Gzip,
    Zstd,
    Unsupported(&'static str),
}

fn sniff(magic: &[u8]) -> Format {
    match magic {
        [0x1f, 0x8b, ..] => Format::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Format::Unsupported("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41] => Format::Unsupported("bzip2"),
        _ => Format::Plain,
    }
}

/// Reads gzip members one behind the other.
///
/// flate2's own `MultiGzDecoder` takes zeros behind the last member for a broken one; GNU gzip
/// ignores them, and tapes and padded uploads have them.
struct Gzip<R> {
    /// `None` at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    fn new(input: R) -> Self {
        Self { member: Some(GzDecoder::new(input)) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let length = member.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            let input = self.member.take().map(GzDecoder::into_inner);
            self.member = input.map(next_member).transpose()?.flatten();
        }
        Ok(0)
    }
}

fn next_member<R: BufRead>(mut input: R) -> io::Result<Option<GzDecoder<R>>> {
    let first = input.fill_buf()?.first().copied();
    if first == Some(0x1f) {
        return Ok(Some(GzDecoder::new(input)));
    }
    loop {
        let bytes = input.fill_buf()?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "garbage behind the gzip data"));
        }
        let length = bytes.len();
        if length == 0 {
            return Ok(None);
        }
        input.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn plain(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        open(Cursor::new(bytes.to_vec()))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_format_reads_alike() {
        let data = b"some bytes ".repeat(10_000);
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let (front, back) = data.split_at(777);
        for (name, bytes) in [
            ("plain", data.clone()),
            ("gzip", gzip(&data)),
            ("two members", [gzip(front), gzip(back)].concat()),
            ("padded", [gzip(&data), vec![0; 100_000]].concat()),
            ("zstd", zstd(&data)),
            ("two frames", [zstd(front), zstd(back)].concat()),
            ("skippable", [skippable.clone(), zstd(front), skippable, zstd(back)].concat()),
        ] {
            assert_eq!(plain(&bytes).unwrap(), data, "{name}");
        }
        assert_eq!(plain(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_cut_short_or_has_more_behind_is_refused() {
        let data = b"some bytes ".repeat(1000);
        let (gzip, zstd) = (gzip(&data), zstd(&data));
        let mut wrong_sum = gzip.clone();
        let at = wrong_sum.len() - 6;
        wrong_sum[at] ^= 1;
        for (name, bytes) in [
            ("half a gzip", gzip[..gzip.len() / 2].to_vec()),
            ("a gzip without its end", gzip[..gzip.len() - 1].to_vec()),
            ("a gzip and garbage", [gzip.clone(), b"garbage".to_vec()].concat()),
            ("a gzip, zeros and garbage", [gzip.clone(), vec![0; 9], b"x".to_vec()].concat()),
            ("a gzip and half another", [gzip.clone(), gzip[..9].to_vec()].concat()),
            ("a wrong sum", wrong_sum),
            ("half a zstd", zstd[..zstd.len() / 2].to_vec()),
            ("a zstd and garbage", [zstd, b"garbage".to_vec()].concat()),
            ("xz", b"\xfd7zXZ\0...".to_vec()),
            ("bzip2", b"BZh91AY&SY".to_vec()),
        ] {
            assert!(plain(&bytes).is_err(), "{name}");
        }
    }
}
