//! Archives that mean harm: what they aim at outside the root must stay as it is.
//!
//! The names of most cases are those of containerd's `TestBreakouts`, which collected a decade of
//! advisories.

use super::{Archive, Place, is_root};
use crate::layer::fault::Fault;

/// Whether an archive is unpacked (harmlessly) or refused.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Unpacked,
    Refused,
}

use Outcome::{Refused, Unpacked};

/// Archives need to know the path they aim at before the place exists, so all use one name.
fn against_outside(cases: impl Fn(&str) -> Vec<(&'static str, Outcome, Archive)>) {
    if !is_root() {
        return;
    }
    let count = cases("").len();
    for index in 0..count {
        let place = Place::new();
        let (name, expected, archive) = cases(&place.outside()).swap_remove(index);
        let before = place.canary();
        let result = place.unpack(&archive.end());
        let outcome = if result.is_ok() { Unpacked } else { Refused };
        assert_eq!(outcome, expected, "{name}: {result:?}");
        assert_eq!(place.canary(), before, "{name} reached the outside");
    }
}

#[test]
fn symbolic_links_lead_nowhere_outside() {
    against_outside(|out| {
        let relative = "../../../../../../../../../../..".to_owned() + out;
        vec![
            ("absolute", Unpacked, Archive::new().symlink("l", out).file("l/f", "x")),
            ("relative", Unpacked, Archive::new().symlink("l", &relative).file("l/f", "x")),
            ("up and out", Unpacked, Archive::new().symlink("l", "../outside").file("l/f", "x")),
            (
                "in two steps",
                Unpacked,
                Archive::new().symlink("a", "..").symlink("b", "a/outside").file("b/f", "x"),
            ),
            (
                "of the parent",
                Unpacked,
                Archive::new().dir("d").symlink("d/up", "../../outside").dir("d/up/sub"),
            ),
            (
                "over a file that exists there",
                Unpacked,
                Archive::new().symlink("l", out).file("l/canary", "dead"),
            ),
            (
                "replaced by a file of its name",
                Unpacked,
                Archive::new().symlink("l", &format!("{out}/canary")).file("l", "dead"),
            ),
            (
                "replaced by a directory of its name",
                Unpacked,
                Archive::new().symlink("l", &format!("{out}/directory")).dir("l").file("l/f", "x"),
            ),
            (
                "with a slash behind it",
                Unpacked,
                Archive::new().symlink("l/", out).file("l/f", "x"),
            ),
            (
                "given a mode through it",
                Unpacked,
                Archive::new().symlink("l", &format!("{out}/directory")).entry(
                    b'5',
                    "l",
                    "",
                    b"",
                    |h| h[100..108].copy_from_slice(b"0000777\0"),
                ),
            ),
            (
                "in a whiteout's way",
                Unpacked,
                Archive::new().symlink("l", out).whiteout("l/.wh.canary"),
            ),
            (
                "in an opaque mark's way",
                Unpacked,
                Archive::new().symlink("l", out).whiteout("l/.wh..wh..opq"),
            ),
            (
                "in a device's way",
                Unpacked,
                Archive::new().symlink("l", out).entry(b'3', "l/canary", "", b"", |_| {}),
            ),
            (
                "in a loop",
                Refused,
                Archive::new().symlink("a", "b").symlink("b", "a").file("a/f", "x"),
            ),
            ("to itself", Refused, Archive::new().symlink("a", "a").file("a/f", "x")),
            ("to procfs", Unpacked, Archive::new().symlink("p", "/proc/self/cwd").file("p/f", "x")),
            ("without a target", Refused, Archive::new().symlink("l", "")),
        ]
    });
}

#[test]
fn hard_links_lead_nowhere_outside() {
    against_outside(|out| {
        vec![
            ("absolute", Unpacked, Archive::new().hard("h", &format!("{out}/canary"))),
            ("up and out", Unpacked, Archive::new().hard("h", "../outside/canary")),
            ("to shadow", Unpacked, Archive::new().hard("h", "/etc/shadow").file("g", "x")),
            ("through a link", Unpacked, Archive::new().symlink("l", out).hard("h", "l/canary")),
            (
                "to a link, then written through",
                Unpacked,
                Archive::new()
                    .symlink("l", &format!("{out}/canary"))
                    .hard("h", "l")
                    .file("h", "dead"),
            ),
            (
                "to a link, then chmodded through",
                Unpacked,
                Archive::new().symlink("l", &format!("{out}/canary")).entry(
                    b'1',
                    "h",
                    "l",
                    b"",
                    |h| h[100..108].copy_from_slice(b"0004777\0"),
                ),
            ),
            ("to a directory", Refused, Archive::new().dir("d").hard("h", "d")),
            ("to the root", Refused, Archive::new().hard("h", "..")),
            ("to itself", Refused, Archive::new().hard("h", "h")),
            ("before its target", Refused, Archive::new().hard("h", "f").file("f", "x")),
            (
                "to what it replaces",
                Refused,
                Archive::new().dir("d").file("d/f", "x").hard("d", "d/f"),
            ),
        ]
    });
}

#[test]
fn names_lead_nowhere_outside() {
    against_outside(|out| {
        vec![
            ("dots", Unpacked, Archive::new().file("../outside/canary", "dead")),
            ("more dots", Unpacked, Archive::new().file("a/../../outside/f", "x")),
            ("absolute", Unpacked, Archive::new().file(&format!("{out}/f"), "x")),
            (
                "dots in PAX",
                Unpacked,
                Archive::new().pax(&[("path", b"../outside/canary")]).file("f", "dead"),
            ),
            ("the root as a link", Refused, Archive::new().symlink(".", out)),
            ("the root as a link, differently", Refused, Archive::new().symlink("a/..", out)),
            ("the root as a file", Refused, Archive::new().file("./.", "x")),
            ("the root as a pipe", Refused, Archive::new().entry(b'6', "/", "", b"", |_| {})),
            ("the root as a device", Refused, Archive::new().entry(b'3', ".", "", b"", |_| {})),
            ("nothing", Refused, Archive::new().file("", "x")),
            ("a NUL", Refused, Archive::new().pax(&[("path", b"a\0b")]).file("f", "x")),
            ("a whiteout of nothing", Refused, Archive::new().whiteout("d/.wh.")),
            ("a whiteout of .", Refused, Archive::new().whiteout(".wh..")),
            ("a whiteout of ..", Refused, Archive::new().whiteout("d/.wh...")),
            ("beneath a whiteout", Refused, Archive::new().file(".wh.a/b", "x")),
            ("a link to a whiteout", Refused, Archive::new().whiteout(".wh.a").hard("h", ".wh.a")),
            (
                "a link into AUFS metadata",
                Refused,
                Archive::new().file(".wh..wh.plnk/1.2", "x").hard("h", ".wh..wh.plnk/1.2"),
            ),
        ]
    });
}

#[test]
fn ambiguous_archives_are_refused() {
    let inner = || Archive::new().file("smuggled", "x").bytes;
    let sized = |kind, target| Archive::new().entry(kind, "e", target, &inner(), |_| {});
    let field = |range: std::ops::Range<usize>, bytes: &'static [u8]| {
        Archive::new().entry(b'0', "f", "", b"", move |h| h[range].copy_from_slice(bytes))
    };
    let zeros = |count: usize| vec![0; count];
    against_outside(|_| {
        vec![
            ("a directory with content", Refused, sized(b'5', "")),
            ("a hard link with content", Refused, sized(b'1', "t")),
            ("a symbolic link with content", Refused, sized(b'2', "t")),
            ("a pipe with content", Refused, sized(b'6', "")),
            ("a device with content", Refused, sized(b'3', "")),
            (
                "a symbolic link with a PAX size",
                Refused,
                Archive::new().pax(&[("size", b"1024")]).symlink("l", "t").raw(&inner()),
            ),
            (
                "a PAX size against the header's",
                Refused,
                Archive::new().pax(&[("size", b"0")]).entry(b'0', "f", "", &inner(), |_| {}),
            ),
            (
                "entries behind a single zero block",
                Refused,
                Archive::new().raw(&zeros(512)).file("f", "x"),
            ),
            ("a signed size", Refused, field(124..136, b"+0000000003\0")),
            ("a negative size", Refused, field(124..136, &[0xff; 12])),
            ("a hexadecimal size", Refused, field(124..136, b"0x000000003\0")),
            ("the owner -1", Refused, field(108..116, b"\x80\0\0\0\xff\xff\xff\xff")),
            ("a negative owner", Refused, field(108..116, &[0xff; 8])),
            ("an impossible mode", Refused, field(100..108, b"00009999")),
            ("an unknown type", Refused, Archive::new().entry(b'Z', "f", "", b"", |_| {})),
            ("a volume label", Refused, Archive::new().entry(b'V', "f", "", b"", |_| {})),
            ("two PAX headers", Refused, Archive::new().pax(&[]).pax(&[]).file("f", "x")),
            (
                "a PAX and a GNU name",
                Refused,
                Archive::new()
                    .pax(&[("path", b"a")])
                    .entry(b'L', "././@LongLink", "", b"b\0", |_| {})
                    .file("f", "x"),
            ),
            ("a PAX header at the end", Refused, Archive::new().pax(&[("path", b"a")])),
            ("a broken PAX header", Refused, Archive::new().entry(b'x', "x", "", b"9 a=b", |_| {})),
            (
                "a global header with a path",
                Refused,
                Archive::new().entry(b'g', "g", "", &super::record("path", b"a"), |_| {}),
            ),
            (
                "a wrong checksum",
                Refused,
                Archive::new().raw(&{
                    let mut bytes = Archive::new().file("f", "x").bytes;
                    bytes[0] ^= 1;
                    bytes
                }),
            ),
            ("half a block", Refused, Archive::new().file("f", "x").raw(b"half")),
            (
                "a file cut short",
                Refused,
                Archive::new().entry(b'0', "f", "", b"", |h| {
                    h[124..136].copy_from_slice(b"00000010000\0");
                }),
            ),
            (
                "a malformed capability",
                Refused,
                Archive::new().pax(&[("SCHILY.xattr.security.capability", b"x")]).file("f", "x"),
            ),
        ]
    });
}

