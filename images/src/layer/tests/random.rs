//! Errors are fine, panics are not; and what is not refused reads the same for ever.

use std::io::Cursor;

use proptest::prelude::*;

use super::{Archive, record};
use crate::layer::entry::{Entry, Kind};
use crate::layer::fault::Fault;
use crate::layer::tar::{Piece, Reader};

/// Reads an archive into memory: entries with their content.
fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Fault> {
    let mut reader = Reader::new(Cursor::new(bytes));
    let mut all = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut content = Vec::new();
        if matches!(entry.kind, Kind::File { .. }) {
            reader.body(|piece| {
                if let Piece::Data(bytes) = piece {
                    content.extend_from_slice(bytes);
                }
                Ok(())
            })?;
        }
        all.push((entry, content));
    }
    Ok(all)
}

fn sample() -> Vec<u8> {
    let mut sparse = b"1\n0\n4\n".to_vec();
    sparse.resize(512, 0);
    sparse.extend_from_slice(b"data");
    Archive::new()
        .dir("d")
        .pax(&[("path", b"d/long"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"x")])
        .file("f", "some content")
        .entry(b'L', "././@LongLink", "", b"d/gnu-long\0", |_| {})
        .symlink("s", "target")
        .hard("h", "d/long")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"4096"),
        ])
        .entry(b'0', "sparse", "", &sparse, |_| {})
        .entry(b'g', "g", "", &record("comment", b"x"), |_| {})
        .end()
}

/// A name that fits a header or needs an extension.
fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_][a-zA-Z0-9 ._+\u{e9}-]{0,40}(/[a-z]{1,60}){0,5}"
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = read(&bytes);
    }

    #[test]
    fn flipped_bytes_are_read_or_refused(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let mut bytes = sample();
        for (index, byte) in flips {
            let index = index.index(bytes.len());
            bytes[index] ^= byte;
        }
        let _ = read(&bytes);
    }

    #[test]
    fn spoilt_headers_with_a_right_sum_are_read_or_refused(
        at in 0_usize..500,
        new in prop::collection::vec(any::<u8>(), 1..12),
        kind in any::<u8>(),
    ) {
        let archive = Archive::new().entry(kind, "f", "t", b"content", |header| {
            let end = (at + new.len()).min(512);
            header[at..end].copy_from_slice(&new[..end - at]);
        });
        let _ = read(&archive.file("g", "x").end());
    }

    #[test]
    fn any_pax_header_is_read_or_refused(body in "[0-9]{1,2} [a-zA-Z.]{0,12}=?[0-9,.-]{0,12}\n?") {
        let archive = Archive::new().entry(b'x', "x", "", body.as_bytes(), |_| {});
        let _ = read(&archive.file("f", "").end());
    }

    #[test]
    fn a_flip_in_a_header_is_noticed(
        header in 0_usize..3,
        at in 0_usize..512,
        bit in 0_u32..8,
    ) {
        let original = Archive::new().dir("d").file("d/f", "").symlink("s", "t").end();
        let mut bytes = original.clone();
        bytes[header * 512 + at] ^= 1 << bit;
        let before = read(&original).unwrap();
        if let Ok(after) = read(&bytes) {
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn what_a_builder_wrote_reads_the_same(
        files in prop::collection::vec((name(), prop::collection::vec(any::<u8>(), 0..1500)), 0..8)
    ) {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in &files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o640);
            header.set_mtime(77);
            builder.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        let read = read(&builder.into_inner().unwrap()).unwrap();
        prop_assert_eq!(read.len(), files.len());
        for ((entry, content), (name, expected)) in read.iter().zip(&files) {
            prop_assert_eq!(&entry.path, name.as_bytes());
            prop_assert_eq!(content, expected);
            prop_assert_eq!((entry.attributes.mode, entry.attributes.modified.seconds), (0o640, 77));
        }
    }
}
