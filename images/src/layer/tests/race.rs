//! Somebody renames inside the tree while it is written.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Archive, Place, is_root};

#[test]
fn a_directory_that_becomes_a_link_meanwhile_leads_nowhere() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let before = place.canary();
    let root = place.root();
    std::fs::create_dir_all(root.join("a")).unwrap();
    symlink(place.outside(), root.join("b")).unwrap();
    let mut archive = Archive::new();
    for index in 0..3000 {
        let name = format!("a/f{index}");
        archive = match index % 5 {
            0 => archive.dir(&name),
            1 => archive.symlink(&name, "canary"),
            2 => archive.hard(&name, "a/canary"),
            3 => archive.whiteout("a/.wh.canary"),
            _ => archive.file(&name, "x"),
        };
    }
    let archive = archive.end();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Fails while the sink has replaced one of them.
                let _ =
                    renameat_with(CWD, root.join("a"), CWD, root.join("b"), RenameFlags::EXCHANGE);
            }
        });
        // Whether it succeeds is a matter of luck; only where it writes is not.
        let _ = place.unpack(&archive);
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(place.canary(), before);
}
