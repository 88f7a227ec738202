//! The corpus: one archive for each thing that is known to go wrong in archives, by the id it has
//! in `docs/hostile-images.md`.
//!
//! Each says what must come of it: a refusal, or lines of the tree. Nothing of any may reach what
//! lies outside. The other tests here look at each subject further; this one is the list.

use std::io::Write as _;

use super::{Archive, Place, is_root, record};

/// What must come of an archive.
enum Outcome {
    Refused,
    /// Paths, and how the line of each begins in a list of the tree; `""` if it is not there.
    Tree(&'static [(&'static str, &'static str)]),
}

use Outcome::{Refused, Tree};

/// A case: its id, what must come of it, and the archive or its compressed bytes.
type Case = (&'static str, Outcome, Vec<u8>);

fn octal(value: u64) -> Vec<u8> {
    format!("{value:011o}\0").into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// An entry `e` of this type with these bytes put into its header.
fn header(kind: u8, at: usize, bytes: &'static [u8]) -> Archive {
    Archive::new()
        .entry(kind, "e", "", b"", move |h| h[at..at + bytes.len()].copy_from_slice(bytes))
}

fn moded(archive: Archive, kind: u8, name: &str, mode: &'static [u8; 8]) -> Archive {
    archive.entry(kind, name, "", b"", move |h| h[100..108].copy_from_slice(mode))
}

fn whiteouts() -> Vec<Case> {
    let new = Archive::new;
    vec![
        ("W1", Tree(&[("x", "char 0")]), new().whiteout(".wh.x").end()),
        ("W2", Tree(&[("x", "char 0")]), new().dir(".wh.x").end()),
        ("W3", Tree(&[("x", "char 0")]), new().symlink(".wh.x", "y").end()),
        ("W4", Tree(&[("x", "file")]), new().whiteout(".wh.x").file("x", "x").end()),
        ("W5", Tree(&[("x", "file x")]), new().file("x", "x").whiteout(".wh.x").end()),
        ("W6", Refused, new().whiteout("d/.wh.").end()),
        (
            "W7",
            Tree(&[("d", "dir 755 (0, 0) "), ("d/.wh..wh..opq", "")]),
            new().file("d", "x").whiteout("d/.wh..wh..opq").end(),
        ),
        ("W8", Refused, new().file(".wh..wh.plnk/1.2", "x").hard("h", ".wh..wh.plnk/1.2").end()),
        ("W9", Refused, new().file(".wh.a/b", "x").end()),
    ]
}

fn links() -> Vec<Case> {
    let new = Archive::new;
    vec![
        ("H1", Tree(&[("f", "file x"), ("h", "= f")]), new().file("f", "x").hard("h", "f").end()),
        ("H2", Tree(&[("f", "file x"), ("h", "= f")]), new().file("f", "x").hard("h", "/f").end()),
        (
            "H3",
            Tree(&[("d/f", "file x"), ("h", "= d/f"), ("l", "-> d")]),
            new().dir("d").file("d/f", "x").symlink("l", "d").hard("h", "l/f").end(),
        ),
        (
            "H4",
            Tree(&[("h", "-> /etc/passwd"), ("l", "= h")]),
            new().symlink("l", "/etc/passwd").hard("h", "l").end(),
        ),
        (
            "H5",
            Tree(&[("f", "file x 644")]),
            new()
                .file("f", "x")
                .entry(b'1', "h", "f", b"", |h| h[100..108].copy_from_slice(b"0006777\0"))
                .end(),
        ),
        // It is a link into a lower layer, which has no such thing either.
        ("H6", Tree(&[("h", "")]), new().hard("h", "../../../../../../etc/passwd").end()),
        ("H7", Refused, new().hard("h", "f").file("f", "x").end()),
    ]
}

fn attributes() -> Vec<Case> {
    let new = Archive::new;
    let capability = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let xattr = |name: &str, value: &[u8]| new().pax(&[(&format!("SCHILY.xattr.{name}"), value)]);
    vec![
        (
            "X1",
            Tree(&[("f", "file x 644 (0, 0) (1700000000, 0) user.note=y")]),
            xattr("user.note", b"y").file("f", "x").end(),
        ),
        (
            "X2",
            Tree(&[("d", "dir 755 (0, 0) (1700000000, 0) user.note=y")]),
            xattr("user.note", b"y").dir("d").end(),
        ),
        (
            "X3",
            Tree(&[("l", "-> x 777 (0, 0) (1700000000, 0)")]),
            xattr("user.note", b"y").symlink("l", "x").end(),
        ),
        (
            "X4",
            Tree(&[("f", "file x 644 (0, 0) (1700000000, 0) security.capability=\\x01")]),
            xattr("security.capability", capability).file("f", "x").end(),
        ),
        ("X5", Refused, xattr("security.capability", b"x").file("f", "x").end()),
        (
            "X6",
            Tree(&[("d", "dir 755 (0, 0) (1700000000, 0)$")]),
            xattr("trusted.overlay.redirect", b"/etc").dir("d").end(),
        ),
        (
            "X7",
            Tree(&[("d", "dir 755 (0, 0) (1700000000, 0)$")]),
            xattr("user.overlay.opaque", b"y").dir("d").end(),
        ),
        (
            "X8",
            Tree(&[("f", "file x 644 (0, 0) (1700000000, 0)$")]),
            xattr("security.selinux", b"y").file("f", "x").end(),
        ),
        ("X9", Refused, xattr("system.posix_acl_access", b"x").file("f", "x").end()),
        (
            "X10",
            Tree(&[("f", "file x 644 (0, 0) (1700000000, 0) user.a=\\n\\x00=\\n")]),
            xattr("user.a", b"\n\0=\n").file("f", "x").end(),
        ),
        (
            "M1",
            Tree(&[("f", "file x 6755 (5, 6) (1700000000, 0) security.capability=\\x01")]),
            new()
                .pax(&[
                    ("uid", b"5"),
                    ("gid", b"6"),
                    ("SCHILY.xattr.security.capability", &capability[..]),
                ])
                .entry(b'0', "f", "", b"x", |h| h[100..108].copy_from_slice(b"0006755\0"))
                .end(),
        ),
        (
            "M2",
            Tree(&[("d", "dir 755 (0, 0) (1600000000, 123456789)"), ("d/f", "file")]),
            new().pax(&[("mtime", b"1600000000.123456789")]).dir("d").file("d/f", "x").end(),
        ),
        ("D1", Tree(&[("e", "")]), header(b'3', 329, b"0000001\0").end()),
        ("D2", Tree(&[("e", "")]), header(b'4', 329, b"0000010\0").end()),
        ("D3", Tree(&[("e", "")]), header(b'3', 329, b"7777777\x007777777\0").end()),
        ("D4", Tree(&[("e", "fifo 600")]), moded(new(), b'6', "e", b"0000600\0").end()),
        ("U1", Tree(&[("f", "file x 644 (1000, 70000)")]), {
            new().pax(&[("uid", b"1000"), ("gid", b"70000")]).file("f", "x").end()
        }),
        ("U2", Tree(&[("f", "file  4755 (0, 0)")]), moded(new(), b'0', "f", b"0004755\0").end()),
    ]
}

fn sparse() -> Vec<Case> {
    let new = Archive::new;
    let map = |map: &[u8]| {
        let records = [
            ("GNU.sparse.size", &b"2097152"[..]),
            ("GNU.sparse.name", b"f"),
            ("GNU.sparse.map", map),
        ];
        new().pax(&records).file("GNUSparseFile.1/f", "headtail").end()
    };
    let old = new().entry(b'S', "f", "", b"headtail", |h| {
        h[257..265].copy_from_slice(b"ustar  \0");
        h[345..].fill(0);
        let fields = [octal(0), octal(4), octal(1 << 20), octal(4), octal(2 << 20), octal(0)];
        h[386..386 + 72].copy_from_slice(&fields.concat());
        h[483..495].copy_from_slice(&octal(2 << 20));
    });
    let version_0_0 = new()
        .pax(&[
            ("GNU.sparse.size", b"2097152"),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"8"),
        ])
        .file("f", "headtail");
    let mut content = b"1\n0\n8\n".to_vec();
    content.resize(512, 0);
    content.extend_from_slice(b"headtail");
    let version_1_0 = new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"f"),
            ("GNU.sparse.realsize", b"2097152"),
        ])
        .entry(b'0', "GNUSparseFile.1/f", "", &content, |_| {});
    vec![
        ("S1", Tree(&[("f", "file 2097152 f665d438f416d53f")]), old.end()),
        ("S2", Tree(&[("f", "file 2097152 68b16923c8e5217f")]), version_0_0.end()),
        ("S3", Tree(&[("f", "file 2097152 f665d438f416d53f")]), map(b"0,4,1048576,4")),
        (
            "S4",
            Tree(&[("f", "file 2097152 68b16923c8e5217f"), ("GNUSparseFile.1", "")]),
            version_1_0.end(),
        ),
        ("S5", Refused, map(b"1048576,4,0,4")),
        ("S6", Refused, map(b"0,4,1048576,5")),
    ]
}

