//! The trees under the real overlayfs: what a pod sees is what the image says.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{Archive, Place, is_root, list};

/// Mounts `layers`, lowest first, and lists the paths one sees; in a thread with mounts of its own.
fn merged(layers: &[&Place]) -> Vec<String> {
    let at = tempfile::TempDir::new().unwrap();
    let lower: Vec<String> =
        layers.iter().rev().map(|layer| layer.root().to_str().unwrap().to_owned()).collect();
    let options = format!("lowerdir={}", lower.join(":"));
    let look = |at: &Path| {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("overlay"), at, Some("overlay"), MsFlags::MS_RDONLY, Some(&*options)).unwrap();
        list(at).into_keys().filter(|path| !path.is_empty()).collect()
    };
    std::thread::scope(|scope| scope.spawn(|| look(at.path())).join().unwrap())
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_lies_below() {
    if !is_root() {
        return;
    }
    let (lower, upper) = (Place::new(), Place::new());
    let below = Archive::new()
        .dir("etc")
        .file("etc/kept", "x")
        .file("etc/gone", "x")
        .dir("cleared")
        .file("cleared/old", "x")
        .dir("swapped")
        .file("swapped/old", "x")
        .dir("dir-to-file")
        .file("dir-to-file/old", "x")
        .file("file-to-dir", "x");
    let above = Archive::new()
        .dir("etc")
        .whiteout("etc/.wh.gone")
        .file("etc/new", "x")
        .dir("cleared")
        .whiteout("cleared/.wh.old")
        .whiteout("cleared/.wh..wh..opq")
        .file("cleared/new", "x")
        .whiteout(".wh.swapped")
        .dir("swapped")
        .file("swapped/new", "x")
        .file("dir-to-file", "x")
        .file("file-to-dir/new", "x");
    lower.unpack(&below.end()).unwrap();
    upper.unpack(&above.end()).unwrap();
    let expected = [
        "cleared",
        "cleared/new",
        "dir-to-file",
        "etc",
        "etc/kept",
        "etc/new",
        "file-to-dir",
        "file-to-dir/new",
        "swapped",
        "swapped/new",
    ];
    assert_eq!(merged(&[&lower, &upper]), expected);
    assert!(fs::symlink_metadata(lower.root().join("etc/gone")).is_ok());
}
