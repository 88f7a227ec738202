//! Mounts that nobody else sees and that end with the thread that made them.

use std::path::Path;
use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Does `work` in a mount namespace of its own.
pub(crate) fn privately<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(inside).join().unwrap())
}

/// Mounts an image; kernels before 6.12 want a loop device, which goes with the mount.
pub(crate) fn image(image: &Path, at: &Path) {
    match mount(Some(image), at, Some("erofs"), MsFlags::MS_RDONLY, None::<&str>) {
        Ok(()) => {}
        Err(Errno::ENOTBLK) => {
            let args = ["-t", "erofs", "-o", "loop,ro"];
            let status = Command::new("mount").args(args).arg(image).arg(at).status().unwrap();
            assert!(status.success(), "mount: {status}");
        }
        Err(error) => panic!("mount {}: {error}", image.display()),
    }
}

/// Mounts an overlay of `layers`, the topmost first, that nobody can write to.
pub(crate) fn overlay(layers: &[&Path], at: &Path) {
    let layers: Vec<&str> = layers.iter().map(|layer| layer.to_str().unwrap()).collect();
    let options = format!("lowerdir={}", layers.join(":"));
    mount(Some("view"), at, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str())).unwrap();
}

/// Mounts a file system in memory that has room for that many bytes.
pub(crate) fn memory(bytes: u64, at: &Path) {
    let options = format!("size={bytes}");
    mount(Some("room"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
}