#[test]
fn a_value_with_newlines_smuggles_nothing() {
    if !is_root() {
        return;
    }
    // tar 0.4.46 splits records at newlines, misses the size, and sees `smuggled`.
    let inner = Archive::new().file("smuggled", "x").bytes;
    let archive = Archive::new()
        .pax(&[("SCHILY.xattr.user.a", b"\n"), ("size", b"1024")])
        .entry(b'0', "f", "", b"", |_| {})
        .raw(&inner)
        .end();
    let place = Place::new();
    place.unpack(&archive).unwrap();
    assert_eq!(place.paths(), ["f"]);
    assert_eq!(std::fs::read(place.root().join("f")).unwrap(), inner);
}

#[test]
fn attributes_that_steer_overlayfs_or_the_host_are_left_out() {
    if !is_root() {
        return;
    }
    let names = [
        "trusted.overlay.redirect",
        "trusted.overlay.opaque",
        "trusted.other",
        "user.overlay.opaque",
        "security.selinux",
        "security.ima",
    ];
    for name in names {
        let key = format!("SCHILY.xattr.{name}");
        let archive =
            Archive::new().pax(&[(&key, b"y")]).dir("d").pax(&[(&key, b"y")]).file("f", "x");
        let place = Place::new();
        place.unpack(&archive.end()).unwrap();
        for path in ["d", "f"] {
            let found = xattr::list(place.root().join(path)).unwrap().count();
            assert_eq!(found, 0, "{name} on {path}");
        }
    }
}

