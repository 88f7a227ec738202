//! Whose files are whose.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::fs::{CWD, Mode, mkdirat};
use rustix::process::umask;

use crate::{Kind, with_share};

/// Does `deed` as a user of the guest, without capabilities over files.
fn as_user(uid: u32, gid: u32, deed: impl FnOnce()) {
    setfsgid(Gid::from_raw(gid));
    setfsuid(Uid::from_raw(uid));
    deed();
    setfsuid(Uid::from_raw(0));
    setfsgid(Gid::from_raw(0));
}

#[test]
fn what_is_made_belongs_to_who_made_it() {
    with_share(
        Kind::Directory,
        |host| fs::set_permissions(host, fs::Permissions::from_mode(0o777)).unwrap(),
        |places| {
            as_user(1000, 100, || {
                fs::write(places.guest.join("f"), "x").unwrap();
                fs::create_dir(places.guest.join("d")).unwrap();
                symlink("f", places.guest.join("l")).unwrap();
            });
            fs::write(places.guest.join("roots"), "x").unwrap();
            let owner = |name: &str| {
                let found = fs::symlink_metadata(places.host.join(name)).unwrap();
                (found.uid(), found.gid())
            };
            assert_eq!([owner("f"), owner("d"), owner("l")], [(1000, 100); 3]);
            assert_eq!(owner("roots"), (0, 0));
            // Permissions hold inside as they do outside.
            as_user(1001, 100, || {
                assert!(File::options().write(true).open(places.guest.join("roots")).is_err());
                assert!(fs::remove_dir(places.guest.join("d")).is_ok());
            });
        },
    );
}

#[test]
fn the_umask_of_the_caller_holds() {
    with_share(
        Kind::Directory,
        |_| {},
        |places| {
            // Of the thread alone, which has a file system context of its own since it left the
            // mount namespace.
            let before = umask(Mode::from_raw_mode(0o027));
            let mut options = File::options();
            options.write(true).create_new(true).mode(0o666);
            options.open(places.guest.join("f")).unwrap();
            mkdirat(CWD, places.guest.join("d"), Mode::from_raw_mode(0o777)).unwrap();
            umask(before);
            let mode = |name: &str| fs::metadata(places.host.join(name)).unwrap().mode() & 0o7777;
            assert_eq!((mode("f"), mode("d")), (0o640, 0o750));
        },
    );
}

/// CVE-2022-0358: who is not in a directory's group makes no program that acts as it.
#[test]
fn set_group_id_is_not_given_by_a_directory_to_who_is_not_in_its_group() {
    with_share(
        Kind::Directory,
        |host| {
            fs::create_dir(host.join("d")).unwrap();
            chown(host.join("d"), Some(0), Some(4242)).unwrap();
            fs::set_permissions(host.join("d"), fs::Permissions::from_mode(0o2777)).unwrap();
        },
        |places| {
            as_user(1000, 1000, || {
                let mut options = File::options();
                options.write(true).create_new(true).mode(0o2755);
                options.open(places.guest.join("d/f")).unwrap();
                fs::create_dir(places.guest.join("d/e")).unwrap();
            });
            let file = fs::metadata(places.host.join("d/f")).unwrap();
            assert_eq!((file.uid(), file.gid()), (1000, 4242));
            assert_eq!(file.mode() & 0o6000, 0);
            // A directory hands both down.
            let directory = fs::metadata(places.host.join("d/e")).unwrap();
            assert_eq!((directory.gid(), directory.mode() & 0o2000), (4242, 0o2000));
        },
    );
}

#[test]
fn set_user_id_goes_when_somebody_else_writes() {
    with_share(
        Kind::Directory,
        |host| {
            for name in ["written", "cut", "kept"] {
                fs::write(host.join(name), "program").unwrap();
                fs::set_permissions(host.join(name), fs::Permissions::from_mode(0o6777)).unwrap();
            }
        },
        |places| {
            let open =
                |name: &str| File::options().write(true).open(places.guest.join(name)).unwrap();
            as_user(1000, 1000, || {
                open("written").write_all(b"x").unwrap();
                open("cut").set_len(1).unwrap();
            });
            open("kept").write_all(b"x").unwrap();
            let bits = |name: &str| fs::metadata(places.host.join(name)).unwrap().mode() & 0o6000;
            assert_eq!((bits("written"), bits("cut")), (0, 0));
            assert_eq!(bits("kept"), 0o6000);
        },
    );
}
