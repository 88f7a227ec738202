//! What comes out of an archive: what went in, and nothing beyond the directory it is unpacked in.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use archive::{Error, Links, Owned, Owner, Privileges, Source, Top, Unpacking, pack, unpack};
use tar::{Builder, EntryType, Header};

fn hostile() -> Unpacking {
    Unpacking {
        top: Top::Kept,
        links: Links::Refused,
        owner: Owned::ByUnpacker,
        privileges: Privileges::Dropped,
    }
}

fn into(archive: &[u8], directory: &Path, how: &Unpacking) -> Result<u64, Error> {
    unpack(archive, File::open(directory).unwrap().as_fd(), how)
}

fn packed(directory: &Path, name: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    let directory = File::open(directory).unwrap();
    let source = Source::Named(directory.as_fd(), OsStr::new(name));
    pack(source, OsStr::new(name), Owner::Kept, &mut archive).unwrap();
    archive
}

/// A tree with all that is copied, long names among it.
fn tree(at: &Path) {
    let long = "n".repeat(200);
    fs::create_dir_all(at.join("top/empty")).unwrap();
    fs::create_dir(at.join("top").join(&long)).unwrap();
    fs::write(at.join("top/file"), b"content").unwrap();
    fs::write(at.join("top").join(&long).join(&long), vec![7; 100_000]).unwrap();
    fs::hard_link(at.join("top/file"), at.join("top/second")).unwrap();
    symlink("../elsewhere", at.join("top/link")).unwrap();
    symlink(".//odd/./", at.join("top/odd")).unwrap();
    fs::set_permissions(at.join("top/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(at.join("top/empty"), fs::Permissions::from_mode(0o1500)).unwrap();
}

#[test]
fn what_went_in_comes_out() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tree(from.path());
    let archive = packed(from.path(), "top");
    into(&archive, to.path(), &hostile()).unwrap();
    // A second time over what is there.
    into(&archive, to.path(), &hostile()).unwrap();
    let top = to.path().join("top");
    assert_eq!(fs::read(top.join("file")).unwrap(), b"content");
    let long = "n".repeat(200);
    assert_eq!(fs::read(top.join(&long).join(&long)).unwrap().len(), 100_000);
    assert_eq!(fs::read_link(top.join("link")).unwrap(), Path::new("../elsewhere"));
    assert_eq!(fs::read_link(top.join("odd")).unwrap().as_os_str(), ".//odd/./");
    let about = |name: &str| fs::metadata(top.join(name)).unwrap();
    assert_eq!(about("file").ino(), about("second").ino());
    assert_eq!(about("file").mode() & 0o7777, 0o751, "nothing grants more than its caller has");
    assert_eq!(about("empty").mode() & 0o7777, 0o1500);
    assert_eq!(about("file").mtime(), fs::metadata(from.path().join("top/file")).unwrap().mtime());
    let kept = Unpacking { privileges: Privileges::Kept, ..hostile() };
    into(&archive, to.path(), &kept).unwrap();
    assert_eq!(about("file").mode() & 0o7777, 0o4751);
}

#[test]
fn the_top_can_have_another_name_or_none() {
    let from = tempfile::tempdir().unwrap();
    tree(from.path());
    let archive = packed(from.path(), "top");
    for (top, place) in [(Top::Renamed("new".into()), "new/file"), (Top::Stripped, "file")] {
        let to = tempfile::tempdir().unwrap();
        into(&archive, to.path(), &Unpacking { top, ..hostile() }).unwrap();
        assert_eq!(fs::read(to.path().join(place)).unwrap(), b"content");
        let second = fs::metadata(to.path().join(place.replace("file", "second"))).unwrap();
        assert_eq!(second.nlink(), 2, "hard links follow the name");
    }
}

/// Appends an entry no well-meaning writer would make.
fn entry(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
    let mut header = Header::new_gnu();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o4777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let content: &[u8] = if kind == EntryType::Regular { b"escaped" } else { b"" };
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, target) in entries {
        entry(&mut builder, *kind, name, target);
    }
    builder.into_inner().unwrap()
}

#[test]
fn nothing_leads_out_of_the_directory() {
    use EntryType::{Block, Char, Directory, Fifo, GNUSparse, Link, Regular, Symlink};
    let outside = tempfile::tempdir().unwrap();
    let out = outside.path().to_str().unwrap();
    fs::write(outside.path().join("victim"), b"intact").unwrap();
    let victim = format!("{out}/victim");
    let attacks: Vec<Vec<(EntryType, &str, &str)>> = vec![
        vec![(Regular, "../escape", "")],
        vec![(Regular, "a/../../escape", "")],
        vec![(Symlink, "link", out), (Regular, "link/escape", "")],
        vec![(Symlink, "link", out), (Directory, "link", ""), (Regular, "link/escape", "")],
        vec![(Symlink, "link", out), (Directory, "link/escape", "")],
        vec![(Symlink, "one", "two"), (Symlink, "two", out), (Regular, "one/escape", "")],
        vec![(Directory, "d", ""), (Symlink, "d/up", ".."), (Regular, "d/up/up/escape", "")],
        vec![(Link, "hard", &victim), (Regular, "hard", "")],
        vec![(Link, "hard", "../victim")],
        vec![(Symlink, "link", &victim), (Link, "hard", "link")],
        vec![(Char, "device", "")],
        vec![(Block, "device", "")],
        vec![(Fifo, "pipe", "")],
        vec![(GNUSparse, "sparse", "")],
        vec![(Directory, "d", ""), (Regular, "d", "")],
        vec![(Regular, ".", "")],
    ];
    for attack in attacks {
        let to = tempfile::tempdir_in(outside.path()).unwrap();
        let done = into(&archive(&attack), to.path(), &hostile());
        assert!(done.is_err(), "{attack:?}");
        assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"intact", "{attack:?}");
        to.close().unwrap();
        let names: Vec<_> = fs::read_dir(outside.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{attack:?} left {names:?}");
    }
    // A link that is in the way of a file is replaced, never written through.
    let to = tempfile::tempdir().unwrap();
    symlink(&victim, to.path().join("file")).unwrap();
    into(&archive(&[(Regular, "/file", "")]), to.path(), &hostile()).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"intact");
    let about = fs::symlink_metadata(to.path().join("file")).unwrap();
    assert_eq!(about.mode() & 0o7777, 0o777);
}

