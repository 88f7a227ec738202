//! What a guest must not get, whoever it is. The names are those of the flaws of other servers.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, makedev, mknodat, open, setxattr};
use rustix::io::Errno;

use crate::{Kind, with_share};

/// CVE-2026-47243: a link is the guest's to follow, in the guest.
#[test]
fn a_link_out_of_the_share_leads_nowhere_on_the_host() {
    with_share(
        Kind::Directory,
        |host| fs::write(host.join("../outside/secret"), "secret").unwrap(),
        |places| {
            symlink("../outside", places.guest.join("up")).unwrap();
            symlink(places.outside.join("secret"), places.guest.join("away")).unwrap();
            // The guest's kernel follows these, among its own mounts: here they are the host's. What
            // shows that the server does not is that it is never asked for more than the link.
            assert!(fs::symlink_metadata(places.guest.join("up")).unwrap().is_symlink());
            assert_eq!(fs::read_link(places.host.join("up")).unwrap().to_str(), Some("../outside"));
            assert_eq!(fs::read(places.outside.join("secret")).unwrap(), b"secret");
        },
    );
}

/// CVE-2020-35517: a device in a share is the host's.
#[test]
fn no_device_is_made_none_is_opened_and_none_is_changed() {
    with_share(
        Kind::Directory,
        |host| {
            let null = makedev(1, 3);
            let mode = Mode::from_raw_mode(0o666);
            mknodat(CWD, host.join("null"), FileType::CharacterDevice, mode, null).unwrap();
        },
        |places| {
            let mode = Mode::from_raw_mode(0o666);
            for kind in [FileType::CharacterDevice, FileType::BlockDevice] {
                let made = mknodat(CWD, places.guest.join("new"), kind, mode, makedev(1, 3));
                assert_eq!(made, Err(Errno::PERM));
            }
            assert!(!places.host.join("new").exists());
            let null = places.guest.join("null");
            assert!(File::open(&null).is_err());
            // What of it is changed here would be on the host, where it can be opened.
            let refused = |done: std::io::Result<()>| {
                assert_eq!(done.unwrap_err().kind(), ErrorKind::PermissionDenied);
            };
            refused(fs::set_permissions(&null, fs::Permissions::from_mode(0o777)));
            refused(chown(&null, Some(1000), None));
            refused(fs::hard_link(&null, places.guest.join("link")));
            fs::remove_file(null).unwrap();
        },
    );
}

