//! What is packed unpacks to the same tree.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use super::super::pack::{PackError, pack};
use super::{Place, is_root, list};

fn packed(place: &Place) -> Result<Vec<u8>, PackError> {
    let root = fs::File::open(place.root()).unwrap();
    let mut archive = Vec::new();
    pack(root.as_fd(), &mut archive).map(|()| archive)
}

fn device(path: &Path, kind: FileType, number: u64) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), number).unwrap();
}

#[test]
fn a_tree_of_changes_goes_into_a_layer_and_out_again() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let at = |path: &str| place.root().join(path);
    let long = "l".repeat(200);
    for dir in ["dir/inner", "opaque", &format!("{long}/{long}")] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    fs::write(at("dir/file"), vec![7; 100_000]).unwrap();
    fs::write(at("dir/empty"), "").unwrap();
    fs::write(at(&format!("{long}/{long}/file")), "deep").unwrap();
    fs::hard_link(at("dir/file"), at("dir/inner/twin")).unwrap();
    fs::hard_link(at(&format!("{long}/{long}/file")), at("zz")).unwrap();
    symlink("/etc/passwd", at("dir/link")).unwrap();
    symlink(format!("/{long}"), at("far")).unwrap();
    lchown(at("dir/file"), Some(70_000), Some(4_000_000)).unwrap();
    fs::set_permissions(at("dir/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(at("dir"), fs::Permissions::from_mode(0o1777)).unwrap();
    setxattr(at("dir/file"), "user.note", b"a\0b", XattrFlags::empty()).unwrap();
    setxattr(at("opaque"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    setxattr(at("opaque"), "trusted.overlay.origin", b"x", XattrFlags::empty()).unwrap();
    device(&at("dir/gone"), FileType::CharacterDevice, 0);
    device(&at("pipe"), FileType::Fifo, 0);
    let _listener = UnixListener::bind(at("dir/socket")).unwrap();

    let archive = packed(&place).unwrap();
    assert_eq!(packed(&place).unwrap(), archive, "the same tree gives the same bytes");
    let other = Place::new();
    other.unpack(&archive).unwrap();
    let gone = fs::symlink_metadata(other.root().join("dir/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    fs::remove_file(at("dir/socket")).unwrap();
    rustix::fs::removexattr(at("opaque"), "trusted.overlay.origin").unwrap();
    // Of what is gone nothing counts but that it is.
    for place in [&place, &other] {
        fs::remove_file(place.root().join("dir/gone")).unwrap();
    }
    let seconds = |place: &Place| -> Vec<(String, String)> {
        let cut = |line: String| match line.rsplit_once(", ") {
            Some((seconds, rest)) => {
                let attributes = rest.split_once(')').unwrap_or_default().1;
                format!("{seconds}{attributes}")
            }
            None => line,
        };
        list(&place.root()).into_iter().map(|(path, line)| (path, cut(line))).collect()
    };
    let (before, after) = (seconds(&place), seconds(&other));
    let touched = |(path, _): &(String, String)| path != "dir";
    assert_eq!(
        after.into_iter().filter(touched).collect::<Vec<_>>(),
        before.into_iter().filter(touched).collect::<Vec<_>>()
    );
}

#[test]
fn what_no_layer_can_say_is_refused() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    fs::write(place.root().join(".wh.x"), "").unwrap();
    assert!(matches!(packed(&place), Err(PackError::Name(path)) if path == "/.wh.x"));
    let place = Place::new();
    fs::create_dir(place.root().join("moved")).unwrap();
    let moved = place.root().join("moved");
    setxattr(moved, "trusted.overlay.redirect", b"/was", XattrFlags::empty()).unwrap();
    assert!(matches!(packed(&place), Err(PackError::Mark(path, _)) if path == "/moved"));
}