fn pax() -> Vec<Case> {
    let new = Archive::new;
    let inner = || new().file("smuggled", "x").bytes;
    let plain = |key: &str, value: &[u8]| new().pax(&[(key, value)]).file("f", "x").end();
    let smuggled = &[("f", "file"), ("smuggled", "")];
    vec![
        (
            "P1",
            Tree(smuggled),
            new()
                .pax(&[("SCHILY.xattr.user.a", b"\n"), ("size", b"1024")])
                .entry(b'0', "f", "", b"", |_| {})
                .raw(&inner())
                .end(),
        ),
        (
            "P2",
            Tree(smuggled),
            new()
                .pax(&[("size", b"0"), ("size", b"1024")])
                .entry(b'0', "f", "", b"", |_| {})
                .raw(&inner())
                .end(),
        ),
        (
            "P3",
            Tree(&[("f", "-> target 777 (0, 0) (5, 0)")]),
            new()
                .pax(&[("mtime", b"5")])
                .entry(b'K', "././@LongLink", "", b"target\0", |_| {})
                .symlink("f", "short")
                .end(),
        ),
        (
            "P4",
            Tree(&[("f", "file x 644 (0, 0) (1700000000, 0)")]),
            new().entry(b'g', "g", "", &record("mtime", b"5"), |_| {}).file("f", "x").end(),
        ),
        ("P5", Refused, new().entry(b'g', "g", "", &record("path", b"a"), |_| {}).end()),
        ("P6", Tree(&[("f", "file x")]), plain("VENDOR.unknown", b"\n")),
        ("P7", Refused, new().entry(b'x', "x", "", b"9 a=b", |_| {}).file("f", "x").end()),
        ("P8", Refused, new().pax(&[]).pax(&[]).file("f", "x").end()),
        ("P9", Refused, new().pax(&[("path", b"a")]).end()),
        (
            "P10",
            Tree(smuggled),
            new().pax(&[("size", b"1024")]).entry(b'0', "f", "", b"", |_| {}).raw(&inner()).end(),
        ),
        ("P11", Refused, new().pax(&[("size", b"0")]).entry(b'0', "f", "", &inner(), |_| {}).end()),
        (
            "P12",
            Tree(&[("na\\xc3\\xafve\\nname", "file x")]),
            plain("path", "naïve\nname".as_bytes()),
        ),
        (
            "P13",
            Refused,
            new()
                .pax(&[("path", b"a")])
                .entry(b'L', "././@LongLink", "", b"b\0", |_| {})
                .file("f", "x")
                .end(),
        ),
        (
            "P14",
            Tree(&[("e", "file")]),
            new()
                .entry(b'0', "e", "", b"", |h| {
                    h[257..265].copy_from_slice(b"ustar  \0");
                    h[345..357].copy_from_slice(b"14555555555\0");
                })
                .end(),
        ),
        ("P15", Refused, plain("path", b"a\0b")),
        ("P16", Refused, new().file("", "x").end()),
        ("P17", Refused, plain("path", "x".repeat(256).as_bytes())),
        ("P18", Refused, plain("path", "d/".repeat(2100).as_bytes())),
        ("P19", Tree(&[("a/b", "file x")]), new().file("./a//./b", "x").end()),
        ("P20", Tree(&[("b", "file x"), ("c", "file x")]), {
            new().file("/../../b", "x").file("a/../../../c", "x").end()
        }),
        ("P21", Tree(&[("d", "dir")]), new().entry(b'0', "d/", "", b"", |_| {}).end()),
    ]
}