#[test]
fn names_longer_than_any_name_are_not_waited_for() {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let to = tempfile::tempdir().unwrap();
    let error = into(header.as_bytes(), to.path(), &hostile()).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[test]
fn no_noise_makes_it_panic_or_write_elsewhere() {
    let from = tempfile::tempdir().unwrap();
    tree(from.path());
    let whole = packed(from.path(), "top");
    for at in (0..whole.len().min(6_000)).step_by(7) {
        let to = tempfile::tempdir().unwrap();
        let mut bent = whole.clone();
        bent[at] ^= 0x55;
        let _ = into(&bent, to.path(), &hostile()); // what comes of it must lie beneath
        let _ = into(&whole[..at], to.path(), &hostile());
    }
}

#[test]
fn a_directory_swapped_for_a_link_is_not_packed_through() {
    let place = tempfile::tempdir().unwrap();
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("secret"), b"host").unwrap();
    fs::create_dir_all(place.path().join("top/swapped")).unwrap();
    fs::write(place.path().join("top/swapped/secret"), b"own").unwrap();
    symlink(secret.path(), place.path().join("link")).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (place.path().join("top/swapped"), place.path().join("link"));
            while !done.load(Ordering::Relaxed) {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for _ in 0..500 {
            let mut archive = Vec::new();
            let directory = File::open(place.path()).unwrap();
            let source = Source::Named(directory.as_fd(), OsStr::new("top"));
            // It may meet with what has just gone; it must never hold what is elsewhere.
            let _ = pack(source, OsStr::new("top"), Owner::Kept, &mut archive);
            let host = archive.windows(4).any(|bytes| bytes == b"host");
            assert!(!host, "bytes from beyond the link");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_archive_that_ends_early_leaves_no_half_file() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("file"), vec![7; 10_000]).unwrap();
    let whole = packed(from.path(), "file");
    for at in [512, 513, 5_000, 10_511] {
        let to = tempfile::tempdir().unwrap();
        assert!(into(&whole[..at], to.path(), &hostile()).is_err(), "{at}");
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0, "{at}");
    }
}

#[test]
fn what_an_archive_says_is_fit_to_be_repeated() {
    for field in 0..3 {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..5].copy_from_slice(b"\x1b[31m");
        old.mode = *b"0000644\0";
        old.mtime = *b"00000000000\0";
        match field {
            0 => old.mode = *b"\x1b[41mxx\0",
            1 => old.size = *b"\x1b[41mxxxxxx\0",
            _ => old.cksum = *b"\x1b[41mxx\0",
        }
        if field != 1 {
            header.set_size(0);
        }
        header.set_uid(0);
        header.set_gid(0);
        if field != 2 {
            header.set_cksum();
        }
        let to = tempfile::tempdir().unwrap();
        let error = into(header.as_bytes(), to.path(), &hostile()).unwrap_err();
        let told = format!("{error}: {}", error.cause().unwrap());
        assert!(!told.chars().any(char::is_control), "{field}: {told:?}");
    }
}

#[test]
fn one_name_is_asked_for_and_no_other_comes() {
    let to = tempfile::tempdir().unwrap();
    let other = archive(&[
        (EntryType::Directory, ".ssh", ""),
        (EntryType::Regular, ".ssh/authorized_keys", ""),
        (EntryType::Regular, "/./.profile/x", ""),
    ]);
    let how = Unpacking { top: Top::Renamed("asked".into()), ..hostile() };
    into(&other, to.path(), &how).unwrap();
    let names: Vec<_> = fs::read_dir(to.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(to.path().join("asked/authorized_keys").is_file());
}

#[test]
fn a_new_owner_grants_nothing() {
    let from = tempfile::tempdir().unwrap();
    let file = from.path().join("file");
    fs::write(&file, b"content").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).unwrap();
    let own = fs::metadata(&file).unwrap();
    let (uid, gid) = (own.uid(), own.gid());
    let owners = [(uid, gid, 0o6755), (uid + 1, gid, 0o2755), (uid, gid + 1, 0o4755)];
    for (uid, gid, mode) in owners {
        let (to, mut archive) = (tempfile::tempdir().unwrap(), Vec::new());
        let opened = File::open(&file).unwrap();
        let source = Source::Open(opened.as_fd());
        pack(source, OsStr::new("file"), Owner::Is(uid, gid), &mut archive).unwrap();
        let kept = Unpacking { privileges: Privileges::Kept, ..hostile() };
        into(&archive, to.path(), &kept).unwrap();
        assert_eq!(fs::metadata(to.path().join("file")).unwrap().mode() & 0o7777, mode);
    }
}
