//! What a share is for: files, on both sides the same.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    CWD, FallocateFlags, FileType, Mode, RenameFlags, SeekFrom as Place, XattrFlags, fallocate,
    getxattr, listxattr, mknodat, removexattr, renameat_with, seek, setxattr, statvfs,
};
use rustix::io::Errno;

use crate::{Kind, with_share};

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn what_one_side_writes_the_other_reads() {
    with_share(
        Kind::Directory,
        |host| fs::write(host.join("theirs"), pattern(3 << 20)).unwrap(),
        |places| {
            assert_eq!(fs::read(places.guest.join("theirs")).unwrap(), pattern(3 << 20));
            fs::write(places.guest.join("ours"), pattern(5_000_001)).unwrap();
            assert_eq!(fs::read(places.host.join("ours")).unwrap(), pattern(5_000_001));
            let mut file =
                OpenOptions::new().read(true).write(true).open(places.guest.join("ours")).unwrap();
            file.write_all_at(b"here", 4_000_000).unwrap();
            file.seek(SeekFrom::Start(4_000_000)).unwrap();
            let mut four = [0; 4];
            file.read_exact(&mut four).unwrap();
            assert_eq!(&four, b"here");
            file.set_len(10).unwrap();
            file.sync_all().unwrap();
            file.sync_data().unwrap();
            assert_eq!(fs::read(places.host.join("ours")).unwrap(), pattern(10));
            File::open(&places.guest).unwrap().sync_all().unwrap();
        },
    );
}

#[test]
fn what_is_appended_goes_to_the_end_the_host_has() {
    with_share(
        Kind::Directory,
        |host| fs::write(host.join("log"), "one\n").unwrap(),
        |places| {
            let mut guest = OpenOptions::new().append(true).open(places.guest.join("log")).unwrap();
            guest.write_all(b"two\n").unwrap();
            let mut host = OpenOptions::new().append(true).open(places.host.join("log")).unwrap();
            host.write_all(b"three\n").unwrap();
            guest.write_all(b"four\n").unwrap();
            let all = fs::read_to_string(places.host.join("log")).unwrap();
            assert_eq!(all, "one\ntwo\nthree\nfour\n");
        },
    );
}

#[test]
fn names_are_made_moved_and_taken_away() {
    with_share(
        Kind::Directory,
        |_| {},
        |places| {
            let guest = |name: &str| places.guest.join(name);
            let host = |name: &str| places.host.join(name);
            fs::create_dir(guest("d")).unwrap();
            fs::write(guest("d/a"), "a").unwrap();
            fs::hard_link(guest("d/a"), guest("d/b")).unwrap();
            assert_eq!(fs::metadata(host("d/b")).unwrap().nlink(), 2);
            fs::rename(guest("d/b"), guest("c")).unwrap();
            assert_eq!(fs::read(host("c")).unwrap(), b"a");
            symlink("d/a", guest("l")).unwrap();
            assert_eq!(fs::read_link(guest("l")).unwrap(), Path::new("d/a"));
            assert_eq!(fs::read(guest("l")).unwrap(), b"a");
            fs::hard_link(guest("l"), guest("m")).unwrap();
            assert_eq!(fs::read_link(host("m")).unwrap(), Path::new("d/a"));
            fs::write(guest("x"), "x").unwrap();
            renameat_with(CWD, guest("x"), CWD, guest("c"), RenameFlags::EXCHANGE).unwrap();
            assert_eq!(fs::read(host("x")).unwrap(), b"a");
            let kept = renameat_with(CWD, guest("x"), CWD, guest("c"), RenameFlags::NOREPLACE);
            assert_eq!(kept, Err(Errno::EXIST));
            let exists = OpenOptions::new().write(true).create_new(true).open(guest("c"));
            assert_eq!(exists.unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(
                fs::remove_dir(guest("d")).unwrap_err().kind(),
                ErrorKind::DirectoryNotEmpty
            );
            fs::remove_file(guest("d/a")).unwrap();
            fs::remove_dir(guest("d")).unwrap();
            for name in ["l", "m", "x", "c"] {
                fs::remove_file(guest(name)).unwrap();
            }
            assert_eq!(fs::read_dir(&places.host).unwrap().count(), 0);
        },
    );
}

#[test]
fn a_file_without_a_name_can_still_be_used() {
    with_share(
        Kind::Directory,
        |_| {},
        |places| {
            let path = places.guest.join("gone");
            let mut file =
                OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
            fs::remove_file(&path).unwrap();
            file.write_all(b"still").unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), file.metadata().unwrap().len()), ("still", 5));
        },
    );
}

#[test]
fn a_long_directory_is_read_whole() {
    with_share(
        Kind::Directory,
        |host| {
            for number in 0..1500 {
                fs::write(host.join(format!("{number:04}-{}", "x".repeat(number % 200))), "")
                    .unwrap();
            }
        },
        |places| {
            let names = |path| -> BTreeSet<_> {
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect()
            };
            let listed: Vec<_> = fs::read_dir(&places.guest).unwrap().collect();
            assert_eq!(listed.len(), 1500);
            assert_eq!(names(&places.guest), names(&places.host));
            assert!(listed.into_iter().all(|entry| entry.unwrap().metadata().unwrap().is_file()));
        },
    );
}

