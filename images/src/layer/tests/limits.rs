//! Layers that are too much.

use super::{Archive, Place, is_root};
use crate::layer::error::ErrorKind;
use crate::layer::facts::Limits;
use crate::layer::fault::Fault;

const NONE: Limits = Limits { entries: u64::MAX, bytes: u64::MAX, reserve: 0 };

#[test]
fn a_layer_within_its_limits_is_unpacked_and_one_beyond_is_not() {
    if !is_root() {
        return;
    }
    let archive = Archive::new().file("a", "x").file("b", "x").end();
    let length = archive.len() as u64;
    let cases = [
        (Limits { entries: 2, ..NONE }, true),
        (Limits { entries: 1, ..NONE }, false),
        (Limits { bytes: length, ..NONE }, true),
        (Limits { bytes: length - 1, ..NONE }, false),
    ];
    for (limits, good) in cases {
        let result = Place::new().unpack_within(&archive, &limits);
        let kind = result.as_ref().err().map(Fault::kind);
        assert_eq!(
            kind,
            if good { None } else { Some(ErrorKind::Limit) },
            "{limits:?}: {result:?}"
        );
    }
}

#[test]
fn metadata_that_is_too_much_is_refused() {
    if !is_root() {
        return;
    }
    let big = vec![b'x'; 1 << 20];
    let two_long = "x".repeat(256);
    let cases: Vec<(&str, Archive)> = vec![
        ("a PAX header", Archive::new().pax(&[("comment", &big)]).file("f", "x")),
        ("a GNU name", Archive::new().entry(b'L', "l", "", &big, |_| {}).file("f", "x")),
        ("a path", Archive::new().pax(&[("path", "d/".repeat(2100).as_bytes())]).file("f", "x")),
        ("a component", Archive::new().pax(&[("path", two_long.as_bytes())]).file("f", "x")),
        ("a link target", Archive::new().pax(&[("linkpath", &big[..5000])]).symlink("f", "x")),
        (
            "an attribute",
            Archive::new().pax(&[("SCHILY.xattr.user.a", &big[..70_000])]).file("f", "x"),
        ),
        (
            "a sparse map",
            Archive::new()
                .pax(&[
                    ("GNU.sparse.size", b"99999999"),
                    ("GNU.sparse.map", "0,0,".repeat(10_001).trim_end_matches(',').as_bytes()),
                ])
                .file("f", ""),
        ),
    ];
    for (name, archive) in cases {
        let result = Place::new().unpack(&archive.end());
        assert!(result.is_err(), "{name}");
    }
}

#[test]
fn a_nearly_full_file_system_is_told_as_such() {
    if !is_root() {
        return;
    }
    // A hundredth of any file system is the most that is kept free.
    let place = Place::new();
    let free = rustix::fs::statvfs(place.root()).unwrap();
    let result = place
        .unpack_within(&Archive::new().file("f", "x").end(), &Limits { reserve: u64::MAX, ..NONE });
    assert_eq!(result.is_ok(), free.f_bavail >= free.f_blocks / 100);
}

#[test]
fn a_huge_hole_costs_nothing() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let archive = Archive::new()
        .pax(&[("GNU.sparse.size", b"10737418240"), ("GNU.sparse.map", b"0,1")])
        .file("f", "x")
        .end();
    let facts = place.unpack(&archive).unwrap();
    let meta = std::fs::metadata(place.root().join("f")).unwrap();
    assert_eq!((meta.len(), facts.bytes), (10 << 30, 1));
}