fn numbers() -> Vec<Case> {
    let new = Archive::new;
    let signed = {
        let mut bytes = new().entry(b'0', "f", "", b"", |h| h[300] = 0xff).bytes;
        let summed = bytes[..148].iter().chain(&bytes[156..512]);
        let sum: i64 = summed.map(|byte| i64::from(byte.cast_signed())).sum();
        bytes[148..155].copy_from_slice(format!("{:06o}\0", sum + 256).as_bytes());
        bytes
    };
    let sized =
        |kind| new().entry(kind, "e", "t", &new().file("smuggled", "x").bytes, |_| {}).end();
    vec![
        ("N1", Tree(&[("e", "file")]), header(b'0', 124, b"00000000000\0").end()),
        ("N2", Tree(&[("e", "file")]), header(b'0', 124, b"\x80\0\0\0\0\0\0\0\0\0\0\0").end()),
        ("N3", Refused, header(b'0', 124, &[0xff; 12]).end()),
        ("N4", Tree(&[("e", "file  644 (0, 0) (-1, 0)")]), header(b'0', 136, &[0xff; 12]).end()),
        (
            "N5",
            Tree(&[("f", "file x 644 (0, 0) (-2, 500000000)")]),
            new().pax(&[("mtime", b"-1.5")]).file("f", "x").end(),
        ),
        ("N6", Refused, header(b'0', 108, b"\x80\0\0\0\xff\xff\xff\xff").end()),
        ("N7", Refused, header(b'0', 124, b"+0000000003\0").end()),
        ("N8", Refused, header(b'0', 124, b"0x000000003\0").end()),
        ("N9", Tree(&[("f", "file")]), new().raw(&signed).end()),
        ("N10", Refused, sized(b'5')),
    ]
}

