//! What honest layers become.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::{Archive, Place, is_root};

fn opaque(place: &Place, path: &str) -> bool {
    xattr::get(place.root().join(path), "trusted.overlay.opaque").unwrap().is_some()
}

fn is_whiteout(place: &Place, path: &str) -> bool {
    let meta = fs::symlink_metadata(place.root().join(path)).unwrap();
    meta.file_type().is_char_device() && meta.rdev() == 0
}

#[test]
fn every_attribute_of_an_entry_is_kept() {
    if !is_root() {
        return;
    }
    let capability = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mode = |mode: &'static [u8; 8]| move |h: &mut [u8; 512]| h[100..108].copy_from_slice(mode);
    let archive = Archive::new()
        .pax(&[("mtime", b"-1.5"), ("uid", b"4294967294")])
        .entry(b'5', ".", "", b"", mode(b"0000700\0"))
        .pax(&[("mtime", b"1600000000.123456789"), ("gid", b"12")])
        .entry(b'5', "tmp", "", b"", mode(b"0001777\0"))
        .pax(&[("uid", b"1"), ("gid", b"2"), ("SCHILY.xattr.user.note", b"a\nb\0c")])
        .entry(b'0', "tmp/suid", "", b"x", mode(b"0006755\0"))
        .pax(&[("SCHILY.xattr.security.capability", capability)])
        .file("tmp/able", "x")
        .pax(&[("path", "naïve\n/x".as_bytes())])
        .file("f", "y")
        .pax(&[("uid", b"7")])
        .symlink("link", "tmp/suid")
        .hard("hard", "tmp/suid")
        .entry(b'6', "pipe", "", b"", mode(b"0000600\0"));
    let place = Place::new();
    let facts = place.unpack(&archive.end()).unwrap();
    let tree = place.tree();
    let expected = [
        ("", "dir 700 (4294967294, 0) (-2, 500000000)"),
        ("hard", "file x 6755 (1, 2) (1700000000, 0) user.note=a\\nb\\x00c"),
        ("link", "-> tmp/suid 777 (7, 0) (1700000000, 0)"),
        ("pipe", "fifo 600 (0, 0) (1700000000, 0)"),
        ("tmp", "dir 1777 (0, 12) (1600000000, 123456789)"),
        ("tmp/suid", "= hard"),
    ];
    for (path, line) in expected {
        assert_eq!(tree[path], line, "{path}");
    }
    let able = xattr::get(place.root().join("tmp/able"), "security.capability").unwrap();
    assert_eq!(able.as_deref(), Some(&capability[..]));
    assert_eq!(fs::read(place.root().join("naïve\n/x")).unwrap(), b"y");
    assert_eq!((facts.entries, facts.bytes), (8, 3));
    assert_eq!(facts.implicit_dirs, ["naïve\n".as_bytes()]);
}

#[test]
fn whiteouts_hide_lower_layers_only_whatever_their_order() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let archive = Archive::new()
        .whiteout(".wh.gone")
        .file("kept-before", "x")
        .whiteout(".wh.kept-before")
        .whiteout(".wh.kept-after")
        .file("kept-after", "x")
        .whiteout(".wh.fresh-after")
        .dir("fresh-after")
        .dir("fresh-before")
        .file("fresh-before/f", "x")
        .whiteout(".wh.fresh-before")
        .whiteout(".wh.implied")
        .file("implied/f", "x")
        .entry(b'5', ".wh.as-directory", "", b"", |_| {})
        .entry(b'2', ".wh.as-link", "gone", b"", |_| {});
    let facts = place.unpack(&archive.end()).unwrap();
    for path in ["gone", "as-directory", "as-link"] {
        assert!(is_whiteout(&place, path), "{path}");
    }
    for path in ["kept-before", "kept-after", "fresh-before/f", "implied/f"] {
        assert!(place.root().join(path).is_file(), "{path}");
    }
    for path in ["fresh-after", "fresh-before", "implied"] {
        assert!(opaque(&place, path), "{path}");
    }
    assert_eq!(facts.implicit_dirs, [b"implied"]);
}

#[test]
fn an_opaque_directory_holds_no_whiteouts() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let archive = Archive::new()
        .dir("before")
        .whiteout("before/.wh.a")
        .dir("before/deep")
        .whiteout("before/deep/.wh.a")
        .file("before/deep/kept", "x")
        .whiteout("before/.wh..wh..opq")
        .dir("after")
        .whiteout("after/.wh..wh..opq")
        .dir("after/deep")
        .whiteout("after/deep/.wh.a")
        .file("was-a-file", "x")
        .whiteout("was-a-file/.wh..wh..opq")
        .whiteout("other/.wh.a");
    place.unpack(&archive.end()).unwrap();
    for path in ["before", "after", "was-a-file"] {
        assert!(opaque(&place, path), "{path}");
    }
    assert!(!opaque(&place, "other"));
    assert!(is_whiteout(&place, "other/a"));
    let expected =
        ["after", "after/deep", "before", "before/deep", "before/deep/kept", "other", "other/a"];
    let paths = place.paths();
    assert_eq!(paths[..expected.len()], expected);
}