/// CVE-2020-28914: nothing in the guest makes a read-only volume writable.
#[test]
fn a_read_only_share_stays_so_however_the_guest_mounts_it() {
    with_share(
        Kind::ReadOnly,
        |host| {
            fs::create_dir(host.join("d")).unwrap();
            fs::write(host.join("f"), "kept").unwrap();
        },
        |places| {
            // This mount is a writable one: only the server is in the way.
            let guest = |name: &str| places.guest.join(name);
            let refused = |done: std::io::Result<()>| {
                assert_eq!(done.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
            };
            assert_eq!(fs::read(guest("f")).unwrap(), b"kept");
            refused(fs::write(guest("f"), "x"));
            refused(File::options().append(true).open(guest("f")).map(drop));
            refused(fs::write(guest("new"), "x"));
            refused(fs::create_dir(guest("e")));
            refused(fs::remove_dir(guest("d")));
            refused(fs::remove_file(guest("f")));
            refused(fs::rename(guest("f"), guest("g")));
            refused(fs::hard_link(guest("f"), guest("g")));
            refused(symlink("f", guest("l")));
            refused(fs::set_permissions(guest("f"), fs::Permissions::from_mode(0o777)));
            let set = setxattr(guest("f"), "user.x", b"x", XattrFlags::empty());
            assert_eq!(set, Err(Errno::ROFS));
            assert_eq!(fs::read(places.host.join("f")).unwrap(), b"kept");
        },
    );
}

/// CVE-2020-10717: a guest that opens all it can breaks nobody but itself.
#[test]
fn a_guest_that_opens_everything_meets_its_limit_and_recovers() {
    with_share(
        Kind::Descriptors(128),
        |host| {
            for number in 0..200 {
                fs::write(host.join(number.to_string()), "x").unwrap();
            }
        },
        |places| {
            let path = |number: i32| places.guest.join(number.to_string());
            let mut open = Vec::new();
            let refused = (0..200).find_map(|number| match File::open(path(number)) {
                Ok(file) => {
                    open.push(file);
                    None
                }
                Err(error) => Some(error),
            });
            let refused = refused.expect("two hundred are more than it may have");
            assert_eq!(refused.raw_os_error(), Some(Errno::NFILE.raw_os_error()));
            assert!((16..100).contains(&open.len()), "{}", open.len());
            drop(open);
            assert!(fs::read(path(0)).is_ok());
        },
    );
}

/// What a guest is refused for want of room is not there all the same.
#[test]
fn what_there_is_no_room_for_is_not_made() {
    with_share(
        Kind::Descriptors(128),
        |host| {
            for number in 0..200 {
                fs::write(host.join(number.to_string()), "x").unwrap();
            }
        },
        |places| {
            // Open, so that the guest forgets none.
            let known: Vec<_> = (0..200)
                .map_while(|number| {
                    let path = places.guest.join(number.to_string());
                    open(path, OFlags::PATH, Mode::empty()).ok()
                })
                .collect();
            let refused = |done: std::io::Result<()>| {
                assert_eq!(done.unwrap_err().raw_os_error(), Some(Errno::NFILE.raw_os_error()));
            };
            refused(fs::create_dir(places.guest.join("d")));
            refused(File::create(places.guest.join("f")).map(drop));
            refused(symlink("x", places.guest.join("l")));
            refused(fs::hard_link(places.guest.join("0"), places.guest.join("h")));
            for name in ["d", "f", "l", "h"] {
                assert!(fs::symlink_metadata(places.host.join(name)).is_err(), "{name}");
            }
            assert!(known.len() > 60, "{}", known.len());
        },
    );
}

/// The limit is that of whoever called `pod`: it is no way to end the server.
#[test]
fn a_file_that_becomes_too_long_ends_nobody() {
    with_share(
        Kind::FileSize(8),
        |host| fs::write(host.join("f"), "x").unwrap(),
        |places| {
            let file = File::options().write(true).open(places.guest.join("f")).unwrap();
            assert_eq!(file.set_len(1 << 20).unwrap_err().kind(), ErrorKind::FileTooLarge);
            file.set_len(100).unwrap();
            assert_eq!(fs::metadata(places.host.join("f")).unwrap().len(), 100);
        },
    );
}

/// CVE-2026-1386: what was shared when the server was started is what stays shared.
#[test]
fn a_directory_that_a_link_takes_the_place_of_stays_what_is_shared() {
    with_share(
        Kind::Directory,
        |host| {
            fs::write(host.join("mine"), "mine").unwrap();
            fs::write(host.join("../outside/secret"), "secret").unwrap();
        },
        |places| {
            assert_eq!(fs::read(places.guest.join("mine")).unwrap(), b"mine");
            let moved = places.host.with_file_name("moved");
            fs::rename(&places.host, &moved).unwrap();
            symlink(&places.outside, &places.host).unwrap();
            assert_eq!(fs::read(places.guest.join("mine")).unwrap(), b"mine");
            assert!(!places.guest.join("secret").exists());
            fs::write(places.guest.join("new"), "new").unwrap();
            assert_eq!(fs::read(moved.join("new")).unwrap(), b"new");
            assert!(!places.outside.join("new").exists());
        },
    );
}

/// A socket of the host in the share is a name, not a way to who listens there.
#[test]
fn a_socket_of_the_host_is_not_reached_through_its_name() {
    with_share(
        Kind::Directory,
        |host| drop(UnixListener::bind(host.join("socket")).unwrap()),
        |places| {
            let listener = places.host.join("live");
            let listening = UnixListener::bind(&listener).unwrap();
            let call = UnixStream::connect(places.guest.join("live"));
            assert_eq!(call.unwrap_err().kind(), ErrorKind::ConnectionRefused);
            let opened = open(places.guest.join("live"), OFlags::RDONLY, Mode::empty());
            assert_eq!(opened.unwrap_err(), Errno::NXIO);
            drop(listening);
        },
    );
}
