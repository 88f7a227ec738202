//! The forms kernels and modules are packed in, each unpacked within bounds.

use std::io::{self, Read};

use crate::bytes::u32_at;
use crate::error::{Error, ErrorKind};

/// A form that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As it is.
    Plain,
    /// RFC 1952.
    Gzip,
    /// `LZ4_Frame_format.md`, "legacy frame": what the kernel's build makes.
    Lz4,
    /// `xz-file-format.txt`, with the filter for x86 that the kernel's build uses.
    Xz,
    /// RFC 8878.
    Zstd,
}

/// What each begins with (`scripts/extract-vmlinux`), and whether we read it.
const MAGICS: [(&[u8], Result<Packing, &str>); 8] = [
    (b"\x7fELF", Ok(Packing::Plain)),
    (b"\x1f\x8b", Ok(Packing::Gzip)),
    (b"\x02\x21\x4c\x18", Ok(Packing::Lz4)),
    (b"\xfd7zXZ\0", Ok(Packing::Xz)),
    (b"\x28\xb5\x2f\xfd", Ok(Packing::Zstd)),
    (b"BZh", Err("bzip2")),
    (b"\x89LZO", Err("lzo")),
    (b"\x5d\0\0", Err("lzma")),
];

/// Bytes each block of an LZ4 legacy frame unpacks to, but for the last.
const LZ4_BLOCK: usize = 8 << 20;
/// The longest such block, packed (`LZ4_COMPRESSBOUND`).
const LZ4_PACKED: usize = LZ4_BLOCK + LZ4_BLOCK / 255 + 16;
/// KiB a decoder of xz may take: the kernel's build asks for up to 128 MiB of dictionary.
const XZ_MEMORY_KIB: u32 = 160 << 10;
/// The largest window of zstd, as a power of two: what `zstd -22` of the kernel's build takes.
const ZSTD_WINDOW_LOG: u32 = 27;

impl Packing {
    /// Tells how `bytes` are packed.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, Error> {
        match MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
            Some((_, Ok(packing))) => Ok(*packing),
            Some((_, Err(name))) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("it is packed by {name}, which is not read here"),
            )),
            None => Err(Error::damaged("what is packed in it is of no form that is known")),
        }
    }

    /// Returns what `bytes` unpack to, which must not be longer than `most`.
    pub(crate) fn unpack(self, bytes: &[u8], most: u64) -> Result<Vec<u8>, Error> {
        match self {
            Self::Plain if bytes.len() as u64 > most => Err(too_large(most)),
            Self::Plain => Ok(bytes.to_vec()),
            Self::Gzip => drain(flate2::read::GzDecoder::new(bytes), most),
            Self::Lz4 => lz4(bytes, most),
            Self::Xz => {
                drain(lzma_rust2::XzReader::new_mem_limit(bytes, false, XZ_MEMORY_KIB), most)
            }
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(bytes).map_err(|e| damaged(&e))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|e| damaged(&e))?;
                drain(decoder.single_frame(), most)
            }
        }
    }
}

/// Unpacks what a kernel carries: behind it stands, in every form, how long it is unpacked.
pub(crate) fn unpack_payload(packed: &[u8], most: u64) -> Result<Vec<u8>, Error> {
    let packing = Packing::of(packed)?;
    let (size, rest) = match (packing, packed.split_last_chunk::<4>()) {
        (Packing::Plain, _) => return packing.unpack(packed, most),
        (_, None) => return Err(Error::damaged("what is packed in it is cut short")),
        // It has the size at its own end.
        (Packing::Gzip, Some((_, size))) => (size, packed),
        (_, Some((rest, size))) => (size, rest),
    };
    let size = u64::from(u32::from_le_bytes(*size));
    if size > most {
        return Err(too_large(most));
    }
    let unpacked = packing.unpack(rest, size)?;
    if unpacked.len() as u64 != size {
        return Err(Error::damaged(format!(
            "what is packed in it has {} bytes and should have {size}",
            unpacked.len()
        )));
    }
    Ok(unpacked)
}

fn drain(reader: impl Read, most: u64) -> Result<Vec<u8>, Error> {
    let mut unpacked = Vec::new();
    reader.take(most + 1).read_to_end(&mut unpacked).map_err(|error| damaged(&error))?;
    if unpacked.len() as u64 > most {
        return Err(too_large(most));
    }
    Ok(unpacked)
}