#[test]
fn a_replaced_opaque_directory_takes_its_mark_with_it() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let archive = Archive::new()
        .dir("d")
        .whiteout("d/.wh..wh..opq")
        .file("d", "x")
        .dir("d")
        .whiteout("d/.wh.a");
    place.unpack(&archive.end()).unwrap();
    assert!(!opaque(&place, "d"));
    assert!(is_whiteout(&place, "d/a"));
}

#[test]
fn later_entries_replace_earlier_ones() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let archive = Archive::new()
        .file("file-file", "old")
        .hard("alias", "file-file")
        .file("file-file", "new")
        .dir("dir-file")
        .file("dir-file/below", "x")
        .file("dir-file", "x")
        .file("file-dir", "x")
        .dir("file-dir")
        .symlink("link-dir", "dir-dir")
        .dir("link-dir")
        .dir("dir-dir")
        .file("dir-dir/below", "x")
        .entry(b'5', "dir-dir", "", b"", |h| h[100..108].copy_from_slice(b"0000700\0"))
        .file("file-parent", "x")
        .file("file-parent/below", "x")
        .file("file-device", "x")
        .entry(b'4', "file-device", "", b"", |_| {});
    let facts = place.unpack(&archive.end()).unwrap();
    let at = |path: &str| place.root().join(path);
    assert_eq!(fs::read(at("file-file")).unwrap(), b"new");
    assert_eq!(fs::read(at("alias")).unwrap(), b"old");
    assert!(at("dir-file").is_file());
    assert!(at("file-dir").is_dir());
    assert!(fs::symlink_metadata(at("link-dir")).unwrap().is_dir());
    assert_eq!(fs::metadata(at("dir-dir")).unwrap().mode() & 0o777, 0o700);
    assert!(at("dir-dir/below").is_file());
    assert!(at("file-parent/below").is_file());
    assert!(!at("file-device").exists());
    assert_eq!(facts.skipped_devices, 1);
}

#[test]
fn links_within_the_root_are_followed_for_parents() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let archive = Archive::new()
        .dir("usr")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file("lib/a", "x")
        .symlink("abs", "/usr/lib")
        .file("abs/b", "x")
        .symlink("usr/lib/up", "../../outer")
        .file("lib/up/c", "x")
        .symlink("dangling", "not/there/yet")
        .file("dangling/d", "x");
    let facts = place.unpack(&archive.end()).unwrap();
    for path in ["usr/lib/a", "usr/lib/b", "outer/c", "not/there/yet/d"] {
        assert!(place.root().join(path).is_file(), "{path}");
    }
    let mut implicit = facts.implicit_dirs;
    implicit.sort();
    assert_eq!(implicit, [&b"not"[..], b"not/there", b"not/there/yet", b"outer"]);
}

#[test]
fn links_to_lower_layers_and_to_left_out_devices_are_told() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let archive = Archive::new()
        .hard("dir/link", "lower/target")
        .hard("second", "dir/link")
        .hard("replaced", "lower/other")
        .file("replaced", "x")
        .entry(b'3', "dev/null", "", b"", |_| {})
        .hard("dev/zero", "dev/null");
    let facts = place.unpack(&archive.end()).unwrap();
    let link = |a: &str, b: &str| (a.as_bytes().to_vec(), b.as_bytes().to_vec());
    assert_eq!(
        facts.lower_links,
        [link("dir/link", "lower/target"), link("second", "lower/target")]
    );
    assert_eq!(facts.skipped_devices, 2);
    assert_eq!(place.paths(), ["dir", "replaced"]);
}

#[test]
fn old_and_odd_but_clear_archives_are_read() {
    if !is_root() {
        return;
    }
    let long = "n/".repeat(120) + "end";
    let cases: Vec<(&str, Archive, &str)> = vec![
        ("a directory by its slash", Archive::new().entry(b'0', "d/", "", b"", |_| {}), "d"),
        ("an old type flag", Archive::new().entry(0, "f", "", b"x", |_| {}), "f"),
        ("a contiguous file", Archive::new().entry(b'7', "f", "", b"x", |_| {}), "f"),
        (
            "a prefix",
            Archive::new().entry(b'0', "f", "", b"x", |h| h[345..348].copy_from_slice(b"p/q")),
            "p/q/f",
        ),
        (
            "GNU fields where the prefix is",
            Archive::new().entry(b'0', "f", "", b"x", |h| {
                h[257..265].copy_from_slice(b"ustar  \0");
                h[345..357].copy_from_slice(b"14555555555\0");
            }),
            "f",
        ),
        (
            "a GNU long name",
            Archive::new()
                .entry(b'L', "././@LongLink", "", format!("{long}\0").as_bytes(), |_| {})
                .file("short", "x"),
            &long,
        ),
        (
            "a PAX header before a GNU long link",
            Archive::new()
                .pax(&[("mtime", b"5"), ("size", b"0")])
                .entry(b'K', "././@LongLink", "", b"target\0", |_| {})
                .symlink("f", "short"),
            "f",
        ),
        (
            "a global header with a comment",
            Archive::new()
                .entry(b'g', "g", "", &super::record("comment", b"x"), |_| {})
                .file("f", "x"),
            "f",
        ),
        (
            "a signed checksum",
            Archive::new().raw(&{
                let mut bytes = Archive::new().entry(b'0', "f", "", b"", |h| h[300] = 0xff).bytes;
                let summed = bytes[..148].iter().chain(&bytes[156..512]);
                let sum: i64 = summed.map(|byte| i64::from(byte.cast_signed())).sum();
                let field = format!("{:06o}\0", sum + 256);
                bytes[148..155].copy_from_slice(field.as_bytes());
                bytes
            }),
            "f",
        ),
    ];
    for (name, archive, path) in cases {
        for (how, bytes) in [("ended", archive.clone().end()), ("open", archive.bytes.clone())] {
            let place = Place::new();
            let result = place.unpack(&bytes);
            assert!(result.is_ok(), "{name}, {how}: {result:?}");
            assert!(fs::symlink_metadata(place.root().join(path)).is_ok(), "{name}, {how}");
        }
    }
}