#[test]
fn a_directory_deeper_than_a_descriptor_limit_is_replaced_without_trouble() {
    if !is_root() {
        return;
    }
    let path = ["d"; 2000].join("/");
    let archive = Archive::new().pax(&[("path", path.as_bytes())]).file("f", "x");
    let place = Place::new();
    place.unpack(&archive.file("d", "flat").end()).unwrap();
    assert_eq!(std::fs::read(place.root().join("d")).unwrap(), b"flat");
}

#[test]
fn links_do_not_make_a_tree_deeper_than_a_path_can_name() {
    if !is_root() {
        return;
    }
    let levels = ["d"; 1000].join("/");
    // By making parents where a link points, and by entries one level below it.
    let (mut parents, mut entries) = (Archive::new().dir("l0"), Archive::new().dir("l0"));
    for round in 0..3 {
        let path = format!("l{round}/{levels}");
        let link = format!("l{}", round + 1);
        let target = [("linkpath", path.as_bytes())];
        parents =
            parents.pax(&[("path", path.as_bytes())]).dir("d").pax(&target).symlink(&link, "x");
        for length in (0..levels.len()).step_by(2) {
            let path = format!("l{round}/{}", &levels[..=length]);
            entries = entries.pax(&[("path", path.as_bytes())]).dir("d");
        }
        entries = entries.pax(&target).symlink(&link, "x");
    }
    let place = Place::new();
    let result = place.unpack(&parents.end());
    assert!(matches!(result, Err(Fault::Entry { .. })), "{result:?}");
    // What is there can be replaced; `TempDir` might run out of descriptors.
    place.unpack(&Archive::new().file("l0", "flat").end()).unwrap();
    let result = place.unpack(&entries.end());
    assert!(matches!(result, Err(Fault::Limit { limit: 2048, .. })), "{result:?}");
    place.unpack(&Archive::new().file("l0", "flat").end()).unwrap();
}