/// Unpacks a legacy frame: a magic number, then blocks behind their lengths, up to the end.
fn lz4(bytes: &[u8], most: u64) -> Result<Vec<u8>, Error> {
    let cut = || Error::damaged("what is packed in it by lz4 is cut short");
    let mut rest = bytes.get(4..).ok_or_else(cut)?;
    let mut unpacked = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    while !rest.is_empty() {
        let length = u32_at(rest, 0).ok_or_else(cut)? as usize;
        if length > LZ4_PACKED {
            return Err(Error::damaged("a block packed by lz4 is too long"));
        }
        let packed = rest.get(4..4 + length).ok_or_else(cut)?;
        let size = lz4_flex::block::decompress_into(packed, &mut block)
            .map_err(|error| damaged(&io::Error::other(error)))?;
        unpacked.extend_from_slice(&block[..size]);
        if unpacked.len() as u64 > most {
            return Err(too_large(most));
        }
        rest = &rest[4 + length..];
    }
    Ok(unpacked)
}

fn damaged(error: &io::Error) -> Error {
    Error::damaged(format!("what is packed in it cannot be unpacked: {error}"))
}

fn too_large(most: u64) -> Error {
    Error::new(ErrorKind::TooLarge, format!("it would unpack to more than {most} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn lz4(bytes: &[u8]) -> Vec<u8> {
        let mut packed = b"\x02\x21\x4c\x18".to_vec();
        for block in bytes.chunks(LZ4_BLOCK) {
            let block = lz4_flex::block::compress(block);
            packed.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
            packed.extend_from_slice(&block);
        }
        packed
    }

    /// `printf 'hello, kernel\n' | xz --check=crc32 --x86 --lzma2=dict=1MiB`.
    const XZ: &[u8] = include_bytes!("../tests/hello.xz");

    #[test]
    fn every_form_unpacks_to_what_was_packed() {
        let text = b"a kernel is mostly like another part of it".repeat(1 << 19);
        for packed in [gzip(&text), lz4(&text), zstd::encode_all(&text[..], 3).unwrap()] {
            let packing = Packing::of(&packed).unwrap();
            let unpacked = packing.unpack(&packed, text.len() as u64).unwrap();
            assert!(unpacked == text, "{packing:?}");
            let kind = packing.unpack(&packed, text.len() as u64 - 1).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::TooLarge, "{packing:?}");
        }
        assert_eq!(Packing::of(XZ).unwrap().unpack(XZ, 99).unwrap(), b"hello, kernel\n");
        assert_eq!(Packing::Xz.unpack(XZ, 5).unwrap_err().kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_payload_must_be_as_long_as_it_says() {
        let text = b"a kernel, a kernel, a kernel".repeat(9);
        let size = u32::try_from(text.len()).unwrap();
        let with_size = |mut packed: Vec<u8>, size: u32| {
            packed.extend_from_slice(&size.to_le_bytes());
            packed
        };
        assert_eq!(unpack_payload(&gzip(&text), 1 << 20).unwrap(), text);
        for packed in [lz4(&text), zstd::encode_all(&text[..], 3).unwrap()] {
            let right = with_size(packed.clone(), size);
            assert_eq!(unpack_payload(&right, 1 << 20).unwrap(), text);
            for wrong in [size - 1, size + 1, u32::MAX, 0] {
                assert!(unpack_payload(&with_size(packed.clone(), wrong), 1 << 20).is_err());
            }
            assert_eq!(unpack_payload(&right, 10).unwrap_err().kind(), ErrorKind::TooLarge);
        }
        let xz = with_size(XZ.to_vec(), 14);
        assert_eq!(unpack_payload(&xz, 99).unwrap(), b"hello, kernel\n");
    }

    #[test]
    fn what_is_cut_short_is_refused_wherever() {
        let text = b"many words, many words, and some more".repeat(40);
        for packed in [gzip(&text), lz4(&text), zstd::encode_all(&text[..], 3).unwrap(), XZ.into()]
        {
            let packing = Packing::of(&packed).unwrap();
            for length in 6..packed.len() {
                let Ok(unpacked) = packing.unpack(&packed[..length], 1 << 20) else { continue };
                // A legacy frame has no end of its own; the size behind it tells.
                assert!(packing == Packing::Lz4 && unpacked.len() < text.len(), "{packing:?}");
            }
        }
    }

    #[test]
    fn what_is_not_read_is_refused_by_name() {
        for (magic, name) in [(&b"BZh91AY"[..], "bzip2"), (b"\x89LZO\0", "lzo"), (b"]\0\0", "lzma")]
        {
            let error = Packing::of(magic).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(name), "{error}");
        }
        assert_eq!(Packing::of(b"nothing").unwrap_err().kind(), ErrorKind::Damaged);
    }
}