#[test]
fn sparse_files_get_their_holes_in_every_encoding() {
    if !is_root() {
        return;
    }
    let octal = |value: u64| format!("{value:011o}\0").into_bytes();
    let gnu = Archive::new().entry(b'S', "f", "", b"headtail", |h| {
        h[257..265].copy_from_slice(b"ustar  \0");
        h[345..].fill(0);
        let fields = [octal(0), octal(4), octal(1 << 20), octal(4), octal(2 << 20), octal(0)];
        h[386..386 + 72].copy_from_slice(&fields.concat());
        h[483..495].copy_from_slice(&octal(2 << 20));
    });
    let version_0_0 = Archive::new()
        .pax(&[
            ("GNU.sparse.size", b"2097152"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"4"),
            ("GNU.sparse.offset", b"1048576"),
            ("GNU.sparse.numbytes", b"4"),
        ])
        .file("f", "headtail");
    let version_0_1 = Archive::new()
        .pax(&[
            ("GNU.sparse.size", b"2097152"),
            ("GNU.sparse.name", b"f"),
            ("GNU.sparse.map", b"0,4,1048576,4"),
        ])
        .file("GNUSparseFile.1/f", "headtail");
    let mut content = b"2\n0\n4\n1048576\n4\n".to_vec();
    content.resize(512, 0);
    content.extend_from_slice(b"headtail");
    let version_1_0 = Archive::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"f"),
            ("GNU.sparse.realsize", b"2097152"),
        ])
        .entry(b'0', "GNUSparseFile.1/f", "", &content, |_| {});
    let mut expected = vec![0; 2 << 20];
    expected[..4].copy_from_slice(b"head");
    expected[1 << 20..(1 << 20) + 4].copy_from_slice(b"tail");
    for (name, archive) in
        [("GNU", gnu), ("0.0", version_0_0), ("0.1", version_0_1), ("1.0", version_1_0)]
    {
        let place = Place::new();
        let facts = place.unpack(&archive.file("next", "x").end()).unwrap();
        let path = place.root().join("f");
        assert!(fs::read(&path).unwrap() == expected, "{name}");
        assert!(fs::metadata(&path).unwrap().blocks() < 64, "{name} is not sparse");
        assert_eq!(facts.bytes, 9, "{name}");
        assert_eq!(place.paths(), ["f", "next"], "{name}");
    }
}

#[test]
fn the_digest_covers_what_is_behind_the_end_of_the_archive() {
    if !is_root() {
        return;
    }
    use sha2::{Digest as _, Sha256};
    let archive = [Archive::new().file("f", "x").end(), vec![0; 9000], b"more".to_vec()].concat();
    let expected = pod_abi::digest::Digest::from_hash(&Sha256::digest(&archive)).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(archive.as_slice(), 1).unwrap();
    for bytes in [archive, gzip, zstd] {
        assert_eq!(Place::new().unpack(&bytes).unwrap().diff_id, expected);
    }
}

#[test]
fn a_directory_that_gives_its_group_away_gives_it_to_no_entry() {
    if !is_root() {
        return;
    }
    let mode = |mode: &'static [u8; 8]| move |h: &mut [u8; 512]| h[100..108].copy_from_slice(mode);
    let archive = Archive::new()
        .pax(&[("gid", b"5")])
        .entry(b'5', "shared", "", b"", mode(b"0002775\0"))
        .file("shared/file", "x")
        .entry(b'0', "shared/suid", "", b"x", mode(b"0006711\0"))
        .dir("shared/inner")
        .symlink("shared/link", "file");
    let place = Place::new();
    place.unpack(&archive.end()).unwrap();
    let tree = place.tree();
    for (path, line) in [
        ("shared", "dir 2775 (0, 5) (1700000000, 0)"),
        ("shared/file", "file x 644 (0, 0) (1700000000, 0)"),
        ("shared/inner", "dir 755 (0, 0) (1700000000, 0)"),
        ("shared/link", "-> file 777 (0, 0) (1700000000, 0)"),
        ("shared/suid", "file x 6711 (0, 0) (1700000000, 0)"),
    ] {
        assert_eq!(tree[path], line, "{path}");
    }
}