fn ends() -> Vec<Case> {
    let new = Archive::new;
    let cut = new().entry(b'0', "f", "", b"", |h| h[124..136].copy_from_slice(&octal(4096)));
    vec![
        ("E1", Tree(&[("f", "file x")]), new().file("f", "x").end()),
        ("E2", Tree(&[("f", "file x")]), new().file("f", "x").bytes),
        ("E3", Refused, new().raw(&[0; 512]).file("f", "x").end()),
        ("E4", Refused, cut.bytes),
    ]
}

fn replacements() -> Vec<Case> {
    let new = Archive::new;
    vec![
        ("R1", Tree(&[("f", "file new")]), new().file("f", "old").file("f", "new").end()),
        (
            "R2",
            Tree(&[("d", "dir 700 (0, 0) (1700000000, 0)$"), ("d/f", "file x")]),
            moded(
                new().pax(&[("SCHILY.xattr.user.a", b"y")]).dir("d").file("d/f", "x"),
                b'5',
                "d",
                b"0000700\0",
            )
            .end(),
        ),
        (
            "R3",
            Tree(&[("alias", "file old"), ("f", "file new")]),
            new().file("f", "old").hard("alias", "f").file("f", "new").end(),
        ),
        (
            "R4",
            Tree(&[("d", "file x"), ("d/f", "")]),
            new().dir("d").file("d/f", "x").file("d", "x").end(),
        ),
        ("R5", Tree(&[("f", "dir")]), new().file("f", "x").dir("f").end()),
        (
            "R6",
            Tree(&[("l", "dir"), ("d", "dir")]),
            new().dir("d").symlink("l", "d").dir("l").end(),
        ),
        (
            "R7",
            Tree(&[("l", "file new"), ("f", "file old")]),
            new().file("f", "old").symlink("l", "f").file("l", "new").end(),
        ),
        ("R8", Tree(&[("f", "")]), new().file("f", "x").entry(b'3', "f", "", b"", |_| {}).end()),
        ("R9", Refused, new().symlink(".", "/etc").end()),
    ]
}

