//! The scratch disk: a file in the pod's directory that holds an ext4 file system.
//!
//! It is made once and kept as long as the pod, so that what apps have written is there at the next
//! start. The host makes the file system while it is empty and never looks into it again: from the
//! first boot on its content is the guest's, and hostile.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fstat, fsync, ftruncate, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use supervisor::{During, Failure};

/// What it is called in the pod's directory.
const NAME: &str = "scratch.img";
/// What it is called until it is whole.
const UNFINISHED: &str = ".scratch.img";
/// The smallest, in bytes: less would be journal and nothing else.
const SMALLEST: u64 = 8 << 20;

/// Opens the scratch disk of a pod, whose directory is the working directory, and makes it if it is
/// not there.
///
/// # Errors
///
/// `scratch.…`: what could not be made, and what is missing for it.
pub(crate) fn open(pod: &OwnedFd, bytes: u64) -> Result<OwnedFd, Failure> {
    let opening = || format!("cannot open `{NAME}` of the pod");
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let found = openat(pod, NAME, flags, Mode::empty());
    let file = match found {
        Err(Errno::NOENT) => make(pod, bytes)?,
        found => found.during(opening)?,
    };
    let stat = fstat(&file).during(opening)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Failure::new(format!("`{NAME}` of the pod is no file")).code("scratch.file"));
    }
    Ok(file)
}

fn make(pod: &OwnedFd, bytes: u64) -> Result<OwnedFd, Failure> {
    let making = || format!("cannot make `{NAME}` of the pod");
    if bytes < SMALLEST {
        let what = format!("a scratch disk of {bytes} bytes is too small for a file system");
        return Err(Failure::new(what).code("scratch.size").hint("`--scratch 64m` is one"));
    }
    match unlinkat(pod, UNFINISHED, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error).during(making),
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(pod, UNFINISHED, flags, Mode::from_raw_mode(0o600)).during(making)?;
    // Whole blocks, as the disk has them.
    ftruncate(&file, bytes / 4096 * 4096).during(making)?;
    let made = format(&file).and_then(|()| {
        fsync(&file).during(making)?;
        renameat(pod, UNFINISHED, pod, NAME).during(making)
    });
    if made.is_err() {
        let _ = unlinkat(pod, UNFINISHED, AtFlags::empty()); // the next start does
    }
    made.map(|()| file)
}

/// Makes an empty file system on a file of nothing but holes.
fn format(file: &OwnedFd) -> Result<(), Failure> {
    let input = file.try_clone().during(|| "cannot copy a descriptor")?;
    let mut mke2fs = Command::new("mke2fs");
    // Its journal and tables are written when the guest needs them: the file stays sparse.
    mke2fs.args(["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,nodiscard"]);
    mke2fs.arg("/proc/self/fd/0").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let made = mke2fs.stdin(input).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let missing = || {
        Failure::new("cannot make a scratch disk: `mke2fs` is not there")
            .code("scratch.mke2fs")
            .hint("install the package `e2fsprogs`, or leave `--scratch` away")
    };
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing()),
        Err(error) => Err(Failure::of("cannot run `mke2fs`", error).code("scratch.mke2fs")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next_back().unwrap_or_default();
            Err(Failure::new(format!("`mke2fs` cannot make a scratch disk: {said}"))
                .code("scratch.mke2fs"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt as _, symlink};

    #[test]
    fn it_is_made_once_sparse_and_kept() {
        let Ok(true) = Command::new("mke2fs").arg("-V").output().map(|it| it.status.success())
        else {
            return; // without e2fsprogs there is nothing to see; the refusal is tested by hand
        };
        let place = tempfile::tempdir().unwrap();
        let pod = OwnedFd::from(File::open(place.path()).unwrap());
        drop(open(&pod, 64 << 20).unwrap());
        let path = place.path().join(NAME);
        let made = fs::metadata(&path).unwrap();
        assert_eq!(made.len(), 64 << 20);
        assert!(made.blocks() * 512 < 16 << 20, "{} blocks", made.blocks());
        let content = fs::read(&path).unwrap();
        assert_eq!(&content[1080..1082], &[0x53, 0xef], "the magic number of ext4");
        drop(open(&pod, 128 << 20).unwrap());
        assert_eq!(fs::read(&path).unwrap(), content, "what is there is kept");
        assert!(open(&pod, 0).is_ok() && !place.path().join(UNFINISHED).exists());
    }

    #[test]
    fn a_link_or_a_disk_too_small_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let pod = OwnedFd::from(File::open(place.path()).unwrap());
        assert_eq!(open(&pod, 4096).unwrap_err().report().code, "scratch.size");
        symlink("/dev/null", place.path().join(NAME)).unwrap();
        assert!(open(&pod, 64 << 20).is_err());
    }
}
