//! Compressed images to plain ones, by what the bytes are: the file's name says nothing.
//!
//! gzip, bzip2 and xz, with any number of streams one behind the other, or nothing. Memory is
//! bounded by what the decoder of each may take; no external program is ever asked.

use std::io::{self, Cursor, Read};

use bzip2::read::MultiBzDecoder;
use lzma_rust2::XzReader;

use crate::layer;

/// The most memory a decoder of xz may take, in KiB: `xz -9` asks for 65 MiB.
const XZ_MEMORY_KIB: u32 = 128 << 10;

/// How an image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Encrypted,
}

/// Wraps the stream of an image so that it reads uncompressed.
///
/// # Errors
///
/// Those of reading the first bytes, and `Unsupported` for an image that is encrypted.
pub(crate) fn decompressed(mut reader: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut magic = Vec::with_capacity(MAGIC);
    reader.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
    let compression = sniff(&magic);
    let whole = Cursor::new(magic).chain(reader);
    match compression {
        Compression::Plain => Ok(Box::new(whole)),
        Compression::Gzip => layer::decompress(whole),
        Compression::Bzip2 => Ok(Box::new(MultiBzDecoder::new(whole))),
        Compression::Xz => Ok(Box::new(XzReader::new_mem_limit(whole, true, XZ_MEMORY_KIB))),
        Compression::Encrypted => {
            let why = "the image is encrypted by PGP, which is not supported";
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
    }
}

/// How many bytes tell.
const MAGIC: usize = 16;

fn sniff(magic: &[u8]) -> Compression {
    match magic {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        // A session key by passphrase, version 4: as text, or in an old or a new packet.
        [0x8c, _, 4, ..] | [0xc3, _, 4, ..] => Compression::Encrypted,
        _ if magic.starts_with(b"-----BEGIN PGP") => Compression::Encrypted,
        _ => Compression::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    use proptest::prelude::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Compresses with a dictionary of `size` bytes, which whoever reads it must have, too.
    fn xz(bytes: &[u8], size: u32) -> Vec<u8> {
        let mut options = lzma_rust2::XzOptions::with_preset(1);
        options.lzma_options.dict_size = size;
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn plain(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompressed(Box::new(Cursor::new(bytes.to_vec())))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_compression_reads_alike() {
        let data = b"some bytes ".repeat(10_000);
        let (front, back) = data.split_at(777);
        for (name, bytes) in [
            ("plain", data.clone()),
            ("gzip", gzip(&data)),
            ("two of gzip", [gzip(front), gzip(back)].concat()),
            ("bzip2", bzip2(&data)),
            ("two of bzip2", [bzip2(front), bzip2(back)].concat()),
            ("xz", xz(&data, 64 << 20)),
            ("two of xz", [xz(front, 1 << 20), xz(back, 1 << 20)].concat()),
        ] {
            assert!(plain(&bytes).unwrap() == data, "{name}");
        }
        assert_eq!(plain(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_cut_short_too_large_or_encrypted_is_refused() {
        let data = b"some bytes ".repeat(1000);
        for whole in [gzip(&data), bzip2(&data), xz(&data, 1 << 20)] {
            for length in [whole.len() / 2, whole.len() - 1] {
                assert!(plain(&whole[..length]).is_err(), "{}", whole[..3].escape_ascii());
            }
            let more = [&whole[..], b"garbage"].concat();
            assert!(plain(&more).is_err(), "{} and more", whole[..3].escape_ascii());
        }
        assert!(plain(&xz(&data, 512 << 20)).is_err());
        let passphrase = [0x8c, 0x0d, 4, 9, 3, 8];
        for encrypted in [&b"-----BEGIN PGP MESSAGE-----"[..], &passphrase] {
            assert_eq!(plain(encrypted).unwrap_err().kind(), io::ErrorKind::Unsupported);
        }
    }

    proptest! {
        #[test]
        fn spoilt_bytes_are_an_error_at_worst(
            which in 0..3, at in any::<prop::sample::Index>(), with in any::<u8>(),
        ) {
            let data = b"some bytes ".repeat(300);
            let mut bytes = match which {
                0 => gzip(&data),
                1 => bzip2(&data),
                _ => xz(&data, 1 << 20),
            };
            let at = at.index(bytes.len());
            bytes[at] = with;
            let _ = plain(&bytes);
        }
    }
}