/// Links that lead to `out`, which lies outside, and entries that would go through them.
fn resolution(out: &str) -> Vec<Case> {
    let new = Archive::new;
    let relative = "../../../../../../../../../../..".to_owned() + out;
    let linked = || new().symlink("l", out);
    let any = || Tree(&[]);
    vec![
        ("T1", any(), linked().file("l/f", "x").end()),
        ("T2", any(), new().symlink("l", &relative).file("l/f", "x").end()),
        ("T3", any(), new().symlink("a", "..").symlink("b", "a/outside").file("b/f", "x").end()),
        ("T4", any(), linked().file("l/canary", "dead").end()),
        ("T5", any(), moded(new().symlink("l", out), b'5', "l", b"0000777\0").end()),
        ("T6", any(), linked().whiteout("l/.wh.canary").end()),
        ("T7", any(), linked().whiteout("l/.wh..wh..opq").end()),
        ("T8", any(), linked().entry(b'3', "l/canary", "", b"", |_| {}).end()),
        ("T9", any(), linked().hard("h", "l/canary").end()),
        ("T10", Refused, new().symlink("a", "b").symlink("b", "a").file("a/f", "x").end()),
        ("T11", any(), new().symlink("p", "/proc/self/cwd").file("p/f", "x").end()),
        ("T12", any(), new().file("../outside/canary", "dead").end()),
    ]
}

fn compressed() -> Vec<Case> {
    let archive = Archive::new().file("f", "x").end();
    let (front, back) = archive.split_at(700);
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let mut wrong_sum = gzip(&archive);
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    // A header whose name has no end within reason (RFC 1952, FLG.FNAME).
    let mut named = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255];
    named.extend_from_slice(&[b'n'; 1 << 20]);
    named.push(0);
    named.extend_from_slice(&gzip(&archive)[10..]);
    // A frame that wants a window of 2 GiB (RFC 8878, Window_Descriptor of 0xa8).
    let window = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00".to_vec();
    let good = || Tree(&[("f", "file x")]);
    vec![
        ("Z1", good(), [gzip(front), gzip(back)].concat()),
        ("Z2", good(), [gzip(&archive), vec![0; 9000]].concat()),
        ("Z3", Refused, [gzip(&archive), b"garbage".to_vec()].concat()),
        ("Z4", Refused, wrong_sum),
        ("Z5", Refused, half(gzip(&archive))),
        ("Z6", Refused, named),
        ("Z7", good(), [zstd(front), zstd(back)].concat()),
        ("Z8", good(), [skippable.clone(), zstd(front), skippable, zstd(back)].concat()),
        ("Z9", Refused, window),
        ("Z10", Refused, [zstd(&archive), b"garbage".to_vec()].concat()),
        ("Z11", Refused, b"\xfd7zXZ\0".to_vec()),
    ]
}

#[test]
fn every_archive_of_the_list_is_read_as_it_says_or_refused() {
    if !is_root() {
        return;
    }
    let here: Vec<fn() -> Vec<Case>> =
        vec![whiteouts, links, attributes, sparse, pax, numbers, ends, replacements, compressed];
    let mut cases: Vec<Case> = here.into_iter().flat_map(|list| list()).collect();
    // What they aim at lies where no two places have it.
    let aimed = resolution("").len();
    cases.extend(resolution(""));
    let count = cases.len();
    let mut wrong = Vec::new();
    for (index, (id, outcome, bytes)) in cases.into_iter().enumerate() {
        let place = Place::new();
        let bytes = match index.checked_sub(count - aimed) {
            Some(index) => resolution(&place.outside()).swap_remove(index).2,
            None => bytes,
        };
        let before = place.canary();
        let result = place.unpack(&bytes);
        assert_eq!(place.canary(), before, "{id} reached the outside");
        match (outcome, result) {
            (Refused, Err(_)) => {}
            (Refused, Ok(_)) => wrong.push(format!("{id}: was not refused: {:?}", place.tree())),
            (Tree(_), Err(fault)) => wrong.push(format!("{id}: {fault:?}")),
            (Tree(lines), Ok(_)) => {
                let tree = place.tree();
                for (path, start) in lines {
                    let line = tree.get(*path).map(|line| format!("{line}$"));
                    let good = match &line {
                        None => start.is_empty(),
                        Some(line) => !start.is_empty() && line.starts_with(start),
                    };
                    if !good {
                        wrong.push(format!("{id}: `{path}` is {line:?}, not {start:?}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