#[test]
fn attributes_are_set() {
    with_share(
        Kind::Directory,
        |host| fs::write(host.join("f"), "12345").unwrap(),
        |places| {
            let (guest, host) = (places.guest.join("f"), places.host.join("f"));
            fs::set_permissions(&guest, fs::Permissions::from_mode(0o4751)).unwrap();
            assert_eq!(fs::metadata(&host).unwrap().mode() & 0o7777, 0o4751);
            chown(&guest, Some(1234), Some(5678)).unwrap();
            let found = fs::metadata(&host).unwrap();
            assert_eq!((found.uid(), found.gid()), (1234, 5678));
            assert_eq!(found.mode() & 0o7777, 0o751);
            let then = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 5);
            let file = File::options().write(true).open(&guest).unwrap();
            file.set_modified(then).unwrap();
            assert_eq!(fs::metadata(&host).unwrap().modified().unwrap(), then);
            symlink("f", places.guest.join("l")).unwrap();
            lchown(places.guest.join("l"), Some(7), Some(8)).unwrap();
            assert_eq!(fs::symlink_metadata(places.host.join("l")).unwrap().uid(), 7);
            assert_eq!(fs::metadata(&host).unwrap().uid(), 1234);
            let (ours, theirs) = (statvfs(&places.guest).unwrap(), statvfs(&places.host).unwrap());
            assert_eq!((ours.f_blocks, ours.f_namemax), (theirs.f_blocks, theirs.f_namemax));
        },
    );
}

#[test]
fn room_is_reserved_and_holes_are_found() {
    with_share(
        Kind::Directory,
        |_| {},
        |places| {
            let file = File::create_new(places.guest.join("f")).unwrap();
            fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
            assert_eq!(fs::metadata(places.host.join("f")).unwrap().len(), 1 << 20);
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            file.write_all_at(&[7; 4096], 0).unwrap();
            fallocate(&file, punch, 4096, (1 << 20) - 4096).unwrap();
            let hole = seek(&file, Place::Hole(0)).unwrap();
            assert_eq!(hole, 4096);
        },
    );
}

#[test]
fn attributes_of_users_are_kept_and_others_are_not() {
    with_share(
        Kind::Directory,
        |host| fs::write(host.join("f"), "").unwrap(),
        |places| {
            let (guest, host) = (places.guest.join("f"), places.host.join("f"));
            let set = |name: &str| setxattr(&guest, name, b"value", XattrFlags::empty());
            set("user.one").unwrap();
            let mut value = [0; 16];
            let length = getxattr(&host, "user.one", &mut value).unwrap();
            assert_eq!(&value[..length], b"value");
            assert_eq!(set("trusted.overlay.opaque"), Err(Errno::OPNOTSUPP));
            // Version 2, with one capability: the guest's kernel takes nothing else for this name.
            let mut capability = [0; 20];
            capability[3] = 2;
            capability[4] = 1;
            let given = setxattr(&guest, "security.capability", &capability, XattrFlags::empty());
            assert_eq!(given, Err(Errno::PERM));
            assert_eq!(set("security.selinux"), Err(Errno::OPNOTSUPP));
            setxattr(&host, "trusted.secret", b"x", XattrFlags::empty()).unwrap();
            let mut names = [0; 64];
            let length = listxattr(&guest, &mut names).unwrap();
            assert_eq!(&names[..length], b"user.one\0");
            let hidden = getxattr(&guest, "trusted.secret", &mut value);
            assert_eq!(hidden, Err(Errno::OPNOTSUPP));
            removexattr(&guest, "user.one").unwrap();
            assert_eq!(getxattr(&host, "user.one", &mut value), Err(Errno::NODATA));
        },
    );
}

#[test]
fn pipes_and_sockets_work_within_the_guest() {
    with_share(
        Kind::Directory,
        |_| {},
        |places| {
            let pipe = places.guest.join("pipe");
            mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            let both = File::options().read(true).write(true).open(&pipe).unwrap();
            (&both).write_all(b"through").unwrap();
            let mut text = [0; 7];
            (&both).read_exact(&mut text).unwrap();
            assert_eq!(&text, b"through");
            let socket = places.guest.join("socket");
            let listener = UnixListener::bind(&socket).unwrap();
            let caller = UnixStream::connect(&socket).unwrap();
            drop((listener, caller));
            // To the host they are files of these kinds, with nobody behind them.
            assert!(UnixStream::connect(places.host.join("socket")).is_err());
        },
    );
}

#[test]
fn a_share_that_is_a_file_is_that_file_and_nothing_else() {
    with_share(
        Kind::File,
        |host| {
            fs::write(host.join("only"), "one").unwrap();
            fs::write(host.join("secret"), "two").unwrap();
        },
        |places| {
            let names: Vec<_> = fs::read_dir(&places.guest)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(names, ["file"]);
            let file = places.guest.join("file");
            assert_eq!(fs::read(&file).unwrap(), b"one");
            fs::write(&file, "three").unwrap();
            assert_eq!(fs::read(places.host.join("only")).unwrap(), b"three");
            assert!(fs::write(places.guest.join("other"), "").is_err());
            assert!(fs::remove_file(&file).is_err());
            assert!(fs::rename(&file, places.guest.join("other")).is_err());
        },
    );
}
