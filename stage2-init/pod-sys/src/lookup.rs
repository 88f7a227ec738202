//! Looking a path up beneath a root it cannot leave: `openat2(2)`.
//!
//! rustix has the call; what it lacks is the loop around it. The kernel answers `EAGAIN` to a path
//! with `..`, also one in a link, whenever anything on the machine was renamed or mounted
//! meanwhile, for it then cannot prove that the path stayed inside. Trying again is the caller's.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};

/// How often a look-up is tried. On two cores, one that renames without a pause spoils one in
/// three hundred; so many in a row are spoilt only on purpose.
const TRIES: usize = 128;

/// Opens `path`, which is relative, as if `root` were the root of the file system: neither `..`
/// nor a link nor `/proc` leads out of it.
///
/// # Errors
///
/// Those of `openat2(2)`; `EAGAIN` only after many tries.
///
/// Source: `openat2(2)`, `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`, since Linux 5.6.
pub fn open_in_root(root: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        result = openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn a_path_with_a_way_up_is_found_while_others_rename() {
        let place = std::env::temp_dir().join(format!("pod-sys-lookup-{}", std::process::id()));
        fs::create_dir_all(place.join("a")).unwrap();
        fs::create_dir(place.join("run")).unwrap();
        symlink("../run", place.join("a/link")).unwrap();
        let root = File::open(&place).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let (one, two) = (place.join("one"), place.join("two"));
                fs::create_dir(&one).unwrap();
                while !done.load(Ordering::Relaxed) {
                    fs::rename(&one, &two).unwrap();
                    fs::rename(&two, &one).unwrap();
                }
            });
            let spoilt =
                (0..5_000).filter(|_| open_in_root(&root, "a/link", OFlags::PATH).is_err()).count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(spoilt, 0);
        });
        fs::remove_dir_all(&place).unwrap();
    }
}
