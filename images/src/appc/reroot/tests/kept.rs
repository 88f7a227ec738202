//! What a layer has of its image: everything, or what a list names.

use super::*;

#[test]
fn what_is_in_rootfs_comes_to_lie_at_the_root() {
    let image = Image::default()
        .raw("./", b'5', "", b"")
        .root()
        .raw("rootfs/bin/", b'5', "", b"")
        .file("./rootfs/bin/a", b"content")
        .raw("rootfs/bin/b", b'1', "rootfs/bin/a", b"")
        .raw("rootfs/bin/c", b'2', "/rootfs/../x", b"")
        .raw("rootfs/dev", b'3', "", b"")
        .raw("rootfs/pipe", b'6', "", b"")
        .file("manifest", MANIFEST);
    let (rerooted, layer) = image.reroot(None).unwrap();
    assert_eq!(rerooted, Rerooted { manifest: MANIFEST.to_vec(), entries: 7 });
    let expected = [
        ("", EntryKind::Directory),
        ("bin", EntryKind::Directory),
        ("bin/a", EntryKind::File { size: 7 }),
        ("bin/b", EntryKind::HardLink(b"bin/a".to_vec())),
        ("bin/c", EntryKind::Symlink(b"/rootfs/../x".to_vec())),
        ("dev", EntryKind::Device),
        ("pipe", EntryKind::Fifo),
    ];
    assert_eq!(listed(&layer), expected.map(|(path, kind)| (path.to_owned(), kind)));
    assert!(layer.starts_with(b"./\0"));
    assert_eq!(layer.len() % BLOCK, 0);
}

#[test]
fn everything_but_names_is_kept() {
    // A line feed in a value is where the `tar` crate would cut it.
    let capability: &[u8] = b"\x01\n\x00=12 size=1\n";
    let image = Image::whole()
        .pax(&[("SCHILY.xattr.security.capability", capability), ("mtime", b"1500000000.25")])
        .file("rootfs/a", b"content");
    let (_, layer) = image.reroot(None).unwrap();
    let mut reader = Reader::new(Cursor::new(&layer[..]));
    let root = reader.next().unwrap().unwrap();
    assert_eq!(root.attributes.modified.seconds, 1_500_000_000);
    let attributes = reader.next().unwrap().unwrap().attributes;
    assert_eq!((attributes.mode, attributes.uid, attributes.gid), (0o4750, 1000, 2000));
    assert_eq!(attributes.modified.nanos, 250_000_000);
    assert_eq!(attributes.xattrs[0].value, capability);
    assert!(layer.windows(7).any(|bytes| bytes == b"content"));
}

#[test]
fn long_names_are_kept_in_either_form() {
    let long = "d/".repeat(90) + "file";
    let name = format!("rootfs/{long}");
    let gnu = Image::whole()
        .raw("././@LongLink", b'L', "", &[name.as_bytes(), b"\0"].concat())
        .file("rootfs/d", b"x")
        .raw("././@LongLink", b'K', "", &[name.as_bytes(), b"\0"].concat())
        .raw("rootfs/link", b'1', "rootfs/d", b"");
    let pax = Image::whole()
        .pax(&[("path", name.as_bytes())])
        .file("rootfs/d", b"x")
        .pax(&[("linkpath", name.as_bytes())])
        .raw("rootfs/link", b'1', "rootfs/d", b"");
    for image in [gnu, pax] {
        let entries = listed(&image.reroot(None).unwrap().1);
        assert_eq!(entries[1], (long.clone(), EntryKind::File { size: 1 }));
        let link = EntryKind::HardLink(long.clone().into_bytes());
        assert_eq!(entries[2], ("link".to_owned(), link));
    }
}

/// In the place of a POSIX prefix, headers of GNU keep times and maps.
#[test]
fn headers_of_gnu_keep_their_times_and_maps() {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.as_old_mut().name[..13].copy_from_slice(b"rootfs/sparse");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(512 + 3);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_atime(1_500_000_000);
    gnu.set_real_size(8192 + 3);
    gnu.sparse[0].set_offset(0);
    gnu.sparse[0].set_length(512);
    gnu.set_is_extended(true);
    header.set_cksum();
    let mut more = tar::GnuExtSparseHeader::new();
    more.sparse_mut()[0].set_offset(8192);
    more.sparse_mut()[0].set_length(3);
    let mut image = Image::whole();
    image.0.extend_from_slice(header.as_bytes());
    image.0.extend_from_slice(more.as_bytes());
    let image = image.data(&[b'x'; 515]).file("rootfs/behind", b"");
    let layer = image.reroot(None).unwrap().1;
    let entries = listed(&layer);
    assert_eq!(entries[1], ("sparse".to_owned(), EntryKind::File { size: 8195 }));
    assert_eq!(entries[2].0, "behind");
    let written = Header::from_byte_slice(&layer[BLOCK..2 * BLOCK]);
    assert_eq!(written.as_gnu().unwrap().atime().unwrap(), 1_500_000_000);
    let list = ["/behind".to_owned()];
    assert_eq!(paths(&image.reroot(Some(&list)).unwrap().1), ["", "behind"]);
}

#[test]
fn holes_of_files_stay_holes() {
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"rootfs/sparse"),
        ("GNU.sparse.realsize", b"4096"),
    ];
    let map = [&b"1\n0\n3\n"[..], &[0; BLOCK - 6], b"abc"].concat();
    let image = Image::whole().pax(&records).file("rootfs/GNUSparseFile.0/sparse", &map);
    let entries = listed(&image.reroot(None).unwrap().1);
    assert_eq!(entries[1], ("sparse".to_owned(), EntryKind::File { size: 4096 }));
}

#[test]
fn a_whitelist_leaves_out_what_it_does_not_name() {
    let image = Image::whole()
        .raw("rootfs/etc", b'5', "", b"")
        .file("rootfs/etc/a", b"a")
        .file("rootfs/etc/b", &[b'b'; 1000])
        .raw("rootfs/var", b'5', "", b"")
        .raw("rootfs/etc/c", b'1', "rootfs/etc/b", b"");
    let only = |list: &[&str]| {
        let list: Vec<String> = list.iter().map(|path| (*path).to_owned()).collect();
        image.reroot(Some(&list)).map(|(rerooted, layer)| (rerooted.entries, paths(&layer)))
    };
    let few = vec![String::new(), "etc".to_owned(), "etc/a".to_owned()];
    assert_eq!(only(&["/etc/a"]).unwrap(), (3, few));
    assert_eq!(only(&[]).unwrap().0, 6);
    assert_eq!(only(&["/none"]).unwrap().0, 1);
    let error = only(&["/etc/c"]).unwrap_err().to_string();
    assert!(error.ends_with("is a hard link to what the whitelist leaves out"), "{error}");
}
